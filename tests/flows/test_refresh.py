"""Renewing tokens: odd answers, faulty providers, storms of callers, dying processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from mooring.accounts import refresh as engine
from mooring.accounts.leases import LEASE_SECONDS
from mooring.accounts.tokens import TOKEN_DEADLINE
from mooring.kit import clock
from tests.conftest import Ports
from tests.faults.load import children, is_ready
from tests.flows.linking import (
    alter,
    credential,
    end_token,
    link,
    link_sandbox,
    make_due,
    oidc_consent,
    refreshes,
    run_flow,
    sandbox_config,
    sandbox_consent,
    together,
    wait_until,
)
from tests.hub import Hub, Project, ok, refused
from tests.sandbox.harness import Sandbox
from tests.servers.oidc import OidcServer
from tests.servers.ports import free_port
from tests.servers.postgres import PostgresServer

ME = "/api/me"
OIDC_CLIENT = {"client_id": "basic-app", "client_secret": "basic-secret"}


@pytest.fixture
def account(project: Project, provider: Sandbox) -> str:
    """An account at the sandbox whose token the hub holds for ended."""
    made = link_sandbox(project, provider)
    end_token(project.hub, made)
    return made


def code_of(project: Project, account: str) -> tuple[str, str | None]:
    """Status and newest reason of an account."""
    seen = project.account(account)
    return seen["status"], seen["status_reasons"][-1]["code"] if seen["status_reasons"] else None


# --- what providers answer -----------------------------------------------------------------------------------------

ODD_ANSWERS: dict[str, dict[str, Any]] = {
    "no expires_in": {"omit_expires_in": True},
    "expires_in as text": {"expires_in_as_string": True},
    "a huge expires_in": {"access_token_ttl": 900_000_000},
    "form-encoded": {"form_encoded_tokens": True},
    "form-encoded without expires_in": {"form_encoded_tokens": True, "omit_expires_in": True},
    "bearer in small letters": {"token_type": "bearer"},
    "old access token revoked": {"revoke_old_access_token": True},
    "no rotation": {"rotate": False},
    "errors as 200": {"error_200": True},
}


@pytest.mark.parametrize("kind", ODD_ANSWERS)
def test_odd_token_answers_are_understood(project: Project, provider: Sandbox, kind: str) -> None:
    provider.control("settings", ODD_ANSWERS[kind] | {"error_200": False})
    account = link_sandbox(project, provider)
    assert ok(project.proxy(account, path=ME))["account_id"] == "acct_acme"
    provider.control("expire")
    provider.control("settings", ODD_ANSWERS[kind] | {"error_200": False})
    assert ok(project.proxy(account, path=ME))["account_id"] == "acct_acme"
    assert refreshes(provider) == 1


@pytest.mark.parametrize(
    ("kind", "bounds"),
    [
        ("no expires_in", None),
        ("a huge expires_in", None),
        ("expires_in as text", (3595, 3605)),
        ("old access token revoked", (3595, 3605)),
    ],
)
def test_the_end_of_a_token_is_what_the_provider_says(
    project: Project, provider: Sandbox, kind: str, bounds: tuple[int, int] | None
) -> None:
    provider.control("settings", ODD_ANSWERS[kind])
    row = credential(project.hub, link_sandbox(project, provider))
    assert row is not None
    if bounds is None:
        assert row.expires_at is None and row.refresh_at is None
        return
    assert row.expires_at is not None and row.refresh_at is not None
    assert bounds[0] <= (row.expires_at - clock.now()).total_seconds() <= bounds[1]
    ahead = (row.expires_at - row.refresh_at).total_seconds()
    assert 0 < ahead <= 300


def test_a_short_lifetime_does_not_cost_a_refresh_per_call(project: Project, provider: Sandbox) -> None:
    provider.control("settings", {"access_token_ttl": 5})
    account = link_sandbox(project, provider)
    row = credential(project.hub, account)
    assert row is not None and row.expires_at is not None
    assert (row.expires_at - row.refresh_at).total_seconds() <= 2.5  # never more than half of the life
    assert [project.proxy(account, path=ME).status_code for _ in range(5)] == [200] * 5
    assert refreshes(provider) == 0


@pytest.mark.parametrize("token_type", ["mac", "DPoP", "N_A"])
def test_a_token_type_that_we_cannot_send_links_nothing(project: Project, provider: Sandbox, token_type: str) -> None:
    provider.control("settings", {"token_type": token_type})
    config = sandbox_config(project, provider)
    state = run_flow(project.session(integration_id=config["id"]), config, sandbox_consent(provider))
    assert state["status"] == "error"
    assert project.http.get("/accounts").json() == []


def test_an_error_with_status_200_is_an_error(project: Project, provider: Sandbox) -> None:
    provider.control("settings", {"error_200": True})
    config = sandbox_config(project, provider, client_secret="wrong")
    state = run_flow(project.session(integration_id=config["id"]), config, sandbox_consent(provider))
    assert (state["status"], state["error"]["code"]) == ("error", "client_rejected")


@pytest.mark.parametrize(("switch", "code"), [("wrong_iss", "issuer_mismatch"), ("omit_iss", None)])
def test_iss_of_a_provider_that_does_not_promise_it(
    project: Project, provider: Sandbox, switch: str, code: str | None
) -> None:
    provider.control("settings", {switch: True})
    config = sandbox_config(project, provider)
    state = run_flow(project.session(integration_id=config["id"]), config, sandbox_consent(provider))
    assert (state["error"] or {}).get("code") == code
    assert provider.counters()["token_requests"].get("authorization_code", 0) == (0 if code else 1)


def test_without_a_refresh_token_the_account_expires_and_nothing_is_sent(project: Project, provider: Sandbox) -> None:
    provider.control("settings", {"omit_refresh_token": True})
    account = link_sandbox(project, provider)
    assert ok(project.proxy(account, path=ME))
    before = provider.counters()
    end_token(project.hub, account)
    body = refused(project.proxy(account, path=ME), 401, "AccountExpiredCredentialsError")
    assert "reconnect" in body["hint"].lower()
    assert code_of(project, account) == ("expired", "no_refresh_token")
    refused(project.proxy(account, path=ME), 401, "AccountExpiredCredentialsError")
    after = provider.counters()
    assert (after["token_requests"], after["api_calls"]) == (before["token_requests"], before["api_calls"])


def test_an_expired_account_serves_again_once_relinked(project: Project, provider: Sandbox) -> None:
    provider.control("settings", {"omit_refresh_token": True})
    account = link_sandbox(project, provider)
    end_token(project.hub, account)
    refused(project.proxy(account, path=ME), 401)
    config = {"id": project.account(account)["integration_id"]}
    state = run_flow(project.session(account_id=account), config, sandbox_consent(provider))
    assert state["account"]["id"] == account
    assert ok(project.proxy(account, path=ME))
    assert code_of(project, account) == ("active", None)


def test_an_answer_without_refresh_token_keeps_the_old_one(project: Project, provider: Sandbox) -> None:
    account = link_sandbox(project, provider)
    provider.control("settings", {"omit_refresh_token": True, "rotate": False})
    for turn in (1, 2, 3):
        provider.control("expire")
        assert ok(project.proxy(account, path=ME))
        assert refreshes(provider) == turn


def test_a_refresh_that_narrows_the_scopes_is_shown(project: Project, provider: Sandbox, account: str) -> None:
    assert project.account(account)["missing_scopes"] == []
    provider.control("settings", {"scope_downgrade": True})
    ok(project.proxy(account, path=ME))
    seen = project.account(account)
    assert seen["granted_scopes"] == ["employees:read"]
    assert seen["missing_scopes"] == ["employees:write"]


# --- what goes wrong at a provider ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class End:
    """How a call whose token had ended ends: status and code of the answer, state of the account, token requests."""

    status: int
    code: str | None
    account: tuple[str, str | None]
    sent: int


FINE = ("active", None)
RECOVERED = End(200, None, FINE, 2)


def kept(cause: str) -> End:
    """The provider is at fault: the account is kept in error, with the cause."""
    return End(502, "TokenRefreshFailedError", ("error", cause), 1)


FAULTS: dict[str, End] = {
    "status_429": kept("rate_limited"),
    "status_500": kept("provider_error"),
    "status_503": kept("provider_error"),
    "error_200": kept("token_request_refused"),
    "redirect_307": kept("token_redirected"),
    "invalid_client": kept("client_rejected"),
    "html_200": RECOVERED,
    "truncated_json": RECOVERED,
    "huge": RECOVERED,
    "drop_before": RECOVERED,
    "delay_after_commit": End(200, None, FINE, 1),
    "invalid_grant": End(401, "AccountExpiredCredentialsError", ("expired", "grant_refused"), 1),
    "drop_after_commit": End(401, "AccountExpiredCredentialsError", ("expired", "uncertain_rotation"), 2),
}


@pytest.mark.parametrize("mode", FAULTS)
def test_a_faulty_token_endpoint(project: Project, provider: Sandbox, account: str, mode: str) -> None:
    provider.fault("token", mode, **({"ms": 700} if mode == "delay_after_commit" else {}))
    before = provider.counters()["api_calls"]
    answer = project.proxy(account, path=ME)
    end = FAULTS[mode]
    assert (answer.status_code, answer.json().get("errorCode")) == (end.status, end.code), answer.text
    assert code_of(project, account) == end.account
    counters = provider.counters()
    assert counters["token_requests"]["refresh_token"] == end.sent
    assert counters["redirects_followed"] == 0
    assert counters["api_calls"] - before == (1 if end.status == 200 else 0)
    if end.status == 502:
        assert int(answer.headers["retry-after"]) >= 1
        alter(project.hub, account, retry_at=None)
        assert ok(project.proxy(account, path=ME))  # the provider is back, and nothing was lost
        assert code_of(project, account) == FINE


@pytest.mark.parametrize("mode", ["html_200", "truncated_json", "huge", "drop_before"])
def test_an_unclear_answer_is_repeated_once_and_no_more(
    project: Project, provider: Sandbox, account: str, mode: str
) -> None:
    provider.fault("token", mode, times=9)
    refused(project.proxy(account, path=ME), 502, "TokenRefreshFailedError")
    assert refreshes(provider) == 2
    cause = {"huge": "answer_too_large", "drop_before": "reset"}.get(mode, "token_not_json")
    assert code_of(project, account) == ("error", cause)


def test_deadlines_are_total(project: Project, provider: Sandbox) -> None:
    """A silent and a dripping token endpoint end after the deadline, both at once to save time."""
    mine = [link_sandbox(project, provider)]
    config = project.account(mine[0])["integration_id"]
    mine.append(link(project, {"id": config}, sandbox_consent(provider), "owner-2"))
    for account in mine:
        end_token(project.hub, account)
    provider.fault("token", "hang")
    provider.fault("token", "slow_loris")
    begun = time.monotonic()
    answers = together(*(lambda a=a: project.proxy(a, path=ME) for a in mine))
    assert [a.status_code for a in answers] == [200, 200]
    assert TOKEN_DEADLINE <= time.monotonic() - begun < TOKEN_DEADLINE + 4
    assert refreshes(provider) == 4


def test_with_a_grace_window_a_lost_answer_is_made_good(project: Project, provider: Sandbox, account: str) -> None:
    provider.control("settings", {"grace_seconds": 30})
    provider.fault("token", "drop_after_commit")
    assert ok(project.proxy(account, path=ME))
    assert code_of(project, account) == FINE
    provider.control("expire")
    assert ok(project.proxy(account, path=ME))


def test_failures_are_not_repeated_before_their_pause_is_over(
    project: Project, provider: Sandbox, account: str
) -> None:
    provider.fault("token", "status_503", times=100)
    for _ in range(15):
        refused(project.proxy(account, path=ME), 502, "TokenRefreshFailedError")
    assert refreshes(provider) == 1


def test_retry_after_is_respected_and_then_the_account_recovers(
    project: Project, provider: Sandbox, account: str
) -> None:
    provider.fault("token", "status_429", ms=2000)
    assert refused(project.proxy(account, path=ME), 502)
    refused(project.proxy(account, path=ME), 502)
    assert refreshes(provider) == 1
    time.sleep(2.1)
    assert ok(project.proxy(account, path=ME))
    assert refreshes(provider) == 2
    assert code_of(project, account) == FINE


def test_the_pause_grows_however_often_it_failed(project: Project, provider: Sandbox, account: str) -> None:
    alter(project.hub, account, failures=5000)
    provider.fault("token", "status_500")
    answer = project.proxy(account, path=ME)
    refused(answer, 502, "TokenRefreshFailedError")
    assert 200 <= int(answer.headers["retry-after"]) <= 400


@pytest.mark.parametrize("mode", ["status_500", "status_429", "invalid_client", "html_200", "drop_before"])
def test_a_valid_token_is_used_while_its_refresh_fails(project: Project, provider: Sandbox, mode: str) -> None:
    account = link_sandbox(project, provider)
    make_due(project.hub, account)
    provider.fault("token", mode, times=50)
    for _ in range(4):
        assert ok(project.proxy(account, path=ME))
    assert refreshes(provider) == (2 if mode in {"html_200", "drop_before"} else 1)
    assert code_of(project, account) == FINE


def test_a_caller_with_a_valid_token_does_not_wait_for_a_slow_refresh(project: Project, provider: Sandbox) -> None:
    account = link_sandbox(project, provider)
    make_due(project.hub, account)
    provider.control("settings", {"token_delay_ms": 3200})
    begun = time.monotonic()
    assert ok(project.proxy(account, path=ME))
    assert time.monotonic() - begun < 2.9
    wait_until(lambda: provider.counters()["token_ok"] == 2)  # it went on without its caller
    provider.control("settings", {"token_delay_ms": 0})
    wait_until(lambda: (credential(project.hub, account) or credential_gone()).last_outcome == "refreshed")
    assert refreshes(provider) == 1


def credential_gone() -> Any:
    raise AssertionError("the credential is gone")


def test_a_caller_that_leaves_does_not_stop_the_refresh(project: Project, provider: Sandbox, account: str) -> None:
    provider.control("settings", {"token_delay_ms": 800})
    with pytest.raises(httpx.ReadTimeout):
        project.proxy(account, path=ME, timeout=0.3)
    wait_until(lambda: (credential(project.hub, account) or credential_gone()).last_outcome == "refreshed")
    assert ok(project.proxy(account, path=ME))
    assert refreshes(provider) == 1


def test_a_401_that_no_refresh_cures_costs_one_refresh(project: Project, provider: Sandbox) -> None:
    account = link_sandbox(project, provider)
    assert [project.proxy(account, path="/api/status/401").status_code for _ in range(6)] == [401] * 6
    assert refreshes(provider) == 1


def test_the_account_fails_on_a_revoked_grant_with_the_reason(project: Project, provider: Sandbox) -> None:
    account = link_sandbox(project, provider)
    provider.control("revoke")
    assert project.proxy(account, path=ME).status_code == 401
    assert code_of(project, account) == ("expired", "refresh_token_revoked")
    refused(project.proxy(account, path=ME), 401, "AccountExpiredCredentialsError")
    last = ok(project.http.get("/requests/logs?include=step_logs"))["data"][0]
    assert last["step_requests"] == [] and refreshes(provider) == 1, "nothing leaves for an account that has expired"


# --- what happens to the account meanwhile -------------------------------------------------------------------------


def during_refresh(project: Project, provider: Sandbox, account: str, act: Any, seconds: int = 900) -> httpx.Response:
    """Do something while a refresh is under way; returns the answer of the call that started it."""
    provider.control("settings", {"token_delay_ms": seconds})

    def later() -> httpx.Response:
        wait_until(lambda: provider.counters()["in_flight_token_requests"] == 1)
        return act()

    return together(lambda: project.proxy(account, path=ME), later)[0]


def test_a_deletion_during_a_refresh_leaves_no_grant_behind(project: Project, provider: Sandbox, account: str) -> None:
    answer = during_refresh(project, provider, account, lambda: project.http.delete(f"/accounts/{account}"))
    assert answer.status_code in {401, 404}, answer.text
    assert credential(project.hub, account) is None
    state = "/_control/state"
    wait_until(lambda: provider.http.get(state).json()["grants"]["live"] == 0)
    assert "Traceback" not in project.hub.log()[-20_000:]


def test_a_relink_during_a_refresh_wins(project: Project, provider: Sandbox, account: str) -> None:
    before = credential(project.hub, account)
    config = {"id": project.account(account)["integration_id"]}

    def relink() -> httpx.Response:
        session = project.session(account_id=account)
        state = run_flow(session, config, sandbox_consent(provider, "globex"))
        assert state["status"] == "authenticated", state
        return session.http.get("/hub/settings")

    answer = during_refresh(project, provider, account, relink, 1200)
    assert answer.status_code == 200, answer.text
    after = credential(project.hub, account)
    assert before is not None and after is not None
    provider.control("settings", {"token_delay_ms": 0})
    assert ok(project.proxy(account, path=ME))["account_id"] == "acct_globex"
    provider.control("expire")
    assert ok(project.proxy(account, path=ME))["account_id"] == "acct_globex"
    assert code_of(project, account) == ("active", "identity_changed")


def test_a_refusal_that_comes_after_a_relink_ends_nothing(project: Project, provider: Sandbox, account: str) -> None:
    config = {"id": project.account(account)["integration_id"]}
    provider.control("revoke")

    def relink() -> httpx.Response:
        provider.control("settings", {"token_delay_ms": 0})
        session = project.session(account_id=account)
        assert run_flow(session, config, sandbox_consent(provider))["status"] == "authenticated"
        return session.http.get("/hub/settings")

    assert during_refresh(project, provider, account, relink, 1500).status_code == 200
    assert code_of(project, account)[0] == "active"
    assert ok(project.proxy(account, path=ME))


def test_a_suspension_during_a_refresh_holds_and_loses_nothing(
    project: Project, provider: Sandbox, account: str
) -> None:
    path = f"/accounts/{account}"
    answer = during_refresh(project, provider, account, lambda: project.http.patch(path, json={"status": "suspended"}))
    refused(answer, 412, "AccountIntegrationInactiveError")
    provider.control("settings", {"token_delay_ms": 0})
    ok(project.http.patch(path, json={"status": "active"}))
    assert ok(project.proxy(account, path=ME))
    assert refreshes(provider) == 1


def test_a_grant_that_ends_while_suspended_is_not_called_uncertain(
    project: Project, provider: Sandbox, account: str
) -> None:
    path = f"/accounts/{account}"
    provider.fault("token", "invalid_grant", times=2)
    during_refresh(project, provider, account, lambda: project.http.patch(path, json={"status": "suspended"}))
    assert project.account(account)["status"] == "suspended"
    ok(project.http.patch(path, json={"status": "active"}))
    refused(project.proxy(account, path=ME), 401, "AccountExpiredCredentialsError")
    assert code_of(project, account) == ("expired", "grant_refused")


def test_a_config_disabled_during_a_refresh_refuses_the_call(project: Project, provider: Sandbox, account: str) -> None:
    path = f"/auth_configs/{project.account(account)['integration_id']}"
    calls = provider.counters()["api_calls"]
    answer = during_refresh(project, provider, account, lambda: project.http.patch(path, json={"active": False}))
    refused(answer, 412, "AccountIntegrationInactiveError")
    assert provider.counters()["api_calls"] == calls
    ok(project.http.patch(path, json={"active": True}))
    provider.control("settings", {"token_delay_ms": 0})
    assert ok(project.proxy(account, path=ME))
    assert refreshes(provider) == 1


@pytest.mark.parametrize("how", ["suspended", "disabled"])
def test_no_token_is_asked_for_on_behalf_of_an_account_that_does_not_serve(
    project: Project, provider: Sandbox, account: str, how: str
) -> None:
    if how == "suspended":
        ok(project.http.patch(f"/accounts/{account}", json={"status": "suspended"}))
    else:
        ok(project.http.patch(f"/auth_configs/{project.account(account)['integration_id']}", json={"active": False}))
    refused(project.proxy(account, path=ME), 412)
    assert refreshes(provider) == 0


# --- client credentials --------------------------------------------------------------------------------------------


def test_client_credentials_are_minted_once_for_many_callers(project: Project, provider: Sandbox) -> None:
    form = {"client_id": "sandbox-machine", "client_secret": "sandbox-machine-secret"}
    account = project.link(sandbox_config(project, provider, "client_credentials"), form)
    end_token(project.hub, account)
    provider.control("settings", {"token_delay_ms": 200})
    answers = together(*[lambda: project.proxy(account, path=ME)] * 12)
    assert [a.status_code for a in answers] == [200] * 12
    assert provider.counters()["token_requests"]["client_credentials"] == 2


@pytest.mark.parametrize("mode", ["invalid_grant", "invalid_client", "drop_after_commit"])
def test_nothing_that_a_provider_says_ends_client_credentials(project: Project, provider: Sandbox, mode: str) -> None:
    form = {"client_id": "sandbox-machine", "client_secret": "sandbox-machine-secret"}
    account = project.link(sandbox_config(project, provider, "client_credentials"), form)
    end_token(project.hub, account)
    provider.fault("token", mode)
    project.proxy(account, path=ME)
    assert project.account(account)["status"] in {"active", "error"}
    alter(project.hub, account, retry_at=None)
    assert ok(project.proxy(account, path=ME))


# --- a provider that repeats secrets -------------------------------------------------------------------------------


class _Echo(BaseHTTPRequestHandler):
    """A token endpoint that refuses every request and repeats its body."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        payload = f'{{"error": "invalid_grant", "error_description": "refused: {body}"}}'.encode()
        self.send_response(400)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


def test_a_refusal_that_repeats_the_refresh_token_is_stored_without_it(
    project: Project, provider: Sandbox, account: str, ports: Ports
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", ports.spare[0]), _Echo) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            path = f"/auth_configs/{project.account(account)['integration_id']}"
            ok(project.http.patch(path, json={"setup": {"sandbox_url": f"http://127.0.0.1:{ports.spare[0]}"}}))
            body = refused(project.proxy(account, path=ME), 401, "AccountExpiredCredentialsError")
        finally:
            server.shutdown()
            thread.join()
    shown = body["message"] + str(project.account(account))
    assert "grant_type" in shown and "rt_" not in shown
    row = credential(project.hub, account)
    assert row is not None and row.last_error and "rt_" not in row.last_error
    assert "rt_" not in project.hub.log()


# --- many callers, several processes -------------------------------------------------------------------------------


def test_the_times_fit_together() -> None:
    """A lease outlives both requests and their pause (R2); a waiting caller outlives the lease of a dead holder."""
    assert LEASE_SECONDS > 2 * TOKEN_DEADLINE + engine.RETRY_PAUSE
    assert engine.WAIT_SECONDS > LEASE_SECONDS


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def two_hubs(
    request: pytest.FixtureRequest, ports: Ports, connectors_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Hub, Hub]]:
    """Two processes on one database."""
    folder: Path = tmp_path_factory.mktemp(f"pair-{request.param}")
    url = f"sqlite:///{folder / 'shared' / 'mooring.db'}"
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        url = server.create_database()
    env = {"MOORING_MASTER_KEY_FILE": str(folder / "keys")}
    with ExitStack() as stack:
        hubs = [
            stack.enter_context(
                Hub(
                    folder / name,
                    free_port(),
                    database_url=url,
                    egress_allow=ports.egress_allow,
                    connectors_dir=connectors_dir,
                    env=env,
                    single_process=True,  # what a crash costs without the courier
                )
            )
            for name in ("a", "b")
        ]
        yield hubs[0], hubs[1]


async def storm(project: Project, account: str, urls: list[str], callers: int) -> list[tuple[int, str]]:
    """Status and body for many callers at once, spread over the hubs."""
    limits = httpx.Limits(max_connections=callers)
    async with httpx.AsyncClient(
        auth=(project.key, ""), timeout=60, trust_env=False, limits=limits, headers={"x-account-id": account}
    ) as http:
        answers = await asyncio.gather(*(http.get(f"{urls[i % len(urls)]}/proxy{ME}") for i in range(callers)))
    return [(a.status_code, a.text) for a in answers]


@pytest.mark.parametrize("how", ["known to have ended", "found out by a 401"])
async def test_a_storm_of_callers_sends_one_token_request(
    two_hubs: tuple[Hub, Hub], oidc: OidcServer, how: str
) -> None:
    """At oidc-provider, where one refresh too many would kill the grant for good."""
    project = two_hubs[0].new_project()
    account = link(project, project.config("oidc-provider", "code", OIDC_CLIENT), oidc_consent(project, oidc))
    for _ in range(3):
        oidc.expire_access()
        if how == "known to have ended":
            end_token(two_hubs[0], account)
        oidc.reset()
        oidc.fault("tokenDelayAfterCommit", ms=250)
        answers = await storm(project, account, [h.url for h in two_hubs], 200)
        assert {status for status, _ in answers} == {200}, next(a for a in answers if a[0] != 200)
        stats = oidc.stats()
        assert (stats["token"], stats["token_err"], stats["reuse_detected"]) == (1, {}, 0)


async def test_no_call_in_flight_across_a_refresh_sees_it(two_hubs: tuple[Hub, Hub], oidc: OidcServer) -> None:
    """Rule S4: a thousand calls, a hundred at a time, while the token ends at the provider in their midst."""
    project = two_hubs[0].new_project()
    account = link(project, project.config("oidc-provider", "code", OIDC_CLIENT), oidc_consent(project, oidc))
    oidc.reset()
    oidc.fault("tokenDelayAfterCommit", ms=250)
    left, seen = iter(range(1000)), list[int]()
    async with httpx.AsyncClient(auth=(project.key, ""), timeout=60, trust_env=False) as http:

        async def caller() -> None:
            for n in left:
                if n == 400:
                    await asyncio.to_thread(oidc.expire_access)
                url = f"{two_hubs[n % 2].url}/proxy{ME}"
                seen.append((await http.get(url, headers={"x-account-id": account})).status_code)

        await asyncio.gather(*(caller() for _ in range(100)))
    stats = oidc.stats()
    assert seen == [200] * 1000 and stats["api_401"] > 0
    assert (stats["token"], stats["token_err"], stats["reuse_detected"]) == (1, {}, 0)


async def test_a_storm_on_a_grant_that_is_over_asks_once(two_hubs: tuple[Hub, Hub], provider: Sandbox) -> None:
    project = two_hubs[0].new_project()
    account = link_sandbox(project, provider)
    provider.control("settings", {"token_delay_ms": 150})
    for turn in (1, 2, 3):
        provider.control("revoke")
        end_token(two_hubs[0], account)
        answers = await storm(project, account, [h.url for h in two_hubs], 60)
        assert {status for status, _ in answers} == {401}
        assert refreshes(provider) == turn
        assert code_of(project, account) == ("expired", "refresh_token_revoked")
        config = {"id": project.account(account)["integration_id"]}
        run_flow(project.session(account_id=account), config, sandbox_consent(provider))
        assert code_of(project, account) == FINE


def test_storms_through_workers_of_one_hub(
    ports: Ports, provider: Sandbox, tmp_path: Path, connectors_dir: Path
) -> None:
    with Hub(
        tmp_path / "hub", free_port(), egress_allow=ports.egress_allow, connectors_dir=connectors_dir, workers=2
    ) as hub:
        project = hub.new_project()
        account = link_sandbox(project, provider)
        end_token(hub, account)
        provider.control("settings", {"token_delay_ms": 250})
        answers = together(*[lambda: httpx.get(
            f"{hub.url}/proxy{ME}", auth=(project.key, ""), headers={"x-account-id": account}, timeout=30
        )] * 40)  # fmt: skip
        assert {a.status_code for a in answers} == {200}
        assert refreshes(provider) == 1


def test_a_lease_of_a_killed_process_is_taken_over(two_hubs: tuple[Hub, Hub], provider: Sandbox) -> None:
    holder, other = two_hubs
    project = other.new_project()
    account = link_sandbox(project, provider)
    end_token(other, account)
    provider.fault("token", "hang", ms=60_000)
    doomed = Project(holder, project.id, project.key)

    def call() -> int:
        try:
            return doomed.proxy(account, path=ME).status_code
        except httpx.TransportError:
            return 0

    caller = Thread(target=call)
    caller.start()
    try:
        wait_until(lambda: pending(other, account) and provider.counters()["in_flight_token_requests"] > 0)
        before = credential(other, account)
        holder.kill()
        caller.join()
        assert before is not None and before.lease_until is not None
        assert before.pending_generation == before.generation  # the intent was on disk before the request left (R3)
        assert 15 < (before.lease_until - clock.now()).total_seconds() <= LEASE_SECONDS
        # Instead of waiting for it: the lease ends in a second. The caller finds it taken, waits, and takes it over.
        alter(other, account, lease_until=clock.now() + timedelta(seconds=1.5))
        begun = time.monotonic()
        assert ok(project.proxy(account, path=ME))
        assert time.monotonic() - begun < 10
        after = credential(other, account)
        assert after is not None
        assert (after.generation, after.fence) == (before.generation + 1, before.fence + 1)
        assert (after.lease_until, after.pending_generation) == (None, None)
        assert code_of(project, account) == FINE
    finally:
        holder.start()


def pending(hub: Hub, account: str) -> bool:
    """Whether a token request for the account was announced and its answer is not stored."""
    row = credential(hub, account)
    return row is not None and row.pending_generation is not None


def test_whoever_takes_over_asks_the_courier_first(hub: Hub, project: Project, provider: Sandbox) -> None:
    """No grace window: the answer that a killed web process did not live to store is the only good token there is."""
    account = link_sandbox(project, provider)
    end_token(hub, account)
    provider.fault("token", "delay_after_commit", ms=700)

    def call() -> None:
        with pytest.raises(httpx.TransportError):
            project.proxy(account, path=ME)

    caller = Thread(target=call)
    caller.start()
    wait_until(lambda: provider.counters()["token_ok"] == 2)
    for victim in children(hub, "mooring.child serve"):
        victim.kill()
    caller.join()
    alter(hub, account, lease_until=clock.now())  # as after 20 s of web processes that never lived long enough to look
    wait_until(lambda: is_ready(hub))
    assert pending(hub, account), "stored already; this test proves nothing"
    assert ok(project.proxy(account, path=ME))
    assert refreshes(provider) == 1
    assert code_of(project, account) == FINE
    row = credential(hub, account)
    assert row is not None and (row.lease_until, row.pending_generation) == (None, None)


def test_a_refusal_that_the_courier_kept_is_told_by_what_was_sent_before_it(
    hub: Hub, project: Project, provider: Sandbox
) -> None:
    """The first request's answer dies with the courier; the refusal of the second one outlives who asked for it."""
    account = link_sandbox(project, provider)
    end_token(hub, account)
    provider.fault("token", "delay_after_commit", ms=1500, times=2)

    def call() -> None:
        with pytest.raises(httpx.TransportError):
            project.proxy(account, path=ME)

    caller = Thread(target=call)
    caller.start()
    wait_until(lambda: provider.counters()["token_ok"] == 2)
    for victim in children(hub, "mooring.courier"):
        victim.kill()
    wait_until(lambda: refreshes(provider) == 2)
    for victim in children(hub, "mooring.child serve"):
        victim.kill()
    caller.join()
    wait_until(lambda: is_ready(hub))
    wait_until(lambda: code_of(project, account)[0] == "expired", 15)
    assert code_of(project, account) == ("expired", "uncertain_rotation")
    assert refreshes(provider) == 2


def test_a_rotation_lost_with_a_killed_process_is_said_as_it_is(two_hubs: tuple[Hub, Hub], provider: Sandbox) -> None:
    holder, other = two_hubs
    project = other.new_project()
    account = link_sandbox(project, provider)
    end_token(other, account)
    provider.fault("token", "delay_after_commit", ms=30_000)
    doomed = Project(holder, project.id, project.key)

    def call() -> None:
        with pytest.raises(httpx.TransportError):
            doomed.proxy(account, path=ME)

    caller = Thread(target=call)
    caller.start()
    try:
        wait_until(lambda: provider.counters()["token_ok"] == 2)
        holder.kill()
        caller.join()
        alter(other, account, lease_until=clock.now())
        refused(project.proxy(account, path=ME), 401, "AccountExpiredCredentialsError")
        assert code_of(project, account) == ("expired", "uncertain_rotation")
    finally:
        holder.start()
