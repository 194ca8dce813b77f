"""The protocol server at /mcp: with the official client, and on the wire (contract §2.8)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.flows.linking import link_sandbox
from tests.hub import Project, client, ok, refused
from tests.sandbox.harness import Sandbox
from tests.servers.redmine import RedmineServer

BOTH = "application/json, text/event-stream"
HELLO = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}


@pytest.fixture
def account(project: Project, provider: Sandbox) -> str:
    return link_sandbox(project, provider)


@asynccontextmanager
async def agent(project: Project, account: str, query: str = "") -> AsyncIterator[Client]:
    """The official client, as an agent would use it."""
    headers = {"x-account-id": account}
    async with httpx2.AsyncClient(auth=(project.key, ""), headers=headers, trust_env=False, timeout=30) as http:
        transport = streamable_http_client(f"{project.hub.url}/mcp{query}", http_client=http)
        async with Client(transport) as mcp:
            yield mcp


def data(result: Any) -> Any:
    assert not result.is_error, result.content[0].text
    assert json.loads(result.content[0].text) == result.structured_content
    return result.structured_content["data"]


def post(project: Project, account: str | None, message: Any, query: str = "", **headers: str) -> Any:
    sent = {"accept": BOTH, **({"x-account-id": account} if account else {}), **headers}
    return project.http.post(f"/mcp{query}", json=message, headers=sent)


def answer(response: Any) -> Any:
    """The message of an answer, which comes as one server-sent event."""
    assert response.status_code == 200, response.text
    if response.headers["content-type"].startswith("application/json"):
        return response.json()
    (line,) = [line for line in response.text.splitlines() if line.startswith("data:") and line[5:].strip()]
    return json.loads(line[5:])


def request(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


async def test_an_agent_lists_tools_and_works_with_people(project: Project, account: str) -> None:
    async with agent(project, account) as mcp:
        tools = {tool.name: tool for tool in (await mcp.list_tools()).tools}
        assert {"sandbox_list_employees", "sandbox_create_employee", "sandbox_delete_employee"} <= set(tools)
        made = tools["sandbox_create_employee"]
        assert made.input_schema["properties"]["body"]["required"] == ["first_name", "last_name", "email"]
        assert tools["sandbox_list_employees"].annotations.read_only_hint is True
        assert tools["sandbox_delete_employee"].annotations.destructive_hint is True
        assert made.annotations.read_only_hint is False and made.annotations.destructive_hint is False
        person = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@acme.example"}
        new = data(await mcp.call_tool("sandbox_create_employee", {"body": person}))
        seen = data(await mcp.call_tool("sandbox_get_employee", {"path": {"id": new["id"]}}))
        assert seen == new
        first = await mcp.call_tool("sandbox_list_employees", {"query": {"page_size": 5}})
        again = {"query": {"page_size": 5, "next": first.structured_content["next"]}}
        second = data(await mcp.call_tool("sandbox_list_employees", again))
        assert len(second) == 5 and second[0]["id"] not in {p["id"] for p in data(first)}
    rows = ok(project.http.get("/requests/logs"))["data"]
    assert {row["action"] for row in rows} == {
        "sandbox_create_employee",
        "sandbox_get_employee",
        "sandbox_list_employees",
    }
    assert {row["path"] for row in rows} == {"/mcp"} and all(row["account_id"] == account for row in rows)


async def test_a_refusal_is_a_result_that_a_model_can_read(project: Project, account: str) -> None:
    async with agent(project, account) as mcp:
        wrong = await mcp.call_tool("sandbox_create_employee", {"body": {"first_name": 1}})
        told = json.loads(wrong.content[0].text)
        assert wrong.is_error and "body.first_name: must be string" in told["errors"]
        missing = await mcp.call_tool("sandbox_get_employee", {"path": {"id": "nobody"}})
        assert missing.is_error and json.loads(missing.content[0].text)["provider_errors"][0]["status"] == 404
        unknown = await mcp.call_tool("sandbox_fire_everybody", {})
        assert unknown.is_error and json.loads(unknown.content[0].text)["errorCode"] == "ActionNotFoundError"


@pytest.mark.parametrize(
    ("style", "arguments"),
    [
        ("nested", {"path": {"id": "ID"}, "body": {"job_title": "Analyst"}}),
        ("nested", {"id": "ID", "job_title": "Analyst"}),
        ("flat_prefixed", {"path_id": "ID", "body_job_title": "Analyst"}),
        ("flat_smart", {"id": "ID", "job_title": "Analyst"}),
    ],
)
async def test_parameters_in_every_style(project: Project, account: str, style: str, arguments: dict[str, Any]) -> None:
    async with agent(project, account, f"?param-style={style}") as mcp:
        tools = {tool.name: tool for tool in (await mcp.list_tools()).tools}
        names = set(tools["sandbox_update_employee"].input_schema["properties"])
        assert names >= set(arguments) or style == "nested"
        listing = {"query": {"page_size": 1}} if style == "nested" else {
            "query_page_size" if style == "flat_prefixed" else "page_size": 1
        }  # fmt: skip
        one = data(await mcp.call_tool("sandbox_list_employees", listing))[0]
        filled = json.loads(json.dumps(arguments).replace('"ID"', json.dumps(one["id"])))
        changed = data(await mcp.call_tool("sandbox_update_employee", filled))
        assert changed == {**one, "job_title": "Analyst"}


async def test_search_and_execute_are_two_tools(project: Project, account: str) -> None:
    async with agent(project, account, "?tool-mode=search_execute") as mcp:
        names = [tool.name for tool in (await mcp.list_tools()).tools]
        assert names == ["sandbox_search_actions", "sandbox_execute_action"]
        found = await mcp.call_tool("sandbox_search_actions", {"query": "who works here"})
        assert not found.is_error
        found = await mcp.call_tool("sandbox_search_actions", {"query": "add a new employee", "top_k": 2})
        best = found.structured_content["actions"][0]
        assert best["action_name"] == "sandbox_create_employee" and "body" in best["parameters"]["properties"]
        run = {"action_name": "sandbox_get_company", "parameters": {}}
        assert data(await mcp.call_tool("sandbox_execute_action", run))["company"] == "Acme"
        assert (await mcp.call_tool("sandbox_execute_action", {})).is_error


async def test_a_file_is_a_resource_and_a_large_one_is_refused(project: Project, account: str) -> None:
    async with agent(project, account) as mcp:
        small = await mcp.call_tool("sandbox_download_bytes", {"path": {"n": 3000}})
        held = small.content[0].resource
        assert held.mime_type == "application/octet-stream" and len(held.blob) == 4000
        large = await mcp.call_tool("sandbox_download_bytes", {"path": {"n": 900_000}})
        assert large.is_error and json.loads(large.content[0].text)["errorCode"] == "ResultTooLargeError"


# On the wire


def test_the_handshake_speaks_old_and_new_versions(project: Project, account: str) -> None:
    for version in ("2025-03-26", "2025-06-18", "2025-11-25"):
        told = answer(post(project, account, request("initialize", **{**HELLO, "protocolVersion": version})))["result"]
        assert told["protocolVersion"] == version and told["serverInfo"]["name"] == "mooring"
        assert "tools" in told["capabilities"]
    begun = post(project, account, {"jsonrpc": "2.0", "method": "notifications/initialized"})
    assert begun.status_code == 202
    assert answer(post(project, account, request("ping")))["result"] == {}
    listed = answer(post(project, account, request("tools/list"), **{"mcp-protocol-version": "2025-06-18"}))
    assert len(listed["result"]["tools"]) >= 8
    for accept in ("application/json", "*/*"):  # no stream is asked for, so none is begun
        plain = post(project, account, request("tools/list"), accept=accept)
        assert plain.headers["content-type"] == "application/json" and plain.json()["result"]["tools"]
    odd = post(project, account, {**request("ping"), "id": {"a": 1}}, accept="application/json").json()
    assert odd == {"jsonrpc": "2.0", "id": {"a": 1}, "result": {}}


def test_the_account_may_stand_in_the_query(project: Project, account: str) -> None:
    assert answer(post(project, None, request("tools/list"), f"?x-account-id={account}"))["result"]["tools"]


def test_who_may_not_is_told_before_the_protocol(project: Project, other_project: Project, account: str) -> None:
    listing = request("tools/list")
    nobody = client(project.hub.url).post("/mcp", json=listing, headers={"accept": BOTH, "x-account-id": account})
    refused(nobody, 401)
    refused(post(project, None, listing), 400)
    refused(post(project, "unknown", listing), 404)
    refused(post(other_project, account, listing), 404)
    refused(post(project, account, listing, "?param-style=odd"), 400)
    refused(post(project, account, listing, "?tool-mode=odd"), 400)
    refused(project.http.get("/mcp", headers={"accept": "text/event-stream", "x-account-id": account}), 405)
    assert project.http.delete("/mcp").status_code == 200
    weak = project.hub.new_project(scopes=["platform:read"])
    refused(post(weak, account, listing), 403)
    bad = post(project, account, None)
    assert bad.status_code == 400


async def test_an_agent_files_a_ticket_at_redmine(project: Project, redmine: RedmineServer) -> None:
    config = project.config("redmine", "api_key")
    account = project.link(config, {"base_url": redmine.base_url, "api_key": redmine.admin_key})
    async with agent(project, account, "?param-style=flat_smart") as mcp:
        new = {"project_id": redmine.PROJECT, "subject": "From an agent"}
        made = data(await mcp.call_tool("redmine_create_issue", new))
        shown = data(await mcp.call_tool("redmine_get_issue", {"id": made["id"]}))
        assert shown["subject"] == "From an agent"
        result = await mcp.call_tool("redmine_delete_issue", {"id": made["id"]})
        assert not result.is_error
