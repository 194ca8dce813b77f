"""StackOne's published Python client for AI, `stackone-ai` 2.10.1, against a running hub (contract §9.3)."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.flows.linking import link_sandbox
from tests.hub import Project, ok
from tests.sandbox.harness import Sandbox

FOLDER = Path(__file__).parent / "python"
PYTHON = FOLDER / ".venv" / "bin" / "python"


class AiClient:
    """The client in its own environment: it wants other versions of libraries than the hub has."""

    def __init__(self, project: Project, account: str) -> None:
        if not PYTHON.exists():
            pytest.fail("the client is not installed: run scripts/install-test-deps --only python")
        self.account = account
        env = {**os.environ, "HUB_URL": project.hub.url, "HUB_API_KEY": project.key, "NO_PROXY": "*"}
        self._process = subprocess.Popen(
            [PYTHON, FOLDER / "run.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=env,
        )

    def __call__(self, do: str, **more: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, "account": self.account, **more}).encode() + b"\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if not answer["ok"]:
            raise AssertionError(f"{answer['type']}: {answer['error']}")
        return answer["result"]

    def close(self) -> None:
        self._process.communicate(timeout=10)


@pytest.fixture
def ai(project: Project, provider: Sandbox) -> Iterator[AiClient]:
    client = AiClient(project, link_sandbox(project, provider))
    yield client
    client.close()


def test_tools_are_fetched_run_found_and_judged(ai: AiClient, project: Project) -> None:
    tools = ai("tools")
    assert {"sandbox_list_employees", "sandbox_create_employee"} <= set(tools)
    wanted = tools["sandbox_create_employee"]["function"]["parameters"]["properties"]
    assert {"body_first_name", "body_last_name", "body_email"} <= set(wanted)
    person = {"body_first_name": "Ada", "body_last_name": "Lovelace", "body_email": "ada@acme.example"}
    made = ai("run", tool="sandbox_create_employee", arguments=person)["data"]
    shown = ai("run", tool="sandbox_get_employee", arguments={"path_id": made["id"]})["data"]
    assert shown == made
    page = ai("run", tool="sandbox_list_employees", arguments={"query_page_size": 3})
    assert len(page["data"]) == 3 and page["next"]
    file = ai("run", tool="sandbox_download_bytes", arguments={"path_n": 10})
    assert file["content_type"] == "application/octet-stream" and file["status_code"] == 200
    with pytest.raises(AssertionError, match="404"):
        ai("run", tool="sandbox_get_employee", arguments={"path_id": "nobody"})
    assert "sandbox_create_employee" in ai("search", query="add a new employee")
    assert any("sandbox_create_employee" in name for name in ai("names", query="add a new employee"))
    said = {"feedback": "Quick and right.", "account_id": ai.account, "tool_names": ["sandbox_get_employee"]}
    taken = ai("feedback", arguments=said)
    assert taken["message"] and taken["key"]
    events = ok(project.http.get("/events"))["data"]
    (kept,) = [event for event in events if event["event"] == "tool_feedback.created"]
    assert kept["id"] == taken["key"] and kept["account_id"] == ai.account
