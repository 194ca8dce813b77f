"""Mooring: the open, self-hosted integration hub, and the Python client of one.

`from mooring import Mooring` is the client; it is read when it is asked for, so the server does not carry it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mooring.client import AsyncMooring, HubError, HubUnreachable, Mooring, verify_webhook

__version__ = "0.1.0"
__all__ = ["AsyncMooring", "HubError", "HubUnreachable", "Mooring", "__version__", "verify_webhook"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from mooring import client

        return getattr(client, name)
    raise AttributeError(f"module 'mooring' has no attribute {name!r}")
