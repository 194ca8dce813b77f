"""Run the hub: one process, or several that share the port under a small supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from mooring.app import create_app
from mooring.errors import ConfigurationError
from mooring.settings import WORKER_ENV, Settings

log = structlog.get_logger(__name__)

CALLS_SECONDS = 6.0  # that running calls get to end when the hub stops; refreshes have 8 s more
STOP_SECONDS = 14.0  # rule R18: a graceful stop ends within 15 s, whatever hangs
STEADY_SECONDS = 60.0  # a worker that lived so long did not die of its start
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - translated, not bound


def public_url_of(settings: Settings, host: str, port: int) -> str:
    """The address of this hub for browsers and providers: the setting, else where we listen."""
    if settings.public_url:
        return settings.public_url
    shown = _ANY.get(host, host)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def configure_logging(level: str) -> None:
    """One line of JSON per event on standard error; lines of libraries pass the same renderer."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        level=logging.WARNING,
        stream=sys.stderr,
        format='{"level":"%(levelname)s","logger":"%(name)s","event":"%(message)s"}',
    )


def serve(settings: Settings, *, host: str, port: int, workers: int) -> int:
    """Serve until SIGINT or SIGTERM. Returns the exit code. Raises ConfigurationError before anything listens."""
    supervised = os.environ.pop(WORKER_ENV, None) is not None
    if not supervised:
        check_port(host, port)
    configure_logging(settings.log_level)
    if workers > 1:
        return supervise(host=host, port=port, workers=workers)
    uvloop.run(_serve(settings, host, port, supervised=supervised))
    return 0


def check_port(host: str, port: int) -> None:
    """Refuse a port that is taken: the server shares ports, so a second hub would silently take half of the calls."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as e:
            reason = getattr(e, "strerror", None) or str(e)
            raise ConfigurationError(f"--host/--port: can't listen on {host}:{port}: {reason}") from None


async def _serve(settings: Settings, host: str, port: int, *, supervised: bool) -> None:
    app = create_app(settings, public_url=public_url_of(settings, host, port))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if supervised:
        _stop_with_supervisor(loop, stop)
    async with app.running():
        server = Server(
            app,
            address=host,
            port=port,
            interface=Interfaces.ASGINL,
            http=HTTPModes.auto,
            http1_settings=HTTP1Settings(max_buffer_size=64 * 1024, header_read_timeout=15_000),
            websockets=False,
            backlog=1024,
            log_enabled=False,
            log_access=False,
        )
        serving = asyncio.create_task(server.serve())
        stopping = asyncio.create_task(stop.wait())
        log.info("serving", url=app.public_url, pid=os.getpid())
        try:
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            loop.call_later(STOP_SECONDS, _give_up)
            server.stop()  # type: ignore[no-untyped-call]
            await asyncio.wait({serving}, timeout=CALLS_SECONDS)
    log.info("stopped", pid=os.getpid())


def _stop_with_supervisor(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Stop when the supervisor is gone, even by SIGKILL: its end of our standard input closes with it."""

    def ended() -> None:
        if not os.read(0, 1024):
            loop.remove_reader(0)
            stop.set()

    loop.add_reader(0, ended)


def _give_up() -> None:
    log.error("the stop took too long; what still runs is cut off", pid=os.getpid())
    os._exit(1)


@dataclass(slots=True)
class _Worker:
    """One place in the crew: the process in it, and when the next one may take the place of a dead one."""

    process: subprocess.Popen[bytes]
    started: float
    failures: int = 0
    due: float | None = None


def supervise(*, host: str, port: int, workers: int) -> int:
    """Keep `workers` processes alive on one port; a worker that dies is replaced, with a pause that grows."""
    command = [sys.executable, "-m", "mooring", "serve", "--host", host, "--port", str(port), "--workers", "1"]
    stopping = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    first = _start(command)
    # The first one migrates and bootstraps; a wrong setting ends it before the others start.
    if (code := _wait_ready(first, host, port, lambda: stopping)) is not None:
        return code
    crew = [_Worker(p, time.monotonic()) for p in (first, *(_start(command) for _ in range(workers - 1)))]
    while not stopping:
        time.sleep(0.1)
        for worker in crew:
            if worker.process.poll() is not None and not stopping:
                _replace(worker, command, time.monotonic())
    return _stop([worker.process for worker in crew])


def _replace(worker: _Worker, command: Sequence[str], now: float) -> None:
    """Start a dead worker again; the pause before it doubles while its successors die young."""
    if worker.due is None:
        worker.failures = 0 if now - worker.started > STEADY_SECONDS else min(worker.failures + 1, 6)
        worker.due = now + 0.1 * 2**worker.failures
        log.error("worker ended; starting another", pid=worker.process.pid, code=worker.process.returncode)
    if now >= worker.due:
        worker.process, worker.started, worker.due = _start(command), now, None


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    # A session of its own: Ctrl-C reaches the supervisor alone, which then stops the workers in order.
    env = {**os.environ, WORKER_ENV: "1"}
    return subprocess.Popen(command, env=env, stdin=subprocess.PIPE, start_new_session=True)


def _wait_ready(child: subprocess.Popen[bytes], host: str, port: int, stopping: Callable[[], bool]) -> int | None:
    deadline = time.monotonic() + 60
    target = (_ANY.get(host, host), port)
    while time.monotonic() < deadline:
        if child.poll() is not None:
            return child.returncode or 1
        if stopping():
            return _stop([child])
        with contextlib.suppress(OSError), socket.create_connection(target, timeout=1):
            return None
        time.sleep(0.02)
    _stop([child])
    raise ConfigurationError("serve: the first worker did not get ready within 60 s")


def _stop(children: Sequence[subprocess.Popen[bytes]]) -> int:
    for child in children:
        if child.poll() is None:
            child.terminate()
    deadline = time.monotonic() + STOP_SECONDS + 0.5
    for child in children:
        try:
            child.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.warning("worker did not stop in time; killed", pid=child.pid)
            child.kill()
            child.wait()
    return 0
