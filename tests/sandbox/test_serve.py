"""Starting and stopping the sandbox's process."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import fields
from pathlib import Path
from typing import get_args

import httpx
import pytest

import mooring.sandbox
from mooring.errors import ConfigurationError
from mooring.sandbox.data import API_KEYS, CLIENTS
from mooring.sandbox.serve import serve
from mooring.sandbox.state import Counters, FaultMode, Settings

from .harness import start_sandbox, stop_sandbox

HEADERS = {"x-api-key": "sandbox-key-acme"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stops_cleanly_and_prints_nothing_more(number: int) -> None:
    process, url = start_sandbox()
    with httpx.Client() as keeps_its_connection:
        assert keeps_its_connection.get(f"{url}/api/me", headers=HEADERS).status_code == 200
        assert stop_sandbox(process, number) == (0, "", "")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/healthz")


@pytest.mark.parametrize("mode", ["hang", "slow_loris", "delay_after_commit"])
def test_stops_although_a_request_hangs(mode: str) -> None:
    process, url = start_sandbox()
    fault = {"target": "api", "mode": mode, "ms": 60_000}
    httpx.post(f"{url}/_control/faults", json=fault).raise_for_status()
    failed: list[Exception] = []

    def hang() -> None:
        try:
            httpx.get(f"{url}/api/me", headers=HEADERS, timeout=30)
        except httpx.TransportError as error:
            failed.append(error)

    client = threading.Thread(target=hang)
    client.start()
    time.sleep(0.3)
    began = time.monotonic()
    assert stop_sandbox(process) == (0, "", "")
    assert time.monotonic() - began < 5
    client.join()


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"127.0.0.1 port {port}"):
            serve("127.0.0.1", port)
    with pytest.raises(ConfigurationError, match="0 to 65535"):
        serve("127.0.0.1", 70_000)


def test_two_sandboxes_never_share_a_port() -> None:
    process, url = start_sandbox()
    try:
        with pytest.raises(ConfigurationError):
            serve("127.0.0.1", int(url.rpartition(":")[2]))
    finally:
        stop_sandbox(process)


def test_imports_nothing_else_of_mooring() -> None:
    code = (
        "import sys, mooring.sandbox.serve\nprint(*sorted(name for name in sys.modules if name.startswith('mooring.')))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    shared = {
        "mooring.errors",
        "mooring.kit",
        "mooring.kit.clock",
        "mooring.kit.ids",
        "mooring.kit.exchange",
        "mooring.kit.forwarding",
        "mooring.kit.server",
        "mooring.kit.writes",
    }
    assert all(name in shared or name.startswith("mooring.sandbox") for name in out), out


def test_every_switch_and_mode_is_documented() -> None:
    root = Path(mooring.sandbox.__file__).parents[2]
    text = (root / "docs" / "sandbox.md").read_text()
    names = [each.name for each in (*fields(Settings), *fields(Counters))]
    missing = [name for name in (*names, *get_args(FaultMode), *API_KEYS, *CLIENTS) if f"`{name}`" not in text]
    assert missing == []
