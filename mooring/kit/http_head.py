"""Write the head of a request. Nothing here can be talked into a second line, a second message or a lie."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable

from mooring.kit.egress import wire_target
from mooring.kit.http_wire import OutboundRequest

# The client frames the message itself; a second opinion in the headers is how requests are smuggled.
FRAMING = frozenset(
    {"host", "transfer-encoding", "expect", "connection", "keep-alive", "proxy-connection", "te", "trailer"}
    | {"upgrade", "http2-settings"}
)
# Methods whose empty body is announced with Content-Length: 0 (RFC 9110 §8.6); some servers answer 411
# otherwise.
BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})
BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

_CONTROLS = bytes([*range(9), *range(10, 32), 127])
# What `wire_target` may have to encode; most targets hold none of it.
_TO_ENCODE = b"\"<>`{}'\\"
_KEEP, _DROP, _LENGTH, _AGENT = range(4)
_KINDS = {b"content-length": _LENGTH, b"user-agent": _AGENT, **{name.encode(): _DROP for name in FRAMING}}
_KNOWN = 1024

_methods: dict[str, bytes] = {}
_names: dict[bytes, int] = {}


class Head:
    """A request that is ready to be written: its head, and its body in one piece or as a stream."""

    __slots__ = ("body", "data", "length", "method", "streamed")

    def __init__(
        self, method: str, data: bytes, body: bytes, streamed: AsyncIterable[bytes] | None, length: int | None
    ) -> None:
        self.method = method
        self.data = data
        self.body = body
        self.streamed = streamed
        self.length = length
        """The announced length of a streamed body; None means that it is chunked."""


def host_lines(origin: str) -> bytes:
    """Return the end of the request line and the Host line, which are the same for all of an origin."""
    return f" HTTP/1.1\r\nHost: {origin.partition('://')[2]}\r\n".encode("ascii")


def write_head(request: OutboundRequest, rest: str, lines: bytes, agent: bytes) -> Head:
    """Return the request as bytes; raise ValueError for a method or header that cannot be sent.

    `rest` is path and query, `lines` what `host_lines` returned, `agent` the header line for requests that
    bring none.
    """
    method = _methods.get(request.method) or _learn_method(request.method)
    if rest[:1] == "/" and rest.isascii():
        target = rest.encode("ascii")
        if len(target.translate(None, _TO_ENCODE)) != len(target):
            target = wire_target(rest).encode("ascii")
    else:
        target = wire_target(rest).encode("ascii")
    pieces = [method, b" ", target, lines]
    length: int | None = None
    raw = request.raw_headers
    if request.headers:
        raw = [(name.encode(), value.encode()) for name, value in request.headers] + list(raw)
    for name, value in raw:
        kind = _names.get(name)
        if kind is None:
            kind = _learn_name(name)
        if kind:
            if kind == _DROP:
                continue
            if kind == _LENGTH:
                length = int(value) if value.isdigit() else None
                continue
            agent = b""
        pieces += (name, b": ", value, b"\r\n")
    body = request.body
    framing = b"\r\n"
    streamed: AsyncIterable[bytes] | None = None
    if not body:
        body = b""
        if request.method in BODY_METHODS:
            framing = b"Content-Length: 0\r\n\r\n"
    elif isinstance(body, bytes):
        framing = b"Content-Length: %d\r\n\r\n" % len(body)
    else:
        streamed, body = body, b""
        framing = b"Transfer-Encoding: chunked\r\n\r\n" if length is None else b"Content-Length: %d\r\n\r\n" % length
    pieces += (agent, framing)
    data = b"".join(pieces)
    # Every line ends in one CR and one LF of ours: one more control character came from a value. The pieces
    # are four of the request line and Host, four for each header, and the last two.
    ours = len(pieces) // 2 + 3 + (2 if agent else 0) + (2 if len(framing) > 2 else 0)
    if len(data) - len(data.translate(None, _CONTROLS)) != ours:
        raise ValueError(_why_unsendable(pieces))
    return Head(request.method, data, body, streamed, length)


def agent_line(user_agent: str) -> bytes:
    """Return the User-Agent header; raise ValueError if it cannot be sent."""
    value = user_agent.encode()
    if BAD_VALUE.search(value):
        raise ValueError("the user agent has characters that cannot be sent")
    return b"User-Agent: " + value + b"\r\n"


def check_method(method: str) -> None:
    """Raise ValueError for a method that cannot be sent."""
    if not TOKEN.fullmatch(method):
        raise ValueError(f"the method {method[:50]!a} has characters that cannot be sent")
    if method.upper() == "CONNECT":
        raise ValueError("the method CONNECT cannot be sent: it would open a tunnel")


def _learn_method(method: str) -> bytes:
    check_method(method)
    if len(_methods) >= _KNOWN:
        _methods.clear()
    spelled = method.encode("ascii")
    if len(method) <= 64:
        _methods[method] = spelled
    return spelled


def _learn_name(name: bytes) -> int:
    if not TOKEN.fullmatch(name.decode("latin-1")):
        raise ValueError(f"the header name {name[:50].decode('latin-1')!a} has characters that cannot be sent")
    kind = _KINDS.get(name.lower(), _KEEP)
    if len(name) <= 64:
        if len(_names) >= _KNOWN:
            _names.clear()
        _names[name] = kind
    return kind


def _why_unsendable(pieces: list[bytes]) -> str:
    for name, value in zip(pieces[4:-2:4], pieces[6:-2:4], strict=True):
        if BAD_VALUE.search(value):
            return f"the value of header {name.decode('latin-1').lower()} has characters that cannot be sent"
    return "a header has characters that cannot be sent"
