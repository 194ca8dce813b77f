"""Windows, the queue at a gate, and the breaker of a provider."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mooring import errors
from mooring.kit.limits import FAILURES, Gate, Limits, Provider
from mooring.kit.windows import Window, windows_of


@given(st.integers(1, 50), st.lists(st.floats(0, 3), min_size=60, max_size=200))
def test_no_window_ever_holds_more_than_it_allows(requests: int, pauses: list[float]) -> None:
    window, now, gone = Window(requests, 10), 0.0, []
    for pause in pauses:
        now = max(now + pause, window.ready_at(now + pause))
        window.count(now)
        gone.append(now)
    for index, start in enumerate(gone):
        assert sum(1 for t in gone[index:] if t < start + 10) <= requests


def test_a_large_window_counts_in_steps_and_never_lets_more_through() -> None:
    window = Window(5000, 60)
    for _ in range(4975):
        assert window.ready_at(0.0) == 0.0
        window.count(0.0)
    while window.ready_at(0.0) == 0.0:
        window.count(0.0)
    assert window._counted <= 5000
    assert window.ready_at(0.0) == 60.0


def test_rules_become_windows_and_processes_share_them() -> None:
    rules = {"rps": 10, "rpm": 100, "window": {"requests": 50, "seconds": 10}}
    assert [(w.requests, w.seconds) for w in windows_of(rules, 1)] == [(10, 1), (100, 60), (50, 10)]
    assert [(w.requests, w.seconds) for w in windows_of({"rps": 10}, 1 / 4)] == [(2, 1)]
    assert [(w.requests, w.seconds) for w in windows_of({"rps": 0.5}, 1)] == [(1, 2)]


async def test_who_finds_the_window_full_waits_in_order() -> None:
    gate, order = Gate({"window": {"requests": 2, "seconds": 0.2}}, 1), []

    async def call(number: int) -> None:
        await gate.enter("/", 5)
        order.append((number, time.monotonic()))
        gate.leave()

    began = time.monotonic()
    await asyncio.gather(*(call(n) for n in range(6)))
    assert [n for n, _ in order] == list(range(6))
    spent = [t - began for _, t in order]
    assert spent[1] < 0.15 and spent[2] >= 0.2 and spent[4] >= 0.4
    assert gate.idle


async def test_who_would_wait_too_long_is_told_at_once() -> None:
    gate = Gate({"rpm": 1}, 1)
    await gate.enter("/", 5)
    gate.leave()
    began = time.monotonic()
    with pytest.raises(errors.RateLimited) as refused:
        await gate.enter("/", 5)
    assert time.monotonic() - began < 0.5
    assert 55 <= int(refused.value.headers["retry-after"]) <= 60
    assert refused.value.error_code == "ProviderRateLimitError"


async def test_the_queue_has_a_bound() -> None:
    gate = Gate({"concurrency": 1}, 1, queue=3)
    await gate.enter("/", 5)
    waiting = [asyncio.create_task(gate.enter("/", 5)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(errors.RateLimited):
        await gate.enter("/", 5)
    for task in waiting:
        gate.leave()
        await task
    gate.leave()
    assert gate.idle


async def test_a_caller_that_leaves_the_queue_takes_nobodys_place() -> None:
    gate = Gate({"concurrency": 1}, 1)
    await gate.enter("/", 5)
    first, second = (asyncio.create_task(gate.enter("/", 5)) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    gate.leave()
    async with asyncio.timeout(1):
        await second
    gate.leave()
    assert gate.idle and gate.in_flight == 0


async def test_a_wait_that_ends_is_a_refusal_and_leaves_the_queue() -> None:
    gate = Gate({"concurrency": 1}, 1)
    await gate.enter("/", 5)
    with pytest.raises(errors.RateLimited):
        await gate.enter("/", 0.05)
    assert gate.queued == 0
    gate.leave()
    assert gate.idle


async def test_a_pool_concerns_its_paths_alone() -> None:
    gate = Gate({"rps": 100, "pools": [{"path": "/search", "rpm": 1}]}, 1)
    await gate.enter("/search/a", 0)
    with pytest.raises(errors.RateLimited):
        await gate.enter("/search/b", 0)
    await gate.enter("/people", 0)


async def test_what_a_provider_asks_for_is_kept_whoever_calls() -> None:
    made = Limits()
    assert made.gate("a", {}) is None and made.gate("a", {"note": "x"}) is None
    made.block("a", {}, 0.15)
    gate = made.gate("a", {})
    assert gate is not None
    with pytest.raises(errors.RateLimited):
        await gate.enter("/", 0.05)
    began = time.monotonic()
    await gate.enter("/", 1)
    assert time.monotonic() - began < 0.5
    assert made.gate("b", {}) is None


def test_the_number_of_gates_is_bounded() -> None:
    made = Limits(gates=50)
    for n in range(500):
        made.gate(str(n), {"rps": 1})
    assert len(made._gates) == 50 and "499" in made._gates


def test_a_provider_that_does_not_answer_is_left_alone_then_tried_by_one() -> None:
    provider = Provider()
    for _ in range(FAILURES):
        assert provider.state == "closed"
        provider.begin("X")
        provider.failed()
    assert provider.state == "open"
    with pytest.raises(errors.ProviderError) as refused:
        provider.begin("X")
    assert 1 <= int(refused.value.headers["retry-after"]) <= 5
    provider.open_until = time.monotonic() - 1
    assert provider.state == "half-open"
    provider.begin("X")
    with pytest.raises(errors.ProviderError):  # one tries, the others wait for what it sees
        provider.begin("X")
    provider.failed()
    assert provider.state == "open" and provider.open_until - time.monotonic() > 5
    provider.open_until = time.monotonic() - 1
    provider.begin("X")
    provider.answered()
    assert provider.state == "closed" and provider.in_flight == 0
    provider.begin("X")


def test_a_caller_that_leaves_does_not_speak_for_the_provider() -> None:
    provider = Provider()
    for _ in range(3 * FAILURES):
        provider.begin("X")
        provider.given_up()
    assert provider.state == "closed" and provider.in_flight == 0


def test_calls_without_an_answer_are_bounded() -> None:
    provider = Provider(most=5)
    for _ in range(5):
        provider.begin("X")
    with pytest.raises(errors.Unavailable):
        provider.begin("X")
    provider.answered()
    provider.begin("X")
