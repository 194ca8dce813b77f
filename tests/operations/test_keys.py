"""Master keys are turned over while the hub serves (rule V4, S17)."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from mooring.kit import ids
from mooring.kit import vault as vaults
from tests.hub import Hub, ok
from tests.operations import commands
from tests.operations.conftest import Accounts, Rows, key_file, settings_of, vault_of
from tests.servers.ports import free_port

ROWS = 12_000  # data keys beside those of the accounts, so that a rotation takes long enough to be killed
KILLS = 10


def test_a_rotation_that_is_killed_ten_times_fails_no_read(
    own_hub: Hub, accounts: Accounts, rows: Rows, provider_url: str
) -> None:
    old = vault_of(own_hub).primary_id
    rows.fill(vault_of(own_hub), accounts.project.id, ROWS)
    total = rows.number("SELECT count(*) FROM data_keys")
    # The sandbox allows 1,000 calls a minute, and the hub keeps to that: a fast machine would run into it.
    generous = {"rate_limit": {"limit": 1_000_000, "window_seconds": 60}}
    httpx.post(f"{provider_url}/_control/settings", json=generous, trust_env=False).raise_for_status()
    with _readers(own_hub, accounts) as reads:
        new = commands.run(own_hub, "keys", "add").stdout.strip()
        assert list(_lines(own_hub)) == [old, new]
        for _ in range(KILLS):
            before = rows.on(new)
            process = commands.start(own_hub, "keys", "rotate")
            while rows.on(new) == before and process.is_alive():
                time.sleep(0.001)
            assert process.is_alive(), "the rotation ended before it could be killed"
            process.kill()
            process.join()
        assert 0 < rows.on(old) < total
        done = commands.run(own_hub, "keys", "rotate")
        assert done.stdout.startswith(f"{new} is primary")
        commands.run(own_hub, "keys", "retire", old)
        late = accounts.project.link(accounts.config, {"api_key": "sandbox-key-acme"}, owner="late")
    print(
        f"\nS17: {total} data keys re-wrapped, rotation killed {KILLS} times: {len(reads.failed)} of {reads.done} reads "
        f"failed, {rows.on(old)} rows left on the old key"
    )
    assert reads.failed == []
    assert reads.done > 50
    assert (rows.on(old), rows.on(new)) == (0, total + 1)
    assert list(_lines(own_hub)) == [new]
    own_hub.stop()
    own_hub.start()
    assert [accounts.call(id) for id in (*accounts.ids, late)] == [200] * 4
    rows.query("DELETE FROM data_keys WHERE owner_kind = 'filler'")


class _Reads:
    def __init__(self) -> None:
        self.done = 0
        self.failed: list[str] = []


@contextmanager
def _readers(hub: Hub, accounts: Accounts) -> Iterator[_Reads]:
    """Calls through every account without a pause; one thread renames them, so that no cache hides what is stored."""
    reads, stop = _Reads(), threading.Event()

    def read(number: int) -> None:
        with httpx.Client(base_url=hub.url, auth=(accounts.project.key, ""), timeout=30, trust_env=False) as http:
            while not stop.is_set():
                id = accounts.ids[reads.done % len(accounts.ids)]
                if number == 0:
                    answer = http.patch(f"/accounts/{id}", json={"label": f"label {reads.done}"})
                else:
                    answer = http.get("/proxy/api/me", headers={"x-account-id": id})
                reads.done += 1
                if answer.status_code != 200:
                    reads.failed.append(f"{answer.status_code} {answer.text[:300]}")
                time.sleep(0.04)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield reads
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_rotations_and_deletes_at_once_do_no_harm(own_hub: Hub, fresh: Accounts, rows: Rows) -> None:
    old = vault_of(own_hub).primary_id
    rows.fill(vault_of(own_hub), fresh.project.id, 1_500)
    new = commands.run(own_hub, "keys", "add").stdout.strip()
    rotations = [commands.start(own_hub, "keys", "rotate") for _ in range(2)]
    while rows.on(new) == 0:
        time.sleep(0.002)
    ok(fresh.project.http.delete(f"/accounts/{fresh.ids[0]}"))
    rows.query("DELETE FROM data_keys WHERE owner_kind = 'filler'")
    for rotation in rotations:
        rotation.join(30)
        assert rotation.exitcode == 0
    assert rows.on(old) == 0
    assert rows.number("SELECT count(*) FROM data_keys WHERE owner_kind = 'filler'") == 0
    assert rows.number("SELECT count(*) FROM data_keys WHERE owner_id = :id", id=fresh.ids[0]) == 0
    assert [fresh.call(id) for id in fresh.ids[1:]] == [200, 200]


def test_a_rotation_that_is_run_again_turns_nothing_back(own_hub: Hub, accounts: Accounts) -> None:
    new = commands.run(own_hub, "keys", "add").stdout.strip()
    commands.run(own_hub, "keys", "rotate")
    assert next(iter(_lines(own_hub))) == new
    before = key_file(own_hub).read_text()
    again = commands.run(own_hub, "keys", "rotate")
    assert "0 rows re-wrapped" in again.stdout
    assert key_file(own_hub).read_text() == before


def test_answers_kept_for_idempotency_survive_the_old_key(own_hub: Hub, accounts: Accounts, rows: Rows) -> None:
    if not rows.has_table("idempotency_keys"):
        pytest.skip("this schema keeps no answers")
    old = vault_of(own_hub).primary_id
    body = {"origin_owner_id": "o", "origin_owner_name": "o"}
    headers = {"idempotency-key": ids.nanoid()}
    first = ok(accounts.project.http.post("/connect_sessions", json=body, headers=headers), 201)
    commands.run(own_hub, "keys", "add")
    commands.run(own_hub, "keys", "rotate")
    commands.run(own_hub, "keys", "retire", old)
    own_hub.stop()
    own_hub.start()
    assert ok(accounts.project.http.post("/connect_sessions", json=body, headers=headers), 201) == first


def test_a_new_key_is_appended_and_never_shown(own_hub: Hub) -> None:
    before = _lines(own_hub)
    done = commands.run(own_hub, "keys", "add")
    after = _lines(own_hub)
    assert list(after) == [*before, done.stdout.strip()]
    assert key_file(own_hub).stat().st_mode & 0o777 == 0o600
    assert not [key for key in after.values() if base64.b64encode(key).decode() in done.stdout + done.stderr]


def test_status_names_the_primary_key_and_counts_rows(own_hub: Hub, accounts: Accounts, rows: Rows) -> None:
    total = rows.number("SELECT count(*) FROM data_keys")
    words = commands.run(own_hub, "keys", "status").stdout.splitlines()[0].split("\t")
    assert words[:2] == [vault_of(own_hub).primary_id, "primary"]
    assert int(words[2].split()[0]) >= total


def test_retire_refuses_what_is_needed(own_hub: Hub, accounts: Accounts, rows: Rows) -> None:
    primary = vault_of(own_hub).primary_id
    refused = commands.run(own_hub, "keys", "retire", primary, check=False)
    assert refused.returncode == 2 and "is the primary master key" in refused.stderr
    spare = commands.run(own_hub, "keys", "add").stdout.strip()
    rows.query("UPDATE data_keys SET kek_id = :k WHERE owner_id = :id", {"k": spare, "id": accounts.ids[0]})
    refused = commands.run(own_hub, "keys", "retire", spare, check=False)
    assert refused.returncode == 2 and f"1 rows still need the master key {spare}" in refused.stderr
    rows.query("UPDATE data_keys SET kek_id = :k WHERE owner_id = :id", {"k": primary, "id": accounts.ids[0]})
    commands.run(own_hub, "keys", "retire", spare)
    assert spare not in _lines(own_hub)
    unknown = commands.run(own_hub, "keys", "retire", "nobody", check=False)
    assert unknown.returncode == 2 and "no master key 'nobody'" in unknown.stderr


def test_a_row_that_does_not_open_is_left_alone_and_told(own_hub: Hub, fresh: Accounts, rows: Rows) -> None:
    spare = commands.run(own_hub, "keys", "add").stdout.strip()
    primary = vault_of(own_hub).primary_id
    rows.query("UPDATE data_keys SET kek_id = 'lost' WHERE owner_id = :id", {"id": fresh.ids[0]})
    done = commands.run(own_hub, "keys", "rotate", "--to", spare, check=False)
    assert done.returncode == 1 and "1 rows do not open" in done.stderr
    shown = commands.run(own_hub, "keys", "status", check=False)
    assert shown.returncode == 1 and "lost\tMISSING\t1 rows" in shown.stdout
    assert fresh.call(fresh.ids[1]) == 200
    rows.query("DELETE FROM data_keys WHERE kek_id = 'lost'")
    commands.run(own_hub, "keys", "retire", primary)


def test_keys_of_the_environment_are_explained_not_edited(own_hub: Hub, accounts: Accounts) -> None:
    text = ",".join(key_file(own_hub).read_text().split())
    env = {"MOORING_MASTER_KEYS": text}
    before = key_file(own_hub).read_text()
    for arguments, words in (
        (["add"], "openssl rand -base64 32"),
        (["rotate", "--to", "other"], "Move it to the front"),
        (["retire", "other"], "Take it out of the variable"),
    ):
        done = commands.run(own_hub, "keys", *arguments, check=False, env=env)
        assert done.returncode == 2 and words in done.stderr, done.stderr
        assert not any(entry.partition(":")[2] in done.stdout + done.stderr for entry in text.split(","))
    assert key_file(own_hub).read_text() == before


@pytest.mark.parametrize("how", ["gone", "replaced"])
def test_a_missing_key_stops_the_start(own_hub: Hub, accounts: Accounts, how: str) -> None:
    path = key_file(own_hub)
    before = path.read_text()
    needed = vault_of(own_hub).primary_id
    try:
        if how == "gone":
            path.unlink()
        else:
            path.write_text(":".join(vaults.make_key()) + "\n")
        done = own_hub.command("serve", "--port", str(free_port()), check=False)
        assert done.returncode == 2
        assert "MOORING_MASTER_KEY_FILE" in done.stderr
        assert ("does not exist" if how == "gone" else needed) in done.stderr
        assert how == "replaced" or not path.exists(), "a new key must not be made beside sealed rows"
        assert accounts.call(accounts.ids[0]) == 200, "the hub that runs has its keys in memory"
    finally:
        path.write_text(before)
        path.chmod(0o600)


def _lines(hub: Hub) -> dict[str, bytes]:
    settings = settings_of(hub)
    return vaults.read_key_file(settings.resolved_key_file, data_dir=settings.data_dir)
