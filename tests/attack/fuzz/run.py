"""Fuzz every target with atheris for some seconds each: `python -m tests.attack.fuzz.run SECONDS [NAME …]`.

Atheris is put into build/atheris with pip, because it is no dependency of ours and has no wheel for every Python. Where it
can't be installed, this says so and ends well: hypothesis has fuzzed the same targets. Exit code 1 when something was found.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.attack.fuzz.targets import TARGETS

ROOT = Path(__file__).resolve().parents[3]
BUILD = ROOT / "build"
VERSION = "2.3.0"


def main() -> int:
    """Run all that are named, or all."""
    seconds, names = int(sys.argv[1]), sys.argv[2:] or sorted(TARGETS)
    library = BUILD / "atheris"
    if not (library / "atheris").is_dir() and not _install(library):
        print(f"atheris {VERSION} can't be installed for this Python; hypothesis alone has fuzzed")
        return 0
    found = 0
    for name in names:
        done = _fuzz(name, seconds, library)
        figures = dict(re.findall(r"stat::(\w+):\s+(\d+)", done.stderr))
        count = figures.get("number_of_executed_units", "?")
        line = f"atheris {name}: {count} executions in {seconds} s, exit {done.returncode}"
        print(line, flush=True)
        if report := os.environ.get("MOORING_ATTACK_REPORT"):
            with Path(report).open("a") as file:
                file.write(line + "\n")
        if done.returncode:
            found += 1
            print(done.stderr[-4000:])
    return 1 if found else 0


def _install(library: Path) -> bool:
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--only-binary", ":all:"]
    return subprocess.run([*pip, "--target", str(library), f"atheris=={VERSION}"], check=False).returncode == 0


def _fuzz(name: str, seconds: int, library: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(library)])}
    return subprocess.run(
        [sys.executable, "-m", "tests.attack.fuzz.guided", name, str(seconds), str(BUILD / "fuzz")],
        cwd=ROOT, env=environment, capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
