"""Rules and queries for a project's settings: branding of its Hub, and which pages may embed it (rules W3, W6, O8)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.identity import audit
from mooring.identity.models import Project, ProjectSettingsRow
from mooring.identity.service import ProjectId, lock_project
from mooring.kit import clock
from mooring.kit.cache import Cache
from mooring.kit.db import Database, record_change
from mooring.settings import web_origin

LANGUAGES: Final = ("en", "de", "fr", "es", "pt", "ja")
LOGO_BYTES: Final = 100_000
ADVANCED_LOGS: Final = ("off", "errors", "all")
ADVANCED_LOGS_DAYS: Final = 7  # unless a project says otherwise
MOST_ADVANCED_LOGS_DAYS: Final = 90
MAX_ENTRIES: Final = 100
LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
SURFACES: Final = {"light": "#ffffff", "dark": "#1a2029"}
"""What an accent colour lies on in the Hub, by theme; `hub.css` uses the same values."""
MIN_CONTRAST: Final = 4.5  # WCAG 2.2, 1.4.3

_EMAIL = re.compile(r"[^\s@<>\"',;:()\[\]\\]{1,64}@[^\s@<>\"',;:()\[\]\\]{1,255}\.[^\s@.]{1,63}")
_COLOUR = re.compile(r"#[0-9a-f]{6}")
_MAGIC: Final = (
    ("image/png", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("image/jpeg", re.compile(rb"\xff\xd8\xff")),
    ("image/webp", re.compile(rb"RIFF.{4}WEBP", re.DOTALL)),
)


@dataclass(frozen=True, slots=True)
class ProjectSettings:
    """The settings of a project as everything else sees them. `logo_version` is null without a logo."""

    project_id: str
    name: str  # what end users read: the display name, else the project's own
    display_name: str | None = None
    logo_version: str | None = None
    accent_light: str | None = None
    accent_dark: str | None = None
    support_contact: str | None = None
    default_language: str | None = None
    allowed_origins: tuple[str, ...] = ()
    return_urls: tuple[str, ...] = ()
    offer_all_methods: bool = True
    advanced_logs: str = "off"
    advanced_logs_days: int = ADVANCED_LOGS_DAYS
    assistants: bool = False
    assistant_login_url: str | None = None


@dataclass(frozen=True, slots=True)
class Logo:
    """An uploaded logo."""

    content: bytes
    media_type: str


UNCHANGED: Final[Any] = object()


@dataclass(frozen=True, slots=True)
class SettingsChange:
    """What to change. Left out means no change, None goes back to the default."""

    display_name: str | None = UNCHANGED
    logo: bytes | None = UNCHANGED
    accent_light: str | None = UNCHANGED
    accent_dark: str | None = UNCHANGED
    support_contact: str | None = UNCHANGED
    default_language: str | None = UNCHANGED
    allowed_origins: Sequence[str] | None = UNCHANGED
    return_urls: Sequence[str] | None = UNCHANGED
    offer_all_methods: bool | None = UNCHANGED
    advanced_logs: str | None = UNCHANGED
    advanced_logs_days: int | None = UNCHANGED
    assistants: bool | None = UNCHANGED
    assistant_login_url: str | None = UNCHANGED


async def get(tx: AsyncSession, project: ProjectId) -> ProjectSettings:
    """The settings of a project; the defaults where nothing was set. Raises NotFound."""
    found = (
        await tx.execute(
            select(Project.name, ProjectSettingsRow)
            .outerjoin(ProjectSettingsRow, ProjectSettingsRow.project_id == Project.id)
            .where(Project.id == project)
        )
    ).first()
    if found is None:
        raise errors.NotFound("no such project")
    name, row = found
    if row is None:
        return ProjectSettings(project, name)
    return ProjectSettings(
        project_id=project,
        name=row.display_name or name,
        display_name=row.display_name,
        logo_version=hashlib.sha256(row.logo).hexdigest()[:16] if row.logo else None,
        accent_light=row.accent_light,
        accent_dark=row.accent_dark,
        support_contact=row.support_contact,
        default_language=row.default_language,
        allowed_origins=tuple(row.allowed_origins),
        return_urls=tuple(row.return_urls),
        offer_all_methods=row.offer_all_methods,
        advanced_logs=row.advanced_logs,
        advanced_logs_days=row.advanced_logs_days,
        assistants=row.assistants,
        assistant_login_url=row.assistant_login_url,
    )


async def logo(tx: AsyncSession, project: str) -> Logo:
    """The uploaded logo. Raises NotFound."""
    row = await tx.get(ProjectSettingsRow, project)
    if row is None or row.logo is None or row.logo_type is None:
        raise errors.NotFound("there is no such logo")
    return Logo(row.logo, row.logo_type)


async def change(tx: AsyncSession, project: ProjectId, new: SettingsChange) -> ProjectSettings:
    """Change the settings of a project. Raises ValidationFailed with one line per fault; then nothing is changed."""
    values = checked({f.name: getattr(new, f.name) for f in fields(new) if getattr(new, f.name) is not UNCHANGED})
    await lock_project(tx, project)
    row = await tx.get(ProjectSettingsRow, project)
    if row is None:
        row = ProjectSettingsRow(project_id=project, allowed_origins=[], return_urls=[], offer_all_methods=True)
        tx.add(row)
    for name, value in values.items():
        setattr(row, name, value)
    row.updated_at = clock.now()
    record_change(tx, "project", project)
    record_change(tx, "project_origins", "all")
    shown = {k: v for k, v in values.items() if k not in {"logo", "logo_type"}}
    detail = {"changed": sorted(values), **shown}
    audit.note(tx, "project.settings_changed", project_id=project, target=("project", project), detail=detail)
    await tx.flush()
    return await get(tx, project)


def checked(values: dict[str, Any]) -> dict[str, Any]:
    """New values as they are kept, None as its default. Raises ValidationFailed with one line per fault."""
    faults: list[str] = []

    def check(name: str, rule: Any) -> None:
        if values.get(name) is not None:
            try:
                values[name] = rule(values[name])
            except ValueError as e:
                faults.append(f"{name}: {e}")

    check("display_name", _name)
    check("accent_light", lambda v: accent(v, "light"))
    check("accent_dark", lambda v: accent(v, "dark"))
    check("support_contact", contact)
    check("default_language", _language)
    check("allowed_origins", lambda v: _entries(v, origin))
    check("return_urls", lambda v: _entries(v, return_url))
    check("advanced_logs", _advanced_logs)
    check("advanced_logs_days", _advanced_logs_days)
    check("assistant_login_url", return_url)
    if values.get("logo") is not None:
        try:
            values["logo_type"] = image_type(values["logo"])
        except ValueError as e:
            faults.append(f"logo: {e}")
    elif "logo" in values:
        values["logo_type"] = None
    if faults:
        raise errors.ValidationFailed("Validation failed", errors=faults)
    for name in ("allowed_origins", "return_urls"):
        if name in values and values[name] is None:
            values[name] = []
    if "offer_all_methods" in values and values["offer_all_methods"] is None:
        values["offer_all_methods"] = True
    defaults = {"advanced_logs": "off", "advanced_logs_days": ADVANCED_LOGS_DAYS, "assistants": False}
    values |= {name: default for name, default in defaults.items() if name in values and values[name] is None}
    return values


def _name(value: str) -> str | None:
    text = " ".join(value.split())
    if not text.isprintable() or len(text) > 120:
        raise ValueError("must be at most 120 printable characters")
    return text or None


def _language(value: str) -> str:
    if value not in LANGUAGES:
        raise ValueError(f"must be one of {', '.join(LANGUAGES)}")
    return value


def _advanced_logs(value: str) -> str:
    if value not in ADVANCED_LOGS:
        raise ValueError(f"must be one of {', '.join(ADVANCED_LOGS)}")
    return value


def _advanced_logs_days(value: int) -> int:
    if not 1 <= value <= MOST_ADVANCED_LOGS_DAYS:
        raise ValueError(f"must be from 1 to {MOST_ADVANCED_LOGS_DAYS}")
    return value


def _entries(values: Sequence[str], rule: Any) -> list[str]:
    if len(values) > MAX_ENTRIES:
        raise ValueError(f"at most {MAX_ENTRIES} entries")
    return list(dict.fromkeys(rule(value) for value in values))


def origin(value: str) -> str:
    """An exact origin as browsers write it: https, or http on this machine. Raises ValueError."""
    found = web_origin(value.strip().rstrip("/"))
    if found is None:
        raise ValueError(f"{value[:100]!r} is not an exact origin such as https://app.example.com")
    _require_secure(found)
    return found


def return_url(value: str) -> str:
    """An exact URL to which the OAuth flow may return. Raises ValueError."""
    value = value.strip()
    parts = urlsplit(value)
    plain = value.isascii() and value.isprintable() and " " not in value and "\\" not in value and len(value) <= 2000
    if not plain or web_origin(f"{parts.scheme}://{parts.netloc}") is None or parts.fragment or parts.query:
        raise ValueError(f"{value[:100]!r} is not a URL such as https://app.example.com/settings, without ? and #")
    _require_secure(value)
    return value


def _require_secure(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise ValueError(f"{url[:100]!r} must use https; http is for this machine (localhost) only")


def contact(value: str) -> str | None:
    """Where end users get help: an address for mail, or an https URL. Raises ValueError."""
    value = value.strip()
    if not value or _EMAIL.fullmatch(value):
        return value or None
    parts = urlsplit(value)
    plain = value.isprintable() and len(value) <= 500 and not re.search(r"[\s<>\"\\]", value)
    if plain and parts.scheme == "https" and web_origin(f"{parts.scheme}://{parts.netloc}"):
        return value
    raise ValueError("must be a mail address such as help@example.com, or an https URL")


def accent(value: str, theme: str) -> str:
    """A colour that can be read on the Hub's surface, and that the surface's colour can be read on. Raises ValueError."""
    colour = value.strip().lower()
    if re.fullmatch(r"#[0-9a-f]{3}", colour):
        colour = "#" + "".join(c * 2 for c in colour[1:])
    if not _COLOUR.fullmatch(colour):
        raise ValueError("must be a colour such as #1d5fd0")
    ratio = contrast(colour, SURFACES[theme])
    if ratio < MIN_CONTRAST:
        advice = "darker" if theme == "light" else "lighter"
        raise ValueError(
            f"{colour} has a contrast of {ratio:.1f}:1 to the {theme} background {SURFACES[theme]}; text needs at least "
            f"{MIN_CONTRAST}:1 (WCAG 2.2, 1.4.3). Take a {advice} one."
        )
    return colour


def contrast(one: str, other: str) -> float:
    """The contrast of two colours as WCAG 2.2 defines it, from 1 to 21."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def image_type(content: bytes) -> str:
    """The media type of an uploaded logo, told by its first bytes. Raises ValueError. SVG may hold script: refused."""
    if len(content) > LOGO_BYTES:
        raise ValueError(f"is larger than {LOGO_BYTES} bytes")
    for media_type, start in _MAGIC:
        if start.match(content):
            return media_type
    raise ValueError("must be a PNG, JPEG or WebP image")


class ProjectReader:
    """Settings of projects, cached per process and dropped as soon as they change."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.cache: Cache[str, Any] = Cache(1000)

    async def __call__(self, project: str) -> ProjectSettings:
        """The settings of a project. Raises NotFound."""

        async def load() -> tuple[ProjectSettings, tuple[str, ...]]:
            async with self._db.read() as tx:
                return await get(tx, ProjectId(project)), (f"project:{project}",)

        found: ProjectSettings = await self.cache.load(project, load)
        return found

    async def all_origins(self) -> tuple[frozenset[str], bool]:
        """Origins that any project registered, and whether some project registered none."""

        async def load() -> tuple[tuple[frozenset[str], bool], tuple[str, ...]]:
            async with self._db.read() as tx:
                rows = (
                    await tx.execute(
                        select(Project.id, ProjectSettingsRow.allowed_origins).outerjoin(
                            ProjectSettingsRow, ProjectSettingsRow.project_id == Project.id
                        )
                    )
                ).all()
            known = frozenset(o for row in rows for o in row[1] or ())
            return (known, any(not row[1] for row in rows)), ("project_origins:all",)

        found: tuple[frozenset[str], bool] = await self.cache.load("", load)
        return found
