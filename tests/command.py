"""Run the `mooring` command as a process with nothing but the settings that a test gives."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

MASTER_KEYS = "k1:" + base64.b64encode(bytes(range(32))).decode()


def clean_env(folder: Path, **settings: str) -> dict[str, str]:
    """The environment without settings from outside; the data folder lies in `folder`."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MOORING_", "_MOORING"))}
    return {**env, "MOORING_DATA_DIR": str(folder / "data"), "COLUMNS": "200", **settings}


def mooring(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "mooring", *arguments],
        env=clean_env(folder, **settings),
        cwd=folder,
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=60,
    )
