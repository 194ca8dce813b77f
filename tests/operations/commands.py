"""`mooring …` in real processes whose imports are warm: a fork server has them, so a start takes milliseconds."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.hub import Hub

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.operations.warm"])


def start(hub: Hub, *arguments: str, output: Path | None = None, env: Mapping[str, str] | None = None) -> BaseProcess:
    """Start a command with this hub's settings."""
    process = _context.Process(target=_main, args=({**hub.env, **(env or {})}, arguments, str(output or os.devnull)))
    process.start()
    return process


def run(
    hub: Hub, *arguments: str, check: bool = True, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as `Hub.command` does."""
    with tempfile.TemporaryDirectory() as folder:
        process = start(hub, *arguments, output=Path(folder) / "out", env=env)
        process.join(60)
        assert process.exitcode is not None, "the command did not end"
        out, err = ((Path(folder) / name).read_text() for name in ("out", "out.err"))
    if check:
        assert process.exitcode == 0, f"mooring {' '.join(arguments)}: {err}{out}"
    return subprocess.CompletedProcess(arguments, process.exitcode, out, err)


def _main(env: dict[str, str], arguments: tuple[str, ...], output: str) -> None:
    from mooring.__main__ import main

    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["mooring", *arguments]
    error = output if output == os.devnull else f"{output}.err"
    sys.stdout, sys.stderr = Path(output).open("w"), Path(error).open("w")  # noqa: SIM115 - they live as long as we do
    try:
        main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
