"""The life of an account as a table: which fact leads where, and what can never happen."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mooring.accounts import lifecycle
from mooring.accounts.lifecycle import STATUSES, Fact, after, effective

FACTS: tuple[Fact, ...] = get_args(Fact)
STORED = tuple(s for s in STATUSES if s != "inactive")  # inactive is derived, nobody stores it

# Every pair that changes something; all others leave the status as it is.
MOVES = {
    ("active", "credentials_rejected"): "error",
    ("active", "refresh_failing"): "error",
    ("active", "grant_over"): "expired",
    ("active", "suspended"): "suspended",
    ("error", "linked"): "active",
    ("error", "worked"): "active",
    ("error", "grant_over"): "expired",
    ("error", "suspended"): "suspended",
    ("expired", "linked"): "active",
    ("expired", "worked"): "active",
    ("expired", "suspended"): "suspended",
    ("suspended", "resumed"): "active",
    **{(status, "deleted"): "archived" for status in ("active", "error", "expired", "suspended")},
}


@pytest.mark.parametrize(("status", "fact"), list(itertools.product(STATUSES, FACTS)))
def test_each_fact_leads_where_the_table_says(status: str, fact: Fact) -> None:
    assert after(status, fact) == MOVES.get((status, fact), status)


def test_statuses_are_those_of_the_contract() -> None:
    assert set(STATUSES) == {"active", "inactive", "suspended", "archived", "expired", "error"}
    assert set(get_args(lifecycle.Status)) == set(STATUSES)


@given(st.lists(st.sampled_from(FACTS), max_size=12), st.sampled_from(STORED))
def test_a_deleted_account_never_comes_back(facts: list[Fact], status: str) -> None:
    status = after(status, "deleted")
    for fact in facts:
        status = after(status, fact)
    assert status == "archived"


@given(st.lists(st.sampled_from([f for f in FACTS if f not in {"resumed", "deleted"}]), max_size=12))
def test_only_a_resume_ends_a_suspension(facts: list[Fact]) -> None:
    status: str = "suspended"
    for fact in facts:
        status = after(status, fact)
    assert status == "suspended"


@given(st.lists(st.sampled_from(FACTS), max_size=12), st.sampled_from(STORED))
def test_nothing_but_a_grant_that_is_over_makes_an_account_expire(facts: list[Fact], status: str) -> None:
    for fact in facts:
        before, status = status, after(status, fact)
        if status == "expired" and before != "expired":
            assert fact == "grant_over"


@pytest.mark.parametrize("status", STORED)
def test_a_disabled_config_hides_the_status_and_gives_it_back(status: str) -> None:
    hidden = effective(status, config_active=False)
    assert hidden == ("inactive" if status in {"active", "error", "expired"} else status)
    assert effective(status, config_active=True) == status
