"""How long the dashboard's pages take at the server with many accounts and log rows: `python -m bench.dashboard`.

Fills a fresh database, asks every list page and filter in this process over ASGI, and prints the median and the worst of
several looks. `--accounts`, `--logs` and `--database URL` (PostgreSQL) choose the size and the place.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import resource
import statistics
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import insert, text

from mooring.accounts.models import Account, Credential, search_text_of
from mooring.accounts.service import slot_of
from mooring.app import create_app
from mooring.auth_configs import service as auth_configs
from mooring.identity import service, sessions, users
from mooring.identity.service import ProjectId
from mooring.identity.user_models import OrganizationMember
from mooring.kit import clock, ids
from mooring.logs import stats
from mooring.logs.models import RequestLog
from mooring.settings import Settings

LIMIT_MS = 150.0
LOOKS = 7
BATCH = 5_000
METHODS = ("GET", "GET", "GET", "POST", "PATCH", "DELETE")
CONNECTORS = ("github", "hubspot", "sandbox", "lever", "airtable")


async def fill(context: Any, accounts: int, logs: int) -> tuple[str, str, list[str]]:
    """A project with that many accounts and log rows; returns its id, a session's cookie and some account ids."""
    rng = random.Random(7)
    async with context.db.begin() as tx:
        organization = await service.create_organization(tx, "bench")
        project = await service.create_project(tx, organization.id, "bench")
        user = await users.create(tx, "bench@example.com", "Bench")
        tx.add(OrganizationMember(organization_id=organization.id, user_id=user.id, role="admin"))
        _, token = await sessions.begin(tx, user, None, "bench")
        configs = {}
        for key in CONNECTORS:
            connector = context.registry[key]
            method = next(m for m in connector.auth.values() if not any(f.required for f in m.app_fields))
            row = await auth_configs.create(
                tx, context.vault, context.registry, ProjectId(project.id), connector_key=key, method_key=method.key
            )
            configs[key] = row.id
    now, made = clock.now(), []
    for start in range(0, accounts, BATCH):
        rows, credentials = [], []
        for n in range(start, min(start + BATCH, accounts)):
            key, id = rng.choice(CONNECTORS), ids.nanoid()
            created = now - timedelta(seconds=(accounts - n) * 60)
            owner = f"customer-{n:06d}"
            rows.append(
                {
                    "id": id, "project_id": project.id, "auth_config_id": configs[key], "connector_key": key,
                    "origin_owner_id": owner, "origin_owner_name": f"Customer {n} Ltd", "origin_username": None,
                    "owner_slot": slot_of(project.id, owner, f"Customer {n} Ltd", key), "label": None, "meta": None,
                    "type": "test" if n % 20 == 0 else "production", "shared": False,
                    "status": rng.choices(("active", "error", "expired", "suspended"), (95, 3, 1, 1))[0],
                    "status_reasons": [], "setup": {}, "granted_scopes": None, "missing_scopes": [],
                    "identity": None, "identity_label": None, "created_at": created, "updated_at": created,
                }
            )  # fmt: skip
            rows[-1]["search_text"] = search_text_of(rows[-1])
            credentials.append(
                {
                    "account_id": id, "generation": 1, "sealed": b"x" * 200, "refreshable": True, "fence": 0,
                    "failures": 0, "typed_at": created, "probe_failures": 0, "updated_at": created,
                    "expected_failure_at": now + timedelta(days=n % 90) if n % 50 == 0 else None,
                    "expected_failure_reason": "key_age" if n % 50 == 0 else None,
                }
            )  # fmt: skip
            made.append(id)
        async with context.db.begin() as tx:
            await tx.execute(insert(Account), rows)
            await tx.execute(insert(Credential), credentials)
    for start in range(0, logs, BATCH):
        rows = []
        for n in range(start, min(start + BATCH, logs)):
            started = now - timedelta(days=30) * ((logs - n) / logs)
            status = rng.choices((200, 201, 404, 401, 500), (90, 5, 3, 1, 1))[0]
            rows.append(
                {
                    "id": _id_at(started, rng), "category": "platform" if n % 10 == 0 else "unified",
                    "project_id": project.id, "account_id": rng.choice(made), "origin_owner_id": f"customer-{n % 1000}",
                    "provider": rng.choice(CONNECTORS), "service": "proxy", "resource": None, "action": None,
                    "method": rng.choice(METHODS), "path": f"/proxy/items/{n % 977}",
                    "url": f"https://api.example.com/{n % 977}",
                    "status": status, "success": status < 400, "error_code": None, "started_at": started,
                    "ended_at": started, "duration_ms": rng.expovariate(1 / 120), "source_type": "API",
                    "source_id": "k", "source_ip": "192.0.2.1", "steps": [],
                }
            )  # fmt: skip
        async with context.db.begin() as tx:
            await tx.execute(insert(RequestLog), rows)
            await stats.count(tx, [_Counted(r) for r in rows])
    async with context.db.begin() as tx:
        await tx.execute(text("ANALYZE"))
    return project.id, token, made


class _Counted:
    def __init__(self, row: dict[str, Any]) -> None:
        self.__dict__.update(row, started_at=row["started_at"].timestamp())


def _id_at(moment: Any, rng: random.Random) -> str:
    """A version 7 UUID of another time."""
    value = int(moment.timestamp() * 1000) << 80 | rng.getrandbits(80)
    value = value & ~(0xF << 76 | 0x3 << 62) | 0x7 << 76 | 0x2 << 62
    t = f"{value:032x}"
    return f"{t[:8]}-{t[8:12]}-{t[12:16]}-{t[16:20]}-{t[20:]}"


def pages(project: str, accounts: list[str]) -> dict[str, str]:
    """What is asked, by a short name."""
    base = f"/dashboard/p/{project}"
    before = (clock.now() - timedelta(days=7)).isoformat()

    def logs(**query: str) -> str:
        return f"{base}/logs?{urlencode(query)}"

    def listed(**query: str) -> str:
        return f"{base}/accounts?{urlencode(query)}"

    return {
        "connectors": f"{base}/connectors",
        "accounts": f"{base}/accounts",
        "accounts, deep page": listed(before=f"{before}~x"),
        "accounts, status error": listed(status="error"),
        "accounts, inactive (none)": listed(status="inactive"),
        "accounts, connector": listed(provider="hubspot"),
        "accounts, type test": listed(type="test"),
        "accounts, failing soon": listed(soon="1"),
        "accounts, search (one)": listed(q="customer-000007"),
        "accounts, search (none)": listed(q="no such thing"),
        "account": f"{base}/accounts/{accounts[0]}",
        "logs": logs(),
        "logs, management": logs(kind="platform"),
        "logs, failed": logs(result="failed"),
        "logs, status 5xx": logs(status="5xx"),
        "logs, status 418 (none)": logs(status="418"),
        "logs, connector": logs(provider="lever"),
        "logs, account": logs(account=accounts[1]),
        "logs, method DELETE": logs(method="DELETE"),
        "logs, method HEAD (none)": logs(method="HEAD"),
        "logs, path (none)": logs(path="no such thing"),
        "logs, slower than 5 s (none)": logs(slower="5000"),
        "logs, owner": logs(owner="customer-5"),
        "logs, last hour": logs(range="1h"),
        "logs, a week ago": logs(to=before),
        "charts, 30 days": f"{base}/logs/charts?range=30d",
        "events": f"{base}/events",
        "audit log": f"{base}/audit",
        "search": f"{base}/search?q=customer-000007",
        "system": "/dashboard/system",
    }


async def look(app: Any, path: str, cookie: str) -> tuple[int, float]:
    """Ask one page in this process; returns status and milliseconds."""
    raw, _, query = path.partition("?")
    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": raw, "raw_path": raw.encode(),
        "query_string": query.encode(), "root_path": "", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
        "headers": [(b"cookie", f"mooring-session={cookie}".encode()), (b"accept-encoding", b"identity")],
    }  # fmt: skip
    status = 0

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]

    begun = time.perf_counter()
    await app(scope, receive, send)
    return status, (time.perf_counter() - begun) * 1000


async def run(accounts: int, logs: int, url: str | None) -> int:
    """Fill, look, print; the exit code tells whether every page kept the limit."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder) / "data", database_url=url)
        app = create_app(settings, public_url="http://127.0.0.1:8080")
        async with app.running() as context:
            begun = time.perf_counter()
            project, cookie, made = await fill(context, accounts, logs)
            print(f"filled {accounts} accounts and {logs} log rows in {time.perf_counter() - begun:.0f} s")
            print(f"load {os.getloadavg()[0]:.1f}\n\n| page | median ms | worst ms |\n| --- | ---: | ---: |")
            late, before = [], 0
            for name, path in pages(project, made).items():
                await look(app, path, cookie)
                before = before or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                found = [await look(app, path, cookie) for _ in range(LOOKS)]
                assert {status for status, _ in found} == {200}, (name, found)
                median = statistics.median(ms for _, ms in found)
                print(f"| {name} | {median:.0f} | {max(ms for _, ms in found):.0f} |", flush=True)
                if median > LIMIT_MS:
                    late.append(name)
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            print(
                f"\nmemory grew by {grown:.0f} MiB over all pages; over {LIMIT_MS:.0f} ms: {', '.join(late) or 'none'}"
            )
    return 1 if late else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--logs", type=int, default=1_000_000)
    parser.add_argument("--database", default=None, help="postgresql://… of an empty database; SQLite without it")
    given = parser.parse_args()
    raise SystemExit(asyncio.run(run(given.accounts, given.logs, given.database)))
