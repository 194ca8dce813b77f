"""Webhooks: endpoints, their secrets and rotation, deliveries with request and answer, replay, a test event."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from starlette.responses import Response

from mooring import errors
from mooring.dashboard.render import render
from mooring.dashboard.routing import PROJECT, get, post
from mooring.dashboard.view import View
from mooring.kit import clock
from mooring.kit.egress import EgressGuard, parse_allow
from mooring.webhooks import delivery as deliveries
from mooring.webhooks import events as catalogue
from mooring.webhooks import history, secrets, service

HERE = PROJECT + "/webhooks"
REPLAYS = {"1": "the last hour", "24": "the last day", "168": "the last 7 days"}
STATUSES = ("pending", "delivered", "failed", "dropped")


def _guard(view: View) -> EgressGuard:
    return EgressGuard(parse_allow(view.context.settings.egress_allow))


async def _form(view: View) -> dict[str, Any]:
    form = await view.form()
    if not 0 < len(form.get("url")) <= 2000:
        raise errors.ValidationFailed("the endpoint is not valid", errors=["url: is required"])
    events = [] if form.get("which") == "all" else form.all("event")
    if form.get("which") != "all" and not events:
        raise errors.ValidationFailed("the endpoint is not valid", errors=["events: choose at least one, or all"])
    return {"url": form.get("url"), "description": form.get("description")[:500] or None, "events": events}


def _at(view: View) -> str:
    return f"{view.base}/webhooks/{view.path('id')}"


@get(HERE, "viewer", api="GET /webhooks")
async def show(view: View) -> Response:
    """The project's endpoints."""
    async with view.context.db.read() as tx:
        rows = await service.search(tx, view.project_id)
    return render(view, "webhooks.html", rows=rows)


@get(HERE + "/new", "admin")
async def ask_create(view: View) -> Response:
    """The dialog for a new endpoint."""
    return render(view, "webhook_form.html", row=None, events=catalogue.EVENTS)


@post(HERE, "admin", api="POST /webhooks")
async def create(view: View) -> Response:
    """Add an endpoint and show its secret this once."""
    values = await _form(view)
    async with view.context.db.begin() as tx:
        row, made = await service.create(tx, view.context.vault, _guard(view), view.project_id, **values)
    return _secret(view, made.secret, f"{view.base}/webhooks/{row.id}")


def _secret(view: View, secret: str, then: str) -> Response:
    answer = render(view, "webhook_secret.html", secret=secret, then=then)
    answer.headers["hx-retarget"] = "#dialog"
    return answer


@get(HERE + "/{id}", "viewer", api="GET /webhooks/{id}, GET /webhooks/{id}/deliveries")
async def detail(view: View) -> Response:
    """One endpoint: secrets and deliveries."""
    status = view.query("status") if view.query("status") in STATUSES else None
    before = int(view.query("before")) if view.query("before").isdigit() else None
    async with view.context.db.read() as tx:
        row = await service.get(tx, view.project_id, view.path("id"))
        keys = await secrets.search(tx, row)
        found, next = await history.deliveries(
            tx, view.project_id, row.id, status=status, account_id=view.query("account") or None, before=before
        )
    return render(
        view,
        "webhook.html",
        row=row,
        secrets=keys,
        deliveries=found,
        next=next,
        statuses=STATUSES,
        chosen=status,
        replays=REPLAYS,
    )


@get(HERE + "/{id}/edit", "admin")
async def ask_edit(view: View) -> Response:
    """The dialog to change an endpoint."""
    async with view.context.db.read() as tx:
        row = await service.get(tx, view.project_id, view.path("id"))
    return render(view, "webhook_form.html", row=row, events=catalogue.EVENTS)


@post(HERE + "/{id}/edit", "admin", api="PATCH /webhooks/{id}")
async def edit(view: View) -> Response:
    """Change address, description and events."""
    values = await _form(view)
    async with view.context.db.begin() as tx:
        await service.change(tx, _guard(view), view.project_id, view.path("id"), values)
    return view.go(_at(view), "saved")


async def _switch(view: View, *, on: bool) -> Response:
    async with view.context.db.begin() as tx:
        await service.change(tx, _guard(view), view.project_id, view.path("id"), {"enabled": on})
    return view.go(_at(view), "enabled" if on else "disabled")


@post(HERE + "/{id}/enable", "admin", api='PATCH /webhooks/{id} {"enabled": true}')
async def enable(view: View) -> Response:
    """Switch it on; it gets what waited for it."""
    return await _switch(view, on=True)


@post(HERE + "/{id}/disable", "admin", api='PATCH /webhooks/{id} {"enabled": false}')
async def disable(view: View) -> Response:
    """Switch it off; what happens meanwhile waits."""
    return await _switch(view, on=False)


@get(HERE + "/{id}/delete", "admin")
async def ask_delete(view: View) -> Response:
    """The dialog before a deletion."""
    async with view.context.db.read() as tx:
        row = await service.get(tx, view.project_id, view.path("id"))
    return render(view, "webhook_delete.html", row=row)


@post(HERE + "/{id}/delete", "admin", api="DELETE /webhooks/{id}")
async def delete(view: View) -> Response:
    """Delete an endpoint with its secrets and its delivery log."""
    async with view.context.db.begin() as tx:
        await service.remove(tx, view.project_id, view.path("id"))
    return view.go(f"{view.base}/webhooks", "deleted")


@post(HERE + "/{id}/test", "member", api="POST /webhooks/{id}/test")
async def test(view: View) -> Response:
    """Send a test event now and show how it went."""
    c = view.context
    row, event, log = await deliveries.send_test(c.db, c.vault, c.http, view.project_id, view.path("id"))
    return render(view, "delivery_part.html", row=row, event=event, log=log)


@post(HERE + "/{id}/secrets", "admin", api="POST /webhooks/{id}/secrets", confirmed=True)
async def add_secret(view: View) -> Response:
    """Add a secret, the first step of a rotation, and show it this once."""
    async with view.context.db.begin() as tx:
        endpoint = await service.get(tx, view.project_id, view.path("id"), lock=True)
        made = await secrets.add(tx, view.context.vault, endpoint, active=False)
    return _secret(view, made.secret, _at(view))


@post(HERE + "/{id}/secrets/{secret}/switch", "admin", api="PATCH /webhooks/{id}/secrets/{secret_id}")
async def switch_secret(view: View) -> Response:
    """Activate a secret, or deactivate it; one always signs."""
    form = await view.form()
    async with view.context.db.begin() as tx:
        endpoint = await service.get(tx, view.project_id, view.path("id"), lock=True)
        await secrets.switch(tx, endpoint, view.path("secret"), active=form.flag("active"))
    return view.go(_at(view), "saved")


@post(HERE + "/{id}/secrets/{secret}/delete", "admin", api="DELETE /webhooks/{id}/secrets/{secret_id}")
async def delete_secret(view: View) -> Response:
    """Delete a secret, the last step of a rotation."""
    async with view.context.db.begin() as tx:
        endpoint = await service.get(tx, view.project_id, view.path("id"), lock=True)
        await secrets.remove(tx, endpoint, view.path("secret"))
    return view.go(_at(view), "deleted")


@get(HERE + "/{id}/deliveries/{event}", "viewer", api="GET /webhooks/{id}/deliveries/{delivery_id}")
async def delivery(view: View) -> Response:
    """One delivery with its attempts."""
    async with view.context.db.read() as tx:
        row, event = await history.delivery(tx, view.project_id, view.path("id"), view.path("event"))
        log = await history.attempts(tx, row)
    return render(view, "delivery_part.html", row=row, event=event, log=log)


@post(
    HERE + "/{id}/deliveries/{event}/replay",
    "member",
    api="POST /webhooks/{id}/deliveries/{delivery_id}/replay",
)
async def replay(view: View) -> Response:
    """Send one event again, under its old id."""
    async with view.context.db.begin() as tx:
        await history.replay_one(tx, view.project_id, view.path("id"), view.path("event"))
    return view.go(_at(view), "replayed")


@post(HERE + "/{id}/replay", "member", api="POST /webhooks/{id}/replay")
async def replay_since(view: View) -> Response:
    """Send the events of a time again, all or only those that did not arrive."""
    form = await view.form()
    if form.get("hours") not in REPLAYS:
        raise errors.ValidationFailed("the time is not valid", errors=["hours: choose one of the list"])
    since = clock.now() - timedelta(hours=int(form.get("hours")))
    async with view.context.db.begin() as tx:
        await history.replay_since(tx, view.project_id, view.path("id"), since, failed_only=form.flag("failed_only"))
    return view.go(_at(view), "replayed")
