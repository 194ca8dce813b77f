"""What a hub is made of: hashes and licences of what is locked; no check passes by asking nobody (rule L5)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "check-dependencies"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script as a module."""
    spec = spec_from_loader("check_dependencies", SourceFileLoader("check_dependencies", str(SCRIPT)))
    assert spec is not None and spec.loader is not None
    made = module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_every_locked_package_has_hashes(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    locked = script.locked()
    assert {"fastapi", "cryptography", "sqlalchemy"} <= set(locked) and all(hashes for _, hashes in locked.values())
    assert script.check() == 0, capsys.readouterr().out
    for lock in (
        "requirements.lock",
        "requirements-dev.lock",
    ):  # nothing from elsewhere than the index, nothing unpinned
        text = (ROOT / lock).read_text()
        heads = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
        assert heads and not [head for head in heads if not re.match(r"[A-Za-z0-9._\[\],-]+==\S+", head)]
    makefile = (ROOT / "Makefile").read_text()
    assert makefile.count("--require-hashes -r requirements") == 3
    assert "scripts/check-dependencies" in makefile.partition("\ncheck:")[2].partition("\n\n")[0]


@pytest.mark.parametrize(
    ("expression", "fine"),
    [
        ("MIT", True),
        ("Apache-2.0 OR BSD-3-Clause", True),
        ("GPL-3.0-only OR MIT", True),
        ("MIT AND GPL-3.0-only", False),
        ("(MIT AND BSD-2-Clause)", True),
        ("AGPL-3.0-or-later", False),
        ("none stated", False),
        ("Proprietary", False),
        ("", False),
    ],
)
def test_a_licence_that_is_not_on_the_list_is_found(script: ModuleType, expression: str, fine: bool) -> None:
    assert script.allowed(expression) is fine


def test_an_audit_that_asks_nobody_says_so() -> None:
    """`make audit` has its tool in an environment of its own, which tests do not; there it says that it is missing."""
    nowhere = {
        "HTTPS_PROXY": "http://127.0.0.1:1",
        "HTTP_PROXY": "http://127.0.0.1:1",
        "ALL_PROXY": "http://127.0.0.1:1",
    }
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--audit"],
        env={**os.environ, **nowhere, "NO_PROXY": "", "no_proxy": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 3
    assert done.stdout.startswith("NOT AUDITED: "), done.stdout
    assert "is not reachable" in done.stdout or "run make audit" in done.stdout
