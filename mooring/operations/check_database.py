"""What the doctor looks at in the database: schema, keys, sealed rows, leases, accounts, jobs, log, clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from mooring.accounts.leases import LEASE_SECONDS
from mooring.accounts.models import Account, Credential
from mooring.kit import clock, jobs
from mooring.kit.db import Database
from mooring.kit.vault import Vault
from mooring.logs.models import RequestLog
from mooring.operations import keys, sealed
from mooring.operations.finding import Finding, fail, ok, warn
from mooring.operations.schema import revision, revisions, tables

CLOCK_SECONDS = 2.0
LATE_SECONDS = (60.0, 900.0)  # age of the oldest due job: warn above, fail above
MANY_LOGS = 5_000_000
SHOWN = 5  # faulty rows that are named

Progress = Callable[[int, int], None]


async def examine(db: Database, vault: Vault | None, progress: Progress) -> list[Finding]:
    """All findings of the database. A check that can't run is a finding too."""
    try:
        async with db.read() as tx:
            server = await _server(db, tx)
            at = await revision(tx)
    except (SQLAlchemyError, OSError) as e:
        why = "Without its database the hub answers nothing."
        fix = "Look at the server's log; check host, port, user and password in MOORING_DATABASE_URL."
        return [fail("database", f"does not answer: {_reason(e)}", why, fix)]
    found = [ok("database", server), _schema(at)]
    if at != revisions()[-1]:
        return found
    checks = (_clock, _missing_keys, _orphans, _leases, _accounts, _jobs, _logs)
    for check in checks:
        name = check.__name__.strip("_").replace("_", " ")
        try:
            async with db.read() as tx:
                found.append(await check(db, tx, vault))
        except (SQLAlchemyError, OSError) as e:
            found.append(fail(name, f"could not be looked at: {_reason(e)}", "", "Look at the database server's log."))
    found.append(await _sealed(db, vault, progress))
    return found


def _reason(e: Exception) -> str:
    text = str(e.orig if isinstance(e, DBAPIError) else e).strip()
    return text.splitlines()[0][:200] if text else type(e).__name__


async def _server(db: Database, tx: AsyncSession) -> str:
    if db.is_sqlite:
        mode = await tx.scalar(text("PRAGMA journal_mode"))
        return f"SQLite {await tx.scalar(text('SELECT sqlite_version()'))}, journal {mode}"
    return f"PostgreSQL {await tx.scalar(text('SHOW server_version'))}"


def _schema(at: str | None) -> Finding:
    newest = revisions()[-1]
    if at == newest:
        return ok("schema", f"{at}, current")
    if at is None:
        return warn("schema", "none", "The database is empty.", "Start the hub, or run `mooring migrate`.")
    if at not in revisions():
        why = f"It is newer than this version knows ({newest}); the hub does not start."
        return fail("schema", at, why, "Upgrade Mooring; going back is done with a backup.")
    why = f"This version needs {newest}."
    return warn("schema", f"{at}, not current", why, "Back up, then run `mooring migrate`; a start does it too.")


async def _clock(db: Database, tx: AsyncSession, _vault: Vault | None) -> Finding:
    before = clock.now()
    if db.is_sqlite:
        seen = await tx.scalar(text("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')"))
        there = datetime.fromisoformat(str(seen)).replace(tzinfo=UTC)
    else:
        there = await tx.scalar(text("SELECT clock_timestamp()"))
    after = clock.now()
    off = (there - (before + (after - before) / 2)).total_seconds()
    if abs(off) <= CLOCK_SECONDS:
        return ok("clock", f"{abs(off):.1f} s from the database's")
    why = (
        "Leases and token lifetimes are compared across machines; with a wrong clock tokens are renewed late or twice."
    )
    return fail(
        "clock", f"{off:+.1f} s from the database's", why, "Turn on time synchronisation (chrony, systemd-timesyncd)."
    )


async def _missing_keys(_db: Database, tx: AsyncSession, vault: Vault | None) -> Finding:
    needed = await keys.rows_per_key(tx)
    known = vault.key_ids if vault else frozenset()
    missing = {id: number for id, number in needed.items() if id not in known}
    if missing:
        seen = ", ".join(f"{number} rows need {id}" for id, number in sorted(missing.items()))
        why = "What they seal can't be opened, and the hub does not start."
        return fail(
            "missing keys", seen, why, "Put the key back into the key file; look into the key file's own backup."
        )
    old = sum(number for id, number in needed.items() if vault and id != vault.primary_id)
    if old:
        why = "A rotation was begun and not finished; nothing is broken."
        return warn("missing keys", f"none, but {old} rows are on a secondary key", why, "Run `mooring keys rotate`.")
    return ok("missing keys", "none; all rows are on the primary key")


async def _orphans(_db: Database, tx: AsyncSession, _vault: Vault | None) -> Finding:
    number = await sealed.orphan_keys(tx)
    if not number:
        return ok("orphan keys", "none")
    why = "The owner is gone, so its data key should have been shredded with it (rule V5)."
    fix = "Report it as a fault of Mooring; the keys open nothing that the hub still has."
    return warn("orphan keys", f"{number} data keys belong to nothing", why, fix)


async def _leases(_db: Database, tx: AsyncSession, _vault: Vault | None) -> Finding:
    # Taken three leases ago or earlier, and not given back.
    limit = clock.now() - timedelta(seconds=2 * LEASE_SECONDS)
    stuck = (await tx.scalars(select(Credential.account_id).where(Credential.lease_until < limit))).all()
    if not stuck:
        return ok("refresh leases", "none is stuck")
    why = "Who renewed these tokens died; the next call or scheduled refresh takes the lease over."
    fix = "If the number does not fall within minutes, look for `refresh` in the hub's log."
    return warn("refresh leases", f"{len(stuck)} stuck: {_some(stuck)}", why, fix)


async def _accounts(_db: Database, tx: AsyncSession, _vault: Vault | None) -> Finding:
    counts = select(Account.status, func.count()).where(Account.status != "archived").group_by(Account.status)
    rows = sorted((str(row[0]), int(row[1])) for row in await tx.execute(counts))
    shown = ", ".join(f"{number} {status}" for status, number in rows) or "none"
    ill = await tx.scalars(select(Account.status_reasons).where(Account.status.in_(("error", "expired"))).limit(20_000))
    reasons = Counter(str(r[-1].get("code")) if r else "no reason noted" for r in ill)
    if not reasons:
        return ok("accounts", shown)
    why = "Their calls fail: " + ", ".join(f"{number} × {code}" for code, number in reasons.most_common())
    fix = "Ask their owners to reconnect: a connect session with `account_id` links in place. Check the provider first."
    return warn("accounts", shown, why, fix)


async def _jobs(_db: Database, tx: AsyncSession, _vault: Vault | None) -> Finding:
    if jobs.Job.__tablename__ not in await tables(tx):
        return ok("jobs", "no queue")
    states = await jobs.state(tx)
    age, dead = max((s.age for s in states), default=0.0), sum(s.dead for s in states)
    waiting = sum(s.waiting for s in states)
    seen = f"{waiting} waiting, {dead} dead, the oldest due one waits for {age:.0f} s"
    why = (
        "Due work is not done: scheduled refreshes, webhooks." if age > LATE_SECONDS[0] else "Dead jobs have given up."
    )
    fix = "See that the hub runs (`mooring serve` works on jobs too), then look at `mooring jobs`."
    if age > LATE_SECONDS[1]:
        return fail("jobs", seen, why, fix)
    return warn("jobs", seen, why, fix) if dead or age > LATE_SECONDS[0] else ok("jobs", seen)


async def _logs(db: Database, tx: AsyncSession, _vault: Vault | None) -> Finding:
    number = await tx.scalar(select(func.count()).select_from(RequestLog)) or 0
    if db.is_sqlite:
        size = await tx.scalar(text("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"))
        seen = f"{number} rows; the whole database has {_mib(size)}"
    else:
        size = await tx.scalar(text("SELECT pg_total_relation_size('request_logs')"))
        seen = f"{number} rows, {_mib(size)}"
    if number <= MANY_LOGS:
        return ok("request log", seen)
    return warn(
        "request log", seen, "It slows searches and backups down.", "Delete old rows, or set a shorter retention."
    )


def _mib(size: object) -> str:
    return f"{int(str(size or 0)) / (1 << 20):.1f} MiB"


async def _sealed(db: Database, vault: Vault | None, progress: Progress) -> Finding:
    try:
        async with db.read() as tx:
            total = await sealed.count(tx)
        if vault is None:
            if not total:
                return ok("sealed rows", "none yet")
            why = "Without master keys nothing opens."
            return fail("sealed rows", f"{total}, and no usable master key", why, "Put the key file back.")
        done, faults = 0, []
        async for row in sealed.every(db):
            done += 1
            if done % 100 == 0:
                progress(done, max(done, total))
            if (fault := row.fault(vault)) is not None:
                faults.append(f"{row.owner.kind} {row.owner.id}: {fault}")
        progress(done, done)
    except (SQLAlchemyError, OSError) as e:
        return fail("sealed rows", f"could not be read: {_reason(e)}", "", "Look at the database server's log.")
    if not faults:
        return ok("sealed rows", f"{done}, all open")
    why = "These credentials are lost to the hub: the row was altered or moved, or its key is gone."
    fix = "Restore the rows or the key from a backup, or have the accounts linked again."
    return fail("sealed rows", f"{len(faults)} of {done} do not open: {_some(faults)}", why, fix)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
