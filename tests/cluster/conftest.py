"""Two hosts with hubs, for the tests of a file, and for those of an upgrade from an older version."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.machines import Cluster, cluster_of
from tests.cluster.network import why_not


@pytest.fixture(scope="session", autouse=True)
def _namespaces() -> None:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, _namespaces: None) -> Iterator[Cluster]:
    with cluster_of(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture
def cluster(running: Cluster) -> Iterator[Cluster]:
    """The hosts as they were at first."""
    running.shape()
    with running.network["caller"].entered():
        yield running
