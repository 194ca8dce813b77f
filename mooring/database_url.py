"""The address of the database as an operator writes it: SQLite, or PostgreSQL with its options and standbys. Pure."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
"""What a schema may be called."""
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SERVER: Final = re.compile(r"[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?")


def read_database_url(value: str) -> str:
    """The address as the driver wants it. Raises ValueError, which quotes nothing of a login."""
    scheme = value.split(":", 1)[0]
    if scheme in {"postgres", "postgresql"}:
        return _postgresql("postgresql" + value[len(scheme) :])
    if scheme == "sqlite":
        if not value.startswith("sqlite:///") or value == "sqlite:///":
            raise ValueError("needs a file: sqlite:////absolute/path/mooring.db")
        return value
    raise ValueError(f"has the scheme {scheme!r}; use postgresql://… or sqlite:///…")


def _postgresql(value: str) -> str:
    """Check the URL before the driver sees it, whose own messages may quote the password."""
    try:
        parts = urlsplit(value)
        login, _, hosts = parts.netloc.rpartition("@")
        several = hosts.split(",") if "," in hosts else []
        if several:  # as libpq writes a primary with its standbys; the driver wants them as options
            parts = parts._replace(netloc=f"{login}@" if login else "")
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("is malformed; write postgresql://user:password@host:5432/database") from None
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(set(options) - {"host", "port", "ssl", "sslmode", "schema", "target_session_attrs"}):
        raise ValueError(
            f"has the option {unknown[0]!r}; host, port, sslmode, schema and target_session_attrs are known"
        )
    if "schema" in options and not NAME.fullmatch(options["schema"]):
        raise ValueError("has a schema that is no plain name such as mooring")
    if not host and not several and not options.get("host"):
        raise ValueError("names no host; write postgresql://user:password@host:5432/database")
    mode = options.pop("sslmode", None) or options.get("ssl")  # libpq's word for what the driver calls `ssl`
    if mode is not None:
        if mode not in _SSL_MODES:
            raise ValueError(f"has sslmode={mode}; it must be one of {', '.join(_SSL_MODES)}")
        options["ssl"] = mode
    if not several:
        return urlunsplit(parts._replace(query=urlencode(options)))
    if not all(map(_SERVER.fullmatch, several)):
        raise ValueError(
            "is malformed; several hosts are written postgresql://user:password@host1:5432,host2:5432/database"
        )
    if "host" in options or "port" in options:
        raise ValueError("names several hosts and the option host or port; give one or the other")
    targets = [("host", h if ":" in h else f"{h}:5432") for h in several]
    options.setdefault("target_session_attrs", "primary")  # a standby only reads
    query = urlencode([*targets, *options.items()], safe=":")
    return f"postgresql://{parts.netloc}{parts.path}?{query}"
