"""Tokens for signed assertions (RFC 7523 §2.1): what is sent, and that the key never is."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import pytest
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from tests.conftest import Ports
from tests.flows.linking import end_token
from tests.hub import Project, ok, refused
from tests.proxy.upstream import Seen, Upstream, answer, upstream_on

JSON = "content-type: application/json"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
RSA, EC = RSAKey.generate_key(2048), ECKey.generate_key("P-256")
PEM = RSA.as_pem(private=True).decode()


class Server:
    """Gives a token for an assertion that one of the two keys signed."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.asked: list[tuple[Seen, dict[str, Any]]] = []
        self.live: set[str] = set()

    def token(self, _: socket.socket, seen: Seen) -> bytes:
        form = {name: values[0] for name, values in parse_qs(seen.body.decode()).items()}
        algorithm = json.loads(base64.urlsafe_b64decode(form["assertion"].split(".")[0] + "=="))["alg"]
        try:
            claims = jwt.decode(form["assertion"], RSA if algorithm == "RS256" else EC, algorithms=[algorithm]).claims
        except JoseError:
            return answer(400, b'{"error": "invalid_grant", "error_description": "bad signature"}', JSON)
        self.asked.append((seen, {**form, "claims": claims}))
        self.live.add(made := f"token-{len(self.asked)}")
        return answer(200, json.dumps({"access_token": made, "expires_in": 3600}).encode(), JSON)

    def me(self, _: socket.socket, seen: Seen) -> bytes:
        if (seen.header("authorization") or "").removeprefix("Bearer ") not in self.live:
            return answer(401, b"{}", JSON)
        return answer(200, b'{"id": "robot-1"}', JSON)


@pytest.fixture
def server(ports: Ports) -> Iterator[Server]:
    with upstream_on(ports.spare[0]) as upstream:
        found = Server(upstream)
        upstream.on("/token", found.token)
        upstream.on("/v1/me", found.me)
        yield found


def link(project: Project, private_key: str = PEM) -> str:
    config = project.config("assertions", "service_account")
    return project.link(config, {"email": "robot@p.example", "user": "ada@acme.example", "private_key": private_key})


def test_the_assertion_says_what_the_connector_declares(project: Project, server: Server) -> None:
    account = link(project)
    ((seen, form),) = server.asked
    claims = form.pop("claims")
    assert form.keys() == {"grant_type", "assertion"} and form["grant_type"] == GRANT
    assert seen.header("authorization") is None and "PRIVATE KEY" not in seen.body.decode()
    now = time.time()
    assert claims.pop("exp") - claims["iat"] == 600 and abs(claims.pop("iat") - now) < 60 and claims.pop("jti")
    assert claims == {
        "iss": "robot@p.example",
        "sub": "ada@acme.example",
        "aud": f"{server.upstream.url}/token",
        "scope": "read write",
    }
    assert project.proxy(account, path="/v1/me").status_code == 200
    shown = project.account(account)
    assert shown["provider_account"]["id"] == "robot-1" and "PRIVATE KEY" not in str(shown)


def test_the_operators_app_signs_and_proves_itself_too(project: Project, server: Server) -> None:
    pem = EC.as_pem(private=True).decode()
    setup = {"client_id": "app-1", "client_secret": "app-secret-1", "private_key": pem}
    account = project.link(project.config("assertions", "app", setup), {})
    ((seen, form),) = server.asked
    assert base64.b64decode((seen.header("authorization") or "").removeprefix("Basic ")) == b"app-1:app-secret-1"
    assert form["scope"] == "read" and form["claims"]["aud"] == "https://login.assertions.example"
    assert form["claims"]["iss"] == form["claims"]["sub"] == "app-1"
    assert project.proxy(account, path="/v1/me").status_code == 200


def test_a_key_copied_out_of_a_json_file_works(project: Project, server: Server) -> None:
    account = link(project, PEM.replace("\n", "\\n"))
    assert project.proxy(account, path="/v1/me").status_code == 200


@pytest.mark.parametrize("wrong", ["another key", "no key"])
def test_a_wrong_key_is_refused_without_being_shown(project: Project, server: Server, wrong: str) -> None:
    key = RSAKey.generate_key(2048).as_pem(private=True).decode() if wrong == "another key" else "no-key-canary-77"
    config = project.config("assertions", "service_account")
    session = project.session(integration_id=config["id"])
    values = {"email": "robot@p.example", "user": "ada@acme.example", "private_key": key}
    told = refused(
        session.http.post("/hub/accounts", json={"integration_id": config["id"], "credentials": values}), 422
    )
    assert key not in json.dumps(told) and "PRIVATE KEY" not in json.dumps(told) and told["message"]
    assert ok(project.http.get("/accounts")) == []


def test_it_is_signed_anew_when_its_time_is_over_and_after_a_401(project: Project, server: Server) -> None:
    account = link(project)
    end_token(project.hub, account)
    assert project.proxy(account, path="/v1/me").status_code == 200
    server.live.clear()
    assert project.proxy(account, path="/v1/me").status_code == 200
    assertions = [form["assertion"] for _, form in server.asked]
    assert len(assertions) == 3 == len(set(assertions))
