"""Approvals: calls that wait for a person, what they would do, and the decision."""

from __future__ import annotations

from starlette.responses import Response

from mooring.actions import approvals, listing
from mooring.dashboard.render import render
from mooring.dashboard.routing import PROJECT, get, post
from mooring.dashboard.view import View

HERE = PROJECT + "/approvals"


@get(HERE, "viewer", api="GET /actions/approvals")
async def show(view: View) -> Response:
    """The project's calls that wait, then those that waited."""
    async with view.context.db.read() as tx:
        rows = await approvals.search(tx, view.project_id)
    ordered = sorted(rows, key=lambda row: approvals.state(row) != "pending")
    return render(view, "approvals.html", rows=ordered, state=approvals.state)


@get(HERE + "/{id}", "viewer", api="GET /actions/approvals/{id}")
async def detail(view: View) -> Response:
    """One call with its arguments."""
    async with view.context.db.read() as tx:
        row = await approvals.get(tx, view.project_id, view.path("id"))
        arguments = await approvals.arguments_of(tx, view.context.vault, row)
    connector = view.context.registry.get(row.provider)
    action = listing.find(connector, row.action) if connector is not None else None
    return render(
        view,
        "approval.html",
        row=row,
        state=approvals.state(row),
        arguments=arguments,
        title=connector.title if connector is not None else row.provider,
        action=action,
    )


async def _decide(view: View, *, approve: bool, reason: str | None = None) -> Response:
    async with view.context.db.begin() as tx:
        await approvals.decide(
            tx,
            view.context,
            view.project_id,
            view.path("id"),
            approve=approve,
            by=view.me.user.email,
            reason=reason,
        )
    return view.go(f"{view.base}/approvals", "saved")


@post(HERE + "/{id}/approve", "member")
async def approve(view: View) -> Response:
    """Let the call be made, once."""
    return await _decide(view, approve=True)


@post(HERE + "/{id}/reject", "member")
async def reject(view: View) -> Response:
    """Refuse it, and say why if you like."""
    form = await view.form()
    return await _decide(view, approve=False, reason=form.get("reason")[:500] or None)
