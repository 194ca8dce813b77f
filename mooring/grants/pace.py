"""How often strangers may ask: by address, in the memory of one process."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from typing import Final

from mooring import errors
from mooring.kit.windows import Window

ADDRESSES: Final = 10_000  # that are remembered at a time


class Pace:
    """At most so many requests of one address in a minute."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._windows: OrderedDict[str, Window] = OrderedDict()

    def count(self, address: str | None) -> None:
        """Count a request. Raises RateLimited."""
        network = _network(address or "")
        window = self._windows.get(network)
        if window is None:
            window = self._windows[network] = Window(self._per_minute, 60.0)
            if len(self._windows) > ADDRESSES:
                self._windows.popitem(last=False)
        self._windows.move_to_end(network)
        now = time.monotonic()
        ready = window.ready_at(now)
        if ready > now:
            raise errors.RateLimited(
                "too many requests from this address", headers={"retry-after": str(math.ceil(ready - now))}
            )
        window.count(now)


def _network(address: str) -> str:
    """An IPv6 host owns its whole /64, so the /64 is what counts."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return parsed.exploded[:19] if isinstance(parsed, IPv6Address) else address
