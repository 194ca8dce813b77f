"""`mooring connectors` and files in the `.s1.yaml` format."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.connectors.s1.samples import place_samples


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place_samples(tmp_path, "http://127.0.0.1:8090")
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("MOORING_")}
    return subprocess.run(
        [sys.executable, "-m", "mooring", "connectors", *arguments],
        check=False,
        env={**env, "MOORING_CONNECTORS_DIR": str(folder)},
        text=True,
        capture_output=True,
        timeout=60,
    )


def test_the_folder_is_checked_with_its_warnings(folder):
    done = run(folder, "check")
    assert done.returncode == 0, done.stderr
    partial = folder / "conformance" / "staff.odd.named.s1.partial.yaml"
    assert f"{partial}:12:34: methods do not exist; `.toUpperCase()` is understood (warning)" in done.stderr


def test_a_file_is_checked_strictly(folder):
    file = folder / "conformance" / "staff.connector.s1.yaml"
    assert run(folder, "check", str(file)).returncode == 0
    done = run(folder, "check", "--strict", str(file))
    assert done.returncode == 2
    assert f"{file}:18:15: `apiKey` is documented" in done.stderr


def test_the_connector_is_listed_and_shown_with_its_actions(folder):
    assert (
        "conformance\tConformance\tother\tkey,login,oauth2_code,machine,bearer,signed\t2.1.0"
        in run(folder, "list").stdout
    )
    assert "actions: who_am_i" in run(folder, "show", "conformance").stdout
    shown = run(folder, "show", "steps").stdout
    assert "by_cursor" in shown and "hidden" not in shown
    assert "action drive: can't be run: `browser_use` drives a browser" in shown
