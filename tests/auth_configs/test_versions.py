"""Auth configs that stay at a version of their connector, and connector files that are read again when they change."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.hub import Hub, ok, refused
from tests.sandbox.harness import Sandbox
from tests.servers.ports import free_port

CONNECTOR = """\
connector: tide
title: Tide
version: {version}
category: other
base_url: {url}
auth:
  api_key:
    header: {{name: X-Api-Key, value: "${{api_key}}"}}
    fields: {{api_key: {{secret: true}}}}
    test: {{get: /api/me}}
headers: {{X-Tide: "{version}"}}
actions:
  echo: {{get: /api/echo}}
  only_in_{major}: {{get: /api/me}}
"""


class Tide:
    """A hub that reads its connector files again, and the folder of those."""

    def __init__(self, hub: Hub, folder: Path, provider: Sandbox) -> None:
        self.hub = hub
        self.folder = folder
        self.provider = provider
        self.project = hub.new_project()

    def write(self, name: str, version: str) -> None:
        text = CONNECTOR.format(version=version, url=self.provider.url, major=version[0])
        (self.folder / name).write_text(text)

    def seen(self, account: str) -> str:
        """Which version the provider heard of."""
        return str(ok(self.project.proxy(account, path="/api/echo"))["headers"]["x-tide"])

    def actions(self, account: str) -> set[str]:
        listed = ok(self.project.http.get("/actions", params={"filter[account_ids]": account}))
        return {a["id"] for c in listed["data"] for a in c["actions"]}


@pytest.fixture
def tide(tmp_path: Path, provider: Sandbox) -> Iterator[Tide]:
    folder = tmp_path / "connectors"
    folder.mkdir()
    text = CONNECTOR.format(version="1.2.0", url=provider.url, major="1")
    (folder / "tide.yaml").write_text(text)
    with Hub(
        tmp_path / "hub",
        free_port(),
        egress_allow=provider.url.removeprefix("http://"),
        connectors_dir=folder,
        workers=2,
        env={"MOORING_CONNECTORS_RELOAD": "yes"},
    ) as hub:
        yield Tide(hub, folder, provider)


def eventually(look: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for it, then hold: two workers have to say the same several times."""
    deadline, good = time.monotonic() + seconds, 0
    while good < 8:
        assert time.monotonic() < deadline, "it did not happen in time"
        good = good + 1 if look() else 0
        time.sleep(0.05)


def test_a_pinned_config_stays_and_another_follows(tide: Tide) -> None:
    project = tide.project
    free = project.config("tide", "api_key")
    pinned = ok(
        project.http.post(
            "/auth_configs",
            json={
                "connector_key": "tide",
                "authentication_config_key": "api_key",
                "connector_pinned_version": "1.x.x",
            },
        ),
        201,
    )
    assert free["connector_pinned_version"] is None and pinned["connector_pinned_version"] == "1.x.x"
    assert pinned["connector_version"] == "1.2.0"
    key = {"api_key": "sandbox-key-acme"}
    follows, stays = project.link(free, key, "owner-1"), project.link(pinned, key, "owner-2")
    assert tide.seen(follows) == tide.seen(stays) == "1.2.0"

    tide.write("tide@1.2.0.yaml", "1.2.0")
    tide.write("tide.yaml", "2.0.0")
    eventually(lambda: tide.seen(follows) == "2.0.0")
    eventually(lambda: tide.seen(stays) == "1.2.0")
    assert ok(project.http.get(f"/auth_configs/{pinned['id']}"))["connector_version"] == "1.2.0"
    eventually(lambda: ok(project.http.get(f"/auth_configs/{free['id']}"))["connector_version"] == "2.0.0")
    assert tide.actions(stays) >= {"tide_only_in_1"} and tide.actions(follows) >= {"tide_only_in_2"}
    gone = project.http.post("/actions/rpc", json={"action": "only_in_1"}, headers={"x-account-id": follows})
    assert gone.status_code == 404
    ok(project.http.post("/actions/rpc", json={"action": "only_in_1"}, headers={"x-account-id": stays}))

    # Another pin, and none again.
    url = f"/auth_configs/{pinned['id']}"
    assert ok(project.http.patch(url, json={"connector_pinned_version": "latest"}))["connector_version"] == "2.0.0"
    eventually(lambda: tide.seen(stays) == "2.0.0")
    assert ok(project.http.patch(url, json={"connector_pinned_version": "1.2.x"}))["connector_version"] == "1.2.0"
    eventually(lambda: tide.seen(stays) == "1.2.0")

    # A version that goes away stops its accounts with a reason, and nothing else.
    (tide.folder / "tide@1.2.0.yaml").unlink()
    eventually(lambda: project.proxy(stays, path="/api/echo").status_code == 422)
    told = refused(project.proxy(stays, path="/api/echo"), 422, "ConnectorVersionMissingError")
    assert "fits 1.2.x" in told["message"] and "2.0.0" in told["hint"]
    assert tide.seen(follows) == "2.0.0"
    assert ok(project.http.get(url))["connector_version"] is None
    assert ok(project.http.patch(url, json={"connector_pinned_version": "2.x.x"}))["connector_version"] == "2.0.0"
    eventually(lambda: project.proxy(stays, path="/api/echo").status_code == 200)


def test_a_pin_that_fits_nothing_is_refused(tide: Tide) -> None:
    body = {"connector_key": "tide", "authentication_config_key": "api_key"}
    post = tide.project.http.post
    for pin in ("9.x.x", "1.3.x", "1.2.1"):
        told = refused(
            post("/auth_configs", json=body | {"connector_pinned_version": pin}), 422, "ConnectorVersionMissingError"
        )
        assert "1.2.0" in told["hint"]
    for pin in ("^1.2.0", "1", "1.x", "v1.2.0", "x.x.x", "1.x.0", ""):
        refused(post("/auth_configs", json=body | {"connector_pinned_version": pin}), 422, "ValidationError")


def test_a_file_with_a_fault_changes_nothing_and_is_told(tide: Tide) -> None:
    account = tide.project.link(tide.project.config("tide", "api_key"), {"api_key": "sandbox-key-acme"})
    (tide.folder / "tide.yaml").write_text("connector: tide\ntilte: Tide\n")
    deadline = time.monotonic() + 10
    while "unknown key `tilte`" not in tide.hub.log():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert tide.seen(account) == "1.2.0"
    tide.write("tide.yaml", "1.3.0")
    eventually(lambda: tide.seen(account) == "1.3.0")


def test_files_are_not_read_again_unless_it_is_asked_for(tmp_path: Path, provider: Sandbox) -> None:
    folder = tmp_path / "connectors"
    folder.mkdir()
    (folder / "tide.yaml").write_text(CONNECTOR.format(version="1.2.0", url=provider.url, major="1"))
    allow = provider.url.removeprefix("http://")
    with Hub(tmp_path / "hub", free_port(), egress_allow=allow, connectors_dir=folder) as hub:
        project = hub.new_project()
        config = project.config("tide", "api_key")
        (folder / "tide.yaml").write_text(CONNECTOR.format(version="2.0.0", url=provider.url, major="2"))
        time.sleep(1.5)
        found: httpx.Response = project.http.get(f"/auth_configs/{config['id']}")
        assert ok(found)["connector_version"] == "1.2.0"
