"""A person's own sessions and profile over the API. Beside these, every route takes the token that POST /sessions gives."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from mooring import errors
from mooring.identity import second_factor, sessions, signing_in, users
from mooring.identity.person import Person, person_with
from mooring.identity.user_models import User, UserSession
from mooring.kit.body import EMAIL, Body

router = APIRouter(tags=["People"])

Anybody = Annotated[Person, Depends(person_with("user"))]
Confirmed = Annotated[Person, Depends(person_with("user", confirmed=True))]


class SignIn(Body):
    """What a person proves themselves with. `code` is the second factor's, or a recovery code."""

    model_config = ConfigDict(extra="forbid")

    email: str = Field(max_length=254)
    password: str = Field(max_length=1000)
    code: str | None = Field(None, max_length=40)


class Password(Body):
    """The person's password, once more."""

    model_config = ConfigDict(extra="forbid")

    password: str = Field(max_length=1000)


class SetUp(Body):
    """The first person, with the token of the link that the host printed. `project` is made if there is none yet."""

    model_config = ConfigDict(extra="forbid")

    token: str = Field(max_length=200)
    email: str = Field(max_length=254, json_schema_extra=EMAIL)
    name: str = Field(min_length=1, max_length=200)
    password: str = Field(max_length=1000)
    organization: str = Field("", max_length=200)
    project: str = Field("", max_length=200)


class Invitation(Body):
    """The token of an invitation's link, and the password that its person chooses."""

    model_config = ConfigDict(extra="forbid")

    token: str = Field(max_length=200)
    password: str = Field(max_length=1000)
    name: str | None = Field(None, max_length=200)


class PasswordChange(Body):
    """The password as it is, and as it shall be."""

    model_config = ConfigDict(extra="forbid")

    old: str = Field(max_length=1000)
    new: str = Field(max_length=1000)


class Code(Body):
    """A code of the authenticator app."""

    model_config = ConfigDict(extra="forbid")

    code: str = Field(max_length=40)


class MePatch(Body):
    """A change of one's own profile; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(None, max_length=200)
    language: str | None = Field(None, pattern="^[a-z]{2}$", description="Of the dashboard; null is the browser's.")


class SessionOut(BaseModel):
    """A session of the person, in a browser or of a token. `current` is the one that asks."""

    id: str
    address: str | None
    agent: str | None
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    current: bool


class SessionList(BaseModel):
    """The person's live sessions, the latest first."""

    data: list[SessionOut]


class SessionMade(SessionOut):
    """A new session with its token, shown this once. It ends after 12 hours without use."""

    token: str


class Me(BaseModel):
    """The person who asks: roles by organization and by project, as they stand now."""

    id: str
    email: str
    name: str
    language: str | None
    second_factor: bool
    organizations: dict[str, str]
    projects: dict[str, str]


class SecondFactor(BaseModel):
    """A secret for an authenticator app, not in force before a code confirms it."""

    secret: str
    link: str


class RecoveryCodes(BaseModel):
    """Codes that serve once each when the app is lost, shown this once."""

    recovery_codes: list[str]


def _session(row: UserSession, current: str) -> dict[str, object]:
    names = [name for name in SessionOut.model_fields if name != "current"]
    return {**{name: getattr(row, name) for name in names}, "current": row.id == current}


def _me(person: Person, user: User) -> Me:
    rights = person.signed_in.rights
    return Me(
        id=user.id,
        email=user.email,
        name=user.name,
        language=user.language,
        second_factor=user.totp_at is not None,
        organizations={str(id): role for id, role in rights.organizations.items()},
        projects=dict(rights.projects),
    )


@router.post("/sessions", status_code=201)
async def create_session(request: Request, body: SignIn) -> SessionMade:
    """Sign in. The token goes as a Bearer token with every call for people."""
    context = request.app.state.context
    code = body.code or ""
    user = await signing_in.by_password(context.db, context.vault, body.email, body.password, code, _address(request))
    if user is None:
        raise errors.Unauthorized(
            "the second factor is on", code="SecondFactorRequiredError", hint="Send its code as well, as `code`."
        )
    return await _begin(request, user, "API")


@router.post("/set_up", status_code=201)
async def set_up(request: Request, body: SetUp) -> SessionMade:
    """Make the first person of this installation, admin of every organization, and sign them in. Spends the token."""
    user = await users.set_up(
        request.app.state.context.db,
        token=body.token,
        email=body.email,
        name=body.name,
        password=body.password,
        organization=body.organization,
        project=body.project,
    )
    return await _begin(request, user, "set-up")


@router.post("/welcome", status_code=201)
async def welcome(request: Request, body: Invitation) -> SessionMade:
    """Take the password of an invited person and sign them in. Spends the token; every other session of theirs ends."""
    user = await users.choose_password(request.app.state.context.db, body.token, body.password, body.name)
    return await _begin(request, user, "invitation")


def _address(request: Request) -> str | None:
    return request.client.host if request.client else None


async def _begin(request: Request, user: User, how: str) -> SessionMade:
    agent = request.headers.get("user-agent")
    db = request.app.state.context.db
    row, token = await signing_in.start(db, user, address=_address(request), agent=agent, how=how)
    return SessionMade.model_validate({**_session(row, row.id), "token": token})


@router.get("/sessions")
async def list_sessions(request: Request, person: Anybody) -> SessionList:
    """The person's own live sessions."""
    async with request.app.state.context.db.read() as tx:
        rows = await sessions.search(tx, person.signed_in.user.id)
    current = person.signed_in.session.id
    return SessionList(data=[SessionOut.model_validate(_session(row, current)) for row in rows])


@router.post("/sessions/current/confirm", status_code=204)
async def confirm_session(request: Request, person: Anybody, body: Password) -> None:
    """Prove again who one is; what is grave asks for it half an hour later."""
    await signing_in.confirm(request.app.state.context.db, person.signed_in, body.password, person.address)


@router.delete("/sessions/{id}", status_code=204)
async def end_session(request: Request, person: Anybody, id: str) -> None:
    """End one of the person's own sessions; `current` ends this one."""
    mine = person.signed_in
    async with request.app.state.context.db.begin() as tx:
        await sessions.end(tx, mine.user.id, mine.session.id if id == "current" else id)


@router.get("/me")
async def get_me(person: Anybody) -> Me:
    """Who asks, and what they may do."""
    return _me(person, person.signed_in.user)


@router.patch("/me")
async def patch_me(request: Request, person: Anybody, body: MePatch) -> Me:
    """Change one's own name and language."""
    async with request.app.state.context.db.begin() as tx:
        user = await tx.get_one(User, person.signed_in.user.id)
        if body.name is not None:
            user.name = users.clean_name(body.name)
        if "language" in body.model_fields_set:
            user.language = body.language
    return _me(person, user)


@router.post("/me/password", status_code=204)
async def change_password(request: Request, person: Anybody, body: PasswordChange) -> None:
    """Change one's own password; every other session ends."""
    await users.change_password(request.app.state.context.db, person.signed_in, body.old, body.new)


@router.post("/me/second_factor")
async def enroll_second_factor(request: Request, person: Confirmed) -> SecondFactor:
    """Make a secret for an authenticator app; a code from it puts the second factor in force."""
    context = request.app.state.context
    async with context.db.begin() as tx:
        user = await tx.get_one(User, person.signed_in.user.id)
        secret = await second_factor.enroll(tx, context.vault, user)
    return SecondFactor(secret=secret, link=second_factor.link(user, secret))


@router.post("/me/second_factor/confirm")
async def confirm_second_factor(request: Request, person: Confirmed, body: Code) -> RecoveryCodes:
    """Put the second factor in force; every other session ends."""
    context, mine = request.app.state.context, person.signed_in
    async with context.db.begin() as tx:
        user = await tx.get_one(User, mine.user.id, with_for_update=True)
        codes = await second_factor.confirm(tx, context.vault, user, body.code)
        await sessions.end_all(tx, user.id, but=mine.session.id)
    return RecoveryCodes(recovery_codes=codes)


@router.delete("/me/second_factor", status_code=204)
async def turn_off_second_factor(request: Request, person: Confirmed) -> None:
    """Take one's own second factor away."""
    async with request.app.state.context.db.begin() as tx:
        await second_factor.turn_off(tx, await tx.get_one(User, person.signed_in.user.id))
