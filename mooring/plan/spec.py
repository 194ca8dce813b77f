"""The format of `hub.yaml`. `docs/plan.md` explains it to operators.

A key that is left out is not looked at; null means "as if nobody had set it".
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from mooring.connectors.spec_types import PlainText, Spec, exactly_one

TAGS = ("[text]", "[reference]")
"""What Pydantic puts into the place of a fault beside the keys of the file."""


class Reference(Spec):
    """Where a value stands that must not stand here: an environment variable, or a file beside this one."""

    env: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,199}$")
    file: str | None = Field(None, min_length=1, max_length=1000)

    @model_validator(mode="after")
    def _one(self) -> Self:
        exactly_one("a reference", {name for name in ("env", "file") if getattr(self, name)}, ("env", "file"))
        return self


def _kind(value: Any) -> str:
    return TAGS[1] if isinstance(value, dict | Reference) else TAGS[0]


Value = Annotated[
    Annotated[PlainText, Tag(TAGS[0])] | Annotated[Reference, Tag(TAGS[1])],
    Discriminator(_kind),
]
"""A value, or where it stands."""

Name = Annotated[str, Field(min_length=1, max_length=200)]


class FileReference(Spec):
    """A file beside this one."""

    file: str = Field(min_length=1, max_length=1000)


class SettingsSpec(Spec):
    """What end users see of a project, and which pages may embed its Hub: as in `PATCH /project`."""

    display_name: str | None = None
    logo: FileReference | None = None
    accent_light: str | None = None
    accent_dark: str | None = None
    support_contact: str | None = None
    default_language: str | None = None
    allowed_origins: list[str] | None = None
    return_urls: list[str] | None = None
    offer_all_methods: bool | None = None
    advanced_logs: str | None = None
    advanced_logs_days: int | None = None
    assistants: bool | None = None
    assistant_login_url: str | None = None


class AuthConfigSpec(Spec):
    """A set-up of one auth method of a connector. Connector, method and name together tell which one."""

    connector: str = Field(min_length=1, max_length=80)
    method: str = Field(min_length=1, max_length=80)
    name: Name
    was: Name | None = None
    id: str | None = Field(None, max_length=40)
    environment: str | None = Field(None, min_length=1, max_length=40)
    pin: str | None = Field(None, max_length=40)
    active: bool | None = None
    default: bool | None = None
    scopes: list[str] | None = None
    setup: dict[str, Value | None] = Field(default_factory=dict)


class WebhookSpec(Spec):
    """An endpoint that events are sent to. Its URL tells which one."""

    url: Value
    was: Value | None = None
    id: str | None = Field(None, max_length=40)
    description: str | None = Field(None, max_length=500)
    events: list[str] | None = None
    enabled: bool | None = None
    secrets: list[Reference] | None = Field(None, min_length=1)


class ProjectSpec(Spec):
    """A project. Its name tells which one of the organization."""

    name: Name
    was: Name | None = None
    id: str | None = Field(None, max_length=80)
    log_days: int | None = None
    ip_allowlist: list[str] | None = None
    settings: SettingsSpec | None = None
    unavailable: dict[str, str] | None = None
    auth_configs: list[AuthConfigSpec] | None = None
    webhooks: list[WebhookSpec] | None = None


class OrganizationSpec(Spec):
    """An organization. Its name tells which one."""

    name: Name
    projects: list[ProjectSpec] | None = None


class OwnConnectorSpec(Spec):
    """A connector that must be in `MOORING_CONNECTORS_DIR`. It is checked and never written."""

    key: str = Field(min_length=1, max_length=80)
    version: str | None = Field(None, max_length=40)
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")


class HubSpec(Spec):
    """What an operator sets up on a hub."""

    version: Literal[1]
    organizations: list[OrganizationSpec] = Field(default_factory=list)
    connectors: list[OwnConnectorSpec] = Field(default_factory=list)
