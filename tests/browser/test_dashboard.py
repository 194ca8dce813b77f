"""The dashboard in a browser: every page accessible in both themes, keys, menus, dialogs, and a new operator's story."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.chromium import no_errors, violations, watched
from tests.browser.gallery_dashboard import Scene, State, furnish, sign_in, states
from tests.dashboard.people import PASSWORD
from tests.hub import Hub, close_clients
from tests.sandbox.harness import Sandbox
from tests.servers.ports import free_port

NAMES = [s.name for s in states(Scene(None, "", ("",), "", "", "", "", "", ""))]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def scene(provider_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One hub for all looks."""
    port = free_port()
    allow = f"{provider_url.removeprefix('http://')},127.0.0.1:{port}"
    with (
        Hub(tmp_path_factory.mktemp("dashboard"), port, egress_allow=allow, single_process=True) as hub,
        httpx.Client(base_url=provider_url, timeout=10, trust_env=False) as http,
    ):
        http.post("/_control/reset").raise_for_status()
        yield furnish(hub, Sandbox(provider_url, http))
        close_clients()


@pytest.fixture(scope="module", params=["light", "dark"])
def profile(request: pytest.FixtureRequest, browser: Browser, scene: Scene) -> Iterator[BrowserContext]:
    """A browser that is signed in, in one theme."""
    made = browser.new_context(viewport={"width": 1280, "height": 860}, color_scheme=request.param, locale="en-US")
    made.grant_permissions(["clipboard-read", "clipboard-write"])
    sign_in(made, scene.hub)
    yield made
    made.close()


@pytest.fixture
def page(profile: BrowserContext) -> Iterator[Page]:
    """A page whose scripts must not fail, and that must not ask anybody else for anything."""
    made = watched(profile)
    foreign: list[str] = []
    made.on("request", lambda r: None if r.url.startswith("http://127.0.0.1") else foreign.append(r.url))
    yield made
    no_errors(made)
    assert foreign == []
    made.close()


@pytest.mark.parametrize("name", NAMES)
def test_every_state_is_accessible_and_fits_a_phone(page: Page, scene: Scene, name: str) -> None:
    state: State = next(s for s in states(scene) if s.name == name)
    if not state.signed_in:
        page.context.clear_cookies(name="mooring-session")
    page.goto(scene.hub.url + state.path)
    if state.act:
        state.act(page)
    if not state.signed_in:
        sign_in(page.context, scene.hub)
    assert violations(page) == []
    page.set_viewport_size({"width": 360, "height": 780})
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{wide} px too wide at 360"


def test_keys_open_search_and_lead_to_what_was_found(page: Page, scene: Scene) -> None:
    page.goto(f"{scene.hub.url}/dashboard/p/{scene.project}/logs")
    page.keyboard.press("/")
    page.locator("#s-q").wait_for()
    page.keyboard.type("Kestrel")
    page.locator("#hits a", has_text="Kestrel").wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Kestrel Robotics")
    page.keyboard.press("/")
    page.locator("dialog[open]").wait_for()
    page.keyboard.press("Escape")
    expect(page.locator("dialog[open]")).to_have_count(0)


def test_an_id_is_copied_from_the_menu(page: Page, scene: Scene) -> None:
    page.goto(f"{scene.hub.url}/dashboard/p/{scene.project}/connectors")
    row = page.locator(f"tr[data-config='{scene.config}']")
    row.get_by_role("button", name="Actions for").click()
    row.get_by_text("Copy auth config ID").click()
    assert page.evaluate("navigator.clipboard.readText()") == scene.config


def test_a_filter_narrows_without_leaving_the_page(page: Page, scene: Scene) -> None:
    page.goto(f"{scene.hub.url}/dashboard/p/{scene.project}/accounts")
    page.get_by_label("Status").select_option("suspended")
    expect(page.locator("#results tbody tr")).to_have_count(1)
    assert "status=suspended" in page.url
    page.get_by_label("Status").select_option("")
    page.get_by_label("Search", exact=True).fill("blue peak")
    expect(page.locator("#results tbody tr")).to_have_count(1)


def test_a_secret_leaves_the_page_with_its_dialog(page: Page, scene: Scene) -> None:
    page.goto(f"{scene.hub.url}/dashboard/p/{scene.project}/api-keys")
    page.get_by_role("button", name="New API key").click()
    page.get_by_label("Label").fill("from the browser")
    page.get_by_role("button", name="Create").click()
    secret = page.locator("#made").inner_text()
    assert re.fullmatch(r"v1\.local\.\w+\.[\w-]{40,}", secret)
    page.get_by_role("button", name="I have kept it").click()
    page.locator("#made").wait_for(state="detached")
    page.get_by_text("from the browser").first.wait_for()
    assert secret not in page.content()


def test_the_tail_of_the_log_grows_by_itself(page: Page, scene: Scene) -> None:
    page.goto(f"{scene.hub.url}/dashboard/p/{scene.project}/logs")
    before = page.locator("#rows tr").count()
    page.get_by_role("button", name="Follow").click()
    page.get_by_text("following").wait_for()
    with httpx.Client(base_url=scene.hub.url, trust_env=False, timeout=10) as http:
        key = scene.hub.env["MOORING_BOOTSTRAP_API_KEY"]
        http.get("/proxy/api/me", auth=(key, ""), headers={"x-account-id": scene.accounts[0]})
    expect(page.locator("#rows tr")).to_have_count(before + 1, timeout=15_000)


def test_a_new_operators_story(browser: Browser, tmp_path: Path, provider: Sandbox) -> None:
    """From first run to a customer's linked account, a failing call explained, and the account reconnected."""
    port = free_port()
    allow = provider.url.removeprefix("http://")
    env = {"MOORING_BOOTSTRAP_API_KEY": ""}
    with Hub(tmp_path, port, egress_allow=allow, single_process=True, env=env) as hub:
        context = browser.new_context(locale="en-US")
        page = watched(context)
        link = re.findall(r"http://\S+/dashboard/set-up\?token=\S+", hub.log())[0]
        page.goto(link)
        page.get_by_label("Your name").fill("Nora New")
        page.get_by_label("E-mail address").fill("nora@example.com")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_label("Your organization").fill("Nora Ltd")
        page.get_by_role("button", name="Begin").click()
        page.get_by_role("heading", name="Set up the first connector").wait_for()

        page.get_by_role("link", name="Add a connector").first.click()
        page.get_by_label("Search", exact=True).fill("sandbox")
        page.get_by_role("link", name="Sandbox").click()
        page.get_by_label("Authentication type").select_option("oauth2")
        page.locator("[data-is=oauth2]").get_by_label("Client ID").fill("sandbox-client")
        page.locator("[data-is=oauth2]").get_by_label("Client secret").fill("sandbox-secret")
        page.locator("[data-is=oauth2]").get_by_label("Sandbox address").fill(provider.url)
        page.get_by_role("button", name="Save").click()
        page.get_by_text("enabled").first.wait_for()
        base = page.url.rpartition("/")[0]

        page.get_by_role("link", name="Accounts", exact=True).click()
        page.get_by_role("button", name="Link an account").first.click()
        page.get_by_label("Customer's name").fill("Acme Foods")
        page.get_by_label("Customer's ID in your system").fill("acme-1")
        page.get_by_role("button", name="Make the link").click()
        auth_link = page.locator("#link").inner_text()
        _connect(context, auth_link)

        page.goto(base + "/accounts")
        page.get_by_role("link", name="Acme Foods").click()
        page.get_by_role("link", name="Request tester").first.click()
        page.get_by_label("Path and query").fill("/api/employees")
        page.get_by_role("button", name="Send", exact=True).click()
        expect(page.locator("#answer")).to_contain_text("200")

        provider.control("revoke")
        page.get_by_role("button", name="Send", exact=True).click()
        expect(page.locator("#answer")).to_contain_text("401")
        page.get_by_role("link", name="In the log").click()
        expect(page.locator(".alert.bad")).to_contain_text("reconnect link")
        page.get_by_role("button", name="Make a reconnect link").click()
        page.get_by_role("button", name="Make the link").click()
        again = page.locator("#link").inner_text()
        _connect(context, again)

        page.goto(base + "/accounts")
        page.get_by_role("link", name="Acme Foods").click()
        page.get_by_role("button", name="Test the connection").first.click()
        page.get_by_text("The provider accepts the account's credential.").wait_for()
        no_errors(page)
        context.close()


def _connect(context: BrowserContext, link: str) -> None:
    """The customer opens the link, goes to the provider and consents."""
    page = context.new_page()
    page.goto(link)
    page.locator('.view[data-view="welcome"]').wait_for()
    page.get_by_role("button").last.click()
    page.locator('.view[data-view="form"]').wait_for()
    with page.expect_popup() as popup:
        page.locator("button[type=submit]").click()
    popup.value.locator("button[value=allow]").click()
    page.locator('.view[data-view="done"]').wait_for()
    page.close()
