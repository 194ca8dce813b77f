"""The sandbox's API: the five methods, identity, paging, writes, and the watching endpoints."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from .harness import Sandbox, code_form

ACME = {"x-api-key": "sandbox-key-acme"}
GLOBEX = {"x-api-key": "sandbox-key-globex"}
LIMITED = {"x-api-key": "sandbox-key-limited"}


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def service(user: str, token: str) -> dict[str, str]:
    return {"x-service-user-id": user, "x-service-user-token": token}


@pytest.mark.parametrize(
    ("headers", "query", "account", "method"),
    [
        (ACME, {}, "acct_acme", "api_key_header"),
        (GLOBEX, {}, "acct_globex", "api_key_header"),
        ({}, {"api_key": "sandbox-key-acme"}, "acct_acme", "api_key_query"),
        ({}, {"api_key": "sandbox-key-globex"}, "acct_globex", "api_key_query"),
        (basic("acme-admin", "sandbox-password"), {}, "acct_acme", "basic"),
        (basic("globex-admin", "sandbox-password"), {}, "acct_globex", "basic"),
        (service("SERVICE-1001", "sandbox-service-token"), {}, "acct_acme", "service_user"),
        (service("SERVICE-2002", "sandbox-service-token"), {}, "acct_globex", "service_user"),
    ],
)
def test_each_method_names_its_company(
    sandbox: Sandbox, headers: dict[str, str], query: dict[str, str], account: str, method: str
) -> None:
    response = sandbox.http.get("/api/me", headers=headers, params=query)
    assert response.status_code == 200
    assert response.json() == {
        "account_id": account,
        "company": {"acct_acme": "Acme", "acct_globex": "Globex"}[account],
        "auth_method": method,
        "scopes": ["profile:read", "employees:read", "employees:write"],
    }


def test_an_access_token_names_its_company(sandbox: Sandbox) -> None:
    code = sandbox.consent({"decision": "allow", "company": "globex"})["code"]
    me = sandbox.me(sandbox.token(code_form(code)).json()["access_token"]).json()
    assert (me["account_id"], me["auth_method"]) == ("acct_globex", "oauth2")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-api-key": "sandbox-key-acm"},
        {"x-api-key": "nope", "authorization": ""},
        basic("acme-admin", "wrong"),
        {"authorization": "Basic %%%"},
        {"authorization": "Basic"},
        {"authorization": "Digest x"},
        service("SERVICE-1001", "wrong"),
        {"x-service-user-id": "SERVICE-1001"},
        {"x-service-user-token": "sandbox-service-token"},
        {"authorization": "Bearer unknown"},
        {**ACME, "authorization": "Bearer unknown"},
    ],
)
def test_missing_or_wrong_credentials(sandbox: Sandbox, headers: dict[str, str]) -> None:
    response = sandbox.http.get("/api/me", headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith('Bearer realm="Mooring sandbox"')
    assert set(response.json()) == {"error", "message"}
    assert sandbox.counters()["api_401s"] == 1


def test_limited_key(sandbox: Sandbox) -> None:
    assert sandbox.http.get("/api/me", headers=LIMITED).json()["scopes"] == ["profile:read"]
    response = sandbox.http.get("/api/employees", headers=LIMITED)
    assert response.status_code == 403
    assert response.json()["missing_scopes"] == ["employees:read"]
    assert 'error="insufficient_scope", scope="employees:read"' in response.headers["www-authenticate"]
    assert sandbox.http.get("/api/employees/emp_acme_001", headers=LIMITED).status_code == 403


def test_write_without_the_scope(sandbox: Sandbox) -> None:
    token = sandbox.link(scope="employees:read")["access_token"]
    bearer = {"authorization": f"Bearer {token}"}
    assert sandbox.http.get("/api/employees", headers=bearer).status_code == 200
    for method, path in (("POST", ""), ("PATCH", "/emp_acme_001"), ("DELETE", "/emp_acme_001")):
        response = sandbox.http.request(method, f"/api/employees{path}", headers=bearer, json={})
        assert (response.status_code, response.json()["missing_scopes"]) == (403, ["employees:write"])
    assert sandbox.http.get("/api/employees/emp_acme_001", headers=ACME).status_code == 200


def test_paging_reaches_everyone_once(sandbox: Sandbox) -> None:
    seen: list[str] = []
    page: int | None = 1
    while page:
        response = sandbox.http.get("/api/employees", headers=ACME, params={"page": page, "page_size": 20})
        body = response.json()
        assert (body["page"], body["page_size"], body["total"]) == (page, 20, 53)
        links = response.headers["link"]
        assert ('rel="next"' in links) == (body["next_page"] is not None)
        assert ('rel="prev"' in links) == (page > 1)
        seen += [person["id"] for person in body["employees"]]
        page = body["next_page"]
    assert len(seen) == len(set(seen)) == 53
    beyond = sandbox.http.get("/api/employees?page=99", headers=ACME).json()
    assert (beyond["employees"], beyond["next_page"]) == ([], None)


def test_people_are_complete_distinct_and_tenant_bound(sandbox: Sandbox) -> None:
    acme = sandbox.http.get("/api/employees?page_size=100", headers=ACME).json()["employees"]
    globex = sandbox.http.get("/api/employees?page_size=100", headers=GLOBEX).json()["employees"]
    fields = ["id", "first_name", "last_name", "email", "department", "job_title", "start_date", "status"]
    assert all(list(person) == fields and all(person.values()) for person in acme + globex)
    assert len({person["email"] for person in acme + globex}) == 106
    assert len({(person["first_name"], person["last_name"]) for person in acme}) == 53
    assert sandbox.http.get(f"/api/employees/{globex[0]['id']}", headers=ACME).status_code == 404


@pytest.mark.parametrize("query", ["page=0", "page=x", "page=-1", "page_size=0", "page_size=101", "page=²"])
def test_bad_page(sandbox: Sandbox, query: str) -> None:
    response = sandbox.http.get(f"/api/employees?{query}", headers=ACME)
    assert (response.status_code, response.json()["error"]) == (400, "bad_parameter")


def test_create_change_delete(sandbox: Sandbox) -> None:
    person = {"first_name": "Zoë", "last_name": "Quist", "email": "zoe@acme.example"}
    made = sandbox.http.post("/api/employees", headers=ACME, json=person)
    assert made.status_code == 201
    assert made.json() | person == made.json()
    assert made.json()["status"] == "active"
    where = f"/api/employees/{made.json()['id']}"
    assert made.headers["location"] == sandbox.url + where
    changed = sandbox.http.patch(where, headers=ACME, json={"department": "Sales"})
    assert changed.status_code == 200
    assert sandbox.http.get(where, headers=ACME).json() == {**made.json(), "department": "Sales"}
    gone = sandbox.http.delete(where, headers=ACME)
    assert (gone.status_code, gone.content) == (204, b"")
    assert sandbox.http.get(where, headers=ACME).status_code == 404
    assert sandbox.http.delete(where, headers=ACME).status_code == 404
    assert sandbox.http.post("/api/employees", headers=ACME, json=person).json()["id"] != made.json()["id"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 422),
        (b'{"first_name": "A"}', 422),
        (b'{"first_name": 1, "last_name": "B", "email": "c"}', 422),
        (b'{"id": "emp_acme_001", "first_name": "A", "last_name": "B", "email": "c"}', 422),
        (b'{"x": "' + b"x" * 1_100_000 + b'"}', 413),
    ],
)
def test_bad_employee(sandbox: Sandbox, body: bytes, status: int) -> None:
    assert sandbox.http.post("/api/employees", headers=ACME, content=body).status_code == status
    assert sandbox.http.get("/api/employees", headers=ACME).json()["total"] == 53


def test_header_hygiene_material(sandbox: Sandbox) -> None:
    response = sandbox.http.get("/api/me", headers=ACME)
    assert 'rel="service-doc"' in response.headers["link"]
    assert response.headers["set-cookie"].startswith("sandbox_session=acme;")
    assert response.headers["x-ratelimit-limit"] == "1000"
    again = sandbox.http.get("/api/me", headers={**ACME, "if-none-match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert int(again.headers["x-ratelimit-remaining"]) == int(response.headers["x-ratelimit-remaining"]) - 1


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
def test_echo_any_method(sandbox: Sandbox, method: str) -> None:
    echo = sandbox.http.request(
        method,
        "/api/echo/a%20b?x=1&x=%202&y",
        headers=[*ACME.items(), ("x-twice", "a"), ("x-twice", "b")],
        content=b"body",
    ).json()
    assert echo["method"] == method
    assert echo["path"] == "/api/echo/a b"
    assert echo["query"] == "x=1&x=%202&y"
    assert echo["headers"]["x-twice"] == "a, b"
    assert echo["headers"]["x-api-key"] == "sandbox-key-acme"
    assert echo["body"] == {"sha256": hashlib.sha256(b"body").hexdigest(), "size": 4}
    assert sandbox.http.head("/api/echo", headers=ACME).status_code == 200


def test_echo_streams_a_large_body(sandbox: Sandbox) -> None:
    digest, chunk = hashlib.sha256(), b"\x00\xffz" * 20_000

    def chunks() -> Iterator[bytes]:
        for _ in range(800):
            digest.update(chunk)
            yield chunk

    body: Any = sandbox.http.put("/api/echo", headers=ACME, content=chunks()).json()["body"]
    assert body == {"sha256": digest.hexdigest(), "size": 48_000_000}


def test_bytes_are_deterministic(sandbox: Sandbox) -> None:
    first = sandbox.http.get("/api/bytes/200001", headers=ACME)
    assert (len(first.content), first.headers["content-length"]) == (200_001, "200001")
    assert first.content[:65_536] != bytes(65_536)
    assert sandbox.http.get("/api/bytes/70000", headers=ACME).content == first.content[:70_000]
    assert sandbox.http.get("/api/bytes/0", headers=ACME).content == b""
    assert sandbox.http.get("/api/bytes/-1", headers=ACME).status_code == 400


def test_bytes_come_before_they_are_all_made(sandbox: Sandbox) -> None:
    began = time.monotonic()
    with sandbox.http.stream("GET", "/api/bytes/5000000000", headers=ACME) as response:
        assert len(next(response.iter_raw())) > 0
    assert time.monotonic() - began < 2


def test_slow(sandbox: Sandbox) -> None:
    began = time.monotonic()
    assert sandbox.http.get("/api/slow?ms=300", headers=ACME).json() == {"slept_ms": 300}
    assert time.monotonic() - began >= 0.3


def test_server_sent_events_arrive_one_by_one(sandbox: Sandbox) -> None:
    arrived: list[float] = []
    with sandbox.http.stream("GET", "/api/sse?count=3&interval=150", headers=ACME) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for line in response.iter_lines():
            if line.startswith("data:"):
                arrived.append(time.monotonic())
                assert line == f'data: {{"number": {len(arrived)}}}'
    assert len(arrived) == 3
    assert arrived[2] - arrived[0] >= 0.28


@pytest.mark.parametrize("code", [200, 204, 304, 400, 404, 418, 503, 599])
def test_status(sandbox: Sandbox, code: int) -> None:
    assert sandbox.http.get(f"/api/status/{code}", headers=ACME).status_code == code


def test_status_redirects_to_where_followers_are_counted(sandbox: Sandbox) -> None:
    response = sandbox.http.get("/api/status/302", headers=ACME)
    assert response.headers["location"] == f"{sandbox.url}/redirected"
    sandbox.http.get(response.headers["location"])
    assert sandbox.counters()["redirects_followed"] == 1
    assert sandbox.http.get("/api/status/199", headers=ACME).status_code == 400


def test_unknown_paths_are_json(sandbox: Sandbox) -> None:
    assert sandbox.http.get("/api/nothing", headers=ACME).json()["error"] == "not_found"
    assert sandbox.http.get("/api/nothing").status_code == 401
    assert sandbox.http.put("/api/me", headers=ACME).json()["error"] == "method_not_allowed"
    assert sandbox.http.get("/nothing").json()["error"] == "not_found"


def test_pages(sandbox: Sandbox) -> None:
    home = sandbox.http.get("/")
    assert home.headers["content-type"] == "text/html; charset=utf-8"
    for word in ("sandbox-key-acme", "acme-admin", "SERVICE-1001", "sandbox-client", sandbox.url):
        assert word in home.text
    assert sandbox.http.get("/healthz").json() == {"status": "ok"}
