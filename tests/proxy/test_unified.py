"""`POST /unified/proxy`: one JSON request, one JSON answer (contract §2.6)."""

from __future__ import annotations

import base64
import json

import pytest

from tests.hub import ok, refused
from tests.proxy.conftest import Linked
from tests.proxy.upstream import Upstream, answer


def test_the_envelope_holds_status_headers_and_data(sandboxed: Linked) -> None:
    envelope = ok(sandboxed.unified({"path": "/api/employees?page_size=2&page=2"}))
    assert envelope["status"] == 200 and envelope["data"]["page"] == 2 and len(envelope["data"]["employees"]) == 2
    assert "set-cookie" not in envelope["headers"] and envelope["headers"]["x-ratelimit-limit"] == "1000"
    assert "provider_errors" not in envelope


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "PATCH"])
def test_methods(sandboxed: Linked, method: str) -> None:
    assert ok(sandboxed.unified({"method": method, "path": "/api/echo"}))["data"]["method"] == method.upper()


def test_a_method_that_is_none_is_refused(linked: Linked, upstream: Upstream) -> None:
    for method in ("trace", "connect", "get /x", ""):
        answered = linked.unified({"method": method, "path": "/a"})
        if method:
            refused(answered, 400, "ValidationError")
    assert [seen.line for seen in upstream.calls()] == ["GET /a HTTP/1.1"]  # empty means the default


DATA = {
    "object": (b'{"a": [1, null, "\xc3\xa9"]}', "application/json", {"a": [1, None, "é"]}),
    "array": (b'[{"a": 1}]', "application/vnd.api+json", [{"a": 1}]),
    "number": (b"42", "application/json", 42),
    "json without a type": (b'{"a": 1}', "text/html", {"a": 1}),
    "broken json": (b'{"a": ', "application/json", '{"a": '),
    "text": ("größe".encode(), "text/plain", "größe"),
    "binary": (b"\x89PNG\xff\x00", "image/png", base64.b64encode(b"\x89PNG\xff\x00").decode()),
    "nothing": (b"", "application/json", None),
}


@pytest.mark.parametrize("name", DATA)
def test_data(linked: Linked, upstream: Upstream, name: str) -> None:
    body, kind, expected = DATA[name]
    upstream.on("/data", answer(200, body, f"content-type: {kind}"))
    assert ok(linked.unified({"path": "/data"}))["data"] == expected


@pytest.mark.parametrize("status", [400, 401, 404, 429, 503])
def test_the_providers_errors_are_inside(linked: Linked, upstream: Upstream, status: int) -> None:
    upstream.on(
        "/a", answer(status, b'{"why": "so", "token": "t-1"}', "content-type: application/json", "retry-after: 9")
    )
    envelope = ok(linked.unified({"path": "/a?secret=1"}))
    assert envelope["status"] == status and envelope["data"] == {"why": "so", "token": "t-1"}
    (fault,) = envelope["provider_errors"]
    assert fault["status"] == status and fault["raw"]["why"] == "so" and fault["raw"]["token"] == "[redacted]"
    assert fault["url"] == f"{upstream.url}/a?secret=…" and fault["headers"]["retry-after"] == "9"


def test_bodies_and_headers_go_out(linked: Linked, upstream: Upstream) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    linked.unified({"method": "post", "path": "/json", "body": {"a": [1, "é"]}, "headers": {"X-Mine": 5, "x-no": None}})
    linked.unified({"method": "post", "path": "/form", "body": {"a": "1 &", "b": [2, 3]}, "headers": form})
    linked.unified({"method": "put", "path": "/text", "body": "plain é"})
    linked.unified({"method": "get", "path": "/get", "body": {}})
    json_call, form_call, text_call, get_call = upstream.calls()
    assert json.loads(json_call.body) == {"a": [1, "é"]} and json_call.header("content-type") == "application/json"
    assert json_call.header("x-mine") == "5" and json_call.header("x-no") is None
    assert form_call.body == b"a=1+%26&b=2&b=3"
    assert text_call.body == "plain é".encode() and text_call.header("content-type") == "text/plain; charset=utf-8"
    assert get_call.body == b"" and get_call.header("content-length") is None


def test_headers_of_the_envelope_cannot_take_the_place_of_ours(linked: Linked, upstream: Upstream) -> None:
    headers = {
        "Authorization": "Bearer mine",
        "Cookie": "a=b",
        "X-Api-Key": "mine",
        "Host": "evil",
        "X-Forwarded-For": "1",
    }
    ok(linked.unified({"path": "/a", "headers": headers}))
    (seen,) = upstream.calls()
    assert seen.header("x-api-key") == linked.secret and seen.header("host") == f"127.0.0.1:{upstream.port}"
    assert not {"authorization", "cookie", "x-forwarded-for"} & {name for name, _ in seen.headers}


@pytest.mark.parametrize("value", ["a\r\nX-Injected: 1", "a\nb", "a\0b"])
def test_a_line_break_in_a_header_is_refused(linked: Linked, upstream: Upstream, value: str) -> None:
    refused(linked.unified({"path": "/a", "headers": {"x-a": value}}), 400)
    refused(linked.unified({"path": "/a", "headers": {f"x-{value}": "1"}}), 400)
    assert upstream.calls() == []


def test_a_url_on_the_same_origin_works(linked: Linked, upstream: Upstream) -> None:
    ok(linked.unified({"url": f"{upstream.url}/other/v2?x=1", "path": "/a?y=2"}))
    assert upstream.calls()[0].target == "/other/v2/a?x=1&y=2"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/x",
        "https://evil.example/",
        "//evil.example/x",
        "http://localhost:{port}/x",
        "https://127.0.0.1:{port}/x",
        "http://127.0.0.1:{port}@evil.example/x",
        "http://127.0.0.1:{port}.evil.example/x",
        "http://evil.example#@127.0.0.1:{port}/",
        "file:///etc/passwd",
        "/relative",
        "http://127.0.0.1:{port}\\@evil.example/",
        "http://127.0.0.1:{port}/../../x",
        " ",
    ],
)
def test_a_url_elsewhere_is_refused(linked: Linked, upstream: Upstream, url: str) -> None:
    refused(linked.unified({"url": url.format(port=upstream.port), "path": "/a"}), 400)
    assert upstream.calls() == []


@pytest.mark.parametrize(
    "path", ["/../x", "/%2e%2e/x", "//evil/x", "/a\\b", "/a b", "/a#b", "http://evil/x", "/é", "/a\nb"]
)
def test_a_path_that_leaves_is_refused(linked: Linked, upstream: Upstream, path: str) -> None:
    refused(linked.unified({"path": path}), 400, "InvalidPathError")
    assert upstream.calls() == []


@pytest.mark.parametrize("body", [[], "x", {"path": 5}, {"headers": []}, {"path": "/" + "a" * 9000}])
def test_a_malformed_envelope_is_refused_and_logged(linked: Linked, upstream: Upstream, body: object) -> None:
    refusal = refused(linked.unified(body), 400, "ValidationError")
    row = ok(linked.project.http.get(f"/requests/logs/{refusal['requestId']}"))["data"]
    assert row["status"] == 400 and row["success"] is False and "category" not in row
    assert upstream.calls() == []


def test_numbers_and_nesting_beyond_the_usual(linked: Linked, upstream: Upstream) -> None:
    number = 2**80
    ok(
        linked.unified(
            {"method": "post", "path": "/a", "body": {"n": number, "deep": json.loads("[" * 300 + "]" * 300)}}
        )
    )
    assert json.loads(upstream.calls()[0].body)["n"] == number
    upstream.on("/deep", answer(200, b"[" * 600 + b"]" * 600, "content-type: application/json"))
    refused(linked.unified({"path": "/deep"}), 502, "AnswerTooDeepError")


def test_a_big_answer_fits_and_a_huge_one_is_a_clear_error(sandboxed: Linked) -> None:
    envelope = ok(sandboxed.unified({"path": f"/api/bytes/{10 << 20}"}))
    assert len(base64.b64decode(envelope["data"])) == 10 << 20
    refusal = refused(sandboxed.unified({"path": f"/api/bytes/{40 << 20}"}), 502, "AnswerTooLargeError")
    assert "/proxy" in refusal["hint"]


def test_a_big_body_goes_out(sandboxed: Linked) -> None:
    body = "x" * (8 << 20)
    assert (
        ok(sandboxed.unified({"method": "post", "path": "/api/echo", "body": body}))["data"]["body"]["size"] == 8 << 20
    )
    refused(sandboxed.unified({"method": "post", "path": "/api/echo", "body": "x" * (21 << 20)}), 413)
