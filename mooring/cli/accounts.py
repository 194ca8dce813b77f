"""Commands by which accounts leave this hub and arrive from elsewhere. There is no API for them: they hold everything."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from mooring import errors, settings
from mooring.cli.shared import load_database_settings
from mooring.operations.cli import progress_of

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from mooring.identity.models import Project
    from mooring.moving.importing import Imported, Plan
    from mooring.moving.listed import Listed
    from mooring.moving.place import Place

T = TypeVar("T")
SHOWN = 200  # faults; a list of the wrong kind has one in every row

accounts_app = typer.Typer(help="Move linked accounts out of this hub, and into it.", no_args_is_help=True)

ProjectName = Annotated[str | None, typer.Option(help="Project id or name; the only one needs no naming.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(help="File that holds the passphrase; else MOORING_BUNDLE_PASSPHRASE or a prompt. Never an argument."),
]


@accounts_app.command("export")
def accounts_export(
    dest: Annotated[Path, typer.Argument(help="File to write; it must not exist.")],
    project: ProjectName = None,
    account: Annotated[list[str] | None, typer.Option(help="Only this account; repeatable.")] = None,
    owner: Annotated[list[str] | None, typer.Option(help="Only accounts of this origin_owner_id; repeatable.")] = None,
    provider: Annotated[list[str] | None, typer.Option(help="Only accounts of this connector; repeatable.")] = None,
    hand_over: Annotated[
        bool,
        typer.Option("--hand-over", help="Freeze the accounts here; without it rotating refresh tokens stay here."),
    ] = False,
    resume: Annotated[
        str | None, typer.Option(help="Write the bundle with this id again, whose accounts are handed over already.")
    ] = None,
    wait: Annotated[int, typer.Option(min=0, max=3600, help="Seconds to wait for renewals that are under way.")] = 30,
    with_auth_configs: Annotated[
        bool, typer.Option("--with-auth-configs", help="Also the set-up of auth configs, client secrets included.")
    ] = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Write linked accounts into an encrypted bundle for another hub. Prints the bundle's id."""
    from mooring.moving.exporting import Choice, Exported, export

    if dest.exists():  # before anybody types a passphrase
        raise errors.ConfigurationError(f"{dest} exists: name a file that does not")
    if resume is not None and (account or owner or provider):
        raise errors.ConfigurationError("--resume: the bundle says which accounts; name none")
    passphrase = _passphrase(passphrase_file, new=True)
    choice = Choice(account or (), owner or (), provider or ())

    async def run(place: Place) -> Exported:
        with progress_of("exporting") as progress:
            return await export(
                place,
                choice,
                dest,
                passphrase,
                hand_over=hand_over or resume is not None,
                with_configs=with_auth_configs,
                resume=resume,
                wait=wait,
                progress=progress,
                say=lambda made: typer.echo(f"handing over with the bundle {made}", err=True),
            )

    try:
        done = _at_place(project, run)
    except KeyboardInterrupt:
        typer.echo("stopped; there is no bundle, and no account was handed over", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"{done.accounts} accounts in {dest}", err=True)
    if done.without_refresh_token:
        typer.echo(
            f"{done.without_refresh_token} of them without their refresh token, which rotates and stays in use here: "
            "elsewhere they work until their access token ends. --hand-over moves them whole.",
            err=True,
        )
    if hand_over or resume:
        typer.echo(
            f"They are frozen here. If the bundle is never imported: mooring accounts hand-back {done.bundle}", err=True
        )
    typer.echo(done.bundle)
    if done.left_out:
        for id, why in sorted(done.left_out.items()):
            typer.echo(f"left out: {id}: {why}", err=True)
        raise typer.Exit(1)


@accounts_app.command("import")
def accounts_import(
    source: Annotated[Path, typer.Argument(help="The bundle, or the list.")],
    project: ProjectName = None,
    format: Annotated[
        Literal["bundle", "nango", "tokens"],
        typer.Option(help="bundle, nango (a JSON export of connections) or tokens (JSON lines or CSV)."),
    ] = "bundle",
    map: Annotated[
        list[str] | None,
        typer.Option(help="OLD=NEW: the auth config (id or name) that stands for one of the file; repeatable."),
    ] = None,
    field: Annotated[
        list[str] | None, typer.Option(help="OLD=NEW: the form's field for a value of a list; repeatable.")
    ] = None,
    beside: Annotated[
        bool,
        typer.Option("--beside", help="Import rows of a list whose owner has an account of the connector already."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and write nothing.")] = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Bring accounts in from a bundle or a list. Everything is checked first; with a fault nothing is written."""
    if not source.is_file():
        raise errors.ConfigurationError(f"{source}: is no file that can be read")
    mapped, renamed = _pairs("--map", map), _pairs("--field", field)
    if format == "bundle":
        passphrase = _passphrase(passphrase_file, new=False)
        _at_place(project, lambda place: _import_bundle(place, source, passphrase, mapped, dry_run=dry_run))
    else:
        _at_place(
            project, lambda place: _import_list(place, source, format, mapped, renamed, beside=beside, dry_run=dry_run)
        )


async def _import_bundle(place: Place, source: Path, passphrase: str, mapped: dict[str, str], *, dry_run: bool) -> None:
    from mooring.moving import importing
    from mooring.moving.bundle import Reader

    with source.open("rb") as file:
        reader = Reader(file, passphrase)
        planned = await importing.plan(place, reader, mapped)
        _stop_at([*planned.problems], "nothing was imported")
        _show_plan(planned)
        if dry_run:
            return
        with progress_of("importing") as progress:
            done = await importing.run(place, reader, planned, progress)
    _show_imported(done)


def _show_plan(planned: Plan) -> None:
    for record in planned.create.values():
        typer.echo(f"auth config to be made: {record['connector']} ({record['name']})", err=True)
    counts = planned.counts
    typer.echo(
        f"{planned.seen} accounts: {counts['new']} new, {counts['back']} taken over onto what is here, "
        f"{counts['present']} here already",
        err=True,
    )
    if not planned.source["hand_over"]:
        typer.echo(
            "The bundle is a copy: its hub goes on with the accounts, and rotating refresh tokens are not in it.",
            err=True,
        )


def _show_imported(done: Imported) -> None:
    counts = done.counts
    typer.echo(f"imported {counts['new'] + counts['back']}, left as they were {counts['present']}")
    _stop_at(done.problems, "these were left out, because something has changed meanwhile")


async def _import_list(
    place: Place,
    source: Path,
    format: str,
    mapped: dict[str, str],
    renamed: dict[str, str],
    *,
    beside: bool,
    dry_run: bool,
) -> None:
    from mooring.moving import listed, nango, tokens

    reader = nango.read if format == "nango" else tokens.read
    with source.open(encoding="utf-8", errors="strict", newline="") as file:

        def read() -> object:
            file.seek(0)
            return reader(file)

        options = listed.Options(mapped, renamed, beside)
        planned = await listed.plan(place, read, options)  # type: ignore[arg-type]
        _stop_at(_told(planned), f"nothing was imported: {len(planned.faults)} faults in {planned.rows} rows")
        typer.echo(f"{planned.rows} rows: {planned.new} new, {planned.present} here already", err=True)
        if dry_run:
            return
        with progress_of("importing") as progress:
            done = await listed.run(place, read, options, planned, progress)  # type: ignore[arg-type]
    for there, here in done.made:
        typer.echo(f"{there}\t{here}")
    typer.echo(f"imported {done.new}, left as they were {done.present}", err=True)
    _stop_at(_told(done), "these were left out, because something has changed meanwhile")


def _told(found: Listed) -> list[str]:
    return [f"line {f.line}: {f.message}" if f.line else f.message for f in found.faults]


def _stop_at(problems: list[str], what: str) -> None:
    """Say every problem and end with exit code 1, if there are any."""
    for problem in problems[:SHOWN]:
        typer.echo(problem, err=True)
    if len(problems) > SHOWN:
        typer.echo(f"and {len(problems) - SHOWN} more", err=True)
    if problems:
        typer.echo(what, err=True)
        raise typer.Exit(1)


@accounts_app.command("handed-over")
def accounts_handed_over(project: ProjectName = None) -> None:
    """List the bundles that accounts are handed over with: id, since when, how many accounts."""
    from mooring.moving.freezing import handed_over

    for id, at, count in _at_place(project, handed_over):
        typer.echo(f"{id}\t{at}\t{count}")


@accounts_app.command("hand-back")
def accounts_hand_back(
    bundle: Annotated[str, typer.Argument(help="Id of the bundle, as `accounts handed-over` shows it.")],
    project: ProjectName = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take accounts back that were handed over, when their bundle was imported nowhere."""
    from mooring.moving import freezing

    found = _at_place(project, lambda place: freezing.frozen(place, bundle))
    if not found:
        raise errors.NotFound(f"no account is handed over with a bundle {bundle!r}", hint="See `accounts handed-over`.")
    if not yes and not typer.confirm(
        f"{found} accounts. If this bundle was imported anywhere, both hubs will use the same tokens, and accounts will be "
        "lost. Was it imported nowhere, and is it destroyed?"
    ):
        raise typer.Exit(1)

    async def run(place: Place) -> int:
        with progress_of("taking back") as progress:
            return await freezing.hand_back(place, bundle, progress)

    typer.echo(f"{_at_place(project, run)} accounts serve here again")


def _at_place(project: str | None, action: Callable[[Place], Awaitable[T]]) -> T:
    """Run an action at a project of this hub, on an up-to-date database, as the person at the command line."""
    import contextlib
    import getpass

    from mooring.connectors.registry import load_registry
    from mooring.identity import audit
    from mooring.identity import service as identity
    from mooring.kit.process import forbid_core_dumps
    from mooring.moving.place import Place
    from mooring.runtime import open_checked_vault, prepare

    forbid_core_dumps()  # credentials are open in this process

    async def run() -> T:
        loaded = load_database_settings()
        registry = load_registry(loaded.connectors_dir)
        db = await prepare(loaded)
        try:
            vault = await open_checked_vault(loaded, db)
            audit.attach(db, vault)
            await audit.prepare(db)
            with contextlib.suppress(KeyError, OSError):  # a container's user may have no name
                audit.act_as(audit.Actor("command", label=getpass.getuser()))
            async with db.read() as tx:
                found = await _project(tx, project)
            return await action(Place(db, vault, registry, identity.ProjectId(found.id), found.name))
        finally:
            await db.close()

    return asyncio.run(run())


async def _project(tx: AsyncSession, name: str | None) -> Project:
    from mooring.identity import service

    if name is not None:
        return await service.find_project(tx, name)
    projects = await service.list_projects(tx)
    if len(projects) != 1:
        raise errors.Conflict("there is not exactly one project", hint="Name one with --project.")
    return projects[0][0]


def _passphrase(path: Path | None, *, new: bool) -> str:
    """The passphrase from a file, the environment or a prompt. Raises ConfigurationError."""
    from mooring.moving.bundle import MIN_PASSPHRASE

    if path is not None:
        try:
            found = path.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as e:
            raise errors.ConfigurationError(f"--passphrase-file: can't read {path}: {e}") from None
    elif set_ := settings.load().bundle_passphrase:
        found = set_
    elif sys.stdin.isatty():
        found = str(typer.prompt("Passphrase of the bundle", hide_input=True, confirmation_prompt=new, err=True))
    else:
        raise errors.ConfigurationError("no passphrase: set MOORING_BUNDLE_PASSPHRASE, or give --passphrase-file")
    if new and len(found) < MIN_PASSPHRASE:
        raise errors.ConfigurationError(
            f"the passphrase has {len(found)} characters; at least {MIN_PASSPHRASE} are needed, since whoever has the file "
            "can try as many as they like"
        )
    return found


def _pairs(option: str, values: list[str] | None) -> dict[str, str]:
    found = {}
    for value in values or ():
        old, equals, new = value.partition("=")
        if not equals or not old or not new:
            raise errors.ConfigurationError(f"{option}: write OLD=NEW, not {value!r}")
        found[old] = new
    return found
