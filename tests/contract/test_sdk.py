"""The official TypeScript client `@stackone/stackone-client-ts` 4.28.0 against a running hub (contract §9.2)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from tests.contract.client import NodeClient, SdkError
from tests.hub import Hub, Project, ok
from tests.sandbox.harness import Sandbox


@pytest.fixture(scope="module")
def owner(hub: Hub) -> Project:
    """The project of this module's client."""
    return hub.new_project()


@pytest.fixture(scope="module")
def sdk(hub: Hub, owner: Project) -> Iterator[NodeClient]:
    with NodeClient(hub.url, owner.key) as node:
        yield node


@pytest.fixture
def config(owner: Project, provider: Sandbox) -> Iterator[dict[str, Any]]:
    # httpx clients end with each test, so this project gets a fresh one.
    owner.__post_init__()
    made = owner.config("sandbox", "api_key", {"sandbox_url": provider.url})
    yield made


@pytest.fixture
def account(owner: Project, config: dict[str, Any]) -> str:
    return owner.link(config, {"api_key": "sandbox-key-acme"}, "owner-1", multiple=True)


def is_date(value: str) -> bool:
    return datetime.fromisoformat(value).tzinfo is not None


def test_a_connect_session_is_created_and_authenticated(sdk: NodeClient, config: dict[str, Any]) -> None:
    made = sdk.call(
        "connectSessions.createConnectSession",
        originOwnerId="acme",
        originOwnerName="Acme",
        originUsername="jane",
        provider="sandbox",
        categories=["hris"],
        expiresIn=600,
        metadata={"a": 1},
        label="Main",
        type="test",
    )
    assert made.http.status == 201 and made.http.headers["content-type"] == "application/json"
    session = made.result["connectSessionTokenAuthLink"]
    assert isinstance(session["id"], int) and isinstance(session["organizationId"], int)  # 4.28 wants a number here
    assert session["token"] and session["authLinkUrl"].startswith("http") and session["token"] in session["authLinkUrl"]
    assert (session["originOwnerId"], session["label"], session["type"]) == ("acme", "Main", "test")
    assert session["categories"] == ["hris"] and is_date(session["createdAt"])
    seen = sdk.call("connectSessions.authenticateConnectSession", token=session["token"])
    assert seen.http.status == 201
    again = seen.result["connectSession"]
    assert again["id"] == session["id"] and again["organizationId"] == session["organizationId"]
    assert "token" not in seen.http.body and "auth_link_url" not in seen.http.body


def test_newer_clients_get_the_organization_as_text(owner: Project, config: dict[str, Any]) -> None:
    body = {"origin_owner_id": "a", "origin_owner_name": "b"}
    for agent, kind in (
        ("speakeasy-sdk/typescript 4.28.0 2.0 1.0 @stackone/stackone-client-ts", int),
        ("speakeasy-sdk/typescript 4.34.1 2.0 1.0 @stackone/stackone-client-ts", str),
        ("curl/8", str),
    ):
        made = ok(owner.http.post("/connect_sessions", json=body, headers={"user-agent": agent}), 201)
        assert isinstance(made["organization_id"], kind), agent
        seen = owner.http.post(
            "/connect_sessions/authenticate", json={"token": made["token"]}, headers={"user-agent": agent}
        )
        assert isinstance(ok(seen, 201)["organization_id"], kind), agent


def test_accounts_are_listed_read_and_changed(sdk: NodeClient, owner: Project, account: str) -> None:
    seen = sdk.call("accounts.getAccount", id=account).result["linkedAccount"]
    assert (seen["id"], seen["provider"], seen["status"], seen["type"]) == (account, "sandbox", "active", "production")
    assert is_date(seen["createdAt"]) and is_date(seen["updatedAt"]) and seen["originOwnerName"] == "owner-1 Inc."
    listed = sdk.call(
        "accounts.listLinkedAccounts", providers=["sandbox", "hubspot"], pageSize=50, originOwnerIds=["owner-1"]
    )
    assert account in [one["id"] for one in listed.result["classes"]]
    assert isinstance(listed.http.body, list)
    assert sdk.call("accounts.listLinkedAccounts", accountIds=[account, "none"]).result["classes"][0]["id"] == account
    assert sdk.call("accounts.listLinkedAccounts", providers=["hubspot"]).result["classes"] == []
    before = owner.account(account)
    changed = sdk.call(
        "accounts.updateAccount",
        id=account,
        patchAccountExternalDto={"originUsername": "joe", "metadata": {"lost": 1}, "credentials": {"lost": 1}},
    )
    assert changed.result["linkedAccount"]["originUsername"] == "joe"
    after = owner.account(account)
    assert after["metadata"] == before["metadata"] and after["type"] == "production"  # `{}` is no change
    assert owner.proxy(account, path="/api/me").status_code == 200
    assert sdk.call("accounts.getAccountMetaInfo", id=account).http.body["provider"] == "sandbox"


def test_the_clients_habitual_type_does_not_flip_a_test_account(
    sdk: NodeClient, owner: Project, config: dict[str, Any]
) -> None:
    account = owner.link(config, {"api_key": "sandbox-key-acme"}, "owner-t", type="test")
    changed = sdk.call("accounts.updateAccount", id=account, patchAccountExternalDto={"originUsername": "joe"})
    assert changed.result["linkedAccount"]["type"] == "test"


def test_an_account_is_deleted(sdk: NodeClient, account: str) -> None:
    gone = sdk.call("accounts.deleteAccount", id=account)
    assert gone.http.status == 200 and gone.result["linkedAccount"]["id"] == account
    with pytest.raises(SdkError) as caught:
        sdk.call("accounts.getAccount", id=account)
    assert (caught.value.name, caught.value.status_code) == ("NotFoundResponse", 404)
    assert account not in [one["id"] for one in sdk.call("accounts.listLinkedAccounts").result["classes"]]


def test_connectors_have_meta(sdk: NodeClient) -> None:
    every = sdk.call("connectors.listConnectorsMeta", include="field_path").http.body
    assert {"sandbox", "hubspot", "github"} <= {one["provider"] for one in every}
    one = sdk.call("connectors.getConnectorMeta", provider="sandbox").http.body
    assert (one["provider_name"], one["category"]) == ("Sandbox", "hris") and one["models"] == {}
    with pytest.raises(SdkError) as caught:
        sdk.call("connectors.getConnectorMeta", provider="nonesuch")
    assert caught.value.name == "NotFoundResponse"


def test_the_proxy(sdk: NodeClient, account: str) -> None:
    request = {"path": "/api/employees?page_size=1", "method": "get", "headers": {"x-mine": "1"}}
    called = sdk.call("proxy.proxyRequest", xAccountId=account, proxyRequestBody=request)
    assert called.http.status == 200
    assert called.http.body["status"] == 200 and len(called.http.body["data"]["employees"]) == 1
    refused = sdk.call("proxy.proxyRequest", xAccountId=account, proxyRequestBody={"path": "/api/status/404"})
    assert refused.http.body["provider_errors"][0]["status"] == 404


def test_actions_are_listed_and_run(sdk: NodeClient, account: str) -> None:
    listed = sdk.call("actions.listActionsMeta", filter={"connectors": "sandbox"}, include=["operation_details"])
    (connector,) = listed.result["actionsMetaPaginated"]["data"]
    assert (connector["key"], connector["name"]) == ("sandbox", "Sandbox")
    assert {a["id"] for a in connector["actions"]} >= {"sandbox_list_employees", "sandbox_create_employee"}
    assert all(a["operationDetails"]["input_schema"]["type"] == "object" for a in connector["actions"])

    def run(action: str, **more: Any) -> dict[str, Any]:
        # This version has no place for the account but the headers of the action.
        called = sdk.call("actions.rpcAction", action=action, headers={"x-account-id": account}, **more)
        assert called.http.status == 200 and called.result["actionsRpcResponse"] is not None
        body: dict[str, Any] = called.http.body
        return body

    first = run("sandbox_list_employees", query={"page_size": 2})
    assert len(first["data"]) == 2
    second = run("sandbox_list_employees", query={"page_size": 2, "next": first["next"]})
    assert second["data"][0]["id"] not in {person["id"] for person in first["data"]}
    one = run("sandbox_get_employee", path={"id": second["data"][0]["id"]})
    assert one["data"] == second["data"][0]
    with pytest.raises(SdkError) as caught:
        run("sandbox_nothing")
    assert caught.value.status_code == 404
    with pytest.raises(SdkError) as caught:
        run("sandbox_get_employee")
    assert caught.value.status_code == 400


def test_mcp_messages(sdk: NodeClient, owner: Project, account: str) -> None:
    options = {"security": {"basic": {"username": owner.key, "password": ""}}}

    def post(method: str, id: Any = None, **params: Any) -> Any:
        message = {"jsonrpc": "2.0", "method": method, "params": params}
        message |= {} if id is None else {"id": id}
        # This version keeps nothing of an answer; what went over the wire tells.
        called = sdk.call("mcp.mcpPost", options, xAccountId=account, jsonRpcMessageDto=message)
        assert called.http.status == 200 and called.http.headers["content-type"] == "application/json"
        return called.http.body["result"]

    # It leaves nothing of `params` and `id` but empty objects: what needs none works.
    tools = {tool["name"] for tool in post("tools/list", {})["tools"]}
    assert "sandbox_list_employees" in tools
    assert post("ping", {}) == {}
    ended = sdk.call("mcp.mcpDelete", options, xAccountId=account, mcpSessionId="none")
    assert ended.http.status == 200
    with pytest.raises(SdkError) as caught:
        sdk.call("mcp.mcpGet", options, xAccountId=account, mcpSessionId="none")
    assert caught.value.status_code == 405
    with pytest.raises(SdkError) as caught:
        wrong = {"security": {"basic": {"username": "v1.local.no.key", "password": ""}}}
        sdk.call(
            "mcp.mcpPost", wrong, xAccountId=account, jsonRpcMessageDto={"jsonrpc": "2.0", "method": "ping", "id": {}}
        )
    assert caught.value.status_code == 401


def test_the_logs(sdk: NodeClient, owner: Project, account: str) -> None:
    sdk.call("proxy.proxyRequest", xAccountId=account, proxyRequestBody={"path": "/api/me"})
    sdk.call("proxy.proxyRequest", xAccountId=account, proxyRequestBody={"path": "/api/status/500"})
    wanted = {"accountIds": account, "success": True, "startDate": "2020-01-01T00:00:00Z"}
    found = sdk.call(
        "requestLogs.listLogs",
        filter=wanted,
        include="step_logs",
        pageSize=10,
        orderBy="duration",
        orderDirection="asc",
    )
    (row,) = found.result["unifiedLogsPaginated"]["data"]
    assert (row["accountId"], row["status"], row["success"], row["provider"]) == (account, 200, True, "sandbox")
    assert is_date(row["startTime"]) and is_date(row["eventDatetime"]) and row["duration"] > 0
    assert row["stepRequests"][0]["status"] == 200
    one = sdk.call("requestLogs.getLog", id=row["requestId"], include="step_logs").http.body["data"]
    assert one["request_id"] == row["requestId"]
    paged = sdk.call("requestLogs.listLogs", filter={"accountIds": account}, pageSize=1)
    assert paged.http.body["next"] and len(paged.http.body["data"]) == 1
    following = sdk.call(
        "requestLogs.listLogs", filter={"accountIds": account}, pageSize=1, next=paged.http.body["next"]
    )
    assert following.http.body["data"][0]["request_id"] != paged.http.body["data"][0]["request_id"]
    steps = sdk.call("requestLogs.listStepLogs", filter={"accountIds": account}).http.body["data"]
    assert sorted(step["status"] for step in steps) == [200, 500]
    platform = sdk.call("requestLogs.listPlatformLogs", filter={"httpMethods": "post"}, pageSize=5).http.body["data"]
    assert platform and {entry["http_method"] for entry in platform} == {"POST"}


def cause(sdk: NodeClient, call: str, **args: Any) -> SdkError:
    with pytest.raises(SdkError) as caught:
        sdk.call(call, **args)
    return caught.value


def test_refusals_are_typed_errors(
    sdk: NodeClient, hub: Hub, owner: Project, config: dict[str, Any], account: str
) -> None:
    proxy = {"call": "proxy.proxyRequest", "xAccountId": account}
    found = {
        "bad": cause(sdk, **{**proxy, "proxyRequestBody": {"path": "//evil/x"}}),
        "missing": cause(sdk, "accounts.getAccount", id="nobody"),
        "log": cause(sdk, "requestLogs.getLog", id="nothing"),
        "moved": cause(sdk, "accounts.updateAccount", id=account, patchAccountExternalDto={"provider": "hubspot"}),
    }
    with NodeClient(hub.url, "v1.local.none.none") as stranger:
        found["stranger"] = cause(stranger, "accounts.listLinkedAccounts")
    key = hub.command("api-key", "create", "--project", owner.id, "--scopes", "platform:read").stdout
    with NodeClient(hub.url, next(word for word in key.split() if word.startswith("v1."))) as reader:
        found["reader"] = cause(reader, "accounts.deleteAccount", id=account)
    ok(owner.http.patch(f"/auth_configs/{config['id']}", json={"active": False}))
    found["inactive"] = cause(sdk, **{**proxy, "proxyRequestBody": {"path": "/api/me"}})
    ok(owner.http.patch(f"/auth_configs/{config['id']}", json={"active": True}))
    expected = {
        "bad": ("BadRequestResponse", 400),
        "missing": ("NotFoundResponse", 404),
        "log": ("NotFoundResponse", 404),
        "moved": ("UnprocessableEntityResponse", 422),
        "stranger": ("UnauthorizedResponse", 401),
        "reader": ("ForbiddenResponse", 403),
        "inactive": ("PreconditionFailedResponse", 412),
    }
    assert {name: (error.name, error.status_code) for name, error in found.items()} == expected
    for error in found.values():
        assert error.data["statusCode"] == error.status_code and error.data["message"]
        assert is_date(error.data["timestamp"])
