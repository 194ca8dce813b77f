"""The courier keeps an answer that nobody stored, through the death of its client and through its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mooring.courier.client import CourierClient
from mooring.courier.server import journal_path
from mooring.courier.wire import Parcel, socket_path
from mooring.kit.http import HttpFailure, OutboundRequest
from mooring.kit.vault import make_key
from tests.servers.ports import free_port

PARCEL = Parcel("acc", "proj", 3, 7)
SECRET = "answer-secret-0123456789"


class Provider:
    """Answers every request after a pause that the test sets."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.pause = 0.0
        self.requests = 0
        self.body = SECRET.encode()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            length = 0
            while (line := await reader.readline()).strip():
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            await reader.readexactly(length)
            self.requests += 1
            await asyncio.sleep(self.pause)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(self.body), self.body))
            await writer.drain()
        writer.close()

    @property
    def request(self) -> OutboundRequest:
        return OutboundRequest("POST", f"http://127.0.0.1:{self.port}/token", [("x-a", "b")], b"grant")


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    found = Provider(free_port())
    server = await asyncio.start_server(found.serve, "127.0.0.1", found.port)
    yield found
    server.close()


class Courier:
    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        id, key = make_key()
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("MOORING_")}
        self.env |= {
            "MOORING_DATA_DIR": str(folder),
            "MOORING_MASTER_KEYS": f"{id}:{key}",
            "MOORING_EGRESS_ALLOW": f"127.0.0.1:{port}",
        }
        self.path = socket_path(folder)
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-m", "mooring.courier"], env=self.env)

    def client(self) -> CourierClient:
        return CourierClient(self.path)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def courier(tmp_path: Path, provider: Provider) -> Iterator[Courier]:
    running = Courier(tmp_path / "data", provider.port)
    yield running
    running.process.terminate()
    running.process.wait(15)


async def send(client: CourierClient, provider: Provider, deadline: float = 5) -> tuple[bytes, int]:
    response, number = await client.send(PARCEL, provider.request, deadline=deadline, max_bytes=1000)
    return response.body, number


async def test_an_answer_is_kept_until_it_is_acknowledged(courier: Courier, provider: Provider) -> None:
    client = courier.client()
    body, number = await send(client, provider)
    assert body == SECRET.encode()
    waiting = await client.waiting(older_than=0)
    assert [(d.number, d.parcel, d.response.body) for d in waiting] == [(number, PARCEL, SECRET.encode())]
    await client.acknowledge(number)
    assert await client.waiting(older_than=0) == []
    await client.aclose()


async def test_answers_are_found_by_account_and_come_as_many_as_a_message_holds(
    courier: Courier, provider: Provider
) -> None:
    client = courier.client()
    other = Parcel("other", "proj", 1, 1)
    await send(client, provider)
    provider.body = b"x" * (1 << 20)
    for _ in range(4):
        await client.send(other, provider.request, deadline=5, max_bytes=1 << 20)
    assert [d.parcel for d in await client.waiting(older_than=0, account_id="acc")] == [PARCEL]
    assert await client.waiting(older_than=0, account_id="nobody") == []
    seen = []
    while some := await client.waiting(older_than=0):
        seen += [d.parcel for d in some]
        for delivered in some:
            await client.acknowledge(delivered.number)
    assert seen == [PARCEL, other, other, other, other]
    await client.aclose()


async def test_a_client_that_dies_leaves_its_answer_behind(courier: Courier, provider: Provider) -> None:
    provider.pause = 0.4
    dying = courier.client()
    task = asyncio.create_task(send(dying, provider))
    while provider.requests == 0:
        await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await dying.aclose()
    heir = courier.client()
    while not (found := await heir.waiting(older_than=0)):
        await asyncio.sleep(0.05)
    assert [d.parcel for d in found] == [PARCEL]
    assert provider.requests == 1
    await heir.aclose()


async def test_a_courier_that_dies_finds_its_journal_again(courier: Courier, provider: Provider) -> None:
    client = courier.client()
    await send(client, provider)
    courier.kill()
    assert SECRET.encode() not in journal_path(courier.folder).read_bytes()
    courier.start()
    assert [d.response.body for d in await client.waiting(older_than=0)] == [SECRET.encode()]
    await client.aclose()


async def test_a_courier_that_dies_in_the_middle_counts_as_sent(courier: Courier, provider: Provider) -> None:
    provider.pause = 30
    client = courier.client()
    task = asyncio.create_task(send(client, provider))
    while provider.requests == 0:
        await asyncio.sleep(0.02)
    courier.kill()
    with pytest.raises(HttpFailure) as failure:
        await task
    assert failure.value.sent and failure.value.kind == "reset"
    courier.start()
    await client.aclose()


async def test_a_torn_record_at_the_end_is_ignored(courier: Courier, provider: Provider) -> None:
    client = courier.client()
    await send(client, provider)
    courier.kill()
    with journal_path(courier.folder).open("ab") as file:
        file.write(b"\x00\x00\x01\x00torn")
    courier.start()
    assert len(await client.waiting(older_than=0)) == 1
    await client.aclose()


async def test_deadline_and_refusal_come_back_as_failures(courier: Courier, provider: Provider) -> None:
    provider.pause = 5
    client = courier.client()
    started = time.monotonic()
    with pytest.raises(HttpFailure) as failure:
        await send(client, provider, deadline=0.3)
    assert failure.value.kind == "timeout" and time.monotonic() - started < 2
    blocked = OutboundRequest("POST", "http://127.0.0.1:1/", [], b"")
    with pytest.raises(HttpFailure) as failure:
        await client.send(PARCEL, blocked, deadline=2, max_bytes=10)
    assert failure.value.kind == "blocked" and not failure.value.sent
    await client.aclose()
