"""Connections of Nango and lists of tokens become accounts that work and are renewed like any other."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mooring.kit import clock
from tests.flows.linking import SANDBOX_CLIENT, credential, refreshes, sandbox_config
from tests.hub import Hub, Project
from tests.moving.moves import accounts
from tests.sandbox.harness import Sandbox

ME = "/api/me"
METHODS = ("api_key", "basic", "oauth2", "client_credentials")
COLUMNS = "provider,origin_owner_id,external_id,access_token,refresh_token,expires_at,fields.api_key"


@pytest.fixture
def project(hubs: Callable[[str], Hub], provider: Sandbox) -> Project:
    """A project with an auth config for each way to authenticate."""
    made = hubs("sqlite").new_project("lists")
    for method in METHODS:
        sandbox_config(made, provider, method)
    return made


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1))
    return path


def connection(id: str, owner: str, credentials: dict[str, Any]) -> dict[str, Any]:
    return {
        "connection_id": id,
        "provider_config_key": f"{id}-config",
        "provider": "Sandbox",
        "credentials": credentials,
        "end_user": {"id": owner, "display_name": f"{owner} Inc."},
    }


def nango_connections(provider: Sandbox) -> list[dict[str, Any]]:
    tokens = provider.link()
    past = clock.iso(clock.now() - timedelta(hours=1))
    oauth = {
        "type": "OAUTH2",
        "access_token": tokens["access_token"],
        "refresh_token": tokens["refresh_token"],
        "expires_at": past,
        "raw": tokens,
    }
    machine = {"type": "OAUTH2_CC", "client_id": "sandbox-machine", "client_secret": "sandbox-machine-secret"}
    return [
        connection("c-oauth", "o-1", oauth),
        connection("c-key", "o-1", {"type": "API_KEY", "apiKey": "sandbox-key-acme"}),
        connection("c-basic", "o-2", {"type": "BASIC", "username": "acme-admin", "password": "sandbox-password"}),
        connection("c-machine", "o-3", machine),
    ]


def test_connections_of_nango_are_called_and_renewed(project: Project, provider: Sandbox, tmp_path: Path) -> None:
    file = write(tmp_path / "export.json", {"connections": nango_connections(provider)})
    checked = accounts(project, "import", "--format", "nango", "--dry-run", file)
    assert "4 rows: 4 new, 0 here already" in checked.err and project.http.get("/accounts").json() == []
    done = accounts(project, "import", "--format", "nango", file)
    made = dict(line.split("\t") for line in done.out.splitlines())
    assert list(made) == ["c-oauth", "c-key", "c-basic", "c-machine"]
    assert [project.proxy(id, path=ME).status_code for id in made.values()] == [200] * 4
    assert refreshes(provider) == 1  # of the token that had ended
    row = credential(project.hub, made["c-oauth"])
    assert row is not None and row.expires_at is not None and row.expires_at > clock.now() and row.refreshable
    seen = project.account(made["c-oauth"])
    assert (seen["origin_owner_id"], seen["origin_owner_name"]) == ("o-1", "o-1 Inc.")
    assert seen["metadata"] == {"imported_id": "c-oauth"} and seen["missing_scopes"] == []
    again = accounts(project, "import", "--format", "nango", file)
    assert "imported 0, left as they were 4" in again.err and again.out == ""
    assert project.proxy(made["c-oauth"], path=ME).status_code == 200  # the spent token of the file was not put back
    assert "sandbox-key-acme" not in done.out + done.err + project.hub.log()


def test_all_faults_are_told_at_once_and_nothing_is_written(
    project: Project, provider: Sandbox, tmp_path: Path
) -> None:
    good = nango_connections(provider)
    bad = [
        connection("c-0", "o-9", {"type": "OAUTH1", "oauth_token": "SECRET", "oauth_token_secret": "SECRET"}),
        good[0],  # twice
        connection("c-1", "o-9", {"type": "WHAT"}),
        {**connection("c-2", "o-9", {"type": "API_KEY", "apiKey": "SECRET"}), "provider": "nowhere"},
    ]
    file = write(tmp_path / "export.json", "\n".join(json.dumps(c) for c in (*good, *bad)))
    done = accounts(project, "import", "--format", "nango", file, check=False)
    assert done.code == 1 and "nothing was imported: 4 faults in 8 rows" in done.err
    lines = done.err.splitlines()[:4]
    assert [line.partition(":")[0] for line in lines] == ["line 5", "line 6", "line 7", "line 8"]
    for line, words in zip(
        lines, ("none takes", "same account as line 1", "can't be imported", "no active"), strict=True
    ):
        assert words in line
    assert "SECRET" not in done.err and project.http.get("/accounts").json() == []


def test_a_token_of_unknown_age_is_renewed_at_its_first_use(
    project: Project, provider: Sandbox, tmp_path: Path
) -> None:
    tokens = provider.link()
    file = write(
        tmp_path / "tokens.csv",
        f"{COLUMNS}\n"
        f"sandbox,o-1,old-1,{tokens['access_token']},{tokens['refresh_token']},,\n"
        f"sandbox,o-1,old-2,,{provider.link()['refresh_token']},,\n"
        "sandbox,o-2,,,,,sandbox-key-globex\n",
    )
    key = next(
        c for c in project.http.get("/auth_configs").json()["data"] if c["authentication_config_key"] == "api_key"
    )
    done = accounts(project, "import", "--format", "tokens", file)
    made = dict(line.split("\t") for line in done.out.splitlines())
    answers = [project.proxy(id, path=ME) for id in made.values()]
    assert [answer.status_code for answer in answers] == [200] * 3, [a.text for a in answers]
    assert refreshes(provider) == 2 and provider.counters()["reuse_detections"] == 0
    assert project.account(made["line 4"])["integration_id"] == key["id"]


def test_an_owners_account_is_never_overwritten(project: Project, provider: Sandbox, tmp_path: Path) -> None:
    config = sandbox_config(project, provider, "api_key", sandbox_url=provider.url)
    linked = project.link(config, {"api_key": "sandbox-key-acme"}, "o-1")
    rows = [
        {
            "provider": "sandbox",
            "origin_owner_id": "o-1",
            "external_id": f"old-{n}",
            "fields": {"key": "sandbox-key-globex"},
        }
        for n in (1, 2)
    ]
    file = write(tmp_path / "tokens.jsonl", "\n".join(map(json.dumps, rows)))
    several = accounts(project, "import", "--format", "tokens", file, check=False)
    assert several.code == 1 and "several fit; say which with --map sandbox=ID" in several.err
    command = ("import", "--format", "tokens", "--map", f"sandbox={config['id']}", "--field", "key=api_key", file)
    done = accounts(project, *command, check=False)
    assert done.code == 1 and done.err.count(f"has an account of sandbox already: {linked}") == 2
    made = [line.split("\t")[1] for line in accounts(project, *command, "--beside").out.splitlines()]
    assert [project.proxy(id, path=ME).json()["account_id"] for id in (linked, *made)] == [
        "acct_acme",
        *["acct_globex"] * 2,
    ]
    assert "left as they were 2" in accounts(project, *command, "--beside").err
    assert len(project.http.get("/accounts").json()) == 3
    write(file, "\n".join(json.dumps({k: v for k, v in row.items() if k != "external_id"}) for row in rows))
    nameless = accounts(project, *command, "--beside", check=False)
    assert (
        nameless.code == 1
        and nameless.err.count("external_id: is needed") == 1
        and "same account as line 1" in nameless.err
    )


def test_a_wrong_value_is_told_by_name_and_not_shown(project: Project, provider: Sandbox, tmp_path: Path) -> None:
    row = {
        "provider": "sandbox",
        "origin_owner_id": "o",
        "method": "basic",
        "fields": {"username": "u", "pin": "SECRET"},
    }
    file = write(tmp_path / "tokens.jsonl", json.dumps({**row, "fields": {**row["fields"], "x": "SECRET"}}))
    done = accounts(project, "import", "--format", "tokens", file, check=False)
    assert done.code == 1 and "pin: the form of basic has no such field (username, password)" in done.err
    assert "is required" in done.err
    assert "SECRET" not in done.err
    wrong = accounts(project, "import", "--format", "tokens", file, "--map", "sandbox", check=False)
    assert wrong.code == 2 and "write OLD=NEW" in wrong.err
    assert SANDBOX_CLIENT["client_secret"] not in done.err
