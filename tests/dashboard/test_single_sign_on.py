"""Single sign-on against oidc-provider: who was invited comes in, nobody else, and no forged answer is taken."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from tests.conftest import Ports
from tests.dashboard.people import Person, done, set_up, text
from tests.hub import Hub
from tests.rows import query
from tests.servers.oidc import OidcServer
from tests.servers.ports import free_port


@pytest.fixture(scope="module")
def hub(ports: Ports, oidc_running: OidcServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub with single sign-on, and jane invited."""
    env = {
        "MOORING_OIDC_ISSUER": oidc_running.issuer,
        "MOORING_OIDC_CLIENT_ID": "basic-app",
        "MOORING_OIDC_CLIENT_SECRET": "basic-secret",
    }
    folder = tmp_path_factory.mktemp("sso")
    with Hub(folder, free_port(), single_process=True, egress_allow=ports.egress_allow, env=env) as running:
        owner = set_up(running)
        form = {"email": "jane@example.com", "name": "Jane", "role": "admin"}
        assert owner.post("/dashboard/organizations/1/members", form).status_code == 200
        yield running


def begin(hub: Hub, oidc: OidcServer, login: str) -> tuple[Person, str]:
    """A browser that went to the provider and back; returns the callback's address, not yet opened."""
    person = Person(hub, f"{login}@example.com")
    away = person.get("/dashboard/sso?next=/dashboard/profile")
    assert away.status_code == 303, text(away)
    asked = parse_qs(urlsplit(away.headers["location"]).query)
    assert asked["code_challenge_method"] == ["S256"] and asked["nonce"] and len(asked["state"][0]) >= 43
    callback = oidc.consent(away.headers["location"], f"{hub.url}/dashboard/sso/callback", login=login)
    return person, callback


def test_an_invited_person_comes_in_and_is_known_the_next_time(hub: Hub, oidc: OidcServer) -> None:
    for _ in range(2):
        person, callback = begin(hub, oidc, "jane")
        landed = person.get(callback)
        assert landed.status_code == 303 and landed.headers["location"] == "/dashboard/profile", text(landed)
        assert "jane@example.com" in person.get("/dashboard/profile").text
    assert query(hub, "SELECT subject FROM users WHERE email = 'jane@example.com'") == [(f"{oidc.issuer} jane",)]


@pytest.mark.parametrize("login", ["mallory", "unverified-jane"])
def test_nobody_else_comes_in(hub: Hub, oidc: OidcServer, login: str) -> None:
    person, callback = begin(hub, oidc, login)
    assert person.get(callback).status_code == 401
    assert person.get("/dashboard/profile").status_code == 303


def test_an_answer_serves_once_and_only_in_the_browser_that_began(hub: Hub, oidc: OidcServer) -> None:
    _, callback = begin(hub, oidc, "jane")
    assert Person(hub, "thief@example.com").get(callback).status_code == 400
    person, callback = begin(hub, oidc, "jane")
    assert person.get(callback).status_code == 303
    assert person.get(callback).status_code == 400


@pytest.mark.parametrize("change", ["state", "iss", "no-iss", "code", "twice", "error"])
def test_a_forged_answer_is_refused(hub: Hub, oidc: OidcServer, change: str) -> None:
    person, callback = begin(hub, oidc, "jane")
    path, _, raw = callback.partition("?")
    values = {k: v[0] for k, v in parse_qs(raw).items()}
    extra = ""
    if change == "no-iss":
        del values["iss"]
    elif change == "twice":
        extra = "&code=other"
    elif change == "error":
        values = {"error": "access_denied", "state": values["state"], "iss": values["iss"]}
    else:
        values[change] = "https://evil.example" if change == "iss" else "x" * 43
    before = oidc.stats()["token"] if change == "iss" else None
    answer = person.get(f"{path}?{urlencode(values)}{extra}")
    assert answer.status_code in {400, 401, 502}, text(answer)
    assert person.get("/dashboard/profile").status_code == 303
    if before is not None:
        assert oidc.stats()["token"] == before, "a code must not be sent after a wrong iss"


def test_the_password_still_works_beside_it(hub: Hub) -> None:
    owner = Person(hub, "owner@example.com")
    assert "Sign in with your organization" in owner.get("/dashboard/sign-in").text
    done(owner.sign_in())
