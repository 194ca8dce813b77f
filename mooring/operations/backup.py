"""Copy a running hub's database into a folder, apart from the wrapped data keys and without the master key (rule V5)."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import make_url, select, text

from mooring import __version__
from mooring.errors import ConfigurationError
from mooring.identity.models import DataKeyRow
from mooring.kit import clock
from mooring.kit.db import Database
from mooring.kit.vault import Vault
from mooring.migrations.runner import version_table
from mooring.operations import manifest as manifests
from mooring.operations.manifest import DATA_KEYS, MAIN, KeyLine, Manifest
from mooring.operations.schema import require_file, revision, row_counts
from mooring.settings import Settings

# Rows that live for minutes, or a day: no use after a restore, and some hold secrets that no shredding reaches.
SKIPPED = ("changes", "idempotency_keys", "oauth_transactions", "connection_launches")
_TEMPORARY = ".mooring-backup-"
_PAGE = 1000


async def backup(settings: Settings, vault: Vault, dest: Path, *, force: bool) -> tuple[Path, Manifest]:
    """Make one backup in a new folder under `dest`, which appears only when it is complete.

    Raises ConfigurationError, also for rows on a missing master key unless `force`.
    """
    url = settings.resolved_database_url
    require_file(url)
    with _workplace(dest) as folder:
        if make_url(url).get_backend_name() == "sqlite":
            found = _copy_sqlite(Path(make_url(url).database or ""), folder)
        else:
            found = await _dump_postgres(url, folder)
        database, schema, rows, keys = found
        master_keys = tuple(sorted({key.kek_id for key in keys}))
        missing = sorted(set(master_keys) - vault.key_ids)
        if missing and not force:
            raise ConfigurationError(
                f"rows need the master key {', '.join(missing)}, which is missing: this backup could not be restored in "
                "full. `mooring keys status` shows more; --force backs up what is there."
            )
        files = {}
        for path in sorted(folder.iterdir()):
            path.chmod(0o600)
            manifests.sync(path)
            files[path.name] = manifests.describe(path)
        made = clock.iso(clock.now())
        manifest = Manifest(__version__, database, schema, made, rows, master_keys, files)
        manifests.write(folder, manifest, vault)
        manifests.sync(folder)
        final = _publish(folder, dest)
    return final, manifest


@contextlib.contextmanager
def _workplace(dest: Path) -> Iterator[Path]:
    """A locked temporary folder inside `dest`. What a killed backup left there is removed: it holds data keys."""
    try:
        dest.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in dest.glob(f"{_TEMPORARY}*"):
            with _lock(left) as free:
                if free:
                    shutil.rmtree(left)
        folder = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=dest))  # mode 0700
    except OSError as e:
        raise ConfigurationError(f"{dest}: can't write a backup here: {e.strerror}") from None
    with _lock(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(fd)


def _publish(folder: Path, dest: Path) -> Path:
    name = f"mooring-{clock.now():%Y%m%dT%H%M%SZ}"
    for number in range(1, 100):
        final = dest / (name if number == 1 else f"{name}-{number}")
        if final.exists():
            continue
        with contextlib.suppress(OSError):  # another backup of the same second took the name
            folder.rename(final)
            manifests.sync(dest)
            return final
    raise ConfigurationError(f"{dest}: can't name the backup {name}")


_Found = tuple[str, str, dict[str, int], list[KeyLine]]


def _copy_sqlite(source: Path, folder: Path) -> _Found:
    target = folder / MAIN["sqlite"]
    try:
        with contextlib.closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True)) as live:
            live.execute("PRAGMA busy_timeout=15000")
            with contextlib.closing(sqlite3.connect(target, isolation_level=None)) as copy:
                live.backup(copy)  # one step, one snapshot: writers go on in the WAL meanwhile
                return _split(copy, folder)
    except sqlite3.Error as e:
        raise ConfigurationError(f"{source}: SQLite can't copy it: {e}") from None


def _split(copy: sqlite3.Connection, folder: Path) -> _Found:
    """Move the data keys of a copy into their own file, and leave no trace of them in the copy."""
    there = {name for (name,) in copy.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    kept = version_table(there)
    if kept is None or "data_keys" not in there:
        raise ConfigurationError("MOORING_DATABASE_URL: this is no database of Mooring; start the hub once")
    (schema,) = copy.execute(f"SELECT version_num FROM {kept}").fetchone()  # noqa: S608 - one of two fixed names
    names = ", ".join(KeyLine.__slots__)
    rows = copy.execute(f"SELECT {names} FROM data_keys ORDER BY id")  # noqa: S608 - fixed names
    keys = manifests.write_keys(folder / DATA_KEYS, map(_key_line, rows))
    # The pages of deleted rows are zeroed, then the file is written anew without them.
    copy.execute("PRAGMA secure_delete=ON")
    copy.execute("PRAGMA journal_mode=DELETE")
    for name in sorted({"data_keys", *SKIPPED} & there):
        copy.execute(f"DELETE FROM {name}")  # noqa: S608 - fixed names
    copy.execute("VACUUM")
    counts = {
        name: int(copy.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0])  # noqa: S608 - from the catalogue
        for name in sorted(there)
        if not name.startswith("sqlite_")
    }
    return "sqlite", str(schema), counts, keys


def _key_line(row: tuple[Any, ...]) -> KeyLine:
    id, project_id, owner_kind, owner_id, kek_id, blob, created_at = row
    made = datetime.fromisoformat(created_at).replace(tzinfo=UTC)
    return KeyLine(id, project_id, owner_kind, owner_id, kek_id, blob, made)


async def _dump_postgres(url: str, folder: Path) -> _Found:
    program = postgres_program("pg_dump")
    db = Database(url)
    try:
        async with db.read() as tx:
            await tx.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            await tx.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            schema = await revision(tx)
            if schema is None:
                raise ConfigurationError("MOORING_DATABASE_URL: this is no database of Mooring; start the hub once")
            # pg_dump sees exactly what this transaction sees.
            snapshot = await tx.scalar(text("SELECT pg_export_snapshot()"))
            skipped = [f"--exclude-table-data=*.{name}" for name in ("data_keys", *SKIPPED)]
            own = [f"--schema={db.schema}"] if db.schema else []  # beside an application's tables (decision 24)
            options = [*own, "-Fc", "--no-owner", "--no-privileges", f"--snapshot={snapshot}", *skipped]
            await run_postgres([program, *options, "-f", str(folder / MAIN["postgresql"])], url)
            keys: list[KeyLine] = []
            while True:
                page = await tx.execute(
                    select(DataKeyRow.__table__)
                    .where(DataKeyRow.id > (keys[-1].id if keys else ""))
                    .order_by(DataKeyRow.id)
                    .limit(_PAGE)
                )
                found = [KeyLine(**row._mapping) for row in page]  # noqa: SLF001 - SQLAlchemy's public name
                keys += found
                if len(found) < _PAGE:
                    break
            counts = await row_counts(tx)
    finally:
        await db.close()
    manifests.write_keys(folder / DATA_KEYS, keys)
    return "postgresql", schema, counts | {n: 0 for n in ("data_keys", *SKIPPED) if n in counts}, keys


def postgres_program(name: str) -> str:
    """Path of a PostgreSQL client program. Raises ConfigurationError that says what to install."""
    found = shutil.which(name)
    if found is None:
        raise ConfigurationError(
            f"{name} is not installed. Install the PostgreSQL client programs, at least as new as the server: "
            "postgresql-client (Debian, Ubuntu), postgresql (Fedora), libpq (Homebrew)."
        )
    return found


async def run_postgres(command: list[str], url: str) -> None:
    """Run a PostgreSQL client program. The password goes through its environment, where `ps` does not show it."""
    parts = make_url(url)
    query: Mapping[str, str] = {name: str(value) for name, value in parts.query.items()}
    values = {
        "PGHOST": query.get("host") or parts.host,
        "PGPORT": query.get("port") or (str(parts.port) if parts.port else None),
        "PGUSER": parts.username,
        "PGPASSWORD": str(parts.password) if parts.password is not None else None,
        "PGDATABASE": parts.database,
        "PGSSLMODE": query.get("ssl") or query.get("sslmode"),
    }
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **{name: value for name, value in values.items() if value}},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, complaint = await process.communicate()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if process.returncode:
        lines = complaint.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise ConfigurationError(f"{Path(command[0]).name} failed: {' '.join(line.strip() for line in lines[:3])}")
