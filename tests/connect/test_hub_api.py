"""What the embeddable Hub calls: settings, connectors, forms, attempts, CORS (contract §2.12, §8)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mooring.connectors.registry import load_registry
from tests.connectors.examples import example
from tests.hub import Hub, Project, client, ok, refused
from tests.rows import query
from tests.sandbox.harness import Sandbox
from tests.servers.ports import free_port

OAUTH = {"client_id": "a", "client_secret": "b"}
FIELD_KEYS = {"key", "label", "type", "required", "readOnly", "secret", "placeholder"}


def offered(session: Any, **params: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ok(session.http.get("/hub/connectors", params=params))["integrations"]
    return found


def form(session: Any, config: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = ok(session.http.get(f"/hub/connectors/{config['id']}"))
    return found


# Settings and connectors


def test_settings_say_whether_an_account_is_edited(project: Project, provider: Sandbox) -> None:
    config = project.config("sandbox", "api_key", {"sandbox_url": provider.url})
    plain = ok(project.session().http.get("/hub/settings"))
    assert isinstance(plain["enabled_features"], list) and "existing_account_id" not in plain
    account = project.link(config, {"api_key": "sandbox-key-acme"})
    assert ok(project.session(account_id=account).http.get("/hub/settings"))["existing_account_id"] == account


def test_a_connector_has_every_field_that_the_hub_reads(project: Project) -> None:
    config = project.config("sandbox", "api_key")
    session = project.session()
    answer = ok(session.http.get("/hub/connectors"))
    assert answer["external_trigger_token"] == session.created["external_trigger_token"]
    (row,) = answer["integrations"]
    assert row["active"] is True and row["name"] == "Sandbox" and row["provider"] == "sandbox"
    assert row["type"] == "hris" and row["version"] and row["environment"] == "production"
    assert row["authentication_config_key"] == "api_key" and row["integration_id"] == config["id"]
    assert row["logo_url"].startswith(project.hub.url)


def test_only_the_enabled_default_of_each_connector_is_offered(project: Project) -> None:
    ok(project.http.patch("/project", json={"offer_all_methods": False}))
    first, second = project.config("sandbox", "api_key"), project.config("sandbox", "basic")
    ashby = project.config("ashby", "api_key")
    session = project.session()
    assert {r["integration_id"] for r in offered(session)} == {first["id"], ashby["id"]}
    refused(session.http.get(f"/hub/connectors/{second['id']}"), 404)
    refused(session.submit(second["id"], {}), 404)

    ok(project.http.patch(f"/auth_configs/{second['id']}", json={"default": True}))
    assert {r["integration_id"] for r in offered(session)} == {second["id"], ashby["id"]}
    ok(project.http.patch(f"/auth_configs/{second['id']}", json={"active": False}))
    assert {r["integration_id"] for r in offered(session)} == {ashby["id"]}
    refused(session.http.get(f"/hub/connectors/{second['id']}"), 404)


def test_a_session_for_one_config_offers_exactly_that_one(project: Project) -> None:
    project.config("sandbox", "api_key")
    second = project.config("sandbox", "basic")
    project.config("ashby", "api_key")
    session = project.session(integration_id=second["id"])
    assert [r["integration_id"] for r in offered(session)] == [second["id"]]
    assert [r["integration_id"] for r in offered(session, provider="sandbox")] == [second["id"]]
    assert offered(session, provider="ashby") == []
    assert [f["key"] for f in form(session, second)["config"]["configFields"]] == ["username", "password"]
    project.http.delete(f"/auth_configs/{second['id']}")
    assert offered(session) == []


def test_edit_mode_offers_the_accounts_own_config(project: Project, provider: Sandbox) -> None:
    project.config("sandbox", "basic")
    own = project.config("sandbox", "api_key", {"sandbox_url": provider.url})
    account = project.link(own, {"api_key": "sandbox-key-acme"})
    session = project.session(account_id=account)
    assert [r["integration_id"] for r in offered(session, provider="sandbox")] == [own["id"]]
    form(session, own)


def test_provider_and_categories_narrow_the_choice(project: Project) -> None:
    for key, method in (("sandbox", "api_key"), ("ashby", "api_key"), ("teamtailor", "api_key")):
        project.config(key, method)

    def names(**session: Any) -> set[str]:
        return {r["provider"] for r in offered(project.session(**session))}

    assert names() == {"sandbox", "ashby", "teamtailor"}
    assert names(provider="ashby") == {"ashby"}
    assert names(categories=["hris"]) == {"sandbox"}
    assert names(categories=["iam"]) == {"ashby", "teamtailor"}  # any category of a connector counts
    assert names(categories=["hris", "ats"]) == {"sandbox", "ashby", "teamtailor"}
    assert names(categories=["crm"]) == set()
    session = project.session(provider="ashby")
    assert offered(session, provider="sandbox") == []
    assert [r["provider"] for r in offered(project.session(), provider="sandbox")] == ["sandbox"]


# Forms


def test_a_form_has_the_falcon_shape(project: Project) -> None:
    config = project.config("redmine", "password")
    answer = form(project.session(), config)
    assert answer["hub_settings"] == {"configured_webhook_events": {}, "project_settings": {}}
    shown = answer["config"]
    assert shown["key"] == "redmine" and shown["name"] == "Redmine" and shown["type"] == "custom"
    assert "authentication" not in shown and "grantType" not in shown
    assert shown["assets"]["icon"].startswith(project.hub.url)
    assert shown["support"]["link"] and "REST" in shown["support"]["description"]
    address, user, password = shown["configFields"]
    assert all(f.keys() >= FIELD_KEYS and "condition" not in f for f in shown["configFields"])
    assert (address["key"], address["type"], address["secret"]) == ("base_url", "text", False)
    assert address["placeholder"] and address["description"]
    assert address["validation"]["type"] == "html-pattern" and address["validation"]["error"]
    assert (user["secret"], password["secret"], password["type"]) == (False, True, "password")


GRANTS = {
    ("sandbox", "api_key"): ("custom", None),
    ("sandbox", "oauth2"): ("oauth2", "authorization_code"),
    ("sandbox", "client_credentials"): ("oauth2", "client_credentials"),
}


@pytest.mark.parametrize("connector, method", GRANTS)
def test_the_form_tells_whether_a_popup_is_needed(project: Project, connector: str, method: str) -> None:
    setup = OAUTH if method == "oauth2" else {}
    shown = form(project.session(), project.config(connector, method, setup))["config"]
    assert (shown["type"], shown.get("grantType")) == GRANTS[connector, method]
    assert isinstance(shown["configFields"], list)
    assert "sandbox_url" not in {f["key"] for f in shown["configFields"]}  # the operator's field, not the end user's


def test_teamtailors_two_methods_differ_by_the_external_trigger_token(project: Project) -> None:
    public = project.config("teamtailor", "api_key")
    partner = project.config("teamtailor", "api_key_partner")
    fields = {f["key"]: f for f in form(project.session(), public)["config"]["configFields"]}
    assert list(fields) == ["api_key", "region"]
    assert fields["region"]["type"] == "select" and fields["region"]["value"] == "api"
    assert [o["value"] for o in fields["region"]["options"]] == ["api", "api.na"]

    session = project.session(integration_id=partner["id"])
    shown = form(session, partner)["config"]
    fields = {f["key"]: f for f in shown["configFields"]}
    assert list(fields) == ["api_key", "partner_api_key", "region", "external-trigger-token"]
    token = fields["external-trigger-token"]
    assert token["readOnly"] is True and token["secret"] is False and token["required"] is False
    assert token["value"] == session.created["external_trigger_token"]
    assert shown["configNotices"][0]["type"] == "info"


def test_every_form_of_the_catalogue_says_of_each_field_whether_it_is_secret(hubs: Callable[[str], Hub]) -> None:
    project = hubs("sqlite").new_project()  # the forms come from files, whatever the database
    methods = [(c.key, m) for c in load_registry().values() for m in c.auth.values()]
    assert len(methods) > 15
    for connector, method in methods:
        setup = {f.key: example(f) for f in method.app_fields if f.required and f.default is None}
        config = project.config(connector, method.key, setup)
        shown = form(project.session(integration_id=config["id"]), config)["config"]
        for field in shown["configFields"]:
            assert isinstance(field["secret"], bool) and field.keys() >= FIELD_KEYS, (connector, method.key, field)
            assert field["type"] in {"text", "password", "number", "select", "text_area"}
            assert not (field["secret"] and "value" in field)


# Old Hubs


def test_old_hubs_name_the_provider_instead_of_the_config(project: Project, provider: Sandbox) -> None:
    project.config("sandbox", "api_key", {"sandbox_url": provider.url})
    project.config("ashby", "api_key")
    session, credentials = project.session(), {"api_key": "sandbox-key-acme"}
    linked = ok(session.http.post("/hub/accounts", json={"provider": "sandbox", "credentials": credentials}))
    assert linked["provider"] == "sandbox" and linked["id"]
    body, header = {"credentials": credentials}, {"x-hub-provider": "sandbox"}
    assert ok(session.http.post("/hub/accounts", json=body, headers=header))["id"] == linked["id"]
    refused(session.http.post("/hub/accounts", json=body), 400, "ValidationError")
    refused(session.http.post("/hub/accounts", json={"provider": "nosuch", "credentials": {}}), 404)


# Attempts


@pytest.fixture
def oauth_session(project: Project, provider: Sandbox) -> tuple[dict[str, Any], Any]:
    setup = {"sandbox_url": provider.url, "client_id": "sandbox-client", "client_secret": "sandbox-secret"}
    config = project.config("sandbox", "oauth2", setup)
    return config, project.session(integration_id=config["id"])


def consent(session: Any, provider: Sandbox, config: dict[str, Any], attempt: str, decision: str = "allow") -> Any:
    start = session.start_oauth(config["id"], attempt)
    assert start.status_code == 302, start.text
    data = {"decision": decision, "company": "acme"}
    return provider.http.post(start.headers["location"], data=data).headers["location"]


def test_an_attempt_begins_pending(oauth_session: tuple[dict[str, Any], Any]) -> None:
    _, session = oauth_session
    id = session.attempt()
    assert session.attempt_state(id) == {"id": id, "status": "pending", "account": None, "error": None}


def test_the_token_in_the_body_must_be_the_sessions(project: Project) -> None:
    mine, other = project.session(), project.session()
    refused(mine.http.post("/hub/connection_attempts", json={"token": other.token}), 400)
    refused(mine.http.post("/hub/connection_attempts", json={"token": "nonsense"}), 401)
    refused(mine.http.post("/hub/connection_attempts", json={"token": 5}), 400)
    ok(mine.http.post("/hub/connection_attempts"))  # the header already says it


def test_attempts_of_other_sessions_are_unknown(project: Project) -> None:
    mine, other = project.session(), project.session()
    id = other.attempt()
    for unknown in (id, str(uuid.uuid4()), "x"):
        for method in ("GET", "DELETE"):
            body = refused(mine.http.request(method, f"/hub/connection_attempts/{unknown}"), 404, "NotFoundError")
            assert body["message"] == "no such connection attempt"
    assert other.attempt_state(id)["status"] == "pending"


def test_a_callback_after_a_cancel_connects_nothing(
    project: Project, provider: Sandbox, oauth_session: tuple[dict[str, Any], Any]
) -> None:
    config, session = oauth_session
    attempt = session.attempt()
    callback = consent(session, provider, config, attempt)
    answer = session.http.delete(f"/hub/connection_attempts/{attempt}")
    assert answer.status_code == 204 and answer.content == b""
    session.browser.get(callback)
    seen = session.attempt_state(attempt)
    assert seen.pop("diagnosis")["cause"] == "popup_closed"
    assert seen == {"id": attempt, "status": "cancelled", "account": None, "error": None}
    assert ok(project.http.get("/accounts")) == []
    refused(session.start_oauth(config["id"], attempt), 409)


def test_ends_never_change(project: Project, provider: Sandbox, oauth_session: tuple[dict[str, Any], Any]) -> None:
    config, session = oauth_session
    attempt = session.attempt()
    session.browser.get(consent(session, provider, config, attempt))
    linked = session.attempt_state(attempt)
    assert linked["status"] == "authenticated" and linked["error"] is None
    failed = session.attempt()
    session.browser.get(consent(session, provider, config, failed, "deny"))
    denied = session.attempt_state(failed)
    assert denied["status"] == "error" and denied["account"] is None
    assert denied["error"]["code"] == "access_denied" and denied["error"]["description"]
    for id, state in ((attempt, linked), (failed, denied)):
        assert session.http.delete(f"/hub/connection_attempts/{id}").status_code == 204
        refused(session.start_oauth(config["id"], id), 409)
        assert session.attempt_state(id) == state


def test_an_attempt_expires_but_stays_answerable(
    project: Project, provider: Sandbox, oauth_session: tuple[dict[str, Any], Any]
) -> None:
    config, session = oauth_session
    attempt = session.attempt()
    lifetime = "SELECT created_at, expires_at FROM connection_attempts WHERE id = :id"
    created, expires = (str(v)[:19] for v in query(project.hub, lifetime, id=attempt)[0])
    assert expires > created
    callback = consent(session, provider, config, attempt)
    query(
        project.hub,
        "UPDATE connection_attempts SET expires_at = created_at WHERE id = :id",
        id=attempt,
    )
    assert session.attempt_state(attempt)["status"] == "expired"
    assert session.http.delete(f"/hub/connection_attempts/{attempt}").status_code == 204
    session.browser.get(callback)
    seen = session.attempt_state(attempt)
    assert seen.pop("diagnosis")["cause"] == "attempt_expired"
    assert seen == {"id": attempt, "status": "expired", "account": None, "error": None}
    assert ok(project.http.get("/accounts")) == []


# CORS


PREFLIGHT = {
    "access-control-request-method": "PATCH",
    "access-control-request-headers": "content-type,x-hub-session-token",
}


def test_any_origin_may_call_the_hub_until_origins_are_registered(project: Project) -> None:
    session = project.session()
    headers = {"origin": "https://app.example", **PREFLIGHT}
    for path in ("/hub/settings", "/hub/accounts/x", "/hub/connection_attempts"):
        answer = client(project.hub.url).options(path, headers=headers)
        assert answer.status_code == 204 and answer.content == b""
        assert answer.headers["access-control-allow-origin"] == "*"
        allowed = {m.strip() for m in answer.headers["access-control-allow-methods"].split(",")}
        assert allowed == {"GET", "POST", "PATCH", "DELETE", "OPTIONS"}
        names = {h.strip().lower() for h in answer.headers["access-control-allow-headers"].split(",")}
        assert names == {"content-type", "x-hub-session-token", "x-hub-version", "x-hub-provider"}
    good = session.http.get("/hub/settings", headers={"origin": "https://app.example"})
    bad = client(project.hub.url).get("/hub/settings", headers={"origin": "https://app.example"})
    assert (good.status_code, bad.status_code) == (200, 401)
    for answer in (good, bad):  # an error without it would be unreadable for the Hub
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers


@pytest.fixture
def strict_hub(tmp_path: Path) -> Iterator[Hub]:
    env = {"MOORING_ALLOWED_ORIGINS": "https://app.example, https://admin.example:8443"}
    with Hub(tmp_path / "hub", free_port(), env=env) as running:
        yield running


def test_registered_origins_are_the_only_ones(strict_hub: Hub) -> None:
    session = strict_hub.new_project().session()
    own = f"http://127.0.0.1:{strict_hub.port}"
    for origin in ("https://app.example", "https://admin.example:8443", own):
        preflight = client(strict_hub.url).options("/hub/settings", headers={"origin": origin, **PREFLIGHT})
        answer = session.http.get("/hub/settings", headers={"origin": origin})
        for each in (preflight, answer):
            assert each.headers["access-control-allow-origin"] == origin and each.headers["vary"] == "Origin"
            assert "access-control-allow-credentials" not in each.headers
    strangers = (
        "https://evil.example",
        "http://app.example",
        "https://app.example.evil.example",
        "https://app.example:444",
        "https://sub.app.example",
        "null",
    )
    for origin in strangers:
        preflight = client(strict_hub.url).options("/hub/settings", headers={"origin": origin, **PREFLIGHT})
        answer = session.http.get("/hub/settings", headers={"origin": origin})
        for each in (preflight, answer):
            assert "access-control-allow-origin" not in each.headers and each.headers["vary"] == "Origin"
