"""Deliveries: what is sent, in which order, how often, and what the log keeps of it."""

from __future__ import annotations

import asyncio
import email.utils
import time
from datetime import timedelta

import pytest

from mooring.kit import clock, jobs
from mooring.kit.http import HttpClient
from mooring.protocol import signing
from mooring.webhooks import delivery, history, secrets, service
from mooring.webhooks.delivery import SCHEDULE
from tests.webhooks.receiver import Answer, Message
from tests.webhooks.world import FAST, World, guard_for

HOUR = 3600


async def test_a_message_has_the_envelope_of_the_contract_and_both_signatures(world: World) -> None:
    _, secret = await world.endpoint()
    (event,) = await world.emit("acc", event="account.created")
    await world.run()
    (message,) = world.receiver.seen
    message.verify(secret)
    assert message.id == event.id and "." not in event.id
    assert message.headers["x-stackone-signature"] == signing.stackone_signature(secret, message.body)
    assert message.headers["content-type"] == "application/json"
    body = message.json
    assert list(body) == [
        *("project_id", "event", "event_date", "record_type", "record_id", "sent_at", "account_id", "provider")
    ]
    assert body["project_id"] == world.project
    assert (body["event"], body["record_type"], body["record_id"]) == ("account.created", "account", "acc")
    assert body["event_date"] == clock.iso(event.created_at) and body["sent_at"] >= body["event_date"]


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_is_delivered(world: World, status: int) -> None:
    endpoint, _ = await world.endpoint()
    world.receiver.rule = lambda _: Answer(status, body=b"")
    await world.emit("r1")
    await world.run()
    row = (await world.deliveries(endpoint))["r1"]
    assert (row.status, row.attempts, row.last_status, row.next_attempt_at) == ("delivered", 1, status, None)
    assert row.delivered_at is not None


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 404, 500, 503])
async def test_everything_else_is_tried_again(world: World, status: int) -> None:
    endpoint, _ = await world.endpoint()
    world.receiver.rule = lambda _: Answer(status, {"location": f"http://127.0.0.1:{world.receiver.port}/elsewhere"})
    await world.emit("r1")
    await world.run(schedule=SCHEDULE)
    row = (await world.deliveries(endpoint))["r1"]
    assert (row.status, row.attempts, row.last_status) == ("pending", 1, status)
    assert [m.path for m in world.receiver.seen] == ["/hook"]  # no redirect was followed
    assert str(status) in str(row.last_error)


def test_the_schedule_is_the_published_one() -> None:
    assert SCHEDULE == (0, 5, 300, 1800, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR)


async def test_each_pause_of_the_schedule_is_kept_with_a_fifth_of_jitter(world: World) -> None:
    endpoint, _ = await world.endpoint()
    world.receiver.rule = lambda _: Answer(500)
    await world.emit("r1")
    for attempt in range(1, len(SCHEDULE)):
        await world.make_due()
        await world.run(schedule=SCHEDULE)
        row = (await world.deliveries(endpoint))["r1"]
        assert row.attempts == attempt and row.next_attempt_at is not None
        pause = (row.next_attempt_at - clock.now()).total_seconds()
        assert SCHEDULE[attempt] - 2 <= pause <= SCHEDULE[attempt] * 1.2
    await world.make_due()
    await world.run(schedule=SCHEDULE)
    row = (await world.deliveries(endpoint))["r1"]
    assert (row.status, row.attempts, row.next_attempt_at) == ("failed", 10, None)


async def test_a_retry_has_the_same_id_and_a_new_signature_for_a_new_time(world: World) -> None:
    _, secret = await world.endpoint()
    world.receiver.rule = lambda _: Answer(500 if len(world.receiver.seen) == 1 else 200)
    await world.emit("r1")
    await world.run(schedule=(0, 1.0), horizon=3)
    first, second = world.receiver.seen
    assert first.id == second.id
    assert int(second.headers["webhook-timestamp"]) > int(first.headers["webhook-timestamp"])
    assert second.headers["webhook-signature"] != first.headers["webhook-signature"]
    assert second.json["sent_at"] > first.json["sent_at"]
    assert second.json["event_date"] == first.json["event_date"]
    for message in (first, second):
        message.verify(secret)


async def test_one_account_is_told_in_order_one_at_a_time(world: World) -> None:
    await world.endpoint()
    running = most = 0

    async def slowly(message: Message) -> Answer:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return Answer(500 if len(world.receiver.seen) % 3 == 1 else 200)

    world.receiver.rule = slowly
    names = [f"r{n}" for n in range(12)]
    await world.emit(*names)
    await world.run()
    assert most == 1
    assert list(dict.fromkeys(world.receiver.records)) == names
    assert world.receiver.records == sorted(world.receiver.records, key=names.index)  # no later one before a retry


async def test_a_failing_account_holds_back_itself_and_no_other(world: World) -> None:
    endpoint, _ = await world.endpoint()
    world.receiver.rule = lambda m: Answer(500 if m.json["account_id"] == "bad" else 200)
    await world.emit("bad-1", "bad-2", account="bad")
    await world.emit("good-1", "good-2", account="good")
    await world.run(schedule=SCHEDULE)
    rows = await world.deliveries(endpoint)
    assert [rows[n].status for n in ("bad-1", "bad-2", "good-1", "good-2")] == [*["pending"] * 2, *["delivered"] * 2]
    assert rows["bad-2"].attempts == 0


async def test_a_given_up_delivery_lets_the_next_one_through(world: World) -> None:
    endpoint, _ = await world.endpoint()
    world.receiver.rule = lambda m: Answer(500 if m.record == "poison" else 200)
    await world.emit("poison", "healthy")
    await world.run()
    assert world.receiver.records == [*["poison"] * len(FAST), "healthy"]
    rows = await world.deliveries(endpoint)
    assert (rows["poison"].status, rows["healthy"].status) == ("failed", "delivered")


async def test_410_switches_the_endpoint_off_and_tells_the_others(world: World) -> None:
    gone, _ = await world.endpoint(url=f"{world.receiver.url}/gone?token=hidden")
    other, _ = await world.endpoint()
    world.receiver.rule = lambda m: Answer(410 if m.path.startswith("/hook/gone") else 200)
    await world.emit("r1", "r2")
    await world.run()
    row = await world.reread(gone)
    assert (row.enabled, row.disabled_reason) == (False, "gone") and row.disabled_at is not None
    rows = await world.deliveries(gone)
    assert (rows["r1"].status, rows["r2"].status) == ("failed", "dropped")
    told = [m.json for m in world.receiver.seen if m.json["event"] == "webhook_endpoint.disabled"]
    assert [(t["record_type"], t["record_id"], t["reason"]) for t in told] == [("webhook_endpoint", gone.id, "gone")]
    assert "hidden" not in str(told)
    assert (await world.reread(other)).enabled
    before = len(world.receiver.seen)
    await world.emit("r3")
    await world.run()
    assert [m.path for m in world.receiver.seen[before:]] == ["/hook"]


async def test_days_of_failure_switch_the_endpoint_off(world: World) -> None:
    failing, _ = await world.endpoint()
    world.receiver.rule = lambda _: Answer(500)
    await world.emit("r1")
    await world.run(schedule=SCHEDULE)
    row = await world.reread(failing)
    assert row.enabled and row.failing_since is not None
    await asyncio.sleep(0.3)
    await world.make_due()
    await world.run(schedule=SCHEDULE, give_up=timedelta(seconds=0.2))
    row = await world.reread(failing)
    assert (row.enabled, row.disabled_reason) == (False, "failing")
    assert timedelta(days=5) == delivery.GIVE_UP


async def test_one_success_ends_the_time_of_failure(world: World) -> None:
    endpoint, _ = await world.endpoint()
    world.receiver.rule = lambda _: Answer(500 if len(world.receiver.seen) == 1 else 200)
    await world.emit("r1")
    await world.run()
    assert (await world.reread(endpoint)).failing_since is None


@pytest.mark.parametrize("status", [429, 502, 503, 504])
@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after_slows_the_whole_endpoint(world: World, status: int, form: str) -> None:
    endpoint, _ = await world.endpoint()
    wanted = "90" if form == "seconds" else email.utils.formatdate(time.time() + 90, usegmt=True)
    world.receiver.rule = lambda _: Answer(status, {"retry-after": wanted})
    await world.emit("r1", account="one")
    await world.run(schedule=SCHEDULE)
    await world.emit("r2", account="two")
    await world.run(schedule=SCHEDULE)
    assert world.receiver.records == ["r1"]
    row = (await world.deliveries(endpoint))["r1"]
    assert row.next_attempt_at is not None
    assert row.next_attempt_at - clock.now() > timedelta(seconds=85)
    paused = (await world.reread(endpoint)).paused_until
    assert paused is not None and paused - clock.now() > timedelta(seconds=85)


async def test_an_absurd_retry_after_means_a_day(world: World) -> None:
    endpoint, _ = await world.endpoint()
    world.receiver.rule = lambda _: Answer(429, {"retry-after": "9" * 30})
    await world.emit("r1")
    await world.run(schedule=SCHEDULE)
    paused = (await world.reread(endpoint)).paused_until
    assert paused is not None and paused - clock.now() <= timedelta(days=1)


async def test_a_receiver_that_hangs_costs_the_timeout_and_no_more(world: World) -> None:
    endpoint, _ = await world.endpoint()
    world.receiver.rule = lambda _: Answer(hang=30)
    await world.emit("r1")
    started = time.monotonic()
    await world.run(timeout=0.3, schedule=SCHEDULE)
    assert time.monotonic() - started < 3
    row = (await world.deliveries(endpoint))["r1"]
    assert (row.status, row.last_status) == ("pending", None)
    assert "did not answer" in str(row.last_error)
    assert delivery.TIMEOUT == 20


async def test_a_status_counts_even_if_the_body_breaks_off_or_never_ends(world: World) -> None:
    endpoint, _ = await world.endpoint()
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n"
    world.receiver.rule = lambda m: Answer(raw=head + (b"x" * 200_000 if m.record == "long" else b"x"))
    await world.emit("long", account="a")
    await world.emit("broken", account="b")
    await world.run()
    rows = await world.deliveries(endpoint)
    assert (rows["long"].status, rows["broken"].status) == ("delivered", "delivered")
    kept = [a.response_body or "" for a in await world.attempts(endpoint)]
    assert sorted(map(len, kept)) == [1, 2048]


async def test_a_closed_port_is_an_attempt_with_its_reason(world: World) -> None:
    endpoint, _ = await world.endpoint()
    await world.receiver.__aexit__()
    await world.emit("r1")
    await world.run(schedule=SCHEDULE)
    (attempt,) = await world.attempts(endpoint)
    assert attempt.status is None and "127.0.0.1" in str(attempt.error)
    await world.receiver.__aenter__()


async def test_an_address_that_is_no_longer_allowed_is_not_called(world: World) -> None:
    endpoint, _ = await world.endpoint()
    await world.emit("r1")
    world.http = HttpClient(guard_for(), user_agent="Mooring/test")
    try:
        await world.run(schedule=SCHEDULE)
    finally:
        await world.http.aclose()
    assert not world.receiver.seen
    (attempt,) = await world.attempts(endpoint)
    assert "refused" in str(attempt.error)


async def test_all_active_secrets_sign_and_inactive_ones_do_not(world: World) -> None:
    endpoint, old = await world.endpoint()

    async def rotate(step: str) -> Message:
        await world.emit(step)
        await world.run()
        return world.receiver.seen[-1]

    async with world.db.begin() as tx:
        made = await secrets.add(tx, world.vault, endpoint, active=False)
    message = await rotate("one active")
    message.verify(old)
    assert len(message.headers["webhook-signature"].split()) == 1
    async with world.db.begin() as tx:
        await secrets.switch(tx, endpoint, made.row.id, active=True)
    message = await rotate("two active")
    message.verify(old)
    message.verify(made.secret)
    assert message.headers["x-stackone-signature"] == signing.stackone_signature(old, message.body)
    async with world.db.begin() as tx:
        first = (await secrets.search(tx, endpoint))[0]
        await secrets.remove(tx, endpoint, first.id)
    message = await rotate("the new one")
    message.verify(made.secret)
    assert len(message.headers["webhook-signature"].split()) == 1
    assert message.headers["x-stackone-signature"] == signing.stackone_signature(made.secret, message.body)


async def test_the_log_holds_request_and_answer_without_secrets(world: World) -> None:
    endpoint, secret = await world.endpoint()
    bare = secret.removeprefix("whsec_")

    def echo(message: Message) -> Answer:
        text = " ".join(
            ["got", message.headers["webhook-signature"], message.headers["x-stackone-signature"], secret, bare, "\0"]
        )
        headers = {"x-echo": message.headers["x-stackone-signature"], "set-cookie": "sid=abc", "x-fine": "yes"}
        return Answer(400, headers, text.encode())

    world.receiver.rule = echo
    await world.emit("r1")
    await world.run(schedule=SCHEDULE)
    (attempt,) = await world.attempts(endpoint)
    sent = dict(attempt.request_headers)
    assert {"webhook-id", "webhook-timestamp", "content-type"} <= set(sent)
    assert attempt.status == 400 and attempt.duration_ms >= 0 and str(attempt.response_body).startswith("got")
    assert dict(attempt.response_headers)["x-fine"] == "yes"
    message = world.receiver.seen[0]
    kept = repr((attempt.request_headers, attempt.response_headers, attempt.response_body, attempt.error))
    for hidden in (
        *message.headers["webhook-signature"].removeprefix("v1,").split(),
        *(message.headers["x-stackone-signature"], secret, bare, "sid=abc"),
    ):
        assert hidden not in kept


async def test_a_json_answer_is_kept_without_the_values_of_sensitive_names(world: World) -> None:
    endpoint, _ = await world.endpoint()
    world.receiver.rule = lambda _: Answer(body=b'{"ok": true, "access_token": "abcdef"}')
    await world.emit("r1")
    await world.run()
    (attempt,) = await world.attempts(endpoint)
    assert attempt.response_body == '{"ok":true,"access_token":"[redacted]"}'


async def test_a_test_delivery_goes_at_once_also_to_an_endpoint_that_is_off(world: World) -> None:
    endpoint, secret = await world.endpoint(enabled=False, events=["account.created"])
    world.receiver.rule = lambda _: Answer(500, body=b"not ready")
    row, event, log = await delivery.send_test(world.db, world.vault, world.http, world.project, endpoint.id)
    assert (row.status, row.last_status, log[0].response_body) == ("failed", 500, "not ready")
    (message,) = world.receiver.seen
    message.verify(secret)
    assert message.id == event.id and message.json["event"] == "webhook_endpoint.test"
    await world.run()
    assert len(world.receiver.seen) == 1  # and is not tried again
    assert (await world.reread(endpoint)).failing_since is None


async def test_a_worker_that_lost_its_lease_records_nothing(world: World) -> None:
    endpoint, _ = await world.endpoint()
    await world.emit("r1")
    async with world.db.begin() as tx:
        (late,) = await jobs.claim(tx, [service.DELIVER], 1, lease=-1)
    async with world.db.begin() as tx:
        (owner,) = await jobs.claim(tx, [service.DELIVER], 1)
    assert await world.work().deliver(late) is None
    assert (await world.deliveries(endpoint))["r1"].status == "pending"
    assert not await world.attempts(endpoint)
    await world.work().deliver(owner)
    assert (await world.deliveries(endpoint))["r1"].status == "delivered"


async def test_an_endpoint_deleted_during_a_delivery_ends_it_quietly(world: World) -> None:
    endpoint, _ = await world.endpoint()

    async def delete(_message: Message) -> Answer:
        async with world.db.begin() as tx:
            await service.remove(tx, world.project, endpoint.id)
        return Answer(500)

    world.receiver.rule = delete
    await world.emit("r1")
    await world.run()
    async with world.db.read() as tx:
        assert not await service.search(tx, world.project)
        found, _ = await history.events(tx, world.project)
    assert [e.record_id for e in found] == ["r1"]
