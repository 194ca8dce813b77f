"""The sandbox's OAuth server: consent, PKCE, codes, rotation, revocation, and the switches that bend them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import time
from html.parser import HTMLParser
from urllib.parse import parse_qsl, quote_plus

import httpx
import pytest

from .harness import CLIENT, REDIRECT_URI, Sandbox, authorize_query, code_form

ALL = "profile:read employees:read employees:write"
MACHINE = ("sandbox-machine", "sandbox-machine-secret")


class Form(HTMLParser):
    """The consent form as a browser reads it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.action = ""
        self.inputs: list[dict[str, str | None]] = []
        self.buttons: list[dict[str, str | None]] = []
        self.labels = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "form":
            self.action = dict(attrs)["action"] or ""
        if tag == "input":
            self.inputs.append(dict(attrs))
        if tag == "button":
            self.buttons.append(dict(attrs))
        self.labels += tag == "label"

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [each for each in self.inputs if each["name"] == name]


def error(response: httpx.Response, status: int, code: str) -> None:
    assert (response.status_code, response.json()["error"]) == (status, code), response.text
    assert response.json()["error_description"]
    assert response.headers["cache-control"] == "no-store"


def test_metadata(sandbox: Sandbox) -> None:
    body = sandbox.http.get("/.well-known/oauth-authorization-server").json()
    assert body["issuer"] == sandbox.url
    assert body["code_challenge_methods_supported"] == ["S256"]
    assert body["authorization_response_iss_parameter_supported"] is True
    for name in ("authorization_endpoint", "token_endpoint", "revocation_endpoint"):
        assert sandbox.http.request("OPTIONS", body[name]).status_code == 405  # it is there


def test_consent_by_form(sandbox: Sandbox) -> None:
    page = sandbox.http.get("/oauth/authorize", params=authorize_query(scope="profile:read employees:read"))
    assert page.status_code == 200
    form = Form(page.text)
    assert [each["value"] for each in form.named("company")] == ["acme", "globex"]
    assert [each["value"] for each in form.named("scope")] == ["profile:read", "employees:read"]
    assert all("checked" in each for each in form.named("scope"))
    assert [each["value"] for each in form.buttons] == ["allow", "deny"]
    assert form.labels == 4
    assert 'lang="en"' in page.text
    answer = {"scopes_shown": "1", "company": "globex", "scope": "employees:read", "decision": "allow"}
    response = sandbox.http.post(form.action, data=answer)
    assert response.status_code == 303
    location = response.headers["location"]
    assert location.startswith(REDIRECT_URI + "&code=")
    params = dict(parse_qsl(location.partition("?")[2]))
    assert (params["keep"], params["state"], params["iss"]) == ("1", "st&te=1", sandbox.url)
    tokens = sandbox.token(code_form(params["code"])).json()
    assert tokens["scope"] == "employees:read"
    assert sandbox.me(tokens["access_token"]).json()["account_id"] == "acct_globex"


def test_consent_without_any_box_asks_again(sandbox: Sandbox) -> None:
    answer = {"scopes_shown": "1", "company": "globex", "decision": "allow"}
    response = sandbox.http.post("/oauth/authorize", params=authorize_query(), data=answer)
    assert response.status_code == 400
    assert 'role="alert"' in response.text
    checked = [each["value"] for each in Form(response.text).inputs if "checked" in each]
    assert checked == ["globex"]


def test_consent_cannot_widen(sandbox: Sandbox) -> None:
    answer = {"company": "acme", "decision": "allow", "scope": ["employees:read", "employees:write"]}
    code = sandbox.consent(answer, scope="employees:read")["code"]
    assert sandbox.token(code_form(code)).json()["scope"] == "employees:read"


def test_consent_page_headers_and_escaping(sandbox: Sandbox) -> None:
    page = sandbox.http.get("/oauth/authorize", params=authorize_query(state='"><script>alert(1)</script>'))
    assert "<script" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-frame-options"] == "DENY"
    # the stylesheet that is sent is the one the policy allows
    style = re.search("<style>(.*)</style>", page.text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in page.headers["content-security-policy"]


def test_deny(sandbox: Sandbox) -> None:
    params = sandbox.consent({"decision": "deny", "company": "acme"})
    assert (params["error"], params["state"], params["iss"]) == ("access_denied", "st&te=1", sandbox.url)
    assert "code" not in params


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "unknown"},
        {"client_id": None},
        {"redirect_uri": None},
        {"redirect_uri": "http://app.example/callback"},
        {"redirect_uri": "http://127.0.0.1.evil.example/"},
        {"redirect_uri": "https://app.example/#fragment"},
        {"redirect_uri": "javascript:alert(1)"},
        {"redirect_uri": "https://"},
    ],
)
def test_no_redirect_where_it_is_not_safe(sandbox: Sandbox, changes: dict[str, str | None]) -> None:
    for method in ("GET", "POST"):
        response = sandbox.http.request(method, "/oauth/authorize", params=authorize_query(**changes))
        assert response.status_code == 400
        assert "cannot go on" in response.text


@pytest.mark.parametrize(
    "uri", ["http://localhost:1/x", "http://[::1]:1/x", "https://app.example/cb", "http://127.0.0.1/"]
)
def test_redirect_uris_that_are_fine(sandbox: Sandbox, uri: str) -> None:
    code = sandbox.consent(redirect_uri=uri)["code"]
    assert sandbox.token(code_form(code, redirect_uri=uri)).status_code == 200


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"scope": "employees:read nonsense"}, "invalid_scope"),
        ({"client_id": "sandbox-machine"}, "unauthorized_client"),
    ],
)
def test_authorize_errors_go_back(sandbox: Sandbox, changes: dict[str, str | None], code: str) -> None:
    assert sandbox.http.get("/oauth/authorize", params=authorize_query(**changes)).status_code == 303
    params = sandbox.consent(None, **changes)
    assert (params["error"], params["state"]) == (code, "st&te=1")


def test_code_flow(sandbox: Sandbox) -> None:
    tokens = sandbox.link()
    assert set(tokens) == {"access_token", "token_type", "expires_in", "refresh_token", "scope"}
    assert (tokens["token_type"], tokens["expires_in"], tokens["scope"]) == ("Bearer", 3600, ALL)
    assert sandbox.me(tokens["access_token"]).status_code == 200
    counters = sandbox.counters()
    assert (counters["token_requests"], counters["token_ok"]) == ({"authorization_code": 1}, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": "w" * 43},
        {"code_verifier": None},
        {"code_verifier": "v" * 42},
        {"redirect_uri": "http://127.0.0.1:9/callback"},
        {"code": "unknown"},
    ],
)
def test_wrong_code_request(sandbox: Sandbox, changes: dict[str, str | None]) -> None:
    code = sandbox.consent()["code"]
    error(sandbox.token(code_form(code, **changes)), 400, "invalid_grant")
    if "code" not in changes:  # the first try used it up
        error(sandbox.token(code_form(code)), 400, "invalid_grant")


def test_pkce_is_optional_but_not_removable(sandbox: Sandbox) -> None:
    def code() -> str:
        return sandbox.consent(code_challenge=None, code_challenge_method=None)["code"]

    assert sandbox.token(code_form(code(), code_verifier=None)).status_code == 200
    error(sandbox.token(code_form(code())), 400, "invalid_grant")


def test_code_reuse_revokes_its_tokens(sandbox: Sandbox) -> None:
    code = sandbox.consent()["code"]
    tokens = sandbox.token(code_form(code)).json()
    error(sandbox.token(code_form(code)), 400, "invalid_grant")
    assert sandbox.me(tokens["access_token"]).status_code == 401
    error(sandbox.refresh(tokens["refresh_token"]), 400, "invalid_grant")
    assert sandbox.counters()["reuse_detections"] == 1


def test_code_of_another_client(sandbox: Sandbox) -> None:
    code = sandbox.consent()["code"]
    odd = {"client_id": "sandbox:odd client", "client_secret": "s%2B+e:c/r&é t"}
    error(sandbox.token({**code_form(code), **odd}, auth=None), 400, "invalid_grant")
    assert sandbox.token(code_form(code)).status_code == 200


def test_rotation_and_reuse(sandbox: Sandbox) -> None:
    first = sandbox.link()
    second = sandbox.refresh(first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert sandbox.me(first["access_token"]).status_code == 200
    assert sandbox.me(second["access_token"]).status_code == 200
    third = sandbox.refresh(second["refresh_token"]).json()
    error(sandbox.refresh(first["refresh_token"]), 400, "invalid_grant")
    for tokens in (first, second, third):
        assert sandbox.me(tokens["access_token"]).status_code == 401
    error(sandbox.refresh(third["refresh_token"]), 400, "invalid_grant")
    counters = sandbox.counters()
    assert (counters["reuse_detections"], counters["token_errors"]) == (1, {"invalid_grant": 2})


def test_grace_window(sandbox: Sandbox) -> None:
    sandbox.control("settings", {"grace_seconds": 1})
    first = sandbox.link()
    second = sandbox.refresh(first["refresh_token"]).json()
    again = sandbox.refresh(first["refresh_token"]).json()
    assert again["refresh_token"] == second["refresh_token"]
    assert sandbox.me(again["access_token"]).status_code == 200
    time.sleep(1.05)
    error(sandbox.refresh(first["refresh_token"]), 400, "invalid_grant")
    assert sandbox.counters()["reuse_detections"] == 1


def test_refresh_scope(sandbox: Sandbox) -> None:
    first = sandbox.link(scope="employees:read profile:read")
    error(sandbox.refresh(first["refresh_token"], scope="employees:write"), 400, "invalid_scope")
    narrowed = sandbox.refresh(first["refresh_token"], scope="profile:read").json()
    assert narrowed["scope"] == "profile:read"
    assert sandbox.refresh(narrowed["refresh_token"]).json()["scope"] == "employees:read profile:read"


@pytest.mark.parametrize(
    ("client", "account"),
    [
        (CLIENT, "acct_acme"),
        (MACHINE, "acct_acme"),
        (("sandbox-machine-globex", "sandbox-machine-globex-secret"), "acct_globex"),
    ],
)
def test_client_credentials(sandbox: Sandbox, client: tuple[str, str], account: str) -> None:
    tokens = sandbox.token({"grant_type": "client_credentials", "scope": "profile:read"}, auth=client).json()
    assert "refresh_token" not in tokens
    me = sandbox.me(tokens["access_token"]).json()
    assert (me["account_id"], me["scopes"]) == (account, ["profile:read"])


def test_machine_clients_have_no_code_grant(sandbox: Sandbox) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": "x"}
    error(sandbox.token(form, auth=MACHINE), 400, "unauthorized_client")


def test_client_authentication(sandbox: Sandbox) -> None:
    form = {"grant_type": "client_credentials"}
    post = {"client_id": CLIENT[0], "client_secret": CLIENT[1]}
    assert sandbox.token({**form, **post}, auth=None).status_code == 200
    assert sandbox.token({**form, "client_id": CLIENT[0]}).status_code == 200
    error(sandbox.token({**form, **post}), 400, "invalid_request")
    error(sandbox.token({**form, "client_id": "other"}), 400, "invalid_request")
    for auth, more in (
        ((CLIENT[0], "wrong"), {}),
        (("nobody", "x"), {}),
        (None, {}),
        (None, {"client_id": CLIENT[0]}),
    ):
        response = sandbox.token({**form, **more}, auth=auth)
        error(response, 401, "invalid_client")
        assert response.headers["www-authenticate"].startswith("Basic ")
    assert sandbox.counters()["token_errors"] == {"invalid_request": 2, "invalid_client": 4}


def test_basic_is_form_decoded(sandbox: Sandbox) -> None:
    client_id, secret = "sandbox:odd client", "s%2B+e:c/r&é t"

    def ask(pair: str) -> int:
        header = "Basic " + base64.b64encode(pair.encode()).decode()
        form = {"grant_type": "client_credentials"}
        return sandbox.http.post("/oauth/token", data=form, headers={"authorization": header}).status_code

    assert ask(f"{quote_plus(client_id)}:{quote_plus(secret)}") == 200
    assert ask(f"{client_id}:{secret}") == 401


@pytest.mark.parametrize(
    ("body", "content_type", "code"),
    [
        ("grant_type=password", "application/x-www-form-urlencoded", "unsupported_grant_type"),
        ("", "application/x-www-form-urlencoded", "invalid_request"),
        ("grant_type=refresh_token", "application/x-www-form-urlencoded", "invalid_request"),
        (
            "grant_type=client_credentials&scope=a&scope=b",
            "application/x-www-form-urlencoded",
            "invalid_request",
        ),
        ('{"grant_type": "client_credentials"}', "application/json", "invalid_request"),
        ("grant_type=client_credentials&scope=no", "application/x-www-form-urlencoded", "invalid_scope"),
        ("grant_type=%ff", "application/x-www-form-urlencoded", "invalid_request"),
    ],
)
def test_bad_token_requests(sandbox: Sandbox, body: str, content_type: str, code: str) -> None:
    response = sandbox.http.post("/oauth/token", content=body, headers={"content-type": content_type}, auth=CLIENT)
    error(response, 400, code)


def test_token_request_is_bounded(sandbox: Sandbox) -> None:
    error(sandbox.token({"grant_type": "x" * 70_000}), 413, "invalid_request")
    assert sandbox.http.get("/oauth/token").status_code == 405


def test_revocation(sandbox: Sandbox) -> None:
    def revoke(token: str, auth: tuple[str, str] = CLIENT) -> httpx.Response:
        return sandbox.http.post("/oauth/revoke", data={"token": token}, auth=auth)

    tokens = sandbox.link()
    error(revoke(tokens["refresh_token"], MACHINE), 400, "invalid_grant")
    error(revoke(tokens["refresh_token"], (CLIENT[0], "wrong")), 401, "invalid_client")
    assert revoke("unknown").status_code == 200
    assert sandbox.counters()["revocations"] == 0
    assert revoke(tokens["access_token"]).status_code == 200
    assert sandbox.me(tokens["access_token"]).status_code == 401
    renewed = sandbox.refresh(tokens["refresh_token"]).json()
    assert revoke(renewed["refresh_token"]).status_code == 200
    assert sandbox.me(renewed["access_token"]).status_code == 401
    error(sandbox.refresh(renewed["refresh_token"]), 400, "invalid_grant")
    assert sandbox.counters()["revocations"] == 2


async def test_most_token_requests_in_flight_are_seen(sandbox: Sandbox) -> None:
    sandbox.control("settings", {"token_delay_ms": 400})
    async with httpx.AsyncClient(base_url=sandbox.url) as http:
        form = {"grant_type": "client_credentials"}
        await asyncio.gather(*(http.post("/oauth/token", data=form, auth=CLIENT) for _ in range(4)))
    counters = sandbox.counters()
    assert (counters["max_in_flight_token_requests"], counters["in_flight_token_requests"]) == (4, 0)
