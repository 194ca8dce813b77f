"""Actions over the API (contract §2.7): listed, checked, run through accounts, paged, refused and logged."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from mooring.identity import service
from mooring.identity.scopes import SCOPES
from tests.flows.linking import link_sandbox, on_database
from tests.hub import Project, ok, refused
from tests.sandbox.harness import Sandbox
from tests.servers.redmine import RedmineServer

NEW = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@acme.example", "department": "Engines"}


@pytest.fixture
def account(project: Project, provider: Sandbox) -> str:
    return link_sandbox(project, provider)


def rpc(project: Project, account: str | None, action: str, **body: Any) -> Any:
    headers = {"x-account-id": account} if account else {}
    return project.http.post("/actions/rpc", json={"action": action, **body}, headers=headers)


def run(project: Project, account: str, action: str, **body: Any) -> Any:
    return ok(rpc(project, account, action, **body))


def without_execute(project: Project) -> Project:
    """The same project with a key that may do everything but run actions."""

    async def make(tx: Any) -> str:
        scopes = [scope for scope in SCOPES if scope != "actions:execute"]
        return (await service.create_api_key(tx, project.id, "no actions", scopes)).secret

    return Project(project.hub, project.id, on_database(project.hub, make))


# Running


def test_a_person_is_made_read_changed_and_removed(project: Project, account: str) -> None:
    made = run(project, account, "sandbox_create_employee", body=NEW)["data"]
    assert made["first_name"] == "Ada" and made["status"] == "active"
    at = {"path": {"id": made["id"]}}
    assert run(project, account, "get_employee", **at)["data"] == made
    changed = run(project, account, "sandbox_update_employee", **at, body={"job_title": "Analyst"})["data"]
    assert changed == {**made, "job_title": "Analyst"}
    assert run(project, account, "sandbox_delete_employee", **at) == {"data": None, "next": None}
    gone = refused(rpc(project, account, "sandbox_get_employee", **at), 404, "NotFoundError")
    assert gone["provider_errors"][0]["status"] == 404 and "There is no such employee" in gone["message"]


def test_the_account_may_stand_in_the_body_and_the_name_in_any_spelling(project: Project, account: str) -> None:
    for name in ("get_company", "sandbox_get_company", "sandbox_1.0.0_sandbox_get_company_global"):
        assert ok(rpc(project, None, name, account_id=account))["data"]["company"] == "Acme"
    refused(rpc(project, None, "get_company"), 400)


def test_pages_follow_each_other_to_the_end(project: Project, account: str) -> None:
    seen, next, pages = [], None, 0
    while True:
        query = {"page_size": 20, **({"next": next} if next else {})}
        page = run(project, account, "sandbox_list_employees", query=query)
        seen += [person["id"] for person in page["data"]]
        pages, next = pages + 1, page["next"]
        if next is None:
            break
        assert len(page["data"]) == 20
    everyone = project.proxy(account, path="/api/employees?page_size=100").json()
    assert len(seen) == len(set(seen)) == everyone["total"] and pages == -(-everyone["total"] // 20)
    first = run(project, account, "sandbox_list_employees", query={"page_size": 20})
    again = run(project, account, "sandbox_list_employees", next=first["next"])
    assert [p["id"] for p in again["data"]] == seen[20:40]


@pytest.mark.parametrize(
    "next", ["nonsense", "", "WyJvdGhlciIsIDIsIG51bGxd", "WyJsaXN0X2VtcGxveWVlcyIsICIyIiwgbnVsbF0"]
)
def test_a_position_that_the_action_did_not_give_is_refused(project: Project, account: str, next: str) -> None:
    refused(rpc(project, account, "sandbox_list_employees", next=next), 400, "ValidationError")


def test_a_mapping_gives_the_common_shape(project: Project, account: str) -> None:
    person = run(project, account, "sandbox_list_people", query={"page_size": 1})["data"][0]
    assert person.keys() == {
        "id", "first_name", "last_name", "display_name", "work_email", "employment_status", "start_date",
    }  # fmt: skip
    assert person["display_name"] == f"{person['first_name']} {person['last_name']}"
    assert person["employment_status"] == "active"


def test_steps_use_what_the_ones_before_found(project: Project, account: str) -> None:
    everyone = project.proxy(account, path="/api/employees?page_size=100").json()["employees"]
    department = everyone[0]["department"]
    wanted = {p["id"] for p in everyone if p["department"] == department}
    body = {"from": department, "to": "Harbour"}
    moved = run(project, account, "sandbox_move_department", body=body)["data"]
    assert {p["id"] for p in moved["moved"]} == wanted and moved["count"] == len(wanted)
    assert all(p["department"] == "Harbour" for p in moved["moved"])
    row = ok(project.http.get("/requests/logs?include=step_logs"))["data"][0]
    assert (row["action"], row["service"], row["path"]) == ("sandbox_move_department", "actions", "/actions/rpc")
    methods = [step["http_method"] for step in row["step_requests"]]
    assert methods[0] == "GET" and methods.count("PATCH") == len(wanted)
    nobody = run(project, account, "sandbox_move_department", body={"from": "Nowhere", "to": "x"})["data"]
    assert nobody == {"moved": [], "count": 0}


def test_a_file_comes_as_it_is(project: Project, account: str) -> None:
    answer = rpc(project, account, "sandbox_download_bytes", path={"n": 1000})
    assert answer.status_code == 200 and len(answer.content) == 1000
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")


# Refusing


def test_all_faults_of_the_arguments_are_told_at_once(project: Project, account: str, provider: Sandbox) -> None:
    before = provider.counters()["api_calls"]
    body = {"first_name": 5, "email": "x", "status": "retired", "departmant": "Typo"}
    told = refused(rpc(project, account, "sandbox_create_employee", body=body), 400, "ValidationError")
    assert set(told["errors"]) == {
        "body.first_name: must be string",
        "body.last_name: is required",
        "body.status: must be one of active, inactive",
        "body.departmant: is not an input of this action; did you mean department?",
    }
    refused(rpc(project, account, "sandbox_get_employee"), 400, "ValidationError")
    refused(rpc(project, account, "sandbox_create_employee", body=[1]), 400)
    refused(rpc(project, account, "sandbox_list_employees", query={"page_size": 0}), 400)
    assert provider.counters()["api_calls"] == before


def test_an_unknown_action_names_the_nearest(project: Project, account: str) -> None:
    told = refused(rpc(project, account, "sandbox_list_employes"), 404, "ActionNotFoundError")
    assert "sandbox_list_employees" in told["hint"]
    refused(rpc(project, account, "hubspot_list_contacts"), 404, "ActionNotFoundError")


def test_an_input_adds_no_segment_to_the_path(project: Project, account: str) -> None:
    for hostile in ("../me", "a/b", "a?x=1", "a#b", "%2e%2e%2fme"):
        told = rpc(project, account, "sandbox_get_employee", path={"id": hostile})
        assert told.status_code in {400, 404}, told.text
    rows = ok(project.http.get("/requests/logs?include=step_logs"))["data"]
    urls = [step["url"] for row in rows for step in row["step_requests"]]
    assert all("/api/employees/" in url and url.count("/") == 5 for url in urls)


def test_other_projects_suspended_accounts_and_scopes(project: Project, other_project: Project, account: str) -> None:
    refused(rpc(other_project, account, "get_company"), 404, "NotFoundError")
    refused(rpc(without_execute(project), account, "get_company"), 403)
    ok(project.http.patch(f"/accounts/{account}", json={"status": "suspended"}))
    refused(rpc(project, account, "get_company"), 412)


def test_a_provider_that_limits_is_a_429_with_its_pause(project: Project, account: str, provider: Sandbox) -> None:
    provider.control("settings", {"rate_limit": {"limit": 1, "window_seconds": 30}})
    for _ in range(2):  # from the provider, then from what the hub learned of it
        told = rpc(project, account, "get_company")
        refused(told, 429, "ProviderRateLimitError")
    assert int(told.headers["retry-after"]) >= 1


def test_an_expired_token_is_renewed_on_the_way(project: Project, account: str, provider: Sandbox) -> None:
    provider.control("expire")
    assert run(project, account, "get_company")["data"]["company"] == "Acme"


# Listing and searching


def test_the_list_has_every_field_of_the_contract(project: Project, account: str) -> None:
    listed = ok(project.http.get("/actions", params={"filter[connectors]": "sandbox", "include": "action_details"}))
    (sandbox,) = listed["data"]
    assert sandbox["key"] == "sandbox" and sandbox["account_id"] is None and sandbox["version"] == "1.0.0"
    assert {m["key"] for m in sandbox["authentication"]} >= {"api_key", "oauth2"}
    assert {s["name"] for s in sandbox["scope_definitions"]} >= {"employees:read"}
    actions = {a["id"]: a for a in sandbox["actions"]}
    made = actions["sandbox_create_employee"]
    assert made["label"] == "Create an employee" and made["required_scopes"] == ["employees:write"]
    schema = made["action_details"]["input_schema"]
    assert schema["properties"]["body"]["required"] == ["first_name", "last_name", "email"]
    paged = actions["sandbox_list_employees"]["action_details"]["input_schema"]["properties"]["query"]
    assert paged["properties"].keys() == {"next", "page_size"}
    short = ok(project.http.get("/actions", params={"filter[connectors]": "sandbox"}))["data"][0]
    assert "action_details" not in short["actions"][0]
    bare = ok(project.http.get("/actions", params={"filter[connectors]": "sandbox", "exclude": "actions"}))["data"][0]
    assert "actions" not in bare
    mine = ok(project.http.get("/actions", params={"filter[account_ids]": account}))["data"]
    assert [(c["key"], c["account_id"]) for c in mine] == [("sandbox", account)]
    one = ok(project.http.get("/actions", params={"filter[action_key]": "sandbox_get_company"}))["data"]
    assert [a["id"] for c in one for a in c["actions"]] == ["sandbox_get_company"]


def test_the_list_goes_on_page_by_page(project: Project, other_project: Project, account: str) -> None:
    keys, next = [], None
    while True:
        page = ok(project.http.get("/actions", params={"page_size": 1, **({"next": next} if next else {})}))
        keys += [c["key"] for c in page["data"]]
        if (next := page["next"]) is None:
            break
    assert {"redmine", "sandbox"} <= set(keys) and keys == sorted(set(keys))
    refused(project.http.get("/actions?next=%ff"), 400)
    refused(project.http.get("/actions?page_size=x"), 400)
    assert ok(other_project.http.get("/actions", params={"filter[account_ids]": account}))["data"] == []


def test_the_search_finds_by_meaning(project: Project) -> None:
    found = ok(project.http.post("/actions/search", json={"query": "file a new bug in redmine", "top_k": 3}))
    assert found["results"][0]["action_name"] == "redmine_create_issue"
    first = found["results"][0]
    assert first["id"] == "redmine_1.0.0_redmine_create_issue_global" and 0 < first["similarity_score"] <= 1
    assert first["connector_key"] == "redmine" and first["project_id"] == "global"
    assert found["total_count"] == 3 and "connector_filter" not in found
    people = ok(project.http.post("/actions/search", json={"query": "staff", "connector": "sandbox"}))
    assert "sandbox_list_employees" in {r["action_name"] for r in people["results"]}
    assert people["connector_filter"] == "sandbox"
    nothing = ok(project.http.post("/actions/search", json={"query": "zzzz qqqq"}))
    assert nothing["results"] == [] and nothing["total_count"] == 0
    assert ok(project.http.post("/actions/build", json={}))["status"] == "success"


# A real system


def test_a_ticket_at_redmine(project: Project, redmine: RedmineServer) -> None:
    config = project.config("redmine", "api_key")
    account = project.link(config, {"base_url": redmine.base_url, "api_key": redmine.admin_key})
    new = {"project_id": redmine.PROJECT, "subject": "By an action", "description": "⚓"}
    made = run(project, account, "redmine_create_issue", body=new)["data"]
    at = {"path": {"id": made["id"]}}
    assert run(project, account, "redmine_update_issue", **at, body={"notes": "Seen", "done_ratio": 40})["data"] is None
    shown = run(project, account, "redmine_get_issue", **at)["data"]
    assert (shown["subject"], shown["done_ratio"], shown["journals"][0]["notes"]) == ("By an action", 40, "Seen")
    content = bytes(range(256))
    file = {"content": base64.b64encode(content).decode(), "filename": "plän.bin", "content_type": "application/x-plan"}
    run(project, account, "redmine_attach_file", body={"id": made["id"], **file, "notes": "With the plan"})
    kept = ok(project.proxy(account, path=f"/issues/{made['id']}.json?include=attachments"))["issue"]["attachments"]
    assert [(a["filename"], a["filesize"], a["content_type"]) for a in kept] == [
        ("plän.bin", 256, "application/x-plan")
    ]
    came = project.proxy(account, path=kept[0]["content_url"].removeprefix(redmine.base_url))
    assert came.status_code == 200 and came.content == content
    listed = run(project, account, "redmine_list_issues", query={"status_id": "*", "page_size": 1})
    assert listed["data"][0]["id"] == made["id"]
    names = [p["identifier"] for p in run(project, account, "redmine_list_projects")["data"]]
    assert redmine.PROJECT in names
    wrong = refused(rpc(project, account, "redmine_create_issue", body={**new, "project_id": "nosuch"}), 422)
    assert wrong["provider_errors"][0]["status"] == 422
    run(project, account, "redmine_delete_issue", **at)
    refused(rpc(project, account, "redmine_get_issue", **at), 404)
