"""`GET /accounts/{id}/limits`: how an account stands inside its provider's limits."""

from __future__ import annotations

import secrets
import time

import pytest

from tests.hub import Project, ok, refused
from tests.proxy.conftest import Linked, linked, upstream  # noqa: F401 - fixtures
from tests.proxy.upstream import Upstream, answer


@pytest.fixture
def limited(project: Project, upstream: Upstream) -> Linked:  # noqa: F811
    key = secrets.token_urlsafe(24)
    return Linked(project, project.link(project.config("limited", "api_key"), {"api_key": key}), key)


def limits(linked: Linked) -> dict[str, object]:  # noqa: F811
    return ok(linked.project.http.get(f"/accounts/{linked.account}/limits"))


def test_windows_fill_and_a_pause_shows(limited: Linked, upstream: Upstream) -> None:  # noqa: F811
    before = limits(limited)
    assert before["windows"] == [{"path": None, "requests": 5, "seconds": 2, "used": 0}]
    assert (before["in_flight"], before["queued"], before["blocked_for"]) == (0, 0, 0)
    assert before["provider"]["breaker"] == "closed"
    assert (before["per"], before["share"], before["account_id"]) == ("account", 1, limited.account)
    for _ in range(3):
        limited(path="/x")
    after = limits(limited)
    assert after["windows"][0]["used"] in {1, 2, 3}  # on a slow machine one may have left the window
    # Calls that were answered: whatever tests before this one did to a provider on the same port is forgotten.
    assert after["provider"] == {"breaker": "closed", "failures": 0, "open_for": 0, "in_flight": 0}
    upstream.on("/x", answer(429, b"", "retry-after: 30"))
    assert limited(path="/x").status_code == 429
    assert 25 < limits(limited)["blocked_for"] <= 30


def test_a_provider_that_is_down_shows(linked: Linked, upstream: Upstream) -> None:  # noqa: F811
    upstream.on("/x", lambda _c, _s: None)
    for _ in range(12):
        linked(path="/x")
    state = limits(linked)["provider"]
    assert state["breaker"] == "open" and state["failures"] == 10 and 0 < state["open_for"] <= 5
    time.sleep(state["open_for"] + 0.1)
    assert limits(linked)["provider"]["breaker"] == "half-open"
    upstream.on("/x", answer())
    assert linked(path="/x").status_code == 200
    assert limits(linked)["provider"]["breaker"] == "closed"  # for the tests that come after this one, too


def test_a_foreign_account_is_like_none(limited: Linked, other_project: Project) -> None:
    refused(other_project.http.get(f"/accounts/{limited.account}/limits"), 404)
