"""People: the first set-up, invitations, signing in, passwords, members."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.identity import audit, passwords, roles, secrets, service, sessions, throttle
from mooring.identity.audit_models import AuditHead
from mooring.identity.models import Organization, Project
from mooring.identity.user_models import OrganizationMember, ProjectMember, User, UserToken
from mooring.kit import clock, ids
from mooring.kit.db import Database

SETUP: Final = timedelta(hours=24)
INVITE: Final = timedelta(days=7)
_EMAIL = re.compile(r"[^@\s<>\"',;]{1,64}@[^@\s<>\"',;]{1,189}")
REFUSED: Final = "e-mail address, password or code is wrong"


def clean_email(text: str) -> str:
    """The address as it is kept. Raises ValidationFailed."""
    email = text.strip().lower()
    if not _EMAIL.fullmatch(email) or not email.isprintable():
        raise errors.ValidationFailed("this is no e-mail address", errors=["email: must look like name@example.com"])
    return email


def clean_name(text: str, what: str = "name") -> str:
    """A name as it is kept. Raises ValidationFailed."""
    name = " ".join(text.split())
    if not name or len(name) > 200 or not name.isprintable():
        raise errors.ValidationFailed(
            f"the {what} is not valid", errors=[f"{what}: needs 1 to 200 printable characters"]
        )
    return name


async def any_user(tx: AsyncSession) -> bool:
    """Whether somebody was set up."""
    return (await tx.execute(select(User.id).limit(1))).first() is not None


async def make_setup_token(tx: AsyncSession) -> str:
    """A new set-up token; older ones stop. Raises Conflict once somebody is set up."""
    if await any_user(tx):
        raise errors.Conflict(
            "this installation is set up",
            hint="An admin can invite people; `mooring user reset` lets somebody in who is locked out.",
        )
    await tx.execute(delete(UserToken).where(UserToken.purpose == "setup"))
    return await _token(tx, "setup", None, SETUP)


async def announce_set_up(db: Database, public_url: str) -> str | None:
    """The link of the first set-up for the host's standard error: once per token, None when nobody needs it."""
    async with db.read() as tx:
        if await any_user(tx):
            return None
    async with db.begin() as tx:
        await tx.get(AuditHead, 1, with_for_update=True)  # several workers start at once: one of them says it
        live = select(UserToken.hash).where(UserToken.purpose == "setup", UserToken.expires_at > clock.now())
        if (await tx.execute(live)).first() is not None:
            return None
        token = await make_setup_token(tx)
    return f"{public_url}/dashboard/set-up?token={token}"


async def make_invitation(tx: AsyncSession, user: User) -> str:
    """A link's token by which a person chooses a password; older ones stop."""
    await tx.execute(delete(UserToken).where(UserToken.user_id == user.id))
    return await _token(tx, "invite", user.id, INVITE)


async def _token(tx: AsyncSession, purpose: str, user_id: str | None, life: timedelta) -> str:
    token = ids.secret_token()
    now = clock.now()
    tx.add(UserToken(hash=ids.digest(token), purpose=purpose, user_id=user_id, created_at=now, expires_at=now + life))
    await tx.flush()
    return token


async def find_token(tx: AsyncSession, purpose: str, token: str) -> UserToken:
    """A live token. Raises NotFound, the same for unknown, spent and old ones."""
    row = await tx.get(UserToken, ids.digest(token)) if 0 < len(token) <= 200 else None
    if row is None or row.purpose != purpose or row.expires_at <= clock.now():
        what = "`mooring setup-link` prints a new one." if purpose == "setup" else "Ask an admin for a new one."
        raise errors.NotFound("this link is not valid any more", hint=what)
    return row


async def set_up(
    db: Database, *, token: str, email: str, name: str, password: str, organization: str, project: str
) -> User:
    """Make the first person, admin of every organization, with a first project if there is none. Spends the token.

    Raises NotFound for a bad token, ValidationFailed.
    """
    email, name = clean_email(email), clean_name(name)
    passwords.check_strength(password, email, name)
    async with db.read() as tx:
        await find_token(tx, "setup", token)
    hash = await passwords.hash_password(password)
    async with db.begin() as tx:
        row = await find_token(tx, "setup", token)
        await tx.delete(row)
        if await any_user(tx):
            raise errors.Conflict("this installation is set up already")
        user = await create(tx, email, name, hash=hash)
        found = list(await tx.scalars(select(Organization)))
        if not found:
            found = [await service.create_organization(tx, clean_name(organization, "organization"))]
        elif len(found) == 1 and found[0].name == "default" and organization.strip():
            found[0].name = clean_name(organization, "organization")
        for one in found:
            tx.add(OrganizationMember(organization_id=one.id, user_id=user.id, role="admin"))
        if (await tx.execute(select(Project.id).limit(1))).first() is None:
            await service.create_project(tx, found[0].id, clean_name(project, "project"))
        await tx.flush()
        audit.note(
            tx,
            "installation.set_up",
            organization_id=found[0].id,
            target=("user", user.id),
            label=email,
            actor=audit.Actor("user", user.id, email),
        )
    return user


async def create(tx: AsyncSession, email: str, name: str, *, hash: str | None = None) -> User:
    """Add a person without any role. Raises Conflict for a taken address."""
    if await tx.scalar(select(User.id).where(User.email == email)):
        raise errors.Conflict("somebody with this e-mail address exists")
    user = User(
        id=ids.nanoid(),
        email=email,
        name=name,
        password_hash=hash,
        recovery=[],
        totp_step=0,
        enabled=True,
        created_at=clock.now(),
    )
    tx.add(user)
    try:
        await tx.flush()
    except IntegrityError:
        raise errors.Conflict("somebody with this e-mail address exists") from None
    return user


async def by_password(db: Database, email: str, password: str, address: str | None) -> User:
    """The person of an address and a password. Raises Unauthorized, the same whatever was wrong; RateLimited."""
    account = email.strip().lower()[:254]
    async with db.read() as tx:
        await throttle.check(tx, account, address)
        user = await tx.scalar(select(User).where(User.email == account))
    right = await passwords.verify(user.password_hash if user else None, password)
    if user is None or not right or not user.enabled:
        await note_failure(db, account, address, user)
        raise errors.Unauthorized(REFUSED, hint="Try again, or ask an admin for a new link.")
    return user


async def note_failure(db: Database, account: str, address: str | None, user: User | None) -> None:
    """Count a failed sign-in, and note it in the audit log when it concerns somebody."""
    async with db.begin() as tx:
        await throttle.failed(tx, account, address)
        if user is not None:
            audit.note(
                tx,
                "session.refused",
                target=("user", user.id),
                label=user.email,
                result="refused",
                actor=audit.Actor("user", user.id, user.email, address),
            )


async def forget_failures(tx: AsyncSession, user: User) -> None:
    """A person signed in: what was mistyped before counts no more."""
    await throttle.succeeded(tx, user.email)


async def choose_password(db: Database, token: str, password: str, name: str | None = None) -> User:
    """Set the password of an invited person and spend the invitation. Ends all of their sessions."""
    async with db.read() as tx:
        row = await find_token(tx, "invite", token)
        user = await tx.get_one(User, row.user_id)
    passwords.check_strength(password, user.email, name or user.name)
    hash = await passwords.hash_password(password)
    async with db.begin() as tx:
        row = await find_token(tx, "invite", token)
        user = await tx.get_one(User, row.user_id)
        await tx.delete(row)
        user.password_hash = hash
        if name:
            user.name = clean_name(name)
        await sessions.end_all(tx, user.id)
        actor = audit.Actor("user", user.id, user.email)
        audit.note(tx, "user.password_changed", target=("user", user.id), label=user.email, actor=actor)
    return user


async def change_password(db: Database, signed_in: sessions.SignedIn, old: str, new: str) -> None:
    """Change one's own password; every other session ends. Raises Unauthorized, ValidationFailed."""
    user = signed_in.user
    await by_password(db, user.email, old, signed_in.session.address)
    passwords.check_strength(new, user.email, user.name)
    hash = await passwords.hash_password(new)
    async with db.begin() as tx:
        row = await tx.get_one(User, user.id)
        row.password_hash = hash
        await sessions.end_all(tx, user.id, but=signed_in.session.id)
        audit.note(tx, "user.password_changed", target=("user", user.id), label=user.email)


async def members(tx: AsyncSession, organization_id: int) -> Sequence[tuple[User, str]]:
    """The people of an organization with their roles in it, by name."""
    rows = await tx.execute(
        select(User, OrganizationMember.role)
        .join(OrganizationMember, OrganizationMember.user_id == User.id)
        .where(OrganizationMember.organization_id == organization_id)
        .order_by(func.lower(User.name), User.id)
    )
    return [(row[0], row[1]) for row in rows]


async def project_roles(tx: AsyncSession, project_id: str) -> dict[str, str]:
    """User → role, of those who have one of their own in the project."""
    rows = await tx.execute(
        select(ProjectMember.user_id, ProjectMember.role).where(ProjectMember.project_id == project_id)
    )
    return {row[0]: row[1] for row in rows}


async def invite(tx: AsyncSession, organization_id: int, email: str, name: str, role: str) -> tuple[User, str | None]:
    """Add somebody to an organization; returns the person, and the token of their link if they have no way in yet."""
    email = clean_email(email)
    roles.check_role(role, roles.ORGANIZATION_ROLES)
    user = await tx.scalar(select(User).where(User.email == email))
    if user is None:
        user = await create(tx, email, clean_name(name or email.partition("@")[0]))
    if await tx.get(OrganizationMember, (organization_id, user.id)) is not None:
        raise errors.Conflict("this person is a member already")
    tx.add(OrganizationMember(organization_id=organization_id, user_id=user.id, role=role))
    await tx.flush()
    detail = {"role": role}
    audit.note(
        tx, "member.added", organization_id=organization_id, target=("user", user.id), label=email, detail=detail
    )
    return user, await make_invitation(tx, user) if user.password_hash is None else None


async def set_organization_role(tx: AsyncSession, organization_id: int, user_id: str, role: str | None) -> None:
    """Change a member's role, or take them out (None) with their roles in its projects.

    Raises NotFound; Conflict when nobody could administer the organization any more.
    """
    row = await _member(tx, organization_id, user_id)
    if row.role == "admin" and role != "admin":
        others = await tx.scalar(
            select(func.count())
            .select_from(OrganizationMember)
            .join(User, User.id == OrganizationMember.user_id)
            .where(
                OrganizationMember.organization_id == organization_id,
                OrganizationMember.role == "admin",
                OrganizationMember.user_id != user_id,
                User.enabled,
            )
        )
        if not others:
            raise errors.Conflict("an organization keeps at least one admin", hint="Make somebody else an admin first.")
    user = await tx.get_one(User, user_id)
    if role is None:
        await tx.delete(row)
        own = select(Project.id).where(Project.organization_id == organization_id)
        await tx.execute(
            delete(ProjectMember).where(ProjectMember.user_id == user_id, ProjectMember.project_id.in_(own))
        )
    else:
        row.role = roles.check_role(role, roles.ORGANIZATION_ROLES)
    await tx.flush()
    audit.note(
        tx,
        "member.removed" if role is None else "member.role_changed",
        organization_id=organization_id,
        target=("user", user_id),
        label=user.email,
        detail={"role": role},
    )


async def set_project_role(tx: AsyncSession, project: Project, user_id: str, role: str | None) -> None:
    """Give a member of the organization a role in a project, or take it away (None). Raises NotFound."""
    await _member(tx, project.organization_id, user_id)
    user = await tx.get_one(User, user_id)
    row = await tx.get(ProjectMember, (project.id, user_id))
    if role is None:
        if row is not None:
            await tx.delete(row)
    elif row is None:
        role = roles.check_role(role, roles.PROJECT_ROLES)
        tx.add(ProjectMember(project_id=project.id, user_id=user_id, role=role))
    else:
        row.role = roles.check_role(role, roles.PROJECT_ROLES)
    await tx.flush()
    audit.note(
        tx,
        "project.role_changed",
        project_id=project.id,
        organization_id=project.organization_id,
        target=("user", user_id),
        label=user.email,
        detail={"role": role},
    )


async def _member(tx: AsyncSession, organization_id: int, user_id: str) -> OrganizationMember:
    row = await tx.get(OrganizationMember, (organization_id, user_id), with_for_update=True)
    if row is None:
        raise errors.NotFound("no such member")
    return row


async def reset_access(tx: AsyncSession, organization_id: int, user_id: str) -> tuple[User, str]:
    """A new link for somebody who is locked out: the old password and second factor end, and all sessions.

    Raises NotFound; Conflict for somebody who belongs to other organizations too, whose admins would be overruled.
    """
    await _member(tx, organization_id, user_id)
    others = await tx.scalar(
        select(func.count())
        .select_from(OrganizationMember)
        .where(OrganizationMember.user_id == user_id, OrganizationMember.organization_id != organization_id)
    )
    if others:
        raise errors.Conflict(
            "this person belongs to other organizations too",
            hint="`mooring user reset` on the host makes a link for them.",
        )
    user = await tx.get_one(User, user_id)
    return user, await lock_out(tx, user, organization_id)


async def lock_out(tx: AsyncSession, user: User, organization_id: int | None = None) -> str:
    """End a person's password, second factor and sessions; returns the token of the link that lets them in again."""
    user.password_hash, user.totp_at, user.recovery = None, None, []
    await secrets.drop(tx, f"totp:{user.id}")
    await sessions.end_all(tx, user.id)
    audit.note(tx, "user.access_reset", organization_id=organization_id, target=("user", user.id), label=user.email)
    return await make_invitation(tx, user)


async def purge(tx: AsyncSession) -> None:
    """Drop links that are over."""
    await tx.execute(delete(UserToken).where(UserToken.expires_at < clock.now()))


async def owned_organizations(tx: AsyncSession, rights: roles.Rights) -> Sequence[Organization]:
    """The organizations of which a person is an admin, by name."""
    owned = [id for id, role in rights.organizations.items() if role == "admin"]
    return (await tx.scalars(select(Organization).where(Organization.id.in_(owned)).order_by(Organization.name))).all()


async def create_organization(tx: AsyncSession, name: str, user_id: str) -> Organization:
    """Make an organization with its first admin."""
    organization = await service.create_organization(tx, name)
    tx.add(OrganizationMember(organization_id=organization.id, user_id=user_id, role="admin"))
    await tx.flush()
    return organization
