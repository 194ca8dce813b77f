"""Rule S6: SIGKILL under write load, of the hub on SQLite and of PostgreSQL's postmaster. What was acknowledged stays."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from tests.faults.load import is_ready, number, wait_for
from tests.hub import BOOTSTRAP_KEY, Hub, Project, ok
from tests.servers.ports import free_port
from tests.servers.postgres import PostgresServer

SQLITE_KILLS = number("SQLITE_KILLS", 2)
POSTGRES_KILLS = number("POSTGRES_KILLS", 1)
BACK_SECONDS = 5.0


class Writers:
    """Create auth configs as fast as they are acknowledged, and remember each that was."""

    def __init__(self, hub: Hub, threads: int = 4) -> None:
        self._hub = hub
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]
        self.acknowledged: list[str] = []
        self.refused: dict[int, int] = {}

    def _run(self) -> None:
        body = {"connector_key": "sandbox", "authentication_config_key": "api_key", "setup": {}}
        while not self._stop.is_set():
            try:
                with httpx.Client(
                    base_url=self._hub.url, auth=(BOOTSTRAP_KEY, ""), timeout=10, trust_env=False
                ) as http:
                    while not self._stop.is_set():
                        answer = http.post("/auth_configs", json=body)
                        if answer.status_code == 201:
                            self.acknowledged.append(answer.json()["id"])
                        else:
                            self.refused[answer.status_code] = self.refused.get(answer.status_code, 0) + 1
                            time.sleep(0.02)
            except httpx.TransportError:
                time.sleep(0.02)

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()


def missing(hub: Hub, acknowledged: list[str]) -> set[str]:
    """Acknowledged auth configs that the hub does not have."""
    project = Project(hub, "", BOOTSTRAP_KEY)
    stored: set[str] = set()
    page = 1
    while rows := ok(project.http.get("/auth_configs", params={"page": page, "page_size": 100}))["data"]:
        stored |= {row["id"] for row in rows}
        page += 1
    return set(acknowledged) - stored


def test_sqlite_loses_nothing_when_the_hub_is_killed(tmp_path: Path) -> None:
    with Hub(tmp_path, free_port(), single_process=True) as hub:
        writers, slowest = Writers(hub), 0.0
        with writers.running():
            for _ in range(SQLITE_KILLS):
                before = len(writers.acknowledged)
                wait_for(lambda n=before: len(writers.acknowledged) >= n + 20)  # type: ignore[misc]
                hub.kill()
                begun = time.monotonic()
                hub.start()
                slowest = max(slowest, time.monotonic() - begun)
        lost = missing(hub, writers.acknowledged)
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / "mooring.db")) as database:
        verdict = database.execute("PRAGMA integrity_check").fetchone()[0]
    print(
        f"\nS6: SQLite, {SQLITE_KILLS} kills, {len(writers.acknowledged)} writes acknowledged, {len(lost)} lost, "
        f"integrity {verdict}, back after {slowest:.2f} s at most"
    )
    assert not lost and verdict == "ok"
    assert slowest < BACK_SECONDS + patience()


def test_nothing_is_lost_when_the_postmaster_is_killed(tmp_path: Path) -> None:
    with PostgresServer(durable=True) as server:
        url = server.create_database()
        with Hub(tmp_path, free_port(), database_url=url) as hub:
            writers, slowest = Writers(hub), 0.0
            with writers.running():
                for _ in range(POSTGRES_KILLS):
                    before = len(writers.acknowledged)
                    wait_for(lambda n=before: len(writers.acknowledged) >= n + 20)  # type: ignore[misc]
                    kill_postmaster(server)
                    begun = time.monotonic()
                    server.restart()
                    known = len(writers.acknowledged)
                    wait_for(lambda n=known: is_ready(hub) and len(writers.acknowledged) > n)  # type: ignore[misc]
                    slowest = max(slowest, time.monotonic() - begun)
            lost = missing(hub, writers.acknowledged)
    print(
        f"\nS6: PostgreSQL, {POSTGRES_KILLS} kills of the postmaster, {len(writers.acknowledged)} writes acknowledged, "
        f"{len(lost)} lost, writing again after {slowest:.2f} s at most, refused meanwhile: {writers.refused}"
    )
    assert not lost
    assert slowest < BACK_SECONDS + patience()
    assert set(writers.refused) <= {503}


def kill_postmaster(server: PostgresServer) -> None:
    """SIGKILL to the postmaster; its children end when they notice, as they do after a crash."""
    main = psutil.Process(server.pid)
    family = main.children(recursive=True)
    os.kill(main.pid, signal.SIGKILL)
    server.reap()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive


def patience() -> float:
    """More time on a machine that does much else at the moment."""
    return 3.0 * max(0.0, os.getloadavg()[0] / (os.cpu_count() or 1) - 1)
