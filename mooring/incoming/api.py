"""`/external-trigger/{provider}`, to which providers send, and the management of these addresses (contract §2.10)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.responses import PlainTextResponse

from mooring.accounts.context import Context
from mooring.identity.api import caller_with
from mooring.identity.service import Caller
from mooring.incoming import service
from mooring.incoming.models import IncomingEndpoint
from mooring.incoming.verifying import Received
from mooring.kit.body import Body
from mooring.kit.web import Json

router = APIRouter(tags=["Incoming webhooks"])

Reader = Annotated[Caller, Depends(caller_with("platform:read"))]
Writer = Annotated[Caller, Depends(caller_with("platform:write"))]


class IncomingOut(BaseModel):
    """An address that a provider sends its webhooks to, without what is secret of it."""

    id: str
    provider: str
    account_id: str | None
    integration_id: str | None
    created_at: datetime
    last_used_at: datetime | None


class IncomingMade(IncomingOut):
    """A new one, with address and secret, shown this once."""

    url: str
    secret: str | None = Field(description="For the provider to sign with; null where the address is all it knows.")


class IncomingList(BaseModel):
    """All of the project, oldest first."""

    data: list[IncomingOut]


class IncomingCreate(Body):
    """For one account, or for all of an auth config where the provider's events name their account."""

    model_config = ConfigDict(extra="forbid")

    account_id: str | None = Field(None, min_length=1, max_length=40)
    integration_id: str | None = Field(None, min_length=1, max_length=40)
    secret: str | None = Field(
        None, min_length=8, max_length=500, description="The one that the provider made, where it makes them."
    )

    @model_validator(mode="after")
    def _one(self) -> IncomingCreate:
        if (self.account_id is None) == (self.integration_id is None):
            raise ValueError("give account_id or integration_id, one of them")
        return self


def _out(row: IncomingEndpoint) -> dict[str, Any]:
    return {
        "id": row.id,
        "provider": row.provider,
        "account_id": row.account_id,
        "integration_id": row.auth_config_id,
        "created_at": row.created_at,
        "last_used_at": row.last_used_at,
    }


@router.get("/incoming_endpoints")
async def list_incoming_endpoints(request: Request, caller: Reader) -> IncomingList:
    """The addresses that providers send to, without tokens and secrets."""
    async with request.app.state.context.db.read() as tx:
        rows = await service.search(tx, caller.project_id)
    return IncomingList(data=[IncomingOut(**_out(row)) for row in rows])


@router.post("/incoming_endpoints", status_code=201)
async def create_incoming_endpoint(request: Request, caller: Writer, body: IncomingCreate) -> IncomingMade:
    """Make an address for a provider. What it sends there is verified and becomes `provider_event.received`."""
    context: Context = request.app.state.context
    async with context.db.begin() as tx:
        made = await service.create(
            tx,
            context,
            caller.project_id,
            account_id=body.account_id,
            auth_config_id=body.integration_id,
            secret=body.secret,
        )
    return IncomingMade(**_out(made.row), url=made.url, secret=made.secret)


@router.delete("/incoming_endpoints/{id}", status_code=204)
async def delete_incoming_endpoint(request: Request, caller: Writer, id: str) -> None:
    """Delete an address; what still comes there is not found."""
    async with request.app.state.context.db.begin() as tx:
        await service.remove(tx, caller.project_id, id)


@router.api_route("/external-trigger/{provider}", methods=["POST", "PUT", "GET"], include_in_schema=False)
async def external_trigger(
    request: Request,
    provider: str,
    external_trigger_token: Annotated[str, Query(alias="externalTriggerToken", max_length=100)] = "",
) -> Response:
    """What a provider sends: verified before anything of it is read, then passed on as an event."""
    context: Context = request.app.state.context
    token = external_trigger_token or request.headers.get("x-external-trigger-token", "")[:100]
    query = "?" + request.url.query if request.url.query else ""
    received = Received(
        method=request.method,
        url=f"{context.public_url}/external-trigger/{provider}{query}",
        headers={name.lower(): value for name, value in request.headers.items()},
        query=dict(request.query_params),
        body=await request.body(),
    )
    taken = await service.take(context, provider, token, received)
    if taken.challenge is not None:
        return PlainTextResponse(taken.challenge, headers={"x-content-type-options": "nosniff"})
    return Json({"status": "repeated" if taken.repeated else "accepted", "events": taken.events})
