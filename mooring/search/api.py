"""The search over the API."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel

from mooring.accounts.context import Context
from mooring.identity.api import caller_with
from mooring.identity.service import Caller
from mooring.search import service

router = APIRouter(tags=["Search"])

Reader = Annotated[Caller, Depends(caller_with("platform:read"))]


class Found(BaseModel):
    """One thing that was found: what it is, its id, what people know it by, and a second line."""

    kind: service.Kind
    id: str
    title: str
    detail: str


class FoundList(BaseModel):
    """What was found: auth configs (to keys with `connectors:read`), accounts, the log entry of that id, webhooks."""

    data: list[Found]


@router.get("/search")
async def search(request: Request, caller: Reader, q: Annotated[str, Query(max_length=200)]) -> FoundList:
    """Search names, labels, owners, keys, addresses and ids of the project. Less than two characters find nothing."""
    context: Context = request.app.state.context
    async with context.db.read() as tx:
        hits = await service.find(tx, caller.project_id, context.registry, q)
    shown = [hit for hit in hits if hit.kind != "auth_config" or "connectors:read" in caller.scopes]
    return FoundList(data=[Found(kind=h.kind, id=h.id, title=h.title, detail=h.detail) for h in shown])
