"""The guide names every event with its meaning, and the schedule that the code keeps."""

from __future__ import annotations

import re
from pathlib import Path

from mooring.webhooks.delivery import SCHEDULE
from mooring.webhooks.events import EVENTS

GUIDE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()
UNITS = {"s": 1, "min": 60, "h": 3600}


def test_every_event_is_in_the_guide() -> None:
    table = GUIDE.partition("<!-- events -->")[2].partition("<!-- /events -->")[0]
    assert dict(re.findall(r"^\| `([\w.]+)` \| (.+) \|$", table, re.MULTILINE)) == EVENTS


def test_the_schedule_is_in_the_guide() -> None:
    row = re.search(r"^\| after the one before \| at once \| (.+) \|$", GUIDE, re.MULTILINE)
    assert row is not None
    pauses = [int(n) * UNITS[unit] for n, unit in re.findall(r"(\d+) (\w+)", row[1])]
    assert [0, *pauses] == list(SCHEDULE)
