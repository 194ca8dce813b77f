"""StackOne's published Hub from npm, in a page of another origin than the hub's: CORS is real."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Locator, Page, Request, Response, expect

from tests.browser.chromium import PUBLISHED_HUB
from tests.hub import Session

_HOST_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Host page</title>
<script>
window.heard = [];  // what a host page hears: events of the element, and messages
window.addEventListener("message", (e) => heard.push(["message", e.origin, e.data]));
window.mount = (attributes) => {
  const element = document.createElement("stackone-hub");
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  for (const name of ["success", "close"]) element.addEventListener(name, (e) => heard.push([name, e.detail]));
  element.onSuccess = (account) => heard.push(["onSuccess", account]);
  element.onClose = () => heard.push(["onClose"]);
  document.body.append(element);
};
</script><script src="/webcomponent.js"></script></head><body></body></html>"""


@contextmanager
def host_pages(port: int) -> Iterator[str]:
    """Serve a customer's page with the component on 127.0.0.1; yields its origin."""
    script = PUBLISHED_HUB.read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = {"/": ("text/html", _HOST_PAGE.encode()), "/webcomponent.js": ("text/javascript", script)}
            kind, body = found.get(self.path, ("text/plain", b""))
            self.send_response(200 if body else 404)
            self.send_header("content-type", f"{kind}; charset=utf-8")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Published:
    """The component in a tab. Locators look into its open shadow roots."""

    tab: Page
    hub_url: str
    calls: list[tuple[str, str, int]] = field(default_factory=list)  # method, path, status of each call to the hub
    sent: list[dict[str, Any]] = field(default_factory=list)  # bodies of the forms that were posted
    strangers: set[str] = field(default_factory=set)  # origins that are neither the page's nor a loopback server's

    def __post_init__(self) -> None:
        self.tab.on("request", self._request)
        self.tab.on("response", self._response)

    def _request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if request.method in {"POST", "PATCH"} and parts.path.startswith("/hub/accounts"):
            self.sent.append(json.loads(request.post_data or "null"))
        if parts.scheme in {"http", "https"} and parts.hostname != "127.0.0.1":
            self.strangers.add(f"{parts.scheme}://{parts.netloc}")

    def _response(self, response: Response) -> None:
        if response.url.startswith(self.hub_url + "/hub/") and response.request.method != "OPTIONS":
            self.calls.append((response.request.method, urlsplit(response.url).path, response.status))

    def open(self, origin: str, session: Session, **attributes: str) -> Published:
        """Load the host page and mount the component with the session's token."""
        self.tab.goto(origin + "/")
        given = {"token": session.token, "base-url": self.hub_url, "app-url": self.hub_url}
        given |= {"mode": "integration-picker", "height": "600px"}
        self.tab.evaluate("attributes => mount(attributes)", given | attributes)
        return self

    def heard(self, kind: str) -> list[Any]:
        """What the host page heard of one kind; the detail of events, the data of messages."""
        found: list[list[Any]] = self.tab.evaluate("heard")
        return [entry[-1] for entry in found if entry[0] == kind]

    def origins(self) -> set[str]:
        """The origins that messages to the host page came from."""
        return {entry[1] for entry in self.tab.evaluate("heard") if entry[0] == "message"}

    def statuses(self) -> set[int]:
        """The statuses of the calls to /hub/*."""
        return {status for _, _, status in self.calls}

    def until(self, condition: Callable[[], bool], *, seconds: float = 15) -> None:
        """Wait for something that the browser tells; it tells only while it is waited for."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not happen in time"
            self.tab.wait_for_timeout(50)

    def shows(self, text: str, *, seconds: float = 15) -> Locator:
        """Wait until the component shows a text."""
        found = self.tab.get_by_text(text, exact=False).first
        expect(found).to_be_visible(timeout=seconds * 1000)
        return found

    def lacks(self, text: str) -> None:
        """The component does not show a text."""
        expect(self.tab.get_by_text(text, exact=False)).to_have_count(0)

    def field(self, key: str) -> Locator:
        """The input of a field of the form."""
        return self.tab.locator(f'stackone-hub [name="{key}"]')

    def fill(self, values: Mapping[str, str]) -> None:
        """Type into fields, as a person does."""
        for key, value in values.items():
            self.field(key).fill(value)

    def choose(self, label: str, option: str) -> None:
        """Choose in a select, which is a button and a list of the component's own."""
        self.tab.get_by_label(label).click()
        self.tab.get_by_text(option, exact=True).last.click()

    def button(self, name: str) -> Locator:
        """A button of the component."""
        return self.tab.locator("stackone-hub").get_by_role("button", name=name, exact=True)

    def connect(self) -> None:
        """Press Connect."""
        self.button("Connect").click()

    def popup(self) -> Page:
        """Press Connect and return the popup that opens."""
        with self.tab.expect_popup() as opened:
            self.connect()
        return opened.value

    def details(self) -> str:
        """Unfold the error and return what the component shows as the provider's response."""
        self.tab.locator("stackone-hub").get_by_label("Expand").click()
        shown = self.tab.locator("stackone-hub .alert-expandable")
        expect(self.tab.locator("stackone-hub").get_by_label("Collapse")).to_be_visible()
        return shown.inner_text()

    def succeeded(self) -> dict[str, str]:
        """Wait for the end in success; returns the account as the host page heard it."""
        self.shows("Connection Successful")
        (account,) = self.heard("success")
        assert self.heard("onSuccess") == [account]
        return dict(account)
