"""A tiny HTTP server with fixed answers."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.servers.ports import HOST


@dataclass(frozen=True)
class SeenRequest:
    """What a client sent; `line` is the method and the path with its query, `body` is parsed JSON or None."""

    line: str
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True)
class StubServer:
    """Where the stub listens and what it has seen."""

    port: int
    requests: list[SeenRequest] = field(default_factory=list)

    @property
    def base_url(self) -> str:
        """Return the address to call."""
        return f"http://{HOST}:{self.port}"


@contextmanager
def stub_server(answers: Mapping[str, tuple[int, Any]]) -> Iterator[StubServer]:
    """Answer each request line ("GET /accounts?page=1") with its status and JSON value; others with 404."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            line = f"{self.command} {self.path}"
            headers = {name.lower(): value for name, value in self.headers.items()}
            stub.requests.append(SeenRequest(line, headers, json.loads(body or "null")))
            status, value = answers.get(line, (404, None))
            payload = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def do_PATCH(self) -> None:
            self.answer()

        def do_DELETE(self) -> None:
            self.answer()

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer((HOST, 0), Handler)
    stub = StubServer(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
