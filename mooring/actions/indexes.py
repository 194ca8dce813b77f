"""The search index of a registry, made when it is asked for the first time."""

from __future__ import annotations

import asyncio

from mooring.actions.search import Index
from mooring.connectors.registry import Registry


class Indexes:
    """Keeps the index of the latest registry, as long as that holds what it held."""

    def __init__(self) -> None:
        self._latest: tuple[Registry, int, Index] | None = None

    async def of(self, registry: Registry) -> Index:
        """The index of all its connectors."""
        latest = self._latest
        if latest is None or latest[0] is not registry or latest[1] != registry.edition:
            edition, whole = registry.edition, await registry.complete()
            self._latest = latest = (registry, edition, await asyncio.to_thread(Index.of, list(whole.values())))
        return latest[2]


indexes = Indexes()
