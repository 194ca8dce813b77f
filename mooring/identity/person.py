"""The person as a dependency of API routes: a session's token, the role that the route needs, the place of its path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from fastapi import Request

from mooring import errors
from mooring.identity import audit, projects, sessions
from mooring.identity.models import Project
from mooring.identity.roles import Need
from mooring.identity.sessions import SignedIn

_HINT = "Send the token of a session as a Bearer token; POST /sessions gives one. API keys do not work here."


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks, from where, and about what: the project or the organization that the path names."""

    signed_in: SignedIn
    address: str | None
    place: Project | None = None
    organization_id: int = 0

    @property
    def project(self) -> Project:
        """The project of the path; the route's need has made sure that the person may."""
        if self.place is None:
            raise errors.NotFound("no such project")
        return self.place


def person_with(
    need: Need, *, confirmed: bool = False, deleted: bool = False
) -> Callable[[Request], Awaitable[Person]]:
    """A dependency that yields the person, or refuses as the dashboard's page of the same need does.

    `confirmed` asks for a proof of a short while ago (rule A8); `deleted` takes projects in their days of grace too.
    """

    async def dependency(request: Request) -> Person:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        address = request.client.host if request.client else None
        async with request.app.state.context.db.read() as tx:
            signed_in = await sessions.find(tx, token.strip()) if kind.lower() == "bearer" else None
            if signed_in is None:
                raise errors.Unauthorized("nobody is signed in by this token", hint=_HINT)
            person = Person(signed_in, address)
            if "project" in request.path_params:
                known = await projects.visible(tx, signed_in.rights)
                place, _ = projects.admit(
                    known, signed_in.rights, need, request.path_params["project"], deleted=deleted
                )
                person = replace(person, place=place)
        if "organization" in request.path_params:
            person = replace(person, organization_id=owned(signed_in, request.path_params["organization"]))
        elif need == "owner" and person.place is None and not signed_in.rights.owns_any:
            raise errors.Forbidden("this is for admins of the organization")
        if sessions.is_due(signed_in.session):
            async with request.app.state.context.db.begin() as tx:
                await sessions.seen(tx, signed_in.session.id)
        audit.act_as(replace(signed_in.actor, address=address))
        if confirmed and not signed_in.is_confirmed:
            raise errors.Forbidden(
                "this needs your password again: it was entered too long ago",
                code="ConfirmationRequiredError",
                hint="Send it to POST /sessions/current/confirm, then repeat the request.",
            )
        return person

    return dependency


def owned(signed_in: SignedIn, organization: object) -> int:
    """The number of an organization of which the person is an admin. Raises NotFound for any other."""
    text = str(organization)
    id = int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0
    if not signed_in.rights.owns(id):
        raise errors.NotFound("no such organization")
    return id
