"""Translate between our requests and the HTTP library's, its errors included. Used by `kit/http.py` alone."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pyreqwest.client import Client
from pyreqwest.exceptions import DecodeError, DetailedPyreqwestError, PyreqwestError
from pyreqwest.request import RequestBuilder
from pyreqwest.response import Response

from mooring.kit.egress import SplitUrl, wire_url

FailureKind = Literal["blocked", "dns", "refused", "unreachable", "tls", "timeout", "reset", "too_large", "protocol"]
Headers = list[tuple[str, str]]

# The client frames the message itself; a second opinion in the headers is how requests are smuggled.
_FRAMING = frozenset(
    {"host", "transfer-encoding", "expect", "connection", "keep-alive", "proxy-connection", "te", "trailer"}
    | {"upgrade", "http2-settings"}
)
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Methods whose empty body is announced with Content-Length: 0 (RFC 9110 §8.6); some servers answer 411
# otherwise.
_BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})


@dataclass(frozen=True, slots=True)
class OutboundRequest:
    """A request as it shall be sent; `url` is absolute and goes out as `wire_url` spells it."""

    method: str
    url: str
    headers: Sequence[tuple[str, str]] = ()
    body: bytes | AsyncIterable[bytes] | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        """Show nothing that may hold a secret: no header values, no query."""
        return f"OutboundRequest({self.method} {self.url.partition('?')[0]})"


class HttpFailure(Exception):
    """No complete answer was received. `str()` is a sentence without secrets.

    `sent` tells whether bytes of the request may have reached the provider; it is False only when that is
    certain.
    """

    def __init__(self, kind: FailureKind, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.kind: FailureKind = kind
        self.sent = sent


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
    for name, value in request.headers:
        lower = name.lower()
        if lower in _FRAMING:
            continue
        if lower == "content-length":
            length = int(value) if value.isascii() and value.isdecimal() else None
            continue
        headers.append((name, value))
    if not _TOKEN.fullmatch(request.method):
        raise ValueError(f"the method {request.method[:50]!a} has characters that cannot be sent")
    body = request.body
    upload: Upload | None = None
    if not body:
        if request.method in _BODY_METHODS:
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
        if not _TOKEN.fullmatch(name):
            return f"the header name {name[:50]!a} has characters that cannot be sent"
        if _BAD_VALUE.search(value):
            return f"the value of header {name.lower()} has characters that cannot be sent"
    return "the URL or a header has characters that cannot be sent"


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


def timed_out(host: str, what: str, *, sent: bool = True) -> HttpFailure:
    return HttpFailure("timeout", f"{host} {what}.", sent=sent)


def too_large(host: str, max_bytes: int) -> HttpFailure:
    return HttpFailure("too_large", f"{host} answered with more than {max_bytes} bytes.", sent=True)


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
        return HttpFailure("reset", f"{host} closed the connection early.", sent=not connecting)
    if connecting:
        return HttpFailure("unreachable", f"{host} cannot be reached.", sent=False)
    if isinstance(fault, DecodeError):
        return HttpFailure("protocol", f"{host} answered with something that is not HTTP.", sent=True)
    return HttpFailure("protocol", f"The exchange with {host} failed.", sent=True)
