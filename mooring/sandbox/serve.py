"""Serves the sandbox: one process, no access log, one line of output."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from pathlib import Path
from typing import Any

from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server
from starlette.types import ASGIApp, Receive, Scope, Send

from mooring.errors import ConfigurationError
from mooring.sandbox.app import build_app

_START_SECONDS = 10
_STOP_SECONDS = 1


def serve(host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM; port 0 means any free one. Raise `ConfigurationError` if it cannot."""
    port = _free_port(host, port)
    threads = _threads()
    asyncio.run(_serve(host, port))
    # granian's own threads outlive its serve() by a moment, and one that then meets a finalizing interpreter panics
    deadline = time.monotonic() + _STOP_SECONDS
    while _threads() > threads and time.monotonic() < deadline:
        time.sleep(0.002)


def _threads() -> int:
    try:
        return sum(1 for _ in Path("/proc/self/task").iterdir())
    except OSError:
        return 0


def _free_port(host: str, port: int) -> int:
    # granian listens with SO_REUSEPORT: without this a second sandbox would silently share the port
    if not 0 <= port <= 65_535:
        raise ConfigurationError(f"The sandbox's port must be from 0 to 65535, not {port}.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            free: int = probe.getsockname()[1]
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigurationError(
                f"The sandbox cannot listen on {host} port {port}: {reason}. Choose another --port."
            ) from None
    return free


async def _serve(host: str, port: int) -> None:
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - translated, not bound
    url = f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
    running: set[asyncio.Task[Any]] = set()
    server = Server(
        _tracked(build_app(issuer=url), running),
        address=host,
        port=port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=False,
        log_enabled=False,
        log_access=False,
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    serving = asyncio.create_task(server.serve())
    stopping = asyncio.create_task(stop.wait())
    try:
        await _wait_until_listening(reachable, port, serving)
        print(f"Sandbox provider on {url}/ · OAuth issuer {url} · control {url}/_control/state", flush=True)  # noqa: T201
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        server.stop()  # type: ignore[no-untyped-call]
        await asyncio.wait({serving}, timeout=_STOP_SECONDS)
        for task in running:  # requests that hang on purpose would keep a graceful stop waiting for ever
            task.cancel()
        await asyncio.wait({serving}, timeout=_STOP_SECONDS)


def _tracked(app: ASGIApp, running: set[asyncio.Task[Any]]) -> ASGIApp:
    async def tracked(scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.create_task(_run(app, scope, receive, send))
        running.add(task)
        try:
            await asyncio.wait({task})
        finally:
            running.discard(task)
        if not task.cancelled():
            task.result()

    return tracked


async def _run(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


async def _wait_until_listening(host: str, port: int, serving: asyncio.Task[None]) -> None:
    deadline = asyncio.get_running_loop().time() + _START_SECONDS
    while asyncio.get_running_loop().time() < deadline and not serving.done():
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            await writer.wait_closed()
            return
        await asyncio.sleep(0.02)
    raise ConfigurationError(f"The sandbox did not begin to listen on {host} port {port}.")
