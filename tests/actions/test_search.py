"""Natural queries find the actions that answer them: the figures of `bench/SEARCH.md` do not fall."""

from __future__ import annotations

from bench.search import measure


def test_natural_queries_find_what_answers_them() -> None:
    found, actions, _ = measure()
    assert len(found) >= 150 and actions >= 270
    assert len({one.query for one in found}) == len(found)
    missed = [one.query for one in found if one.rank is None]
    assert 1 - len(missed) / len(found) >= 0.93, missed
    assert sum(1 / one.rank for one in found if one.rank) / len(found) >= 0.7
