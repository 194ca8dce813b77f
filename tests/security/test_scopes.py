"""No more is asked for than the connector declares or an operator wrote into the set-up, which is audited (rule O22)."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from mooring.connectors.loader import load_file
from mooring.connectors.problem import ConnectorFileError
from tests.flows.linking import sandbox_config
from tests.hub import Project, ok
from tests.sandbox.harness import Sandbox


def asked(project: Project, config: str) -> list[str]:
    """The scopes of the authorization request."""
    session = project.session(integration_id=config)
    query = parse_qs(urlsplit(session.start_oauth(config, session.attempt()).headers["location"]).query)
    assert query["response_type"] == ["code"], "no implicit flow"
    return query["scope"][0].split()


def test_other_scopes_need_a_change_of_the_set_up_which_is_audited(project: Project, provider: Sandbox) -> None:
    config = sandbox_config(project, provider)
    declared = set(asked(project, config["id"]))
    assert declared and "people.extra" not in declared
    ok(project.http.patch(f"/auth_configs/{config['id']}", json={"setup": {"scopes": ["people.extra"]}}))
    assert asked(project, config["id"]) == ["people.extra"]
    told = project.hub.command("audit", "list", "--project", project.id).stdout
    assert "\tauth_config.updated\t" in told


@pytest.mark.parametrize("grant", ["password", "implicit", "token"])
def test_there_is_no_password_grant_and_no_implicit_one(tmp_path: Path, grant: str) -> None:
    text = f"""\
connector: greedy
title: Greedy
category: crm
base_url: https://api.example.com
auth:
  code:
    oauth2: {{grant: {grant}, token_url: "https://api.example.com/token", authorize_url: "https://api.example.com/a"}}
"""
    file = tmp_path / "greedy.yaml"
    file.write_text(text)
    with pytest.raises(ConnectorFileError) as refused:
        load_file(file, True)
    assert any("must be 'authorization_code'" in str(problem) for problem in refused.value.problems)
    file.write_text(text.replace(f"grant: {grant}", "grant: authorization_code"))
    assert load_file(file, True).key == "greedy"
