"""A TCP link that can be made slow, cut, silent or closed."""

import json
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.servers.ports import HOST, free_port_pair
from tests.servers.process import COUNTERPARTS, Server


@dataclass(frozen=True)
class LinkState:
    """What has passed over the link since it started, and the faults in force."""

    connections: int
    bytes: int
    toxics: dict[str, Any]


class ToxicLink(Server):
    """A link to `upstream_port` on loopback; connect to `port`, or with HTTP to `base_url`."""

    name = "toxic-link"

    def __init__(self, upstream_port: int, port: int | None = None) -> None:
        super().__init__(port or free_port_pair())
        self._upstream_port = upstream_port

    def command(self) -> Sequence[str]:
        """Return Python on the counterpart's program."""
        return [sys.executable, str(COUNTERPARTS / "toxic.py"), str(self.port), str(self._upstream_port)]

    def is_ready(self) -> bool:
        """Ask the control port, so that no connection to the upstream is made or counted."""
        try:
            self.state()
        except OSError:
            return False
        return True

    def set(
        self,
        *,
        latency: float | None = None,
        jitter: float | None = None,
        rate: float | None = None,
        slicer: int | None = None,
        cut_after: int | None = None,
        blackhole: bool | None = None,
        refuse: bool | None = None,
    ) -> None:
        """Replace the faults in force; without any the link is clean.

        `latency` and `jitter` in seconds per chunk, both ways; of the answer: `rate` in bytes per second,
        `slicer` in bytes per write, `cut_after` in bytes before a reset. `blackhole` passes nothing on;
        `refuse` closes each new connection at once.
        """
        asked = {
            "latency": latency,
            "jitter": jitter,
            "rate": rate,
            "slicer": slicer,
            "cut_after": cut_after,
            "blackhole": blackhole,
            "refuse": refuse,
        }
        self._control({name: value for name, value in asked.items() if value is not None})

    def state(self) -> LinkState:
        """Return what has passed and the faults in force."""
        return self._control(None)

    def _control(self, wanted: dict[str, Any] | None) -> LinkState:
        with socket.create_connection((HOST, self.port + 1), timeout=5) as control:
            control.sendall(json.dumps(wanted).encode() + b"\n")
            with control.makefile("rb") as answer:
                return LinkState(**json.loads(answer.readline()))
