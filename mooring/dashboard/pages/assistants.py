"""Assistants of end users: whether the project offers them, which are connected, and ending one."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from mooring.dashboard.render import render
from mooring.dashboard.routing import PROJECT, get, post
from mooring.dashboard.view import View
from mooring.grants import rules, service
from mooring.identity import project_settings
from mooring.identity.project_settings import SettingsChange

HERE = PROJECT + "/assistants"
MOST: Final = 200
ENDED_BY: Final = {
    "end_user": "by the end user",
    "operator": "by an operator",
    "client": "by the assistant",
    "replaced": "replaced by a newer one",
    "reuse": "a spent token was used again",
}
"""Who or what ended a grant, in the words of the page."""


@get(HERE, "viewer", api="GET /project, GET /mcp/grants")
async def show(view: View) -> Response:
    """The address for end users, and what they let their assistants do; what has ended comes last."""
    async with view.context.db.read() as tx:
        settings = await project_settings.get(tx, view.project_id)
        rows = await service.search(tx, view.project_id, ended=True, limit=MOST)
        reached = await service.accounts_of(tx, [row.id for row in rows])
    return render(
        view,
        "assistants.html",
        offered=settings.assistants,
        address=rules.resource_of(view.context.public_url, view.project_id),
        rows=sorted(rows, key=lambda row: row.revoked_at is not None),
        reached=reached,
        ended_by=ENDED_BY,
    )


@post(HERE + "/offer", "admin", api="PATCH /project", confirmed=True)
async def offer(view: View) -> Response:
    """Let end users connect assistants, or stop every assistant of the project."""
    form = await view.form()
    async with view.context.db.begin() as tx:
        await project_settings.change(tx, view.project_id, SettingsChange(assistants=form.flag("offered")))
    return view.go(f"{view.base}/assistants", "saved")


@post(HERE + "/{id}/revoke", "member", api="DELETE /mcp/grants/{id}")
async def revoke(view: View) -> Response:
    """End a grant; its tokens stop within a second."""
    async with view.context.db.begin() as tx:
        row = await service.get(tx, view.project_id, view.path("id"), lock=True)
        await service.end(tx, row, "operator")
    return view.go(f"{view.base}/assistants", "ended_grant")
