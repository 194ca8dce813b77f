"""The project's settings over the API, and its logo."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from mooring import errors
from mooring.identity import project_settings as rules
from mooring.identity.api import caller_with
from mooring.identity.project_settings import (
    ADVANCED_LOGS,
    LANGUAGES,
    MOST_ADVANCED_LOGS_DAYS,
    ProjectSettings,
    SettingsChange,
)
from mooring.identity.service import Caller
from mooring.kit.body import Body, Flag, Whole, one_of

router = APIRouter(tags=["Project"])

Reader = Annotated[Caller, Depends(caller_with("platform:read"))]
Writer = Annotated[Caller, Depends(caller_with("project:write"))]


class ProjectOut(BaseModel):
    """A project's settings. `name` is what end users read."""

    id: str
    name: str
    display_name: str | None
    logo_url: str | None
    accent_light: str | None
    accent_dark: str | None
    support_contact: str | None
    default_language: str | None
    allowed_origins: list[str]
    return_urls: list[str]
    offer_all_methods: bool
    advanced_logs: str
    advanced_logs_days: int
    assistants: bool
    assistant_login_url: str | None


_COLOUR: dict[str, Any] = {"pattern": "^#([0-9A-Fa-f]{3}|[0-9A-Fa-f]{6})$"}


class ProjectPatch(Body):
    """A change of the settings. What is left out stays; null goes back to the default."""

    model_config = ConfigDict(extra="forbid")

    display_name: str | None = Field(None, max_length=200)
    logo: str | None = Field(None, max_length=140_000, description="PNG, JPEG or WebP, at most 100 kB, as base64.")
    accent_light: str | None = Field(None, max_length=10, json_schema_extra=_COLOUR)
    accent_dark: str | None = Field(None, max_length=10, json_schema_extra=_COLOUR)
    support_contact: str | None = Field(None, max_length=500, description="A mail address or an https URL.")
    default_language: str | None = Field(None, max_length=5, json_schema_extra=one_of(*LANGUAGES))
    allowed_origins: list[str] | None = Field(None, description="Exact origins of the pages that embed the Hub.")
    return_urls: list[str] | None = Field(None, description="Exact URLs to which OAuth may return, beside the origins.")
    offer_all_methods: Flag | None = Field(
        None, description="Whether the Hub offers every enabled method of a connector, or its default alone."
    )
    advanced_logs: str | None = Field(
        None,
        max_length=10,
        json_schema_extra=one_of(*ADVANCED_LOGS),
        description="Keep headers and bodies of calls, redacted and sealed: off, errors (status 400 and up) or all.",
    )
    advanced_logs_days: Whole | None = Field(
        None,
        json_schema_extra={"minimum": 1, "maximum": MOST_ADVANCED_LOGS_DAYS},
        description="For how many days, 1 to 90.",
    )
    assistants: Flag | None = Field(
        None,
        description="Whether end users may let assistants work with their accounts, over OAuth at /mcp; off by default.",
    )
    assistant_login_url: str | None = Field(
        None, max_length=2000, description="The page of your product that signs its user in for an assistant."
    )


def logo_url(public_url: str, settings: ProjectSettings) -> str | None:
    """Where the project's logo is served, or None without one."""
    if settings.logo_version is None:
        return None
    return f"{public_url}/project-logos/{settings.project_id}?v={settings.logo_version}"


def _out(request: Request, settings: ProjectSettings) -> ProjectOut:
    return ProjectOut(
        id=settings.project_id,
        name=settings.name,
        display_name=settings.display_name,
        logo_url=logo_url(request.app.state.context.public_url, settings),
        accent_light=settings.accent_light,
        accent_dark=settings.accent_dark,
        support_contact=settings.support_contact,
        default_language=settings.default_language,
        allowed_origins=list(settings.allowed_origins),
        return_urls=list(settings.return_urls),
        offer_all_methods=settings.offer_all_methods,
        advanced_logs=settings.advanced_logs,
        advanced_logs_days=settings.advanced_logs_days,
        assistants=settings.assistants,
        assistant_login_url=settings.assistant_login_url,
    )


@router.get("/project")
async def get_project(request: Request, caller: Reader) -> ProjectOut:
    """The settings of the key's project."""
    async with request.app.state.context.db.read() as tx:
        return _out(request, await rules.get(tx, caller.project_id))


@router.patch("/project")
async def patch_project(request: Request, caller: Writer, body: ProjectPatch) -> ProjectOut:
    """Change branding, allowed origins and return URLs; every process notices within a second."""
    values: dict[str, Any] = {name: getattr(body, name) for name in body.model_fields_set}
    if values.get("logo") is not None:
        values["logo"] = _decoded(values["logo"])
    async with request.app.state.context.db.begin() as tx:
        return _out(request, await rules.change(tx, caller.project_id, SettingsChange(**values)))


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise errors.ValidationFailed("Validation failed", errors=["logo: must be base64"]) from None


@router.get("/project-logos/{project_id}", include_in_schema=False)
async def project_logo(request: Request, project_id: str) -> Response:
    """The uploaded logo of a project."""
    async with request.app.state.context.db.read() as tx:
        found = await rules.logo(tx, project_id)
    headers = {
        "cache-control": "public, max-age=31536000, immutable"
        if "v" in request.query_params
        else "public, max-age=300",
        "content-security-policy": "default-src 'none'; sandbox",
        "cross-origin-resource-policy": "cross-origin",
    }
    return Response(found.content, media_type=found.media_type, headers=headers)
