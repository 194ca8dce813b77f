"""Mooring inside FastAPI, Starlette and Django, by the snippets of docs/library.md."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from playwright.sync_api import Page, expect

from tests.browser.hub_page import open_link, view
from tests.conftest import Ports
from tests.dashboard.people import PASSWORD
from tests.flows.linking import make_due, refreshes, run_flow, sandbox_config, sandbox_consent, wait_until
from tests.hub import BOOTSTRAP_KEY, Project, _run, client, ok
from tests.library.hosts import PREFIX, Host, snippets
from tests.sandbox.harness import Sandbox
from tests.servers.ports import free_port
from tests.servers.postgres import PostgresServer
from tests.webhooks.receiver import Receiver


@pytest.fixture(scope="module", params=["fastapi", "starlette", "django"])
def host(
    request: pytest.FixtureRequest,
    ports: Ports,
    postgres_server: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Host]:
    framework = str(request.param)
    url = postgres_server.create_database() if framework == "fastapi" else None
    if url is not None:  # the host's own tables, with names that Mooring has too
        postgres_server.sql("CREATE TABLE users (id integer)", url.rsplit("/", 1)[1])
        postgres_server.sql("CREATE TABLE alembic_version (version_num varchar(32))", url.rsplit("/", 1)[1])
    env = {"MOORING_EGRESS_ALLOW": ports.egress_allow}
    made = Host(tmp_path_factory.mktemp(framework), framework, free_port(), database_url=url, env=env)
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def mounted(host: Host) -> Project:
    return Project(host, "", BOOTSTRAP_KEY)  # type: ignore[arg-type] - a host is a hub as far as a project sees


@pytest.fixture(scope="module")
def accounts(host: Host) -> dict[str, str]:
    return {}


def test_an_account_is_linked_by_oauth_and_called(
    mounted: Project, host: Host, provider: Sandbox, accounts: dict[str, str]
) -> None:
    config = sandbox_config(mounted, provider)
    callback = f"{host.url}/connect/oauth2/sandbox/callback"
    assert config["callback_url"] == callback
    session = mounted.session("acme", integration_id=config["id"])
    assert client(host.url).get(session.created["auth_link_url"]).status_code == 200
    assert session.created["auth_link_url"].startswith(f"{host.url}/embedded/integrations?token=")
    seen: list[str] = []

    def consent(location: str) -> str:
        assert parse_qs(urlsplit(location).query)["redirect_uri"] == [callback]
        seen.append(sandbox_consent(provider)(location))
        return seen[-1]

    state = run_flow(session, config, consent)
    assert seen[0].startswith(callback) and state["status"] == "authenticated", state
    accounts["oauth"] = state["account"]["id"]
    people = ok(mounted.proxy(accounts["oauth"], path="/api/employees?page_size=2"))
    assert len(people["employees"]) == 2
    code = parse_qs(urlsplit(seen[0]).query)["code"][0]
    log = host.log()  # uvicorn writes every address that is asked for
    assert "/connect/oauth2/sandbox/callback" in log and code not in log and session.token not in log
    if host.framework == "fastapi":  # of its two processes, one renews what is due
        before = refreshes(provider)
        make_due(host, accounts["oauth"])  # type: ignore[arg-type]
        wait_until(lambda: refreshes(provider) == before + 1, 20)
        assert ok(mounted.proxy(accounts["oauth"], path="/api/employees"))
        assert refreshes(provider) == before + 1


def test_an_account_is_linked_by_a_form_and_acts(mounted: Project, provider: Sandbox, accounts: dict[str, str]) -> None:
    config = sandbox_config(mounted, provider, "api_key")
    accounts["form"] = mounted.link(config, {"api_key": "sandbox-key-acme"}, "umbrella")
    ran = ok(
        mounted.http.post(
            "/actions/rpc",
            json={"action": "sandbox_list_employees", "query": {"page_size": 3}},
            headers={"x-account-id": accounts["form"]},
        )
    )
    assert len(ran["data"]) == 3


def test_an_event_is_delivered(mounted: Project, ports: Ports, accounts: dict[str, str]) -> None:
    _run(_receive(mounted, ports, accounts))


async def _receive(mounted: Project, ports: Ports, accounts: dict[str, str]) -> None:
    receiver = Receiver()
    receiver.port = ports.spare[4]
    async with receiver:
        hook = ok(mounted.http.post("/webhooks", json={"url": receiver.url, "events": ["account.updated"]}), 201)
        ok(mounted.http.patch(f"/accounts/{accounts['form']}", json={"label": "New name"}))
        async with asyncio.timeout(20):
            while not receiver.seen:
                await asyncio.sleep(0.05)
    receiver.seen[0].verify(hook["secret"]["secret"])
    assert receiver.seen[0].json["record_id"] == accounts["form"] and len(receiver.seen) == 1


def test_bodies_stream_through_the_proxy_both_ways(mounted: Project, accounts: dict[str, str]) -> None:
    def pieces() -> Iterator[bytes]:
        for number in range(64):
            yield bytes([number]) * 20_000

    answer = mounted.proxy(accounts["form"], "POST", "/api/echo", content=pieces())
    assert answer.status_code == 200, answer.text
    assert mounted.proxy("nobody").status_code == 404
    assert mounted.http.get("/proxyish").status_code == 404
    head = mounted.proxy(accounts["form"], "HEAD", "/api/employees")
    assert head.status_code == 200 and head.content == b""


def test_an_agent_lists_and_calls_tools(host: Host, accounts: dict[str, str]) -> None:
    _run(_use_tools(host, accounts))


async def _use_tools(host: Host, accounts: dict[str, str]) -> None:
    headers = {"x-account-id": accounts["form"]}
    async with httpx2.AsyncClient(auth=(BOOTSTRAP_KEY, ""), headers=headers, trust_env=False, timeout=30) as http:
        transport = streamable_http_client(f"{host.url}/mcp", http_client=http)
        async with Client(transport) as agent:
            names = {tool.name for tool in (await agent.list_tools()).tools}
            assert "sandbox_list_employees" in names
            called: Any = await agent.call_tool("sandbox_list_employees", {"query": {"page_size": 5}})
    assert len(called.structured_content["data"]) == 5


def links(page: httpx.Response) -> set[str]:
    """What a page loads and leads to, of its own host."""
    found = re.findall(r'\s(?:href|src|hx-get|hx-post)="([^"]+)"', page.text)
    return {urljoin(str(page.url), link).replace("&amp;", "&") for link in found if "://" not in link}


def test_the_dashboard_stays_below_the_prefix(host: Host) -> None:
    browser = client(host.url)
    first = browser.get("/")
    assert first.status_code == 303 and first.headers["location"] == f"{PREFIX}/dashboard"
    away = browser.get(f"{host.site}{PREFIX}/dashboard/profile")
    assert away.headers["location"] == f"{PREFIX}/dashboard/sign-in?next=%2Fdashboard%2Fprofile"
    page = browser.get(f"{host.site}{away.headers['location']}")
    assert page.status_code == 200
    loaded = links(page)
    assert {urlsplit(link).path.rpartition("/")[2] for link in loaded} >= {"dashboard.css", "dashboard.js"}
    for link in loaded:
        assert urlsplit(link).path.startswith(f"{PREFIX}/"), link
        if "/static/" in link:
            assert browser.get(link).status_code == 200, link
    token = re.findall(r"http://\S+/integrations/dashboard/set-up\?token=(\S+)", host.log())[0]
    asked = {"hx-request": "true", "origin": host.site, "sec-fetch-site": "same-origin"}
    person = {"email": "ada@acme.example", "name": "Ada", "password": PASSWORD, "token": token}
    made = browser.post("/dashboard/set-up", data=person, headers=asked)
    assert made.status_code == 204 and made.headers["hx-redirect"] == f"{PREFIX}/dashboard", made.text
    home = client(host.url, cookies=browser.cookies, follow_redirects=True).get("/dashboard")
    assert home.status_code == 200 and "/dashboard/p/" in str(home.url)
    assert all(urlsplit(link).path.startswith(f"{PREFIX}/") for link in links(home) if not link.endswith("#"))
    sections = [link for link in links(home) if re.search(r"/(accounts|logs|webhooks|system|settings)$", link)]
    assert len(sections) >= 4
    for link in sections:
        shown = browser.get(link)
        assert shown.status_code == 200, (link, shown.text[:300])
        assert all(urlsplit(to).path.startswith(f"{PREFIX}/") for to in links(shown)), link
    foreign = browser.post("/dashboard/sign-out", headers={**asked, "origin": "https://other.example"})
    assert foreign.status_code == 403


def test_a_browser_shows_the_hub_and_signs_in(mounted: Project, host: Host, tab: Page) -> None:
    """Scripts and styles find their way below the prefix; a form of the dashboard works."""
    open_link(tab, mounted.session("initech"))
    expect(view(tab, "form").locator(".title")).to_have_text("Connect Sandbox")
    tab.goto(f"{host.url}/dashboard/profile")
    tab.get_by_label("E-mail address").fill("ada@acme.example")
    tab.get_by_label("Password", exact=True).fill(PASSWORD)
    tab.get_by_role("button", name="Sign in", exact=True).click()
    expect(tab).to_have_url(f"{host.url}/dashboard/profile")
    assert tab.evaluate("getComputedStyle(document.querySelector('.panel')).borderTopStyle") == "solid"


def test_the_hubs_page_finds_its_script(mounted: Project, host: Host, accounts: dict[str, str]) -> None:
    page = client(host.url).get(mounted.session("acme").created["auth_link_url"])
    (script,) = [link for link in links(page) if "hub.js" in link]
    assert script.startswith(f"{host.url}/hub.js?v=") and "immutable" in client("").get(script).headers["cache-control"]
    guide = client(host.url).get("/guides/sandbox")
    assert f"{host.url}/logos/sandbox.svg" in links(guide)


def test_the_applications_own_routes_answer(host: Host, mounted: Project) -> None:
    if host.framework == "fastapi":  # a session is made inside the process, by its own client
        made = ok(client(host.site).post("/customers/umbrella/link"))
        assert made["url"].startswith(f"{host.url}/embedded/integrations?token=")
        assert client(host.site).get("/nowhere").json() == {"detail": "Not Found"}
    else:
        own = client(host.site).get("/")
        assert own.status_code == 200 and own.text.startswith("the application's own page"), own.text
    assert mounted.http.get("/nowhere").json()["errorCode"] == "NotFoundError"


def test_it_stops_cleanly(host: Host, postgres_server: PostgresServer) -> None:
    assert host.stop() == 0, host.log()[-3000:]
    log = host.log()
    assert "Traceback" not in log and "was never" not in log and "Warning" not in log, log[-3000:]
    if host.framework == "fastapi":
        tables = postgres_server.sql(
            "SELECT string_agg(tablename, ',' ORDER BY tablename) FROM pg_tables WHERE schemaname = 'public'",
            host.env["DATABASE_URL"].rsplit("/", 1)[1],
        )
        assert tables == "alembic_version,users"


def test_every_snippet_is_used(tmp_path: Path) -> None:
    assert set(snippets()) == {"fastapi", "starlette", "django", "env.py"}
