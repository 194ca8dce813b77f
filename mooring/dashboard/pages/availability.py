"""Whether a connector may be set up and linked in the project (rows 002-2, 003-20)."""

from __future__ import annotations

from starlette.responses import Response

from mooring.auth_configs import availability, service
from mooring.dashboard.render import render
from mooring.dashboard.routing import PROJECT, get, post
from mooring.dashboard.view import View

HERE = PROJECT + "/connectors/new/{key}"


@get(HERE + "/unavailable", "admin")
async def ask_switch_off(view: View) -> Response:
    """The dialog that asks for the reason."""
    connector = service.find_connector(view.context.registry, view.path("key"))
    async with view.context.db.read() as tx:
        reason = (await availability.reasons(tx, view.project_id)).get(connector.key, "")
    return render(
        view, "connector_unavailable.html", connector=connector, reason=reason, longest=availability.MAX_REASON
    )


@post(HERE + "/unavailable", "admin", api='PUT /connectors/availability/{connector_key} {"available": false}')
async def switch_off(view: View) -> Response:
    """Keep the connector from being set up and linked; its accounts keep working."""
    connector = service.find_connector(view.context.registry, view.path("key"))
    form = await view.form()
    async with view.context.db.begin() as tx:
        await availability.switch_off(tx, view.project_id, connector, form.get("reason"))
    return view.go(f"{view.base}/connectors/new/{connector.key}", "unavailable")


@post(HERE + "/available", "admin", api='PUT /connectors/availability/{connector_key} {"available": true}')
async def switch_on(view: View) -> Response:
    """Let the connector be set up and linked again."""
    connector = service.find_connector(view.context.registry, view.path("key"))
    async with view.context.db.begin() as tx:
        await availability.switch_on(tx, view.project_id, connector)
    return view.go(f"{view.base}/connectors/new/{connector.key}", "available")
