"""Fixtures of the Hub's browser tests: one hub and one sandbox per module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.hub_page import Stage, stage
from tests.browser.site import Site, serve


@pytest.fixture(scope="module")
def hub_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A hub on SQLite with the sandbox behind it."""
    with stage(tmp_path_factory.mktemp("stage")) as ready:
        yield ready


@pytest.fixture
def s(hub_stage: Stage) -> Stage:
    """The same with the sandbox in its first state."""
    hub_stage.provider.control("reset")
    return hub_stage


@pytest.fixture
def site() -> Iterator[Site]:
    """A customer's site on another origin."""
    with serve() as running:
        yield running


@pytest.fixture
def evil() -> Iterator[Site]:
    """A site that nobody registered."""
    with serve() as running:
        yield running
