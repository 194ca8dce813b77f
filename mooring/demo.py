"""`mooring demo`: the main job end to end, with the sandbox as the provider. Nothing leaves the machine."""

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
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from typing import Any
from urllib.parse import urlencode

import orjson
from pyreqwest.client import SyncClient, SyncClientBuilder
from pyreqwest.exceptions import PyreqwestError
from rich.console import Console
from rich.table import Table

from mooring.errors import ConfigurationError
from mooring.kit.vault import make_key

READY_SECONDS = 30
LOOK_SECONDS = 1.0  # between two looks for accounts that somebody linked by hand
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CALL = "/api/employees?page_size=2"


@dataclass(frozen=True, slots=True)
class Method:
    """One way to link the sandbox, with the values that its form gets."""

    key: str
    title: str
    form: dict[str, str]
    setup: dict[str, str]


METHODS = (
    Method("api_key", "API key (header)", {"api_key": "sandbox-key-acme"}, {}),
    Method("basic", "Basic (user + password)", {"username": "acme-admin", "password": "sandbox-password"}, {}),
    Method(
        "oauth2",
        "OAuth 2.0 authorization code",
        {},
        {"client_id": "sandbox-client", "client_secret": "sandbox-secret"},
    ),
    Method(
        "client_credentials",
        "OAuth 2.0 client credentials",
        {"client_id": "sandbox-machine", "client_secret": "sandbox-machine-secret"},
        {},
    ),
    Method(
        "service_user",
        "Service user (two headers)",
        {"service_user_id": "SERVICE-1001", "service_user_token": "sandbox-service-token"},
        {},
    ),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer as the demo needs it."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return orjson.loads(self.body)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the result."""

    method: str
    account: str
    status: int
    answer: str


class DemoError(ConfigurationError):
    """A step of the demo failed; the message names it."""


class Http:
    """A plain client that follows nothing, like the backend of a product would use."""

    def __init__(self, client: SyncClient) -> None:
        self._client = client

    def __call__(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        json: Any = None,
        body: bytes | None = None,
    ) -> Answer:
        request = self._client.request(method, url)
        for name, value in (headers or {}).items():
            request = request.header(name, value)
        if json is not None:
            request = request.header("content-type", "application/json").body_bytes(orjson.dumps(json))
        elif body is not None:
            request = request.body_bytes(body)
        response = request.build().send()
        return Answer(response.status, dict(response.headers.items()), response.bytes().to_bytes())


def run(*, port: int, sandbox_port: int, once: bool, data_dir: Path | None) -> int:
    """Run the demo. Returns the exit code; everything that it started is stopped when it returns."""
    console = Console(highlight=False)
    signals = _Signals()
    folder = Path(tempfile.mkdtemp(prefix="mooring-demo-"))
    try:
        keys = {} if data_dir else {"MOORING_MASTER_KEYS": ":".join(make_key())}  # a folder that stays needs a key file
        return _run(console, signals, data_dir or folder / "data", keys, port, sandbox_port, once=once)
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
    port: int,
    sandbox_port: int,
    *,
    once: bool,
) -> int:
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
        rows = _link_all(http, hub, provider, key, console)
        console.print(_table(rows))
        if any(row.status != 200 for row in rows):
            console.print("A call did not succeed; see the table.", style="red")
            return 1
        link = _link_to_try(http, hub, key)
        known = {row.account for row in rows}
        _say_more(console, hub, provider, key, rows[0].account, link)
        if once:
            return 0
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


def _link_all(http: Http, hub: str, provider: str, key: str, console: Console) -> list[Row]:
    """Per method: auth config, connect session, link, proxied call. Returns the rows of the table."""
    project = {"authorization": f"Bearer {key}"}
    rows = []
    for method in METHODS:
        console.print(f"Linking an account: {method.title} …")
        config = _need(
            http(
                "POST",
                f"{hub}/auth_configs",
                headers=project,
                json={
                    "connector_key": "sandbox",
                    "authentication_config_key": method.key,
                    "setup": {"sandbox_url": provider, **method.setup},
                },
            ),
            201,
            "creating an auth config",
        )
        session = _need(
            http(
                "POST",
                f"{hub}/connect_sessions",
                headers=project,
                json={
                    "origin_owner_id": f"customer-{method.key}",
                    "origin_owner_name": "Acme Inc.",
                    "integration_id": config["id"],
                },
            ),
            201,
            "creating a connect session",
        )
        account = _link(http, hub, session["token"], config["id"], method)
        called = http("GET", f"{hub}/proxy{CALL}", headers={**project, "x-account-id": account})
        people = called.json().get("employees", []) if called.status == 200 else []
        names = ", ".join(p["first_name"] for p in people)
        rows.append(Row(method.title, account, called.status, names or called.body.decode()[:200]))
    return rows


def _link_to_try(http: Http, hub: str, key: str) -> str:
    """A link to the Hub as a customer's user sees it, with all methods to choose from."""
    session = _need(
        http(
            "POST",
            f"{hub}/connect_sessions",
            headers={"authorization": f"Bearer {key}"},
            json={"origin_owner_id": "you", "origin_owner_name": "Your customer", "expires_in": 86400},
        ),
        201,
        "creating a connect session",
    )
    return str(session["auth_link_url"])


def _link(http: Http, hub: str, token: str, config_id: str, method: Method) -> str:
    """Do what the Hub does for an end user: post the form, or walk through the provider's consent page."""
    headers = {"x-hub-session-token": token}
    if method.key != "oauth2":
        form = {"integration_id": config_id, "credentials": method.form}
        linked = _need(
            http("POST", f"{hub}/hub/accounts", headers=headers, json=form), 200, f"linking by {method.title}"
        )
        return str(linked["id"])
    attempt = _need(
        http("POST", f"{hub}/hub/connection_attempts", headers=headers, json={"token": token}), 200, "OAuth"
    )
    query = urlencode({"token": token, "connection_attempt_id": attempt["id"]})
    start = http("GET", f"{hub}/connect/oauth2/{config_id}?{query}")
    if start.status != 302:
        raise DemoError(f"demo: OAuth start answered {start.status}: {start.body.decode()[:200]}")
    consent = http(
        "POST",
        start.headers["location"],
        headers={"content-type": "application/x-www-form-urlencoded"},
        body=b"decision=allow&company=acme",
    )
    cookie = start.headers["set-cookie"].partition(";")[0]
    http("GET", consent.headers["location"], headers={"cookie": cookie})
    done = _need(http("GET", f"{hub}/hub/connection_attempts/{attempt['id']}", headers=headers), 200, "OAuth")
    if done["status"] != "authenticated":
        raise DemoError(f"demo: the OAuth attempt ended as {done['status']}: {done['error']}")
    return str(done["account"]["id"])


def _need(answer: Answer, status: int, step: str) -> Any:
    if answer.status != status:
        raise DemoError(f"demo: {step} answered {answer.status}: {answer.body.decode()[:300]}")
    return answer.json()


def _table(rows: list[Row]) -> Table:
    """The result in 80 columns; ids are never broken, so that they can be copied."""
    table = Table(title=f"GET {CALL} through one linked account per method", title_justify="left")
    table.add_column("method", no_wrap=True)
    table.add_column("account", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("people", overflow="fold")
    for row in rows:
        table.add_row(row.method, row.account, str(row.status), row.answer)
    return table


def _say_more(console: Console, hub: str, provider: str, key: str, account: str, link: str) -> None:
    console.print(f"\nHub       {hub}")
    console.print(f"Provider  {provider}/ (the sandbox; its page lists what it can do)")
    console.print("\nLink one by hand, in the Hub as your customers' users see it (API key: sandbox-key-acme):\n")
    console.print(f"  {link}", soft_wrap=True, markup=False, highlight=False)
    console.print("\nCall it yourself:\n")
    console.print(
        f"  curl -u '{key}:' -H 'x-account-id: {account}' '{hub}/proxy{CALL}'",
        soft_wrap=True,
        markup=False,
    )
    console.print("\nWhat you link by hand is called here too. Ctrl-C stops everything.")
