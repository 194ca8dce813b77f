"""Codes, tokens and grants: each is good for what it is good for, once, and stops when it ends. On both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from mooring.grants import service
from mooring.grants.models import Grant, GrantRequest, GrantToken
from mooring.kit import clock, ids
from tests.flows.linking import CACHE_SECONDS, on_database, wait_until
from tests.hub import Project, ok, refused
from tests.mcp.oauth import (
    LOOPBACK,
    Program,
    browser_of,
    challenged,
    form_of,
    linked,
    oauth_error,
    offering,
    resource,
    tools_of,
)
from tests.sandbox.harness import Sandbox


@pytest.fixture
def account(project: Project, provider: Sandbox) -> str:
    return linked(offering(project), provider)


@pytest.fixture
def program(project: Project, account: str) -> Program:
    return Program(project)


# The token endpoint


def test_a_code_is_good_for_its_own_exchange(project: Project, program: Program, account: str) -> None:
    browser = browser_of(project, "owner-1")
    code = program.code(browser, [account])
    other = Program(project)
    oauth_error(program.redeem(code, code_verifier="x" * 43), 400, "invalid_grant")
    oauth_error(program.redeem(code, code_verifier=program.challenge), 400, "invalid_grant")
    oauth_error(program.redeem(code, code_verifier=None), 400, "invalid_request")
    oauth_error(program.redeem(code, redirect_uri=LOOPBACK.replace("39999", "40000")), 400, "invalid_grant")
    oauth_error(program.redeem(code, resource=f"{project.hub.url}/mcp"), 400, "invalid_target")
    oauth_error(program.redeem(code, resource="https://other.example/mcp"), 400, "invalid_target")
    oauth_error(program.redeem(code, client_id=other.client_id), 400, "invalid_grant")
    oauth_error(program.redeem(code, client_id="unknown"), 401, "invalid_client")
    oauth_error(program.redeem(code, client_secret="guess"), 401, "invalid_client")
    oauth_error(program.redeem(code, grant_type="password"), 400, "unsupported_grant_type")
    oauth_error(program.http.post("/oauth/token", json={}), 400, "invalid_request")
    twice = "grant_type=authorization_code&client_id=a&client_id=b"
    form = {"content-type": "application/x-www-form-urlencoded"}
    oauth_error(program.http.post("/oauth/token", content=twice, headers=form), 400, "invalid_request")
    tokens = ok(program.redeem(code))
    assert tools_of(program.call(tokens["access_token"]))
    oauth_error(program.redeem(code), 400, "invalid_grant")
    challenged(program.call(tokens["access_token"]), project, "invalid_token")
    oauth_error(program.renew(tokens["refresh_token"]), 400, "invalid_grant")
    (grant,) = ok(project.http.get("/mcp/grants?ended=true"))["data"]
    assert grant["revoked_by"] == "reuse"


def test_a_code_is_over_after_a_minute(project: Project, program: Program, account: str) -> None:
    code = program.code(browser_of(project, "owner-1"), [account])
    late = update(Grant).where(Grant.code_hash == ids.digest(code)).values(code_expires_at=clock.now())
    on_database(project.hub, lambda tx: tx.execute(late))
    oauth_error(program.redeem(code), 400, "invalid_grant")


def _spent_before(token: str, seconds: float) -> Any:
    at = clock.now() - timedelta(seconds=seconds)
    return update(GrantToken).where(GrantToken.hash == ids.digest(token)).values(used_at=at)


def test_a_refresh_token_works_once_and_a_lost_answer_is_repeated(
    project: Project, program: Program, account: str
) -> None:
    first = program.connect(browser_of(project, "owner-1"), [account])
    with ThreadPoolExecutor(4) as pool:
        answers = [ok(a) for a in pool.map(lambda _: program.renew(first["refresh_token"]), range(4))]
    assert len({(a["access_token"], a["refresh_token"]) for a in answers}) == 1  # whoever asks twice at once agrees
    second = answers[0]
    assert second["refresh_token"] != first["refresh_token"] and tools_of(program.call(second["access_token"]))
    third = ok(program.renew(second["refresh_token"]))
    # The second one was used, so its answer arrived: the first one comes from somebody else, though it is not yet old.
    oauth_error(program.renew(first["refresh_token"]), 400, "invalid_grant")
    challenged(program.call(third["access_token"]), project, "invalid_token")
    oauth_error(program.renew(third["refresh_token"]), 400, "invalid_grant")


def test_a_refresh_token_that_comes_back_late_ends_the_grant(project: Project, program: Program, account: str) -> None:
    first = program.connect(browser_of(project, "owner-1"), [account])
    second = ok(program.renew(first["refresh_token"]))
    on_database(project.hub, lambda tx: tx.execute(_spent_before(first["refresh_token"], 31)))
    oauth_error(program.renew(first["refresh_token"]), 400, "invalid_grant")
    oauth_error(program.renew(second["refresh_token"]), 400, "invalid_grant")
    (entry, *_) = ok(project.http.get("/mcp/grants?ended=true"))["data"]
    assert entry["revoked_by"] == "reuse"


def test_refreshing_gives_no_more_than_was_granted(project: Project, program: Program, account: str) -> None:
    token = program.connect(browser_of(project, "owner-1"), [account])["refresh_token"]
    oauth_error(program.renew(token, scope="mcp:read mcp:write"), 400, "invalid_scope")
    oauth_error(program.renew(token, resource=f"{project.hub.url}/mcp"), 400, "invalid_target")
    oauth_error(program.renew(token, client_id=Program(project).client_id), 400, "invalid_grant")
    assert ok(program.renew(token, scope="mcp:read offline_access"))["scope"] == "mcp:read"


# Tokens at /mcp


def test_a_token_opens_its_own_resource_alone(
    project: Project, program: Program, account: str, provider: Sandbox, other_project: Project
) -> None:
    foreign = linked(offering(other_project), provider)
    token = program.connect(browser_of(project, "owner-1"), [account], "write")["access_token"]
    assert "sandbox_delete_employee" in tools_of(program.call(token))
    challenged(program.call(token, url=resource(other_project)), other_project, "invalid_token")
    challenged(program.call(token, url="/mcp"), None, "invalid_token")
    for path in ("/accounts", "/actions", "/mcp/grants", "/project", "/proxy/api/me"):
        headers = {"authorization": f"Bearer {token}", "x-account-id": account}
        refused(program.http.get(path, headers=headers), 401)
    refused(program.call(token, url=f"{resource(project)}?x-account-id={foreign}"), 403, "AccountNotAllowedError")
    mine = linked(project, provider, "owner-2")
    refused(program.call(token, url=f"{resource(project)}?x-account-id={mine}"), 403, "AccountNotAllowedError")
    assert tools_of(program.call(token, url=f"{resource(project)}?x-account-id={account}"))


def test_reading_is_not_writing(project: Project, program: Program, account: str) -> None:
    token = program.connect(browser_of(project, "owner-1"), [account])["access_token"]
    told = program.tool(token, "sandbox_delete_employee", path={"id": "emp-1"})
    assert told["isError"] and "ReadOnlyGrantError" in told["content"][0]["text"]


def test_an_access_token_is_over_after_its_time(project: Project, program: Program, account: str) -> None:
    token = program.connect(browser_of(project, "owner-1"), [account])["access_token"]
    late = update(GrantToken).where(GrantToken.hash == ids.digest(token)).values(expires_at=clock.now())
    on_database(project.hub, lambda tx: tx.execute(late))
    challenged(program.call(token), project, "invalid_token")


@pytest.mark.parametrize("how", ["operator", "client", "end_user", "account", "owner", "switched off"])
def test_a_grant_that_ends_stops_within_a_second(project: Project, program: Program, account: str, how: str) -> None:
    browser = browser_of(project, "owner-1")
    tokens = program.connect(browser, [account])
    assert tools_of(program.call(tokens["access_token"]))
    (grant,) = ok(project.http.get("/mcp/grants"))["data"]
    if how == "operator":
        assert ok(project.http.delete(f"/mcp/grants/{grant['id']}"))["revoked_by"] == "operator"
    elif how == "client":
        form = {"token": tokens["refresh_token"], "client_id": program.client_id}
        assert program.http.post("/oauth/revoke", data={**form, "client_id": "another"}).status_code == 401
        assert program.http.post("/oauth/revoke", data=form).status_code == 200
        assert program.http.post("/oauth/revoke", data=form).status_code == 200  # RFC 7009 §2.2
    elif how == "end_user":
        page = browser.get("/connect/assistants")
        assert "Desk" in page.text and "Only read" in page.text
        url = f"/connect/assistants/disconnect/{grant['id']}"
        assert browser.post(url, data={"token": "0" * 64}).status_code == 403
        assert browser_of(project, "owner-2").post(url, data=form_of(page)).status_code == 403
        assert browser.post(url, data=form_of(page)).status_code == 303
        assert "No assistant is connected" in browser.get("/connect/assistants").text
    elif how == "account":
        ok(project.http.delete(f"/accounts/{account}"))
    elif how == "owner":
        ok(project.http.patch(f"/accounts/{account}", json={"origin_owner_id": "owner-9"}))
    else:
        ok(project.http.patch("/project", json={"assistants": False}))
    wait_until(lambda: program.call(tokens["access_token"]).status_code in {401, 404}, CACHE_SECONDS + 0.6)
    oauth_error(program.renew(tokens["refresh_token"]), 400, "invalid_grant")


# The operator's view


def test_grants_are_listed_audited_and_belong_to_one_project(
    project: Project, program: Program, account: str, other_project: Project
) -> None:
    browser = browser_of(project, "owner-1")
    program.connect(browser, [account])
    program.connect(browser, [account], "write")  # the same program again: its older grant goes
    (grant,) = ok(project.http.get("/mcp/grants"))["data"]
    assert grant["access"] == "write" and grant["origin_owner_name"] == "owner-1 Inc."
    assert [g["revoked_by"] for g in ok(project.http.get("/mcp/grants?ended=true"))["data"]] == [None, "replaced"]
    assert ok(project.http.get("/mcp/grants?origin_owner_id=owner-2"))["data"] == []
    assert ok(project.http.get(f"/mcp/grants/{grant['id']}")) == grant
    assert ok(other_project.http.get("/mcp/grants"))["data"] == []
    refused(other_project.http.get(f"/mcp/grants/{grant['id']}"), 404)
    refused(other_project.http.delete(f"/mcp/grants/{grant['id']}"), 404)


def test_housekeeping_drops_what_is_over_and_nothing_else(
    project: Project, program: Program, account: str, provider: Sandbox
) -> None:
    kept = program.connect(browser_of(project, "owner-1"), [account])
    never = Program(project)
    never.code(browser_of(project, "owner-1"), [account])  # nobody came for its code
    lost = linked(project, provider, "owner-2")
    orphan = Program(project).connect(browser_of(project, "owner-2"), [lost])
    waiting = program.authorize(browser_of(project, "owner-1"))
    ok(project.http.delete(f"/accounts/{lost}"))

    async def clean(tx: Any) -> list[int]:
        past = clock.now() - timedelta(seconds=1)
        mine = (Grant.project_id == project.id, Grant.client_id == never.client_id)
        await tx.execute(update(Grant).where(*mine).values(code_expires_at=past))
        mine_too = GrantRequest.project_id == project.id
        await tx.execute(update(GrantRequest).where(mine_too).values(expires_at=past))
        await service.purge(tx)
        grants = select(func.count()).select_from(Grant).where(Grant.project_id == project.id)
        requests = select(func.count()).select_from(GrantRequest).where(mine_too)
        return [await tx.scalar(grants), await tx.scalar(requests)]

    assert on_database(project.hub, clean) == [1, 0]
    assert tools_of(program.call(kept["access_token"])) and ok(program.renew(kept["refresh_token"]))
    oauth_error(program.renew(orphan["refresh_token"]), 400, "invalid_grant")
    assert browser_of(project).get(waiting.headers["location"]).status_code == 401
