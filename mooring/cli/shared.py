"""What commands share: the settings, and an action on the database that they name."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import typer

from mooring import errors, settings, supervisor
from mooring.settings import Settings

T = TypeVar("T")


def load_settings() -> Settings:
    """The settings, with a warning for names that mean nothing."""
    if supervisor.ROLE not in os.environ:  # the first process has said it
        for name in settings.unknown():
            typer.echo(f"mooring: warning: {name} is no setting of Mooring", err=True)
    return settings.load()


def load_database_settings() -> Settings:
    """The settings, with the folder of a SQLite database made."""
    loaded = load_settings()
    scheme, _, path = loaded.resolved_database_url.partition(":///")
    if scheme == "sqlite":
        name = "MOORING_DATABASE_URL" if loaded.database_url else "MOORING_DATA_DIR"
        folder = Path(path).parent
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as e:
            raise errors.ConfigurationError(f"{name}: can't make the folder {folder}: {e.strerror}") from None
    return loaded


def in_database(action: Callable[[Any], Awaitable[T]]) -> T:
    """Run `action(tx)` in one write transaction on an up-to-date database."""

    async def run(db: Any, _vault: Any) -> T:
        async with db.begin() as tx:
            return await action(tx)

    return with_audit(run)


def with_audit(action: Callable[[Any, Any], Awaitable[T]]) -> T:
    """Run `action(db, vault)` on an up-to-date database, with whoever runs the command as who acts."""
    import getpass

    from mooring.identity import audit
    from mooring.runtime import open_checked_vault, prepare

    async def run() -> T:
        loaded = load_database_settings()
        db = await prepare(loaded)
        try:
            vault = await open_checked_vault(loaded, db)
            audit.attach(db, vault)
            await audit.prepare(db)
            with contextlib.suppress(KeyError, OSError):  # a container's user may have no name
                audit.act_as(audit.Actor("command", label=getpass.getuser()))
            return await action(db, vault)
        finally:
            await db.close()

    return asyncio.run(run())


def with_vault(action: Callable[[Any, Any], Awaitable[T]]) -> T:
    """Run `action(db, vault)` on an up-to-date database."""
    from mooring.operations.keys import open_vault
    from mooring.runtime import prepare

    async def run() -> T:
        loaded = load_database_settings()
        db = await prepare(loaded)
        try:
            return await action(db, open_vault(loaded))
        finally:
            await db.close()

    return asyncio.run(run())
