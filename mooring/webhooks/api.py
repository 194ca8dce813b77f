"""Webhooks and events over the API (contract §2.10 and §7, and our own management API)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request
from pydantic import Field

from mooring import errors
from mooring.identity.api import caller_with
from mooring.identity.service import Caller
from mooring.kit.body import LARGEST, Moment
from mooring.kit.egress import EgressGuard, parse_allow
from mooring.kit.web import Json
from mooring.webhooks import delivery as deliveries
from mooring.webhooks import events as catalogue
from mooring.webhooks import history, secrets, service
from mooring.webhooks.schemas import (
    AttemptOut,
    DeliveryDetail,
    DeliveryOut,
    DeliveryPage,
    EndpointCreate,
    EndpointList,
    EndpointMade,
    EndpointOut,
    EndpointPatch,
    EventOut,
    EventPage,
    RaisedEvent,
    ReplayRequest,
    ReplayStarted,
    SecretCreate,
    SecretList,
    SecretMade,
    SecretOut,
    SecretPatch,
    delivery_fields,
)

router = APIRouter(tags=["Webhooks"])

Reader = Annotated[Caller, Depends(caller_with("platform:read"))]
Writer = Annotated[Caller, Depends(caller_with("platform:write"))]
Size = Annotated[int, Query(ge=1, le=500)]
After = Annotated[int | None, Query(alias="next", ge=1, le=LARGEST)]
Status = Literal["pending", "delivered", "failed", "dropped"]


def _guard(request: Request) -> EgressGuard:
    return EgressGuard(parse_allow(request.app.state.context.settings.egress_allow))


def _next(position: int | None) -> str | None:
    return None if position is None else str(position)


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@router.get("/webhooks")
async def list_webhooks(request: Request, caller: Reader) -> EndpointList:
    """List the project's endpoints."""
    async with request.app.state.context.db.read() as tx:
        rows = await service.search(tx, caller.project_id)
    return EndpointList(data=[EndpointOut.of(row) for row in rows])


@router.post("/webhooks", status_code=201)
async def create_webhook(request: Request, caller: Writer, body: EndpointCreate) -> EndpointMade:
    """Add an endpoint. The answer holds its signing secret, this once."""
    context = request.app.state.context
    async with context.db.begin() as tx:
        row, made = await service.create(
            tx,
            context.vault,
            _guard(request),
            caller.project_id,
            url=body.url,
            description=body.description,
            events=body.events,
            enabled=body.enabled,
        )
    return EndpointMade(**EndpointOut.of(row).model_dump(), secret=SecretMade.made(made))


@router.get("/webhooks/{id}")
async def get_webhook(request: Request, caller: Reader, id: str) -> EndpointOut:
    """One endpoint."""
    async with request.app.state.context.db.read() as tx:
        return EndpointOut.of(await service.get(tx, caller.project_id, id))


@router.patch("/webhooks/{id}")
async def patch_webhook(request: Request, caller: Writer, id: str, body: EndpointPatch) -> EndpointOut:
    """Change an endpoint or switch it on or off. Switched on, it gets what waited for it."""
    given = body.model_dump(exclude_unset=True)
    async with request.app.state.context.db.begin() as tx:
        return EndpointOut.of(await service.change(tx, _guard(request), caller.project_id, id, given))


@router.delete("/webhooks/{id}", status_code=204)
async def delete_webhook(request: Request, caller: Writer, id: str) -> None:
    """Delete an endpoint with its secrets and its delivery log."""
    async with request.app.state.context.db.begin() as tx:
        await service.remove(tx, caller.project_id, id)


@router.get("/webhooks/{id}/secrets")
async def list_secrets(request: Request, caller: Reader, id: str) -> SecretList:
    """The endpoint's secrets, without their values."""
    async with request.app.state.context.db.read() as tx:
        rows = await secrets.search(tx, await service.get(tx, caller.project_id, id))
    return SecretList(data=[SecretOut.of(row) for row in rows])


@router.post("/webhooks/{id}/secrets", status_code=201)
async def add_secret(request: Request, caller: Writer, id: str, body: SecretCreate | None = None) -> SecretMade:
    """Add a secret, the first step of a rotation. It signs nothing until it is activated."""
    context = request.app.state.context
    active = body.active if body else False
    async with context.db.begin() as tx:
        endpoint = await service.get(tx, caller.project_id, id, lock=True)
        return SecretMade.made(await secrets.add(tx, context.vault, endpoint, active=active))


@router.patch("/webhooks/{id}/secrets/{secret_id}")
async def patch_secret(request: Request, caller: Writer, id: str, secret_id: str, body: SecretPatch) -> SecretOut:
    """Activate or deactivate a secret. All active ones sign; one always stays active."""
    async with request.app.state.context.db.begin() as tx:
        endpoint = await service.get(tx, caller.project_id, id, lock=True)
        return SecretOut.of(await secrets.switch(tx, endpoint, secret_id, active=body.active))


@router.delete("/webhooks/{id}/secrets/{secret_id}", status_code=204)
async def delete_secret(request: Request, caller: Writer, id: str, secret_id: str) -> None:
    """Delete a secret, the last step of a rotation."""
    async with request.app.state.context.db.begin() as tx:
        await secrets.remove(tx, await service.get(tx, caller.project_id, id, lock=True), secret_id)


@router.post("/webhooks/{id}/test")
async def test_webhook(request: Request, caller: Writer, id: str) -> DeliveryDetail:
    """Send a `webhook_endpoint.test` event now and tell how it went; also to an endpoint that is off."""
    c = request.app.state.context
    row, event, log = await deliveries.send_test(c.db, c.vault, c.http, caller.project_id, id)
    return DeliveryDetail(
        **delivery_fields(row, event), payload=event.payload, log=[AttemptOut.of(attempt) for attempt in log]
    )


@router.get("/webhooks/{id}/deliveries")
async def list_deliveries(
    request: Request,
    caller: Reader,
    id: str,
    status: Status | None = None,
    account_id: str | None = None,
    page_size: Size = 25,
    after: After = None,
) -> DeliveryPage:
    """The endpoint's deliveries, newest event first."""
    async with request.app.state.context.db.read() as tx:
        rows, position = await history.deliveries(
            tx, caller.project_id, id, status=status, account_id=account_id, before=after, limit=page_size
        )
    return DeliveryPage(data=[DeliveryOut.of(*row) for row in rows], next=_next(position))


@router.get("/webhooks/{id}/deliveries/{delivery_id}")
async def get_delivery(request: Request, caller: Reader, id: str, delivery_id: str) -> DeliveryDetail:
    """One delivery with its attempts: requests, answers, times."""
    async with request.app.state.context.db.read() as tx:
        row, event = await history.delivery(tx, caller.project_id, id, delivery_id)
        log = await history.attempts(tx, row)
    return DeliveryDetail(
        **delivery_fields(row, event), payload=event.payload, log=[AttemptOut.of(attempt) for attempt in log]
    )


@router.post("/webhooks/{id}/deliveries/{delivery_id}/replay", status_code=202)
async def replay_delivery(request: Request, caller: Writer, id: str, delivery_id: str) -> DeliveryOut:
    """Send one event again, under its old id."""
    async with request.app.state.context.db.begin() as tx:
        return DeliveryOut.of(*await history.replay_one(tx, caller.project_id, id, delivery_id))


@router.post("/webhooks/{id}/replay", status_code=202)
async def replay_webhook(request: Request, caller: Writer, id: str, body: ReplayRequest) -> ReplayStarted:
    """Send the events since a time again, in order, also those that never had a delivery to this endpoint."""
    since = _aware(body.since)
    async with request.app.state.context.db.begin() as tx:
        count = await history.replay_since(tx, caller.project_id, id, since, failed_only=body.failed_only)
    return ReplayStarted(since=since, events=count)


@router.post("/webhooks/{id}/events", status_code=207)
async def raise_events(
    request: Request,
    caller: Writer,
    id: str,
    body: Annotated[list[RaisedEvent], Field(min_length=1, max_length=100)],
    x_account_id: Annotated[str | None, Header()] = None,
) -> Json:
    """Raise events of an account by hand, for this endpoint whatever its filter says (contract §2.10)."""
    if not x_account_id:
        raise errors.BadRequest("the header x-account-id is missing", hint="Send the id of a linked account in it.")
    context = request.app.state.context
    account = await context.accounts.get(caller.project_id, x_account_id)
    payload = catalogue.account_payload(provider=account.connector.key, origin_owner_id=account.origin_owner_id)
    out: list[dict[str, Any]] = []
    async with context.db.begin() as tx:
        endpoint = await service.get(tx, caller.project_id, id)
        if not endpoint.enabled:
            raise errors.Conflict(
                "the webhook endpoint is off", hint="Switch it on (enabled: true), then raise events."
            )
        for item in body:
            known = catalogue.is_raisable(item.event)
            if known:
                await service.emit_to(
                    tx,
                    [endpoint.id],
                    project_id=caller.project_id,
                    event=item.event,
                    record_id=item.record_id,
                    account_id=account.id,
                    payload=payload if item.event.startswith("account.") else {},
                )
            status, message = (202, "queued") if known else (400, "this event cannot be raised by hand")
            out.append({"event": item.event, "record_id": item.record_id, "status": status, "message": message})
    return Json(out, status_code=207)


@router.get("/events")
async def list_events(
    request: Request,
    caller: Reader,
    account_id: str | None = None,
    event: str | None = None,
    since: Moment | None = None,
    page_size: Size = 25,
    after: After = None,
) -> EventPage:
    """What happened in the project, newest first."""
    async with request.app.state.context.db.read() as tx:
        rows, position = await history.events(
            tx,
            caller.project_id,
            account_id=account_id,
            event=event,
            since=_aware(since) if since else None,
            before=after,
            limit=page_size,
        )
    return EventPage(data=[EventOut.of(row) for row in rows], next=_next(position))
