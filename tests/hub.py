"""A real hub in a process of its own, and what tests do with it over its socket."""

from __future__ import annotations

import asyncio
import os
import secrets
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

import httpx

from mooring.identity import service as identity
from mooring.kit.db import Database
from tests.leaks import left_by

READY_SECONDS = 60
TLS = ssl.create_default_context()  # shared: to make one takes longer than a call to the hub
_open: list[httpx.Client] = []


def client(base_url: str, **more: Any) -> httpx.Client:
    """A client that the conftest closes at the end of the test."""
    # Enough for 50 threads of one test: what a pool closes in excess, another thread may be reading (httpcore 1.0.9).
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=200)
    made = httpx.Client(base_url=base_url, timeout=30, trust_env=False, verify=TLS, limits=limits, **more)
    _open.append(made)
    return made


def close_clients() -> None:
    """Close what the test opened."""
    while _open:
        _open.pop().close()


BOOTSTRAP_KEY = "bootstrap-key-for-tests-0123456789abcdef"


class Hub:
    """One `mooring serve`. Its log is kept; it is stopped by its own handle."""

    def __init__(
        self,
        folder: Path,
        port: int,
        *,
        database_url: str | None = None,
        egress_allow: str = "",
        connectors_dir: Path | None = None,
        workers: int = 1,
        single_process: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.database_url = database_url or f"sqlite:///{folder / 'data' / 'mooring.db'}"
        self.workers = workers
        self.single_process = single_process
        self.log_path = folder / "hub.log"
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("MOORING_")}
        self.env |= {
            "MOORING_DATA_DIR": str(folder / "data"),
            "MOORING_BOOTSTRAP_API_KEY": BOOTSTRAP_KEY,
            "MOORING_EGRESS_ALLOW": egress_allow,
            "MOORING_LOG_LEVEL": "debug",
            "MOORING_REFRESH_AHEAD": "no",  # tests say themselves when a token is renewed
        }
        if database_url:
            self.env["MOORING_DATABASE_URL"] = database_url
        if connectors_dir:
            self.env["MOORING_CONNECTORS_DIR"] = str(connectors_dir)
        self.env |= env or {}
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        leaked = left_by(self.folder)
        assert not leaked, "secrets in the open:\n" + "\n".join(leaked)

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `mooring …` with this hub's settings."""
        return subprocess.run(
            [sys.executable, "-m", "mooring", *arguments],
            env=self.env,
            text=True,
            capture_output=True,
            check=check,
            timeout=60,
        )

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self.process = self.spawn(log)
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the hub ended with {self.process.returncode}: {self.log()[-2000:]}")
            try:
                if httpx.get(f"{self.url}/readyz", timeout=1).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.03)
        self.stop()
        raise AssertionError(f"the hub did not get ready: {self.log()[-2000:]}")

    def spawn(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start the process."""
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "mooring", "serve", "--port", str(self.port)),
                *(["--single-process"] if self.single_process else ["--workers", str(self.workers)]),
            ],
            env=self.env,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def stop(self) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def new_project(self, name: str = "test", scopes: list[str] | None = None) -> Project:
        """A fresh project with a key of all scopes, made beside the running hub."""

        async def make() -> tuple[str, str]:
            from mooring.identity.scopes import SCOPES

            db = Database(self.database_url)
            try:
                async with db.begin() as tx:
                    org = await identity.create_organization(tx, f"org-{secrets.token_hex(6)}")
                    project = await identity.create_project(tx, org.id, name)
                    key = await identity.create_api_key(tx, project.id, "tests", scopes or list(SCOPES))
                    return project.id, key.secret
            finally:
                await db.close()

        project_id, key = _run(make())
        return Project(self, project_id, key)


def _run(coroutine: Any) -> Any:
    """Run a coroutine from a test, whether or not the test itself has a loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    import concurrent.futures

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


@dataclass
class Project:
    """A project of a hub, seen through its API key."""

    hub: Hub
    id: str
    key: str
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = client(self.hub.url, auth=(self.key, ""))

    def config(
        self, connector: str, method: str, setup: Mapping[str, Any] | None = None, **more: Any
    ) -> dict[str, Any]:
        """Create an auth config."""
        body = {"connector_key": connector, "authentication_config_key": method, "setup": dict(setup or {}), **more}
        return ok(self.http.post("/auth_configs", json=body), 201)

    def session(self, owner: str = "owner-1", **more: Any) -> Session:
        """Create a connect session."""
        body = {"origin_owner_id": owner, "origin_owner_name": f"{owner} Inc.", **more}
        created = ok(self.http.post("/connect_sessions", json=body), 201)
        return Session(self, created)

    def link(
        self, config: Mapping[str, Any], credentials: Mapping[str, Any], owner: str = "owner-1", **more: Any
    ) -> str:
        """Link an account by a form; returns its id."""
        session = self.session(owner, integration_id=config["id"], **more)
        return str(ok(session.submit(config["id"], credentials))["id"])

    def proxy(self, account: str, method: str = "GET", path: str = "/", **more: Any) -> httpx.Response:
        """Call through `/proxy`."""
        headers = {"x-account-id": account, **more.pop("headers", {})}
        return self.http.request(method, f"/proxy{path}", headers=headers, **more)

    def account(self, id: str) -> dict[str, Any]:
        return ok(self.http.get(f"/accounts/{id}"))


@dataclass
class Session:
    """A connect session, seen as the Hub sees it."""

    project: Project
    created: dict[str, Any]
    browser: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        # A browser of its own: cookies, no redirects followed, the session's token in a header.
        self.browser = client(self.project.hub.url)
        self.http = client(self.project.hub.url, headers={"x-hub-session-token": self.token})

    @property
    def token(self) -> str:
        return str(self.created["token"])

    def submit(self, integration_id: str, credentials: Mapping[str, Any]) -> httpx.Response:
        """Post a form."""
        return self.http.post(
            "/hub/accounts", json={"integration_id": integration_id, "credentials": dict(credentials)}
        )

    def attempt(self) -> str:
        """Begin a connection attempt."""
        return str(ok(self.http.post("/hub/connection_attempts", json={"token": self.token}))["id"])

    def start_oauth(self, integration_id: str, attempt: str | None = None, **fields: str) -> httpx.Response:
        """Open the popup's URL in this session's browser; the answer redirects to the provider."""
        params = {"token": self.token, **fields}
        if attempt:
            params["connection_attempt_id"] = attempt
        return self.browser.get(f"/connect/oauth2/{integration_id}", params=params)

    def attempt_state(self, attempt: str) -> dict[str, Any]:
        return ok(self.http.get(f"/hub/connection_attempts/{attempt}"))


def ok(response: httpx.Response, status: int = 200) -> Any:
    """The JSON of an answer that must have this status."""
    assert response.status_code == status, f"{response.status_code}: {response.text[:1000]}"
    return response.json() if response.content else None


def refused(response: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
    """The body of a refusal, checked against the one shape of contract §1."""
    assert response.status_code == status, f"{response.status_code}: {response.text[:1000]}"
    body: dict[str, Any] = response.json()
    assert body["statusCode"] == status
    assert isinstance(body["message"], str) and body["message"]
    assert "T" in body["timestamp"] and body["timestamp"].endswith("Z")
    if code is not None:
        assert body["errorCode"] == code, body
    return body
