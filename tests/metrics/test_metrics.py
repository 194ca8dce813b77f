"""/metrics: off without a token, bounded in what it says, and one answer for all processes (rules A7, L3, R19)."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import update

from mooring.accounts.models import Credential
from mooring.kit import clock
from mooring.kit.db import Database
from mooring.metrics.samples import outcome_of
from tests.conftest import Ports
from tests.hub import Hub, Project, _run, client, refused
from tests.sandbox.harness import Sandbox
from tests.servers.ports import free_port

TOKEN = "metrics-token-0123456789"
Found = dict[str, dict[tuple[tuple[str, str], ...], float]]


@pytest.fixture(scope="module")
def measured(
    ports: Ports, connectors_dir: Path, tmp_path_factory: pytest.TempPathFactory, postgres_server: object
) -> Iterator[Hub]:
    """Two workers on one port, on PostgreSQL, with /metrics on."""
    with Hub(
        tmp_path_factory.mktemp("hub-measured"),
        free_port(),
        database_url=postgres_server.create_database(),  # type: ignore[attr-defined]
        egress_allow=ports.egress_allow,
        connectors_dir=connectors_dir,
        workers=2,
        env={"MOORING_METRICS_TOKEN": TOKEN},
    ) as running:
        deadline = time.monotonic() + 30
        while value(scrape(running), "mooring_processes") < 2 and time.monotonic() < deadline:
            time.sleep(0.1)  # the second process starts when the first one is ready
        yield running


def text_of(hub: Hub) -> str:
    """A scrape on a connection of its own: the kernel chooses the process."""
    made = httpx.get(f"{hub.url}/metrics", headers={"authorization": f"Bearer {TOKEN}"}, timeout=20)
    assert made.status_code == 200, made.text
    return made.text


def scrape(hub: Hub) -> Found:
    found: Found = {}
    for family in text_string_to_metric_families(text_of(hub)):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def value(found: Found, name: str, **labels: str) -> float:
    return found.get(name, {}).get(tuple(sorted(labels.items())), 0.0)


def calls(found: Found) -> float:
    return sum(v for labels, v in found.get("mooring_calls_total", {}).items() if ("connector", "sandbox") in labels)


def linked(project: Project, provider: Sandbox, owner: str = "owner-1") -> str:
    config = project.config("sandbox", "api_key", {"sandbox_url": provider.url})
    return project.link(config, {"api_key": "sandbox-key-acme"}, owner)


def test_there_is_no_such_path_without_the_setting(project: Project) -> None:
    refused(project.http.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"}), 404, "NotFoundError")


def test_the_token_is_needed(measured: Hub) -> None:
    http = client(measured.url)
    assert refused(http.get("/metrics"), 401)["errorCode"] == "UnauthorizedError"
    refused(http.get("/metrics", headers={"authorization": f"Bearer {TOKEN}x"}), 401)
    refused(http.get("/metrics", headers={"authorization": f"Basic {TOKEN}"}), 401)
    project = measured.new_project()
    refused(project.http.get("/metrics"), 401)


def test_any_process_answers_for_both(measured: Hub, provider: Sandbox) -> None:
    project = measured.new_project()
    account = linked(project, provider)
    before = scrape(measured)
    for number in range(40):  # a connection each, so that both processes serve some
        with httpx.Client(base_url=measured.url, auth=(project.key, ""), trust_env=False) as http:
            path = "/api/me" if number % 4 else "/api/status/503"
            assert http.get(f"/proxy{path}", headers={"x-account-id": account}).status_code in {200, 503}
    deadline = time.monotonic() + 5  # the other process writes every second
    while calls(after := scrape(measured)) - calls(before) < 40 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert calls(after) - calls(before) == 40
    assert value(after, "mooring_processes") == 2
    labels = {"connector": "sandbox", "outcome": "provider_error", "status": "5xx"}
    assert value(after, "mooring_calls_total", **labels) - value(before, "mooring_calls_total", **labels) == 10
    for part in ("total", "provider"):
        counted = value(after, "mooring_call_seconds_count", connector="sandbox", part=part)
        assert counted == value(after, "mooring_call_seconds_bucket", connector="sandbox", part=part, le="+Inf")
        assert counted - value(before, "mooring_call_seconds_count", connector="sandbox", part=part) == 40
    total, waited = (
        value(after, "mooring_call_seconds_sum", connector="sandbox", part=p) for p in ("total", "provider")
    )
    assert 0 < waited < total
    assert {calls(scrape(measured)) for _ in range(10)} == {calls(after)}  # whichever process answers


def test_what_it_tells(measured: Hub, provider: Sandbox) -> None:
    project = measured.new_project("secret-project-name")
    account = linked(project, provider, "owner-of-the-account")
    for path in ("/api/me", "/api/status/404"):
        project.proxy(account, path=path)
    project.proxy("nobody", path="/api/me")
    project.http.get("/requests/logs")  # writes what waits
    deadline = time.monotonic() + 20
    while True:  # the linking's own notice may reach a busy process after the call and empty its cache
        project.proxy(account, path="/api/me")
        time.sleep(1.2)  # the other process writes every second
        found = scrape(measured)
        if value(found, "mooring_cache_entries", cache="accounts") >= 1 or time.monotonic() > deadline:
            break
    assert value(found, "mooring_calls_total", connector="none", outcome="refused", status="4xx") >= 1
    assert value(found, "mooring_credentials_opened_total") >= 2
    assert value(found, "mooring_log_rows_written_total") >= 3
    assert value(found, "mooring_log_rows_dropped_total") == 0
    assert value(found, "mooring_database_up") == 1
    assert value(found, "mooring_cache_entries", cache="accounts") >= 1
    assert value(found, "mooring_provider_origins", connector="sandbox", state="closed") >= 1
    assert value(found, "mooring_jobs", kind="housekeeping", state="dead") == 0
    assert "mooring_job_age_seconds" in found and "mooring_stuck_leases" in found
    text = text_of(measured)
    for secret in (account, project.id, "secret-project-name", "owner-of-the-account", "/api/me", "sandbox-key-acme"):
        assert secret not in text
    names = set(re.findall(r'(\w+)="', text))
    assert names == {"connector", "outcome", "status", "part", "le", "cache", "state", "kind", "of"}


def test_a_lease_that_nobody_gave_back_is_seen(measured: Hub, provider: Sandbox) -> None:
    project = measured.new_project()
    account = linked(project, provider)

    async def leave(ago: float | None) -> None:
        db = Database(measured.database_url)
        until = None if ago is None else clock.now() - timedelta(seconds=ago)
        async with db.begin() as tx:
            await tx.execute(update(Credential).where(Credential.account_id == account).values(lease_until=until))
        await db.close()

    _run(leave(30.0))
    assert value(scrape(measured), "mooring_stuck_leases", of="refresh") == 0
    _run(leave(41.0))
    assert value(scrape(measured), "mooring_stuck_leases", of="refresh") == 1
    _run(leave(None))


def test_no_counter_goes_back_when_a_process_dies(measured: Hub, provider: Sandbox) -> None:
    project = measured.new_project()
    account = linked(project, provider)
    for _ in range(10):
        project.proxy(account, path="/api/me")
    time.sleep(1.2)
    seen = [calls(scrape(measured))]
    files = sorted((measured.folder / "data" / "metrics").glob("*.json"))
    assert len(files) == 2 and files[0].parent.stat().st_mode & 0o777 == 0o700
    pids = [int(p) for p in re.findall(r'"url".*?"pid": (\d+)', measured.log())]
    assert len(pids) >= 2
    os.kill(pids[0], signal.SIGKILL)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with contextlib.suppress(httpx.TransportError):
            seen.append(calls(scrape(measured)))
        if len(re.findall(r'"event": "serving"', measured.log())) >= 3 and time.monotonic() > end - 6:
            break
        time.sleep(0.2)
    assert seen == sorted(seen)
    project.proxy(account, path="/api/me")
    time.sleep(1.2)
    assert calls(scrape(measured)) == seen[0] + 1


@pytest.mark.parametrize(
    ("key", "word"),
    [
        (("c", None, 204), "ok"),
        (("c", None, 404), "provider_error"),
        (("c", "RequestTimeoutError", 408), "unreachable"),
        (("c", "ProviderCutError", 200), "unreachable"),
        (("c", "CallerGoneError", 499), "caller_gone"),
        (("c", "ProviderRateLimitError", 429), "limited"),
        (("c", "AccountInactiveError", 412), "account"),
        ((None, "UnauthorizedError", 401), "refused"),
        (("c", "InternalError", 500), "internal"),
    ],
)
def test_every_outcome_is_one_word(key: tuple[str | None, str | None, int], word: str) -> None:
    assert outcome_of(key) == word
