"""The workbench of `mooring connectors`, as an author of connectors uses it: in a folder, at a real sandbox."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mooring.connectors.loader import load_file
from mooring.connectors.registry import load_registry
from mooring.connectors.workbench.differ import advised_version, differences
from mooring.connectors.workbench.lint import Finding, lint
from tests.command import clean_env, mooring
from tests.sandbox.harness import Sandbox

PEOPLE = """\
connector: people
title: People
category: hris
docs: https://people.dev/docs
base_url: {url}
auth:
  machine:
    label: Machine
    oauth2:
      grant: client_credentials
      token_url: {url}/oauth/token
      scopes: {{employees:read: Reads employees}}
    test: {{get: /api/me}}
  key:
    header: {{name: X-Api-Key, value: "${{api_key}}"}}
    fields: {{api_key: {{secret: true}}}}
    test: {{get: /api/me}}
  basic:
    basic: {{username: "${{username}}", password: "${{password}}"}}
    fields: {{username: {{}}, password: {{secret: true}}}}
    test: {{get: /api/me}}
  oauth:
    oauth2:
      authorize_url: {url}/oauth/authorize
      token_url: {url}/oauth/token
    test: {{get: /api/me}}
actions:
  # the list
  list_people:
    label: List people
    get: /api/employees
    page: {{page: page, size_param: page_size, size: 5, items: employees, total: total}}
    input: {{department: string}}

  # one, in one line
  get_person: {{get: "/api/employees/{{id}}"}}
  first:
    label: The first one
    steps:
      - {{id: all, get: /api/employees, query: {{page_size: 1}}}}
      - {{id: one, get: "/api/employees/${{steps.all.employees[0].id}}"}}
    result: ${{steps.one}}
    tests:
      - name: by hand
        replies:
          - {{match: /api/employees, body: {{employees: [{{id: x}}]}}}}
          - {{match: /api/employees/*, body: {{id: x}}}}
        expect: {{id: x}}
"""
KEY = {"api_key": "sandbox-key-acme"}


class Bench:
    """A folder of an author, and the command."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        self.folder = folder
        self.file = folder / "people.yaml"
        self.file.write_text(PEOPLE.format(url=sandbox.url))
        self._allow = sandbox.url.removeprefix("http://")

    def __call__(self, *arguments: str, credentials: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        more = []
        if credentials is not None:
            path = self.folder / "credentials.json"
            path.write_text(json.dumps(credentials))
            path.chmod(0o600)
            more = ["--credentials", str(path)]
        return mooring(
            self.folder,
            "connectors",
            *arguments,
            *more,
            MOORING_EGRESS_ALLOW=self._allow,
            MOORING_CONNECTORS_DIR=str(self.folder),
        )


@pytest.fixture
def bench(tmp_path: Path, provider: Sandbox) -> Bench:
    return Bench(tmp_path, provider)


# --- new


@pytest.mark.parametrize("auth", ["api_key", "bearer", "basic", "oauth2", "client_credentials"])
def test_a_new_connector_is_fine_as_it_is(tmp_path: Path, auth: str) -> None:
    made = mooring(tmp_path, "connectors", "new", "acme", "--base-url", "https://api.acme.dev/v1/", "--auth", auth)
    assert made.returncode == 0, made.stderr
    checked = mooring(tmp_path, "connectors", "check", "acme.yaml")
    assert checked.returncode == 0 and "there is no guide" not in checked.stderr, checked.stderr
    assert mooring(tmp_path, "connectors", "lint", "acme.yaml").returncode == 0
    tested = mooring(tmp_path, "connectors", "test", "acme", MOORING_CONNECTORS_DIR=str(tmp_path))
    assert tested.stdout == "1 tests passed, 0 failed\n"


def test_a_title_may_hold_any_character(tmp_path: Path) -> None:
    title = 'Acme: the "best" # {of} all'
    mooring(tmp_path, "connectors", "new", "acme", "--base-url", "https://api.acme.dev", "--title", title)
    assert load_file(tmp_path / "acme.yaml", builtin=False).title == title


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["A_b", "--base-url", "https://a.dev"], "is no key of a connector"),
        (["acme", "--base-url", "a.dev"], "is no address"),
        (["acme", "--base-url", "https://a.dev", "--auth", "magic"], "is none of api_key"),
        (["ashby", "--base-url", "https://a.dev"], "belongs to a shipped connector"),
        (["acme", "--base-url", "https://a.dev", "--category", "nothing"], "must be 'ats'"),
        (["acme", "--base-url", "https://a.dev", "--folder", "nowhere"], "is not a folder"),
    ],
)
def test_what_can_be_no_connector_writes_nothing(tmp_path: Path, arguments: list[str], words: str) -> None:
    refused = mooring(tmp_path, "connectors", "new", *arguments)
    assert refused.returncode == 2 and words in refused.stderr
    assert not list(tmp_path.glob("*.yaml")) and not list(tmp_path.glob("*.md"))


def test_a_new_connector_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "acme.md").write_text("mine")
    refused = mooring(tmp_path, "connectors", "new", "acme", "--base-url", "https://a.dev")
    assert refused.returncode == 2 and "exists already" in refused.stderr
    assert (tmp_path / "acme.md").read_text() == "mine" and not (tmp_path / "acme.yaml").exists()


# --- lint


def findings(tmp_path: Path, text: str) -> list[Finding]:
    path = tmp_path / "acme.yaml"
    path.write_text(text)
    return lint(load_file(path, builtin=False))


def test_the_catalogue_has_no_warnings() -> None:
    found = [(c.key, f.message) for c in load_registry().values() for f in lint(c) if f.level == "warning"]
    assert found == []


def test_what_is_doubtful_is_found(tmp_path: Path) -> None:
    found = findings(
        tmp_path,
        """\
connector: acme
title: Acme
category: hris
website: http://acme.dev
base_url: https://${host}/v1
auth:
  key:
    query: {name: key, value: "${api_key}"}
    fields:
      api_key: {secret: true}
      host: {pattern: "[a-z.]+"}
      unused: {}
      login_token: {}
    headers: {X-Login: "${login_token}"}
  oauth:
    base_url: https://api.acme.example
    oauth2:
      authorize_url: https://acme.dev/authorize
      token_url: https://acme.dev/token
      scopes: [read, write]
      pkce: false
    test: {delete: /me}
page: {cursor: next, param: after}
actions:
  list_all: {get: /all, page: true, scopes: [admin]}
  two:
    steps:
      - {id: waste, get: /one}
      - {id: last, get: /two}
""",
    )
    said = {(f.level, ".".join(map(str, f.at))): f.message for f in found}
    expected = {
        ("warning", "connector"),
        ("warning", "website"),
        ("warning", "auth.key"),  # no test
        ("note", "auth.key.query"),
        ("note", "auth.key"),  # the host
        ("warning", "auth.key.fields.unused"),
        ("warning", "auth.key.fields.login_token"),
        ("warning", "auth.key.fields"),
        ("warning", "auth.oauth"),
        ("warning", "auth.oauth.test"),
        ("warning", "auth.oauth.oauth2.scopes"),
        ("note", "auth.oauth.oauth2.pkce"),
        ("note", "actions.list_all"),
        ("note", "actions.list_all.scopes"),
        ("warning", "actions.list_all.page"),
        ("warning", "actions.two.steps.0"),
        ("note", "actions.two"),
        ("warning", ""),  # the guide
    }
    assert set(said) == expected


def test_findings_are_told_with_their_place(bench: Bench) -> None:
    bench.file.write_text(bench.file.read_text().replace("Reads employees", '""').replace("docs: https", "docs: http"))
    told = bench("lint", str(bench.file))
    assert told.returncode == 1
    assert re.search(r"people\.yaml:4:1: http://people\.dev/docs is not https \(warning\)", told.stderr)
    assert "(note)" not in told.stderr and "(note)" in bench("lint", str(bench.file), "--notes").stderr


# --- run


def test_an_action_is_run_and_its_exchange_shown_without_the_secret(bench: Bench) -> None:
    done = bench("run", str(bench.file), "list_people", "--method", "key", "-i", "page_size=2", credentials=KEY)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert len(answer["data"]) == 2 and answer["next"]
    assert "> GET " in done.stderr and "page_size=2" in done.stderr and "< 200" in done.stderr
    assert "x-api-key: [redacted]" in done.stderr
    assert KEY["api_key"] not in done.stdout + done.stderr
    again = bench(
        "run", str(bench.file), "list_people", "--method", "key", "--next", answer["next"], "--quiet", credentials=KEY
    )
    assert again.stderr == "" and json.loads(again.stdout)["data"] != answer["data"]


def test_a_method_of_machines_fetches_its_token(bench: Bench) -> None:
    machine = {"client_id": "sandbox-machine", "client_secret": "sandbox-machine-secret"}
    done = bench("run", str(bench.file), "people_list_people", credentials=machine)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["data"]) == 5
    assert "authorization: [redacted]" in done.stderr
    wrong = bench("run", str(bench.file), "list_people", credentials=machine | {"client_secret": "not-the-secret"})
    assert wrong.returncode == 2 and "gave no token: invalid_client" in wrong.stderr
    assert "not-the-secret" not in wrong.stderr


def test_a_method_with_a_consent_page_wants_a_token(bench: Bench, provider: Sandbox) -> None:
    form = {"grant_type": "client_credentials", "scope": "employees:read"}
    made = provider.http.post("/oauth/token", data=form, auth=("sandbox-machine", "sandbox-machine-secret"))
    token = made.json()["access_token"]
    done = bench("run", str(bench.file), "first", "--method", "oauth", credentials={"access_token": token})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["data"]["id"]
    assert done.stderr.count("> GET ") == 2 and token not in done.stdout + done.stderr
    without = bench("run", str(bench.file), "first", "--method", "oauth", credentials={})
    assert without.returncode == 2 and "an access token is needed" in without.stderr


@pytest.mark.parametrize(
    ("arguments", "credentials", "words"),
    [
        (["get_person", "--method", "key"], KEY, "path.id: is required"),
        (["get_persn", "--method", "key"], KEY, "Did you mean 'people_get_person'?"),
        (["list_people", "--method", "magic"], KEY, "is none of machine, key, basic, oauth"),
        (["list_people", "--method", "key"], {}, "is required"),
        (["list_people", "--method", "key"], {"api_kye": "x"}, "does not ask for 'api_kye'"),
        (["list_people", "--method", "key", "-i", "department"], KEY, "is not of the form name=value"),
        (["get_person", "--method", "key", "-i", "id=nobody"], KEY, "There is no such employee"),
        (["list_people", "--method", "key"], {"api_key": "wrong-key-4711"}, "People answered 401"),
    ],
)
def test_what_goes_wrong_is_told(bench: Bench, arguments: list[str], credentials: dict[str, str], words: str) -> None:
    refused = bench("run", str(bench.file), *arguments, credentials=credentials)
    assert refused.returncode == 2 and refused.stdout == ""
    assert words in refused.stderr and "wrong-key-4711" not in refused.stderr
    assert ".." not in refused.stderr.replace("...", "")


def test_a_file_that_others_can_read_is_refused(bench: Bench) -> None:
    path = bench.folder / "open.json"
    path.write_text(json.dumps(KEY))
    path.chmod(0o644)
    refused = bench("run", str(bench.file), "list_people", "--method", "key", "--credentials", str(path))
    assert refused.returncode == 2 and "chmod 600" in refused.stderr
    path.chmod(0o600)
    path.write_text("sandbox-key-acme")
    refused = bench("run", str(bench.file), "list_people", "--method", "key", "--credentials", str(path))
    assert refused.returncode == 2 and "this is no JSON" in refused.stderr and KEY["api_key"] not in refused.stderr


def test_nothing_is_reached_that_the_guard_refuses(bench: Bench) -> None:
    refused = mooring(
        bench.folder, "connectors", "run", str(bench.file), "list_people", "--method", "key",
        "--credentials", str(_written(bench.folder)),
    )  # fmt: skip
    assert refused.returncode == 2 and "127.0.0.1" in refused.stderr and "< " not in refused.stderr


def _written(folder: Path) -> Path:
    path = folder / "key.json"
    path.write_text(json.dumps(KEY))
    path.chmod(0o600)
    return path


# --- record


def test_a_run_becomes_a_test_that_passes(bench: Bench) -> None:
    before = bench.file.read_text()
    done = bench(
        "record", str(bench.file), "list_people", "--method", "key", "--name", "page one", "--write", credentials=KEY
    )
    assert done.returncode == 0, done.stderr
    text = bench.file.read_text()
    assert KEY["api_key"] not in text
    removed = [line for line in before.splitlines() if line not in text.splitlines()]
    assert removed == [] and text.index("page one") < text.index("# one, in one line")
    test = load_file(bench.file, builtin=False).actions["list_people"].tests[0]
    assert len(test["replies"][0]["body"]["employees"]) == 2 and test["replies"][0]["body"]["total"] > 2
    assert test["expect"]["requests"] == ["GET /api/employees?page_size=5"] and test["expect"]["next"] is True
    assert bench("test", "people").stdout == "2 tests passed, 0 failed\n"
    broken = text.replace("size: 5", "size: 6")
    bench.file.write_text(broken)
    assert "GET /api/employees?page_size=6" in bench("test", "people").stderr


def test_a_second_test_stands_after_the_first(bench: Bench) -> None:
    done = bench("record", str(bench.file), "first", "--method", "key", "--write", credentials=KEY)
    assert done.returncode == 0, done.stderr
    tests = load_file(bench.file, builtin=False).actions["first"].tests
    assert tests[0]["name"] == "by hand" and tests[1]["replies"][0]["match"] == "GET /api/employees"
    assert bench("test", "people").stdout == "2 tests passed, 0 failed\n"


def test_a_refusal_is_recorded_too(bench: Bench) -> None:
    done = bench("record", str(bench.file), "get_person", "--method", "key", "-i", "id=nobody", credentials=KEY)
    assert done.returncode == 0, done.stderr
    assert "error: NotFoundError" in done.stdout and "status: 404" in done.stdout
    written = bench(
        "record", str(bench.file), "get_person", "--method", "key", "-i", "id=nobody", "--write", credentials=KEY
    )
    assert written.returncode == 2 and "in one line" in written.stderr
    assert bench.file.read_text().count("tests:") == 1


# --- the tutorial


def test_the_tutorial_works_as_it_is_written(tmp_path: Path, provider: Sandbox) -> None:
    page = (Path(__file__).parents[2] / "docs" / "connectors.md").read_text()
    part = page.partition("## Five actions in 18 lines")[2].partition("\n## ")[0]
    written, typed = re.findall(r"```(?:yaml|sh)\n(.*?)```", part, re.DOTALL)
    assert (
        len(written.splitlines()) == 18
        and len(re.findall(r"^  \w+: \{(get|post|patch|delete)", written, re.MULTILINE)) == 5
    )
    host = provider.url.removeprefix("http://")
    (tmp_path / "people.yaml").write_text(written.replace("127.0.0.1:8090", host))
    bin = tmp_path / "bin"
    bin.mkdir()
    (bin / "mooring").write_text(f'#!/bin/sh\nexec {sys.executable} -m mooring "$@"\n')
    (bin / "mooring").chmod(0o755)
    env = clean_env(tmp_path) | {"PATH": f"{bin}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-e", "-c", typed.replace("127.0.0.1:8090", host)],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "people.yaml: people is fine (key)" in done.stdout
    assert '"first_name": "Ada"' in done.stdout and "sandbox-key-acme" not in done.stdout + done.stderr
    assert (
        provider.http.get("/api/employees?page_size=1", headers={"x-api-key": "sandbox-key-acme"}).json()["total"] == 54
    )


# --- diff and docs


def versions(tmp_path: Path, old: str, new: str) -> tuple[list[tuple[str, str]], str]:
    folders = [tmp_path / name for name in ("old", "new")]
    loaded = []
    for folder, text in zip(folders, (old, new), strict=True):
        folder.mkdir()
        (folder / "people.yaml").write_text(text)
        loaded.append(load_file(folder / "people.yaml", builtin=False))
    changes = differences(*loaded)
    return [(c.effect, c.message) for c in changes], advised_version(loaded[0], changes)


def test_no_difference_is_told_as_none(tmp_path: Path) -> None:
    text = PEOPLE.format(url="https://people.dev")
    assert versions(tmp_path, text, text) == ([], "1.0.0")


@pytest.mark.parametrize(
    ("old", "new", "effect", "words", "version"),
    [
        ("get_person: {get", "read_person: {get", "breaks", "the action `get_person` is gone", "2.0.0"),
        ("input: {department: string}", "input: {department: string!}", "breaks", "`department` differs", "2.0.0"),
        ("input: {department: string}", "input: {department: string, x: string}", "adds", "the input `x`", "1.1.0"),
        ("Reads employees}", "Reads employees, b: B}", "breaks", "the scope `b`", "2.0.0"),
        ("username: {},", "username: {}, realm: {},", "breaks", "end users give `realm`", "2.0.0"),
        ("size: 5", "size: 6", "changes", "list_people: paging", "1.0.1"),
        ("X-Api-Key", "X-Key", "changes", "key: headers", "1.0.1"),
        ("  key:\n", "  secret:\n", "breaks", "the auth method `key` is gone", "2.0.0"),
    ],
)
def test_differences_are_weighed(tmp_path: Path, old: str, new: str, effect: str, words: str, version: str) -> None:
    text = PEOPLE.format(url="https://people.dev")
    changes, advised = versions(tmp_path, text, text.replace(old, new))
    assert any(e == effect and words in message for e, message in changes), changes
    assert advised == version


def test_the_page_of_a_connector_names_every_action_and_field() -> None:
    from mooring.connectors.workbench.page import page

    for connector in load_registry().values():
        text = page(connector)
        for method in connector.auth.values():
            assert all(f"`{f.key}`" in text for f in (*method.fields, *method.app_fields))
        assert all(f"### {key}\n" in text for key, a in connector.actions.items() if not a.internal)
        anchors = set(re.findall(r"\]\(#([^)]+)\)", text))
        assert anchors == {k for k, a in connector.actions.items() if not a.internal}


def test_commands_are_in_the_help(tmp_path: Path) -> None:
    told = mooring(tmp_path, "connectors", "--help")
    for name in ("new", "check", "lint", "test", "run", "record", "diff", "import-openapi", "docs"):
        assert f"  {name} " in told.stdout


def test_the_list_leaves_drafts_out_unless_they_are_asked_for(tmp_path: Path) -> None:
    shown = {line.split("\t")[0] for line in mooring(tmp_path, "connectors", "list").stdout.splitlines()}
    every = {line.split("\t")[0] for line in mooring(tmp_path, "connectors", "list", "--drafts").stdout.splitlines()}
    assert every == set(load_registry()) and "iterable" in every - shown and "ashby" in shown
