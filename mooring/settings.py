"""Every setting once: name, type, default and one line of help. `docs/configuration.md` is generated from it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from mooring.database_url import read_database_url
from mooring.errors import ConfigurationError

LOG_LEVELS = ("debug", "info", "warning", "error")
_PATH = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)*")
_KEY_CHARS = re.compile(r"[\x21-\x39\x3b-\x7e]{32,256}")  # printable ASCII without space and ':'


def _path(value: str) -> Path:
    if not value:
        raise ValueError("is empty")
    return Path(value).expanduser().absolute()


def web_origin(value: str) -> str | None:
    """The origin of an http or https URL as browsers write it: lower case, without the default port. Else None."""
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None or "*" in value:
        return None
    if parts.path or parts.query or parts.fragment:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default = port is None or port == (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{host}" if default else f"{parts.scheme}://{host}:{port}"


def _public_url(value: str) -> str:
    scheme, _, rest = value.rstrip("/").partition("://")
    authority, slash, path = rest.partition("/")
    origin = web_origin(f"{scheme}://{authority}")
    if origin is None or not _PATH.fullmatch(slash + path):
        raise ValueError("must be an address such as https://hub.example.com, without query or user name")
    return origin + slash + path


def _issuer(value: str) -> str:
    try:
        parts = urlsplit(value)
        fine = parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.query and not parts.fragment
    except ValueError:
        fine = False
    if not fine:
        raise ValueError("must be an issuer such as https://login.example.com, exactly as the provider writes it")
    return value


def _bootstrap_key(value: str) -> str:
    if not _KEY_CHARS.fullmatch(value):
        raise ValueError("must be 32 to 256 printable characters without spaces and ':'")
    return value


def _log_level(value: str) -> str:
    if value.lower() not in LOG_LEVELS:
        raise ValueError(f"must be one of {', '.join(LOG_LEVELS)}")
    return value.lower()


def _allow(value: str) -> str:
    for entry in filter(None, (part.strip() for part in value.split(","))):
        host, _, port = entry.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536 or "/" in entry or "*" in entry:
            raise ValueError(f"has the entry {entry!r}; each must be an exact host:port")
    return value


def _yes_or_no(value: str) -> bool:
    if value.lower() not in {"yes", "no"}:
        raise ValueError("must be yes or no")
    return value.lower() == "yes"


def _origins(value: str) -> tuple[str, ...]:
    out = []
    for entry in filter(None, (part.strip() for part in value.split(","))):
        origin = web_origin(entry.rstrip("/"))
        if origin is None:
            raise ValueError(f"has the entry {entry!r}; each must be an exact origin such as https://app.example.com")
        out.append(origin)
    return tuple(out)


def _modules(value: str) -> tuple[str, ...]:
    out = tuple(filter(None, (part.strip() for part in value.split(","))))
    for entry in out:
        if not all(part.isidentifier() for part in entry.split(".")):
            raise ValueError(f"has the entry {entry!r}; each must be the name of a Python module such as acme_hub")
    return out


def _networks(value: str) -> tuple[IPv4Network | IPv6Network, ...]:
    out = []
    for entry in filter(None, (part.strip() for part in value.split(","))):
        try:
            network = ip_network(entry, strict=True)
        except ValueError:
            raise ValueError(
                f"has the entry {entry!r}; each must be an address or a network such as 10.0.0.0/8"
            ) from None
        if network.prefixlen == 0:
            raise ValueError(
                f"has the entry {entry!r}: whoever is trusted may say any address, so it can't be everybody"
            )
        out.append(network)
    return tuple(out)


def _number(least: int, most: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not value.isdigit() or not least <= int(value) <= most:
            raise ValueError(f"must be a number from {least} to {most}")
        return int(value)

    return parse


def _metrics_token(value: str) -> str:
    if len(value) < 16 or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("must be at least 16 printable characters without spaces")
    return value


def _egress_proxy(value: str) -> str:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError("is malformed; write http://proxy.example.com:4750") from None
    if parts.scheme != "http" or not parts.hostname or port is None or parts.path not in {"", "/"} or parts.query:
        raise ValueError("must be an address such as http://proxy.example.com:4750, with its port")
    return value


def _redis_url(value: str) -> str:
    """Check the URL before the client sees it, which believes nearly everything."""
    try:
        parts = urlsplit(value)
        fine = bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine or parts.scheme not in {"redis", "rediss"}:
        raise ValueError("must be redis://user:password@host:6379/0, or rediss://… for TLS")
    if parts.path.strip("/") and not parts.path.strip("/").isdigit():
        raise ValueError("has a path that is no number of a database, such as /0")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(set(options) - ({"ssl_ca_certs"} if parts.scheme == "rediss" else set())):
        raise ValueError(f"has the option {unknown[0]!r}; only ssl_ca_certs of rediss:// is known")
    return value


def _setting(
    env: str, help: str, parse: Callable[[str], Any], *, default: Any, shown: str, secret: bool = False
) -> Any:
    meta = {"env": env, "help": help, "parse": parse, "shown": shown, "secret": secret}
    return field(default=default, repr=not secret, metadata=meta)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one process. Build it with `load()`; tests may build it directly."""

    data_dir: Path = _setting(
        "MOORING_DATA_DIR",
        "Folder of the SQLite database.",
        _path,
        default=Path("mooring-data"),
        shown="./mooring-data",
    )
    database_url: str | None = _setting(
        "MOORING_DATABASE_URL",
        "postgresql://user:password@host:5432/database (`?sslmode=…` as in libpq, `?schema=…` for a schema of its own; "
        "`host1:5432,host2:5432` for a primary and its standbys), "
        "or sqlite:////absolute/path/file.db.",
        read_database_url,
        default=None,
        shown="SQLite in the data folder",
        secret=True,
    )
    public_url: str | None = _setting(
        "MOORING_PUBLIC_URL",
        "Address at which browsers and providers reach this hub; callback URLs are built from it and from nothing else. It "
        "has a path in library mode only.",
        _public_url,
        default=None,
        shown="http:// and the address that `serve` listens on",
    )
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = _setting(
        "MOORING_TRUSTED_PROXIES",
        "Addresses or networks of your reverse proxies, comma separated: from these, and from nobody else, "
        "`X-Forwarded-For` says who calls. Needed for address limits, throttles and audit; no other such header is read.",
        _networks,
        default=(),
        shown="none: the peer is the caller",
    )
    master_keys: str | None = _setting(
        "MOORING_MASTER_KEYS",
        "Master keys as id:base64, comma separated, each key 32 bytes; the first one seals, all of them open.",
        str,
        default=None,
        shown="read from the key file",
        secret=True,
    )
    master_key_file: Path | None = _setting(
        "MOORING_MASTER_KEY_FILE",
        "File with one id:base64 per line, mode 0600, outside the data folder; made at first start.",
        _path,
        default=None,
        shown="the data folder's path + `.keys`",
    )
    bootstrap_api_key: str | None = _setting(
        "MOORING_BOOTSTRAP_API_KEY",
        "When the database is empty: creates organization and project `default` with this API key, all scopes.",
        _bootstrap_key,
        default=None,
        shown="none",
        secret=True,
    )
    egress_allow: str = _setting(
        "MOORING_EGRESS_ALLOW",
        "Exact host:port entries, comma separated, that outbound calls may reach although private or plain http.",
        _allow,
        default="",
        shown="none",
    )
    egress_proxy: str | None = _setting(
        "MOORING_EGRESS_PROXY",
        "http://host:port of a proxy that all outbound calls are tunnelled through (CONNECT, to the address that was "
        "checked); HTTP_PROXY and its kin are never read.",
        _egress_proxy,
        default=None,
        shown="none",
        secret=True,
    )
    oidc_issuer: str | None = _setting(
        "MOORING_OIDC_ISSUER",
        "Issuer of the OpenID provider at which people of the dashboard may sign in; they must have been invited.",
        _issuer,
        default=None,
        shown="none",
    )
    oidc_client_id: str | None = _setting(
        "MOORING_OIDC_CLIENT_ID",
        "Client of this hub there; its redirect URI is `/dashboard/sso/callback` under MOORING_PUBLIC_URL.",
        str,
        default=None,
        shown="none",
    )
    oidc_client_secret: str | None = _setting(
        "MOORING_OIDC_CLIENT_SECRET", "Secret of that client.", str, default=None, shown="none", secret=True
    )
    egress_addresses: str = _setting(
        "MOORING_EGRESS_ADDRESSES",
        "Addresses that this hub's calls come from, comma separated; shown in the dashboard, for providers' firewalls.",
        str,
        default="",
        shown="none",
    )
    connectors_dir: Path | None = _setting(
        "MOORING_CONNECTORS_DIR", "Folder of your own connectors.", _path, default=None, shown="none"
    )
    connectors_reload: bool = _setting(
        "MOORING_CONNECTORS_RELOAD",
        "yes or no: read the files of that folder again when they change, for those who write connectors.",
        _yes_or_no,
        default=False,
        shown="no",
    )
    python_modules: tuple[str, ...] = _setting(
        "MOORING_PYTHON_MODULES",
        "Installed Python modules, comma separated, whose functions connectors may run as steps of actions.",
        _modules,
        default=(),
        shown="none",
    )
    allowed_origins: tuple[str, ...] = _setting(
        "MOORING_ALLOWED_ORIGINS",
        "Origins of pages that embed the Hub of any project, comma separated, beside those that PATCH /project sets.",
        _origins,
        default=(),
        shown="none",
    )
    refresh_ahead: bool = _setting(
        "MOORING_REFRESH_AHEAD",
        "yes or no: renew tokens before they end, or only when a call needs one.",
        _yes_or_no,
        default=True,
        shown="yes",
    )
    key_rate_limit: int = _setting(
        "MOORING_KEY_RATE_LIMIT",
        "Calls per minute that one API key may make, shared evenly by the worker processes unless MOORING_REDIS_URL is "
        "set; 0 means no limit.",
        _number(0, 10_000_000),
        default=0,
        shown="0",
    )
    redis_url: str | None = _setting(
        "MOORING_REDIS_URL",
        "redis://user:password@host:6379/0, or rediss:// for TLS (`?ssl_ca_certs=FILE` names its CA): a server by which the "
        "processes of all hosts share rate limits; needs the extra `redis`.",
        _redis_url,
        default=None,
        shown="none: each process keeps its part",
        secret=True,
    )
    log_retention_days: int = _setting(
        "MOORING_LOG_RETENTION_DAYS",
        "Days for which rows of the request log are kept.",
        _number(1, 3650),
        default=90,
        shown="90",
    )
    metrics_token: str | None = _setting(
        "MOORING_METRICS_TOKEN",
        "Switches /metrics on, for those who send this token as `Authorization: Bearer`.",
        _metrics_token,
        default=None,
        shown="none: /metrics is off",
        secret=True,
    )
    bundle_passphrase: str | None = _setting(
        "MOORING_BUNDLE_PASSPHRASE",
        "What `mooring accounts export` encrypts a bundle with, and `import` opens it; the hub itself has no use for it.",
        str,
        default=None,
        shown="none: the commands ask",
        secret=True,
    )
    log_level: str = _setting(
        "MOORING_LOG_LEVEL", "debug, info, warning or error.", _log_level, default="info", shown="info"
    )

    @property
    def resolved_database_url(self) -> str:
        """The database URL that is in force."""
        return self.database_url or f"sqlite:///{self.data_dir / 'mooring.db'}"

    @property
    def resolved_key_file(self) -> Path:
        """The master key file that is in force, outside the data folder."""
        return self.master_key_file or self.data_dir.with_name(self.data_dir.name + ".keys")


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment.

    Raises ConfigurationError naming the first wrong setting.
    """
    env = os.environ if environ is None else environ
    known = {f.metadata["env"]: f for f in fields(Settings)}
    values: dict[str, Any] = {}
    for name, f in known.items():
        raw = _given(env, name, may_be_file=name in FILED)
        if raw is None or raw == "":
            continue
        try:
            values[f.name] = f.metadata["parse"](raw.strip())
        except ValueError as e:
            raise ConfigurationError(f"{name} {e}") from None
    values.setdefault("data_dir", Path("mooring-data").absolute())
    return Settings(**values)


FILED = frozenset(f.metadata["env"] for f in fields(Settings) if f.metadata["secret"]) - {"MOORING_MASTER_KEYS"}
"""Settings that hold secrets: `NAME_FILE` may name a file with the value. Master keys have a file of their own kind."""


def _given(env: Mapping[str, str], name: str, *, may_be_file: bool) -> str | None:
    """The text of a setting, from the environment or from the file that is named there. Raises ConfigurationError."""
    raw, path = env.get(name), env.get(f"{name}_FILE") if may_be_file else None
    if not path:
        return raw
    if raw:
        raise ConfigurationError(f"{name} and {name}_FILE are both set; keep one of them")
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as e:
        reason = getattr(e, "strerror", None) or "is no text"
        raise ConfigurationError(f"{name}_FILE: can't read {path}: {reason}") from None


def unknown(environ: Mapping[str, str] | None = None) -> list[str]:
    """Names that start with `MOORING_` and mean nothing: a typing error must not silently mean "default"."""
    known = {f.metadata["env"] for f in fields(Settings)} | {f"{name}_FILE" for name in FILED}
    env = os.environ if environ is None else environ
    return sorted(name for name in env if name.startswith("MOORING_") and name not in known)


def reference() -> list[tuple[str, str, str]]:
    """Rows (name, default, help) for the documentation, in the order of definition."""
    return [(f.metadata["env"], f.metadata["shown"], f.metadata["help"]) for f in fields(Settings)]
