"""A provider that misbehaves on the wire: raw sockets, one mode per path prefix, strict rotation of refresh tokens.

`/{cell}/token` and `/{cell}/…` each answer by the mode that the cell has; the default is a good answer.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import parse_qs

HUGE = 512 * 1024 * 1024
_CHUNK = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
SKEW = timedelta(minutes=10)


@dataclass
class Cell:
    """One path prefix: how it misbehaves, what it has seen, and its grant."""

    token: str = "good"
    api: str = "good"
    paths: dict[str, str] = field(default_factory=dict)  # path under the prefix → mode, before `api`
    strict: bool = False  # the API takes the newest access token alone
    identity: str | None = None  # what the API says of whose account it is; None: the cell's name
    seen: Counter[str] = field(default_factory=Counter)
    refresh_token: str | None = None
    issued: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class FaultyProvider:
    """Listens on the given ports until `stop`; ports with a TLS context speak TLS.

    `delay` slows every token answer down; `most` is how many token requests were under way at once.
    """

    def __init__(self, ports: dict[int, ssl.SSLContext | None]) -> None:
        self.delay = 0.0
        self.most = 0
        self._running = 0
        self._cells: dict[str, Cell] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listeners = []
        for port, tls in ports.items():
            listener = socket.create_server(("127.0.0.1", port), backlog=256)
            self._listeners.append(listener)
            thread = threading.Thread(target=self._accept, args=(listener, tls), daemon=True)
            self._threads.append(thread)
            thread.start()

    def cell(self, name: str) -> Cell:
        with self._lock:
            return self._cells.setdefault(name, Cell())

    def stop(self) -> None:
        self._stopping.set()
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection, tls), daemon=True).start()

    def _serve(self, connection: socket.socket, tls: ssl.SSLContext | None) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.callback(connection.close)
            connection.settimeout(60)
            if tls is not None:
                connection = stack.enter_context(tls.wrap_socket(connection, server_side=True))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            data = b""
            while True:
                while b"\r\n\r\n" not in data:
                    if not (more := connection.recv(65536)):
                        return
                    data += more
                head, _, data = data.partition(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
                length = int(headers.get("content-length", 0))
                while len(data) < length:
                    if not (more := connection.recv(65536)):
                        return
                    data += more
                body, data = data[:length], data[length:]
                path = lines[0].split()[1].partition("?")[0]
                with self._counted(path):
                    goes_on = self._answer(connection, path, body.decode("latin-1"), headers.get("authorization", ""))
                if not goes_on:
                    return

    @contextlib.contextmanager
    def _counted(self, path: str) -> Iterator[None]:
        if not path.endswith("/token"):
            yield
            return
        with self._lock:
            self._running += 1
            self.most = max(self.most, self._running)
        try:
            time.sleep(self.delay)
            yield
        finally:
            with self._lock:
                self._running -= 1

    def _answer(self, connection: socket.socket, path: str, body: str, credential: str) -> bool:
        """Answer one request; returns whether the connection stays open."""
        _, name, *rest = path.split("/")
        cell = self.cell(name)
        target = "token" if rest == ["token"] else "redirected" if rest == ["redirected"] else "api"
        with cell.lock:
            cell.seen[target] += 1
        under = "/".join(rest)
        with cell.lock:
            cell.seen["/" + under] += 1
        mode = {"token": cell.token, "api": cell.paths.get(under, cell.api)}.get(target, "good")

        def good() -> bytes:
            return _token(cell, name, body) if target == "token" else _api(cell.identity or name)

        if target == "api" and cell.strict and credential != f"Bearer at-{name}-{cell.issued}":
            mode = "status_401"
        if mode.startswith("status_429"):
            connection.sendall(_http(429, {"error": "rate_limited"}, _RETRY_AFTER[mode]()))
        elif mode.startswith("status_"):
            connection.sendall(_http(int(mode[7:]), {"error": "broken"}))
        elif mode == "clock_skew":
            connection.sendall(good().replace(b"\r\n\r\n", _date(-SKEW) + b"\r\n\r\n", 1))
        elif mode == "html_200":
            connection.sendall(_raw(200, b"<!doctype html><title>Maintenance</title>", "text/html"))
        elif mode == "truncated_json":
            connection.sendall(_raw(200, b'{"access_token": "at_cut-off', "application/json"))
        elif mode == "redirect_307":
            connection.sendall(_raw(307, b"", "text/plain", f"location: /{name}/redirected\r\n"))
        elif mode in {"reset_before", "reset_after_commit"}:
            answer = good() if mode == "reset_after_commit" else b""
            if answer.startswith(b"HTTP/1.1 4"):  # a used refresh token: there was nothing to commit
                connection.sendall(answer)
                return True
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        elif mode == "silent":
            self._until_gone(connection)
            return False
        elif mode == "slow_loris":
            for byte in _api(name):  # nothing is committed: that case is `reset_after_commit`
                connection.sendall(bytes([byte]))
                if self._stopping.wait(0.5):
                    return False
            return False
        elif mode == "huge":
            connection.sendall(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
            )
            for _ in range(HUGE // 0x10000):
                connection.sendall(_CHUNK)
            connection.sendall(b"0\r\n\r\n")
        else:
            assert mode == "good", mode
            connection.sendall(good())
        return True

    def _until_gone(self, connection: socket.socket) -> None:
        connection.settimeout(0.2)
        while not self._stopping.is_set():
            try:
                if not connection.recv(1024):
                    return
            except TimeoutError:
                continue


def _token(cell: Cell, name: str, body: str) -> bytes:
    asked = parse_qs(body)
    with cell.lock:
        if asked.get("grant_type") == ["refresh_token"] and asked.get("refresh_token") != [cell.refresh_token]:
            return _http(400, {"error": "invalid_grant"})
        cell.issued += 1
        answer = {"access_token": f"at-{name}-{cell.issued}", "token_type": "Bearer", "expires_in": 3600}
        if asked.get("grant_type") != ["client_credentials"]:
            cell.refresh_token = answer["refresh_token"] = f"rt-{name}-{cell.issued}"
    return _http(200, answer)


def _api(name: str) -> bytes:
    return _http(200, {"id": name})


_RETRY_AFTER: dict[str, Callable[[], str]] = {
    "status_429_seconds": lambda: "retry-after: 8\r\n",
    "status_429_date": lambda: "retry-after: " + format_datetime(_now() + timedelta(seconds=8), usegmt=True) + "\r\n",
    "status_429_absurd": lambda: "retry-after: 99999999999\r\n",
    "status_429_missing": lambda: "",
}


def _now() -> datetime:
    return datetime.now(UTC)


def _date(by: timedelta) -> bytes:
    return b"\r\ndate: " + format_datetime(_now() + by, usegmt=True).encode()


def _http(status: int, value: object, more: str = "") -> bytes:
    return _raw(status, json.dumps(value).encode(), "application/json", more)


def _raw(status: int, body: bytes, kind: str, more: str = "") -> bytes:
    return f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{more}\r\n".encode() + body


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port that never answers a connection attempt: the queue of its listener is full."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(("127.0.0.1", port))
        time.sleep(0.1)
        yield port
