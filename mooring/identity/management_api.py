"""API keys and the audit log over the API. Both need scopes that a key does not get unless they are named."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from mooring import errors
from mooring.identity import audit, service
from mooring.identity.api import caller_with
from mooring.identity.audit_models import AuditEntry
from mooring.identity.models import ApiKey
from mooring.identity.scopes import SCOPES
from mooring.identity.service import Approval, Caller
from mooring.kit.body import LARGEST, Body, Flag, Moment

router = APIRouter(tags=["API keys and audit log"])

KeyAdmin = Annotated[Caller, Depends(caller_with("keys:write"))]
Auditor = Annotated[Caller, Depends(caller_with("audit:read"))]


class ApiKeyOut(BaseModel):
    """An API key without its secret."""

    id: str
    label: str
    scopes: list[str]
    allowed_accounts: list[str] | None = None
    allowed_actions: list[str] | None = None
    approval: Approval | None = None
    enabled: bool
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None


class ApiKeyMade(ApiKeyOut):
    """A new API key with its secret, shown this once."""

    key: str


class ApiKeyList(BaseModel):
    """All API keys of the project, oldest first."""

    data: list[ApiKeyOut]


class ApiKeyCreate(Body):
    """A new API key. It may have no scope that the calling key lacks."""

    model_config = ConfigDict(extra="forbid")

    label: str = Field(min_length=1, max_length=200)
    scopes: list[Annotated[str, Field(json_schema_extra={"enum": list(SCOPES)})]] = Field(min_length=1, max_length=50)
    allowed_accounts: list[str] | None = Field(None, max_length=1000, description="Only through these accounts.")
    allowed_actions: list[str] | None = Field(
        None, max_length=1000, description="Only these actions, `redmine_list_*` for several, and no other calls."
    )
    approval: Approval | None = Field(
        None, description="A person has to approve, in the dashboard, actions that delete, or all that write."
    )
    expires_at: Moment | None = Field(None, description="When the key stops by itself; without it, never.")


class ApiKeyPatch(Body):
    """Enable or disable an API key."""

    model_config = ConfigDict(extra="forbid")

    enabled: Flag


class AuditEntryOut(BaseModel):
    """Who did what to which thing, from where, with what result."""

    seq: int
    at: datetime
    actor_kind: str
    actor_id: str | None
    actor_label: str | None
    action: str
    target_type: str | None
    target_id: str | None
    target_label: str | None
    address: str | None
    result: str
    detail: dict[str, Any]
    mac: str = Field(description="Chains the entry to the one before; checked by `mooring audit verify`.")


class AuditPage(BaseModel):
    """One page of entries, newest first; `next` fetches the one before."""

    data: list[AuditEntryOut]
    next: str | None


def _key(row: ApiKey) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ApiKeyOut.model_fields}


def entry_out(row: AuditEntry) -> AuditEntryOut:
    """The API shape of an entry."""
    values = {name: getattr(row, name) for name in AuditEntryOut.model_fields if name != "mac"}
    return AuditEntryOut(**values, mac=row.mac.hex())


@router.get("/api_keys")
async def list_api_keys(request: Request, caller: KeyAdmin) -> ApiKeyList:
    """List the project's API keys, without their secrets."""
    async with request.app.state.context.db.read() as tx:
        rows = await service.list_api_keys(tx, caller.project_id)
    return ApiKeyList(data=[ApiKeyOut(**_key(row)) for row in rows])


@router.post("/api_keys", status_code=201)
async def create_api_key(request: Request, caller: KeyAdmin, body: ApiKeyCreate) -> ApiKeyMade:
    """Create an API key. The answer holds it, this once."""
    wider = sorted(set(body.scopes) - caller.scopes)
    if wider:
        raise errors.Forbidden(f"a key can't give scopes that it lacks: {', '.join(wider)[:200]}")
    async with request.app.state.context.db.begin() as tx:
        made = await service.create_api_key(
            tx,
            caller.project_id,
            body.label,
            body.scopes,
            accounts=body.allowed_accounts,
            actions=body.allowed_actions,
            approval=body.approval,
            expires_at=body.expires_at,
        )
        row = await tx.get_one(ApiKey, made.id)
    return ApiKeyMade(**_key(row), key=made.secret)


@router.patch("/api_keys/{id}")
async def patch_api_key(request: Request, caller: KeyAdmin, id: str, body: ApiKeyPatch) -> ApiKeyOut:
    """Enable or disable an API key; every worker notices within a second."""
    async with request.app.state.context.db.begin() as tx:
        row = await service.set_api_key_enabled(tx, id, enabled=body.enabled, project_id=caller.project_id)
    return ApiKeyOut(**_key(row))


@router.delete("/api_keys/{id}", status_code=204)
async def delete_api_key(request: Request, caller: KeyAdmin, id: str) -> None:
    """Delete an API key for good."""
    async with request.app.state.context.db.begin() as tx:
        await service.delete_api_key(tx, id, project_id=caller.project_id)


@router.get("/audit_log")
async def list_audit_log(
    request: Request,
    caller: Auditor,
    action: str | None = None,
    actor_id: str | None = None,
    target_id: str | None = None,
    page_size: Annotated[int, Query(ge=1, le=500)] = 50,
    after: Annotated[int | None, Query(alias="next", ge=1, le=LARGEST)] = None,
) -> AuditPage:
    """Who did what in the project, newest first."""
    async with request.app.state.context.db.read() as tx:
        rows, position = await audit.search(
            tx,
            project_id=caller.project_id,
            action=action,
            actor_id=actor_id,
            target_id=target_id,
            before=after,
            limit=page_size,
        )
    return AuditPage(data=[entry_out(row) for row in rows], next=None if position is None else str(position))
