"""Every command once; `docs/cli.md` is generated from it. Imports that cost time happen inside the commands."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from mooring import __version__, errors, settings, supervisor
from mooring.operations.cli import attach
from mooring.settings import Settings

T = TypeVar("T")

app = typer.Typer(
    name="mooring",
    help="Mooring, the self-hosted integration hub.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
connectors_app = typer.Typer(help="Look at the catalogue and check connector files.", no_args_is_help=True)
keys_app = typer.Typer(help="Create, list, disable and revoke API keys.", no_args_is_help=True)
projects_app = typer.Typer(help="Create and list projects.", no_args_is_help=True)
app.add_typer(connectors_app, name="connectors")
app.add_typer(keys_app, name="api-key")
app.add_typer(projects_app, name="project")
users_app = typer.Typer(help="List the people of the dashboard, and let in who is locked out.", no_args_is_help=True)
audit_app = typer.Typer(help="Read and verify the audit log.", no_args_is_help=True)
app.add_typer(users_app, name="user")
app.add_typer(audit_app, name="audit")

Host = Annotated[str, typer.Option(help="Address to listen on.")]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"mooring {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


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


def _in_database(action: Callable[[Any], Awaitable[T]]) -> T:
    """Run `action(tx)` in one write transaction on an up-to-date database."""
    import getpass

    from mooring.identity import audit
    from mooring.runtime import open_checked_vault, prepare

    async def run() -> T:
        loaded = load_database_settings()
        db = await prepare(loaded)
        try:
            audit.attach(db, await open_checked_vault(loaded, db))
            await audit.prepare(db)
            with contextlib.suppress(KeyError, OSError):  # a container's user may have no name
                audit.act_as(audit.Actor("command", label=getpass.getuser()))
            async with db.begin() as tx:
                return await action(tx)
        finally:
            await db.close()

    return asyncio.run(run())


@app.command()
def serve(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8080,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that share the port.")] = 1,
    single_process: Annotated[
        bool,
        typer.Option(
            "--single-process", help="Run in this process alone: a crash may lose a refresh that is under way."
        ),
    ] = False,
) -> None:
    """Run the hub: its web processes, and a courier that keeps refreshes safe from their crashes."""
    loaded = load_database_settings()  # before the imports that cost time: a wrong setting is told at once
    if supervisor.ROLE not in os.environ:
        check_port(host, port)
        if not single_process:
            _supervise("--host", host, "--port", str(port), "--workers", str(workers))
        elif workers != 1:
            raise errors.ConfigurationError("--single-process: can't be joined with --workers")
    from mooring.serve import serve as run

    raise typer.Exit(run(loaded, host=host, port=port))


@app.command()
def worker(
    processes: Annotated[int, typer.Option(min=1, max=64, help="Processes that share the work.")] = 1,
) -> None:
    """Run background work without serving: webhooks, refreshes ahead of time, probes. For hosts beside `serve`."""
    loaded = load_database_settings()
    if supervisor.ROLE not in os.environ:
        _supervise("--workers", str(processes))
    from mooring.serve import work

    raise typer.Exit(work(loaded))


def _supervise(*arguments: str) -> None:
    """Become the supervisor: a process of its own size, without what the command line had to import."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "mooring.supervisor", *arguments])  # noqa: S606


def check_port(host: str, port: int) -> None:
    """Refuse a port that is taken: the server shares ports, so a second hub would silently take half of the calls."""
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as e:
            reason = getattr(e, "strerror", None) or str(e)
            raise errors.ConfigurationError(f"--host/--port: can't listen on {host}:{port}: {reason}") from None


@app.command()
def demo(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the hub.")] = 8080,
    sandbox_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the sandbox provider.")] = 8090,
    site_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the page to link on; 0 takes a free one.")
    ] = 8070,
    once: Annotated[bool, typer.Option("--once", help="Stop after the table instead of running on.")] = False,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the demo's database.")] = None,
) -> None:
    """Start the hub and the sandbox provider, link by every method, call through each, and serve a page to link one on."""
    from mooring.demo.run import run

    raise typer.Exit(run(port=port, sandbox_port=sandbox_port, site_port=site_port, once=once, data_dir=data_dir))


@app.command()
def sandbox(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8090,
) -> None:
    """Run the provider simulator."""
    from mooring.sandbox.serve import serve as run

    run(host, port)


@app.command()
def migrate() -> None:
    """Bring the database schema up to date. `serve` does the same at its start."""
    from mooring.kit.db import Database
    from mooring.migrations import runner

    async def run() -> list[str]:
        db = Database(load_database_settings().resolved_database_url)
        try:
            return await runner.upgrade(db)
        finally:
            await db.close()

    applied = asyncio.run(run())
    typer.echo(f"applied: {', '.join(applied)}" if applied else "the schema is up to date")


@connectors_app.command("list")
def connectors_list() -> None:
    """List the connectors of the catalogue and of MOORING_CONNECTORS_DIR."""
    from rich.console import Console
    from rich.table import Table

    from mooring.connectors.registry import load_registry

    registry = load_registry(load_settings().connectors_dir)
    if not sys.stdout.isatty():
        for c in registry.values():
            typer.echo(f"{c.key}\t{c.title}\t{','.join(c.categories)}\t{','.join(c.auth)}\t{c.version}")
        return
    table = Table("key", "title", "categories", "auth methods", "version")
    for c in registry.values():
        table.add_row(c.key, c.title, ", ".join(c.categories), ", ".join(c.auth), c.version)
    Console().print(table)


@connectors_app.command("show")
def connectors_show(key: Annotated[str, typer.Argument(help="Key of the connector.")]) -> None:
    """Show one connector: methods, fields, scopes, addresses."""
    from mooring.connectors.describe import describe
    from mooring.connectors.registry import load_registry

    connector = load_registry(load_settings().connectors_dir).get(key)
    if connector is None:
        raise errors.NotFound(
            f"no connector {key!r} in the catalogue", hint="`mooring connectors list` shows the keys."
        )
    typer.echo(describe(connector))


@connectors_app.command("check")
def connectors_check(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Connector files; none checks the whole catalogue.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse what .s1.yaml files may not say but is understood.")
    ] = False,
) -> None:
    """Check connector files and their guides; every fault is shown with file, line and column."""
    from mooring.connectors.guide_rules import guide_problems
    from mooring.connectors.loader import load_file
    from mooring.connectors.problem import ConnectorFileError
    from mooring.connectors.registry import load_registry
    from mooring.connectors.s1 import SUFFIX
    from mooring.connectors.s1.loader import load_s1

    if not files:
        registry = load_registry(load_settings().connectors_dir)
        for warning in registry.warnings:
            typer.echo(f"{warning} (warning)", err=True)
        faults = [p for c in registry.values() for p in guide_problems(c, f"{c.key}.md") if c.guide or c.builtin]
        for problem in faults:
            typer.echo(str(problem), err=True)
        for c in registry.values():
            if c.guide is None and not c.builtin:
                typer.echo(f"{c.source}: `{c.key}` has no guide; people see one made of its fields", err=True)
        if faults:
            raise typer.Exit(2)
        typer.echo(f"{len(registry)} connectors are fine")
        return
    failed = False
    for path in files:
        if not path.is_file():
            raise errors.ConfigurationError(f"{path}: there is no such file")
        try:
            if path.name.endswith(SUFFIX):
                loaded = load_s1(path, strict=strict)
                connector = loaded.connector
                for warning in loaded.warnings:
                    typer.echo(f"{warning} (warning)", err=True)
            else:
                connector = load_file(path, builtin=False)
            guide = path.with_name(f"{connector.key}.md")
            faults = guide_problems(connector, str(guide)) if connector.guide is not None else []
            failed = failed or bool(faults)
            for problem in faults:
                typer.echo(str(problem), err=True)
            if connector.guide is None:
                typer.echo(f"{guide}: there is no guide; people see one made of the fields", err=True)
            typer.echo(f"{path}: {connector.key} is fine ({', '.join(connector.auth)})")
        except ConnectorFileError as e:
            failed = True
            typer.echo(str(e), err=True)
    if failed:
        raise typer.Exit(2)


@connectors_app.command("test")
def connectors_test(
    keys: Annotated[list[str] | None, typer.Argument(help="Keys of connectors; none tests them all.")] = None,
) -> None:
    """Run the tests that stand beside actions, with their recorded answers. Nothing is sent anywhere."""
    import asyncio

    from mooring.actions.trial import try_connector, untested
    from mooring.connectors.registry import load_registry

    registry = load_registry(load_settings().connectors_dir)
    if unknown := [key for key in keys or () if key not in registry]:
        raise errors.ConfigurationError(f"there is no connector {unknown[0]!r}; `mooring connectors list` shows them")
    passed = failed = 0
    for key in keys or registry:
        connector = registry[key]
        for outcome in asyncio.run(try_connector(connector)):
            if outcome.problem is None:
                passed += 1
                continue
            failed += 1
            typer.echo(f"{outcome.connector} {outcome.action}: {outcome.test}: {outcome.problem}", err=True)
        if keys and (bare := list(untested(connector))):
            typer.echo(f"{key}: without a test: {', '.join(bare)}", err=True)
    typer.echo(f"{passed} tests passed, {failed} failed")
    if failed:
        raise typer.Exit(1)


@connectors_app.command("import-openapi")
def connectors_import_openapi(
    spec: Annotated[Path, typer.Argument(help="An OpenAPI 3 or Swagger 2.0 document, JSON or YAML.")],
    include: Annotated[
        list[str] | None,
        typer.Option(help="Only operations whose id, tag, path or `GET /path` fits this pattern with `*`; repeatable."),
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Leave out what fits this pattern; repeatable.")] = None,
    key: Annotated[str | None, typer.Option(help="Key of the connector; made of the title by default.")] = None,
    category: Annotated[str, typer.Option(help="Category of the connector.")] = "other",
    base_url: Annotated[str | None, typer.Option(help="Address of the API, instead of the first server's.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; standard output by default.")] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write over a file that differs, after its difference.")
    ] = False,
) -> None:
    """Write a connector from the description of an API: authentication, actions, inputs, paging.

    Where the file exists already, the difference is shown and the file is left alone unless --write is given.
    """
    from mooring.connectors.openapi import writing
    from mooring.connectors.openapi.document import read_document
    from mooring.connectors.openapi.importer import import_document

    document = read_document(spec)
    try:
        imported = import_document(
            document, key=key, category=category, include=include or (), exclude=exclude or (), base_url=base_url
        )
    except ValueError as e:
        raise errors.ConfigurationError(f"{spec}: {e}") from None
    text = writing.as_text(imported, source=spec.name, raw=spec.read_bytes())
    problems = _problems_of(text, imported.connector["connector"])
    for note in dict.fromkeys(imported.notes):
        typer.echo(f"note: {note}", err=True)
    for problem in problems:
        typer.echo(f"to correct: {problem}", err=True)
    typer.echo(
        f"{len(imported.connector['actions'])} actions, {len(imported.connector['auth'])} auth methods", err=True
    )
    if out is None:
        typer.echo(text, nl=False)
        return
    old = out.read_text(encoding="utf-8") if out.is_file() else None
    if old == text:
        typer.echo(f"{out} is as the description says", err=True)
        return
    if old is not None:
        typer.echo(writing.difference(old, text, out.name), nl=False)
        if not write:
            typer.echo(f"{out} was left alone; --write writes it", err=True)
            raise typer.Exit(1)
    writing.write_whole(out, text)
    typer.echo(f"wrote {out}", err=True)


def _problems_of(text: str, key: str) -> list[str]:
    """What the checks of connector files say of a text, with its lines."""
    import tempfile

    from mooring.connectors.loader import load_file
    from mooring.connectors.problem import ConnectorFileError

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{key}.yaml"
        path.write_text(text, encoding="utf-8")
        try:
            load_file(path, builtin=False)
        except ConnectorFileError as e:
            return [str(problem).replace(str(path), path.name) for problem in e.problems]
    return []


@keys_app.command("create")
def api_key_create(
    label: Annotated[str, typer.Option(help="What the key is for.")] = "default",
    project: Annotated[str | None, typer.Option(help="Project id or name; the only one needs no naming.")] = None,
    scopes: Annotated[
        str | None, typer.Option(help="Comma separated scopes; all that need no naming by default.")
    ] = None,
) -> None:
    """Create an API key. It is printed this once, alone on standard output."""
    from mooring.identity import service

    async def run(tx: Any) -> Any:
        found = await _project(tx, project)
        words = None if scopes is None else [s.strip() for s in scopes.split(",") if s.strip()]
        return found, await service.create_api_key(tx, found.id, label, words)

    found, made = _in_database(run)
    typer.echo(f"API key {made.id} of project {found.id}. It is shown only now:", err=True)
    typer.echo(made.secret)


async def _project(tx: Any, name: str | None) -> Any:
    from mooring.identity import service

    if name is not None:
        return await service.find_project(tx, name)
    projects = await service.list_projects(tx)
    if len(projects) == 1:
        return projects[0][0]
    if projects:
        raise errors.Conflict("there are several projects", hint="Name one with --project.")
    organization = await service.create_organization(tx, "default")
    return await service.create_project(tx, organization.id, "default")


@keys_app.command("list")
def api_key_list(
    project: Annotated[str | None, typer.Option(help="Only keys of this project.")] = None,
) -> None:
    """List API keys without their secrets."""
    from mooring.identity import service
    from mooring.kit.clock import iso

    async def run(tx: Any) -> Any:
        id = (await service.find_project(tx, project)).id if project else None
        return await service.list_api_keys(tx, id)

    for key in _in_database(run):
        used = iso(key.last_used_at) if key.last_used_at else "never used"
        state = "enabled" if key.enabled else "disabled"
        typer.echo(f"{key.id}\t{key.project_id}\t{key.label}\t{state}\t{used}\t{','.join(key.scopes)}")


KeyId = Annotated[str, typer.Argument(help="Id of the key, as `api-key list` shows it.")]


def _with_key(key_id: str, action: Callable[[Any, str], Awaitable[Any]]) -> None:
    try:
        _in_database(lambda tx: action(tx, key_id))
    except errors.NotFound as e:  # over the API the same for every id; here the one that was asked for is said
        raise errors.NotFound(f"no API key {key_id!r}", hint=e.hint) from None


@keys_app.command("revoke")
def api_key_revoke(key_id: KeyId) -> None:
    """Delete an API key for good; it stops within a second."""
    from mooring.identity import service

    _with_key(key_id, service.delete_api_key)
    typer.echo(f"revoked {key_id}")


@keys_app.command("disable")
def api_key_disable(key_id: KeyId) -> None:
    """Disable an API key; it stops within a second and can be enabled again."""
    from mooring.identity import service

    _with_key(key_id, partial(service.set_api_key_enabled, enabled=False))
    typer.echo(f"disabled {key_id}")


@keys_app.command("enable")
def api_key_enable(key_id: KeyId) -> None:
    """Enable an API key again."""
    from mooring.identity import service

    _with_key(key_id, partial(service.set_api_key_enabled, enabled=True))
    typer.echo(f"enabled {key_id}")


@projects_app.command("create")
def project_create(
    name: Annotated[str, typer.Argument(help="Name of the project.")],
    organization: Annotated[str, typer.Option(help="Organization; made if it does not exist.")] = "default",
) -> None:
    """Create a project and print its id."""
    from sqlalchemy import select

    from mooring.identity import service
    from mooring.identity.models import Organization

    async def run(tx: Any) -> Any:
        found = await tx.scalar(select(Organization).where(Organization.name == organization))
        owner = found or await service.create_organization(tx, organization)
        return await service.create_project(tx, owner.id, name)

    typer.echo(_in_database(run).id)


@projects_app.command("list")
def project_list() -> None:
    """List projects with their organizations."""
    from mooring.identity import service

    for project, organization in _in_database(service.list_projects):
        typer.echo(f"{project.id}\t{project.name}\t{organization}")


@app.command("setup-link")
def setup_link() -> None:
    """Print the link by which the first person sets this installation up. It works once; older ones stop."""
    from mooring.identity import users

    loaded = load_settings()
    token = _in_database(users.make_setup_token)
    typer.echo(f"{loaded.public_url or 'http://127.0.0.1:8080'}/dashboard/set-up?token={token}")


@users_app.command("list")
def user_list() -> None:
    """List the people who may sign in to the dashboard."""
    from sqlalchemy import select

    from mooring.identity.user_models import User
    from mooring.kit.clock import iso

    async def run(tx: Any) -> Any:
        return (await tx.scalars(select(User).order_by(User.email))).all()

    for user in _in_database(run):
        seen = iso(user.last_sign_in_at) if user.last_sign_in_at else "never signed in"
        factor = "second factor" if user.totp_at else "password alone"
        typer.echo(f"{user.email}\t{user.name}\t{factor}\t{seen}")


@users_app.command("reset")
def user_reset(email: Annotated[str, typer.Argument(help="E-mail address of the person.")]) -> None:
    """Print a link by which a person who is locked out chooses a new password. Old password, codes and sessions end."""
    from sqlalchemy import select

    from mooring.identity import users
    from mooring.identity.user_models import User

    loaded = load_settings()

    async def run(tx: Any) -> Any:
        user = await tx.scalar(select(User).where(User.email == email.strip().lower()))
        if user is None:
            raise errors.NotFound(f"nobody has the address {email!r}", hint="`mooring user list` shows them.")
        return await users.lock_out(tx, user)

    token = _in_database(run)
    typer.echo(f"{loaded.public_url or 'http://127.0.0.1:8080'}/dashboard/welcome?token={token}")


@audit_app.command("verify")
def audit_verify() -> None:
    """Check that no entry of the audit log was changed, removed or put in between; names the first bad one."""
    from mooring.identity import audit

    verdict = _with_vault(audit.verify)
    if verdict.why:
        typer.echo(f"entry {verdict.seq}: {verdict.why}", err=True)
        raise typer.Exit(1)
    typer.echo(f"{verdict.entries} entries, whole; head {verdict.head}")


@audit_app.command("list")
def audit_list(
    project: Annotated[str | None, typer.Option(help="Only entries of this project.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 100,
) -> None:
    """List entries of the audit log, newest first."""
    from mooring.identity import audit, service
    from mooring.kit.clock import iso

    async def run(tx: Any) -> Any:
        id = (await service.find_project(tx, project)).id if project else None
        return await audit.search(tx, project_id=id, limit=limit)

    rows, _ = _in_database(run)
    for e in rows:
        who = e.actor_label or e.actor_id or e.actor_kind
        what = e.target_label or e.target_id or ""
        typer.echo(f"{e.seq}\t{iso(e.at)}\t{who}\t{e.address or '-'}\t{e.action}\t{e.result}\t{what}")


def _with_vault(action: Callable[[Any, Any], Awaitable[T]]) -> T:
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


@app.command()
def jobs(
    revive: Annotated[int | None, typer.Option(help="Let the dead job with this id run again.")] = None,
) -> None:
    """Show the queues of background work, and the jobs that failed for good."""
    from mooring.kit import jobs as queue

    async def run(tx: Any) -> Any:
        if revive is not None and not await queue.revive(tx, revive):
            raise errors.NotFound(f"no dead job {revive}", hint="`mooring jobs` lists them.")
        return await queue.state(tx), await queue.dead_jobs(tx)

    states, dead = _in_database(run)
    for state in states:
        typer.echo(
            f"{state.kind}\twaiting {state.waiting}\trunning {state.running}\tdead {state.dead}\tage {state.age} s"
        )
    for job in dead:
        typer.echo(f"dead {job.id}\t{job.kind}\t{job.attempts} attempts\t{job.last_error or ''}")


@app.command()
def revoke(
    connector: Annotated[str, typer.Argument(help="Key of the connector whose accounts are revoked and deleted.")],
    project: Annotated[str | None, typer.Option(help="Only accounts of this project.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete all accounts of one connector: shred every credential and revoke it at the provider. Can't be undone."""
    from mooring.operations.mass_revocation import count, run

    loaded = load_database_settings()
    found = asyncio.run(count(loaded, connector, project))
    if found == 0:
        typer.echo("no accounts")
        return
    if not yes and not typer.confirm(f"Shred and revoke {found} accounts of {connector}?"):
        raise typer.Exit(1)
    for done in asyncio.run(run(loaded, connector, project, lambda n: typer.echo(f"{n} of {found}", err=True))):
        typer.echo(done)


attach(app)
