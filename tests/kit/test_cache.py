"""The cache: bounded, never keeps what a change overtook, and forgets in every process within a second."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from mooring.kit.cache import Cache, ChangeFollower
from mooring.kit.db import Base, Change, Database, record_change
from mooring.kit.shared import SharedServer
from mooring.runtime import share_changes
from tests.conftest import Ports
from tests.hub import Hub, Project, ok
from tests.sandbox.harness import Sandbox
from tests.servers.ports import free_port
from tests.servers.redis import RedisServer


async def loaded(cache: Cache[str, str], key: str, value: str, *tags: str) -> str:
    async def load() -> tuple[str, tuple[str, ...]]:
        return value, tags

    return await cache.load(key, load)


async def test_a_value_is_loaded_once() -> None:
    cache: Cache[str, str] = Cache(10)
    assert await loaded(cache, "a", "first") == "first"
    assert await loaded(cache, "a", "second") == "first"
    assert cache.get("a") == "first" and cache.get("b") is None


async def test_the_least_used_goes_first() -> None:
    cache: Cache[str, str] = Cache(3)
    for key in "abc":
        await loaded(cache, key, key, f"t:{key}")
    cache.get("a")
    await loaded(cache, "d", "d", "t:d")
    assert [cache.get(key) for key in "abcd"] == ["a", None, "c", "d"]
    cache.evict("t:b")  # its tag is gone with it
    assert cache.get("a") == "a"


async def test_a_tag_drops_every_entry_that_carries_it() -> None:
    cache: Cache[str, str] = Cache(10)
    await loaded(cache, "a", "a", "account:1", "config:1")
    await loaded(cache, "b", "b", "account:2", "config:1")
    await loaded(cache, "c", "c", "account:3", "config:2")
    cache.evict("config:1")
    assert [cache.get(key) for key in "abc"] == [None, None, "c"]
    cache.evict("account:9")
    assert cache.get("c") == "c"


async def test_a_load_that_a_change_overtakes_is_not_kept() -> None:
    cache: Cache[str, str] = Cache(10)
    read, change = asyncio.Event(), asyncio.Event()

    async def slow() -> tuple[str, tuple[str, ...]]:
        read.set()  # it has read the old row ...
        await change.wait()
        return "old", ("account:1",)

    loading = asyncio.create_task(cache.load("a", slow))
    await read.wait()
    cache.evict("account:1")  # ... when the change is told
    change.set()
    assert await loading == "old"
    assert cache.get("a") is None
    assert await loaded(cache, "a", "new", "account:1") == "new"


async def test_a_failed_load_keeps_nothing() -> None:
    cache: Cache[str, str] = Cache(10)

    async def broken() -> tuple[str, tuple[str, ...]]:
        raise OSError

    with pytest.raises(OSError):
        await cache.load("a", broken)
    assert await loaded(cache, "a", "good") == "good"


@pytest.fixture
async def two_sides(request: pytest.FixtureRequest, tmp_path: Path):
    """Two users of one database, like two processes."""
    sides = [Database(f"sqlite:///{tmp_path / 'db'}") for _ in range(2)]
    async with sides[0].writer.begin() as connection:
        await connection.run_sync(lambda c: Base.metadata.create_all(c, [Change.__table__]))
    yield sides
    for side in sides:
        await side.close()


async def test_changes_reach_the_other_side_and_only_when_committed(two_sides: list[Database]) -> None:
    here, there = two_sides
    caches: list[Cache[str, str]] = [Cache(10), Cache(10)]
    followers = [ChangeFollower(here), ChangeFollower(there)]
    for follower, cache in zip(followers, caches, strict=True):
        follower.register(cache)
        await follower.start()
    try:
        for cache in caches:
            await loaded(cache, "a", "old", "account:1")
        with pytest.raises(RuntimeError):
            async with here.begin() as tx:
                record_change(tx, "account", "1")
                raise RuntimeError("rolled back")
        await asyncio.sleep(0.4)
        assert [cache.get("a") for cache in caches] == ["old", "old"]
        async with here.begin() as tx:
            record_change(tx, "account", "1")
            assert caches[0].get("a") == "old"
        assert caches[0].get("a") is None, "at once where it was committed"
        begun = time.monotonic()
        while caches[1].get("a") is not None:
            assert time.monotonic() - begun < 1
            await asyncio.sleep(0.01)
    finally:
        for follower in followers:
            await follower.stop()


async def test_news_of_a_change_drop_it_before_the_feed_is_read(
    two_sides: list[Database], redis_server: RedisServer
) -> None:
    servers = [SharedServer(redis_server.url) for _ in range(2)]
    cache: Cache[str, str] = Cache(10)
    try:
        for db, server in zip(two_sides, servers, strict=True):
            follower = ChangeFollower(db)  # which is never started
            follower.register(cache if db is two_sides[1] else Cache(1))
            share_changes(server, follower, db)
            await server.start(patience=10)
        await loaded(cache, "a", "old", "account:1")
        async with two_sides[0].begin() as tx:
            record_change(tx, "account", "1")
        async with asyncio.timeout(10):
            while cache.get("a") is not None:
                await asyncio.sleep(0.01)
    finally:
        for server in servers:
            await server.stop()


def within_a_second(check) -> None:
    begun = time.monotonic()
    while not check():
        assert time.monotonic() - begun < 1.0, "not within a second"
        time.sleep(0.02)


def test_a_second_hub_follows_within_a_second(
    hub: Hub, ports: Ports, project: Project, provider: Sandbox, tmp_path: Path
) -> None:
    """Disabling, enabling, suspending, deleting and revoking at one hub is in force at another one that is warm."""
    config = project.config("sandbox", "api_key", {"sandbox_url": provider.url})
    account = project.link(config, {"api_key": "sandbox-key-acme"})
    keys = {"MOORING_MASTER_KEY_FILE": str(hub.folder / "data.keys")}
    url = hub.database_url
    with Hub(tmp_path / "second", free_port(), database_url=url, egress_allow=ports.egress_allow, env=keys) as second:
        there = Project(second, project.id, project.key)

        def status() -> int:
            return there.proxy(account, path="/api/me").status_code

        assert status() == 200
        for path, change, expected in (
            (f"/auth_configs/{config['id']}", {"active": False}, 412),
            (f"/auth_configs/{config['id']}", {"active": True}, 200),
            (f"/accounts/{account}", {"status": "suspended"}, 412),
            (f"/accounts/{account}", {"status": "active"}, 200),
        ):
            ok(project.http.patch(path, json=change))
            assert project.proxy(account, path="/api/me").status_code == expected, "at once where it was changed"
            within_a_second(lambda expected=expected: status() == expected)
        ok(project.http.delete(f"/accounts/{account}"))
        within_a_second(lambda: status() == 404)
        made = hub.command("api-key", "create", "--project", project.id).stdout
        key = next(word for word in made.split() if word.startswith("v1."))
        with_key = Project(second, project.id, key)
        assert with_key.http.get("/accounts").status_code == 200
        hub.command("api-key", "revoke", key.split(".")[2])
        within_a_second(lambda: with_key.http.get("/accounts").status_code == 401)
