"""Write to many connections in one go.

Each write to a connection whose peer sleeps wakes the peer, which costs more than the write. Between two writes of the
hot path lies a tenth of a millisecond of Python, in which the peer falls asleep again. Gathered, the first write of a
few wakes it and the others find it awake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sized

GATHER = 16  # writes at most, so that no answer waits for long; at the latest they go in the loop's next round
CROWD = 4  # calls at a time from which on it pays; below, a write goes at once


class Gathered:
    """The writes of one event loop that have not gone out yet. Their order is kept."""

    __slots__ = ("_loop", "_pending", "calls")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pending: list[tuple[asyncio.Transport, bytes]] = []
        self.calls: Sized = ()
        """What is under way; the listener's tasks."""

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        """Write soon. Whoever writes to the same transport directly flushes first."""
        pending = self._pending
        if not pending and len(self.calls) < CROWD:
            transport.write(data)
            return
        pending.append((transport, data))
        if len(pending) == 1:
            self._loop.call_soon(self.flush)
        elif len(pending) >= GATHER:
            self.flush()

    def flush(self) -> None:
        """Write now."""
        if self._pending:
            pending, self._pending = self._pending, []
            for transport, data in pending:
                if not transport.is_closing():
                    transport.write(data)


_current: tuple[asyncio.AbstractEventLoop, Gathered] | None = None


def gathered(loop: asyncio.AbstractEventLoop) -> Gathered:
    """The writes of a loop. A process has one loop at a time; a new one starts with none."""
    global _current
    if _current is None or _current[0] is not loop:
        _current = (loop, Gathered(loop))
    return _current[1]
