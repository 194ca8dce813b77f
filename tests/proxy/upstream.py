"""A provider made of bare sockets: it shows what really arrived and answers whatever a test wants, well-formed or not."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Seen:
    """A request as it was on the wire; header names are lower-case."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def target(self) -> str:
        """Path and query, byte for byte."""
        return self.line.split(" ")[1]

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


Behaviour = Callable[[socket.socket, Seen], bytes | None]


def answer(status: int = 200, body: bytes = b"{}", *headers: str) -> bytes:
    """A whole answer."""
    head = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", *headers]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


@dataclass
class Upstream:
    """What it heard, and what it answers per path; unknown paths get an empty JSON object."""

    port: int
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    paths: dict[str, Behaviour] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def on(self, path: str, reply: Behaviour | bytes) -> None:
        """Answer a path with these bytes, or by a function that may write for itself and return None to close."""
        self.paths[path] = (lambda _connection, _seen: reply) if isinstance(reply, bytes) else reply

    def calls(self) -> list[Seen]:
        """What it heard besides the tests of credentials at linking."""
        return [seen for seen in self.seen if seen.target != "/api/me" and not seen.target.endswith("current.json")]

    def serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as reader:
            try:
                while (seen := _read(reader)) is not None:
                    self.seen.append(seen)
                    behaviour = self.paths.get(seen.target.partition("?")[0])
                    reply = behaviour(connection, seen) if behaviour else answer()
                    if reply is None:
                        return
                    connection.sendall(reply)
            except OSError:  # the hub went away, which is what some tests are about
                return


def _read(reader: object) -> Seen | None:
    line = reader.readline()  # type: ignore[attr-defined]
    if not line.strip():
        return None
    headers = []
    while (row := reader.readline().strip()) != b"":  # type: ignore[attr-defined]
        name, _, value = row.decode("latin-1").partition(":")
        headers.append((name.lower(), value.strip()))
    given = dict(headers)
    body = b""
    if given.get("transfer-encoding") == "chunked":
        while size := int(reader.readline() or _gone(), 16):  # type: ignore[attr-defined]
            body += reader.read(size)  # type: ignore[attr-defined]
            reader.readline()  # type: ignore[attr-defined]
        reader.readline()  # type: ignore[attr-defined]
    elif length := int(given.get("content-length", 0)):
        body = reader.read(length)  # type: ignore[attr-defined]
    return Seen(line.decode("latin-1").strip(), headers, body)


def _gone() -> bytes:
    raise ConnectionResetError("the hub broke off in the middle of a body")


@contextmanager
def upstream_on(port: int) -> Iterator[Upstream]:
    """Listen on a port, a thread per connection, until the block ends."""
    up = Upstream(port)
    up.on("/api/me", answer(200, b'{"account_id": "a-1", "company": "Up Inc."}', "content-type: application/json"))
    listener = socket.create_server(("127.0.0.1", port))
    open_now: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            up.connections += 1
            open_now.append(connection)
            threads.append(threading.Thread(target=up.serve, args=(connection,), daemon=True))
            threads[-1].start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield up
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for connection in open_now:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        for worker in threads:
            worker.join()


def redmine_user(up: Upstream, base: str = "") -> None:
    """Let it pass the test of a Redmine key."""
    user = json.dumps({"user": {"id": 7, "login": "jane"}}).encode()
    up.on(f"{base}/users/current.json", answer(200, user, "content-type: application/json"))
