"""A real ticketing system behind the proxy: Redmine, as Debian packages it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.conftest import Ports
from tests.hub import Project, ok, refused
from tests.servers.redmine import RedmineServer

CURRENT = "/users/current.json"
ISSUES = "/issues.json"


def form(redmine: RedmineServer, method: str) -> dict[str, str]:
    """What jane types into the form of a method."""
    address = {"base_url": redmine.base_url}
    if method == "password":
        return {**address, "username": redmine.JANE[0], "password": redmine.JANE[1]}
    return {**address, "api_key": redmine.jane_key}


@pytest.fixture
def account(project: Project, redmine: RedmineServer) -> str:
    """Jane's account, by her API key in a header."""
    return project.link(project.config("redmine", "api_key"), form(redmine, "api_key"))


def unified(project: Project, account: str, **ask: Any) -> dict[str, Any]:
    """A call through the JSON envelope."""
    answer: dict[str, Any] = ok(project.http.post("/unified/proxy", json=ask, headers={"x-account-id": account}))
    return answer


@pytest.mark.parametrize("method", ["api_key", "password", "basic_key"])
def test_each_method_links_and_calls_as_jane(project: Project, redmine: RedmineServer, method: str) -> None:
    account = project.link(project.config("redmine", method), form(redmine, method))
    assert ok(project.proxy(account, path=CURRENT))["user"]["login"] == "jane"
    seen = project.account(account)
    assert seen["provider_account"]["label"] == "jane"
    assert seen["setup_information"]["base_url"] == redmine.base_url


def test_a_ticket_is_made_changed_listed_and_deleted(project: Project, redmine: RedmineServer) -> None:
    key = {"base_url": redmine.base_url, "api_key": redmine.admin_key}
    admin = project.link(project.config("redmine", "api_key"), key, owner="admin")
    new = {"issue": {"project_id": redmine.PROJECT, "subject": "Anker lichten ⚓", "description": "x" * 20_000}}
    made = ok(project.proxy(admin, "POST", "/issues.json", json=new), 201)["issue"]
    path = f"/issues/{made['id']}.json"
    changed = project.proxy(admin, "PUT", path, json={"issue": {"subject": "Anker werfen", "notes": "done"}})
    assert changed.status_code == 204 and changed.content == b""
    shown = ok(project.proxy(admin, path=f"{path}?include=journals"))["issue"]
    assert (shown["subject"], shown["journals"][0]["notes"]) == ("Anker werfen", "done")
    listed = ok(project.proxy(admin, path="/issues.json?sort=id:desc&limit=1&status_id=*"))
    assert (listed["issues"][0]["id"], listed["limit"]) == (made["id"], 1)
    assert project.proxy(admin, "DELETE", path).status_code == 204
    assert project.proxy(admin, path=path).status_code == 404


def test_a_ticket_through_the_envelope(project: Project, redmine: RedmineServer, account: str) -> None:
    new = {"issue": {"project_id": redmine.PROJECT, "subject": "Through the envelope"}}
    made = unified(project, account, method="post", path="/issues.json", body=new)
    assert made["status"] == 201 and made["data"]["issue"]["subject"] == "Through the envelope"
    shown = unified(project, account, path=f"/issues/{made['data']['issue']['id']}.json")
    assert shown["data"]["issue"]["author"]["name"] == "Jane Doe"
    wrong = unified(project, account, method="post", path="/issues.json", body={"issue": {"subject": "no project"}})
    assert wrong["status"] == 422 and wrong["provider_errors"][0]["status"] == 422


@pytest.mark.parametrize("way", ["stream", "envelope"])
def test_no_cookie_comes_through(project: Project, redmine: RedmineServer, account: str, way: str) -> None:
    direct = httpx.get(redmine.base_url + ISSUES, headers={"X-Redmine-API-Key": redmine.jane_key}, trust_env=False)
    assert "set-cookie" in direct.headers
    if way == "stream":
        headers = dict(project.proxy(account, path=ISSUES, headers={"cookie": "Redmine=stolen"}).headers)
    else:
        headers = unified(project, account, path=ISSUES)["headers"]
    assert headers["content-type"].startswith("application/json")
    assert "set-cookie" not in headers


@pytest.mark.parametrize("way", ["stream", "envelope"])
def test_the_key_that_redmine_repeats_is_masked(
    project: Project, redmine: RedmineServer, account: str, way: str
) -> None:
    if way == "stream":
        answer = project.proxy(account, path=CURRENT)
        user, text = ok(answer)["user"], answer.text
    else:
        whole = unified(project, account, path=CURRENT)
        user, text = whole["data"]["user"], str(whole)
    assert redmine.jane_key not in text
    assert user["api_key"] == "*" * len(redmine.jane_key)


def test_the_callers_own_key_is_replaced(project: Project, redmine: RedmineServer, account: str) -> None:
    answer = project.proxy(account, path=CURRENT, headers={"X-Redmine-API-Key": redmine.admin_key})
    assert ok(answer)["user"]["login"] == "jane"


@pytest.mark.parametrize("method", ["api_key", "password", "basic_key"])
def test_wrong_credentials_are_refused_with_their_cause(project: Project, redmine: RedmineServer, method: str) -> None:
    config = project.config("redmine", method)
    secret = "password" if method == "password" else "api_key"
    wrong = {**form(redmine, method), secret: "canary0123456789"}
    body = refused(project.session().submit(config["id"], wrong), 422, "CredentialRejectedError")
    assert body["cause"] == "wrong_credentials" and body["hint"]
    assert "canary" not in str(body)
    assert project.http.get("/accounts").json() == []


ADDRESSES: dict[str, tuple[str, int, str, str | None]] = {
    "nothing listens": ("http://127.0.0.1:{spare}", 422, "CredentialRejectedError", "refused"),
    "not on the operator's list": ("http://127.0.0.1:1", 422, "CredentialRejectedError", "egress_blocked"),
    "another path on the host": ("{redmine}/elsewhere", 422, "CredentialRejectedError", "wrong_host"),
    "user name before the host": ("http://jane@127.0.0.1:{port}", 422, "ValidationError", None),
    "a path that climbs": ("{redmine}/../x", 400, "InvalidUrlError", None),
    "a query": ("{redmine}?x=1", 422, "ValidationError", None),
    "no http": ("file:///etc/passwd", 422, "ValidationError", None),
}


@pytest.mark.parametrize("kind", ADDRESSES)
def test_a_wrong_address_is_refused_with_its_cause(
    project: Project, redmine: RedmineServer, ports: Ports, kind: str
) -> None:
    address, status, code, cause = ADDRESSES[kind]
    typed = address.format(spare=ports.spare[-1], redmine=redmine.base_url, port=redmine.port)
    config = project.config("redmine", "api_key")
    answer = project.session().submit(config["id"], {"base_url": typed, "api_key": redmine.jane_key})
    body = refused(answer, status, code)
    assert body.get("cause") == cause, body
    assert redmine.jane_key not in str(body)
    assert project.http.get("/accounts").json() == []


def test_a_key_with_a_stray_space_inside_says_so(project: Project, redmine: RedmineServer) -> None:
    config = project.config("redmine", "api_key")
    key = f"{redmine.jane_key[:5]} {redmine.jane_key[5:]}"
    answer = project.session().submit(config["id"], {"base_url": redmine.base_url, "api_key": key})
    assert refused(answer, 422)["cause"] == "stray_spaces"


def test_spaces_around_a_key_are_trimmed(project: Project, redmine: RedmineServer) -> None:
    typed = {"base_url": f" {redmine.base_url}", "api_key": f"\t{redmine.jane_key}\n"}
    account = project.link(project.config("redmine", "api_key"), typed)
    assert ok(project.proxy(account, path=CURRENT))["user"]["login"] == "jane"


def test_an_inactive_account_reaches_nobody(project: Project, redmine: RedmineServer, account: str) -> None:
    ok(project.http.patch(f"/auth_configs/{project.account(account)['integration_id']}", json={"active": False}))
    refused(project.proxy(account, "DELETE", "/issues/1.json"), 412, "AccountIntegrationInactiveError")
