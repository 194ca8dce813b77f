"""Clean headers on their way to a provider and back (rule P7). Both functions run on every proxied call."""

from __future__ import annotations

from collections.abc import Iterable

from mooring.errors import BadRequest, ProviderError

Headers = list[tuple[str, str]]

# RFC 9110 §7.6.1, with the older names that implementations still honour.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    }
)
# Ours to set, or about the hop between the caller and us, or a credential for us.
_OUTBOUND_DROPPED = _HOP_BY_HOP | {
    "host",
    "content-length",
    "expect",
    "authorization",
    "cookie",
    "cookie2",
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-account-id",
}
_OUTBOUND_PREFIXES = ("proxy-", "x-forwarded-", "x-hub-", "x-stackone-", "x-mooring-")
# A provider must not speak for our origin: no cookies, no browser policies, no CORS grants.
_INBOUND_DROPPED = _HOP_BY_HOP | {
    "set-cookie",
    "set-cookie2",
    "strict-transport-security",
    "content-security-policy",
    "content-security-policy-report-only",
    "alt-svc",
    "clear-site-data",
    "public-key-pins",
    "public-key-pins-report-only",
    "nel",
    "report-to",
    "reporting-endpoints",
}
_INBOUND_PREFIXES = ("proxy-", "access-control-")


def outbound(headers: Iterable[tuple[str, str]], injected: Iterable[tuple[str, str]]) -> Headers:
    """Return the headers to send: the caller's without what is not theirs to say, then the injected ones.

    Names come out lower-case; repeated headers stay repeated. Raises BadRequest (code InvalidHeaderError) for
    CR, LF or NUL in a value.
    """
    ours = [(name.lower(), value) for name, value in injected]
    names = {name for name, _ in ours}
    kept: Headers = []
    connection = ""
    for name, value in headers:
        name = name.lower()
        if name in _OUTBOUND_DROPPED:
            if name == "connection":
                connection += f",{value}"
        elif name not in names and not name.startswith(_OUTBOUND_PREFIXES):
            kept.append((name, value))
    if connection:
        kept = _without_listed(kept, connection)
    kept += ours
    if culprit := _unsafe(kept):
        raise BadRequest(f"The header {culprit} contains a line break or NUL.", code="InvalidHeaderError")
    return kept


def inbound(headers: Iterable[tuple[str, str]]) -> Headers:
    """Return the provider's headers that the caller may see; raise ProviderError for CR, LF or NUL."""
    kept: Headers = []
    connection = ""
    chunked = False
    for name, value in headers:
        name = name.lower()
        if name in _INBOUND_DROPPED:
            if name == "connection":
                connection += f",{value}"
            elif name == "transfer-encoding":
                chunked = True
        elif not name.startswith(_INBOUND_PREFIXES):
            kept.append((name, value))
    if connection:
        kept = _without_listed(kept, connection)
    if chunked:
        # RFC 9112 §6.3: beside Transfer-Encoding, Content-Length is a lie.
        kept = [item for item in kept if item[0] != "content-length"]
    if culprit := _unsafe(kept):
        raise ProviderError(f"The provider's header {culprit} contains a line break or NUL.")
    return kept


def _without_listed(headers: Headers, connection: str) -> Headers:
    listed = {token.strip().lower() for token in connection.split(",")} - {"", "close", "keep-alive"}
    return [item for item in headers if item[0] not in listed] if listed else headers


def _unsafe(headers: Headers) -> str | None:
    # One scan over all of it, because it nearly always finds nothing.
    joined = "".join([name + value for name, value in headers])
    if "\r" not in joined and "\n" not in joined and "\0" not in joined:
        return None
    return next(
        ascii(name[:50])[1:-1] for name, value in headers if any(bad in name or bad in value for bad in "\r\n\0")
    )
