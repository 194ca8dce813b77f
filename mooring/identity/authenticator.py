"""Who is calling: API keys from the Authorization header, cached per process; last-used times written in batches."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import math
import time
from datetime import UTC, datetime

import structlog
from sqlalchemy.exc import SQLAlchemyError

from mooring import errors
from mooring.identity import service
from mooring.identity.service import CHALLENGE, Caller
from mooring.kit import clock
from mooring.kit.cache import Cache
from mooring.kit.db import Database
from mooring.kit.shared import SharedServer
from mooring.kit.windows import Window

log = structlog.get_logger(__name__)

USED_SECONDS = 15.0
KEYS = 10_000  # whose calls are counted at a time


def key_from_header(authorization: str | None) -> str:
    """The API key of an Authorization header (contract §1). Raises Unauthorized.

    Basic with the key as user name; the colon may be missing and a password is ignored. Bearer works too.
    """
    if not authorization:
        raise errors.Unauthorized("no API key was sent", headers=CHALLENGE)
    scheme, _, value = authorization.partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer" and value:
        return value
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value + "=" * (-len(value) % 4), validate=True).decode().partition(":")[0]
        except ValueError:  # not base64, not UTF-8, or not even ASCII
            message = "the Basic credentials are not base64 of UTF-8 text"
            raise errors.Unauthorized(message, headers=CHALLENGE) from None
    raise errors.Unauthorized("the Authorization header is neither Basic nor Bearer", headers=CHALLENGE)


def _used_up(seconds: float) -> errors.RateLimited:
    return errors.RateLimited(
        "this API key has used up its calls of a minute",
        code="KeyRateLimitError",
        hint="Try again after the time in Retry-After; the operator sets MOORING_KEY_RATE_LIMIT.",
        headers={"retry-after": str(max(1, math.ceil(seconds)))},
    )


class Authenticator:
    """Finds the caller of a request; a revoked key stops in every process within a second."""

    def __init__(
        self, db: Database, *, per_minute: int = 0, share: float = 1.0, shared: SharedServer | None = None
    ) -> None:
        self._db = db
        self._per_minute = per_minute  # calls of one key, of which this process lets its share pass; 0 means all
        self._share = share
        self._shared = shared
        self._all = Window(max(1, per_minute), 60.0)  # what the shared server counts
        self._windows: dict[str, Window] = {}
        self.cache: Cache[str, Caller] = Cache(10_000)
        self._used: dict[str, float] = {}  # key → UNIX time
        self._task: asyncio.Task[None] | None = None

    def known(self, authorization: str) -> Caller | None:
        """The caller, if this process has seen the header a moment ago and nobody else must be asked."""
        caller = self.cache.get(authorization)
        if caller is not None:
            if caller.expires is not None:
                caller.require_life()
            self._used[caller.key_id] = clock.timestamp()
            if self._per_minute:
                if self._shared is not None:
                    return None  # only who may wait can ask the server
                self._count(caller)
        return caller

    async def _admit(self, caller: Caller) -> None:
        """Count a call of the key everywhere, or here while the server is away. Raises RateLimited."""
        left = await self._shared.take(caller.key_id, [("", self._all)]) if self._shared is not None else None
        if left is None:
            if self._shared is not None:
                self._shared.local += 1
            self._count(caller)
        elif left > 0:
            raise _used_up(left)

    def _count(self, caller: Caller) -> None:
        """Count a call of the key. Raises RateLimited."""
        window = self._windows.get(caller.key_id)
        if window is None:
            if len(self._windows) >= KEYS:
                self._windows.pop(next(iter(self._windows)))
            rate = self._per_minute * self._share
            window = Window(int(rate), 60.0) if rate >= 1 else Window(1, 60.0 / rate)
            self._windows[caller.key_id] = window
        now = time.monotonic()
        ready = window.ready_at(now)
        if ready > now:
            raise _used_up(ready - now)
        window.count(now)

    async def __call__(self, authorization: str | None) -> Caller:
        """The caller, or Unauthorized."""
        caller = self.cache.get(authorization or "")
        if caller is None:
            key = key_from_header(authorization)

            async def load() -> tuple[Caller, tuple[str, ...]]:
                async with self._db.read() as tx:
                    caller = await service.authenticate(tx, key)
                return caller, (f"api_key:{caller.key_id}", f"project:{caller.project_id}")

            # The header itself is the cache's key: no decoding and no hash on a warm call. It lives in memory only.
            caller = await self.cache.load(authorization or "", load)
        elif caller.expires is not None:
            caller.require_life()
        self._used[caller.key_id] = clock.timestamp()
        if self._per_minute:
            await self._admit(caller)
        return caller

    def start(self) -> None:
        """Begin to write last-used times."""
        self._task = asyncio.create_task(self._write(), name="key-usage")

    async def stop(self) -> None:
        """Write what is left, then stop."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self.flush()

    async def flush(self) -> None:
        """Write the last-used times now."""
        used, self._used = self._used, {}
        if not used:
            return
        try:
            async with self._db.begin() as tx:
                await service.mark_used(tx, [(key, datetime.fromtimestamp(at, UTC)) for key, at in used.items()])
        except (SQLAlchemyError, OSError) as e:
            self._used = {**used, **self._used}
            log.warning("last-used times not written; will try again", error=type(e).__name__)

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(USED_SECONDS)
            await self.flush()
