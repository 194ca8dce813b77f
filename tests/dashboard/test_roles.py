"""Every route of the dashboard against every role, from the router itself: who may, may; nobody else does."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from mooring.dashboard import app
from mooring.dashboard.routing import ROUTES, Route
from tests.dashboard.people import Crew, Person

ROLES = ("owner", "admin", "member", "viewer", "stranger", "nobody")
PUBLIC = {
    "/",
    "/dashboard/sign-in",
    "/dashboard/set-up",
    "/dashboard/welcome",
    "/dashboard/sso",
    "/dashboard/sso/callback",
}
_RANKS = {"viewer": 0, "member": 1, "admin": 2, "owner": 3}

app.load_routes()


def named(route: Route, crew: Crew) -> str:
    """The route's path for this crew; ids of things that do not exist, so that nothing is changed."""
    path = route.path.replace("{project}", crew.project).replace("{organization}", str(crew.organization))
    return re.sub(r"\{[a-z]+\}", "0123456789", path)


def expected(route: Route, role: str) -> str:
    """What the role table says: in, sign-in, unknown (as if there were no such project) or forbidden."""
    if route.need == "public":
        return "in"
    if role == "nobody":
        return "sign-in"
    if route.need == "user":
        return "in"
    if not route.in_project:  # pages of the organization
        return "in" if role == "owner" else "forbidden"
    if role == "stranger":
        return "unknown"
    return "in" if _RANKS[role] >= _RANKS[route.need] else "forbidden"


def seen(answer: httpx.Response) -> str:
    """What the answer says."""
    away = answer.headers.get("location", "") + answer.headers.get("hx-redirect", "")
    if away.startswith("/dashboard/sign-in?"):
        return "sign-in"
    if answer.status_code == 404 and "no such project" in answer.text:
        return "unknown"
    return "forbidden" if answer.status_code == 403 else "in"


def ask(person: Person, route: Route, path: str) -> httpx.Response:
    return person.get(path) if route.method == "GET" else person.post(path)


def test_every_route_states_who_may_and_the_public_ones_are_known() -> None:
    assert len(ROUTES) > 70
    assert {r.need for r in ROUTES} <= {"public", "user", *_RANKS}
    assert {r.path for r in ROUTES if r.need == "public"} <= PUBLIC
    assert not [r.path for r in ROUTES if r.in_project and r.need in {"public", "user"}]
    assert len({(r.method, r.path) for r in ROUTES}) == len(ROUTES)


def test_whatever_changes_something_is_no_get_and_needs_more_than_a_viewer() -> None:
    posts = [r for r in ROUTES if r.method == "POST" and r.in_project]
    assert posts and not [r.path for r in posts if r.need == "viewer"]


@pytest.mark.parametrize("role", ROLES)
def test_the_role_table_is_what_the_routes_do(crew: Crew, role: str) -> None:
    person = Person(crew.hub, "nobody@example.com") if role == "nobody" else crew.everybody[role]
    wrong, faults = [], []
    # Signing out comes last: it ends the session with which the others are asked.
    for route in sorted(ROUTES, key=lambda r: r.path == "/dashboard/sign-out"):
        answer = ask(person, route, named(route, crew))
        if (found := seen(answer)) != expected(route, role):
            wrong.append(f"{route.method} {route.path}: {found}, not {expected(route, role)} ({answer.status_code})")
        if answer.status_code >= 500:
            faults.append(f"{route.method} {route.path}: {answer.status_code}")
    assert not wrong
    assert not faults


def test_a_foreign_organization_is_as_good_as_none(crew: Crew) -> None:
    for path in ("/members", "/members/invite"):
        assert crew.owner.get(f"/dashboard/organizations/{crew.organization + 10_000}{path}").status_code == 404
    assert crew.owner.get("/dashboard/audit?organization=999999").status_code == 404
    made = crew.owner.post("/dashboard/projects", {"name": "x", "organization": str(crew.organization + 10_000)})
    assert made.status_code == 404


def test_every_button_names_the_api_call_that_does_the_same() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "dashboard.md").read_text()
    for route in ROUTES:
        for call in filter(None, (part.strip() for part in route.api.split(", "))):
            assert f"`{call}`" in page, f"{route.path}: {call}"
