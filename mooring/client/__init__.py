"""The Python client of a running hub. It needs httpx and Pydantic, and nothing of the server.

>>> with Mooring("https://hub.example.com", "mk_…") as hub:
...     session = hub.connect_sessions.create("acme", "Acme Inc.")
...     people = hub.account(account_id).actions.list_employees()
"""

from mooring.client.async_client import AsyncMooring
from mooring.client.failures import HubError, HubUnreachable
from mooring.client.models import (
    Account,
    ActionResult,
    AuthConfig,
    ConnectSession,
    FoundAction,
    Tool,
)
from mooring.client.sync_client import Mooring
from mooring.client.webhooks import BadSignature, verify_webhook

__all__ = [
    "Account",
    "ActionResult",
    "AsyncMooring",
    "AuthConfig",
    "BadSignature",
    "ConnectSession",
    "FoundAction",
    "HubError",
    "HubUnreachable",
    "Mooring",
    "Tool",
    "verify_webhook",
]
