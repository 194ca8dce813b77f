"""Connectors as the legacy metadata endpoints tell them, with what the project has enabled (contract §2.4)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from mooring import errors
from mooring.auth_configs import availability, service
from mooring.connectors.definition import Connector
from mooring.identity.api import caller_with
from mooring.identity.service import Caller

router = APIRouter(prefix="/connectors/meta", tags=["Connectors"])

Reader = Annotated[Caller, Depends(caller_with("platform:read"))]


async def _enabled(request: Request, caller: Caller) -> set[str]:
    """The connectors that end users can link: with an enabled auth config, and not switched off."""
    async with request.app.state.context.db.read() as tx:
        rows, _ = await service.search(tx, caller.project_id, active=True)
        off = await availability.reasons(tx, caller.project_id)
    return {row.connector_key for row in rows} - off.keys()


def _meta(request: Request, connector: Connector, *, active: bool) -> dict[str, Any]:
    logo = f"{request.app.state.context.public_url}/logos/{connector.key}.svg"
    return {
        "provider": connector.key,
        "provider_name": connector.title,
        "category": connector.categories[0],
        "active": active,
        "release_stage": connector.stage,
        "models": {},
        "resources": {"images": {"logo_url": logo, "original_logo_horizontal_url": logo}},
        "authentication": [{"key": m.key, "label": m.label, "type": m.kind} for m in connector.auth.values()],
    }


@router.get("")
async def list_connectors_meta(request: Request, caller: Reader, include: str | None = None) -> list[dict[str, Any]]:
    """All connectors of the catalogue. `active` are those that can be linked in this project.

    Drafts are left out unless they are active, or `include=drafts` asks for them.
    """
    enabled = await _enabled(request, caller)
    registry = await request.app.state.context.registry.complete()
    wanted = "drafts" in (include or "").split(",")
    return [
        _meta(request, c, active=c.key in enabled)
        for c in registry.values()
        if c.stage != "draft" or wanted or c.key in enabled
    ]


@router.get("/{provider}")
async def get_connector_meta(
    request: Request, caller: Reader, provider: str, include: str | None = None
) -> dict[str, Any]:
    """One connector of the catalogue."""
    connector = request.app.state.context.registry.get(provider)
    if connector is None:
        raise errors.NotFound(f"there is no connector {provider[:80]!r}")
    return _meta(request, connector, active=provider in await _enabled(request, caller))
