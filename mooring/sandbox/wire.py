"""Small ASGI helpers of the sandbox: bodies, JSON errors, and ways to end a connection badly."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send


class BodyTooLargeError(Exception):
    """The request body is over the limit."""


async def read_body(receive: Receive, limit: int) -> bytes:
    """Read the whole request body. Raise `BodyTooLargeError`."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > limit:
            raise BodyTooLargeError
        if not message.get("more_body", False):
            return bytes(body)


def replay(body: bytes, receive: Receive) -> Receive:
    """Make a `receive` that hands out a body that was read already, then goes on as before."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return pending.pop() if pending else await receive()

    return again


def json_response(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Render JSON."""
    return Response(orjson.dumps(content), status, dict(headers or {}), media_type="application/json")


def error_response(
    *,
    status: int,
    code: str,
    message: str,
    as_200: bool = False,
    headers: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Response:
    """Render an API error; with `as_200` the way some providers do, as a success that says it is none."""
    if as_200:
        return json_response({"ok": False, "error": code, "message": message, **(extra or {})})
    return json_response({"error": code, "message": message, **(extra or {})}, status, headers)


async def abort(scope: Scope, send: Send) -> None:
    """End the connection without an answer: a TCP reset. Where that is impossible, a body that stops short.

    ASGI has no word for this, so the socket is found among this process's own by the client's address. With
    SO_LINGER 0 the server's close sends RST instead of FIN.
    """
    if _reset_socket(scope.get("client")):
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000000")]})
    await send({"type": "http.response.body", "body": b"{", "more_body": True})


def _reset_socket(client: tuple[str, Any] | None) -> bool:
    if client is None:
        return False
    peer = (client[0], int(client[1]))
    try:
        descriptors = [int(name) for name in os.listdir("/dev/fd")]  # noqa: PTH208 - numbers, not paths
    except OSError:
        return False
    return any(_reset_if_peer(descriptor, peer) for descriptor in descriptors)


def _reset_if_peer(descriptor: int, peer: tuple[str, int]) -> bool:
    try:
        duplicate = os.dup(descriptor)
    except OSError:
        return False
    try:
        connection = socket.socket(fileno=duplicate)
    except OSError:  # not a socket
        os.close(duplicate)
        return False
    with connection:
        try:
            if connection.getpeername()[:2] != peer:
                return False
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.shutdown(socket.SHUT_RD)
        except OSError:  # a listener, or closed meanwhile
            return False
        return True
