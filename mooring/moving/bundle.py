"""The bundle: a file of records, encrypted with a passphrase. Pure format; docs/moving.md describes it for others.

One line of JSON in clear names the parameters. Then come a MAC over that line, which also tells a wrong passphrase from
damage, and the records as lines of JSON, sealed in chunks of one size. A chunk's nonce is its number and whether it is
the last one, so none can be moved, repeated, left out or cut off.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from mooring import errors

FORMAT: Final = "mooring-bundle"
VERSION: Final = 1
CHUNK: Final = 65536  # bytes of plaintext in each chunk but the last
MIN_PASSPHRASE: Final = 12  # characters
_TAG = 16
_MAC = 32
COST: Final = 131072  # scrypt's N: with r = 8 it takes 128 MiB and a good half second
_HEADER_LIMIT = 16_384
_RECORD_LIMIT = 16 << 20


@dataclass(frozen=True, slots=True)
class Header:
    """What stands in clear at the front of a bundle."""

    id: str
    created_at: str
    made_by: str
    hand_over: bool


class Writer:
    """Writes records into a file. `close` seals the last chunk; without it the file does not open."""

    def __init__(self, file: BinaryIO, header: Header, passphrase: str, *, cost: int = COST) -> None:
        self._file = file
        salt, numbers = os.urandom(16), {"n": cost, "r": 8, "p": 1}
        fields = {
            "format": FORMAT,
            "version": VERSION,
            "id": header.id,
            "created_at": header.created_at,
            "made_by": header.made_by,
            "hand_over": header.hand_over,
            "kdf": {"name": "scrypt", "salt": base64.b64encode(salt).decode(), **numbers},
            "cipher": "AES-256-GCM",
            "chunk": CHUNK,
        }
        self._line = orjson.dumps(fields) + b"\n"
        key, mac_key = _keys(passphrase, salt, **numbers)
        self._aead = AESGCM(key)
        self._number = 0
        self._waiting = bytearray()
        file.write(self._line + hmac.digest(mac_key, self._line, "sha256"))

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record."""
        self._waiting += orjson.dumps(record) + b"\n"
        while len(self._waiting) > CHUNK:  # never the last bytes: those are for `close`
            self._seal(bytes(self._waiting[:CHUNK]), last=False)
            del self._waiting[:CHUNK]

    def close(self) -> None:
        """Write what is left, as the last chunk."""
        self._seal(bytes(self._waiting), last=True)
        self._waiting.clear()

    def _seal(self, plaintext: bytes, *, last: bool) -> None:
        self._file.write(self._aead.encrypt(_nonce(self._number, last=last), plaintext, self._line))
        self._number += 1


class Reader:
    """Reads a bundle from its beginning; `records` may be run again."""

    def __init__(self, file: BinaryIO, passphrase: str) -> None:
        self._file = file
        file.seek(0)
        self._line = file.readline(_HEADER_LIMIT)
        self.header, kdf, self._chunk = _parse(self._line)
        key, mac_key = _keys(passphrase, **kdf)
        mac = file.read(_MAC)
        if not hmac.compare_digest(mac, hmac.digest(mac_key, self._line, "sha256")):
            raise errors.Unprocessable(
                "the passphrase is wrong, or the beginning of the bundle was altered", code="BundlePassphraseError"
            )
        self._aead = AESGCM(key)

    def records(self) -> Iterator[dict[str, Any]]:
        """All records. Raises Unprocessable as soon as a part was altered or is missing; then none of it may be used."""
        waiting = b""
        for plaintext in self._chunks():
            *lines, waiting = (waiting + plaintext).split(b"\n")
            if len(waiting) > _RECORD_LIMIT:
                raise _damaged("a record is too long")
            for line in lines:
                yield _record(line)
        if waiting:
            raise _damaged("its last record is not whole")

    def _chunks(self) -> Iterator[bytes]:
        self._file.seek(len(self._line) + _MAC)
        number, sealed = 0, self._file.read(self._chunk + _TAG)
        while True:
            ahead = self._file.read(self._chunk + _TAG)
            try:
                yield self._aead.decrypt(_nonce(number, last=not ahead), sealed, self._line)
            except (InvalidTag, ValueError):
                raise _damaged(f"part {number + 1} was altered, or the file is cut off") from None
            if not ahead:
                return
            number, sealed = number + 1, ahead


def _keys(passphrase: str, salt: bytes, n: int, r: int, p: int) -> tuple[bytes, bytes]:
    """The key of the chunks and that of the header's MAC (RFC 7914)."""
    derived = Scrypt(salt=salt, length=64, n=n, r=r, p=p).derive(passphrase.encode())
    return derived[:32], derived[32:]


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\x01" if last else b"\x00")


def _parse(line: bytes) -> tuple[Header, dict[str, Any], int]:
    """Header, parameters of scrypt and size of chunks. Raises Unprocessable."""
    try:
        found = orjson.loads(line) if line.endswith(b"\n") else None
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise errors.Unprocessable("this is no bundle of Mooring", code="BundleFormatError")
    version = found.get("version")
    if version != VERSION:
        raise errors.Unprocessable(
            f"the bundle has the format version {version!r}; this Mooring reads version {VERSION}",
            code="BundleFormatError",
            hint="Use a Mooring that is at least as new as the one that made it.",
        )
    try:
        header = Header(
            str(found["id"]), str(found["created_at"]), str(found["made_by"]), hand_over=found["hand_over"] is True
        )
        kdf = found["kdf"]
        cost = {name: int(kdf[name]) for name in ("n", "r", "p")}
        salt = base64.b64decode(kdf["salt"], validate=True)
        known = (kdf["name"], found["cipher"]) == ("scrypt", "AES-256-GCM")
        chunk = int(found["chunk"])
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise _damaged("its first line lacks parameters") from None
    # Bounds, because these numbers are read before anything is proven: a file must not cost all memory.
    n, r, p = cost["n"], cost["r"], cost["p"]
    bounded = 2 <= n <= 1 << 20 and n & (n - 1) == 0 and 1 <= r <= 16 and 1 <= p <= 16 and n * r <= 1 << 23
    if not known or not bounded or not 1 <= chunk <= 1 << 20 or len(salt) > 64:
        raise _damaged("its first line has parameters that this version does not take")
    return header, {"salt": salt, **cost}, chunk


def _record(line: bytes) -> dict[str, Any]:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        record = None
    if not isinstance(record, dict):
        raise _damaged("a record is no JSON object")
    return record


def _damaged(why: str) -> errors.Unprocessable:
    return errors.Unprocessable(
        f"the bundle is damaged: {why}",
        code="BundleDamagedError",
        hint="Nothing was imported. Copy the file again, or export again.",
    )
