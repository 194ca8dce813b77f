"""API keys and the audit log over the API; and how a project ends for good."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import update

from mooring.identity import projects as rules
from mooring.identity.models import Project as ProjectRow
from mooring.kit import clock
from mooring.kit.db import record_change
from tests.flows.linking import link, on_database, sandbox_config, sandbox_consent, wait_until
from tests.hub import Hub, Project, ok, refused
from tests.rows import query
from tests.sandbox.harness import Sandbox


def test_a_key_makes_a_narrower_key_that_is_disabled_and_deleted(project: Project) -> None:
    made = ok(project.http.post("/api_keys", json={"label": "narrow", "scopes": ["platform:read"]}), 201)
    narrow = Project(project.hub, project.id, made["key"])
    assert narrow.http.get("/accounts").status_code == 200
    refused(narrow.http.get("/api_keys"), 403)
    refused(narrow.http.get("/audit_log"), 403)
    listed = ok(project.http.get("/api_keys"))["data"]
    assert [k["label"] for k in listed] == ["tests", "narrow"] and "key" not in listed[1]
    ok(project.http.patch(f"/api_keys/{made['id']}", json={"enabled": False}))
    wait_until(lambda: narrow.http.get("/accounts").status_code == 401)
    assert project.http.delete(f"/api_keys/{made['id']}").status_code == 204
    refused(project.http.delete(f"/api_keys/{made['id']}"), 404)


def test_a_key_gives_no_scope_that_it_lacks(hub: Hub) -> None:
    project = hub.new_project(scopes=["keys:write", "platform:read"])
    refused(project.http.post("/api_keys", json={"label": "x", "scopes": ["connectors:write"]}), 403)
    refused(project.http.post("/api_keys", json={"label": "x", "scopes": []}), 400)
    ok(project.http.post("/api_keys", json={"label": "x", "scopes": ["platform:read"]}), 201)


def test_a_foreign_key_is_as_good_as_none(project: Project, other_project: Project) -> None:
    made = ok(other_project.http.post("/api_keys", json={"label": "theirs", "scopes": ["platform:read"]}), 201)
    refused(project.http.patch(f"/api_keys/{made['id']}", json={"enabled": False}), 404)
    refused(project.http.delete(f"/api_keys/{made['id']}"), 404)
    assert made["id"] not in str(ok(project.http.get("/audit_log")))


def test_the_audit_log_is_read_page_by_page_and_holds_no_secret(project: Project) -> None:
    config = project.config("github", "token")
    for n in range(3):
        ok(project.http.patch(f"/auth_configs/{config['id']}", json={"name": f"name {n}"}))
    first = ok(project.http.get("/audit_log", params={"page_size": 2}))
    second = ok(project.http.get("/audit_log", params={"page_size": 2, "next": first["next"]}))
    actions = [e["action"] for e in first["data"] + second["data"]]
    assert actions == ["auth_config.updated"] * 3 + ["auth_config.created"]
    seqs = [e["seq"] for e in first["data"] + second["data"]]
    assert seqs == sorted(seqs, reverse=True)
    assert {e["actor_kind"] for e in first["data"]} == {"api_key"}
    assert project.key not in str(first)


def test_a_deleted_project_is_destroyed_after_its_days_of_grace(hub: Hub, provider: Sandbox) -> None:
    project = hub.new_project("doomed")
    account = link(project, sandbox_config(project, provider), sandbox_consent(provider))
    project.proxy(account, path="/api/me")

    async def delete(tx: Any) -> None:
        await rules.delete(tx, project.id)
        old = clock.now() - rules.GRACE - timedelta(minutes=1)
        await tx.execute(update(ProjectRow).where(ProjectRow.id == project.id).values(deleted_at=old))
        record_change(tx, "project", project.id)

    on_database(hub, delete)

    def left() -> int:
        query(hub, "UPDATE jobs SET run_at = created_at WHERE kind IN ('housekeeping', 'revoke')")
        return int(query(hub, "SELECT count(*) FROM projects WHERE id = :p", p=project.id)[0][0])

    wait_until(lambda: left() == 0, seconds=60)
    for table in ("accounts", "auth_configs", "data_keys", "api_keys", "request_logs", "log_stats"):
        assert query(hub, f"SELECT count(*) FROM {table} WHERE project_id = :p", p=project.id) == [(0,)], table
    assert provider.control("revoke")["revoked"] == 0, "the grant should have been revoked at the provider"
    told = query(hub, "SELECT action FROM audit_entries WHERE project_id = :p ORDER BY seq DESC", p=project.id)
    assert told[0] == ("project.destroyed",)
