"""One desk for each test, at each kind of database."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hub import Hub
from tests.plan.desk import Desk


@pytest.fixture
def desk(hub: Hub, tmp_path: Path) -> Desk:
    """A desk at the running hub."""
    return Desk(hub, tmp_path)
