"""Rules R15 and S8: a thousand requests with one Idempotency-Key have one effect, though the hub is killed in between."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.faults.load import number
from tests.hub import BOOTSTRAP_KEY, Hub, ok
from tests.servers.ports import free_port

REQUESTS = 1000
KILLS = number("IDEMPOTENCY_KILLS", 2)
BODY = {"connector_key": "sandbox", "authentication_config_key": "api_key"}


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_one_key_has_one_effect_whatever_dies(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    database_url = request.getfixturevalue("postgres_url") if kind == "postgres" else None
    answers: list[tuple[int, str | None]] = []
    with (
        Hub(tmp_path / "hub", free_port(), database_url=database_url, single_process=True) as hub,
        httpx.Client(base_url=hub.url, auth=(BOOTSTRAP_KEY, ""), timeout=30, trust_env=False) as http,
    ):
        went = threading.Semaphore(0)

        def post(_: int) -> None:
            # A caller who does not know whether a request arrived sends it again, which is what the key is for.
            while True:
                try:
                    answer = http.post("/auth_configs", json=BODY, headers={"idempotency-key": "one"})
                except httpx.TransportError:
                    continue
                finally:
                    went.release()
                if answer.status_code != 409:
                    answers.append((answer.status_code, answer.json().get("id")))
                    return

        with ThreadPoolExecutor(20) as pool:
            posts = [pool.submit(post, n) for n in range(REQUESTS)]
            for n in range(KILLS):
                for _ in range(1 if n == 0 else 100):  # at first while the first of them is under way
                    went.acquire()
                hub.kill()
                hub.start()
            for sent in posts:
                sent.result()
        assert len(answers) == REQUESTS and {status for status, _ in answers} == {201}
        assert len({id for _, id in answers}) == 1
        assert ok(http.get("/auth_configs"))["total"] == 1
        events = [row for row in ok(http.get("/audit_log"))["data"] if row["action"] == "auth_config.created"]
        assert len(events) == 1
