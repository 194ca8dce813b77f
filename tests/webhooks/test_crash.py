"""Rule S7: a receiver that fails 30 % of the time, and a worker that is killed again and again. Nothing is lost."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from sqlalchemy import func, select, update

from mooring.kit import clock, jobs
from mooring.kit.jobs import Job
from mooring.protocol import signing
from mooring.webhooks import service
from mooring.webhooks.models import PENDING, Delivery
from tests.webhooks.receiver import Answer, Message
from tests.webhooks.world import World, new_vault_text, vault_of

EVENTS = int(os.environ.get("MOORING_TEST_WEBHOOK_EVENTS", "200"))
KILLS = int(os.environ.get("MOORING_TEST_WEBHOOK_KILLS", "3"))
ACCOUNTS = 10
FAILS = 0.3
ROOT = Path(__file__).parents[2]


class Pump:
    """The worker process."""

    def __init__(self, url: str, key: str, port: int) -> None:
        self._env = {**os.environ, "PUMP_DATABASE_URL": url, "PUMP_KEY": key, "PUMP_PORT": str(port)}
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.webhooks.pump"], cwd=ROOT, env=self._env, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        assert await asyncio.to_thread(self._process.stdout.readline) == b"ready\n"

    async def kill(self) -> None:
        assert self._process is not None and self._process.poll() is None, "the worker ended by itself"
        self._process.kill()
        await asyncio.to_thread(self._process.wait)
        assert self._process.stdout is not None
        self._process.stdout.close()


async def test_no_event_is_lost_when_the_worker_is_killed(world: World, database_url: str) -> None:
    key = new_vault_text()
    world.vault = vault_of(key)
    endpoint, secret = await world.endpoint()
    dice = random.Random(7)
    accepted: list[Message] = []

    def unreliable(message: Message) -> Answer:
        message.verify(secret)
        assert message.headers["x-stackone-signature"] == signing.stackone_signature(secret, message.body)
        if dice.random() < FAILS:
            return Answer(dice.choice([500, 503, 302]))
        accepted.append(message)
        return Answer(hang=dice.choice([0, 0, 0.005]))

    world.receiver.rule = unreliable
    pump = Pump(database_url, key, world.receiver.port)
    await pump.start()
    emitting = asyncio.create_task(_emit(world))
    try:
        for kill in range(KILLS):
            await _until(lambda share=(kill + 1) / (KILLS + 2): len(accepted) >= EVENTS * share)
            await pump.kill()
            await _leases_lapse(world)
            await pump.start()
        await emitting
        async with asyncio.timeout(60 + EVENTS / 20):
            while await _pending(world, endpoint.id):
                await asyncio.sleep(0.1)
    finally:
        emitting.cancel()
        await pump.kill()

    wanted = {f"{a}-{n}": f"acc{a}" for a in range(ACCOUNTS) for n in range(EVENTS // ACCOUNTS)}
    got: dict[str, list[Message]] = defaultdict(list)
    for message in accepted:
        got[message.record].append(message)
    assert set(got) == set(wanted)
    again = sum(len(messages) - 1 for messages in got.values())
    assert again <= KILLS * ACCOUNTS  # at most what was on its way
    for messages in got.values():
        assert len({m.id for m in messages}) == 1
    for account in range(ACCOUNTS):
        firsts = list(dict.fromkeys(m.record for m in accepted if m.json["account_id"] == f"acc{account}"))
        assert firsts == [f"{account}-{n}" for n in range(EVENTS // ACCOUNTS)]
    print(
        f"\nS7: {world.db.writer.dialect.name}, {len(wanted)} events, {len(world.receiver.seen)} requests, "
        f"{FAILS:.0%} failed, worker killed {KILLS} times: 0 lost, {again} sent twice, all signatures verified"
    )


async def _emit(world: World) -> None:
    for number in range(EVENTS // ACCOUNTS):
        for account in range(ACCOUNTS):
            await world.emit(f"{account}-{number}", account=f"acc{account}")


async def _until(condition: object) -> None:
    async with asyncio.timeout(60 + EVENTS / 20):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.005)


async def _leases_lapse(world: World) -> None:
    """What a minute does to the leases of a killed worker."""
    async with world.db.begin() as tx:
        await tx.execute(update(Job).where(Job.lease_until.is_not(None)).values(lease_until=clock.now()))


async def _pending(world: World, endpoint_id: str) -> int:
    async with world.db.read() as tx:
        query = select(func.count()).where(Delivery.endpoint_id == endpoint_id, Delivery.status == PENDING)
        return await tx.scalar(query) or 0


async def test_a_job_outlives_any_number_of_killed_workers(world: World) -> None:
    await world.endpoint()
    await world.emit("r1")
    async with world.db.begin() as tx:
        await tx.execute(update(Job).values(attempts=30, lease_until=clock.now()))
    async with world.db.begin() as tx:
        (claim,) = await jobs.claim(tx, [service.DELIVER], 1)
        await jobs.failed(tx, claim, "the database went away", after=0)
    await world.run()
    assert world.receiver.records == ["r1"]
