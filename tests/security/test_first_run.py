"""The first start, with no setting at all: a key of its own, nobody let in, nothing shown, nothing private reached (S30)."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from tests.command import clean_env
from tests.hub import client, refused
from tests.servers.ports import free_port


@dataclass
class Fresh:
    """A hub of its very first start."""

    folder: Path
    url: str
    pid: int

    def log(self) -> str:
        return (self.folder / "log").read_text()


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fresh]:
    """`mooring serve` in an empty folder; only the port is chosen, so that tests can run side by side."""
    folder, port = tmp_path_factory.mktemp("fresh"), free_port()
    env = {name: value for name, value in clean_env(folder).items() if not name.startswith("MOORING_")}
    command = [sys.executable, "-m", "mooring", "serve", "--port", str(port)]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, env=env, cwd=folder, stderr=log) as process:
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and process.poll() is None:
                try:
                    httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=1)
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            yield Fresh(folder, f"http://127.0.0.1:{port}", process.pid)
        finally:
            process.terminate()


def test_it_makes_a_master_key_beside_the_data_and_says_so(fresh: Fresh) -> None:
    key = fresh.folder / "mooring-data.keys"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert not list((fresh.folder / "mooring-data").rglob("*.keys"))
    assert str(key) in fresh.log() and key.read_text().partition(":")[2].strip() not in fresh.log()


def test_its_folder_is_closed_to_others(fresh: Fresh) -> None:
    assert stat.S_IMODE((fresh.folder / "mooring-data").stat().st_mode) == 0o700


def test_it_listens_on_loopback_alone(fresh: Fresh) -> None:
    processes = [psutil.Process(fresh.pid), *psutil.Process(fresh.pid).children(recursive=True)]
    listening = {c.laddr.ip for p in processes for c in p.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


GUESSES = [("admin", "admin"), ("mooring", "mooring"), ("default", ""), ("", ""), ("bootstrap", ""), ("v1.default", "")]


@pytest.mark.parametrize("guess", GUESSES)
def test_there_is_no_default_key_or_password(fresh: Fresh, guess: tuple[str, str]) -> None:
    http = client(fresh.url)
    refused(http.get("/accounts", auth=guess), 401)
    refused(http.post("/connect_sessions", auth=guess, json={}), 401)
    email = f"{guess[0] or 'root'}@example.com"
    refused(http.post("/sessions", json={"email": email, "password": guess[1] or "password"}), 401)


def test_nobody_registers_without_the_printed_link(fresh: Fresh) -> None:
    http = client(fresh.url)
    person = {"email": "a@example.com", "name": "A", "password": "correct horse battery staple"}
    for token in ("", "x", "0" * 43):
        refused(http.post("/set_up", json={"token": token, **person}), 404)
        answer = http.post(
            "/dashboard/set-up",
            data={"token": token, "organization": "O", "project": "P", **person},
            headers={"hx-request": "true", "origin": fresh.url, "sec-fetch-site": "same-origin"},
        )
        assert answer.status_code >= 400, token
    refused(http.post("/welcome", json={"token": "x", "password": person["password"]}), 404)
    link = re.search(r"http://\S+/dashboard/set-up\?token=(\S+)", fresh.log())
    assert link and len(link[1]) >= 43
    made = http.post("/set_up", json={"token": link[1], **person, "organization": "O", "project": "P"})
    assert made.status_code == 201
    refused(http.post("/set_up", json={"token": link[1], **person, "email": "b@example.com"}), 404)


@pytest.mark.parametrize(
    "path", ["/metrics", "/openapi.json", "/docs", "/redoc", "/debug", "/admin", "/_control/state", "/.env"]
)
def test_nothing_of_the_inside_is_served(fresh: Fresh, path: str) -> None:
    refused(client(fresh.url).get(path), 404)


def test_nothing_private_is_reached(fresh: Fresh) -> None:
    env = {name: value for name, value in clean_env(fresh.folder).items() if not name.startswith("MOORING_")}

    def command(*arguments: str) -> str:
        line = [sys.executable, "-m", "mooring", *arguments]
        done = subprocess.run(line, env=env, cwd=fresh.folder, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().splitlines()[-1]

    project = command("project", "create", "guarded")
    http = client(fresh.url, auth=(command("api-key", "create", "--project", project), ""))
    for url in (fresh.url, "http://10.0.0.1/x", "https://169.254.169.254/latest", "https://[::1]/x"):
        answer = http.post("/webhooks", json={"url": url, "events": ["account.created"]})
        assert answer.status_code in {400, 422}, (url, answer.text)
    assert not re.search(r'"level": "(error|warning)"', fresh.log())
    assert all(json.loads(line) for line in fresh.log().splitlines() if line.startswith("{"))
