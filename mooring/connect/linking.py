"""From a filled-in form to a linked account: read the form, get a token where needed, test, and only then save."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.accounts import credentials, diagnosing, probes, testing, tokens
from mooring.accounts import service as accounts
from mooring.accounts.context import Context
from mooring.accounts.credentials import Secrets, Times
from mooring.accounts.models import Account
from mooring.accounts.service import Linked, NewCredential, OwnerInfo
from mooring.auth_configs import service as auth_configs
from mooring.auth_configs.models import AuthConfig
from mooring.auth_configs.service import OpenConfig, field_fault
from mooring.connect.models import ConnectSession
from mooring.connectors.definition import AuthMethod, Field
from mooring.diagnosis.evidence import Phase, diagnosis
from mooring.identity.service import ProjectId
from mooring.incoming import service as incoming
from mooring.kit import clock, idempotency
from mooring.kit.http import HttpFailure
from mooring.protocol.oauth2 import TokenAnswer, TokenNonsense, TokenRefused, missing_scopes

TRIGGER_FIELD = "external-trigger-token"
MAX_VALUE = 20_000  # characters; a PEM key fits


@dataclass(frozen=True, slots=True)
class Form:
    """A form as read: what is public, what is secret, and what was typed as it came."""

    public: Mapping[str, str]
    secret: Mapping[str, str] = field(repr=False)
    typed: Mapping[str, str] = field(repr=False)


def read_form(method: AuthMethod, values: Mapping[str, Any], existing: Form | None = None) -> Form:
    """Check and trim a form. Raises Unprocessable with one line per fault; values never appear in it.

    In edit mode a key that is left out, empty or still redacted keeps its stored value.
    """
    known = {f.key: f for f in method.fields}
    faults = [f"{key[:60]}: this form has no such field" for key in values if key not in known and key != TRIGGER_FIELD]
    public = dict(existing.public) if existing else {}
    secret = dict(existing.secret) if existing else {}
    typed: dict[str, str] = {}
    for spec in method.fields:
        raw = values.get(spec.key)
        if isinstance(raw, bool) or (raw is not None and not isinstance(raw, str | int | float)):
            faults.append(f"{spec.label}: must be text")
            continue
        text = "" if raw is None else str(raw)
        value = text if "-----BEGIN" in text else text.strip()
        if not value or credentials.is_redacted(value):
            continue
        if fault := _fault(spec, value):
            faults.append(f"{spec.label}: {fault}")
            continue
        typed[spec.key] = value
        (secret if spec.secret else public)[spec.key] = value
    for spec in method.fields:
        stored = secret if spec.secret else public
        if spec.key not in stored and spec.default is not None:
            stored[spec.key] = spec.default
        if spec.required and not stored.get(spec.key) and not any(f.startswith(f"{spec.label}:") for f in faults):
            faults.append(f"{spec.label}: is required")
    if faults:
        by_field = {
            f.key: m.removeprefix(f"{f.label}: ") for f in method.fields for m in faults if m.startswith(f"{f.label}:")
        }
        raise errors.Unprocessable(
            "; ".join(faults[:5]),
            code="ValidationError",
            errors=faults,
            extra={"fields": by_field} if by_field else None,
        )
    return Form(
        {k: v for k, v in public.items() if k in known},
        {k: v for k, v in secret.items() if k in known},
        typed,
    )


def _fault(spec: Field, value: str) -> str | None:
    if len(value) > MAX_VALUE:
        return f"is longer than {MAX_VALUE} characters"
    if spec.options and value not in {v for v, _ in spec.options}:
        return f"must be one of {', '.join(v for v, _ in spec.options)}"
    if spec.type == "number" and not value.lstrip("-").replace(".", "", 1).isdigit():
        return "must be a number"
    return field_fault(spec.pattern, spec.pattern_error, value)


async def link_with_form(
    context: Context, session: ConnectSession, config: AuthConfig, values: Mapping[str, Any], *, account_id: str | None
) -> Linked:
    """Link by a method that needs no browser: static credentials, client credentials, or a login.

    Raises Unprocessable for a faulty form, CredentialRejected when the provider refuses; then nothing was written.
    """
    async with context.db.read() as tx:
        opened = await auth_configs.open_config(tx, context.vault, context.registry, config)
        existing = await existing_form(tx, context, session, config, account_id)
    form = read_form(opened.method, values, existing)
    oauth2 = opened.method.oauth2
    if oauth2 is not None and oauth2.grant == "authorization_code":
        raise errors.Unprocessable("this auth method needs the provider's consent page", hint="Start an OAuth attempt.")
    secrets = Secrets(fields=form.secret)
    answer: TokenAnswer | None = None
    if oauth2 is not None:
        scope = {**opened.setup, **form.public, **secrets.scope()}
        answer = await ask_token(context, opened, scope, tokens.machine_params(oauth2, opened, scope), form)
        secrets = with_token(opened, secrets, answer)
    new = await tested(context, opened, form, secrets, answer)
    async with context.db.begin() as tx:
        return await save(tx, context, session, new, account_id=account_id)


async def ask_token(
    context: Context, opened: OpenConfig, scope: Mapping[str, Any], params: Mapping[str, str], form: Form
) -> TokenAnswer:
    """A token request while linking; every failure becomes a CredentialRejected with its cause."""
    assert opened.method.oauth2 is not None
    phase = diagnosing.machine_phase(opened.method.oauth2) or "token_exchange"
    try:
        answer = await tokens.request_token(context.http, opened, scope, params)
        return await tokens.logged_in(context.http, opened, scope, answer)
    except (TokenRefused, TokenNonsense, HttpFailure) as e:
        raise _refused(e, opened, scope, phase, form) from None


def _refused(
    error: TokenRefused | TokenNonsense | HttpFailure,
    opened: OpenConfig,
    scope: Mapping[str, Any],
    phase: Phase,
    form: Form,
    *,
    url: str | None = None,
) -> errors.MooringError:
    if isinstance(error, HttpFailure):
        found = diagnosing.of_failure(error, phase, tokens.unanswered(opened, scope, error, url=url), form.typed)
    else:
        found = diagnosing.of_token_error(error, opened.connector, phase, method=opened.method, typed=form.typed)
    return diagnosing.refusal(opened.connector, found)


async def push_request(
    context: Context, opened: OpenConfig, scope: Mapping[str, Any], url: str, params: Mapping[str, str], form: Form
) -> str:
    """Push an authorization request; every failure becomes a CredentialRejected with its cause."""
    try:
        return await tokens.push_request(context.http, opened, scope, url, params)
    except (TokenRefused, TokenNonsense, HttpFailure) as e:
        raise _refused(e, opened, scope, "token_exchange", form, url=url) from None


def with_token(opened: OpenConfig, secrets: Secrets, answer: TokenAnswer) -> Secrets:
    """The credential with its first token. Raises CredentialRejected when the answer holds a value that is not trusted."""
    assert opened.method.oauth2 is not None
    try:
        return credentials.with_token(secrets, opened.method.oauth2, answer)
    except errors.Unprocessable as e:
        found = diagnosis("unexpected_token_value", detail=e.message)
        raise diagnosing.refusal(opened.connector, found) from None


async def tested(
    context: Context, opened: OpenConfig, form: Form, secrets: Secrets, answer: TokenAnswer | None
) -> NewCredential:
    """Test a credential at the provider and describe it for saving. Raises CredentialRejected."""
    oauth2 = opened.method.oauth2
    scope = {**opened.setup, **form.public, **secrets.scope()}
    hidden = (*secrets.values(), *(opened.setup.get(f.key, "") for f in opened.method.app_fields if f.secret))
    identity = await testing.test_credential(
        context.http,
        opened.connector,
        opened.method,
        scope,
        typed=form.typed,
        secrets=tuple(filter(None, hidden)),
    )
    times, refreshable = Times(), False
    granted: tuple[str, ...] | None = None
    missing: tuple[str, ...] = ()
    if oauth2 is not None and answer is not None:
        times = credentials.times_of(oauth2, answer, clock.now())
        refreshable = oauth2.machine or secrets.refresh_token is not None
        granted = answer.scope
        missing = missing_scopes(opened.scopes_for(scope), answer.scope)
    return NewCredential(
        config=opened.row,
        method=opened.method,
        probe_at=probes.first_probe() if opened.method.test and opened.connector.probe else None,
        setup=form.public,
        secrets=secrets,
        times=times,
        refreshable=refreshable,
        granted_scopes=granted,
        missing_scopes=missing,
        identity=identity,
    )


async def save(
    tx: AsyncSession, context: Context, session: ConnectSession, new: NewCredential, *, account_id: str | None
) -> Linked:
    """Save a tested credential for the session's owner (upsert rule of contract §2.1)."""
    owner = OwnerInfo(
        id=session.origin_owner_id,
        name=session.origin_owner_name,
        username=session.origin_username,
        label=session.label,
        metadata=session.meta,
        type=session.type,
    )
    # The config may have been disabled or deleted while the provider was asked.
    current = await auth_configs.get(tx, ProjectId(session.project_id), new.config.id)
    if not current.active:
        raise errors.Unprocessable("this auth config was disabled meanwhile", extra={"cause": "disabled"})
    linked = await accounts.link(
        tx,
        context.vault,
        ProjectId(session.project_id),
        owner,
        new,
        account_id=account_id,
        multiple=session.multiple,
    )
    connector = context.registry.of(current)
    if connector is not None and (method := connector.auth.get(current.method_key)) and method.external_trigger:
        await incoming.remember_token(tx, context, linked.account, session.external_trigger_token)
    await idempotency.record_current(tx, 200, shown(linked))
    return linked


def shown(linked: Linked) -> dict[str, Any]:
    """What a Hub is told of an account that it linked; `warning` stands in it only when there is one."""
    out: dict[str, Any] = {"id": linked.account.id, "provider": linked.account.connector_key}
    if linked.warning is not None:
        out["warning"] = linked.warning.show()
    return out


async def existing_form(
    tx: AsyncSession, context: Context, session: ConnectSession, config: AuthConfig, account_id: str | None
) -> Form | None:
    """What the account that is edited holds of the form; None for a new account."""
    if account_id is None:
        await require_here(tx, session, config)
        return None
    account, current = await accounts.get(tx, ProjectId(session.project_id), account_id)
    return await stored_form(tx, context, account, current, config)


async def require_here(tx: AsyncSession, session: ConnectSession, config: AuthConfig) -> None:
    """Raise AccountHandedOver, before anybody types or consents, when the account that the upsert rule finds is away."""
    if session.multiple:
        return
    owner = OwnerInfo(id=session.origin_owner_id, name=session.origin_owner_name)
    found = await accounts.find_for_owner(tx, ProjectId(session.project_id), owner, config.connector_key)
    accounts.require_here(found)


async def stored_form(
    tx: AsyncSession, context: Context, account: Account, current: AuthConfig, config: AuthConfig
) -> Form | None:
    """What an account holds of the form of an auth config; None for another method, whose form it does not fit.

    Raises AccountHandedOver.
    """
    accounts.require_here(account)
    if current.method_key != config.method_key:
        return None
    secrets, _ = await accounts.open_secrets(tx, context.vault, account)
    return Form(account.setup, secrets.fields, {})
