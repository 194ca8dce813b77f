"""What the client returns. Fields that this version does not know yet are kept, so a newer hub breaks nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class _Answer(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class Account(_Answer):
    """A linked account."""

    id: str
    provider: str
    provider_name: str | None = None
    status: str
    status_reasons: list[dict[str, Any]] | None = None
    origin_owner_id: str
    origin_owner_name: str
    origin_username: str | None = None
    label: str | None = None
    metadata: dict[str, Any] | None = None
    integration_id: str | None = None
    authentication_config_key: str | None = None
    environment: str | None = None
    granted_scopes: list[str] | None = None
    missing_scopes: list[str] | None = None
    expected_failure_at: datetime | None = None
    expected_failure_reason: str | None = None
    created_at: datetime
    updated_at: datetime


class AuthConfig(_Answer):
    """A set-up of one auth method of a connector. Secrets never come back."""

    id: str
    name: str
    connector_key: str
    connector_label: str
    connector_version: str | None = None
    connector_pinned_version: str | None = None
    authentication_config_key: str | None = None
    environment: str | None = None
    active: bool
    default: bool
    setup: dict[str, Any] = Field(default_factory=dict)
    secrets_set: bool
    callback_url: str | None = None
    created_at: datetime
    updated_at: datetime


class ConnectSession(_Answer):
    """A session of the Hub for one owner: give `token` to the Hub in your page, or send `auth_link_url` to the person."""

    id: int | str
    origin_owner_id: str
    origin_owner_name: str
    token: str = Field(repr=False)
    auth_link_url: str | None = Field(default=None, repr=False)
    provider: str | None = None
    account_id: str | None = None
    expires_at: datetime | None = None
    created_at: datetime


class FoundAction(_Answer):
    """A hit of the search."""

    id: str
    connector_key: str | None = None
    action_name: str | None = None
    description: str | None = None
    similarity_score: float | None = None


class ActionResult(_Answer):
    """What an action gave. `next` is the next page's, None at the end; `content` holds the bytes where it gave a file."""

    data: Any = None
    next: str | None = None
    content: bytes | None = Field(default=None, repr=False)
    content_type: str | None = None

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """The records of this page."""
        return iter(self.data if isinstance(self.data, list) else [] if self.data is None else [self.data])


class Tool(_Answer):
    """An action as a model may call it. `parameters` is a JSON Schema."""

    name: str
    description: str
    parameters: dict[str, Any]
    effects: list[str] = Field(default_factory=list)

    def as_openai(self) -> dict[str, Any]:
        """For `tools` of OpenAI's chat completions."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}

    def as_anthropic(self) -> dict[str, Any]:
        """For `tools` of Anthropic's messages."""
        return {"name": self.name, "description": self.description, "input_schema": self.parameters}

    def as_langchain(self) -> dict[str, Any]:
        """The arguments of `StructuredTool`, but for `func`, which is `account.actions.call` with this tool's name."""
        return {"name": self.name, "description": self.description, "args_schema": self.parameters}
