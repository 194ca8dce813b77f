"""Connect sessions: every field, who they may be for, and how long they live (contract §2.1, 2.2; rows 004-*)."""

from __future__ import annotations

import time
import uuid
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.hub import Project, client, ok, refused
from tests.rows import query
from tests.sandbox.harness import Sandbox

OWNER = {"origin_owner_id": "o-1", "origin_owner_name": "Owner One"}
KEY = {"api_key": "sandbox-key-acme"}


def create(project: Project, headers: dict[str, str] | None = None, **body: Any) -> Any:
    return project.http.post("/connect_sessions", json={**OWNER, **body}, headers=headers or {})


def test_a_session_has_every_field_of_the_contract(project: Project) -> None:
    config = project.config("sandbox", "api_key")
    sent = {
        "origin_username": "ada",
        "provider": "sandbox",
        "provider_version": "v9",
        "integration_id": config["id"],
        "categories": ["hris", "hrisLegacy", "stackOne", None],
        "expires_in": 60,
        "metadata": {"plan": "gold", "n": [1, {"x": None}]},
        "multiple": True,
        "label": "Main",
        "type": "TEST",
        "a_key_of_tomorrow": 1,
    }
    made = ok(create(project, **sent), 201)
    assert isinstance(made["id"], int) and isinstance(made["organization_id"], str)
    assert made["project_id"] == project.id
    assert made["origin_owner_id"] == "o-1" and made["origin_owner_name"] == "Owner One"
    assert made["origin_username"] == "ada" and made["provider"] == "sandbox" and made["label"] == "Main"
    assert made["integration_id"] == made["connector_profile_id"] == config["id"]
    assert made["categories"] == ["hris", "hris-legacy", "stackone"]
    assert made["metadata"] == sent["metadata"] and made["type"] == "test" and made["multiple"] is True
    assert made["account_id"] is None and made["latest_connection_attempt"] is None
    uuid.UUID(made["external_trigger_token"])
    created, expires = (datetime.fromisoformat(made[k]) for k in ("created_at", "expires_at"))
    assert (expires - created).total_seconds() == 60
    link = urlsplit(made["auth_link_url"])
    assert f"{link.scheme}://{link.netloc}" == project.hub.url
    assert parse_qs(link.query)["token"] == [made["token"]] and len(made["token"]) >= 43

    seen = ok(project.http.post("/connect_sessions/authenticate", json={"token": made["token"]}), 201)
    assert seen == {k: v for k, v in made.items() if k not in {"token", "auth_link_url"}}


def test_the_least_that_a_session_needs(project: Project) -> None:
    made = ok(create(project, **dict.fromkeys(("provider", "categories", "expires_in", "multiple", "type"))), 201)
    assert made["type"] == "production" and made["multiple"] is False and made["categories"] is None
    assert made["provider"] is None and made["integration_id"] is None
    created, expires = (datetime.fromisoformat(made[k]) for k in ("created_at", "expires_at"))
    assert (expires - created).total_seconds() == 1800
    for missing in OWNER:
        body = {k: v for k, v in OWNER.items() if k != missing}
        assert missing in refused(project.http.post("/connect_sessions", json=body), 400)["errors"][0]


AGENTS = {
    "speakeasy-sdk/typescript 4.28.0 2.8.1 1.0.0 @stackone/stackone-client-ts": int,
    "speakeasy-sdk/typescript 4.9.1 2.0.0": int,
    "speakeasy-sdk/typescript 3.1.0 2.0.0": int,
    "speakeasy-sdk/typescript 4.29.0 2.0.0": str,
    "speakeasy-sdk/typescript 4.34.1 2.0.0": str,
    "speakeasy-sdk/typescript 14.2.0 2.0.0": str,
    "speakeasy-sdk/ruby 0.40.1": str,
    "curl/8": str,
}


@pytest.mark.parametrize("agent", AGENTS)
def test_the_organization_is_a_number_only_for_old_typescript_sdks(project: Project, agent: str) -> None:
    made = ok(create(project, {"user-agent": agent}), 201)
    assert type(made["organization_id"]) is AGENTS[agent]
    token = {"token": made["token"]}
    seen = ok(project.http.post("/connect_sessions/authenticate", json=token, headers={"user-agent": agent}), 201)
    assert seen["organization_id"] == made["organization_id"]


ALL_CATEGORIES = (
    "ats hris hris-legacy crm iam marketing lms stackone documents ticketing screening messaging accounting scheduling"
)


def test_all_categories_are_known_and_others_refused(project: Project) -> None:
    names = ALL_CATEGORIES.split()
    assert ok(create(project, categories=names), 201)["categories"] == names
    assert "nosuch" in refused(create(project, categories=["nosuch"]), 400, "ValidationError")["message"]


WRONG = {
    "expires_in of nothing": {"expires_in": 0},
    "negative expires_in": {"expires_in": -5},
    "expires_in of years": {"expires_in": 10**9},
    "expires_in as a word": {"expires_in": "soon"},
    "another type": {"type": "staging"},
    "metadata as text": {"metadata": "x"},
    "a long label": {"label": "x" * 501},
    "a long owner": {"origin_owner_id": "x" * 501},
    "an empty owner": {"origin_owner_id": ""},
    "two different configs": {"integration_id": "a", "connector_profile_id": "b"},
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_values_are_refused_by_name(project: Project, case: str) -> None:
    body = refused(create(project, **WRONG[case]), 400, "ValidationError")
    assert any(name in error for error in body["errors"] for name in WRONG[case])


def test_a_session_ends_when_its_time_is_over(project: Project) -> None:
    made = ok(create(project, expires_in=1), 201)
    http = client(project.hub.url, headers={"x-hub-session-token": made["token"]})
    ok(http.get("/hub/settings"))
    time.sleep(1.05)
    for path in ("/hub/settings", "/hub/connectors", "/hub/connectors/x", "/hub/accounts/x"):
        refused(http.get(path), 401, "SessionExpiredError")
    refused(http.post("/hub/accounts", json={"credentials": {}}), 401, "SessionExpiredError")
    refused(http.post("/hub/connection_attempts", json={"token": made["token"]}), 401, "SessionExpiredError")
    token = {"token": made["token"]}
    refused(project.http.post("/connect_sessions/authenticate", json=token), 401, "SessionExpiredError")


@pytest.mark.parametrize("token", [None, "", "nonsense", "x" * 5000])
def test_the_hub_needs_a_live_token(project: Project, token: str | None) -> None:
    headers = {} if token is None else {"x-hub-session-token": token}
    answer = client(project.hub.url, headers=headers).get("/hub/settings")
    refused(answer, 401, "SessionExpiredError")
    assert "www-authenticate" not in answer.headers  # a browser would ask its user for a password


def test_the_token_is_stored_only_as_a_hash(project: Project) -> None:
    made = ok(create(project), 201)
    row = query(project.hub, "SELECT * FROM connect_sessions WHERE id = :id", id=made["id"])[0]
    assert made["token"] not in repr(row)


def test_the_secret_key_side_has_no_cors(project: Project) -> None:
    answer = create(project, {"origin": "https://app.example"})
    assert "access-control-allow-origin" not in answer.headers


def test_a_provider_must_be_known_configured_and_enabled(project: Project) -> None:
    assert "no connector" in refused(create(project, provider="nosuch"), 404)["message"]
    assert "not configured" in refused(create(project, provider="sandbox"), 404)["message"]
    config = project.config("sandbox", "api_key")
    assert ok(create(project, provider="sandbox"), 201)["integration_id"] is None
    ok(project.http.patch(f"/auth_configs/{config['id']}", json={"active": False}))
    refused(create(project, provider="sandbox"), 422)
    refused(create(project, integration_id=config["id"]), 422)


@pytest.mark.parametrize("name", ["integration_id", "connector_profile_id"])
def test_a_config_is_chosen_by_either_name(project: Project, name: str) -> None:
    project.config("sandbox", "api_key")
    other = project.config("sandbox", "basic")
    rest = dict.fromkeys({"integration_id", "connector_profile_id"} - {name})  # null beside it changes nothing
    made = ok(create(project, **{name: other["id"]}, **rest), 201)
    assert made["integration_id"] == made["connector_profile_id"] == other["id"]
    assert made["provider"] == "sandbox"
    refused(create(project, provider="hubspot", **{name: other["id"]}), 422)


def test_the_edit_mode_names_the_account_and_its_config(project: Project, provider: Sandbox) -> None:
    project.config("sandbox", "basic")
    config = project.config("sandbox", "api_key", {"sandbox_url": provider.url})
    account = project.link(config, KEY)
    made = ok(create(project, account_id=account, multiple=True), 201)
    assert made["account_id"] == account and made["provider"] == "sandbox"
    assert made["integration_id"] == config["id"] and made["multiple"] is False
    refused(create(project, account_id=account, provider="hubspot"), 422)
    ok(project.http.delete(f"/accounts/{account}"))
    refused(create(project, account_id=account), 404)


def test_ids_of_another_project_are_unknown(project: Project, other_project: Project, provider: Sandbox) -> None:
    config = other_project.config("sandbox", "api_key", {"sandbox_url": provider.url})
    account = other_project.link(config, KEY)
    token = other_project.session().token
    random = {"account_id": "GnQoASvosYhE5wJcmmAQs", "integration_id": str(uuid.uuid4())}
    for name, id in (("account_id", account), ("integration_id", config["id"])):
        foreign, unknown = create(project, **{name: id}), create(project, **{name: random[name]})
        assert refused(foreign, 404)["message"] == refused(unknown, 404)["message"]
    answers = [project.http.post("/connect_sessions/authenticate", json={"token": t}) for t in (token, "x" * 43)]
    assert refused(answers[0], 401)["message"] == refused(answers[1], 401)["message"]


def test_the_newest_attempt_is_shown(project: Project, provider: Sandbox) -> None:
    config = project.config(
        "sandbox",
        "oauth2",
        {"sandbox_url": provider.url, "client_id": "sandbox-client", "client_secret": "sandbox-secret"},
    )
    session = project.session(integration_id=config["id"])

    def latest() -> dict[str, Any]:
        seen = project.http.post("/connect_sessions/authenticate", json={"token": session.token})
        found: dict[str, Any] = ok(seen, 201)["latest_connection_attempt"]
        return found

    first = session.attempt()
    assert latest()["id"] == first and latest()["status"] == "pending"
    second = session.attempt()
    assert latest()["id"] == second
    start = session.start_oauth(config["id"], second)
    consent = provider.http.post(start.headers["location"], data={"decision": "allow", "company": "acme"})
    session.browser.get(consent.headers["location"])
    done = latest()
    assert done["status"] == "authenticated" and done["oauth_error_code"] is None
    assert project.account(done["account_secure_id"])["status"] == "active"

    third = session.attempt()
    start = session.start_oauth(config["id"], third)
    consent = provider.http.post(start.headers["location"], data={"decision": "deny"})
    session.browser.get(consent.headers["location"])
    failed = latest()
    assert failed["status"] == "error" and failed["oauth_error_code"] == "access_denied"
    assert failed["oauth_error_description"] and failed["account_secure_id"] is None
