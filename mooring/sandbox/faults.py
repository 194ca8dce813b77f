"""Injected faults: how each mode of `POST /_control/faults` looks on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mooring.sandbox.state import MAX_MS, Fault, State
from mooring.sandbox.wire import abort, error_response, json_response

HUGE_BYTES = 64 * 1024 * 1024
_CHUNK = b"x" * 65_536
_HTML = "<!doctype html><title>Maintenance</title><h1>We will be back soon</h1>"


async def run_with_fault(fault: Fault, state: State, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request the way the fault says. Only the two *_after_commit modes let the app do its work."""
    ms = fault.ms
    match fault.mode:
        case "drop_before":
            await abort(scope, send)
        case "drop_after_commit":
            await app(scope, receive, _discard)
            await abort(scope, send)
        case "delay_after_commit":
            held: list[Message] = []
            await app(scope, receive, _hold_in(held))
            await asyncio.sleep((3000 if ms is None else ms) / 1000)
            for message in held:
                await send(message)
        case "hang":
            await _while_connected(receive, asyncio.sleep((MAX_MS if ms is None else ms) / 1000))
            await abort(scope, send)
        case "slow_loris":
            await _while_connected(receive, _drip(send, (500 if ms is None else ms) / 1000))
        case "huge":
            await _while_connected(receive, _flood(send))
        case _:
            await canned(fault, state)(scope, receive, send)


def canned(fault: Fault, state: State) -> Response:
    """Render the modes that are one finished answer."""
    match fault.mode:
        case "status_429":
            seconds = max(1, -(-(fault.ms or 0) // 1000))
            return _injected(429, "rate_limited", {"retry-after": str(seconds)})
        case "status_500":
            return _injected(500, "internal_error")
        case "status_503":
            return _injected(503, "unavailable")
        case "error_200":
            return json_response({"ok": False, "error": "internal_error"})
        case "html_200":
            return Response(_HTML, media_type="text/html")
        case "truncated_json":
            return Response('{"access_token": "at_cut-off', media_type="application/json")
        case "redirect_307":
            return Response(status_code=307, headers={"location": f"{state.issuer}/redirected"})
        case "invalid_grant":
            return json_response({"error": "invalid_grant", "error_description": "Injected fault."}, 400)
        case "invalid_client":
            challenge = {"www-authenticate": 'Basic realm="Mooring sandbox"'}
            return json_response({"error": "invalid_client", "error_description": "Injected fault."}, 401, challenge)
        case _:
            raise AssertionError(fault.mode)


def _injected(status: int, code: str, headers: dict[str, str] | None = None) -> Response:
    return error_response(status=status, code=code, message="Injected fault.", headers=headers)


async def _discard(message: Message) -> None:
    """Lose an answer."""


def _hold_in(held: list[Message]) -> Send:
    async def hold(message: Message) -> None:
        held.append(message)

    return hold


async def _while_connected(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Run the work, but no longer than the client stays: sending to one that left raises nothing."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks = {asyncio.create_task(work), asyncio.create_task(gone())}
    _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _start_json(send: Send) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _drip(send: Send, pause: float) -> None:
    await _start_json(send)
    loop = asyncio.get_running_loop()
    end = loop.time() + MAX_MS / 1000
    while loop.time() < end:
        await send({"type": "http.response.body", "body": b" ", "more_body": True})
        await asyncio.sleep(max(pause, 0.001))
    await send({"type": "http.response.body", "body": b"{}"})


async def _flood(send: Send) -> None:
    await _start_json(send)
    await send({"type": "http.response.body", "body": b'{"padding": "', "more_body": True})
    for _ in range(HUGE_BYTES // len(_CHUNK)):
        await send({"type": "http.response.body", "body": _CHUNK, "more_body": True})
    await send({"type": "http.response.body", "body": b'"}'})
