"""The request log over the API (contract §2.9)."""

from __future__ import annotations

import base64
import binascii
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlsplit

import orjson
from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel
from starlette.datastructures import QueryParams

from mooring import errors
from mooring.diagnosis.answers import in_full
from mooring.identity.api import caller_with
from mooring.identity.service import Caller
from mooring.kit import clock
from mooring.kit.body import Moment
from mooring.logs import service, stats
from mooring.logs.models import RequestLog
from mooring.logs.service import LogFilter

router = APIRouter(prefix="/requests", tags=["Logs"])

Reader = Annotated[Caller, Depends(caller_with("platform:read"))]

_LISTS = (
    "account_ids", "origin_owner_ids", "providers", "services", "resources", "actions", "http_methods",
    "status_codes", "request_ids", "source_ids", "source_types",
)  # fmt: skip
_ALWAYS_EMPTY = ("child_resources", "sub_resources", "source_values")  # no call of this hub has any


def _get(query: QueryParams, name: str) -> list[str]:
    """Values of a filter key: bare or `filter[key]`, repeated or comma-joined (contract §2.9)."""
    values = [*query.getlist(name), *query.getlist(f"filter[{name}]"), *query.getlist(f"filter[{name}][]")]
    return [word for value in values for word in value.split(",") if word]


def _one(query: QueryParams, name: str) -> str | None:
    values = [*query.getlist(name), *query.getlist(f"filter[{name}]")]
    return values[-1] if values and values[-1] else None


def parse_filter(query: QueryParams) -> LogFilter:
    """The filter of a query string. Raises ValidationFailed with all faults at once."""
    faults: list[str] = []
    lists: dict[str, Any] = {name: _get(query, name) for name in _LISTS}
    numbers = [c for c in lists["status_codes"] if not (c.isascii() and c.isdigit() and len(c) <= 3)]
    if numbers:
        faults.append("status_codes: must be numbers")
    else:
        lists["status_codes"] = [int(c) for c in lists["status_codes"]]
    moments: dict[str, Any] = {}
    for name in ("start_date", "end_date"):
        text = _one(query, name)
        moments[name] = None
        if text is not None:
            try:
                moment = datetime.fromisoformat(text.replace(" ", "+"))
                moments[name] = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
            except (ValueError, OverflowError):
                faults.append(f"{name}: must be an ISO 8601 time")
    success = _one(query, "success")
    if success not in {None, "true", "false"}:
        faults.append("success: must be true or false")
    if faults:
        raise errors.ValidationFailed("Validation failed", errors=faults)
    nothing = any(_get(query, name) for name in _ALWAYS_EMPTY)
    return LogFilter(**lists, **moments, nothing=nothing, success=None if success is None else success == "true")


def _paging(query: QueryParams) -> tuple[str, bool, int, tuple[Any, str] | None]:
    order_by = _one(query, "order_by") or "eventDatetime"
    direction = (_one(query, "order_direction") or "desc").lower()
    size = query.get("page_size") or "25"
    faults = []
    if order_by not in service.ORDERS:
        faults.append(f"order_by: must be one of {', '.join(service.ORDERS)}")
    if direction not in {"asc", "desc"}:
        faults.append("order_direction: must be asc or desc")
    if not (size.isascii() and size.isdigit() and len(size) < 4 and 1 <= int(size) <= 500):
        faults.append("page_size: must be from 1 to 500")
    after = None
    if cursor := query.get("next"):
        after = _position(cursor, order_by)
        if after is None:
            faults.append("next: is not a cursor that this hub made")
    if faults:
        raise errors.ValidationFailed("Validation failed", errors=faults)
    return order_by, direction == "desc", int(size), after


def _position(cursor: str, order_by: str) -> tuple[Any, str] | None:
    try:
        value, id = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, TypeError, binascii.Error):
        return None
    kind = int | float if order_by in {"status", "duration"} else str
    fits = isinstance(value, kind) and not isinstance(value, bool) and isinstance(id, str)
    return (value, id) if fits else None


def _cursor(position: tuple[Any, str]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(list(position))).rstrip(b"=").decode()


def render(row: RequestLog, *, steps: bool) -> dict[str, Any]:
    """A row as UnifiedLog. Headers and bodies are not in it, but for the redacted excerpt of a failed link."""
    parts = urlsplit(row.url or row.path)
    out: dict[str, Any] = {
        "request_id": row.id,
        "id": row.id,
        "event_datetime": clock.iso(row.started_at),
        "start_time": clock.iso(row.started_at),
        "end_time": clock.iso(row.ended_at),
        "duration": row.duration_ms,
        "provider_duration": round(sum(step.get("duration_ms") or 0.0 for step in row.steps), 3),
        "bytes_up": row.steps[-1].get("up", 0) if row.steps else 0,
        "bytes_down": row.steps[-1].get("down", 0) if row.steps else 0,
        "account_id": row.account_id,
        "origin_owner_id": row.origin_owner_id,
        "project_id": row.project_id,
        "provider": row.provider,
        "service": row.service,
        "resource": row.resource,
        "child_resource": None,
        "sub_resource": None,
        "action": row.action,
        "http_method": row.method,
        "path": row.path,
        "url": row.url,
        "status": row.status,
        "success": row.success,
        "error_code": row.error_code,
        "is_worker": False,
        "source_type": row.source_type,
        "source_value": None,
        "source_id": row.source_id,
        "source_ip": row.source_ip,
        "request": {
            "id": row.id,
            "method": row.method.lower(),
            "url": {"url": row.url or row.path, "hostname": parts.hostname or "", "path": parts.path},
        },
        "response": {"status_code": row.status},
    }
    if row.steps and (found := _diagnosis(row.steps[-1])) is not None:
        out["diagnosis"] = found
    if row.category == "platform":
        out["category"] = "platform"
    if steps:
        out["step_requests"] = [_step(row, i) for i in range(len(row.steps))]
    return out


def _diagnosis(step: dict[str, Any]) -> dict[str, Any] | None:
    """The connection doctor's words on a request that the provider refused."""
    return in_full(step["diagnosis"]) if "diagnosis" in step else None


def _step(row: RequestLog, index: int) -> dict[str, Any]:
    step = row.steps[index]
    parts = urlsplit(step.get("url", ""))
    return {
        "id": f"{row.id}-{index}",
        "request_id": row.id,
        "start_time": clock.iso(row.started_at),
        "end_time": clock.iso(row.ended_at),
        "duration": step.get("duration_ms"),
        "account_id": row.account_id,
        "project_id": row.project_id,
        "provider": row.provider,
        "service": row.service,
        "http_method": step.get("method"),
        "path": parts.path,
        "url": step.get("url"),
        "status": step.get("status"),
        "success": bool(step.get("status")) and step["status"] < 400,
        "is_worker": False,
        "error": step.get("error"),
        **({"exchange": step["exchange"]} if "exchange" in step else {}),
        **({"diagnosis": _diagnosis(step)} if "diagnosis" in step else {}),
    }


async def _search(request: Request, caller: Caller, category: str) -> tuple[list[RequestLog], str | None]:
    context = request.app.state.context
    order_by, descending, size, after = _paging(request.query_params)
    filter = parse_filter(request.query_params)
    await context.logs.flush()  # a caller finds its own calls, whatever the writer's rhythm
    async with context.db.read() as tx:
        rows, position = await service.search(
            tx,
            caller.project_id,
            filter,
            category=category,
            order_by=order_by,
            descending=descending,
            after=after,
            limit=size,
        )
    return list(rows), _cursor(position) if position else None


@router.get("/logs")
async def list_logs(request: Request, caller: Reader) -> dict[str, Any]:
    """Calls through accounts, newest first; filters bare or as `filter[…]`."""
    rows, position = await _search(request, caller, "unified")
    steps = "step_logs" in _get(request.query_params, "include")
    return {"data": [render(row, steps=steps) for row in rows], "next": position}


@router.get("/logs/steps")
async def list_step_logs(request: Request, caller: Reader) -> dict[str, Any]:
    """The requests to providers behind the calls."""
    rows, position = await _search(request, caller, "unified")
    return {"data": [_step(row, i) for row in rows for i in range(len(row.steps))], "next": position}


@router.get("/platform-logs")
async def list_platform_logs(request: Request, caller: Reader) -> dict[str, Any]:
    """Management calls."""
    rows, position = await _search(request, caller, "platform")
    return {"data": [render(row, steps=False) for row in rows], "next": position}


class StatPoint(BaseModel):
    """One step: when it begins, and what was counted until the next."""

    at: datetime
    calls: int
    errors: int
    mean_ms: float
    p95_ms: float


class StatSeries(BaseModel):
    """The steps of one connector, or of all together when `provider` is null, with their sums. Times in milliseconds."""

    provider: str | None
    calls: int
    errors: int
    p50_ms: float
    p95_ms: float
    points: list[StatPoint]


class Statistics(BaseModel):
    """All connectors together first, then each, the busiest first."""

    data: list[StatSeries]


@router.get("/statistics")
async def get_statistics(
    request: Request,
    caller: Reader,
    start_date: Moment | None = None,
    steps: Annotated[int, Query(ge=1, le=500)] = 48,
    provider: str | None = None,
) -> Statistics:
    """Volume, errors and latency of the calls since `start_date` (a day ago if left out), in `steps` equal steps.

    Counted in spans of ten minutes, of two hours beyond two days; quantiles come from a histogram.
    """
    context = request.app.state.context
    now = clock.now()
    since = now - timedelta(days=1) if start_date is None else start_date
    since = since if since.tzinfo else since.replace(tzinfo=UTC)
    if since >= now:
        raise errors.ValidationFailed("Validation failed", errors=["start_date: must be in the past"])
    await context.logs.flush()
    async with context.db.read() as tx:
        found = await stats.series(tx, caller.project_id, since=since, steps=steps, provider=provider)
    return Statistics(data=[StatSeries.model_validate(asdict(series)) for series in found])


@router.get("/logs/{id}")
async def get_log(request: Request, caller: Reader, id: str) -> dict[str, Any]:
    """One call. `include=advanced_logs` adds headers and bodies where the project keeps them; needs unified:read too."""
    context = request.app.state.context
    advanced = "advanced_logs" in _get(request.query_params, "include")
    if advanced:
        caller.require("unified:read")
    await context.logs.flush()
    async with context.db.read() as tx:
        row = await service.get(tx, caller.project_id, id)
        detail = await service.open_detail(tx, context.vault, row) if advanced else None
    out = render(row, steps=True)
    if detail is not None:
        out["request"] |= detail["request"]
        out["response"] |= detail["response"]
    return {"data": out}
