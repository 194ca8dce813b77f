"""The courier's journal: answers that nobody has stored yet, sealed, on disk before anyone is told of them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import orjson

from mooring.courier.wire import Delivered, Parcel, pack_delivered, unpack_delivered
from mooring.kit.http import BufferedResponse
from mooring.kit.vault import Vault, VaultError

KEEP_SECONDS = 900.0  # long after any lease; whoever wanted the answer has asked the provider again by then
_PURPOSE = "courier journal"


class Journal:
    """Append-only file of sealed records. It is emptied whenever nothing in it is awaited any more."""

    def __init__(self, path: Path, vault: Vault) -> None:
        self._path = path
        self._vault = vault
        self._waiting: dict[int, Delivered] = {}
        self._number = time.time_ns() // 1_000_000
        self._load()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def close(self) -> None:
        """Close the file; what is awaited stays in it."""
        os.close(self._file)

    def add(self, parcel: Parcel, response: BufferedResponse) -> Delivered:
        """Keep an answer. It is on disk when this returns."""
        self._number += 1
        delivered = Delivered(self._number, parcel, response, time.time())
        sealed = self._vault.seal_bytes(orjson.dumps(pack_delivered(delivered)), purpose=_PURPOSE)
        os.write(self._file, len(sealed).to_bytes(4, "big") + sealed)
        os.fsync(self._file)
        self._waiting[delivered.number] = delivered
        return delivered

    def acknowledge(self, number: int) -> None:
        """Forget an answer that was stored."""
        self._waiting.pop(number, None)
        self._tidy()

    def waiting(self, *, older_than: float = 0.0, account_id: str | None = None) -> list[Delivered]:
        """Answers that nobody has acknowledged for `older_than` seconds, oldest first, of one account or of all."""
        self._expire()
        limit = time.time() - older_than
        return [d for d in self._waiting.values() if d.at <= limit and account_id in {None, d.parcel.account_id}]

    def _expire(self) -> None:
        limit = time.time() - KEEP_SECONDS
        for number in [n for n, d in self._waiting.items() if d.at < limit]:
            del self._waiting[number]
        self._tidy()

    def _tidy(self) -> None:
        if not self._waiting and os.fstat(self._file).st_size:
            os.ftruncate(self._file, 0)

    def _load(self) -> None:
        """Read what an earlier courier left. A torn last record was never promised to anyone."""
        if not self._path.exists():
            return
        raw = self._path.read_bytes()
        at = 0
        while at + 4 <= len(raw):
            size = int.from_bytes(raw[at : at + 4], "big")
            sealed = raw[at + 4 : at + 4 + size]
            at += 4 + size
            if len(sealed) < size:
                break
            try:
                delivered = unpack_delivered(orjson.loads(self._vault.open_bytes(sealed, purpose=_PURPOSE)))
            except VaultError:
                continue  # of a master key that is gone: nothing it could be stored with either
            self._waiting[delivered.number] = delivered
            self._number = max(self._number, delivered.number)
