"""From a form to an account: causes of refusal, nothing half-written, the upsert rule, edit mode (contract §2.1, 2.12)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.conftest import Ports
from tests.hub import Project, Session, client, ok, refused
from tests.rows import counts, query
from tests.sandbox.harness import Sandbox

KEY = {"api_key": "sandbox-key-acme"}
NOTHING = {"accounts": 0, "credentials": 0, "data_keys": 0}


@contextmanager
def provider_that_answers(port: int, status: int, body: bytes, **headers: str) -> Iterator[list[str]]:
    """A provider with one answer to everything; yields the request lines that it saw."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.requestline)
            self.send_response(status)
            for name, value in {"content-type": "application/json", **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def submit(project: Project, config: dict[str, Any], credentials: dict[str, Any], **session: Any) -> Any:
    return project.session(integration_id=config["id"], **session).submit(config["id"], credentials)


def rejected(project: Project, answer: Any, cause: str) -> dict[str, Any]:
    """A refusal of the test before saving: 422 with the cause, and nothing written."""
    body = refused(answer, 422, "CredentialRejectedError")
    assert body["cause"] == cause, body
    assert body["message"] and body["hint"]
    assert counts(project.hub, project.id) == NOTHING
    return body


@pytest.fixture
def config(project: Project, provider: Sandbox) -> dict[str, Any]:
    return project.config("sandbox", "api_key", {"sandbox_url": provider.url})


# Why a test failed


def test_a_wrong_key_is_named_and_not_repeated(project: Project, config: dict[str, Any]) -> None:
    answer = submit(project, config, {"api_key": "canary-wrong-key-1"})
    body = rejected(project, answer, "wrong_credentials")
    assert "Answer 401:" in body["provider_response"]
    assert "canary-wrong-key-1" not in answer.text


STRAY = {
    "a space inside": "sandbox-key acme",
    "a line break inside": "sandbox-key-\nacme",
    "a tab inside": "sandbox-key-\tacme",
    "a zero-width space at the end": "sandbox-key-acme\u200b",
    "a byte order mark in front": "\ufeffsandbox-key-acme",
    "a no-break space inside": "sandbox-key\u00a0acme",
}


@pytest.mark.parametrize("case", STRAY)
def test_white_space_inside_a_value_is_the_cause(project: Project, config: dict[str, Any], case: str) -> None:
    body = rejected(project, submit(project, config, {"api_key": STRAY[case]}), "stray_spaces")
    assert "api_key" in body["hint"]


@pytest.mark.parametrize("around", ["  {}", "{}\n", "\t{} \r\n", "\u00a0{}\u00a0"])
def test_white_space_around_a_value_is_trimmed(project: Project, config: dict[str, Any], around: str) -> None:
    account = ok(submit(project, config, {"api_key": around.format("sandbox-key-acme")}))["id"]
    ok(project.proxy(account, path="/api/me"))


ANSWERS = {
    "a refusal for lack of rights": (403, b"{}", {}, "missing_scope"),
    "a login page": (200, b"<html><form>Sign in</form>", {"content_type": "text/html; charset=utf-8"}, "not_the_api"),
    "a login page in capitals": (200, b"<html>", {"content_type": "Text/HTML"}, "not_the_api"),
    "nothing at this address": (404, b"{}", {}, "wrong_host"),
    "a redirect": (302, b"", {"location": "https://example.com/login"}, "login_redirect"),
    "a permanent redirect": (308, b"", {"location": "https://example.com/api"}, "moved"),
    "an error of the provider": (500, b"oops", {}, "provider_error"),
    "maintenance": (503, b"oops", {}, "provider_error"),
    "a limit": (429, b"{}", {"retry_after": "60"}, "rate_limited"),
    "a bad request": (400, b'{"message":"bad key"}', {}, "wrong_credentials"),
    "an error inside a good status": (200, b'{"ok":false,"error":"denied"}', {}, "unexpected_answer"),
    "half an answer": (200, b'{"account_id": "acct', {}, "unexpected_answer"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_each_answer_of_a_provider_has_its_cause(project: Project, ports: Ports, case: str) -> None:
    status, content, headers, cause = ANSWERS[case]
    port = ports.spare[0]
    headers = {k.replace("content_type", "content-type"): v for k, v in headers.items()}
    with provider_that_answers(port, status, content, **headers) as seen:
        config = project.config("sandbox", "api_key", {"sandbox_url": f"http://127.0.0.1:{port}"})
        answer = submit(project, config, KEY)
    body = rejected(project, answer, cause)
    assert len(seen) == 1  # no redirect followed, nothing tried twice with a doubtful key
    assert f"Answer {status}:" in body["provider_response"] and "<" not in body["provider_response"]


def test_a_provider_that_repeats_the_key_does_not_leak_it(project: Project, ports: Ports) -> None:
    port = ports.spare[0]
    with provider_that_answers(port, 401, b'{"error":"bad key canary-echoed-key-77"}'):
        config = project.config("sandbox", "api_key", {"sandbox_url": f"http://127.0.0.1:{port}"})
        answer = submit(project, config, {"api_key": "canary-echoed-key-77"})
    rejected(project, answer, "wrong_credentials")
    assert "canary-echoed-key-77" not in answer.text


def test_an_address_where_nobody_listens_refuses(project: Project, ports: Ports) -> None:
    config = project.config("sandbox", "api_key", {"sandbox_url": f"http://127.0.0.1:{ports.spare[1]}"})
    rejected(project, submit(project, config, KEY), "refused")


NO_PROVIDERS = {
    "http://169.254.169.254": "egress_blocked",
    "http://127.0.0.1:22": "egress_blocked",
    "https://no-such-host.invalid": "host_unknown",
}


@pytest.mark.parametrize("url", NO_PROVIDERS)
def test_an_address_that_is_none_of_a_provider_is_named(project: Project, url: str) -> None:
    config = project.config("sandbox", "api_key", {"sandbox_url": url})
    rejected(project, submit(project, config, KEY), NO_PROVIDERS[url])


def test_refused_client_credentials_write_nothing(project: Project, provider: Sandbox) -> None:
    config = project.config("sandbox", "client_credentials", {"sandbox_url": provider.url})
    answer = submit(project, config, {"client_id": "sandbox-machine", "client_secret": "canary-wrong-secret"})
    rejected(project, answer, "client_rejected")
    assert "canary-wrong-secret" not in answer.text
    for mode, cause in (
        ("status_500", "provider_error"),
        ("status_429", "rate_limited"),
        ("html_200", "token_not_json"),
    ):
        provider.fault("token", mode)
        good = {"client_id": "sandbox-machine", "client_secret": "sandbox-machine-secret"}
        rejected(project, submit(project, config, good), cause)


# Faults of the form


FAULTS = {
    "missing": ({}, "API key: is required"),
    "empty": ({"api_key": "  "}, "API key: is required"),
    "null": ({"api_key": None}, "API key: is required"),
    "a list": ({"api_key": ["sandbox-key-acme"]}, "API key: must be text"),
    "a truth": ({"api_key": True}, "API key: must be text"),
    "too long": ({"api_key": "x" * 20_001}, "API key: is longer than 20000 characters"),
    "control characters": ({"api_key": "a\x01b"}, "API key: holds control characters"),
    "unknown": ({**KEY, "apikey": "canary-unknown"}, "apikey: this form has no such field"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_faulty_form_is_refused_before_the_provider_is_asked(
    project: Project, config: dict[str, Any], provider: Sandbox, case: str
) -> None:
    credentials, fault = FAULTS[case]
    answer = submit(project, config, credentials)
    body = refused(answer, 422, "ValidationError")
    assert body["errors"] == [fault] and fault in body["message"]
    assert "canary" not in answer.text
    assert provider.counters()["api_calls"] == 0 and counts(project.hub, project.id) == NOTHING


def test_all_faults_of_a_form_come_at_once(project: Project) -> None:
    config = project.config("redmine", "api_key")
    body = refused(submit(project, config, {"base_url": "not an address", "nosuch": "x"}), 422, "ValidationError")
    assert len(body["errors"]) == 3


def test_a_select_takes_nothing_but_its_options(project: Project) -> None:
    config = project.config("teamtailor", "api_key")
    body = refused(submit(project, config, {"api_key": "x", "region": "evil.example#"}), 422, "ValidationError")
    assert body["errors"] == ["Region: must be one of api, api.na"]


def test_a_method_with_a_consent_page_takes_no_form(project: Project) -> None:
    config = project.config("hubspot", "oauth2", {"client_id": "a", "client_secret": "b"})
    refused(submit(project, config, {}), 422)


# The upsert rule


def test_the_same_owner_edits_the_same_account(project: Project, config: dict[str, Any]) -> None:
    first = project.link(config, KEY, label="Old", metadata={"plan": "gold"}, origin_username="ada")
    again = project.link(config, {"api_key": "sandbox-key-globex"})
    assert again == first
    seen = project.account(first)
    assert seen["provider_account"]["id"] == "acct_globex"
    assert seen["label"] == "Old" and seen["metadata"] == {"plan": "gold"} and seen["origin_username"] == "ada"
    assert ok(project.proxy(first, path="/api/me"))["account_id"] == "acct_globex"
    assert counts(project.hub, project.id) == {"accounts": 1, "credentials": 1, "data_keys": 1}
    assert project.link(config, KEY, metadata={}, label="New") == first  # `{}` is an object that an SDK lost
    assert project.account(first)["metadata"] == {"plan": "gold"} and project.account(first)["label"] == "New"


def test_another_owner_name_or_connector_is_another_account(project: Project, config: dict[str, Any]) -> None:
    ids = {
        project.link(config, KEY),
        project.link(config, KEY, origin_owner_name="Another"),
        project.link(config, KEY, owner="x"),
    }
    assert len(ids) == 3


def test_owner_fields_are_compared_as_a_whole(project: Project, config: dict[str, Any]) -> None:
    a = project.link(config, KEY, origin_owner_id="ab", origin_owner_name="c")
    assert project.link(config, KEY, origin_owner_id="a", origin_owner_name="bc") != a


def test_multiple_always_makes_a_new_account(project: Project, config: dict[str, Any]) -> None:
    one = project.link(config, KEY)
    several = {project.link(config, KEY, multiple=True) for _ in range(2)}
    assert len(several | {one}) == 3
    assert project.link(config, KEY) == one


def test_multiple_means_nothing_in_edit_mode(project: Project, config: dict[str, Any]) -> None:
    account = project.link(config, KEY)
    assert project.link(config, KEY, account_id=account, multiple=True) == account


def test_relinking_heals_an_account_in_error(project: Project, config: dict[str, Any]) -> None:
    account = project.link(config, KEY)
    for status in ("error", "expired"):
        query(project.hub, "UPDATE accounts SET status = :s WHERE id = :id", s=status, id=account)
        assert project.link(config, KEY) == account
        assert project.account(account)["status"] == "active"


@pytest.mark.parametrize("edit", [False, True])
def test_twenty_submissions_at_once_make_one_account(
    project: Project, config: dict[str, Any], provider: Sandbox, edit: bool
) -> None:
    provider.control("settings", {"api_delay_ms": 300})  # all tests end, and all are saved, at the same moment
    more = {"account_id": project.link(config, KEY)} if edit else {}
    tokens = [project.session(integration_id=config["id"], **more).token for _ in range(20)]

    def link(token: str) -> tuple[int, str]:
        http = client(project.hub.url, headers={"x-hub-session-token": token})
        answer = http.post("/hub/accounts", json={"integration_id": config["id"], "credentials": KEY})
        return answer.status_code, answer.text

    with ThreadPoolExecutor(20) as pool:
        answers = set(pool.map(link, tokens))
    assert len(answers) == 1 and {status for status, _ in answers} == {200}, answers
    assert counts(project.hub, project.id) == {"accounts": 1, "credentials": 1, "data_keys": 1}


def test_links_and_a_delete_at_once_leave_no_secret_of_a_deleted_account(
    project: Project, config: dict[str, Any]
) -> None:
    for _ in range(3):
        account = project.link(config, KEY)
        tokens = [project.session(account_id=account).token for _ in range(5)]

        def link(token: str) -> int:
            http = client(project.hub.url, headers={"x-hub-session-token": token})
            return http.post("/hub/accounts", json={"integration_id": config["id"], "credentials": KEY}).status_code

        with ThreadPoolExecutor(6) as pool:
            links = [pool.submit(link, token) for token in tokens]
            gone = pool.submit(client(project.hub.url, auth=(project.key, "")).delete, f"/accounts/{account}")
        assert gone.result().status_code == 200
        assert {f.result() for f in links} <= {200, 404}
        left = counts(project.hub, project.id)
        assert left["credentials"] == left["data_keys"] == 0


# Edit mode


@pytest.fixture
def service_user(project: Project, provider: Sandbox) -> tuple[dict[str, Any], str, Session]:
    """A config, an account on it, and a session in edit mode."""
    config = project.config("sandbox", "service_user", {"sandbox_url": provider.url})
    typed = {"service_user_id": "SERVICE-1001", "service_user_token": "sandbox-service-token"}
    account = project.link(config, typed)
    return config, account, project.session(account_id=account)


def edit(session: Session, account: str, config: dict[str, Any], **credentials: Any) -> Any:
    body = {"integration_id": config["id"], "credentials": credentials}
    return session.http.patch(f"/hub/accounts/{account}", json=body)


def test_edit_mode_shows_the_account_with_its_secrets_masked(
    service_user: tuple[dict[str, Any], str, Session],
) -> None:
    config, account, session = service_user
    assert ok(session.http.get("/hub/settings"))["existing_account_id"] == account
    answer = session.http.get(f"/hub/accounts/{account}")
    assert ok(answer) == {
        "secureId": account,
        "provider": "sandbox",
        "setupInformation": {"service_user_id": "SERVICE-1001"},
        "secrets": {"service_user_token": "__secretvalue:**redacted**oken"},
        "version": ok(answer)["version"],
        "authConfigKey": "service_user",
        "environment": "production",
        "integrationId": config["id"],
        "status": "active",
        "name": "owner-1 Inc.",
    }
    assert "sandbox-service-token" not in answer.text


def test_what_is_left_out_empty_or_masked_keeps_its_value(
    project: Project, service_user: tuple[dict[str, Any], str, Session]
) -> None:
    config, account, session = service_user
    masked = "__secretvalue:**redacted**oken"
    for credentials in (
        {},
        {"service_user_id": "SERVICE-2002"},
        {"service_user_token": masked},
        {"service_user_token": ""},
    ):
        answer = ok(edit(session, account, config, **credentials))
        warning = answer.pop("warning", None)
        assert answer == {"id": account, "provider": "sandbox"}
        assert (warning or {}).get("code") == ("identity_changed" if "service_user_id" in credentials else None)
    seen = project.account(account)
    assert seen["setup_information"] == {"service_user_id": "SERVICE-2002"}
    assert ok(project.proxy(account, path="/api/me"))["account_id"] == "acct_globex"
    assert seen["status_reasons"][-1]["code"] == "identity_changed"


def test_a_refused_edit_keeps_what_worked(project: Project, service_user: tuple[dict[str, Any], str, Session]) -> None:
    config, account, session = service_user
    before = project.account(account)
    body = refused(edit(session, account, config, service_user_token="wrong"), 422, "CredentialRejectedError")
    assert body["cause"] == "wrong_credentials"
    assert project.account(account) == before
    ok(project.proxy(account, path="/api/me"))


def test_a_session_sees_and_changes_no_account_but_its_own(
    project: Project, service_user: tuple[dict[str, Any], str, Session]
) -> None:
    config, account, session = service_user
    typed = {"service_user_id": "SERVICE-2002", "service_user_token": "sandbox-service-token"}
    other = project.link(config, typed, owner="other")
    plain = project.session(owner="owner-1", integration_id=config["id"], manage_accounts=False)
    for http, id in ((session.http, other), (session.http, "GnQoASvosYhE5wJcmmAQs"), (plain.http, account)):
        seen = refused(http.get(f"/hub/accounts/{id}"), 404, "NotFoundError")
        changed = http.patch(f"/hub/accounts/{id}", json={"integration_id": config["id"], "credentials": typed})
        assert seen["message"] == refused(changed, 404, "NotFoundError")["message"] == "no such account"
    assert ok(project.proxy(other, path="/api/me"))["account_id"] == "acct_globex"


def test_moving_to_another_config_keeps_the_id(project: Project, config: dict[str, Any], provider: Sandbox) -> None:
    account = project.link(config, KEY)
    target = project.config("sandbox", "basic", {"sandbox_url": provider.url})
    session = project.session(account_id=account, integration_id=target["id"])
    shown = ok(session.http.get(f"/hub/accounts/{account}"))
    assert shown["integrationId"] == target["id"] and shown["authConfigKey"] == "basic"
    assert shown["secrets"] == {} and shown["setupInformation"] == {}  # nothing stored fits this form
    refused(edit(session, account, target), 422, "ValidationError")
    assert ok(edit(session, account, target, username="globex-admin", password="sandbox-password"))["id"] == account
    seen = project.account(account)
    assert seen["integration_id"] == target["id"] and seen["authentication_config_key"] == "basic"
    assert ok(project.proxy(account, path="/api/me"))["account_id"] == "acct_globex"


def test_moving_within_one_method_keeps_what_was_typed(
    project: Project, config: dict[str, Any], provider: Sandbox
) -> None:
    account = project.link(config, KEY)
    target = project.config("sandbox", "api_key", {"sandbox_url": provider.url})
    session = project.session(account_id=account, integration_id=target["id"])
    assert ok(session.http.get(f"/hub/accounts/{account}"))["secrets"] == {"api_key": "__secretvalue:**redacted**acme"}
    assert ok(edit(session, account, target))["id"] == account
    assert project.account(account)["integration_id"] == target["id"]


def test_a_config_disabled_meanwhile_links_nothing(project: Project, config: dict[str, Any]) -> None:
    session = project.session(integration_id=config["id"])
    ok(project.http.patch(f"/auth_configs/{config['id']}", json={"active": False}))
    refused(session.submit(config["id"], KEY), 404)
    assert counts(project.hub, project.id) == NOTHING
