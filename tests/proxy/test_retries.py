"""A call is sent again only where the connector says so, only when that is safe, and within bounds (rules R5, R11)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from mooring.kit.limits import RETRY_RESERVE, Provider
from mooring.proxy import retries
from tests.hub import Project, ok
from tests.proxy.conftest import Linked
from tests.proxy.upstream import Upstream, answer

RULE = {"on": ["429", "5xx"], "max": 5, "after": None}


@pytest.fixture
def retrying(project: Project, upstream: Upstream) -> Linked:
    """An account at a provider whose connector says: try 429 and 5xx again."""
    key = secrets.token_urlsafe(24)
    return Linked(project, project.link(project.config("retrying", "api_key"), {"api_key": key}), key)


def answering(upstream: Upstream, *replies: bytes) -> None:
    """Answer /x with these, one after the other, and with the last one from then on."""
    left: Iterator[bytes] = iter(replies)
    upstream.on("/x", lambda _c, _s: next(left, replies[-1]))


def steps(linked: Linked) -> list[tuple[int, float]]:
    (row,) = ok(linked.project.http.get("/requests/logs?include=step_logs"))["data"]
    return [(step["status"], step["duration"]) for step in row["step_requests"]]


def test_a_refused_call_is_sent_again_and_every_try_is_a_step(retrying: Linked, upstream: Upstream) -> None:
    answering(upstream, answer(503), answer(500), answer(200, b'{"a":1}'))
    assert ok(retrying(path="/x")) == {"a": 1}
    assert len(upstream.calls()) == 3
    assert [status for status, _ in steps(retrying)] == [503, 500, 200]


def test_a_body_in_one_piece_goes_again_byte_for_byte(retrying: Linked, upstream: Upstream) -> None:
    answering(upstream, answer(502), answer(200))
    assert retrying("PUT", "/x", content=b"\0\x01body").status_code == 200
    assert [seen.body for seen in upstream.calls()] == [b"\0\x01body"] * 2


@pytest.mark.parametrize("refusal", ["post", "stream", "wait", "switch", "other status"])
def test_what_is_not_safe_or_not_wanted_goes_once(retrying: Linked, upstream: Upstream, refusal: str) -> None:
    answering(upstream, answer(404 if refusal == "other status" else 503))
    if refusal == "post":
        made = retrying("POST", "/x", content=b"{}")
    elif refusal == "stream":
        made = retrying("PUT", "/x", content=iter([b"a", b"b"]))
    else:
        given = {"wait": {"prefer": "wait=0"}, "switch": {"x-mooring-retry": "off"}}.get(refusal, {})
        made = retrying(path="/x", headers=given)
    assert made.status_code == (404 if refusal == "other status" else 503)
    assert len(upstream.calls()) == 1
    assert upstream.calls()[0].header("x-mooring-retry") is None


def test_without_a_rule_nothing_is_sent_again(linked: Linked, upstream: Upstream) -> None:
    answering(upstream, answer(503))
    assert linked(path="/x").status_code == 503
    assert len(upstream.calls()) == 1


def test_a_5xx_is_tried_again_three_times(retrying: Linked, upstream: Upstream) -> None:
    answering(upstream, answer(500, b"still"))
    made = retrying(path="/x", timeout=60)
    assert (made.status_code, made.content) == (500, b"still")
    assert len(upstream.calls()) == 4


@pytest.mark.parametrize("form", ["seconds", "date", "own header"])
def test_the_time_that_the_provider_names_is_kept(retrying: Linked, upstream: Upstream, form: str) -> None:
    told = {
        "seconds": "retry-after: 1",
        "date": f"x-wait: {format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)}",
        "own header": "x-wait: 1",
    }[form]
    times: list[float] = []

    def reply(_c: object, _s: object) -> bytes:
        times.append(time.monotonic())
        return answer(503, b"", told) if len(times) == 1 else answer()

    upstream.on("/x", reply)
    assert retrying(path="/x", timeout=30).status_code == 200
    # A 503 with Retry-After also holds the account back; X-Wait is known to the rule alone.
    assert len(times) == 2 and times[1] - times[0] >= (0.0 if form == "seconds" else 0.95)


def test_a_pause_longer_than_the_call_may_live_is_the_callers(retrying: Linked, upstream: Upstream) -> None:
    answering(upstream, answer(429, b"", "x-wait: 90"))
    begun = time.monotonic()
    made = retrying(path="/x")
    assert made.status_code == 429 and made.headers["x-wait"] == "90"
    assert time.monotonic() - begun < 5 and len(upstream.calls()) == 1


def test_the_unified_call_keeps_the_same_rules(retrying: Linked, upstream: Upstream) -> None:
    answering(upstream, answer(503), answer(200, b"[1]", "content-type: application/json"))
    assert ok(retrying.unified({"path": "/x"}))["data"] == [1]
    answering(upstream, answer(503))
    headers = {"x-account-id": retrying.account, "x-mooring-retry": "off"}
    made = ok(retrying.project.http.post("/unified/proxy", json={"path": "/x"}, headers=headers))
    assert made["status"] == 503 and len(upstream.calls()) == 3


def test_which_answers_are_due() -> None:
    assert retries.is_due(RULE, 503, 2) and not retries.is_due(RULE, 503, 3)
    assert retries.is_due(RULE, 429, 4) and not retries.is_due(RULE, 429, 5)
    assert not retries.is_due(RULE, 404, 0) and not retries.is_due({**RULE, "max": 0}, 503, 0)
    assert retries.is_due({**RULE, "on": ["4xx"]}, 404, 0)


def test_the_pause_is_drawn_below_a_doubling_ceiling() -> None:
    now = datetime.now(UTC)
    for done in range(8):
        drawn = [retries.pause(RULE, 503, [], done, now) for _ in range(300)]
        ceiling = min(retries.LONGEST_PAUSE, retries.FIRST_PAUSE * 2**done)
        assert max(drawn) <= ceiling and min(drawn) < ceiling / 4 and max(drawn) > ceiling * 3 / 4


def test_the_budget_is_a_tenth_of_the_traffic() -> None:
    provider = Provider()
    assert sum(provider.may_repeat() for _ in range(50)) == RETRY_RESERVE
    for _ in range(100):
        provider.begin("P")
        provider.answered()
    allowed = 0
    while provider.may_repeat():
        allowed += 1
        provider.begin("P")  # a repetition earns no other
        provider.answered()
    assert 9 <= allowed <= 10


def test_a_provider_that_refuses_everything_is_asked_a_tenth_more(retrying: Linked, upstream: Upstream) -> None:
    answering(upstream, answer(503, b"", "x-wait: 0"))
    for _ in range(60):
        assert retrying(path="/x", timeout=60).status_code == 503
    assert 60 < len(upstream.calls()) <= 60 + 10 + 6
