"""What a person does over the API: every route against every role, and the stories behind the dashboard's pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyotp
import pytest

from mooring.app import create_app
from mooring.settings import load
from tests.dashboard.people import PASSWORD, Crew, Person, token_of
from tests.hub import Hub, client, ok, refused
from tests.rows import query
from tests.servers.ports import free_port

ROLES = ("owner", "admin", "member", "viewer", "stranger", "nobody")
_RANKS = {"viewer": 0, "member": 1, "admin": 2, "owner": 3}
PREFIXES = ("/sessions", "/me", "/organizations", "/projects", "/system")


def routes() -> Iterator[tuple[str, str, str]]:
    """Method, path and need of every route for people, from the application itself."""
    api = create_app(load({}), public_url="http://hub.example").api
    for holder in (api, *(r.original_router for r in api.routes if hasattr(r, "original_router"))):
        for route in holder.routes:
            for dependency in getattr(getattr(route, "dependant", None), "dependencies", ()):
                code = getattr(dependency.call, "__code__", None)
                if code is not None and "need" in code.co_freevars:
                    cells = dict(zip(code.co_freevars, dependency.call.__closure__, strict=True))
                    for method in route.methods:
                        yield method, route.path, cells["need"].cell_contents


def bearer(person: Person) -> httpx.Client:
    """The person's session as a token, without any cookie."""
    token = person.http.cookies.get("mooring-session")
    return client(person.hub.url, headers={"authorization": f"Bearer {token}"} if token else {})


def expected(path: str, need: str, role: str) -> str:
    if role == "nobody":
        return "sign-in"
    if need == "user":
        return "in"
    if "{organization}" in path:
        return "in" if role == "owner" else "unknown"
    if "{project}" not in path:
        return "in" if role == "owner" else "forbidden"
    if role == "stranger":
        return "unknown"
    return "in" if _RANKS[role] >= _RANKS[need] else "forbidden"


def seen(answer: httpx.Response) -> str:
    if answer.status_code == 404 and re.search("no such (project|organization)", answer.text):
        return "unknown"
    return {401: "sign-in", 403: "forbidden"}.get(answer.status_code, "in")


def test_the_routes_for_people_are_all_known() -> None:
    found = set(routes())
    assert len(found) >= 27
    assert all(path.startswith(PREFIXES) for _, path, _ in found)
    needs = {need for _, path, need in found if "{organization}" in path}
    assert needs == {"owner"}
    changes = {need for method, path, need in found if method != "GET" and path.startswith("/projects/")}
    assert changes == {"admin", "owner"}


@pytest.mark.parametrize("role", ROLES)
def test_the_role_decides_on_every_route(crew: Crew, role: str) -> None:
    person = Person(crew.hub, "nobody@example.com") if role == "nobody" else crew.everybody[role]
    http = bearer(person)
    wrong = []
    for method, path, need in sorted(set(routes())):
        named = path.replace("{project}", crew.project).replace("{organization}", str(crew.organization))
        named = re.sub(r"\{[a-z_]+\}", "0123456789", named)
        if method in {"POST", "PUT", "PATCH"}:
            answer = http.request(method, named, json={"nothing": "that it takes"})
        else:  # deletes the project for those who may: it is put back at once
            answer = http.request(method, named)
        if (method, path) == ("DELETE", "/projects/{project}") and answer.status_code == 200:
            ok(http.post(named + "/restore"))
        found = seen(answer)
        if found != expected(path, need, role) or answer.status_code >= 500:
            wrong.append(f"{method} {path}: {found}, not {expected(path, need, role)} ({answer.status_code})")
    assert not wrong


def test_neither_a_cookie_nor_an_api_key_is_taken(crew: Crew) -> None:
    assert crew.owner.http.get("/projects").status_code == 401
    key = crew.hub.new_project()
    assert key.http.get("/projects").status_code == 401
    assert client(crew.hub.url, headers={"authorization": f"Bearer {key.key}"}).get("/projects").status_code == 401
    token = crew.owner.http.cookies.get("mooring-session")
    answer = client(crew.hub.url, headers={"authorization": f"Bearer {token}"}).get("/accounts")
    assert answer.status_code == 401


def test_a_person_signs_in_lists_their_sessions_and_ends_one(crew: Crew) -> None:
    http = client(crew.hub.url)
    body = {"email": crew.viewer.email, "password": PASSWORD}
    refused(http.post("/sessions", json={**body, "password": "wrong wrong wrong"}), 401)
    made = ok(http.post("/sessions", json=body), 201)
    mine = client(crew.hub.url, headers={"authorization": f"Bearer {made['token']}"})
    me = ok(mine.get("/me"))
    assert (me["email"], me["projects"]) == (crew.viewer.email, {crew.project: "viewer"})
    listed = ok(mine.get("/sessions"))["data"]
    assert [s["id"] for s in listed if s["current"]] == [made["id"]] and len(listed) == 2
    assert made["token"] not in str(listed)
    foreign = ok(bearer(crew.admin).get("/sessions"))["data"][0]["id"]
    refused(mine.delete(f"/sessions/{foreign}"), 404)
    assert ok(mine.patch("/me", json={"name": " New  Name ", "language": "de"}))["name"] == "New Name"
    assert mine.delete("/sessions/current").status_code == 204
    assert mine.get("/me").status_code == 401


def test_an_invited_person_chooses_a_password_once(crew: Crew) -> None:
    http = bearer(crew.owner)
    email = f"ines-{crew.project}@example.com"
    made = ok(http.post(f"/organizations/{crew.organization}/members", json={"email": email, "name": "Ines"}), 201)
    body = {"token": token_of(made["link"]), "password": PASSWORD, "name": "Ines Invited"}
    guest = client(crew.hub.url)
    refused(guest.post("/welcome", json={**body, "token": "guess"}), 404)
    refused(guest.post("/welcome", json={**body, "password": "short"}), 400)
    welcomed = ok(guest.post("/welcome", json=body), 201)
    mine = client(crew.hub.url, headers={"authorization": f"Bearer {welcomed['token']}"})
    me = ok(mine.get("/me"))
    assert (me["email"], me["name"]) == (email, "Ines Invited")
    refused(guest.post("/welcome", json=body), 404)
    ok(guest.post("/sessions", json={"email": email, "password": PASSWORD}), 201)


def test_the_first_person_is_made_over_the_api_once(tmp_path: Path) -> None:
    with Hub(tmp_path, free_port(), single_process=True) as hub:
        token = token_of(hub.command("setup-link").stdout.strip())
        body = {"token": token, "email": "olive@example.com", "name": "Olive", "password": PASSWORD}
        body |= {"organization": "Acme", "project": "First"}
        guest = client(hub.url)
        refused(guest.post("/set_up", json={**body, "token": "guess"}), 404)
        refused(guest.post("/set_up", json={**body, "password": "short"}), 400)
        made = ok(guest.post("/set_up", json=body), 201)
        mine = client(hub.url, headers={"authorization": f"Bearer {made['token']}"})
        # The project of the bootstrap key is there already; the organization gets its name.
        assert [p["name"] for p in ok(mine.get("/projects"))["data"]] == ["default"]
        assert [o["name"] for o in ok(mine.get("/organizations"))["data"]] == ["Acme"]
        assert list(ok(mine.get("/me"))["organizations"].values()) == ["admin"]
        refused(guest.post("/set_up", json={**body, "email": "other@example.com"}), 404)
        assert PASSWORD not in hub.log() and query(hub, "SELECT count(*) FROM users") == [(1,)]


def test_an_admin_sees_the_state_of_the_installation(crew: Crew) -> None:
    http = bearer(crew.owner)
    state = ok(http.get("/system"))
    assert state["version"] and state["database"] in {"SQLite", "PostgreSQL"} and state["connectors"] >= 150
    assert state["master_keys"][0]["primary"] is True and all(k["known"] for k in state["master_keys"])
    assert {queue["kind"] for queue in state["queues"]} and state["audit_entries"] > 0
    found = ok(http.post("/system/look"))["data"]
    assert {f["severity"] for f in found} <= {"ok", "warn", "fail"} and any(f["check"] for f in found)
    assert ok(http.post("/system/verify"))["why"] is None
    refused(http.post("/system/jobs/999999999/revive"), 404)
    refused(http.post("/system/jobs/x/revive"), 404)


def test_the_second_factor_over_the_api(crew: Crew) -> None:
    http = bearer(crew.member)
    made = ok(http.post("/me/second_factor"))
    totp = pyotp.TOTP(made["secret"])
    refused(http.post("/me/second_factor/confirm", json={"code": "000000"}), 400)
    codes = ok(http.post("/me/second_factor/confirm", json={"code": totp.now()}))["recovery_codes"]
    assert len(codes) == 10 and ok(http.get("/me"))["second_factor"] is True
    body = {"email": crew.member.email, "password": PASSWORD}
    refused(client(crew.hub.url).post("/sessions", json=body), 401, "SecondFactorRequiredError")
    ok(client(crew.hub.url).post("/sessions", json={**body, "code": codes[0]}), 201)
    assert http.delete("/me/second_factor").status_code == 204
    ok(client(crew.hub.url).post("/sessions", json=body), 201)


def test_what_is_grave_asks_for_the_password_again(crew: Crew) -> None:
    http = bearer(crew.owner)
    moment = "datetime('now', '-1 hour')" if crew.hub.database_url.startswith("sqlite") else "now() - interval '1 hour'"
    sql = f"UPDATE user_sessions SET confirmed_at = {moment} WHERE user_id = (SELECT id FROM users WHERE email = :e)"
    query(crew.hub, sql, e=crew.owner.email)
    refused(http.delete(f"/projects/{crew.project}"), 403, "ConfirmationRequiredError")
    refused(http.post("/sessions/current/confirm", json={"password": "wrong wrong wrong"}), 401)
    assert http.post("/sessions/current/confirm", json={"password": PASSWORD}).status_code == 204
    assert ok(http.delete(f"/projects/{crew.project}"))["deleted_at"] is not None


def test_a_project_is_made_renamed_limited_deleted_and_restored(crew: Crew) -> None:
    http = bearer(crew.owner)
    other = ok(http.post("/organizations", json={"name": f"second of {crew.project}"}), 201)
    assert other["id"] in {o["id"] for o in ok(http.get("/organizations"))["data"]}
    made = ok(http.post("/projects", json={"name": "Fresh", "organization_id": other["id"]}), 201)
    at = f"/projects/{made['id']}"
    refused(http.post("/projects", json={"name": "x", "organization_id": "999999"}), 404)
    changed = ok(http.patch(at, json={"name": "Renamed", "log_days": 30}))
    assert (changed["name"], changed["log_days"]) == ("Renamed", 30)
    refused(http.patch(at, json={"name": "Never", "log_days": 0}), 400)
    assert ok(http.get(at))["name"] == "Renamed"
    assert ok(http.put(at + "/ip_allowlist", json={"entries": ["203.0.113.7"]}))["ip_allowlist"] == ["203.0.113.7"]
    refused(http.put(at + "/ip_allowlist", json={"entries": ["nonsense"]}), 400)
    gone = ok(http.delete(at))
    assert gone["gone_at"] > gone["deleted_at"]
    refused(http.get(at), 404)
    assert [p["deleted_at"] is not None for p in ok(http.get("/projects"))["data"] if p["id"] == made["id"]] == [True]
    assert ok(http.post(at + "/restore"))["deleted_at"] is None
    ok(http.get(at))
    told = ok(http.get(f"/organizations/{other['id']}/audit_log", params={"page_size": 3}))
    assert [e["action"] for e in told["data"]] == [
        "project.restored",
        "project.deleted",
        "project.ip_allowlist_changed",
    ]
    assert told["data"][0]["actor_label"] == crew.owner.email and told["next"]


def test_a_member_is_invited_gets_roles_and_is_taken_out(crew: Crew) -> None:
    http, organization = bearer(crew.owner), f"/organizations/{crew.organization}/members"
    email = f"new-{crew.project}@example.com"
    made = ok(http.post(organization, json={"email": email, "name": "Nora New"}), 201)
    assert "/dashboard/welcome?token=" in made["link"]
    refused(http.post(organization, json={"email": email}), 409)
    project = f"/projects/{crew.project}/members"

    def roles(path: str) -> dict[str, Any]:
        return {m["email"]: m["role"] for m in ok(http.get(path))["data"]}

    assert roles(organization)[email] == "basic" and email not in roles(project)
    admin = bearer(crew.admin)
    assert admin.put(f"{project}/{made['id']}", json={"role": "member"}).status_code == 204
    assert roles(project)[email] == "member" and roles(project)[crew.owner.email] == "admin"
    refused(admin.put(f"{project}/{made['id']}", json={"role": "owner"}), 400)
    assert admin.delete(f"{project}/{made['id']}").status_code == 204
    assert email not in roles(project)
    assert http.patch(f"{organization}/{made['id']}", json={"role": "admin"}).status_code == 204
    assert roles(project)[email] == "admin"
    assert ok(http.post(f"{organization}/{made['id']}/reset"))["link"] != made["link"]
    assert http.delete(f"{organization}/{made['id']}").status_code == 204
    refused(http.delete(f"{organization}/{made['id']}"), 404)
    me = next(m["id"] for m in ok(http.get(organization))["data"] if m["email"] == crew.owner.email)
    refused(http.delete(f"{organization}/{me}"), 409)
