"""Linked accounts over the API: list, change, delete (contract §2.3)."""

from __future__ import annotations

from typing import Any

import pytest

from mooring.identity.scopes import SCOPES
from tests.flows.linking import link, sandbox_config, sandbox_consent
from tests.hub import Hub, Project, ok, refused
from tests.rows import counts, query
from tests.sandbox.harness import Sandbox

KEY = {"api_key": "sandbox-key-acme"}
NPM_4_28 = {"metadata": {}, "credentials": {}, "secrets": {}, "setup_information": {}, "type": "production"}
"""What npm 4.28.0 makes of any change: objects lose their content, and a type is always there."""


@pytest.fixture
def config(project: Project, provider: Sandbox) -> dict[str, Any]:
    return project.config("sandbox", "api_key", {"sandbox_url": provider.url})


def patch(project: Project, account: str, **body: Any) -> Any:
    return project.http.patch(f"/accounts/{account}", json=body)


def test_an_account_has_every_field_of_the_contract(project: Project, config: dict[str, Any]) -> None:
    more = {"origin_username": "ada", "label": "Main", "metadata": {"plan": "gold"}, "type": "test"}
    account = project.link(config, KEY, **more)
    seen = project.account(account)
    assert len(account) == 21
    assert seen["provider"] == "sandbox" and seen["provider_name"] == "Sandbox"
    assert seen["status"] == "active" and seen["status_reasons"] == []
    assert seen["origin_owner_id"] == "owner-1" and seen["origin_owner_name"] == "owner-1 Inc."
    assert {k: seen[k] for k in more} == more
    assert seen["shared"] is False
    assert seen["integration_id"] == seen["connector_profile_id"] == config["id"]
    assert seen["authentication_config_key"] == "api_key" and seen["environment"] == "production"
    for at in ("created_at", "updated_at"):
        assert "T" in seen[at] and seen[at].endswith("Z")
    meta = ok(project.http.get(f"/accounts/{account}/meta"))
    assert meta == {"provider": "sandbox", "category": "hris", "models": {}}


def test_credentials_are_shown_masked_and_only_with_their_scope(hub: Hub, project: Project, provider: Sandbox) -> None:
    config = project.config("sandbox", "api_key", {"sandbox_url": provider.url})
    account = project.link(config, KEY)
    answer = project.http.get(f"/accounts/{account}")
    assert ok(answer)["credentials"] == {"api_key": "__secretvalue:**redacted**acme"}
    assert KEY["api_key"] not in answer.text

    usual = hub.new_project(scopes=[s for s in SCOPES if s != "credentials:read"])
    config = usual.config("sandbox", "api_key", {"sandbox_url": provider.url})
    assert usual.account(usual.link(config, KEY))["credentials"] is None


def test_list_is_a_bare_array_newest_first_with_filters(
    project: Project, config: dict[str, Any], provider: Sandbox
) -> None:
    basic = project.config("redmine", "api_key")
    assert basic["default"]
    a, b, c = (project.link(config, KEY, owner=o) for o in ("a", "b", "c,d"))

    def listed(query: str = "") -> list[str]:
        return [x["id"] for x in ok(project.http.get(f"/accounts{query}"))]

    assert listed() == [c, b, a]
    assert listed("?page_size=2") == [c, b] and listed("?page_size=2&page=2") == [a] and listed("?page=9") == []
    assert set(listed(f"?account_ids={a}&account_ids={b}")) == set(listed(f"?account_ids={a},{b}")) == {a, b}
    assert set(listed("?origin_owner_ids=a&origin_owner_ids=b")) == set(listed("?origin_owner_ids=a,b")) == {a, b}
    assert listed("?origin_owner_ids=c,d") == [c]  # an owner id may hold a comma
    assert listed("?origin_owner_id=c,d") == [c] and listed("?origin_owner_id=a") == [a]
    assert listed("?providers=redmine") == [] and len(listed("?providers=redmine,sandbox")) == 3
    assert len(listed("?providers=redmine&providers=sandbox")) == 3 and listed("?provider=redmine") == []
    ok(patch(project, a, status="suspended"))
    assert listed("?status=suspended") == [a] and listed("?status=active") == [c, b]
    assert set(listed("?status=suspended,active")) == set(listed("?status=suspended&status=active")) == {a, b, c}
    assert listed("?status=nosuch") == []
    for wrong in ("?page=0", "?page_size=0", "?page_size=x", "?page=-1", "?page_size=100000", "?page=nan"):
        refused(project.http.get(f"/accounts{wrong}"), 400, "ValidationError")


def test_what_a_change_changes(project: Project, config: dict[str, Any]) -> None:
    account = project.link(config, KEY, metadata={"plan": "gold"}, label="Old")
    before = project.account(account)
    changed = ok(
        patch(project, account, label="New", metadata={"plan": "tin"}, origin_username="bob", shared=True, type="TEST")
    )
    assert changed["label"] == "New" and changed["metadata"] == {"plan": "tin"}
    assert changed["origin_username"] == "bob" and changed["shared"] is True and changed["type"] == "test"
    assert changed["updated_at"] > before["updated_at"] and changed["created_at"] == before["created_at"]
    assert {**project.account(account), "credentials": None} == changed
    assert ok(patch(project, account, label="", origin_username=""))["label"] is None


@pytest.mark.parametrize("body", [{}, {"label": None, "metadata": None, "type": None}, {"label": {}, **NPM_4_28}])
def test_empty_objects_and_nulls_change_nothing(project: Project, config: dict[str, Any], body: dict[str, Any]) -> None:
    account = project.link(config, KEY, metadata={"plan": "gold"}, label="Old", type="test")
    before = project.account(account)
    after = ok(patch(project, account, **body))
    ignored = {"updated_at", "credentials"}
    assert {k: v for k, v in after.items() if k not in ignored} == {k: v for k, v in before.items() if k not in ignored}


def test_production_beside_anything_else_does_not_flip_a_test_account(project: Project, config: dict[str, Any]) -> None:
    account = project.link(config, KEY, type="test")
    for body in ({"label": "x"}, {"metadata": {}}, {"provider": None}, {"shared": False}, {"credentials": {}}):
        assert ok(patch(project, account, type="production", **body))["type"] == "test", body
    assert ok(patch(project, account, type="production"))["type"] == "production"
    assert ok(patch(project, account, type="test", label="y"))["type"] == "test"


REFUSED = {
    "an unknown type": ({"type": "staging"}, 400),
    "a status that is not ours to set": ({"status": "archived"}, 400),
    "a long label": ({"label": "x" * 501}, 400),
    "an empty owner": ({"origin_owner_id": ""}, 400),
    "metadata as a list": ({"metadata": [1]}, 400),
    "new credentials": ({"credentials": {"api_key": "x"}}, 422),
    "new secrets": ({"secrets": {"api_key": "x"}}, 422),
    "new setup": ({"setup_information": {"x": "y"}}, 422),
    "another config": ({"integration_id": "x", "label": "changed"}, 422),
    "another provider": ({"provider": "hubspot", "label": "changed"}, 422),
    "another method": ({"authentication_config_key": "basic"}, 422),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_change_changes_nothing(project: Project, config: dict[str, Any], case: str) -> None:
    account = project.link(config, KEY)
    before = project.account(account)
    body, status = REFUSED[case]
    refused(patch(project, account, **body), status)
    assert project.account(account) == before


def test_what_is_sent_back_as_it_was_is_no_change(project: Project, config: dict[str, Any]) -> None:
    account = project.link(config, KEY)
    seen = project.account(account)
    same = {k: seen[k] for k in ("provider", "integration_id", "authentication_config_key", "environment")}
    assert ok(patch(project, account, label="New", **same))["label"] == "New"


def test_suspend_stops_calls_before_the_provider_and_resume_restores(
    project: Project, config: dict[str, Any], provider: Sandbox
) -> None:
    account = project.link(config, KEY)
    calls = provider.counters()["api_calls"]
    assert ok(patch(project, account, status="suspended"))["status"] == "suspended"
    refused(project.proxy(account, path="/api/me"), 412, "AccountIntegrationInactiveError")
    assert provider.counters()["api_calls"] == calls
    assert ok(patch(project, account, status="active"))["status"] == "active"
    ok(project.proxy(account, path="/api/me"))


def test_deleting_shreds_the_key_and_keeps_only_a_tombstone(project: Project, config: dict[str, Any]) -> None:
    keep, account = project.link(config, KEY, owner="keep"), project.link(config, KEY)
    assert counts(project.hub, project.id) == {"accounts": 2, "credentials": 2, "data_keys": 2}
    ok(project.proxy(account, path="/api/me"))

    gone = ok(project.http.delete(f"/accounts/{account}"))
    assert gone["id"] == account and gone["status"] == "archived" and gone["integration_id"] is None
    assert counts(project.hub, project.id) == {"accounts": 2, "credentials": 1, "data_keys": 1}
    assert query(project.hub, "SELECT id FROM data_keys WHERE owner_id = :id", id=account) == []
    setup = query(project.hub, "SELECT auth_config_id, owner_slot, setup FROM accounts WHERE id = :id", id=account)[0]
    assert setup[:2] == (None, None) and setup[2] in ({}, "{}")

    refused(project.http.get(f"/accounts/{account}"), 404)
    refused(project.http.delete(f"/accounts/{account}"), 404)
    refused(patch(project, account, label="x"), 404)
    refused(project.proxy(account, path="/api/me"), 404)
    assert [a["id"] for a in ok(project.http.get("/accounts"))] == [keep]
    assert [a["id"] for a in ok(project.http.get("/accounts?status=archived"))] == [account]
    assert len(ok(project.http.get("/accounts?status=archived,active"))) == 2


def test_linking_after_a_delete_makes_a_new_account(project: Project, config: dict[str, Any]) -> None:
    account = project.link(config, KEY)
    ok(project.http.delete(f"/accounts/{account}"))
    assert project.link(config, KEY) != account


def test_a_new_owner_moves_the_account_to_that_owners_slot(project: Project, config: dict[str, Any]) -> None:
    account = project.link(config, KEY, owner="old")
    ok(patch(project, account, origin_owner_id="new", origin_owner_name="new Inc."))
    assert project.link(config, KEY, owner="new") == account
    assert project.link(config, KEY, owner="old") != account


def test_a_new_owner_whose_slot_is_taken_leaves_the_holder_in_place(project: Project, config: dict[str, Any]) -> None:
    first, second = project.link(config, KEY, owner="a"), project.link(config, KEY, owner="b")
    ok(patch(project, second, origin_owner_id="a", origin_owner_name="a Inc."))
    assert project.link(config, KEY, owner="a") == first
    ok(project.http.delete(f"/accounts/{first}"))
    assert project.link(config, KEY, owner="a") == second


def test_an_account_is_tested_when_asked(project: Project, config: dict[str, Any], provider: Sandbox) -> None:
    account = project.link(config, KEY)
    at = f"/accounts/{account}/test"
    calls = provider.counters()["api_calls"]
    assert ok(project.http.post(at))["status"] == "active"
    assert provider.counters()["api_calls"] == calls + 1
    provider.control("settings", {"rate_limit": {"limit": 1, "window_seconds": 60}})
    project.proxy(account, path="/api/me")
    refused(project.http.post(at), 429)
    provider.control("settings", {"rate_limit": None})
    ok(patch(project, account, status="suspended"))
    refused(project.http.post(at), 412)
    refused(project.http.post("/accounts/unknown/test"), 404)


def test_a_test_of_a_revoked_grant_says_why(project: Project, provider: Sandbox) -> None:
    account = link(project, sandbox_config(project, provider), sandbox_consent(provider))
    provider.control("revoke")
    told = refused(project.http.post(f"/accounts/{account}/test"), 422)
    assert told["message"] and told["hint"]
    shown = project.account(account)
    assert shown["status"] == "expired" and shown["status_reasons"][-1]["description"] == told["message"]
    refused(project.http.post(f"/accounts/{account}/test"), 422)
