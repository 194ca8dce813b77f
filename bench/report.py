"""The table: ratios are the claims, absolute numbers stand beside them for orientation."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import subprocess
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

from bench.measures import THROUGHPUT_CONNECTIONS, HubResult, Plan, Results, median
from bench.servers import BODY_BYTES

RATIO_LINE = 0.25
ADDED_LINE = 0.3  # ms
IDLE_LINE = 130.0  # MB, of all processes
WEB_LINES = (110.0, 180.0)  # MB, of the web process: idle, after load
START_LINE = 1.2  # seconds


def render(results: Results, plan: Plan) -> str:
    """Return all tables as Markdown that also reads well in a terminal."""
    parts = [_claims(results)]
    if results.throughput or results.latency:
        parts.append(_loads(results))
    parts.append(_hubs(results))
    runs = f"{plan.rounds} interleaved rounds of {plan.seconds:g} s" if results.throughput or results.latency else ""
    if runs:
        parts.append(f"Medians of {runs} per target; in brackets the smallest and the largest round.")
    return "\n\n".join(parts)


def document(tables: str, command: str, others: float) -> str:
    """Return the content of RESULTS.md. `others` is the load average before the run: how much else the machine did."""
    head = [f"{datetime.now(UTC):%Y-%m-%d}, `{command}`", f"load average before the run: {others:.1f}"]
    facts = "\n".join(f"- {line}" for line in [*head, *hardware(), *versions()])
    return f"""\
# Results

Written by `python -m bench --write`. The ratios are the claims; absolute numbers depend on the machine.

{facts}

{tables}

## What is measured

All on loopback, one process each. *direct* is an nginx that answers {BODY_BYTES} bytes of static JSON, called without
anything between. *nginx* forwards to it with `proxy_pass`, kept connections, one worker and a static `Authorization`
header: no tenant, no vault, no log. *Mooring* is `mooring serve` as it ships, with an account linked by API key: key
check, tenancy, account status, unsealing, egress guard, masking of echoed secrets, a row of the request log per call.
Load comes from `wrk -t1`. Before the rounds, every answer of a short run is compared with the provider's body; a failed
call in a round ends the run. Processor time counts all threads of the target, the writing of log rows included; it
suffers less than requests/s from other work on the machine. `mooring serve` is a supervisor, a web process and the
courier; RSS counts the pages that they share in each of them, PSS counts every page once.

{scoreboard()}
"""


def scoreboard() -> str:
    """The measures of security and reliability as they stand in docs/security/scoreboard.md, each with its own command."""
    page = (Path(__file__).resolve().parents[1] / "docs" / "security" / "scoreboard.md").read_text(encoding="utf-8")
    table = "\n".join(line for line in page.splitlines() if line.startswith("|"))
    table = re.sub(r"\]\((?=[\w-]+\.md)", "](../docs/security/", table)
    return f"## Security and reliability\n\nCopied from [the scoreboard](../docs/security/scoreboard.md).\n\n{table}"


def _claims(results: Results) -> str:
    rows = []
    for name, hub in results.hubs.items():
        if results.throughput:
            found = results.ratios(name)
            shown = f"{median(found):.3f} [{min(found):.3f}–{max(found):.3f}]"
            rows.append(_claim("requests/s ÷ nginx", name, shown, f"≥ {RATIO_LINE:.2f}", median(found) >= RATIO_LINE))
        if results.latency:
            added = results.added_ms(name)
            shown = f"{median(added):.2f} ms [{min(added):.2f}–{max(added):.2f}]"
            rows.append(
                _claim("added, p50, 1 connection", name, shown, f"≤ {ADDED_LINE} ms", median(added) <= ADDED_LINE)
            )
        if hub.idle.pss:
            rows += [
                _megabytes("memory of all processes, idle (PSS)", name, hub.idle.pss, IDLE_LINE),
                _megabytes("memory of the web process, idle (RSS)", name, hub.idle.web, WEB_LINES[0]),
            ]
        if hub.loaded.pss:
            rows.append(_megabytes("memory of the web process, after load (RSS)", name, hub.loaded.web, WEB_LINES[1]))
        for what, times in (("fresh", hub.start_fresh), ("existing data", hub.start_again)):
            if times:
                took = median(times)
                rows.append(_claim(f"start, {what}", name, f"{took:.2f} s", f"< {START_LINE:g} s", took < START_LINE))
        if hub.calls:
            lost = max(0, hub.calls - hub.rows)
            rows.append(_claim("log rows lost", name, f"{lost:,} of {hub.calls:,}", "0", lost == 0))
    return _table(["claim", "of", "measured", "line", ""], rows)


def _megabytes(what: str, name: str, found: float, line: float) -> list[str]:
    return _claim(what, name, f"{found:.0f} MB", f"≤ {line:.0f} MB", found <= line)


def _claim(what: str, name: str, shown: str, line: str, met: bool) -> list[str]:
    return [what, name, shown, line, "met" if met else "MISSED"]


def _loads(results: Results) -> str:
    names = list(results.throughput or results.latency)
    rows: list[list[str]] = []

    def row(title: str, cell: Callable[[str], str]) -> None:
        rows.append([title, *(cell(name) for name in names)])

    if found := results.throughput:
        at = f"{THROUGHPUT_CONNECTIONS} connections"
        row(f"requests/s, {at}", lambda n: f"{median(r.per_second for r in found[n]):,.0f}")
        row("÷ nginx", lambda n: f"{median(results.ratios(n)):.3f}")
        row("processor time per call, µs", lambda n: f"{median(r.cpu_micros for r in found[n]):.0f}")
        row(f"p50 / p99 ms, {at}", lambda n: _pair(median(r.p50 for r in found[n]), median(r.p99 for r in found[n])))
    if alone := results.latency:
        row("p50 / p99 ms, 1 connection", lambda n: _pair(*(median(getattr(r, p) for r in alone[n]) for p in _POINTS)))
        row("added to direct, p50 ms", lambda n: _spread(results.added_ms(n)) if n != "direct" else "")
    return _table(["", *names], rows)


_POINTS = ("p50", "p99")


def _hubs(results: Results) -> str:
    hubs = results.hubs
    rows: list[list[str]] = []

    def row(title: str, cell: Callable[[HubResult], str]) -> None:
        cells = [cell(hub) for hub in hubs.values()]
        if any(cells):
            rows.append([title, *cells])

    for title, part in (("web process", "web"), ("all, RSS", "rss"), ("all, PSS", "pss")):
        row(f"memory idle / after load, MB: {title}", partial(_memory, part))
    row("start, fresh data, s", lambda h: _spread(h.start_fresh) if h.start_fresh else "")
    row("start, existing data, s", lambda h: _spread(h.start_again) if h.start_again else "")
    row("calls counted / log rows", lambda h: f"{h.calls:,} / {h.rows:,}" if h.calls else "")
    row("rows not yet written when a run ended, at most", lambda h: f"{h.late_rows:.0%}" if h.calls else "")
    return _table(["", *hubs], rows)


def _memory(part: str, hub: HubResult) -> str:
    idle, loaded = getattr(hub.idle, part), getattr(hub.loaded, part)
    return f"{idle:.0f} / {loaded:.0f}" if loaded else ""


def _pair(first: float, second: float) -> str:
    return f"{first:.2f} / {second:.2f}"


def _spread(values: Sequence[float]) -> str:
    return f"{median(values):.2f} [{min(values):.2f}–{max(values):.2f}]"


def _table(head: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(line[i]) for line in [head, *rows]) for i in range(len(head))]
    lines = [head, ["-" * max(3, width) for width in widths], *rows]
    padded = [[cell.ljust(max(3, width)) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def hardware() -> list[str]:
    """Describe the machine."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next((line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = os.cpu_count() or 1
    return [f"{cores} cores ({model or platform.machine()}), {memory:.0f} GB, {platform.system()} {platform.release()}"]


def versions() -> list[str]:
    """Name what took part."""
    packages = ", ".join(f"{p} {version(p)}" for p in ("mooring", "uvicorn", "httptools", "uvloop"))
    python = f"Python {platform.python_version()}, {packages}"
    servers = [_first_line("nginx", "-v").removeprefix("nginx version: "), _first_line("wrk", "-v")[:20].strip()]
    return [python, f"SQLite {sqlite3.sqlite_version}, {', '.join(servers)}"]


def _first_line(*command: str) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout.partition("\n")[0]


if __name__ == "__main__":  # python -m bench.report
    results = Path(__file__).resolve().parent / "RESULTS.md"
    measured, _, _ = results.read_text(encoding="utf-8").partition("\n## Security and reliability")
    results.write_text(f"{measured.rstrip()}\n\n{scoreboard()}\n", encoding="utf-8")
