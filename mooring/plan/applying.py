"""Bring the hub to the file: rehearse in a transaction that is rolled back, then do the same in one that is not.

Every step goes through the service that the API and the dashboard use, so its rules, events, audit entries and the news
for running processes are the same. All steps are one transaction: a process that is killed leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.auth_configs import availability
from mooring.auth_configs import service as auth_configs
from mooring.connectors.yaml_source import Location
from mooring.identity import project_settings, projects
from mooring.identity import service as identity
from mooring.identity.project_settings import SettingsChange
from mooring.identity.service import ProjectId
from mooring.kit.db import Database
from mooring.plan.changes import Change, Plan
from mooring.plan.comparison import Comparison, Tools
from mooring.plan.differ import compare
from mooring.plan.reading import HubFile
from mooring.webhooks import secrets
from mooring.webhooks import service as webhooks

_DELETED: Final = ("webhook_secret", "webhook", "auth_config", "project")  # the order of deletions


class _RolledBack(Exception):
    """Ends a transaction of which nothing shall stay."""


async def rehearse(db: Database, tools: Tools, file: HubFile, *, prune: bool = False) -> Plan:
    """What has to change, after every step was tried and taken back. Raises HubFileError with all that is refused."""
    plan = Plan()
    try:
        async with db.begin() as tx:
            plan = await _perform(tx, tools, file, prune=prune)
            raise _RolledBack  # noqa: TRY301 - ends the transaction above
    except _RolledBack:
        return plan


async def apply(db: Database, tools: Tools, file: HubFile, shown: Plan, *, prune: bool = False) -> None:
    """Do what was shown, in one transaction. Raises Conflict when the hub has changed meanwhile."""
    async with db.begin() as tx:
        plan = await _perform(tx, tools, file, prune=prune)
        if plan.as_json() != shown.as_json():
            raise errors.Conflict(
                "the hub changed while the plan was looked at; nothing was written", hint="Run the command again."
            )


async def _perform(tx: AsyncSession, tools: Tools, file: HubFile, *, prune: bool) -> Plan:
    found = await compare(tx, tools, file, prune=prune)
    for change, step in _steps(found):
        if step not in (_organization, _make_project) and change.action != "delete" and not _has_project(found, change):
            continue  # the project was refused, and that was noted
        if step is _make_project and change.at[:2] not in found.organizations:
            continue
        try:
            async with tx.begin_nested():
                await step(found, change)
        except errors.MooringError as e:
            file.refuse(change.at, e)
    file.check()
    await tx.flush()
    tx.expire_all()
    rest = await compare(tx, tools, file, prune=prune)
    if rest.plan.changes:
        left = "; ".join(rest.plan.lines())
        raise errors.Conflict(f"the file can't be reached, this would still differ: {left}")
    return found.plan


_Step = Callable[[Comparison, Change], Awaitable[None]]


def _steps(found: Comparison) -> list[tuple[Change, _Step]]:
    """Changes in an order in which each finds what it needs: connectors are switched off last, deletions come after."""
    changes = [c for c in found.plan.changes if c.action != "delete"]
    steps: list[tuple[Change, _Step]] = [(c, step) for c in changes for step in _STEPS[c.kind]]
    steps += [(c, _switch_off) for c in changes if c.kind == "project"]
    for kind in _DELETED:
        steps += [(c, _DELETIONS[kind]) for c in found.plan.deletions if c.kind == kind]
    return steps


def _has_project(found: Comparison, change: Change) -> bool:
    return _home(change.at) in found.projects


def _home(at: Location) -> Location:
    """The project's place, of a place in a project."""
    return at[:4]


def _project(found: Comparison, change: Change) -> ProjectId:
    return found.projects[_home(change.at)]


async def _organization(found: Comparison, change: Change) -> None:
    row = await identity.create_organization(found.tx, change.want["name"])
    found.organizations[change.at] = row.id


async def _make_project(found: Comparison, change: Change) -> None:
    if change.action == "create":
        row = await identity.create_project(found.tx, found.organizations[change.at[:2]], change.want["name"])
        found.projects[change.at] = ProjectId(row.id)
    elif change.action == "restore":
        await projects.restore(found.tx, _project(found, change))


async def _write_project(found: Comparison, change: Change) -> None:
    want, id = change.want, _project(found, change)
    if any(f.name == "name" for f in change.fields):
        await projects.rename(found.tx, id, want["name"])
    if "log_days" in want:
        await projects.set_log_days(found.tx, id, want["log_days"])
    if "ip_allowlist" in want:
        await projects.set_ip_allowlist(found.tx, id, want["ip_allowlist"])
    if want["settings"]:
        await project_settings.change(found.tx, id, SettingsChange(**want["settings"]))
    for key in want.get("available", ()):
        connector = found.tools.registry.get(key)
        if connector is not None:
            await availability.switch_on(found.tx, id, connector)


async def _switch_off(found: Comparison, change: Change) -> None:
    for key, reason in change.want.get("unavailable", {}).items():
        connector = auth_configs.find_connector(found.tools.registry, key)
        await availability.switch_off(found.tx, _project(found, change), connector, reason)


async def _write_auth_config(found: Comparison, change: Change) -> None:
    tools, want = found.tools, change.want
    common = (found.tx, tools.vault, tools.registry, _project(found, change))
    name, pin, setup, active = (want.get(key) for key in ("name", "pin", "setup", "active"))
    default = want.get("default") or None  # that another one takes its place is said there
    if change.id is not None:
        await auth_configs.change(*common, change.id, name=name, pin=pin, setup=setup, active=active, default=default)
        return
    await auth_configs.create(
        *common,
        connector_key=want["connector_key"],
        method_key=want["method_key"],
        name=name,
        environment=want.get("environment"),
        pin=pin,
        setup=setup,
        default=default,
        active=active is not False,
    )


async def _write_webhook(found: Comparison, change: Change) -> None:
    tools, want, project = found.tools, change.want, _project(found, change)
    plain = {key: want[key] for key in ("url", "description", "events", "enabled") if key in want}
    added = list(want.get("add", ()))
    if change.id is None:
        row, _ = await webhooks.create(found.tx, tools.vault, tools.guard, project, **plain, secret=added.pop(0))
    elif plain:
        row = await webhooks.change(found.tx, tools.guard, project, change.id, plain)
    else:
        row = await webhooks.get(found.tx, project, change.id, lock=True)
    for secret in added:
        await secrets.add(found.tx, tools.vault, row, active=True, secret=secret)
    for id in want.get("wake", ()):
        await secrets.switch(found.tx, row, id, active=True)


async def _delete_secret(found: Comparison, change: Change) -> None:
    assert change.id is not None
    row = await webhooks.get(found.tx, _project(found, change), change.want["endpoint"], lock=True)
    await secrets.remove(found.tx, row, change.id)


async def _delete_webhook(found: Comparison, change: Change) -> None:
    assert change.id is not None
    await webhooks.remove(found.tx, _project(found, change), change.id)


async def _delete_auth_config(found: Comparison, change: Change) -> None:
    assert change.id is not None
    await auth_configs.remove(found.tx, _project(found, change), change.id)


async def _delete_project(found: Comparison, change: Change) -> None:
    assert change.id is not None
    await projects.delete(found.tx, change.id)


_STEPS: Final[dict[str, tuple[_Step, ...]]] = {
    "organization": (_organization,),
    "project": (_make_project, _write_project),
    "auth_config": (_write_auth_config,),
    "webhook": (_write_webhook,),
}
_DELETIONS: Final[dict[str, _Step]] = {
    "webhook_secret": _delete_secret,
    "webhook": _delete_webhook,
    "auth_config": _delete_auth_config,
    "project": _delete_project,
}
