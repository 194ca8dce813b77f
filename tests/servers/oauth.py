"""Two more authorization servers written by others: django-oauth-toolkit, and Authlib's on Flask."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.servers.consent import consent
from tests.servers.ports import free_port
from tests.servers.process import COUNTERPARTS, INSTALL_HINT, Server, ServerError

_SHARED = COUNTERPARTS / "oauth-servers"
_TLS = ssl.create_default_context()  # shared: to make one takes longer than what is asked, and none is used


class OAuthServer(Server):
    """An authorization server with /api/me; its clients and their secrets are in the counterpart's server.py.

    Redirect URIs must be those that `allow` registered; see there for the port.
    """

    authorize, token, revocation = "/authorize", "/token", "/revoke"
    client_auth: tuple[str, ...] = ("basic", "post", "none")
    more_methods = ""  # of its connector; {base} is the server's URL

    def __init__(self, port: int | None = None) -> None:
        super().__init__(port or free_port())

    def command(self) -> Sequence[str]:
        """Return the environment's Python on the counterpart's program."""
        python = _SHARED / ".venv" / "bin" / "python"
        if not python.exists():
            raise ServerError(f"no .venv in {_SHARED.parent.name}/{_SHARED.name}: {INSTALL_HINT} --only oauth")
        return [str(python), str(self._program())]

    def environment(self) -> Mapping[str, str]:
        """Return the settings."""
        return {"PORT": str(self.port), "PYTHONPATH": str(_SHARED), "PYTHONDONTWRITEBYTECODE": "1"}

    def allow(self, redirect_uri: str) -> None:
        """Register a redirect URI with every client. django-oauth-toolkit lets its port on 127.0.0.1 differ."""
        self._control("redirect_uri", {"uri": redirect_uri})

    def stats(self) -> dict[str, Any]:
        """Return the counts since the last reset: token, token_ok, token_err by error, revoke, revoke_ok, api, api_401."""
        counts: dict[str, Any] = self._control("stats")
        return counts

    def reset(self) -> None:
        """Set the counts to zero and the tokens' life to an hour; tokens and sessions stay."""
        self._control("reset")
        self.live_for(3600)

    def live_for(self, seconds: int) -> None:
        """Let access tokens that are given from now on live that long."""
        self._control("settings", {"access_ttl": seconds})

    def expire_access(self) -> int:
        """Let all access tokens end now, and return how many they were."""
        return int(self._control("expire"))

    def revoke_grants(self) -> None:
        """Revoke all refresh tokens, as people do on a page of the provider's."""
        self._control("revoke")

    def consent(self, auth_url: str, redirect_uri: str, *, login: str = "jane", deny: bool = False) -> str:
        """Log in and agree, or refuse, as a person would; see `tests.servers.consent.consent`."""
        answers = {"username": login} | ({} if deny else {"allow": "Authorize"})
        with httpx.Client(timeout=10, trust_env=False, verify=_TLS) as browser:
            return consent(auth_url, redirect_uri, login=login, client=browser, answers=answers)

    def _control(self, name: str, body: Mapping[str, Any] | None = None) -> Any:
        url = f"{self.base_url}/_control/{name}"
        answer = httpx.post(url, json=body or {}, timeout=10, trust_env=False, verify=_TLS)
        if answer.is_error:
            raise RuntimeError(f"{self.name} refused {name}: {self.log()[-2000:]}")
        return answer.json()

    def _program(self) -> Path:
        return COUNTERPARTS / self.name / "server.py"


class DjangoOAuthServer(OAuthServer):
    """django-oauth-toolkit."""

    name = "django-oauth"
    authorize, token, revocation = "/o/authorize/", "/o/token/", "/o/revoke_token/"


class AuthlibServer(OAuthServer):
    """Authlib's authorization server."""

    name = "authlib"
    client_auth = ("basic", "post", "private_key_jwt", "client_secret_jwt", "none")
    more_methods = """\
  robot:
    oauth2:
      grant: jwt_bearer
      token_url: {base}/token
      client_auth: none
      scopes: [reports]
      assertion: {{issuer: robot, subject: "${{user}}", algorithm: ES256}}
    fields: {{user: {{}}}}
    test: {{get: /api/me, identity: sub}}
"""

    def private_key(self) -> dict[str, Any]:
        """Return the private JWK of the clients that sign assertions."""
        key: dict[str, Any] = self._control("private_key")
        return key
