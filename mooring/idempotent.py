"""Serve creating requests that carry an Idempotency-Key at most once (rule R15), in front of the framework."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Final

from mooring import errors
from mooring.accounts.context import Context
from mooring.kit import idempotency, ids
from mooring.kit.idempotency import Answer, Key
from mooring.kit.server import AsgiApp, Receive, Scope, Send

SHORT: Final = frozenset({"/connect_sessions", "/auth_configs", "/webhooks", "/hub/connection_attempts"})
"""Requests that only write to the database: they run inside the transaction of their record."""
LONG: Final = frozenset({"/hub/accounts"})
"""Requests that ask a provider: no transaction may wait for that, so the key is claimed first."""


class _UndoneError(Exception):
    """Rolls back the transaction of a request that was refused."""


def applies(scope: Scope) -> bool:
    """Whether a request is to be served at most once."""
    if scope["method"] != "POST" or scope["path"].rstrip("/") not in SHORT | LONG:
        return False
    return _header(scope, b"idempotency-key") is not None


async def serve(context: Context, app: AsgiApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the request, or repeat the answer that its key got before. Raises what `idempotency.claim` raises."""
    key = idempotency.check(_header(scope, b"idempotency-key") or "")
    body = await _read(receive)
    path = scope["path"].rstrip("/")
    id = idempotency.record_id(await _tenant(context, scope), key)
    request_hash = idempotency.hash_request(scope["method"], path, body)
    captured = _Captured()
    if path in SHORT:
        answer = await _in_one_transaction(context, app, scope, body, captured, id, request_hash)
    else:
        answer = await _claimed_first(context, app, scope, body, captured, id, request_hash)
    if answer is None:
        await captured.replay(send)
        return
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(answer.body)).encode()),
        (b"idempotency-replayed", b"true"),
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _in_one_transaction(
    context: Context, app: AsgiApp, scope: Scope, body: bytes, captured: _Captured, id: str, request_hash: bytes
) -> Answer | None:
    try:
        async with context.db.ambient() as tx:
            answer = await idempotency.claim(tx, context.vault, id, request_hash)
            if answer is not None:
                return answer
            await app(scope, _once(body), captured.send)
            _undo_if_refused(captured)
            await idempotency.record(tx, Key(id, context.vault), captured.status, captured.body)
    except _UndoneError:
        pass
    return None


def _undo_if_refused(captured: _Captured) -> None:
    if captured.status >= 400:
        raise _UndoneError


async def _claimed_first(
    context: Context, app: AsgiApp, scope: Scope, body: bytes, captured: _Captured, id: str, request_hash: bytes
) -> Answer | None:
    key = Key(id, context.vault)
    async with context.db.begin() as tx:
        answer = await idempotency.claim(tx, context.vault, id, request_hash)
    if answer is not None:
        return answer
    idempotency.set_current(key)
    try:
        await app(scope, _once(body), captured.send)
    finally:
        idempotency.set_current(None)
        # Recorded in the transaction of its effect; without an effect the key is free again.
        async with context.db.begin() as tx:
            await idempotency.release(tx, key)
    return None


async def _tenant(context: Context, scope: Scope) -> str:
    """Whose key it is: the project of the API key, or the connect session."""
    if scope["path"].startswith("/hub/"):
        return "session:" + ids.digest(_header(scope, b"x-hub-session-token") or "").hex()
    caller = await context.authenticate(_header(scope, b"authorization"))
    return "project:" + caller.project_id


def _header(scope: Scope, name: bytes) -> str | None:
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return None


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise errors.BadRequest("the connection ended before the body did")
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


def _once(body: bytes) -> Receive:
    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


class _Captured:
    """An answer that waits until its transaction has committed."""

    def __init__(self) -> None:
        self.status = 500
        self.body = b""
        self._messages: list[MutableMapping[str, Any]] = []

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Keep one message."""
        self._messages.append(message)
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.body += message.get("body", b"")

    async def replay(self, send: Send) -> None:
        """Send what was kept."""
        for message in self._messages:
            await send(message)
