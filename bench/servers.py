"""The servers of a run: the upstream, nginx as the reference, and the hub under test, each with a folder of its own."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]

from tests.servers.ports import HOST, free_port
from tests.servers.process import Server, require_program, unprivileged_user

BOOTSTRAP_KEY = "bootstrap-key-for-bench-0123456789abcdef"
CREDENTIAL = "bench-credential-0123456789abcdef"
HEADER = "Bearer " + CREDENTIAL
_FIELDS = {"api_key": CREDENTIAL}
BODY_BYTES = 570


def _body() -> str:
    """A record as an HRIS gives it. Filler of one letter would be the worst case of searching for an echoed secret."""
    head = (
        '{"employees":[{"id":"4711","first_name":"Ada","last_name":"Lovelace","work_email":"ada@example.com",'
        '"job_title":"Principal Engineer","department":{"id":"17","name":"Research"},"start_date":"2019-03-04",'
        '"location":"London","manager_id":"12","employment_status":"active","compensation_band":"E7","notes":"'
    )
    tail = '"}],"next":null,"total":1}'
    words = (
        "prefers mail over calls; on parental leave until autumn, then part time for a year; speaks three languages "
    )
    return head + (words * 9)[: BODY_BYTES - len(head) - len(tail)] + tail


BODY = _body()

# A benchmark's connections must not end in the middle of it, so no limit on requests per connection.
_NGINX = """\
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
{http}
}}
"""


@dataclass(frozen=True)
class Memory:
    """MB: of the web process alone, of all processes with shared pages counted in each (RSS), and counted once (PSS)."""

    web: float = 0.0
    rss: float = 0.0
    pss: float = 0.0


class _Nginx(Server):
    """An nginx with its own prefix, nothing to do with the system's service."""

    stop_timeout = 3.0

    def __init__(self) -> None:
        super().__init__(free_port(), unprivileged_user("www-data", "nobody"))
        self._program = require_program("nginx", Path("/usr/sbin"))

    def http_block(self) -> str:
        """Return what stands inside `http { }`."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Write the configuration."""
        (self.folder / "nginx.conf").write_text(_NGINX.format(http=self.http_block()))

    def command(self) -> Sequence[str]:
        """Return nginx in the foreground on its own prefix."""
        return [self._program, "-p", str(self.folder), "-c", "nginx.conf", "-e", "stderr"]


class Upstream(_Nginx):
    """The provider: one static JSON answer, much faster than anything measured here."""

    name = "upstream"

    def __init__(self, sizes: Mapping[str, int] | None = None) -> None:
        super().__init__()
        self._sizes = [size for size in (sizes or {}).values() if size]

    def prepare(self) -> None:
        """Write the configuration, and a file for each size of `/bytes/<size>`."""
        super().prepare()
        (self.folder / "bytes").mkdir(exist_ok=True)
        for size in self._sizes:
            (self.folder / "bytes" / str(size)).write_bytes(os.urandom(size))

    def http_block(self) -> str:
        """Return a location for everything, files of some sizes, and a place to send bodies to."""
        return f"""
    client_max_body_size 0;
    server {{
        listen {HOST}:{self.port} backlog=1024;
        default_type application/json;
        location /bytes/ {{ root {self.folder}; }}
        location /up {{ root {self.folder}; dav_methods PUT; create_full_put_path on; }}
        location /token {{ return 200 '{{"access_token":"$request_id","token_type":"Bearer","expires_in":3600}}'; }}
        location / {{ return 200 '{BODY}'; }}
    }}"""


class Reference(_Nginx):
    """The practical limit: nginx forwards with a static credential and kept connections; no tenant, vault or log."""

    name = "reference"

    def __init__(self, upstream: Upstream) -> None:
        super().__init__()
        self._upstream = upstream

    def http_block(self) -> str:
        """Return a proxy with a pool of kept connections."""
        return f"""
    upstream provider {{
        server {HOST}:{self._upstream.port};
        keepalive 256;
        keepalive_requests 1000000000;
        keepalive_timeout 600s;
    }}
    client_max_body_size 0;
    server {{
        listen {HOST}:{self.port} backlog=1024;
        location / {{
            proxy_request_buffering off;
            proxy_buffering off;
            proxy_pass http://provider;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Authorization "{HEADER}";
        }}
    }}"""


class Hub(Server):
    """`mooring serve` on a data folder that outlives the process.

    `tree` is the source folder that it runs from; `connectors` are more definitions by key; `before` is a folder with a
    `sitecustomize.py` that changes what is measured.
    """

    name = "hub"
    stop_timeout = 20.0

    def __init__(
        self,
        home: Path,
        tree: Path,
        *,
        allow: str,
        database_url: str | None = None,
        workers: int = 1,
        connectors: Mapping[str, str] | None = None,
        before: Path | None = None,
    ) -> None:
        super().__init__(free_port())
        self._workers = workers
        self._connectors = connectors or {}
        self._before = before
        self.home = home
        self.database_url = database_url
        self._tree = tree
        self._allow = allow
        self.start_seconds = 0.0
        self._spawned = 0.0

    def command(self) -> Sequence[str]:
        """Return the product's own command."""
        self._spawned = time.perf_counter()
        more = ["--workers", str(self._workers)] if self._workers != 1 else []
        return [sys.executable, "-m", "mooring", "serve", "--host", HOST, "--port", str(self.port), *more]

    def environment(self) -> Mapping[str, str]:
        """Return the settings. PYTHONPATH decides which source tree runs."""
        settings = {
            "MOORING_DATA_DIR": str(self.home / "data"),
            "MOORING_BOOTSTRAP_API_KEY": BOOTSTRAP_KEY,
            "MOORING_CONNECTORS_DIR": str(self.home / "connectors"),
            "MOORING_EGRESS_ALLOW": self._allow,
            "MOORING_LOG_LEVEL": "warning",
            "PYTHONPATH": os.pathsep.join(str(folder) for folder in (self._before, self._tree) if folder),
        }
        return settings | ({"MOORING_DATABASE_URL": self.database_url} if self.database_url else {})

    def _full_environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MOORING_")}
        return {**kept, **self.environment()}

    def prepare(self) -> None:
        """Write the connector."""
        folder = self.home / "connectors"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "bench.yaml").write_text(connector(self._allow.partition(",")[0]))
        for key, text in self._connectors.items():
            (folder / f"{key}.yaml").write_text(text)

    def is_ready(self) -> bool:
        """Poll /readyz closely, and keep the time that the start took."""
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.base_url}/readyz", timeout=1, trust_env=False).status_code == 200:
                    self.start_seconds = time.perf_counter() - self._spawned
                    return True
            except httpx.TransportError:
                time.sleep(0.005)
        return False

    def memory(self) -> Memory:
        """Return the memory of all processes of this hub, in MB."""
        found = [(p.memory_info().rss / 1e6, p.memory_full_info().pss / 1e6) for p in _tree(self)]
        return Memory(max(rss for rss, _ in found), sum(rss for rss, _ in found), sum(pss for _, pss in found))

    def link(self, connector: str = "bench", method: str = "api_key", fields: Mapping[str, str] = _FIELDS) -> str:
        """Link an account by a form, as an end user does; return its id."""
        with httpx.Client(base_url=self.base_url, auth=(BOOTSTRAP_KEY, ""), timeout=10, trust_env=False) as http:
            body = {"connector_key": connector, "authentication_config_key": method}
            config = _made(http.post("/auth_configs", json=body))
            owner = {"origin_owner_id": "1", "origin_owner_name": "One", "integration_id": config["id"]}
            session = _made(http.post("/connect_sessions", json=owner))
        with httpx.Client(base_url=self.base_url, timeout=10, trust_env=False) as http:
            form = {"integration_id": config["id"], "credentials": dict(fields)}
            token = {"x-hub-session-token": session["token"]}
            return str(_made(http.post("/hub/accounts", json=form, headers=token))["id"])


def cpu_seconds(server: Server) -> float:
    """Return the processor time that a server and its children have taken so far."""
    return float(sum(sum(p.cpu_times()[:2]) for p in _tree(server)))


def _tree(server: Server) -> list[psutil.Process]:
    parent = psutil.Process(server.pid)
    return [parent, *parent.children(recursive=True)]


def connector(origin: str, key: str = "bench", test: str = "    test: {get: /api/me}\n") -> str:
    """Return a connector with an API key."""
    return f"""\
connector: {key}
title: {key.title()}
category: hris
base_url: http://{origin}
auth:
  api_key:
    label: API key
    header: {{name: Authorization, value: "Bearer ${{api_key}}"}}
    fields: {{api_key: {{label: API key, secret: true}}}}
{test}"""


def _made(response: httpx.Response) -> dict[str, str]:
    if response.status_code not in {200, 201}:
        raise RuntimeError(f"{response.request.url.path} answered {response.status_code}: {response.text[:500]}")
    made: dict[str, str] = response.json()
    return made
