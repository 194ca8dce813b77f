"""Hosts on one machine: a network namespace each, joined by two bridges that stand in a namespace of their own.

Callers and providers are on the `front` network, database and Redis on the `back` one, so that a hub can lose either.
Nothing of it is reachable from outside: the bridges have no leg in the machine's own namespace.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

Net = Literal["front", "back"]

PREFIX = "mooring-test"
NETS: dict[Net, str] = {"front": "10.213.1", "back": "10.213.2"}
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def why_not() -> str | None:
    """Why no network namespace can be made here, or None."""
    if shutil.which("ip") is None:
        return "the program `ip` is missing: run scripts/install-test-deps --only netns"
    name = f"{PREFIX}-{os.getpid()}-probe"
    try:
        _ip("netns", "add", name)
        _ip("netns", "del", name)
    except RuntimeError as e:
        return f"network namespaces are not permitted here ({e})"
    return None


class Host:
    """One namespace with an address on each network."""

    def __init__(self, network: Network, name: str, number: int) -> None:
        self.name = name
        self.front = f"{NETS['front']}.{number}"
        self.back = f"{NETS['back']}.{number}"
        self._network = network
        self._number = number
        self.namespace = network.namespace(name)

    def build(self) -> None:
        """Make the namespace and plug it in."""
        _ip("netns", "add", self.namespace)
        _ip("-n", self.namespace, "link", "set", "lo", "up")
        for net, subnet in NETS.items():
            port = self._port(net)
            _ip("-n", self._network.switch, "link", "add", port, "type", "veth", "peer", net, "netns", self.namespace)
            _ip("-n", self._network.switch, "link", "set", port, "master", net, "up")
            _ip("-n", self.namespace, "addr", "add", f"{subnet}.{self._number}/24", "dev", net)
            _ip("-n", self.namespace, "link", "set", net, "up")

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Let this thread, and the processes and threads that it starts, be on this host."""
        with Path("/proc/thread-self/ns/net").open() as before, Path("/run/netns", self.namespace).open() as there:
            _set(there.fileno())
            try:
                yield
            finally:
                _set(before.fileno())

    def cut(self, *nets: Net) -> None:
        """Pull cables at the switch: what is sent vanishes, and nobody is told."""
        for net in nets:
            _ip("-n", self._network.switch, "link", "set", self._port(net), "nomaster")

    def mend(self, *nets: Net) -> None:
        """Plug the cables in again."""
        for net in nets:
            _ip("-n", self._network.switch, "link", "set", self._port(net), "master", net)

    def kill(self) -> int:
        """End all processes of this host at once with SIGKILL, as a power cut does. Returns how many there were."""
        killed = 0
        while pids := [int(word) for word in _ip("netns", "pids", self.namespace).split() if int(word) != os.getpid()]:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    if _is_alive(pid):
                        os.kill(pid, signal.SIGKILL)
                        killed += 1
            if not any(map(_is_alive, pids)):
                break
            time.sleep(0.02)
        return killed

    def _port(self, net: Net) -> str:
        return f"{net[0]}-{self.name}"[:15]


class Network:
    """Hosts by name. Leaving the block ends what still runs on them and removes them."""

    def __init__(self, *names: str) -> None:
        self._id = f"{PREFIX}-{os.getpid()}-{secrets.token_hex(3)}"
        self.switch = self.namespace("switch")
        self.hosts = {name: Host(self, name, number) for number, name in enumerate(names, 1)}

    def namespace(self, name: str) -> str:
        return f"{self._id}-{name}"

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def __enter__(self) -> Self:
        _remove_orphans()
        try:
            _ip("netns", "add", self.switch)
            for net in NETS:
                _ip("-n", self.switch, "link", "add", net, "type", "bridge", "forward_delay", "0")
                _ip("-n", self.switch, "link", "set", net, "up")
            for host in self.hosts.values():
                host.build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove all of it, as far as it was made."""
        for host in self.hosts.values():
            with contextlib.suppress(RuntimeError):
                host.kill()
        for namespace in (*(host.namespace for host in self.hosts.values()), self.switch):
            with contextlib.suppress(RuntimeError):
                _ip("netns", "del", namespace)


def _set(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _is_alive(pid: int) -> bool:
    """Whether it runs; a process that ended and that nobody collected yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _remove_orphans() -> None:
    """Remove namespaces of test processes that were killed; their names hold the process id."""
    for line in _ip("netns", "list").splitlines():
        name = line.split()[0]
        if name.startswith(f"{PREFIX}-") and not _is_alive(int(name.split("-")[2])):
            with contextlib.suppress(RuntimeError):
                _ip("netns", "del", name)
