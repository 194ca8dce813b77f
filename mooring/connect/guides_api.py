"""Connection guides for the Hub: `GET /hub/guides/{key}`, to be shown beside the form."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request

from mooring import errors
from mooring.connect.hub_api import Session
from mooring.connectors.guides import render_guide

router = APIRouter(prefix="/hub", tags=["Hub"])


@router.get("/guides/{key}")
async def hub_guide(request: Request, session: Session, key: str, method: str | None = None) -> dict[str, Any]:
    """A connector's guide as HTML that is safe to insert: only the elements of Markdown, no script, style or image.

    `method` (an auth method's key) leaves out the steps and permissions of the other methods.
    """
    context = request.app.state.context
    connector = context.registry.get(key)
    if connector is None or (method is not None and method not in connector.auth):
        raise errors.NotFound("there is no such guide")
    guide = render_guide(connector, method)
    query = f"?{urlencode({'method': method})}" if method is not None else ""
    return {
        "key": connector.key,
        "title": guide.title,
        "html": guide.html,
        "sections": [{"id": s.id, "title": s.title, "html": s.html} for s in guide.sections],
        "url": f"{context.public_url}/guides/{connector.key}{query}",
        "docs": connector.docs,
    }
