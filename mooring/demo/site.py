"""A product of the demo's own: a page that embeds the Hub, and the backend that calls through what was linked on it."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import orjson
from pyreqwest.exceptions import PyreqwestError

from mooring.demo.http import DemoError, Http, need
from mooring.demo.linking import CALL

OWNER: Final = "you"
_FILES: Final = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
_BODY_LIMIT: Final = 1000  # bytes; an account's id fits in easily


class Site:
    """The product on a port of its own. The API key stays in this process: the page gets session tokens and answers."""

    def __init__(self, http: Http, hub: str, key: str, port: int) -> None:
        """Listen on loopback, on another port when `port` is taken or 0. Serves within `with`."""
        self._http, self._hub = http, hub
        self._project = {"authorization": f"Bearer {key}"}
        handler = type("Handler", (_Handler,), {"site": self})
        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        except OSError:
            self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="demo-site", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def register(self) -> None:
        """Tell the hub that this page may embed it. Raises DemoError."""
        settings = {"allowed_origins": [self.origin], "display_name": "Your product"}
        need(
            self._http("PATCH", f"{self._hub}/project", headers=self._project, json=settings),
            200,
            "registering the page",
        )

    def file(self, path: str) -> tuple[bytes, str] | None:
        """A file of the page and its media type, or None."""
        if path not in _FILES:
            return None
        name, kind = _FILES[path]
        text = Path(__file__).with_name(name).read_text(encoding="utf-8")
        return text.replace("{{hub}}", self._hub).replace("{{call}}", CALL).encode(), kind

    def policy(self) -> str:
        """The page's Content-Security-Policy: its own files, and the hub."""
        return (
            f"default-src 'none'; script-src 'self' {self._hub}; style-src 'self'; img-src data: {self._hub}; "
            f"connect-src 'self' {self._hub}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )

    def session(self) -> dict[str, Any]:
        """A fresh connect session for whoever is at the page."""
        ask = {"origin_owner_id": OWNER, "origin_owner_name": "Your customer"}
        made = self._http("POST", f"{self._hub}/connect_sessions", headers=self._project, json=ask)
        return {"token": need(made, 201, "creating a connect session")["token"]}

    def call(self, account: str) -> dict[str, Any]:
        """What the provider answers to a call through an account that was linked on this page. Raises DemoError."""
        url = f"{self._hub}/accounts/{quote(account, safe='')}"
        known = need(self._http("GET", url, headers=self._project), 200, "looking up the account")
        if known["origin_owner_id"] != OWNER:
            raise DemoError("this account was not linked on this page")
        called = self._http("GET", f"{self._hub}/proxy{CALL}", headers={**self._project, "x-account-id": account})
        try:
            body = called.json()
        except orjson.JSONDecodeError:
            body = called.body.decode("utf-8", "replace")
        return {"account": account, "status": called.status, "body": body}


class _Handler(BaseHTTPRequestHandler):
    """Three files, and two calls that only the page itself may make."""

    site: Site

    def do_GET(self) -> None:
        """Serve a file of the page."""
        found = self.site.file(self.path.partition("?")[0]) if self._is_ours() else None
        self._answer(200 if found else 404, *(found or (b"not found", "text/plain")))

    def do_POST(self) -> None:
        """Make a session, or a call."""
        # Another page, or one whose name was turned to this address (DNS rebinding), must not use the key through us.
        if not self._is_ours() or self.headers.get("origin") != self.site.origin:
            self._answer(403, b"", "text/plain")
            return
        try:
            self._json(200, self._perform())
        except DemoError as e:
            self._json(422, {"message": str(e)})
        except (PyreqwestError, ValueError, KeyError, TypeError) as e:
            self._json(502, {"message": f"the call failed: {type(e).__name__}"})

    def _perform(self) -> dict[str, Any]:
        length = int(self.headers.get("content-length") or 0)
        asked = orjson.loads(self.rfile.read(min(length, _BODY_LIMIT)) or b"{}")
        if self.path == "/session":
            return self.site.session()
        if self.path == "/call":
            return self.site.call(str(asked["account"]))
        raise DemoError(f"there is no {self.path[:100]}")

    def _is_ours(self) -> bool:
        return f"http://{self.headers.get('host')}" == self.site.origin

    def _json(self, status: int, value: dict[str, Any]) -> None:
        self._answer(status, orjson.dumps(value), "application/json")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.send_header("content-security-policy", self.site.policy())
        self.send_header("cache-control", "no-store")
        self.send_header("referrer-policy", "no-referrer")
        self.send_header("x-content-type-options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the terminal belongs to the demo."""
