"""What OAuth 2.1 and MCP prescribe, as functions of texts: redirect URIs, resources, scopes, PKCE. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import SplitResult, urlencode, urlsplit

from mooring.settings import web_origin

READ: Final = "mcp:read"
WRITE: Final = "mcp:write"
SCOPES: Final = (READ, WRITE)

PATH: Final = "/mcp"
PROJECT_PATH: Final = "/mcp/p/"

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
# Schemes that a browser handles itself, or that start something else than a program that waits for a code.
_FOREIGN: Final = frozenset(
    {
        *(
            "about",
            "blob",
            "chrome",
            "chrome-extension",
            "data",
            "devtools",
            "edge",
            "file",
            "filesystem",
            "ftp",
            "ftps",
        ),
        *(
            "intent",
            "jar",
            "javascript",
            "mailto",
            "moz-extension",
            "ms-appx",
            "resource",
            "sms",
            "smsto",
            "ssh",
            "tel",
        ),
        *("telnet", "vbscript", "view-source", "ws", "wss"),
    }
)
_PRIVATE_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]{1,63}")
_URI: Final = re.compile(r"[!#$%&'()*+,./0-9:;=?@A-Z\[\]_a-z~-]{1,2000}")
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")


def check_redirect_uri(uri: str) -> str:
    """A redirect URI that a public client may register: https, http on this machine, or a private scheme (RFC 8252).

    Raises ValueError. A private scheme need not hold a dot, as the RFC wants it: those of well-known editors have none.
    """
    if not _URI.fullmatch(uri):
        raise ValueError("must be a URI of at most 2000 plain characters")
    parts = _split(uri)
    if parts is None or parts.fragment or "#" in uri or parts.username is not None or parts.password is not None:
        raise ValueError("must be a URI without a fragment and a user name")
    if parts.scheme == "https":
        if not parts.hostname:
            raise ValueError("must name a host")
    elif parts.scheme == "http":
        if parts.hostname not in LOOPBACK:
            raise ValueError("must use https; http is for this machine (127.0.0.1, [::1], localhost) only")
    elif parts.scheme in _FOREIGN or not _PRIVATE_SCHEME.fullmatch(parts.scheme):
        raise ValueError("must use https, http on this machine, or the program's own scheme")
    return uri


def _split(uri: str) -> SplitResult | None:
    try:
        parts = urlsplit(uri)
        _ = parts.hostname, parts.port
    except ValueError:
        return None
    return parts


def is_registered(uri: str, registered: Iterable[str]) -> bool:
    """Whether a redirect URI is one of the registered ones, exactly; on this machine the port may differ (RFC 8252 §7.3)."""
    return any(uri == known or _is_same_but_port(uri, known) for known in registered)


def _is_same_but_port(uri: str, known: str) -> bool:
    one, other = _split(uri), _split(known)
    if one is None or other is None or one.scheme != "http" or other.scheme != "http":
        return False
    if one.hostname not in LOOPBACK or one.hostname != other.hostname or "@" in one.netloc or not _URI.fullmatch(uri):
        return False
    return (one.path, one.query, one.fragment) == (other.path, other.query, other.fragment)


def is_loopback(uri: str) -> bool:
    """Whether a redirect URI leads to a program on the person's own machine, by http."""
    parts = _split(uri)
    return parts is not None and parts.scheme == "http" and parts.hostname in LOOPBACK


def is_web(uri: str) -> bool:
    """Whether a browser opens the redirect URI itself."""
    return uri.startswith(("https://", "http://"))


def destination(uri: str) -> str:
    """Where a redirect URI leads, as a person is told: the host, or the scheme."""
    parts = urlsplit(uri)
    return parts.netloc if is_web(uri) else f"{parts.scheme}:"


def with_parameters(uri: str, parameters: dict[str, str]) -> str:
    """The redirect URI with more parameters in its query."""
    return f"{uri}{'&' if '?' in uri else '?'}{urlencode(parameters)}"


def resource_of(public_url: str, project: str | None) -> str:
    """The address that a person gives to an assistant, which is also the audience of its tokens (RFC 8707)."""
    return f"{public_url}{PROJECT_PATH}{project}" if project else f"{public_url}{PATH}"


def read_resource(public_url: str, value: str) -> tuple[str, str | None] | None:
    """A resource of ours in its one spelling, and the project that it names; None for anything else."""
    parts, own = _split(value), urlsplit(public_url)
    if parts is None or parts.query or parts.fragment:
        return None
    if web_origin(f"{parts.scheme}://{parts.netloc}") != f"{own.scheme}://{own.netloc}":
        return None
    path = parts.path.rstrip("/")
    if path == own.path + PATH:
        return resource_of(public_url, None), None
    project = path.removeprefix(own.path + PROJECT_PATH)
    if project == path or not re.fullmatch(r"[a-z0-9-]{1,80}", project):
        return None
    return resource_of(public_url, project), project


def asks_to_write(scope: str | None) -> bool:
    """Whether a request asks for more than reading. One that names no scope of ours asks for all there is."""
    asked = set((scope or "").split()) & set(SCOPES)
    return not asked or WRITE in asked


def scope_of(*, writes: bool) -> str:
    """The scopes of a grant."""
    return f"{READ} {WRITE}" if writes else READ


def is_challenge(value: str | None) -> bool:
    """Whether a text can be an S256 challenge."""
    return value is not None and _CHALLENGE.fullmatch(value) is not None


def verifies(verifier: str, challenge: str) -> bool:
    """Whether the verifier is the challenge's (RFC 7636 §4.6)."""
    if not _VERIFIER.fullmatch(verifier):
        return False
    made = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    return hmac.compare_digest(made, challenge)


def challenge_header(metadata_url: str, *, error: str | None = None) -> str:
    """The `WWW-Authenticate` that leads a client to our metadata (RFC 9728 §5.1, RFC 6750 §3)."""
    parts: Sequence[str] = (
        *([f'error="{error}"'] if error else ()),
        f'resource_metadata="{metadata_url}"',
        f'scope="{" ".join(SCOPES)}"',
    )
    return "Bearer " + ", ".join(parts)
