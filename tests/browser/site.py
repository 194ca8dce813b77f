"""A customer's own web site: pages of another origin that embed the Hub."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """Pages by path. `requests` holds what was asked for, with queries."""

    origin: str
    pages: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def put(self, path: str, body: str, title: str = "Customer") -> str:
        """Publish a page; returns its address."""
        self.pages[path] = (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f"<title>{title}</title><body><main><h1>{title}</h1>{body}</main></body></html>"
        )
        return self.origin + path


@contextmanager
def serve(host: str = "localhost") -> Iterator[Site]:
    """Serve a site on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.requests.append(self.path)
            page = site.pages.get(self.path.partition("?")[0])
            kind = "text/javascript" if self.path.endswith(".js") else "text/html; charset=utf-8"
            body = (page or "not found").encode()
            self.send_response(200 if page is not None else 404)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site = Site(f"http://{host}:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
