"""Translate between our requests and pyreqwest's, its errors included. Used by `kit/http2.py` alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from typing import Any

from pyreqwest.client import Client
from pyreqwest.exceptions import DecodeError, DetailedPyreqwestError, PyreqwestError
from pyreqwest.request import RequestBuilder
from pyreqwest.response import Response

from mooring.kit.egress import SplitUrl, wire_url
from mooring.kit.http_head import BAD_VALUE, BODY_METHODS, FRAMING, TOKEN, check_method
from mooring.kit.http_wire import (
    Headers,
    HttpFailure,
    OutboundRequest,
    closed_early,
    headers_as_text,
    not_http,
    timed_out,
)


class Upload:
    """Hand the caller's body to the library chunk by chunk, and stop it when the call is over.

    The library pulls the next chunk only when the socket took the last one, which is the back-pressure. It
    also goes on pulling after its caller was cancelled; failing the next pull is what makes it drop the
    connection.
    """

    def __init__(self, body: AsyncIterable[bytes], length: int | None) -> None:
        self._source = aiter(body)
        self._left = length
        self._timer: asyncio.Timeout | None = None
        self._first_byte = self._idle = 0.0
        self._pull: asyncio.Task[Any] | None = None
        self._aborted = False
        self.finished = False

    def watch(self, timer: asyncio.Timeout, *, first_byte: float, idle: float) -> None:
        """Let progress of the upload move the deadline."""
        self._timer, self._first_byte, self._idle = timer, first_byte, idle

    def unwatch(self) -> None:
        """Leave the deadline alone from now on."""
        self._timer = None

    async def aclose(self) -> None:
        """End the upload and close the caller's iterator; a pull that waits for the caller is cancelled."""
        self._timer = None
        self._aborted = True
        if self._pull is not None:
            self._pull.cancel()
        elif isinstance(self._source, AsyncGenerator):
            await self._source.aclose()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._aborted:
            raise ConnectionAbortedError("the call is over")
        self._move(self._idle)
        self._pull = asyncio.current_task()
        try:
            chunk = await anext(self._source)
            while not chunk:  # an empty chunk would end a chunked body early
                chunk = await anext(self._source)
        except StopAsyncIteration:
            self.finished = True
            self._move(self._first_byte)
            raise
        finally:
            self._pull = None
        if self._left is not None:
            self._left -= len(chunk)
            if self._left < 0:
                raise ValueError("the request body is longer than its Content-Length")
            if not self._left:
                self.finished = True
        self._move(self._first_byte if self.finished else self._idle)
        return bytes(chunk)

    def _move(self, seconds: float) -> None:
        if self._timer is not None and not self._timer.expired():
            self._timer.reschedule(asyncio.get_running_loop().time() + seconds)


def build_request(client: Client, request: OutboundRequest, parts: SplitUrl) -> tuple[RequestBuilder, Upload | None]:
    """Translate a request into one of the library."""
    headers: Headers = []
    length: int | None = None
    for name, value in (*request.headers, *headers_as_text(request.raw_headers)):
        lower = name.lower()
        if lower in FRAMING:
            continue
        if lower == "content-length":
            length = int(value) if value.isascii() and value.isdecimal() else None
            continue
        headers.append((name, value))
    check_method(request.method)
    body = request.body
    upload: Upload | None = None
    if not body:
        if request.method in BODY_METHODS:
            headers.append(("content-length", "0"))
    elif not isinstance(body, bytes):
        # Said explicitly: the library drops a streamed body of GET and DELETE that has no framing header.
        headers.append(("transfer-encoding", "chunked") if length is None else ("content-length", str(length)))
        upload = Upload(body, length)
    try:
        builder = client.request(request.method, wire_url(parts)).headers(headers)
    except ValueError:
        raise ValueError(_why_unsendable(headers)) from None
    if upload is not None:
        return builder.body_stream(upload), upload
    return (builder.body_bytes(body) if isinstance(body, bytes) and body else builder), None


def _why_unsendable(headers: Headers) -> str:
    for name, value in headers:
        if not TOKEN.fullmatch(name):
            return f"the header name {name[:50]!a} has characters that cannot be sent"
        if BAD_VALUE.search(value.encode()):
            return f"the value of header {name.lower()} has characters that cannot be sent"
    return "the URL or a header has characters that cannot be sent"


def body_length(status: int, method: str, headers: Headers) -> int | None:
    """Return the announced length; 0 if the answer can have no body, None if it is not known."""
    if method == "HEAD" or status in {204, 304}:
        return 0
    announced = next((value for name, value in headers if name == "content-length"), "")
    return int(announced) if announced.isascii() and announced.isdecimal() else None


def response_headers(response: Response) -> Headers:
    """Return all headers. One with bytes outside ASCII is left out: the library cannot hand it over."""
    found = response.headers
    try:
        headers = list(found.items())
    except ValueError:
        headers = []
        for name in dict.fromkeys(found.keys()):
            try:
                headers.extend((name, value) for value in found.getall(name))
            except ValueError:
                continue
    if any(name == "transfer-encoding" for name, _ in headers):
        # RFC 9112 §6.3: with both, Content-Length is a lie that must not be passed on.
        headers = [item for item in headers if item[0] != "content-length"]
    return headers


_TLS_WORDS = ("certificate", "tls", "handshake", "corrupt message", "alert", "peer is incompatible")
_TLS_REASONS = (
    ("expired", "its certificate has expired"),
    ("notvalidforname", "its certificate is for another name"),
    ("not valid for", "its certificate is for another name"),
    ("unknownissuer", "its certificate is not signed by a trusted authority"),
    ("caused by other", "its certificate is not trusted"),
    ("protocolversion", "it speaks no version of TLS that is safe"),
    ("peer is incompatible", "it speaks no version of TLS that is safe"),
)
_RESET_WORDS = (
    "connection reset",
    "connection closed",
    "broken pipe",
    "end of file",
    "unexpected eof",
    "connection aborted",
)


def to_failure(host: str, fault: PyreqwestError) -> HttpFailure:
    """Name what happened. The library's exception classes are not precise, the chain of causes is."""
    causes = [str(fault.message)]
    if isinstance(fault, DetailedPyreqwestError) and fault.details:
        # The first cause holds the whole URL, which must not reach a message or a decision.
        causes += [cause["message"] for cause in fault.details["causes"] or () if "url (" not in cause["message"]]
    text = " | ".join(causes).lower()
    connecting = "client error (connect)" in text
    if connecting and "connection refused" in text:
        return HttpFailure("refused", f"{host} refused the connection.", sent=False)
    if any(word in text for word in _TLS_WORDS):
        reason = next((why for word, why in _TLS_REASONS if word in text), "the TLS handshake failed")
        return HttpFailure("tls", f"No secure connection to {host}: {reason}.", sent=not connecting)
    if "timed out" in text or "deadline has elapsed" in text:
        what = "did not accept the connection in time" if connecting else "did not answer in time"
        return timed_out(host, what, sent=not connecting)
    if any(word in text for word in _RESET_WORDS):
        return closed_early(host, sent=not connecting)
    if connecting:
        return HttpFailure("unreachable", f"{host} cannot be reached.", sent=False)
    if isinstance(fault, DecodeError):
        return not_http(host)
    return HttpFailure("protocol", f"The exchange with {host} failed.", sent=True)
