"""Rule S1: 200 callers in 4 processes on one account whose token has ended, at a provider with strict rotation."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Ports
from tests.faults.load import number
from tests.flows.linking import end_token, link, oidc_consent
from tests.flows.test_refresh import OIDC_CLIENT, storm
from tests.hub import Hub
from tests.servers.oidc import OidcServer
from tests.servers.ports import free_port
from tests.servers.postgres import PostgresServer

ROUNDS = number("STORM_ROUNDS", 1)
CALLERS = 200
PROCESSES = 4


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
async def test_one_token_request_a_round(
    request: pytest.FixtureRequest, ports: Ports, connectors_dir: Path, tmp_path: Path, oidc: OidcServer, database: str
) -> None:
    url = None
    if database == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        url = server.create_database()
    with Hub(
        tmp_path,
        free_port(),
        database_url=url,
        egress_allow=ports.egress_allow,
        connectors_dir=connectors_dir,
        workers=PROCESSES,
    ) as hub:
        project = hub.new_project()
        account = link(project, project.config("oidc-provider", "code", OIDC_CLIENT), oidc_consent(project, oidc))
        oidc.reset()
        good = 0
        for _ in range(ROUNDS):
            oidc.expire_access()
            end_token(hub, account)
            oidc.fault("tokenDelayAfterCommit", ms=250)
            good += sum(status == 200 for status, _ in await storm(project, account, [hub.url], CALLERS))
        stats = oidc.stats()
    print(
        f"\nS1: {database}, {CALLERS} callers in {PROCESSES} processes, {ROUNDS} rounds: {stats['token']} token requests, "
        f"{stats['reuse_detected']} reuses, {good} of {ROUNDS * CALLERS} calls answered"
    )
    assert (stats["token"], stats["token_err"], stats["reuse_detected"]) == (ROUNDS, {}, 0)
    assert good == ROUNDS * CALLERS


async def test_a_slow_token_endpoint_is_asked_once(
    ports: Ports, connectors_dir: Path, tmp_path: Path, oidc: OidcServer
) -> None:
    """Slower than the locks of others: the lease outlives the deadline of the request, so nobody else sends it."""
    with Hub(tmp_path, free_port(), egress_allow=ports.egress_allow, connectors_dir=connectors_dir, workers=2) as hub:
        project = hub.new_project()
        account = link(project, project.config("oidc-provider", "code", OIDC_CLIENT), oidc_consent(project, oidc))
        oidc.reset()
        oidc.expire_access()
        end_token(hub, account)
        oidc.fault("tokenDelayAfterCommit", ms=6000)
        answers = await storm(project, account, [hub.url], 32)
        stats = oidc.stats()
    assert [status for status, _ in answers] == [200] * 32
    assert (stats["token"], stats["token_err"], stats["reuse_detected"]) == (1, {}, 0)
