"""Seal and open secrets: AES-256-GCM, a data key per owner, each wrapped by a master key (rules V1 to V8).

A sealed value is bound by its associated data to tenant, owner, field, data key and generation, so a blob that is moved
to another row, field, tenant or generation does not open.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mooring.errors import ConfigurationError

_VERSION = b"\x01"
_NONCE = 12
_COMMITMENT = 16
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")


class VaultError(Exception):
    """A sealed value does not open: wrong key, moved, or altered. It never says more, and never holds plaintext."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom a data key belongs to."""

    project_id: str
    kind: str  # account | auth_config
    id: str


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key as the database holds it."""

    id: str
    kek_id: str
    blob: bytes = field(repr=False)


class DataKey:
    """An open data key. Lives as short as possible; shows nothing of itself."""

    __slots__ = ("_aead", "id", "owner")

    def __init__(self, id: str, owner: Owner, raw: bytes) -> None:
        self.id = id
        self.owner = owner
        self._aead = AESGCM(raw)

    def __repr__(self) -> str:
        return f"<DataKey {self.id}>"

    def __reduce__(self) -> str:
        raise TypeError("a data key is never serialised")

    def seal(self, plaintext: bytes, *, name: str, generation: int = 0) -> bytes:
        """Encrypt one field of the owner."""
        nonce = os.urandom(_NONCE)
        return _VERSION + nonce + self._aead.encrypt(nonce, plaintext, self._aad(name, generation))

    def open(self, sealed: bytes, *, name: str, generation: int = 0) -> bytes:
        """Decrypt one field. Raises VaultError when anything of its context differs."""
        if sealed[:1] != _VERSION or len(sealed) < 1 + _NONCE + 16:
            raise VaultError("the sealed value has an unknown format")
        try:
            return self._aead.decrypt(sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :], self._aad(name, generation))
        except InvalidTag:
            raise VaultError("the sealed value does not belong here, or was altered") from None

    def _aad(self, name: str, generation: int) -> bytes:
        o = self.owner
        return _aad("field", o.project_id, o.kind, o.id, self.id, name, str(generation))


def _aad(*parts: str) -> bytes:
    """Length-prefixed parts, so that no two different lists give the same bytes."""
    out = bytearray(b"mooring" + _VERSION)
    for part in parts:
        raw = part.encode()
        out += len(raw).to_bytes(4, "big") + raw
    return bytes(out)


class Vault:
    """The master keys of this process. The first one wraps new data keys; all of them unwrap."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        if not keys:
            raise ConfigurationError("no master key: the vault needs at least one")
        self._aeads = {id: AESGCM(raw) for id, raw in keys.items()}
        self._commit_keys = {id: hmac.digest(raw, b"mooring key commitment", "sha256") for id, raw in keys.items()}
        self.primary_id = next(iter(keys))

    def __repr__(self) -> str:
        return f"<Vault primary={self.primary_id} keys={len(self._aeads)}>"

    @property
    def key_ids(self) -> frozenset[str]:
        """Ids of all master keys that this process holds."""
        return frozenset(self._aeads)

    def new_key(self, id: str, owner: Owner) -> tuple[DataKey, WrappedKey]:
        """Make a random 256-bit data key, wrapped for storage."""
        raw = os.urandom(32)
        nonce = os.urandom(_NONCE)
        body = self._aeads[self.primary_id].encrypt(nonce, raw, _wrap_aad(id, owner, self.primary_id))
        blob = _VERSION + self._commitment(self.primary_id, raw) + nonce + body
        return DataKey(id, owner, raw), WrappedKey(id, self.primary_id, blob)

    def unwrap(self, wrapped: WrappedKey, owner: Owner) -> DataKey:
        """Open a data key for its owner. Raises VaultError: master key missing, or not the owner's key."""
        aead = self._aeads.get(wrapped.kek_id)
        if aead is None:
            raise VaultError(f"master key {wrapped.kek_id!r} is not configured")
        blob = wrapped.blob
        if blob[:1] != _VERSION or len(blob) < 1 + _COMMITMENT + _NONCE + 16:
            raise VaultError("the wrapped key has an unknown format")
        start = 1 + _COMMITMENT
        try:
            raw = aead.decrypt(
                blob[start : start + _NONCE], blob[start + _NONCE :], _wrap_aad(wrapped.id, owner, wrapped.kek_id)
            )
        except InvalidTag:
            raise VaultError("the wrapped key does not belong here, or was altered") from None
        # GCM does not commit to its key: without this tag one blob could open under two master keys.
        if not hmac.compare_digest(blob[1:start], self._commitment(wrapped.kek_id, raw)):
            raise VaultError("the wrapped key fails its commitment")
        return DataKey(wrapped.id, owner, raw)

    def _commitment(self, kek_id: str, raw: bytes) -> bytes:
        return hmac.digest(self._commit_keys[kek_id], raw, "sha256")[:_COMMITMENT]


def _wrap_aad(id: str, owner: Owner, kek_id: str) -> bytes:
    return _aad("wrap", owner.project_id, owner.kind, owner.id, id, kek_id)


def parse_keys(text: str, *, source: str) -> dict[str, bytes]:
    """Read `id:base64` entries, comma or line separated. Raises ConfigurationError naming `source`, never a key."""
    keys: dict[str, bytes] = {}
    for number, entry in enumerate(filter(None, (e.strip() for e in re.split(r"[,\n]", text))), 1):
        id, colon, encoded = entry.partition(":")
        if not colon or not _KEY_ID.fullmatch(id):
            raise ConfigurationError(f"{source}: entry {number} is not id:base64")
        try:
            raw = base64.b64decode(encoded.strip() + "=" * (-len(encoded.strip()) % 4), altchars=None, validate=True)
        except (binascii.Error, ValueError):
            raise ConfigurationError(f"{source}: key {id!r} is not base64") from None
        if len(raw) != 32:
            raise ConfigurationError(f"{source}: key {id!r} has {len(raw)} bytes; 32 are needed")
        if id in keys:
            raise ConfigurationError(f"{source}: key id {id!r} appears twice")
        keys[id] = raw
    if not keys:
        raise ConfigurationError(f"{source}: holds no master key")
    return keys


def make_key() -> tuple[str, str]:
    """A new master key as (id, base64)."""
    raw = os.urandom(32)
    return "k" + hashlib.sha256(raw).hexdigest()[:8], base64.b64encode(raw).decode()


def read_key_file(path: Path, *, data_dir: Path) -> dict[str, bytes]:
    """Read the master key file. Raises ConfigurationError if others may read it or it lies in the data folder (V7)."""
    check_key_place(path, data_dir)
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError as e:
        raise ConfigurationError(f"MOORING_MASTER_KEY_FILE: cannot read {path}: {e.strerror}") from None
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigurationError(
            f"MOORING_MASTER_KEY_FILE: {path} is readable by others (mode {stat.S_IMODE(mode):04o}). Run: chmod 600 {path}"
        )
    return parse_keys(text, source=f"MOORING_MASTER_KEY_FILE ({path})")


def create_key_file(path: Path, *, data_dir: Path) -> None:
    """Make the master key file with one new key, mode 0600. Does nothing when another process was faster."""
    check_key_place(path, data_dir)
    id, encoded = make_key()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    except OSError as e:
        raise ConfigurationError(
            f"MOORING_MASTER_KEY_FILE: cannot make {path}: {e.strerror}. Set it to a place that this user may write."
        ) from None
    with os.fdopen(fd, "w") as file:
        file.write(f"{id}:{encoded}\n")
        file.flush()
        os.fsync(file.fileno())


def check_key_place(path: Path, data_dir: Path) -> None:
    """Refuse a key file inside the data folder: one stolen backup would hold both."""
    if path.resolve().is_relative_to(data_dir.resolve()):
        raise ConfigurationError(
            f"MOORING_MASTER_KEY_FILE: {path} lies inside the data folder; a copy of that folder must not hold the key"
        )
