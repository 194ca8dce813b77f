"""`python -m bench.more`: bodies up and down, many accounts, more connections and workers, sessions per second.

What the main table leaves out. Every ratio is against nginx, or against Mooring itself, in the same interleaved rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx

from bench import load
from bench.load import Target
from bench.population import populate
from bench.report import _table, hardware, versions
from bench.servers import BOOTSTRAP_KEY, Hub, Reference, Upstream
from tests.servers.ports import HOST

HERE = Path(__file__).resolve().parent.parent
MB = 1 << 20
SIZES = {"0.5 kB": 0, "100 kB": 100_000, "10 MB": 10 * MB}
SPREAD = 1_000  # accounts that the calls of a run go to, at random


def main() -> int:
    """Run and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.more", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--accounts", type=int, nargs="*", default=[10, 10_000, 100_000])
    options = parser.parse_args()
    begun = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - begun:4.0f} s] {line}", file=sys.stderr, flush=True)

    say(f"load average before the run: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="mooring-bench-") as folder, ExitStack() as stack:
        home = Path(folder)
        upstream = stack.enter_context(Upstream(SIZES))
        reference = stack.enter_context(Reference(upstream))
        hub = stack.enter_context(Hub(home / "one", HERE, allow=f"{HOST}:{upstream.port}"))
        two = stack.enter_context(Hub(home / "two", HERE, allow=f"{HOST}:{upstream.port}", workers=2))
        hubs = {"Mooring": (hub, hub.link()), "Mooring, 2 workers": (two, two.link())}
        rows = _bodies(options, home, upstream, reference, hubs, say)
        rows += _connections(options, home, reference, hubs, say)
        rows += _accounts(options, home, hub, hubs["Mooring"][1], say)
        rows.append(_sessions(options, home, hub, say))
    print("\n".join(f"- {line}" for line in [*hardware(), *versions()]))
    print()
    print(_table(["measure", "nginx", "Mooring", "ratio"], rows))
    print(f"\nMedians of {options.rounds} interleaved rounds of {options.seconds:g} s.")
    return 0


def _target(name: str, hub: Hub, account: str, path: str, body: int = 0) -> Target:
    headers = {"authorization": f"Bearer {BOOTSTRAP_KEY}", "x-account-id": account}
    return Target(name, f"{hub.base_url}/proxy{path}", headers, body)


def _interleaved(
    options: argparse.Namespace, home: Path, targets: Sequence[tuple[Target, int]], say: Callable[[str], None]
) -> list[float]:
    """Requests per second of each target, medians over the rounds."""
    found: list[list[float]] = [[] for _ in targets]
    for _ in range(options.rounds):
        for index, (target, connections) in enumerate(targets):
            done = load.run(target, home, connections=connections, seconds=options.seconds)
            found[index].append(done.per_second)
            say(f"{target.name:<44} {connections:>4} connections {done.per_second:>10,.1f}/s")
    return [statistics.median(runs) for runs in found]


def _bodies(
    options: argparse.Namespace,
    home: Path,
    upstream: Upstream,
    reference: Reference,
    hubs: dict[str, tuple[Hub, str]],
    say: Callable[[str], None],
) -> list[list[str]]:
    hub, account = hubs["Mooring"]
    rows = []
    for name, size in list(SIZES.items())[1:]:
        connections = 32 if size < MB else 4
        path = f"/bytes/{size}"
        pairs = (
            (f"{name} down", (Target(f"nginx, {name} down", reference.base_url + path, {}), path, 0)),
            (f"{name} up", (Target(f"nginx, {name} up", f"{reference.base_url}/up/body", {}, size), "/up/body", size)),
        )
        for title, (direct, where, body) in pairs:
            ours = _target(f"Mooring, {title}", hub, account, where, body)
            nginx, mooring = _interleaved(options, home, [(direct, connections), (ours, connections)], say)
            shown = [f"{n * size / 1e6:,.0f} MB/s" for n in (nginx, mooring)]
            rows.append([f"{title}, {connections} connections", *shown, f"{mooring / nginx:.2f}"])
    return rows


def _connections(
    options: argparse.Namespace,
    home: Path,
    reference: Reference,
    hubs: dict[str, tuple[Hub, str]],
    say: Callable[[str], None],
) -> list[list[str]]:
    rows = []
    for connections in (1, 32, 256):
        targets = [(Target("nginx", f"{reference.base_url}/employees?page=1", {}), connections)]
        targets += [
            (_target(name, hub, account, "/employees?page=1"), connections) for name, (hub, account) in hubs.items()
        ]
        nginx, *ours = _interleaved(options, home, targets, say)
        for name, found in zip(hubs, ours, strict=True):
            what = f"0.5 kB, {connections} connections{name.removeprefix('Mooring')}"
            rows.append([what, f"{nginx:,.0f}/s", f"{found:,.0f}/s", f"{found / nginx:.3f}"])
    return rows


def _accounts(
    options: argparse.Namespace, home: Path, hub: Hub, template: str, say: Callable[[str], None]
) -> list[list[str]]:
    """Calls spread over up to a thousand of the accounts; the ratio is to the smallest population."""
    rows, first, known = [], 0.0, [template]
    for count in options.accounts:
        say(f"making {count:,} accounts")
        known += populate(hub.home, template, count - len(known))
        chosen = known[:: max(1, len(known) // SPREAD)][:SPREAD]
        target = _target(f"{count:,} accounts", hub, template, "/employees?page=1")
        target = Target(target.name, target.url, target.headers, accounts=tuple(chosen))
        load.run(target, home, connections=32, seconds=2)  # warm
        (found,) = _interleaved(options, home, [(target, 32)], say)
        first = first or found
        memory = hub.memory()
        rows.append(
            [f"{count:,} accounts, 32 connections", "", f"{found:,.0f}/s, {memory.web:.0f} MB", f"{found / first:.2f}"]
        )
    return rows


def _sessions(options: argparse.Namespace, home: Path, hub: Hub, say: Callable[[str], None]) -> list[str]:
    """Connect sessions made per second, by eight callers at once."""
    from concurrent.futures import ThreadPoolExecutor

    def make(worker: int) -> int:
        made, end = 0, time.monotonic() + options.seconds
        with httpx.Client(base_url=hub.base_url, auth=(BOOTSTRAP_KEY, ""), timeout=30, trust_env=False) as http:
            while time.monotonic() < end:
                body = {"origin_owner_id": str(worker), "origin_owner_name": "Owner"}
                http.post("/connect_sessions", json=body).raise_for_status()
                made += 1
        return made

    with ThreadPoolExecutor(8) as pool:
        made = sum(pool.map(make, range(8)))
    say(f"{made} sessions")
    return ["connect sessions made, 8 callers", "", f"{made / options.seconds:,.0f}/s", ""]


if __name__ == "__main__":
    sys.exit(main())
