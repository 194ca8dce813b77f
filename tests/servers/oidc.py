"""panva's oidc-provider: a certified OpenID provider with faults on demand."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import httpx

from tests.servers.consent import consent
from tests.servers.ports import HOST, free_port_pair
from tests.servers.process import COUNTERPARTS, Server, require_node_modules, require_program

FaultMode = Literal[
    "none",
    "token429",
    "token503",
    "tokenHtml",
    "tokenRst",
    "tokenHang",
    "tokenSlowloris",
    "tokenHuge",
    "tokenRedirect",
    "tokenDropAfterCommit",
    "tokenDelayAfterCommit",
    "api429",
    "api503",
]


class OidcServer(Server):
    """An OAuth 2.0 and OpenID provider; clients and their secrets are in the counterpart's server.mjs.

    Redirect URIs on loopback match whatever their port (RFC 8252, 7.3). `at_ttl` is the access tokens' life
    in seconds. `rotate` None leaves refresh-token rotation to the provider's own policy. `grace` is the time
    in seconds in which a used refresh token still works; with 0 its reuse revokes the whole grant. `issuer`
    is for when clients reach the server through another address, such as a `ToxicLink`.
    """

    name = "oidc-provider"

    def __init__(
        self,
        redirect_uris: Sequence[str],
        *,
        at_ttl: int = 3600,
        rotate: bool | None = True,
        grace: int = 0,
        issuer: str | None = None,
        port: int | None = None,
    ) -> None:
        super().__init__(port or free_port_pair())
        self.issuer = issuer or self.base_url
        self._control_url = f"http://{HOST}:{self.port + 1}"
        self._environment = {
            "PORT": str(self.port),
            "ISS": self.issuer,
            "REDIRECT_URIS": ",".join(redirect_uris),
            "AT_TTL": str(at_ttl),
            "ROTATE": "default" if rotate is None else str(int(rotate)),
            "GRACE": str(grace),
        }

    def prepare(self) -> None:
        """Check that the packages are installed."""
        require_node_modules(COUNTERPARTS / "oidc-provider")

    def command(self) -> Sequence[str]:
        """Return Node.js on the counterpart's program."""
        return [require_program("node"), str(COUNTERPARTS / "oidc-provider" / "server.mjs")]

    def environment(self) -> Mapping[str, str]:
        """Return the settings."""
        return self._environment

    def stats(self) -> dict[str, Any]:
        """Return the counts since the last reset (token, token_ok, reuse_detected, …) and live_access."""
        return self._control("GET", "/stats")

    def reset(self) -> None:
        """Set the counts to zero and end any fault; tokens and sessions stay."""
        self._control("POST", "/reset")

    def fault(self, mode: FaultMode, n: int = 1, ms: int = 0) -> None:
        """Make the next `n` requests of that kind fail; `ms` is the delay, or the Retry-After to announce."""
        self._control("POST", "/fault", {"mode": mode, "n": n, "ms": ms})

    def expire_access(self) -> int:
        """Make all access tokens dead at once and return how many they were."""
        return int(self._control("POST", "/expire-access")["expired"])

    def private_key(self) -> dict[str, Any]:
        """Return the private JWK that the client "pkjwt-app" signs with."""
        return self._control("GET", "/private-key")

    def consent(
        self,
        auth_url: str,
        redirect_uri: str,
        *,
        login: str = "jane",
        client: httpx.Client | None = None,
        deny: bool = False,
    ) -> str:
        """Log in and agree (or cancel) as a person would; see `tests.servers.consent.consent`."""
        return consent(auth_url, redirect_uri, login=login, client=client, deny=deny)

    def _control(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        answer = httpx.request(method, self._control_url + path, json=body, timeout=10, trust_env=False)
        if answer.is_error:
            raise RuntimeError(f"{self.name} refused {method} {path}: {answer.text}")
        result: dict[str, Any] = answer.json()
        return result
