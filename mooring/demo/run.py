"""The course of the demo: start hub and sandbox, link by every method, call, and run on until Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired

from pyreqwest.client import SyncClientBuilder
from pyreqwest.exceptions import PyreqwestError
from rich.console import Console

from mooring.demo.http import DemoError, Http
from mooring.demo.linking import CALL, link_all, link_to_try, table
from mooring.demo.site import Site
from mooring.kit.vault import make_key

READY_SECONDS = 30
LOOK_SECONDS = 1.0  # between two looks for accounts that somebody linked by hand
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(*, port: int, sandbox_port: int, site_port: int, once: bool, data_dir: Path | None) -> int:
    """Run the demo. Returns the exit code; everything that it started is stopped when it returns."""
    console = Console(highlight=False)
    signals = _Signals()
    folder = Path(tempfile.mkdtemp(prefix="mooring-demo-"))
    try:
        keys = {} if data_dir else {"MOORING_MASTER_KEYS": ":".join(make_key())}  # a folder that stays needs a key file
        return _run(console, signals, data_dir or folder / "data", keys, (port, sandbox_port, site_port), once=once)
    except KeyboardInterrupt:
        console.print("\nStopped.")
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(
    console: Console,
    signals: _Signals,
    data_dir: Path,
    keys: dict[str, str],
    ports: tuple[int, int, int],
    *,
    once: bool,
) -> int:
    port, sandbox_port, site_port = ports
    port, sandbox_port = _free(port, console), _free(sandbox_port, console)
    hub, provider = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{sandbox_port}"
    env = {name: value for name, value in os.environ.items() if not name.startswith("MOORING_")}
    env |= keys
    env |= {
        "MOORING_DATA_DIR": str(data_dir.absolute()),
        "MOORING_EGRESS_ALLOW": f"127.0.0.1:{sandbox_port}",
        "MOORING_LOG_LEVEL": "error",
    }
    with contextlib.ExitStack() as stack:
        stack.enter_context(_child(["sandbox", "--port", str(sandbox_port)], env, signals))
        console.print("Making a project and an API key …")
        key = _api_key(env, signals)
        server = stack.enter_context(_child(["serve", "--port", str(port)], env, signals))
        client = stack.enter_context(SyncClientBuilder().follow_redirects(False).no_proxy().build())
        http = Http(client)
        _wait(http, f"{provider}/healthz", server, console, "the sandbox provider")
        _wait(http, f"{hub}/readyz", server, console, "the hub")
        rows = link_all(http, hub, provider, key, console)
        console.print(table(rows))
        if any(row.status != 200 for row in rows):
            console.print("A call did not succeed; see the table.", style="red")
            return 1
        link = link_to_try(http, hub, key)
        known = {row.account for row in rows}
        _say_more(console, hub, provider, key, rows[0].account, link)
        if once:
            return 0
        site = stack.enter_context(Site(http, hub, key, site_port))
        site.register()
        console.print("\nOpen this page, link an account by hand, and see the provider's answer:\n")
        console.print(f"  {site.origin}/\n", soft_wrap=True, highlight=False)
        console.print("Ctrl-C stops everything.")
        return _run_on(server, console, lambda: _show_new(http, hub, key, known, console))


class _Signals:
    """Lets the first signal end the demo in order, at whatever step it is; later ones must not break that."""

    def __init__(self) -> None:
        self._held = self._pending = False
        for number in _STOPPING:
            signal.signal(number, self._stop)

    def _stop(self, _number: int, _frame: object) -> None:
        for number in _STOPPING:
            signal.signal(number, signal.SIG_IGN)
        if not self._held:
            raise KeyboardInterrupt
        self._pending = True

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Put a signal off: a process that is being started has no handle yet by which it could be stopped."""
        self._held = True
        yield
        self._held = False
        if self._pending:
            raise KeyboardInterrupt


def _api_key(env: dict[str, str], signals: _Signals) -> str:
    """A new API key by the command that operators use; the first one makes organization and project `default` too."""
    with _child(["api-key", "create", "--label", "demo"], env, signals, PIPE, PIPE) as command:
        key, problem = command.communicate()
    if command.returncode != 0:
        raise DemoError(f"demo: creating an API key failed: {problem.decode().strip()[-500:]}")
    return str(key.decode().strip())


def _run_on(server: Popen[bytes], console: Console, look: Callable[[], None]) -> int:
    """Wait for Ctrl-C, or for the hub's unexpected end, and show what happens meanwhile."""
    try:
        while (code := server.poll()) is None:
            time.sleep(LOOK_SECONDS)
            with contextlib.suppress(PyreqwestError):  # a hub that restarts is looked at again; one that ended is told
                look()
    except KeyboardInterrupt:
        console.print("\nStopped.")
        return 0
    raise DemoError(f"demo: the hub ended by itself with exit code {code}")


def _show_new(http: Http, hub: str, key: str, known: set[str], console: Console) -> None:
    """Call through accounts that somebody linked by hand, and print what the provider answered."""
    project = {"authorization": f"Bearer {key}"}
    found = http("GET", f"{hub}/accounts", headers=project)
    for account in found.json() if found.status == 200 else ():
        if account["id"] in known:
            continue
        known.add(account["id"])
        called = http("GET", f"{hub}/proxy{CALL}", headers={**project, "x-account-id": account["id"]})
        console.print(f"\nYou linked the account {account['id']}. GET {CALL} through it answers {called.status}:")
        console.print(f"  {called.body.decode()[:600]}", soft_wrap=True, markup=False, highlight=False)


def _free(port: int, console: Console) -> int:
    """The port, or another one when it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            pass
        else:
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        other: int = probe.getsockname()[1]
    console.print(f"Port {port} is taken; using {other}.")
    return other


@contextlib.contextmanager
def _child(
    arguments: list[str], env: dict[str, str], signals: _Signals, stdout: int = DEVNULL, stderr: int | None = None
) -> Iterator[Popen[bytes]]:
    process = None
    try:
        with signals.held():
            # A session of its own: Ctrl-C reaches the demo alone, which stops its children in order.
            command = [sys.executable, "-m", "mooring", *arguments]
            process = Popen(command, env=env, stdout=stdout, stderr=stderr, start_new_session=True)
        yield process
    finally:
        if process is not None:
            _end(process)


def _end(process: Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(15)
        except TimeoutExpired:
            process.kill()
            process.wait()


def _wait(http: Http, url: str, server: Popen[bytes], console: Console, what: str) -> None:
    console.print(f"Starting {what} …")
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise DemoError("demo: the hub ended at its start; its message is above")
        with contextlib.suppress(PyreqwestError):
            if http("GET", url).status == 200:
                return
        time.sleep(0.05)
    raise DemoError(f"demo: {what} did not get ready within {READY_SECONDS} s")


def _say_more(console: Console, hub: str, provider: str, key: str, account: str, link: str) -> None:
    console.print(f"\nHub       {hub}")
    console.print(f"Provider  {provider}/ (the sandbox; its page lists what it can do)")
    console.print("\nThe Hub alone, behind a link as your customers' users get it (API key: sandbox-key-acme):\n")
    console.print(f"  {link}", soft_wrap=True, markup=False, highlight=False)
    console.print("\nCall it yourself:\n")
    console.print(
        f"  curl -u '{key}:' -H 'x-account-id: {account}' '{hub}/proxy{CALL}'",
        soft_wrap=True,
        markup=False,
    )
    console.print("\nWhat you link by hand is called here too.")
