"""Auth configs over the API: the default, the delete rule, write-only secrets, disabling (contract §2.5, rows 002-10…22)."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import httpx
import pytest

from tests.hub import Hub, Project, client, ok, refused
from tests.rows import query
from tests.sandbox.harness import Sandbox

KEY = {"api_key": "sandbox-key-acme"}
OAUTH = {"client_id": "my-client", "client_secret": "canary-client-secret-1"}


def defaults(project: Project, connector: str = "sandbox") -> list[str]:
    listed = ok(project.http.get("/auth_configs", params={"connector_key": connector, "page_size": 100}))["data"]
    return [c["id"] for c in listed if c["default"]]


def patch(project: Project, config: dict[str, Any], **body: Any) -> Any:
    return project.http.patch(f"/auth_configs/{config['id']}", json=body)


def delete(project: Project, config: dict[str, Any]) -> Any:
    return project.http.delete(f"/auth_configs/{config['id']}")


def test_a_config_has_every_field_of_the_contract(project: Project) -> None:
    config = project.config("hubspot", "oauth2", OAUTH, name="Ours", environment="sandbox")
    assert config["name"] == "Ours" and config["environment"] == "sandbox"
    assert config["connector_key"] == "hubspot" and config["connector_label"] == "HubSpot"
    assert config["categories"] and config["release_stage"] == "ga"
    assert config["active"] is True and config["default"] is True
    assert config["authentication_config_key"] == "oauth2" and config["authentication_config_label"]
    assert config["callback_url"] == f"{project.hub.url}/connect/oauth2/hubspot/callback"
    assert config["logo_url"] == f"{project.hub.url}/logos/hubspot.svg"
    assert config["created_at"].endswith("Z") and "T" in config["created_at"]
    assert {"connector_version", "connector_pinned_version", "connector_owner"} <= config.keys()
    assert ok(project.http.get(f"/auth_configs/{config['id']}")) == config
    assert client(project.hub.url).get("/logos/hubspot.svg").headers["content-type"].startswith("image/svg")


@pytest.mark.parametrize("asked", [None, False, True])
def test_the_first_config_of_a_connector_is_its_default_whatever_is_asked(project: Project, asked: bool | None) -> None:
    assert project.config("sandbox", "api_key", default=asked)["default"] is True
    assert project.config("ashby", "api_key", default=asked)["default"] is True


def test_a_second_config_is_the_default_only_when_asked(project: Project) -> None:
    first = project.config("sandbox", "api_key")
    assert project.config("sandbox", "basic")["default"] is False
    assert defaults(project) == [first["id"]]
    third = project.config("sandbox", "service_user", default=True)
    assert defaults(project) == [third["id"]]


def test_make_default_moves_the_default(project: Project) -> None:
    first, second = project.config("sandbox", "api_key"), project.config("sandbox", "basic")
    assert ok(patch(project, second, default=True))["default"] is True
    assert defaults(project) == [second["id"]]
    ok(patch(project, second, default=True))
    assert defaults(project) == [second["id"]]
    refused(patch(project, second, default=False), 409, "ConflictError")
    assert ok(patch(project, first, default=False))["default"] is False


@pytest.mark.parametrize("asked", [None, True])
def test_twenty_creates_at_once_give_one_default(hub: Hub, asked: bool | None) -> None:
    for _ in range(4):  # the first of all creations is the one to race for
        project = hub.new_project()
        clients = [client_of(project) for _ in range(20)]
        together = Barrier(20)

        def create(http: httpx.Client, together: Barrier = together) -> int:
            body = {"connector_key": "sandbox", "authentication_config_key": "api_key", "default": asked}
            ok(http.get("/accounts"))
            together.wait(20)
            return http.post("/auth_configs", json=body).status_code

        with ThreadPoolExecutor(20) as pool:
            assert set(pool.map(create, clients)) == {201}
        assert len(defaults(project)) == 1


def test_twenty_make_defaults_at_once_give_one_default(project: Project) -> None:
    configs = [project.config("sandbox", "api_key") for _ in range(20)]

    def promote(config: dict[str, Any]) -> int:
        return client_of(project).patch(f"/auth_configs/{config['id']}", json={"default": True}).status_code

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(promote, configs)) == {200}
    assert len(defaults(project)) == 1


def client_of(project: Project) -> httpx.Client:
    return client(project.hub.url, auth=(project.key, ""))


def test_two_changes_of_a_set_up_at_once_both_stay(project: Project) -> None:
    config = project.config("hubspot", "oauth2", OAUTH)
    changes = [{"client_id": "changed-id"}, {"client_secret": "changed-secret"}, {"scopes": "oauth"}] * 4

    def change(setup: dict[str, str]) -> int:
        return client_of(project).patch(f"/auth_configs/{config['id']}", json={"setup": setup}).status_code

    with ThreadPoolExecutor(12) as pool:
        assert set(pool.map(change, changes)) == {200}
    setup = ok(project.http.get(f"/auth_configs/{config['id']}"))["setup"]
    assert setup == {"client_id": "changed-id", "scopes": ["oauth"]}


def test_the_default_of_several_cannot_be_deleted(project: Project) -> None:
    first, second = project.config("sandbox", "api_key"), project.config("sandbox", "basic")
    refused(delete(project, first), 409, "ConflictError")
    assert delete(project, second).status_code == 204
    assert delete(project, first).status_code == 204  # now it is the only one
    refused(project.http.get(f"/auth_configs/{first['id']}"), 404)
    refused(delete(project, first), 404)


def test_a_config_with_accounts_cannot_be_deleted(project: Project, provider: Sandbox) -> None:
    config = project.config("sandbox", "api_key", {"sandbox_url": provider.url})
    account = project.link(config, KEY)
    body = refused(delete(project, config), 409, "ConflictError")
    assert "accounts" in body["message"]
    ok(project.http.delete(f"/accounts/{account}"))
    assert delete(project, config).status_code == 204


def test_deleting_a_config_shreds_its_key(project: Project) -> None:
    config = project.config("hubspot", "oauth2", OAUTH)
    key = "SELECT count(*) FROM data_keys WHERE owner_id = :id"
    assert query(project.hub, key, id=config["id"]) == [(1,)]
    assert delete(project, config).status_code == 204
    assert query(project.hub, key, id=config["id"]) == [(0,)]


def test_disabling_makes_accounts_inactive_and_stops_their_calls_before_the_provider(
    project: Project, provider: Sandbox
) -> None:
    config = project.config("sandbox", "api_key", {"sandbox_url": provider.url})
    account = project.link(config, KEY)
    ok(project.proxy(account, path="/api/me"))
    calls = provider.counters()["api_calls"]

    assert ok(patch(project, config, active=False))["active"] is False
    assert project.account(account)["status"] == "inactive"
    assert [a["id"] for a in ok(project.http.get("/accounts?status=inactive"))] == [account]
    refused(project.proxy(account, path="/api/me"), 412, "AccountIntegrationInactiveError")
    envelope = project.http.post("/unified/proxy", json={"path": "/api/me"}, headers={"x-account-id": account})
    refused(envelope, 412, "AccountIntegrationInactiveError")
    assert provider.counters()["api_calls"] == calls

    ok(patch(project, config, active=True))
    assert project.account(account)["status"] == "active"
    assert ok(project.http.get("/accounts?status=inactive")) == []
    ok(project.proxy(account, path="/api/me"))


def test_enabling_restores_what_each_account_was(project: Project, provider: Sandbox) -> None:
    config = project.config("sandbox", "api_key", {"sandbox_url": provider.url})
    ids = {s: project.link(config, KEY, owner=s) for s in ("active", "suspended", "error", "expired")}
    ok(project.http.patch(f"/accounts/{ids['suspended']}", json={"status": "suspended"}))
    for status in ("error", "expired"):
        query(project.hub, "UPDATE accounts SET status = :s WHERE id = :id", s=status, id=ids[status])

    ok(patch(project, config, active=False))
    seen = {s: project.account(id)["status"] for s, id in ids.items()}
    assert seen == {"active": "inactive", "suspended": "suspended", "error": "inactive", "expired": "inactive"}
    ok(patch(project, config, active=True))
    assert {s: project.account(id)["status"] for s, id in ids.items()} == {s: s for s in ids}


def test_secrets_of_the_set_up_are_in_no_answer(project: Project) -> None:
    secret = "canary-" + secrets.token_hex(12)
    created = project.http.post(
        "/auth_configs",
        json={
            "connector_key": "hubspot",
            "authentication_config_key": "oauth2",
            "setup": {"client_id": "x", "client_secret": secret},
        },
    )
    id = ok(created, 201)["id"]
    session = project.session(provider="hubspot")
    answers = [
        created,
        project.http.get("/auth_configs"),
        project.http.get(f"/auth_configs/{id}"),
        project.http.patch(f"/auth_configs/{id}", json={"name": "n"}),
        project.http.patch(f"/auth_configs/{id}", json={"setup": {"client_secret": secret + "2"}}),
        project.http.patch(f"/auth_configs/{id}", json={"setup": {"nonsense": secret}}),
        project.http.patch(f"/auth_configs/{id}", json={"setup": [secret]}),
        session.http.get("/hub/connectors"),
        session.http.get(f"/hub/connectors/{id}"),
    ]
    assert all(secret not in a.text for a in answers)
    assert ok(answers[2])["setup"] == {"client_id": "x"} and ok(answers[2])["secrets_set"] is True
    assert secret not in repr(query(project.hub, "SELECT * FROM auth_configs WHERE id = :id", id=id))


def test_a_set_up_is_merged_and_null_removes(project: Project) -> None:
    config = project.config("hubspot", "oauth2", {**OAUTH, "scopes": "one two, one"})
    assert config["setup"]["scopes"] == ["one", "two"]
    merged = ok(patch(project, config, setup={"client_id": " new "}))
    assert merged["setup"] == {"client_id": "new", "scopes": ["one", "two"]} and merged["secrets_set"] is True
    assert ok(patch(project, config, setup={"scopes": None}))["setup"] == {"client_id": "new"}
    body = refused(patch(project, config, setup={"client_secret": None}), 400, "ValidationError")
    assert body["errors"] == ["setup.client_secret is required by this auth method"]
    assert ok(patch(project, config))["setup"] == {"client_id": "new"}


def test_every_fault_of_a_set_up_is_listed_at_once(project: Project) -> None:
    setup = {"clientid": "x", "client_secret": 5, "scopes": [1]}
    body = {"connector_key": "hubspot", "authentication_config_key": "oauth2", "setup": setup}
    faults = refused(project.http.post("/auth_configs", json=body), 400, "ValidationError")["errors"]
    assert [f.split(" ")[0] for f in faults] == [
        "setup.clientid",
        "setup.client_secret",
        "setup.scopes",
        "setup.client_id",
    ]
    assert "client_id, client_secret, scopes" in faults[0]


REFUSED = {
    "an unknown connector": ({"connector_key": "nosuch", "authentication_config_key": "api_key"}, 404),
    "an unknown method": ({"connector_key": "sandbox", "authentication_config_key": "nosuch"}, 422),
    "no method": ({"connector_key": "sandbox"}, 400),
    "an unknown key": ({"connector_key": "sandbox", "authentication_config_key": "api_key", "naem": "x"}, 400),
    "a long name": ({"connector_key": "sandbox", "authentication_config_key": "api_key", "name": "x" * 201}, 400),
    "a bad address": (
        {"connector_key": "sandbox", "authentication_config_key": "api_key", "setup": {"sandbox_url": "ftp://x"}},
        400,
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_creations_leave_nothing_behind(project: Project, case: str) -> None:
    body, status = REFUSED[case]
    refused(project.http.post("/auth_configs", json=body), status)
    assert ok(project.http.get("/auth_configs"))["total"] == 0


def test_null_means_the_usual_value(project: Project) -> None:
    config = project.config("sandbox", "api_key", active=None, default=None, name=None, environment=None)
    assert config["active"] and config["default"] and config["name"] and config["environment"] == "production"


def test_list_filters_and_pages(project: Project) -> None:
    made = [project.config("sandbox", m) for m in ("api_key", "basic", "service_user")]
    hubspot = project.config("hubspot", "oauth2", OAUTH, active=False)

    def listed(**params: Any) -> dict[str, Any]:
        return ok(project.http.get("/auth_configs", params=params))

    whole = listed()
    assert (whole["page"], whole["page_size"], whole["total"]) == (1, 25, 4)
    assert [c["id"] for c in whole["data"]] == [c["id"] for c in [*made, hubspot]]
    assert [c["id"] for c in listed(enabled=False)["data"]] == [hubspot["id"]]
    assert listed(enabled=True, connector_key="sandbox")["total"] == 3
    second = listed(page=2, page_size=3)
    assert second["total"] == 4 and [c["id"] for c in second["data"]] == [hubspot["id"]]
    assert listed(page=3, page_size=3)["data"] == []
    refused(project.http.get("/auth_configs", params={"page": 0}), 400)


def test_configs_are_per_project(project: Project, other_project: Project) -> None:
    project.config("sandbox", "api_key")
    assert ok(other_project.http.get("/auth_configs"))["total"] == 0
    assert other_project.config("sandbox", "api_key")["default"] is True
    assert len(defaults(project)) == 1
