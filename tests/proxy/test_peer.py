"""What the nearest peer was measured to get wrong, row by row, and the test that shows Mooring do better.

The rows are those of the comparison of September 2026 (an open hub with refresh at use and memory of its own per process).
"""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable

import httpx
import pytest

from tests.hub import refused
from tests.proxy.conftest import Linked
from tests.proxy.upstream import Upstream

HERE = __name__
REFRESH = "tests.flows.test_refresh"
MATRIX = "tests.faults.test_matrix"
STORM = "tests.faults.test_storm"

PEER: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "32 callers, token ended, 1 process": (
        "1 refresh",
        [
            (REFRESH, "test_storms_through_workers_of_one_hub"),
            (REFRESH, "test_client_credentials_are_minted_once_for_many_callers"),
        ],
    ),
    "32 callers, 2 processes and a shared cache server": (
        "1 refresh",
        [(STORM, "test_one_token_request_a_round")],
    ),
    "32 callers, 2 processes, nothing but the database": (
        "2 refreshes, the single-use token sent twice, half of the calls fail, then all for 30 s",
        [
            (REFRESH, "test_a_storm_of_callers_sends_one_token_request"),
            (STORM, "test_one_token_request_a_round"),
        ],
    ),
    "token endpoint slower than the lock": (
        "the second process sends the same refresh token; the account stays failed",
        [
            (REFRESH, "test_the_times_fit_together"),
            (STORM, "test_a_slow_token_endpoint_is_asked_once"),
        ],
    ),
    "valid token, token endpoint 500": (
        "calls fail for 30 s although the token is good",
        [(REFRESH, "test_a_valid_token_is_used_while_its_refresh_fails")],
    ),
    "token endpoint hangs": (
        "the caller waits 60 s",
        [
            (REFRESH, "test_deadlines_are_total"),
            (REFRESH, "test_a_caller_with_a_valid_token_does_not_wait_for_a_slow_refresh"),
        ],
    ),
    "invalid_grant": (
        "the text of an outage",
        [
            (REFRESH, "test_a_faulty_token_endpoint"),
            (REFRESH, "test_the_account_fails_on_a_revoked_grant_with_the_reason"),
        ],
    ),
    "401 from the provider": (
        "three calls with the same token, no refresh",
        [
            (REFRESH, "test_a_storm_of_callers_sends_one_token_request"),
            (REFRESH, "test_a_401_that_no_refresh_cures_costs_one_refresh"),
        ],
    ),
    "429 with Retry-After": (
        "passed, or waited for when told so",
        [(MATRIX, "test_a_fault_ends_as_documented")],
    ),
    "provider takes long": (
        "no deadline at all",
        [(MATRIX, "test_a_fault_ends_as_documented")],
    ),
    "headers of a good answer": (
        "Link, ETag, Retry-After and rate limits dropped",
        [(HERE, "test_the_providers_headers_reach_the_caller")],
    ),
    "Accept of the caller": (
        "replaced",
        [(HERE, "test_the_callers_headers_reach_the_provider")],
    ),
    "callers with unknown keys beside valid ones": (
        "valid calls fall to a fifth: 0.1 s of processor time per unknown key",
        [(HERE, "test_an_unknown_key_costs_less_than_a_call")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", PEER)
def test_each_row_has_its_test(row: str) -> None:
    _, tests = PEER[row]
    for module, name in tests:
        assert callable(getattr(importlib.import_module(module), name)), name


@pytest.mark.parametrize("status", [200, 404, 503])
def test_the_providers_headers_reach_the_caller(linked: Linked, upstream: Upstream, status: int) -> None:
    passed = {
        "link": '<https://api.example.com/people?page=2>; rel="next"',
        "etag": '"33a64df5"',
        "retry-after": "7",
        "x-ratelimit-limit": "100",
        "x-ratelimit-remaining": "99",
        "last-modified": "Wed, 21 Oct 2015 07:28:00 GMT",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in passed.items())
    upstream.on("/people", f"HTTP/1.1 {status} X\r\n{lines}content-length: 2\r\n\r\n{{}}".encode())
    answer = linked(path="/people")
    assert answer.status_code == status
    assert {name: answer.headers.get(name) for name in passed} == passed


def test_the_callers_headers_reach_the_provider(linked: Linked, upstream: Upstream) -> None:
    sent = {
        "accept": "text/csv;q=0.9, application/vnd.example+json",
        "accept-language": "de-CH",
        "if-none-match": '"33a64df5"',
        "x-custom": "value",
    }
    assert linked(path="/people", headers=sent).status_code == 200
    (seen,) = upstream.calls()
    assert {name: seen.header(name) for name in sent} == sent


def test_an_unknown_key_costs_less_than_a_call(linked: Linked, upstream: Upstream) -> None:
    """Measured side by side, so that a busy machine slows both."""
    known = linked.project.key
    unknown = [known[:-24] + f"{n:024x}" for n in range(60)]
    headers = {"x-account-id": linked.account}
    url = f"{linked.project.hub.url}/proxy/people"
    with httpx.Client(timeout=30, trust_env=False) as http:

        def cost(key: str, check: Callable[[httpx.Response], object]) -> float:
            begun = time.perf_counter()
            answer = http.get(url, headers=headers, auth=(key, ""))
            took = time.perf_counter() - begun
            check(answer)
            return took

        good, bad = [], []
        for key in unknown:
            good.append(cost(known, httpx.Response.raise_for_status))
            bad.append(cost(key, lambda answer: refused(answer, 401)))
    assert statistics.median(bad) < statistics.median(good) * 2 + 0.005
