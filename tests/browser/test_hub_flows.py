"""A person in front of the Hub, on the page behind a link: every way to link, and what goes wrong on the way."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, Page, expect
from sqlalchemy import update

from mooring.connect.models import ConnectSession
from mooring.kit import clock
from tests.browser.chromium import no_errors
from tests.browser.hub_page import API_KEY, Stage, open_link, submit, view
from tests.flows.linking import on_database
from tests.hub import Project, ok, refused


def heading(page: Page) -> Any:
    return page.locator("mooring-hub .title")


def accounts(project: Project) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ok(project.http.get("/accounts"))
    return found


def consent(popup: Page, decision: str = "allow", without: str | None = None) -> None:
    """Answer the sandbox's consent page."""
    popup.locator("button[value=allow]").wait_for()
    if without:
        popup.locator(f'input[value="{without}"]').uncheck()
    popup.locator(f"button[value={decision}]").click()


def to_popup(page: Page) -> Page:
    with page.expect_popup() as popup:
        submit(page)
    return popup.value


FORMS = {
    "api_key": {"api_key": API_KEY},
    "basic": {"username": "acme-admin", "password": "sandbox-password"},
    "service_user": {"service_user_id": "SERVICE-1001", "service_user_token": "sandbox-service-token"},
}


@pytest.mark.parametrize("method", ["api_key", "basic", "service_user", "client_credentials"])
def test_a_form_links_after_a_test(s: Stage, tab: Page, method: str) -> None:
    project = s.project("Northwind", method)
    typed = FORMS.get(method)
    if method == "client_credentials":
        typed = {"client_id": "sandbox-client", "client_secret": "sandbox-secret"}
    open_link(tab, project.session("Acme"))
    form = ok(project.session("x").http.get("/hub/overview"))["connectors"][0]
    assert len(form["methods"]) == 1 and form["methods"][0]["consent"] is False
    for key, value in (typed or {}).items():
        found = tab.locator(f"[name={key}]")
        if found.count():
            found.fill(value)
    submit(tab)
    view(tab, "done")
    expect(heading(tab)).to_have_text("Sandbox is connected")
    (account,) = accounts(project)
    assert account["status"] == "active" and account["origin_owner_id"] == "Acme"
    assert project.proxy(account["id"], path="/api/me").status_code == 200
    no_errors(tab)


def test_a_whole_flow_by_keyboard_alone(s: Stage, tab: Page) -> None:
    project = s.project("Northwind", "api_key")
    project.config("ashby", "api_key")
    tab.goto(project.session("Acme").created["auth_link_url"])
    view(tab, "welcome")
    keys = tab.keyboard
    keys.press("Tab")
    keys.press("Enter")
    view(tab, "picker")
    expect(heading(tab)).to_be_focused()
    for _ in range(2):  # Ashby, Sandbox
        keys.press("Tab")
    keys.press("Enter")
    view(tab, "form")
    expect(heading(tab)).to_have_text("Connect Sandbox")
    expect(heading(tab)).to_be_focused()
    keys.press("Shift+Tab")
    keys.press("Enter")  # back: the focus returns to where it was
    view(tab, "picker")
    expect(tab.get_by_role("button", name="Sandbox")).to_be_focused()
    keys.press("Enter")
    view(tab, "form")
    keys.press("Tab")
    expect(tab.get_by_label("API key", exact=False).first).to_be_focused()
    keys.press("Enter")  # empty: the fault is announced and the focus is on its field
    expect(tab.locator("[name=api_key]")).to_be_focused()
    assert tab.locator("[name=api_key]").get_attribute("aria-invalid") == "true"
    keys.type(f"  {API_KEY} ")
    keys.press("Enter")
    view(tab, "done")
    expect(heading(tab)).to_be_focused()
    assert len(accounts(project)) == 1
    no_errors(tab)


def test_faults_are_named_at_their_fields(s: Stage, tab: Page) -> None:
    project = s.project("Northwind", "basic")
    open_link(tab, project.session("Acme"))
    submit(tab)
    alert = tab.get_by_role("alert")
    expect(alert).to_be_focused()
    expect(alert).to_contain_text("Enter: User name")
    field = tab.locator("[name=password]")
    fault = tab.locator("#mooring-password-fault")
    assert "mooring-password-fault" in (field.get_attribute("aria-describedby") or "")
    expect(fault).to_have_text("Enter: Password")
    alert.get_by_role("link", name="Enter: Password").click()
    expect(field).to_be_focused()
    field.fill("x")
    expect(fault).to_have_text("")
    tab.locator("[name=username]").fill("  spaced ")
    field.focus()
    expect(tab.locator("#mooring-username-note")).to_contain_text("removed spaces")
    assert tab.locator("[name=username]").input_value() == "spaced"
    tab.get_by_role("button", name="Show Password").click()
    assert field.get_attribute("type") == "text"
    assert accounts(project) == []


def test_a_rejected_credential_says_why_and_keeps_the_form(s: Stage, tab: Page) -> None:
    project = s.project("Northwind", "api_key", branded=True)
    open_link(tab, project.session("Acme"))
    tab.locator("[name=api_key]").fill("wrong-key")
    submit(tab)
    alert = tab.get_by_role("alert")
    expect(alert).to_contain_text("does not accept these credentials")
    expect(alert).to_be_focused()
    expect(tab.get_by_role("link", name="help@northwind.example")).to_be_visible()
    tab.locator("summary", has_text="Technical details").click()
    expect(alert).to_contain_text("wrong_credentials")
    assert re.search(r"Request[0-9a-f-]{36}", alert.inner_text().replace("\n", ""))
    assert "wrong-key" not in alert.inner_text()
    assert tab.locator("[name=api_key]").input_value() == "wrong-key"
    tab.locator("[name=api_key]").fill(API_KEY)
    submit(tab)
    view(tab, "done")
    assert len(accounts(project)) == 1


def test_several_methods_of_one_connector(s: Stage, tab: Page) -> None:
    project = s.project("Northwind", "api_key", "basic", "oauth2")
    open_link(tab, project.session("Acme"))
    group = tab.get_by_role("group", name="How would you like to connect?")
    assert group.get_by_role("radio").count() == 3
    group.get_by_label("User name and password").check()
    tab.locator("[name=username]").wait_for()
    expect(group.get_by_label("User name and password")).to_be_focused()
    tab.get_by_label("OAuth 2.0").check()
    expect(tab.locator("button[type=submit]")).to_contain_text("Continue to Sandbox")
    expect(tab.locator(".scopes")).to_contain_text("Reads employees")
    consent(to_popup(tab))
    view(tab, "done")
    assert accounts(project)[0]["authentication_config_key"] == "oauth2"

    ok(project.http.patch("/project", json={"offer_all_methods": False}))
    open_link(tab, project.session("Beta"))
    tab.locator("[name=api_key]").wait_for()
    assert tab.get_by_role("radio").count() == 0


def test_consent_in_a_popup_carries_no_secret(s: Stage, tab: Page, browser: Any) -> None:
    project = s.project("Northwind", "oauth2")
    session = project.session("Acme")
    seen: list[str] = []
    tab.context.on("request", lambda r: seen.append(r.url))
    open_link(tab, session)
    assert "token" not in tab.url
    expect(tab.locator(".view")).to_contain_text("allow Northwind to use its data for Acme Inc.")
    expect(tab.locator(".scopes")).to_contain_text("Creates and changes employees")
    popup = to_popup(tab)
    view(tab, "waiting")
    consent(popup)
    view(tab, "done")
    expect(heading(tab)).to_have_text("Sandbox is connected")
    tab.wait_for_timeout(200)
    assert popup.is_closed()
    launches = [u for u in seen if "/connect/launch/" in u]
    assert len(launches) == 1
    assert not [u for u in seen if session.token in u and "/embedded/integrations?" not in u]
    assert not [u for u in seen if "/connect/oauth2/" in u and "/callback?" not in u]
    assert len(accounts(project)) == 1
    no_errors(tab)


def test_a_denied_consent_can_be_tried_again(s: Stage, tab: Page) -> None:
    project = s.project("Northwind", "oauth2", branded=True)
    open_link(tab, project.session("Acme"))
    consent(to_popup(tab), "deny")
    view(tab, "failed")
    expect(heading(tab)).to_have_text("Access was not granted")
    expect(heading(tab)).to_be_focused()
    assert accounts(project) == []
    tab.get_by_role("button", name="Try again").click()
    view(tab, "form")
    consent(to_popup(tab))
    view(tab, "done")
    assert len(accounts(project)) == 1


def test_a_closed_popup_is_a_question_and_not_an_end(s: Stage, tab: Page) -> None:
    project = s.project("Northwind", "oauth2")
    open_link(tab, project.session("Acme"))
    popup = to_popup(tab)
    popup.locator("button[value=allow]").wait_for()
    address = popup.url
    popup.close()
    tab.locator("[data-asked=closed]").wait_for()
    # the person had it open in another tab: it still completes
    other = tab.context.new_page()
    other.goto(address)
    consent(other)
    view(tab, "done")
    assert len(accounts(project)) == 1


def test_a_closed_popup_can_be_started_again(s: Stage, tab: Page) -> None:
    project = s.project("Northwind", "oauth2")
    open_link(tab, project.session("Acme"))
    to_popup(tab).close()
    tab.locator("[data-asked=closed]").wait_for()
    tab.get_by_role("button", name="Start again").click()
    view(tab, "form")
    consent(to_popup(tab))
    view(tab, "done")
    assert len(accounts(project)) == 1


def test_a_blocked_popup_goes_on_in_the_same_tab(s: Stage, tab: Page) -> None:
    project = s.project("Northwind", "oauth2")
    tab.add_init_script("window.open = () => null")
    open_link(tab, project.session("Acme"))
    submit(tab)
    consent(tab)
    view(tab, "done")
    assert urlsplit(tab.url).path == "/embedded/integrations" and not urlsplit(tab.url).query
    assert len(accounts(project)) == 1
    no_errors(tab)


def test_a_handheld_goes_on_in_the_same_tab(s: Stage, browser: Any) -> None:
    project = s.project("Northwind", "oauth2")
    profile: BrowserContext = browser.new_context(
        viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True
    )
    try:
        page = profile.new_page()
        open_link(page, project.session("Acme"))
        submit(page)
        consent(page, "deny")
        view(page, "failed")
        page.get_by_role("button", name="Try again").click()
        view(page, "form")
        submit(page)
        consent(page)
        view(page, "done")
        assert len(profile.pages) == 1 and len(accounts(project)) == 1
    finally:
        profile.close()


def test_a_reload_in_the_middle_changes_nothing(s: Stage, tab: Page) -> None:
    project = s.project("Northwind", "oauth2")
    open_link(tab, project.session("Acme"))
    popup = to_popup(tab)
    popup.locator("button[value=allow]").wait_for()
    tab.reload()
    view(tab, "waiting")
    consent(popup)
    view(tab, "done")
    expect(heading(tab)).to_have_text("Sandbox is connected")
    assert len(accounts(project)) == 1
    tab.reload()
    tab.locator(".view").wait_for()
    assert tab.locator('[data-view="waiting"]').count() == 0


def test_cancelling_ends_the_attempt(s: Stage, tab: Page) -> None:
    project = s.project("Northwind", "oauth2")
    session = project.session("Acme")
    open_link(tab, session)
    popup = to_popup(tab)
    popup.locator("button[value=allow]").wait_for()
    tab.get_by_role("button", name="Cancel").click()
    view(tab, "form")
    consent(popup)
    popup.get_by_text("Not connected").first.wait_for()
    assert accounts(project) == []


def test_missing_scopes_are_named_and_can_be_granted(s: Stage, tab: Page) -> None:
    project = s.project("Northwind", "oauth2")
    open_link(tab, project.session("Acme"))
    consent(to_popup(tab), without="employees:write")
    view(tab, "done")
    expect(heading(tab)).to_contain_text("permissions are missing")
    expect(tab.locator(".scopes")).to_contain_text("Creates and changes employees")
    (before,) = accounts(project)
    assert before["missing_scopes"] == ["employees:write"]
    tab.get_by_role("button", name="Grant them now").click()
    view(tab, "form")
    consent(to_popup(tab))
    view(tab, "done")
    expect(heading(tab)).not_to_contain_text("missing")
    (after,) = accounts(project)
    assert after["id"] == before["id"] and after["missing_scopes"] == []


def linked(s: Stage, method: str = "service_user") -> tuple[Project, str]:
    project = s.project("Northwind")
    config = s.config(project, method)
    return project, project.link(config, FORMS[method], owner="Acme")


def test_edit_mode_keeps_what_is_not_touched(s: Stage, tab: Page) -> None:
    project, account = linked(s)
    open_link(tab, project.session("Acme", account_id=account))
    expect(heading(tab)).to_have_text("Update Sandbox")
    assert tab.locator("[name=service_user_id]").input_value() == "SERVICE-1001"
    secret = tab.locator("[name=service_user_token]")
    assert secret.input_value() == "" and (secret.get_attribute("placeholder") or "").startswith("Stored: …")
    assert "sandbox-service-token" not in tab.content()
    submit(tab)
    view(tab, "done")
    expect(heading(tab)).to_have_text("Sandbox is up to date")
    assert project.proxy(account, path="/api/me").status_code == 200
    assert [a["id"] for a in accounts(project)] == [account]


def test_an_account_is_updated_and_removed_by_its_owner(s: Stage, tab: Page) -> None:
    project, account = linked(s)
    project.link({"id": accounts(project)[0]["integration_id"]}, FORMS["service_user"], owner="Beta")
    open_link(tab, project.session("Acme"))
    view(tab, "picker")
    assert tab.locator(".stack .row").count() == 1  # of the very owner alone
    tab.locator(".stack .row").click()
    view(tab, "account")
    tab.get_by_role("button", name="Update credentials").click()
    view(tab, "form")
    tab.locator("[name=service_user_token]").fill("wrong")
    submit(tab)
    expect(tab.get_by_role("alert")).to_contain_text("does not accept")
    tab.get_by_role("button", name="Back").click()
    view(tab, "account")
    tab.get_by_role("button", name="Remove").click()
    view(tab, "remove")
    tab.get_by_role("button", name="Cancel").click()
    view(tab, "account")
    tab.get_by_role("button", name="Remove").click()
    view(tab, "remove").get_by_role("button", name="Remove").click()
    expect(view(tab, "form")).to_contain_text("Sandbox was removed.")
    refused(project.http.get(f"/accounts/{account}"), 404)
    assert [a["origin_owner_id"] for a in accounts(project)] == ["Beta"]


def test_a_session_that_ends_says_so(s: Stage, tab: Page) -> None:
    project = s.project("Northwind", "api_key", branded=True)
    session = project.session("Acme")
    open_link(tab, session)

    async def expire(tx: Any) -> None:
        await tx.execute(
            update(ConnectSession).where(ConnectSession.id == session.created["id"]).values(expires_at=clock.now())
        )

    on_database(s.hub, expire)
    tab.locator("[name=api_key]").fill(API_KEY)
    submit(tab)
    view(tab, "fatal")
    expect(heading(tab)).to_have_text("This page has expired")
    expect(tab.get_by_role("link", name="help@northwind.example")).to_be_visible()
    assert accounts(project) == []


def test_a_link_belongs_to_the_first_browser_that_opens_it(s: Stage, tab: Page, browser: Any) -> None:
    project = s.project("Northwind", "oauth2")
    session = project.session("Acme")
    open_link(tab, session)
    view(tab, "form")
    stranger = browser.new_context()
    try:
        page = stranger.new_page()
        page.goto(session.created["auth_link_url"])
        view(page, "fatal")
        expect(heading(page)).to_have_text("This link is open in another browser")
    finally:
        stranger.close()
    refused(session.http.get("/hub/settings"), 401, "LinkInUseError")
    again = tab.context.new_page()  # the same browser may open it again
    open_link(again, session)
    view(again, "form")


def test_an_unreachable_server_is_told_and_can_be_tried_again(s: Stage, tab: Page) -> None:
    project = s.project("Northwind", "api_key")
    open_link(tab, project.session("Acme"))
    tab.context.set_offline(True)
    tab.locator("[name=api_key]").fill(API_KEY)
    submit(tab)
    expect(tab.get_by_role("alert")).to_contain_text("could not be reached")
    tab.context.set_offline(False)
    submit(tab)
    view(tab, "done")


def test_the_language_follows_the_browser(s: Stage, browser: Any) -> None:
    project = s.project("Northwind", "api_key")
    for locale, title, files in (
        ("de-AT", "Sandbox verbinden", 1),
        ("ja-JP", "Sandbox を接続", 1),
        ("pl-PL", "Connect Sandbox", 0),
    ):
        profile = browser.new_context(locale=locale)
        try:
            page = profile.new_page()
            loaded: list[str] = []
            page.on("request", lambda r, loaded=loaded: loaded.append(r.url) if "/assets/hub/" in r.url else None)
            open_link(page, project.session("Acme"))
            view(page, "form")
            expect(heading(page)).to_have_text(title)
            assert len(loaded) == files
        finally:
            profile.close()
    ok(project.http.patch("/project", json={"default_language": "fr"}))
    profile = browser.new_context(locale="pl-PL")
    try:
        page = profile.new_page()
        open_link(page, project.session("Acme"))
        expect(heading(page)).to_have_text("Connecter Sandbox")
    finally:
        profile.close()


def test_what_the_server_says_is_in_the_persons_language(s: Stage, browser: Any) -> None:
    project = s.project("Northwind", "api_key")
    profile = browser.new_context(locale="de-DE")
    try:
        page = profile.new_page()
        open_link(page, project.session("Acme"))
        expect(page.get_by_text("API-Schlüssel", exact=True)).to_be_visible()
        for typed, what, todo in (
            ("your-api-key", "Ein Wert sieht aus wie der Beispieltext", "Ersetzen Sie das Beispiel"),
            ("sandbox-key-wrong", "Der Anbieter akzeptiert diese Zugangsdaten nicht.", "Prüfen Sie, ob der Wert"),
        ):
            page.locator("[name=api_key]").fill(typed)
            submit(page)
            alert = page.get_by_role("alert").filter(has_text=what)
            expect(alert).to_contain_text(todo)
            assert alert.locator("p[lang=en]").count() == 0
        page.goto(f"{s.hub.url}/embedded/integrations?token=nonsense")
        view(page, "fatal")
        assert page.evaluate("document.documentElement.lang") == "de"
    finally:
        profile.close()
