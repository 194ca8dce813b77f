"""The OAuth side against two more servers written by others: django-oauth-toolkit, and Authlib's.

Each cell is a server, a grant, and a way in which the client proves itself. `test_oidc_provider.py` has the third server.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from joserfc.jwk import ECKey

from tests.flows.linking import Consent, link, run_flow, together, wait_until
from tests.hub import Project, ok, refused
from tests.servers.oauth import AuthlibServer, OAuthServer

ME = "/api/me"
SHARED_SECRET = "a-shared-secret:long&odd+%/~"
# The clients are in the counterparts' server.py. Those with a key share one, which the server gives out.
CLIENTS: dict[str, tuple[str, dict[str, str]]] = {
    "secret in Basic": ("code_basic", {"client_id": "basic-app", "client_secret": "basic-secret"}),
    "odd characters in Basic": ("code_basic", {"client_id": "odd:app%/+ x", "client_secret": "s:e%c r+e/t~"}),
    "secret in the body": ("code_post", {"client_id": "post-app", "client_secret": "post-secret"}),
    "signed assertion": ("code_private_key_jwt", {"client_id": "key-app"}),
    "assertion by the secret": ("code_client_secret_jwt", {"client_id": "shared-app", "client_secret": SHARED_SECRET}),
    "public client": ("code_none", {"client_id": "public-app"}),
    "machine, secret in Basic": ("machine_basic", {"client_id": "basic-machine", "client_secret": "basic-secret"}),
    "machine, secret in the body": ("machine_post", {"client_id": "post-machine", "client_secret": "post-secret"}),
    "machine, signed assertion": ("machine_private_key_jwt", {"client_id": "key-machine"}),
    "machine, assertion by the secret": (
        "machine_client_secret_jwt",
        {"client_id": "shared-machine", "client_secret": SHARED_SECRET},
    ),
    "assertion as grant": ("robot", {"user": "jane"}),
}
SIGNED = {"signed assertion", "machine, signed assertion", "assertion as grant"}
SERVERS = ("django-oauth", "authlib")
ASSERTED = {*SIGNED, "assertion by the secret", "machine, assertion by the secret"}
CELLS = [(server, kind) for server in SERVERS for kind in CLIENTS if server == "authlib" or kind not in ASSERTED]
CODE = [(server, kind) for server, kind in CELLS if CLIENTS[kind][0].startswith("code")]
WITH_SECRET = [cell for cell in CELLS if cell[1] != "public client"]


class Cell:
    """One cell in a project of a hub."""

    def __init__(self, project: Project, server: OAuthServer, kind: str) -> None:
        self.project = project
        self.server = server
        self.method, self.values = CLIENTS[kind][0], dict(CLIENTS[kind][1])
        self.by_form = not self.method.startswith("code")
        if kind in SIGNED:
            assert isinstance(server, AuthlibServer)
            self.values["private_key"] = json.dumps(server.private_key())

    def config(self) -> dict[str, Any]:
        return self.project.config(self.server.name, self.method, {} if self.by_form else self.values)

    def consent(self, *, deny: bool = False) -> Consent:
        """A person at the server's pages."""
        callback = f"{self.project.hub.url}/connect/oauth2/{self.server.name}/callback"
        return lambda location: self.server.consent(location, callback, deny=deny)

    def link(self) -> str:
        if self.by_form:
            return self.project.link(self.config(), self.values)
        return link(self.project, self.config(), self.consent())

    def works(self, account: str) -> None:
        seen = ok(self.project.proxy(account, path=ME))
        if self.method.startswith("machine"):
            assert (seen["sub"], seen["client_id"]) == (None, self.values["client_id"])
        else:
            assert seen["sub"] == "jane"

    def reason(self, account: str) -> tuple[str, str | None]:
        """Status and newest reason."""
        seen = self.project.account(account)
        return seen["status"], seen["status_reasons"][-1]["code"] if seen["status_reasons"] else None


Start = Callable[[str], OAuthServer]


@pytest.fixture(scope="session")
def start(request: pytest.FixtureRequest) -> Start:
    """Starts a server when it is asked for the first time."""
    return lambda name: request.getfixturevalue(f"{name.replace('-', '_')}_running")


@pytest.fixture
def server(request: pytest.FixtureRequest, start: Start) -> OAuthServer:
    """The server that the parameter names, its counts at zero and no token alive."""
    found = start(request.param)
    found.expire_access()
    found.reset()
    return found


def cell_of(project: Project, server: OAuthServer, kind: str) -> Cell:
    """A cell with the hub's callback registered, the server's counts at zero and none of its tokens alive."""
    server.allow(f"{project.hub.url}/connect/oauth2/{server.name}/callback")
    server.expire_access()
    server.reset()
    return Cell(project, server, kind)


@pytest.fixture
def cell(request: pytest.FixtureRequest, project: Project, start: Start) -> Cell:
    """The cell that the parameter names."""
    name, kind = request.param
    return cell_of(project, start(name), kind)


def each(cells: list[tuple[str, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("cell", cells, indirect=True, ids=[f"{name}: {kind}" for name, kind in cells])


# --- what the servers enforce, without the hub ---------------------------------------------------------------------

CALLBACK = "http://127.0.0.1:9/callback"
BASIC = ("basic-app", "basic-secret")


def ask_code(server: OAuthServer, **changes: str | None) -> dict[str, str]:
    """Ask for a code as jane; the query of the redirect, with the verifier."""
    server.allow(CALLBACK)
    verifier = secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    query = {
        "response_type": "code",
        "client_id": BASIC[0],
        "redirect_uri": CALLBACK,
        "scope": "profile",
        "state": "state-1",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        **changes,
    }
    url = f"{server.base_url}{server.authorize}?{urlencode({k: v for k, v in query.items() if v is not None})}"
    answer = parse_qs(urlsplit(server.consent(url, CALLBACK)).query)
    return {"verifier": verifier, **{name: values[0] for name, values in answer.items()}}


def ask_token(server: OAuthServer, **form: str) -> httpx.Response:
    return httpx.post(server.base_url + server.token, data=form, auth=BASIC, trust_env=False)


def exchange(server: OAuthServer, code: dict[str, str], **changes: str) -> httpx.Response:
    form = {"code": code["code"], "redirect_uri": CALLBACK, "code_verifier": code["verifier"]}
    return ask_token(server, grant_type="authorization_code", **{**form, **changes})


def me(server: OAuthServer, token: str) -> int:
    headers = {"authorization": f"Bearer {token}"}
    return httpx.get(server.base_url + ME, headers=headers, trust_env=False).status_code


@pytest.mark.parametrize("server", SERVERS, indirect=True)
def test_the_server_wants_pkce_with_s256(server: OAuthServer) -> None:
    assert ask_code(server, code_challenge=None, code_challenge_method=None)["error"] == "invalid_request"
    assert "code" not in ask_code(server, code_challenge_method="plain")
    code = ask_code(server)
    assert (code["state"], code["iss"]) == ("state-1", server.base_url)
    assert exchange(server, code, code_verifier="x" * 50).json()["error"] == "invalid_grant"


@pytest.mark.parametrize("server", SERVERS, indirect=True)
def test_the_server_wants_the_redirect_uri_letter_for_letter(server: OAuthServer) -> None:
    # django-oauth-toolkit takes any port of 127.0.0.1 (RFC 8252 §7.3), and nothing else.
    ports = () if server.name == "django-oauth" else (CALLBACK.replace(":9", ":99"),)
    for other in (f"{CALLBACK}/", f"{CALLBACK}-2", CALLBACK.replace("127.0.0.1", "localhost"), *ports):
        with pytest.raises(RuntimeError, match="answered 4"):
            ask_code(server, redirect_uri=other)


@pytest.mark.parametrize("server", SERVERS, indirect=True)
def test_the_server_ends_the_grant_when_a_refresh_token_comes_twice(server: OAuthServer) -> None:
    first = ok(exchange(server, ask_code(server)))
    second = ok(ask_token(server, grant_type="refresh_token", refresh_token=first["refresh_token"]))
    assert (me(server, first["access_token"]), me(server, second["access_token"])) == (401, 200)
    for spent in (first, second):
        answer = ask_token(server, grant_type="refresh_token", refresh_token=spent["refresh_token"])
        assert answer.json()["error"] == "invalid_grant"
    assert me(server, second["access_token"]) == 401


# --- through the hub -----------------------------------------------------------------------------------------------


@each(CELLS)
def test_each_token_that_ends_is_renewed_once(cell: Cell) -> None:
    account = cell.link()
    cell.works(account)
    assert cell.server.stats()["token_ok"] == 1
    cell.server.reset()
    # Twenty callers at once, then one after the other; each time with the refresh token of the turn before, if there is one.
    for turn, callers in enumerate((20, 1, 1), 1):
        assert cell.server.expire_access() == 1
        answers = together(*[lambda: cell.project.proxy(account, path=ME)] * callers)
        assert [answer.status_code for answer in answers] == [200] * callers
        stats = cell.server.stats()
        assert (stats["token"], stats["token_ok"], stats["token_err"]) == (turn, turn, {})
    cell.works(account)
    assert cell.reason(account) == ("active", None)


@each(CODE)
def test_a_grant_that_the_server_ended_is_said_and_reconnected(cell: Cell) -> None:
    account = cell.link()
    cell.server.revoke_grants()
    assert cell.project.proxy(account, path=ME).status_code == 401  # the server's own: the access token ended with it
    status, reason = cell.reason(account)
    assert (status, reason) == ("expired", "grant_refused")
    assert cell.server.stats()["token_err"] == {"invalid_grant": 1}
    refused(cell.project.proxy(account, path=ME), 401, "AccountExpiredCredentialsError")
    assert cell.server.stats()["token_err"] == {"invalid_grant": 1}  # it is not asked again

    config = {"id": cell.project.account(account)["integration_id"]}
    state = run_flow(cell.project.session(account_id=account), config, cell.consent())
    assert (state["status"], state["account"]["id"]) == ("authenticated", account)
    cell.works(account)
    assert cell.reason(account)[0] == "active"


@each([(server, "secret in Basic") for server in SERVERS])
def test_denial_ends_the_attempt_with_the_servers_word(cell: Cell) -> None:
    config = cell.config()
    state = run_flow(cell.project.session(integration_id=config["id"]), config, cell.consent(deny=True))
    assert (state["status"], state["error"]["code"], state["account"]) == ("error", "access_denied", None)
    assert cell.server.stats()["token"] == 0
    assert ok(cell.project.http.get("/accounts")) == []


@each(WITH_SECRET)
def test_a_wrong_secret_or_key_is_said_and_not_shown(cell: Cell) -> None:
    wrong = "wrong-canary-77"
    if "private_key" in cell.values:
        wrong = ECKey.generate_key("P-256").as_pem(private=True).decode()
        cell.values["private_key"] = wrong
    else:
        cell.values["client_secret"] = wrong
    config = cell.config()
    session = cell.project.session(integration_id=config["id"])
    if cell.by_form:
        told = refused(session.submit(config["id"], cell.values), 422, "CredentialRejectedError")
        code = told["cause"]
    else:
        told = run_flow(session, config, cell.consent())
        assert told["status"] == "error"
        code = told["error"]["code"]
    assert code == ("grant_refused" if cell.method == "robot" else "client_rejected")
    assert wrong not in json.dumps(told) and "PRIVATE KEY" not in json.dumps(told)
    assert ok(cell.project.http.get("/accounts")) == []


@each([*CODE, ("django-oauth", "machine, secret in Basic"), ("authlib", "machine, signed assertion")])
def test_deleting_an_account_revokes_its_tokens(cell: Cell) -> None:
    account = cell.link()
    ok(cell.project.http.delete(f"/accounts/{account}"))
    wait_until(lambda: cell.server.stats()["revoke_ok"] == (1 if cell.by_form else 2))
    assert cell.server.stats()["revoke"] == cell.server.stats()["revoke_ok"]
    assert cell.server.expire_access() == 0  # none is alive


def test_tokens_that_ended_by_themselves_are_never_sent(project: Project, start: Start) -> None:
    kinds = {"django-oauth": "machine, secret in Basic", "authlib": "secret in Basic"}
    cells = [cell_of(project, start(name), kind) for name, kind in kinds.items()]
    for cell in cells:
        cell.server.live_for(2)
    accounts = [cell.link() for cell in cells]
    time.sleep(2)
    for cell, account in zip(cells, accounts, strict=True):
        cell.server.reset()
        cell.works(account)
        stats = cell.server.stats()
        assert (stats["token"], stats["api"], stats["api_401"]) == (1, 1, 0)
