"""When a call must not go out, or fails on its way: what the caller is told, and that nothing was connected."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from mooring.kit.http import HttpFailure
from mooring.proxy import service
from tests.conftest import Ports
from tests.hub import Hub, Project, client, ok, refused
from tests.proxy.conftest import Linked
from tests.proxy.upstream import Seen, Upstream, answer, upstream_on
from tests.servers.ports import free_port


def last_log(linked: Linked) -> dict[str, object]:
    return ok(linked.project.http.get("/requests/logs?page_size=1"))["data"][0]


def both(linked: Linked, account: str | None) -> list[httpx.Response]:
    headers = {} if account is None else {"x-account-id": account}
    http = linked.project.http
    return [http.get("/proxy/a", headers=headers), http.post("/unified/proxy", json={"path": "/a"}, headers=headers)]


def test_without_an_account_id_it_is_a_bad_request(linked: Linked, upstream: Upstream) -> None:
    for answered in both(linked, None):
        assert "x-account-id" in refused(answered, 400)["message"]
    assert upstream.calls() == []


def test_unknown_and_foreign_accounts_answer_alike(linked: Linked, upstream: Upstream, other_project: Project) -> None:
    foreign = other_project.config("sandbox", "api_key", {"sandbox_url": upstream.url})
    foreign_account = other_project.link(foreign, {"api_key": "a-key-of-another-tenant"})
    bodies = set()
    for account in (foreign_account, "V1StGXR8_Z5jdHi6B-myT", "%00", "' or 1=1 --", "x" * 2000):
        for answered in both(linked, account):
            body = refused(answered, 404, "NotFoundError")
            bodies.add((body["message"], body.get("hint"), tuple(body)))
    assert len(bodies) == 1
    assert upstream.calls() == []


def test_a_deleted_account_answers_like_an_unknown_one(linked: Linked, upstream: Upstream) -> None:
    ok(linked.project.http.delete(f"/accounts/{linked.account}"))
    for answered in both(linked, linked.account):
        refused(answered, 404, "NotFoundError")
    assert upstream.calls() == []


def test_an_account_of_a_disabled_config_does_not_serve(linked: Linked, upstream: Upstream) -> None:
    assert linked(path="/a").status_code == 200
    config = linked.project.account(linked.account)["integration_id"]
    ok(linked.project.http.patch(f"/auth_configs/{config}", json={"active": False}))
    connections = upstream.connections
    upstream.seen.clear()
    for answered in both(linked, linked.account):
        refused(answered, 412, "AccountIntegrationInactiveError")
    assert (upstream.connections, upstream.seen) == (connections, [])
    ok(linked.project.http.patch(f"/auth_configs/{config}", json={"active": True}))
    assert linked(path="/a").status_code == 200


def test_a_suspended_account_does_not_serve(linked: Linked, upstream: Upstream) -> None:
    ok(linked.project.http.patch(f"/accounts/{linked.account}", json={"status": "suspended"}))
    connections = upstream.connections
    upstream.seen.clear()
    for answered in both(linked, linked.account):
        refused(answered, 412, "AccountIntegrationInactiveError")
    assert (upstream.connections, upstream.seen) == (connections, [])


@pytest.mark.parametrize(
    ("authorization", "status"), [(None, 401), ("Basic x", 401), ("Bearer nope", 401), ("Digest a", 401)]
)
def test_without_a_good_key_nothing_happens(
    linked: Linked, upstream: Upstream, authorization: str | None, status: int
) -> None:
    headers = {"x-account-id": linked.account, **({"authorization": authorization} if authorization else {})}
    http = client(linked.project.hub.url)
    for answered in (http.get("/proxy/a", headers=headers), http.post("/unified/proxy", json={}, headers=headers)):
        body = refused(answered, status, "UnauthorizedError")
        assert answered.headers["x-request-id"] == body["requestId"]
    assert upstream.calls() == []


@pytest.mark.parametrize("scope", ["unified:read", "unified:write", "platform:read"])
def test_scopes_permit_reading_and_writing_apart(linked: Linked, upstream: Upstream, scope: str) -> None:
    made = linked.project.hub.command(
        "api-key", "create", "--project", linked.project.id, "--label", "narrow", "--scopes", scope
    ).stdout
    key = next(word for word in made.split() if word.startswith("v1."))
    http = client(linked.project.hub.url, auth=(key, ""), headers={"x-account-id": linked.account})
    reads = [http.request(m, "/proxy/a") for m in ("GET", "HEAD", "OPTIONS")]
    writes = [http.request(m, "/proxy/a") for m in ("POST", "PUT", "PATCH", "DELETE", "PROPFIND")]
    assert {a.status_code for a in reads} == ({200} if scope == "unified:read" else {403})
    assert {a.status_code for a in writes} == ({200} if scope == "unified:write" else {403})
    unified = http.post("/unified/proxy", json={"method": "post", "path": "/a"})
    if scope != "unified:write":
        refused(unified, 403, "ForbiddenError")
    refused(client(linked.project.hub.url, auth=(key, "")).post("/connect_sessions", json={}), 403)


def test_a_provider_that_is_down_is_a_502(linked: Linked, upstream: Upstream, ports: Ports) -> None:
    config = linked.project.config("sandbox", "basic", {"sandbox_url": f"http://127.0.0.1:{ports.spare[2]}"})
    with upstream_on(ports.spare[2]):
        account = linked.project.link(config, {"username": "someone", "password": "a-password"})
    for answered in both(linked, account):
        body = refused(answered, 502, "ProviderError")
        assert body["cause"] == "refused" and int(answered.headers["retry-after"]) > 0
    assert last_log(linked)["error_code"] == "ProviderError"


def reset(connection: socket.socket, _seen: Seen) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_a_provider_that_does_not_accept_in_time_is_a_408(linked: Linked, upstream: Upstream, ports: Ports) -> None:
    config = linked.project.config("sandbox", "basic", {"sandbox_url": f"http://127.0.0.1:{ports.spare[3]}"})
    with upstream_on(ports.spare[3]):
        account = linked.project.link(config, {"username": "someone", "password": "a-password"})
    with socket.create_server(("127.0.0.1", ports.spare[3]), backlog=0), contextlib.ExitStack() as queue:
        for _ in range(4):  # a full queue: further SYNs are dropped
            waiting = queue.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", ports.spare[3]))
        time.sleep(0.1)
        answered = linked.project.proxy(account, path="/a")
    refused(answered, 408, "RequestTimeoutError")
    assert answered.headers["retry-after"] == "60"
    assert last_log(linked)["status"] == 408


def test_every_kind_of_failure_has_its_status() -> None:
    found = {}
    for kind in ("timeout", "blocked", "dns", "refused", "unreachable", "tls", "reset", "protocol"):
        refusal = service.refusal("Acme", HttpFailure(kind, "x", sent=False))
        found[kind] = (refusal.status, "retry-after" in refusal.headers)
    assert found == {
        "timeout": (408, True),
        "blocked": (502, False),
        "dns": (502, True),
        "refused": (502, True),
        "unreachable": (502, True),
        "tls": (502, False),
        "reset": (502, True),
        "protocol": (502, True),
    }


NONSENSE: dict[str, bytes | Callable[[socket.socket, Seen], None]] = {
    "reset": reset,
    "closed": lambda _c, _s: None,
    "not http": b"220 mail.example ESMTP\r\n\r\n",
    "half a head": lambda c, _s: c.sendall(b"HTTP/1.1 200 OK\r\ncontent-le"),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_an_answer_that_is_none_is_a_502(linked: Linked, upstream: Upstream, name: str) -> None:
    upstream.on("/a", NONSENSE[name])
    for answered in both(linked, linked.account):
        refused(answered, 502, "ProviderError")
        assert int(answered.headers["retry-after"]) > 0


CUTS = {
    "length": b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n" + b"x" * 400,
    "chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n190\r\n" + b"x" * 400 + b"\r\n",
}


@pytest.mark.parametrize("framing", CUTS)
def test_a_body_that_the_provider_cuts_is_broken_for_the_caller(
    linked: Linked, upstream: Upstream, framing: str
) -> None:
    upstream.on("/cut", lambda connection, _seen: connection.sendall(CUTS[framing]))
    if framing == "length":  # short and of known length: nothing has gone out yet, so the refusal is a clean one
        refused(linked(path="/cut"), 502)
        assert last_log(linked)["success"] is False
    else:
        with pytest.raises(httpx.RemoteProtocolError):
            linked(path="/cut")
        row = last_log(linked)
        assert (row["status"], row["success"], row["error_code"]) == (200, False, "ProviderCutError")
    refused(linked.unified({"path": "/cut"}), 502, "ProviderError")
    assert "Traceback" not in linked.project.hub.log()


def gone_after(linked: Linked, path: str, begin: Callable[[socket.socket], None]) -> None:
    """Call like a caller that leaves once `begin` returns."""
    credentials = httpx.BasicAuth(linked.project.key, "")._auth_header
    head = f"GET /proxy{path} HTTP/1.1\r\nhost: h\r\nauthorization: {credentials}\r\nx-account-id: {linked.account}\r\n"
    with socket.create_connection(("127.0.0.1", linked.project.hub.port)) as connection:
        connection.sendall(head.encode() + b"\r\n")
        begin(connection)


def test_the_hub_stops_reading_when_the_caller_leaves_a_download(linked: Linked, upstream: Upstream) -> None:
    """Tried often: a cancellation that meets the end of what it interrupts is easily lost."""
    stopped = threading.Semaphore(0)

    def endless(connection: socket.socket, _seen: Seen) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: x/y\r\n\r\n")
        try:
            while True:
                connection.sendall(b"x" * 65536)
                time.sleep(0.005)
        except OSError:
            stopped.release()

    upstream.on("/endless", endless)
    for _ in range(25):
        gone_after(linked, "/endless", lambda connection: [connection.recv(65536) for _ in range(20)])
    for _ in range(25):
        assert stopped.acquire(timeout=3), "the provider went on sending to nobody"
    row = last_log(linked)
    assert (row["status"], row["success"], row["error_code"]) == (200, False, "CallerGoneError")


def test_a_caller_that_leaves_before_the_answer_ends_the_call(linked: Linked, upstream: Upstream) -> None:
    begun, release = threading.Event(), threading.Event()

    def silent(_connection: socket.socket, _seen: Seen) -> None:
        begun.set()
        release.wait(10)

    upstream.on("/silent", silent)
    gone_after(linked, "/silent", lambda _connection: begun.wait(5) and time.sleep(0.3))
    time.sleep(0.2)
    row = last_log(linked)
    release.set()
    assert (row["status"], row["success"], row["error_code"]) == (499, False, "CallerGoneError")
    assert row["duration"] < 2000


def test_a_caller_that_leaves_its_upload_ends_the_call(linked: Linked, upstream: Upstream) -> None:
    credentials = httpx.BasicAuth(linked.project.key, "")._auth_header
    head = f"PUT /proxy/up HTTP/1.1\r\nhost: h\r\nauthorization: {credentials}\r\nx-account-id: {linked.account}\r\n"
    with socket.create_connection(("127.0.0.1", linked.project.hub.port)) as connection:
        connection.sendall(head.encode() + b"content-length: 5000000\r\n\r\n" + b"x" * 600_000)
        time.sleep(0.2)
    time.sleep(0.3)
    row = last_log(linked)
    assert (row["status"], row["error_code"]) == (499, "CallerGoneError")
    assert not [seen for seen in upstream.calls() if len(seen.body) == 5_000_000]
    assert "Traceback" not in linked.project.hub.log()


def own_connector(folder: Path, url: str) -> Path:
    folder.mkdir()
    (folder / "own.yaml").write_text(
        f"""\
connector: own
title: Own
category: iam
base_url: {url}
auth:
  key:
    label: Key
    header: {{name: X-Key, value: "${{key}}"}}
    fields: {{key: {{label: Key, secret: true}}}}
    test: {{get: /api/me, identity: account_id}}
"""
    )
    return folder


def test_an_address_that_is_not_allowed_is_never_connected(tmp_path: Path) -> None:
    port = free_port()
    folder = own_connector(tmp_path / "connectors", f"http://127.0.0.1:{port}")
    form = {"key": "some-key-of-nobody"}
    one = Hub(tmp_path / "hub", free_port(), egress_allow=f"127.0.0.1:{port}", connectors_dir=folder)
    with upstream_on(port) as up, one as hub:
        project = hub.new_project()
        config = project.config("own", "key")
        account = project.link(config, form)
        assert project.proxy(account, path="/a").status_code == 200
        hub.stop()
        hub.env["MOORING_EGRESS_ALLOW"] = "127.0.0.1:9"
        connections = up.connections
        hub.start()
        answered = refused(project.proxy(account, path="/a"), 502, "EgressBlockedError")
        assert "MOORING_EGRESS_ALLOW" in answered["hint"]
        unified = project.http.post("/unified/proxy", json={"path": "/a"}, headers={"x-account-id": account})
        refused(unified, 502, "EgressBlockedError")
        session = project.session("owner-2", integration_id=config["id"])
        refused(session.submit(config["id"], form), 422)
        assert up.connections == connections


@pytest.mark.parametrize("where", ["http://127.0.0.1:9", "https://other.example"])
def test_an_answer_is_not_followed_elsewhere(linked: Linked, upstream: Upstream, where: str) -> None:
    upstream.on("/a", answer(307, b"", f"location: {where}/x"))
    assert linked("POST", "/a", content=b"x").status_code == 307
    assert ok(linked.unified({"path": "/a"}))["status"] == 307
