"""Reach a checked address through the operator's egress proxy: CONNECT to that address, then TLS by name inside (rule P6).

The proxy never learns a name to resolve, so what the guard has checked is what is connected to.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from mooring.kit.egress import Target
from mooring.kit.http_wire import HttpFailure

HEAD_LIMIT = 16 * 1024

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: |\r)")


@dataclass(frozen=True, slots=True)
class EgressProxy:
    """Where the proxy listens, and what it wants to see of us."""

    host: str
    port: int
    authorization: bytes = field(default=b"", repr=False)


def parse_proxy(url: str) -> EgressProxy:
    """Read `http://[user:password@]host:port`."""
    parts = urlsplit(url)
    line = b""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        line = b"Proxy-Authorization: Basic " + b64encode(pair) + b"\r\n"
    return EgressProxy(parts.hostname or "", parts.port or 0, line)


class _Opening(asyncio.Protocol):
    """Waits for the proxy's answer to CONNECT."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.head: asyncio.Future[bytes] = loop.create_future()
        self._data = b""

    def data_received(self, data: bytes) -> None:
        """Gather the head."""
        self._data += data
        if not self.head.done() and (b"\r\n\r\n" in self._data or len(self._data) > HEAD_LIMIT):
            self.head.set_result(self._data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the one who waits know."""
        if not self.head.done():
            self.head.set_result(b"")


async def open_tunnel(loop: asyncio.AbstractEventLoop, proxy: EgressProxy, target: Target) -> asyncio.Transport:
    """Return a transport to the target's checked address. Raises HttpFailure."""
    try:
        transport, opening = await loop.create_connection(lambda: _Opening(loop), proxy.host, proxy.port)
    except OSError:
        raise HttpFailure("unreachable", "The egress proxy cannot be reached.", sent=False) from None
    try:
        address = f"[{target.ip}]:{target.port}" if ":" in target.ip else f"{target.ip}:{target.port}"
        name = address.encode()
        transport.write(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (name, name, proxy.authorization))
        _judge(await opening.head, target)
    except BaseException:
        transport.abort()
        raise
    return transport


def _judge(head: bytes, target: Target) -> None:
    found = _STATUS.match(head)
    if found is None or not head.endswith(b"\r\n\r\n") or head.count(b"\r\n\r\n") != 1:
        raise HttpFailure("protocol", "The egress proxy did not answer in HTTP.", sent=False)
    status = int(found[1])
    if 200 <= status < 300:
        return
    if status in {502, 503, 504}:
        raise HttpFailure("unreachable", f"The egress proxy cannot reach {target.host} ({status}).", sent=False)
    if status == 407:
        raise HttpFailure("blocked", "The egress proxy wants other credentials (407).", sent=False)
    raise HttpFailure("blocked", f"The egress proxy refused {target.host} ({status}).", sent=False)
