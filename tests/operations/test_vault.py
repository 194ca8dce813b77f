"""A sealed value opens only where it was sealed (rules V1 to V3, S14), and a vault follows its key file (V4)."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from mooring.errors import ConfigurationError
from mooring.kit import vault as vaults
from mooring.kit.vault import Owner, Vault, VaultError, WrappedKey

OWNER = Owner("project", "account", "account-1")
FIELDS = ("credential", "setup", "verifier", "secret")


@pytest.fixture
def vault() -> Vault:
    return Vault({"k1": os.urandom(32)})


@pytest.fixture
def place(tmp_path: Path) -> tuple[Path, Path]:
    """A key file, and the data folder that it must not lie in."""
    vaults.create_key_file(tmp_path / "keys", data_dir=tmp_path / "data")
    return tmp_path / "keys", tmp_path / "data"


def test_no_sealed_value_opens_in_another_row_or_field(vault: Vault) -> None:
    places = []
    for number in range(50):
        key, _ = vault.new_key(f"key-{number}", Owner("project", "account", f"account-{number}"))
        places += [(key, name, key.seal(f"{number} {name}".encode(), name=name)) for name in FIELDS]
    refused = 0
    for key, name, own in places:
        for _, _, sealed in places:
            if sealed is own:
                assert key.open(sealed, name=name)
                continue
            with pytest.raises(VaultError):
                key.open(sealed, name=name)
            refused += 1
    assert refused == 39_800


def test_no_altered_value_opens(vault: Vault) -> None:
    key, wrapped = vault.new_key("key", OWNER)
    sealed = key.seal(b"a credential", name="credential", generation=1)
    chance = random.Random(1)
    for _ in range(5_000):
        with pytest.raises(VaultError):
            key.open(_flipped(sealed, chance), name="credential", generation=1)
        with pytest.raises(VaultError):
            vault.unwrap(WrappedKey("key", wrapped.kek_id, _flipped(wrapped.blob, chance)), OWNER)


def _flipped(value: bytes, chance: random.Random) -> bytes:
    bit = chance.randrange(len(value) * 8)
    return bytes(b ^ (1 << bit % 8) if n == bit // 8 else b for n, b in enumerate(value))


@pytest.mark.parametrize("generation", [0, 1, 3])
def test_an_older_or_newer_generation_does_not_open(vault: Vault, generation: int) -> None:
    key, _ = vault.new_key("key", OWNER)
    sealed = key.seal(b"a credential", name="credential", generation=2)
    with pytest.raises(VaultError):
        key.open(sealed, name="credential", generation=generation)


@pytest.mark.parametrize(
    "other",
    [
        Owner("other", "account", "account-1"),
        Owner("project", "auth_config", "account-1"),
        Owner("project", "account", "2"),
    ],
)
def test_a_wrapped_key_opens_for_its_owner_alone(vault: Vault, other: Owner) -> None:
    _, wrapped = vault.new_key("key", OWNER)
    with pytest.raises(VaultError):
        vault.unwrap(wrapped, other)
    with pytest.raises(VaultError):
        vault.rewrap(wrapped, other)


def test_a_rewrapped_key_opens_what_the_old_one_sealed() -> None:
    old, new = os.urandom(32), os.urandom(32)
    key, wrapped = Vault({"old": old}).new_key("key", OWNER)
    sealed = key.seal(b"a credential", name="credential")
    again = Vault({"new": new, "old": old}).rewrap(wrapped, OWNER)
    assert again.kek_id == "new"
    assert Vault({"new": new}).unwrap(again, OWNER).open(sealed, name="credential") == b"a credential"
    with pytest.raises(VaultError):
        Vault({"old": old}).unwrap(again, OWNER)


def test_a_vault_learns_a_key_that_it_misses(place: tuple[Path, Path]) -> None:
    path, data = place
    vault = Vault.from_file(path, data_dir=data)
    old = vault.primary_id
    id, raw = _append(path, data, first=True)
    _, wrapped = Vault({id: raw}).new_key("key", OWNER)
    assert vault.key_ids == {old}
    vault.unwrap(wrapped, OWNER)
    assert vault.key_ids == {old, id} and vault.primary_id == id


def test_new_keys_are_wrapped_by_the_primary_of_the_moment(place: tuple[Path, Path]) -> None:
    path, data = place
    vault = Vault.from_file(path, data_dir=data)
    first = vault.new_key("a", OWNER)[1].kek_id
    id, _ = _append(path, data, first=True)
    assert (first, vault.new_key("b", OWNER)[1].kek_id) == (first, id) and first != id
    assert vault.open_bytes(vault.seal_bytes(b"x", purpose="p"), purpose="p") == b"x"


def test_opening_what_is_known_looks_at_no_file(place: tuple[Path, Path]) -> None:
    path, data = place
    vault = Vault.from_file(path, data_dir=data)
    _, wrapped = vault.new_key("key", OWNER)
    path.unlink()
    vault.unwrap(wrapped, OWNER)
    assert vault.reload_if_changed() is False


def test_a_faulty_key_file_takes_no_key_away(place: tuple[Path, Path]) -> None:
    path, data = place
    vault = Vault.from_file(path, data_dir=data)
    _, wrapped = vault.new_key("key", OWNER)
    path.write_text("half a li")
    assert vault.reload_if_changed() is False
    vault.unwrap(wrapped, OWNER)


def test_a_key_that_left_the_file_still_opens_what_caches_hold(place: tuple[Path, Path]) -> None:
    path, data = place
    vault = Vault.from_file(path, data_dir=data)
    _, wrapped = vault.new_key("key", OWNER)
    id, raw = _append(path, data, first=True)
    vaults.write_key_file(path, {id: raw})
    assert vault.reload_if_changed() is True
    assert vault.primary_id == id
    vault.unwrap(wrapped, OWNER)
    with pytest.raises(VaultError, match="not configured"):
        Vault.from_file(path, data_dir=data).unwrap(wrapped, OWNER)


def test_a_later_key_has_an_id_that_sorts_later() -> None:
    first, _ = vaults.make_key()
    second, _ = vaults.make_key(after=first)
    assert first < second and vaults.made_at(second) is not None and vaults.made_at("chosen-by-hand") is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_key_file_that_others_may_read_is_refused(place: tuple[Path, Path], mode: int) -> None:
    path, data = place
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        Vault.from_file(path, data_dir=data)


def test_a_key_file_in_the_data_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="inside the data folder"):
        vaults.create_key_file(tmp_path / "data" / "keys", data_dir=tmp_path / "data")


def _append(path: Path, data: Path, *, first: bool) -> tuple[str, bytes]:
    keys = vaults.read_key_file(path, data_dir=data)
    id, encoded = vaults.make_key(after=max(keys))
    new = vaults.parse_keys(f"{id}:{encoded}", source="test")
    vaults.write_key_file(path, {**new, **keys} if first else {**keys, **new})
    return id, new[id]
