"""Refusals of the OAuth endpoints: not our error body, but what RFC 6749 §5.2 and its relatives prescribe."""

from __future__ import annotations

from typing import Final

GONE: Final = "the token is unknown, over, or was revoked"


class OAuthRefusal(Exception):
    """A refusal that the program reads: `error` is a word of the specification. Neither text may hold a secret."""

    def __init__(
        self, error: str, description: str, *, status: int = 400, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status
        self.headers = headers or {}

    def body(self) -> dict[str, str]:
        """The JSON of RFC 6749 §5.2."""
        return {"error": self.error, "error_description": self.description}


def invalid_grant(description: str = GONE) -> OAuthRefusal:
    """The code or refresh token is no good."""
    return OAuthRefusal("invalid_grant", description)
