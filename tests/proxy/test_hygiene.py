"""What must not cross the proxy: the caller's and the provider's own headers, echoed credentials (rules P7, P8)."""

from __future__ import annotations

import base64
import socket
import time
from urllib.parse import quote

import pytest

from tests.hub import Project, ok
from tests.proxy.conftest import Linked
from tests.proxy.upstream import Seen, Upstream, answer
from tests.sandbox.harness import Sandbox

PRIVATE = {
    "cookie": "session=caller",
    "proxy-authorization": "Basic Y2FsbGVy",
    "forwarded": "for=10.0.0.1",
    "via": "1.1 caller",
    "x-forwarded-for": "10.0.0.1",
    "x-forwarded-host": "caller.example",
    "x-forwarded-proto": "https",
    "x-real-ip": "10.0.0.1",
    "x-hub-session-token": "caller-session",
    "te": "trailers",
    "upgrade": "h2c",
    "keep-alive": "timeout=5",
    "connection": "keep-alive, x-listed",
    "x-listed": "only for the first hop",
    "x-api-key": "a key that the caller made up",
}


def test_the_callers_private_headers_never_arrive(linked: Linked, upstream: Upstream) -> None:
    assert linked(path="/a", headers={**PRIVATE, "host": "evil.example", "x-mine": "kept"}).status_code == 200
    (seen,) = upstream.calls()
    names = [name for name, _ in seen.headers]
    assert not {"authorization", "x-account-id", *PRIVATE} - {"x-api-key"} & set(names)
    assert seen.header("host") == f"127.0.0.1:{upstream.port}"
    assert [value for name, value in seen.headers if name == "x-api-key"] == [linked.secret]
    assert seen.header("x-mine") == "kept"
    assert linked.project.key not in str(seen)


def test_repeated_headers_stay_repeated(linked: Linked, upstream: Upstream) -> None:
    headers = [("x-account-id", linked.account), ("x-many", "1"), ("x-many", "2")]
    assert linked.project.http.get("/proxy/a", headers=headers).status_code == 200
    assert [value for name, value in upstream.calls()[0].headers if name == "x-many"] == ["1", "2"]


def test_the_provider_never_speaks_for_our_origin(linked: Linked, upstream: Upstream) -> None:
    private = {
        "set-cookie": "sid=1; Path=/",
        "strict-transport-security": "max-age=9",
        "content-security-policy": "default-src *",
        "content-security-policy-report-only": "default-src *",
        "alt-svc": 'h3=":443"',
        "clear-site-data": '"*"',
        "access-control-allow-origin": "*",
        "access-control-allow-credentials": "true",
        "nel": "{}",
        "report-to": "{}",
        "proxy-authenticate": "Basic",
        "keep-alive": "timeout=5",
        "connection": "keep-alive, x-listed",
        "x-listed": "only for the first hop",
    }
    public = {
        "link": '</a?page=2>; rel="next"',
        "etag": '"1"',
        "retry-after": "3",
        "x-ratelimit-remaining": "9",
        "content-type": "text/x-odd; a=b",
        "content-disposition": 'attachment; filename="a b"',
        "location": "/there",
        "www-authenticate": "Bearer",
    }
    given = [f"{name}: {value}" for name, value in {**private, **public}.items()]
    upstream.on("/a", answer(200, b"x", *given, "set-cookie: second=2", "x-many: 1", "x-many: 2"))
    answered = linked(path="/a")
    shown = {name: value for name, value in answered.headers.items() if name in private}
    assert shown == {"content-security-policy": "default-src 'none'; frame-ancestors 'none'"}  # ours
    assert public.items() <= dict(answered.headers.items()).items()
    assert answered.headers.get_list("x-many") == ["1", "2"]


def test_our_request_id_is_the_one_in_the_log(linked: Linked, upstream: Upstream) -> None:
    upstream.on("/a", answer(200, b"x", "x-request-id: theirs"))
    answered = linked(path="/a")
    (ours,) = answered.headers.get_list("x-request-id")
    assert ours != "theirs" and answered.headers["x-provider-request-id"] == "theirs"
    assert ok(linked.project.http.get(f"/requests/logs/{ours}"))["data"]["path"] == "/proxy/a"


def test_an_injected_parameter_cannot_be_overridden(query_linked: Linked, upstream: Upstream) -> None:
    for query in ("api_key=mine", "a=1&api_key=mine&api_key=again&b=2", "api%5Fkey=mine", "api%5fkey", "%61pi_key=x"):
        upstream.seen.clear()
        assert query_linked(path=f"/a?{query}").status_code == 200
        (seen,) = upstream.seen
        assert f"api_key={quote(query_linked.secret, safe='')}" in seen.target
        assert "mine" not in seen.target and "again" not in seen.target and "=x" not in seen.target, seen.target
        assert seen.target.count("key") == 1, seen.target
        assert ("a=1&b=2" in seen.target) == ("a=1" in query)


def forms_of(secret: str) -> dict[str, bytes]:
    return {
        "plain": secret.encode(),
        "basic": base64.b64encode(f"user:{secret}".encode()),
        "url": quote(secret, safe="").encode(),
        "hex": secret.encode().hex().encode(),
    }


@pytest.mark.parametrize("form", ["plain", "basic", "url", "hex"])
def test_an_echoed_credential_is_masked(linked: Linked, upstream: Upstream, form: str) -> None:
    echo = forms_of(linked.secret)[form]
    body = b'{"you_sent": "' + echo + b'", "other": "stays"}'
    upstream.on("/echo", answer(200, body, f"x-echo: {echo.decode()}"))
    answered = linked(path="/echo")
    assert linked.secret.encode() not in answered.content and echo not in answered.content
    assert len(answered.content) == len(body) and b'"other": "stays"' in answered.content
    assert echo.decode() not in answered.headers["x-echo"] and "*" in answered.headers["x-echo"]


def test_an_echo_that_is_split_over_chunks_is_masked(linked: Linked, upstream: Upstream) -> None:
    echo = b"<" + linked.secret.encode() + b">" + linked.secret.encode()[:9] + b"<end>"

    def drip(connection: socket.socket, _seen: Seen) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for byte in echo:
            connection.sendall(b"1\r\n" + bytes([byte]) + b"\r\n")
            time.sleep(0.002)
        connection.sendall(b"0\r\n\r\n")

    upstream.on("/drip", drip)
    masked = b"<" + b"*" * len(linked.secret) + b">" + linked.secret.encode()[:9] + b"<end>"
    assert linked(path="/drip").content == masked


def test_an_echo_in_the_unified_answer_is_masked(linked: Linked, upstream: Upstream) -> None:
    upstream.on("/echo", answer(418, b'{"k": "' + linked.secret.encode() + b'"}', f"x-echo: {linked.secret}"))
    answered = linked.unified({"path": "/echo"})
    assert ok(answered)["status"] == 418
    assert linked.secret not in answered.text


def test_every_method_of_authentication_is_masked(project: Project, provider: Sandbox) -> None:
    forms = {
        "basic": ({"username": "acme-admin", "password": "sandbox-password"}, "sandbox-password"),
        "service_user": (
            {"service_user_id": "SERVICE-1001", "service_user_token": "sandbox-service-token"},
            "sandbox-service-token",
        ),
    }
    for method, (form, secret) in forms.items():
        config = project.config("sandbox", method, {"sandbox_url": provider.url})
        answered = project.proxy(project.link(config, form), path="/api/echo")
        assert answered.status_code == 200 and "***" in answered.text
        assert secret not in answered.text
        assert base64.b64encode(f"acme-admin:{secret}".encode()).decode() not in answered.text
