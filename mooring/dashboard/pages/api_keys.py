"""API keys: make one with scopes, shown once; disable, enable, delete; when each was last used."""

from __future__ import annotations

from datetime import timedelta

from starlette.responses import Response

from mooring import errors
from mooring.dashboard.render import render
from mooring.dashboard.routing import PROJECT, get, post
from mooring.dashboard.view import View
from mooring.identity import service, users
from mooring.identity.models import ApiKey
from mooring.identity.scopes import DEFAULT, SCOPES
from mooring.kit import clock

HERE = PROJECT + "/api-keys"
LIVES = {"": "never", "30": "after 30 days", "90": "after 90 days", "365": "after a year"}


@get(HERE, "viewer", api="mooring api-key list, GET /api_keys")
async def show(view: View) -> Response:
    """The project's keys, without their secrets."""
    await view.context.authenticate.flush()
    async with view.context.db.read() as tx:
        rows = await service.list_api_keys(tx, view.project_id)
    return render(view, "api_keys.html", rows=rows, scopes=SCOPES, now=clock.now())


@get(HERE + "/new", "admin")
async def ask_create(view: View) -> Response:
    """The dialog for a new key."""
    return render(view, "api_key_new.html", scopes=SCOPES, default=DEFAULT, lives=LIVES)


@post(HERE, "admin", api="mooring api-key create, POST /api_keys", confirmed=True)
async def create(view: View) -> Response:
    """Make a key and show it this once."""
    form = await view.form()
    label = users.clean_name(form.get("label"), "label")
    accounts, actions = form.get("accounts").split() or None, form.get("actions").split() or None
    approval = form.get("approval") or None
    days = form.get("days")
    if days not in LIVES:
        raise errors.ValidationFailed("Validation failed", errors=["days: choose one of the list"])
    end = clock.now() + timedelta(days=int(days)) if days else None
    scopes = form.all("scope")
    if accounts or actions or approval:  # the form says that such a key can only make calls
        scopes = [scope for scope in scopes if scope in service.scopes_within(actions)]
    if not scopes:
        raise errors.ValidationFailed("a key without scopes may do nothing", errors=["scope: choose at least one"])
    async with view.context.db.begin() as tx:
        made = await service.create_api_key(
            tx,
            view.project_id,
            label,
            scopes,
            accounts=accounts,
            actions=actions,
            approval=approval,
            expires_at=end,
        )
    answer = render(view, "api_key_made.html", secret=made.secret, label=label)
    answer.headers["hx-retarget"] = "#dialog"
    return answer


async def _key(view: View) -> ApiKey:
    async with view.context.db.read() as tx:
        keys = await service.list_api_keys(tx, view.project_id)
    found = next((key for key in keys if key.id == view.path("id")), None)
    if found is None:
        raise errors.NotFound("no such API key")
    return found


@get(HERE + "/{id}/disable", "admin")
async def ask_disable(view: View) -> Response:
    """The dialog before a key stops."""
    return render(view, "api_key_stop.html", key=await _key(view), delete=False)


@post(HERE + "/{id}/disable", "admin", api="mooring api-key disable, PATCH /api_keys/{id}")
async def disable(view: View) -> Response:
    """Stop a key; it can be enabled again."""
    async with view.context.db.begin() as tx:
        await service.set_api_key_enabled(tx, view.path("id"), enabled=False, project_id=view.project_id)
    return view.go(f"{view.base}/api-keys", "disabled")


@post(HERE + "/{id}/enable", "admin", api="mooring api-key enable, PATCH /api_keys/{id}", confirmed=True)
async def enable(view: View) -> Response:
    """Let a key work again."""
    async with view.context.db.begin() as tx:
        await service.set_api_key_enabled(tx, view.path("id"), enabled=True, project_id=view.project_id)
    return view.go(f"{view.base}/api-keys", "enabled")


@get(HERE + "/{id}/delete", "admin")
async def ask_delete(view: View) -> Response:
    """The dialog before a key is deleted."""
    return render(view, "api_key_stop.html", key=await _key(view), delete=True)


@post(HERE + "/{id}/delete", "admin", api="mooring api-key revoke, DELETE /api_keys/{id}")
async def delete(view: View) -> Response:
    """Delete a key for good."""
    async with view.context.db.begin() as tx:
        await service.delete_api_key(tx, view.path("id"), project_id=view.project_id)
    return view.go(f"{view.base}/api-keys", "deleted")
