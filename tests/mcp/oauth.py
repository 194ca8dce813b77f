"""What the tests of OAuth at /mcp share: a person's browser without a browser, and a program that asks by hand."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx

from tests.hub import TLS, Project, client, ok, refused
from tests.sandbox.harness import Sandbox

BOTH = "application/json, text/event-stream"
KEY = {"api_key": "sandbox-key-acme"}
LOOPBACK = "http://127.0.0.1:39999/callback"
HTML = {"accept": "text/html"}


def stranger(project: Project) -> httpx.Client:
    """Somebody whom the hub has not seen yet, by address: registrations are counted by it."""
    address = f"127.{secrets.randbelow(250) + 2}.{secrets.randbelow(256)}.{secrets.randbelow(254) + 1}"
    return client(project.hub.url, transport=httpx.HTTPTransport(local_address=address, verify=TLS))


def offering(project: Project, **more: Any) -> Project:
    """Switch assistants on."""
    ok(project.http.patch("/project", json={"assistants": True, **more}))
    return project


def linked(project: Project, provider: Sandbox, owner: str = "owner-1", **more: Any) -> str:
    """An account of an owner at the sandbox."""
    config = project.config("sandbox", "api_key", {"sandbox_url": provider.url})
    return project.link(config, KEY, owner, **more)


def resource(project: Project) -> str:
    """The address that a person gives to an assistant."""
    return f"{project.hub.url}/mcp/p/{project.id}"


def browser_of(project: Project, owner: str | None = None) -> httpx.Client:
    """A browser; with an owner, one in which their link was opened."""
    browser = client(project.hub.url, headers={"accept": "text/html", "sec-fetch-site": "same-origin"})
    if owner is not None:
        body = {"origin_owner_id": owner, "origin_owner_name": f"{owner} Inc."}
        link = ok(project.http.post("/mcp/links", json=body), 201)
        assert link["mcp_url"] == resource(project)
        shown = browser.get(link["url"])
        assert shown.status_code == 200 and f"{owner} Inc." in shown.text, shown.text
        opened = browser.post(link["url"])
        assert opened.status_code == 303, opened.text
    return browser


def form_of(page: httpx.Response) -> dict[str, str]:
    """The hidden field of the consent page."""
    assert page.status_code == 200, page.text
    found = re.search(r'name="token" value="([0-9a-f]{64})"', page.text)
    assert found, page.text
    return {"token": found[1]}


def decide(
    browser: httpx.Client, url: str, accounts: Sequence[str], access: str = "read", decision: str = "allow"
) -> httpx.Response:
    """Look at the consent page and press a button."""
    page = browser.get(url)
    form: dict[str, Any] = {**form_of(page), "account": list(accounts), "access": access, "decision": decision}
    return browser.post(url, data=form)


def answer_of(response: httpx.Response) -> dict[str, str]:
    """The parameters with which the browser comes back to the program: by a redirect, or from a page that goes on."""
    if response.status_code in {302, 303}:
        url = response.headers["location"]
    else:
        assert response.status_code == 200, response.text
        (found,) = re.findall(r'<a class="go" href="([^"]+)">', response.text)
        url = html.unescape(found)
        assert f"location.replace({json.dumps(url)})" in response.text
    return dict(parse_qsl(urlsplit(url).query))


@dataclass
class Program:
    """An assistant that speaks OAuth by hand, to do it wrong."""

    project: Project
    redirect_uri: str = LOOPBACK
    client_id: str = ""
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))

    def __post_init__(self) -> None:
        self.http = stranger(self.project)
        if not self.client_id:
            body = {"client_name": "Desk", "redirect_uris": [self.redirect_uri]}
            self.client_id = ok(self.http.post("/oauth/register", json=body), 201)["client_id"]

    @property
    def challenge(self) -> str:
        return base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()

    def asking(self, **changes: str | None) -> dict[str, str]:
        """The parameters of an authorization request."""
        asked = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "state": "state-1",
            "code_challenge": self.challenge,
            "code_challenge_method": "S256",
            "resource": resource(self.project),
            "scope": "mcp:read mcp:write",
            **changes,
        }
        return {name: value for name, value in asked.items() if value is not None}

    def authorize(self, browser: httpx.Client, **changes: str | None) -> httpx.Response:
        """Open the authorization endpoint in a browser."""
        return browser.get("/connect/assistants/authorize", params=self.asking(**changes))

    def code(self, browser: httpx.Client, accounts: Sequence[str], access: str = "read") -> str:
        """A code that the person at the browser granted."""
        begun = self.authorize(browser)
        assert begun.status_code == 302, begun.text
        answer = answer_of(decide(browser, begun.headers["location"], accounts, access))
        assert answer["state"] == "state-1" and answer["iss"] == self.project.hub.url
        return answer["code"]

    def redeem(self, code: str, **changes: str | None) -> httpx.Response:
        """Exchange a code."""
        form = {
            "grant_type": "authorization_code",
            "client_id": self.client_id,
            "code": code,
            "redirect_uri": self.redirect_uri,
            "code_verifier": self.verifier,
            "resource": resource(self.project),
            **changes,
        }
        return self.http.post("/oauth/token", data={k: v for k, v in form.items() if v is not None})

    def renew(self, refresh_token: str, **changes: str) -> httpx.Response:
        """Exchange a refresh token."""
        form = {"grant_type": "refresh_token", "client_id": self.client_id, "refresh_token": refresh_token, **changes}
        return self.http.post("/oauth/token", data=form)

    def connect(self, browser: httpx.Client, accounts: Sequence[str], access: str = "read") -> dict[str, Any]:
        """The whole way; returns the token answer."""
        tokens: dict[str, Any] = ok(self.redeem(self.code(browser, accounts, access)))
        return tokens

    def call(self, token: str, method: str = "tools/list", *, url: str | None = None, **params: Any) -> httpx.Response:
        """One message of the protocol."""
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        headers = {"accept": BOTH, "authorization": f"Bearer {token}"}
        return self.http.post(url or resource(self.project), json=message, headers=headers)

    def tool(self, token: str, name: str, **arguments: Any) -> dict[str, Any]:
        """The result of a tool."""
        told: dict[str, Any] = result(self.call(token, "tools/call", name=name, arguments=arguments))
        return told


def result(response: httpx.Response) -> Any:
    """The result in an answer, which comes as JSON or as one server-sent event."""
    assert response.status_code == 200, response.text
    if response.headers["content-type"].startswith("application/json"):
        return response.json()["result"]
    (line,) = [line for line in response.text.splitlines() if line.startswith("data:") and line[5:].strip()]
    return json.loads(line[5:])["result"]


def tools_of(response: httpx.Response) -> dict[str, Any]:
    """The listed tools by name."""
    return {tool["name"]: tool for tool in result(response)["tools"]}


def oauth_error(response: httpx.Response, status: int, error: str) -> str:
    """The description of a refusal as RFC 6749 §5.2 has it."""
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error", "error_description"} and body["error"] == error, body
    assert response.headers["cache-control"] == "no-store"
    return str(body["error_description"])


def challenged(response: httpx.Response, project: Project | None, error: str | None = None) -> None:
    """The refusal leads to the metadata (RFC 9728 §5.1)."""
    refused(response, 401)
    header = response.headers["www-authenticate"]
    path = f"/mcp/p/{project.id}" if project else "/mcp"
    base = str(response.request.url).partition("/mcp")[0]
    assert header.startswith("Bearer ")
    assert f'resource_metadata="{base}/.well-known/oauth-protected-resource{path}"' in header
    assert (f'error="{error}"' in header) is (error is not None)
