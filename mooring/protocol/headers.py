"""Clean headers on their way to a provider and back (rule P7). Both functions run on every proxied call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Header = tuple[bytes, bytes]
Headers = list[Header]

# RFC 9110 §7.6.1, with the older names that implementations still honour.
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"te",
        b"trailer",
        b"trailers",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)
# Ours to set, or about the hop between the caller and us, or a credential for us.
_OUTBOUND_DROPPED = _HOP_BY_HOP | {
    b"host",
    b"content-length",
    b"expect",
    b"authorization",
    b"cookie",
    b"cookie2",
    b"forwarded",
    b"via",
    b"x-real-ip",
    b"x-client-ip",
    b"x-account-id",
}
_OUTBOUND_PREFIXES = (b"proxy-", b"x-forwarded-", b"x-hub-", b"x-stackone-", b"x-mooring-")
# A provider must not speak for our origin: no cookies, no browser policies, no CORS grants.
_INBOUND_DROPPED = _HOP_BY_HOP | {
    b"set-cookie",
    b"set-cookie2",
    b"strict-transport-security",
    b"content-security-policy",
    b"content-security-policy-report-only",
    b"alt-svc",
    b"clear-site-data",
    b"public-key-pins",
    b"public-key-pins-report-only",
    b"nel",
    b"report-to",
    b"reporting-endpoints",
}
_INBOUND_PREFIXES = (b"proxy-", b"access-control-")


def raw(headers: Iterable[tuple[str, str]]) -> Headers:
    """Header text as it goes over the wire: lower-case names, values in UTF-8."""
    return [
        (name.lower().encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape"))
        for name, value in headers
    ]


def outbound(headers: Iterable[Header], injected: Sequence[Header]) -> Headers:
    """Return the headers to send: the caller's without what is not theirs to say, then the injected ones.

    Names are lower-case, and come out so; repeated headers stay repeated. Line breaks are the sender's to refuse.
    """
    names = {name for name, _ in injected}
    kept: Headers = []
    connection: list[bytes] = []
    for item in headers:
        name = item[0]
        if name in _OUTBOUND_DROPPED:
            if name == b"connection" and item[1] not in _NOT_NAMES:
                connection.append(item[1])
        elif name not in names and not name.startswith(_OUTBOUND_PREFIXES):
            kept.append(item)
    if connection:
        kept = _without_listed(kept, connection)
    kept += injected
    return kept


def inbound(headers: Iterable[Header]) -> Headers:
    """Return the provider's headers that the caller may see. Names are lower-case."""
    kept: Headers = []
    connection: list[bytes] = []
    chunked = False
    for item in headers:
        name = item[0]
        if name in _INBOUND_DROPPED:
            if name == b"connection" and item[1] not in _NOT_NAMES:
                connection.append(item[1])
            elif name == b"transfer-encoding":
                chunked = True
        elif not name.startswith(_INBOUND_PREFIXES):
            kept.append(item)
    if connection:
        kept = _without_listed(kept, connection)
    if chunked:
        # RFC 9112 §6.3: beside Transfer-Encoding, Content-Length is a lie.
        kept = [item for item in kept if item[0] != b"content-length"]
    return kept


def _without_listed(headers: Headers, connection: Iterable[bytes]) -> Headers:
    listed = {token.strip().lower() for value in connection for token in value.split(b",")} - _NOT_NAMES
    return [item for item in headers if item[0] not in listed] if listed else headers


_NOT_NAMES = frozenset({b"", b"close", b"keep-alive"})
