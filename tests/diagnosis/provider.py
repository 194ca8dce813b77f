"""A provider that answers what a test tells it to, and servers that speak no HTTP at all."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """One fixed answer. A body that is no bytes is JSON."""

    status: int = 200
    body: Any = field(default_factory=lambda: {"id": "acct_1", "name": "Acme"})
    headers: Mapping[str, str] = field(default_factory=dict)
    drop: bool = False  # reset the connection instead

    def raw(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


GOOD_TOKEN = {"access_token": "at-canary-1", "token_type": "Bearer", "expires_in": 3600, "refresh_token": "rt-canary-1"}
Rule = Answer | list[Answer] | Callable[[dict[str, Any]], Answer]


class Provider:
    """Answers by path; a list is used up one by one, its last answer stays."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.rules: dict[str, Rule] = {}
        self.seen: list[dict[str, Any]] = []
        self.clear()

    def clear(self) -> None:
        self.rules = {
            "/me": Answer(),
            "/token": Answer(200, dict(GOOD_TOKEN)),
            "/authorize": Answer(200, b"<html>Agree?"),
        }
        self.seen.clear()

    def answer(self, request: dict[str, Any]) -> Answer:
        self.seen.append(request)
        rule = self.rules.get(request["path"], Answer(404, {"message": "nothing here"}))
        if isinstance(rule, list):
            return rule.pop(0) if len(rule) > 1 else rule[0]
        return rule if isinstance(rule, Answer) else rule(request)


@contextlib.contextmanager
def running(port: int) -> Iterator[Provider]:
    provider = Provider(port)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            path, _, query = self.path.partition("?")
            request = {"method": self.command, "path": path, "query": query, "headers": headers, "body": body.decode()}
            answer = provider.answer(request)
            if answer.drop:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                self.rfile.close()
                self.connection.close()
                return
            raw = answer.raw()
            self.send_response_only(answer.status)
            given = {"content-type": "application/json", "content-length": str(len(raw)), **answer.headers}
            for name, value in given.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                with contextlib.suppress(OSError):  # who saw a length that is too large does not stay
                    self.wfile.write(raw)

        do_GET = do_POST = do_HEAD = reply  # noqa: N815 - the names that the library calls

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

        def finish(self) -> None:
            with contextlib.suppress(OSError, ValueError):
                super().finish()

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def speaking(port: int, say: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None) -> Iterator[None]:
    """A server that reads a little and says one thing, over TLS if asked."""
    stop = threading.Event()
    listener = socket.create_server(("127.0.0.1", port))
    listener.settimeout(0.05)

    def serve() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                taken, _ = listener.accept()
                with taken:
                    taken.settimeout(2)
                    with contextlib.suppress(OSError):
                        stream = tls.wrap_socket(taken, server_side=True) if tls else taken
                        stream.recv(4096)
                        say(stream)
                        stream.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        listener.close()
