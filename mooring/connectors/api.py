"""The logos of connectors, for everybody."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from fastapi import APIRouter, Request, Response

from mooring import errors
from mooring.connectors.monogram import monogram_svg

router = APIRouter(tags=["Connectors"])


@router.get("/logos/{name}.svg", include_in_schema=False)
async def logo(request: Request, name: str) -> Response:
    """The logo of a connector; our own monogram where it has none."""
    connector = request.app.state.context.registry.get(name)
    if connector is None:
        raise errors.NotFound("there is no such logo")
    headers = {
        "cache-control": "public, max-age=86400",
        # An SVG opened by itself could run script; this policy forbids it.
        "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
        "cross-origin-resource-policy": "cross-origin",
    }
    return Response(_logo(connector.key, connector.title, connector.logo), media_type="image/svg+xml", headers=headers)


@lru_cache(maxsize=1024)
def _logo(key: str, title: str, file: str | None) -> str:
    return Path(file).read_text(encoding="utf-8") if file else monogram_svg(key, title)
