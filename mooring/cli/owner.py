"""`mooring owner …`: what is stored of one owner, and how it goes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mooring import errors
from mooring.cli.shared import load_database_settings, with_audit

owner_app = typer.Typer(help="Export and erase what is stored of one owner (docs/privacy.md).", no_args_is_help=True)

OwnerId = Annotated[str, typer.Argument(help="The owner's id, as your backend sends it in `origin_owner_id`.")]
ProjectName = Annotated[str, typer.Option(help="Id or name of the project.")]


@owner_app.command("export")
def owner_export(
    owner: OwnerId,
    project: ProjectName,
    output: Annotated[Path | None, typer.Option(help="File to write, mode 0600; by default standard output.")] = None,
) -> None:
    """Write everything of one owner as JSON: accounts, sessions, calls, events, audit entries. No secret is in it."""
    from mooring.identity.service import find_project
    from mooring.operations.owner_export import export

    async def run(db: Any, _vault: Any) -> None:
        async with db.read() as tx:
            id = (await find_project(tx, project)).id
        if output is None:
            async for piece in export(db, id, owner):
                sys.stdout.buffer.write(piece)
            sys.stdout.flush()
            return
        try:
            file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as e:
            raise errors.ConfigurationError(f"--output: can't make {output}: {e.strerror}") from None
        with os.fdopen(file, "wb") as out:
            async for piece in export(db, id, owner):
                out.write(piece)

    with_audit(run)


@owner_app.command("erase")
def owner_erase(
    owner: OwnerId,
    project: ProjectName,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase one owner: shred and revoke their accounts, delete their rows, take their names out of the audit log."""
    from mooring.connectors.registry import load_registry
    from mooring.identity.service import ProjectId, find_project
    from mooring.operations.mass_revocation import Parts
    from mooring.operations.owner_erasure import erase
    from mooring.operations.owner_records import find_owner

    loaded = load_database_settings()

    async def run(db: Any, vault: Any) -> Any:
        async with db.read() as tx:
            id = (await find_project(tx, project)).id
            found = await find_owner(tx, id, owner)
        what = f"{len(found.account_ids)} accounts and {len(found.session_ids)} sessions of {owner!r}, with their logs"
        if not yes and not typer.confirm(f"Erase {what}? It can't be undone."):
            raise typer.Exit(1)
        return await erase(db, Parts(vault, load_registry(loaded.connectors_dir)), ProjectId(id), owner)

    erased = with_audit(run)
    for kind, count in erased.counts.items():
        typer.echo(f"{kind}\t{count}")
    if any(erased.counts.values()):
        typer.echo(
            f"The audit log names this as {erased.alias}. A running hub revokes the tokens at the providers "
            "(`mooring jobs` shows how far). Backups and logs of other programs are yours to look after: docs/privacy.md.",
            err=True,
        )
    else:
        typer.echo("nothing of this owner is stored in this project", err=True)
