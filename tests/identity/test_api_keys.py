"""API keys over the wire: the forms of the header, scopes, disabling, deletion, last use (contract §1)."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mooring.identity.scopes import SCOPES
from tests.hub import BOOTSTRAP_KEY, Hub, Project, client, ok, refused
from tests.rows import query
from tests.servers.ports import free_port


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def ask(hub: Hub, authorization: str | None) -> int:
    headers = {} if authorization is None else {"authorization": authorization}
    return client(hub.url, headers=headers).get("/accounts").status_code


def key_id(project: Project) -> str:
    return project.key.split(".")[2]


FORMS = {
    "Basic with a colon": lambda key: basic(f"{key}:"),
    "Basic without a colon": basic,
    "Basic with a password that is ignored": lambda key: basic(f"{key}:anything:at all"),
    "Basic without the padding": lambda key: basic(f"{key}:").rstrip("="),
    "Basic in another case": lambda key: "bAsIc " + base64.b64encode(key.encode()).decode(),
    "Bearer": lambda key: f"Bearer {key}",
    "Bearer in another case": lambda key: f"bearer {key}",
}

NONSENSE = {
    "no header": lambda key: None,
    "empty header": lambda key: "",
    "the bare key": lambda key: key,
    "Digest": lambda key: f'Digest username="{key}"',
    "Basic with the raw key": lambda key: f"Basic {key}",
    "Basic with garbage": lambda key: "Basic !!!!",
    "Basic that is not UTF-8": lambda key: "Basic " + base64.b64encode(b"\xff\xfe:").decode(),
    "Basic with nothing": lambda key: "Basic",
    "Basic with the key as password": lambda key: basic(f":{key}"),
    "Bearer with nothing": lambda key: "Bearer",
    "one character less": lambda key: f"Bearer {key[:-1]}",
    "one character more": lambda key: f"Bearer {key}x",
    "another secret for the same id": lambda key: f"Bearer {key[:-20]}{'A' * 20}",
    "an unknown id": lambda key: f"Bearer v1.local.{'0' * 16}.{'A' * 43}",
    "very long": lambda key: f"Bearer {'k' * 5000}",
    "a NUL": lambda key: basic("a\0b:"),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_key_is_taken_in_every_usual_form(project: Project, form: str) -> None:
    assert ask(project.hub, FORMS[form](project.key)) == 200


@pytest.mark.parametrize("form", NONSENSE)
def test_anything_else_answers_401_with_a_challenge_and_no_echo(project: Project, form: str) -> None:
    sent = NONSENSE[form](project.key)
    headers = {} if sent is None else {"authorization": sent}
    answer = client(project.hub.url, headers=headers).get("/accounts")
    body = refused(answer, 401, "UnauthorizedError")
    assert answer.headers["www-authenticate"].startswith("Basic realm=")  # RFC 9110 §11.6.1
    assert body["hint"]
    assert project.key[-20:] not in answer.text


def test_the_bootstrap_key_has_all_scopes(hub: Hub) -> None:
    http = client(hub.url, auth=(BOOTSTRAP_KEY, ""))
    ok(http.get("/accounts"))
    ok(http.get("/auth_configs"))


def test_a_made_key_has_the_published_shape_and_only_its_hash_is_stored(project: Project) -> None:
    version, region, id, secret = project.key.split(".")
    assert (version, region) == ("v1", "local")
    assert len(id) == 16 and len(secret) >= 43
    row = query(project.hub, "SELECT * FROM api_keys WHERE id = :id", id=id)[0]
    assert secret not in repr(row)


def wait_for(hub: Hub, authorization: str, status: int, seconds: float = 1.0) -> None:
    end = time.monotonic() + seconds
    while ask(hub, authorization) != status:
        assert time.monotonic() < end, f"still not {status} after {seconds} s"
        time.sleep(0.02)


def test_a_disabled_key_stops_within_a_second_and_can_be_enabled_again(project: Project) -> None:
    warm = f"Bearer {project.key}"
    assert ask(project.hub, warm) == 200
    project.hub.command("api-key", "disable", key_id(project))
    wait_for(project.hub, warm, 401)
    project.hub.command("api-key", "enable", key_id(project))
    wait_for(project.hub, warm, 200)


def test_a_deleted_key_stops_within_a_second_on_every_path(project: Project) -> None:
    warm = f"Bearer {project.key}"
    assert ask(project.hub, warm) == 200
    project.hub.command("api-key", "revoke", key_id(project))
    wait_for(project.hub, warm, 401)
    http = client(project.hub.url, headers={"authorization": warm, "x-account-id": "x"})
    refused(http.get("/proxy/api/me"), 401, "UnauthorizedError")
    refused(http.post("/unified/proxy", json={"path": "/"}), 401, "UnauthorizedError")


def test_a_key_stops_by_itself_at_its_time(project: Project) -> None:
    end = datetime.now(UTC) + timedelta(seconds=4)
    body = {"label": "for a day", "scopes": ["platform:read", "unified:read"], "expires_at": end.isoformat()}
    made = ok(project.http.post("/api_keys", json=body), 201)
    assert datetime.fromisoformat(made["expires_at"]) == end
    warm = f"Bearer {made['key']}"
    assert ask(project.hub, warm) == 200
    http = client(project.hub.url, headers={"authorization": warm, "x-account-id": "x"})
    assert http.get("/proxy/api/me").status_code == 404  # no such account: the key is known on this path, too
    time.sleep(max(0.0, (end - datetime.now(UTC)).total_seconds()) + 0.05)
    for _ in range(2):  # remembered, and not
        told = refused(client(project.hub.url, headers={"authorization": warm}).get("/accounts"), 401)
        assert "expired" in told["message"]
        refused(http.get("/proxy/api/me"), 401, "UnauthorizedError")
        refused(client(project.hub.url, headers={"authorization": basic(made["key"])}).get("/accounts"), 401)
    past = {**body, "expires_at": (datetime.now(UTC) - timedelta(seconds=1)).isoformat()}
    assert refused(project.http.post("/api_keys", json=past), 400)["errors"] == ["expires_at: must be a time to come"]
    refused(project.http.post("/api_keys", json={**body, "expires_at": 4_000_000_000}), 400)
    secret = project.hub.command("api-key", "create", "--project", project.id, "--days", "90").stdout.strip()
    listed = {key["id"]: key["expires_at"] for key in ok(project.http.get("/api_keys"))["data"]}
    stops = datetime.fromisoformat(listed[secret.split(".")[2]])
    assert abs(stops - datetime.now(UTC) - timedelta(days=90)) < timedelta(minutes=5)


# (method, path) → the one scope that it needs. A route that is added must be added here too.
NEEDS = {
    ("POST", "/connect_sessions"): "platform:write",
    ("POST", "/connect_sessions/authenticate"): "platform:write",
    ("GET", "/auth_configs"): "connectors:read",
    ("POST", "/auth_configs"): "connectors:write",
    ("GET", "/auth_configs/x"): "connectors:read",
    ("PATCH", "/auth_configs/x"): "connectors:write",
    ("DELETE", "/auth_configs/x"): "connectors:write",
    ("GET", "/accounts"): "platform:read",
    ("GET", "/accounts/x"): "platform:read",
    ("GET", "/accounts/x/meta"): "platform:read",
    ("PATCH", "/accounts/x"): "platform:write",
    ("DELETE", "/accounts/x"): "platform:write",
    ("GET", "/connectors/meta"): "platform:read",
    ("GET", "/connectors/meta/x"): "platform:read",
    ("GET", "/requests/logs"): "platform:read",
    ("GET", "/requests/logs/x"): "platform:read",
    ("GET", "/owners/export?origin_owner_id=nobody"): "owners:write",
    ("POST", "/owners/erase"): "owners:write",
    ("POST", "/unified/proxy"): "unified:read",
    ("GET", "/proxy/x"): "unified:read",
    ("HEAD", "/proxy/x"): "unified:read",
    ("POST", "/proxy/x"): "unified:write",
    ("PROPFIND", "/proxy/x"): "unified:write",
    ("DELETE", "/proxy/x"): "unified:write",
}


def test_each_route_asks_for_exactly_its_scope(hub: Hub) -> None:
    with_all_but = {scope: hub.new_project(scopes=[s for s in SCOPES if s != scope]) for scope in set(NEEDS.values())}
    with_only = {scope: hub.new_project(scopes=[scope]) for scope in set(NEEDS.values())}
    for (method, path), scope in NEEDS.items():
        more = {"json": {}} if method in {"POST", "PATCH"} else {}
        lacking = with_all_but[scope].http.request(method, path, headers={"x-account-id": "x"}, **more)
        assert lacking.status_code == 403, (method, path, lacking.text)
        if method != "HEAD":
            assert scope in refused(lacking, 403, "ForbiddenError")["message"]
        enough = with_only[scope].http.request(method, path, headers={"x-account-id": "x"}, **more)
        assert enough.status_code in {200, 400, 404}, (method, path, enough.text)


def test_writing_through_the_unified_proxy_needs_the_write_scope(hub: Hub) -> None:
    reader = hub.new_project(scopes=["unified:read"])
    headers = {"x-account-id": "x"}
    refused(reader.http.post("/unified/proxy", json={"method": "post", "path": "/"}, headers=headers), 403)
    refused(reader.http.post("/unified/proxy", json={"method": "get", "path": "/"}, headers=headers), 404)


@pytest.fixture
def small_hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub(tmp_path / "hub", free_port()) as running:
        yield running


def test_the_last_use_of_a_key_is_kept_and_listed(small_hub: Hub) -> None:
    project, idle = small_hub.new_project("used"), small_hub.new_project("idle")
    ok(project.http.get("/accounts"))
    small_hub.stop()  # written in batches; the rest when the process ends
    listed = {line.split("\t")[0]: line for line in small_hub.command("api-key", "list").stdout.splitlines()}
    assert "never used" not in listed[key_id(project)]
    assert "never used" in listed[key_id(idle)]
    assert project.key not in "".join(listed.values())


def test_bootstrap_happens_once(small_hub: Hub) -> None:
    small_hub.stop()
    small_hub.env["MOORING_BOOTSTRAP_API_KEY"] = "another-bootstrap-key-0123456789abcdefgh"
    small_hub.start()
    assert ask(small_hub, basic(f"{BOOTSTRAP_KEY}:")) == 200
    assert ask(small_hub, basic("another-bootstrap-key-0123456789abcdefgh:")) == 401
