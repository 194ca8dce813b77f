"""Clients whose id is the URL of a document: fetched over TLS through the egress guard, believed only as far as it goes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.hub import Hub, ok
from tests.kit.origin import Authority
from tests.mcp.oauth import LOOPBACK, Program, answer_of, browser_of, offering
from tests.servers.ports import free_port


class Origin:
    """A program's web site with documents at its paths."""

    def __init__(self, port: int, context: Any) -> None:
        self.url = f"https://localhost:{port}"
        self.documents: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.seen: list[str] = []
        origin = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                origin.seen.append(self.path)
                status, headers, body = origin.documents.get(self.path, (404, {}, b"{}"))
                self.send_response(status)
                for name, value in {"content-length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Answer)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def publish(self, path: str, *, status: int = 200, headers: dict[str, str] | None = None, **changes: Any) -> str:
        """Put a document there; returns the client id."""
        document = {"client_id": self.url + path, "client_name": "Cloud Desk", "redirect_uris": [LOOPBACK], **changes}
        self.documents[path] = status, headers or {}, json.dumps(document).encode()
        return self.url + path

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, Origin]]:
    folder = tmp_path_factory.mktemp("documents")
    authority, port = Authority(), free_port()
    (folder / "ca.pem").write_bytes(authority.pem)
    origin = Origin(port, authority.context(folder, "localhost"))
    try:
        with Hub(
            folder / "hub",
            free_port(),
            egress_allow=f"localhost:{port}",
            env={"SSL_CERT_FILE": str(folder / "ca.pem")},
            single_process=True,
        ) as hub:
            yield hub, origin
    finally:
        origin.stop()


def test_a_document_makes_a_client_and_is_not_fetched_twice(world: tuple[Hub, Origin]) -> None:
    hub, origin = world
    project = offering(hub.new_project(), assistant_login_url="https://app.example.com/in")
    program = Program(project, client_id=origin.publish("/desk.json"))
    for _ in range(2):
        begun = program.authorize(browser_of(project))
        assert begun.headers["location"].startswith("https://app.example.com/in?request="), begun.text
    assert origin.seen == ["/desk.json"]
    told = answer_of(program.authorize(browser_of(project), code_challenge_method="plain"))
    assert told["error"] == "invalid_request"
    assert program.authorize(browser_of(project), redirect_uri="https://evil.example/").status_code == 400
    request = begun.headers["location"].partition("?request=")[2]
    owner = {"origin_owner_id": "o", "origin_owner_name": "O"}
    assert ok(project.http.post(f"/mcp/authorizations/{request}", json=owner))["client_name"] == "Cloud Desk"


def test_documents_that_are_not_believed(world: tuple[Hub, Origin]) -> None:
    hub, origin = world
    project = offering(hub.new_project(), assistant_login_url="https://app.example.com/in")
    moved = {"location": origin.publish("/good.json")}
    for wrong in (
        origin.publish("/other.json", client_id=origin.url + "/good.json"),
        origin.publish("/gone.json", status=404),
        origin.publish("/moved.json", status=302, headers=moved),
        origin.publish("/large.json", client_name="x" * 20_000),
        origin.publish("/secret.json", token_endpoint_auth_method="private_key_jwt"),
        origin.publish("/evil.json", redirect_uris=["http://evil.example/"]),
        origin.publish("/none.json", redirect_uris=[]),
        origin.url + "/",
        origin.url.replace("localhost", "127.0.0.1") + "/good.json",  # an address inside that nobody allowed
        "https://localhost:1/desk.json",
        "http" + origin.url.removeprefix("https") + "/good.json",
    ):
        page = Program(project, client_id=wrong).authorize(browser_of(project))
        assert page.status_code == 400 and "location" not in page.headers, wrong
    good = Program(project, client_id=origin.url + "/good.json").authorize(browser_of(project))
    assert good.status_code == 302 and origin.seen.count("/good.json") == 1
