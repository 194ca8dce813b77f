"""The page of `mooring demo`: a newcomer links an account by hand and sees the proxied answer; the API key stays away."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.chromium import no_errors, violations
from tests.browser.hub_page import API_KEY, submit, view
from tests.browser.test_hub_flows import consent
from tests.command import clean_env
from tests.test_demo import arguments, read_until


@dataclass(frozen=True)
class Demo:
    """A running demo, by what it printed."""

    site: str
    hub: str
    key: str
    account: str  # of another owner


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder: Path = tmp_path_factory.mktemp("demo")
    process = subprocess.Popen(
        arguments(), env=clean_env(folder), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        shown = read_until(process, "Ctrl-C stops everything.")
        site = re.search(r"Open this page.*?\n\n +(http://127\.0\.0\.1:\d+)/\n", shown, re.DOTALL)
        words = shlex.split(next(line for line in shown.splitlines() if line.lstrip().startswith("curl ")))
        assert site is not None, shown
        key, account, url = words[2].removesuffix(":"), words[4].split(": ")[1], words[5]
        yield Demo(site[1], url.partition("/proxy")[0], key, account)
    finally:
        process.terminate()
        process.wait(20)
        assert process.stdout is not None
        process.stdout.close()


def test_an_account_linked_by_hand_shows_the_proxied_answer(demo: Demo, tab: Page) -> None:
    told: list[str] = []
    tab.on("request", lambda r: told.append(f"{r.url} {r.headers} {r.post_data}"))
    tab.on("response", lambda r: told.append(r.text()) if r.ok and "svg" not in r.headers["content-type"] else None)
    tab.goto(demo.site)
    view(tab, "form")
    tab.locator("[name=api_key]").fill(API_KEY)
    submit(tab)
    view(tab, "done")
    expect(tab.get_by_role("status").filter(has_text="The provider answered 200.")).to_be_visible()
    expect(tab.locator("#people tbody tr")).to_have_count(2)
    account = tab.locator("#account").inner_text()
    headers = {"authorization": f"Bearer {demo.key}", "x-account-id": account}
    same = httpx.get(f"{demo.hub}/proxy/api/employees?page_size=2", headers=headers, trust_env=False)
    tab.get_by_text("The answer as it came").click()
    assert same.json()["employees"][0]["first_name"] in tab.locator("#raw pre").inner_text()
    assert violations(tab) == []
    no_errors(tab)
    assert told and not [text for text in told if demo.key in text]  # the key never reached the browser


def test_another_account_can_be_linked_by_oauth(demo: Demo, tab: Page) -> None:
    tab.goto(demo.site)
    tab.locator("mooring-hub .grid .row").or_(tab.locator('[data-view="form"]')).first.wait_for()
    if tab.locator("mooring-hub .grid .row").count():  # the person has linked one already
        tab.locator("mooring-hub .grid .row").click()
    tab.locator("mooring-hub").get_by_text("OAuth 2.0", exact=False).first.click()
    with tab.expect_popup() as popup:
        tab.get_by_role("button", name="Continue to Sandbox").click()
    consent(popup.value)
    view(tab, "done")
    expect(tab.locator("#people tbody tr")).to_have_count(2)
    tab.get_by_role("button", name="Link another account").click()
    tab.locator('mooring-hub .view:not([data-view="done"])').wait_for()
    no_errors(tab)


def test_only_the_page_itself_may_use_the_key_through_its_backend(demo: Demo) -> None:
    with httpx.Client(base_url=demo.site, headers={"origin": demo.site}, trust_env=False) as http:
        assert http.post("/session", json={}).status_code == 200
        assert http.post("/session", json={}, headers={"origin": "https://evil.example"}).status_code == 403
        assert http.post("/session", json={}, headers={"host": "evil.example"}).status_code == 403
        assert http.get("/", headers={"host": "evil.example"}).status_code == 404
        foreign = http.post("/call", json={"account": demo.account})
        assert foreign.status_code == 422 and "not linked on this page" in foreign.json()["message"]
        assert http.post("/call", json={"account": "../project"}).status_code == 422
        assert http.post("/call", content=b"[").status_code == 502
        assert http.get("/../run.py").status_code == http.get("/run.py").status_code == 404
        policy = http.get("/").headers["content-security-policy"]
        assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
    with httpx.Client(base_url=demo.site, trust_env=False) as http:
        assert http.post("/session", json={}).status_code == 403
