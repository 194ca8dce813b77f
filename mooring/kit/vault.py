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
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mooring.errors import ConfigurationError
from mooring.kit import clock

_VERSION = b"\x01"
_NONCE = 12
_COMMITMENT = 16
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")
_STAMP = "%Y%m%dT%H%M%SZ"
_MADE_ID = re.compile(r"k[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}")


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

    __slots__ = ("_aad_memo", "_aead", "id", "owner")

    def __init__(self, id: str, owner: Owner, raw: bytes) -> None:
        self.id = id
        self.owner = owner
        self._aead = AESGCM(raw)
        self._aad_memo: tuple[str, int, bytes] | None = None

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
        memo = self._aad_memo
        if memo is not None and memo[0] == name and memo[1] == generation:
            return memo[2]
        o = self.owner
        made = _aad("field", o.project_id, o.kind, o.id, self.id, name, str(generation))
        self._aad_memo = (name, generation, made)
        return made


def _aad(*parts: str) -> bytes:
    """Length-prefixed parts, so that no two different lists give the same bytes."""
    out = bytearray(b"mooring" + _VERSION)
    for part in parts:
        raw = part.encode()
        out += len(raw).to_bytes(4, "big") + raw
    return bytes(out)


@dataclass(frozen=True, slots=True)
class KeyFile:
    """The master key file of an installation."""

    path: Path
    data_dir: Path

    def read(self) -> dict[str, bytes]:
        """Its keys, the primary one first. Raises ConfigurationError."""
        return read_key_file(self.path, data_dir=self.data_dir)

    def stamp(self) -> tuple[int, int, int, int] | None:
        """What changes when the file is replaced or edited; None when it can't be seen."""
        try:
            seen = self.path.stat()
        except OSError:
            return None
        return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns


@dataclass(frozen=True, slots=True)
class _Masters:
    """The master keys of one moment. Never changed, only replaced, so that readers need no lock."""

    aeads: Mapping[str, AESGCM] = field(repr=False)
    commit_keys: Mapping[str, bytes] = field(repr=False)
    primary_id: str


class Vault:
    """The master keys of this process. The first one wraps new data keys; all of them unwrap.

    With a `file`, keys that are added to it later become known without a restart. A key that leaves the file stays in
    memory until the process ends: a data key that a cache holds, wrapped by it, still opens.
    """

    def __init__(self, keys: Mapping[str, bytes], *, file: KeyFile | None = None) -> None:
        if not keys:
            raise ConfigurationError("no master key: the vault needs at least one")
        self._file = file
        self._seen = file.stamp() if file else None
        self._reading = threading.Lock()
        self._masters = _masters(keys, None)
        self.opened = 0  # sealed credentials that this process has decrypted (rule L2); whoever opens one counts it

    @classmethod
    def from_file(cls, path: Path, *, data_dir: Path) -> Vault:
        """The vault of a key file, which it follows. Raises ConfigurationError."""
        file = KeyFile(path, data_dir)
        vault = cls(file.read(), file=file)
        vault._seen = None  # the file may have changed between the reading and the stamp: look once more
        return vault

    def __repr__(self) -> str:
        return f"<Vault primary={self.primary_id} keys={len(self.key_ids)}>"

    @property
    def primary_id(self) -> str:
        """Id of the master key that wraps new data keys."""
        return self._masters.primary_id

    @property
    def key_ids(self) -> frozenset[str]:
        """Ids of all master keys that this process holds."""
        return frozenset(self._masters.aeads)

    def reload_if_changed(self) -> bool:
        """Read the key file again if it was replaced; returns whether it was. One `stat` when nothing changed.

        A file that is gone or wrong changes nothing but the log: the keys in memory still open every row.
        """
        if self._file is None:
            return False
        with self._reading:
            stamp = self._file.stamp()
            if stamp == self._seen or stamp is None:
                return False
            self._seen = stamp
            try:
                keys = self._file.read()
            except ConfigurationError as e:
                import structlog  # seven megabytes that the courier can do without

                structlog.get_logger(__name__).warning(
                    "the master key file can't be read again; the keys in memory stay", error=str(e)
                )
                return False
            self._masters = _masters(keys, self._masters)
            return True

    def new_key(self, id: str, owner: Owner) -> tuple[DataKey, WrappedKey]:
        """Make a random 256-bit data key, wrapped for storage."""
        # Not the hot path; and a key that `keys retire` took away must wrap nothing any more.
        self.reload_if_changed()
        raw = os.urandom(32)
        return DataKey(id, owner, raw), _wrap(self._masters, id, owner, raw)

    def unwrap(self, wrapped: WrappedKey, owner: Owner) -> DataKey:
        """Open a data key for its owner. Raises VaultError: master key missing, or not the owner's key."""
        return DataKey(wrapped.id, owner, self._unwrap(wrapped, owner))

    def rewrap(self, wrapped: WrappedKey, owner: Owner) -> WrappedKey:
        """The same data key, wrapped by the primary master key. Raises VaultError as `unwrap` does."""
        return _wrap(self._masters, wrapped.id, owner, self._unwrap(wrapped, owner))

    def seal_bytes(self, plaintext: bytes, *, purpose: str) -> bytes:
        """Seal something of this installation that has no owner in the database, such as the courier's journal."""
        self.reload_if_changed()
        masters = self._masters
        kek_id, nonce = masters.primary_id, os.urandom(_NONCE)
        head = _VERSION + bytes([len(kek_id)]) + kek_id.encode() + nonce
        return head + masters.aeads[kek_id].encrypt(nonce, plaintext, _aad("host", purpose, kek_id))

    def open_bytes(self, sealed: bytes, *, purpose: str) -> bytes:
        """Open what `seal_bytes` sealed. Raises VaultError."""
        kek_id = sealed_with(sealed)
        if kek_id is None:
            raise VaultError("the sealed value has an unknown format")
        aead = self._aead(kek_id)
        end = 2 + len(kek_id)
        try:
            return aead.decrypt(sealed[end : end + _NONCE], sealed[end + _NONCE :], _aad("host", purpose, kek_id))
        except (ValueError, InvalidTag):
            raise VaultError("the sealed value does not belong here, or was altered") from None

    def sign(self, message: bytes, *, purpose: str, key_id: str | None = None) -> bytes:
        """A MAC of a message under a master key (the primary one by default). Raises VaultError for an unknown key."""
        masters = self._masters
        commit_key = masters.commit_keys.get(key_id or masters.primary_id)
        if commit_key is None:
            raise VaultError(f"master key {key_id!r} is not configured")
        return hmac.digest(commit_key, _aad("sign", purpose) + message, "sha256")

    def _unwrap(self, wrapped: WrappedKey, owner: Owner) -> bytes:
        aead = self._aead(wrapped.kek_id)
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
        if not hmac.compare_digest(blob[1:start], _commitment(self._masters, wrapped.kek_id, raw)):
            raise VaultError("the wrapped key fails its commitment")
        return raw

    def _aead(self, kek_id: str) -> AESGCM:
        if kek_id not in self._masters.aeads:
            self.reload_if_changed()  # only a miss looks at the file
        aead = self._masters.aeads.get(kek_id)
        if aead is None:
            raise VaultError(f"master key {kek_id!r} is not configured")
        return aead


def _masters(keys: Mapping[str, bytes], before: _Masters | None) -> _Masters:
    aeads = {id: AESGCM(raw) for id, raw in keys.items()}
    commit_keys = {id: hmac.digest(raw, b"mooring key commitment", "sha256") for id, raw in keys.items()}
    if before is not None:
        aeads = {**before.aeads, **aeads}
        commit_keys = {**before.commit_keys, **commit_keys}
    return _Masters(aeads, commit_keys, next(iter(keys)))


def _wrap(masters: _Masters, id: str, owner: Owner, raw: bytes) -> WrappedKey:
    kek_id = masters.primary_id
    nonce = os.urandom(_NONCE)
    body = masters.aeads[kek_id].encrypt(nonce, raw, _wrap_aad(id, owner, kek_id))
    return WrappedKey(id, kek_id, _VERSION + _commitment(masters, kek_id, raw) + nonce + body)


def _commitment(masters: _Masters, kek_id: str, raw: bytes) -> bytes:
    return hmac.digest(masters.commit_keys[kek_id], raw, "sha256")[:_COMMITMENT]


def sealed_with(sealed: bytes) -> str | None:
    """Id of the master key that `seal_bytes` used; the first 42 bytes are enough. None for anything else."""
    if sealed[:1] != _VERSION or len(sealed) < 2 or len(sealed) < 2 + sealed[1]:
        return None
    id = sealed[2 : 2 + sealed[1]].decode("ascii", errors="replace")
    return id if _KEY_ID.fullmatch(id) else None


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


def make_key(*, after: str = "") -> tuple[str, str]:
    """A new master key as (id, base64). The id begins with the time, so that a later key's id sorts after `after`."""
    raw = os.urandom(32)
    moment = clock.now().replace(microsecond=0)
    last = made_at(after)
    if last is not None and moment <= last:
        moment = last + timedelta(seconds=1)
    return f"k{moment:{_STAMP}}-{hashlib.sha256(raw).hexdigest()[:8]}", base64.b64encode(raw).decode()


def made_at(id: str) -> datetime | None:
    """When the key with this id was made, to the second; None for an id that an operator chose."""
    if not _MADE_ID.fullmatch(id):
        return None
    try:
        return datetime.strptime(id[1:17], _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None


def read_key_file(path: Path, *, data_dir: Path) -> dict[str, bytes]:
    """Read the master key file. Raises ConfigurationError if others may read it or it lies in the data folder (V7)."""
    check_key_place(path, data_dir)
    try:
        state = path.stat()
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError as e:
        raise ConfigurationError(f"MOORING_MASTER_KEY_FILE: cannot read {path}: {e.strerror}") from None
    mode = state.st_mode
    # systemd and Kubernetes hand a service files of root's that its group may read, and it can't change them.
    handed_down = state.st_uid == 0 and os.geteuid() != 0
    if stat.S_IMODE(mode) & (0o037 if handed_down else 0o077):
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


def write_key_file(path: Path, keys: Mapping[str, bytes]) -> None:
    """Replace the key file by these keys, the primary one first. Readers see the old file or the new one, never half."""
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(fd, "w") as file:
            for id, raw in keys.items():
                file.write(f"{id}:{base64.b64encode(raw).decode()}\n")
            file.flush()
            owner = path.stat()
            if (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)  # run by root, read by the hub's own user
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def check_key_place(path: Path, data_dir: Path) -> None:
    """Refuse a key file inside the data folder: one stolen backup would hold both."""
    if path.resolve().is_relative_to(data_dir.resolve()):
        raise ConfigurationError(
            f"MOORING_MASTER_KEY_FILE: {path} lies inside the data folder; a copy of that folder must not hold the key"
        )


def load_keys(master_keys: str | None, path: Path, *, data_dir: Path) -> dict[str, bytes]:
    """The master keys of this host: from the environment if given there, else from the key file."""
    if master_keys:
        return parse_keys(master_keys, source="MOORING_MASTER_KEYS")
    return read_key_file(path, data_dir=data_dir)
