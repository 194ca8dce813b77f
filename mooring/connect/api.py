"""Connect sessions over the API (contract §2.1, 2.2)."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mooring import errors
from mooring.connect import service
from mooring.connect.models import ConnectionAttempt, ConnectSession
from mooring.connect.service import SessionRequest
from mooring.identity.api import caller_with
from mooring.identity.service import Caller
from mooring.kit.body import Body, Flag, Number, one_of

router = APIRouter(prefix="/connect_sessions", tags=["Connect sessions"])

Writer = Annotated[Caller, Depends(caller_with("platform:write"))]

_NUMERIC_ORGANIZATION = re.compile(r"speakeasy-sdk/typescript ([0-3]|4\.(\d|1\d|2[0-8]))\.")


class ConnectSessionCreate(Body):
    """A new connect session. Unknown keys are ignored: clients of several generations send more than we use."""

    model_config = ConfigDict(extra="ignore")

    origin_owner_id: str = Field(min_length=1, max_length=500)
    origin_owner_name: str = Field(min_length=1, max_length=500)
    origin_username: str | None = Field(None, max_length=500)
    provider: str | None = Field(None, max_length=80)
    integration_id: str | None = Field(None, max_length=80)
    connector_profile_id: str | None = Field(
        None, max_length=80, description="The newer name of integration_id; the same value."
    )
    categories: list[str | None] | None = None
    account_id: str | None = Field(None, max_length=80)
    expires_in: Number | None = None
    metadata: dict[str, Any] | None = None
    multiple: Flag | None = None
    manage_accounts: Flag | None = Field(
        None,
        description="Whether the Hub shows this owner's accounts, to reconnect or remove them. "
        "By default yes, unless account_id is given.",
    )
    label: str | None = Field(None, max_length=500)
    type: str | None = Field(None, json_schema_extra=one_of("production", "test"))

    @field_validator("type")
    @classmethod
    def _type(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if value.lower() not in {"production", "test"}:
            raise ValueError("must be production or test")
        return value.lower()

    @field_validator("provider", "integration_id", "connector_profile_id", "account_id", "label", "origin_username")
    @classmethod
    def _empty(cls, value: str | None) -> str | None:
        return value or None

    @model_validator(mode="after")
    def _one_config(self) -> ConnectSessionCreate:
        if self.connector_profile_id and self.integration_id not in {None, self.connector_profile_id}:
            raise ValueError("integration_id and connector_profile_id are two names of one value, but differ")
        return self


class Authenticate(BaseModel):
    """The token of a session."""

    token: str = Field(min_length=1, max_length=500)


class AttemptOut(BaseModel):
    """The newest connection attempt of a session."""

    id: str
    created_at: datetime
    updated_at: datetime
    status: str
    account_secure_id: str | None
    oauth_error_code: str | None
    oauth_error_description: str | None


class ConnectSessionOut(BaseModel):
    """A connect session as its creator sees it."""

    id: int
    organization_id: str | int
    project_id: str
    categories: list[str] | None
    provider: str | None
    integration_id: str | None
    connector_profile_id: str | None
    origin_owner_id: str
    origin_owner_name: str
    origin_username: str | None
    account_id: str | None
    label: str | None
    metadata: dict[str, Any] | None
    type: str
    multiple: bool
    manage_accounts: bool
    external_trigger_token: str
    created_at: datetime
    expires_at: datetime
    latest_connection_attempt: AttemptOut | None


class ConnectSessionTokenOut(ConnectSessionOut):
    """A new session with its token, shown this once, and the link that opens the Hub."""

    token: str
    auth_link_url: str


def _values(request: Request, caller: Caller, row: ConnectSession, attempt: ConnectionAttempt | None) -> dict[str, Any]:
    # npm 4.28.0 and older want a number, everything newer wants text.
    numeric = _NUMERIC_ORGANIZATION.match(request.headers.get("user-agent", ""))
    return {
        "id": row.id,
        "organization_id": caller.organization_id if numeric else str(caller.organization_id),
        "project_id": row.project_id,
        "categories": row.categories,
        "provider": row.provider,
        "integration_id": row.integration_id,
        "connector_profile_id": row.integration_id,
        "origin_owner_id": row.origin_owner_id,
        "origin_owner_name": row.origin_owner_name,
        "origin_username": row.origin_username,
        "account_id": row.account_id,
        "label": row.label,
        "metadata": row.meta,
        "type": row.type,
        "multiple": row.multiple,
        "manage_accounts": row.manage_accounts,
        "external_trigger_token": row.external_trigger_token,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "latest_connection_attempt": None
        if attempt is None
        else AttemptOut(
            id=attempt.id,
            created_at=attempt.created_at,
            updated_at=attempt.updated_at,
            status=service.attempt_status(attempt),
            account_secure_id=attempt.account_id,
            oauth_error_code=attempt.error_code,
            oauth_error_description=attempt.error_description,
        ),
    }


@router.post("", status_code=201)
async def create_connect_session(
    request: Request, caller: Writer, body: ConnectSessionCreate
) -> ConnectSessionTokenOut:
    """Create a connect session for one of your customers' users."""
    context = request.app.state.context
    ask = SessionRequest(
        origin_owner_id=body.origin_owner_id,
        origin_owner_name=body.origin_owner_name,
        origin_username=body.origin_username,
        provider=body.provider,
        integration_id=body.integration_id or body.connector_profile_id,
        account_id=body.account_id,
        categories=[c for c in body.categories if c] if body.categories else None,
        expires_in=body.expires_in,
        metadata=body.metadata,
        multiple=bool(body.multiple),
        manage_accounts=body.manage_accounts,
        label=body.label,
        type=body.type,
    )
    async with context.db.begin() as tx:
        row, token = await service.create(tx, context.registry, caller.project_id, ask)
    return ConnectSessionTokenOut(
        **_values(request, caller, row, None),
        token=token,
        auth_link_url=f"{context.public_url}/embedded/integrations?{urlencode({'token': token})}",
    )


@router.post("/authenticate", status_code=201)
async def authenticate_connect_session(request: Request, caller: Writer, body: Authenticate) -> ConnectSessionOut:
    """Look at a session by its token; poll it to learn how an OAuth attempt ended."""
    async with request.app.state.context.db.read() as tx:
        row = await service.by_token(tx, body.token)
        if row.project_id != caller.project_id:
            raise errors.SessionExpired("the connect session is unknown or has expired")
        attempt = await service.latest_attempt(tx, row)
    return ConnectSessionOut(**_values(request, caller, row, attempt))
