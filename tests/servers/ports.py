"""Free ports on loopback."""

import fcntl
import random
import socket
import tempfile
from pathlib import Path
from typing import IO

HOST = "127.0.0.1"

# Below the range that Linux takes for outgoing connections, so that none of those takes a port we just chose. Test
# processes that run side by side, of one run or of several, have ranges of their own.
_WIDTH = 1500
_RANGES = 8


def _own_range() -> tuple[int, IO[bytes] | None]:
    """The lowest port of a range that no other test process holds; the lock on its file ends with this process."""
    for n in range(_RANGES):
        file = (Path(tempfile.gettempdir()) / f"mooring-test-ports-{n}.lock").open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            continue
        return 20000 + _WIDTH * n, file
    return 20000 + _WIDTH * random.randrange(_RANGES), None


_LOWEST, _lock = _own_range()
_HIGHEST = _LOWEST + _WIDTH - 10
_given: set[int] = set()


def _is_free(port: int) -> bool:
    if port in _given:
        return False
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _free_run(length: int) -> int:
    for _ in range(500):
        first = random.randint(_LOWEST, _HIGHEST)
        ports = range(first, first + length)
        if all(_is_free(port) for port in ports):
            _given.update(ports)
            return first
    raise RuntimeError(f"no {length} free ports in a row between {_LOWEST} and {_HIGHEST} on {HOST}")


def free_port() -> int:
    """Choose a free port; the same one is never chosen twice in this process."""
    return _free_run(1)


def free_port_pair() -> int:
    """Choose a free port whose successor is free too, and return the lower one."""
    return _free_run(2)
