"""StackOne's published Hub works unchanged against a running Mooring (contract §2.12, 2.13, 9.1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import Page, expect

from mooring.accounts.credentials import REDACTED
from tests.browser.chromium import no_errors
from tests.browser.published import Published, host_pages
from tests.conftest import Ports, oidc_connector
from tests.flows.linking import age_flow, sandbox_config
from tests.hub import Hub, Project, Session, ok
from tests.rows import query
from tests.sandbox.harness import Sandbox
from tests.servers.oidc import OidcServer
from tests.servers.ports import free_port
from tests.servers.redmine import RedmineServer

PEM = "-----BEGIN CERTIFICATE-----\nc2FuZGJveA==\n-----END CERTIFICATE-----"
BASIC_APP = {"client_id": "basic-app", "client_secret": "basic-secret"}


def forms_connector() -> str:
    """A connector with every kind of field, and one whose secret a popup's form asks for."""
    address = """\
      sandbox_url:
        label: Sandbox address
        pattern: 'https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?'
"""
    return f"""\
connector: forms
title: Forms
category: crm
docs: https://forms.example/docs
base_url: ${{sandbox_url}}
auth:
  all:
    headers:
      X-Api-Key: ${{api_key}}
      X-Workspace: ${{workspace}}.${{region}}.${{size}}
      X-Certificate: ${{encodeBase64(certificate)}}
    fields:
      workspace:
        label: Workspace
        placeholder: acme
        help: The part before .forms.example
        pattern: "[a-z0-9-]+"
        pattern_error: Only the part before .forms.example
      region: {{label: Region, options: [{{value: eu, label: Europe}}, {{value: us, label: America}}], default: eu}}
      size: {{label: Size, type: number, required: false, default: "10"}}
      api_key: {{label: API key, secret: true, pattern: "[a-z-]+", pattern_error: A key has small letters}}
      certificate: {{label: Certificate, type: text_area, secret: true}}
    app_fields:
{address}\
    test: {{get: /api/me, identity: account_id}}
    notice: Ask your administrator for a key.
  triggered:
    header: {{name: X-Api-Key, value: "${{api_key}}"}}
    fields: {{api_key: {{secret: true}}}}
    app_fields:
{address}\
    external_trigger: true
    test: {{get: /api/me, identity: account_id}}
  consent:
    oauth2:
      authorize_url: ${{sandbox_url}}/oauth/authorize
      token_url: ${{sandbox_url}}/oauth/token
      client_auth: basic
      scopes: {{employees:read: Reads employees}}
    headers: {{X-Workspace: "${{workspace}}", X-Pin: "${{pin}}"}}
    fields:
      workspace: {{label: Workspace}}
      pin: {{label: Pin, secret: true}}
    app_fields:
{address}\
    test: {{get: /api/me, identity: account_id}}
"""


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """The origin of a customer's page."""
    with host_pages(free_port()) as running:
        yield running


@pytest.fixture(scope="module")
def hub(ports: Ports, origin: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub at which the customer's origin is registered. One database is enough: the browser is what differs."""
    folder = tmp_path_factory.mktemp("published")
    connectors = folder / "connectors"
    connectors.mkdir()
    (connectors / "oidc-provider.yaml").write_text(oidc_connector(f"http://127.0.0.1:{ports.oidc}"))
    (connectors / "forms.yaml").write_text(forms_connector())
    with Hub(
        folder / "hub",
        free_port(),
        egress_allow=ports.egress_allow,
        connectors_dir=connectors,
        env={"MOORING_ALLOWED_ORIGINS": origin},
    ) as running:
        yield running


@pytest.fixture
def shown(tab: Page, hub: Hub) -> Iterator[Published]:
    """The component in a tab. Whatever happens, its scripts run through and it is told no 401 or 403."""
    published = Published(tab, hub.url)
    yield published
    no_errors(tab)
    assert published.strangers == set()


@pytest.fixture
def forms(project: Project, provider: Sandbox) -> dict[str, Any]:
    return project.config("forms", "all", {"sandbox_url": provider.url})


GOOD = {"workspace": "acme", "api_key": "sandbox-key-acme", "certificate": PEM}


def usable(project: Project, account: dict[str, str], path: str = "/api/me") -> Any:
    """Call through the proxy with the account that the host page was told."""
    assert project.account(account["id"])["status"] == "active"
    return ok(project.proxy(account["id"], path=path))


def workspace(project: Project, account: dict[str, str]) -> str:
    """The header that the provider got."""
    return str(ok(project.proxy(account["id"], path="/api/echo"))["headers"]["x-workspace"])


# The picker


def test_several_connectors_are_searched_and_filtered(
    shown: Published, origin: str, project: Project, forms: dict[str, Any], provider: Sandbox
) -> None:
    for connector, method in (("ashby", "api_key"), ("teamtailor", "api_key"), ("redmine", "api_key")):
        project.config(connector, method)
    disabled = project.config("hibob", "service_user")
    ok(project.http.patch(f"/auth_configs/{disabled['id']}", json={"active": False}))
    shown.open(origin, project.session())
    for name in ("Forms", "Ashby", "Teamtailor", "Redmine"):
        shown.shows(name)
    shown.lacks("Bob")
    logos = shown.tab.locator("stackone-hub img[alt]").evaluate_all(
        "images => images.filter(i => i.src.includes('/logos/')).map(i => [new URL(i.src).origin, i.naturalWidth > 0])"
    )
    assert len(logos) == 4 and {tuple(logo) for logo in logos} == {(project.hub.url, True)}
    search = shown.tab.get_by_placeholder("Search Integrations")
    search.fill("team")
    shown.shows("Teamtailor")
    shown.lacks("Ashby")
    search.fill("nothing of the kind")
    shown.shows("No integrations found")
    search.fill("")
    shown.tab.get_by_text("ATS", exact=True).first.click()
    shown.shows("Ashby")
    shown.lacks("Redmine")
    shown.lacks("Forms")
    shown.tab.get_by_text("ATS", exact=True).first.click()
    shown.tab.get_by_text("Forms", exact=True).click()
    shown.shows("Workspace")
    shown.button("Back").click()
    shown.shows("Redmine")


@pytest.mark.parametrize("ask", ["provider", "category", "integration"])
def test_exactly_one_is_selected_at_once(
    shown: Published, origin: str, project: Project, forms: dict[str, Any], ask: str
) -> None:
    project.config("ashby", "api_key")
    more = {"provider": {"provider": "forms"}, "category": {"categories": ["crm"]}}
    shown.open(origin, project.session(**more.get(ask, {"integration_id": forms["id"]})))
    shown.shows("Workspace")
    shown.lacks("Ashby")
    expect(shown.button("Back")).to_have_count(0)


def test_nothing_configured_is_said(shown: Published, origin: str, project: Project) -> None:
    shown.open(origin, project.session())
    shown.shows("No configured integrations available.")


# Forms


def test_a_form_of_all_kinds_of_fields_links_an_account(
    shown: Published, origin: str, project: Project, forms: dict[str, Any], provider: Sandbox
) -> None:
    shown.open(origin, project.session("acme", provider="forms"))
    shown.shows("Workspace")
    shown.shows("The part before .forms.example")
    shown.shows("Ask your administrator for a key.")
    expect(shown.tab.get_by_text("Connection guide")).to_be_visible()
    guide = shown.tab.locator('stackone-hub a[href="https://forms.example/docs"]')
    assert guide.get_attribute("target") == "_blank"
    kinds = {key: shown.field(key).evaluate("e => e.type") for key in ("workspace", "size", "api_key", "certificate")}
    assert kinds == {"workspace": "text", "size": "number", "api_key": "password", "certificate": "textarea"}
    assert shown.field("size").input_value() == "10" and shown.field("workspace").get_attribute("placeholder") == "acme"
    expect(shown.button("Connect")).to_be_disabled()
    shown.choose("Region", "America")
    shown.fill({**GOOD, "workspace": "  acme "})  # copied along with spaces
    shown.connect()
    account = shown.succeeded()
    assert account["provider"] == "forms"
    seen = project.account(account["id"])
    assert seen["setup_information"] == {"workspace": "acme", "region": "us", "size": "10"}
    assert (seen["origin_owner_id"], seen["integration_id"]) == ("acme", forms["id"])
    assert usable(project, account)["account_id"] == "acct_acme"
    assert workspace(project, account) == "acme.us.10"
    assert shown.statuses() == {200}
    shown.button("Close").click()
    assert len(shown.heard("close")) == len(shown.heard("onClose")) == 1


def test_a_pattern_is_checked_while_typing(
    shown: Published, origin: str, project: Project, forms: dict[str, Any]
) -> None:
    shown.open(origin, project.session())
    shown.shows("Workspace")
    shown.fill({**GOOD, "workspace": "acme.forms.example"})
    shown.shows("Only the part before .forms.example")
    expect(shown.button("Connect")).to_be_disabled()
    shown.fill({"workspace": ""})
    shown.shows("Workspace is required")
    shown.fill({"workspace": "acme"})
    expect(shown.button("Connect")).to_be_enabled()
    assert not [call for call in shown.calls if call[0] == "POST"]


def test_a_refusal_of_the_provider_is_shown_and_can_be_mended(
    shown: Published, origin: str, project: Project, forms: dict[str, Any], provider: Sandbox
) -> None:
    shown.open(origin, project.session())
    shown.shows("Workspace")
    shown.fill({**GOOD, "api_key": "sandbox-key-wrong"})
    shown.connect()
    shown.shows("Forms: The provider does not accept these credentials.")
    told = shown.details()
    assert "401" in told and "Check that the value is complete" in told and "sandbox-key-wrong" not in told
    assert shown.statuses() == {200, 422}
    assert ok(project.http.get("/accounts")) == []
    shown.fill(GOOD)
    shown.connect()
    usable(project, shown.succeeded())


def test_a_config_that_is_disabled_meanwhile_is_said(
    shown: Published, origin: str, project: Project, forms: dict[str, Any]
) -> None:
    shown.open(origin, project.session())
    shown.shows("Workspace")
    shown.fill(GOOD)
    ok(project.http.patch(f"/auth_configs/{forms['id']}", json={"active": False}))
    shown.connect()
    shown.shows("this connection is not offered here, or not any more")


def test_the_external_trigger_token_is_shown_and_comes_back(
    shown: Published, origin: str, project: Project, provider: Sandbox
) -> None:
    config = project.config("forms", "triggered", {"sandbox_url": provider.url})
    session = project.session(integration_id=config["id"])
    shown.open(origin, session)
    shown.shows("External Trigger Token")
    token = shown.field("external-trigger-token")
    assert token.input_value() == session.created["external_trigger_token"]
    assert token.get_attribute("readonly") is not None or token.is_disabled()
    shown.fill({"api_key": "sandbox-key-acme"})
    shown.connect()
    usable(project, shown.succeeded())
    assert shown.sent[0]["credentials"]["external-trigger-token"] == session.created["external_trigger_token"]


def test_redmine_is_linked_by_its_own_address(
    shown: Published, origin: str, project: Project, redmine: RedmineServer
) -> None:
    project.config("redmine", "api_key")
    shown.open(origin, project.session())
    shown.shows("Redmine address")
    shown.fill({"base_url": "redmine.example.com", "api_key": redmine.jane_key})
    shown.shows("An address such as https://redmine.example.com")
    shown.fill({"base_url": redmine.base_url})
    shown.connect()
    assert usable(project, shown.succeeded(), "/users/current.json")["user"]["login"] == "jane"


def test_client_credentials_need_no_popup(shown: Published, origin: str, project: Project, provider: Sandbox) -> None:
    project.config("sandbox", "client_credentials", {"sandbox_url": provider.url})
    shown.open(origin, project.session())
    shown.shows("Client ID")
    shown.fill({"client_id": "sandbox-machine", "client_secret": "not-this"})
    shown.connect()
    shown.shows("Sandbox: The provider does not accept the client id or client secret")
    shown.fill({"client_id": "sandbox-machine", "client_secret": "sandbox-machine-secret"})
    shown.connect()
    usable(project, shown.succeeded())
    assert len(shown.tab.context.pages) == 1
    assert not any("connection_attempts" in path for _, path, _ in shown.calls)


def test_another_config_than_the_default_is_reached_by_its_id(
    shown: Published, origin: str, project: Project, provider: Sandbox
) -> None:
    project.config("sandbox", "api_key", {"sandbox_url": provider.url})
    second = project.config("sandbox", "basic", {"sandbox_url": provider.url})
    shown.open(origin, project.session(integration_id=second["id"]))
    shown.shows("User name")
    shown.fill({"username": "acme-admin", "password": "sandbox-password"})
    shown.connect()
    account = shown.succeeded()
    assert project.account(account["id"])["integration_id"] == second["id"]
    usable(project, account)


# Edit mode


@pytest.fixture
def linked(project: Project, forms: dict[str, Any], provider: Sandbox) -> str:
    return project.link(forms, {**GOOD, "region": "us"})


def test_untouched_secrets_stay(shown: Published, origin: str, project: Project, linked: str) -> None:
    shown.open(origin, project.session(account_id=linked))
    shown.shows("Workspace")
    assert shown.field("workspace").input_value() == "acme"
    shown.shows("America")
    assert "acme" not in shown.field("api_key-display").input_value().removesuffix("acme")
    assert PEM not in shown.field("certificate").input_value()
    shown.fill({"workspace": "acme-two"})
    shown.connect()
    account = shown.succeeded()
    assert account == {"id": linked, "provider": "forms"}
    assert shown.sent[0]["credentials"] == {"workspace": "acme-two", "region": "us", "size": "10"}
    assert workspace(project, account) == "acme-two.us.10"
    assert usable(project, account)["account_id"] == "acct_acme"
    assert ("PATCH", f"/hub/accounts/{linked}", 200) in shown.calls and shown.statuses() == {200}


def test_a_changed_secret_replaces_the_old_one(shown: Published, origin: str, project: Project, linked: str) -> None:
    query(project.hub, "UPDATE accounts SET status = 'error' WHERE id = :id", id=linked)
    shown.open(origin, project.session(account_id=linked))
    shown.shows("Workspace")
    shown.button("Edit").click()
    shown.fill({"api_key": "sandbox-key-nobody"})
    shown.connect()
    shown.shows("Forms: The provider does not accept these credentials.")
    assert project.account(linked)["status"] == "error"
    shown.fill({"api_key": "sandbox-key-globex"})
    shown.connect()
    account = shown.succeeded()
    assert account["id"] == linked and usable(project, account)["account_id"] == "acct_globex"
    assert not any(REDACTED in str(body) for body in shown.sent)


def test_an_account_on_another_config_is_edited_with_its_own_form(
    shown: Published, origin: str, project: Project, provider: Sandbox
) -> None:
    project.config("sandbox", "basic", {"sandbox_url": provider.url})
    own = project.config("sandbox", "api_key", {"sandbox_url": provider.url})
    account = project.link(own, {"api_key": "sandbox-key-acme"})
    shown.open(origin, project.session(account_id=account))
    shown.shows("API key")
    shown.lacks("User name")
    shown.button("Edit").click()
    shown.fill({"api_key": "sandbox-key-globex"})
    shown.connect()
    assert shown.succeeded()["id"] == account
    assert project.account(account)["integration_id"] == own["id"]


# OAuth


def attempt_of(shown: Published) -> str:
    """The attempt that the component polls."""
    shown.until(lambda: any(m == "GET" and "/connection_attempts/" in p for m, p, _ in shown.calls))
    return next(p.rpartition("/")[2] for m, p, _ in shown.calls if m == "GET" and "/connection_attempts/" in p)


@pytest.fixture
def consent_session(project: Project, provider: Sandbox) -> Session:
    sandbox_config(project, provider)
    return project.session()


def test_oauth_succeeds_through_the_popup(
    shown: Published, origin: str, project: Project, consent_session: Session
) -> None:
    shown.open(origin, consent_session)
    shown.shows("An authentication window for Sandbox will display")
    popup = shown.popup()
    popup.get_by_role("button", name="Allow").click()
    account = shown.succeeded()
    shown.until(popup.is_closed)
    assert account["provider"] == "sandbox" and usable(project, account)["account_id"] == "acct_acme"
    assert {"type": "AccountConnected", "account": account} in shown.heard("message")
    assert shown.statuses() == {200}


def test_a_denial_is_shown(shown: Published, origin: str, project: Project, consent_session: Session) -> None:
    shown.open(origin, consent_session)
    shown.shows("An authentication window")
    popup = shown.popup()
    popup.get_by_role("button", name="Deny").click()
    shown.shows("access was denied at the provider")
    shown.until(popup.is_closed)
    shown.popup().get_by_role("button", name="Allow").click()  # and the next try works
    usable(project, shown.succeeded())


def test_a_closed_popup_can_be_cancelled(
    shown: Published, origin: str, project: Project, consent_session: Session
) -> None:
    shown.open(origin, consent_session)
    shown.shows("An authentication window")
    shown.popup().close()
    shown.shows("Connecting to Sandbox")
    shown.shows("Having trouble?")
    attempt = attempt_of(shown)
    shown.tab.get_by_role("button", name="Cancel and start over").click()
    shown.shows("An authentication window")
    shown.until(lambda: ("DELETE", f"/hub/connection_attempts/{attempt}", 204) in shown.calls)
    assert consent_session.attempt_state(attempt)["status"] == "cancelled"
    assert ok(project.http.get("/accounts")) == []


def test_an_expired_attempt_leads_back_to_the_form(
    shown: Published, origin: str, project: Project, consent_session: Session
) -> None:
    shown.open(origin, consent_session)
    shown.shows("An authentication window")
    popup = shown.popup()
    age_flow(project.hub, attempt_of(shown), attempt_too=True)
    shown.shows("An authentication window")
    shown.until(popup.is_closed)
    assert shown.heard("success") == []


def test_a_config_that_is_disabled_before_the_popup_is_said(
    shown: Published, origin: str, project: Project, consent_session: Session
) -> None:
    shown.open(origin, consent_session)
    shown.shows("An authentication window")
    (config,) = ok(project.http.get("/auth_configs"))["data"]
    ok(project.http.patch(f"/auth_configs/{config['id']}", json={"active": False}))
    popup = shown.popup()
    shown.shows("this connection is not offered here, or not any more")
    shown.until(popup.is_closed)


def test_text_from_the_provider_makes_no_link_and_no_picture(
    shown: Published, origin: str, consent_session: Session
) -> None:
    shown.open(origin, consent_session)
    shown.shows("An authentication window")
    popup = shown.popup()
    expect(popup.get_by_role("button", name="Allow")).to_be_visible()
    state = parse_qs(urlsplit(popup.url).query)["state"][0]
    text = "[Sign in again](https://evil.example/a) ![x](https://evil.example/p.png) <b>bold</b>"
    answer = urlencode({"state": state, "error": "server_error", "error_description": text})
    popup.goto(f"{shown.hub_url}/connect/oauth2/sandbox/callback?{answer}")
    shown.shows("the provider answered")
    alert = shown.tab.locator("stackone-hub .alert-error")
    assert "Sign in again" in alert.inner_text()
    assert alert.locator("img, b").count() == 0
    assert all(name.startswith("https://evil.example/") for name in alert.locator("a").all_inner_texts())


def test_a_blocked_popup_is_said_and_its_attempt_cancelled(
    shown: Published, origin: str, consent_session: Session
) -> None:
    shown.open(origin, consent_session)
    shown.shows("An authentication window")
    shown.tab.evaluate("window.open = () => null")
    shown.connect()
    shown.shows("Your browser blocked the login popup")
    shown.until(lambda: any(method == "DELETE" and status == 204 for method, _, status in shown.calls))


def test_after_five_minutes_the_component_gives_up_and_cancels(
    shown: Published, origin: str, consent_session: Session
) -> None:
    shown.tab.clock.install()
    shown.open(origin, consent_session)
    shown.shows("An authentication window")
    shown.popup()
    attempt = attempt_of(shown)
    shown.tab.clock.fast_forward(301_000)
    shown.shows("Connection timed out")
    shown.until(lambda: ("DELETE", f"/hub/connection_attempts/{attempt}", 204) in shown.calls)
    assert consent_session.attempt_state(attempt)["status"] == "cancelled"


def expire(session: Session) -> None:
    sql = "UPDATE connect_sessions SET expires_at = created_at WHERE id = :id"
    query(session.project.hub, sql, id=session.created["id"])


def test_an_expired_session_shows_nothing_to_connect(shown: Published, origin: str, consent_session: Session) -> None:
    expire(consent_session)
    shown.open(origin, consent_session)
    shown.shows("No configured integrations available.")
    assert shown.statuses() == {401}


def test_a_session_that_ends_before_the_form_is_sent(
    shown: Published, origin: str, project: Project, forms: dict[str, Any]
) -> None:
    session = project.session()
    shown.open(origin, session)
    shown.shows("Workspace")
    shown.fill(GOOD)
    expire(session)
    shown.connect()
    shown.shows("Failed to create account")
    assert ok(project.http.get("/accounts")) == []


def test_a_session_that_ends_during_the_consent_still_tells_the_end(
    shown: Published, origin: str, project: Project, consent_session: Session
) -> None:
    shown.open(origin, consent_session)
    shown.shows("An authentication window")
    popup = shown.popup()
    expect(popup.get_by_role("button", name="Allow")).to_be_visible()
    expire(consent_session)
    popup.get_by_role("button", name="Allow").click()
    usable(project, shown.succeeded())


def test_a_wrong_client_secret_is_shown_with_its_cause(
    shown: Published, origin: str, project: Project, provider: Sandbox
) -> None:
    sandbox_config(project, provider, client_secret="canary-wrong")
    shown.open(origin, project.session())
    shown.shows("An authentication window")
    shown.popup().get_by_role("button", name="Allow").click()
    shown.shows("The provider does not accept the client id or client secret")
    shown.lacks("canary")


def test_a_strange_app_url_is_refused_where_everybody_sees_it(
    shown: Published, origin: str, consent_session: Session
) -> None:
    shown.open(origin, consent_session, **{"app-url": "https://elsewhere.example"})
    shown.shows("An authentication window")
    popup = shown.popup()
    shown.shows("redirect_uri is not on an allowed origin")
    shown.until(popup.is_closed)


def test_a_form_before_the_consent_and_its_relink(
    shown: Published, origin: str, project: Project, provider: Sandbox
) -> None:
    setup = {"sandbox_url": provider.url, "client_id": "sandbox-client", "client_secret": "sandbox-secret"}
    config = project.config("forms", "consent", setup)
    shown.open(origin, project.session())
    shown.shows("Pin")
    shown.fill({"workspace": "one & two", "pin": "p/i+n=1"})
    shown.popup().get_by_role("button", name="Allow").click()
    account = shown.succeeded()
    assert workspace(project, account) == "one & two"
    shown.open(origin, project.session(account_id=account["id"]))
    shown.shows("Workspace")
    shown.fill({"workspace": "three"})  # the pin is not touched
    shown.popup().get_by_role("button", name="Allow").click()
    assert shown.succeeded() == account
    assert workspace(project, account) == "three"
    assert project.account(account["id"])["integration_id"] == config["id"]


def test_a_real_login_page_in_the_popup(shown: Published, origin: str, project: Project, oidc: OidcServer) -> None:
    project.config("oidc-provider", "code", BASIC_APP)
    shown.open(origin, project.session())
    shown.shows("An authentication window for OIDC Provider")
    popup = shown.popup()
    popup.locator('input[name="login"]').fill("jane")
    popup.locator('input[name="password"]').fill("any-password")
    popup.get_by_role("button").click()
    popup.get_by_role("button", name="Continue").click()
    assert usable(project, shown.succeeded())["sub"] == "jane"


def test_a_real_login_page_is_cancelled(shown: Published, origin: str, project: Project, oidc: OidcServer) -> None:
    project.config("oidc-provider", "code", BASIC_APP)
    shown.open(origin, project.session())
    shown.shows("An authentication window")
    shown.popup().get_by_role("link", name="Cancel").click()
    shown.shows("access was denied at the provider")


# Hubs before 1.6: no attempt, and a landing page that speaks


def open_as_before(tab: Page, hub: Hub, session: Session, config: dict[str, Any]) -> Page:
    """What a Hub before 1.6 does when Connect is pressed."""
    start = (
        f"{hub.url}/connect/oauth2/{config['id']}?token={session.token}"
        f"&redirect_uri={hub.url.replace(':', '%3A').replace('/', '%2F')}%2Fembedded%2Faccounts%2Fcallback"
    )
    with tab.expect_popup() as opened:
        tab.evaluate("url => void window.open(url, 'Connect Account', 'width=1024,height=800')", start)
    return opened.value


LISTEN = """() => {
  window.told = [];
  new BroadcastChannel("oauth_channel").onmessage = (e) => told.push(["channel", e.data]);
  window.addEventListener("storage", (e) => e.key === "oauth_result" && told.push(["storage", JSON.parse(e.newValue)]));
}"""


@pytest.mark.parametrize("decision", ["Allow", "Deny"])
def test_the_landing_page_tells_old_hubs_in_three_ways(
    shown: Published, origin: str, project: Project, provider: Sandbox, decision: str
) -> None:
    config = sandbox_config(project, provider)
    session = project.session(integration_id=config["id"])
    beside = shown.tab.context.new_page()  # a Hub that the operator serves from the app's origin
    beside.goto(f"{project.hub.url}/embedded/accounts/callback?status=error")
    beside.evaluate(LISTEN)
    shown.tab.goto(origin + "/")
    popup = open_as_before(shown.tab, project.hub, session, config)
    popup.get_by_role("button", name=decision).click()
    shown.until(popup.is_closed)
    (message,) = shown.heard("message")
    assert shown.origins() == {project.hub.url}
    told = dict(beside.evaluate("told"))
    assert told == {"channel": message, "storage": message}
    if decision == "Allow":
        assert message["type"] == "AccountConnected" and message["account"]["provider"] == "sandbox"
        usable(project, message["account"])
    else:
        assert message["type"] == "CloseOAuth2" and message["error"] == "access_denied"
        assert "denied" in message["errorDescription"]


def test_an_origin_that_is_not_registered_reads_nothing(
    tab: Page, origin: str, project: Project, provider: Sandbox
) -> None:
    stranger = Published(tab, project.hub.url)
    config = sandbox_config(project, provider)
    session = project.session(integration_id=config["id"])
    tab.goto(origin.replace("127.0.0.1", "localhost") + "/")
    popup = open_as_before(tab, project.hub, session, config)
    popup.get_by_role("button", name="Allow").click()
    stranger.until(popup.is_closed)
    assert stranger.heard("message") == []
    assert len(ok(project.http.get("/accounts"))) == 1
    read = "async ([url, token]) => (await fetch(url, {headers: {'x-hub-session-token': token}})).status"
    with pytest.raises(Exception, match="Failed to fetch"):
        tab.evaluate(read, [f"{project.hub.url}/hub/settings", session.token])
    tab.goto(origin + "/")
    assert tab.evaluate(read, [f"{project.hub.url}/hub/settings", session.token]) == 200
