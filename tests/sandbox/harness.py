"""Starts a real sandbox process and talks to it."""

from __future__ import annotations

import base64
import hashlib
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx

REDIRECT_URI = "http://127.0.0.1:9/callback?keep=1"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
CLIENT = ("sandbox-client", "sandbox-secret")


def start_sandbox(host: str = "127.0.0.1", port: int = 0) -> tuple[subprocess.Popen[str], str]:
    """Start `serve` in its own process; return it and its base URL once it listens."""
    command = f"from mooring.sandbox.serve import serve; serve({host!r}, {port})"
    process = subprocess.Popen(
        [sys.executable, "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("Sandbox provider on http://"), (line, process.stderr and process.stderr.read())
    return process, line.split()[3].rstrip("/")


def stop_sandbox(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, str, str]:
    """Stop it the polite way; return its exit code and what else it printed."""
    process.send_signal(number)
    try:
        out, err = process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return process.returncode, out, err


@dataclass(frozen=True)
class Sandbox:
    """What the tests do with a sandbox."""

    url: str
    http: httpx.Client

    def control(self, path: str, body: object = None) -> Any:
        response = self.http.post(f"/_control/{path}", json={} if body is None else body)
        assert response.status_code == 200, response.text
        return response.json()

    def counters(self) -> Any:
        return self.http.get("/_control/state").json()["counters"]

    def fault(self, target: str, mode: str, **more: int) -> None:
        self.control("faults", {"target": target, "mode": mode, **more})

    def consent(self, form: dict[str, Any] | None = None, **query: str | None) -> dict[str, str]:
        """Answer the consent page by form; return the parameters of the redirect."""
        response = self.http.post(
            "/oauth/authorize",
            params=authorize_query(**query),
            data=form or {"decision": "allow", "company": "acme"},
        )
        assert response.status_code == 303, response.text
        return dict(parse_qsl(urlsplit(response.headers["location"]).query))

    def token(self, form: dict[str, str], auth: tuple[str, str] | None = CLIENT) -> httpx.Response:
        return self.http.post("/oauth/token", data=form, auth=auth)  # type: ignore[arg-type]

    def link(self, **query: str | None) -> dict[str, Any]:
        """Run the whole code flow; return the token answer."""
        response = self.token(code_form(self.consent(None, **query)["code"]))
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body

    def refresh(self, refresh_token: str, **more: str) -> httpx.Response:
        return self.token({"grant_type": "refresh_token", "refresh_token": refresh_token, **more})

    def me(self, access_token: str) -> httpx.Response:
        return self.http.get("/api/me", headers={"authorization": f"Bearer {access_token}"})


def authorize_query(**changes: str | None) -> dict[str, str]:
    """A good authorization request; a None removes its parameter."""
    query: dict[str, str | None] = {
        "response_type": "code",
        "client_id": CLIENT[0],
        "redirect_uri": REDIRECT_URI,
        "state": "st&te=1",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        **changes,
    }
    return {name: value for name, value in query.items() if value is not None}


def code_form(code: str, /, **changes: str | None) -> dict[str, str]:
    """A good token request for a code; a None removes its parameter."""
    form: dict[str, str | None] = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": REDIRECT_URI,
        "code_verifier": VERIFIER,
        **changes,
    }
    return {name: value for name, value in form.items() if value is not None}
