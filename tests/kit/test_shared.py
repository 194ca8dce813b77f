"""Windows, pauses and news by a real server: exact while it is there, harmless when it is away, slow or forgetful."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from mooring import errors
from mooring.kit.limits import FAILURES, Provider
from mooring.kit.shared import CHANNEL, SharedServer
from mooring.kit.shared_limits import SharedLimits
from mooring.kit.windows import Window
from tests.servers.ports import HOST, free_port
from tests.servers.redis import RedisServer

FIVE = {"window": {"requests": 5, "seconds": 60}}


@pytest.fixture
def server(redis_server: RedisServer) -> RedisServer:
    """A server that holds nothing."""
    redis_server.ask("FLUSHALL")
    return redis_server


@asynccontextmanager
async def connected(url: str, count: int = 2) -> AsyncIterator[list[SharedServer]]:
    """What as many processes have."""
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(count):
            shared = SharedServer(url)
            stack.push_async_callback(shared.stop)
            await shared.start(patience=10)
            made.append(shared)
        yield made


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


async def outcomes(calls: list[Awaitable[None]]) -> list[bool]:
    """Which of the calls got a place; the others were refused by the limit."""
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert all(f is None or isinstance(f, errors.RateLimited) for f in found), found
    return [f is None for f in found]


async def test_processes_that_call_at_once_share_a_window_exactly(server: RedisServer) -> None:
    async with connected(server.url) as both:
        gates = [SharedLimits(shared).look("account", FIVE) for shared in both]
        got = await outcomes([gates[n % 2].enter("/", 0) for n in range(40)])
        assert sum(got) == 5
        assert [gate.in_flight for gate in gates] == [sum(got[0::2]), sum(got[1::2])]
        used = [(await gate.usage())[0] for gate in gates]
        assert used[0] == used[1] == {"path": None, "requests": 5, "seconds": 60, "used": 5}
        assert sum(shared.local for shared in both) == 0


async def test_who_waits_gets_its_turn_in_order_when_the_window_moves_on(server: RedisServer) -> None:
    order, times = [], []

    async with connected(server.url) as both:
        gates = [SharedLimits(shared).look("account", {"window": {"requests": 2, "seconds": 0.3}}) for shared in both]

        async def call(gate: int, number: int) -> None:
            await gates[gate].enter("/", 10)
            order.append((gate, number))
            times.append(time.monotonic())
            gates[gate].leave()

        await asyncio.gather(*(call(gate, n) for n in range(4) for gate in (0, 1)))
        assert all(gate.idle for gate in gates)
    for gate in (0, 1):
        assert [number for g, number in order if g == gate] == list(range(4))
    assert times[7] - times[0] >= 0.85  # 2 at 0, 0.3, 0.6 and 0.9 s, of which the answers may be late


async def test_a_large_window_counts_in_steps_and_never_lets_more_through(server: RedisServer) -> None:
    window = Window(450, 60)
    async with connected(server.url) as (first, second):
        for _ in range(3):
            answers = await asyncio.gather(
                *(s.take("big", [("", window)]) for s in (first, second) for _ in range(100))
            )
        admitted = 600 - 150
        answers = await asyncio.gather(*(first.take("big", [("", window)]) for _ in range(10)))
        assert all(answer and answer > 50 for answer in answers)
        assert 440 <= (await second.used("big", [("", window)]) or [0])[0] <= admitted


async def test_a_call_counts_in_all_its_windows_or_in_none(server: RedisServer) -> None:
    wide, narrow = ("", Window(10, 60)), ("/search", Window(1, 60))
    async with connected(server.url, 1) as (shared,):
        assert await shared.take("a", [wide, narrow]) == 0
        assert (await shared.take("a", [wide, narrow]) or 0) > 50
        assert await shared.used("a", [wide, narrow]) == [1, 1]
        assert await shared.take("a", [wide]) == 0
        assert await shared.take("b", [wide, narrow]) == 0


async def test_a_pause_is_heard_by_all_processes_and_by_those_that_start_later(server: RedisServer) -> None:
    async with connected(server.url, 3) as (first, second, third):
        known, unknown = SharedLimits(second), SharedLimits(third)
        known.gate("account", FIVE)
        SharedLimits(first).block("account", {}, 30)
        await until(lambda: known.look("account", FIVE).blocked_for > 25)
        await until(lambda: unknown.look("account", {}).blocked_for > 25)
        gate = unknown.gate("account", {})
        assert gate is not None and unknown.gate("other", {}) is None
        with pytest.raises(errors.RateLimited):
            await gate.enter("/", 0)
        late = SharedServer(server.url)
        limits = SharedLimits(late)
        try:
            await late.start(patience=10)
            assert 25 < limits.look("account", {}).blocked_for <= 30
        finally:
            await late.stop()


async def test_a_provider_that_fails_elsewhere_gets_one_try_here(server: RedisServer) -> None:
    origin = "https://api.example.com/bot-secret-token"
    async with connected(server.url) as (first, second):
        here, there = SharedLimits(first).provider(origin), SharedLimits(second).provider(origin)
        for _ in range(FAILURES):
            here.begin("X")
            here.failed()
        await until(lambda: there.failures == FAILURES - 1)
        assert (here.state, there.state) == ("open", "closed")
        there.begin("X")
        there.answered()
        assert there.failures == 0  # a broken network of the other host stops nothing here
        assert "secret" not in server.ask("EVAL", "return redis.call('KEYS', '*')", "0")


async def test_news_of_others_on_the_channel_are_ignored(server: RedisServer) -> None:
    async with connected(server.url, 1) as (shared,):
        heard: list[str] = []
        shared.on("change", lambda subject, _seconds: heard.append(subject))
        for message in ("no json", "[1]", '{"a": 1}', '["change", "x", "y"]', '["unknown", "x", 0]'):
            server.ask("PUBLISH", CHANNEL, message)
        shared.tell("change", "account:1")
        await until(lambda: heard == ["account:1"])
        assert shared.up


async def test_nobody_waits_for_a_server_that_is_away(capfd: pytest.CaptureFixture[str]) -> None:
    shared = SharedServer(f"redis://:p4ss@{HOST}:{free_port()}")
    began = time.monotonic()
    await shared.start()
    try:
        gate = SharedLimits(shared, workers=2).look("account", {"window": {"requests": 4, "seconds": 60}})
        assert sum(await outcomes([gate.enter("/", 0) for _ in range(10)])) == 2  # this worker's part
        assert time.monotonic() - began < 5
        assert shared.local > 0 and not shared.up
    finally:
        await shared.stop()
    shown = "".join(capfd.readouterr())
    assert shown.count("shared server is away") == 1 and "p4ss" not in shown


async def test_a_server_that_hangs_is_given_up_and_found_again(server: RedisServer) -> None:
    async with connected(server.url, 1) as (shared,):
        gate = SharedLimits(shared).look("account", {"rpm": 100})
        server.ask("CLIENT", "PAUSE", "3000", "ALL")
        began = time.monotonic()
        assert all(await outcomes([gate.enter("/", 0) for _ in range(20)]))
        assert time.monotonic() - began < 1.5  # about 50 ms; the pause takes 3 s
        assert not shared.up and shared.local > 0
        await until(lambda: shared.up)
        local = shared.local
        await gate.enter("/", 0)
        assert shared.local == local and (await gate.usage())[0]["used"] >= 1


async def test_who_waits_in_the_queue_when_the_server_dies_goes_by_the_local_part(redis_server: RedisServer) -> None:
    async with connected(redis_server.url, 1) as (shared,):
        gate = SharedLimits(shared).look("dies", {"window": {"requests": 1, "seconds": 0.5}})
        calls = [asyncio.create_task(gate.enter("/", 20)) for _ in range(4)]
        await asyncio.sleep(0.1)
        assert gate.queued == 3
        os.kill(redis_server.pid, signal.SIGKILL)
        redis_server.reap()
        try:
            assert await outcomes(list(calls)) == [True] * 4
        finally:
            redis_server.restart()
        await until(lambda: shared.up)


async def test_a_server_that_forgets_allows_no_process_more_than_the_provider_does(server: RedisServer) -> None:
    async with connected(server.url) as both:
        gates = [SharedLimits(shared).look("account", FIVE) for shared in both]
        assert await outcomes([gates[0].enter("/", 0) for _ in range(4)]) == [True] * 4
        server.ask("FLUSHALL")
        assert [await outcomes([gates[0].enter("/", 0)]) for _ in range(5)] == [[True], *[[False]] * 4]
        assert sum(await outcomes([gates[1].enter("/", 0) for _ in range(10)])) == 4
        assert all(shared.up for shared in both)


async def test_a_clock_that_was_set_back_stops_nobody_for_long(server: RedisServer) -> None:
    async with connected(server.url, 1) as (shared,):
        window = [("", Window(1, 60))]
        assert await shared.take("a", window) == 0
        place = next(k for k in server.ask("KEYS", "*{a}*").splitlines() if not k.endswith(":n"))
        server.ask("LSET", place, "0", str(int((time.time() + 3600) * 1_000_000)))
        assert await shared.take("a", window) == 0


async def test_without_windows_nothing_is_asked(server: RedisServer) -> None:
    async with connected(server.url, 1) as (shared,):
        gate = SharedLimits(shared).look("account", {"concurrency": 2})
        assert await outcomes([gate.enter("/", 0) for _ in range(3)]) == [True, True, False]
        assert server.ask("KEYS", "*{account}*") == ""


async def test_a_caller_that_leaves_the_queue_takes_nobodys_place(server: RedisServer) -> None:
    async with connected(server.url, 1) as (shared,):
        gate = SharedLimits(shared).look("account", {"concurrency": 1, "rpm": 100})
        await gate.enter("/", 5)
        first, second = (asyncio.create_task(gate.enter("/", 5)) for _ in range(2))
        await asyncio.sleep(0.05)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        gate.leave()
        async with asyncio.timeout(5):
            await second
        gate.leave()
        assert gate.idle and gate.in_flight == 0


def test_a_warning_does_not_close_a_breaker_that_is_open() -> None:
    provider = SharedLimits(SharedServer("redis://h")).provider("https://x.example")
    for _ in range(FAILURES):
        provider.begin("X")
        provider.failed()
    provider.warn()  # type: ignore[attr-defined]
    assert provider.state == "open" and isinstance(provider, Provider)


class _TimedOut:
    """A connection for news that the kernel gave up: redis-py says at once, and for ever, that no news came in time."""

    async def get_message(self, timeout: float) -> None:
        return None


async def test_a_dead_connection_for_news_is_given_up() -> None:
    """Asked on, it would keep the loop to itself: no call would be answered any more."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await SharedServer("redis://127.0.0.1:1/0")._hear(_TimedOut())  # type: ignore[arg-type]


async def test_silence_is_broken_by_a_question_of_our_own(server: RedisServer) -> None:
    """A connection on which nothing comes is heard to be alive; it is neither lost nor looked for anew."""
    shared = SharedServer(server.url, silent=0.05)
    heard: list[str] = []
    shared.on("probe", lambda subject, _seconds: heard.append(subject))
    await shared.start(patience=5)
    try:
        assert shared.up
        async with asyncio.timeout(5):
            while len(heard) < 3:
                await asyncio.sleep(0.02)
        assert shared.up
    finally:
        await shared.stop()
