"""What the published clients read and send, by plain HTTP: for generations without a client here (contract §2, §8)."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any

import pytest

from tests.hub import Project, client, ok, refused
from tests.sandbox.harness import Sandbox

RUBY = {"user-agent": "speakeasy-sdk/ruby 0.40.1 2.797.1 1.0.0 stackone_client", "accept": "application/json"}
OWNER = {"origin_owner_id": "o", "origin_owner_name": "O"}

SESSION = {
    "id", "organization_id", "project_id", "origin_owner_id", "origin_owner_name", "created_at", "account_id",
    "categories", "external_trigger_token", "integration_id", "connector_profile_id", "label", "metadata",
    "origin_username", "provider", "type", "latest_connection_attempt",
}  # fmt: skip
ACCOUNT = {
    "id", "provider", "status", "origin_owner_id", "origin_owner_name", "created_at", "updated_at", "provider_name",
    "origin_username", "label", "shared", "type", "status_reasons", "credentials", "setup_information",
    "integration_id", "metadata",
}  # fmt: skip
AUTH_CONFIG = {
    "id", "name", "connector_key", "connector_label", "logo_url", "categories", "active", "default", "release_stage",
    "created_at", "updated_at", "connector_version", "connector_pinned_version", "connector_owner", "environment",
    "authentication_config_key", "authentication_config_label",
}  # fmt: skip
ATTEMPT = {
    "id", "created_at", "updated_at", "status", "account_secure_id", "oauth_error_code", "oauth_error_description",
}  # fmt: skip
STEP = {
    "id", "request_id", "start_time", "end_time", "duration", "account_id", "project_id", "provider", "service",
    "http_method", "path", "url", "status", "success", "is_worker",
}  # fmt: skip
LOG = (STEP - {"id"}) | {
    "event_datetime", "resource", "child_resource", "sub_resource", "action", "source_type", "source_value",
    "source_id", "source_ip", "step_requests", "request", "response",
}  # fmt: skip


def is_time(value: str) -> bool:
    return "T" in value and value.endswith("Z") and datetime.fromisoformat(value).tzinfo is not None


@pytest.fixture
def config(project: Project, provider: Sandbox) -> dict[str, Any]:
    return project.config("sandbox", "api_key", {"sandbox_url": provider.url})


@pytest.fixture
def account(project: Project, config: dict[str, Any]) -> str:
    return project.link(config, {"api_key": "sandbox-key-acme"})


def test_a_session_has_the_documented_fields(project: Project, config: dict[str, Any]) -> None:
    every = {
        **OWNER,
        "provider": "sandbox", "provider_version": "v1", "categories": ["hris", None], "origin_username": "u",
        "expires_in": 600.0, "metadata": {"plan": "gold"}, "multiple": False, "label": "l", "type": "TEST",
        "account_id": None, "integration_id": config["id"], "shared": True, "relink": True, "scopes": ["x"],
    }  # fmt: skip
    made = ok(project.http.post("/connect_sessions", json=every, headers=RUBY), 201)
    assert made.keys() >= SESSION | {"token", "auth_link_url"}
    assert type(made["id"]) is int and type(made["organization_id"]) is str and is_time(made["created_at"])
    assert (made["type"], made["categories"], made["metadata"]) == ("test", ["hris"], {"plan": "gold"})
    seen = ok(project.http.post("/connect_sessions/authenticate", json={"token": made["token"]}), 201)
    assert seen == {name: value for name, value in made.items() if name not in {"token", "auth_link_url"}}
    named = {**OWNER, "connector_profile_id": config["id"]}
    assert ok(project.http.post("/connect_sessions", json=named), 201)["integration_id"] == config["id"]


def test_categories_are_taken_in_both_spellings(project: Project) -> None:
    names = "ats hris hrisLegacy hris-legacy crm iam marketing lms stackOne stackone documents ticketing screening"
    for name in [*names.split(), "messaging", "accounting", "scheduling"]:
        made = ok(project.http.post("/connect_sessions", json={**OWNER, "categories": [name]}), 201)
        assert made["categories"] == [{"hrisLegacy": "hris-legacy", "stackOne": "stackone"}.get(name, name)]


def test_the_latest_attempt_tells_the_account(project: Project, provider: Sandbox) -> None:
    setup = {"sandbox_url": provider.url, "client_id": "sandbox-client", "client_secret": "sandbox-secret"}
    config = project.config("sandbox", "oauth2", setup)
    session = project.session(integration_id=config["id"])

    def latest() -> dict[str, Any]:
        seen = ok(project.http.post("/connect_sessions/authenticate", json={"token": session.token}), 201)
        attempt: dict[str, Any] = seen["latest_connection_attempt"]
        return attempt

    assert latest() is None
    attempt = session.attempt()
    assert latest().keys() == ATTEMPT and latest()["status"] == "pending" and latest()["id"] == attempt
    location = session.start_oauth(config["id"], attempt).headers["location"]
    data = {"decision": "allow", "company": "acme"}
    session.browser.get(provider.http.post(location, data=data).headers["location"])
    ended = latest()
    assert ended["status"] == "authenticated" and is_time(ended["updated_at"])
    assert project.account(ended["account_secure_id"])["status"] == "active"


def test_an_account_has_the_documented_fields(project: Project, account: str) -> None:
    (listed,) = ok(project.http.get("/accounts", headers=RUBY, params={"page": "1.0", "page_size": "25.0"}))
    assert listed.keys() >= ACCOUNT and is_time(listed["created_at"]) and is_time(listed["updated_at"])
    for name in ("get", "delete"):
        assert ok(project.http.request(name, f"/accounts/{account}")).keys() >= ACCOUNT


def test_lists_are_repeated_or_joined_by_commas(project: Project, config: dict[str, Any]) -> None:
    key = {"api_key": "sandbox-key-acme"}
    one, two, _ = (project.link(config, key, owner) for owner in ("a", "b", "c"))

    def count(query: str) -> int:
        return len(ok(project.http.get(f"/accounts?{query}")))

    assert count(f"account_ids={one}&account_ids={two}") == count(f"account_ids={one},{two}") == 2
    assert count("origin_owner_ids=a&origin_owner_ids=c") == count("origin_owner_ids=a,c") == 2
    assert count("providers=sandbox&providers=hubspot") == count("provider=sandbox") == 3
    assert count("origin_owner_id=b") == 1 and count("page=2&page_size=2") == 1
    assert count("status=active&status=error") == count("status=error,active") == 3 and count("status=error") == 0
    ok(project.http.delete(f"/accounts/{two}"))
    assert count("") == 2 and count("status=archived") == 1
    ok(project.http.patch(f"/auth_configs/{config['id']}", json={"active": False}))
    assert count("status=inactive") == 2 and count("status=active") == 0


def test_a_patch_of_ruby_names_everything(project: Project, account: str) -> None:
    names = (
        "provider origin_owner_id origin_owner_name integration_id authentication_config_key environment credentials"
    )
    nothing = dict.fromkeys(f"{names} secrets setup_information type metadata label".split())
    before = project.account(account)
    after = ok(project.http.patch(f"/accounts/{account}", headers=RUBY, json={**nothing, "origin_username": "rb"}))
    changed = {name for name in before if before[name] != after.get(name)}
    assert changed - {"credentials"} == {"origin_username", "updated_at"}
    assert ok(project.proxy(account, path="/api/me"))


def test_auth_configs_are_paged(project: Project, config: dict[str, Any]) -> None:
    project.config("sandbox", "basic")
    project.config("ashby", "api_key", active=False)
    page = ok(project.http.get("/auth_configs", headers=RUBY))
    assert (page["page"], page["page_size"], page["total"], len(page["data"])) == (1, 25, 3, 3)
    assert all(row.keys() >= AUTH_CONFIG and is_time(row["created_at"]) for row in page["data"])

    def total(query: str) -> int:
        return int(ok(project.http.get(f"/auth_configs?{query}"))["total"])

    assert (total("connector_key=sandbox"), total("enabled=true"), total("enabled=false")) == (2, 2, 1)
    assert len(ok(project.http.get("/auth_configs?page=2&page_size=2"))["data"]) == 1
    refused(project.http.get("/auth_configs?enabled=maybe"), 400, "ValidationError")


def test_metadata_says_which_connectors_the_project_has_enabled(project: Project, config: dict[str, Any]) -> None:
    project.config("ashby", "api_key", active=False)
    every = {
        row["provider"]: row for row in ok(project.http.get("/connectors/meta?include=field_path,unmapped_fields"))
    }
    assert {key for key, row in every.items() if row["active"]} == {"sandbox"}
    assert every.keys() > {"ashby", "hubspot"} and not [key for key in every if "_" in key]
    for row in every.values():
        assert row.keys() >= {"provider", "provider_name", "category", "models", "resources"}
        assert row["resources"]["images"]["logo_url"].startswith(project.hub.url)
    assert ok(project.http.get("/connectors/meta/sandbox"))["active"] is True
    assert ok(project.http.get("/connectors/meta/ashby"))["active"] is False


def test_the_logs_have_the_documented_fields(project: Project, account: str) -> None:
    ask = {"url": None, "method": "get", "path": "/api/me", "headers": {}, "body": {}}
    ok(project.http.post("/unified/proxy", json=ask, headers={**RUBY, "x-account-id": account}))
    deep = {"filter[account_ids]": account, "filter[success]": "true", "filter[start_date]": "2020-01-01T00:00:00.000Z"}
    paged = {"include": "step_logs", "page_size": "25", "order_by": "eventDatetime", "order_direction": "desc"}
    (row,) = ok(project.http.get("/requests/logs", params={**deep, **paged}, headers=RUBY))["data"]
    assert row.keys() >= LOG and all(is_time(row[name]) for name in ("event_datetime", "start_time", "end_time"))
    (step,) = ok(project.http.get("/requests/logs/steps", params=deep))["data"]
    assert step.keys() >= STEP and row["step_requests"][0].keys() >= STEP
    shown = ok(project.http.get(f"/requests/logs/{row['request_id']}?include=step_logs,advanced_logs"))["data"]
    assert shown.keys() >= LOG
    platform = ok(project.http.get("/requests/platform-logs"))["data"]
    assert platform and platform[0].keys() >= LOG - {"step_requests"} | {"category"}


def test_every_form_of_the_key_is_taken(project: Project) -> None:
    anyone = client(project.hub.url)

    def status(text: str) -> int:
        return anyone.get("/accounts", headers={"authorization": text}).status_code

    def basic(text: str) -> str:
        return "Basic " + base64.b64encode(text.encode()).decode()

    good = (basic(project.key + ":"), basic(project.key), basic(project.key + ":any"), f"Bearer {project.key}")
    assert [status(text) for text in good] == [200] * 4
    bad = (basic("nobody:"), basic(f"nobody:{project.key}"), "Basic", "Basic %%%", project.key, "Bearer x")
    assert [status(text) for text in bad] == [401] * 6


def test_no_browser_may_read_what_needs_the_secret_key(project: Project) -> None:
    asked = {"origin": "https://app.example", "access-control-request-method": "POST"}
    preflight = client(project.hub.url).options("/connect_sessions", headers=asked)
    refused(preflight, 405, "MethodNotAllowedError")
    made = project.http.post("/connect_sessions", json=OWNER, headers={"origin": "https://app.example"})
    for answer in (preflight, made):
        assert "access-control-allow-origin" not in answer.headers


def test_events_raised_by_hand_are_answered_one_by_one(project: Project, account: str, provider: Sandbox) -> None:
    hook = ok(project.http.post("/webhooks", json={"url": f"{provider.url}/none", "events": ["account.created"]}), 201)
    asked = [{"event": "hris_employees.created", "record_id": "e1"}, {"event": "nonsense", "record_id": "x"}]
    path = f"/webhooks/{hook['id']}/events"
    told = ok(project.http.post(path, json=asked, headers={"x-account-id": account}), 207)
    assert [(one["event"], one["record_id"], one["status"]) for one in told] == [
        ("hris_employees.created", "e1", 202),
        ("nonsense", "x", 400),
    ]
    assert all(one["message"] for one in told)
    refused(project.http.post(path, json=asked), 400)


def test_head_says_what_get_says_without_the_body(project: Project) -> None:
    for path in ("/accounts", "/livez", "/auth_configs"):
        got, asked = project.http.get(path), project.http.head(path)
        assert (asked.status_code, asked.content) == (200, b"")
        assert asked.headers["content-length"] == got.headers["content-length"]
    assert project.http.head("/nowhere").status_code == 404
