"""Organizations, their members and their audit log over the API, for a person who is signed in."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from mooring.identity import audit, users
from mooring.identity.management_api import AuditPage, entry_out
from mooring.identity.models import Organization
from mooring.identity.person import Person, person_with
from mooring.identity.user_models import User
from mooring.kit.body import EMAIL, LARGEST, Body

router = APIRouter(prefix="/organizations", tags=["Organizations"])

Owner = Annotated[Person, Depends(person_with("owner"))]
Confirmed = Annotated[Person, Depends(person_with("owner", confirmed=True))]
Role = Literal["basic", "admin"]


class OrganizationOut(BaseModel):
    """An organization."""

    id: str
    name: str


class OrganizationList(BaseModel):
    """The organizations of which the person is an admin, by name."""

    data: list[OrganizationOut]


class OrganizationCreate(Body):
    """A new organization, whose first admin is who makes it."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)


class MemberOut(BaseModel):
    """A member. `role` is the one in the organization."""

    id: str
    email: str
    name: str
    role: str
    second_factor: bool


class MemberList(BaseModel):
    """The members of an organization, by name."""

    data: list[MemberOut]


class MemberInvite(Body):
    """Somebody to add to an organization."""

    model_config = ConfigDict(extra="forbid")

    email: str = Field(max_length=254, json_schema_extra=EMAIL)
    name: str = Field("", max_length=200)
    role: Role = "basic"


class MemberPatch(Body):
    """Another role in the organization."""

    model_config = ConfigDict(extra="forbid")

    role: Role


class Invited(BaseModel):
    """Somebody with a way in. `link` lets them choose a password, for seven days; null when they have one."""

    id: str
    email: str
    link: str | None


def invited(request: Request, user: User, token: str | None) -> Invited:
    """The answer that holds a person's link, shown this once."""
    base = request.app.state.context.public_url
    link = f"{base}/dashboard/welcome?{urlencode({'token': token})}" if token else None
    return Invited(id=user.id, email=user.email, link=link)


def _out(row: Organization) -> OrganizationOut:
    return OrganizationOut(id=str(row.id), name=row.name)


@router.get("")
async def list_organizations(request: Request, person: Owner) -> OrganizationList:
    """The organizations of which the person is an admin."""
    async with request.app.state.context.db.read() as tx:
        rows = await users.owned_organizations(tx, person.signed_in.rights)
    return OrganizationList(data=[_out(row) for row in rows])


@router.post("", status_code=201)
async def create_organization(request: Request, person: Owner, body: OrganizationCreate) -> OrganizationOut:
    """Make another organization."""
    name = users.clean_name(body.name, "organization")
    async with request.app.state.context.db.begin() as tx:
        return _out(await users.create_organization(tx, name, person.signed_in.user.id))


@router.get("/{organization}/members")
async def list_members(request: Request, person: Owner, organization: str) -> MemberList:
    """Everybody with their roles."""
    async with request.app.state.context.db.read() as tx:
        rows = await users.members(tx, person.organization_id)
    return MemberList(
        data=[
            MemberOut(id=u.id, email=u.email, name=u.name, role=role, second_factor=u.totp_at is not None)
            for u, role in rows
        ]
    )


@router.post("/{organization}/members", status_code=201)
async def invite_member(request: Request, person: Confirmed, organization: str, body: MemberInvite) -> Invited:
    """Add somebody; the link is shown this once, the hub sends no mail."""
    async with request.app.state.context.db.begin() as tx:
        user, token = await users.invite(tx, person.organization_id, body.email, body.name, body.role)
    return invited(request, user, token)


@router.patch("/{organization}/members/{user}", status_code=204)
async def patch_member(request: Request, person: Confirmed, organization: str, user: str, body: MemberPatch) -> None:
    """Change a member's role. An organization keeps at least one admin."""
    async with request.app.state.context.db.begin() as tx:
        await users.set_organization_role(tx, person.organization_id, user, body.role)


@router.delete("/{organization}/members/{user}", status_code=204)
async def remove_member(request: Request, person: Confirmed, organization: str, user: str) -> None:
    """Take somebody out, with their roles in the organization's projects."""
    async with request.app.state.context.db.begin() as tx:
        await users.set_organization_role(tx, person.organization_id, user, None)


@router.post("/{organization}/members/{user}/reset")
async def reset_member(request: Request, person: Confirmed, organization: str, user: str) -> Invited:
    """A new link for who is locked out; their password, second factor and sessions end."""
    async with request.app.state.context.db.begin() as tx:
        row, token = await users.reset_access(tx, person.organization_id, user)
    return invited(request, row, token)


@router.get("/{organization}/audit_log")
async def list_organization_audit(
    request: Request,
    person: Owner,
    organization: str,
    action: str | None = None,
    actor_id: str | None = None,
    target_id: str | None = None,
    page_size: Annotated[int, Query(ge=1, le=500)] = 50,
    after: Annotated[int | None, Query(alias="next", ge=1, le=LARGEST)] = None,
) -> AuditPage:
    """Who did what to the organization, newest first."""
    async with request.app.state.context.db.read() as tx:
        rows, position = await audit.search(
            tx,
            organization_id=person.organization_id,
            action=action,
            actor_id=actor_id,
            target_id=target_id,
            before=after,
            limit=page_size,
        )
    return AuditPage(data=[entry_out(row) for row in rows], next=None if position is None else str(position))
