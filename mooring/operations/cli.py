"""The operator's commands: `mooring keys …`, `mooring backup`, `mooring restore`, `mooring doctor`.

`attach` hangs them into the main command. Imports that cost time happen inside the commands.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mooring import settings
from mooring.settings import Settings

if TYPE_CHECKING:
    from mooring.kit.db import Database
    from mooring.kit.vault import Vault
    from mooring.operations.finding import Finding
    from mooring.operations.restore import Restored

keys_app = typer.Typer(help="Show, add, rotate and retire master keys.", no_args_is_help=True)


def attach(app: typer.Typer) -> None:
    """Add the operator's commands to the main command."""
    app.add_typer(keys_app, name="keys")
    app.command("backup")(backup)
    app.command("restore")(restore)
    app.command("doctor")(doctor)


def _settings() -> Settings:
    for name in settings.unknown():
        typer.echo(f"mooring: warning: {name} is no setting of Mooring", err=True)
    return settings.load()


@contextmanager
def progress_of(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far something is: a bar in a terminal, at most one line a second anywhere else."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    last = time.monotonic()

    def line(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= 1:
            last = time.monotonic()
            typer.echo(f"{what}: {done} of {total}", err=True)

    yield line


@asynccontextmanager
async def _open(loaded: Settings) -> AsyncIterator[tuple[Database, Vault]]:
    """An existing database with its schema current, and the vault. Nothing is made."""
    from mooring.kit.db import Database
    from mooring.migrations import runner
    from mooring.operations.keys import open_vault
    from mooring.operations.schema import require_file

    require_file(loaded.resolved_database_url)
    vault = open_vault(loaded)
    db = Database(loaded.resolved_database_url)
    try:
        await runner.upgrade(db)
        yield db, vault
    finally:
        await db.close()


@keys_app.command("status")
def keys_status() -> None:
    """Show the master keys: which one is primary, and how many rows need each."""
    from mooring.operations import keys

    async def run() -> list[keys.KeyState]:
        async with _open(_settings()) as (db, vault):
            return await keys.status(db, vault)

    states = asyncio.run(run())
    for state in states:
        role = "primary" if state.primary else "secondary" if state.known else "MISSING"
        typer.echo(f"{state.id}\t{role}\t{state.rows} rows")
    if any(not state.known for state in states):
        typer.echo("rows that need a missing key can't be opened: put it back into the key file", err=True)
        raise typer.Exit(1)


@keys_app.command("add")
def keys_add() -> None:
    """Add a new master key to the key file, not primary yet. Prints its id; the key itself is never shown."""
    from mooring.operations import keys

    loaded = _settings()
    id = keys.add(loaded)
    typer.echo(
        f"added to {loaded.resolved_key_file}, not primary yet. Back the file up and bring it to every machine of this "
        "hub; then run `mooring keys rotate`.",
        err=True,
    )
    typer.echo(id)


@keys_app.command("rotate")
def keys_rotate(
    to: Annotated[
        str | None, typer.Option(help="Id of the key; by default the newest one that `keys add` made.")
    ] = None,
) -> None:
    """Make a key primary and wrap all data keys with it, while the hub serves. Run again after a stop, it goes on."""
    from mooring.operations import keys

    loaded = _settings()

    async def run() -> keys.Rotation:
        async with _open(loaded) as (db, vault):
            target = keys.choose_primary(loaded, to)
            with progress_of("re-wrapping") as progress:
                return await keys.rotate(db, vault, target, progress)

    try:
        done = asyncio.run(run())
    except KeyboardInterrupt:
        typer.echo("stopped; both keys stay readable. Run `mooring keys rotate` again to finish.", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"{done.primary} is primary; {done.rewrapped} rows re-wrapped")
    if done.left:
        typer.echo(f"{done.left} rows are in use and still on an older key: run `mooring keys rotate` again", err=True)
        raise typer.Exit(1)
    if done.failed:
        shown = ", ".join(done.failed[:5])
        typer.echo(f"{len(done.failed)} rows do not open and were left alone: {shown}. See `mooring doctor`.", err=True)
        raise typer.Exit(1)


@keys_app.command("retire")
def keys_retire(id: Annotated[str, typer.Argument(help="Id of the key, as `keys status` shows it.")]) -> None:
    """Take a key out of the key file, when nothing needs it any more."""
    from mooring.operations import keys

    loaded = _settings()

    async def run() -> None:
        async with _open(loaded) as (db, vault):
            await keys.retire(db, loaded, vault, id)

    asyncio.run(run())
    typer.echo(f"{id} is no longer in {loaded.resolved_key_file}")
    typer.echo("Backups made before the rotation still need it: keep a copy of it as long as you keep them.", err=True)


def backup(
    dest: Annotated[Path, typer.Argument(help="Folder of backups; each one gets a folder of its own in it.")],
    force: Annotated[bool, typer.Option("--force", help="Back up although rows need a missing master key.")] = False,
) -> None:
    """Back the database up while the hub serves. The master key is never in a backup."""
    from mooring.operations import backup as backups
    from mooring.operations.keys import open_vault

    loaded = _settings()
    vault = open_vault(loaded)
    folder, manifest = asyncio.run(backups.backup(loaded, vault, dest, force=force))
    rows = manifest.rows
    typer.echo(
        f"{rows.get('accounts', 0)} accounts, {rows.get('auth_configs', 0)} auth configs, schema {manifest.schema}; "
        f"opens with the master key {', '.join(manifest.master_keys) or '(nothing is sealed yet)'}",
        err=True,
    )
    source = "MOORING_MASTER_KEYS" if loaded.master_keys else str(loaded.resolved_key_file)
    typer.echo(f"Back up {source} too, in another place: without it no credential of this backup opens.", err=True)
    if not loaded.master_keys and loaded.resolved_key_file.resolve().is_relative_to(dest.resolve()):
        typer.echo(f"warning: {dest} also holds the key file: who copies it has both.", err=True)
    typer.echo(str(folder))


def restore(
    src: Annotated[Path, typer.Argument(help="One backup folder: mooring-…")],
    database_url: Annotated[
        str | None, typer.Option(help="Empty database to restore into, instead of MOORING_DATABASE_URL.")
    ] = None,
    data_keys: Annotated[
        Path | None, typer.Option(help="A newer data-keys file: accounts deleted since the backup stay unreadable.")
    ] = None,
) -> None:
    """Restore a backup into an empty database, migrate it, and see that every row opens."""
    from mooring.operations import restore as restores
    from mooring.operations.keys import open_vault

    environ = {**os.environ, **({"MOORING_DATABASE_URL": database_url} if database_url else {})}
    loaded = settings.load(environ)
    vault = open_vault(loaded)
    done = asyncio.run(restores.restore(src, loaded.resolved_database_url, vault, data_keys=data_keys))
    _report(done)
    if done.unreadable:
        raise typer.Exit(1)


def _report(done: Restored) -> None:
    rows = done.manifest.rows
    typer.echo(
        f"restored {rows.get('accounts', 0)} accounts of {done.manifest.created_at}; {done.opened} sealed rows open"
    )
    if done.migrated:
        typer.echo(f"migrated: {', '.join(done.migrated)}")
    for ids, what in (
        (done.shredded_accounts, "accounts have no data key and are marked `credentials_shredded`; link them again"),
        (done.emptied_configs, "auth configs have lost their secrets; set them again"),
        (done.emptied_webhooks, "webhook endpoints have lost their signing secret; rotate it"),
        (done.unreadable, "sealed rows do not open"),
    ):
        if ids:
            typer.echo(f"{len(ids)} {what}:")
            for id in ids:
                typer.echo(f"  {id}")
    typer.echo(
        "API keys that were revoked after the backup work again: look at `mooring api-key list`. Providers may refuse "
        "refresh tokens that were renewed since; those accounts will say so and need a reconnect.",
        err=True,
    )


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look for everything that can be wrong, with an explanation and a fix. Exit code 1 when something fails."""
    from mooring.operations.doctor import examine

    with progress_of("opening sealed rows") as progress:
        found = asyncio.run(examine(settings.load(), settings.unknown(), progress))
    if as_json:
        _print_json(found)
    elif sys.stdout.isatty():
        _print_table(found)
    else:
        _print_lines(found)
    if any(finding.severity == "fail" for finding in found):
        raise typer.Exit(1)


def _print_json(found: list[Finding]) -> None:
    from dataclasses import asdict

    import orjson

    worst = max((f.severity for f in found), key=["ok", "warn", "fail"].index)
    typer.echo(orjson.dumps({"status": worst, "findings": [asdict(f) for f in found]}, option=orjson.OPT_INDENT_2))


def _print_table(found: list[Finding]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    colours = {"ok": "green", "warn": "yellow", "fail": "red"}
    table = Table("", "check", "found")
    for f in found:
        advice = "".join(f"\n[dim]{escape(line)}[/dim]" for line in (f.why, f.fix) if line)
        table.add_row(f"[{colours[f.severity]}]{f.severity}[/]", f.check, escape(f.seen) + advice)
    Console().print(table)


def _print_lines(found: list[Finding]) -> None:
    for f in found:
        typer.echo(f"{f.severity}\t{f.check}\t{f.seen}")
        for name, line in (("why", f.why), ("fix", f.fix)):
            if line:
                typer.echo(f"\t{name}: {line}")
