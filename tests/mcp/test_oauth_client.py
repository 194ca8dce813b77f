"""OAuth at /mcp with the official client: discovery, registration, consent, tokens, refresh, revocation."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata, OAuthToken

from tests.hub import Project, ok
from tests.mcp.oauth import LOOPBACK, answer_of, browser_of, decide, linked, offering, resource
from tests.sandbox.harness import Sandbox

DOCS = Path(__file__).resolve().parents[2] / "docs" / "assistants.md"


class Memory:
    """Where the client keeps what it got."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None
        self.client: OAuthClientInformationFull | None = None
        self.seen: list[str] = []

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens
        self.seen.append(tokens.access_token)

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


class Person:
    """Somebody at a browser who allows what the program asks for."""

    def __init__(self, browser: httpx.Client, accounts: Sequence[str], access: str, signing_in: Any = None) -> None:
        self.browser, self.accounts, self.access, self.signing_in = browser, accounts, access, signing_in
        self.answer: dict[str, str] = {}
        self.asked = 0

    async def open(self, url: str) -> None:
        self.asked += 1
        begun = self.browser.get(url)
        assert begun.status_code == 302, begun.text
        location = begun.headers["location"]
        if self.signing_in is not None:
            location = await self.signing_in(location)
        self.answer = answer_of(decide(self.browser, location, self.accounts, self.access))

    async def come_back(self) -> AuthorizationCodeResult:
        return AuthorizationCodeResult(**self.answer)


def oauth(project: Project, person: Person, memory: Memory, url: str | None = None) -> OAuthClientProvider:
    """The official client's OAuth, as a desktop assistant sets it up."""
    metadata = OAuthClientMetadata(client_name="Test Desk", redirect_uris=[LOOPBACK])  # type: ignore[list-item]
    return OAuthClientProvider(url or resource(project), metadata, memory, person.open, person.come_back)


@asynccontextmanager
async def assistant(provider: OAuthClientProvider, url: str) -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(auth=provider, trust_env=False, timeout=30) as http,
        Client(streamable_http_client(url, http_client=http)) as mcp,
    ):
        yield mcp


async def test_an_assistant_connects_reads_and_stays_connected(project: Project, provider: Sandbox) -> None:
    account = linked(offering(project), provider)
    person, memory = Person(browser_of(project, "owner-1"), [account], "read"), Memory()
    auth = oauth(project, person, memory)
    async with assistant(auth, resource(project)) as mcp:
        names = {tool.name for tool in (await mcp.list_tools()).tools}
        assert "sandbox_list_employees" in names and "sandbox_create_employee" not in names
        people = await mcp.call_tool("sandbox_list_employees", {"query": {"page_size": 2}})
        assert not people.is_error and len(people.structured_content["data"]) == 2
        refused = await mcp.call_tool("sandbox_create_employee", {"body": {"first_name": "Eve"}})
        assert refused.is_error and json.loads(refused.content[0].text)["errorCode"] == "ReadOnlyGrantError"
        assert memory.tokens is not None and memory.tokens.scope == "mcp:read" and memory.tokens.expires_in == 900
        auth.context.token_expiry_time = time.time() - 1
        again = await mcp.call_tool("sandbox_list_employees", {"query": {"page_size": 2}})
        assert not again.is_error and len(memory.seen) == 2 and person.asked == 1
    (grant,) = ok(project.http.get("/mcp/grants", params={"origin_owner_id": "owner-1"}))["data"]
    assert grant["client_name"] == "Test Desk" and grant["account_ids"] == [account] and grant["access"] == "read"
    rows = ok(project.http.get("/requests/logs"))["data"]
    assert {row["action"] for row in rows if row["path"] == "/mcp"} >= {"sandbox_list_employees"}


async def test_several_accounts_of_one_owner_are_told_apart(project: Project, provider: Sandbox) -> None:
    first = linked(offering(project), provider, label="Berlin")
    config = ok(project.http.get("/auth_configs"))["data"][0]
    second = project.link(config, {"api_key": "sandbox-key-acme"}, multiple=True, label="Paris")
    person, memory = Person(browser_of(project, "owner-1"), [first, second], "write"), Memory()
    async with assistant(oauth(project, person, memory), resource(project)) as mcp:
        tools = {tool.name: tool for tool in (await mcp.list_tools()).tools}
        which = tools["sandbox_list_employees"].input_schema["properties"]["linked_account"]
        assert set(which["enum"]) == {first, second} and "Berlin" in which["description"]
        assert "linked_account" in tools["sandbox_list_employees"].input_schema["required"]
        person_ = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@acme.example"}
        made = await mcp.call_tool("sandbox_create_employee", {"linked_account": second, "body": person_})
        assert not made.is_error, made.content
        open_ = await mcp.call_tool("sandbox_list_employees", {})
        assert open_.is_error and "Paris" in open_.content[0].text
    rows = [row for row in ok(project.http.get("/requests/logs"))["data"] if row["path"] == "/mcp"]
    assert {row["account_id"] for row in rows if row["status"] == 200} == {second}


async def test_the_operators_product_signs_its_user_in(
    project: Project, provider: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = linked(offering(project, assistant_login_url="https://app.example.com/assistants"), provider)
    monkeypatch.setenv("HUB", project.hub.url)
    monkeypatch.setenv("KEY", project.key)
    (snippet,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    product: dict[str, Any] = {}
    exec(compile(snippet, str(DOCS), "exec"), product)

    async def signed_in(scope: Any, receive: Any, send: Any) -> None:
        scope["user"] = SimpleNamespace(id="owner-1", name="owner-1 Inc.")
        await product["app"](scope, receive, send)

    async def signing_in(location: str) -> str:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(signed_in)) as at_product:
            sent_on = await at_product.get(location)
        entered = browser.get(sent_on.headers["location"])
        assert entered.status_code == 303, entered.text
        return str(entered.headers["location"])

    browser, memory = browser_of(project), Memory()
    person = Person(browser, [account], "write", signing_in)
    async with assistant(oauth(project, person, memory), resource(project)) as mcp:
        assert "sandbox_delete_employee" in {tool.name for tool in (await mcp.list_tools()).tools}
    assert memory.tokens is not None and memory.tokens.scope == "mcp:read mcp:write"


async def test_the_browsers_link_tells_the_project_where_the_address_does_not(
    project: Project, provider: Sandbox
) -> None:
    account = linked(offering(project), provider)
    person, memory = Person(browser_of(project, "owner-1"), [account], "read"), Memory()
    url = f"{project.hub.url}/mcp?tool-mode=search_execute"
    async with assistant(oauth(project, person, memory, f"{project.hub.url}/mcp"), url) as mcp:
        assert [tool.name for tool in (await mcp.list_tools()).tools] == [
            "sandbox_search_actions",
            "sandbox_execute_action",
        ]
        found = await mcp.call_tool("sandbox_search_actions", {"query": "add a new employee"})
        names = [action["action_name"] for action in found.structured_content["actions"]]
        assert names and "sandbox_create_employee" not in names
        run = await mcp.call_tool("sandbox_execute_action", {"action_name": "sandbox_get_company"})
        assert not run.is_error
