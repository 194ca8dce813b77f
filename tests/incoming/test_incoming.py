"""Providers' webhooks over the socket: verified first, told from their repetitions, passed on signed."""

from __future__ import annotations

import hmac
import json
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.hub import Hub, Project, client, ok, refused
from tests.sandbox.harness import Sandbox
from tests.test_canaries import rows_of


@pytest.fixture
def http(hub: Hub) -> httpx.Client:
    """Somebody outside, without any key."""
    return client(hub.url)


def linked(project: Project, connector: str, owner: str = "owner-1") -> tuple[dict[str, Any], str]:
    config = project.config(connector, "key")
    return config, project.link(config, {"api_key": "sandbox-key-acme"}, owner)


def made(project: Project, **body: Any) -> dict[str, Any]:
    out: dict[str, Any] = ok(project.http.post("/incoming_endpoints", json=body), 201)
    return out


def path_of(hub: Hub, endpoint: dict[str, Any]) -> str:
    assert endpoint["url"].startswith(hub.url + "/external-trigger/")
    return str(endpoint["url"][len(hub.url) :])


def signed(secret: str, body: bytes, delivery: str = "", at: int | None = None) -> dict[str, str]:
    moment = str(int(time.time()) if at is None else at)
    mac = hmac.digest(secret.encode(), moment.encode() + b"." + body, "sha256").hex()
    return {"x-sig": f"v1:{mac}", "x-at": moment, "x-delivery": delivery, "content-type": "application/json"}


def events(project: Project) -> list[dict[str, Any]]:
    listed = ok(project.http.get("/events"))["data"]
    return [e for e in listed if e["event"] == "provider_event.received"]


def test_a_signed_delivery_becomes_an_event_once(
    project: Project, provider: Sandbox, hub: Hub, http: httpx.Client
) -> None:
    _, account = linked(project, "in-signed")
    endpoint = made(project, account_id=account)
    body = json.dumps({"kind": "person.left", "person": 7}).encode()
    headers = signed(endpoint["secret"], body, "d-1")
    for wrong in (
        {},
        {**headers, "x-sig": "v1:" + "0" * 64},
        signed(endpoint["secret"] + "x", body, "d-1"),
        signed(endpoint["secret"], body + b" ", "d-1"),
        signed(endpoint["secret"], body, "d-1", at=int(time.time()) - 3600),
    ):
        refused(http.post(path_of(hub, endpoint), content=body, headers=wrong), 401, "IncomingSignatureError")
    assert events(project) == []
    assert ok(http.post(path_of(hub, endpoint), content=body, headers=headers)) == {"status": "accepted", "events": 1}
    with ThreadPoolExecutor(8) as pool:
        again = list(pool.map(lambda _: http.post(path_of(hub, endpoint), content=body, headers=headers), range(8)))
    assert {a.json()["status"] for a in again} == {"repeated"}
    (event,) = events(project)
    assert event["account_id"] == account and event["record_id"] == "d-1"
    payload = event.get("payload", event)
    assert payload["provider"] == "in-signed" and payload["provider_event_type"] == "person.left"
    assert payload["data"] == {"kind": "person.left", "person": 7}


def test_a_challenge_is_answered_only_when_it_is_signed(
    project: Project, provider: Sandbox, hub: Hub, http: httpx.Client
) -> None:
    _, account = linked(project, "in-signed")
    endpoint = made(project, account_id=account)
    body = b'{"challenge": "say this"}'
    refused(http.post(path_of(hub, endpoint), content=body), 401, "IncomingSignatureError")
    said = http.post(path_of(hub, endpoint), content=body, headers=signed(endpoint["secret"], body))
    assert said.text == "say this" and said.headers["content-type"].startswith("text/plain")
    assert events(project) == []


def test_one_address_serves_all_accounts_of_an_auth_config(
    project: Project, provider: Sandbox, hub: Hub, http: httpx.Client
) -> None:
    config, account = linked(project, "in-signed")
    identity = project.account(account)["provider_account"]["id"]
    endpoint = made(project, integration_id=config["id"], secret="the-providers-own-secret")
    assert endpoint["secret"] == "the-providers-own-secret"
    for company, taken in ((identity, 1), ("nobody", 0)):
        body = json.dumps({"kind": "x", "company": company}).encode()
        answer = http.post(path_of(hub, endpoint), content=body, headers=signed(endpoint["secret"], body, company))
        assert ok(answer)["events"] == taken
    assert [e["account_id"] for e in events(project)] == [account]


def test_several_events_of_one_delivery(project: Project, provider: Sandbox, hub: Hub, http: httpx.Client) -> None:
    config, account = linked(project, "in-many")
    endpoint = made(project, account_id=account)
    headers = {"x-token": endpoint["secret"]}
    body = {"events": [{"id": 1, "kind": "a"}, {"id": 2, "kind": "b"}]}
    assert ok(http.post(path_of(hub, endpoint), json=body, headers=headers))["events"] == 2
    body["events"].append({"id": 3, "kind": "c"})
    assert ok(http.post(path_of(hub, endpoint), json=body, headers=headers))["events"] == 1, "two are known"
    assert sorted(e["record_id"] for e in events(project)) == ["1", "2", "3"]
    refused(http.post(path_of(hub, endpoint), json={"events": 7}, headers=headers), 400, "ValidationError")
    refused(http.post(path_of(hub, endpoint), content=b"{", headers=headers), 400, "ValidationError")
    refused(project.http.post("/incoming_endpoints", json={"integration_id": config["id"]}), 422, None)


def test_addresses_that_lead_nowhere_are_alike(
    project: Project, provider: Sandbox, hub: Hub, http: httpx.Client
) -> None:
    _, account = linked(project, "in-address")
    endpoint = made(project, account_id=account)
    assert endpoint["secret"] is None
    path = path_of(hub, endpoint)
    assert ok(http.post(path, data={"kind": "form"}))["status"] == "accepted"
    bodies = set()
    deleted = made(project, account_id=account)
    assert project.http.delete(f"/incoming_endpoints/{deleted['id']}").status_code == 204
    for other in (
        path.replace("in-address", "in-signed"),
        path.partition("?")[0],
        f"/external-trigger/in-address?externalTriggerToken={secrets.token_hex(16)}",
        path_of(hub, deleted),
    ):
        answer = http.post(other, json={})
        assert answer.status_code == 404
        bodies.add(answer.json()["message"])
    assert len(bodies) == 1
    ok(project.http.delete(f"/accounts/{account}"))
    assert http.post(path, json={}).status_code == 404, "the account is gone"


def test_what_is_made_is_checked(project: Project, hub: Hub, provider: Sandbox) -> None:
    _, account = linked(project, "in-none")
    refused(project.http.post("/incoming_endpoints", json={"account_id": account}), 422, None)
    assert project.http.post("/incoming_endpoints", json={}).status_code == 400
    both = {"account_id": account, "integration_id": "x"}
    assert project.http.post("/incoming_endpoints", json=both).status_code == 400
    other = hub.new_project("other")
    _, mine = linked(project, "in-signed", "owner-2")
    assert other.http.post("/incoming_endpoints", json={"account_id": mine}).status_code == 404
    endpoint = made(project, account_id=mine)
    assert other.http.delete(f"/incoming_endpoints/{endpoint['id']}").status_code == 404
    listed = ok(project.http.get("/incoming_endpoints"))["data"]
    token = endpoint["url"].partition("externalTriggerToken=")[2]
    assert [e["id"] for e in listed] == [endpoint["id"]]
    stored = rows_of(hub.database_url)
    for secret in (token, endpoint["secret"]):
        assert secret not in json.dumps(listed) and secret.encode() not in stored and secret not in hub.log()


def test_the_external_trigger_token_that_the_hub_shows_leads_to_the_account(
    project: Project, provider: Sandbox, http: httpx.Client
) -> None:
    config = project.config("in-trigger", "key")
    session = project.session("owner-9", integration_id=config["id"])
    path = f"/external-trigger/in-trigger?externalTriggerToken={session.created['external_trigger_token']}"
    assert http.post(path, json={}).status_code == 404, "nobody is linked yet"
    account = ok(session.submit(config["id"], {"api_key": "sandbox-key-acme"}))["id"]
    assert ok(http.post(path, json={"kind": "job.changed"})) == {"status": "accepted", "events": 1}
    assert [e["account_id"] for e in events(project)] == [account]
