"""An apply that is killed, or that finds another hub than it showed, leaves nothing half written."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from mooring import errors
from mooring.connectors.registry import load_registry
from mooring.kit.db import Database
from mooring.kit.egress import EgressGuard
from mooring.plan.applying import apply, rehearse
from mooring.plan.comparison import Tools
from mooring.plan.reading import read_file
from mooring.runtime import load_vault
from mooring.settings import load
from tests.hub import Hub
from tests.plan.desk import Desk
from tests.rows import query

HIBOB = {"connector": "hibob", "method": "service_user", "name": "A"}


def organizations(desk: Desk) -> int:
    return len(query(desk.hub, "SELECT 1 FROM organizations WHERE name = :n", n=desk.organization))


@contextlib.contextmanager
def applying(desk: Desk) -> Iterator[subprocess.Popen[str]]:
    """An apply in a process of its own, from the moment when it has shown its plan and begins to write."""
    env = {**desk.hub.env, "MOORING_DATABASE_URL": desk.hub.database_url, "MOORING_CONNECTORS_DIR": ""}
    command = [sys.executable, "-m", "mooring", "apply", "-f", str(desk.path)]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            while "to create" not in (line := process.stdout.readline()):
                assert line
            yield process
        finally:
            process.kill()


def kill_in_sqlite(desk: Desk) -> int:
    """Kill it as soon as it holds the lock of writers."""
    path = desk.hub.database_url.removeprefix("sqlite:///")
    with applying(desk) as process, contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                other.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                time.sleep(0.05)  # some of it is written by now
                process.kill()
                return process.wait()
            other.execute("ROLLBACK")
            time.sleep(0.001)
        raise AssertionError("it never wrote")


async def kill_in_postgres(desk: Desk) -> int:
    """Hold the end of the audit chain, which it needs last; kill it when it waits for that."""
    db = Database(desk.hub.database_url)
    try:
        async with db.begin() as tx:
            await tx.execute(text("SELECT 1 FROM audit_head FOR UPDATE"))
            with applying(desk) as process:
                deadline = time.monotonic() + 20
                while not (await tx.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))).scalar_one():
                    assert process.poll() is None and time.monotonic() < deadline
                    await asyncio.sleep(0.02)
                process.kill()
                return process.wait()
    finally:
        await db.close()


def test_a_killed_apply_leaves_nothing_and_the_next_one_does_it_all(hub: Hub, desk: Desk) -> None:
    sqlite = hub.database_url.startswith("sqlite")
    count = 8 if sqlite else 2
    desk.put(*({"name": f"app {n}", "auth_configs": [HIBOB]} for n in range(count)))
    ended = kill_in_sqlite(desk) if sqlite else asyncio.run(kill_in_postgres(desk))
    assert ended == -signal.SIGKILL
    assert organizations(desk) == 0
    assert desk.apply().endswith("done\n")
    made = "SELECT 1 FROM auth_configs a JOIN projects p ON p.id = a.project_id JOIN organizations o "
    assert len(query(hub, f"{made} ON o.id = p.organization_id WHERE o.name = :n", n=desk.organization)) == count
    assert "whole" in desk.run("audit", "verify").out


def test_a_hub_that_changed_since_the_plan_was_shown_is_left_alone(hub: Hub, desk: Desk) -> None:
    desk.put({"name": "app", "log_days": 30})
    desk.apply()
    id = desk.project()
    desk.put({"name": "app", "log_days": 31, "auth_configs": [HIBOB]})

    async def run() -> None:
        settings = load({k: v for k, v in hub.env.items() if k.startswith("MOORING_")})
        tools = Tools(load_vault(settings, may_create=False), load_registry(), EgressGuard(frozenset()))
        db = Database(hub.database_url)
        try:
            shown = await rehearse(db, tools, read_file(desk.path))
            assert len(shown.changes) == 2
            async with db.begin() as tx:
                await tx.execute(text("UPDATE projects SET log_days = 32 WHERE id = :id"), {"id": id})
            with pytest.raises(errors.Conflict, match="nothing was written"):
                await apply(db, tools, read_file(desk.path), shown)
        finally:
            await db.close()

    asyncio.run(run())
    assert query(hub, "SELECT log_days FROM projects WHERE id = :id", id=id) == [(32,)]
    assert not query(hub, "SELECT 1 FROM auth_configs WHERE project_id = :id", id=id)
