"""The preflight over the API: `POST /auth_configs/{id}/preflight`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from mooring import errors
from mooring.accounts.context import Context
from mooring.auth_configs import service as auth_configs
from mooring.auth_configs.service import field_fault
from mooring.connect import preflight
from mooring.identity.api import caller_with
from mooring.identity.service import Caller
from mooring.kit.body import Body

router = APIRouter(prefix="/auth_configs", tags=["Auth configs"])

Writer = Annotated[Caller, Depends(caller_with("connectors:write"))]


class PreflightAsk(Body):
    """Values of an account's form that addresses depend on, such as a subdomain. No secrets are needed."""

    model_config = ConfigDict(extra="forbid")

    fields: dict[str, str] = Field(default_factory=dict)


class CheckOut(BaseModel):
    """One check. `cause` is a code of causes.md; `detail` is technical and holds no secret."""

    check: str
    status: Literal["ok", "warning", "failed", "skipped"]
    cause: str | None
    detail: str | None
    what_to_do: str | None


class PreflightOut(BaseModel):
    """How the set-up stands, before any end user tries it."""

    status: Literal["ok", "warning", "failed"]
    callback_url: str
    checks: list[CheckOut]


@router.post("/{id}/preflight")
async def preflight_auth_config(
    request: Request, caller: Writer, id: str, body: PreflightAsk | None = None
) -> PreflightOut:
    """Check an OAuth set-up: callback URL, client authentication, PKCE, discovery document, DNS, TLS and clock.

    Takes up to 15 seconds. The provider sees requests without any account: a look at its consent page, and a token
    request with a code that does not exist. Nothing is stored.
    """
    context: Context = request.app.state.context
    async with context.db.read() as tx:
        row = await auth_configs.get(tx, caller.project_id, id)
        opened = await auth_configs.open_config(tx, context.vault, context.registry, row)
    fields = body.fields if body is not None else {}
    known = {f.key: f for f in opened.method.fields}
    faults = [f"fields.{key[:60]} is unknown here or secret" for key in fields if key not in known or known[key].secret]
    faults += [
        f"fields.{key} {fault}"
        for key, value in fields.items()
        if key in known and (fault := field_fault(known[key].pattern, known[key].pattern_error, value))
    ]
    if faults:
        raise errors.ValidationFailed("Validation failed", errors=faults)
    checks = await preflight.run(context, opened, fields)
    return PreflightOut(
        status=preflight.overall(checks),
        callback_url=context.callback_url(opened.connector.key),
        checks=[CheckOut(**asdict(check)) for check in checks],
    )
