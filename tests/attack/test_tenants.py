"""Rule S12: the tenant matrix, made from the application's own routes: what is not mine is as if it did not exist.

tests/test_tenancy.py sends the ids of another project to every route and compares with random ones. This is the rest of the
matrix: webhooks and their parts, another owner's account in a connect session, a key that is limited to one account, a
session that is over, a key that is switched off, and what was deleted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import httpx
import pytest

from tests.attack.sizes import long_form
from tests.hub import Hub, Project, client, ok
from tests.rows import query
from tests.sandbox.harness import Sandbox
from tests.test_tenancy import KEY, RANDOM, Probe, probes, routes, seen

EVERY = 1 if long_form() else 4
UNKNOWN = {**RANDOM, "webhook": "wh_AAAAAAAAAAAAAAAAAAAAA", "secret": "AAAAAAAAAAAAAAAAAAAAA"}


@pytest.fixture
def hub(hubs: Callable[[str], Hub]) -> Hub:
    return hubs("sqlite")


@pytest.fixture
def mine(hub: Hub, provider: Sandbox) -> Project:
    project = hub.new_project("mine")
    project.config("sandbox", "api_key", {"sandbox_url": provider.url})
    return project


def compare(http: httpx.Client, sent: list[Probe], id: str, count: Counter[str], what: str) -> None:
    """Each probe with this id answers as with one that never was."""
    for probe in sent:
        one, other = probe.send(http, id), probe.send(http, UNKNOWN[probe.kind])
        for answered in (one, other):
            if probe.path.startswith("/connect/"):
                answered.headers.pop("set-cookie", None)
        assert seen(one) == seen(other), (what, probe, one.text, other.text)
        assert id not in one.text, (what, probe)
        assert one.status_code < 500
        count[what] += 1


def of(kind: str) -> list[Probe]:
    return [probe for probe in probes() if probe.kind == kind and "token" not in probe.params]


def test_what_is_not_mine_is_as_if_it_were_not(
    hub: Hub, mine: Project, provider: Sandbox, report: Callable[[str], None]
) -> None:
    count: Counter[str] = Counter()
    other = hub.new_project("other")
    config = other.config("sandbox", "api_key", {"sandbox_url": provider.url})
    theirs = other.link(config, KEY)
    hook = ok(other.http.post("/webhooks", json={"url": f"{provider.url}/hook"}), 201)
    secret = ok(other.http.get(f"/webhooks/{hook['id']}/secrets"))["data"][0]["id"]
    both = client(hub.url, auth=(mine.key, ""), headers={"x-hub-session-token": mine.session().token})

    # Webhooks of another project, and parts of them under one of my own.
    own = ok(mine.http.post("/webhooks", json={"url": f"{provider.url}/hook"}), 201)["id"]
    hooks = [Probe(m, p, "webhook", {} if m in {"POST", "PATCH"} else None) for m, p in routes() if "/webhooks/" in p]
    compare(both, hooks, hook["id"], count, "webhooks of another project")
    parts = [
        Probe(m, f"/webhooks/{own}/{part}", "secret", {"active": True} if m == "PATCH" else None)
        for m, part in (("PATCH", "secrets/{id}"), ("DELETE", "secrets/{id}"), ("GET", "deliveries/{id}"))
    ]
    compare(both, parts, secret, count, "parts of another project's webhook")

    # The account of another owner of my project, in a connect session; and accounts beside the one of a limited key.
    mine_config = ok(mine.http.get("/auth_configs"))["data"][0]
    first, second = mine.link(mine_config, KEY, owner="a"), mine.link(mine_config, KEY, owner="b")
    session = mine.session("a")
    hub_routes = [probe for probe in of("account") if probe.path.startswith("/hub/accounts/")]
    compare(session.http, hub_routes, second, count, "another owner's account in a session")
    body = {"label": "limited", "scopes": ["unified:read", "actions:execute"], "allowed_accounts": [first]}
    limited = Project(hub, mine.id, ok(mine.http.post("/api_keys", json=body), 201)["key"])
    assert limited.proxy(first, path="/api/me").status_code == 200
    reached = [probe for probe in of("account") if probe.path.startswith(("/proxy", "/unified", "/actions"))]
    reached += [
        Probe("POST", "/actions/rpc", "account", {"action": "sandbox_list_employees"}, headers={"x-account-id": "{id}"})
    ]
    compare(limited.http, reached, second, count, "an account beside those of a limited key")
    compare(limited.http, reached, theirs, count, "another project's account by a limited key")

    # Whoever is nobody any more is nobody everywhere, whatever the id.
    token = mine.session("gone").token
    sql = "UPDATE connect_sessions SET expires_at = '2020-01-01' WHERE origin_owner_id = 'gone'"
    query(hub, sql)
    expired = client(hub.url, headers={"x-hub-session-token": token})
    made = ok(mine.http.post("/api_keys", json={"label": "off", "scopes": ["platform:read"]}), 201)
    ok(mine.http.patch(f"/api_keys/{made['id']}", json={"enabled": False}))
    switched_off = client(hub.url, auth=(made["key"], ""))
    nobody = client(hub.url)
    for what, http in (("an expired session", expired), ("a key that is off", switched_off), ("no key", nobody)):
        for kind, id in (
            ("account", first),
            ("account", theirs),
            ("config", mine_config["id"]),
            ("config", config["id"]),
        ):
            for probe in of(kind)[::EVERY]:
                if (what == "an expired session") != probe.path.startswith("/hub/"):
                    continue
                answered = probe.send(http, id)
                assert answered.status_code == 401, (what, probe, answered.text)
                assert seen(answered) == seen(probe.send(http, UNKNOWN[kind])), (what, probe)
                count[what] += 1

    # Deleted things, by all who could reach them before.
    ok(mine.http.delete(f"/accounts/{second}"))
    compare(mine.http, [p for p in reached if not p.path.startswith("/actions")], second, count, "a deleted account")
    ok(other.http.delete(f"/accounts/{theirs}"))
    everything = [probe for kind in ("account", "config") for probe in of(kind) if not probe.path.startswith("/hub/")]
    for probe in everything[::EVERY]:
        compare(
            both,
            [probe],
            theirs if probe.kind == "account" else config["id"],
            count,
            "another project's, deleted or not",
        )
    report(f"{sum(count.values())} probes of this file: " + ", ".join(f"{n} {what}" for what, n in count.items()))
    assert sum(count.values()) + 2 * len(probes()) >= (
        1000 if long_form() else 750
    )  # tests/test_tenancy.py: two databases
    assert len(count) == 10 and min(count.values()) >= 3
