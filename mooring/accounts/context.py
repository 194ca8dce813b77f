"""What one process holds: made once at start, handed to every slice above."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from mooring.accounts.refresh import Refresher
from mooring.accounts.serving import ServingAccounts
from mooring.connectors.registry import Registry
from mooring.connectors.reloading import Reloader
from mooring.courier.client import CourierClient
from mooring.identity.authenticator import Authenticator
from mooring.identity.project_settings import LOOPBACK, ProjectReader, ProjectSettings
from mooring.kit.cache import ChangeFollower
from mooring.kit.counters import Counters
from mooring.kit.db import Database
from mooring.kit.http import HttpClient
from mooring.kit.limits import Limits
from mooring.kit.shared import SharedServer
from mooring.kit.vault import Vault
from mooring.logs.writer import LogWriter
from mooring.settings import Settings


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of a running Mooring."""

    settings: Settings
    public_url: str  # without a slash at the end
    db: Database
    vault: Vault
    registry: Registry
    http: HttpClient
    authenticate: Authenticator
    projects: ProjectReader
    accounts: ServingAccounts
    refresher: Refresher
    logs: LogWriter
    changes: ChangeFollower
    limits: Limits
    counters: Counters
    courier: CourierClient | None = None
    shared: SharedServer | None = None  # where MOORING_REDIS_URL is set
    reloader: Reloader | None = None  # where MOORING_CONNECTORS_RELOAD is yes

    @property
    def prefix(self) -> str:
        """The path of the public URL, under which an application mounted us: "" or such as "/integrations"."""
        return urlsplit(self.public_url).path

    @property
    def own_origin(self) -> str:
        """The public URL without its path."""
        return self.public_url.removesuffix(self.prefix)

    def callback_url(self, connector_key: str) -> str:
        """The redirect URI of a connector: from configuration, never from a request's Host header (rule O8)."""
        return f"{self.public_url}/connect/oauth2/{connector_key}/callback"

    def origins_of(self, project: ProjectSettings) -> frozenset[str]:
        """The origins whose pages may embed this project's Hub: its own, and those of the whole instance."""
        return frozenset((*project.allowed_origins, *self.settings.allowed_origins))

    def is_allowed_return(self, url: str, project: ProjectSettings) -> bool:
        """Whether the OAuth flow may return to this URL: our own origin, a registered origin, or a registered URL."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or "\\" in url:
            return False
        try:
            origin = _origin(url)
        except ValueError:
            return False
        if origin == _origin(self.public_url) or origin in {_origin(o) for o in self.origins_of(project)}:
            return True
        return url.partition("#")[0].partition("?")[0] in project.return_urls


def _origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port. The names of the loopback interface are one host: they all mean this machine."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return parts.scheme, "loopback" if host in LOOPBACK else host, port
