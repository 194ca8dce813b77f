"""Link an account from here: a link to send to the customer, or the Hub at once; the same to reconnect one."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.responses import Response

from mooring import errors
from mooring.accounts import service as accounts
from mooring.auth_configs import availability
from mooring.auth_configs import service as auth_configs
from mooring.connect import service
from mooring.connect.service import SessionRequest
from mooring.dashboard.render import render
from mooring.dashboard.routing import PROJECT, get, post
from mooring.dashboard.view import View

HERE = PROJECT + "/link"
LIVES = {"1800": "30 minutes", "86400": "1 day", "604800": "7 days", "2592000": "30 days"}


@get(HERE, "member")
async def ask(view: View) -> Response:
    """The dialog: who, which connector, how long; for an account that exists only how long."""
    async with view.context.db.read() as tx:
        configs, _ = await auth_configs.search(tx, view.project_id, active=True)
        off = await availability.reasons(tx, view.project_id)
        account = None
        if view.query("account"):
            account, _ = await accounts.get(tx, view.project_id, view.query("account"))
    configs = [config for config in configs if config.connector_key not in off]
    return render(view, "link.html", configs=configs, account=account, registry=view.context.registry, lives=LIVES)


@post(HERE, "member", api="POST /connect_sessions")
async def create(view: View) -> Response:
    """Make a connect session and show its link this once."""
    form = await view.form()
    context = view.context
    if form.get("life") not in LIVES:
        raise errors.ValidationFailed("the life of the link is not valid", errors=["life: choose one of the list"])
    async with context.db.begin() as tx:
        if form.get("account"):
            account, _ = await accounts.get(tx, view.project_id, form.get("account"))
            ask = SessionRequest(
                account.origin_owner_id,
                account.origin_owner_name,
                account_id=account.id,
                expires_in=float(form.get("life")),
                type=account.type,
            )
        else:
            owner_id, owner_name = form.get("owner_id"), form.get("owner_name")
            if not 0 < len(owner_id) <= 500 or not 0 < len(owner_name) <= 500:
                fault = "owner: name and ID need 1 to 500 characters"
                raise errors.ValidationFailed("the owner is not valid", errors=[fault])
            ask = SessionRequest(
                owner_id,
                owner_name,
                integration_id=form.get("config") or None,
                label=form.get("label")[:500] or None,
                multiple=form.flag("multiple"),
                expires_in=float(form.get("life")),
                type="test" if form.flag("test") else "production",
            )
        row, token = await service.create(tx, context.registry, view.project_id, ask)
    link = f"{context.public_url}/embedded/integrations?{urlencode({'token': token})}"
    return render(view, "link_made.html", link=link, session=row, again=bool(form.get("account")))
