"""Keep many deadlines with few timers: those that fall into the same twentieth of a second share one.

A timer of the loop per call costs more than parsing the answer. A deadline here fires up to 50 ms late and
never early.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

_PER_SECOND = 20


class Expiring(Protocol):
    """What waits for a deadline."""

    def expire(self) -> None:
        """Hear that the time is up."""


Slot = set[Expiring]


class Deadlines:
    """The deadlines of one event loop."""

    __slots__ = ("_loop", "_slots")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[int, Slot] = {}

    def add(self, waiting: Expiring, when: float) -> Slot:
        """Call `expire` soon after `when`; discard `waiting` from the slot that is returned to prevent it."""
        number = int(when * _PER_SECOND) + 1
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = set()
            # The loop's clock counts milliseconds, and a timer may fire one of them early.
            self._loop.call_at(number / _PER_SECOND + 0.001, self._fire, number)
        slot.add(waiting)
        return slot

    def _fire(self, number: int) -> None:
        slot = self._slots.pop(number)
        while slot:
            slot.pop().expire()
