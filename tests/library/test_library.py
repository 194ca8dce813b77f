"""MooringApp in an application's own process: settings, lifespans, the shared database, calls without a socket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.library.hosts import snippets


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the script saw."""
    folder = tmp_path_factory.mktemp("library")
    env = {k: v for k, v in os.environ.items() if not k.startswith("MOORING_")} | {"MOORING_LOG_RETENTION_DAYS": "7"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.library.script", str(folder), snippets()["env.py"]],
        env=env,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_arguments_are_settings_and_the_environment_fills_the_rest(seen: dict[str, Any]) -> None:
    assert seen["settings"] == ["127.0.0.1:1,127.0.0.1:2", False, 7]
    no_address, unknown, wrong, schema, path = seen["refusals"]
    assert no_address.startswith("MOORING_PUBLIC_URL is not set")
    assert unknown == "MooringApp: there is no setting 'colour'"
    assert wrong.startswith("MOORING_EGRESS_ALLOW has the entry")
    assert "schema 'Not Plain'" in schema and "sekret" not in schema
    assert path.startswith("MOORING_PUBLIC_URL must be an address")


def test_tables_on_postgresql_have_a_schema(seen: dict[str, Any]) -> None:
    base = "postgresql://u:sekret@db.example/app"
    assert seen["postgres"] == [f"{base}?schema=mooring", f"{base}?schema=hub", base]


def test_what_is_below_the_prefix_is_moorings_alone(seen: dict[str, Any]) -> None:
    assert seen["/page"] == [200, None, False]
    assert seen["/own/hub/livez"] == [200, None, True]
    assert seen["/own/hub"] == [303, "/own/hub/dashboard", True]
    assert seen["/own/hubbub"] == [404, None, False]
    assert seen["/.well-known/nothing/own/hub"] == [404, None, True]
    assert seen["/.well-known/nothing"] == [404, None, False]


def test_the_client_calls_without_a_socket(seen: dict[str, Any]) -> None:
    assert seen["link"].startswith("https://app.example.com/own/hub/embedded/integrations?token=")
    assert seen["proxy"] == [404, "NotFoundError"]
    status, hint = seen["not running"]
    assert status == 503 and "MooringApp.lifespan" in hint


def test_both_lifespans_are_kept(seen: dict[str, Any]) -> None:
    once = ["application started", "lifespan.startup.complete", "application stopped", "lifespan.shutdown.complete"]
    assert seen["steps"] == once * 2


def test_the_hosts_migrations_and_moorings_do_not_meet(seen: dict[str, Any]) -> None:
    assert seen["autogenerate"] == [True, []]
    assert seen["revision"] == "0001"
    assert "tables of another application" in seen["clash"] and "users." in seen["clash"]
