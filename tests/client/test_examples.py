"""The scripts in `examples/`, run as they are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx

from tests.hub import Project
from tests.servers.redmine import RedmineServer

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_an_agent_files_a_ticket_in_a_real_redmine(project: Project, redmine: RedmineServer) -> None:
    settings = {
        "MOORING_URL": project.hub.url,
        "MOORING_API_KEY": project.key,
        "REDMINE_URL": redmine.base_url,
        "REDMINE_API_KEY": redmine.admin_key,
        "REDMINE_PROJECT": "hub",
    }
    subject = f"The crane is stuck, says {project.id}"
    done = subprocess.run(
        [sys.executable, EXAMPLES / "agent_files_a_ticket.py", subject],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "redmine_create_issue" in done.stdout and redmine.admin_key not in done.stdout + done.stderr
    found = re.search(r"ticket #(\d+): (.*)", done.stdout)
    assert found is not None and found[2] == subject
    url = f"{redmine.base_url}/issues/{found[1]}.json"
    answer = httpx.get(url, headers={"X-Redmine-API-Key": redmine.admin_key}, timeout=30)
    assert answer.json()["issue"]["subject"] == subject

    wrong = subprocess.run(
        [sys.executable, EXAMPLES / "agent_files_a_ticket.py"],
        env={**os.environ, **settings, "REDMINE_API_KEY": "wrong-key-4711"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert wrong.returncode == 1 and "Redmine was not linked" in wrong.stderr and "wrong-key-4711" not in wrong.stderr
