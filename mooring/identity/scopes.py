"""The scopes of an API key (contract §1)."""

from __future__ import annotations

from typing import Final

SCOPES: Final[dict[str, str]] = {
    "platform:read": "Read accounts, sessions, the project's settings, connectors' metadata and logs.",
    "platform:write": "Create connect sessions; change and delete accounts.",
    "project:write": "Change the project's settings: branding, allowed origins, return URLs.",
    "connectors:read": "Read auth configs.",
    "connectors:write": "Create, change and delete auth configs.",
    "credentials:read": "See which credentials an account holds (values stay masked).",
    "unified:read": "Call providers through the proxy with GET, HEAD and OPTIONS.",
    "unified:write": "Call providers through the proxy with any other method.",
    "actions:execute": "Run actions.",
    "keys:write": "List, create, disable and delete API keys; a made key has no scope that its maker lacks.",
    "audit:read": "Read the audit log.",
    "owners:write": "Export and erase everything that is stored of an owner.",
}
"""Scope → what it permits."""

_NAMED: Final = frozenset({"credentials:read", "keys:write", "audit:read", "owners:write"})

DEFAULT: Final[tuple[str, ...]] = tuple(s for s in SCOPES if s not in _NAMED)
"""What a made key gets unless told otherwise: all but what must be asked for by name (contract §1)."""
