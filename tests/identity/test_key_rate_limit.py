"""A key's calls per minute, where the operator sets a limit (contract §10, rule A5)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Ports
from tests.hub import Hub, ok, refused
from tests.sandbox.harness import Sandbox
from tests.servers.ports import free_port


@pytest.fixture(scope="module")
def strict(ports: Ports, connectors_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with Hub(
        tmp_path_factory.mktemp("hub-strict"),
        free_port(),
        egress_allow=ports.egress_allow,
        connectors_dir=connectors_dir,
        env={"MOORING_KEY_RATE_LIMIT": "30"},
    ) as running:
        yield running


def test_a_key_is_stopped_on_every_road_and_no_other_key_is(strict: Hub, provider: Sandbox) -> None:
    project, other = strict.new_project(), strict.new_project("other")
    config = project.config("sandbox", "api_key", {"sandbox_url": provider.url})
    account = project.link(config, {"api_key": "sandbox-key-acme"})  # two calls with the key: config and session
    statuses = [project.proxy(account, path="/api/me").status_code for _ in range(40)]
    assert statuses == [200] * 28 + [429] * 12
    for made in (
        project.proxy(account, path="/api/me"),
        project.http.get("/accounts"),
        project.http.post("/unified/proxy", json={"path": "/api/me"}, headers={"x-account-id": account}),
    ):
        refused(made, 429, "KeyRateLimitError")
        assert 1 <= int(made.headers["retry-after"]) <= 60
    assert ok(other.http.get("/accounts")) == []


def test_without_the_setting_there_is_no_limit(project: object) -> None:
    assert {project.http.get("/project").status_code for _ in range(60)} == {200}  # type: ignore[attr-defined]
