"""Signing in: nobody comes in without a link or a password, and a session ends when it should."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import pyotp
import pytest
from sqlalchemy import delete, select, update

from mooring.identity.user_models import Throttle, User, UserSession
from mooring.kit import clock
from tests.dashboard.people import PASSWORD, Crew, Person, done, set_up, shown_secret, text, token_of
from tests.flows.linking import on_database
from tests.hub import Hub
from tests.rows import query
from tests.servers.ports import free_port


@pytest.fixture(scope="module")
def empty_hub(tmp_path_factory: pytest.TempPathFactory) -> object:
    """A hub that nobody set up, which the tests below do in their order."""
    with Hub(tmp_path_factory.mktemp("empty"), free_port(), single_process=True) as running:
        yield running


class TestFirstRun:
    def test_the_log_shows_the_link_once_and_no_page_lets_anybody_register(self, empty_hub: Hub) -> None:
        assert empty_hub.log().count("/dashboard/set-up?token=") == 1
        person = Person(empty_hub, "mallory@example.com")
        page = person.get("/dashboard/sign-in")
        assert page.status_code == 200 and "mooring setup-link" in page.text
        form = {"token": "guess", "email": "m@example.com", "name": "M", "password": PASSWORD, "organization": "O"}
        assert person.post("/dashboard/set-up", {**form, "project": "P"}).status_code == 404
        assert person.get("/dashboard/set-up?token=guess").status_code == 404
        assert query(empty_hub, "SELECT count(*) FROM users") == [(0,)]

    def test_a_weak_password_is_refused_and_the_link_still_works(self, empty_hub: Hub) -> None:
        token = token_of(empty_hub.command("setup-link").stdout.strip())
        person = Person(empty_hub, "olive@example.com")
        for weak in ("short", "passwordpassword", "aaaaaaaaaaaaaaaa", "olive@example.com1"):
            form = {"token": token, "email": "olive@example.com", "name": "Olive", "password": weak}
            answer = person.post("/dashboard/set-up", {**form, "organization": "O", "project": "P"})
            assert answer.status_code == 400, weak
        assert person.get(f"/dashboard/set-up?token={token}").status_code == 200

    def test_the_link_makes_one_admin_and_is_spent(self, empty_hub: Hub) -> None:
        owner = set_up(empty_hub)
        assert owner.get("/dashboard").headers["location"].startswith("/dashboard/p/")
        again = empty_hub.command("setup-link", check=False)
        assert again.returncode == 2 and "is set up" in again.stderr

    def test_a_restart_prints_no_link_any_more(self, empty_hub: Hub) -> None:
        empty_hub.stop()
        empty_hub.start()
        assert empty_hub.log().count("/dashboard/set-up?token=") == 1


def test_wrong_address_and_wrong_password_are_told_the_same(crew: Crew) -> None:
    wrong = Person(crew.hub, crew.viewer.email).sign_in("not the password")
    unknown = Person(crew.hub, "nobody@example.com").sign_in()
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.text == unknown.text


def test_guessing_is_slowed_down_for_the_account(crew: Crew) -> None:
    guesser = Person(crew.hub, crew.member.email)
    seen = [guesser.sign_in(f"guess number {n}").status_code for n in range(7)]
    assert seen[:5] == [401] * 5 and 429 in seen[5:]
    blocked = guesser.sign_in()
    assert blocked.status_code == 429 and int(blocked.headers["retry-after"]) >= 1
    on_database(crew.hub, lambda tx: tx.execute(delete(Throttle)))
    guesser.signed_in()


def test_every_sign_in_makes_a_new_session_and_the_old_one_ends(crew: Crew) -> None:
    person = Person(crew.hub, crew.viewer.email).signed_in()
    before = person.http.cookies["mooring-session"]
    person.signed_in()
    assert person.http.cookies["mooring-session"] != before
    stale = Person(crew.hub, crew.viewer.email)
    stale.http.cookies.set("mooring-session", before)
    assert stale.get(crew.base + "/connectors").status_code == 303


def test_signing_out_ends_the_session_on_the_server(crew: Crew) -> None:
    token = crew.viewer.http.cookies["mooring-session"]
    done(crew.viewer.post("/dashboard/sign-out"), "/dashboard/sign-in")
    thief = Person(crew.hub, crew.viewer.email)
    thief.http.cookies.set("mooring-session", token)
    assert thief.get(crew.base + "/connectors").status_code == 303


@pytest.mark.parametrize("column", ["seen_at", "expires_at"])
def test_a_session_ends_by_idleness_and_by_age(crew: Crew, column: str) -> None:
    async def age(tx: object) -> None:
        user = select(User.id).where(User.email == crew.viewer.email).scalar_subquery()
        moment = clock.now() - (timedelta(hours=13) if column == "seen_at" else timedelta(seconds=1))
        await tx.execute(update(UserSession).where(UserSession.user_id == user).values({column: moment}))  # type: ignore[attr-defined]

    on_database(crew.hub, age)
    assert crew.viewer.get(crew.base + "/connectors").headers["location"].startswith("/dashboard/sign-in?next=")


def test_a_person_lists_and_ends_their_own_sessions_only(crew: Crew) -> None:
    other = Person(crew.hub, crew.viewer.email).signed_in()

    async def newest(tx: object) -> str:
        mine = select(UserSession.id).join(User, User.id == UserSession.user_id).where(User.email == crew.viewer.email)
        return str(await tx.scalar(mine.order_by(UserSession.created_at.desc())))  # type: ignore[attr-defined]

    session = on_database(crew.hub, newest)
    assert session in crew.viewer.get("/dashboard/profile").text
    assert crew.member.post(f"/dashboard/profile/sessions/{session}/end").status_code == 404
    done(crew.viewer.post(f"/dashboard/profile/sessions/{session}/end"), "/dashboard/profile")
    assert other.get(crew.base + "/connectors").status_code == 303


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(crew: Crew) -> None:
    cookie = crew.viewer.sign_in().headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie and "Path=/" in cookie


def test_behind_https_the_cookie_has_the_host_prefix(tmp_path: Path) -> None:
    env = {"MOORING_PUBLIC_URL": "https://hub.example.com"}
    with Hub(tmp_path, free_port(), single_process=True, env=env) as hub:
        link = hub.command("setup-link").stdout.strip()
        assert link.startswith("https://hub.example.com/dashboard/set-up?token=")
        person = Person(hub, "olive@example.com")
        form = {"token": token_of(link), "email": person.email, "name": "Olive", "password": PASSWORD}
        form |= {"organization": "O", "project": "P"}
        foreign = person.post("/dashboard/set-up", form)
        assert foreign.status_code == 403 and "MOORING_PUBLIC_URL" in foreign.text
        answer = person.post("/dashboard/set-up", form, origin="https://hub.example.com")
        cookie = next(c for c in answer.headers.get_list("set-cookie") if "session" in c)
        assert cookie.startswith("__Host-mooring-session=") and "Secure" in cookie and "Domain" not in cookie
        assert answer.headers["strict-transport-security"]


@pytest.mark.parametrize(
    "headers",
    [
        {"hx-request": "false"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://127.0.0.1:1"},
    ],
)
def test_a_change_that_another_site_causes_is_refused(crew: Crew, headers: dict[str, str]) -> None:
    for path in ("/dashboard/sign-out", "/dashboard/sign-in", crew.base + "/settings/log-days"):
        answer = crew.admin.post(path, {"days": "30"}, **headers)
        assert answer.status_code == 403, path
    bare = crew.admin.http.post(crew.base + "/settings/log-days", data={"days": "30"}, headers={"hx-request": "true"})
    assert bare.status_code == 403


def test_the_second_factor_is_asked_for_and_a_code_serves_once(crew: Crew) -> None:
    person = crew.viewer
    dialog = person.post("/dashboard/profile/second-factor")
    secret = dialog.text.split("<code>")[1].split("</code>")[0]
    assert pyotp.TOTP(secret).now() and "<svg" in dialog.text
    assert person.post("/dashboard/profile/second-factor/confirm", {"code": "000000"}).status_code == 400
    used = pyotp.TOTP(secret).now()
    codes = person.post("/dashboard/profile/second-factor/confirm", {"code": used})
    recovery = text(codes).split("shown only now.")[1].split()[:10]
    assert len(recovery) == 10
    fresh = Person(crew.hub, person.email)
    asked = fresh.sign_in()
    assert asked.status_code == 200 and 'name="code"' in asked.text and not fresh.http.cookies
    assert fresh.sign_in(code="123456").status_code == 401
    assert fresh.sign_in(code=used).status_code == 401, "the code that turned it on must not serve again"
    assert fresh.sign_in(code=recovery[0]).status_code == 204
    assert Person(crew.hub, person.email).sign_in(code=recovery[0]).status_code == 401
    later = pyotp.TOTP(secret).at(int(time.time()) + 30)
    assert Person(crew.hub, person.email).sign_in(code=later).status_code == 204
    stored = query(crew.hub, "SELECT sealed FROM host_secrets WHERE name LIKE 'totp:%'")
    assert all(secret.encode() not in bytes(row[0]) for row in stored)


def test_an_invited_person_chooses_a_password_once(crew: Crew) -> None:
    at = f"/dashboard/organizations/{crew.organization}/members"
    form = {"email": "New.Person@Example.com", "name": "New Person", "role": "basic"}
    dialog = crew.owner.post(at, {**form, "project": crew.project, "project_role": "viewer"})
    token = token_of(shown_secret(dialog))
    person = Person(crew.hub, "new.person@example.com")
    assert "new.person@example.com" in person.get(f"/dashboard/welcome?token={token}").text
    done(person.post("/dashboard/welcome", {"token": token, "name": "New Person", "password": PASSWORD}))
    assert person.get(crew.base + "/connectors").status_code == 200
    assert person.post("/dashboard/welcome", {"token": token, "password": PASSWORD}).status_code == 404
    assert crew.owner.post(at, form).status_code == 409
    query(crew.hub, "DELETE FROM users WHERE email = 'new.person@example.com'")


def test_an_organization_keeps_an_admin(crew: Crew) -> None:
    async def id_of(tx: object) -> str:
        return str(await tx.scalar(select(User.id).where(User.email == crew.owner.email)))  # type: ignore[attr-defined]

    owner = on_database(crew.hub, id_of)
    at = f"/dashboard/organizations/{crew.organization}/members/{owner}"
    assert crew.owner.post(f"{at}/role", {"role": "basic"}).status_code == 409
    assert crew.owner.post(f"{at}/remove").status_code == 409


def test_grave_things_ask_for_the_password_again(crew: Crew) -> None:
    async def age(tx: object) -> None:
        user = select(User.id).where(User.email == crew.admin.email).scalar_subquery()
        old = clock.now() - timedelta(hours=1)
        await tx.execute(update(UserSession).where(UserSession.user_id == user).values(confirmed_at=old))  # type: ignore[attr-defined]

    on_database(crew.hub, age)
    form = {"label": "k", "scope": "platform:read"}
    asked = crew.admin.post(crew.base + "/api-keys", form)
    assert asked.status_code == 403 and asked.headers["hx-redirect"].startswith("/dashboard/confirm?next=")
    assert query(crew.hub, "SELECT count(*) FROM api_keys WHERE project_id = :p", p=crew.project) == [(0,)]
    assert crew.admin.post("/dashboard/confirm", {"password": "wrong wrong wrong"}).status_code == 401
    done(crew.admin.post("/dashboard/confirm", {"password": PASSWORD, "next": crew.base + "/api-keys"}))
    assert shown_secret(crew.admin.post(crew.base + "/api-keys", form)).startswith("v1.")


@pytest.mark.parametrize("next", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_nobody_is_sent_elsewhere_after_signing_in(crew: Crew, next: str) -> None:
    assert done(Person(crew.hub, crew.viewer.email).sign_in(next=next)) == "/dashboard"


def test_no_password_and_no_token_stands_in_the_log_or_database(crew: Crew) -> None:
    Person(crew.hub, crew.viewer.email).sign_in("a wrong but secret password")
    log = crew.hub.log()
    assert PASSWORD not in log and "a wrong but secret password" not in log
    token = crew.viewer.http.cookies["mooring-session"]
    assert token not in log
    rows = query(crew.hub, "SELECT password_hash FROM users WHERE email = :e", e=crew.viewer.email)
    assert rows[0][0].startswith("$argon2id$")
