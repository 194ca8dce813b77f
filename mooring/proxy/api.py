"""`POST /unified/proxy`: the call as one JSON request and one JSON answer (contract §2.6)."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Annotated, Any
from urllib.parse import urlencode

import orjson
from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field, field_validator

from mooring import errors
from mooring.accounts.context import Context
from mooring.identity.api import caller_with
from mooring.identity.service import Caller
from mooring.kit import ids
from mooring.kit.web import Json
from mooring.logs.writer import Entry
from mooring.protocol.headers import raw
from mooring.proxy import heartbeat, reading, retries, service
from mooring.proxy.service import Answer, Call

router = APIRouter(tags=["Proxy"])

AnyReader = Annotated[Caller, Depends(caller_with("unified:read"))]

CALLER_GONE = 499  # in the log only
METHODS = ("get", "post", "put", "patch", "delete", "head", "options")


class ProxyRequest(BaseModel):
    """One call. `path` is appended to the connector's base URL; `url` replaces it within the same host."""

    model_config = ConfigDict(extra="ignore")

    url: str | None = Field(None, max_length=8000)
    method: str | None = "get"
    path: str | None = Field(None, max_length=8000)
    headers: dict[str, Any] | None = None
    body: Any = None

    @field_validator("method")
    @classmethod
    def _method(cls, value: str | None) -> str:
        lower = (value or "get").lower()
        if lower not in METHODS:
            raise ValueError(f"must be one of {', '.join(METHODS)}")
        return lower


class ProxyAnswer(BaseModel):
    """The provider's answer: its status, headers and decoded body."""

    status: int
    headers: dict[str, str]
    data: Any = None
    provider_errors: list[dict[str, Any]] | None = None


@router.post("/unified/proxy", response_model=ProxyAnswer)
async def proxy(
    request: Request,
    caller: AnyReader,
    body: ProxyRequest,
    x_account_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Call the provider through an account. The provider's own status is in `status`; ours is 200 once it answered.

    With `Prefer: heartbeat`, a call that takes longer than a few seconds is answered with status 200 and a newline now and
    then until the JSON body is there. A refusal is then that body; its `statusCode` says what the status would have been.
    """
    context: Context = request.app.state.context
    method = (body.method or "get").upper()
    entry = Entry(
        id=request.scope.get("mooring.request_id") or ids.time_uuid(),
        category="unified",
        project_id=caller.project_id,
        method=method,
        path=body.path or "",
        service="proxy",
        source_id=caller.key_id,
        source_ip=request.client.host if request.client else None,
    )
    entry.path = entry.path.partition("?")[0]
    if caller.advanced_logs != "off":
        entry.keep_details(errors_only=caller.advanced_logs == "errors", days=caller.advanced_logs_days)
    if context.logs.listener is not None:
        entry.traceparent = request.headers.get("traceparent")
    request.scope["mooring.logged"] = True
    work = _perform(context, request, caller, body, method, x_account_id, entry)
    if not heartbeat.is_asked_for(request.headers.getlist("prefer")):
        return await work
    return await heartbeat.serve(work, entry.id)


async def _perform(
    context: Context,
    request: Request,
    caller: Caller,
    body: ProxyRequest,
    method: str,
    account_id: str | None,
    entry: Entry,
) -> Json:
    begun = time.perf_counter()
    status, code = 500, "InternalError"
    try:
        if method not in service.SAFE_METHODS:
            caller.require("unified:write")
            caller.require_free_hand()
        if not account_id:
            raise errors.BadRequest("the header x-account-id is missing", hint="Send the id of a linked account in it.")
        ask = ask_of(method, body, request.headers.get("prefer"), request.headers.get("x-mooring-retry"))
        entry.bytes_up = len(ask.body) if isinstance(ask.body, bytes) else 0
        out = await _within_life(context, caller, account_id, ask, entry)
        try:
            response = Json(out)
        except TypeError:
            raise errors.ProviderError(
                "the provider's answer is nested too deeply",
                code="AnswerTooDeepError",
                hint="Use /proxy/…, which streams.",
            ) from None
        status, code = out["status"], ""
        return response
    except errors.MooringError as e:
        status, code = e.status, e.error_code
        raise
    except asyncio.CancelledError:
        status, code = CALLER_GONE, "CallerGoneError"
        raise
    finally:
        spent = (time.perf_counter() - begun) * 1000
        context.counters.call(entry.provider, code or None, status, spent, entry.provider_ms)
        context.logs.add(entry.finish(status, spent, error_code=code or None))


async def _within_life(context: Context, caller: Caller, account_id: str, ask: Call, entry: Entry) -> dict[str, Any]:
    """Call and read the answer, all inside the contract's limit. Raises RequestTooSlow, a 408 with Retry-After."""
    try:
        async with asyncio.timeout(service.LIFE_SECONDS):
            caller.require_account(account_id)
            answer = await service.call(context, caller.project_id, account_id, ask, entry)
            try:
                return await envelope(answer, entry)
            finally:
                await answer.aclose()
    except TimeoutError:
        raise errors.RequestTooSlow(f"the call took longer than {service.LIFE_SECONDS:g} s") from None


def ask_of(method: str, body: ProxyRequest, prefer: str | None = None, retry: str | None = None) -> Call:
    """The call that a request asks for."""
    path, _, query = (body.path or "").partition("?")
    headers = [(k, str(v)) for k, v in (body.headers or {}).items() if v is not None]
    names = {k.lower(): v for k, v in headers}
    payload: bytes | None = None
    content = body.body
    if content is not None and not (method in {"GET", "HEAD"} and content in ({}, "")):
        if isinstance(content, str):
            payload = content.encode()
        elif names.get("content-type", "").startswith("application/x-www-form-urlencoded") and isinstance(
            content, dict
        ):
            payload = urlencode(content, doseq=True).encode()
        else:
            payload = _json(content)
        if "content-type" not in names:
            kind = "text/plain; charset=utf-8" if isinstance(content, str) else "application/json"
            headers.append(("content-type", kind))
    if "accept" not in names:
        headers.append(("accept", "application/json"))
    headers = [(k, v) for k, v in headers if k.lower() != "accept-encoding"]  # the body is decoded here
    sent = raw(headers)
    if retry is not None:
        sent.append((retries.SWITCH, retry.encode("latin-1", "replace")))  # never passed on: its prefix is ours
    wait = service.QUEUE_SECONDS if prefer is None else service.preferred_wait(prefer)
    return Call(method=method, path=path, query=query, headers=sent, body=payload, url=body.url or None, wait=wait)


def _json(content: Any) -> bytes:
    try:
        return orjson.dumps(content)
    except TypeError:  # an integer over 64 bits or half a surrogate pair, which the slower writer passes on
        return json.dumps(content).encode()


async def envelope(answer: Answer, entry: Entry | None = None) -> dict[str, Any]:
    """The provider's whole answer as one JSON object, with the credential masked."""
    whole = await reading.read(answer, entry)
    out: dict[str, Any] = {"status": whole.status, "headers": whole.headers, "data": whole.data}
    if whole.status >= 400:
        out["provider_errors"] = [whole.as_error()]
    return out
