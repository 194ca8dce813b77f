"""What our own Hub asks: launches (the form is posted, the URL holds a code), the owner's accounts, a link's browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from sqlalchemy import select, update

from mooring.connect.models import ConnectionAttempt, ConnectionLaunch, ConnectSession
from mooring.kit import clock
from tests.flows.linking import link_sandbox, on_database, sandbox_config, sandbox_consent, together
from tests.hub import Project, Session, client, ok, refused
from tests.sandbox.harness import Sandbox

KEY = {"api_key": "sandbox-key-acme"}
EMBEDDED = {"sec-fetch-site": "cross-site"}


def post(session: Session, config: dict[str, Any], **more: Any) -> httpx.Response:
    return session.http.post("/hub/connection_attempts", json={"integration_id": config["id"], **more})


def follow(session: Session, url: str, headers: dict[str, str] | None = None) -> httpx.Response:
    return session.browser.get(url, headers=EMBEDDED if headers is None else headers)


@pytest.fixture
def config(project: Project, provider: Sandbox) -> dict[str, Any]:
    return sandbox_config(project, provider)


@pytest.fixture
def session(project: Project) -> Session:
    return project.session("Acme")


def test_a_launch_links_and_its_url_holds_a_code_alone(
    project: Project, provider: Sandbox, config: dict[str, Any], session: Session
) -> None:
    made = ok(post(session, config))
    parts = urlsplit(made["launch_url"])
    assert parts.path == f"/connect/launch/{made['id']}" and list(parse_qs(parts.query)) == ["code"]
    assert session.token not in made["launch_url"]
    started = follow(session, made["launch_url"])
    assert started.status_code == 302 and "mooring-connect" in started.headers["set-cookie"]
    assert "samesite=lax" in started.headers["set-cookie"].lower() and "HttpOnly" in started.headers["set-cookie"]
    assert ok(session.http.get(f"/hub/connection_attempts/{made['id']}"))["status"] == "pending"
    landed = session.browser.get(sandbox_consent(provider)(started.headers["location"]))
    assert "status=authenticated" in landed.headers["location"]
    state = session.attempt_state(made["id"])
    assert state["account"]["provider"] == "sandbox" and state["account"]["missing_scopes"] == []
    assert len(ok(project.http.get("/accounts"))) == 1


def test_a_posted_form_is_sealed_until_it_is_used(project: Project, config: dict[str, Any], session: Session) -> None:
    made = ok(post(session, config))
    code = parse_qs(urlsplit(made["launch_url"]).query)["code"][0]

    async def row(tx: Any) -> Any:
        return await tx.scalar(select(ConnectionLaunch).where(ConnectionLaunch.attempt_id == made["id"]))

    kept = on_database(project.hub, row)
    assert code.encode() not in kept.code_hash and b"public" not in kept.sealed
    follow(session, made["launch_url"])
    assert on_database(project.hub, row) is None  # used up: nothing of it stays
    assert code not in project.hub.log()


def test_a_faulty_form_begins_no_attempt(project: Project, config: dict[str, Any], session: Session) -> None:
    body = refused(post(session, config, credentials={"client_secret": "forged"}), 422, "ValidationError")
    assert "forged" not in str(body)
    seen = ok(project.http.post("/connect_sessions/authenticate", json={"token": session.token}), 201)
    assert seen["latest_connection_attempt"] is None
    key = project.config("sandbox", "basic")
    body = refused(session.submit(key["id"], {"username": "x"}), 422, "ValidationError")
    assert body["fields"] == {"password": "is required"}


# --- forged launches: none begins a flow ---------------------------------------------------------------------------


def _code(url: str) -> str:
    return parse_qs(urlsplit(url).query)["code"][0]


def _at(made: dict[str, Any], code: str, id: str | None = None) -> str:
    return f"/connect/launch/{id or made['id']}?code={code}"


FORGED: dict[str, Callable[[dict[str, Any], dict[str, Any], Session], str]] = {
    "no code": lambda m, o, s: f"/connect/launch/{m['id']}",
    "empty code": lambda m, o, s: _at(m, ""),
    "random code": lambda m, o, s: _at(m, "A" * 43),
    "code cut short": lambda m, o, s: _at(m, _code(m["launch_url"])[:-1]),
    "code extended": lambda m, o, s: _at(m, _code(m["launch_url"]) + "A"),
    "code in other letters": lambda m, o, s: _at(m, _code(m["launch_url"]).swapcase()),
    "endless code": lambda m, o, s: _at(m, "A" * 4000),
    "code as SQL": lambda m, o, s: _at(m, "%27%20OR%201=1%20--"),
    "code of another attempt": lambda m, o, s: _at(m, _code(o["launch_url"])),
    "attempt of another code": lambda m, o, s: _at(m, _code(m["launch_url"]), o["id"]),
    "session token as code": lambda m, o, s: _at(m, s.token),
    "attempt as code": lambda m, o, s: _at(m, m["id"]),
    "random attempt": lambda m, o, s: _at(m, _code(m["launch_url"]), "00000000-0000-4000-8000-000000000000"),
    "attempt in capitals": lambda m, o, s: _at(m, _code(m["launch_url"]), m["id"].upper()),
    "endless attempt": lambda m, o, s: _at(m, _code(m["launch_url"]), "a" * 3000),
    "attempt with a NUL": lambda m, o, s: _at(m, _code(m["launch_url"]), m["id"] + "%00"),
    "confirmed without a code": lambda m, o, s: f"/connect/launch/{m['id']}?go=1",
}


def test_no_forged_launch_begins_a_flow(
    project: Project, other_project: Project, provider: Sandbox, config: dict[str, Any], session: Session
) -> None:
    foreign = other_project.session("Mallory")
    other = ok(post(foreign, sandbox_config(other_project, provider)))
    made = ok(post(session, config))
    for name, forge in FORGED.items():
        answer = follow(session, forge(made, other, session))
        assert 400 <= answer.status_code < 500, name
        assert "location" not in answer.headers and "set-cookie" not in answer.headers, name
    assert follow(session, made["launch_url"]).status_code == 302  # none of them used it up


def _aged(table: Any, **values: Any) -> Callable[[Project, Session, dict[str, Any], dict[str, Any]], None]:
    def run(project: Project, session: Session, made: dict[str, Any], config: dict[str, Any]) -> None:
        async def work(tx: Any) -> None:
            await tx.execute(update(table).values(**values))

        on_database(project.hub, work)

    return run


MEANWHILE: dict[str, tuple[int, Callable[[Project, Session, dict[str, Any], dict[str, Any]], Any]]] = {
    "used": (400, lambda p, s, m, c: follow(s, m["launch_url"])),
    "too old": (400, _aged(ConnectionLaunch, expires_at=clock.now())),
    "attempt expired": (409, _aged(ConnectionAttempt, expires_at=clock.now())),
    "attempt cancelled": (409, lambda p, s, m, c: s.http.delete(f"/hub/connection_attempts/{m['id']}")),
    "session expired": (401, _aged(ConnectSession, expires_at=clock.now())),
    "config disabled": (422, lambda p, s, m, c: p.http.patch(f"/auth_configs/{c['id']}", json={"active": False})),
    "config deleted": (400, lambda p, s, m, c: p.http.delete(f"/auth_configs/{c['id']}")),
}


@pytest.mark.parametrize("kind", MEANWHILE)
def test_a_launch_that_comes_too_late(
    project: Project, provider: Sandbox, config: dict[str, Any], session: Session, kind: str
) -> None:
    made = ok(post(session, config))
    status, happen = MEANWHILE[kind]
    happen(project, session, made, config)
    answer = follow(session, made["launch_url"])
    refused(answer, status)
    assert "location" not in answer.headers
    assert sum(provider.counters()["token_requests"].values()) == 0


def test_of_two_browsers_one_gets_the_launch(config: dict[str, Any], session: Session, project: Project) -> None:
    url = ok(post(session, config))["launch_url"]
    answers = together(*[lambda: client(project.hub.url).get(url, headers=EMBEDDED)] * 5)
    assert sorted(a.status_code for a in answers) == [302, 400, 400, 400, 400]


POSTS: dict[str, tuple[int, dict[str, Any]]] = {
    "random config": (404, {"integration_id": "00000000-0000-4000-8000-000000000000"}),
    "random account": (404, {"account_id": "GnQoASvosYhE5wJcmmAQs"}),
    "return elsewhere": (400, {"return_url": "https://evil.example/"}),
    "return to a script": (400, {"return_url": "javascript:alert(1)"}),
    "return with a line break": (400, {"return_url": "http://127.0.0.1\n/"}),
    "another token endpoint": (422, {"credentials": {"sandbox_url": "https://evil.example"}}),
    "a list of values": (400, {"credentials": ["x"]}),
    "a token of nobody": (401, {"token": "A" * 43}),
    "a NUL": (400, {"credentials": {"x": "a\0b"}}),
}


@pytest.mark.parametrize("kind", POSTS)
def test_a_forged_post_prepares_nothing(project: Project, config: dict[str, Any], session: Session, kind: str) -> None:
    status, body = POSTS[kind]
    refused(post(session, config, **body), status)
    seen = ok(project.http.post("/connect_sessions/authenticate", json={"token": session.token}), 201)
    assert seen["latest_connection_attempt"] is None


def test_whoever_does_not_come_from_the_hub_is_asked_first(
    project: Project, config: dict[str, Any], session: Session
) -> None:
    """A launch URL that was passed on shows what would be connected, for whom and in what (rule O6)."""
    url = ok(post(session, config))["launch_url"]
    for headers in ({"sec-fetch-site": "none"}, {}):
        page = follow(session, url, headers)
        assert page.status_code == 200 and "location" not in page.headers and "set-cookie" not in page.headers
        assert "Connect Sandbox?" in page.text and "Acme Inc." in page.text and "test" in page.text
    assert follow(session, url + "&go=1", {"sec-fetch-site": "none"}).status_code == 200
    assert follow(session, url + "&go=1", {}).status_code == 302

    bound = project.session("Beta")
    browser = {"x-hub-browser": "b" * 64}
    assert bound.http.post("/hub/browser", headers=browser).status_code == 204
    body = {"integration_id": config["id"]}
    url = ok(bound.http.post("/hub/connection_attempts", json=body, headers=browser))["launch_url"]
    assert follow(bound, url).status_code == 200  # of a mailed link only our own page may go on
    assert follow(bound, url, {"sec-fetch-site": "same-origin"}).status_code == 302


# --- a link's browser ----------------------------------------------------------------------------------------------


def test_a_link_is_bound_to_its_first_browser(project: Project, config: dict[str, Any], session: Session) -> None:
    mine, other = {"x-hub-browser": "a" * 64}, {"x-hub-browser": "b" * 64}
    ok(session.http.get("/hub/overview"))
    refused(session.http.post("/hub/browser", headers={"x-hub-browser": "short"}), 400)
    refused(session.http.post("/hub/browser"), 400)
    assert session.http.post("/hub/browser", headers=mine).status_code == 204
    assert session.http.post("/hub/browser", headers=mine).status_code == 204
    for headers in (other, {}):
        refused(session.http.post("/hub/browser", headers=headers), 401)
        refused(session.http.get("/hub/overview", headers=headers), 401, "LinkInUseError")
        refused(session.http.post("/hub/accounts", json={}, headers=headers), 401)
    ok(session.http.get("/hub/overview", headers=mine))
    refused(session.start_oauth(config["id"]), 401, "LinkInUseError")  # the old way has no key to show


# --- the owner's accounts ------------------------------------------------------------------------------------------


@pytest.fixture
def owned(project: Project, provider: Sandbox) -> tuple[dict[str, Any], str, str]:
    config = project.config("sandbox", "api_key", {"sandbox_url": provider.url})
    return config, project.link(config, KEY, owner="Acme"), project.link(config, KEY, owner="Beta")


def test_a_session_sees_the_accounts_of_its_very_owner(
    project: Project, other_project: Project, owned: tuple[dict[str, Any], str, str]
) -> None:
    _, mine, theirs = owned
    session = project.session("Acme")
    (shown,) = ok(session.http.get("/hub/accounts"))
    assert shown["id"] == mine and shown["status"] == "active" and shown["usable"] is True
    assert "sandbox-key" not in str(shown)
    assert ok(session.http.get("/hub/overview"))["accounts"] == [shown]
    assert ok(session.http.get(f"/hub/accounts/{mine}"))["secrets"]["api_key"].startswith("__secretvalue")
    namesake = project.session("Acme", origin_owner_name="Acme Two")
    stranger = other_project.session("Acme")
    for http in (session.http, namesake.http, stranger.http):
        for method in ("GET", "PATCH", "DELETE"):
            refused(http.request(method, f"/hub/accounts/{theirs}", json={}), 404)
    for other in (namesake, stranger):
        assert ok(other.http.get("/hub/accounts")) == []
        refused(other.http.get(f"/hub/accounts/{mine}"), 404)


def test_a_session_for_one_thing_sees_that_alone(project: Project, owned: tuple[dict[str, Any], str, str]) -> None:
    _, mine, _ = owned
    ashby = project.config("ashby", "api_key")
    assert ok(project.session("Acme", provider="ashby").http.get("/hub/accounts")) == []
    assert ok(project.session("Acme", integration_id=ashby["id"]).http.get("/hub/accounts")) == []
    assert ok(project.session("Acme", categories=["ats"]).http.get("/hub/accounts")) == []
    assert len(ok(project.session("Acme", categories=["hris"]).http.get("/hub/accounts"))) == 1
    closed = project.session("Acme", manage_accounts=False)
    assert closed.created["manage_accounts"] is False
    assert ok(closed.http.get("/hub/accounts")) == []
    refused(closed.http.delete(f"/hub/accounts/{mine}"), 404)
    one = project.session("Acme", account_id=mine)
    assert [a["id"] for a in ok(one.http.get("/hub/accounts"))] == [mine]
    refused(one.http.delete(f"/hub/accounts/{mine}"), 422)
    ok(project.http.get(f"/accounts/{mine}"))


def test_an_owner_reconnects_and_removes(project: Project, owned: tuple[dict[str, Any], str, str]) -> None:
    config, mine, theirs = owned
    session = project.session("Acme")
    refused(session.http.patch(f"/hub/accounts/{mine}", json={"credentials": {"api_key": "wrong"}}), 422)
    patched = ok(session.http.patch(f"/hub/accounts/{mine}", json={"integration_id": config["id"], "credentials": KEY}))
    assert patched["id"] == mine
    assert session.http.delete(f"/hub/accounts/{mine}").status_code == 204
    refused(session.http.delete(f"/hub/accounts/{mine}"), 404)
    assert [a["id"] for a in ok(project.http.get("/accounts"))] == [theirs]


def test_a_reconnect_by_consent_keeps_the_id(project: Project, provider: Sandbox) -> None:
    first = link_sandbox(project, provider)
    config = {"id": project.account(first)["integration_id"]}
    session = project.session("owner-1", multiple=True)
    made = ok(post(session, config, account_id=first))
    landed = session.browser.get(sandbox_consent(provider)(follow(session, made["launch_url"]).headers["location"]))
    assert "status=authenticated" in landed.headers["location"]
    assert session.attempt_state(made["id"])["account"]["id"] == first
    assert len(ok(project.http.get("/accounts"))) == 1


def test_the_overview_offers_each_method_once_the_default_first(project: Project, provider: Sandbox) -> None:
    setup = {"sandbox_url": provider.url}
    basic = project.config("sandbox", "basic", setup)
    key = project.config("sandbox", "api_key", setup, default=True)
    project.config("sandbox", "basic", setup)
    off = project.config("sandbox", "service_user", setup, active=False)
    session = project.session("Acme")
    (connector,) = ok(session.http.get("/hub/overview"))["connectors"]
    assert [m["integration_id"] for m in connector["methods"]] == [key["id"], basic["id"]]
    ok(session.submit(basic["id"], {"username": "acme-admin", "password": "sandbox-password"}))
    refused(session.submit(off["id"], {}), 404)
    ok(project.http.patch("/project", json={"offer_all_methods": False}))
    (connector,) = ok(session.http.get("/hub/overview"))["connectors"]
    assert [m["integration_id"] for m in connector["methods"]] == [key["id"]]
    refused(session.submit(basic["id"], {}), 404)
