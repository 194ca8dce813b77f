"""Per-owner export and erasure: everything that is theirs, nothing of anybody else's, and an audit chain that holds."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import stat
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pytest

from mooring.connectors.registry import load_registry
from mooring.identity import audit
from mooring.identity.service import ProjectId
from mooring.kit.db import Database
from mooring.kit.vault import Vault
from mooring.migrations.tables import METADATA
from mooring.operations.mass_revocation import Parts
from mooring.operations.owner_erasure import erase
from mooring.operations.owner_export import export
from tests.flows.linking import link_sandbox
from tests.hub import Hub, Project, Session, ok, refused
from tests.rows import query
from tests.sandbox.harness import Sandbox

T = TypeVar("T")
OWNER = "customer-Zoë-4711"  # what must be nowhere afterwards, in whatever form
NAME = "Zoë Quaternion GmbH"
MARKS = (OWNER, NAME)  # user name, label and metadata hold the first
SECRET = "sandbox-key-acme"


@pytest.fixture(params=["sqlite", "postgres"], scope="module")
def hub(request: pytest.FixtureRequest, hubs: Callable[[str], Hub]) -> Hub:
    return hubs(request.param)


def beside(hub: Hub, action: Callable[[Database, Vault], Awaitable[T]]) -> T:
    """What a command does, without the time that a process takes to start."""

    async def run() -> T:
        db, vault = Database(hub.database_url), Vault.from_file(hub.folder / "data.keys", data_dir=hub.folder / "data")
        try:
            audit.attach(db, vault)
            return await action(db, vault)
        finally:
            await db.close()

    return asyncio.run(run())


def export_of(project: Project, owner: str) -> dict[str, Any]:
    async def run(db: Database, _: Vault) -> bytes:
        return b"".join([piece async for piece in export(db, project.id, owner)])

    made: dict[str, Any] = json.loads(beside(project.hub, run))
    return made


def erase_of(project: Project, owner: str) -> dict[str, int]:
    async def run(db: Database, vault: Vault) -> dict[str, int]:
        return (await erase(db, Parts(vault, load_registry(None)), ProjectId(project.id), owner)).counts

    return beside(project.hub, run)


def dump(hub: Hub) -> str:
    """Every value of every table, as text; JSON and bytes included."""
    tables = {table.name: query(hub, f"SELECT * FROM {table.name}") for table in METADATA.sorted_tables}
    rows = [f"{name}: {' | '.join(map(_text, row))}" for name, found in tables.items() for row in found]
    return "\n".join(rows)


def tells(line: str) -> bool:
    return any(mark.casefold() in line.casefold() for mark in MARKS)


def _text(value: Any) -> str:
    if isinstance(value, bytes | memoryview):
        return bytes(value).decode("utf-8", "replace")
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    try:  # SQLite gives JSON as text, with its escapes
        return json.dumps(json.loads(shown), ensure_ascii=False) if shown[:1] in "{[" else shown
    except ValueError:
        return shown


def in_bytes_of(hub: Hub, copy: Path) -> list[str]:
    """The marks that the file holds after a VACUUM, however they are written."""
    with closing(sqlite3.connect(hub.database_url.removeprefix("sqlite:///"), isolation_level=None)) as db:
        db.execute("VACUUM INTO ?", (str(copy),))
    held = copy.read_bytes().lower()
    forms = {mark: (mark, mark.casefold(), json.dumps(mark)[1:-1], json.dumps(mark.casefold())[1:-1]) for mark in MARKS}
    return [mark for mark, written in forms.items() if any(form.encode().lower() in held for form in written)]


def lived_in(project: Project, sandbox_url: str, owner: str, name: str) -> str:
    """An owner of whom there is something in every place: accounts, attempts, calls, feedback, answers."""
    http = project.http
    config = project.config("sandbox", "api_key", {"sandbox_url": sandbox_url})
    app = {"sandbox_url": sandbox_url, "client_id": "sandbox-client", "client_secret": "sandbox-secret"}
    consent = project.config("sandbox", "oauth2", app, default=False)
    body = {"origin_owner_id": owner, "origin_owner_name": name}
    more = {
        "origin_username": f"user of {owner}",
        "label": f"label of {owner}",
        "metadata": {"row": f"row of {owner}"},
    }
    headers = {"idempotency-key": f"once-{owner}".encode("ascii", "ignore").decode()}
    answered = ok(
        http.post("/connect_sessions", json={**body, **more, "integration_id": config["id"]}, headers=headers), 201
    )
    session = Session(project, answered)
    account = str(ok(session.submit(config["id"], {"api_key": SECRET}))["id"])
    assert (
        session.submit(config["id"], {"api_key": "wrong"}).status_code >= 400
    )  # a failed link is logged with its owner
    other = Session(project, ok(http.post("/connect_sessions", json={**body, "integration_id": consent["id"]}), 201))
    attempt = other.attempt()  # an attempt tells its events
    other.http.request("DELETE", f"/hub/connection_attempts/{attempt}")
    ok(project.proxy(account, "GET", "/api/me"))
    ok(project.proxy(account, "GET", f"/api/echo/{account}"))
    ok(http.patch(f"/accounts/{account}", json={"label": f"new label of {owner}"}))
    feedback = {"feedback": f"{name} likes it", "account_id": account, "tool_names": ["x"]}
    ok(http.post("/ai/tool-feedback", json=feedback))
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if len(ok(http.get("/requests/logs", params={"account_ids": account}))["data"]) >= 2:
            return account
        time.sleep(0.05)
    raise AssertionError("the calls were not logged")


@pytest.fixture(scope="module")
def lives(hub: Hub, provider_url: str) -> Iterator[tuple[Project, str, str]]:
    project = hub.new_project("privacy")
    owners = ((OWNER, NAME), ("customer-other", "Other Ltd."))
    account, other = (lived_in(project, provider_url, *owner) for owner in owners)
    yield Project(hub, project.id, project.key), account, other


@pytest.fixture(autouse=True)
def _open_again(lives: tuple[Project, str, str]) -> None:
    """Clients are closed at the end of each test; the project is there for all of them."""
    lives[0].__post_init__()


def test_an_export_holds_everything_of_the_owner_and_no_secret(
    hub: Hub, lives: tuple[Project, str, str], tmp_path: Path
) -> None:
    project, account, other = lives
    file = tmp_path / "zoe.json"
    hub.command("owner", "export", OWNER, "--project", project.id, "--output", str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    raw = file.read_text()
    document = json.loads(raw)
    assert document["origin_owner_id"] == OWNER and document["project_id"] == project.id
    (exported,) = document["accounts"]
    assert (exported["id"], exported["origin_owner_name"]) == (account, NAME)
    assert exported["metadata"] == {"row": f"row of {OWNER}"} and exported["credential"]["generation"] == 1
    assert len(document["connect_sessions"]) == 2 and len(document["connection_attempts"]) == 1
    assert {row["account_id"] for row in document["requests"] if row["category"] == "unified"} == {account}
    assert [row for row in document["requests"] if row["category"] == "platform"]  # the link that failed
    told = {event["event"] for event in document["events"]}
    assert {"account.created", "connection_attempt.started", "tool_feedback.created"} <= told
    done = {entry["action"] for entry in document["audit_entries"]}
    assert {"account.created", "account.updated", "connect_session.created"} <= done
    assert other not in raw and "customer-other" not in raw and "Other Ltd." not in raw
    for sealed in (SECRET, "sandbox-secret", "token_hash", "sealed"):
        assert sealed not in raw
    again = export_of(project, OWNER)
    assert again["accounts"] == document["accounts"]
    assert again["audit_entries"][-1]["action"] == "owner.exported"


def test_an_erasure_leaves_nothing_of_the_owner_and_everything_of_others(
    hub: Hub, lives: tuple[Project, str, str], tmp_path: Path
) -> None:
    project, account, other = lives
    export_of(project, OWNER)  # that they were exported names them too
    before = dump(hub)
    if hub.database_url.startswith("sqlite"):
        assert in_bytes_of(hub, tmp_path / "before.db") == list(MARKS)
    assert all(mark in before for mark in MARKS)
    if hub.database_url.startswith("sqlite"):
        unsure = hub.command("owner", "erase", OWNER, "--project", project.id, check=False)
        assert unsure.returncode == 1 and ok(project.proxy(account, "GET", "/api/me"))
    others = export_of(project, "customer-other")
    done = hub.command("owner", "erase", OWNER, "--project", project.id, "--yes")
    counts = dict(line.split("\t") for line in done.stdout.splitlines())
    assert int(counts["accounts"]) == 1 and int(counts["connect_sessions"]) == 2 and int(counts["requests"]) >= 3
    assert int(counts["events"]) >= 4 and int(counts["audit_entries"]) >= 4 and int(counts["answers"]) == 1
    time.sleep(0.5)  # what the hub knew of ended calls is written by now
    after = dump(hub)
    assert not [line for line in after.splitlines() if tells(line)]
    if hub.database_url.startswith("sqlite"):  # and in no byte of the file, once its free pages are given up
        assert not in_bytes_of(hub, tmp_path / "vacuumed.db")
    # The id of the account names nobody any more; it stays in the audit log, and in the event that tells of the end.
    left = {line.partition(":")[0] for line in after.splitlines() if account in line}
    assert left <= {"audit_entries", "events", "changes", "jobs", "request_logs"}, left
    assert not query(hub, "SELECT 1 FROM data_keys WHERE owner_id = :id", id=account)
    (told,) = query(hub, "SELECT event, payload FROM events WHERE account_id = :id", id=account)
    assert told[0] == "account.deleted" and json.loads(_text(told[1])) == {"provider": "sandbox", "status": "archived"}
    assert project.http.get(f"/accounts/{account}").status_code == 404
    assert project.proxy(account).status_code == 404
    # The audit log is whole, and says that somebody was erased without saying whom.
    assert beside(hub, audit.verify).why is None
    ((alias,),) = query(
        hub, "SELECT target_id FROM audit_entries WHERE action = 'owner.erased' AND project_id = :p", p=project.id
    )
    assert alias.startswith("erased-") and alias in done.stderr
    # Another owner of the same project lost nothing.
    assert ok(project.proxy(other, "GET", "/api/me"))
    now = export_of(project, "customer-other")
    for name, rows in others.items():
        if isinstance(rows, list):
            assert [row for row in rows if row not in now[name]] == [], name
    assert set(erase_of(project, OWNER).values()) == {0}


def test_an_owner_of_another_project_with_the_same_id_is_somebody_else(hub: Hub, provider: Sandbox) -> None:
    here, there = hub.new_project(), hub.new_project()
    ids = {}
    for project in (here, there):
        config = project.config("sandbox", "api_key", {"sandbox_url": provider.url})
        ids[project.id] = project.link(config, {"api_key": SECRET}, owner="same")
    erase_of(here, "same")
    assert here.http.get(f"/accounts/{ids[here.id]}").status_code == 404
    assert ok(there.proxy(ids[there.id], "GET", "/api/me"))
    assert there.account(ids[there.id])["origin_owner_id"] == "same"


def test_grants_are_revoked_at_the_provider(hub: Hub, provider: Sandbox) -> None:
    project = hub.new_project()
    account = link_sandbox(project, provider)
    owner = project.account(account)["origin_owner_id"]
    before = provider.counters()["revocations"]
    erase_of(project, owner)
    deadline = time.monotonic() + 10
    while provider.counters()["revocations"] < before + 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert provider.counters()["revocations"] == before + 2  # refresh token and access token


def test_both_over_the_api(hub: Hub, provider: Sandbox) -> None:
    project, foreign = hub.new_project("privacy-api"), hub.new_project("privacy-api-foreign")
    owner = "customer/ü & 7"
    account = lived_in(project, provider.url, owner, "Api GmbH")
    asked = {"params": {"origin_owner_id": owner}}
    answered = project.http.get("/owners/export", **asked)
    document = ok(answered)
    assert answered.headers["cache-control"] == "no-store" and "attachment" in answered.headers["content-disposition"]
    assert [row["id"] for row in document["accounts"]] == [account] and len(document["connect_sessions"]) == 2
    assert SECRET not in answered.text and document["requests"] and document["audit_entries"]
    body, said = {"origin_owner_id": owner}, {"alias", "audit_entries"}  # an export leaves an entry that names them
    assert ok(foreign.http.get("/owners/export", **asked))["accounts"] == []
    assert not any(v for k, v in ok(foreign.http.post("/owners/erase", json=body)).items() if k not in said)
    assert len(ok(project.http.get("/accounts"))) == 1
    erased = ok(project.http.post("/owners/erase", json=body))
    assert erased["accounts"] == 1 and erased["connect_sessions"] == 2 and erased["requests"] and erased["events"]
    assert ok(project.http.get("/accounts?status=active,archived")) == []
    entries = ok(project.http.get("/audit_log?action=owner.erased"))["data"]
    assert [entry["target_id"] for entry in entries] == [erased["alias"]]
    assert entries[0]["actor_kind"] == "api_key"
    left = ok(project.http.get("/owners/export", **asked))
    assert not any(left[name] for name in ("accounts", "connect_sessions", "connection_attempts", "requests", "events"))
    assert not any(v for k, v in ok(project.http.post("/owners/erase", json=body)).items() if k not in said)
    for wrong in ({}, {"origin_owner_id": ""}, {**body, "more": 1}):
        refused(project.http.post("/owners/erase", json=wrong), 400)
    refused(project.http.get("/owners/export"), 400)
