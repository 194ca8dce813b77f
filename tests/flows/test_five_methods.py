"""The main job: an account linked by each method, and a call through it that carries the right credential."""

from __future__ import annotations

import pytest

from tests.hub import Project, ok
from tests.sandbox.harness import Sandbox

FORMS = {
    "api_key": {"api_key": "sandbox-key-acme"},
    "api_key_query": {"api_key": "sandbox-key-acme"},
    "basic": {"username": "acme-admin", "password": "sandbox-password"},
    "client_credentials": {"client_id": "sandbox-machine", "client_secret": "sandbox-machine-secret"},
    "service_user": {"service_user_id": "SERVICE-1001", "service_user_token": "sandbox-service-token"},
}


@pytest.mark.parametrize("method", FORMS)
def test_link_by_form_and_call(project: Project, provider: Sandbox, method: str) -> None:
    config = project.config("sandbox", method, {"sandbox_url": provider.url})
    account = project.link(config, FORMS[method])
    answer = ok(project.proxy(account, path="/api/employees?page_size=2"))
    assert [p["first_name"] for p in answer["employees"]]
    seen = project.account(account)
    assert seen["status"] == "active" and seen["provider"] == "sandbox"
    assert seen["provider_account"] == {"id": "acct_acme", "label": "Acme"}


def test_link_by_consent_and_call(project: Project, provider: Sandbox) -> None:
    config = project.config(
        "sandbox",
        "oauth2",
        {"sandbox_url": provider.url, "client_id": "sandbox-client", "client_secret": "sandbox-secret"},
    )
    session = project.session(integration_id=config["id"])
    attempt = session.attempt()
    start = session.start_oauth(config["id"], attempt)
    assert start.status_code == 302, start.text
    consent = provider.http.post(start.headers["location"], data={"decision": "allow", "company": "globex"})
    landed = session.browser.get(consent.headers["location"])
    assert landed.status_code == 302, landed.text
    state = session.attempt_state(attempt)
    assert state["status"] == "authenticated"
    account = state["account"]["id"]
    assert ok(project.proxy(account, path="/api/me"))["account_id"] == "acct_globex"
