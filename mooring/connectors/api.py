"""Connectors over the API: legacy metadata (contract §2.4) and logos."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from mooring import errors
from mooring.connectors.definition import Connector
from mooring.connectors.monogram import monogram_svg
from mooring.identity.api import caller_with
from mooring.identity.service import Caller

router = APIRouter(tags=["Connectors"])

Reader = Annotated[Caller, Depends(caller_with("platform:read"))]


def _meta(request: Request, connector: Connector) -> dict[str, Any]:
    logo = f"{request.app.state.context.public_url}/logos/{connector.key}.svg"
    return {
        "provider": connector.key,
        "provider_name": connector.title,
        "category": connector.categories[0],
        "active": True,
        "models": {},
        "resources": {"images": {"logo_url": logo, "original_logo_horizontal_url": logo}},
        "authentication": [{"key": m.key, "label": m.label, "type": m.kind} for m in connector.auth.values()],
    }


@router.get("/connectors/meta")
async def list_connectors_meta(request: Request, caller: Reader, include: str | None = None) -> list[dict[str, Any]]:
    """All connectors of the catalogue."""
    return [_meta(request, connector) for connector in request.app.state.context.registry.values()]


@router.get("/connectors/meta/{provider}")
async def get_connector_meta(
    request: Request, caller: Reader, provider: str, include: str | None = None
) -> dict[str, Any]:
    """One connector of the catalogue."""
    connector = request.app.state.context.registry.get(provider)
    if connector is None:
        raise errors.NotFound(f"there is no connector {provider[:80]!r}")
    return _meta(request, connector)


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
