"""Every cause of the connection doctor, produced over the real hub by a provider that fails in its own way."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from mooring.diagnosis.table import CAUSES
from tests.diagnosis.authority import Authority
from tests.diagnosis.cases import CALLBACKS, CREDENTIAL_TESTS, REFRESHES, TOKEN_ANSWERS, causes_of_tables
from tests.diagnosis.provider import GOOD_TOKEN, Answer, Provider, speaking
from tests.flows.linking import age_flow, end_token
from tests.hub import Project, Session, ok, refused
from tests.rows import query

CLIENT = {"client_id": "doctor-app", "client_secret": "canary-client-secret-1"}
CANARIES = ("canary", "doc_live_canary_77x")


def doctor_config(project: Project, method: str = "code", **setup: Any) -> dict[str, Any]:
    own = dict(CLIENT) if method in {"code", "code_form"} else {}
    return project.config("doctor", method, {**own, **setup})


def submit(project: Project, config: dict[str, Any], **values: str) -> Any:
    return project.session(integration_id=config["id"]).submit(config["id"], values)


def found(answer: Any, cause: str) -> dict[str, Any]:
    """The refusal of a link, with its plain words, and without a secret anywhere."""
    body = refused(answer, 422, "CredentialRejectedError")
    assert body["cause"] == cause, body
    told = CAUSES[cause]
    assert told.for_user in body["message"] and body["hint"].startswith(told.what_to_do)
    assert body["diagnosis"]["title"] == told.title and "exchange" not in body and "evidence" not in body
    assert not any(canary in answer.text for canary in CANARIES), answer.text
    return body


@pytest.mark.parametrize("name", CREDENTIAL_TESTS)
def test_the_answer_to_a_test_request(doctor: Project, upstream: Provider, name: str) -> None:
    case = CREDENTIAL_TESTS[name]
    upstream.rules["/me"] = case.answer
    body = found(submit(doctor, doctor_config(doctor, "key"), api_key=case.typed), case.cause)
    assert tuple(body["diagnosis"].get("names", ())) == case.names
    assert all(n in body["hint"] for n in case.names)


def on(port: int, scheme: str = "http", host: str = "127.0.0.1") -> str:
    return f"{scheme}://{host}:{port}"


def reset(stream: socket.socket) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


SPEECH: dict[str, tuple[str, str, Callable[[socket.socket], Any]]] = {
    "a cut": ("reset", "http", reset),
    "another protocol": ("not_http", "http", lambda s: s.sendall(b"220 mail.example ESMTP\r\n\r\n")),
    "an old TLS": ("tls_too_old", "https", lambda s: s.sendall(bytes.fromhex("15030100020246"))),
    "no TLS": ("tls_failed", "https", lambda s: s.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
}


@pytest.mark.parametrize("name", SPEECH)
def test_a_server_that_speaks_otherwise(doctor: Project, doctor_ports: tuple[int, ...], name: str) -> None:
    cause, scheme, say = SPEECH[name]
    with speaking(doctor_ports[1], say):
        config = doctor_config(doctor, "anywhere")
        found(submit(doctor, config, base_url=on(doctor_ports[1], scheme), api_key="doc_live_canary_77x"), cause)


CERTIFICATES = {
    "expired": ("tls_expired", "localhost", {"days": -1}),
    "of another name": ("tls_wrong_name", "other.example", {}),
    "of nobody": ("tls_unknown_ca", "localhost", {"self_signed": True}),
}


@pytest.mark.parametrize("name", CERTIFICATES)
def test_a_bad_certificate(
    doctor: Project, doctor_ports: tuple[int, ...], authority: Authority, certificates: Path, name: str
) -> None:
    cause, host, more = CERTIFICATES[name]
    tls: ssl.SSLContext = authority.context(certificates, host, **more)  # type: ignore[arg-type]
    with speaking(doctor_ports[2], lambda s: s.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"), tls):
        config = doctor_config(doctor, "anywhere")
        address = on(doctor_ports[2], "https", "localhost")
        found(submit(doctor, config, base_url=address, api_key="doc_live_canary_77x"), cause)


ADDRESSES = {
    "https://no-such-host.invalid": "host_unknown",
    "https://10.0.0.1": "egress_blocked",
    "http://doctor.example": "egress_blocked",
    "http://255.255.255.255:9": "unreachable",
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_that_leads_nowhere(doctor: Project, address: str) -> None:
    config = doctor_config(doctor, "anywhere")
    found(submit(doctor, config, base_url=address, api_key="doc_live_canary_77x"), ADDRESSES[address])


def test_a_server_that_refuses(doctor: Project, doctor_ports: tuple[int, ...]) -> None:
    config = doctor_config(doctor, "anywhere")
    found(submit(doctor, config, base_url=on(doctor_ports[3]), api_key="doc_live_canary_77x"), "refused")


def test_a_server_that_does_not_answer_in_time(doctor: Project, doctor_ports: tuple[int, ...]) -> None:
    with socket.create_server(("127.0.0.1", doctor_ports[4]), backlog=0), contextlib.ExitStack() as queue:
        for _ in range(4):  # a full queue: further connections hang
            waiting = queue.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", doctor_ports[4]))
        time.sleep(0.1)
        config = doctor_config(doctor, "anywhere")
        found(submit(doctor, config, base_url=on(doctor_ports[4]), api_key="doc_live_canary_77x"), "timeout")


# --- the sign-in -----------------------------------------------------------------------------------------------------


def begin(project: Project, config: dict[str, Any], **more: Any) -> tuple[Session, str, dict[str, str]]:
    """Session, attempt, and the query with which a well-behaved provider comes back."""
    session = project.session(integration_id=config["id"], **more)
    attempt = session.attempt()
    start = session.start_oauth(config["id"], attempt)
    assert start.status_code == 302, start.text
    state = parse_qs(urlsplit(start.headers["location"]).query)["state"][0]
    back = {"state": state, "code": "canary-code-1", "iss": str(config["_url"]), "tenant": "acme"}
    return session, attempt, back


def come_back(session: Session, params: dict[str, str | None], connector: str = "doctor") -> Any:
    query = urlencode({k: v for k, v in params.items() if v is not None})
    return session.browser.get(f"/connect/oauth2/{connector}/callback?{query}")


@pytest.fixture
def config(doctor: Project, upstream: Provider) -> dict[str, Any]:
    return {**doctor_config(doctor), "_url": upstream.url}


def ended(session: Session, attempt: str, cause: str) -> dict[str, Any]:
    """The attempt as the Hub sees it: the cause as code, and in the description."""
    seen = session.attempt_state(attempt)
    assert (seen["status"], seen["error"]["code"]) == ("error", cause), seen
    assert CAUSES[cause].for_user in seen["error"]["description"]
    assert seen["diagnosis"]["what_to_do"] == CAUSES[cause].what_to_do
    assert not any(canary in json.dumps(seen) for canary in CANARIES), seen
    return seen


@pytest.mark.parametrize("name", TOKEN_ANSWERS)
def test_the_answer_of_a_token_endpoint(doctor: Project, config: dict[str, Any], upstream: Provider, name: str) -> None:
    cause, answer = TOKEN_ANSWERS[name]
    upstream.rules["/token"] = answer
    session, attempt, back = begin(doctor, config)
    assert come_back(session, dict(back)).status_code == 302
    ended(session, attempt, cause)


@pytest.mark.parametrize("name", CALLBACKS)
def test_what_comes_back_to_the_callback(
    doctor: Project, config: dict[str, Any], upstream: Provider, name: str
) -> None:
    cause, changes = CALLBACKS[name]
    session, attempt, back = begin(doctor, config)
    assert come_back(session, {**back, **changes}).status_code == 302
    ended(session, attempt, cause)
    assert not [r for r in upstream.seen if r["path"] == "/token"]


def test_a_callback_without_a_live_sign_in(doctor: Project, config: dict[str, Any]) -> None:
    session, attempt, back = begin(doctor, config)
    age_flow(doctor.hub, attempt, attempt_too=False)
    body = refused(come_back(session, dict(back)), 400, "OAuthCallbackError")
    assert body["cause"] == "state_expired"


def test_a_callback_in_another_browser(doctor: Project, config: dict[str, Any]) -> None:
    session, attempt, back = begin(doctor, config)
    session.browser.cookies.clear()
    assert refused(come_back(session, dict(back)), 400)["cause"] == "other_browser"
    ended(session, attempt, "other_browser")


def test_a_callback_at_another_connector(doctor: Project, config: dict[str, Any]) -> None:
    session, attempt, back = begin(doctor, config)
    assert refused(come_back(session, dict(back), "blocked"), 400)["cause"] == "callback_mixed_up"
    ended(session, attempt, "callback_mixed_up")


def test_a_window_that_was_closed(doctor: Project, config: dict[str, Any]) -> None:
    session, attempt, back = begin(doctor, config)
    session.http.delete(f"/hub/connection_attempts/{attempt}")
    seen = session.attempt_state(attempt)
    assert (seen["status"], seen["error"], seen["diagnosis"]["cause"]) == ("cancelled", None, "popup_closed")
    landed = come_back(session, dict(back))
    assert parse_qs(urlsplit(landed.headers["location"]).query)["error"] == ["popup_closed"]


def test_an_attempt_whose_time_is_over(doctor: Project, config: dict[str, Any]) -> None:
    session, attempt, _ = begin(doctor, config)
    age_flow(doctor.hub, attempt, attempt_too=True)
    seen = session.attempt_state(attempt)
    assert (seen["status"], seen["diagnosis"]["cause"]) == ("expired", "attempt_expired")


def test_a_config_that_was_disabled(doctor: Project, config: dict[str, Any]) -> None:
    session, attempt, back = begin(doctor, config)
    ok(doctor.http.patch(f"/auth_configs/{config['id']}", json={"active": False}))
    come_back(session, dict(back))
    ended(session, attempt, "disabled")


def test_a_form_that_is_not_complete(doctor: Project) -> None:
    config = doctor_config(doctor, "code_form")
    session = doctor.session(integration_id=config["id"])
    attempt = session.attempt()
    assert session.start_oauth(config["id"], attempt).status_code == 422
    assert session.attempt_state(attempt)["diagnosis"]["cause"] == "invalid_form"


def test_a_private_key_that_is_none(doctor: Project, upstream: Provider) -> None:
    made = doctor.config("doctor", "code_key", {"client_id": "doctor-app", "private_key": "canary-not-a-key"})
    session, attempt, back = begin(doctor, {**made, "_url": upstream.url})
    come_back(session, dict(back))
    ended(session, attempt, "setup_incomplete")


def test_a_fault_of_our_own(doctor: Project, config: dict[str, Any]) -> None:
    session, attempt, back = begin(doctor, config)
    query(doctor.hub, "UPDATE oauth_transactions SET sealed = :x WHERE attempt_id = :a", x=b"broken", a=attempt)
    assert come_back(session, dict(back)).status_code == 500
    ended(session, attempt, "internal_error")


def test_a_token_endpoint_that_is_blocked_is_told_before_anybody_consents(doctor: Project) -> None:
    config = doctor.config("blocked", "code", CLIENT)
    session = doctor.session(integration_id=config["id"])
    attempt = session.attempt()
    assert refused(session.start_oauth(config["id"], attempt), 422)["cause"] == "egress_blocked"
    ended(session, attempt, "egress_blocked")


# --- linked accounts -------------------------------------------------------------------------------------------------


def link(project: Project, config: dict[str, Any]) -> str:
    session, attempt, back = begin(project, config)
    come_back(session, dict(back))
    seen = session.attempt_state(attempt)
    assert seen["status"] == "authenticated", seen
    return str(seen["account"]["id"])


def reason(project: Project, account: str) -> dict[str, Any]:
    return dict(project.account(account)["status_reasons"][-1])


@pytest.mark.parametrize("name", REFRESHES)
def test_a_refresh_that_fails(doctor: Project, config: dict[str, Any], upstream: Provider, name: str) -> None:
    cause, status, answer = REFRESHES[name]
    account = link(doctor, config)
    upstream.rules["/token"] = list(answer) if isinstance(answer, list) else answer
    end_token(doctor.hub, account)
    called = doctor.proxy(account, path="/me")
    assert called.status_code in {401, 502} and called.json()["cause"] == cause
    seen = doctor.account(account)
    told = seen["status_reasons"][-1]
    assert (seen["status"], told["code"]) == (status, cause)
    assert told["what_to_do"] == CAUSES[cause].what_to_do and told["for_operator"] == CAUSES[cause].for_operator
    (listed,) = ok(doctor.http.get("/accounts", params={"account_ids": account}))
    assert listed["status_reasons"][-1]["code"] == cause and listed["status_reasons"][-1]["evidence"] is None
    assert told["evidence"]["method"] == "POST" and told["evidence"]["url"].endswith("/token")
    assert not any(canary in json.dumps(told) for canary in CANARIES), told


def test_no_refresh_token(doctor: Project, config: dict[str, Any], upstream: Provider) -> None:
    upstream.rules["/token"] = Answer(200, {**GOOD_TOKEN, "refresh_token": None})
    account = link(doctor, config)
    end_token(doctor.hub, account)
    assert doctor.proxy(account, path="/me").json()["cause"] == "no_refresh_token"
    assert reason(doctor, account)["code"] == "no_refresh_token"


def test_fewer_permissions_than_asked(doctor: Project, config: dict[str, Any], upstream: Provider) -> None:
    upstream.rules["/token"] = Answer(200, {**GOOD_TOKEN, "scope": "people.read"})
    account = link(doctor, config)
    seen = doctor.account(account)
    assert (seen["status"], seen["missing_scopes"]) == ("active", ["people.write"])
    assert seen["status_reasons"][-1]["code"] == "scopes_too_narrow"
    assert "people.write" in seen["status_reasons"][-1]["description"]


def test_another_identity(doctor: Project, config: dict[str, Any], upstream: Provider) -> None:
    account = link(doctor, config)
    upstream.rules["/me"] = Answer(200, {"id": "acct_2", "name": "Globex"})
    assert link(doctor, config) == account
    assert reason(doctor, account)["code"] == "identity_changed"


def test_a_call_that_gets_no_answer(doctor: Project, doctor_ports: tuple[int, ...]) -> None:
    config = doctor_config(doctor, "anywhere")
    answer = b'HTTP/1.1 200 OK\r\ncontent-length: 11\r\ncontent-type: application/json\r\n\r\n{"id": "a"}'
    with speaking(doctor_ports[1], lambda s: s.sendall(answer)):
        account = doctor.link(config, {"base_url": on(doctor_ports[1]), "api_key": "doc_live_canary_77x"})
    body = refused(doctor.proxy(account, path="/me"), 502, "ProviderError")
    assert body["cause"] == "refused" and body["hint"] == CAUSES["refused"].for_operator


ELSEWHERE = {
    "stray_spaces", "tls_expired", "tls_wrong_name", "tls_unknown_ca", "host_unknown", "egress_blocked", "unreachable",
    "refused", "timeout", "state_expired", "other_browser", "callback_mixed_up", "popup_closed", "attempt_expired",
    "disabled", "invalid_form", "setup_incomplete", "internal_error", "no_refresh_token", "scopes_too_narrow",
    "identity_changed",
    # test_preflight.py
    "clock_skew", "discovery_mismatch",
}  # fmt: skip


def test_every_cause_is_produced() -> None:
    produced = causes_of_tables() | ELSEWHERE | {cause for cause, _, _ in SPEECH.values()}
    assert produced == set(CAUSES)
    sources = "".join(p.read_text() for p in Path(__file__).parent.glob("test_*.py"))
    assert all(sources.count(f'"{cause}"') >= 2 for cause in ELSEWHERE - {"stray_spaces"}), [
        c for c in ELSEWHERE if sources.count(f'"{c}"') < 2
    ]
