"""Read the operator's connector files again when they change, for those who write them (MOORING_CONNECTORS_RELOAD)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from mooring.connectors.problem import ConnectorFileError
from mooring.connectors.registry import Registry, load_registry
from mooring.errors import ConfigurationError

log = structlog.get_logger(__name__)
LOOK_SECONDS: Final = 0.5
_Seen = frozenset[tuple[str, int, int]]


class Reloader:
    """Looks at a folder twice a second. Files with faults change nothing: what was understood before stays."""

    def __init__(self, registry: Registry, folder: Path, changed: Callable[[], None]) -> None:
        self._registry = registry
        self._folder = folder
        self._changed = changed
        self._seen = _look(folder)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            seen = await asyncio.to_thread(_look, self._folder)
            if seen == self._seen:
                continue
            self._seen = seen
            try:
                fresh = await asyncio.to_thread(load_registry, self._folder)
            except ConnectorFileError as e:
                for problem in e.problems:
                    log.warning("connector file not reloaded", problem=str(problem))
            except ConfigurationError as e:  # the folder is gone
                log.warning("connector files not reloaded", problem=str(e))
            else:
                self._registry.replace(fresh)
                self._changed()
                log.info("connector files reloaded", connectors=fresh.own)


def _look(folder: Path) -> _Seen:
    """Names, times and sizes of everything in the folder. A file that goes away meanwhile is left out."""
    out = set()
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file():
                found = path.stat()
                out.add((str(path), found.st_mtime_ns, found.st_size))
    return frozenset(out)
