"""What the kill tests share: numbers from the environment, and processes that are killed by handle."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

import httpx
import psutil

from tests.hub import Hub


def number(name: str, short: int) -> int:
    """A size of a test: short by default, what `make faults` sets otherwise."""
    return int(os.environ.get(f"MOORING_TEST_{name}", str(short)))


def children(hub: Hub, word: str) -> list[psutil.Process]:
    """The hub's child processes whose command holds a word. They are killed by handle, never by name."""
    assert hub.process is not None
    found = []
    for child in psutil.Process(hub.process.pid).children():
        with contextlib.suppress(psutil.Error):  # one that just died
            if word in " ".join(child.cmdline()):
                found.append(child)
    return found


def is_ready(hub: Hub) -> bool:
    try:
        # Without certificates: reading them costs more than the call, twenty times a second.
        return httpx.get(f"{hub.url}/readyz", timeout=2, trust_env=False, verify=False).status_code == 200
    except httpx.TransportError:
        return False


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"did not happen within {seconds} s")
