"""What an operator has to be woken by is counted: used codes, ended grants, blocked egress, holes in the audit log (L4)."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mooring.kit.counters import BUCKETS_MS
from mooring.metrics.queues import FAMILIES
from mooring.metrics.samples import COUNTERS, GAUGES, TIMING
from tests.conftest import Ports
from tests.flows.linking import end_token, link_sandbox, run_flow, sandbox_config, sandbox_consent
from tests.hub import Hub, client, refused
from tests.sandbox.harness import Sandbox
from tests.servers.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "metrics-token-0123456789"
CALLBACK = "/connect/oauth2/sandbox/callback"


@pytest.fixture
def watched(tmp_path: Path, ports: Ports) -> Iterator[Hub]:
    """A hub with a courier, on SQLite, with /metrics on."""
    with Hub(tmp_path, free_port(), egress_allow=ports.egress_allow, env={"MOORING_METRICS_TOKEN": TOKEN}) as hub:
        yield hub


def value(hub: Hub, name: str, **labels: str) -> float:
    answer = client(hub.url).get("/metrics", headers={"authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return float(sample.value)
    return 0.0


def test_what_somebody_should_be_woken_by_is_counted(watched: Hub, provider: Sandbox) -> None:
    project = watched.new_project()
    http = client(watched.url)
    refused(http.get(CALLBACK, params={"state": "made-up", "code": "c"}), 400)
    assert value(watched, "mooring_callbacks_refused_total", cause="state_expired") == 1

    config, session = sandbox_config(project, provider), project.session("owner-2")
    landed: list[str] = []

    def consent(location: str) -> str:
        landed.append(sandbox_consent(provider)(location))
        return landed[0]

    assert run_flow(session, config, consent)["status"] == "authenticated"
    refused(session.browser.get(landed[0]), 400)  # the same code, once more
    assert value(watched, "mooring_callbacks_refused_total", cause="state_expired") == 2
    start = session.start_oauth(config["id"], session.attempt())
    refused(http.get(sandbox_consent(provider)(start.headers["location"])), 400)  # a browser that did not begin it
    assert value(watched, "mooring_callbacks_refused_total", cause="other_browser") == 1
    with sqlite3.connect(watched.folder / "data" / "mooring.db", timeout=20) as db:
        audited = db.execute(
            "SELECT result, detail FROM audit_entries WHERE action = 'connection.callback_refused'"
        ).fetchall()
    assert [(result, json.loads(detail)["cause"]) for result, detail in audited] == [
        ("refused", "state_expired"),
        ("refused", "other_browser"),
    ]

    account = link_sandbox(project, provider)
    provider.control("revoke")
    end_token(watched, account)
    refused(project.proxy(account, path="/api/me"), 401)
    cause = "refresh_token_revoked"
    assert value(watched, "mooring_grants_over_total", connector="sandbox", cause=cause) == 1
    assert value(watched, "mooring_refreshes_total", connector="sandbox", outcome="over") == 1

    entries = value(watched, "mooring_audit_entries")
    assert entries > 5 and value(watched, "mooring_audit_missing") == 0
    with sqlite3.connect(watched.folder / "data" / "mooring.db", timeout=20) as db:
        db.execute("DELETE FROM audit_entries WHERE seq IN (?, ?)", (entries - 1, entries - 3))
    assert (value(watched, "mooring_audit_entries"), value(watched, "mooring_audit_missing")) == (entries, 2)


def test_a_token_request_that_the_couriers_guard_refuses_is_counted(watched: Hub, provider: Sandbox) -> None:
    account_of = watched.new_project()
    account = link_sandbox(account_of, provider)
    watched.stop()
    watched.env["MOORING_EGRESS_ALLOW"] = ""
    watched.start()
    end_token(watched, account)
    refused(account_of.proxy(account, path="/api/me"), 502)
    assert value(watched, "mooring_egress_blocks_total") >= 1


def test_every_alert_of_the_guide_asks_for_a_metric_that_exists() -> None:
    page = (ROOT / "docs" / "observability.md").read_text()
    rules = re.findall(r"^- \{alert: (\w+), expr: (.+?)(?:, for: \w+)?\}$", page, re.MULTILINE)
    names = {f"{name}_total" for name in COUNTERS} | set(GAUGES) | set(FAMILIES)
    names |= {f"{TIMING}_{end}" for end in ("bucket", "sum", "count")}
    labels = {name: set(of) for name, (_, of) in (*GAUGES.items(), *FAMILIES.items())}
    labels |= {f"{name}_total": set(of) for name, (_, of) in COUNTERS.items()}
    for alert, expression in rules:
        used = set(re.findall(r"mooring_\w+", expression))
        assert used and used <= names, alert
        for name, inside in re.findall(r"(mooring_\w+)\{([^}]*)\}", expression):
            assert set(re.findall(r"(\w+)=", inside)) <= labels[name], alert
    about = " ".join(alert for alert, _ in rules)
    for wanted in (
        "CallbacksRefused",
        "GrantsEnd",
        "UncertainRotation",
        "Decrypts",
        "EgressBlocked",
        "AuditMissing",
        "AuditShrank",
    ):
        assert f"Mooring{wanted}" in about, wanted  # rule L4, one by one


def test_no_label_grows_with_use() -> None:
    """Labels are from fixed sets (L3): none can hold an account, an owner, a project or a path."""
    names = {label for _, labels in (*COUNTERS.values(), *GAUGES.values(), *FAMILIES.values()) for label in labels}
    assert names == {"connector", "outcome", "status", "cause", "cache", "state", "kind", "of"}
    assert len(BUCKETS_MS) < 20
