"""Forged starts and callbacks of the OAuth flow: none links anything, none costs a token request (rules O1 to O9)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx
import pytest
from sqlalchemy import update

from mooring.connect.models import ConnectSession
from mooring.kit import clock
from tests.flows.linking import (
    age_flow,
    link_sandbox,
    on_database,
    run_flow,
    sandbox_config,
    sandbox_consent,
    together,
)
from tests.hub import Project, Session, client, ok, refused
from tests.sandbox.harness import Sandbox

COOKIE = "mooring-connect"
Query = list[tuple[str, str]]


@dataclass
class Flow:
    """A flow in which the person has agreed at the provider; the browser has not come back yet."""

    project: Project
    provider: Sandbox
    session: Session
    config: dict[str, Any]
    attempt: str
    location: str  # where the hub sent the browser
    callback: str  # where the provider sent it then

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.callback).query))

    @property
    def cookie(self) -> str:
        return self.session.browser.cookies[COOKIE]

    def path(self, key: str = "sandbox") -> str:
        return f"/connect/oauth2/{key}/callback"

    def with_query(self, changes: dict[str, str | None]) -> httpx.Response:
        """The callback with parameters replaced, added, or removed by None."""
        query = {k: v for k, v in {**self.query, **changes}.items() if v is not None}
        return self.session.browser.get(f"{self.path()}?{urlencode(query)}")

    def with_cookies(self, cookies: dict[str, str]) -> httpx.Response:
        """The true callback from another browser."""
        headers = {"cookie": "; ".join(f"{k}={v}" for k, v in cookies.items())} if cookies else {}
        return client(self.project.hub.url).get(self.callback, headers=headers)

    def tokens(self) -> int:
        return sum(self.provider.counters()["token_requests"].values())


def begin(project: Project, provider: Sandbox, owner: str = "owner-1", **session: Any) -> Flow:
    config = sandbox_config(project, provider)
    opened = project.session(owner, **({"integration_id": config["id"]} | session))
    attempt = opened.attempt()
    start = opened.start_oauth(config["id"], attempt)
    assert start.status_code == 302, start.text
    location = start.headers["location"]
    return Flow(project, provider, opened, config, attempt, location, sandbox_consent(provider)(location))


@pytest.fixture
def flow(project: Project, provider: Sandbox) -> Flow:
    return begin(project, provider)


@pytest.fixture
def foreign(other_project: Project, provider: Sandbox) -> Flow:
    """The same in another project, session and browser."""
    return begin(other_project, provider, "mallory")


def nothing_happened(flow: Flow, answer: httpx.Response) -> None:
    """No token request, no account, no attempt that says otherwise."""
    assert flow.tokens() == 0
    assert flow.project.http.get("/accounts").json() == []
    assert flow.session.attempt_state(flow.attempt)["status"] != "authenticated"
    if answer.status_code == 302:
        landing = parse_qs(urlsplit(answer.headers["location"]).query)
        assert landing["status"] == ["error"] and "account_id" not in landing
        assert answer.headers["location"].startswith(f"{flow.project.hub.url}/embedded/accounts/callback?")
    else:
        refused(answer, answer.status_code)
        assert 400 <= answer.status_code < 500, answer.text


def test_the_true_callback_links(flow: Flow) -> None:
    """What all the forgeries below are compared with."""
    answer = flow.session.browser.get(flow.callback)
    assert "status=authenticated" in answer.headers["location"]
    assert flow.session.attempt_state(flow.attempt)["status"] == "authenticated"
    assert flow.tokens() == 1


# --- parameters of the callback ------------------------------------------------------------------------------------


def challenge_of(flow: Flow) -> str:
    return parse_qs(urlsplit(flow.location).query)["code_challenge"][0]


PARAMETERS: dict[str, Callable[[Flow], dict[str, str | None]]] = {
    "state missing": lambda f: {"state": None},
    "state empty": lambda f: {"state": ""},
    "state random": lambda f: {"state": base64.urlsafe_b64encode(b"r" * 32).decode().rstrip("=")},
    "state truncated": lambda f: {"state": f.query["state"][:-1]},
    "state extended": lambda f: {"state": f.query["state"] + "A"},
    "state in other letters": lambda f: {"state": f.query["state"].swapcase()},
    "state with a space": lambda f: {"state": f.query["state"] + " "},
    "state with a line break": lambda f: {"state": f.query["state"] + "\n"},
    "state with a NUL": lambda f: {"state": f.query["state"] + "\0"},
    "state endless": lambda f: {"state": "A" * 5000},
    "state as its hash": lambda f: {"state": hashlib.sha256(f.query["state"].encode()).hexdigest()},
    "state as SQL": lambda f: {"state": "' OR 1=1 --"},
    "challenge as state": lambda f: {"state": challenge_of(f)},
    "attempt as state": lambda f: {"state": f.attempt},
    "session token as state": lambda f: {"state": f.session.token},
    "code missing": lambda f: {"code": None},
    "code empty": lambda f: {"code": ""},
    "code under another name": lambda f: {"code": None, "Code": f.query["code"]},
    "iss of an attacker": lambda f: {"iss": "https://evil.example"},
    "iss with a slash": lambda f: {"iss": f.provider.url + "/"},
    "iss in capitals": lambda f: {"iss": f.provider.url.replace("http", "HTTP")},
    "iss empty": lambda f: {"iss": ""},
    "iss with a path": lambda f: {"iss": f.provider.url + "/oauth"},
    "iss by another name of the host": lambda f: {"iss": f.provider.url.replace("127.0.0.1", "localhost")},
    "iss with a space": lambda f: {"iss": f.provider.url + " "},
    "error beside the code": lambda f: {"error": "access_denied"},
    "empty error beside the code": lambda f: {"error": ""},
    "error instead of the code": lambda f: {"code": None, "error": "server_error"},
    "error from another issuer": lambda f: {"code": None, "error": "x", "iss": "https://evil.example"},
}


@pytest.mark.parametrize("kind", PARAMETERS)
def test_a_callback_with_forged_parameters(flow: Flow, kind: str) -> None:
    nothing_happened(flow, flow.with_query(PARAMETERS[kind](flow)))


REPEATED: dict[str, Callable[[Flow], Query]] = {
    "state twice": lambda f: [("state", f.query["state"]), ("state", "x")],
    "state twice, the true one last": lambda f: [("state", "x"), ("state", f.query["state"])],
    "the same state twice": lambda f: [("state", f.query["state"])] * 2,
    "code twice": lambda f: [("code", f.query["code"]), ("code", "x")],
    "the same code twice": lambda f: [("code", f.query["code"])] * 2,
    "iss twice": lambda f: [("iss", "https://evil.example"), ("iss", f.provider.url)],
    "error twice": lambda f: [("error", "a"), ("error", "b")],
}


@pytest.mark.parametrize("kind", REPEATED)
def test_a_callback_that_repeats_a_parameter(flow: Flow, kind: str) -> None:
    added = REPEATED[kind](flow)
    query = [(k, v) for k, v in flow.query.items() if k not in dict(added)] + added
    answer = flow.session.browser.get(f"{flow.path()}?{urlencode(query)}")
    refused(answer, 400, "OAuthCallbackError")
    nothing_happened(flow, answer)


PATHS = ["hubspot", "oidc-provider", "no-such-connector", "SANDBOX", "sandbox%20", "sandbox%2F", "%00", "{config}"]


@pytest.mark.parametrize("key", PATHS)
def test_a_callback_at_another_connectors_address(flow: Flow, key: str) -> None:
    path = flow.path(key.format(config=flow.config["id"]))
    answer = flow.session.browser.get(f"{path}?{urlencode(flow.query)}")
    assert 400 <= answer.status_code < 500
    nothing_happened(flow, answer)


# --- the browser ---------------------------------------------------------------------------------------------------

BROWSERS: dict[str, Callable[[Flow, Flow], dict[str, str]]] = {
    "no cookie": lambda f, o: {},
    "empty cookie": lambda f, o: {COOKIE: ""},
    "random cookie": lambda f, o: {COOKIE: "A" * 43},
    "cookie of another flow": lambda f, o: {COOKIE: o.cookie},
    "cookie cut short": lambda f, o: {COOKIE: f.cookie[:-1]},
    "cookie made longer": lambda f, o: {COOKIE: f.cookie + "A"},
    "cookie in other letters": lambda f, o: {COOKIE: f.cookie.swapcase()},
    "cookie under another name": lambda f, o: {"__Host-" + COOKIE: f.cookie},
    "state as cookie": lambda f, o: {COOKIE: f.query["state"]},
    "session token as cookie": lambda f, o: {COOKIE: f.session.token},
}


@pytest.mark.parametrize("kind", BROWSERS)
def test_a_callback_from_another_browser(flow: Flow, foreign: Flow, kind: str) -> None:
    answer = flow.with_cookies(BROWSERS[kind](flow, foreign))
    refused(answer, 400, "OAuthCallbackError")
    nothing_happened(flow, answer)
    # The state is spent: an attacker who lured somebody here can't go on with it, and neither can the true browser.
    refused(flow.session.browser.get(flow.callback), 400, "OAuthCallbackError")
    assert flow.tokens() == 0


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(project: Project, provider: Sandbox) -> None:
    config = sandbox_config(project, provider)
    start = project.session(integration_id=config["id"]).start_oauth(config["id"])
    cookie = start.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie and "path=/" in cookie and "domain" not in cookie
    assert "max-age=600" in cookie


def test_a_cookie_chosen_by_somebody_else_is_not_taken_over(project: Project, provider: Sandbox) -> None:
    config = sandbox_config(project, provider)
    session = project.session(integration_id=config["id"])
    start = client(project.hub.url).get(
        f"/connect/oauth2/{config['id']}", params={"token": session.token}, headers={"cookie": f"{COOKIE}=x"}
    )
    assert len(start.cookies[COOKIE]) >= 40


def test_two_flows_of_one_browser_run_side_by_side(project: Project, provider: Sandbox) -> None:
    config = sandbox_config(project, provider)
    session = project.session(integration_id=config["id"], multiple=True)
    attempts = [session.attempt() for _ in range(2)]
    callbacks = [sandbox_consent(provider)(session.start_oauth(config["id"], a).headers["location"]) for a in attempts]
    for callback in reversed(callbacks):
        assert "status=authenticated" in session.browser.get(callback).headers["location"]
    assert len(project.http.get("/accounts").json()) == 2


# --- flows mixed up ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("taken", ["state", "code", "both"])
def test_parts_of_another_projects_flow(flow: Flow, foreign: Flow, taken: str) -> None:
    """Mallory's state or code in the victim's browser, and the other way round."""
    other = foreign.query
    changes = {k: other[k] for k in (("state", "code") if taken == "both" else (taken,))}
    if taken == "code":
        # The code is sent once, with the verifier of this transaction: the provider refuses it (PKCE, rule O1).
        answer = flow.with_query(dict(changes))
        assert "status=error" in answer.headers["location"]
        assert flow.provider.counters()["token_errors"] == {"invalid_grant": 1}
    else:
        refused(flow.with_query(dict(changes)), 400, "OAuthCallbackError")
        assert flow.tokens() == 0
    for project in (flow.project, foreign.project):
        assert project.http.get("/accounts").json() == []


def test_a_code_of_the_same_browsers_other_flow_does_not_fit(project: Project, provider: Sandbox) -> None:
    first = begin(project, provider)
    attempt = first.session.attempt()
    start = first.session.start_oauth(first.config["id"], attempt)
    second = dict(parse_qsl(urlsplit(sandbox_consent(provider)(start.headers["location"])).query))
    answer = first.with_query({"state": second["state"]})
    assert "status=error" in answer.headers["location"]
    assert first.session.attempt_state(attempt)["error"]["code"] == "pkce_refused"
    assert provider.counters()["token_errors"] == {"invalid_grant": 1}
    assert project.http.get("/accounts").json() == []


@pytest.mark.parametrize("end", ["success", "denial", "forged iss"])
def test_a_state_is_good_once_whatever_became_of_it(flow: Flow, end: str) -> None:
    changes: dict[str, dict[str, str | None]] = {
        "success": {},
        "denial": {"code": None, "error": "access_denied"},
        "forged iss": {"iss": "https://evil.example"},
    }
    assert flow.with_query(changes[end]).status_code == 302
    before = flow.tokens()
    refused(flow.session.browser.get(flow.callback), 400, "OAuthCallbackError")
    assert flow.tokens() == before == (1 if end == "success" else 0)


def test_a_race_of_two_callbacks_has_one_winner(flow: Flow) -> None:
    cookies = {"cookie": f"{COOKIE}={flow.cookie}"}
    browsers = [client(flow.project.hub.url) for _ in range(6)]
    answers = together(*(lambda b=b: b.get(flow.callback, headers=cookies) for b in browsers))
    assert sorted(a.status_code for a in answers) == [302] + [400] * 5
    assert flow.tokens() == 1


# --- what changed between start and callback -----------------------------------------------------------------------


MEANWHILE: dict[str, Callable[[Flow], Any]] = {
    "cancelled": lambda f: f.session.http.delete(f"/hub/connection_attempts/{f.attempt}"),
    "attempt expired": lambda f: age_flow(f.project.hub, f.attempt, attempt_too=True),
    "transaction expired": lambda f: age_flow(f.project.hub, f.attempt, attempt_too=False),
    "config disabled": lambda f: ok(f.project.http.patch(f"/auth_configs/{f.config['id']}", json={"active": False})),
    "config deleted": lambda f: ok(f.project.http.delete(f"/auth_configs/{f.config['id']}"), 204),
    "denied before": lambda f: f.session.browser.get(f"{f.path()}?{urlencode({**f.query, 'error': 'access_denied'})}"),
}


@pytest.mark.parametrize("kind", MEANWHILE)
def test_a_callback_that_comes_too_late(flow: Flow, kind: str) -> None:
    MEANWHILE[kind](flow)
    nothing_happened(flow, flow.session.browser.get(flow.callback))


def test_no_code_is_sent_for_an_account_deleted_meanwhile(project: Project, provider: Sandbox) -> None:
    account = link_sandbox(project, provider)
    config = {"id": project.account(account)["integration_id"]}
    session = project.session(account_id=account)
    start = session.start_oauth(config["id"], session.attempt())
    callback = sandbox_consent(provider)(start.headers["location"])
    ok(project.http.delete(f"/accounts/{account}"))
    before = provider.counters()["token_requests"]
    assert "status=error" in session.browser.get(callback).headers["location"]
    assert provider.counters()["token_requests"] == before
    assert project.http.get("/accounts").json() == []


# --- the start -----------------------------------------------------------------------------------------------------


def start(flow: Flow, integration: str | None = None, **params: str) -> httpx.Response:
    query = {"token": flow.session.token, "connection_attempt_id": flow.session.attempt(), **params}
    return client(flow.project.hub.url).get(f"/connect/oauth2/{integration or flow.config['id']}", params=query)


def expire_session(flow: Flow) -> str:
    async def work(tx: Any) -> None:
        where = ConnectSession.id == flow.session.created["id"]
        await tx.execute(update(ConnectSession).where(where).values(expires_at=clock.now()))

    on_database(flow.project.hub, work)
    return flow.session.token


def disabled(flow: Flow) -> str:
    ok(flow.project.http.patch(f"/auth_configs/{flow.config['id']}", json={"active": False}))
    return str(flow.config["id"])


STARTS: dict[str, tuple[int, Callable[[Flow, Flow], dict[str, str]]]] = {
    "no token": (401, lambda f, o: {"token": ""}),
    "random token": (401, lambda f, o: {"token": "A" * 43}),
    "token cut short": (401, lambda f, o: {"token": f.session.token[:-1]}),
    "endless token": (401, lambda f, o: {"token": "A" * 9000}),
    "API key as token": (401, lambda f, o: {"token": f.project.key}),
    "token of another project": (404, lambda f, o: {"token": o.session.token}),
    "config of another project": (404, lambda f, o: {"integration": o.config["id"]}),
    "random config": (404, lambda f, o: {"integration": "00000000-0000-4000-8000-000000000000"}),
    "config with a NUL": (404, lambda f, o: {"integration": "%00"}),
    "disabled config": (404, lambda f, o: {"integration": disabled(f)}),
    "config that the session does not offer": (
        404,
        lambda f, o: {"integration": sandbox_config(f.project, f.provider)["id"]},
    ),
    "config without consent page": (
        404,
        lambda f, o: {"integration": f.project.config("sandbox", "api_key", {"sandbox_url": f.provider.url})["id"]},
    ),
    "attempt of another project": (404, lambda f, o: {"connection_attempt_id": o.attempt}),
    "attempt of another session": (404, lambda f, o: {"connection_attempt_id": f.project.session("b").attempt()}),
    "random attempt": (404, lambda f, o: {"connection_attempt_id": "00000000-0000-4000-8000-000000000000"}),
    "attempt with a NUL": (400, lambda f, o: {"connection_attempt_id": "\0"}),
    "attempt endless": (404, lambda f, o: {"connection_attempt_id": "A" * 5000}),
    "a field that the form lacks": (422, lambda f, o: {"client_secret": "forged"}),
    "another token endpoint": (422, lambda f, o: {"sandbox_url": "https://evil.example"}),
}


@pytest.mark.parametrize("kind", STARTS)
def test_a_forged_start_goes_nowhere(flow: Flow, foreign: Flow, kind: str) -> None:
    status, make = STARTS[kind]
    answer = start(flow, **make(flow, foreign))
    refused(answer, status)
    assert "location" not in answer.headers and "set-cookie" not in answer.headers
    assert flow.tokens() == 0


def test_a_start_with_an_expired_session(flow: Flow) -> None:
    attempt = flow.attempt
    token = expire_session(flow)
    params = {"token": token, "connection_attempt_id": attempt}
    answer = client(flow.project.hub.url).get(f"/connect/oauth2/{flow.config['id']}", params=params)
    refused(answer, 401, "SessionExpiredError")


def test_an_attempt_that_is_over_starts_nothing(flow: Flow) -> None:
    flow.session.http.delete(f"/hub/connection_attempts/{flow.attempt}")
    refused(start(flow, connection_attempt_id=flow.attempt), 409)


RETURNS = [
    "https://evil.example/",
    "http://127.0.0.1:1/",
    "http://127.0.0.1/",
    "https://127.0.0.1:{port}/",
    "http://127.0.0.1:{port}.evil.example/",
    "http://127.0.0.1:{port}@evil.example/",
    "http://user@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}\\@evil.example/",
    "http://evil.example\\@127.0.0.1:{port}/",
    "http://evil.example/?http://127.0.0.1:{port}/",
    "http://evil.example/#http://127.0.0.1:{port}/",
    "http://127.0.0.1.evil.example:{port}/",
    "http://evil127.0.0.1:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://127.1:{port}/",
    "http://2130706433:{port}/",
    "http://127.0.0.1:{port}x/",
    "http://127.0.0.1:99999/",
    "//evil.example/",
    "//127.0.0.1:{port}/",
    "///evil.example/",
    "/\\evil.example/",
    "\\\\evil.example/",
    "/embedded/accounts/callback",
    "http:evil.example",
    "http:///evil.example/",
    "https:/evil.example/",
    "javascript:alert(1)",
    "javascript://127.0.0.1:{port}/%0aalert(1)",
    "data:text/html,<script>alert(1)</script>",
    "file:///etc/passwd",
    "ftp://127.0.0.1:{port}/",
    "blob:http://127.0.0.1:{port}/x",
    "view-source:http://127.0.0.1:{port}/",
    "ht\ttp://127.0.0.1:{port}/",
    "http://127.0.0.1\n:{port}/",
    " http://127.0.0.1:{port}/",
    "\x01http://127.0.0.1:{port}/",
    "http://127.0.0.1:{port}/\r\nset-cookie: a=b",
    "http://127.0.0.1:{port}/\u2028",
    "http://①27.0.0.1:{port}/",
    "http://127.0.0.1:{port}/" + "a" * 3000,
    "null",
    "*",
]


def test_the_flow_returns_to_no_other_place(flow: Flow) -> None:
    accepted = []
    for url in RETURNS:
        answer = start(flow, redirect_uri=url.format(port=flow.project.hub.port))
        if answer.status_code != 400 or answer.json()["errorCode"] != "RedirectNotAllowedError":
            accepted.append(f"{url[:80]!r}: {answer.status_code} {answer.text[:200]}")
    assert not accepted, "\n".join(accepted)
    assert flow.tokens() == 0


@pytest.mark.parametrize("tail", ["", "/", "/embedded/accounts/callback", "/x?a=1&b=%20", "//evil.example/", "/x#part"])
def test_the_flow_returns_to_our_own_origin(project: Project, provider: Sandbox, tail: str) -> None:
    config = sandbox_config(project, provider)
    session = project.session(integration_id=config["id"])
    back = project.hub.url + tail
    started = session.start_oauth(config["id"], session.attempt(), redirect_uri=back)
    landed = session.browser.get(sandbox_consent(provider)(started.headers["location"])).headers["location"]
    assert urlsplit(landed)[:3] == urlsplit(back)[:3]
    query = parse_qs(urlsplit(landed).query)
    assert query["status"] == ["authenticated"]
    assert {"a": ["1"], "b": [" "]}.items() <= query.items() or "?" not in tail


# --- what a provider says is only text -----------------------------------------------------------------------------


def test_an_error_description_is_shown_as_text_and_cut(flow: Flow) -> None:
    nasty = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\r\nSet-Cookie: a=b\u202e" + "x" * 5000
    answer = flow.with_query({"code": None, "error": "<b>denied</b>", "error_description": nasty})
    landing = flow.session.browser.get(answer.headers["location"])
    assert landing.status_code == 200
    assert "<script>alert" not in landing.text and "<img" not in landing.text and "<b>" not in landing.text
    assert "&lt;script&gt;alert(1)" in landing.text
    assert "set-cookie" not in landing.headers and "\u202e" not in landing.text
    assert len(landing.text) < 8000
    policy = landing.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    state = flow.session.attempt_state(flow.attempt)
    assert state["status"] == "error" and len(state["error"]["description"]) < 1000
    assert state["error"]["code"] == "authorization_failed"
    assert "<b>denied</b>" in state["error"]["description"]  # JSON: shown by the Hub as text


def test_the_landing_page_escapes_what_anybody_writes_into_its_address(project: Project) -> None:
    script = "</script><script>alert(1)</script>"
    for query in (
        {"status": "error", "error": script, "error_description": script},
        {"status": "authenticated", "account_id": script, "provider": script},
    ):
        text = client(project.hub.url).get("/embedded/accounts/callback", params=query).text
        assert "<script>alert" not in text


def test_refusals_hold_no_secret_of_the_flow(flow: Flow) -> None:
    answer = flow.with_cookies({})
    for secret in (flow.query["state"], flow.query["code"], flow.cookie, flow.session.token):
        assert secret not in answer.text
    log = flow.project.hub.log()
    for secret in (flow.query["state"], flow.query["code"], flow.cookie, flow.session.token):
        assert secret not in log


def test_the_flow_of_a_spoofed_host_header_uses_the_configured_callback(flow: Flow) -> None:
    location = (
        client(flow.project.hub.url)
        .get(
            f"/connect/oauth2/{flow.config['id']}",
            params={"token": flow.session.token},
            headers={"host": "evil.example", "x-forwarded-host": "evil.example"},
        )
        .headers["location"]
    )
    assert parse_qs(urlsplit(location).query)["redirect_uri"] == [flow.project.hub.url + flow.path()]


def test_the_attempt_of_an_old_hub_is_made_at_the_start(project: Project, provider: Sandbox) -> None:
    """Hubs before 1.6 send no attempt; the newest attempt of the session still tells how it went."""
    config = sandbox_config(project, provider)
    session = project.session(integration_id=config["id"])
    callback = sandbox_consent(provider)(session.start_oauth(config["id"]).headers["location"])
    landed = session.browser.get(callback).headers["location"]
    account = parse_qs(urlsplit(landed).query)["account_id"][0]
    seen = ok(project.http.post("/connect_sessions/authenticate", json={"token": session.token}), 201)
    assert seen["latest_connection_attempt"]["account_secure_id"] == account
    assert "AccountConnected" in session.browser.get(landed).text


def test_relinking_takes_the_account_from_the_session_alone(project: Project, provider: Sandbox) -> None:
    first = link_sandbox(project, provider)
    config = {"id": project.account(first)["integration_id"]}
    session = project.session("owner-2", integration_id=config["id"])
    attempt = session.attempt()
    refused(session.start_oauth(config["id"], attempt, account_id=first), 422)
    state = run_flow(session, config, sandbox_consent(provider, "globex"))
    assert state["account"]["id"] != first
    assert ok(project.proxy(first, path="/api/me"))["account_id"] == "acct_acme"
