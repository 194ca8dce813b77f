"""A bounded cache that follows the feed of changes, so that no process serves a stale permission for long.

Entries vanish at once in the process that commits a change, and within `POLL_SECONDS` in all others. While the feed can't
be read, nothing is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from datetime import timedelta
from typing import Generic, TypeVar

import structlog
from sqlalchemy import delete, select
from sqlalchemy.exc import SQLAlchemyError

from mooring.kit.db import Change, Database, moment

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.25
STALE_SECONDS = 2.0  # for an answer of the feed, after which nothing cached is served (rule A2: 5 s in all)
_OVERLAP = timedelta(seconds=10)  # a row becomes visible at its commit, which may be later than its time
_KEEP = timedelta(seconds=60)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """Least recently used entries, at most `size`. `tags` of an entry name the changes that drop it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[K, tuple[V, tuple[str, ...]]] = OrderedDict()
        self._by_tag: dict[str, set[K]] = {}
        self._epoch = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The entry, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    async def load(self, key: K, loader: Callable[[], Awaitable[tuple[V, tuple[str, ...]]]]) -> V:
        """The entry, loaded on a miss. A load that raced with a change is returned but not kept."""
        found = self.get(key)
        if found is not None:
            return found
        epoch = self._epoch
        value, tags = await loader()
        if epoch == self._epoch:
            self._put(key, value, tags)
        return value

    def _put(self, key: K, value: V, tags: tuple[str, ...]) -> None:
        self._drop(key)
        self._entries[key] = (value, tags)
        for tag in tags:
            self._by_tag.setdefault(tag, set()).add(key)
        if len(self._entries) > self._size:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: K) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        for tag in entry[1]:
            keys = self._by_tag.get(tag)
            if keys is not None:
                keys.discard(key)
                if not keys:
                    del self._by_tag[tag]

    def evict(self, tag: str) -> None:
        """Drop every entry that carries the tag, and spoil loads that are under way."""
        self._epoch += 1
        for key in list(self._by_tag.get(tag, ())):
            self._drop(key)

    def clear(self) -> None:
        """Drop everything."""
        self._epoch += 1
        self._entries.clear()
        self._by_tag.clear()


class ChangeFollower:
    """Reads the feed of changes and evicts from every registered cache."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._caches: list[Callable[[str], None]] = []
        self._clear: list[Callable[[], None]] = []
        self._seen: set[int] = set()
        self._task: asyncio.Task[None] | None = None
        db.on_commit(self.evict)

    def register(self, cache: Cache[K, V]) -> None:
        """Let the feed evict from this cache."""
        self._caches.append(cache.evict)
        self._clear.append(cache.clear)

    def evict(self, topic: str, key: str) -> None:
        """Drop what a change concerns from every cache; also for news of it that come before the feed is read."""
        for evict in self._caches:
            evict(f"{topic}:{key}")

    async def start(self) -> None:
        """Begin to follow; rows that are already there concern nothing that is cached yet."""
        await self._read_new()
        self._task = asyncio.create_task(self._follow(), name="change-follower")

    async def stop(self) -> None:
        """Stop to follow."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _follow(self) -> None:
        turns = 0
        failing = False
        while True:
            await asyncio.sleep(POLL_SECONDS)
            reading = asyncio.ensure_future(self._read_new())
            try:
                # A cable that was cut says nothing for long: what was not heard of for a while must not be believed.
                while not (await asyncio.wait({reading}, timeout=POLL_SECONDS if failing else STALE_SECONDS))[0]:
                    failing = self._doubt(failing, "TimeoutError")
                reading.result()
                turns += 1
                if turns % 240 == 0:
                    await self._purge()
                failing = False
            except (SQLAlchemyError, OSError) as e:
                failing = self._doubt(failing, type(e).__name__)
            finally:
                if not reading.done():
                    reading.cancel()

    def _doubt(self, failing: bool, reason: str) -> bool:
        if not failing:
            log.warning("change feed unreadable; caches are emptied until it is back", error=reason)
        for clear in self._clear:
            clear()
        return True

    async def _read_new(self) -> None:
        async with self._db.read() as tx:
            since = moment(tx, -_OVERLAP)  # by the clock that wrote the rows: hosts differ
            rows = (await tx.execute(select(Change.seq, Change.topic, Change.key).where(Change.at > since))).all()
        for row in rows:
            if row.seq not in self._seen:
                self.evict(row.topic, row.key)
        self._seen = {row.seq for row in rows}

    async def _purge(self) -> None:
        async with self._db.begin() as tx:
            await tx.execute(delete(Change).where(Change.at < moment(tx, -_KEEP)))
