"""docs/privacy.md against the tables: no column is missing from the map, forms are true, times are those of the code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import LargeBinary, func, insert, select

from mooring import maintenance
from mooring.courier.journal import KEEP_SECONDS
from mooring.identity import sessions, throttle, users
from mooring.kit import clock, idempotency, ids
from mooring.kit.db import Database
from mooring.migrations import runner
from mooring.migrations.tables import METADATA
from mooring.operations.owner_records import _APART, holders
from mooring.settings import Settings, reference
from mooring.webhooks import delivery

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "privacy.md").read_text()


@dataclass(frozen=True)
class Row:
    table: str
    columns: tuple[str, ...]
    what: str
    whose: str
    long: str
    form: str


def rows() -> list[Row]:
    section = PAGE.partition("## Data map")[2].partition("\n## ")[0]
    found = []
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and cells[0] != "table":
            assert len(cells) == 6, line
            found.append(Row(cells[0], tuple(cells[1].split(", ")), *cells[2:]))
    return found


ROWS = rows()


def test_the_map_has_every_column_of_every_table_once() -> None:
    named = [(row.table, column) for row in ROWS for column in row.columns]
    there = {(table.name, column.name) for table in METADATA.tables.values() for column in table.columns}
    assert sorted(there - set(named)) == [], "columns that are missing from the data map of docs/privacy.md"
    assert sorted(set(named) - there) == [], "columns of the map that no table has"
    assert len(named) == len(set(named))


def test_every_line_says_what_whose_how_long_and_in_which_form() -> None:
    for row in ROWS:
        assert row.what and row.long and row.form, row
        assert set(row.whose.split(", ")) <= {"owner", "operator", "nobody"}, row


def test_what_is_bytes_is_sealed_or_a_hash_and_what_is_sealed_is_bytes() -> None:
    for row in ROWS:
        table = METADATA.tables[row.table]
        binary = {name for name in row.columns if isinstance(table.c[name].type, LargeBinary)} - {"logo"}
        if row.form == "**sealed**":
            assert binary == set(row.columns), row
        elif row.form == "hash":
            assert binary | {"password_hash", "recovery"} >= set(row.columns), row
        elif row.form.startswith("plain"):
            assert not binary, row


def test_whoever_has_an_owner_is_theirs_and_goes_with_them() -> None:
    """A table with an owner is erased: those that are treated by name, and all others by their column."""
    with_owner = {
        table.name
        for table in METADATA.tables.values()
        if {"origin_owner_id", "owner_id", "origin_owner_name", "owner_name"} & set(table.c.keys())
    }
    assert with_owner == _APART | {table.name for table, _ in holders()}
    for name in with_owner - {"data_keys"}:
        assert any("owner" in row.whose for row in ROWS if row.table == name), name


def times(table: str) -> str:
    return " ".join(row.long for row in ROWS if row.table == table)


def test_the_times_of_the_map_are_those_of_the_code() -> None:
    defaults = {name: shown for name, shown, _ in reference()}
    assert f"({defaults['MOORING_LOG_RETENTION_DAYS']} days)" in times("request_logs")
    assert f"{delivery.RETENTION.days} days" in times("events")
    assert f"{idempotency.KEEP // timedelta(hours=1)} hours" in times("idempotency_keys")
    assert f"{throttle.FORGET // timedelta(hours=1)} hours" in times("throttles")
    assert f"{sessions.IDLE // timedelta(hours=1)} hours after the last use, {sessions.LONGEST.days} days" in times(
        "user_sessions"
    )
    assert f"{users.INVITE.days} days for invitations" in times("user_tokens") and timedelta(days=1) == users.SETUP
    assert f"{maintenance.STATS_DAYS} days" in times("log_stats")
    assert f"for {KEEP_SECONDS / 60:.0f} minutes at most" in PAGE
    detail = METADATA.tables["project_settings"].c
    assert detail["advanced_logs_days"].default.arg == 7 and detail["advanced_logs"].default.arg == "off"  # type: ignore[union-attr]


OLD = {
    "connect_sessions": (timedelta(days=30), {
        "project_id": "p", "token_hash": b"t", "origin_owner_id": "o", "origin_owner_name": "O", "multiple": False,
        "type": "production", "external_trigger_token": "x", "manage_accounts": True,
    }),
    "idempotency_keys": (idempotency.KEEP, {"id": "i", "request_hash": b"h"}),
    "throttles": (throttle.FORGET, {"subject": "s", "failures": 1}),
    "log_stats": (timedelta(days=maintenance.STATS_DAYS), {
        "project_id": "p", "minutes": 5, "provider": "x", "calls": 1, "errors": 0, "total_ms": 1.0, "under_30": 1,
        "under_100": 1, "under_300": 1, "under_1000": 1, "under_3000": 1, "under_10000": 1,
    }),
    "changes": (timedelta(minutes=1), {"topic": "t", "key": "k"}),
    "request_details": (timedelta(0), {"project_id": "p", "account_id": "a", "sealed": b"s"}),
    "events": (delivery.RETENTION, {
        "project_id": "p", "event": "account.created", "record_type": "account", "record_id": "r", "payload": {},
    }),
    "request_logs": (timedelta(days=90), {
        "category": "unified", "project_id": "p", "method": "GET", "path": "/", "status": 200, "success": True,
        "duration_ms": 1.0, "source_type": "API", "steps": [],
    }),
}  # fmt: skip
"""Table → how long it keeps rows, and a row without its times."""


@pytest.fixture
async def db(tmp_path: Path) -> Any:
    made = Database(f"sqlite:///{tmp_path / 'x.db'}")
    await runner.upgrade(made)
    yield made
    await made.close()


async def test_housekeeping_keeps_each_row_as_long_as_the_map_says(db: Database) -> None:
    """One row a little younger than the limit and one a little older, in every table that forgets by time."""
    now = clock.now()
    async with db.begin() as tx:
        await tx.execute(insert(METADATA.tables["organizations"]).values(id=1, name="o", created_at=now))
        await tx.execute(
            insert(METADATA.tables["projects"]).values(
                id="p", organization_id=1, name="p", created_at=now, ip_allowlist=[], log_days=90
            )
        )
        for name, (limit, values) in OLD.items():
            table = METADATA.tables[name]
            for n, at in enumerate((now - limit + timedelta(seconds=40), now - limit - timedelta(minutes=6))):
                own: dict[str, Any] = {
                    c.name: at
                    for c in table.c
                    if c.name
                    in {"at", "span", "created_at", "expires_at", "lease_until", "started_at", "ended_at", "last_at"}
                }
                for key in ("token_hash", "subject", "id", "request_id"):
                    if key in table.c and not (key == "id" and name == "connect_sessions"):
                        own[key] = b"t%d" % n if key == "token_hash" else f"{key}{n}"
                if name == "request_logs":
                    own["id"] = ids.first_at(at.timestamp())
                await tx.execute(insert(table).values(**{**values, **own}))
    context = cast("Any", SimpleNamespace(db=db, settings=Settings()))
    again = await maintenance.housekeeping(context, cast("Any", None))
    assert again is None
    async with db.read() as tx:
        for name in OLD:
            assert await tx.scalar(select(func.count()).select_from(METADATA.tables[name])) == 1, name


def test_every_setting_that_the_page_names_exists() -> None:
    known = {name for name, _, _ in reference()}
    assert set(re.findall(r"MOORING_[A-Z_]+", PAGE)) <= known


PROVEN = {
    "**Answers and bodies of calls.**": ("logs/test_advanced_logs.py", "logs/test_request_logs.py"),
    "**Query strings, headers and bodies**": ("logs/test_request_logs.py", "test_canaries.py"),
    "**Passwords of dashboard users, API keys, session tokens**": ("test_canaries.py", "identity/test_api_keys.py"),
    "**Credentials in the open.**": ("test_canaries.py", "kit/test_vault.py"),
    "pages load nothing from other hosts": ("docs/test_site.py", "dashboard/test_pages.py"),
    "the data key is shredded": ("accounts/test_accounts_api.py", "operations/test_backup.py"),
    "the tokens are revoked at the provider": ("privacy/test_owner.py",),
    "`mooring audit verify` goes on to say so": ("privacy/test_redaction.py",),
    "Deleting a project stops its keys at once": ("dashboard/test_management_api.py",),
}
"""Words of the page → the tests that prove them, where that is not this file or test_owner.py."""


@pytest.mark.parametrize("words", PROVEN)
def test_what_the_page_says_is_proven_somewhere(words: str) -> None:
    assert words in " ".join(PAGE.split()), "the page says it in other words: look at the proof again"
    assert all((ROOT / "tests" / name).is_file() for name in PROVEN[words])
