"""What became of a call that waits for a person's approval, for whoever made it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from mooring.accounts.context import Context
from mooring.actions import approvals
from mooring.identity.api import caller_with
from mooring.identity.service import Caller

router = APIRouter(prefix="/actions/approvals", tags=["Actions"])

Runner = Annotated[Caller, Depends(caller_with("actions:execute"))]


class ApprovalOut(BaseModel):
    """A call that waits, or waited, for a person's approval."""

    id: str
    status: approvals.State
    action: str
    account_id: str
    url: str = Field(description="The dashboard's page on which a person decides.")
    created_at: datetime
    expires_at: datetime = Field(description="Until then somebody can decide, or the approved call can be made.")
    decided_at: datetime | None
    reason: str | None = Field(description="What the person wrote who refused it.")


class ApprovalList(BaseModel):
    """The newest hundred, newest first."""

    data: list[ApprovalOut]


@router.get("")
async def list_approvals(request: Request, caller: Runner) -> ApprovalList:
    """Calls of this API key that wait for approval, or waited."""
    context: Context = request.app.state.context
    async with context.db.read() as tx:
        rows = await approvals.search(tx, caller.project_id, key_id=caller.key_id)
    return ApprovalList(data=[ApprovalOut.model_validate(approvals.told(context, row)) for row in rows])


@router.get("/{id}")
async def get_approval(request: Request, caller: Runner, id: str) -> ApprovalOut:
    """Whether a call of this API key was approved; if so, repeat the call."""
    context: Context = request.app.state.context
    async with context.db.read() as tx:
        row = await approvals.get(tx, caller.project_id, id, key_id=caller.key_id)
    return ApprovalOut.model_validate(approvals.told(context, row))
