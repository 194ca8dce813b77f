"""Commands for keys, projects, people and the audit log: who may do what, and what was done."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from mooring import errors
from mooring.cli.shared import in_database, load_settings, with_vault

keys_app = typer.Typer(help="Create, list, disable and revoke API keys.", no_args_is_help=True)
projects_app = typer.Typer(help="Create and list projects.", no_args_is_help=True)
users_app = typer.Typer(help="List the people of the dashboard, and let in who is locked out.", no_args_is_help=True)
audit_app = typer.Typer(help="Read and verify the audit log.", no_args_is_help=True)


@keys_app.command("create")
def api_key_create(
    label: Annotated[str, typer.Option(help="What the key is for.")] = "default",
    project: Annotated[str | None, typer.Option(help="Project id or name; the only one needs no naming.")] = None,
    scopes: Annotated[
        str | None, typer.Option(help="Comma separated scopes; all that need no naming by default.")
    ] = None,
    account: Annotated[list[str] | None, typer.Option(help="Only through this account; repeatable.")] = None,
    action: Annotated[
        list[str] | None, typer.Option(help="Only this action, or a pattern such as redmine_list_*; repeatable.")
    ] = None,
    approval: Annotated[
        str | None, typer.Option(help="What a person has to approve in the dashboard first: delete, or every write.")
    ] = None,
    days: Annotated[int | None, typer.Option(help="Days after which it stops by itself.", min=1, max=3650)] = None,
) -> None:
    """Create an API key. It is printed this once, alone on standard output."""
    from mooring.identity import service
    from mooring.kit import clock

    async def run(tx: Any) -> Any:
        found = await _project(tx, project)
        words = None if scopes is None else [s.strip() for s in scopes.split(",") if s.strip()]
        return found, await service.create_api_key(
            tx,
            found.id,
            label,
            words,
            accounts=account or None,
            actions=action or None,
            approval=approval,
            expires_at=clock.now() + timedelta(days=days) if days is not None else None,
        )

    found, made = in_database(run)
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

    for key in in_database(run):
        used = iso(key.last_used_at) if key.last_used_at else "never used"
        state = "enabled" if key.enabled else "disabled"
        typer.echo(f"{key.id}\t{key.project_id}\t{key.label}\t{state}\t{used}\t{','.join(key.scopes)}")


KeyId = Annotated[str, typer.Argument(help="Id of the key, as `api-key list` shows it.")]


def _with_key(key_id: str, action: Callable[[Any, str], Awaitable[Any]]) -> None:
    try:
        in_database(lambda tx: action(tx, key_id))
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

    typer.echo(in_database(run).id)


@projects_app.command("list")
def project_list() -> None:
    """List projects with their organizations."""
    from mooring.identity import service

    for project, organization in in_database(service.list_projects):
        typer.echo(f"{project.id}\t{project.name}\t{organization}")


@users_app.command("list")
def user_list() -> None:
    """List the people who may sign in to the dashboard."""
    from sqlalchemy import select

    from mooring.identity.user_models import User
    from mooring.kit.clock import iso

    async def run(tx: Any) -> Any:
        return (await tx.scalars(select(User).order_by(User.email))).all()

    for user in in_database(run):
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

    token = in_database(run)
    typer.echo(f"{loaded.public_url or 'http://127.0.0.1:8080'}/dashboard/welcome?token={token}")


@audit_app.command("verify")
def audit_verify(
    anchors: Annotated[
        Path | None,
        typer.Option(
            help="A log of the hub (`-`: standard input), kept apart from the database. Its signed lines `audit log` show "
            "whether the tail was cut off or an older copy of the database was put back.",
            allow_dash=True,
        ),
    ] = None,
) -> None:
    """Check that no entry of the audit log was changed, removed or put in between; names the first bad one."""
    from mooring.identity import audit

    found: list[audit.Anchor] = []
    if anchors is not None:
        try:
            lines = sys.stdin.readlines() if str(anchors) == "-" else anchors.read_text(errors="replace").splitlines()
        except OSError as e:
            raise errors.ConfigurationError(f"--anchors: can't read {anchors}: {e.strerror}") from None
        found = audit.read_anchors(lines)
        if not found:
            raise errors.ConfigurationError(f"--anchors: {anchors} holds no line `audit log` of a hub")
    verdict = with_vault(lambda db, vault: audit.verify(db, vault, found))
    if verdict.why:
        typer.echo(f"entry {verdict.seq}: {verdict.why}", err=True)
        raise typer.Exit(1)
    held = f"; {len(found)} anchors hold, the last of {found[-1].at}" if found else ""
    typer.echo(f"{verdict.entries} entries, whole; head {verdict.head}{held}")


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

    rows, _ = in_database(run)
    for e in rows:
        who = e.actor_label or e.actor_id or e.actor_kind
        what = e.target_label or e.target_id or ""
        typer.echo(f"{e.seq}\t{iso(e.at)}\t{who}\t{e.address or '-'}\t{e.action}\t{e.result}\t{what}")
