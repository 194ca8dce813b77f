"""The OAuth side against panva's oidc-provider: a certified server, written by others, with strict rotation."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx
import pytest
from joserfc.jwk import ECKey

from tests.flows.linking import (
    age_flow,
    end_token,
    link,
    oidc_consent,
    run_flow,
    together,
    wait_until,
)
from tests.hub import Project, Session, ok, refused
from tests.servers.oidc import OidcServer

BASIC = {"client_id": "basic-app", "client_secret": "basic-secret"}
ODD = {"client_id": "odd:app%/+ x", "client_secret": "s:e%c r+e/t~"}
POST = {"client_id": "post-app", "client_secret": "post-secret"}
PUSHED = {"client_id": "par-app", "client_secret": "par-secret"}
MACHINE = {"client_id": "machine", "client_secret": "machine-secret"}
LARGE = 400 * 1024  # more than what is kept for a second try


def jwk_text(oidc: OidcServer) -> dict[str, str]:
    return {"client_id": "pkjwt-app", "private_key": json.dumps(oidc.private_key())}


def pem_text(oidc: OidcServer) -> dict[str, str]:
    pem = ECKey.import_key(oidc.private_key()).as_pem(private=True).decode()
    return {"client_id": "pkjwt-app", "private_key": pem}


CLIENTS: dict[str, tuple[str, Any]] = {
    "secret in Basic": ("code", lambda _: BASIC),
    "odd characters form-encoded inside Basic": ("code", lambda _: ODD),
    "secret in the body": ("code_post", lambda _: POST),
    "signed assertion, key as JWK": ("code_key", jwk_text),
    "signed assertion, key as PEM": ("code_key", pem_text),
}


@pytest.fixture
def account(project: Project, oidc: OidcServer) -> str:
    """An account of jane's, with the provider's counts at zero."""
    made = link(project, project.config("oidc-provider", "code", BASIC), oidc_consent(project, oidc))
    oidc.reset()
    return made


def changed(url: str, **values: str | None) -> str:
    """The callback URL with parameters replaced, or removed by None."""
    parts = urlsplit(url)
    query = {**dict(parse_qsl(parts.query)), **values}
    return parts._replace(query=urlencode({k: v for k, v in query.items() if v is not None})).geturl()


@pytest.mark.parametrize("kind", CLIENTS)
def test_link_call_and_renew(project: Project, oidc: OidcServer, kind: str) -> None:
    method, setup = CLIENTS[kind]
    config = project.config("oidc-provider", method, setup(oidc))
    account = link(project, config, oidc_consent(project, oidc))
    assert ok(project.proxy(account, path="/api/me"))["sub"] == "jane"
    oidc.reset()
    oidc.expire_access()
    assert ok(project.proxy(account, path="/api/me"))["sub"] == "jane"
    stats = oidc.stats()
    assert (stats["token"], stats["token_ok"], stats["token_err"]) == (1, 1, {})


def test_the_request_has_pkce_state_and_the_configured_callback(project: Project, oidc: OidcServer) -> None:
    config = project.config("oidc-provider", "code", BASIC)
    session = project.session(integration_id=config["id"])
    starts = [session.start_oauth(config["id"]) for _ in range(2)]
    queries = [{k: v[0] for k, v in parse_qs(urlsplit(s.headers["location"]).query).items()} for s in starts]
    for query in queries:
        assert query["code_challenge_method"] == "S256"
        assert len(query["code_challenge"]) == 43 and len(query["state"]) >= 22
        assert query["redirect_uri"] == f"{project.hub.url}/connect/oauth2/oidc-provider/callback"
        assert "secret" not in " ".join(query)
    assert queries[0]["state"] != queries[1]["state"]
    assert queries[0]["code_challenge"] != queries[1]["code_challenge"]


def test_a_pushed_request_leaves_nothing_but_a_reference_in_the_browser(project: Project, oidc: OidcServer) -> None:
    """RFC 9126, with a client that may send no other request."""
    config = project.config("oidc-provider", "code_par", PUSHED)
    session = project.session(integration_id=config["id"])
    start = session.start_oauth(config["id"])
    query = parse_qs(urlsplit(start.headers["location"]).query)
    assert query.keys() == {"client_id", "request_uri"} and query["request_uri"][0].startswith("urn:")
    account = link(project, config, oidc_consent(project, oidc))
    assert ok(project.proxy(account, path="/api/me"))["sub"] == "jane"
    checks = ok(project.http.post(f"/auth_configs/{config['id']}/preflight", json={}))["checks"]
    assert {c["check"]: c["status"] for c in checks}["callback_registered"] == "ok"


def test_a_pushed_request_that_is_refused_says_why(project: Project, oidc: OidcServer) -> None:
    config = project.config("oidc-provider", "code_par", {**PUSHED, "client_secret": "wrong"})
    session = project.session(integration_id=config["id"])
    attempt = session.attempt()
    refused(session.start_oauth(config["id"], attempt), 422, "CredentialRejectedError")
    state = session.attempt_state(attempt)
    assert state["status"] == "error" and state["error"]["code"] == "client_rejected"
    assert oidc.stats()["token"] == 0
    checks = ok(project.http.post(f"/auth_configs/{config['id']}/preflight", json={}))["checks"]
    assert {c["check"]: c["status"] for c in checks}["callback_registered"] == "failed"


def test_the_callback_is_not_taken_from_the_host_header(project: Project, oidc: OidcServer) -> None:
    config = project.config("oidc-provider", "code", BASIC)
    session = project.session(integration_id=config["id"])
    spoofed = {"host": "evil.example", "x-forwarded-host": "evil.example", "x-forwarded-proto": "https"}
    start = session.browser.get(f"/connect/oauth2/{config['id']}", params={"token": session.token}, headers=spoofed)
    assert "evil" not in start.headers["location"]


def test_strict_rotation_over_several_refreshes(project: Project, oidc: OidcServer, account: str) -> None:
    for turn in (1, 2, 3, 4):
        oidc.expire_access()
        assert ok(project.proxy(account, path="/api/me"))["sub"] == "jane"
        stats = oidc.stats()
        assert (stats["token"], stats["token_err"], stats["reuse_detected"]) == (turn, {}, 0)


def test_a_token_known_to_have_ended_is_never_sent(project: Project, oidc: OidcServer, account: str) -> None:
    end_token(project.hub, account)
    ok(project.proxy(account, path="/api/me"))
    stats = oidc.stats()
    assert (stats["token"], stats["api"], stats["api_401"]) == (1, 1, 0)


@pytest.mark.parametrize("way", ["stream", "envelope"])
def test_a_post_is_replayed_with_the_same_body(project: Project, oidc: OidcServer, account: str, way: str) -> None:
    body = json.dumps({"text": "é" * 5000}, ensure_ascii=False, separators=(",", ":")).encode()
    oidc.expire_access()
    if way == "stream":
        seen = ok(project.proxy(account, "POST", "/api/echo?a=1&a=2", content=body))
    else:
        ask = {"method": "post", "path": "/api/echo?a=1&a=2", "body": json.loads(body)}
        seen = ok(project.http.post("/unified/proxy", json=ask, headers={"x-account-id": account}))["data"]
    assert seen["method"] == "POST" and seen["url"] == "/api/echo?a=1&a=2"
    assert seen["body_sha256"] == hashlib.sha256(body).hexdigest()
    stats = oidc.stats()
    assert (stats["token"], stats["api"], stats["api_401"]) == (1, 2, 1)


def test_a_large_streamed_body_is_not_replayed(project: Project, oidc: OidcServer, account: str) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(LARGE // 4096):
            yield b"x" * 4096

    oidc.expire_access()
    first = project.proxy(account, "POST", "/api/echo", content=pieces())
    assert first.status_code == 401
    time.sleep(1.5)  # nor is the new token put to the test: the old one was to blame
    assert oidc.stats()["api"] == 1
    # The token was renewed all the same, so that the caller's own second try works.
    again = ok(project.proxy(account, "POST", "/api/echo", content=pieces()))
    assert again["body_sha256"] == hashlib.sha256(b"x" * LARGE).hexdigest()
    assert oidc.stats()["token"] == 1


ISS = {"wrong": ("https://evil.example", "issuer_mismatch"), "missing": (None, "issuer_missing")}


@pytest.mark.parametrize("kind", ISS)
def test_iss_is_checked(project: Project, oidc: OidcServer, kind: str) -> None:
    value, code = ISS[kind]
    config = project.config("oidc-provider", "code", BASIC)
    consent = oidc_consent(project, oidc)
    state = run_flow(project.session(integration_id=config["id"]), config, lambda url: changed(consent(url), iss=value))
    assert state["status"] == "error" and state["error"]["code"] == code
    assert oidc.stats()["token"] == 0
    assert project.http.get("/accounts").json() == []


def test_denial_ends_the_attempt_with_the_providers_word(project: Project, oidc: OidcServer) -> None:
    config = project.config("oidc-provider", "code", BASIC)
    state = run_flow(project.session(integration_id=config["id"]), config, oidc_consent(project, oidc, deny=True))
    assert (state["status"], state["error"]["code"], state["account"]) == ("error", "access_denied", None)
    assert oidc.stats()["token"] == 0


def late(project: Project, oidc: OidcServer, meanwhile: Any) -> tuple[Session, str, httpx.Response]:
    """A flow in which something happens between the consent and the callback."""
    config = project.config("oidc-provider", "code", BASIC)
    session = project.session(integration_id=config["id"])
    attempt = session.attempt()
    start = session.start_oauth(config["id"], attempt)
    callback = oidc_consent(project, oidc)(start.headers["location"])
    meanwhile(config, session, attempt)
    return session, attempt, session.browser.get(callback)


def test_a_callback_after_cancelling_connects_nothing(project: Project, oidc: OidcServer) -> None:
    def cancel(_: Any, session: Session, attempt: str) -> None:
        assert session.http.delete(f"/hub/connection_attempts/{attempt}").status_code == 204

    session, attempt, landed = late(project, oidc, cancel)
    assert "status=error" in landed.headers["location"]
    assert session.attempt_state(attempt)["status"] == "cancelled"
    assert project.http.get("/accounts").json() == []
    assert oidc.stats()["token"] == 0


def test_a_callback_after_the_attempts_end_connects_nothing(project: Project, oidc: OidcServer) -> None:
    def expire(_: Any, __: Session, attempt: str) -> None:
        age_flow(project.hub, attempt, attempt_too=True)

    session, attempt, _ = late(project, oidc, expire)
    assert session.attempt_state(attempt)["status"] == "expired"
    assert project.http.get("/accounts").json() == []
    assert oidc.stats()["token"] == 0


def test_no_code_is_sent_for_a_config_disabled_meanwhile(project: Project, oidc: OidcServer) -> None:
    def disable(config: dict[str, Any], *_: Any) -> None:
        ok(project.http.patch(f"/auth_configs/{config['id']}", json={"active": False}))

    session, attempt, _ = late(project, oidc, disable)
    state = session.attempt_state(attempt)
    assert (state["status"], state["error"]["code"]) == ("error", "disabled")
    assert oidc.stats()["token"] == 0


def test_a_slow_cancellation_wins_over_the_token_that_comes(project: Project, oidc: OidcServer) -> None:
    oidc.fault("tokenDelayAfterCommit", ms=900)
    config = project.config("oidc-provider", "code", BASIC)
    session = project.session(integration_id=config["id"])
    attempt = session.attempt()
    callback = oidc_consent(project, oidc)(session.start_oauth(config["id"], attempt).headers["location"])

    def cancel() -> httpx.Response:
        wait_until(lambda: oidc.stats()["token"] == 1)
        return session.http.delete(f"/hub/connection_attempts/{attempt}")

    together(lambda: session.browser.get(callback), cancel)
    assert session.attempt_state(attempt)["status"] == "cancelled"
    assert project.http.get("/accounts").json() == []


def test_fewer_scopes_than_asked_are_stored_and_shown(project: Project, oidc: OidcServer) -> None:
    asked = ["openid", "offline_access", "payroll"]
    config = project.config("oidc-provider", "code", {**BASIC, "scopes": asked})
    seen = project.account(link(project, config, oidc_consent(project, oidc)))
    assert set(seen["granted_scopes"]) == {"openid", "offline_access"}
    assert seen["missing_scopes"] == ["payroll"]


def test_relinking_keeps_the_id_and_takes_the_new_grant(project: Project, oidc: OidcServer, account: str) -> None:
    config_id = project.account(account)["integration_id"]
    state = run_flow(project.session(account_id=account), {"id": config_id}, oidc_consent(project, oidc))
    assert (state["status"], state["account"]["id"]) == ("authenticated", account)
    assert len(project.http.get("/accounts").json()) == 1
    oidc.expire_access()
    assert ok(project.proxy(account, path="/api/me"))["sub"] == "jane"


def test_relinking_as_somebody_else_is_noted(project: Project, oidc: OidcServer, account: str) -> None:
    config_id = project.account(account)["integration_id"]
    consent = oidc_consent(project, oidc, login="mallory")
    state = run_flow(project.session(account_id=account), {"id": config_id}, consent)
    assert state["warning"]["code"] == "identity_changed"
    assert "mallory" in state["warning"]["description"] and "jane" in state["warning"]["description"]
    seen = project.account(account)
    assert seen["provider_account"]["id"] == "mallory"
    told = ok(project.http.get("/events", params={"event": "account.identity_changed"}))["data"]
    assert [e["account_id"] for e in told] == [account]
    assert [r["code"] for r in seen["status_reasons"]] == ["identity_changed"]


def test_client_credentials_are_minted_anew_after_expiry(project: Project, oidc: OidcServer) -> None:
    account = project.link(project.config("oidc-provider", "machine"), MACHINE)
    for turn in (2, 3):
        oidc.expire_access()
        assert ok(project.proxy(account, path="/api/me"))["client_id"] == "machine"
        assert oidc.stats()["token"] == turn
    assert oidc.stats()["api_401"] == 2


def test_wrong_client_credentials_are_refused_before_saving(project: Project, oidc: OidcServer) -> None:
    config = project.config("oidc-provider", "machine")
    session = project.session(integration_id=config["id"])
    body = refused(session.submit(config["id"], {**MACHINE, "client_secret": "wrong"}), 422, "CredentialRejectedError")
    assert body["cause"] == "client_rejected"
    assert project.http.get("/accounts").json() == []


def test_a_wrong_client_secret_ends_the_attempt_with_its_cause(project: Project, oidc: OidcServer) -> None:
    config = project.config("oidc-provider", "code", {**BASIC, "client_secret": "wrong-secret-canary"})
    state = run_flow(project.session(integration_id=config["id"]), config, oidc_consent(project, oidc))
    assert (state["status"], state["error"]["code"]) == ("error", "client_rejected")
    assert "canary" not in json.dumps(state)


@pytest.mark.parametrize("key", ["no key at all", "-----BEGIN PRIVATE KEY-----\nbm8=\n-----END PRIVATE KEY-----", "{}"])
def test_an_unusable_private_key_is_named_and_not_shown(project: Project, oidc: OidcServer, key: str) -> None:
    config = project.config("oidc-provider", "code_key", {"client_id": "pkjwt-app", "private_key": key})
    state = run_flow(project.session(integration_id=config["id"]), config, oidc_consent(project, oidc))
    assert state["status"] == "error" and "private key" in state["error"]["description"]
    assert oidc.stats()["token"] == 0


def test_deleting_an_account_revokes_both_tokens(project: Project, oidc: OidcServer, account: str) -> None:
    ok(project.http.delete(f"/accounts/{account}"))
    wait_until(lambda: oidc.stats()["revoke"] == 2)
    assert oidc.stats()["grant_revocations"] >= 1
    refused(project.proxy(account, path="/api/me"), 404)
    assert oidc.stats()["api"] == 0


def test_a_deletion_does_not_wait_for_the_provider(project: Project, oidc: OidcServer, account: str) -> None:
    ok(project.http.patch(f"/auth_configs/{project.account(account)['integration_id']}", json={"active": False}))
    took = project.http.delete(f"/accounts/{account}").elapsed.total_seconds()
    assert took < 2
    wait_until(lambda: oidc.stats()["revoke"] == 2)


def test_the_reuse_of_a_code_is_refused_without_asking_the_provider(project: Project, oidc: OidcServer) -> None:
    config = project.config("oidc-provider", "code", BASIC)
    session = project.session(integration_id=config["id"])
    callback = oidc_consent(project, oidc)(session.start_oauth(config["id"], session.attempt()).headers["location"])
    assert session.browser.get(callback).status_code == 302
    refused(session.browser.get(callback), 400, "OAuthCallbackError")
    assert oidc.stats()["token"] == 1


def test_a_lost_answer_at_a_strict_provider_is_said_as_it_is(project: Project, oidc: OidcServer, account: str) -> None:
    end_token(project.hub, account)
    oidc.fault("tokenDropAfterCommit")
    refused(project.proxy(account, path="/api/me"), 401, "AccountExpiredCredentialsError")
    seen = project.account(account)
    assert (seen["status"], seen["status_reasons"][-1]["code"]) == ("expired", "uncertain_rotation")
    assert oidc.stats()["token"] == 2  # the request and its one repetition
    refused(project.proxy(account, path="/api/me"), 401, "AccountExpiredCredentialsError")
    assert (oidc.stats()["token"], oidc.stats()["api"]) == (2, 0)  # and nothing more
