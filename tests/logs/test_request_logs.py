"""The request log over the API: what is written, found, paged and kept out (contract §2.9, rule L1)."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.hub import Hub, Project, client, ok, refused
from tests.sandbox.harness import Sandbox
from tests.servers.ports import free_port


@pytest.fixture
def account(project: Project, provider: Sandbox) -> str:
    config = project.config("sandbox", "api_key", {"sandbox_url": provider.url})
    return project.link(config, {"api_key": "sandbox-key-acme"})


def logs(project: Project, query: str = "") -> list[dict[str, Any]]:
    return ok(project.http.get(f"/requests/logs{query}"))["data"]


def test_one_row_per_call_refused_ones_included(project: Project, account: str) -> None:
    made = [
        project.proxy(account, path="/api/me"),
        project.proxy(account, "POST", "/api/status/503"),
        project.proxy("unknown-account", path="/api/me"),
        project.proxy(account, path="/%2e%2e/x"),
        project.http.get("/proxy/api/me"),
        project.http.post("/unified/proxy", json={"path": "/api/status/404"}, headers={"x-account-id": account}),
        project.http.post("/unified/proxy", json={"path": 1}, headers={"x-account-id": account}),
        project.http.post("/unified/proxy", json={"path": "/a"}),
    ]
    rows = {row["request_id"]: row for row in logs(project)}
    assert len(rows) == len(made)
    found = [rows[answered.headers["x-request-id"]] for answered in made]
    assert [row["status"] for row in found] == [200, 503, 404, 400, 400, 404, 400, 400]
    assert [row["success"] for row in found] == [True, *[False] * 7]


def test_a_row_tells_what_happened(project: Project, account: str) -> None:
    before = datetime.now(UTC)
    project.proxy(account, "DELETE", "/api/employees/none?reason=private")
    (row,) = logs(project)
    assert row["account_id"] == account and row["project_id"] == project.id and row["origin_owner_id"] == "owner-1"
    assert (row["provider"], row["service"], row["http_method"]) == ("sandbox", "proxy", "DELETE")
    assert (row["status"], row["success"], row["path"]) == (404, False, "/proxy/api/employees/none")
    assert row["url"].endswith("/api/employees/none?reason=…")
    assert row["source_type"] == "API" and row["source_ip"] == "127.0.0.1" and row["source_id"]
    start, end = (datetime.fromisoformat(row[name]) for name in ("start_time", "end_time"))
    assert before - timedelta(milliseconds=1) <= start <= end <= datetime.now(UTC)
    assert "T" in row["start_time"] and row["start_time"].endswith("Z") and row["event_datetime"] == row["start_time"]
    assert 0 < row["duration"] < 5000
    assert row["request"]["method"] == "delete" and row["request"]["url"]["path"] == "/api/employees/none"
    assert row["response"] == {"status_code": 404}


def test_steps_are_the_requests_to_the_provider(project: Project, account: str, provider: Sandbox) -> None:
    project.proxy(account, path="/api/me")
    project.proxy("unknown", path="/api/me")
    assert "step_requests" not in logs(project)[0]
    unknown, good = logs(project, "?include=step_logs")
    assert unknown["step_requests"] == []
    (step,) = good["step_requests"]
    assert step["url"] == f"{provider.url}/api/me" and step["status"] == 200 and step["success"] is True
    assert step["request_id"] == good["request_id"] and step["duration"] > 0
    assert ok(project.http.get("/requests/logs/steps"))["data"] == [step]
    one = ok(project.http.get(f"/requests/logs/{good['request_id']}?include=step_logs,advanced_logs"))["data"]
    assert one["step_requests"] == [step]


def test_a_foreign_row_is_like_none(project: Project, account: str, other_project: Project) -> None:
    project.proxy(account, path="/api/me")
    id = logs(project)[0]["request_id"]
    foreign = refused(other_project.http.get(f"/requests/logs/{id}"), 404, "NotFoundError")
    unknown = refused(other_project.http.get("/requests/logs/0192d3c0-0000-7000-8000-000000000000"), 404)
    assert foreign["message"] == unknown["message"]
    assert logs(other_project) == []
    assert ok(other_project.http.get("/requests/logs/steps"))["data"] == []


def test_filters(project: Project, account: str, provider: Sandbox) -> None:
    config = project.config("sandbox", "basic", {"sandbox_url": provider.url})
    second = project.link(config, {"username": "acme-admin", "password": "sandbox-password"}, "owner-2")
    project.proxy(account, path="/api/me")
    project.proxy(account, "POST", "/api/echo")
    project.proxy(second, path="/api/status/500")
    project.proxy("unknown", path="/x")
    key = logs(project)[0]["source_id"]
    newest_id = logs(project)[0]["request_id"]
    cases = {
        f"account_ids={account}": 2,
        f"filter[account_ids]={account}": 2,
        f"account_ids={account}%2C{second}": 3,
        f"account_ids={account}&account_ids={second}": 3,
        f"filter[account_ids]={account},{second}": 3,
        f"filter[account_ids][]={account}&filter[account_ids][]={second}": 3,
        "account_ids=nobody": 0,
        "providers=sandbox": 3,
        "origin_owner_ids=owner-2": 1,
        "services=proxy": 4,
        "http_methods=post": 1,
        "http_methods=GET": 3,
        "status_codes=200,500": 3,
        "filter[status_codes]=404": 1,
        "success=true": 2,
        "filter[success]=false": 2,
        f"request_ids={newest_id}": 1,
        f"source_ids={key}": 4,
        "source_types=API": 4,
        "source_types=DASHBOARD": 0,
        "source_values=x": 0,
        "sub_resources=x": 0,
        "child_resources=x": 0,
        "actions=x": 0,
        "start_date=2020-01-01T00:00:00.000Z": 4,
        "start_date=2199-01-01T00:00:00Z": 0,
        "end_date=2020-01-01": 0,
        "filter[end_date]=2199-01-01T00:00:00%2B02:00": 4,
        f"account_ids={account}&success=true&http_methods=post": 1,
        "account_ids=": 4,
    }
    found = {query: len(logs(project, f"?{query}")) for query in cases}
    assert found == cases


@pytest.mark.parametrize(
    "query",
    [
        "status_codes=abc", "success=maybe", "start_date=yesterday", "order_by=color", "order_direction=up",
        "page_size=0", "page_size=501", "page_size=x", "next=%%%", "next=bm90IGEgY3Vyc29y", "next=WzEsMl0",
        "status_codes=99999999999999999999", "next=WzEsICJhIl0", "order_by=status&next=WyJ4IiwgImEiXQ",
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_named(project: Project, query: str) -> None:
    for path in ("logs", "logs/steps", "platform-logs"):
        fault = refused(project.http.get(f"/requests/{path}?{query}"), 400, "ValidationError")
        assert fault["errors"][0].startswith(query.split("&")[-1].split("=")[0])


ORDERS = {
    "eventDatetime": lambda row: row["event_datetime"],
    "status": lambda row: row["status"],
    "provider": lambda row: row["provider"] or "",
    "service": lambda row: row["service"] or "",
    "duration": lambda row: row["duration"],
}


def test_paging_shows_every_row_once_in_every_order(project: Project, account: str) -> None:
    for number in range(124):
        path = ("/api/status/200", "/api/status/204", "/api/status/418")[number % 3]
        project.proxy(account if number % 4 else "unknown", path=path)
    everything = {row["request_id"] for row in logs(project, "?page_size=500")}
    assert len(everything) == 124
    for order, value in ORDERS.items():
        for direction in ("asc", "desc"):
            rows, cursor, pages = [], "", 0
            while True:
                page = ok(
                    project.http.get(
                        f"/requests/logs?order_by={order}&order_direction={direction}&page_size=25{cursor}"
                    )
                )
                rows += page["data"]
                pages += 1
                if page["next"] is None:
                    break
                assert len(page["data"]) == 25
                cursor = f"&next={page['next']}"
            assert pages == 5 and len(rows) == 124, (order, direction)
            assert {row["request_id"] for row in rows} == everything
            values = [value(row) for row in rows]
            assert values == sorted(values, reverse=direction == "desc"), (order, direction)


def test_a_page_stays_whole_while_rows_come_in(project: Project, account: str) -> None:
    for _ in range(6):
        project.proxy(account, path="/api/me")
    first = ok(project.http.get("/requests/logs?page_size=3"))
    project.proxy(account, path="/api/me")
    second = ok(project.http.get(f"/requests/logs?page_size=3&next={first['next']}"))
    ids = [row["request_id"] for row in first["data"] + second["data"]]
    assert len(set(ids)) == 6 and second["next"] is None


def test_management_calls_have_their_own_log(project: Project) -> None:
    project.http.get("/accounts?page_size=1")
    project.http.get("/accounts/unknown")
    project.http.post("/connect_sessions", json={})
    rows = ok(project.http.get("/requests/platform-logs"))["data"]
    assert sorted((r["http_method"], r["path"], r["status"], r["resource"]) for r in rows) == [
        ("GET", "/accounts", 200, "accounts"),
        ("GET", "/accounts/unknown", 404, "accounts"),
        ("POST", "/connect_sessions", 400, "connect_sessions"),
    ]
    assert all(row["category"] == "platform" for row in rows)
    assert logs(project) == []


def test_reading_the_log_needs_its_scope(project: Project) -> None:
    key = project.hub.command("api-key", "create", "--project", project.id, "--scopes", "unified:read").stdout
    http = client(project.hub.url, auth=(next(w for w in key.split() if w.startswith("v1.")), ""))
    for path in ("logs", "logs/steps", "platform-logs", "logs/x"):
        refused(http.get(f"/requests/{path}"), 403, "ForbiddenError")


PRIVATE = ("value-of-a-parameter", "value-of-a-header", "value-of-a-body", "sandbox-key-acme")


def test_nothing_private_is_in_a_row(project: Project, account: str) -> None:
    project.proxy(
        account,
        "POST",
        "/api/echo?q=value-of-a-parameter&value-of-a-parameter",
        headers={"x-mine": "value-of-a-header"},
        content=b"value-of-a-body",
    )
    envelope = {"method": "post", "path": "/api/echo?q=value-of-a-parameter", "body": {"b": "value-of-a-body"}}
    project.http.post("/unified/proxy", json=envelope, headers={"x-account-id": account})
    project.http.get("/accounts?provider=value-of-a-parameter")
    text = project.http.get("/requests/logs?include=step_logs").text + project.http.get("/requests/platform-logs").text
    assert "/api/echo" in text and "q=…" in text
    assert not [word for word in PRIVATE if word in text]
    assert project.key not in text


def test_rows_survive_a_graceful_stop_right_after_the_call(tmp_path: Path) -> None:
    with Hub(tmp_path, free_port()) as hub:
        project = hub.new_project()
        sent = [project.proxy("unknown", path=f"/{n}").headers["x-request-id"] for n in range(30)]
        assert hub.stop() == 0
        with sqlite3.connect(tmp_path / "data" / "mooring.db") as db:
            kept = [row[0] for row in db.execute("SELECT id FROM request_logs ORDER BY id")]
        db.close()
        assert set(sent) <= set(kept)


def test_a_row_that_the_database_refuses_takes_no_other_with_it(project: Project, account: str) -> None:
    envelope = {"path": "/a\u0000b"}
    project.proxy(account, path="/api/me")
    project.http.post("/unified/proxy", json=envelope, headers={"x-account-id": account})
    project.proxy(account, path="/api/me")
    assert sorted(row["status"] for row in logs(project)) == [200, 200, 400]


def test_statistics_count_calls_and_failures_by_connector(
    project: Project, other_project: Project, account: str
) -> None:
    for path in ("/api/me", "/api/me", "/api/status/503"):
        project.proxy(account, path=path)
    whole, mine = ok(project.http.get("/requests/statistics", params={"steps": 12}))["data"]
    assert (whole["provider"], mine["provider"]) == (None, "sandbox")
    for series in (whole, mine):
        assert (series["calls"], series["errors"], len(series["points"])) == (3, 1, 12)
        assert sum(p["calls"] for p in series["points"]) == 3 and 0 < series["p50_ms"] <= series["p95_ms"]
    assert [s["calls"] for s in ok(other_project.http.get("/requests/statistics"))["data"]] == [0]
    only = ok(project.http.get("/requests/statistics", params={"provider": "nosuch"}))["data"]
    assert [(s["provider"], s["calls"]) for s in only] == [(None, 0)]
    for wrong in ("start_date=2999-01-01T00:00:00Z", "start_date=x", "steps=0", "steps=501"):
        refused(project.http.get(f"/requests/statistics?{wrong}"), 400, "ValidationError")
