"""What a page handler works with: the request, who looks, the project, the language."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import Response

from mooring import errors
from mooring.accounts.context import Context
from mooring.dashboard import locale
from mooring.identity.models import Organization, Project
from mooring.identity.roles import Need
from mooring.identity.service import ProjectId
from mooring.identity.sessions import SignedIn
from mooring.kit import clock

NOTE_COOKIE = "mooring-note"
THEME_COOKIE = "mooring-theme"


class Form:
    """What a form sent. A field that is missing is an empty text."""

    def __init__(self, body: bytes) -> None:
        try:
            pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=500)
        except ValueError:
            raise errors.BadRequest("the form can't be read") from None
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    def get(self, name: str) -> str:
        """The trimmed value of a field."""
        return self._values.get(name, [""])[-1].strip()

    def raw(self, name: str) -> str:
        """The value of a field as it was typed: a password may begin with a space."""
        return self._values.get(name, [""])[-1]

    def all(self, name: str) -> list[str]:
        """All values of a field."""
        return self._values.get(name, [])

    def flag(self, name: str) -> bool:
        """Whether a box was ticked."""
        return self.get(name) in {"on", "true", "yes", "1"}

    def prefixed(self, prefix: str) -> dict[str, str]:
        """The fields of a group, without its prefix."""
        return {n.removeprefix(prefix): v[-1] for n, v in self._values.items() if n.startswith(prefix)}


@dataclass(slots=True)
class View:
    """One look at one page."""

    request: Request
    context: Context
    signed_in: SignedIn | None = None
    place: Project | None = None
    organization: Organization | None = None
    projects: list[tuple[Project, Organization]] = field(default_factory=list)
    language: str = "en"
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(16))

    @property
    def me(self) -> SignedIn:
        """Who is signed in; the route's need has made sure that somebody is."""
        if self.signed_in is None:
            raise errors.Unauthorized("nobody is signed in")
        return self.signed_in

    @property
    def project(self) -> Project:
        """The project of the page; the route's need has made sure that the person may see it."""
        if self.place is None:
            raise errors.NotFound("no such project")
        return self.place

    @property
    def project_id(self) -> ProjectId:
        """The project's id, proven by the person's role in it."""
        return ProjectId(self.project.id)

    @property
    def base(self) -> str:
        """The path under which the project's pages lie."""
        return f"/dashboard/p/{self.project.id}"

    @property
    def address(self) -> str | None:
        """Where the request comes from."""
        return self.request.client.host if self.request.client else None

    def may(self, need: Need) -> bool:
        """Whether the person may do in this project what needs `need`; for what is shown, never instead of the check."""
        if self.signed_in is None:
            return False
        if self.place is None:
            return self.signed_in.rights.owns_any if need == "owner" else need in {"public", "user"}
        return self.signed_in.rights.may(need, self.place.id, self.place.organization_id)

    def t(self, text: str, **values: object) -> str:
        """A text in the language of the person."""
        return locale.translate(self.language, text, values)

    def path(self, name: str) -> str:
        """A parameter of the path."""
        return str(self.request.path_params[name])

    def query(self, name: str) -> str:
        """A parameter of the query, trimmed; empty when it is missing."""
        return (self.request.query_params.get(name) or "").strip()[:500]

    def query_all(self, name: str) -> list[str]:
        """All values of a parameter that are not empty."""
        return [value for value in self.request.query_params.getlist(name) if value]

    def with_query(self, **changes: str | None) -> str:
        """This page's address with some parameters changed; None takes one away."""
        kept = [(k, v) for k, v in self.request.query_params.multi_items() if k not in changes and v]
        kept += [(k, v) for k, v in changes.items() if v is not None]
        return self.request.url.path + (f"?{urlencode(kept)}" if kept else "")

    def moment(self, name: str) -> datetime | None:
        """A time of the query in the form that browsers send (UTC), or None. Raises BadRequest."""
        text = self.query(name)
        if not text:
            return None
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            raise errors.BadRequest(f"{name} is no time") from None
        return found if found.tzinfo else found.replace(tzinfo=clock.now().tzinfo)

    async def form(self) -> Form:
        """The form that was sent."""
        return Form(await self.request.body())

    @property
    def secure(self) -> bool:
        """Whether browsers reach us over https."""
        return self.context.public_url.startswith("https://")

    def go(self, url: str, note: str | None = None) -> Response:
        """Send the browser to another page after a form, with a word about what was done."""
        response = Response(status_code=204, headers={"hx-redirect": url})
        if note:
            response.set_cookie(
                NOTE_COOKIE, note, max_age=20, path="/", httponly=True, samesite="lax", secure=self.secure
            )
        return response

    def values(self) -> Mapping[str, Any]:
        """What every template sees."""
        return {
            "view": self,
            "t": self.t,
            "may": self.may,
            "language": self.language,
            "nonce": self.nonce,
            "now": clock.now(),
        }
