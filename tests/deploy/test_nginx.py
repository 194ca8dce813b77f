"""The configuration for nginx, in a real nginx before a real hub."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from mooring.identity import projects, throttle
from mooring.kit.db import Database
from tests.deploy.containerfile import DEPLOY
from tests.hub import Hub, Project, ok, refused
from tests.kit.origin import Authority
from tests.sandbox.harness import start_sandbox, stop_sandbox
from tests.servers.ports import free_port

NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
MB = 1 << 20


@dataclass
class Fronted:
    """A hub behind nginx, and what both wrote."""

    hub: Hub
    port: int
    tls: ssl.SSLContext
    access_log: Path
    sandbox_url: str

    def client(self, source: str, **more: object) -> httpx.Client:
        """A caller with this address, who sees the hub under its public name."""
        transport = httpx.HTTPTransport(local_address=source, verify=self.tls)
        return httpx.Client(
            base_url=f"https://127.0.0.1:{self.port}", transport=transport, timeout=20, trust_env=False,
            headers={"host": "hub.example.com"}, **more,  # type: ignore[arg-type]
        )  # fmt: skip


@pytest.fixture(scope="module")
def fronted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronted]:
    folder = tmp_path_factory.mktemp("nginx")
    port, plain, hub_port = free_port(), free_port(), free_port()
    authority = Authority()
    authority.context(folder, "hub.example.com")
    pem = folder / "hub.example.com1False.pem"
    tls = ssl.create_default_context(cadata=authority.pem.decode())
    tls.check_hostname = False  # the client connects to an address
    text = (DEPLOY / "proxy" / "nginx.conf").read_text()
    for old, new in (
        ("127.0.0.1:8080", f"127.0.0.1:{hub_port}"),
        ("listen 80;", f"listen 127.0.0.1:{plain};"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("/etc/nginx/tls/hub.example.com.crt", str(pem)),
        ("/etc/nginx/tls/hub.example.com.key", str(pem)),
        ("/var/log/nginx/mooring.log", str(folder / "access.log")),
    ):
        assert old in text, old
        text = text.replace(old, new)
    (folder / "mooring.conf").write_text(text)
    temp = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log warn; user root;\n"
        f"events {{ worker_connections 128; }}\nhttp {{ {temp} include {folder}/mooring.conf; }}\n"
    )
    command = [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    tried = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert tried.returncode == 0, tried.stderr
    with ExitStack() as stack:
        process, sandbox_url = start_sandbox()
        stack.callback(stop_sandbox, process)
        env = {"MOORING_PUBLIC_URL": "https://hub.example.com", "MOORING_TRUSTED_PROXIES": "127.0.0.1"}
        allow = sandbox_url.removeprefix("http://")
        hub = stack.enter_context(Hub(folder / "hub", hub_port, egress_allow=allow, single_process=True, env=env))
        nginx = subprocess.Popen(command)
        stack.callback(nginx.wait, 10)
        stack.callback(nginx.terminate)
        fronted = Fronted(hub, port, tls, folder / "access.log", sandbox_url)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                with fronted.client("127.0.0.2") as http:
                    ok(http.get("/readyz"))
                break
            except httpx.TransportError:
                time.sleep(0.05)
        yield fronted
        errors = (folder / "error.log").read_text()
    assert "[error]" not in errors and "[crit]" not in errors, errors


@pytest.fixture
def project(fronted: Fronted) -> Project:
    return fronted.hub.new_project()


@pytest.fixture
def account(fronted: Fronted, project: Project) -> str:
    config = project.config("sandbox", "api_key", {"sandbox_url": fronted.sandbox_url})
    return project.link(config, {"api_key": "sandbox-key-acme"})


@pytest.fixture
def caller(fronted: Fronted, project: Project) -> Iterator[httpx.Client]:
    with fronted.client("127.0.0.2", auth=(project.key, "")) as http:
        yield http


def test_a_large_body_and_an_odd_path_arrive_as_they_were(caller: httpx.Client, account: str) -> None:
    body = bytes(range(256)) * (24 * MB // 256)
    echo = ok(
        caller.post(
            "/proxy/api/echo/a%2Fb//c?q=%20x",
            content=(body[i : i + MB] for i in range(0, len(body), MB)),  # chunked: its length is not told before
            headers={"x-account-id": account},
        )
    )
    assert echo["body"] == {"sha256": hashlib.sha256(body).hexdigest(), "size": len(body)}
    assert echo["query"] == "q=%20x" and echo["path"].endswith("//c")
    assert not [name for name in echo["headers"] if name.startswith("x-forwarded")]  # the provider learns no addresses


def test_a_stream_arrives_piece_by_piece(caller: httpx.Client, account: str) -> None:
    with caller.stream("GET", "/proxy/api/sse?count=4&interval=150", headers={"x-account-id": account}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        times = [time.monotonic() for line in answer.iter_lines() if line.startswith("data:")]
    assert len(times) == 4 and times[-1] - times[0] > 0.3  # nothing waited for the end


def source_of(project: Project, path: str) -> str:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        rows = ok(project.http.get("/requests/logs", params={"page_size": 25}))["data"]
        for row in rows:
            if row["path"].startswith(path):
                return str(row["source_ip"])
        time.sleep(0.1)
    raise AssertionError(f"no log row for {path}")


def test_the_caller_behind_the_proxy_is_the_caller_whatever_it_claims(
    fronted: Fronted, project: Project, caller: httpx.Client, account: str
) -> None:
    headers = {"x-account-id": account, "x-forwarded-for": "198.51.100.1", "forwarded": "for=198.51.100.1"}
    ok(caller.get("/proxy/api/echo/claimed", headers=headers))
    assert source_of(project, "/proxy/api/echo/claimed") == "127.0.0.2"
    direct = httpx.Client(
        base_url=fronted.hub.url, auth=(project.key, ""), trust_env=False,
        transport=httpx.HTTPTransport(local_address="127.0.0.3"),
    )  # fmt: skip
    with direct:  # a stranger beside the proxy is believed nothing
        ok(direct.get("/proxy/api/echo/direct", headers=headers))
    assert source_of(project, "/proxy/api/echo/direct") == "127.0.0.3"


def allow_only(project: Project, address: str) -> None:
    async def run() -> None:
        db = Database(project.hub.database_url)
        try:
            async with db.begin() as tx:
                await projects.set_ip_allowlist(tx, project.id, [address])
        finally:
            await db.close()

    asyncio.run(run())
    time.sleep(1.2)  # every process notices within a second


def test_a_list_of_addresses_is_held_against_the_caller_and_not_against_the_proxy(
    fronted: Fronted, project: Project, caller: httpx.Client, account: str
) -> None:
    allow_only(project, "127.0.0.2")
    headers = {"x-account-id": account}
    ok(caller.get("/proxy/api/me", headers=headers))
    ok(caller.get("/accounts"))
    with fronted.client("127.0.0.4", auth=(project.key, "")) as other:
        for forged in ({}, {"x-forwarded-for": "127.0.0.2"}):
            refused(other.get("/proxy/api/me", headers=headers | forged), 403)
            refused(other.get("/accounts", headers=forged), 403)


def test_guesses_are_counted_against_the_caller(fronted: Fronted) -> None:
    async def guess_often() -> None:  # as 21 refused sign-ins would
        db = Database(fronted.hub.database_url)
        try:
            async with db.begin() as tx:
                for number in range(21):
                    await throttle.failed(tx, f"n{number}@example.com", "127.0.0.5")
        finally:
            await db.close()

    asyncio.run(guess_often())
    guess = {"email": "nobody@example.com", "password": "a wrong password"}
    for source, status in (("127.0.0.5", 429), ("127.0.0.6", 401)):
        with fronted.client(source) as guesser:
            for forged in ({}, {"x-forwarded-for": "127.0.0.9"}):
                refused(guesser.post("/sessions", json=guess, headers=forged), status)


def test_no_header_moves_the_redirect_uri(fronted: Fronted, project: Project) -> None:
    setup = {"sandbox_url": fronted.sandbox_url, "client_id": "sandbox-client", "client_secret": "sandbox-secret"}
    config = project.config("sandbox", "oauth2", setup)
    assert config["callback_url"].startswith("https://hub.example.com/")
    session = project.session(integration_id=config["id"])
    forged = {
        "x-forwarded-host": "evil.example", "x-forwarded-proto": "http", "x-forwarded-prefix": "/evil",
        "forwarded": "host=evil.example;proto=http", "x-original-url": "/evil", "x-forwarded-port": "1",
    }  # fmt: skip
    with fronted.client("127.0.0.2") as browser:
        params = {"token": session.token}
        started = browser.get(f"/connect/oauth2/{config['id']}", params=params, headers=forged, follow_redirects=False)
    assert started.status_code in {302, 303}, started.text
    sent = parse_qs(urlsplit(started.headers["location"]).query)["redirect_uri"]
    assert sent == [config["callback_url"]]
    assert session.token not in fronted.access_log.read_text()


def test_the_access_log_has_no_query(fronted: Fronted, caller: httpx.Client, account: str) -> None:
    ok(caller.get("/proxy/api/echo?token=very-secret", headers={"x-account-id": account}))
    time.sleep(0.1)
    log = fronted.access_log.read_text()
    assert re.search(r'^127\.0\.0\.2 \[.*"GET /proxy/api/echo" 200 ', log, re.MULTILINE)
    assert "very-secret" not in log and "?" not in log
