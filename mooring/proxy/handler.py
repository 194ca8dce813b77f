"""`ANY /proxy/{path}`: the streaming proxy, a plain handler beside the framework."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Final

import orjson

from mooring import errors
from mooring.accounts.context import Context
from mooring.kit import ids
from mooring.kit.exchange import CallerGoneError, Exchange, Header
from mooring.kit.http import HttpFailure
from mooring.kit.server import NO_SNIFF, SAFE_HEADERS
from mooring.kit.web import DEFAULT_POLICY, fault
from mooring.logs.record import Record
from mooring.logs.writer import Entry
from mooring.protocol.headers import inbound
from mooring.protocol.redact import SecretScanner
from mooring.proxy import refusals, service
from mooring.proxy.refusals import Refused
from mooring.proxy.service import Answer, Call

PREFIX: Final = b"/proxy"
BUFFER: Final = 256 * 1024  # a body up to this size, and of known length, can be sent again after a 401
CALLER_GONE: Final = 499  # in the log only: nobody is left to be answered
_BODILESS: Final = frozenset({204, 304})


async def handle(context: Context, exchange: Exchange) -> None:
    """Serve one proxied call: authenticate, send, stream the answer, and log it whatever happens."""
    begun = time.perf_counter()
    request_id = ids.time_uuid()
    path, _, query = exchange.target.decode("latin-1").partition("?")
    entry = Entry(
        id=request_id,
        category="unified",
        project_id="",
        method=exchange.method,
        path=path,
        service="proxy",
        source_ip=exchange.client[0] if exchange.client else None,
    )
    status, code = 500, None
    try:
        status = await _serve(context, exchange, query, entry, request_id)
    except errors.MooringError as e:
        status, code = exchange.status or e.status, e.error_code
        _refuse(exchange, e, request_id)
    except HttpFailure:
        # The status has gone out; only a broken connection tells the caller that the body is not whole.
        status, code = exchange.status or 502, "ProviderCutError"
        exchange.cut()
    except (asyncio.CancelledError, CallerGoneError):
        status, code = exchange.status or CALLER_GONE, "CallerGoneError"
        if not exchange.disconnected:  # the hub stops
            exchange.cut()
            raise
    except Exception as e:  # noqa: BLE001 - the last line: a fault of ours is logged and answered
        refusal = fault(request_id, e)
        status, code = exchange.status or refusal.status, refusal.error_code
        _refuse(exchange, refusal, request_id)
    finally:
        spent = (time.perf_counter() - begun) * 1000
        context.counters.call(entry.provider, code, status, spent, entry.provider_ms)
        if entry.project_id:
            entry.bytes_up, entry.bytes_down = exchange.received, exchange.sent
            if context.logs.listener is not None:
                entry.traceparent = next(
                    (v.decode("latin-1") for n, v in exchange.headers if n == b"traceparent"), None
                )
            context.logs.add(entry.finish(status, spent, error_code=code))


async def _serve(context: Context, exchange: Exchange, query: str, entry: Entry, request_id: str) -> int:
    if not entry.path.startswith("/proxy/") and entry.path != "/proxy":
        raise errors.NotFound(f"no such path: {exchange.method} {entry.path[:200]}")
    authorization = account_id = ""
    length: int | None = None
    chunked = False
    wait = service.QUEUE_SECONDS
    for name, value in exchange.headers:
        if name == b"authorization":
            authorization = value.decode("latin-1")
        elif name == b"x-account-id":
            account_id = value.decode("latin-1")
        elif name == b"content-length":
            length = int(value)  # llhttp let digits alone pass
        elif name == b"transfer-encoding":
            chunked = True
        elif name == b"prefer":
            wait = service.preferred_wait(value.decode("latin-1"))
    identity = context.authenticate.known(authorization) or await context.authenticate(authorization)
    entry.project_id, entry.source_id = identity.project_id, identity.key_id
    if identity.advanced_logs != "off":
        entry.keep_details(errors_only=identity.advanced_logs == "errors", days=identity.advanced_logs_days)
    identity.require_address(entry.source_ip)
    method = exchange.method
    if method in service.SAFE_METHODS:
        identity.require("unified:read")
    else:
        identity.require("unified:write")
        identity.require_free_hand()
    service.require_passable(method)
    if not account_id:
        raise errors.BadRequest("the header x-account-id is missing", hint="Send the id of a linked account in it.")
    identity.require_account(account_id)
    body: bytes | AsyncIterator[bytes] | None = None
    if chunked or (length or 0) > BUFFER:
        body = exchange.chunks() if entry.record is None else entry.record.tee(exchange.chunks())
    elif length is not None:
        body = await exchange.read(BUFFER)
    ask = Call(method, entry.path[len(PREFIX) :], query, exchange.headers, body, length=length, wait=wait)
    answer = await service.call(context, identity.project_id, account_id, ask, entry)
    refused = refusals.watch(answer)
    try:
        await _reply(exchange, answer, request_id, entry.record, refused)
    finally:
        if refused is not None:
            refused.note(entry)
        await answer.aclose()
    return answer.response.status


async def _reply(
    exchange: Exchange, answer: Answer, request_id: str, record: Record | None, refused: Refused | None
) -> None:
    """Pass the provider's answer on, masking an echoed credential in headers and body. Raises HttpFailure."""
    response, scanner = answer.response, answer.scanner
    headers: list[Header] = [NO_SNIFF, DEFAULT_POLICY, (b"x-request-id", request_id.encode())]
    announced: bytes | None = None
    for item in inbound(response.raw_headers):
        name = item[0]
        if name == b"content-length":
            announced = item[1]  # said again with the body
        else:
            headers.append(item if name != b"x-request-id" else (b"x-provider-request-id", item[1]))
    status = response.status
    bodiless = exchange.method == "HEAD" or status in _BODILESS
    # A short body of known length goes out in one piece. The status waits for it: one cut short becomes a refusal.
    if response.small and not bodiless:
        data = response.taken()
        if data is None:
            try:
                data = await response.whole()
            except HttpFailure as e:
                raise service.refusal(answer.connector.title, e) from None
        # One look at all of it: an echo is rare.
        if scanner is not None and scanner.finds(b"\n".join([data, *[value for _, value in headers]])):
            headers = _masked(headers, scanner)
            data = scanner.mask(data) + scanner.flush()
        if record is not None:
            record.take(data)
        if refused is not None:
            refused.take(data)
        exchange.respond(status, headers, data)
        return
    if scanner is not None and scanner.finds(b"\n".join([value for _, value in headers])):
        headers = _masked(headers, scanner)
    if bodiless:
        length = int(announced) if announced is not None and announced.isdigit() else None
        exchange.begin(status, headers, length=length, has_body=False)
        exchange.end()
        return
    exchange.begin(status, headers, length=response.length, has_body=True)
    async for chunk in response.chunks():
        if record is not None:
            record.take(chunk)
        shown = scanner.mask(chunk) if scanner is not None else chunk
        if refused is not None:
            refused.take(shown)
        await exchange.send(shown)
    if scanner is not None:
        await exchange.send(scanner.flush())
    exchange.end()


def _masked(headers: list[Header], scanner: SecretScanner) -> list[Header]:
    return [(name, scanner.mask(value) + scanner.flush()) for name, value in headers]


def _refuse(exchange: Exchange, error: errors.MooringError, request_id: str) -> None:
    """Answer a refusal, or break the connection when an answer has begun."""
    if exchange.disconnected or exchange.response_complete:
        return
    if exchange.status:
        exchange.cut()
        return
    headers: list[Header] = [
        (b"content-type", b"application/json"),
        *exchange.default_headers,
        *SAFE_HEADERS,
        DEFAULT_POLICY,
        (b"x-request-id", request_id.encode()),
        *((k.encode("latin-1"), v.encode("latin-1", "replace")) for k, v in error.headers.items()),
    ]
    exchange.respond(error.status, headers, orjson.dumps(error.body(request_id=request_id)))
