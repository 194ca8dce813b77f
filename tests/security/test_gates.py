"""What is grave asks who you are once more, and guessing gets slower from one address, whoever is guessed (A8, W9)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mooring import errors, settings
from mooring.dashboard.app import load_routes
from mooring.identity import throttle
from mooring.kit.db import Database
from mooring.migrations import runner

P = "/dashboard/p/{project}"
GRAVE = {
    ("GET", f"{P}/settings/export"),
    ("GET", f"{P}/settings/export/download"),
    ("POST", f"{P}/api-keys"),
    ("POST", f"{P}/api-keys/{{id}}/enable"),
    ("POST", f"{P}/delete"),
    ("POST", f"{P}/settings/advanced-logs"),
    ("POST", f"{P}/settings/ip-allowlist"),
    ("POST", f"{P}/settings/origins"),
    ("POST", f"{P}/webhooks/{{id}}/secrets"),
    ("POST", "/dashboard/profile/second-factor"),
    ("POST", "/dashboard/profile/second-factor/confirm"),
    ("POST", "/dashboard/profile/second-factor/off"),
}
"""Exports, keys, who may call from where, what is kept of bodies, and what protects the person themselves."""


def test_what_is_grave_stands_behind_the_password() -> None:
    confirmed = {(route.method, route.path) for route in load_routes() if route.confirmed}
    assert confirmed >= GRAVE, sorted(GRAVE - confirmed)
    members = {(m, p) for m, p in ((r.method, r.path) for r in load_routes()) if "/members" in p and m == "POST"}
    assert len(members) >= 4 and confirmed >= members


def test_no_road_leads_to_what_only_the_host_may_change() -> None:
    """Egress policy, master keys and the addresses of connectors are no matter of the web: no route names them."""
    paths = " ".join(route.path for route in load_routes())
    assert not [word for word in ("egress", "master", "token-url", "reveal") if word in paths]
    names = {name for name, _, _ in settings.reference()}
    assert {"MOORING_EGRESS_ALLOW", "MOORING_MASTER_KEYS", "MOORING_CONNECTORS_DIR"} <= names


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    made = Database(f"sqlite:///{tmp_path}/x.db")
    await runner.upgrade(made)
    yield made
    await made.close()


async def guess(db: Database, times: int, address: str | None, account: str = "person-{}@example.com") -> None:
    for number in range(times):
        async with db.begin() as tx:
            await throttle.failed(tx, account.format(number), address)


async def waits(db: Database, account: str, address: str | None) -> int:
    """Seconds that the next try has to wait."""
    async with db.read() as tx:
        try:
            await throttle.check(tx, account, address)
        except errors.RateLimited as e:
            return int(e.headers["retry-after"])
    return 0


async def test_one_address_that_tries_many_accounts_has_to_wait(db: Database) -> None:
    await guess(db, 20, "198.51.100.7")
    assert await waits(db, "fresh@example.com", "198.51.100.7") > 0
    assert await waits(db, "fresh@example.com", "198.51.100.8") == 0
    before = await waits(db, "fresh@example.com", "198.51.100.7")
    await guess(db, 4, "198.51.100.7")
    assert await waits(db, "fresh@example.com", "198.51.100.7") > before, "each failure makes the next wait longer"


async def test_an_ipv6_host_has_one_turn_for_all_of_its_addresses(db: Database) -> None:
    for number in range(20):
        await guess(db, 1, f"2001:db8:1:2::{number:x}", account=f"p{number}-{{}}@example.com")
    assert await waits(db, "fresh@example.com", "2001:db8:1:2:ffff::1") > 0
    assert await waits(db, "fresh@example.com", "2001:db8:1:3::1") == 0


async def test_a_right_guess_does_not_pay_for_the_next_ones(db: Database) -> None:
    await guess(db, 20, "198.51.100.7")
    async with db.begin() as tx:
        await throttle.succeeded(tx, "person-0@example.com")
    assert await waits(db, "fresh@example.com", "198.51.100.7") > 0


async def test_the_wait_of_one_account_does_not_depend_on_the_address(db: Database) -> None:
    for number in range(7):
        await guess(db, 1, f"198.51.100.{number}", account="victim@example.com")
    assert await waits(db, "victim@example.com", "203.0.113.1") > 0
    assert await waits(db, "other@example.com", "203.0.113.1") == 0
