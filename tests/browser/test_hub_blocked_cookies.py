"""A browser that blocks third-party cookies by its own setting: the page behind a link works in a frame of another site."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, FrameLocator, Page, Playwright, expect, sync_playwright

from tests.browser.chromium import launch_with_preferences, no_errors, watched
from tests.browser.hub_page import API_KEY, Stage, view
from tests.browser.site import Site, serve
from tests.browser.test_hub_flows import accounts, consent, to_popup
from tests.hub import Project, Session, ok

BLOCKED = {"profile": {"cookie_controls_mode": 1, "block_third_party_cookies": True}}
ALLOWED = {"profile": {"cookie_controls_mode": 0, "block_third_party_cookies": False}}
PROBE = """<script>
document.cookie = 'probe=1; SameSite=None; Secure; path=/';
let stored = true;
try { localStorage.setItem('probe', '1') } catch { stored = false }
parent.postMessage({cookie: document.cookie, stored}, '*');
</script>"""
HEAR = "<script>window.heard = []; addEventListener('message', e => heard.push(e.data))</script>"


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def blocking(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    """A browser in whose settings third-party cookies are blocked."""
    context = launch_with_preferences(playwright, tmp_path_factory.mktemp("blocking"), BLOCKED)
    yield context
    context.close()


@pytest.fixture
def page(blocking: BrowserContext) -> Iterator[Page]:
    opened = watched(blocking)
    yield opened
    opened.close()


def framed(s: Stage, page: Page, site: Site, *methods: str) -> tuple[Project, FrameLocator]:
    """A customer's page of another site, `localhost`, with the Hub's page, of `127.0.0.1`, in a frame."""
    project = s.project("Northwind", *methods)
    ok(project.http.patch("/project", json={"allowed_origins": [site.origin]}))
    session: Session = project.session("Acme")
    url = session.created["auth_link_url"]
    assert "//localhost" in site.origin and "//127.0.0.1" in url
    page.goto(site.put("/", f'<iframe src="{url}" title="Hub" width=700 height=800></iframe>{HEAR}'))
    frame = page.frame_locator("iframe")
    frame.get_by_role("button", name="Get started").click()
    frame.locator('[data-view="form"]').wait_for()
    return project, frame


def test_the_setting_blocks_what_it_says(playwright: Playwright, page: Page, site: Site, tmp_path: Path) -> None:
    """Without this the other tests would prove nothing: one page, seen with the setting on and off."""
    with serve("127.0.0.1") as third:
        around = site.put("/", f'<iframe src="{third.put("/probe", PROBE)}" title="x"></iframe>{HEAR}')

        def heard(where: Page) -> object:
            where.goto(around)
            where.wait_for_function("window.heard.length")
            return where.evaluate("heard")

        assert heard(page) == [{"cookie": "", "stored": False}]
        allowing = launch_with_preferences(playwright, tmp_path, ALLOWED)
        try:
            assert heard(allowing.new_page()) == [{"cookie": "probe=1", "stored": True}]
        finally:
            allowing.close()


def test_a_form_links_in_a_frame(s: Stage, page: Page, site: Site) -> None:
    project, frame = framed(s, page, site, "api_key")
    frame.locator("[name=api_key]").fill(API_KEY)
    frame.locator("button[type=submit]").click()
    frame.locator('[data-view="done"]').wait_for()
    (account,) = accounts(project)
    assert project.proxy(account["id"], path="/api/me").status_code == 200
    told = {"type": "AccountConnected", "account": {"id": account["id"], "provider": "sandbox"}}
    assert page.evaluate("heard") == [told]
    no_errors(page)


def test_a_popup_opened_in_a_frame_completes(s: Stage, page: Page, site: Site) -> None:
    project, frame = framed(s, page, site, "oauth2")
    with page.expect_popup() as popup:
        frame.locator("button[type=submit]").click()
    frame.locator('[data-view="waiting"]').wait_for()
    consent(popup.value)
    frame.locator('[data-view="done"]').wait_for()
    expect(frame.locator(".title")).to_have_text("Sandbox is connected")
    (account,) = accounts(project)
    assert project.proxy(account["id"], path="/api/me").status_code == 200
    assert [m["type"] for m in page.evaluate("heard")] == ["AccountConnected"]
    no_errors(page)


def test_a_denied_popup_is_told_in_the_frame(s: Stage, page: Page, site: Site) -> None:
    project, frame = framed(s, page, site, "oauth2")
    with page.expect_popup() as popup:
        frame.locator("button[type=submit]").click()
    consent(popup.value, "deny")
    frame.locator('[data-view="failed"]').wait_for()
    expect(frame.locator(".title")).to_have_text("Access was not granted")
    assert accounts(project) == []


def test_a_frame_that_is_loaded_again_still_works(s: Stage, page: Page, site: Site) -> None:
    """Nothing could be stored, so a link that was bound to this browser would be lost to it."""
    project, _ = framed(s, page, site, "api_key")
    page.reload()
    frame = page.frame_locator("iframe")
    frame.get_by_role("button", name="Get started").click()
    frame.locator("[name=api_key]").fill(API_KEY)
    frame.locator("button[type=submit]").click()
    frame.locator('[data-view="done"]').wait_for()
    assert len(accounts(project)) == 1


def test_the_element_on_another_site_completes_a_popup(s: Stage, page: Page, site: Site) -> None:
    project = s.project("Northwind", "oauth2")
    ok(project.http.patch("/project", json={"allowed_origins": [site.origin]}))
    tag = f'<script src="{s.hub.url}/hub.js" defer></script><mooring-hub token="{project.session("Acme").token}">'
    page.goto(site.put("/", f"{tag}</mooring-hub>"))
    consent(to_popup(page))
    view(page, "done")
    assert len(accounts(project)) == 1
    no_errors(page)
