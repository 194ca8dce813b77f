"""How the processes of one hub tell each other their numbers: a small file each, in the data folder.

They share one port, so a scrape meets any of them, and the one that it meets answers for all. Everything is read from the
files, its own among them, so that no counter ever goes back: a process that dies leaves its file, and the one that the
supervisor starts in its place goes on from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import orjson
import structlog

from mooring.accounts.context import Context
from mooring.metrics.samples import Samples, added, counters_of, gauges_of
from mooring.supervisor import ROLE, SLOT

log = structlog.get_logger(__name__)

WRITE_SECONDS: Final = 1.0
FRESH_SECONDS: Final = 10.0  # a file that is older says nothing of now; its counters still count
FOLDER: Final = "metrics"


def _group() -> int:
    """Who belongs together: the supervisor's process id, or our own without one."""
    return os.getppid() if os.environ.get(ROLE) else os.getpid()


def _own(context: Context) -> Path:
    return context.settings.data_dir / FOLDER / f"{_group()}-{os.environ.get(SLOT, '0')}.json"


@contextlib.asynccontextmanager
async def sharing(context: Context) -> AsyncIterator[None]:
    """Write the numbers of this process every second, while /metrics is on."""
    if context.settings.metrics_token is None:
        yield
        return
    _remove_dead(context)
    context.counters.before = _counters(_read(_own(context)))
    task = asyncio.create_task(_write_on(context), name="metrics")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        write(context)


async def _write_on(context: Context) -> None:
    while True:
        write(context)
        await asyncio.sleep(WRITE_SECONDS)


def write(context: Context) -> None:
    """Write the numbers of this process now."""
    path = _own(context)
    content = {"at": time.time(), "counters": counters_of(context), "gauges": gauges_of(context)}
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        beside.write_bytes(orjson.dumps(content))
        beside.replace(path)
    except OSError as e:
        log.warning("numbers of this process not written", error=e.strerror)


def gather(context: Context) -> tuple[Samples, Samples]:
    """Counters and gauges of all processes that share the data folder."""
    write(context)
    counters: Samples = {}
    gauges: Samples = {}
    now = time.time()
    for path in sorted(_own(context).parent.glob("*.json")):
        if not _is_alive(path):
            continue
        content = _read(path)
        counters = added(counters, _counters(content))
        if now - content.get("at", 0) < FRESH_SECONDS:
            gauges = added(gauges, content.get("gauges", {}))
    return counters, gauges


def _counters(content: dict[str, Any]) -> Samples:
    found: Samples = content.get("counters", {})
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        content = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_alive(path: Path) -> bool:
    """Whether the group that a file belongs to still runs."""
    group = path.name.partition("-")[0]
    try:
        os.kill(int(group), 0)
    except PermissionError:
        return True
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    return True


def _remove_dead(context: Context) -> None:
    own = _own(context)
    for path in own.parent.glob("*"):
        if not _is_alive(path):
            path.unlink(missing_ok=True)
