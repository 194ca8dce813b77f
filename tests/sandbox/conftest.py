"""A real sandbox process per test session, back to its first state before each test."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from .harness import Sandbox, start_sandbox, stop_sandbox


@pytest.fixture(scope="session")
def sandbox_url() -> Iterator[str]:
    process, url = start_sandbox()
    try:
        yield url
    finally:
        code, out, err = stop_sandbox(process)
    assert (code, out, err) == (0, "", "")


@pytest.fixture
def sandbox(sandbox_url: str) -> Iterator[Sandbox]:
    with httpx.Client(base_url=sandbox_url, timeout=10) as http:
        http.post("/_control/reset").raise_for_status()
        yield Sandbox(sandbox_url, http)
