"""Rule R16: the primary dies, its standby is promoted, and the hub goes on there by itself."""

from __future__ import annotations

import time
from pathlib import Path

from mooring.kit.db import Database
from mooring.settings import load
from tests.conftest import Ports
from tests.faults.load import is_ready, wait_for
from tests.faults.test_database_kills import Writers, kill_postmaster, missing, patience
from tests.flows.linking import link_sandbox
from tests.hub import BOOTSTRAP_KEY, Hub, Project, ok
from tests.sandbox.harness import Sandbox
from tests.servers.ports import HOST, free_port
from tests.servers.postgres import ROLE, PostgresServer, PostgresStandby

BACK_SECONDS = 10.0


def both(primary: PostgresServer, standby: PostgresServer, database: str) -> str:
    """One address that names both servers, as docs/operations.md writes it."""
    return f"postgresql://{ROLE}@{HOST}:{primary.port},{HOST}:{standby.port}/{database}"


def test_a_promoted_standby_is_found_and_nothing_is_lost(ports: Ports, provider: Sandbox, tmp_path: Path) -> None:
    with PostgresServer(durable=True) as primary:
        database = primary.create_database().rsplit("/", 1)[1]
        with PostgresStandby(primary) as standby:
            url = both(primary, standby, database)
            with Hub(tmp_path, free_port(), database_url=url, egress_allow=ports.egress_allow) as hub:
                project = Project(hub, "", BOOTSTRAP_KEY)
                account = link_sandbox(project, provider)
                writers = Writers(hub)
                with writers.running():
                    wait_for(lambda: len(writers.acknowledged) >= 20)
                    kill_postmaster(primary)
                    time.sleep(1)  # somebody, or a program such as Patroni, notices
                    begun = time.monotonic()
                    standby.promote()
                    known = len(writers.acknowledged)
                    wait_for(lambda: is_ready(hub) and len(writers.acknowledged) > known)
                    took = time.monotonic() - begun
                lost = missing(hub, writers.acknowledged)
                provider.control("expire")
                assert ok(project.proxy(account, path="/api/me"))  # a token is renewed, and its rotation kept, there
    print(
        f"\nR16: primary killed, standby promoted, {len(writers.acknowledged)} writes acknowledged, {len(lost)} lost, "
        f"writing again after {took:.2f} s, refused meanwhile: {writers.refused}"
    )
    assert not lost and set(writers.refused) <= {503}
    assert took < BACK_SECONDS + patience()


async def test_a_server_that_only_reads_is_passed_over() -> None:
    with PostgresServer(durable=True) as primary:
        database = primary.create_database().rsplit("/", 1)[1]
        with PostgresStandby(primary) as standby:
            wrong_way_round = load({"MOORING_DATABASE_URL": both(standby, primary, database)})
            db = Database(wrong_way_round.resolved_database_url)
            try:
                async with db.writer.connect() as connection:
                    assert (await connection.exec_driver_sql("SELECT pg_is_in_recovery()")).scalar_one() is False
            finally:
                await db.close()
