"""Linked accounts: the table, one account with its life, and what is done to it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson
from starlette.responses import Response

from mooring import errors
from mooring.accounts import lifecycle, listing, probes, revocation, service
from mooring.accounts.forecast import REASONS
from mooring.accounts.models import Account
from mooring.accounts.service import AccountChange
from mooring.auth_configs import service as auth_configs
from mooring.auth_configs.models import AuthConfig
from mooring.dashboard.render import render
from mooring.dashboard.routing import PROJECT, get, post
from mooring.dashboard.view import View
from mooring.webhooks import history

HERE = PROJECT + "/accounts"


def wanted_of(view: View) -> listing.Wanted:
    """The filters of the address."""
    return listing.Wanted(
        text=view.query("q"),
        status=view.query("status"),
        provider=view.query("provider"),
        config_id=view.query("config"),
        type=view.query("type"),
        failing_soon=view.query("soon") == "1",
    )


def position_of(text: str) -> listing.Position | None:
    """A page's position from the address. Raises BadRequest."""
    if not text:
        return None
    at, _, id = text.partition("~")
    try:
        return datetime.fromisoformat(at), id
    except ValueError:
        raise errors.BadRequest("this page's address is not complete") from None


@get(HERE, "viewer", api="GET /accounts")
async def show(view: View) -> Response:
    """The project's accounts, filtered and searched."""
    wanted = wanted_of(view)
    async with view.context.db.read() as tx:
        rows, next = await listing.page(tx, view.project_id, wanted, before=position_of(view.query("before")))
        counts = await listing.count_by_status(tx, view.project_id)
        configs, _ = await auth_configs.search(tx, view.project_id)
    return render(
        view,
        "accounts.html",
        rows=rows,
        next=f"{next[0].isoformat()}~{next[1]}" if next else None,
        counts=counts,
        configs=configs,
        wanted=wanted,
        providers=sorted({c.connector_key for c in configs}),
        statuses=[s for s in lifecycle.STATUSES if s != "archived"],
        registry=view.context.registry,
    )


async def found(view: View) -> tuple[Account, AuthConfig]:
    """The account of the path. Raises NotFound."""
    async with view.context.db.read() as tx:
        return await service.get(tx, view.project_id, view.path("id"))


@get(HERE + "/{id}", "viewer", api="GET /accounts/{id}, GET /events?account_id=")
async def detail(view: View) -> Response:
    """One account: what it is, how it fares, what happened to it."""
    async with view.context.db.read() as tx:
        account, config = await service.get(tx, view.project_id, view.path("id"))
        credential = await listing.credential_of(tx, account.id)
        timeline, _ = await history.events(tx, view.project_id, account_id=account.id, limit=30)
    connector = view.context.registry.of(config)
    method = connector.auth.get(config.method_key) if connector else None
    required = list(config.setup.get("scopes") or (method.oauth2.scopes if method and method.oauth2 else ()))
    granted = list(account.granted_scopes or ())
    return render(
        view,
        "account.html",
        account=account,
        config=config,
        connector=connector,
        method=method,
        credential=credential,
        timeline=timeline,
        required=required,
        missing=account.missing_scopes,
        extra=[scope for scope in granted if scope not in required],
        known=account.granted_scopes is not None,
        state=lifecycle.effective(account.status, config_active=config.active),
        failure=REASONS.get(credential.expected_failure_reason or "") if credential else None,
    )


@get(HERE + "/{id}/edit", "member")
async def ask_edit(view: View) -> Response:
    """The dialog for label, owner and metadata."""
    account, _ = await found(view)
    return render(view, "account_edit.html", account=account, metadata=_pretty(account.meta))


def _pretty(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() if value else ""


@post(HERE + "/{id}/edit", "member", api="PATCH /accounts/{id}")
async def edit(view: View) -> Response:
    """Change label, owner and metadata."""
    form = await view.form()
    metadata: dict[str, Any] | None = None
    if form.get("metadata"):
        try:
            parsed = orjson.loads(form.get("metadata"))
        except orjson.JSONDecodeError as e:
            raise errors.ValidationFailed("the metadata is no JSON", errors=[f"metadata: {e}"[:200]]) from None
        if not isinstance(parsed, dict):
            raise errors.ValidationFailed("the metadata must be a JSON object", errors=["metadata: must begin with {"])
        metadata = parsed
    owner_id, owner_name = form.get("owner_id"), form.get("owner_name")
    if not 0 < len(owner_id) <= 500 or not 0 < len(owner_name) <= 500:
        raise errors.ValidationFailed("the owner is not valid", errors=["owner: ID and name need 1 to 500 characters"])
    new = AccountChange(
        origin_owner_id=owner_id,
        origin_owner_name=owner_name,
        origin_username=form.get("username")[:500],
        label=form.get("label")[:500],
        metadata=metadata if metadata is not None else {},
    )
    return await _change(view, new, "saved")


async def _change(view: View, new: AccountChange, note: str) -> Response:
    async with view.context.db.begin() as tx:
        await service.change(tx, view.project_id, view.path("id"), new)
    return view.go(f"{view.base}/accounts/{view.path('id')}", note)


@post(HERE + "/{id}/suspend", "member", api='PATCH /accounts/{id} {"status": "suspended"}')
async def suspend(view: View) -> Response:
    """Refuse calls through it; the credential is kept."""
    return await _change(view, AccountChange(suspended=True), "suspended")


@post(HERE + "/{id}/resume", "member", api='PATCH /accounts/{id} {"status": "active"}')
async def resume(view: View) -> Response:
    """Let it serve again."""
    return await _change(view, AccountChange(suspended=False), "resumed")


@post(HERE + "/{id}/type", "member", api='PATCH /accounts/{id} {"type": "test"}')
async def convert(view: View) -> Response:
    """Turn a production account into a test account, or back."""
    account, _ = await found(view)
    return await _change(
        view, AccountChange(type="test" if account.type == "production" else "production"), "converted"
    )


@post(HERE + "/{id}/test", "member", api="POST /accounts/{id}/test")
async def test(view: View) -> Response:
    """Send the connector's test request with the stored credential, and say what the provider answers."""
    id = view.path("id")
    await probes.test_now(view.context, view.project_id, id)
    return view.go(f"{view.base}/accounts/{id}", "tested")


@get(HERE + "/{id}/delete", "member")
async def ask_delete(view: View) -> Response:
    """The dialog before a deletion."""
    account, _ = await found(view)
    return render(view, "account_delete.html", account=account)


@post(HERE + "/{id}/delete", "member", api="DELETE /accounts/{id}")
async def delete(view: View) -> Response:
    """Shred the credential and have it revoked at the provider."""
    context, id = view.context, view.path("id")
    async with context.db.begin() as tx:
        await service.lock(tx, view.project_id, id)
        await revocation.enqueue(tx, context, view.project_id, id)
        await service.remove(tx, view.project_id, id)
    return view.go(f"{view.base}/accounts", "deleted")
