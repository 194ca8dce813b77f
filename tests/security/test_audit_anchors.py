"""The signed lines that the hub writes about its audit log show what the database alone can't: a tail that is gone (S16)."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mooring.identity import audit
from mooring.kit.db import Database
from mooring.kit.vault import Vault
from tests.command import mooring
from tests.hub import BOOTSTRAP_KEY, Hub, Project
from tests.servers.ports import free_port


def anchors(hub: Hub) -> list[dict[str, object]]:
    lines = [
        json.loads(line) for line in hub.log().splitlines() if line.startswith('{"entries"') or '"audit log"' in line
    ]
    return [line for line in lines if line.get("event") == "audit log"]


def last_anchor(folder: Path) -> dict[str, Any]:
    return [json.loads(line) for line in (folder / "hub.log").read_text().splitlines() if '"audit log"' in line][-1]


def anchored(hub: Hub, more_than: int) -> dict[str, object]:
    """Let the job that writes anchors run now, and wait for its line."""
    with sqlite3.connect(hub.folder / "data" / "mooring.db", timeout=20) as db:
        db.execute("UPDATE jobs SET run_at = '2000-01-01 00:00:00.000000' WHERE kind = 'audit_anchor'")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = [a for a in anchors(hub) if int(str(a["entries"])) > more_than]
        if found:
            return found[-1]
        time.sleep(0.1)
    raise AssertionError(hub.log()[-2000:])


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A hub that wrote two anchors, stopped; beside it a copy of its database from between them. At level `error`."""
    folder = tmp_path_factory.mktemp("anchored")
    hub = Hub(folder, free_port(), env={"MOORING_LOG_LEVEL": "error"})
    with hub:
        project = Project(hub, "", BOOTSTRAP_KEY)
        project.config("hibob", "service_user", {})
        first = anchored(hub, 0)
        db = sqlite3.connect(folder / "data" / "mooring.db")
        db.execute("VACUUM INTO ?", (str(folder / "older.db"),))
        db.close()
        project.config("teamtailor", "api_key", {})
        project.config("hibob", "service_user", {})
        anchored(hub, int(str(first["entries"])))
    yield folder


def verify(folder: Path, *arguments: str) -> tuple[int, str]:
    """The command."""
    done = mooring(folder, "audit", "verify", *arguments)
    return done.returncode, done.stdout + done.stderr


def verdict(folder: Path, log: str | None = None, *, appended: int = 0) -> str | None:
    """What is found wrong, after so many entries more; with the anchors of a log, or without any."""

    async def run() -> str | None:
        vault = Vault.from_file(folder / "data.keys", data_dir=folder / "data")
        db = Database(f"sqlite:///{folder / 'data' / 'mooring.db'}")
        audit.attach(db, vault)
        try:
            for number in range(appended):
                async with db.begin() as tx:
                    audit.note(tx, "thing.done", target=("thing", str(number)))
            lines = (folder / log).read_text().splitlines() if log else []
            return (await audit.verify(db, vault, audit.read_anchors(lines))).why
        finally:
            await db.close()

    return asyncio.run(run())


@pytest.fixture
def copy(story: Path, tmp_path: Path) -> Path:
    """The whole installation once more, to be spoilt."""
    shutil.copytree(story, tmp_path / "hub")
    return tmp_path / "hub"


@pytest.fixture
def older(copy: Path) -> Path:
    """An installation whose older database was put back."""
    for name in ("mooring.db", "mooring.db-wal", "mooring.db-shm"):
        (copy / "data" / name).unlink(missing_ok=True)
    (copy / "older.db").rename(copy / "data" / "mooring.db")
    assert verdict(copy) is None, "the copy is whole in itself"
    return copy


def test_a_whole_log_holds_against_its_anchors(story: Path) -> None:
    code, said = verify(story, "--anchors", "hub.log")
    assert code == 0 and "anchors hold, the last of 20" in said, said


def test_an_older_copy_that_was_put_back_is_found_by_the_anchors_alone(older: Path) -> None:
    code, said = verify(older, "--anchors", "hub.log")
    assert code == 1 and "its tail is cut off, or an older copy put back" in said, said


def test_a_log_that_went_on_after_an_older_copy_was_put_back_is_found(older: Path) -> None:
    said = verdict(older, "hub.log", appended=4)
    assert said is not None and said.startswith("it is not the one that the anchor of 20"), said
    assert verdict(older) is None


@pytest.mark.parametrize("field", ["entries", "head", "seal"])
def test_a_made_up_anchor_is_found(copy: Path, field: str) -> None:
    line = last_anchor(copy)
    line[field] = line[field] + 1 if field == "entries" else f"{int(line[field][0], 16) ^ 1:x}{line[field][1:]}"
    (copy / "forged.log").write_text(json.dumps(line))
    said = verdict(copy, "forged.log")
    assert said is not None and said.endswith("is not signed with this log's key"), said


def test_an_anchor_does_not_make_its_entry_the_last_one(copy: Path) -> None:
    line = last_anchor(copy)
    db = sqlite3.connect(copy / "data" / "mooring.db")
    with db:
        db.execute("UPDATE audit_head SET seal = ?", (bytes.fromhex(line["seal"]),))
    db.close()
    said = verdict(copy)
    assert said is not None and "cut off or was replaced" in said, said


def test_a_file_without_anchors_is_no_proof(story: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.log").write_text('{"event": "serving"}\n')
    code, said = verify(story, "--anchors", str(tmp_path / "empty.log"))
    assert code == 2 and "holds no line" in said, said
