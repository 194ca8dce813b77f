"""The JSON side of the Hub (contract §2.12): what the embeddable component calls with its session token."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import ConfigDict, Field

from mooring import errors
from mooring.accounts import credentials
from mooring.accounts.service import Linked
from mooring.auth_configs import service as auth_configs
from mooring.auth_configs.models import AuthConfig
from mooring.connect import launches, linking, reporting, service
from mooring.connect.models import ConnectSession
from mooring.connectors.definition import AuthMethod, Connector
from mooring.connectors.definition import Field as FieldSpec
from mooring.diagnosis.evidence import describe
from mooring.diagnosis.table import CAUSES
from mooring.identity import audit
from mooring.kit.body import Body
from mooring.protocol.redact import clean_line

router = APIRouter(prefix="/hub", tags=["Hub"])


async def hub_session(request: Request, x_hub_session_token: Annotated[str | None, Header()] = None) -> ConnectSession:
    """The session whose token came in `x-hub-session-token`. Raises SessionExpired.

    A session whose link was opened belongs to that browser, whose key comes in `x-hub-browser`.
    """
    return await _session(request, x_hub_session_token)


async def attempt_session(
    request: Request, x_hub_session_token: Annotated[str | None, Header()] = None
) -> ConnectSession:
    """The same for attempts: whoever consents while the session ends must still learn how it ended (contract §2.13)."""
    return await _session(request, x_hub_session_token, grace=service.ATTEMPT_SECONDS)


async def _session(request: Request, token: str | None, *, grace: float = 0) -> ConnectSession:
    context = request.app.state.context
    async with context.db.read() as tx:
        session = await service.by_token(tx, token, grace=grace)
    service.require_browser(session, request.headers.get("x-hub-browser"))
    request.scope["mooring.hub_origins"] = context.origins_of(await context.projects(session.project_id))
    audit.act_as(service.actor_of(session, request.client.host if request.client else None))
    return session


Session = Annotated[ConnectSession, Depends(hub_session)]
AttemptSession = Annotated[ConnectSession, Depends(attempt_session)]


class AccountSubmit(Body):
    """A filled-in form. Old Hubs name the provider instead of the auth config."""

    model_config = ConfigDict(extra="ignore")

    integration_id: str | None = Field(None, max_length=80)
    provider: str | None = Field(None, max_length=80)
    credentials: dict[str, Any] = Field(default_factory=dict)


class AttemptStart(Body):
    """The session's token once more, as the published Hub sends it; or the form, for a launch URL without any of it."""

    model_config = ConfigDict(extra="ignore")

    token: str | None = Field(None, max_length=500)
    integration_id: str | None = Field(None, max_length=80, description="Makes the answer hold a launch URL.")
    credentials: dict[str, Any] = Field(default_factory=dict)
    account_id: str | None = Field(None, max_length=80, description="The account to reconnect.")
    return_url: str | None = Field(
        None, max_length=2000, description="Where to go afterwards, instead of a closing page."
    )


@router.get("/settings")
async def hub_settings(session: Session) -> dict[str, Any]:
    """What the Hub needs before it draws anything."""
    out: dict[str, Any] = {"enabled_features": ["hub_link_account_release"]}
    if session.account_id is not None:
        out["existing_account_id"] = session.account_id
    return out


@router.get("/connectors")
async def hub_connectors(request: Request, session: Session, provider: str | None = None) -> dict[str, Any]:
    """The connectors to choose from: the default auth config of each, or exactly the session's one."""
    context = request.app.state.context
    async with context.db.read() as tx:
        rows = await service.offered_configs(tx, session, context.registry, provider or None)
    return {
        "integrations": [_integration(request, row) for row in rows],
        "external_trigger_token": session.external_trigger_token,
    }


def _integration(request: Request, row: AuthConfig) -> dict[str, Any]:
    context = request.app.state.context
    connector: Connector = context.registry.of(row)
    return {
        "active": row.active,
        "name": connector.title,
        "provider": connector.key,
        "type": connector.categories[0],
        "version": connector.version,
        "authentication_config_key": row.method_key,
        "environment": row.environment,
        "integration_id": row.id,
        "connector_profile_id": row.id,
        "logo_url": f"{context.public_url}/logos/{connector.key}.svg",
    }


@router.get("/connectors/{integration_id}")
async def hub_connector(
    request: Request, session: Session, integration_id: str, account_id: str | None = None
) -> dict[str, Any]:
    """The form of one auth config, for the account that is edited, if one is."""
    context = request.app.state.context
    async with context.db.read() as tx:
        if account_id is not None:
            await service.owned_account(tx, session, context.registry, account_id)
        row = await service.config_of(tx, session, context.registry, integration_id, account_id)
        opened = await auth_configs.open_config(tx, context.vault, context.registry, row)
    method = opened.method
    config: dict[str, Any] = {
        "key": opened.connector.key,
        "name": opened.connector.title,
        "type": "oauth2" if method.kind == "oauth2" else "custom",
        "configFields": [_field(f, editing=session.account_id is not None) for f in method.fields],
        "configNotices": _notices(method),
        "assets": {"icon": f"{context.public_url}/logos/{opened.connector.key}.svg"},
        "support": {"link": opened.connector.docs, "description": _support(opened.connector, method)},
    }
    if method.oauth2 and method.kind == "oauth2":
        config["grantType"] = method.oauth2.grant
    if method.external_trigger:
        config["configFields"].append(
            {
                "key": linking.TRIGGER_FIELD,
                "label": "External Trigger Token",
                "type": "text",
                "required": False,
                "readOnly": True,
                "secret": False,
                "placeholder": "",
                "value": session.external_trigger_token,
                "description": f"Copy this token into {opened.connector.title}.",
            }
        )
    reasons = method.oauth2.scope_reasons if method.oauth2 else {}
    return {
        "config": config,
        "hub_settings": {"configured_webhook_events": {}, "project_settings": {}},
        "scopes": [{"name": s, "reason": reasons.get(s)} for s in opened.scopes],
        "permissions": list(method.permissions),
    }


def _field(spec: FieldSpec, *, editing: bool) -> dict[str, Any]:
    """A field as the published Hub reads it. `secret` is always said: left out it would count as secret."""
    out: dict[str, Any] = {
        "key": spec.key,
        "label": spec.label,
        "type": spec.type,
        "required": spec.required,
        "readOnly": spec.read_only,
        "secret": spec.secret,
        "placeholder": spec.placeholder or "",
    }
    if spec.help:
        out["description"] = spec.help
    if spec.options:
        out["options"] = [{"value": value, "label": label} for value, label in spec.options]
    if spec.default is not None and not spec.secret:
        out["value"] = spec.default
    if spec.pattern:
        out["validation"] = {
            "type": "html-pattern",
            "pattern": _pattern(spec, editing=editing),
            "error": spec.pattern_error or f"{spec.label} does not look right.",
        }
    return out


def _pattern(spec: FieldSpec, *, editing: bool) -> str:
    """The pattern for the published Hub, which searches for it anywhere in what was typed, spaces around it included.

    In edit mode an untouched secret holds its placeholder, which must not fail the check.
    """
    placeholder = rf"|{re.escape(credentials.REDACTED)}[\s\S]*" if editing and spec.secret else ""
    choices = f"{spec.pattern}{placeholder}"
    return rf"^\s*(?:{choices})\s*$"


def _notices(method: AuthMethod) -> list[dict[str, Any]]:
    if not method.notice:
        return []
    return [{"key": "notice", "type": "info", "description": method.notice, "position": "top"}]


def _support(connector: Connector, method: AuthMethod) -> str:
    if method.permissions:
        return f"{connector.title} needs: {'; '.join(method.permissions)}."
    return f"How to connect {connector.title}."


@router.post("/accounts")
async def hub_create_account(request: Request, session: Session, body: AccountSubmit) -> dict[str, Any]:
    """Link by a form: test the credentials at the provider, then save. 422 names the cause, nothing is half-written.

    `warning` is there when the account was linked with the credential of another account at the provider.
    """
    config = await _chosen(request, session, body, request.headers.get("x-hub-provider"))
    return linking.shown(await _link(request, session, config, body, account_id=session.account_id))


@router.get("/accounts/{id}")
async def hub_account(request: Request, session: Session, id: str) -> dict[str, Any]:
    """An account that this session may edit, with its secrets masked."""
    context = request.app.state.context
    async with context.db.read() as tx:
        account, current = await service.owned_account(tx, session, context.registry, id)
        chosen = await service.config_of(tx, session, context.registry, session.integration_id or current.id, id)
        stored = await linking.stored_form(tx, context, account, current, chosen)
    return {
        "secureId": account.id,
        "provider": account.connector_key,
        "setupInformation": stored.public if stored else {},
        "secrets": {key: credentials.redacted(value) for key, value in stored.secret.items()} if stored else {},
        "version": (context.registry.of(chosen) or context.registry[account.connector_key]).version,
        "authConfigKey": chosen.method_key,
        "environment": chosen.environment,
        "integrationId": chosen.id,
        "status": account.status,
        "name": account.origin_owner_name,
    }


@router.patch("/accounts/{id}")
async def hub_update_account(request: Request, session: Session, id: str, body: AccountSubmit) -> dict[str, Any]:
    """Update the credentials of the account. A key that is left out keeps its value; the test runs again."""
    context = request.app.state.context
    async with context.db.read() as tx:
        _, config = await service.owned_account(tx, session, context.registry, id)
    if body.integration_id is not None or body.provider is not None:
        config = await _chosen(request, session, body, None, id)
    return linking.shown(await _link(request, session, config, body, account_id=id))


async def _link(
    request: Request, session: ConnectSession, config: AuthConfig, body: AccountSubmit, *, account_id: str | None
) -> Linked:
    """Link by the form; a refusal is logged for the operator, with the exchange, under this request's id."""
    context = request.app.state.context
    with _readable_refusal():
        try:
            return await linking.link_with_form(context, session, config, body.credentials, account_id=account_id)
        except errors.CredentialRejected as e:
            reporting.log_failure(
                context,
                session,
                e,
                request_id=request.scope.get("mooring.request_id"),
                provider=config.connector_key,
                method=request.method,
                path=request.url.path,
            )
            raise


@contextmanager
def _readable_refusal() -> Iterator[None]:
    """Put what happened and what to do into `provider_response` as text: the published Hub shows that and `message`.

    It reads no other key. An object breaks it, and of JSON inside the text it shows the first words only.
    """
    try:
        yield
    except errors.Unprocessable as e:
        told = e.extra.get("provider_response")
        if isinstance(told, dict):
            status = f" {told['status']}" if told.get("status") else ""
            told = f"Answer{status}: {told.get('message') or '-'}"
        e.extra["provider_response"] = "\n".join(filter(None, [e.error_hint, *e.errors, told]))
        raise


async def _chosen(
    request: Request,
    session: ConnectSession,
    body: AccountSubmit,
    old_provider: str | None,
    account_id: str | None = None,
) -> AuthConfig:
    context = request.app.state.context
    provider = body.provider or old_provider
    async with context.db.read() as tx:
        if body.integration_id:
            return await service.config_of(tx, session, context.registry, body.integration_id, account_id)
        rows = await service.offered_configs(tx, session, context.registry, provider)
    if provider is None and len(rows) != 1:
        raise errors.ValidationFailed("Validation failed", errors=["integration_id: Field required"])
    if not rows:
        raise errors.NotFound("this session offers no such connector")
    return rows[0]


@router.post("/connection_attempts")
async def hub_start_attempt(request: Request, session: Session, body: AttemptStart | None = None) -> dict[str, str]:
    """Begin an OAuth attempt. With `integration_id` the form is kept, sealed, and `launch_url` opens the provider's page.

    That URL works once, for two minutes, and holds neither the session's token nor a form value.
    """
    context = request.app.state.context
    async with context.db.begin() as tx:
        if body and body.token and (await service.by_token(tx, body.token)).id != session.id:
            raise errors.BadRequest("the token in the body is not the session's")
        if body is None or body.integration_id is None:
            return {"id": (await service.start_attempt(tx, session)).id}
        launch = await launches.prepare(
            tx,
            context,
            session,
            integration_id=body.integration_id,
            account_id=body.account_id,
            values=body.credentials,
            return_url=body.return_url,
        )
    return {"id": launch.attempt_id, "launch_url": launch.url}


@router.get("/connection_attempts/{id}")
async def hub_attempt(request: Request, session: AttemptSession, id: str) -> dict[str, Any]:
    """How an attempt stands; the Hub polls it. `warning` is there when an attempt that succeeded has one."""
    context = request.app.state.context
    async with context.db.read() as tx:
        attempt = await service.get_attempt(tx, session.id, id)
        status = service.attempt_status(attempt)
        account = await launches.linked_account(tx, context, session, attempt) if attempt.account_id else None
    said = {"code": _plain(attempt.error_code), "description": _plain(attempt.error_description)}
    out: dict[str, Any] = {
        "id": attempt.id,
        "status": status,
        "account": account,
        "error": said if status == "error" else None,
    }
    if status == "authenticated" and attempt.error_code:
        out["warning"] = said
    # Beside the contract's keys: plain words for our own Hub, also for an attempt that was left alone.
    ended = {"error": attempt.error_code, "cancelled": "popup_closed", "expired": "attempt_expired"}.get(status)
    if cause := CAUSES.get(ended or ""):
        out["diagnosis"] = describe(cause)
    return out


def _plain(text: str | None) -> str | None:
    """A line in which the published Hub, which reads it as Markdown, finds no picture and no disguised link (rule O9)."""
    return clean_line(text, 1000).replace("](", "] (") if text else None


@router.delete("/connection_attempts/{id}", status_code=204)
async def hub_cancel_attempt(request: Request, session: AttemptSession, id: str) -> Response:
    """Cancel an attempt. A callback that comes later connects nothing."""
    async with request.app.state.context.db.begin() as tx:
        attempt = await service.get_attempt(tx, session.id, id, lock=True)
        await service.finish_attempt(tx, attempt, "cancelled")
    return Response(status_code=204)
