"""Accounts of a `.s1.yaml` connector: linked by each of its methods, called through the proxy."""

from __future__ import annotations

import pytest

from tests.flows.linking import SANDBOX_CLIENT, run_flow, sandbox_consent
from tests.hub import Project, ok, refused
from tests.sandbox.harness import Sandbox

FORMS = {
    ("conformance", "key"): {"apiKey": "sandbox-key-acme"},
    ("conformance", "login"): {"user_name": "acme-admin", "password": "sandbox-password"},
    ("conformance", "machine"): {"client_id": "sandbox-machine", "client_secret": "sandbox-machine-secret"},
    ("headers", "custom"): {"id": "SERVICE-1001", "token_value": "sandbox-service-token"},
}


@pytest.mark.parametrize(("connector", "method"), FORMS)
def test_link_by_form_and_call(project: Project, provider: Sandbox, connector: str, method: str) -> None:
    config = project.config(connector, method)
    account = project.link(config, FORMS[connector, method])
    assert ok(project.proxy(account, path="/api/me"))["account_id"] == "acct_acme"


def test_the_test_action_proves_the_credential(project: Project, provider: Sandbox) -> None:
    config = project.config("conformance", "key")
    session = project.session(integration_id=config["id"])
    refused(session.submit(config["id"], {"apiKey": "wrong-key"}), 422, "CredentialRejectedError")


def test_link_by_consent_and_call(project: Project, provider: Sandbox) -> None:
    config = project.config("conformance", "oauth2_code", SANDBOX_CLIENT)
    session = project.session(integration_id=config["id"])
    state = run_flow(session, config, sandbox_consent(provider, "globex"))
    assert state["status"] == "authenticated", state
    account = state["account"]["id"]
    assert ok(project.proxy(account, path="/api/me"))["account_id"] == "acct_globex"
