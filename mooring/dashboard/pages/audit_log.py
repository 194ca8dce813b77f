"""The audit log of a project, and of an organization."""

from __future__ import annotations

from starlette.responses import Response

from mooring import errors
from mooring.dashboard.render import render
from mooring.dashboard.routing import PROJECT, get
from mooring.dashboard.view import View
from mooring.identity import audit


async def _page(view: View, **scope: object) -> Response:
    before = int(view.query("before")) if view.query("before").isdigit() else None
    async with view.context.db.read() as tx:
        rows, next = await audit.search(
            tx,
            actor_id=view.query("actor") or None,
            action=view.query("action") or None,
            target_id=view.query("target") or None,
            before=before,
            **scope,  # type: ignore[arg-type]
        )
    return render(view, "audit.html", rows=rows, next=next)


@get(PROJECT + "/audit", "admin", api="GET /audit_log")
async def show(view: View) -> Response:
    """Who did what in this project."""
    return await _page(view, project_id=view.project.id)


@get("/dashboard/audit", "owner", api="GET /organizations/{organization}/audit_log, mooring audit list")
async def show_organization(view: View) -> Response:
    """Who did what to the organization: sign-in is noted by person, members and projects by organization."""
    text = view.query("organization")
    id = int(text) if text.isdigit() and len(text) < 16 else 0
    if not view.me.rights.owns(id):
        raise errors.NotFound("no such organization")
    return await _page(view, organization_id=id)
