"""The parts of a backup folder: the main file, the wrapped data keys, and the signed manifest that names both."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from mooring.errors import ConfigurationError
from mooring.kit.vault import Vault, VaultError

FORMAT = 1
MANIFEST = "manifest.json"
DATA_KEYS = "data-keys"
MAIN = {"sqlite": "main.db", "postgresql": "main.dump"}
_PURPOSE = "backup manifest"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds. `master_keys` are the ids of the keys that its data keys are wrapped with."""

    mooring: str
    database: str  # sqlite | postgresql
    schema: str
    created_at: str
    rows: Mapping[str, int]
    master_keys: tuple[str, ...]
    files: Mapping[str, Mapping[str, Any]]  # name -> {"bytes": …, "sha256": …}


@dataclass(frozen=True, slots=True)
class KeyLine:
    """One wrapped data key of the file `data-keys`."""

    id: str
    project_id: str
    owner_kind: str
    owner_id: str
    kek_id: str
    blob: bytes
    created_at: datetime


def describe(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def write(folder: Path, manifest: Manifest, vault: Vault) -> None:
    """Write the manifest, signed with the primary master key: who can only write to the backups can't forge one."""
    body = {"format": FORMAT, **{name: getattr(manifest, name) for name in Manifest.__slots__}}
    body |= {"signed_with": vault.primary_id}
    signature = vault.sign(_canonical(body), purpose=_PURPOSE).hex()
    write_private(folder / MANIFEST, orjson.dumps({**body, "signature": signature}, option=orjson.OPT_INDENT_2))


def read(folder: Path, vault: Vault) -> Manifest:
    """Read and check a backup's manifest. Raises ConfigurationError."""
    path = folder / MANIFEST
    try:
        body = orjson.loads(path.read_bytes())
        signature = bytes.fromhex(body.pop("signature"))
        signed_with = str(body["signed_with"])
        if body["format"] != FORMAT:
            raise ConfigurationError(f"{path}: format {body['format']} is not known; use the Mooring that wrote it")
        manifest = Manifest(**{name: body[name] for name in Manifest.__slots__})
    except OSError as e:
        raise ConfigurationError(f"{path}: {e.strerror}. SRC must be one backup folder, mooring-…") from None
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        raise ConfigurationError(f"{path}: this is no manifest of a Mooring backup") from None
    try:
        expected = vault.sign(_canonical(body), purpose=_PURPOSE, key_id=signed_with)
    except VaultError:
        raise ConfigurationError(
            f"{path}: the backup is signed with the master key {signed_with}, which is not among the current keys "
            f"({', '.join(sorted(vault.key_ids))}). Put the key file of that time in place, or append that key to yours."
        ) from None
    if not hmac.compare_digest(expected, signature):
        raise ConfigurationError(f"{path}: the signature is wrong: the backup was altered after it was made")
    return manifest


def check_file(path: Path, manifest: Manifest) -> None:
    """Compare a file with the manifest. Raises ConfigurationError."""
    expected = manifest.files.get(path.name)
    if expected is None:
        raise ConfigurationError(f"{path}: the manifest beside it does not name this file")
    if not path.is_file():
        raise ConfigurationError(f"{path}: the file is missing")
    if describe(path) != expected:
        raise ConfigurationError(f"{path}: its SHA-256 is not the manifest's: the file is damaged or was altered")


def write_keys(path: Path, lines: Iterable[KeyLine]) -> list[KeyLine]:
    """Write the wrapped data keys, one JSON object a line; returns them."""
    written = list(lines)
    out = b"".join(
        orjson.dumps(
            {
                "id": line.id,
                "project_id": line.project_id,
                "owner_kind": line.owner_kind,
                "owner_id": line.owner_id,
                "kek_id": line.kek_id,
                "blob": base64.b64encode(line.blob).decode(),
                "created_at": line.created_at.isoformat(),
            }
        )
        + b"\n"
        for line in written
    )
    write_private(path, out)
    return written


def read_keys(path: Path) -> list[KeyLine]:
    """Read a file of wrapped data keys. Raises ConfigurationError."""
    try:
        raw = path.read_bytes()
    except OSError as e:
        raise ConfigurationError(
            f"{path}: {e.strerror}. When retention has removed it, name a newer one with --data-keys."
        ) from None
    lines = []
    for number, line in enumerate(raw.splitlines(), 1):
        try:
            body = orjson.loads(line)
            body["blob"] = base64.b64decode(body["blob"], validate=True)
            body["created_at"] = datetime.fromisoformat(body["created_at"])
            lines.append(KeyLine(**body))
        except (orjson.JSONDecodeError, binascii.Error, KeyError, TypeError, ValueError):
            raise ConfigurationError(f"{path}: line {number} is no wrapped data key") from None
    return lines


def write_private(path: Path, content: bytes) -> None:
    """Write a new file, mode 0600, and wait until the disk has it."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Wait until the disk has a file or a folder's names."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _canonical(body: Mapping[str, Any]) -> bytes:
    return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
