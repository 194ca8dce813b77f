"""Keep the processes of one `mooring serve` or `mooring worker` alive: the main ones and their courier.

Standard library only, and nothing of Mooring: this process must be small, and hardly able to fail. It is entered by
`exec` from the command line (`python -m mooring.supervisor`), with the settings already checked.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

ROLE = "_MOORING_ROLE"  # no setting: marks the children of a supervisor
SLOT = "_MOORING_SLOT"  # nor this: the number of a main process among its like
WORKERS = "_MOORING_WORKERS"  # nor this: how many processes share what a provider allows
STOP_SECONDS = 15.0
READY_SECONDS = 60.0
STEADY_SECONDS = 5.0  # a child that lived this long starts its next life without a pause
TICK = 0.05


class Child:
    """One process that is started again whenever it ends."""

    def __init__(self, name: str, command: Sequence[str], workers: int = 1, slot: int = 0) -> None:
        self.name = name
        self.slot = slot
        self.workers = workers
        self.command = command
        self.failures = 0
        self.next_start = 0.0
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0

    def start(self) -> None:
        """Start it in a session of its own: Ctrl-C reaches the supervisor alone, which stops the rest in order.

        The child watches its standard input: when this process is gone, even by SIGKILL, it ends too.
        """
        env = {**os.environ, ROLE: self.name, WORKERS: str(self.workers), SLOT: str(self.slot)}
        self.process = subprocess.Popen(self.command, env=env, stdin=subprocess.PIPE, start_new_session=True)
        self.started = time.monotonic()

    def tend(self) -> None:
        """Start it again if it ended, after a pause that grows while it keeps ending."""
        now = time.monotonic()
        if self.process is not None:
            code = self.process.poll()
            if code is None:
                return
            self.failures = 0 if now - self.started > STEADY_SECONDS else self.failures + 1
            pause = 0.0 if self.failures == 0 else min(5.0, 0.05 * 2**self.failures)
            say("warning", "process ended; starting another", name=self.name, code=code, pause=round(pause, 2))
            self.process = None
            self.next_start = now + pause
        if now >= self.next_start:
            self.start()

    def stop(self, deadline: float) -> None:
        """Ask it to end, and kill it when the deadline is over."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            say("warning", "process did not stop in time; killed", name=self.name, pid=self.process.pid)
            self.process.kill()
            self.process.wait()


def say(level: str, event: str, **values: object) -> None:
    """One line of JSON on standard error, like all our logs."""
    print(json.dumps({"event": event, "level": level, **values}), file=sys.stderr, flush=True)  # noqa: T201


def supervise(mains: Sequence[Child], courier: Child, address: tuple[str, int] | None) -> int:
    """Run until SIGINT or SIGTERM. A wrong setting ends the first process, and with its code this one."""
    stopping: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, _: stopping.append(n))
    first = mains[0]
    first.start()
    code = _until_ready(first, address, stopping)
    if code is not None:
        return code
    children = [*mains[1:], courier]
    for child in children:
        child.start()
    while not stopping:
        time.sleep(TICK)
        for child in (first, *children):
            child.tend()
    deadline = time.monotonic() + STOP_SECONDS
    # The courier goes last: the others may still wait for an answer that it carries.
    for child in mains:
        if child.process is not None and child.process.poll() is None:
            child.process.terminate()
    for child in (*mains, courier):
        child.stop(deadline)
    return 0


def _until_ready(child: Child, address: tuple[str, int] | None, stopping: Sequence[int]) -> int | None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        assert child.process is not None
        if (code := child.process.poll()) is not None:
            return code or 1
        if stopping:
            child.stop(time.monotonic() + STOP_SECONDS)
            return 0
        if address is None:
            if time.monotonic() - child.started > 1.0:
                return None
        else:
            try:
                with socket.create_connection(address, timeout=1):
                    return None
            except OSError:
                pass
        time.sleep(0.02)
    child.stop(time.monotonic() + STOP_SECONDS)
    say("error", "the first process did not get ready", seconds=READY_SECONDS)
    return 1


def main(arguments: Sequence[str]) -> int:
    """Supervise what the arguments say."""
    parser = argparse.ArgumentParser(prog="mooring.supervisor")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--no-background", action="store_true")
    given = parser.parse_args(arguments)
    python = [sys.executable, "-m"]
    if given.port is None:
        command, address = [*python, "mooring.child", "work"], None
    else:
        command = [*python, "mooring.child", "serve", given.host, str(given.port)]
        command += ["no-background"] if given.no_background else []
        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(given.host, given.host)  # noqa: S104 - translated, not bound
        address = (shown, given.port)
    mains = [Child("main", command, given.workers, slot) for slot in range(given.workers)]
    return supervise(mains, Child("courier", [*python, "mooring.courier"]), address)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
