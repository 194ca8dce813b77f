"""What a file can't say: functions of installed packages as steps, and single calls that go to another address."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mooring.connectors.loader import load_file
from mooring.connectors.problem import ConnectorFileError
from tests.hub import Hub, Project, ok, refused
from tests.proxy.upstream import Upstream, answer, upstream_on
from tests.servers.ports import free_port

FUNCTIONS = '''
async def merge(step):
    """Ask twice, as no file could say it."""
    first = await step.request("get", "/first", query={"q": step.input["word"], "n": [1, 2], "gone": None})
    second = await step.request("post", "/second", json={"seen": first.data, "company": step.auth.get("company")})
    return {"status": second.status, "both": [first.data, second.data], "header": second.headers["x-mark"]}

def plain(step):
    return {"word": step.input["word"].upper(), "before": step.steps}

def broken(step):
    raise ValueError("the word was " + step.input["word"])
'''

CONNECTOR = """
connector: extended
title: Extended
category: other
base_url: http://127.0.0.1:{port}/main
auth:
  key:
    header: {{name: X-Key, value: "${{api_key}}"}}
    fields: {{api_key: {{secret: true}}, company: {{}}}}
actions:
  merge: {{python: "hub_steps:merge", input: {{word: string!}}, effects: read}}
  plain:
    input: {{word: string!}}
    steps:
      - {{id: one, set: {{n: 1}}}}
      - {{id: two, python: "hub_steps:plain", when: "${{input.word != ''}}"}}
  broken: {{python: "hub_steps:broken", input: {{word: string!}}}}
  foreign: {{python: "os:getcwd"}}
  missing: {{python: "hub_steps:nothing"}}
  upload: {{post: /files, base_url: "http://127.0.0.1:{other}/upload", input: {{name: string!}}}}
"""


@pytest.fixture(scope="module")
def places() -> Iterator[tuple[Upstream, Upstream]]:
    with upstream_on(free_port()) as main, upstream_on(free_port()) as other:
        yield main, other


@pytest.fixture(scope="module")
def own_hub(places: tuple[Upstream, Upstream], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    tmp = tmp_path_factory.mktemp("functions")
    (tmp / "installed").mkdir()
    (tmp / "installed/hub_steps.py").write_text(FUNCTIONS)
    (tmp / "connectors").mkdir()
    text = CONNECTOR.format(port=places[0].port, other=places[1].port)
    (tmp / "connectors/extended.yaml").write_text(text)
    env = {"PYTHONPATH": str(tmp / "installed"), "MOORING_PYTHON_MODULES": "hub_steps"}
    allow = ",".join(f"127.0.0.1:{p.port}" for p in places)
    with Hub(
        tmp / "hub", free_port(), connectors_dir=tmp / "connectors", egress_allow=allow, single_process=True, env=env
    ) as hub:
        yield hub


@pytest.fixture
def project(own_hub: Hub) -> Project:
    return own_hub.new_project()


@pytest.fixture
def account(project: Project) -> str:
    return project.link(project.config("extended", "key"), {"api_key": "key-0815-secret", "company": "acme"})


def run(project: Project, account: str, action: str, **given: str):  # type: ignore[no-untyped-def]
    body = {"action": action, "body": given}
    return project.http.post("/actions/rpc", json=body, headers={"x-account-id": account})


def test_a_function_calls_through_the_account(
    project: Project, account: str, places: tuple[Upstream, Upstream]
) -> None:
    main, _ = places
    main.on("/main/first", answer(200, b'{"a": 1}', "content-type: application/json"))
    main.on("/main/second", answer(201, b'{"b": 2}', "content-type: application/json", "X-Mark: m"))
    data = ok(run(project, account, "merge", word="a b"))["data"]
    assert data == {"status": 201, "both": [{"a": 1}, {"b": 2}], "header": "m"}
    first, second = main.seen[-2:]
    assert first.target == "/main/first?q=a%20b&n=1&n=2"
    assert json.loads(second.body) == {"seen": {"a": 1}, "company": "acme"}
    assert {first.header("x-key"), second.header("x-key")} == {"key-0815-secret"}
    main.on("/main/second", answer(404))
    refused(run(project, account, "merge", word="x"), 404, "NotFoundError")


def test_a_plain_function_is_a_step_among_others(project: Project, account: str) -> None:
    assert ok(run(project, account, "plain", word="crane"))["data"] == {"word": "CRANE", "before": {"one": {"n": 1}}}


def test_a_failure_is_told_without_its_text(project: Project, account: str, own_hub: Hub) -> None:
    answer = run(project, account, "broken", word="zebra-4711")
    body = refused(answer, 500, "InternalError")
    assert "hub_steps:broken" in body["message"] and "zebra-4711" not in answer.text
    assert "a function of an action failed" in own_hub.log()


@pytest.mark.parametrize(("action", "said"), [("foreign", "MOORING_PYTHON_MODULES"), ("missing", "not installed")])
def test_only_what_the_operator_allows_and_has_runs(project: Project, account: str, action: str, said: str) -> None:
    answer = run(project, account, action)
    assert said in json.dumps(refused(answer, 501, "NotSupportedError"))


def test_one_call_may_go_to_another_address(project: Project, account: str, places: tuple[Upstream, Upstream]) -> None:
    main, other = places
    before = len(main.seen)
    ok(run(project, account, "upload", name="plan.pdf"))
    assert other.seen[-1].target == "/upload/files" and other.seen[-1].header("x-key") == "key-0815-secret"
    assert len(main.seen) == before


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('upload: {post: /x, base_url: "https://${anything}.acme.example"}', "anything"),
        ('upload: {post: /x, base_url: "https://${company}.acme.example"}', "pattern"),
        ('upload: {post: /x, base_url: "http://acme.example"}', "https"),
        ('merge: {python: "os.system"}', "package.module:name"),
        ('merge: {python: "a:b", get: /x}', "python"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, line: str, said: str) -> None:
    head, _, _ = CONNECTOR.format(port=1, other=2).partition("actions:")
    path = tmp_path / "extended.yaml"
    path.write_text(f"{head}actions:\n  {line}\n".replace("http://127.0.0.1:1/main", "https://acme.example"))
    with pytest.raises(ConnectorFileError) as fault:
        load_file(path, False)
    assert said in str(fault.value) and ":1" in str(fault.value)
