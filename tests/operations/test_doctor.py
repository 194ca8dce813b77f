"""The doctor says that a healthy hub is well, and names each thing that is provoked to be wrong."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mooring.kit import clock
from mooring.kit import vault as vaults
from mooring.operations.doctor import examine
from mooring.operations.finding import Finding
from tests.hub import BOOTSTRAP_KEY, Hub
from tests.operations import commands
from tests.operations.conftest import Accounts, Rows, key_file, settings_of, vault_of
from tests.servers.ports import free_port
from tests.servers.redis import RedisServer


def _look(hub: Hub, **env: str) -> dict[str, Finding]:
    """The worst finding of each check."""
    unknown = [name for name in env if name == "MOORING_TYPO"]
    order = ["ok", "warn", "fail"]

    async def run() -> list[Finding]:
        return await examine(settings_of(hub, **env), unknown, lambda _done, _total: None)

    worst: dict[str, Finding] = {}
    for finding in sorted(asyncio.run(run()), key=lambda f: order.index(f.severity)):
        worst[finding.check] = finding
    return worst


def test_a_healthy_hub_is_well_and_no_secret_is_shown(own_hub: Hub, accounts: Accounts) -> None:
    public = {"MOORING_PUBLIC_URL": own_hub.url}
    plain = commands.run(own_hub, "doctor", env=public)
    told = commands.run(own_hub, "doctor", "--json", env=public)
    body = json.loads(told.stdout)
    severities = {f["check"]: f["severity"] for f in body["findings"]}
    assert body["status"] == "ok", [f for f in body["findings"] if f["severity"] != "ok"]
    assert set(severities) >= {
        *("settings", "data folder", "master keys", "disk space", "open files", "versions", "database", "schema"),
        *("clock", "missing keys", "orphan keys", "refresh leases", "accounts", "request log", "sealed rows"),
        *("callback URLs", "egress guard", "egress entry", "public URL"),
    }
    assert f"{own_hub.url}/connect/oauth2/sandbox/callback" in told.stdout
    for secret in (BOOTSTRAP_KEY, "sandbox-key-acme", "sandbox-machine-secret", *_master_keys(own_hub)):
        assert secret not in plain.stdout + plain.stderr + told.stdout + told.stderr


def _master_keys(hub: Hub) -> list[str]:
    return [line.partition(":")[2] for line in key_file(hub).read_text().split()]


def test_a_failure_is_exit_code_1_with_a_fix(own_hub: Hub, accounts: Accounts) -> None:
    done = commands.run(own_hub, "doctor", check=False, env={"MOORING_PUBLIC_URL": "http://hub.example.com"})
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("fail\tpublic URL"))
    assert lines[at + 1].startswith("\twhy: ") and lines[at + 2].startswith("\tfix: ")


@pytest.mark.parametrize(
    ("check", "severity", "seen", "env"),
    [
        ("settings", "warn", "MOORING_TYPO", {"MOORING_TYPO": "1"}),
        ("public URL", "fail", "is not https", {"MOORING_PUBLIC_URL": "http://hub.example.com"}),
        ("public URL", "warn", "can't be reached", {"MOORING_PUBLIC_URL": f"http://127.0.0.1:{free_port()}"}),
        ("egress entry", "warn", "can't be reached", {"MOORING_EGRESS_ALLOW": f"127.0.0.1:{free_port()}"}),
        (
            "database",
            "fail",
            "does not answer",
            {"MOORING_DATABASE_URL": f"postgresql://u:p4ss@127.0.0.1:{free_port()}/d"},
        ),
        ("shared server", "warn", "can't be used", {"MOORING_REDIS_URL": f"redis://:p4ss@127.0.0.1:{free_port()}"}),
        ("database", "warn", "there is no", {"MOORING_DATABASE_URL": "sqlite:////nowhere/mooring.db"}),
        ("master keys", "fail", "inside the data folder", {"MOORING_MASTER_KEY_FILE": "DATA/keys"}),
        ("missing keys", "fail", "rows need", {"MOORING_MASTER_KEYS": "other:" + base64.b64encode(bytes(32)).decode()}),
    ],
)
def test_a_wrong_setting_is_found(
    own_hub: Hub, accounts: Accounts, check: str, severity: str, seen: str, env: dict[str, str]
) -> None:
    data = own_hub.env["MOORING_DATA_DIR"]
    (Path(data) / "keys").touch()
    found = _look(own_hub, **{name: value.replace("DATA", data) for name, value in env.items()})
    (Path(data) / "keys").unlink()
    assert (found[check].severity, found[check].why != "", found[check].fix != "") == (severity, True, True)
    assert seen in found[check].seen
    assert "p4ss" not in str(found)


def test_the_shared_server_is_tried(own_hub: Hub, accounts: Accounts, redis_server: RedisServer) -> None:
    found = _look(own_hub, MOORING_REDIS_URL=redis_server.url)["shared server"]
    assert (found.severity, "answers, version" in found.seen) == ("ok", True)


Fault = tuple[str, str, str, Callable[[Accounts, Rows], None], Callable[[Accounts, Rows], None]]


def _sql(statement: str, **values: Any) -> Callable[[Accounts, Rows], None]:
    def run(accounts: Accounts, rows: Rows) -> None:
        given = {"account": accounts.ids[0], "project": accounts.project.id, **values}
        rows.query(statement, {name: value for name, value in given.items() if f":{name}" in statement})

    return run


def _stuck(accounts: Accounts, rows: Rows) -> None:
    long_ago = clock.now() - timedelta(hours=1)
    value = long_ago if rows.is_postgres else long_ago.replace(tzinfo=None).isoformat(" ")
    rows.query("UPDATE credentials SET lease_until = :at WHERE account_id = :id", {"at": value, "id": accounts.ids[0]})


def _orphan(accounts: Accounts, rows: Rows) -> None:
    rows.fill(rows.vault, accounts.project.id, 1)


def _damage(accounts: Accounts, rows: Rows) -> None:
    sealed = bytearray(
        rows.query("SELECT sealed FROM credentials WHERE account_id = :id", {"id": accounts.ids[0]})[0][0]
    )
    sealed[-1] ^= 1
    rows.query("UPDATE credentials SET sealed = :v WHERE account_id = :id", {"v": bytes(sealed), "id": accounts.ids[0]})


FAULTS: dict[str, Fault] = {
    "a stuck lease": (
        "refresh leases",
        "warn",
        "1 stuck",
        _stuck,
        _sql("UPDATE credentials SET lease_until = NULL WHERE account_id = :account"),
    ),
    "an orphan data key": (
        "orphan keys",
        "warn",
        "1 data keys",
        _orphan,
        _sql("DELETE FROM data_keys WHERE owner_kind = 'filler'"),
    ),
    "an altered credential": ("sealed rows", "fail", "1 of ", _damage, _damage),
    "an account in error": (
        "accounts",
        "warn",
        "1 error",
        _sql("UPDATE accounts SET status = 'error' WHERE id = :account"),
        _sql("UPDATE accounts SET status = 'active' WHERE id = :account"),
    ),
    "a shredded credential": (
        "sealed rows",
        "fail",
        "shredded",
        _sql("UPDATE data_keys SET owner_kind = 'filler' WHERE owner_id = :account"),
        _sql("UPDATE data_keys SET owner_kind = 'account' WHERE owner_id = :account"),
    ),
    "a row on a missing key": (
        "missing keys",
        "fail",
        "1 rows need lost",
        _sql("UPDATE data_keys SET kek_id = 'lost' WHERE owner_id = :account"),
        lambda accounts, rows: _sql(
            "UPDATE data_keys SET kek_id = :kek WHERE owner_id = :account", kek=rows.vault.primary_id
        )(accounts, rows),
    ),
    "a connector that is gone": (
        "connectors",
        "fail",
        "missing: nobody",
        _sql("UPDATE auth_configs SET connector_key = 'nobody' WHERE project_id = :project"),
        _sql("UPDATE auth_configs SET connector_key = 'sandbox' WHERE project_id = :project"),
    ),
    "a newer schema": (
        "schema",
        "fail",
        "9999",
        lambda accounts, rows: _revision(rows, "9999"),
        lambda accounts, rows: _revision(rows, None),
    ),
    "a dead job": (
        "jobs",
        "warn",
        "1 dead",
        lambda accounts, rows: _job(rows, "dead", timedelta(0)),
        _sql("DELETE FROM jobs WHERE kind = 'test.doctor'"),
    ),
    "a queue that nobody works on": (
        "jobs",
        "fail",
        "waits for 36",
        lambda accounts, rows: _job(rows, "ready", timedelta(hours=1)),
        _sql("DELETE FROM jobs WHERE kind = 'test.doctor'"),
    ),
}


def _revision(rows: Rows, to: str | None) -> None:
    from mooring.operations.schema import revisions

    rows.query("UPDATE mooring_version SET version_num = :v", {"v": to or revisions()[-1]})


def _job(rows: Rows, state: str, age: timedelta) -> None:
    at = clock.now() - age
    moment = at if rows.is_postgres else at.replace(tzinfo=None).isoformat(" ")
    rows.query(
        "INSERT INTO jobs (kind, payload, run_at, attempts, max_attempts, state, version, fence, created_at) "
        "VALUES ('test.doctor', '{}', :at, 0, 1, :state, 1, 0, :at)",
        {"at": moment, "state": state},
    )


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_the_database_is_found(own_hub: Hub, accounts: Accounts, rows: Rows, name: str) -> None:
    check, severity, seen, provoke, mend = FAULTS[name]
    provoke(accounts, rows)
    try:
        found = _look(own_hub)
    finally:
        mend(accounts, rows)
    assert (found[check].severity, found[check].why != "", found[check].fix != "") == (severity, True, True)
    assert seen in found[check].seen
    well = _look(own_hub)
    assert check not in well or well[check].severity == "ok"


def test_a_rotation_that_was_not_finished_is_found(own_hub: Hub, accounts: Accounts) -> None:
    old = vault_of(own_hub).primary_id
    new = commands.run(own_hub, "keys", "add").stdout.strip()
    settings = settings_of(own_hub)
    keys = vaults.read_key_file(key_file(own_hub), data_dir=settings.data_dir)
    vaults.write_key_file(key_file(own_hub), {new: keys[new], **keys})
    found = _look(own_hub)["missing keys"]
    assert found.severity == "warn" and "secondary key" in found.seen and "keys rotate" in found.fix
    commands.run(own_hub, "keys", "rotate")
    commands.run(own_hub, "keys", "retire", old)
    assert _look(own_hub)["missing keys"].severity == "ok"


@pytest.mark.parametrize(
    ("what", "check", "severity"), [("keys", "master keys", "fail"), ("data", "data folder", "warn")]
)
def test_an_open_file_mode_is_found(own_hub: Hub, what: str, check: str, severity: str) -> None:
    path = key_file(own_hub) if what == "keys" else Path(own_hub.env["MOORING_DATA_DIR"])
    before = path.stat().st_mode
    path.chmod(0o644 if what == "keys" else 0o755)
    try:
        found = _look(own_hub)[check]
    finally:
        path.chmod(before)
    assert found.severity == severity and "chmod" in found.seen + found.fix
