"""Every refusal has the one shape of contract §1, framework-made ones included, and tells nothing about the inside."""

from __future__ import annotations

import json
import socket
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.hub import Hub, Project, client, ok, refused
from tests.rows import query
from tests.servers.ports import free_port

JSON = {"content-type": "application/json"}
SESSION = b'{"origin_owner_id": "a", "origin_owner_name": "b"}'
HALF_A_PAIR = SESSION.replace(b'"a"', b'"\\ud800"')

CASES: dict[str, tuple[str, str, dict[str, str], bytes | None, int, str]] = {
    "unknown path": ("GET", "/nothing/here", {}, None, 404, "NotFoundError"),
    "unknown path under a known one": ("GET", "/accounts/x/y/z", {}, None, 404, "NotFoundError"),
    "a slash too many": ("GET", "/accounts/", {}, None, 404, "NotFoundError"),
    "unknown id": ("GET", "/accounts/none", {}, None, 404, "NotFoundError"),
    "NUL in an id": ("GET", "/accounts/a%00b", {}, None, 404, "NotFoundError"),
    "NUL in a query": ("GET", "/accounts?provider=%00", {}, None, 400, "BadRequestError"),
    "wrong method": ("PUT", "/connect_sessions", {}, None, 405, "MethodNotAllowedError"),
    "trace": ("TRACE", "/accounts", {}, None, 405, "MethodNotAllowedError"),
    "not json": ("POST", "/connect_sessions", JSON, b'{"a": ', 400, "ValidationError"),
    "not utf-8": ("POST", "/connect_sessions", JSON, b"\xff\xfe", 400, "ValidationError"),
    "nothing": ("POST", "/connect_sessions", JSON, b"", 400, "ValidationError"),
    "an array": ("POST", "/connect_sessions", JSON, b"[]", 400, "ValidationError"),
    "null": ("POST", "/connect_sessions", JSON, b"null", 400, "ValidationError"),
    "nested too deeply": ("POST", "/connect_sessions", JSON, b"[" * 100_000, 400, "BadRequestError"),
    "half a surrogate pair": ("POST", "/connect_sessions", JSON, HALF_A_PAIR, 400, "ValidationError"),
    "wrong content type": ("POST", "/connect_sessions", {"content-type": "text/plain"}, SESSION, 400, "ValidationError"),
    "no content type": ("POST", "/connect_sessions", {}, SESSION, 400, "ValidationError"),
    "wrong type in the query": ("GET", "/accounts?page=x", {}, None, 400, "ValidationError"),
    "a number out of range": ("GET", f"/accounts?page={10**30}", {}, None, 400, "ValidationError"),
    "too large": ("POST", "/connect_sessions", JSON, b" " * ((1 << 20) + 1), 413, "PayloadTooLargeError"),
    "headers too large": ("GET", "/accounts", {"x-long": "a" * 33_000}, None, 400, "HeadersTooLargeError"),
    "proxy: headers too large": ("GET", "/proxy/a", {"x-long": "a" * 33_000}, None, 400, "HeadersTooLargeError"),
    "proxy: no account": ("GET", "/proxy/a", {}, None, 400, "BadRequestError"),
    "proxy: unknown account": ("GET", "/proxy/a", {"x-account-id": "none"}, None, 404, "NotFoundError"),
    "hub: unknown session": ("GET", "/hub/settings", {"x-hub-session-token": "none"}, None, 401, "SessionExpiredError"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_one_shape(project: Project, name: str) -> None:
    method, path, headers, content, status, code = CASES[name]
    answered = project.http.request(method, path, headers=headers, content=content)
    body = refused(answered, status, code)
    assert answered.headers["content-type"] == "application/json"
    assert answered.headers["x-request-id"] == body["requestId"]
    assert answered.headers["x-content-type-options"] == "nosniff" and "date" in answered.headers
    assert "server" not in answered.headers  # what runs here is nobody's business
    for inside in ("Traceback", "sqlalchemy", "SELECT", "INSERT", "pydantic", ".py", "fastapi"):
        assert inside not in answered.text
    if status == 405:
        assert answered.headers["allow"]


ALLOWED = {
    "/accounts": "GET",
    "/accounts/x": "DELETE, GET, PATCH",
    "/connect_sessions": "POST",
    "/hub/accounts/x": "DELETE, GET, PATCH",
    "/unified/proxy": "POST",
}


@pytest.mark.parametrize("path", ALLOWED)
def test_a_wrong_method_names_the_right_ones(project: Project, path: str) -> None:
    answered = project.http.request("PUT", path)
    refused(answered, 405, "MethodNotAllowedError")
    assert answered.headers["allow"] == ALLOWED[path]


def test_a_body_that_is_no_json_says_what_to_send(project: Project) -> None:
    for headers in ({"content-type": "text/plain"}, {}):
        body = refused(project.http.post("/connect_sessions", headers=headers, content=SESSION), 400, "ValidationError")
        assert "Content-Type: application/json" in body["hint"]
    broken = refused(project.http.post("/connect_sessions", headers=JSON, content=b'{"a": '), 400, "ValidationError")
    assert broken["errors"] == ["the body is not JSON (character 6)"] and "hint" not in broken
    lacking = refused(project.http.post("/connect_sessions", json={}), 400, "ValidationError")
    assert "hint" not in lacking


def test_validation_names_the_fields_but_not_their_values(project: Project) -> None:
    answered = project.http.post(
        "/connect_sessions", json={"origin_owner_id": {"secret": "hidden-value"}, "multiple": "hidden"}
    )
    body = refused(answered, 400, "ValidationError")
    assert any(line.startswith("origin_owner_id:") for line in body["errors"])
    assert any(line.startswith("origin_owner_name:") for line in body["errors"])
    assert "hidden" not in answered.text


def test_a_challenge_comes_with_a_missing_key(project: Project) -> None:
    answered = client(project.hub.url).get("/accounts")
    assert refused(answered, 401, "UnauthorizedError")["hint"]
    assert answered.headers["www-authenticate"].startswith("Basic ")


def test_an_unknown_path_needs_no_key(project: Project) -> None:
    refused(client(project.hub.url).get("/nope"), 404)


@pytest.mark.parametrize("head", [b"x" * 70_000, b"y" * 200_000])
def test_headers_beyond_the_buffer_are_cut_off_by_the_server(project: Project, head: bytes) -> None:
    with socket.create_connection(("127.0.0.1", project.hub.port), timeout=5) as connection:
        try:
            connection.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nx: " + head + b"\r\n\r\n")
            given = connection.recv(65536)
        except ConnectionError:
            return
    assert given == b"" or given.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))


def test_a_chunked_body_is_limited_too(project: Project) -> None:
    def endless():
        for _ in range(40):
            yield b" " * 65536

    refused(project.http.post("/connect_sessions", headers=JSON, content=endless()), 413, "PayloadTooLargeError")
    assert ok(project.http.get("/accounts")) == []


def test_a_fault_of_ours_is_a_500_that_tells_nothing(tmp_path: Path) -> None:
    with Hub(tmp_path, free_port()) as hub:
        project = hub.new_project()
        ok(project.http.get("/accounts"))
        db = sqlite3.connect(tmp_path / "data" / "mooring.db")
        db.execute("PRAGMA foreign_keys=OFF")
        db.execute("DROP TABLE accounts")
        db.commit()
        db.close()
        for answered in (
            project.http.get("/accounts?origin_owner_id=private-value"),
            project.http.get("/proxy/a", headers={"x-account-id": "private-value"}),
            project.http.post("/unified/proxy", json={"path": "/a"}, headers={"x-account-id": "private-value"}),
        ):
            body = refused(answered, 500, "InternalError")
            assert answered.headers["content-type"] == "application/json"
            assert set(body) <= {"statusCode", "message", "timestamp", "errorCode", "requestId", "hint"}
            assert "accounts" not in json.dumps(body) and "sql" not in answered.text.lower()
            assert answered.headers["x-request-id"] == body["requestId"]
            lines = [line for line in hub.log().splitlines() if body["requestId"] in line]
            assert len(lines) == 1 and "no such table" in lines[0], "the operator finds the cause under the request id"
        assert "private-value" not in hub.log()
        rows = ok(project.http.get("/requests/logs"))["data"]
        assert [row["status"] for row in rows] == [500, 500]


def test_health_needs_no_key(project: Project) -> None:
    http = client(project.hub.url)
    assert ok(http.get("/livez")) == {"status": "ok"}
    ready = ok(http.get("/readyz"))
    assert ready["status"] == "ready" and ready["oldest_job_seconds"] < 60


def test_a_process_without_a_master_key_that_rows_need_is_not_ready(project: Project) -> None:
    http = client(project.hub.url)
    row = "('k', :p, 'nobody', 'k', '0-other', :b, :t)"
    columns = "(id, project_id, owner_kind, owner_id, kek_id, blob, created_at)"
    at: object = datetime.now(UTC) if "postgres" in project.hub.database_url else datetime.now(UTC).isoformat(" ")
    query(project.hub, f"INSERT INTO data_keys {columns} VALUES {row}", p=project.id, b=b"x", t=at)
    try:
        assert "master key" in refused(http.get("/readyz"), 503, "UnavailableError")["message"]
        assert ok(http.get("/livez")) == {"status": "ok"}
    finally:
        query(project.hub, "DELETE FROM data_keys WHERE id = 'k'")
    assert ok(http.get("/readyz"))["status"] == "ready"
