"""Which connectors of the catalogue a project may set up and link, over the API (rows 002-2, 003-20)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from mooring.auth_configs import availability, service
from mooring.auth_configs.models import UnavailableConnector
from mooring.identity.api import caller_with
from mooring.identity.service import Caller
from mooring.kit.body import Body, Flag

router = APIRouter(prefix="/connectors/availability", tags=["Connectors"])

Reader = Annotated[Caller, Depends(caller_with("connectors:read"))]
Writer = Annotated[Caller, Depends(caller_with("connectors:write"))]


class Availability(BaseModel):
    """Whether a connector can be set up and linked in the project. `reason` and `changed_at` are null while it can."""

    connector_key: str
    available: bool
    reason: str | None = None
    changed_at: datetime | None = None


class AvailabilityList(BaseModel):
    """The connectors that are switched off. Every other one of the catalogue is available."""

    data: list[Availability]


class AvailabilityPut(Body):
    """The switch. A connector that is switched off needs a reason; operators read it, end users never do."""

    model_config = ConfigDict(extra="forbid")

    available: Flag
    reason: str | None = Field(None, max_length=availability.MAX_REASON)


def _out(row: UnavailableConnector) -> Availability:
    return Availability(connector_key=row.connector_key, available=False, reason=row.reason, changed_at=row.changed_at)


@router.get("")
async def list_availability(request: Request, caller: Reader) -> AvailabilityList:
    """The connectors that are not available in the project, with the reasons."""
    async with request.app.state.context.db.read() as tx:
        return AvailabilityList(data=[_out(row) for row in await availability.switched_off(tx, caller.project_id)])


@router.put("/{connector_key}")
async def put_availability(request: Request, caller: Writer, connector_key: str, body: AvailabilityPut) -> Availability:
    """Make a connector unavailable, or available again.

    While it is not, it can't be set up, no connect session can be made for it, and the Hub does not show it. Accounts
    that are linked keep working, and their owners can still renew the credential.
    """
    context = request.app.state.context
    connector = service.find_connector(context.registry, connector_key)
    async with context.db.begin() as tx:
        if body.available:
            await availability.switch_on(tx, caller.project_id, connector)
            return Availability(connector_key=connector.key, available=True)
        return _out(await availability.switch_off(tx, caller.project_id, connector, body.reason or ""))
