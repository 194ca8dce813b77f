"""Events: what happened in the project, newest first."""

from __future__ import annotations

from starlette.responses import Response

from mooring.dashboard.render import render
from mooring.dashboard.routing import PROJECT, get
from mooring.dashboard.view import View
from mooring.webhooks import events as catalogue
from mooring.webhooks import history

HERE = PROJECT + "/events"


@get(HERE, "viewer", api="GET /events")
async def show(view: View) -> Response:
    """The timeline, by event or account."""
    before = int(view.query("before")) if view.query("before").isdigit() else None
    async with view.context.db.read() as tx:
        rows, next = await history.events(
            tx,
            view.project_id,
            account_id=view.query("account") or None,
            event=view.query("event") or None,
            since=view.moment("since"),
            before=before,
            limit=50,
        )
    return render(view, "events.html", rows=rows, next=next, events=catalogue.EVENTS)
