"""Tenants: an id of another project answers exactly like a random one, on every route that takes an id (rule A3)."""

from __future__ import annotations

import json
import re
import secrets
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from mooring.app import create_app
from mooring.settings import load
from tests.hub import Hub, Project, client, ok
from tests.sandbox.harness import Sandbox

KEY = {"api_key": "sandbox-key-acme"}
RANDOM = {
    "account": "GnQoASvosYhE5wJcmmAQs",
    "deleted": "GnQoASvosYhE5wJcmmAQs",
    "config": str(uuid.uuid4()),
    "attempt": str(uuid.uuid4()),
    "log": "01a21020-0a35-7170-a783-91e7c186cf44",
    "key": "0123456789abcdef",
}

BODIES: dict[tuple[str, str], list[dict[str, Any]]] = {
    ("PATCH", "/accounts/{id}"): [{}, {"label": "stolen"}, {"status": "suspended"}, {"type": "nonsense"}],
    ("PATCH", "/auth_configs/{id}"): [{}, {"active": False}, {"default": True}, {"setup": {"sandbox_url": "x"}}],
    ("PATCH", "/hub/accounts/{id}"): [{}, {"credentials": KEY}, {"integration_id": "x", "credentials": KEY}],
}
"""What is sent to a route that changes something; `{}` to all others."""


@dataclass(frozen=True)
class Probe:
    """One request whose `id` is to be filled in, by path, query, header or body."""

    method: str
    path: str
    kind: str  # which sort of ids it takes
    body: dict[str, Any] | None = None
    params: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def send(self, http: httpx.Client, id: str) -> httpx.Response:
        """Send it with this id wherever `{id}` stands."""

        def fill(value: Any) -> Any:
            return json.loads(json.dumps(value).replace("{id}", id))

        more = {"json": fill(self.body)} if self.body is not None else {}
        return http.request(self.method, fill(self.path), params=fill(self.params), headers=fill(self.headers), **more)


_NOT_PROBED = (
    "/connectors/meta/",
    "/connectors/availability/",
    "/organizations/",
    "/projects/",
    "/sessions/",
    "/system/",
)


def routes() -> Iterator[tuple[str, str]]:
    """Every documented route for keys and Hub sessions that takes an id in its path, as the app itself tells.

    Those for people are tried with every role in tests/dashboard/test_people_api.py; those of the catalogue hold no ids.
    """
    described = create_app(load({}), public_url="http://hub.example").api.openapi()
    for path, methods in described["paths"].items():
        if "{" in path and not path.startswith(_NOT_PROBED):
            for method in methods:
                yield method.upper(), re.sub(r"\{[^}]*\}", "{id}", path)


def probes() -> list[Probe]:
    """Routes by themselves with every kind of id, and the ids that travel in bodies, headers and queries."""
    out = []
    for method, path in sorted(routes()):
        bodies = BODIES.get((method, path)) or [{} if method in {"POST", "PATCH", "PUT"} else None]
        out += [Probe(method, path, kind, body) for kind in RANDOM for body in bodies]
    owner = {"origin_owner_id": "o", "origin_owner_name": "O"}
    for kind in RANDOM:
        account = {"headers": {"x-account-id": "{id}"}}
        out += [
            Probe("POST", "/connect_sessions", kind, {**owner, "account_id": "{id}"}),
            Probe("POST", "/connect_sessions", kind, {**owner, "integration_id": "{id}"}),
            Probe("POST", "/connect_sessions", kind, {**owner, "connector_profile_id": "{id}"}),
            Probe("POST", "/hub/accounts", kind, {"integration_id": "{id}", "credentials": KEY}),
            Probe("GET", "/accounts", kind, params={"account_ids": "{id}"}),
            Probe("GET", "/accounts", kind, params={"account_ids": "{id}", "status": "archived,active,inactive"}),
            Probe("GET", "/requests/logs", kind, params={"account_ids": "{id}"}),
            Probe("GET", "/connect/oauth2/{id}", kind, params={"token": "SESSION"}),
            Probe("POST", "/unified/proxy", kind, {"path": "/api/me"}, **account),
            *(Probe(m, "/proxy/api/me", kind, **account) for m in ("GET", "POST", "DELETE", "HEAD", "PROPFIND")),
        ]
    return out


def seen(answer: httpx.Response) -> tuple[int, Any, dict[str, str]]:
    """All that a caller can tell two answers apart by, without what differs between any two requests."""
    headers = {k: v for k, v in answer.headers.items() if k not in {"date", "x-request-id", "connection"}}
    body: Any = answer.content
    if body and answer.headers.get("content-type", "").startswith("application/json"):
        body = answer.json()
        if isinstance(body, dict):
            body = {k: v for k, v in body.items() if k not in {"timestamp", "requestId"}}
    return answer.status_code, body, headers


@pytest.fixture
def foreign(hub: Hub, other_project: Project, provider: Sandbox) -> dict[str, str]:
    """One id of every kind, of another project."""
    config = other_project.config("sandbox", "api_key", {"sandbox_url": provider.url})
    account = other_project.link(config, KEY, owner="a")
    deleted = other_project.link(config, KEY, owner="b")
    ok(other_project.http.delete(f"/accounts/{deleted}"))
    ok(other_project.proxy(account, path="/api/me"))
    attempt = other_project.session().attempt()
    call = other_project.http.get("/accounts")
    return {
        "account": account,
        "deleted": deleted,
        "config": config["id"],
        "attempt": attempt,
        "log": call.headers["x-request-id"],
        "key": other_project.key.split(".")[2],
    }


def state(project: Project) -> Any:
    """All that a project shows of itself."""
    paths = ("/accounts?status=active,archived,suspended,inactive", "/auth_configs")
    return [ok(project.http.get(path)) for path in paths]


def test_foreign_ids_answer_like_random_ones_everywhere(
    project: Project, other_project: Project, foreign: dict[str, str], provider: Sandbox
) -> None:
    project.config("sandbox", "api_key", {"sandbox_url": provider.url})
    token = project.session().token
    both = client(project.hub.url, auth=(project.key, ""), headers={"x-hub-session-token": token})
    before, calls = state(other_project), provider.counters()["api_calls"]
    sent = probes()
    assert len(sent) >= 100
    found: set[int] = set()
    for probe in sent:
        if probe.params.get("token"):
            probe.params["token"] = token
        one, other = probe.send(both, foreign[probe.kind]), probe.send(both, RANDOM[probe.kind])
        if probe.path.startswith("/connect/"):
            one.headers.pop("set-cookie", None)
        assert seen(one) == seen(other), probe
        assert foreign[probe.kind] not in one.text, probe
        found.add(one.status_code)
    assert found <= {200, 400, 404}, found
    assert state(other_project) == before
    assert provider.counters()["api_calls"] == calls


def test_the_routes_that_take_ids_are_probed() -> None:
    """A guard for the guard: the table above comes from the app, and holds the routes that matter."""
    known = set(routes())
    for method, path in (
        ("GET", "/accounts/{id}"),
        ("PATCH", "/accounts/{id}"),
        ("DELETE", "/accounts/{id}"),
        ("GET", "/accounts/{id}/meta"),
        ("GET", "/auth_configs/{id}"),
        ("PATCH", "/auth_configs/{id}"),
        ("DELETE", "/auth_configs/{id}"),
        ("GET", "/hub/connectors/{id}"),
        ("GET", "/hub/accounts/{id}"),
        ("PATCH", "/hub/accounts/{id}"),
        ("GET", "/hub/connection_attempts/{id}"),
        ("DELETE", "/hub/connection_attempts/{id}"),
        ("GET", "/requests/logs/{id}"),
    ):
        assert (method, path) in known


def test_the_same_ids_are_good_for_their_owner(other_project: Project, foreign: dict[str, str]) -> None:
    for path in ("/accounts/{account}", "/accounts/{account}/meta", "/auth_configs/{config}"):
        ok(other_project.http.get(path.format(**foreign)))


def test_the_same_owner_in_two_projects_is_two_accounts(
    project: Project, other_project: Project, provider: Sandbox
) -> None:
    ids = []
    for each in (project, other_project):
        config = each.config("sandbox", "api_key", {"sandbox_url": provider.url})
        ids.append(each.link(config, KEY, owner="shared"))
        assert [a["id"] for a in ok(each.http.get("/accounts"))] == ids[-1:]
    assert ids[0] != ids[1]


ODD = ["%00", "a%00b", "..%2f..", "%2e%2e", "%F0%9F%92%A9", "'%20OR%20'1'='1", "x" * 3000, "%ff%fe"]


@pytest.mark.parametrize("odd", ODD)
def test_odd_ids_are_unknown_and_no_error_of_ours(project: Project, odd: str) -> None:
    session = project.session()
    for method, path in sorted(routes()):
        http = session.http if path.startswith("/hub/") else project.http
        more = {"json": {}} if method in {"PATCH", "POST"} else {}
        answer = http.request(method, path.replace("{id}", odd), **more)
        assert answer.status_code in {400, 404, 405}, (method, path, answer.status_code, answer.text)


NASTY = ["\0", "a\0b", "\ud800", "a\udfff", "\u202e", "𝕏" * 100]


@pytest.mark.parametrize("text", NASTY)
def test_odd_texts_are_kept_or_refused_alike_on_both_databases(project: Project, text: str) -> None:
    kept = 400 if text in NASTY[:4] else 201
    for more in (
        {"origin_owner_id": f"o{text}"},
        {"label": text},
        {"metadata": {"k": [text]}},
        {"metadata": {text: 1}},
    ):
        raw = json.dumps({"origin_owner_id": "o", "origin_owner_name": "O", **more})
        answer = project.http.post("/connect_sessions", content=raw, headers={"content-type": "application/json"})
        assert answer.status_code == kept, answer.text
    raw = json.dumps({"credentials": {f"k{text}": text}})
    headers = {"content-type": "application/json", "x-hub-session-token": project.session().token}
    answer = client(project.hub.url, headers=headers).post("/hub/accounts", content=raw)
    assert answer.status_code == 400, answer.text
    for name in ("account_ids", "origin_owner_id", "providers", "status"):
        answer = project.http.get(f"/accounts?{name}=a%00{secrets.token_hex(2)}")
        assert answer.status_code in {200, 400}, answer.text
    raw = json.dumps({"connector_key": "sandbox", "authentication_config_key": "api_key", "name": f"n{text}"})
    answer = project.http.post("/auth_configs", content=raw, headers={"content-type": "application/json"})
    assert answer.status_code == kept, answer.text
