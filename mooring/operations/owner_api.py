"""What is stored of one owner, over the API: everything as one document, and its erasure (GDPR articles 15, 17 and 20)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response, StreamingResponse

from mooring.accounts.context import Context
from mooring.identity.api import caller_with
from mooring.identity.service import Caller
from mooring.kit.body import Body
from mooring.operations.owner_erasure import erase
from mooring.operations.owner_export import export

router = APIRouter(prefix="/owners", tags=["Owners"])

Keeper = Annotated[Caller, Depends(caller_with("owners:write"))]


class OwnerErase(Body):
    """Whose traces go."""

    model_config = ConfigDict(extra="forbid")

    origin_owner_id: str = Field(min_length=1, max_length=254)


class OwnerErased(BaseModel):
    """How many rows of each kind went. All are 0 when nothing of the owner was stored."""

    alias: str = Field(description="Under which name the audit log speaks of the erased owner.")
    accounts: int
    connect_sessions: int
    requests: int
    events: int
    answers: int = Field(description="Answers that were kept to be repeated for an Idempotency-Key.")
    jobs: int
    audit_entries: int = Field(description="Entries that lost what named the owner; the entries themselves stay.")
    others: int


@router.get("/export", response_class=Response, responses={200: {"content": {"application/json": {}}}})
async def export_owner(
    request: Request, caller: Keeper, origin_owner_id: Annotated[str, Query(min_length=1, max_length=254)]
) -> StreamingResponse:
    """Everything of one owner as a JSON document: accounts, sessions, calls, events, audit entries. No secret is in it.

    An owner of whom nothing is stored gives the same document with empty lists.
    """
    context: Context = request.app.state.context
    headers = {"cache-control": "no-store", "content-disposition": 'attachment; filename="owner.json"'}
    pieces = export(context.db, caller.project_id, origin_owner_id)
    return StreamingResponse(pieces, media_type="application/json", headers=headers)


@router.post("/erase")
async def erase_owner(request: Request, caller: Keeper, body: OwnerErase) -> OwnerErased:
    """Erase one owner: shred and revoke their accounts, delete their rows, take their names out of the audit log.

    It can't be undone. It is done when it answers, but for the revocation of tokens at the providers, which follows. After
    an interruption ask again: it goes on.
    """
    context: Context = request.app.state.context
    erased = await erase(context.db, context, caller.project_id, body.origin_owner_id)
    return OwnerErased(alias=erased.alias, **erased.counts)
