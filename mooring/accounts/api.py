"""Linked accounts over the API (contract §2.3)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from mooring import errors
from mooring.accounts import credentials, lifecycle, probes, revocation, service
from mooring.accounts.context import Context
from mooring.accounts.forecast import Forecast
from mooring.accounts.limits import AccountLimits, limits_of
from mooring.accounts.models import Account
from mooring.accounts.service import AccountChange
from mooring.auth_configs.models import AuthConfig
from mooring.diagnosis.table import CAUSES
from mooring.identity.api import caller_with
from mooring.identity.service import Caller
from mooring.kit.body import Body, Flag, one_of

router = APIRouter(prefix="/accounts", tags=["Accounts"])

Reader = Annotated[Caller, Depends(caller_with("platform:read"))]
Writer = Annotated[Caller, Depends(caller_with("platform:write"))]


class StatusReason(BaseModel):
    """Why an account is in its state."""

    code: str
    description: str | None
    timestamp: str
    what_to_do: str | None = Field(None, description="For a cause of the connection doctor: what its owner can do.")
    for_operator: str | None = Field(None, description="The same for whoever runs the hub.")
    evidence: dict[str, Any] | None = Field(None, description="The redacted exchange with the provider.")


class LinkedAccount(BaseModel):
    """A linked account. `credentials` shows masked values, and only to keys with `credentials:read`.

    `expected_failure_at` is when the account will stop to work unless its end user connects it again, as far as known.
    """

    id: str
    provider: str
    provider_name: str | None
    status: lifecycle.Status
    status_reasons: list[StatusReason]
    origin_owner_id: str
    origin_owner_name: str
    origin_username: str | None
    label: str | None
    metadata: dict[str, Any] | None
    shared: bool
    type: str
    integration_id: str | None
    connector_profile_id: str | None
    authentication_config_key: str | None
    environment: str | None
    setup_information: dict[str, Any] | None
    credentials: dict[str, str] | None
    granted_scopes: list[str] | None
    missing_scopes: list[str]
    provider_account: dict[str, str | None] | None
    expected_failure_at: datetime | None
    expected_failure_reason: str | None
    created_at: datetime
    updated_at: datetime


class AccountPatch(Body):
    """A change of an account. `{}` means no change: published SDKs send it for objects that they can't serialise.

    Further keys of the published contract are taken as long as they change nothing; see `_require_unchanged`.
    """

    model_config = ConfigDict(extra="allow")

    origin_owner_id: str | None = Field(None, min_length=1, max_length=500)
    origin_owner_name: str | None = Field(None, min_length=1, max_length=500)
    origin_username: str | None = Field(None, max_length=500)
    label: Annotated[str, Field(max_length=500)] | dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    type: str | None = Field(None, json_schema_extra=one_of("production", "test"))
    shared: Flag | None = None
    status: str | None = Field(None, json_schema_extra=one_of("active", "suspended"))


def render(
    context: Context,
    account: Account,
    config: AuthConfig | None,
    forecast: Forecast | None = None,
    masked: dict[str, str] | None = None,
    *,
    evidence: bool = True,
) -> LinkedAccount:
    """The API shape of an account. Lists leave the evidence of its reasons out: it may be long."""
    connector = context.registry.get(account.connector_key)
    return LinkedAccount(
        id=account.id,
        provider=account.connector_key,
        provider_name=connector.title if connector else None,
        status=lifecycle.effective(account.status, config_active=config is None or config.active),
        status_reasons=[_reason(r if evidence else service.told(r)) for r in account.status_reasons],
        origin_owner_id=account.origin_owner_id,
        origin_owner_name=account.origin_owner_name,
        origin_username=account.origin_username,
        label=account.label,
        metadata=account.meta,
        shared=account.shared,
        type=account.type,
        integration_id=account.auth_config_id,
        connector_profile_id=account.auth_config_id,
        authentication_config_key=config.method_key if config else None,
        environment=config.environment if config else None,
        setup_information=account.setup or None,
        credentials=masked,
        granted_scopes=account.granted_scopes,
        missing_scopes=account.missing_scopes,
        provider_account={"id": account.identity, "label": account.identity_label} if account.identity else None,
        expected_failure_at=forecast.at if forecast else None,
        expected_failure_reason=forecast.reason if forecast else None,
        created_at=account.created_at,
        updated_at=account.updated_at,
    )


def _reason(stored: dict[str, Any]) -> StatusReason:
    cause = CAUSES.get(stored["code"])
    if cause is None:
        return StatusReason(**stored)
    return StatusReason(**stored, what_to_do=cause.what_to_do, for_operator=cause.for_operator)


def _words(values: list[str] | None, *more: str | None) -> list[str]:
    """Repeated keys and comma lists alike (contract §1)."""
    return [w for v in [*(values or ()), *more] if v for w in v.split(",") if w]


def _owners(values: list[str] | None, one: str | None) -> list[str]:
    """Owner ids to search for. They are the caller's own and may hold commas, so a value counts as a whole too."""
    return [*(values or ()), *_words(values), *([one] if one else ())]


def _require_unchanged(body: AccountPatch, account: Account, config: AuthConfig) -> None:
    """Refuse a change that a PATCH can't make, instead of losing it silently. Raises Unprocessable."""
    stored = {
        "provider": account.connector_key,
        "integration_id": config.id,
        "connector_profile_id": config.id,
        "authentication_config_key": config.method_key,
        "environment": config.environment,
    }
    sent = {name: value for name, value in (body.model_extra or {}).items() if value not in (None, {}, "")}
    faults = [f"{name}: can't be changed here" for name, kept in stored.items() if sent.get(name, kept) != kept]
    secret = ("credentials", "secrets", "setup_information")
    faults += [f"{name}: can't be changed here" for name in secret if name in sent]
    if faults:
        raise errors.Unprocessable(
            "credentials and auth config of an account change only through a connect session, which tests them first",
            hint="Create a connect session with this account_id, and the integration_id to move it to.",
            errors=faults,
        )


@router.get("")
async def list_accounts(
    request: Request,
    caller: Reader,
    page: Annotated[float, Query(ge=1, le=1_000_000)] = 1,
    page_size: Annotated[float, Query(ge=1, le=1000)] = 25,
    account_ids: Annotated[list[str] | None, Query()] = None,
    origin_owner_ids: Annotated[list[str] | None, Query()] = None,
    origin_owner_id: str | None = None,
    providers: Annotated[list[str] | None, Query()] = None,
    provider: str | None = None,
    status: Annotated[list[str] | None, Query()] = None,
) -> list[LinkedAccount]:
    """List the project's accounts, newest first: a bare array."""
    context: Context = request.app.state.context
    bracketed = request.query_params.getlist  # `account_ids[]=…`, as some clients write a list
    async with context.db.read() as tx:
        rows = await service.search(
            tx,
            caller.project_id,
            account_ids=_words(account_ids, *bracketed("account_ids[]")),
            owner_ids=_owners([*(origin_owner_ids or ()), *bracketed("origin_owner_ids[]")], origin_owner_id),
            providers=_words(providers, provider, *bracketed("providers[]")),
            statuses=_words(status, *bracketed("status[]")),
            offset=(int(page) - 1) * int(page_size),
            limit=int(page_size),
        )
        forecasts = await service.forecasts(tx, [account.id for account, _ in rows])
    return [render(context, account, config, forecasts.get(account.id), evidence=False) for account, config in rows]


@router.get("/{id}")
async def get_account(request: Request, caller: Reader, id: str) -> LinkedAccount:
    """One account."""
    context: Context = request.app.state.context
    async with context.db.read() as tx:
        account, config = await service.get(tx, caller.project_id, id)
        masked = None
        if "credentials:read" in caller.scopes:
            secrets, _ = await service.open_secrets(tx, context.vault, account)
            masked = {k: credentials.redacted(v) for k, v in secrets.fields.items()} or None
        forecasts = await service.forecasts(tx, [id])
    return render(context, account, config, forecasts.get(id), masked)


@router.get("/{id}/meta")
async def get_account_meta(request: Request, caller: Reader, id: str) -> dict[str, Any]:
    """What the account's connector offers (legacy; the unified models are not part of this hub)."""
    context: Context = request.app.state.context
    async with context.db.read() as tx:
        account, _ = await service.get(tx, caller.project_id, id)
    connector = context.registry.get(account.connector_key)
    return {
        "provider": account.connector_key,
        "category": connector.categories[0] if connector else "other",
        "models": {},
    }


@router.get("/{id}/limits")
async def get_account_limits(request: Request, caller: Reader, id: str) -> AccountLimits:
    """How an account stands inside its provider's rate limit, as the process that answers sees it.

    Several processes share what the provider allows evenly; `share` is this one's part, and the windows show that part.
    """
    context: Context = request.app.state.context
    return await limits_of(context, await context.accounts.get(caller.project_id, id))


@router.patch("/{id}")
async def patch_account(request: Request, caller: Writer, id: str, body: AccountPatch) -> LinkedAccount:
    """Change labels, metadata, owner or type; suspend (`status: suspended`) or resume (`status: active`)."""
    context: Context = request.app.state.context
    new_type = body.type.lower() if body.type else None
    if new_type not in {None, "production", "test"}:
        raise errors.ValidationFailed("Validation failed", errors=["type: must be production or test"])
    if new_type == "production" and body.model_fields_set != {"type"}:
        new_type = None  # npm 4.28 adds `type: production` to every change; alone it is meant
    if body.status not in {None, "suspended", "active"}:
        raise errors.ValidationFailed("Validation failed", errors=["status: may be set to suspended or active"])
    new = AccountChange(
        origin_owner_id=body.origin_owner_id,
        origin_owner_name=body.origin_owner_name,
        origin_username=body.origin_username,
        label=body.label if isinstance(body.label, str) else None,
        metadata=body.metadata or None,
        type=new_type,
        shared=body.shared,
        suspended=None if body.status is None else body.status == "suspended",
    )
    async with context.db.begin() as tx:
        account, config = await service.change(tx, caller.project_id, id, new)
        _require_unchanged(body, account, config)
        forecasts = await service.forecasts(tx, [id])
    return render(context, account, config, forecasts.get(id))


@router.post("/{id}/test")
async def test_account(request: Request, caller: Writer, id: str) -> LinkedAccount:
    """Send the connector's test request with the stored credential now.

    200 when the provider takes it; 422 with the reason when not, 429 while it limits requests, 412 for an account that
    serves no calls.
    """
    context: Context = request.app.state.context
    await probes.test_now(context, caller.project_id, id)
    async with context.db.read() as tx:
        account, config = await service.get(tx, caller.project_id, id)
        forecasts = await service.forecasts(tx, [id])
    return render(context, account, config, forecasts.get(id))


@router.delete("/{id}")
async def delete_account(request: Request, caller: Writer, id: str) -> LinkedAccount:
    """Delete an account: its secrets are shredded at once, and its tokens are revoked at the provider."""
    context: Context = request.app.state.context
    async with context.db.begin() as tx:
        await service.lock(tx, caller.project_id, id)  # a refresh that ends now would leave a token unrevoked
        await revocation.enqueue(tx, context, caller.project_id, id)
        account, config = await service.remove(tx, caller.project_id, id)
    return render(context, account, config)
