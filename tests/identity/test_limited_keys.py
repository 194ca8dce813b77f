"""API keys that are limited to some accounts and actions: over the proxy, REST and MCP, and from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.hub import Project, ok, refused
from tests.sandbox.harness import Sandbox

KEY = {"api_key": "sandbox-key-acme"}


@pytest.fixture
def accounts(project: Project, provider: Sandbox) -> tuple[str, str]:
    config = project.config("sandbox", "api_key", {"sandbox_url": provider.url})
    return project.link(config, KEY, "owner-1"), project.link(config, KEY, "owner-2")


@pytest.fixture
def limited(project: Project) -> Callable[..., Project]:
    """The same project, seen through a key with these limits."""

    def make(scopes: list[str], **limits: Any) -> Project:
        made = ok(project.http.post("/api_keys", json={"label": "agent", "scopes": scopes, **limits}), 201)
        assert {name: made[name] for name in limits} == limits
        return Project(project.hub, project.id, made["key"])

    return make


def run(project: Project, account: str, action: str, **more: Any) -> Any:
    return project.http.post("/actions/rpc", json={"action": action, **more}, headers={"x-account-id": account})


def mcp(project: Project, account: str, method: str, params: Any = None, query: str = "") -> Any:
    headers = {"accept": "application/json, text/event-stream", "x-account-id": account}
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
    return project.http.post(f"/mcp{query}", json=message, headers=headers)


def result(answer: Any) -> Any:
    assert answer.status_code == 200, answer.text
    text = answer.text
    if "event-stream" in answer.headers["content-type"]:
        text = next(line[5:] for line in text.splitlines() if line.startswith("data:") and line[5:].strip())
    return json.loads(text)["result"]


def test_a_key_of_one_account_reaches_no_other(
    accounts: tuple[str, str], limited: Callable[..., Project], provider: Sandbox
) -> None:
    mine, other = accounts
    agent = limited(["unified:read", "unified:write", "actions:execute"], allowed_accounts=[mine])
    before = provider.counters()
    for refusal in (
        agent.proxy(other, path="/api/me"),
        agent.http.post("/unified/proxy", json={"path": "/api/me"}, headers={"x-account-id": other}),
        run(agent, other, "list_employees"),
        run(agent, "unknown-account", "list_employees"),
        mcp(agent, other, "tools/list"),
        agent.proxy("unknown-account", path="/api/me"),
    ):
        refused(refusal, 403, "AccountNotAllowedError")
    assert provider.counters() == before
    assert agent.proxy(mine, path="/api/me").status_code == 200
    assert ok(run(agent, mine, "list_employees"))["data"]
    assert len(result(mcp(agent, mine, "tools/list"))["tools"]) > 5


def test_a_key_of_some_actions_runs_no_other(accounts: tuple[str, str], limited: Callable[..., Project]) -> None:
    mine, other = accounts
    agent = limited(["actions:execute"], allowed_actions=["sandbox_list_*", "sandbox_get_employee"])
    for account in (mine, other):
        assert ok(run(agent, account, "list_employees"))["data"]
    assert ok(run(agent, mine, "sandbox_get_employee", path={"id": "emp_acme_001"}))["data"]
    refused(run(agent, mine, "delete_employee", path={"id": "emp_acme_001"}), 403, "ActionNotAllowedError")
    refused(agent.proxy(mine, path="/api/me"), 403)

    names = {tool["name"] for tool in result(mcp(agent, mine, "tools/list"))["tools"]}
    assert "sandbox_list_employees" in names and "sandbox_get_employee" in names
    assert not {n for n in names if not n.startswith("sandbox_list_") and n != "sandbox_get_employee"}
    arguments = {"name": "sandbox_delete_employee", "arguments": {"path": {"id": "emp_acme_001"}}}
    told = result(mcp(agent, mine, "tools/call", arguments))
    assert told["isError"] and "ActionNotAllowedError" in told["content"][0]["text"]

    query = "?tool-mode=search_execute"
    wanted = {"name": "sandbox_search_actions", "arguments": {"query": "delete an employee", "top_k": 50}}
    found = result(mcp(agent, mine, "tools/call", wanted, query))["structuredContent"]["actions"]
    assert found and {f["action_name"] for f in found} <= names
    wanted = {"name": "sandbox_execute_action", "arguments": {"action_name": "sandbox_delete_employee"}}
    assert result(mcp(agent, mine, "tools/call", wanted, query))["isError"]


@pytest.mark.parametrize(
    ("scopes", "limits", "words"),
    [
        (["platform:read"], {"allowed_accounts": ["a"]}, "can't have platform:read"),
        (["keys:write"], {"allowed_actions": ["a_b"]}, "can't have keys:write"),
        (["unified:read"], {"allowed_actions": ["a_b"]}, "can't have unified:read"),
        (["actions:execute"], {"allowed_actions": []}, "at least one action"),
        (["actions:execute"], {"allowed_accounts": []}, "at least one account"),
        (["actions:execute"], {"allowed_actions": ["List employees"]}, "is no action"),
        (["actions:execute"], {"allowed_actions": ["[a-z]*"]}, "is no action"),
    ],
)
def test_limits_that_can_not_be_are_told(project: Project, scopes: list[str], limits: Any, words: str) -> None:
    told = refused(project.http.post("/api_keys", json={"label": "x", "scopes": scopes, **limits}), 400)
    assert any(words in error for error in told["errors"]), told


def test_a_limited_key_opens_nothing_else(accounts: tuple[str, str], limited: Callable[..., Project]) -> None:
    agent = limited(["unified:read", "unified:write", "actions:execute"], allowed_accounts=[accounts[0]])
    for method, path in (
        ("GET", "/accounts"),
        ("GET", f"/accounts/{accounts[0]}"),
        ("POST", "/connect_sessions"),
        ("GET", "/auth_configs"),
        ("GET", "/requests/logs"),
        ("POST", "/api_keys"),
        ("GET", "/project"),
        ("GET", "/webhooks"),
    ):
        refused(agent.http.request(method, path, json={} if method == "POST" else None), 403)


def test_limits_are_listed_and_made_from_the_command_line(
    project: Project, accounts: tuple[str, str], limited: Callable[..., Project]
) -> None:
    limited(["actions:execute"], allowed_actions=["sandbox_*"])
    listed = ok(project.http.get("/api_keys"))["data"]
    assert [k["allowed_actions"] for k in listed] == [None, ["sandbox_*"]]
    assert all(k["allowed_accounts"] is None for k in listed)
    more = ["--account", accounts[0], "--action", "sandbox_get_*"]
    made = project.hub.command("api-key", "create", "--project", project.id, *more).stdout.strip()
    agent = Project(project.hub, project.id, made)
    assert ok(run(agent, accounts[0], "get_employee", path={"id": "emp_acme_001"}))["data"]
    refused(run(agent, accounts[0], "list_employees"), 403, "ActionNotAllowedError")
    refused(run(agent, accounts[1], "get_employee", path={"id": "x"}), 403, "AccountNotAllowedError")
    failed = project.hub.command("api-key", "create", "--project", project.id, "--action", "A B", check=False)
    assert failed.returncode == 2 and "is no action" in failed.stderr
