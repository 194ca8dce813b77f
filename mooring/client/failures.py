"""What a call to the hub can end with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class HubError(Exception):
    """The hub refused, or a provider behind it did.

    `status` is the HTTP status, `code` the stable code (docs/errors.md), `hint` what to do, `cause` the cause of the
    connection doctor where there is one, `errors` every single fault, `provider_errors` what the provider said, and
    `request_id` the id to look up in the log.
    """

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        self.status = status
        self.message = str(body.get("message") or f"the hub answered {status}")
        self.code = str(body.get("errorCode") or "UnknownError")
        self.hint = body.get("hint")
        self.cause = body.get("cause")
        self.errors = list(body.get("errors") or ())
        self.provider_errors = list(body.get("provider_errors") or ())
        self.request_id = body.get("requestId")
        text = f"{status} {self.code}: {self.message}"
        details = "; ".join(str(error) for error in self.errors)
        super().__init__(f"{text} ({details})" if details else text)


class HubUnreachable(Exception):
    """No answer came from the hub. `__cause__` is what httpx says."""
