"""The pages of an assistant's request in chromium: a person opens a link, chooses, allows, and the program gets its code."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.chromium import no_errors, violations, watched
from tests.hub import Hub, Project, ok
from tests.mcp.oauth import Program, linked, offering, resource, tools_of
from tests.sandbox.harness import Sandbox


@pytest.fixture
def project(hubs: Callable[[str], Hub]) -> Project:
    return hubs("sqlite").new_project("Acme Software")


@contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """A desktop program that waits for its code on a port of this machine."""
    seen: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"back in the program")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/callback", seen
        finally:
            server.shutdown()
            thread.join()


def opened(project: Project, page: Page) -> None:
    """Open the owner's link and press its button."""
    body = {"origin_owner_id": "owner-1", "origin_owner_name": "owner-1 Inc."}
    page.goto(ok(project.http.post("/mcp/links", json=body), 201)["url"])
    assert violations(page) == []
    page.get_by_role("button").click()
    expect(page.locator("code")).to_have_text(resource(project))


def test_a_person_lets_a_desktop_program_in(project: Project, provider: Sandbox, tab: Page, tmp_path: Path) -> None:
    account = linked(offering(project), provider, label="Berlin office")
    config = ok(project.http.get("/auth_configs"))["data"][0]
    project.link(config, {"api_key": "sandbox-key-acme"}, multiple=True, label="Paris office")
    opened(project, tab)
    with listening() as (redirect_uri, seen):
        program = Program(project, redirect_uri=redirect_uri)
        tab.goto(f"{project.hub.url}/connect/assistants/authorize?{urlencode(program.asking())}")
        expect(tab.get_by_role("heading", name="Allow Desk to use your accounts?")).to_be_visible()
        assert violations(tab) == []
        tab.get_by_role("button", name="Allow").click()
        expect(tab.get_by_role("alert")).to_have_text("Choose at least one account.")
        tab.get_by_label("Berlin office").check()
        tab.screenshot(path=tmp_path / "consent.png", full_page=True)
        tab.get_by_role("button", name="Allow").click()
        expect(tab.get_by_text("back in the program")).to_be_visible()
    answer = dict(parse_qsl(urlsplit(seen[0]).query))
    tokens = ok(program.redeem(answer["code"]))
    assert "sandbox_list_employees" in tools_of(program.call(tokens["access_token"]))
    (grant,) = ok(project.http.get("/mcp/grants"))["data"]
    assert grant["account_ids"] == [account] and grant["access"] == "read"
    tab.goto(f"{project.hub.url}/connect/assistants")
    tab.screenshot(path=tmp_path / "assistants.png", full_page=True)
    assert violations(tab) == []
    tab.get_by_role("button", name="Disconnect").click()
    expect(tab.get_by_text("No assistant is connected.")).to_be_visible()
    assert program.call(tokens["access_token"]).status_code == 401
    no_errors(tab)


def test_a_program_with_a_scheme_of_its_own_in_german_and_dark(
    project: Project, provider: Sandbox, browser: Browser, tmp_path: Path
) -> None:
    linked(offering(project), provider)
    program = Program(project, redirect_uri="cursor://anysphere.cursor-mcp/oauth/callback")
    profile = browser.new_context(locale="de-DE", color_scheme="dark", viewport={"width": 390, "height": 844})
    try:
        page = watched(profile)
        opened(project, page)
        page.goto(f"{project.hub.url}/connect/assistants/authorize?{urlencode(program.asking(state=None))}")
        expect(page.get_by_role("heading", name="Desk den Zugriff auf Ihre Konten erlauben?")).to_be_visible()
        page.screenshot(path=tmp_path / "einwilligung.png", full_page=True)
        assert violations(page) == []
        page.get_by_label("Lesen und schreiben").check()
        page.get_by_role("button", name="Erlauben").click()
        back = page.get_by_role("link", name="Zurück zu Desk")
        expect(back).to_be_visible()
        answer = dict(parse_qsl(urlsplit(back.get_attribute("href") or "").query))
        assert set(answer) == {"code", "iss"} and ok(program.redeem(answer["code"]))["scope"] == "mcp:read mcp:write"
        no_errors(page)
    finally:
        profile.close()
