"""The Hub and other origins (S21): embedded by a registered one it works; any other can't frame, read or be told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chromium import no_errors, violations
from tests.browser.hub_page import API_KEY, Stage, submit, view
from tests.browser.site import Site
from tests.browser.test_hub_flows import accounts, consent, heading, to_popup
from tests.hub import Project, ok, refused

LISTEN = """
window.heard = [];
addEventListener('message', e => heard.push({origin: e.origin, data: e.data}));
"""


def embed(s: Stage, session: Any, more: str = "", script: str = "") -> str:
    return f"""
    <script src="{s.hub.url}/hub.js" defer></script>
    <mooring-hub token="{session.token}" {more}></mooring-hub>
    <script>{LISTEN}
    window.events = [];
    const hub = document.querySelector('mooring-hub');
    for (const name of ['success', 'close', 'error'])
      hub.addEventListener(name, e => events.push([name, e.detail]));
    hub.onSuccess = account => window.linked = account;
    {script}</script>"""


def register(project: Project, *origins: str) -> None:
    ok(project.http.patch("/project", json={"allowed_origins": list(origins)}))


def test_the_element_works_on_a_registered_page(s: Stage, tab: Page, site: Site) -> None:
    project = s.project("Northwind", "api_key")
    register(project, site.origin)
    seen: list[str] = []
    tab.on("request", lambda r: seen.append(r.url))
    tab.goto(site.put("/", embed(s, project.session("Acme"))))
    view(tab, "form")
    assert violations(tab) == []
    tab.locator("[name=api_key]").fill(API_KEY)
    submit(tab)
    view(tab, "done")
    (account,) = accounts(project)
    want = {"id": account["id"], "provider": "sandbox"}
    assert tab.evaluate("linked") == want and tab.evaluate("events") == [["success", want]]
    tab.get_by_role("button", name="Done").click()
    assert tab.evaluate("events.map(e => e[0])") == ["success", "close"]
    assert {u.split("/", 3)[2] for u in seen} <= {s.hub.url[7:], site.origin[7:]}  # no third party
    no_errors(tab)


def test_consent_works_with_third_party_cookies_blocked(s: Stage, tab: Page, site: Site) -> None:
    project = s.project("Northwind", "oauth2")
    register(project, site.origin)
    tab.goto(site.put("/", embed(s, project.session("Acme"))))
    view(tab, "form")
    popup = to_popup(tab)
    consent(popup)
    view(tab, "done")
    assert len(accounts(project)) == 1
    # No call of the embedded Hub carried or set a cookie: the flow's one is of the popup, first party there.
    assert [c["name"] for c in tab.context.cookies(s.hub.url)] == ["mooring-connect"]


def test_a_lost_opener_still_completes(s: Stage, tab: Page, site: Site) -> None:
    project = s.project("Northwind", "oauth2")
    register(project, site.origin)
    tab.goto(site.put("/", embed(s, project.session("Acme"))))
    view(tab, "form")
    popup = to_popup(tab)
    popup.locator("button[value=allow]").wait_for()
    popup.evaluate("window.opener = null")
    consent(popup)
    view(tab, "done")


def test_a_blocked_popup_returns_to_the_embedding_page(s: Stage, tab: Page, site: Site) -> None:
    project = s.project("Northwind", "oauth2")
    register(project, site.origin)
    tab.add_init_script("window.open = () => null")
    tab.goto(site.put("/settings", embed(s, project.session("Acme"))))
    view(tab, "form")
    submit(tab)
    consent(tab)
    tab.wait_for_url(f"{site.origin}/settings**")
    view(tab, "done")
    assert len(accounts(project)) == 1
    assert not [r for r in site.requests if "token" in r or "code=" in r]


def test_an_unregistered_page_reads_nothing(s: Stage, tab: Page, site: Site, evil: Site) -> None:
    project = s.project("Northwind", "api_key")
    register(project, site.origin)
    session = project.session("Acme")
    tab.goto(evil.put("/", embed(s, session)))
    view(tab, "fatal")
    expect(heading(tab)).to_have_text("No connection")
    read = tab.evaluate(
        """async ([url, token]) => { try { const r = await fetch(url + '/hub/overview',
        {headers: {'x-hub-session-token': token}}); return await r.text() } catch (e) { return 'refused' } }""",
        [s.hub.url, session.token],
    )
    assert read == "refused"


@pytest.mark.parametrize("registered", [False, True])
def test_no_other_origin_frames_the_page_behind_a_link(
    s: Stage, tab: Page, site: Site, evil: Site, registered: bool
) -> None:
    project = s.project("Northwind", "api_key")
    if registered:
        register(project, site.origin)
    url = project.session("Acme").created["auth_link_url"]
    faults: list[str] = []
    tab.on("console", lambda m: faults.append(m.text))
    tab.goto(evil.put("/", f'<iframe src="{url}" title="x"></iframe><script>{LISTEN}</script>'))
    tab.wait_for_timeout(700)
    assert any("frame-ancestors" in f for f in faults), faults
    assert tab.frames[1].locator("mooring-hub").count() == 0
    assert tab.evaluate("heard") == []
    for path in ("/embedded/accounts/callback?status=authenticated&account_id=x", f"/connect/launch/x?code={'y' * 43}"):
        policy = project.http.get(path).headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy


def test_a_registered_origin_frames_the_page_and_is_told(s: Stage, tab: Page, site: Site) -> None:
    project = s.project("Northwind", "api_key")
    register(project, "https://other.example", site.origin)
    url = project.session("Acme").created["auth_link_url"]
    tab.goto(site.put("/", f'<iframe src="{url}" title="Hub" width=700 height=700></iframe><script>{LISTEN}</script>'))
    frame = tab.frame_locator("iframe")
    frame.get_by_role("button", name="Get started").click()
    frame.locator("[name=api_key]").fill(API_KEY)
    frame.locator("button[type=submit]").click()
    frame.locator('[data-view="done"]').wait_for()
    (account,) = accounts(project)
    message = {"type": "AccountConnected", "account": {"id": account["id"], "provider": "sandbox"}}
    assert tab.evaluate("heard") == [{"origin": s.hub.url, "data": message}]


def test_messages_from_other_windows_change_nothing(s: Stage, tab: Page, site: Site) -> None:
    project = s.project("Northwind", "oauth2")
    register(project, site.origin)
    forged = json.dumps({"type": "AccountConnected", "account": {"id": "forged", "provider": "sandbox"}})
    tab.goto(site.put("/", embed(s, project.session("Acme"))))
    view(tab, "form")
    popup = to_popup(tab)
    view(tab, "waiting")
    popup.locator("button[value=allow]").wait_for()
    popup.evaluate(f"opener.postMessage({forged}, '*')")
    tab.evaluate(f"postMessage({forged}, '*'); new BroadcastChannel('oauth_channel').postMessage({forged})")
    tab.wait_for_timeout(1500)
    assert tab.evaluate("events") == [] and tab.locator('[data-view="waiting"]').count() == 1


def test_the_session_token_leaves_the_address_at_once(s: Stage, tab: Page) -> None:
    session = s.project("Northwind", "api_key").session("Acme")
    answer = tab.goto(session.created["auth_link_url"])
    assert answer is not None
    view(tab, "welcome")
    assert session.token not in tab.url and tab.evaluate("history.length") <= 2
    headers = answer.headers
    assert headers["cache-control"] == "no-store" and headers["referrer-policy"] == "no-referrer"
    policy = headers["content-security-policy"]
    assert "unsafe" not in policy and "nonce-" in policy and "frame-ancestors 'self'" in policy
    assert session.token not in tab.content()
    project = s.project("Northwind", "api_key")
    refused(project.http.get(f"/hub/overview?token={session.token}"), 401)
