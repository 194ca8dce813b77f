"""Credentials that go into the path, the body or a header that the provider names, and logins that follow a token."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import pytest

from mooring.connectors.apply import InBody
from tests.flows.linking import end_token
from tests.hub import Hub, Project, ok, refused
from tests.proxy.conftest import Linked
from tests.proxy.upstream import Seen, Upstream, answer
from tests.test_canaries import rows_of

JSON = {"content-type": "application/json"}


def linked_by(project: Project, method: str, **fields: str) -> Linked:
    key = secrets.token_hex(16)
    name = "password" if method == "named" else "api_key"
    account = project.link(project.config("places", method), {name: key, **fields})
    return Linked(project, account, key)


# --- in the path


def test_a_credential_in_the_path_is_sent_and_shown_nowhere(project: Project, upstream: Upstream, hub: Hub) -> None:
    key = f"4711:AA{secrets.token_hex(12)}_-"
    account = project.link(project.config("places", "path"), {"api_key": key})
    upstream.on(
        f"/bot{key}/v1/refuse", answer(400, json.dumps({"url": f"/bot{key}/v1"}).encode(), "content-type: x/json")
    )
    linked = Linked(project, account, key)
    for status in (401, 403, 500):  # what the connection doctor looks at and keeps
        body = json.dumps({"description": f"no such place: /bot{key}/v1"}).encode()
        upstream.on(f"/bot{key}/v1/{status}", answer(status, body, "content-type: application/json"))
        assert key not in linked(path=f"/{status}").text
    assert linked(path="/getMe?x=1").status_code == 200
    assert upstream.seen[-1].target == f"/bot{key}/v1/getMe?x=1"
    said = linked(path="/refuse")
    assert said.status_code == 400 and key not in said.text
    ran = ok(project.http.post("/actions/rpc", json={"action": "send", "body": {"text": "t"}, "account_id": account}))
    assert ran["data"] == {} and upstream.seen[-1].target == f"/bot{key}/v1/send"
    time.sleep(0.5)
    listed = [*ok(project.http.get("/requests/logs"))["data"], *ok(project.http.get("/requests/logs/steps"))["data"]]
    urls = [url for row in listed for url in re.findall(r"http://127[^\"]+", json.dumps(row))]
    assert any("/bot[redacted]/v1/getMe" in url for url in urls) and all("/bot[redacted]/" in url for url in urls)
    assert key not in json.dumps(listed) and key.split(":")[1] not in hub.log()
    assert key.split(":")[1].encode() not in rows_of(hub.database_url)
    assert key not in json.dumps(ok(project.http.get(f"/accounts/{account}/limits")))


# --- in the body


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_credential_goes_into_the_object_of_the_body(project: Project, upstream: Upstream, method: str) -> None:
    linked = linked_by(project, "body", company="acme")
    assert linked(method, "/list", json={"page": 2, "lang": "fr", "apiKey": "another"}).status_code == 200
    seen = upstream.seen[-1]
    assert json.loads(seen.body) == {"page": 2, "lang": "eng", "apiKey": linked.secret, "company": "acme"}
    assert seen.header("content-length") == str(len(seen.body)) and seen.header("content-type") == "application/json"
    assert [n for n, _ in seen.headers].count("content-length") == 1


def test_a_request_without_a_body_gets_the_credential_alone_where_one_is_usual(
    project: Project, upstream: Upstream
) -> None:
    linked = linked_by(project, "body", company="acme")
    assert linked("POST", "/list").status_code == 200
    assert json.loads(upstream.seen[-1].body) == {"apiKey": linked.secret, "company": "acme", "lang": "eng"}
    assert linked("GET", "/list").status_code == 200
    assert upstream.seen[-1].body == b"" and upstream.seen[-1].header("content-type") is None


def parts(*chunks: bytes) -> Iterator[bytes]:
    yield from chunks


def test_a_streamed_body_is_read_for_it_up_to_a_bound(project: Project, upstream: Upstream) -> None:
    linked = linked_by(project, "body", company="acme")
    assert linked("POST", "/list", content=parts(b'{"a":', b" 1}"), headers=JSON).status_code == 200
    assert json.loads(upstream.seen[-1].body)["a"] == 1 and upstream.seen[-1].header("transfer-encoding") is None
    before = len(upstream.seen)
    refused(linked("POST", "/list", content=parts(*[bytes(1 << 20)] * 17), headers=JSON), 413, "PayloadTooLargeError")
    assert len(upstream.seen) == before


@pytest.mark.parametrize("body", [b"[1]", b"text", b'"x"', b"{", b"1"])
def test_a_body_that_can_not_hold_it_is_refused(project: Project, upstream: Upstream, body: bytes) -> None:
    linked = linked_by(project, "body", company="acme")
    before = len(upstream.seen)
    told = refused(linked("POST", "/list", content=body, headers=JSON), 400, "InvalidBodyError")
    assert "JSON object" in told["message"] and len(upstream.seen) == before


def test_an_action_carries_it_and_an_echo_of_it_is_masked(project: Project, upstream: Upstream) -> None:
    linked = linked_by(project, "body", company="acme")
    upstream.on("/send", lambda _c, seen: answer(200, seen.body, "content-type: application/json"))
    body = {"action": "send", "body": {"text": "hello"}, "account_id": linked.account}
    ran = ok(project.http.post("/actions/rpc", json=body))
    assert ran["data"]["text"] == "hello" and ran["data"]["company"] == "acme"
    assert linked.secret not in json.dumps(ran)


@pytest.mark.parametrize("form", [True, False])
def test_a_credential_goes_into_one_field_of_a_form(project: Project, upstream: Upstream, form: bool) -> None:
    linked = linked_by(project, "form", user="u-1")
    job = {"type": "get", "credentials": {"secret": "another"}}
    sent = {"data": {"job": json.dumps(job), "file": "a&b"}} if form else {"json": job}
    assert linked("POST", "/", **sent).status_code == 200
    seen = upstream.seen[-1]
    assert seen.header("content-type") == "application/x-www-form-urlencoded"
    fields = dict(parse_qsl(seen.body.decode()))
    assert json.loads(fields["job"]) == {"type": "get", "credentials": {"user": "u-1", "secret": linked.secret}}
    assert fields.get("file") == ("a&b" if form else None)


# --- a header that the provider names


def test_a_header_that_the_login_names_carries_the_token(project: Project, upstream: Upstream) -> None:
    upstream.on("/login", answer(200, b'{"name": "X-Tenant-Token", "value": "t-4711-abc"}'))
    linked = linked_by(project, "named")
    assert linked(path="/documents", headers={"x-tenant-token": "forged"}).status_code == 200
    assert [v for n, v in upstream.seen[-1].headers if n == "x-tenant-token"] == ["t-4711-abc"]
    upstream.on("/login", answer(200, b'{"name": "Host: evil", "value": "t"}'))
    config = project.config("places", "named")
    told = refused(project.session("owner-2", integration_id=config["id"]).submit(config["id"], {"password": "p"}), 422)
    assert told["errorCode"] == "CredentialRejectedError"


# --- a login after the token


class Company:
    """A provider whose tokens open sessions."""

    def __init__(self, up: Upstream) -> None:
        self.up = up
        self.tokens = self.sessions = 0
        self.open = True
        up.on("/token", self.token)
        up.on("/open", self.session)

    def token(self, _connection: object, seen: Seen) -> bytes:
        given = dict(parse_qsl(seen.body.decode()))
        if given["grant_type"] == "refresh_token" and given["refresh_token"] != f"refresh-{self.tokens}":
            return answer(400, b'{"error": "invalid_grant"}')
        self.tokens += 1
        told = {"access_token": f"access-{self.tokens}", "refresh_token": f"refresh-{self.tokens}", "expires_in": 600}
        return answer(200, json.dumps(told).encode(), "content-type: application/json")

    def session(self, _connection: object, seen: Seen) -> bytes:
        given = parse_qs(urlsplit(seen.target).query)
        if not self.open or given["access_token"] != [f"access-{self.tokens}"]:
            said = {"errorMessage": f"no session for {given['access_token'][0]}"}
            return answer(401, json.dumps(said).encode(), "content-type: application/json")
        self.sessions += 1
        told = {"url": f"{self.up.url}/session/s{self.sessions}/", "token": f"session-token-{self.sessions}"}
        return answer(200, json.dumps(told).encode(), "content-type: application/json")

    def link(self, project: Project) -> dict[str, Any]:
        setup = {"client_id": "places-client", "client_secret": "places-secret-1"}
        config = project.config("places", "then", setup)
        session = project.session(integration_id=config["id"])
        attempt = session.attempt()
        start = session.start_oauth(config["id"], attempt, org="acme")
        asked = parse_qs(urlsplit(start.headers["location"]).query)
        assert asked["scope"] == [f"{self.up.url}/acme/.default"]
        back = urlsplit(asked["redirect_uri"][0])
        session.browser.get(f"{back.path}?{urlencode({'code': 'c', 'state': asked['state'][0]})}")
        return session.attempt_state(attempt)


def test_calls_go_by_the_session_that_the_token_opened(project: Project, upstream: Upstream) -> None:
    company = Company(upstream)
    account = company.link(project)["account"]["id"]
    assert project.proxy(account, path="/people").status_code == 200
    seen = upstream.seen[-1]
    assert seen.target == "/session/s1/people" and seen.header("x-session") == "session-token-1"
    assert seen.header("authorization") is None
    end_token(project.hub, account)
    assert project.proxy(account, path="/people").status_code == 200
    seen = upstream.seen[-1]
    assert seen.target == "/session/s2/people" and seen.header("x-session") == "session-token-2"


def test_the_session_is_a_secret(project: Project, upstream: Upstream) -> None:
    account = Company(upstream).link(project)["account"]["id"]
    upstream.on("/session/s1/echo", answer(200, b'{"mine": "session-token-1"}', "content-type: application/json"))
    assert "session-token-1" not in project.proxy(account, path="/echo").text
    assert b"session-token-1" not in rows_of(project.hub.database_url)


def test_a_login_that_fails_while_linking_connects_nothing(project: Project, upstream: Upstream) -> None:
    company = Company(upstream)
    company.open = False
    state = company.link(project)
    assert state["status"] == "error" and "account" not in {k for k, v in state.items() if v}
    assert "access-1" not in json.dumps(state)
    assert not ok(project.http.get("/accounts"))


def test_a_login_that_fails_after_a_refresh_loses_no_token(project: Project, upstream: Upstream) -> None:
    company = Company(upstream)
    account = company.link(project)["account"]["id"]
    company.open = False
    end_token(project.hub, account)
    assert project.proxy(account, path="/people").status_code == 200  # by the session there is
    assert company.tokens == 2 and upstream.seen[-1].target == "/session/s1/people"
    company.open = True
    end_token(project.hub, account)
    assert project.proxy(account, path="/people").status_code == 200
    assert company.tokens == 3 and upstream.seen[-1].target == "/session/s2/people"


def test_a_credential_inside_of_an_object_leaves_what_is_the_callers() -> None:
    own = InBody({"Request": {"key": "secret"}})
    body, kind = own.put(b'{"Request": {"page": 2, "key": "mine"}, "x": 1}', "application/json")
    assert json.loads(body) == {"Request": {"page": 2, "key": "secret"}, "x": 1} and kind == "application/json"
    assert json.loads(own.put(b'{"Request": "text"}', "")[0]) == {"Request": {"key": "secret"}}
