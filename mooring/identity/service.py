"""Rules and queries for organizations, projects and API keys."""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Final, Literal, NewType, get_args

from sqlalchemy import func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.identity import audit
from mooring.identity.addresses import Network, contains, parse_networks
from mooring.identity.models import ApiKey, Organization, Project, ProjectSettingsRow
from mooring.identity.scopes import DEFAULT, SCOPES
from mooring.kit import clock, ids
from mooring.kit.db import record_change

ProjectId = NewType("ProjectId", str)
"""A project that the caller has proven to belong to. Only authentication makes one from outside input."""

Approval = Literal["delete", "write"]
"""Which actions a person has to approve before a key runs them: those that delete, or all that change something."""

REGION = "local"
CHALLENGE: Final = {"www-authenticate": 'Basic realm="mooring", charset="UTF-8"'}  # RFC 9110 §11.6.1
_MADE = re.compile(r"v1\.[a-z0-9-]{1,20}\.([A-Za-z0-9]{1,40})\.[A-Za-z0-9_-]{40,200}")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: one API key of one project."""

    key_id: str
    project_id: ProjectId
    organization_id: int
    scopes: frozenset[str]
    advanced_logs: str = "off"  # the project's switch: off, errors or all
    advanced_logs_days: int = 7
    networks: tuple[Network, ...] = ()
    """Where the key may be used from; empty means anywhere."""
    accounts: frozenset[str] | None = None
    """The only accounts that the key may call through."""
    actions: tuple[str, ...] | None = None
    """The only actions that it may run, as patterns."""
    approval: Approval | None = None
    """Which of its calls a person has to approve first."""
    reads_only: bool = False
    """Whether it may only run actions that change nothing: what an end user allowed an assistant."""
    expires: float | None = None
    """When the key stops by itself, as UNIX time."""

    def require_life(self) -> None:
        """Raise Unauthorized once the key has expired; callers are remembered, so each call asks."""
        if self.expires is not None and clock.timestamp() >= self.expires:
            raise errors.Unauthorized(
                "the API key has expired",
                hint="An admin of the project makes a new one, under API keys or with `mooring api-key create`.",
                headers=CHALLENGE,
            )

    def require_account(self, account_id: str) -> None:
        """Raise Forbidden for an account outside the key's list, whether there is such an account or not."""
        if self.accounts is not None and account_id not in self.accounts:
            raise errors.Forbidden(
                "this API key may not use this account",
                code="AccountNotAllowedError",
                hint="It was limited to certain accounts when it was made.",
            )

    def may_run(self, action: str) -> bool:
        """Whether the key may run an action, given by its whole name, such as `redmine_list_issues`."""
        return self.actions is None or any(fnmatchcase(action, pattern) for pattern in self.actions)

    def require_action(self, action: str) -> None:
        """Raise Forbidden for an action outside the key's list."""
        if not self.may_run(action):
            raise errors.Forbidden(
                f"this API key may not run {action[:120]}",
                code="ActionNotAllowedError",
                hint="It was limited to certain actions when it was made.",
            )

    def require_effects(self, *, reads: bool) -> None:
        """Raise Forbidden for an action that changes something, for a caller that may only read."""
        if self.reads_only and not reads:
            raise errors.Forbidden(
                "this assistant was allowed to read, not to change anything",
                code="ReadOnlyGrantError",
                hint="Connect it again and allow it to read and write.",
            )

    def require_free_hand(self) -> None:
        """Raise Forbidden where a change can't be told from a deletion, for a key whose calls a person approves."""
        if self.approval is not None:
            raise errors.Forbidden(
                "a call of this API key that changes something needs a person's approval, and a raw call can't wait for it",
                code="ApprovalRequiredError",
                hint="Run it as an action, over POST /actions/rpc or /mcp.",
            )

    def require_address(self, address: str | None) -> None:
        """Raise Forbidden unless the project's allowlist permits the caller's address."""
        if self.networks and not contains(self.networks, address):
            raise errors.Forbidden(
                "calls from this address are not allowed",
                code="AddressNotAllowedError",
                hint="An admin of the project keeps the list of allowed addresses, under Settings.",
            )

    def require(self, scope: str) -> None:
        """Raise Forbidden unless the key has the scope."""
        if scope not in self.scopes:
            raise errors.Forbidden(
                f"this API key lacks the scope {scope!r}",
                hint=f"Use a key with {scope} ({SCOPES[scope]}).",
            )


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A new API key; `secret` is the whole key and is shown this once."""

    id: str
    secret: str

    def __repr__(self) -> str:
        return f"<MadeKey {self.id}>"


def key_id_of(key: str) -> str:
    """The public part by which a key is looked up. A bootstrap key has none, so a hash of it serves."""
    made = _MADE.fullmatch(key)
    return made[1] if made else "b" + ids.digest("mooring key id:" + key).hex()[:24]


async def authenticate(tx: AsyncSession, key: str) -> Caller:
    """Find the caller of an API key. Raises Unauthorized, the same for unknown, wrong and disabled keys."""
    if 0 < len(key) <= 512:
        row = (
            await tx.execute(
                select(
                    ApiKey,
                    Project.organization_id,
                    Project.ip_allowlist,
                    ProjectSettingsRow.advanced_logs,
                    ProjectSettingsRow.advanced_logs_days,
                )
                .join(Project, Project.id == ApiKey.project_id)
                .outerjoin(ProjectSettingsRow, ProjectSettingsRow.project_id == Project.id)
                .where(ApiKey.id == key_id_of(key), Project.deleted_at.is_(None))
            )
        ).first()
        if row is not None and hmac.compare_digest(row[0].hash, ids.digest(key)) and row[0].enabled:
            found: ApiKey = row[0]
            caller = Caller(
                found.id,
                ProjectId(found.project_id),
                row[1],
                frozenset(found.scopes),
                networks=parse_networks(row[2]),
                accounts=frozenset(found.allowed_accounts) if found.allowed_accounts is not None else None,
                actions=tuple(found.allowed_actions) if found.allowed_actions is not None else None,
                approval=_approval(found.approval),
                expires=found.expires_at.timestamp() if found.expires_at is not None else None,
            )
            caller.require_life()
            return caller if row[3] is None else replace(caller, advanced_logs=row[3], advanced_logs_days=row[4])
    raise errors.Unauthorized("the API key is unknown or disabled", headers=CHALLENGE)


def _approval(stored: str | None) -> Approval | None:
    # A word that an older process does not know must not lift the need.
    return stored if stored in {None, "delete"} else "write"  # type: ignore[return-value]


async def mark_used(tx: AsyncSession, used: Iterable[tuple[str, datetime]]) -> None:
    """Write when keys were last used; called in batches, never per request. The time never goes back."""
    for key_id, at in sorted(used):  # in one order, so that two processes can't wait for each other in a circle
        unseen = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < at)
        await tx.execute(update(ApiKey).where(ApiKey.id == key_id, unseen).values(last_used_at=at))


async def lock_project(tx: AsyncSession, project: ProjectId) -> None:
    """Let those who decide something for a whole project go one after the other, until this transaction ends.

    For rules over several rows: one default per connector, one account per owner. SQLite has one writer anyway.
    """
    await tx.execute(select(Project.id).where(Project.id == project).with_for_update(key_share=True))


async def create_organization(tx: AsyncSession, name: str) -> Organization:
    """Create an organization. Raises Conflict when the name is taken."""
    if (await tx.execute(select(Organization.id).where(Organization.name == name))).first():
        raise errors.Conflict(f"an organization named {name!r} exists")
    organization = Organization(name=name, created_at=clock.now())
    tx.add(organization)
    await tx.flush()
    target = ("organization", str(organization.id))
    audit.note(tx, "organization.created", organization_id=organization.id, target=target, label=name)
    return organization


async def create_project(tx: AsyncSession, organization_id: int, name: str) -> Project:
    """Create a project. Its id is a slug of the name and five digits, like `acme-27270`."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "project"
    id = _numbered(slug)
    while await tx.get(Project, id) is not None:
        id = _numbered(slug)
    project = Project(
        id=id, organization_id=organization_id, name=name, created_at=clock.now(), ip_allowlist=[], log_days=90
    )
    tx.add(project)
    record_change(tx, "project_origins", "all")
    await tx.flush()
    target = ("project", id)
    audit.note(tx, "project.created", project_id=id, organization_id=organization_id, target=target, label=name)
    return project


def _numbered(slug: str) -> str:
    return f"{slug}-{secrets.randbelow(90_000) + 10_000}"


async def find_project(tx: AsyncSession, name_or_id: str) -> Project:
    """A project by id or by a name that is not ambiguous. For the command line. Raises NotFound or Conflict."""
    rows: Sequence[Project] = (
        await tx.scalars(select(Project).where((Project.id == name_or_id) | (Project.name == name_or_id)))
    ).all()
    if not rows:
        raise errors.NotFound(f"no project {name_or_id!r}", hint="`mooring project list` shows them.")
    if len(rows) > 1:
        raise errors.Conflict(
            f"several projects are named {name_or_id!r}: {', '.join(p.id for p in rows)}", hint="Use the id."
        )
    return rows[0]


async def list_projects(tx: AsyncSession) -> Sequence[tuple[Project, str]]:
    """All projects with the names of their organizations. For the command line."""
    result = await tx.execute(
        select(Project, Organization.name)
        .join(Organization, Organization.id == Project.organization_id)
        .order_by(Project.created_at)
    )
    return [(row[0], row[1]) for row in result]


def check_scopes(scopes: Iterable[str]) -> list[str]:
    """The scopes in canonical order. Raises ValidationFailed for an unknown one."""
    wanted = set(scopes)
    unknown = sorted(wanted - set(SCOPES))
    if unknown:
        raise errors.ValidationFailed(
            f"unknown scope: {', '.join(unknown)}", errors=[f"known scopes: {', '.join(SCOPES)}"]
        )
    return [s for s in SCOPES if s in wanted]


def scopes_within(actions: Sequence[str] | None) -> tuple[str, ...]:
    """What a limited key may do at most: calls, or with a list of actions, those alone."""
    return CALLING if actions is None else ("actions:execute",)


CALLING: Final = ("unified:read", "unified:write", "actions:execute")  # what a limited key may do at most
_PATTERN: Final = re.compile(r"[a-z0-9*][a-z0-9_*-]{0,199}")


def check_limits(
    scopes: list[str] | None,
    accounts: Sequence[str] | None,
    actions: Sequence[str] | None,
    approval: str | None = None,
) -> list[str] | None:
    """The scopes of a key with these limits: only those of calls, with a list of actions only that of actions.

    Raises ValidationFailed for another scope, an empty list, or what is no name of an action.
    """
    if accounts is None and actions is None and approval is None:
        return scopes
    faults = []
    if approval not in {None, *get_args(Approval)}:
        faults.append(f"approval: must be one of {', '.join(get_args(Approval))}")
    if accounts is not None and not accounts:
        faults.append("allowed_accounts: name at least one account")
    if actions is not None and not actions:
        faults.append("allowed_actions: name at least one action")
    faults += [
        f"allowed_actions: {name[:80]!r} is no action such as redmine_list_issues, or a pattern such as redmine_list_*"
        for name in actions or ()
        if not _PATTERN.fullmatch(name)
    ]
    possible = scopes_within(actions)
    if wrong := [scope for scope in scopes or () if scope not in possible]:
        faults.append(f"scopes: a key that is limited can't have {', '.join(wrong)}; it can have {', '.join(possible)}")
    if faults:
        raise errors.ValidationFailed("Validation failed", errors=faults)
    return scopes if scopes is not None else list(possible)


async def create_api_key(
    tx: AsyncSession,
    project_id: str,
    label: str,
    scopes: Iterable[str] | None = None,
    *,
    accounts: Sequence[str] | None = None,
    actions: Sequence[str] | None = None,
    approval: str | None = None,
    expires_at: datetime | None = None,
) -> MadeKey:
    """Create an API key of the form `v1.<region>.<id>.<secret>`. The secret has 256 bits and is not kept.

    `accounts`, `actions` and `approval` limit it, see `check_limits`; at `expires_at` it stops by itself.
    """
    if expires_at is not None and expires_at <= clock.now():
        raise errors.ValidationFailed("Validation failed", errors=["expires_at: must be a time to come"])
    wanted = check_limits(list(scopes) if scopes is not None else None, accounts, actions, approval)
    key_id = ids.nanoid(16)
    secret = f"v1.{REGION}.{key_id}.{ids.secret_token()}"
    tx.add(
        ApiKey(
            id=key_id,
            project_id=project_id,
            label=label,
            hash=ids.digest(secret),
            scopes=check_scopes(DEFAULT if wanted is None else wanted),
            allowed_accounts=list(dict.fromkeys(accounts)) if accounts is not None else None,
            allowed_actions=list(dict.fromkeys(actions)) if actions is not None else None,
            approval=approval,
            enabled=True,
            created_at=clock.now(),
            expires_at=expires_at,
        )
    )
    await tx.flush()
    audit.note(tx, "api_key.created", project_id=project_id, target=("api_key", key_id), label=label)
    return MadeKey(key_id, secret)


async def list_api_keys(tx: AsyncSession, project_id: str | None = None) -> Sequence[ApiKey]:
    """API keys, oldest first, of one project or of all."""
    query = select(ApiKey).order_by(ApiKey.created_at, ApiKey.id)
    if project_id is not None:
        query = query.where(ApiKey.project_id == project_id)
    return (await tx.scalars(query)).all()


async def _api_key(tx: AsyncSession, key_id: str, project_id: str | None) -> ApiKey:
    row = await tx.get(ApiKey, key_id)
    if row is None or project_id not in {None, row.project_id}:
        raise errors.NotFound("no such API key", hint="`mooring api-key list` shows their ids.")
    return row


async def set_api_key_enabled(tx: AsyncSession, key_id: str, *, enabled: bool, project_id: str | None = None) -> ApiKey:
    """Enable or disable an API key; every worker notices within a second. With a project, only a key of it."""
    row = await _api_key(tx, key_id, project_id)
    row.enabled = enabled
    action = "api_key.enabled" if enabled else "api_key.disabled"
    audit.note(tx, action, project_id=row.project_id, target=("api_key", row.id), label=row.label)
    record_change(tx, "api_key", row.id)
    return row


async def delete_api_key(tx: AsyncSession, key_id: str, *, project_id: str | None = None) -> ApiKey:
    """Delete an API key for good; every worker notices within a second. With a project, only a key of it."""
    row = await _api_key(tx, key_id, project_id)
    await tx.delete(row)
    audit.note(tx, "api_key.deleted", project_id=row.project_id, target=("api_key", row.id), label=row.label)
    record_change(tx, "api_key", row.id)
    return row


async def bootstrap(tx: AsyncSession, key: str) -> bool:
    """Create organization and project `default` with this key, all scopes, when the database is empty.

    Returns whether anything was created.
    """
    if (await tx.scalar(select(func.count()).select_from(Organization))) or 0:
        return False
    organization = await create_organization(tx, "default")
    project = await create_project(tx, organization.id, "default")
    tx.add(
        ApiKey(
            id=key_id_of(key),
            project_id=project.id,
            label="bootstrap",
            hash=ids.digest(key),
            scopes=list(SCOPES),
            enabled=True,
            created_at=clock.now(),
        )
    )
    await tx.flush()
    return True
