"""From one version to the next on two hosts, one after the other, while callers go on: no call fails."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from mooring.operations.schema import revision, revisions
from tests.cluster.machines import TREE, Cluster, cluster_of
from tests.cluster.traffic import Traffic
from tests.faults.load import number, wait_for
from tests.flows.linking import on_database, refreshes
from tests.hub import BOOTSTRAP_KEY, Project, ok

OLD = "0c988685cb7cd368a2c02f009f56628fed0864ff"  # the last commit with schema 0003
OLD_SCHEMA = "0003"
CALLERS = number("UPGRADE_CALLERS", 2)


@pytest.fixture(scope="module")
def old_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of an older version."""
    folder = tmp_path_factory.mktemp("old")
    packed = subprocess.run(["git", "-C", str(TREE), "archive", OLD, "mooring"], capture_output=True, check=False)
    if packed.returncode != 0:
        pytest.skip(f"the history of this clone does not reach back to {OLD[:7]}")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=packed.stdout, check=True)
    return folder


@pytest.fixture
def cluster(old_tree: Path, tmp_path: Path) -> Iterator[Cluster]:
    """Two hosts that run the older version."""
    with cluster_of(tmp_path, tree=old_tree) as started:
        yield started


def schema(cluster: Cluster) -> str | None:
    return on_database(cluster.a, revision)  # type: ignore[no-any-return]


def work(cluster: Cluster, project: Project, owner: str) -> None:
    """What a host must do, whichever version it runs: link, renew, give keys and take them away, change settings."""
    (account,) = cluster.link(project, 1, owner)
    before = refreshes(cluster.provider)
    cluster.provider.control("expire")
    ok(project.proxy(account, path="/api/me"))
    assert refreshes(cluster.provider) > before
    key = ok(project.http.post("/api_keys", json={"label": owner, "scopes": ["unified:read"]}), 201)
    ok(Project(project.hub, project.id, key["key"]).proxy(account, path="/api/me"))
    ok(project.http.delete(f"/api_keys/{key['id']}"), 204)
    ok(project.http.patch("/project", json={"return_urls": [f"https://{owner}.example/done"]}))
    assert {row["origin_owner_id"] for row in ok(project.http.get("/accounts"))} >= {f"{owner}-0"}
    ok(project.http.get("/requests/logs"))
    ok(project.http.delete(f"/accounts/{account}"))


def test_a_rolling_upgrade_fails_no_call(cluster: Cluster, old_tree: Path) -> None:
    project = Project(cluster.a, "", BOOTSTRAP_KEY)  # made by the older version: its schema is not ours
    accounts = cluster.link(project, 3)
    for key in accounts:
        assert project.proxy(key, path="/api/me").status_code == 200
    a, b = cluster.hubs
    kept = Traffic(project, accounts, [[a, b]] * CALLERS)
    fresh = Traffic(project, accounts, [[a, b]] * CALLERS, new_connections=True)
    with kept, fresh:
        for hub in (a, b):
            wait_for(lambda: min(len(kept.told), len(fresh.told)) > 20)
            assert hub.stop() == 0
            cluster.provider.control("expire")
            hub.tree = TREE
            hub.start()
            if hub is a:
                assert schema(cluster) == revisions()[-1] != OLD_SCHEMA
                work(cluster, cluster.at(b, project), "old-on-new")  # the older version goes on, on the newer schema
            work(cluster, cluster.at(hub, project), f"new-{hub.host.name}")
        time.sleep(0.5)
    told = [one for traffic in (kept, fresh) for one in traffic.told]
    failed = [one for one in told if one.status != 200]
    print(
        f"\nupgrade {OLD_SCHEMA} to {revisions()[-1]}: {len(told)} calls, {len(failed)} failed, "
        f"{kept.turned_away + fresh.turned_away} connections refused by a host that was stopped and taken by the other"
    )
    assert not failed
    assert "Traceback" not in b.log(), b.log()[-3000:]
    assert on_database(a, lambda tx: tx.scalar(text("SELECT count(*) FROM jobs WHERE state = 'dead'"))) == 0
