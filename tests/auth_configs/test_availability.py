"""A connector that is switched off in a project: no road leads to a new account, those there are go on (002-2)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hub import Project, Session, ok, refused
from tests.sandbox.harness import Sandbox

KEY = {"api_key": "sandbox-key-acme"}
REASON = "Needs the partner agreement; ask Sales"
AT = "/connectors/availability"


def switch(project: Project, key: str = "sandbox", **body: Any) -> dict[str, Any]:
    return ok(project.http.put(f"{AT}/{key}", json={"available": False, "reason": REASON, **body}))


@pytest.fixture
def config(project: Project, provider: Sandbox) -> dict[str, Any]:
    return project.config("sandbox", "api_key", {"sandbox_url": provider.url})


def offered(session: Session) -> list[str]:
    return [i["provider"] for i in ok(session.http.get("/hub/connectors"))["integrations"]]


def test_it_is_listed_with_its_reason_until_it_is_available_again(project: Project, other_project: Project) -> None:
    assert ok(project.http.get(AT)) == {"data": []}
    told = switch(project, reason=f"  {REASON} ")
    assert (told["connector_key"], told["available"], told["reason"]) == ("sandbox", False, REASON)
    assert switch(project, reason="Another one")["reason"] == "Another one"
    assert [row["reason"] for row in ok(project.http.get(AT))["data"]] == ["Another one"]
    assert ok(other_project.http.get(AT)) == {"data": []}
    back = ok(project.http.put(f"{AT}/sandbox", json={"available": True}))
    assert (back["available"], back["reason"], back["changed_at"]) == (True, None, None)
    assert ok(project.http.get(AT)) == {"data": []}
    actions = [(e["action"], e["target_id"]) for e in ok(project.http.get("/audit_log"))["data"]]
    assert actions == [("connector.made_available", "sandbox"), *[("connector.made_unavailable", "sandbox")] * 2]


def test_what_makes_no_sense_is_refused(project: Project) -> None:
    for body in (
        {"available": False},
        {"available": False, "reason": "  "},
        {"available": False, "reason": "x" * 501},
        {},
    ):
        refused(project.http.put(f"{AT}/sandbox", json=body), 400)
    refused(project.http.put(f"{AT}/nothing-like-it", json={"available": False, "reason": "x"}), 404)
    reader = project.hub.new_project(scopes=["connectors:read"])
    ok(reader.http.get(AT))
    refused(reader.http.put(f"{AT}/sandbox", json={"available": True}), 403)


def test_it_can_not_be_set_up(project: Project, other_project: Project) -> None:
    switch(project, "github")
    body = {"connector_key": "github", "authentication_config_key": "token"}
    told = refused(project.http.post("/auth_configs", json=body), 422, "ConnectorUnavailableError")
    assert REASON in told["message"]
    assert ok(project.http.get("/auth_configs"))["total"] == 0
    ok(other_project.http.post("/auth_configs", json=body), 201)


def test_no_session_is_made_for_it_and_the_hub_does_not_show_it(project: Project, config: dict[str, Any]) -> None:
    project.config("github", "token")
    before, named = project.session(), project.session(integration_id=config["id"])
    assert offered(before) == ["github", "sandbox"] or offered(before) == ["sandbox", "github"]
    switch(project)
    owner = {"origin_owner_id": "o", "origin_owner_name": "O"}
    for more in ({"provider": "sandbox"}, {"integration_id": config["id"]}):
        refused(project.http.post("/connect_sessions", json={**owner, **more}), 422, "ConnectorUnavailableError")
    # Sessions that were made before end at the switch too.
    assert offered(before) == ["github"] and offered(named) == []
    assert [c["key"] for c in ok(before.http.get("/hub/overview"))["connectors"]] == ["github"]
    for session in (before, named, project.session()):
        refused(session.http.get(f"/hub/connectors/{config['id']}"), 404)
        refused(session.submit(config["id"], KEY), 404)
        begun = session.http.post("/hub/connection_attempts", json={"integration_id": config["id"], "credentials": {}})
        refused(begun, 404)
    assert ok(project.http.get("/accounts")) == []
    told = {c["provider"]: c["active"] for c in ok(project.http.get("/connectors/meta"))}
    assert (told["github"], told["sandbox"]) == (True, False)
    ok(project.http.put(f"{AT}/sandbox", json={"available": True}))
    ok(named.submit(config["id"], KEY))


def test_an_account_that_is_linked_goes_on_and_can_be_linked_again(project: Project, config: dict[str, Any]) -> None:
    account = project.link(config, KEY)
    switch(project)
    assert project.account(account)["status"] == "active"
    assert project.proxy(account, path="/api/me").status_code == 200
    again = project.session(account_id=account)
    assert offered(again) == ["sandbox"]
    body = {"integration_id": config["id"], "credentials": KEY}
    ok(again.http.patch(f"/hub/accounts/{account}", json=body))
    # So can its owner, in a session that names no account.
    owner = project.session()
    assert [a["id"] for a in ok(owner.http.get("/hub/overview"))["accounts"]] == [account]
    ok(owner.http.patch(f"/hub/accounts/{account}", json=body))
    assert project.proxy(account, path="/api/me").status_code == 200


def test_drafts_are_hidden_until_they_are_asked_for_or_set_up(project: Project) -> None:
    def listed(query: str = "") -> set[str]:
        return {row["provider"] for row in ok(project.http.get(f"/connectors/meta{query}"))}

    assert "iterable" not in listed() and "ashby" in listed()
    assert "iterable" in listed("?include=drafts") and "iterable" in listed("?include=field_path,drafts")
    assert ok(project.http.get("/connectors/meta/iterable"))["release_stage"] == "draft"
    assert project.config("iterable", "api_key")["release_stage"] == "draft"
    assert "iterable" in listed() and "moodle" not in listed()
