"""Logins of a provider's own: what is sent, what becomes of the token, and what a refusal does."""

from __future__ import annotations

import itertools
import json
import secrets
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import pytest

from tests.conftest import Ports
from tests.flows.linking import end_token
from tests.hub import Project, ok, refused
from tests.proxy.upstream import Seen, Upstream, answer, upstream_on
from tests.rows import query

JSON = "content-type: application/json"


@dataclass
class Logins:
    """A provider that knows one password and any number of live sessions."""

    upstream: Upstream
    password: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    live: set[str] = field(default_factory=set)
    logins: list[Seen] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def new(self) -> str:
        token = f"session-{next(self.numbers)}-{secrets.token_hex(8)}"
        self.live.add(token)
        return token

    def log_in(self, _: socket.socket, seen: Seen) -> bytes:
        with self.lock:
            self.logins.append(seen)
            sent = json.loads(seen.body)
            if sent["password"] != self.password:
                return answer(401, b'{"message": "Wrong user name or password"}', JSON)
            body = {"data": {"token": self.new(), "site": "north"}}
            return answer(200, json.dumps(body).encode(), JSON)

    def log_in_by_form(self, _: socket.socket, seen: Seen) -> bytes:
        with self.lock:
            self.logins.append(seen)
            if parse_qs(seen.body.decode())["p"] != [self.password]:
                return answer(200, b'{"error": "invalid login"}', JSON)
            return answer(200, self.new().encode(), "content-type: text/plain")

    def me(self, _: socket.socket, seen: Seen) -> bytes:
        token = (seen.header("x-session") or "").removesuffix("/north")
        token = token or (seen.header("authorization") or "").removeprefix("Token ")
        if token not in self.live:
            return answer(401, b'{"message": "no session"}', JSON)
        return answer(200, b'{"id": "user-7"}', JSON)


@pytest.fixture
def logins(ports: Ports) -> Iterator[Logins]:
    with upstream_on(ports.spare[0]) as upstream:
        found = Logins(upstream)
        upstream.on("/v1/login", found.log_in)
        upstream.on("/v1/token", found.log_in_by_form)
        upstream.on("/v1/me", found.me)
        yield found


def link(project: Project, logins: Logins, method: str = "login") -> str:
    config = project.config("logins", method)
    return project.link(config, {"username": "jane", "password": logins.password})


def test_the_login_is_sent_as_declared_and_its_token_goes_with_calls(project: Project, logins: Logins) -> None:
    account = link(project, logins)
    (login,) = logins.logins
    assert login.line == "POST /v1/login HTTP/1.1" and login.header("x-client") == "mooring"
    assert json.loads(login.body) == {"user": "jane", "password": logins.password, "remember": True}
    assert login.header("x-session") is None and login.header("authorization") is None
    assert project.proxy(account, path="/v1/me").status_code == 200
    assert len(logins.logins) == 1
    shown = project.account(account)
    assert shown["status"] == "active" and shown["provider_account"]["id"] == "user-7"
    assert logins.password not in str(shown) and not any(token in str(shown) for token in logins.live)


def test_a_form_login_whose_answer_is_the_token(project: Project, logins: Logins) -> None:
    account = link(project, logins, "form")
    (login,) = logins.logins
    assert login.header("content-type") == "application/x-www-form-urlencoded"
    assert parse_qs(login.body.decode()) == {"u": ["jane"], "p": [logins.password]}
    assert project.proxy(account, path="/v1/me").status_code == 200
    assert logins.upstream.seen[-1].header("authorization") == f"Token {next(iter(logins.live))}"


@pytest.mark.parametrize("method", ["login", "form"])
def test_a_wrong_password_is_named_and_nothing_is_saved(project: Project, logins: Logins, method: str) -> None:
    config = project.config("logins", method)
    session = project.session(integration_id=config["id"])
    body = {"integration_id": config["id"], "credentials": {"username": "jane", "password": "wrong-password-1"}}
    told = refused(session.http.post("/hub/accounts", json=body), 422)
    assert told["cause"] == "wrong_credentials" and "wrong-password-1" not in str(told)
    assert ok(project.http.get("/accounts")) == []


def test_a_session_that_ended_is_renewed_once_for_all_callers(project: Project, logins: Logins) -> None:
    account = link(project, logins)
    logins.live.clear()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: project.proxy(account, path="/v1/me").status_code, range(16)))
    assert answers == [200] * 16 and len(logins.logins) == 2


def test_a_token_is_renewed_when_its_time_is_over(project: Project, logins: Logins) -> None:
    account = link(project, logins)
    end_token(project.hub, account)
    assert project.proxy(account, path="/v1/me").status_code == 200
    assert len(logins.logins) == 2 and len(logins.live) == 2


def test_a_changed_password_is_an_error_and_the_account_is_kept(project: Project, logins: Logins) -> None:
    account = link(project, logins)
    old, logins.password = logins.password, "another-password"
    logins.live.clear()
    assert project.proxy(account, path="/v1/me").status_code == 401
    told: Any = ok(project.http.get("/requests/logs"))["data"][0]
    assert old not in str(told)
    assert query(project.hub, "SELECT count(*) FROM credentials WHERE account_id = :a", a=account) == [(1,)]
    before = len(logins.logins)
    project.proxy(account, path="/v1/me")
    assert len(logins.logins) - before <= 1, "a refused password is not tried again and again"
