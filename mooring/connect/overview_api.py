"""What our own Hub asks beside the published contract: its first screen, the owner's accounts, the browser of a link."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response

from mooring import errors
from mooring.accounts import lifecycle, revocation
from mooring.accounts import service as accounts
from mooring.accounts.context import Context
from mooring.accounts.models import Account
from mooring.auth_configs.models import AuthConfig
from mooring.connect import launches, service
from mooring.connect.hub_api import Session
from mooring.connectors.definition import AuthMethod, Connector
from mooring.identity.project_api import logo_url
from mooring.identity.service import ProjectId

router = APIRouter(prefix="/hub", tags=["Hub"])


@router.get("/overview")
async def hub_overview(request: Request, session: Session) -> dict[str, Any]:
    """All that the Hub's first screen shows: whose it is, what can be connected by which methods, what is connected."""
    context: Context = request.app.state.context
    app = await context.projects(session.project_id)
    async with context.db.read() as tx:
        rows = await service.offered_configs(tx, session, context.registry, every_method=app.offer_all_methods)
        owned = await service.owned_accounts(tx, session, context.registry)
    return {
        "app": {
            "name": app.name,
            "logo_url": logo_url(context.public_url, app),
            "accent_light": app.accent_light,
            "accent_dark": app.accent_dark,
            "support_contact": app.support_contact,
            "language": app.default_language,
        },
        "owner": session.origin_owner_name,
        "expires_at": session.expires_at,
        "account_id": session.account_id,
        "can_remove": session.manage_accounts,
        "connectors": _connectors(context, rows),
        "accounts": [_account(context, account, config) for account, config in owned],
    }


def _connectors(context: Context, rows: list[AuthConfig]) -> list[dict[str, Any]]:
    out: dict[str, dict[str, Any]] = {}
    for row in rows:
        connector = context.registry.of(row) or context.registry[row.connector_key]
        shown = out.setdefault(
            connector.key,
            {
                "key": connector.key,
                "name": connector.title,
                "categories": list(connector.categories),
                "logo_url": _logo(context, connector.key),
                "guide": connector.guide is not None,
                "methods": [],
            },
        )
        method = connector.auth[row.method_key]
        shown["methods"].append(
            {
                "integration_id": row.id,
                "key": method.key,
                "label": method.label,
                "consent": _has_consent_page(method),
            }
        )
    return sorted(out.values(), key=lambda c: str(c["name"]).lower())


def _has_consent_page(method: AuthMethod) -> bool:
    return method.oauth2 is not None and method.oauth2.grant == "authorization_code"


def _logo(context: Context, key: str) -> str:
    return f"{context.public_url}/logos/{key}.svg"


def _account(context: Context, account: Account, config: AuthConfig) -> dict[str, Any]:
    connector: Connector = context.registry.of(config) or context.registry[account.connector_key]
    method = connector.auth.get(config.method_key)
    reasons = [r for r in account.status_reasons if r.get("description")]
    return {
        "id": account.id,
        "provider": account.connector_key,
        "name": connector.title,
        "logo_url": _logo(context, account.connector_key),
        "label": account.label or account.identity_label or account.identity,
        "status": lifecycle.effective(account.status, config_active=config.active),
        "reason": reasons[-1]["description"] if reasons and account.status != "active" else None,
        "reason_code": reasons[-1]["code"] if reasons and account.status != "active" else None,
        "integration_id": config.id,
        "consent": method is not None and _has_consent_page(method),
        "form": method is not None and bool(method.fields),
        "usable": method is not None and config.active,
        "missing_scopes": launches.missing_scopes(
            context, account.connector_key, config.method_key, account.missing_scopes
        ),
        "created_at": account.created_at,
    }


@router.get("/accounts")
async def hub_accounts(request: Request, session: Session) -> list[dict[str, Any]]:
    """The accounts of the session's own owner, without any credential; the session's one account if it names one."""
    context: Context = request.app.state.context
    async with context.db.read() as tx:
        owned = await service.owned_accounts(tx, session, context.registry)
    return [_account(context, account, config) for account, config in owned]


@router.delete("/accounts/{id}", status_code=204)
async def hub_delete_account(request: Request, session: Session, id: str) -> Response:
    """Remove an account of the session's owner: secrets are shredded at once, tokens are revoked at the provider."""
    context: Context = request.app.state.context
    project = ProjectId(session.project_id)
    async with context.db.begin() as tx:
        await service.owned_account(tx, session, context.registry, id)
        if not session.manage_accounts:
            raise errors.Unprocessable(
                "accounts can't be removed in this session",
                hint="Create the connect session with manage_accounts: true.",
            )
        await accounts.lock(tx, project, id)  # a refresh that ends now would leave a token unrevoked
        await revocation.enqueue(tx, context, project, id)
        await accounts.remove(tx, project, id)
    return Response(status_code=204)


@router.post("/browser", status_code=204)
async def hub_bind_browser(
    request: Request,
    session: Session,
    x_hub_browser: Annotated[
        str, Header(json_schema_extra={"minLength": service.MIN_BROWSER, "maxLength": service.MAX_BROWSER})
    ],
) -> Response:
    """Bind a mailed link to the browser that goes on with it; from then on every call must carry its key."""
    async with request.app.state.context.db.begin() as tx:
        await service.bind_browser(tx, session, x_hub_browser)
    return Response(status_code=204)
