"""A backup is taken while the hub writes, restored elsewhere, and every account works there (S18, S26, rule V5)."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mooring.kit.db import Database
from mooring.kit.vault import Owner, VaultError, WrappedKey
from mooring.operations import manifest as manifests
from mooring.operations import restore as restores
from tests.hub import Hub, ok
from tests.operations import commands
from tests.operations.conftest import Accounts, Rows, key_file, vault_of


@pytest.fixture
def saved(own_hub: Hub, accounts: Accounts, tmp_path: Path) -> Path:
    """One backup of the accounts."""
    return _backup(own_hub, tmp_path / "backups")


def _backup(hub: Hub, dest: Path, *options: str) -> Path:
    return Path(commands.run(hub, "backup", str(dest), *options).stdout.strip())


def _main(folder: Path) -> Path:
    return next(path for path in folder.iterdir() if path.name.startswith("main."))


def test_a_backup_taken_while_writing_works_elsewhere(
    own_hub: Hub, fresh: Accounts, elsewhere: Hub, tmp_path: Path
) -> None:
    with _writer(fresh):
        folders = [_backup(own_hub, tmp_path / "backups") for _ in range(3)]
    done = commands.run(elsewhere, "restore", str(folders[-1]))
    assert "do not open" not in done.stdout and "credentials_shredded" not in done.stdout
    elsewhere.start()
    there = fresh.at(elsewhere)
    assert [there.call(id) for id in fresh.ids] == [200] * 3
    listed = ok(there.project.http.get("/accounts", params={"page_size": 100}))
    ids = [account["id"] for account in listed["data"]] if isinstance(listed, dict) else [a["id"] for a in listed]
    assert [there.call(id) for id in ids] == [200] * len(ids) and len(ids) >= 3
    findings = json.loads(commands.run(elsewhere, "doctor", "--json").stdout)["findings"]
    assert next(f for f in findings if f["check"] == "sealed rows")["severity"] == "ok"


@contextmanager
def _writer(accounts: Accounts) -> Iterator[None]:
    """Link accounts without a pause."""
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            accounts.project.link(accounts.config, {"api_key": "sandbox-key-acme"}, owner=f"writer-{number}")
            number += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_backup_is_private_and_its_main_file_holds_no_key(own_hub: Hub, saved: Path, rows: Rows) -> None:
    names = {path.name: path.stat().st_mode & 0o777 for path in saved.iterdir()}
    assert names == {_main(saved).name: 0o600, "data-keys": 0o600, "manifest.json": 0o600}
    assert saved.stat().st_mode & 0o777 == 0o700
    content = b"".join(path.read_bytes() for path in saved.iterdir())
    for line in key_file(own_hub).read_text().split():
        assert line.partition(":")[2].encode() not in content
    wrapped = [bytes(blob) for (blob,) in rows.query("SELECT blob FROM data_keys")]
    assert wrapped and not [blob for blob in wrapped if blob in _main(saved).read_bytes()]
    manifest = json.loads((saved / "manifest.json").read_text())
    assert manifest["rows"]["data_keys"] == 0 and manifest["rows"]["credentials"] >= 3
    assert manifest["master_keys"] == [vault_of(own_hub).primary_id]


@pytest.mark.parametrize("name", ["main", "data-keys", "manifest.json"])
def test_an_altered_backup_is_refused_and_nothing_is_left(saved: Path, elsewhere: Hub, name: str) -> None:
    path = _main(saved) if name == "main" else saved / name
    raw = bytearray(path.read_bytes())
    if name == "manifest.json":
        raw = bytearray(raw.replace(b'"accounts"', b'"acc0unts"'))
    else:
        raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    done = commands.run(elsewhere, "restore", str(saved), check=False)
    assert done.returncode == 2
    assert ("signature is wrong" if name == "manifest.json" else "SHA-256") in done.stderr
    assert not _holds_something(elsewhere)


def test_a_backup_of_another_key_names_the_key_it_needs(
    own_hub: Hub, saved: Path, elsewhere: Hub, tmp_path: Path
) -> None:
    other = tmp_path / "other.keys"
    other.write_text("other:" + "A" * 43 + "=\n")
    other.chmod(0o600)
    done = commands.run(elsewhere, "restore", str(saved), check=False, env={"MOORING_MASTER_KEY_FILE": str(other)})
    assert done.returncode == 2 and vault_of(own_hub).primary_id in done.stderr


def test_a_restore_refuses_what_is_not_empty(own_hub: Hub, saved: Path, accounts: Accounts) -> None:
    done = commands.run(own_hub, "restore", str(saved), check=False)
    assert done.returncode == 2 and "a restore needs an empty" in done.stderr
    assert accounts.call(accounts.ids[0]) == 200


def test_a_newer_schema_is_refused(own_hub: Hub, saved: Path, elsewhere: Hub) -> None:
    vault = vault_of(own_hub)
    manifest = manifests.read(saved, vault)
    (saved / "manifest.json").unlink()
    newer = manifests.Manifest(**{n: getattr(manifest, n) for n in manifest.__slots__} | {"schema": "9999"})
    manifests.write(saved, newer, vault)
    done = commands.run(elsewhere, "restore", str(saved), check=False)
    assert done.returncode == 2 and "schema 9999" in done.stderr
    assert not _holds_something(elsewhere)


def test_a_deleted_account_stays_unreadable_after_a_restore(
    own_hub: Hub, fresh: Accounts, elsewhere: Hub, tmp_path: Path
) -> None:
    last_night = _backup(own_hub, tmp_path / "backups")
    gone, kept = fresh.ids[0], fresh.ids[1:]
    ok(fresh.project.http.delete(f"/accounts/{gone}"))
    today = _backup(own_hub, tmp_path / "backups")
    done = commands.run(elsewhere, "restore", str(last_night), "--data-keys", str(today / "data-keys"))
    assert gone in done.stdout and "credentials_shredded" in done.stdout
    # What the old main file holds of it opens with none of today's keys, whoever they are said to belong to.
    sealed, generation = _sealed_of(last_night, gone, elsewhere)
    vault = vault_of(own_hub)
    opened = 0
    lines = manifests.read_keys(today / "data-keys")
    for line in lines:
        wrapped = WrappedKey(line.id, line.kek_id, line.blob)
        real = Owner(line.project_id, line.owner_kind, line.owner_id)
        for owner in (real, Owner(fresh.project.id, "account", gone)):
            try:
                key = vault.unwrap(wrapped, owner)
                key.open(sealed, name="credential", generation=generation)
                opened += 1
            except VaultError:
                continue
    assert len(lines) >= 3 and opened == 0
    elsewhere.start()
    there = fresh.at(elsewhere)
    refusal = there.project.proxy(gone, path="/api/me")
    assert refusal.status_code in {401, 412, 422}, refusal.text
    seen = there.project.account(gone)
    assert seen["status"] == "error" and "credentials_shredded" in json.dumps(seen)
    assert [there.call(id) for id in kept] == [200, 200]
    # Linked again, it works again.
    session = there.project.session("owner-0", account_id=gone, integration_id=fresh.config["id"])
    ok(session.submit(fresh.config["id"], {"api_key": "sandbox-key-acme"}))
    assert there.call(gone) == 200


def _sealed_of(folder: Path, account: str, scratch: Hub) -> tuple[bytes, int]:
    """The sealed credential in a main file, and a check that last night's own keys do open it."""
    if _main(folder).name == "main.db":
        with closing(sqlite3.connect(_main(folder))) as db:
            found = db.execute("SELECT sealed, generation FROM credentials WHERE account_id = ?", [account]).fetchone()
            return bytes(found[0]), int(found[1])
    import subprocess

    dumped = subprocess.run(
        ["pg_restore", "-f", "-", "--data-only", "-t", "credentials", str(_main(folder))],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    head = next(line for line in dumped.splitlines() if line.startswith("COPY"))
    columns = head[head.index("(") + 1 : head.index(")")].split(", ")
    line = next(line for line in dumped.splitlines() if line.startswith(account))
    row = dict(zip(columns, line.split("\t"), strict=True))
    return bytes.fromhex(row["sealed"].removeprefix("\\\\x")), int(row["generation"])


def test_last_nights_own_keys_would_have_opened_it(
    own_hub: Hub, accounts: Accounts, saved: Path, elsewhere: Hub
) -> None:
    """What the shredding test shows is the shredding, not a wrong way to try."""
    vault, id = vault_of(own_hub), accounts.ids[0]
    sealed, generation = _sealed_of(saved, id, elsewhere)
    line = next(line for line in manifests.read_keys(saved / "data-keys") if line.owner_id == id)
    key = vault.unwrap(WrappedKey(line.id, line.kek_id, line.blob), Owner(accounts.project.id, "account", id))
    assert b"sandbox-key-acme" in key.open(sealed, name="credential", generation=generation)


def test_data_keys_older_than_the_backup_are_refused(own_hub: Hub, saved: Path, elsewhere: Hub, tmp_path: Path) -> None:
    newer = _backup(own_hub, tmp_path / "backups")
    done = commands.run(elsewhere, "restore", str(newer), "--data-keys", str(saved / "data-keys"), check=False)
    assert done.returncode == 2 and "older than the backup" in done.stderr


def test_a_backup_without_its_data_keys_asks_for_newer_ones(saved: Path, elsewhere: Hub) -> None:
    (saved / "data-keys").unlink()
    done = commands.run(elsewhere, "restore", str(saved), check=False)
    assert done.returncode == 2 and "--data-keys" in done.stderr
    assert not _holds_something(elsewhere)


def test_what_a_killed_backup_left_is_removed(own_hub: Hub, tmp_path: Path) -> None:
    left = tmp_path / "backups" / ".mooring-backup-dead"
    left.mkdir(parents=True)
    (left / "data-keys").write_text("{}")
    made = _backup(own_hub, tmp_path / "backups")
    assert list((tmp_path / "backups").iterdir()) == [made]


def test_rows_on_a_missing_key_need_force(own_hub: Hub, accounts: Accounts, rows: Rows, tmp_path: Path) -> None:
    kek = vault_of(own_hub).primary_id
    rows.query("UPDATE data_keys SET kek_id = 'lost' WHERE owner_id = :id", {"id": accounts.ids[0]})
    try:
        refused = commands.run(own_hub, "backup", str(tmp_path / "b"), check=False)
        assert refused.returncode == 2 and "the master key lost" in refused.stderr
        assert list((tmp_path / "b").iterdir()) == []
        assert _backup(own_hub, tmp_path / "b", "--force").is_dir()
    finally:
        rows.query("UPDATE data_keys SET kek_id = :k WHERE owner_id = :id", {"k": kek, "id": accounts.ids[0]})


def test_a_missing_pg_dump_says_what_to_install(own_hub: Hub, tmp_path: Path) -> None:
    if not own_hub.database_url.startswith("postgres"):
        pytest.skip("SQLite needs no program")
    done = commands.run(own_hub, "backup", str(tmp_path / "b"), check=False, env={"PATH": str(tmp_path)})
    assert done.returncode == 2 and "postgresql-client" in done.stderr


async def test_an_older_schema_is_migrated(tmp_path: Path) -> None:
    """A backup made by an earlier version comes back with the schema of this one."""
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    from mooring import settings as settings_module
    from mooring.kit import vault as vaults
    from mooring.migrations import runner
    from mooring.operations import backup as backups
    from mooring.operations.schema import revisions

    if len(revisions()) < 2:
        pytest.skip("this is the first schema")
    settings = settings_module.load({"MOORING_DATA_DIR": str(tmp_path / "data")})
    vaults.create_key_file(settings.resolved_key_file, data_dir=settings.data_dir)
    vault = vaults.Vault.from_file(settings.resolved_key_file, data_dir=settings.data_dir)
    config = Config()
    config.set_main_option("script_location", str(Path(runner.__file__).parent))
    first, script = revisions()[0], ScriptDirectory.from_config(config)
    old = Database(settings.resolved_database_url)

    def to_first(connection: object) -> None:
        steps = lambda revision, _context: script._upgrade_revs(first, revision)  # noqa: E731
        with EnvironmentContext(Config(), script, fn=steps) as environment:
            environment.configure(connection=connection, render_as_batch=True)
            environment.run_migrations()

    async with old.writer.begin() as connection:
        await connection.run_sync(to_first)
    await old.close()
    folder, manifest = await backups.backup(settings, vault, tmp_path / "b", force=False)
    assert manifest.schema == first
    done = await restores.restore(folder, f"sqlite:///{tmp_path / 'new' / 'mooring.db'}", vault)
    assert list(done.migrated) == revisions()[1:] and done.migrated


def _holds_something(hub: Hub) -> bool:
    """Whether a refused restore left anything behind."""
    if not hub.database_url.startswith("postgres"):
        data = hub.folder / "data"
        return data.exists() and any(data.iterdir())

    async def run() -> bool:
        from mooring.operations.schema import tables

        db = Database(hub.database_url)
        try:
            async with db.read() as tx:
                return bool(await tables(tx))
        finally:
            await db.close()

    return asyncio.run(run())
