"""The words of the HTTP client: requests, answers and failures. They are the same on both roads."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

FailureKind = Literal["blocked", "dns", "refused", "unreachable", "tls", "timeout", "reset", "too_large", "protocol"]
Headers = list[tuple[str, str]]
RawHeaders = list[tuple[bytes, bytes]]

SMALL_BODY = 64 * 1024


class ClientIdentity(NamedTuple):
    """A client certificate (with its chain) and its private key, as PEM text, for mutual TLS (RFC 8446 §4.3.2)."""

    certificate: str
    private_key: str

    def __repr__(self) -> str:
        """Show nothing of it."""
        return "ClientIdentity(…)"

    @property
    def fingerprint(self) -> str:
        """What tells it from another one."""
        return hashlib.sha256(f"{self.certificate}\0{self.private_key}".encode()).hexdigest()


class OutboundRequest(NamedTuple):
    """A request as it shall be sent; `url` is absolute and goes out as `wire_url` spells it.

    Headers may be given as text, which is sent as UTF-8, or as bytes, which cost less. `raw_headers` follow
    `headers`.
    """

    method: str
    url: str
    headers: Sequence[tuple[str, str]] = ()
    body: bytes | AsyncIterable[bytes] | None = None
    raw_headers: Sequence[tuple[bytes, bytes]] = ()
    identity: ClientIdentity | None = None

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


@dataclass(slots=True)
class BufferedResponse:
    """A whole answer. Header names are lower-case."""

    status: int
    headers: Headers
    body: bytes = field(repr=False)
    elapsed_ms: int

    def header(self, name: str) -> str | None:
        """Return the first value of a header."""
        name = name.lower()
        return next((value for key, value in self.headers if key == name), None)

    def json(self) -> Any:
        """Parse the body as JSON; raise ValueError if it is none."""
        try:
            return json.loads(self.body)
        except RecursionError:
            raise ValueError("the JSON is nested too deeply") from None


class StreamedResponse(ABC):
    """An answer whose body may still be on its way.

    Take it by `taken()`, `whole()` or `chunks()`, to the end, or call `aclose()`.
    """

    __slots__ = ("_headers", "length", "raw_headers", "status")

    status: int
    raw_headers: RawHeaders
    """Names are lower-case."""
    length: int | None
    """The announced length of the body; None if it has none, 0 if there is no body at all."""

    @property
    def headers(self) -> Headers:
        """Return the headers as text; bytes outside ASCII are read as Latin-1."""
        try:
            return self._headers
        except AttributeError:
            self._headers: Headers = headers_as_text(self.raw_headers)
            return self._headers

    @property
    def small(self) -> bool:
        """Whether the length of the body is known and one piece of memory may hold it."""
        return self.length is not None and self.length <= SMALL_BODY

    @abstractmethod
    def taken(self) -> bytes | None:
        """Return the complete body if it is already here, which ends the exchange; None if it is not."""

    @abstractmethod
    async def whole(self) -> bytes:
        """Return a small body, without waiting if it is already here. Raises as `chunks` does."""

    @abstractmethod
    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes; raise HttpFailure if it ends early or stands still for `idle` s."""

    @abstractmethod
    async def aclose(self) -> None:
        """Give the connection back, or drop it if the body has not been received to its end."""


def headers_as_text(raw: Iterable[tuple[bytes, bytes]]) -> Headers:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw]


def timed_out(host: str, what: str, *, sent: bool = True) -> HttpFailure:
    return HttpFailure("timeout", f"{host} {what}.", sent=sent)


def too_large(host: str, max_bytes: int) -> HttpFailure:
    return HttpFailure("too_large", f"{host} answered with more than {max_bytes} bytes.", sent=True)


def not_http(host: str) -> HttpFailure:
    return HttpFailure("protocol", f"{host} answered with something that is not HTTP.", sent=True)


def closed_early(host: str, *, sent: bool = True) -> HttpFailure:
    return HttpFailure("reset", f"{host} closed the connection early.", sent=sent)
