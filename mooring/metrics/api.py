"""`GET /metrics`, for whoever holds the token. Without the setting there is no such path (rule A7)."""

from __future__ import annotations

import hmac

from fastapi import APIRouter, Request, Response
from sqlalchemy.exc import SQLAlchemyError

from mooring import errors
from mooring.accounts.context import Context
from mooring.metrics import exchange
from mooring.metrics.queues import queues

router = APIRouter(tags=["Health"])


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """The numbers of this hub's processes, for Prometheus. Needs `Authorization: Bearer` with MOORING_METRICS_TOKEN."""
    context: Context = request.app.state.context
    token = context.settings.metrics_token
    if token is None:
        raise errors.NotFound("no such path: GET /metrics")
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise errors.Unauthorized("the token for /metrics is missing or wrong", headers={"www-authenticate": "Bearer"})
    counters, gauges = exchange.gather(context)
    try:
        async with context.db.read() as tx:
            gauges |= await queues(tx)
    except (SQLAlchemyError, OSError):
        gauges["mooring_database_up"] = {"": 0}
    else:
        gauges["mooring_database_up"] = {"": 1}
    # The library costs a megabyte or two that a hub without a scraper keeps.
    from mooring.metrics.exposition import expose

    text, content_type = expose(counters, gauges, request.headers.get("accept", ""))
    return Response(text, media_type=None, headers={"content-type": content_type})
