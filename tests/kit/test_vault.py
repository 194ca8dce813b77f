"""The vault: what is sealed opens in its own place alone (V1 to V3, S14), and the rules of the master key (V4, V7)."""

from __future__ import annotations

import base64
import copy
import itertools
import os
import pickle
import random
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from mooring.errors import ConfigurationError
from mooring.kit import vault as vaults
from mooring.kit.vault import DataKey, Owner, Vault, VaultError, WrappedKey
from tests.hub import Hub, ok
from tests.servers.ports import free_port

FIELDS = ("credential", "setup", "verifier", "webhook")
SECRET = b"a secret that is sealed"


@pytest.fixture
def vault() -> Vault:
    return Vault({"k1": os.urandom(32)})


def owners(count: int) -> list[Owner]:
    return [Owner(f"project-{n % 7}", ("account", "auth_config")[n % 2], f"id-{n}") for n in range(count)]


def test_what_was_sealed_opens(vault: Vault) -> None:
    owner = owners(1)[0]
    key, wrapped = vault.new_key("d1", owner)
    for secret in (b"", b"x", SECRET * 1000):
        sealed = key.seal(secret, name="credential", generation=3)
        assert len(secret) < 8 or secret not in sealed
        assert vault.unwrap(wrapped, owner).open(sealed, name="credential", generation=3) == secret


def test_the_same_secret_never_looks_the_same(vault: Vault) -> None:
    key, _ = vault.new_key("d1", owners(1)[0])
    assert len({key.seal(SECRET, name="a") for _ in range(1000)}) == 1000
    assert len({vault.new_key("d1", owners(1)[0])[1].blob for _ in range(100)}) == 100


def test_every_swap_between_rows_and_fields_is_refused(vault: Vault) -> None:
    """S14: 50 rows of 4 fields, each sealed value tried in each other place."""
    keys = [vault.new_key(f"d{n}", owner)[0] for n, owner in enumerate(owners(50))]
    places = list(itertools.product(keys, FIELDS))
    sealed = [key.seal(SECRET, name=name) for key, name in places]
    refused = 0
    for (i, value), (j, (key, name)) in itertools.product(enumerate(sealed), enumerate(places)):
        if i == j:
            assert key.open(value, name=name) == SECRET
            continue
        with pytest.raises(VaultError):
            key.open(value, name=name)
        refused += 1
    assert refused == 39_800


def test_each_part_of_the_context_is_bound(vault: Vault) -> None:
    """Even with the same data key: another tenant, kind, id, key id, field or generation does not open."""
    owner, raw = Owner("p", "account", "a"), os.urandom(32)
    sealed = DataKey("d", owner, raw).seal(SECRET, name="credential", generation=2)
    assert DataKey("d", owner, raw).open(sealed, name="credential", generation=2) == SECRET
    others = [
        (DataKey("d", Owner("q", "account", "a"), raw), "credential", 2),
        (DataKey("d", Owner("p", "auth_config", "a"), raw), "credential", 2),
        (DataKey("d", Owner("p", "account", "b"), raw), "credential", 2),
        (DataKey("e", owner, raw), "credential", 2),
        (DataKey("d", owner, raw), "setup", 2),
        (DataKey("d", owner, raw), "credential", 1),
        (DataKey("d", owner, raw), "credential", 3),
        (DataKey("d", Owner("pa", "ccount", "a"), raw), "credential", 2),  # the same letters, cut elsewhere
        (DataKey("d", Owner("p", "account", "ad"), raw), "credential", 2),
    ]
    for key, name, generation in others:
        with pytest.raises(VaultError):
            key.open(sealed, name=name, generation=generation)


def test_every_flipped_bit_is_refused(vault: Vault) -> None:
    """S14: 10,000 flips, in sealed values and in wrapped keys."""
    owner, chance = owners(1)[0], random.Random(7)
    key, wrapped = vault.new_key("d", owner)
    sealed = key.seal(SECRET * 10, name="credential")
    for _ in range(5000):
        with pytest.raises(VaultError):
            key.open(flipped(sealed, chance), name="credential")
        with pytest.raises(VaultError):
            vault.unwrap(WrappedKey("d", "k1", flipped(wrapped.blob, chance)), owner)


def flipped(value: bytes, chance: random.Random) -> bytes:
    altered = bytearray(value)
    altered[chance.randrange(len(value))] ^= 1 << chance.randrange(8)
    return bytes(altered)


@pytest.mark.parametrize("length", [0, 1, 12, 13, 28, 29, 60])
def test_what_is_cut_short_is_refused(vault: Vault, length: int) -> None:
    key, wrapped = vault.new_key("d", owners(1)[0])
    with pytest.raises(VaultError):
        key.open(key.seal(SECRET * 5, name="a")[:length], name="a")
    with pytest.raises(VaultError):
        vault.unwrap(WrappedKey("d", "k1", wrapped.blob[:length]), owners(1)[0])


def test_a_wrapped_key_is_its_owners_alone(vault: Vault) -> None:
    made = [(owner, vault.new_key(f"d{n}", owner)[1]) for n, owner in enumerate(owners(20))]
    for (owner, _), (other, wrapped) in itertools.product(made, made):
        if owner == other:
            vault.unwrap(wrapped, owner)
        else:
            with pytest.raises(VaultError):
                vault.unwrap(wrapped, owner)


def test_another_master_key_opens_nothing(vault: Vault) -> None:
    owner = owners(1)[0]
    _, wrapped = vault.new_key("d", owner)
    with pytest.raises(VaultError):
        Vault({"k1": os.urandom(32)}).unwrap(wrapped, owner)
    with pytest.raises(VaultError, match="'k1' is not configured"):
        Vault({"k2": os.urandom(32)}).unwrap(wrapped, owner)


def test_the_first_master_key_wraps_and_all_unwrap() -> None:
    old, new, owner = os.urandom(32), os.urandom(32), owners(1)[0]
    key, wrapped = Vault({"old": old}).new_key("d", owner)
    sealed = key.seal(SECRET, name="a")
    both = Vault({"new": new, "old": old})
    assert both.unwrap(wrapped, owner).open(sealed, name="a") == SECRET
    assert both.new_key("e", owner)[1].kek_id == "new"


def test_nothing_shows_a_key(vault: Vault) -> None:
    raw = os.urandom(32)
    secretive = Vault({"k1": raw})
    key, wrapped = secretive.new_key("d", owners(1)[0])
    needles = [raw, base64.b64encode(raw), raw.hex().encode(), wrapped.blob, wrapped.blob.hex().encode()]
    for thing in (secretive, key, wrapped):
        shown = f"{thing!r} {thing} {thing:}".encode()
        assert not [needle for needle in needles if needle in shown or repr(needle)[2:-1].encode() in shown]
    for thing in (secretive, key):
        with pytest.raises(TypeError):
            pickle.dumps(thing)
        with pytest.raises(TypeError):
            copy.deepcopy(thing)


def test_a_refusal_holds_no_plaintext(vault: Vault) -> None:
    key, _ = vault.new_key("d", owners(1)[0])
    with pytest.raises(VaultError) as caught:
        key.open(key.seal(SECRET, name="a"), name="b")
    assert caught.value.__cause__ is None and "secret that" not in str(caught.value)


GOOD = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "holds no master key"),
        ("  \n , ", "holds no master key"),
        ("only-a-word", "entry 1 is not id:base64"),
        (f"k1:{GOOD},:{GOOD}", "entry 2 is not id:base64"),
        (f"k 1:{GOOD}", "entry 1 is not id:base64"),
        ("k1:!!!!", "'k1' is not base64"),
        ("k1:" + base64.b64encode(b"short").decode(), "'k1' has 5 bytes; 32 are needed"),
        ("k1:" + base64.b64encode(bytes(33)).decode(), "'k1' has 33 bytes; 32 are needed"),
        (f"k1:{GOOD},k1:{GOOD}", "'k1' appears twice"),
    ],
)
def test_a_wrong_list_of_keys_is_named_without_the_key(text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        vaults.parse_keys(text, source="MOORING_MASTER_KEYS")
    assert str(caught.value).startswith("MOORING_MASTER_KEYS: ") and complaint in str(caught.value)
    assert GOOD not in str(caught.value) and "!!!!" not in str(caught.value)


def test_keys_may_be_separated_by_commas_or_lines() -> None:
    assert list(vaults.parse_keys(f"a:{GOOD},b:{GOOD.rstrip('=')}\nc: {GOOD}\n", source="x")) == ["a", "b", "c"]


def test_a_made_key_file_is_private_and_is_made_once(tmp_path: Path) -> None:
    path, data = tmp_path / "deep" / "keys", tmp_path / "data"
    vaults.create_key_file(path, data_dir=data)
    assert path.stat().st_mode & 0o777 == 0o600
    made = path.read_text()
    vaults.create_key_file(path, data_dir=data)
    assert path.read_text() == made
    (raw,) = vaults.read_key_file(path, data_dir=data).values()
    assert len(raw) == 32 and len(set(raw)) > 8


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "keys"
    vaults.create_key_file(path, data_dir=tmp_path / "data")
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match=r"^MOORING_MASTER_KEY_FILE: .*readable by others .*chmod 600"):
        vaults.read_key_file(path, data_dir=tmp_path / "data")


def test_a_key_file_in_the_data_folder_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "link").symlink_to(data)
    for path in (data / "keys", data / "deep" / "keys", tmp_path / "link" / "keys", data / ".." / "data" / "keys"):
        for use in (vaults.create_key_file, vaults.read_key_file):
            with pytest.raises(ConfigurationError, match="inside the data folder"):
                use(path, data_dir=data)
    assert list(data.iterdir()) == []


def failed_start(hub: Hub) -> str:
    """Start a hub that must not start: its exit code is 2 and it says why in one line."""
    ended = subprocess.run(
        [sys.executable, "-m", "mooring", "serve", "--port", str(hub.port)],
        check=False,
        env=hub.env,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == 2 and ended.stdout == ""
    (line,) = ended.stderr.strip().splitlines()
    assert "Traceback" not in line
    return line


def test_a_start_without_the_right_master_key_is_refused_in_one_line(tmp_path: Path) -> None:
    hub = Hub(tmp_path, free_port())
    with hub:
        assert re.search(r"made a master key in \S+data\.keys \(mode 0600\)", hub.log())
        project = hub.new_project()
        project.config("github", "oauth2", {"client_id": "a", "client_secret": "seal this"})
    keys = tmp_path / "data.keys"
    kept = keys.read_text()
    keys.unlink()
    assert re.match(
        r"mooring: MOORING_MASTER_KEY_FILE: \S+ does not exist, but the database holds sealed", failed_start(hub)
    )
    assert not keys.exists(), "a new key beside sealed rows would lose them all"
    keys.write_text(f"other:{GOOD}\n")
    keys.chmod(0o600)
    assert "MOORING_MASTER_KEY_FILE" in (line := failed_start(hub)) and kept.partition(":")[0] in line
    hub.env["MOORING_MASTER_KEYS"] = f"other:{GOOD}"
    assert "MOORING_MASTER_KEYS: lacks the master key" in failed_start(hub)
    hub.env["MOORING_MASTER_KEYS"] = "nonsense"
    assert "MOORING_MASTER_KEYS: entry 1 is not id:base64" in failed_start(hub)
    hub.env["MOORING_MASTER_KEYS"] = f"new:{GOOD},{kept.strip()}"  # the old key is still there: all opens
    with hub:
        assert ok(project.http.get("/auth_configs"))["total"] == 1


def test_a_web_process_leaves_no_core_dump(hub: Hub) -> None:
    tree = psutil.Process(hub.process.pid).children(recursive=True) or [psutil.Process(hub.process.pid)]
    web = [process for process in tree if "serve" in process.cmdline()]
    assert web
    for process in web:
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE), process.cmdline()


def test_there_is_no_way_without_a_key(tmp_path: Path) -> None:
    hub = Hub(tmp_path, free_port())
    hub.env["MOORING_MASTER_KEY_FILE"] = str(tmp_path / "data" / "keys")
    assert "inside the data folder" in failed_start(hub)
    hub.env["MOORING_MASTER_KEY_FILE"] = "/proc/nowhere/keys"
    assert failed_start(hub).startswith("mooring: MOORING_MASTER_KEY_FILE: cannot make /proc/nowhere/keys")
