"""`python -m bench.strain`: what the log costs, a provider that is silent, a body of 1 GiB, token refreshes per second.

Every ratio is Mooring against itself in the same interleaved rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import httpx
from sqlalchemy import update

from bench import load
from bench.load import Target
from bench.population import populate
from bench.report import _table, hardware, versions
from bench.servers import BOOTSTRAP_KEY, Hub, Upstream, connector
from mooring.accounts.credentials import Secrets
from mooring.accounts.models import Credential
from mooring.kit import clock
from mooring.kit.db import Database, record_change
from tests.servers.ports import HOST, free_port

HERE = Path(__file__).resolve().parent.parent
GIB = 1 << 30
PARKED = 1_000
PIECE = 1 << 20
_SECRET = {"client_secret": "bench-secret-0123456789"}
Say = Callable[[str], None]


def main() -> int:
    """Run and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.strain", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--refreshes", type=int, default=2_000, help="accounts whose tokens have ended")
    options = parser.parse_args()
    begun = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - begun:4.0f} s] {line}", file=sys.stderr, flush=True)

    say(f"load average before the run: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="mooring-bench-") as folder, ExitStack() as stack:
        home = Path(folder)
        upstream = stack.enter_context(Upstream({"1 GiB": GIB}))
        silent = stack.enter_context(_silence())
        provider = f"{HOST}:{upstream.port}"
        more = {"silent": connector(f"{HOST}:{silent}", "silent", test=""), "oauth": _oauth(provider)}
        allow = f"{provider},{HOST}:{silent}"
        hub = stack.enter_context(Hub(home / "one", HERE, allow=allow, connectors=more))
        unlogged = stack.enter_context(Hub(home / "two", HERE, allow=allow, before=HERE / "bench" / "unlogged"))
        account = hub.link()
        rows = [
            _logging(options, home, (hub, account), (unlogged, unlogged.link()), say),
            _parked(options, home, hub, account, say),
            *_gib(upstream, hub, account, say),
            _refreshes(options, hub, say),
        ]
    print("\n".join(f"- {line}" for line in [*hardware(), *versions()]))
    print()
    print(_table(["measure", "baseline", "measured", "result", "line", ""], rows))
    print(f"\nMedians of {options.rounds} interleaved rounds of {options.seconds:g} s.")
    return 0


def _headers(account: str) -> dict[str, str]:
    return {"authorization": f"Bearer {BOOTSTRAP_KEY}", "x-account-id": account}


def _target(name: str, hub: Hub, account: str) -> Target:
    return Target(name, f"{hub.base_url}/proxy/employees?page=1", _headers(account))


def _row(what: str, before: str, after: str, result: str, line: str, met: bool) -> list[str]:
    return [what, before, after, result, line, "met" if met else "MISSED"]


def _logging(options: argparse.Namespace, home: Path, on: tuple[Hub, str], off: tuple[Hub, str], say: Say) -> list[str]:
    """Requests per second with rows of the log and without, at 32 connections."""
    targets = [_target("with the log", *on), _target("without", *off)]
    found: list[list[float]] = [[], []]
    for number in range(options.rounds + 1):
        for index, target in enumerate(targets):
            done = load.run(target, home, connections=32, seconds=options.seconds)
            say(f"{target.name:<28} {done.per_second:>9,.0f}/s")
            if number:  # the first round warms both
                found[index].append(done.per_second)
            time.sleep(1)  # the rows that wait are written
    with_log, without = (statistics.median(runs) for runs in found)
    ratio = statistics.median(a / b for a, b in zip(*found, strict=True))
    return _row(
        "request log on ÷ off, 32 connections",
        f"{without:,.0f}/s",
        f"{with_log:,.0f}/s",
        f"{ratio:.2f}",
        "≥ 0.9",
        ratio >= 0.9,
    )


@contextmanager
def _silence() -> Iterator[int]:
    """A provider that takes every call and answers none. Yields its port."""
    port = free_port()
    loop = asyncio.new_event_loop()
    ready = threading.Event()

    async def serve() -> None:
        async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.read(65536):
                seen = True  # noqa: F841
            writer.close()

        server = await asyncio.start_server(hold, HOST, port, backlog=PARKED)
        ready.set()
        async with server:
            await server.serve_forever()

    task: list[asyncio.Task[None]] = []

    def run() -> None:
        asyncio.set_event_loop(loop)
        task.append(loop.create_task(serve()))
        try:
            loop.run_until_complete(task[0])
        except asyncio.CancelledError:
            return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait(5)
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(task[0].cancel)
        thread.join(5)


def _parked(options: argparse.Namespace, home: Path, hub: Hub, account: str, say: Say) -> list[str]:
    """p99 of calls to one provider while a thousand wait for another, at 8 connections; rounds alternate."""
    head = {**_headers(hub.link("silent")), "host": f"{HOST}:{hub.port}"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    request = f"GET /proxy/employees HTTP/1.1\r\n{lines}\r\n".encode()
    target = _target("another provider", hub, account)
    found: list[list[float]] = [[], []]
    for _ in range(options.rounds):
        for parked in (0, PARKED):
            waiting: list[socket.socket] = []
            try:
                for _ in range(parked):
                    waiting.append(socket.create_connection((HOST, hub.port)))
                    waiting[-1].sendall(request)
                time.sleep(1)
                done = load.run(target, home, connections=8, seconds=options.seconds)
            finally:
                for connection in waiting:
                    connection.close()
            say(f"{parked:>5} parked: p50 {done.p50:.2f} ms, p99 {done.p99:.2f} ms, {done.per_second:,.0f}/s")
            found[bool(parked)].append(done.p99)
            time.sleep(0.5)
    alone, beside = (statistics.median(runs) for runs in found)
    return _row(
        f"p99 beside {PARKED:,} parked calls ÷ alone, 8 connections",
        f"{alone:.2f} ms",
        f"{beside:.2f} ms",
        f"{beside / alone:.2f}",
        "< 2",
        beside < 2 * alone,
    )


def _gib(upstream: Upstream, hub: Hub, account: str, say: Say) -> Iterator[list[str]]:
    """1 GiB down and up; how much the web process grows meanwhile, and whether every byte arrived."""
    file = upstream.folder / "bytes" / str(GIB)
    whole = _sha256(file)
    with httpx.Client(base_url=hub.base_url, headers=_headers(account), timeout=120, trust_env=False) as http:

        def down() -> str:
            digest = hashlib.sha256()
            with http.stream("GET", f"/proxy/bytes/{GIB}") as answer:
                answer.raise_for_status()
                for piece in answer.iter_raw(PIECE):
                    digest.update(piece)
            return digest.hexdigest()

        def up() -> str:
            def pieces() -> Iterator[bytes]:
                with file.open("rb") as source:
                    while piece := source.read(PIECE):
                        yield piece

            http.put("/proxy/up/gib", content=pieces()).raise_for_status()
            return _sha256(upstream.folder / "up" / "gib")

        for name, run in (("down", down), ("up", up)):
            began, before = time.monotonic(), hub.memory().web
            with _peak(hub) as peak:
                same = run() == whole
            took, grew = time.monotonic() - began, max(peak) - before
            say(f"1 GiB {name}: {took:.1f} s, {grew:+.1f} MB, {'every byte' if same else 'NOT THE SAME'}")
            yield _row(
                f"RSS of the web process, 1 GiB {name}",
                f"{before:.0f} MB",
                f"{max(peak):.0f} MB",
                f"{grew:+.1f} MB, sha256 {'equal' if same else 'DIFFERS'}",
                "≤ 20 MB, equal",
                same and grew <= 20,
            )


def _sha256(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


@contextmanager
def _peak(hub: Hub) -> Iterator[list[float]]:
    seen, end = [hub.memory().web], threading.Event()

    def watch() -> None:
        while not end.wait(0.05):
            seen.append(hub.memory().web)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        end.set()
        thread.join()


def _refreshes(options: argparse.Namespace, hub: Hub, say: Say) -> list[str]:
    """Calls through accounts whose tokens have ended: each makes one token request. Then the same calls again."""
    template = hub.link("oauth", "client_credentials", {"client_id": "bench", **_SECRET})
    say(f"making {options.refreshes:,} accounts whose tokens have ended")
    accounts = populate(hub.home, template, options.refreshes, Secrets(fields=_SECRET, access_token="ended"))
    end_tokens(f"sqlite:///{hub.home / 'data' / 'mooring.db'}", accounts)
    time.sleep(1)

    def call(part: list[str]) -> None:
        with httpx.Client(base_url=hub.base_url, timeout=60, trust_env=False) as http:
            for account in part:
                http.get("/proxy/employees", headers=_headers(account)).raise_for_status()

    took = []
    for name in ("ended tokens", "fresh tokens"):
        began = time.monotonic()
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(call, [accounts[start::16] for start in range(16)]))
        took.append(time.monotonic() - began)
        say(f"{len(accounts):,} calls, {name}: {took[-1]:.1f} s")
    per_second = [len(accounts) / seconds for seconds in took]
    return [
        "token refreshes, 16 callers (and the same calls without)",
        f"{per_second[1]:,.0f}/s",
        f"{per_second[0]:,.0f}/s",
        f"{(took[0] - took[1]) / len(accounts) * 1e3:.1f} ms more each",
        "",
        "",
    ]


def end_tokens(database_url: str, accounts: list[str]) -> None:
    """Let the access tokens of accounts have ended a minute ago."""
    asyncio.run(_end_tokens(database_url, accounts))


async def _end_tokens(database_url: str, accounts: list[str]) -> None:
    db = Database(database_url)
    past = clock.now() - timedelta(minutes=1)
    try:
        async with db.begin() as tx:
            for start in range(0, len(accounts), 500):
                part = accounts[start : start + 500]
                ended = {"expires_at": past, "refresh_at": None, "retry_at": None}
                await tx.execute(update(Credential).where(Credential.account_id.in_(part)).values(**ended))
            record_change(tx, "account", accounts[0])
    finally:
        await db.close()


def _oauth(origin: str) -> str:
    return f"""\
connector: oauth
title: OAuth
category: hris
base_url: http://{origin}
auth:
  client_credentials:
    label: Client credentials
    oauth2:
      grant: client_credentials
      token_url: http://{origin}/token
      client_auth: basic
    fields:
      client_id: {{label: Client ID}}
      client_secret: {{label: Client secret, secret: true}}
"""


if __name__ == "__main__":
    sys.exit(main())
