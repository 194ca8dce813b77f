"""The servers that the tests stand on do what the tests rely on."""

import base64
import hashlib
import os
import time
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.servers.oidc import OidcServer
from tests.servers.ports import free_port, free_port_pair
from tests.servers.postgres import PostgresServer
from tests.servers.process import Server, ServerError
from tests.servers.redmine import RedmineServer
from tests.servers.stub import stub_server
from tests.servers.toxic import ToxicLink

CALLBACK = "http://127.0.0.1/callback"
VERIFIER = "a-code-verifier-of-at-least-forty-three-characters"


def has_ended(pid: int) -> bool:
    """Tell whether no process has that id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_ports_are_free_and_never_given_twice() -> None:
    """A pair is two neighbours, and no port comes up again."""
    given = [free_port() for _ in range(50)]
    first = free_port_pair()
    assert len({*given, first, first + 1}) == 52


def test_a_server_that_cannot_start_tells_what_it_printed() -> None:
    """The error carries the program's own words, and nothing is left behind."""

    class Broken(Server):
        name = "broken"

        def command(self) -> list[str]:
            return ["sh", "-c", "echo no such luck; exit 3"]

    server = Broken(free_port())
    with pytest.raises(ServerError, match=r"(?s)broken ended with 3:.*no such luck"):
        server.start()
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.folder


def test_stopping_ends_the_process_and_removes_its_folder() -> None:
    """Nothing of a stopped server stays, and it can be started again."""
    server = ToxicLink(free_port())
    for _ in range(2):
        with server:
            pid, folder = server.pid, server.folder
            assert folder.is_dir()
        assert has_ended(pid)
        assert not folder.exists()


async def query(url: str, *statements: str) -> Any:
    """Run statements on a database and return the last one's first value."""
    engine = create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"))
    try:
        async with engine.begin() as connection:
            results = [await connection.execute(text(statement)) for statement in statements]
            return results[-1].scalar()
    finally:
        await engine.dispose()


async def test_postgres_creates_databases_that_do_not_know_each_other(
    postgres_server: PostgresServer,
) -> None:
    """Each database is fresh, and its address works."""
    one, other = postgres_server.create_database(), postgres_server.create_database()
    assert one != other
    is_there = "SELECT to_regclass('things') IS NOT NULL"
    assert await query(one, "CREATE TABLE things (name text)", is_there) is True
    assert await query(other, is_there) is False
    assert await query(other, "SHOW server_encoding") == "UTF8"
    postgres_server.drop_database(one)
    assert postgres_server.sql(f"SELECT count(*) FROM pg_database WHERE datname = '{one.split('/')[-1]}'") == "0"


def authorization_url(oidc_server: OidcServer, redirect_uri: str) -> str:
    """Build the request that an app would send the browser to."""
    digest = hashlib.sha256(VERIFIER.encode()).digest()
    query = {
        "client_id": "basic-app",
        "response_type": "code",
        "redirect_uri": redirect_uri,
        "scope": "openid offline_access api:read",
        "prompt": "consent",
        "state": "the-state",
        "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
    }
    return f"{oidc_server.issuer}/auth?{urlencode(query)}"


def token_request(oidc_server: OidcServer, **data: str) -> httpx.Response:
    """Ask for tokens as the app."""
    auth = ("basic-app", "basic-secret")
    return httpx.post(f"{oidc_server.issuer}/token", data=data, auth=auth, timeout=10)


def link(oidc_server: OidcServer, redirect_uri: str = CALLBACK) -> dict[str, Any]:
    """Agree and exchange the code; return the tokens."""
    back = oidc_server.consent(authorization_url(oidc_server, redirect_uri), redirect_uri)
    query = parse_qs(urlsplit(back).query)
    assert query["state"] == ["the-state"]
    answer = token_request(
        oidc_server,
        grant_type="authorization_code",
        code=query["code"][0],
        redirect_uri=redirect_uri,
        code_verifier=VERIFIER,
    )
    assert answer.status_code == 200, answer.text
    tokens: dict[str, Any] = answer.json()
    return tokens


def me(oidc_server: OidcServer, tokens: dict[str, Any]) -> httpx.Response:
    """Call the protected resource."""
    return httpx.get(f"{oidc_server.issuer}/api/me", headers={"Authorization": f"Bearer {tokens['access_token']}"})


@pytest.mark.parametrize("redirect_uri", [CALLBACK, "http://127.0.0.1:8123/callback"])
def test_consent_gives_a_code_on_any_loopback_port(oidc_server: OidcServer, redirect_uri: str) -> None:
    """The walk through the pages ends at the app's address, with tokens that work."""
    tokens = link(oidc_server, redirect_uri)
    answer = me(oidc_server, tokens)
    assert answer.status_code == 200
    assert answer.json()["sub"] == "jane"


def test_consent_can_be_denied(oidc_server: OidcServer) -> None:
    """Cancelling sends the standard refusal back."""
    back = oidc_server.consent(authorization_url(oidc_server, CALLBACK), CALLBACK, deny=True)
    assert parse_qs(urlsplit(back).query)["error"] == ["access_denied"]


def test_consent_with_ones_own_client_keeps_the_session(oidc_server: OidcServer) -> None:
    """The second time round the provider knows the person."""
    with httpx.Client() as browser:
        oidc_server.consent(authorization_url(oidc_server, CALLBACK), CALLBACK, login="ada", client=browser)
        assert any(cookie.name == "_session" for cookie in browser.cookies.jar)
        back = oidc_server.consent(
            authorization_url(oidc_server, CALLBACK), CALLBACK, login="not-asked", client=browser
        )
    code = parse_qs(urlsplit(back).query)["code"][0]
    answer = token_request(
        oidc_server, grant_type="authorization_code", code=code, redirect_uri=CALLBACK, code_verifier=VERIFIER
    )
    assert me(oidc_server, answer.json()).json()["sub"] == "ada"


def test_reuse_of_a_refresh_token_revokes_the_grant(oidc_server: OidcServer) -> None:
    """Rotation is strict: the used token is refused and the new one dies with it."""
    oidc_server.reset()
    old = link(oidc_server)["refresh_token"]
    new = token_request(oidc_server, grant_type="refresh_token", refresh_token=old).json()["refresh_token"]
    assert new != old
    for token in (old, new):
        answer = token_request(oidc_server, grant_type="refresh_token", refresh_token=token)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    stats = oidc_server.stats()
    assert stats["reuse_detected"] == 1
    assert stats["token"] == 4
    assert stats["token_ok"] == 2


def test_access_tokens_can_be_expired(oidc_server: OidcServer) -> None:
    """All of them die at once, and the resource says so as the RFC asks."""
    tokens = link(oidc_server)
    assert oidc_server.expire_access() >= 1
    answer = me(oidc_server, tokens)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


def test_faults_come_as_often_as_asked(oidc_server: OidcServer) -> None:
    """Two requests fail, the third works; an unknown fault is refused."""
    refresh_token = link(oidc_server)["refresh_token"]
    oidc_server.fault("token429", n=2, ms=3000)
    seen = []
    for _ in range(3):
        answer = token_request(oidc_server, grant_type="refresh_token", refresh_token=refresh_token)
        seen.append((answer.status_code, answer.headers.get("retry-after")))
    assert seen == [(429, "3"), (429, "3"), (200, None)]
    with pytest.raises(RuntimeError, match="unknown fault mode"):
        oidc_server.fault("tokenBoredom")  # type: ignore[arg-type]


def test_a_lost_answer_after_the_rotation_was_committed(oidc_server: OidcServer) -> None:
    """The connection breaks, and the old refresh token is used up all the same."""
    refresh_token = link(oidc_server)["refresh_token"]
    oidc_server.fault("tokenDropAfterCommit")
    with pytest.raises(httpx.TransportError):
        token_request(oidc_server, grant_type="refresh_token", refresh_token=refresh_token)
    answer = token_request(oidc_server, grant_type="refresh_token", refresh_token=refresh_token)
    assert answer.json()["error"] == "invalid_grant"


def test_a_grace_period_lets_a_used_refresh_token_work_again() -> None:
    """As some providers do, and with rotation off the token stays the same."""
    with OidcServer([CALLBACK], grace=30) as lenient:
        old = link(lenient)["refresh_token"]
        for _ in range(2):
            answer = token_request(lenient, grant_type="refresh_token", refresh_token=old)
            assert answer.status_code == 200
    with OidcServer([CALLBACK], rotate=False, at_ttl=77) as fixed:
        old = link(fixed)["refresh_token"]
        renewed = token_request(fixed, grant_type="refresh_token", refresh_token=old).json()
        assert renewed["refresh_token"] == old
        assert renewed["expires_in"] == 77


def test_redmine_lists_its_projects_to_a_key(redmine_server: RedmineServer) -> None:
    """Both users' keys and passwords work; a wrong key is nobody's."""
    for key, login in ((redmine_server.admin_key, "admin"), (redmine_server.jane_key, "jane")):
        headers = {"X-Redmine-API-Key": key}
        projects = httpx.get(f"{redmine_server.base_url}/projects.json", headers=headers).json()
        assert [project["identifier"] for project in projects["projects"]] == [RedmineServer.PROJECT]
        user = httpx.get(f"{redmine_server.base_url}/users/current.json", headers=headers).json()["user"]
        assert user["login"] == login
    assert httpx.get(f"{redmine_server.base_url}/users/current.json", auth=RedmineServer.JANE).status_code == 200
    wrong = httpx.get(f"{redmine_server.base_url}/users/current.json", headers={"X-Redmine-API-Key": "wrong"})
    assert wrong.status_code == 401


def test_redmine_takes_an_issue(redmine_server: RedmineServer) -> None:
    """Writing works too, with the default trackers and priorities."""
    headers = {"X-Redmine-API-Key": redmine_server.jane_key}
    issue = {"issue": {"project_id": RedmineServer.PROJECT, "subject": "Anker lichten ⚓"}}
    made = httpx.post(f"{redmine_server.base_url}/issues.json", json=issue, headers=headers)
    assert made.status_code == 201, made.text
    listed = httpx.get(f"{redmine_server.base_url}/issues.json", params={"limit": 1}, headers=headers).json()
    assert listed["issues"][0]["subject"] == "Anker lichten ⚓"
    assert listed["limit"] == 1


def test_a_toxic_link_can_be_made_faulty_and_clean_again() -> None:
    """Late, cut, silent, closed, and as good as new."""
    with stub_server({"GET /x": (200, "y" * 5000)}) as stub, ToxicLink(stub.port) as link:
        url = f"{link.base_url}/x"
        assert httpx.get(url).json() == "y" * 5000

        link.set(latency=0.15)
        started = time.monotonic()
        assert httpx.get(url).status_code == 200
        assert time.monotonic() - started >= 0.3

        link.set(cut_after=100)
        with pytest.raises(httpx.TransportError):
            httpx.get(url)

        link.set(blackhole=True)
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(url, timeout=0.3)

        link.set(refuse=True)
        with pytest.raises(httpx.TransportError):
            httpx.get(url)

        link.set()
        assert httpx.get(url).status_code == 200
        assert link.state().connections == 6
        assert link.state().toxics == {}
