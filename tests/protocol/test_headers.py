"""Header hygiene in both directions."""

from __future__ import annotations

from mooring.protocol import headers as subject

Text = list[tuple[str, str]]


def outbound(headers: Text, injected: Text) -> Text:
    return text(subject.outbound(subject.raw(headers), subject.raw(injected)))


def inbound(headers: Text) -> Text:
    return text(subject.inbound(subject.raw(headers)))


def text(headers: subject.Headers) -> Text:
    return [(name.decode(), value.decode()) for name, value in headers]


def test_outbound_drops_what_is_not_the_callers_to_say() -> None:
    dropped = [
        "Connection",
        "Keep-Alive",
        "Proxy-Authorization",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "Host",
        "Content-Length",
        "Authorization",
        "Cookie",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "Forwarded",
        "Via",
        "X-Real-IP",
        "X-Account-Id",
        "x-hub-token",
        "Expect",
        "x-stackone-anything",
        "HTTP2-Settings",
        "X-API-KEY",
    ]
    kept = [
        ("accept", "text/html"),
        ("accept", "application/json"),
        ("accept-encoding", "br"),
        ("content-type", "text/plain"),
        ("content-encoding", "gzip"),
        ("user-agent", "caller"),
        ("x-custom", "1"),
        ("prefer", "wait"),
    ]
    headers = [(name, "caller-value") for name in dropped] + [(name.title(), value) for name, value in kept]
    result = outbound(headers, [("X-Api-Key", "k"), ("Authorization", "Bearer t")])
    assert result == [*kept, ("x-api-key", "k"), ("authorization", "Bearer t")]


def test_headers_named_by_connection_are_dropped_wherever_they_stand() -> None:
    headers = [
        ("x-a", "1"),
        ("Connection", "close, X-A"),
        ("x-b", "2"),
        ("connection", "x-B,keep-alive"),
        ("c", "3"),
    ]
    assert outbound(headers, []) == [("c", "3")]
    assert inbound(headers) == [("c", "3")]


def test_connection_cannot_strip_an_injected_header() -> None:
    assert outbound([("connection", "authorization")], [("authorization", "t")]) == [("authorization", "t")]


def test_inbound_drops_what_would_speak_for_our_origin() -> None:
    dropped = [
        "Set-Cookie",
        "Set-Cookie2",
        "Strict-Transport-Security",
        "Content-Security-Policy",
        "Content-Security-Policy-Report-Only",
        "Alt-Svc",
        "Clear-Site-Data",
        "Access-Control-Allow-Origin",
        "Access-Control-Allow-Credentials",
        "Public-Key-Pins",
        "NEL",
        "Report-To",
        "Connection",
        "Keep-Alive",
        "Upgrade",
        "Trailer",
        "Proxy-Authenticate",
    ]
    kept = [
        "link",
        "etag",
        "retry-after",
        "x-ratelimit-remaining",
        "ratelimit",
        "content-encoding",
        "content-length",
        "content-type",
        "www-authenticate",
        "server-timing",
        "location",
        "date",
        "last-modified",
        "x-request-id",
        "content-disposition",
    ]
    headers = [(name, "v") for name in dropped] + [(name.title(), "v") for name in kept]
    assert inbound(headers) == [(name, "v") for name in kept]
    assert inbound([("Link", "a"), ("link", "b")]) == [("link", "a"), ("link", "b")]


def test_content_length_beside_transfer_encoding_is_dropped() -> None:
    headers = [("content-length", "3"), ("transfer-encoding", "chunked"), ("etag", "x")]
    assert inbound(headers) == [("etag", "x")]
