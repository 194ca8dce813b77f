"""After a theft: every account of one connector is shredded, revoked at the provider and audited, by one command (S29).

`MOORING_TEST_REVOKE_ACCOUNTS` is how many; the line of the bar is 10,000 within ten minutes. With `-s` it says how long.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from bench.population import populate
from mooring.accounts.credentials import Secrets
from tests.conftest import Ports
from tests.flows.linking import link_sandbox
from tests.hub import Hub, ok
from tests.proxy.upstream import Upstream, answer, upstream_on
from tests.sandbox.harness import Sandbox
from tests.servers.ports import free_port

ACCOUNTS = int(os.environ.get("MOORING_TEST_REVOKE_ACCOUNTS", "60"))


@pytest.fixture
def thief() -> Iterator[Upstream]:
    """The provider that was robbed, with a revocation endpoint."""
    with upstream_on(free_port()) as up:
        up.on("/oauth/revoke", answer(200))
        yield up


def unfinished(folder: Path) -> int:
    """Revocations that wait, run, or were given up."""
    with sqlite3.connect(folder / "data" / "mooring.db", timeout=60) as db:
        count: int = db.execute("SELECT count(*) FROM jobs WHERE kind = 'revoke' AND state != 'done'").fetchone()[0]
    return count


def test_ten_thousand_accounts_of_a_provider_are_revoked_by_one_command(
    tmp_path: Path, ports: Ports, provider: Sandbox, thief: Upstream
) -> None:
    allow = f"{ports.egress_allow},127.0.0.1:{thief.port}"
    with Hub(tmp_path, free_port(), egress_allow=allow) as hub:
        project, other = hub.new_project(), hub.new_project("other")
        first = link_sandbox(project, provider)
        kept = other.link(
            other.config("sandbox", "api_key", {"sandbox_url": provider.url}), {"api_key": "sandbox-key-acme"}
        )
        config = ok(project.http.get(f"/accounts/{first}"))["integration_id"]
        ok(project.http.patch(f"/auth_configs/{config}", json={"setup": {"sandbox_url": thief.url}}))
        tokens = Secrets(access_token="access-token-of-many", refresh_token="refresh-token-of-many")
        populate(tmp_path, first, ACCOUNTS - 1, tokens)
        began = time.monotonic()
        command = [sys.executable, "-m", "mooring", "revoke", "sandbox", "--project", project.id, "--yes"]
        done = subprocess.run(command, env=hub.env, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0 and f"{ACCOUNTS} accounts shredded" in done.stdout, done.stdout + done.stderr
        shredded = time.monotonic() - began
        while (left := unfinished(tmp_path)) and time.monotonic() - began < 600 + ACCOUNTS / 10:
            time.sleep(0.2)
        assert left == 0
        took = time.monotonic() - began
        sent = [parse_qs(seen.body.decode()) for seen in thief.calls() if seen.target == "/oauth/revoke"]
        # At least once each: a job whose lease lapses on a busy machine runs again.
        assert 2 * ACCOUNTS <= len(sent) <= 2.1 * ACCOUNTS, "refresh token and access token of each"
        assert sum(form["token_type_hint"] == ["refresh_token"] for form in sent) >= ACCOUNTS
        assert ok(project.http.get("/accounts")) == [], "none is listed any more"
        assert other.account(kept)["status"] == "active", "another project keeps its own"
        hub.stop()
        verdict = hub.command("audit", "verify").stdout
        assert "entries, whole" in verdict, verdict
        told = hub.command("audit", "list", "--project", project.id, "--limit", "10000").stdout  # the newest
        audited = [line for line in told.splitlines() if "\taccount.deleted\t" in line]
        assert len(audited) == min(ACCOUNTS, 10_000), told[:500]
    print(f"\n{ACCOUNTS} accounts: shredded after {shredded:.1f} s, all revoked after {took:.1f} s")
