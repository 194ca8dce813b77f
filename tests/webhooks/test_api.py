"""Webhooks and events over a running hub's socket."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.conftest import Ports
from tests.hub import Hub, Project, client, ok, refused
from tests.sandbox.harness import Sandbox

HOOK = "https://example.com/hook"


class Inbox:
    """A receiver on a port that the hubs may call."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/hook"
        self.seen: list[tuple[dict[str, str], bytes]] = []
        self.status = 200
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                inbox.seen.append(({n.lower(): v for n, v in self.headers.items()}, body))
                self.send_response(inbox.status)
                self.end_headers()
                self.wfile.write(b"thanks")

            def log_message(self, format: str, *args: object) -> None:
                """Print nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)


@pytest.fixture
def inbox(ports: Ports) -> Iterator[Inbox]:
    inbox = Inbox(ports.spare[5])
    thread = threading.Thread(target=inbox.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield inbox
    inbox.server.shutdown()
    thread.join()
    inbox.server.server_close()


def make(project: Project, url: str = HOOK, **more: Any) -> dict[str, Any]:
    return ok(project.http.post("/webhooks", json={"url": url, **more}), 201)


def test_create_read_change_and_delete(project: Project) -> None:
    made = make(project, description="CRM sync", events=["account.created"])
    assert made["secret"]["secret"].startswith("whsec_") and made["secret"]["active"] is True
    shown = ok(project.http.get(f"/webhooks/{made['id']}"))
    assert shown == {k: v for k, v in made.items() if k != "secret"}
    assert ok(project.http.get("/webhooks")) == {"data": [shown]}
    patched = ok(project.http.patch(f"/webhooks/{made['id']}", json={"enabled": False, "events": []}))
    assert (patched["enabled"], patched["disabled_reason"], patched["events"]) == (False, "by_user", [])
    assert (patched["url"], patched["description"]) == (HOOK, "CRM sync")
    assert ok(project.http.patch(f"/webhooks/{made['id']}", json={"description": None}))["description"] is None
    assert project.http.delete(f"/webhooks/{made['id']}").status_code == 204
    refused(project.http.get(f"/webhooks/{made['id']}"), 404, "NotFoundError")


def test_a_secret_is_shown_once(project: Project) -> None:
    made = make(project)
    secret = made["secret"]["secret"]
    for path in ("/webhooks", f"/webhooks/{made['id']}", f"/webhooks/{made['id']}/secrets"):
        assert secret not in project.http.get(path).text
    assert secret not in project.hub.log()


def test_rotating_a_secret(project: Project) -> None:
    made = make(project)
    secrets = f"/webhooks/{made['id']}/secrets"
    old = made["secret"]["id"]
    refused(project.http.delete(f"{secrets}/{old}"), 409, "ConflictError")
    new = ok(project.http.post(secrets), 201)
    assert new["active"] is False and new["secret"] != made["secret"]["secret"]
    refused(project.http.patch(f"{secrets}/{old}", json={"active": False}), 409)
    assert ok(project.http.patch(f"{secrets}/{new['id']}", json={"active": True}))["active"] is True
    assert project.http.delete(f"{secrets}/{old}").status_code == 204
    assert [s["id"] for s in ok(project.http.get(secrets))["data"]] == [new["id"]]


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ({"url": "http://example.com/hook"}, "url: must be https"),
        ({"url": "https://127.0.0.1/hook"}, "url: is not a public address"),
        ({"url": HOOK, "events": ["account.exploded"]}, "events: there is no event 'account.exploded'"),
        ({"url": HOOK, "colour": "red"}, "colour: Extra inputs are not permitted"),
        ({}, "url: Field required"),
    ],
)
def test_a_wrong_endpoint_is_refused_with_its_fault(project: Project, body: dict[str, Any], fault: str) -> None:
    assert refused(project.http.post("/webhooks", json=body), 400, "ValidationError")["errors"] == [fault]


@pytest.mark.parametrize("body", [{"url": None}, {"events": None}, {"enabled": None}, {"url": "http://example.com"}])
def test_a_wrong_change_is_refused(project: Project, body: dict[str, Any]) -> None:
    made = make(project)
    refused(project.http.patch(f"/webhooks/{made['id']}", json=body), 400, "ValidationError")


def test_a_foreign_endpoint_does_not_exist(project: Project, other_project: Project) -> None:
    made = make(project)
    at = f"/webhooks/{made['id']}"
    secret = made["secret"]["id"]
    event = ok(project.http.post(f"{at}/test"))["id"]
    calls: list[tuple[str, str, Any]] = [
        ("GET", at, None),
        ("PATCH", at, {"enabled": False}),
        ("DELETE", at, None),
        ("GET", f"{at}/secrets", None),
        ("POST", f"{at}/secrets", {}),
        ("PATCH", f"{at}/secrets/{secret}", {"active": True}),
        ("DELETE", f"{at}/secrets/{secret}", None),
        ("POST", f"{at}/test", None),
        ("GET", f"{at}/deliveries", None),
        ("GET", f"{at}/deliveries/{event}", None),
        ("POST", f"{at}/deliveries/{event}/replay", None),
        ("POST", f"{at}/replay", {"since": "2026-01-01T00:00:00Z"}),
    ]
    for method, path, body in calls:
        refused(other_project.http.request(method, path, json=body), 404, "NotFoundError")
    assert ok(other_project.http.get("/webhooks")) == {"data": []}
    assert ok(other_project.http.get("/events"))["data"] == []


def test_scopes(hub: Hub) -> None:
    reader = hub.new_project(scopes=["platform:read"])
    assert ok(reader.http.get("/webhooks")) == {"data": []}
    refused(reader.http.post("/webhooks", json={"url": HOOK}), 403, "ForbiddenError")
    writer = hub.new_project(scopes=["platform:write"])
    make(writer)
    refused(writer.http.get("/webhooks"), 403, "ForbiddenError")
    refused(client(hub.url).get("/events"), 401)


def test_a_test_delivery_tells_how_it_went(project: Project, inbox: Inbox) -> None:
    made = make(project, inbox.url)
    answer = ok(project.http.post(f"/webhooks/{made['id']}/test"))
    assert (answer["status"], answer["event"], answer["last_status"]) == ("delivered", "webhook_endpoint.test", 200)
    ((headers, body),) = inbox.seen
    Webhook(made["secret"]["secret"]).verify(body, headers)
    assert headers["webhook-id"] == answer["id"]
    assert answer["log"][0]["response_body"] == "thanks"
    inbox.status = 500
    assert ok(project.http.post(f"/webhooks/{made['id']}/test"))["status"] == "failed"
    at = f"/webhooks/{made['id']}/deliveries"
    page = ok(project.http.get(at, params={"page_size": 1}))
    assert [d["status"] for d in page["data"]] == ["failed"] and page["next"]
    rest = ok(project.http.get(at, params={"page_size": 1, "next": page["next"]}))
    assert [d["id"] for d in rest["data"]] == [answer["id"]] and rest["next"] is None
    assert [d["id"] for d in ok(project.http.get(at, params={"status": "delivered"}))["data"]] == [answer["id"]]
    assert ok(project.http.get(f"{at}/{answer['id']}")) == answer


def test_events_raised_by_hand_are_delivered(project: Project, provider: Sandbox, inbox: Inbox) -> None:
    config = project.config("sandbox", "api_key", {"sandbox_url": provider.url})
    account = project.link(config, {"api_key": "sandbox-key-acme"})
    made = make(project, inbox.url, events=["auth_config.deleted"])
    answer = project.http.post(
        f"/webhooks/{made['id']}/events",
        headers={"x-account-id": account},
        json=[
            {"event": "account.updated", "record_id": account},
            {"event": "hris_employees.created", "record_id": "e1"},
            {"event": "webhook_endpoint.disabled", "record_id": "x"},
        ],
    )
    assert [item["status"] for item in ok(answer, 207)] == [202, 202, 400]
    _wait(lambda: len(inbox.seen) == 2)
    told = [json.loads(body) for _, body in inbox.seen]
    assert [t["event"] for t in told] == ["account.updated", "hris_employees.created"]
    assert told[0]["provider"] == "sandbox" and told[0]["account_id"] == account
    assert (told[1]["record_type"], told[1]["record_id"]) == ("hris_employees", "e1")
    mine = ok(project.http.get("/events", params={"account_id": account, "event": "hris_employees.created"}))["data"]
    assert [e["record_id"] for e in mine] == ["e1"]
    assert ok(project.http.get("/events", params={"since": "2999-01-01T00:00:00Z"}))["data"] == []


def test_raising_needs_an_account_of_the_project(project: Project, inbox: Inbox) -> None:
    made = make(project, inbox.url)
    body = [{"event": "account.updated", "record_id": "r"}]
    refused(project.http.post(f"/webhooks/{made['id']}/events", json=body), 400, "BadRequestError")
    foreign = project.http.post(f"/webhooks/{made['id']}/events", json=body, headers={"x-account-id": "unknown"})
    refused(foreign, 404, "NotFoundError")


def test_a_delivery_is_replayed_under_its_id(project: Project, inbox: Inbox) -> None:
    made = make(project, inbox.url)
    event = ok(project.http.post(f"/webhooks/{made['id']}/test"))["id"]
    at = f"/webhooks/{made['id']}"
    assert ok(project.http.post(f"{at}/deliveries/{event}/replay"), 202)["status"] == "pending"
    _wait(lambda: len(inbox.seen) == 2)
    assert {headers["webhook-id"] for headers, _ in inbox.seen} == {event}
    started = ok(project.http.post(f"{at}/replay", json={"since": "2026-01-01T00:00:00Z"}), 202)
    assert started["events"] >= 1
    refused(project.http.post(f"{at}/replay", json={"since": "yesterday"}), 400, "ValidationError")


def _wait(condition: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
