"""Writing events, endpoints and their secrets, switching off and on, replaying, forgetting."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import orjson
import pytest
from sqlalchemy import func, select, text, update

from mooring import errors
from mooring.identity.models import DataKeyRow
from mooring.kit import clock
from mooring.kit.jobs import Job
from mooring.webhooks import delivery, events, history, secrets, service
from mooring.webhooks.models import Delivery, Event
from tests.webhooks.receiver import Answer
from tests.webhooks.world import World, new_project


async def test_an_event_exists_if_and_only_if_its_transaction_commits(world: World) -> None:
    await world.endpoint()

    async def emit_and_fail() -> None:
        async with world.db.begin() as tx:
            await service.emit(
                tx, project_id=world.project, event="account.created", record_id="r1", account_id="a", payload={}
            )
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await emit_and_fail()
    async with world.db.read() as tx:
        assert (await history.events(tx, world.project))[0] == []
        assert not await tx.scalar(select(func.count()).where(Job.kind == service.DELIVER))
    await world.run()
    assert not world.receiver.seen


async def test_only_endpoints_that_want_the_event_get_it(world: World) -> None:
    every, _ = await world.endpoint()
    some, _ = await world.endpoint(events=["account.deleted", "account.updated"])
    other, _ = await world.endpoint(events=["account.created"])
    off, _ = await world.endpoint(enabled=False)
    await world.emit("r1", event="account.updated")
    got = [len(await world.deliveries(e)) for e in (every, some, other, off)]
    assert got == [1, 1, 0, 0]


async def test_another_project_hears_nothing(world: World) -> None:
    endpoint, _ = await world.endpoint()
    stranger = await new_project(world.db)
    async with world.db.begin() as tx:
        await service.emit(tx, project_id=stranger, event="account.created", record_id="r1", account_id="a")
    assert not await world.deliveries(endpoint)


async def test_an_unknown_event_is_a_fault_of_ours(world: World) -> None:
    with pytest.raises(ValueError, match=r"account\.exploded"):
        await world.emit("r1", event="account.exploded")


async def test_a_huge_payload_is_cut_and_not_refused(world: World) -> None:
    await world.endpoint()
    async with world.db.begin() as tx:
        await service.emit(
            tx,
            project_id=world.project,
            event="account.created",
            record_id="r1",
            account_id="a",
            payload=events.account_payload(provider="sandbox", setup_information={"note": "x" * 50_000}),
        )
    await world.run()
    (message,) = world.receiver.seen
    assert len(message.body) < 20_000
    assert message.json["provider"] == "sandbox"
    assert message.json["truncated"] == ["setup_information"]


async def test_a_payload_cannot_forge_the_envelope(world: World) -> None:
    await world.endpoint()
    async with world.db.begin() as tx:
        await service.emit(
            tx, project_id=world.project, event="account.created", record_id="r1", payload={"project_id": "p", "x": 1}
        )
    await world.run()
    assert world.receiver.seen[0].json["project_id"] == world.project
    assert world.receiver.seen[0].json["x"] == 1


async def test_of_two_concurrent_transactions_the_first_to_commit_comes_first(world: World) -> None:
    if world.db.is_sqlite:
        pytest.skip("SQLite has one writer at a time")
    ones = [await world.endpoint(events=["account.updated"]) for _ in range(2)]
    held, free = sorted(endpoint.id for endpoint, _ in ones)
    await world.change(next(e for e, _ in ones if e.id == free), events=[])
    release = asyncio.Event()

    async def hold() -> None:
        async with world.db.begin() as tx:
            await service.wake(tx, held, "acc")
            await release.wait()

    holder = asyncio.create_task(hold())
    await asyncio.sleep(0.1)
    late = asyncio.create_task(world.emit("late"))  # waits for the lane that is held
    await asyncio.sleep(0.1)
    await world.emit("early", event="account.created")  # needs only the other endpoint's lane
    release.set()
    await asyncio.gather(holder, late)
    async with world.db.read() as tx:
        newest_first, _ = await history.events(tx, world.project)
    assert [e.record_id for e in newest_first] == ["late", "early"]


async def test_switched_off_by_hand_deliveries_wait_and_resume(world: World) -> None:
    endpoint, _ = await world.endpoint()
    await world.emit("r1", account="a")
    await world.emit("r2", account="b")
    off = await world.change(endpoint, enabled=False)
    assert (off.enabled, off.disabled_reason) == (False, "by_user")
    await world.emit("r3")
    await world.run()
    assert not world.receiver.seen
    on = await world.change(endpoint, enabled=True)
    assert (on.enabled, on.disabled_reason, on.disabled_at) == (True, None, None)
    await world.run()
    assert sorted(world.receiver.records) == ["r1", "r2"]  # r3 happened while nobody listened


async def test_replaying_one_sends_it_again_under_its_id(world: World) -> None:
    endpoint, secret = await world.endpoint()
    (event,) = await world.emit("r1")
    await world.run()
    async with world.db.begin() as tx:
        await history.replay_one(tx, world.project, endpoint.id, event.id)
    await world.run()
    first, second = world.receiver.seen
    assert first.id == second.id == event.id
    second.verify(secret)


async def test_replaying_since_a_time_sends_everything_again_in_order_also_what_was_missed(world: World) -> None:
    endpoint, _ = await world.endpoint(events=["account.updated"])
    await world.emit("before")
    await world.run()
    since = clock.now()
    await world.emit("delivered")
    await world.run()
    await world.change(endpoint, enabled=False)
    await world.emit("missed")
    await world.emit("unwanted", event="account.created")
    await world.change(endpoint, enabled=True)
    await world.emit("after")
    await world.run()
    world.receiver.seen.clear()
    async with world.db.begin() as tx:
        assert await history.replay_since(tx, world.project, endpoint.id, since, failed_only=False) == 4
    await world.run()
    assert world.receiver.records == ["delivered", "missed", "after"]
    world.receiver.seen.clear()
    async with world.db.begin() as tx:
        await history.replay_since(tx, world.project, endpoint.id, since, failed_only=True)
    await world.run()
    assert world.receiver.records == []


async def test_replaying_what_failed_sends_only_that(world: World) -> None:
    endpoint, _ = await world.endpoint()
    since = clock.now()
    world.receiver.rule = lambda m: Answer(500 if m.record == "lost" else 200)
    await world.emit("fine", "lost", "fine too")
    await world.run()
    world.receiver.seen.clear()
    world.receiver.rule = lambda _: Answer()
    async with world.db.begin() as tx:
        await history.replay_since(tx, world.project, endpoint.id, since, failed_only=True)
    await world.run()
    assert world.receiver.records == ["lost"]


async def test_a_replay_goes_step_by_step_through_many_events(world: World) -> None:
    endpoint, _ = await world.endpoint()
    since = clock.now()
    names = [f"r{n:02}" for n in range(25)]
    await world.emit(*names)
    await world.run()
    world.receiver.seen.clear()
    async with world.db.begin() as tx:
        await history.replay_since(tx, world.project, endpoint.id, since, failed_only=False)
    await world.run(batch=10)
    assert world.receiver.records == names


async def test_nothing_is_replayed_to_an_endpoint_that_is_off(world: World) -> None:
    endpoint, _ = await world.endpoint(enabled=False)
    async with world.db.begin() as tx:
        with pytest.raises(errors.Conflict):
            await history.replay_since(tx, world.project, endpoint.id, clock.now(), failed_only=False)


async def test_an_endpoint_always_keeps_an_active_secret(world: World) -> None:
    endpoint, _ = await world.endpoint()
    async with world.db.begin() as tx:
        (only,) = await secrets.search(tx, endpoint)
        await secrets.add(tx, world.vault, endpoint, active=False)
        with pytest.raises(errors.Conflict):
            await secrets.switch(tx, endpoint, only.id, active=False)
        with pytest.raises(errors.Conflict):
            await secrets.remove(tx, endpoint, only.id)


async def test_two_who_take_away_the_last_secrets_at_once_do_not_both_succeed(world: World) -> None:
    endpoint, _ = await world.endpoint()
    async with world.db.begin() as tx:
        await secrets.add(tx, world.vault, endpoint, active=True)
        both = [row.id for row in await secrets.search(tx, endpoint)]

    async def take_away(id: str) -> None:
        async with world.db.begin() as tx:
            locked = await service.get(tx, world.project, endpoint.id, lock=True)
            await secrets.switch(tx, locked, id, active=False)
            await asyncio.sleep(0.05)

    ends = await asyncio.gather(*(take_away(id) for id in both), return_exceptions=True)
    assert sorted(type(e).__name__ for e in ends) == ["Conflict", "NoneType"]


async def test_secrets_are_sealed_and_their_key_dies_with_the_endpoint(world: World) -> None:
    endpoint, secret = await world.endpoint()
    async with world.db.read() as tx:
        (row,) = await secrets.search(tx, endpoint)
        assert secret.encode() not in row.sealed
        assert await tx.scalar(select(func.count()).where(DataKeyRow.owner_id == endpoint.id)) == 1
    async with world.db.begin() as tx:
        await service.remove(tx, world.project, endpoint.id)
    async with world.db.read() as tx:
        assert await tx.scalar(select(func.count()).where(DataKeyRow.owner_id == endpoint.id)) == 0
        for table in ("webhook_secrets", "webhook_deliveries", "webhook_attempts"):
            query = text(f"SELECT count(*) FROM {table} WHERE endpoint_id = :id")
            assert (await tx.execute(query, {"id": endpoint.id})).scalar() == 0


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/hook",
        "https://127.0.0.1/hook",
        "https://10.0.0.1/hook",
        "https://[::1]/hook",
        "https://169.254.169.254/latest",
        "https://2130706433/hook",
        "https://user:hunter2@example.com/hook",
        "ftp://example.com/hook",
        "example.com/hook",
        "http://127.0.0.1:1/hook",
    ],
)
async def test_an_endpoint_must_be_https_in_public(world: World, url: str) -> None:
    with pytest.raises(errors.ValidationFailed) as refusal:
        await world.endpoint(url=url)
    assert refusal.value.errors[0].startswith("url:")
    assert "hunter2" not in str(refusal.value.errors)


async def test_a_public_https_address_is_taken(world: World) -> None:
    endpoint, _ = await world.endpoint(url="https://example.com/hook?token=1")
    assert endpoint.url == "https://example.com/hook?token=1"


async def test_old_events_are_forgotten_with_their_deliveries(world: World) -> None:
    endpoint, _ = await world.endpoint()
    old, new = await world.emit("old", "new")
    await world.run()
    async with world.db.begin() as tx:
        await tx.execute(update(Event).where(Event.seq == old.seq).values(created_at=clock.now() - timedelta(days=31)))
    await delivery.prune(world.db)
    async with world.db.read() as tx:
        assert [e.record_id for e in (await history.events(tx, world.project))[0]] == ["new"]
        assert await tx.scalar(select(func.count()).where(Delivery.endpoint_id == endpoint.id)) == 1
    assert [a.event_seq for a in await world.attempts(endpoint)] == [new.seq]


@pytest.mark.parametrize("size", [0, 100, 18_000, 40_000, 400_000])
def test_whatever_the_payload_the_body_stays_under_20_kb(size: int) -> None:
    payload = {**{f"k{n}": "y" * (size // 40) for n in range(20)}, "big": "x" * (size // 2)}
    now = clock.now()
    body = events.body(
        project_id="p" * 80,
        event="connection_attempt.authenticated",
        event_date=now,
        record_type="connection_attempt",
        record_id="r" * 200,
        account_id="a" * 40,
        payload=events.fitted(payload),
        sent_at=now,
    )
    assert len(body) < 20_000
    if size <= 100:
        assert orjson.loads(body)["big"] == "x" * (size // 2)
