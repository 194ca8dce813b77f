"""A crew of people per database: one of every role, all in one project."""

from __future__ import annotations

import pytest

from tests.dashboard.people import Crew, recruit
from tests.hub import Hub


@pytest.fixture
def crew(hub: Hub) -> Crew:
    """A fresh project with an owner, an admin, a member, a viewer and a stranger, signed in."""
    return recruit(hub)
