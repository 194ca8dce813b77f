"""Bring a backup back into an empty database, and see that every row opens."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import delete, insert, make_url, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from mooring.accounts import credentials
from mooring.accounts.models import Account, Credential
from mooring.accounts.service import owner_of
from mooring.auth_configs.models import AuthConfig
from mooring.errors import ConfigurationError
from mooring.identity import sealing
from mooring.identity.models import DataKeyRow, Project
from mooring.kit import clock
from mooring.kit.db import Database
from mooring.kit.vault import Vault
from mooring.migrations import runner
from mooring.operations import manifest as manifests
from mooring.operations import sealed
from mooring.operations.backup import postgres_program, run_postgres
from mooring.operations.manifest import DATA_KEYS, MAIN, KeyLine, Manifest
from mooring.operations.schema import revisions, row_counts, tables
from mooring.webhooks.models import WebhookEndpoint, WebhookSecret

SHREDDED = "credentials_shredded"


@dataclass(frozen=True, slots=True)
class Restored:
    """What stands in the database after a restore."""

    manifest: Manifest
    migrated: Sequence[str]
    opened: int
    shredded_accounts: Sequence[str]  # marked: their data key does not exist any more
    emptied_configs: Sequence[str]  # auth configs whose secrets are gone with their data key
    emptied_webhooks: Sequence[str]
    unreadable: Sequence[str]  # a data key is there, but the value does not open


async def restore(source: Path, url: str, vault: Vault, *, data_keys: Path | None = None) -> Restored:
    """Restore one backup folder into an empty database. Raises ConfigurationError, and leaves nothing behind then.

    `data_keys` replaces the backup's own file of wrapped data keys: what it lacks stays unreadable.
    """
    manifest = manifests.read(source, vault)
    main = source / MAIN[manifest.database]
    manifests.check_file(main, manifest)
    lines = _keys(source, manifest, vault, data_keys)
    _require_known(manifest, lines, vault)
    backend = make_url(url).get_backend_name()
    if backend != manifest.database:
        raise ConfigurationError(f"the backup is of {manifest.database}; it can't be restored into {backend}")
    if backend == "sqlite":
        return await _restore_sqlite(main, Path(make_url(url).database or ""), manifest, lines, vault)
    return await _restore_postgres(main, url, manifest, lines, vault)


def _keys(source: Path, manifest: Manifest, vault: Vault, given: Path | None) -> list[KeyLine]:
    path = given or source / DATA_KEYS
    if given is None:
        if path.exists():
            manifests.check_file(path, manifest)
    elif (given.parent / manifests.MANIFEST).exists():
        own = manifests.read(given.parent, vault)
        manifests.check_file(given, own)
        if own.created_at < manifest.created_at:
            raise ConfigurationError(
                f"{given}: these data keys are older than the backup: what was linked in between would be lost. "
                "Name the newest file you have, or leave --data-keys out."
            )
    return manifests.read_keys(path)


def _require_known(manifest: Manifest, lines: Sequence[KeyLine], vault: Vault) -> None:
    if manifest.schema not in revisions():
        raise ConfigurationError(
            f"the backup has schema {manifest.schema}, which this version does not know (newest: {revisions()[-1]}). "
            f"Restore it with Mooring {manifest.mooring} or newer."
        )
    missing = sorted({line.kek_id for line in lines} - vault.key_ids)
    if missing:
        raise ConfigurationError(
            f"the backup needs the master key {', '.join(missing)}, which is not among the current keys. "
            "Append it to the key file (it may be secondary) and try again."
        )


async def _restore_sqlite(
    main: Path, target: Path, manifest: Manifest, lines: Sequence[KeyLine], vault: Vault
) -> Restored:
    around = [target, *(target.with_name(target.name + end) for end in ("-wal", "-shm", "-journal"))]
    if there := [path for path in around if path.exists()]:
        raise ConfigurationError(f"{there[0]} exists: a restore needs an empty place. Move it away, or name another.")
    work = target.with_name(f".{target.name}.restoring-{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        manifests.write_private(work, b"")
        shutil.copyfile(main, work)
        db = Database(f"sqlite:///{work}")
        try:
            done = await _finish(db, manifest, lines, vault)
        finally:
            await db.close()
        with contextlib.closing(sqlite3.connect(work)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")  # one file; the hub turns the WAL on again
        manifests.sync(work)
        os.link(work, target)  # unlike a rename it never replaces a database that appeared meanwhile
        manifests.sync(target.parent)
    except OSError as e:
        raise ConfigurationError(f"{target}: can't restore here: {e.strerror}") from None
    finally:
        for end in ("", "-wal", "-shm", "-journal"):
            work.with_name(work.name + end).unlink(missing_ok=True)
    return done


async def _restore_postgres(
    main: Path, url: str, manifest: Manifest, lines: Sequence[KeyLine], vault: Vault
) -> Restored:
    program = postgres_program("pg_restore")
    db = Database(url)
    try:
        async with db.read() as tx:
            there = await tx.scalar(
                text(
                    "SELECT count(*) FROM information_schema.tables "
                    "WHERE table_schema NOT IN ('pg_catalog', 'information_schema') "
                    "AND table_schema = COALESCE(:own, table_schema)"
                ),
                {"own": db.schema},
            )
        if there:
            raise ConfigurationError(
                f"the database {make_url(url).database!r} holds {there} tables: a restore needs an empty one. "
                "Make one with `createdb` and name it with --database-url."
            )
        options = ["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", "--no-comments"]
        await run_postgres([program, *options, "-d", make_url(url).database or "", str(main)], url)
        try:
            return await _finish(db, manifest, lines, vault)
        except BaseException:
            async with db.begin() as tx:
                for name in await tables(tx):
                    await tx.execute(text(f'DROP TABLE IF EXISTS "{name}" CASCADE'))
            raise
    finally:
        await db.close()


async def _finish(db: Database, manifest: Manifest, lines: Sequence[KeyLine], vault: Vault) -> Restored:
    async with db.read() as tx:
        await _check_content(db, tx, manifest)
    migrated = await runner.upgrade(db)
    async with db.begin() as tx:
        await _insert_keys(tx, manifest, lines)
        accounts = await _mark_shredded(tx, vault)
        configs = await _empty_configs(tx)
        webhooks = await _empty_webhooks(tx)
    opened, unreadable = 0, []
    async for row in sealed.every(db):
        fault = row.fault(vault)
        if fault is None:
            opened += 1
        else:
            unreadable.append(f"{row.owner.kind} {row.owner.id}: {fault}")
    return Restored(manifest, migrated, opened, accounts, configs, webhooks, unreadable)


async def _check_content(db: Database, tx: AsyncSession, manifest: Manifest) -> None:
    if db.is_sqlite:
        for pragma in ("integrity_check", "foreign_key_check"):
            found = (await tx.execute(text(f"PRAGMA {pragma}"))).first()
            if found is not None and found[0] != "ok":
                raise ConfigurationError(f"the backup's database is damaged: {pragma} says {found[0]}")
    counts = await row_counts(tx)
    wrong = [name for name, number in manifest.rows.items() if counts.get(name) != number]
    if wrong:
        raise ConfigurationError(f"the restored tables {', '.join(wrong)} have not as many rows as the manifest says")


async def _insert_keys(tx: AsyncSession, manifest: Manifest, lines: Sequence[KeyLine]) -> None:
    """Put the data keys back whose owners are in this backup; a newer file also has keys of owners that came later."""
    alive = await sealed.owners(tx)
    projects = set(await tx.scalars(select(Project.id)))
    fitting = [k for k in lines if (k.owner_kind, k.owner_id) in alive and k.project_id in projects]
    if lines and alive and not fitting:
        raise ConfigurationError(
            "--data-keys: none of these data keys belongs to this backup; is it another hub's file?"
        )
    for start in range(0, len(fitting), 500):
        rows = [{name: getattr(k, name) for name in KeyLine.__slots__} for k in fitting[start : start + 500]]
        await tx.execute(insert(DataKeyRow), rows)


async def _mark_shredded(tx: AsyncSession, vault: Vault) -> list[str]:
    """Mark the accounts whose data key is gone, and put an empty credential in the place of what no key opens.

    Like that they are ordinary accounts in error: they can be seen, deleted and linked again in place.
    """
    keys = select(DataKeyRow.owner_id).where(DataKeyRow.owner_kind == "account")
    gone = list(
        await tx.scalars(
            select(Account).where(Account.status != "archived", Account.id.not_in(keys)).order_by(Account.id)
        )
    )
    now = clock.now()
    for account in gone:
        reason = {
            "code": SHREDDED,
            "description": "the account was deleted after this backup, or its data key is lost; it must be linked again",
            "timestamp": clock.iso(now),
        }
        account.status = "error"
        account.status_reasons = [*account.status_reasons, reason]
        account.updated_at = now
        row = await tx.get(Credential, account.id)
        if row is not None:
            key = await sealing.ensure_key(tx, vault, owner_of(account))
            row.generation += 1
            row.sealed = credentials.seal(key, credentials.Secrets(), row.generation)
            row.refreshable = False
            row.expires_at = row.refresh_at = row.refresh_expires_at = row.retry_at = None
            row.lease_until = row.pending_generation = row.pending_since = None
    await tx.flush()
    return [account.id for account in gone]


async def _empty_configs(tx: AsyncSession) -> list[str]:
    keys = select(DataKeyRow.owner_id).where(DataKeyRow.owner_kind == "auth_config")
    gone = list(
        await tx.scalars(select(AuthConfig.id).where(AuthConfig.sealed.is_not(None), AuthConfig.id.not_in(keys)))
    )
    for id in gone:
        await tx.execute(update(AuthConfig).where(AuthConfig.id == id).values(sealed=None))
    return gone


async def _empty_webhooks(tx: AsyncSession) -> list[str]:
    if WebhookSecret.__tablename__ not in await tables(tx):
        return []
    keys = select(DataKeyRow.owner_id).where(DataKeyRow.owner_kind == "webhook")
    gone = list(await tx.scalars(select(WebhookEndpoint.id).where(WebhookEndpoint.id.not_in(keys))))
    for id in gone:
        await tx.execute(delete(WebhookSecret).where(WebhookSecret.endpoint_id == id))
    return gone
