"""The search index of a registry, made when it is asked for the first time."""

from __future__ import annotations

import asyncio

from mooring.actions.search import Index
from mooring.connectors.registry import Registry


class Indexes:
    """Keeps the index of the latest registry. What a registry holds never changes, so neither does its index."""

    def __init__(self) -> None:
        self._latest: tuple[Registry, Index] | None = None

    async def of(self, registry: Registry) -> Index:
        """The index of all its connectors."""
        if self._latest is None or self._latest[0] is not registry:
            whole = await registry.complete()
            self._latest = (registry, await asyncio.to_thread(Index.of, list(whole.values())))
        return self._latest[1]


indexes = Indexes()
