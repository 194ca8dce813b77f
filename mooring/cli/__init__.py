"""Every command once; `docs/cli.md` is generated from it. Imports that cost time happen inside the commands."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mooring import __version__, errors, supervisor
from mooring.cli import plan, workbench
from mooring.cli.accounts import accounts_app
from mooring.cli.connectors import connectors_app
from mooring.cli.identity import audit_app, keys_app, projects_app, users_app
from mooring.cli.owner import owner_app
from mooring.cli.shared import in_database, load_database_settings, load_settings
from mooring.kit.process import forbid_core_dumps
from mooring.operations.cli import attach

app = typer.Typer(
    name="mooring",
    help="Mooring, the self-hosted integration hub.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
workbench.attach(connectors_app)
app.add_typer(connectors_app, name="connectors")
app.add_typer(keys_app, name="api-key")
app.add_typer(projects_app, name="project")
app.add_typer(users_app, name="user")
app.add_typer(audit_app, name="audit")
app.add_typer(owner_app, name="owner")
app.add_typer(accounts_app, name="accounts")

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
    forbid_core_dumps()  # commands open credentials too; the limit outlives `exec`, so the supervisor inherits it (rule V6)


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
    no_background: Annotated[
        bool,
        typer.Option(
            "--no-background", help="Serve alone: webhooks, refreshes ahead and probes are left to other hosts."
        ),
    ] = False,
) -> None:
    """Run the hub: its web processes, and a courier that keeps refreshes safe from their crashes."""
    loaded = load_database_settings()  # before the imports that cost time: a wrong setting is told at once
    if supervisor.ROLE not in os.environ:
        check_port(host, port)
        if not single_process:
            more = ["--no-background"] if no_background else []
            _supervise("--host", host, "--port", str(port), "--workers", str(workers), *more)
        elif workers != 1:
            raise errors.ConfigurationError("--single-process: can't be joined with --workers")
    from mooring.serve import serve as run

    raise typer.Exit(run(loaded, host=host, port=port, background=not no_background))


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


@app.command("setup-link")
def setup_link() -> None:
    """Print the link by which the first person sets this installation up. It works once; older ones stop."""
    from mooring.identity import users

    loaded = load_settings()
    token = in_database(users.make_setup_token)
    typer.echo(f"{loaded.public_url or 'http://127.0.0.1:8080'}/dashboard/set-up?token={token}")


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

    states, dead = in_database(run)
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
plan.attach(app)
