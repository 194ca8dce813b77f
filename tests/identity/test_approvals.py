"""Calls that wait for a person: over REST and MCP, decided in the dashboard, made once."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mooring.identity.scopes import SCOPES
from tests.dashboard.people import Crew, done, recruit
from tests.hub import Hub, Project, ok, refused
from tests.identity.test_limited_keys import KEY, mcp, result, run
from tests.sandbox.harness import Sandbox

DELETE = {"path": {"id": "emp_acme_001"}}


@pytest.fixture
def crew(hub: Hub) -> Crew:
    return recruit(hub)


@pytest.fixture
def owner(crew: Crew) -> Project:
    """The crew's project, with a key of all scopes."""
    made = crew.hub.command("api-key", "create", "--project", crew.project, "--scopes", ",".join(SCOPES))
    return Project(crew.hub, crew.project, made.stdout.strip())


@pytest.fixture
def account(owner: Project, provider: Sandbox) -> str:
    return owner.link(owner.config("sandbox", "api_key", {"sandbox_url": provider.url}), KEY, "owner-1")


@pytest.fixture
def agent(owner: Project) -> Callable[..., Project]:
    def make(approval: str, label: str = "agent") -> Project:
        scopes = ["unified:read", "unified:write", "actions:execute"]
        made = ok(owner.http.post("/api_keys", json={"label": label, "scopes": scopes, "approval": approval}), 201)
        assert made["approval"] == approval
        return Project(owner.hub, owner.id, made["key"])

    return make


def waiting(answer: Any) -> dict[str, Any]:
    """The approval that a refusal names."""
    body = refused(answer, 403, "ApprovalRequiredError")
    shown: dict[str, Any] = body["approval"]
    assert shown["status"] == "pending" and shown["url"].endswith(f"/approvals/{shown['id']}")
    return shown


def test_a_call_that_deletes_waits_is_approved_and_is_made_once(
    crew: Crew, account: str, agent: Callable[..., Project], provider: Sandbox
) -> None:
    key = agent("delete")
    before = provider.counters()
    asked = waiting(run(key, account, "delete_employee", **DELETE))
    assert waiting(run(key, account, "delete_employee", **DELETE))["id"] == asked["id"], "asked once"
    other = waiting(run(key, account, "delete_employee", path={"id": "emp_acme_002"}))
    assert other["id"] != asked["id"], "other arguments are another call"
    assert provider.counters() == before, "nothing has reached the provider"

    page = crew.member.get(f"/dashboard/p/{crew.project}/approvals/{asked['id']}")
    assert "sandbox_delete_employee" in page.text and "emp_acme_001" in page.text and "agent" in page.text
    assert crew.viewer.post(f"/dashboard/p/{crew.project}/approvals/{asked['id']}/approve").status_code == 403
    done(crew.member.post(f"/dashboard/p/{crew.project}/approvals/{asked['id']}/approve"))
    assert crew.member.post(f"/dashboard/p/{crew.project}/approvals/{asked['id']}/reject").status_code == 409

    assert ok(key.http.get(f"/actions/approvals/{asked['id']}"))["status"] == "approved"
    waiting(run(key, account, "delete_employee", path={"id": "emp_acme_002"}))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: run(key, account, "delete_employee", **DELETE), range(8)))
    assert sorted(a.status_code for a in answers) == [200] + [403] * 7, "one approval is one call"
    assert ok(key.http.get(f"/actions/approvals/{asked['id']}"))["status"] == "used"
    entries = ok(Project(crew.hub, crew.project, key.key).http.get("/actions/approvals"))["data"]
    assert [e["status"] for e in entries] == ["pending", "pending", "used"]


def test_what_needs_none_runs_and_raw_changes_are_refused(account: str, agent: Callable[..., Project]) -> None:
    careful, strict = agent("delete"), agent("write")
    assert ok(run(strict, account, "list_employees"))["data"]
    created = {"body": {"first_name": "Ada", "last_name": "Byron", "email": "ada@acme.example"}}
    ok(run(careful, account, "create_employee", **created))
    waiting(run(strict, account, "create_employee", **created))
    for key in (careful, strict):
        assert key.proxy(account, path="/api/me").status_code == 200
        raw = key.http.delete("/proxy/api/employees/emp_acme_001", headers={"x-account-id": account})
        refused(raw, 403, "ApprovalRequiredError")
        wrapped = {"path": "/api/employees/emp_acme_001", "method": "DELETE"}
        answer = key.http.post("/unified/proxy", json=wrapped, headers={"x-account-id": account})
        refused(answer, 403, "ApprovalRequiredError")


def test_over_mcp_a_call_that_waits_is_a_result_that_says_so(
    crew: Crew, account: str, agent: Callable[..., Project]
) -> None:
    key = agent("delete")
    call = {"name": "sandbox_delete_employee", "arguments": DELETE}
    first = result(mcp(key, account, "tools/call", call))
    assert not first.get("isError") and first["structuredContent"]["status"] == "pending_approval"
    id = first["structuredContent"]["approval"]["id"]
    done(crew.admin.post(f"/dashboard/p/{crew.project}/approvals/{id}/reject", {"reason": "she still works here"}))
    second = result(mcp(key, account, "tools/call", call))
    assert second["isError"] and "she still works here" in second["content"][0]["text"]
    assert "ApprovalRejectedError" in second["content"][0]["text"]


def test_a_key_with_approval_cannot_give_itself_more(owner: Project, agent: Callable[..., Project]) -> None:
    answer = owner.http.post("/api_keys", json={"label": "x", "scopes": ["keys:write"], "approval": "delete"})
    refused(answer, 400, "ValidationError")
    answer = owner.http.post("/api_keys", json={"label": "x", "scopes": ["unified:read"], "approval": "sometimes"})
    assert answer.status_code in {400, 422}
    key = agent("delete")
    assert key.http.post("/api_keys", json={"label": "x", "scopes": ["unified:read"]}).status_code == 403


def test_an_approval_belongs_to_its_key_its_project_and_its_account(
    crew: Crew, owner: Project, account: str, agent: Callable[..., Project], project: Project
) -> None:
    key, other = agent("delete"), agent("delete", "another")
    asked = waiting(run(key, account, "delete_employee", **DELETE))
    done(crew.member.post(f"/dashboard/p/{crew.project}/approvals/{asked['id']}/approve"))
    assert waiting(run(other, account, "delete_employee", **DELETE))["id"] != asked["id"]
    for stranger in (other, project):
        assert stranger.http.get(f"/actions/approvals/{asked['id']}").status_code == 404
        assert stranger.http.get("/actions/approvals/unknown").status_code == 404
    assert crew.stranger.get(f"/dashboard/p/{crew.project}/approvals/{asked['id']}").status_code == 404
    ok(owner.http.delete(f"/accounts/{account}"))
    page = crew.member.get(f"/dashboard/p/{crew.project}/approvals/{asked['id']}")
    assert page.status_code == 200 and "emp_acme_001" not in page.text, "its arguments went with the account's key"


def test_arguments_are_sealed(crew: Crew, account: str, agent: Callable[..., Project], hub: Hub) -> None:
    secret = "Zebra-Quagga-4711-Okapi"
    key = agent("write")
    body = {"first_name": secret, "last_name": "Byron", "email": "ada@acme.example"}
    answer = run(key, account, "create_employee", body=body)
    asked = waiting(answer)
    assert crew.member.get(f"/dashboard/p/{crew.project}/approvals/{asked['id']}").status_code == 200
    if hub.database_url.startswith("sqlite"):
        path = hub.database_url.removeprefix("sqlite:///")
        with sqlite3.connect(path) as db:
            assert secret not in str(db.execute("SELECT * FROM approvals").fetchall())
            assert secret not in str(db.execute("SELECT * FROM events").fetchall())
    assert secret not in hub.log()


def test_events_and_the_audit_log_tell_of_it(
    crew: Crew, owner: Project, account: str, agent: Callable[..., Project]
) -> None:
    asked = waiting(run(agent("delete"), account, "delete_employee", **DELETE))
    done(crew.member.post(f"/dashboard/p/{crew.project}/approvals/{asked['id']}/approve"))
    told = [e for e in ok(owner.http.get("/events"))["data"] if e["event"].startswith("approval.")]
    assert [e["event"] for e in told] == ["approval.approved", "approval.requested"]
    assert told[1]["record_id"] == asked["id"]
    entries = ok(owner.http.get("/audit_log", params={"action": "approval.approved"}))["data"]
    assert entries[0]["target_id"] == asked["id"] and entries[0]["actor_label"]


def test_the_dashboards_form_makes_a_limited_key(crew: Crew) -> None:
    form = {
        "label": "assistant",
        "scope": ["platform:read", "actions:execute", "unified:read"],
        "approval": "write",
        "actions": "sandbox_list_*\nsandbox_get_employee",
    }
    answer = crew.owner.post(f"/dashboard/p/{crew.project}/api-keys", form)
    assert answer.status_code == 200, answer.text
    page = crew.owner.get(f"/dashboard/p/{crew.project}/api-keys").text
    assert "sandbox_list_*, sandbox_get_employee" in page and "before it changes anything" in page
    assert '<span class="sub">actions:execute</span>' in page
