"""People of a hub's dashboard: set up, invited with a role, signed in, with a client each."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from html import unescape
from urllib.parse import parse_qs, urlsplit

import httpx

from mooring.identity import service, sessions, users
from mooring.identity.user_models import OrganizationMember
from tests.flows.linking import on_database
from tests.hub import Hub, client

PASSWORD = "correct horse battery staple"


@dataclass
class Person:
    """A person with a browser of their own, so to speak."""

    hub: Hub
    email: str
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = client(self.hub.url, follow_redirects=False)

    @property
    def headers(self) -> dict[str, str]:
        """What the dashboard's pages send with a form."""
        return {"hx-request": "true", "origin": self.hub.url, "sec-fetch-site": "same-origin"}

    def get(self, path: str, **more: object) -> httpx.Response:
        return self.http.get(path, **more)  # type: ignore[arg-type]

    def part(self, path: str) -> httpx.Response:
        """What htmx would put into the page."""
        return self.http.get(path, headers=self.headers)

    def post(self, path: str, data: object = None, **headers: str) -> httpx.Response:
        return self.http.post(path, data=data or {}, headers={**self.headers, **headers})  # type: ignore[arg-type]

    def sign_in(self, password: str = PASSWORD, **more: str) -> httpx.Response:
        return self.post("/dashboard/sign-in", {"email": self.email, "password": password, **more})

    def signed_in(self) -> Person:
        """This person with a session. Raises AssertionError."""
        answer = self.sign_in()
        assert answer.status_code == 204, answer.text
        return self


def done(answer: httpx.Response, to: str | None = None) -> str:
    """Where a form led after it worked."""
    assert answer.status_code == 204, f"{answer.status_code}: {text(answer)[:500]}"
    assert to is None or answer.headers["hx-redirect"] == to, answer.headers["hx-redirect"]
    return str(answer.headers["hx-redirect"])


def text(answer: httpx.Response) -> str:
    """The words of a page."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())


def token_of(link: str) -> str:
    """The token of a link."""
    return parse_qs(urlsplit(link).query)["token"][0]


def shown_secret(answer: httpx.Response) -> str:
    """What a dialog shows this once."""
    found = re.search(r'<code id="(?:made|link)">([^<]+)</code>', answer.text)
    assert found, answer.text
    return unescape(found[1])


def set_up(hub: Hub, email: str = "owner@example.com") -> Person:
    """The first person of a hub, by the link that the host prints."""
    link = hub.command("setup-link").stdout.strip()
    person = Person(hub, email)
    answer = person.post(
        "/dashboard/set-up",
        {
            "token": token_of(link),
            "email": email,
            "name": "Olive Owner",
            "password": PASSWORD,
            "organization": "Harbour Ltd",
            "project": "Production",
        },
    )
    done(answer, "/dashboard")
    return person


@dataclass(frozen=True)
class Crew:
    """A project with somebody of every role, all signed in."""

    hub: Hub
    project: str
    organization: int
    owner: Person
    admin: Person
    member: Person
    viewer: Person
    stranger: Person

    @property
    def base(self) -> str:
        return f"/dashboard/p/{self.project}"

    @property
    def everybody(self) -> dict[str, Person]:
        return {n: getattr(self, n) for n in ("owner", "admin", "member", "viewer", "stranger")}


def recruit(hub: Hub, name: str = "crew") -> Crew:
    """A new organization and project with five people."""
    hash = _hash()

    async def make(tx: object) -> tuple[str, int, dict[str, tuple[str, str]]]:
        organization = await service.create_organization(tx, f"{name}-{_random()}")  # type: ignore[arg-type]
        project = await service.create_project(tx, organization.id, name)  # type: ignore[arg-type]
        emails = {}
        for role in ("owner", "admin", "member", "viewer", "stranger"):
            email = f"{role}-{_random()}@example.com"
            user = await users.create(tx, email, f"{role.title()} of {name}", hash=hash)  # type: ignore[arg-type]
            emails[role] = email, (await sessions.begin(tx, user, None, "tests"))[1]  # type: ignore[arg-type]
            if role == "stranger":
                continue
            kind = "admin" if role == "owner" else "basic"
            tx.add(OrganizationMember(organization_id=organization.id, user_id=user.id, role=kind))  # type: ignore[attr-defined]
            await tx.flush()  # type: ignore[attr-defined]
            if role != "owner":
                await users.set_project_role(tx, project, user.id, role)  # type: ignore[arg-type]
        return project.id, organization.id, emails

    project, organization, emails = on_database(hub, make)
    made = {role: Person(hub, email) for role, (email, _) in emails.items()}
    for role, (_, token) in emails.items():  # signed in without Argon2's tenth of a second each
        made[role].http.cookies.set("mooring-session", token, domain="127.0.0.1")
    return Crew(hub, project, organization, **made)


@lru_cache(maxsize=1)
def _hash() -> str:
    from mooring.identity.passwords import _hasher

    return _hasher().hash(PASSWORD)


def _random() -> str:
    import secrets

    return secrets.token_hex(4)
