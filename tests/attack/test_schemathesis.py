"""Rule S10: schemathesis over our OpenAPI, all checks, against a running hub with real data; 0 failures, 0 faults of ours.

`make test` runs the coverage phase (about 2,900 cases); `make attack` all four phases on both databases, 50,000 cases and
more. The statuses of the document are exact, so "undocumented status" is a real check. `LAST` and `RULES` of
`schemathesis_run` say what is run apart and where 400 may meet data that fits its schema, and why. Two checks of the tool
find nothing to do here: object_level_authorization wants two users (tests/test_tenancy.py is that matrix), and NUL
characters, which no string schema can rule out, are not generated (tests/test_tenancy.py sends them).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attack.api_world import World, populate
from tests.attack.schemathesis_run import Outcome, run
from tests.attack.sizes import long_form, size
from tests.conftest import Ports
from tests.hub import Hub
from tests.servers.ports import free_port

KINDS = ["sqlite", "postgres"] if long_form() else ["sqlite"]


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest, ports: Ports, provider_url: str, tmp_path: Path) -> World:
    """A hub of its own: what is done to it here, no other test should meet."""
    url = None
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_server").create_database()
    hub = Hub(tmp_path / "hub", free_port(), database_url=url, egress_allow=ports.egress_allow, single_process=True)
    hub.start()
    request.addfinalizer(hub.stop)
    return populate(hub, provider_url)


def clean(outcome: Outcome, world: World) -> None:
    """Neither schemathesis nor the hub's own log tells of a fault."""
    assert outcome.code == 0, outcome.output[-20_000:]
    assert outcome.failures == []
    assert "unexpected error" not in world.hub.log()


def test_the_api_is_what_its_description_says(world: World, tmp_path: Path, report: Callable[[str], None]) -> None:
    examples, seed = size("EXAMPLES", 0), size("SEED", 1)
    more = {} if examples else {"phases": "coverage"}
    main = run(world, tmp_path / "main", examples=examples or 1, seed=seed, workers=size("WORKERS", 1), **more)
    clean(main, world)
    last = run(world, tmp_path / "last", examples=examples or 1, last=True, seed=seed, **more)
    clean(last, world)
    report(f"schemathesis: {main.cases} + {last.cases} cases, seed {seed}, 0 failures")
    assert main.cases + last.cases >= size("CASES", 2000)
