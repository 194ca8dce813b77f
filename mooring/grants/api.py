"""Assistants over the API: who sits at a browser, which grants there are, and ending them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from mooring import errors
from mooring.accounts.context import Context
from mooring.grants import requests, rules, service
from mooring.grants.models import Grant
from mooring.grants.requests import Owner
from mooring.identity.api import caller_with
from mooring.identity.service import Caller
from mooring.kit.body import WRITTEN, Body

router = APIRouter(prefix="/mcp", tags=["Assistants"])

Reader = Annotated[Caller, Depends(caller_with("platform:read"))]
Writer = Annotated[Caller, Depends(caller_with("platform:write"))]


class OwnerIn(Body):
    """An end user, named as in your connect sessions."""

    origin_owner_id: str = Field(min_length=1, max_length=500)
    origin_owner_name: str = Field(min_length=1, max_length=500)


class AssistantLinkCreate(OwnerIn):
    """A link for one end user."""

    expires_in: Annotated[int, Field(ge=1, le=86_400), WRITTEN] | None = Field(
        None, description="Seconds until it must be opened; 1800 by default."
    )


class AssistantLinkOut(BaseModel):
    """A link. Open it in the end user's browser; it belongs to the first browser that does."""

    url: str
    expires_at: datetime
    mcp_url: str = Field(description="The address that the end user gives to an assistant.")


class AuthorizationOut(BaseModel):
    """An assistant's request whose end user is known now."""

    continue_url: str = Field(description="Send the same browser there. Works once.")
    client_name: str = Field(description="What the assistant calls itself.")
    redirect_uri: str
    expires_at: datetime


class GrantOut(BaseModel):
    """What an end user lets an assistant do."""

    id: str
    client_id: str
    client_name: str = Field(description="What the assistant calls itself.")
    redirect_uri: str
    origin_owner_id: str
    origin_owner_name: str
    account_ids: list[str] = Field(description="The chosen accounts that are still there.")
    access: str = Field(description="read, or write for both.")
    created_at: datetime
    last_used_at: datetime | None = Field(description="When it last got a token.")
    expires_at: datetime = Field(description="When it ends unless it is used.")
    revoked_at: datetime | None
    revoked_by: str | None = Field(
        description="end_user, operator, client, replaced, or reuse of a spent code or token."
    )


class GrantList(BaseModel):
    """Grants, newest first."""

    data: list[GrantOut]


@router.post("/links", status_code=201)
async def create_assistant_link(request: Request, caller: Writer, body: AssistantLinkCreate) -> AssistantLinkOut:
    """Make a link that tells an end user's browser who sits there: to connect assistants, and to disconnect them."""
    context: Context = request.app.state.context
    await _require_offered(context, caller)
    life = timedelta(seconds=body.expires_in) if body.expires_in else requests.LINK
    owner = Owner(body.origin_owner_id, body.origin_owner_name)
    async with context.db.begin() as tx:
        row, token = await requests.make_link(tx, caller.project_id, owner, life)
    return AssistantLinkOut(
        url=f"{context.public_url}/connect/assistants/link?token={token}",
        expires_at=row.expires_at,
        mcp_url=rules.resource_of(context.public_url, caller.project_id),
    )


@router.post("/authorizations/{request_id}")
async def identify_authorization(request: Request, caller: Writer, request_id: str, body: OwnerIn) -> AuthorizationOut:
    """Say who the end user is that an assistant's request came with, after your product has signed them in. Works once."""
    context: Context = request.app.state.context
    owner = Owner(body.origin_owner_id, body.origin_owner_name)
    async with context.db.begin() as tx:
        row, code = await requests.identify(tx, caller.project_id, request_id, owner)
    return AuthorizationOut(
        continue_url=f"{context.public_url}/connect/assistants/continue?code={code}",
        client_name=row.client_name,
        redirect_uri=row.redirect_uri,
        expires_at=row.expires_at,
    )


@router.get("/grants")
async def list_grants(
    request: Request,
    caller: Reader,
    origin_owner_id: Annotated[str | None, Query(max_length=500)] = None,
    ended: bool = False,
    page: Annotated[int, Query(ge=1, le=10_000)] = 1,
    page_size: Annotated[int, Query(ge=1, le=100)] = 25,
) -> GrantList:
    """What end users let assistants do; with `ended` also what they did lately."""
    async with request.app.state.context.db.read() as tx:
        rows = await service.search(
            tx,
            caller.project_id,
            owner_id=origin_owner_id,
            ended=ended,
            limit=page_size,
            offset=(page - 1) * page_size,
        )
        reached = await service.accounts_of(tx, [row.id for row in rows])
    return GrantList(data=[_out(row, reached[row.id]) for row in rows])


@router.get("/grants/{id}")
async def get_grant(request: Request, caller: Reader, id: str) -> GrantOut:
    """One grant."""
    async with request.app.state.context.db.read() as tx:
        row = await service.get(tx, caller.project_id, id)
        reached = await service.accounts_of(tx, [row.id])
    return _out(row, reached[row.id])


@router.delete("/grants/{id}")
async def revoke_grant(request: Request, caller: Writer, id: str) -> GrantOut:
    """End a grant. Its tokens stop in every process within a second."""
    async with request.app.state.context.db.begin() as tx:
        row = await service.get(tx, caller.project_id, id, lock=True)
        await service.end(tx, row, "operator")
        reached = await service.accounts_of(tx, [row.id])
    return _out(row, reached[row.id])


async def _require_offered(context: Context, caller: Caller) -> None:
    if not (await context.projects(caller.project_id)).assistants:
        raise errors.Unprocessable(
            "assistants are switched off in this project",
            code="AssistantsOffError",
            hint='PATCH /project with {"assistants": true}.',
        )


def _out(row: Grant, account_ids: list[str]) -> GrantOut:
    values: dict[str, Any] = {
        name: getattr(row, name)
        for name in ("id", "client_id", "client_name", "redirect_uri", "created_at", "last_used_at", "expires_at")
    }
    return GrantOut(
        **values,
        origin_owner_id=row.owner_id,
        origin_owner_name=row.owner_name,
        account_ids=account_ids,
        access="write" if row.writes else "read",
        revoked_at=row.revoked_at,
        revoked_by=row.revoked_by,
    )
