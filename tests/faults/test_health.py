"""What calls tell of an account's health: a 401 is verified, an error ends by itself, nothing costs the caller."""

from __future__ import annotations

import time
from typing import Any

import pytest

from mooring.kit import clock
from tests.faults.conftest import World
from tests.faults.provider import Cell
from tests.flows.linking import alter, credential, on_database, wait_until
from tests.hub import Project, ok


@pytest.fixture
def project(world: World) -> Project:
    return world.hub.new_project()


def linked(world: World, project: Project, connector: str = "faulty") -> tuple[str, Cell]:
    """An account with an API key, and its part of the provider."""
    name = f"health-{time.monotonic_ns()}"
    config = project.config(connector, "key", {"origin": world.origin(name)})
    return project.link(config, {"api_key": "a-long-api-key"}), world.provider.cell(name)


def state(project: Project, account: str) -> tuple[str, list[str]]:
    seen = project.account(account)
    return seen["status"], [r["code"] for r in seen["status_reasons"]]


def events(project: Project, account: str) -> list[str]:
    """What was told of the account, oldest first."""
    rows = ok(project.http.get("/events", params={"account_id": account, "page_size": 100}))["data"]
    return [row["event"] for row in reversed(rows) if row["event"].startswith("account.")]


def test_a_401_is_verified_and_then_the_account_goes_to_error(world: World, project: Project) -> None:
    account, cell = linked(world, project)
    cell.api = "status_401"
    begun = time.monotonic()
    assert project.proxy(account, path="/things").status_code == 401
    assert time.monotonic() - begun < 2
    wait_until(lambda: state(project, account) == ("error", ["wrong_credentials"]))
    assert time.monotonic() - begun < 8
    assert cell.seen["/me"] == 2  # the link, and the verification
    assert events(project, account) == ["account.created", "account.error"]
    reason = project.account(account)["status_reasons"][0]
    assert "does not accept these credentials" in reason["description"]
    assert "a-long-api-key" not in str(reason)


def test_a_401_of_one_resource_leaves_the_account_active(world: World, project: Project) -> None:
    account, cell = linked(world, project)
    cell.paths["secret-things"] = "status_401"
    assert project.proxy(account, path="/secret-things").status_code == 401
    wait_until(lambda: cell.seen["/me"] == 2)
    time.sleep(0.5)
    assert state(project, account) == ("active", [])
    assert events(project, account) == ["account.created"]


def test_many_401s_cost_one_verification_a_minute(world: World, project: Project) -> None:
    account, cell = linked(world, project)
    cell.paths["secret-things"] = "status_401"
    for _ in range(20):
        assert project.proxy(account, path="/secret-things").status_code == 401
    wait_until(lambda: cell.seen["/me"] == 2)
    for _ in range(20):
        project.proxy(account, path="/secret-things")
    time.sleep(1.5)
    assert cell.seen["/me"] == 2


def test_an_error_ends_with_the_next_call_that_works(world: World, project: Project) -> None:
    account, cell = linked(world, project)
    cell.api = "status_401"
    project.proxy(account, path="/things")
    wait_until(lambda: state(project, account)[0] == "error")
    cell.api = "good"
    assert project.proxy(account, path="/things").status_code == 200
    wait_until(lambda: state(project, account) == ("active", []), seconds=3)
    for _ in range(10):
        assert project.proxy(account, path="/things").status_code == 200
    assert events(project, account) == ["account.created", "account.error", "account.updated"]


def test_an_error_ends_with_the_next_probe_that_works(world: World, project: Project) -> None:
    account, cell = linked(world, project)
    cell.api = "status_401"
    project.proxy(account, path="/things")
    wait_until(lambda: state(project, account)[0] == "error")
    cell.api = "good"
    probe_now(world, account)
    wait_until(lambda: state(project, account) == ("active", []), seconds=40)


def probe_now(world: World, account: str) -> None:
    """Let it be the account's turn, and the turn of the periodic job."""
    alter(world.hub, account, probe_at=clock.now())

    async def work(tx: Any) -> None:
        from sqlalchemy import update

        from mooring.kit.jobs import Job

        await tx.execute(update(Job).where(Job.kind == "probe_due").values(run_at=clock.now()))

    on_database(world.hub, work)


def test_without_probes_a_401_is_the_callers_alone(world: World, project: Project) -> None:
    account, cell = linked(world, project, "unprobed")
    cell.api = "status_401"
    assert project.proxy(account, path="/things").status_code == 401
    time.sleep(1.5)
    assert cell.seen["/me"] == 1
    assert state(project, account) == ("active", [])


def test_an_outage_during_the_verification_proves_nothing(world: World, project: Project) -> None:
    account, cell = linked(world, project)
    cell.paths["things"] = "status_401"
    cell.api = "status_503"
    project.proxy(account, path="/things")
    wait_until(lambda: cell.seen["/me"] == 2)
    time.sleep(0.5)
    assert state(project, account) == ("active", [])


def test_no_probe_is_sent_while_the_provider_wants_no_requests(world: World, project: Project) -> None:
    account, cell = linked(world, project)
    cell.paths["things"] = "status_429_seconds"
    cell.paths["secret-things"] = "status_401"
    assert project.proxy(account, path="/things").status_code == 429
    alter(world.hub, account, probe_at=clock.now())
    probe_now(world, account)
    held = project.proxy(account, path="/secret-things", headers={"prefer": "wait=0"})
    assert held.status_code == 429 and held.json()["errorCode"] == "ProviderRateLimitError"
    time.sleep(2)
    assert cell.seen["/me"] == 1


def test_a_429_postpones_the_probe_that_was_planned(world: World, project: Project) -> None:
    account, cell = linked(world, project)
    alter(world.hub, account, probe_at=clock.now())
    cell.paths["things"] = "status_429_date"
    project.proxy(account, path="/things")

    def postponed() -> bool:
        row = credential(world.hub, account)
        assert row is not None and row.probe_at is not None
        return 2 < (row.probe_at - clock.now()).total_seconds() < 9

    wait_until(postponed)


def test_a_new_credential_is_verified_at_once(world: World, project: Project) -> None:
    account, cell = linked(world, project)
    cell.paths["things"] = "status_401"
    project.proxy(account, path="/things")
    wait_until(lambda: cell.seen["/me"] == 2)
    session = project.session(account_id=account)
    config = project.account(account)["integration_id"]
    ok(
        session.http.patch(
            f"/hub/accounts/{account}", json={"integration_id": config, "credentials": {"api_key": "b" * 9}}
        )
    )
    cell.api = "status_401"
    project.proxy(account, path="/things")
    wait_until(lambda: state(project, account)[0] == "error")


def test_a_relink_of_a_faulty_account_still_warns_of_another_identity(world: World, project: Project) -> None:
    account, cell = linked(world, project)
    cell.api = "status_401"
    project.proxy(account, path="/things")
    wait_until(lambda: state(project, account)[0] == "error")
    cell.api, cell.identity = "good", "somebody-else"
    session = project.session(account_id=account)
    config = project.account(account)["integration_id"]
    path = f"/hub/accounts/{account}"
    answer = ok(session.http.patch(path, json={"integration_id": config, "credentials": {"api_key": "b" * 9}}))
    assert answer["warning"]["code"] == "identity_changed"
    assert "somebody-else" in answer["warning"]["description"]
    assert state(project, account) == ("active", ["identity_changed"])
    assert events(project, account)[-2:] == ["account.updated", "account.identity_changed"]
    told = ok(project.http.get("/events", params={"event": "account.identity_changed"}))["data"][0]["payload"]
    assert told["provider_account"]["id"] == "somebody-else"
    assert told["previous_provider_account"]["id"].startswith("health-")
