"""What people say of tools, as AI clients send it (contract §2.11). It becomes an event of the project."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from mooring.accounts.context import Context
from mooring.identity.api import caller_with
from mooring.identity.service import Caller
from mooring.kit import clock
from mooring.webhooks import service as webhooks
from mooring.webhooks.events import FEEDBACK

router = APIRouter(tags=["Actions"])

Runner = Annotated[Caller, Depends(caller_with("actions:execute"))]
ToolName = Annotated[str, Field(min_length=1, max_length=300)]


class Feedback(BaseModel):
    """What somebody said, of which tools, used through which account."""

    model_config = ConfigDict(extra="ignore")

    feedback: str = Field(min_length=1, max_length=10_000)
    account_id: str
    tool_names: list[ToolName] = Field(min_length=1, max_length=100)


class FeedbackTaken(BaseModel):
    """That it is kept, under which key and when."""

    message: str
    key: str
    submitted_at: datetime
    trace_id: str


@router.post("/ai/tool-feedback")
async def give_feedback(request: Request, caller: Runner, body: Feedback) -> FeedbackTaken:
    """Keep what somebody says of tools: as the event `tool_feedback.created`, on the page of events and at webhooks."""
    context: Context = request.app.state.context
    caller.require_account(body.account_id)
    account = await context.accounts.get(caller.project_id, body.account_id)
    async with context.db.begin() as tx:
        event = await webhooks.emit(
            tx,
            project_id=caller.project_id,
            event=FEEDBACK,
            record_id=account.id,
            account_id=account.id,
            payload={
                "provider": account.connector.key,
                "feedback": body.feedback,
                "tool_names": body.tool_names,
            },
        )
        key = event.id
    return FeedbackTaken(
        message="Feedback received. Thank you.",
        key=key,
        submitted_at=clock.now(),
        trace_id=str(request.scope.get("mooring.request_id")),
    )
