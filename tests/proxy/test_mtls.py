"""Accounts that show a client certificate: with token requests, with calls, and never with somebody else's connection."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import serialization

from tests.diagnosis.authority import Authority
from tests.flows.linking import end_token
from tests.hub import Hub, Project, ok, refused
from tests.servers.ports import free_port
from tests.test_canaries import places_of

CONNECTOR = """\
connector: vault-gate
title: Vault Gate
category: other
base_url: https://localhost:{port}
auth:
  machine:
    mtls: {{certificate: "${{certificate}}", private_key: "${{certificate_key}}"}}
    oauth2:
      grant: client_credentials
      token_url: https://localhost:{port}/token
      client_auth: post
    fields: &pair
      certificate: {{secret: true, type: text_area}}
      certificate_key: {{secret: true, type: text_area}}
    test: {{get: /me}}
  alone:
    mtls: {{certificate: "${{certificate}}", private_key: "${{certificate_key}}"}}
    fields: *pair
    test: {{get: /me}}
"""

S1 = """\
StackOne: 1.0.0
info: {{title: Gate file, key: gate-file, version: 1.0.0, description: A client certificate in every request}}
baseUrl: https://localhost:{port}
authentication:
  - certificate:
      type: custom
      authorization: {{type: none}}
      configFields:
        - {{key: certificate, label: Certificate, type: text_area, required: true, secret: true}}
        - {{key: certificate_key, label: Key, type: text_area, required: true, secret: true}}
        - {{key: other, label: Another certificate, type: text_area, secret: true}}
        - {{key: other_key, label: Its key, type: text_area, secret: true}}
      testActions: [{{action: me}}]
actions:
  - actionId: me
    steps:
      - stepId: me
        stepFunction: {{functionName: request, parameters: {{url: /me, method: get, certificates: {shared}}}}}
    result: {{data: $.steps.me.output.data}}
{more}"""
SHARED = "{certs: [$.credentials.certificate], keys: [$.credentials.certificate_key]}"
OTHER = """\
  - actionId: other
    steps:
      - stepId: other
        stepFunction:
          functionName: request
          parameters:
            {url: /other, method: get, certificates: {certs: [$.credentials.other], keys: [$.credentials.other_key]}}
    result: {data: $.steps.other.output.data}
"""


class Gate:
    """A TLS server that wants a certificate of its authority, and says whose it saw on which connection."""

    def __init__(self, port: int, authority: Authority, folder: Path) -> None:
        self.seen: list[dict[str, Any]] = []
        gate = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                subject = self.connection.getpeercert()["subject"]  # type: ignore[attr-defined]
                who = next(value for part in subject for name, value in part if name == "commonName")
                row = {"path": self.path, "who": who, "from": self.client_address[1], "body": body.decode()}
                gate.seen.append(row)
                told = {"access_token": f"token-{len(gate.seen)}", "expires_in": 3600} if self.path == "/token" else row
                raw = json.dumps(told).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        context = authority.context(folder, "localhost")
        context.load_verify_locations(cadata=authority.pem.decode())
        context.verify_mode = ssl.CERT_REQUIRED
        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class World:
    def __init__(self, hub: Hub, gate: Gate, authority: Authority) -> None:
        self.hub, self.gate, self.authority = hub, gate, authority
        self.project: Project = hub.new_project()

    def pair(self, name: str, authority: Authority | None = None) -> dict[str, str]:
        certificate, key = (authority or self.authority).issue(name)
        return {"certificate": certificate.decode(), "certificate_key": key.decode()}

    def link(self, method: str, pair: dict[str, str], owner: str = "owner-1") -> str:
        client = {"client_id": "c", "client_secret": "client-secret-1"} if method == "machine" else {}
        return self.project.link(self.project.config("vault-gate", method), {**pair, **client}, owner)


@pytest.fixture(scope="module")
def world_of_gates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("mtls")
    authority = Authority()
    (folder / "ca.pem").write_bytes(authority.pem)
    (folder / "connectors").mkdir()
    port = free_port()
    (folder / "connectors" / "vault-gate.yaml").write_text(CONNECTOR.format(port=port))
    for name, more in (("gate-file", ""), ("gate-steps", OTHER)):
        text = S1.format(port=port, shared=SHARED, more=more).replace("gate-file", name)
        text = text.replace("      testActions: [{action: me}]\n", "") if more else text
        (folder / "connectors" / f"{name}.connector.s1.yaml").write_text(text)
    gate = Gate(port, authority, folder)
    try:
        with Hub(
            folder / "hub",
            free_port(),
            egress_allow=f"localhost:{port},127.0.0.1:{port}",
            connectors_dir=folder / "connectors",
            env={"SSL_CERT_FILE": str(folder / "ca.pem")},
        ) as hub:
            yield World(hub, gate, authority)
    finally:
        gate.stop()


@pytest.fixture
def world(world_of_gates: World) -> World:
    world_of_gates.project = world_of_gates.hub.new_project()
    world_of_gates.gate.seen.clear()
    return world_of_gates


def test_token_requests_and_calls_show_the_certificate(world: World) -> None:
    account = world.link("machine", world.pair("harbour.example"))
    assert ok(world.project.proxy(account, path="/people"))["who"] == "harbour.example"
    end_token(world.hub, account)
    assert world.project.proxy(account, path="/people").status_code == 200
    assert {row["who"] for row in world.gate.seen} == {"harbour.example"}
    assert [row["path"] for row in world.gate.seen] == ["/token", "/me", "/people", "/token", "/people"]
    grant = parse_qs(world.gate.seen[0]["body"])
    assert grant["client_secret"] == ["client-secret-1"]


def test_connections_are_kept_for_their_certificate_and_for_no_other(world: World) -> None:
    accounts = {name: world.link("alone", world.pair(name), name) for name in ("one.example", "two.example")}
    world.gate.seen.clear()
    for _ in range(3):
        for name, account in accounts.items():
            assert ok(world.project.proxy(account, path="/x"))["who"] == name
    by_connection: dict[int, set[str]] = {}
    for row in world.gate.seen:
        by_connection.setdefault(row["from"], set()).add(row["who"])
    assert all(len(who) == 1 for who in by_connection.values()) and len(by_connection) == 2


def test_a_certificate_that_the_provider_does_not_know_is_refused(world: World) -> None:
    config = world.project.config("vault-gate", "alone")
    session = world.project.session(integration_id=config["id"])
    told = refused(session.submit(config["id"], world.pair("evil.example", Authority())), 422)
    assert told["errorCode"] == "CredentialRejectedError" and not world.gate.seen


@pytest.mark.parametrize("fault", ["text", "another key", "encrypted"])
def test_what_is_no_pair_is_refused_with_a_reason(world: World, fault: str) -> None:
    pair = world.pair("one.example")
    if fault == "text":
        pair["certificate"] = "not a certificate"
    elif fault == "another key":
        pair["certificate_key"] = world.pair("two.example")["certificate_key"]
    else:
        key = serialization.load_pem_private_key(pair["certificate_key"].encode(), None)
        kind, sealed = serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"password")
        pair["certificate_key"] = key.private_bytes(serialization.Encoding.PEM, kind, sealed).decode()
    config = world.project.config("vault-gate", "alone")
    session = world.project.session(integration_id=config["id"])
    told = refused(session.submit(config["id"], pair), 422, "CredentialRejectedError")
    assert "PRIVATE KEY" not in json.dumps(told) and not world.gate.seen


def test_the_pair_is_left_nowhere(world: World) -> None:
    pair = world.pair("one.example")
    account = world.link("alone", pair)
    assert world.project.proxy(account, path="/x").status_code == 200
    lines = [line for text in pair.values() for line in text.splitlines() if len(line) > 60][1:4]
    for place, content in places_of(world.hub).items():
        assert not [line for line in lines if line.encode() in content], place


def test_a_file_whose_every_request_has_the_certificate(world: World) -> None:
    """The base64 of PEM is understood as well, and calls through the proxy show it, too."""
    pair = {name: base64.b64encode(value.encode()).decode() for name, value in world.pair("file.example").items()}
    account = world.project.link(world.project.config("gate-file", "certificate"), pair)
    assert ok(world.project.proxy(account, path="/people"))["who"] == "file.example"
    assert ok(run(world, account, "gate-file_me"))["data"]["who"] == "file.example"


def test_a_step_has_a_certificate_of_its_own(world: World) -> None:
    other = {name.replace("certificate", "other"): value for name, value in world.pair("other.example").items()}
    fields = {**world.pair("file.example"), **other}
    account = world.project.link(world.project.config("gate-steps", "certificate"), fields)
    assert ok(run(world, account, "gate-steps_me"))["data"]["who"] == "file.example"
    assert ok(run(world, account, "gate-steps_other"))["data"]["who"] == "other.example"
    bare = world.project.link(world.project.config("gate-steps", "certificate"), world.pair("file.example"), "bare")
    assert "lacks one of them" in run(world, bare, "gate-steps_other").text


def run(world: World, account: str, action: str) -> Any:
    return world.project.http.post("/actions/rpc", json={"action": action}, headers={"x-account-id": account})
