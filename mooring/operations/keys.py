"""Turn master keys over while the hub serves: add, rotate, retire (rule V4).

Every step may be killed and run again. A data key is only wrapped anew, never changed: what it sealed stays as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import bindparam, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.errors import ConfigurationError
from mooring.identity import secrets
from mooring.identity.models import DataKeyRow
from mooring.identity.user_models import HostSecret
from mooring.kit import vault as vaults
from mooring.kit.db import Database
from mooring.kit.idempotency import IdempotencyRecord
from mooring.kit.vault import Owner, Vault, VaultError, WrappedKey
from mooring.operations.schema import tables
from mooring.settings import Settings

BATCH = 200
PAUSE = 0.005  # seconds between two batches, in which other writers of SQLite get their turn
SETTLE = 0.5  # seconds in which transactions of others end
ANSWER_PURPOSE = "idempotency answer"
_HEAD = 42  # bytes of a value of `seal_bytes` that name its master key
_PASSES = 10

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class KeyState:
    """One master key: what this process and the database know of it."""

    id: str
    primary: bool
    known: bool
    rows: int


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rotation did. `failed` are ids of rows that do not open under any known master key; `left` were locked."""

    primary: str
    rewrapped: int
    failed: tuple[str, ...]
    left: int


def open_vault(settings: Settings) -> Vault:
    """The vault of an installation; nothing is made. Raises ConfigurationError."""
    if settings.master_keys:
        return Vault(vaults.parse_keys(settings.master_keys, source="MOORING_MASTER_KEYS"))
    return Vault.from_file(settings.resolved_key_file, data_dir=settings.data_dir)


async def status(db: Database, vault: Vault) -> list[KeyState]:
    """All master keys that are known or needed, the primary one first."""
    async with db.read() as tx:
        rows = await rows_per_key(tx)
    ids = sorted({*vault.key_ids, *rows}, key=lambda k: (k != vault.primary_id, k))
    return [KeyState(id, id == vault.primary_id, id in vault.key_ids, rows.get(id, 0)) for id in ids]


async def rows_per_key(tx: AsyncSession) -> dict[str, int]:
    """How many rows need each master key: wrapped data keys, and recorded answers that are sealed directly."""
    found: Counter[str] = Counter()
    for kek_id, number in await tx.execute(select(DataKeyRow.kek_id, func.count()).group_by(DataKeyRow.kek_id)):
        found[kek_id] += number
    there = await tables(tx)
    heads: list[bytes | None] = []
    if IdempotencyRecord.__tablename__ in there:
        heads += await tx.scalars(
            select(func.substr(IdempotencyRecord.answer, 1, _HEAD)).where(IdempotencyRecord.answer.is_not(None))
        )
    if HostSecret.__tablename__ in there:
        heads += await tx.scalars(select(func.substr(HostSecret.sealed, 1, _HEAD)))
    found.update(id for head in heads if head and (id := vaults.sealed_with(bytes(head))) is not None)
    return dict(found)


def add(settings: Settings) -> str:
    """Append a new key to the key file and return its id. It is not primary: all processes can read it first.

    Raises ConfigurationError, with MOORING_MASTER_KEYS too: what is in the environment only its owner can change.
    """
    if settings.master_keys:
        raise ConfigurationError(
            "the master keys are in MOORING_MASTER_KEYS, which Mooring can't edit. Make a key with "
            "`openssl rand -base64 32`, append `,ID:KEY` to the variable, and restart every process. "
            "To make it primary, move it to the front, restart again, and run `mooring keys rotate`."
        )
    with _locked(settings.resolved_key_file):
        keys = _read(settings)
        newest = max((id for id in keys if vaults.made_at(id)), default="")
        id, encoded = vaults.make_key(after=newest)
        keys |= vaults.parse_keys(f"{id}:{encoded}", source="the new key")
        vaults.write_key_file(settings.resolved_key_file, keys)
    return id


def choose_primary(settings: Settings, to: str | None) -> str:
    """Make a key primary in the file and return its id; with no name, the newest key that `keys add` made.

    The newest one is chosen by the time in its id, so a rotation that is run again goes on and never turns back.
    """
    if settings.master_keys:
        first = next(iter(vaults.parse_keys(settings.master_keys, source="MOORING_MASTER_KEYS")))
        if to not in {None, first}:
            raise ConfigurationError(
                f"MOORING_MASTER_KEYS: {to} must be its first entry. Move it to the front and restart every process; "
                "then run `mooring keys rotate` again."
            )
        return first
    with _locked(settings.resolved_key_file):
        keys = _read(settings)
        first = next(iter(keys))
        made = [id for id in keys if vaults.made_at(id)]
        target = to or (max(made) if made else first)
        if target not in keys:
            raise errors.NotFound(
                f"no master key {target!r} in {settings.resolved_key_file}",
                hint=f"It holds: {', '.join(keys)}. `mooring keys add` makes a new one.",
            )
        if target != first:
            moved = {target: keys[target], **{id: raw for id, raw in keys.items() if id != target}}
            vaults.write_key_file(settings.resolved_key_file, moved)
    return target


async def rotate(db: Database, vault: Vault, target: str, progress: Progress) -> Rotation:
    """Wrap every data key anew with the primary key `target`, in small transactions. Run again, it goes on.

    Raises Conflict when somebody makes another key primary meanwhile.
    """
    total = await _remaining(db, target)
    moved, failed, left = 0, set[str](), 0
    progress(0, total)
    for _ in range(_PASSES):  # rows that others had locked, or wrote before they saw the new key
        after = ""
        while batch := await _rewrap_batch(db, vault, target, after):
            after = batch.last
            moved += batch.moved
            failed |= batch.failed
            progress(min(moved, total), total)
            await asyncio.sleep(PAUSE)
        for reseal in (_reseal_answers, _reseal_host_secrets):
            resealed, lost = await reseal(db, vault, target)
            moved += resealed
            failed |= lost
        left = max(0, await _remaining(db, target) - len(failed))
        if not left:
            break
        await asyncio.sleep(SETTLE)
    progress(total, total)
    return Rotation(target, moved, tuple(sorted(failed)), left)


@dataclass(frozen=True, slots=True)
class _Batch:
    last: str
    moved: int
    failed: frozenset[str]


async def _rewrap_batch(db: Database, vault: Vault, target: str, after: str) -> _Batch | None:
    _require_primary(vault, target)
    failed, changes = set(), []
    async with db.begin() as tx:
        rows = (
            await tx.execute(
                select(DataKeyRow.__table__)
                .where(DataKeyRow.kek_id != target, DataKeyRow.id > after)
                .order_by(DataKeyRow.id)
                .limit(BATCH)
                # Never waits for a row while it holds others: a delete of many can't deadlock with it.
                .with_for_update(skip_locked=True)
            )
        ).all()
        for row in rows:
            old = WrappedKey(row.id, row.kek_id, row.blob)
            try:
                new = vault.rewrap(old, Owner(row.project_id, row.owner_kind, row.owner_id))
            except VaultError:
                failed.add(row.id)
                continue
            changes.append({"row": old.id, "from": old.kek_id, "to": new.kek_id, "wrapped": new.blob})
        if changes:
            # Compare and swap: a row that another rotation moved stays, one that was shredded stays shredded.
            await (await tx.connection()).execute(
                update(DataKeyRow)
                .where(DataKeyRow.id == bindparam("row"), DataKeyRow.kek_id == bindparam("from"))
                .values(kek_id=bindparam("to"), blob=bindparam("wrapped")),
                changes,
            )
    return _Batch(rows[-1].id, len(changes), frozenset(failed)) if rows else None


async def _reseal_answers(db: Database, vault: Vault, target: str) -> tuple[int, set[str]]:
    """Seal recorded answers anew. They live for a day; what does not open is of no use and reported."""
    moved, failed, after = 0, set[str](), ""
    async with db.read() as tx:
        if IdempotencyRecord.__tablename__ not in await tables(tx):
            return 0, failed
    while True:
        _require_primary(vault, target)
        async with db.begin() as tx:
            rows = (
                await tx.execute(
                    select(IdempotencyRecord.id, IdempotencyRecord.answer)
                    .where(IdempotencyRecord.answer.is_not(None), IdempotencyRecord.id > after)
                    .order_by(IdempotencyRecord.id)
                    .limit(BATCH)
                    .with_for_update(skip_locked=True)
                )
            ).all()
            for id, answer in rows:
                if answer is None or vaults.sealed_with(answer) == target:
                    continue
                try:
                    plain = vault.open_bytes(answer, purpose=ANSWER_PURPOSE)
                except VaultError:
                    failed.add(id)
                    continue
                changed = await tx.execute(
                    update(IdempotencyRecord)
                    .where(IdempotencyRecord.id == id, IdempotencyRecord.answer == answer)
                    .values(answer=vault.seal_bytes(plain, purpose=ANSWER_PURPOSE))
                    .execution_options(synchronize_session=False)
                )
                moved += changed.rowcount  # type: ignore[attr-defined]
        if not rows:
            return moved, failed
        after = rows[-1].id
        await asyncio.sleep(PAUSE)


async def _reseal_host_secrets(db: Database, vault: Vault, target: str) -> tuple[int, set[str]]:
    """Seal the installation's own secrets anew: the audit log's key, second factors, the client secret of sign-in."""
    moved, failed = 0, set[str]()
    async with db.read() as tx:
        if HostSecret.__tablename__ not in await tables(tx):
            return 0, failed
        names = (await tx.scalars(select(HostSecret.name).order_by(HostSecret.name))).all()
    for name in names:
        _require_primary(vault, target)
        async with db.begin() as tx:
            row = await tx.get(HostSecret, name, with_for_update=True)
            if row is None or vaults.sealed_with(row.sealed) == target:
                continue
            try:
                plain = vault.open_bytes(row.sealed, purpose=secrets.purpose_of(name))
            except VaultError:
                failed.add(name)
                continue
            row.sealed = vault.seal_bytes(plain, purpose=secrets.purpose_of(name))
            moved += 1
    return moved, failed


def _require_primary(vault: Vault, target: str) -> None:
    vault.reload_if_changed()
    if vault.primary_id != target:
        raise errors.Conflict(
            f"{vault.primary_id} was made the primary master key meanwhile", hint="Let that rotation finish."
        )


async def _remaining(db: Database, target: str) -> int:
    async with db.read() as tx:
        return sum(number for id, number in (await rows_per_key(tx)).items() if id != target)


async def retire(db: Database, settings: Settings, vault: Vault, id: str) -> None:
    """Take a key out of the file. Raises Conflict while it is primary or anything needs it, NotFound, ConfigurationError."""
    if settings.master_keys:
        async with db.read() as tx:
            _require_unused(await rows_per_key(tx), id)
        raise ConfigurationError(
            f"MOORING_MASTER_KEYS: nothing needs {id} any more. Take it out of the variable and restart every process."
        )
    from mooring.courier.server import journal_path  # a server's imports, which no other command of this module needs

    with _locked(settings.resolved_key_file):
        keys = _read(settings)
        if id not in keys:
            raise errors.NotFound(f"no master key {id!r} in {settings.resolved_key_file}")
        if next(iter(keys)) == id:
            raise errors.Conflict(
                f"{id} is the primary master key", hint="Make another one primary first: `mooring keys rotate`."
            )
        async with db.begin() as tx:
            if not db.is_sqlite:  # SQLite's write transactions exclude each other anyway
                sealing = {"data_keys", IdempotencyRecord.__tablename__, HostSecret.__tablename__}
                locked = sorted(sealing & await tables(tx))
                await tx.execute(text(f"LOCK TABLE {', '.join(locked)} IN SHARE MODE"))
            _require_unused(await rows_per_key(tx), id)
            if id in _journal_keys(journal_path(settings.data_dir)):
                raise errors.Conflict(
                    f"the courier's journal holds answers sealed with {id}",
                    hint="They are stored within minutes while the hub runs; try again then.",
                )
            vaults.write_key_file(settings.resolved_key_file, {k: raw for k, raw in keys.items() if k != id})
    # A process that had chosen the key just before may have written a row just after. We still hold the key.
    vault.reload_if_changed()
    await asyncio.sleep(SETTLE)
    if (await _remaining(db, vault.primary_id)) and id in vault.key_ids:
        await rotate(db, vault, vault.primary_id, lambda _done, _total: None)


def _require_unused(rows: Mapping[str, int], id: str) -> None:
    if rows.get(id):
        raise errors.Conflict(
            f"{rows[id]} rows still need the master key {id}", hint="Run `mooring keys rotate` first."
        )


def _journal_keys(path: Path) -> set[str]:
    """Master keys of the courier's journal: length-prefixed sealed records; a torn last one counts for nothing."""
    try:
        raw = path.read_bytes()
    except OSError:
        return set()
    found, at = set(), 0
    while at + 4 <= len(raw):
        size = int.from_bytes(raw[at : at + 4], "big")
        if (id := vaults.sealed_with(raw[at + 4 : at + 4 + size][:_HEAD])) is not None:
            found.add(id)
        at += 4 + size
    return found


def _read(settings: Settings) -> dict[str, bytes]:
    return vaults.read_key_file(settings.resolved_key_file, data_dir=settings.data_dir)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one command at a time edit the key file. The lock is on its folder: the file itself is replaced."""
    try:
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as e:
        raise ConfigurationError(f"MOORING_MASTER_KEY_FILE: cannot open {path.parent}: {e.strerror}") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
