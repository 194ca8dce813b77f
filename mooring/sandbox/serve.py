"""Serves the sandbox: one process, no access log, one line of output."""

from __future__ import annotations

import asyncio
import signal
import socket

from mooring.errors import ConfigurationError
from mooring.kit.server import listen
from mooring.sandbox.app import build_app

_STOP_SECONDS = 1


def serve(host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM; port 0 means any free one. Raise `ConfigurationError` if it cannot."""
    asyncio.run(_serve(host, _free_port(host, port)))


def _free_port(host: str, port: int) -> int:
    # The listener shares its port (SO_REUSEPORT): without this a second sandbox would silently share the port
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
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    listener = await listen(build_app(issuer=url), host=host, port=port)
    try:
        print(f"Sandbox provider on {url}/ · OAuth issuer {url} · control {url}/_control/state", flush=True)  # noqa: T201
        await stop.wait()
    finally:
        await listener.stop(_STOP_SECONDS)  # requests that hang on purpose are cancelled after it
