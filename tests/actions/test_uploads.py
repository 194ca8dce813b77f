"""Actions that send forms and files, and the rates of single actions."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from mooring.connectors.loader import load_file
from mooring.connectors.problem import ConnectorFileError
from tests.hub import Hub, Project, ok, refused
from tests.proxy.upstream import Seen, Upstream, upstream_on
from tests.servers.ports import free_port

CONNECTOR = """
connector: cellar
title: Cellar
category: documents
base_url: http://127.0.0.1:{port}/v1
auth:
  key:
    header: {{name: X-Key, value: "${{api_key}}"}}
    fields: {{api_key: {{secret: true}}}}
actions:
  set_title: {{put: "/boxes/{{box}}", send_as: form, input: {{title: string!, marks: "string[]", size: object}}}}
  upload: {{post: /documents, send_as: multipart, input: {{document: file!, note: string, pages: integer}}}}
  upload_named:
    post: /documents
    send_as: multipart
    input: {{files: "object[]!", note: string}}
    body: {{document: "${{input.files}}", note: "${{input.note}}", meta: {{a: 1}}}}
  replace_photo:
    put: /photo
    send_as: file
    headers: {{Content-Type: image/png}}
    input: {{content: file!}}
  steps:
    input: {{content: file!}}
    steps:
      - {{id: sent, post: /raw, send_as: file, body: {{file: "${{input.content}}", type: text/csv}}}}
  slow: {{get: "/slow/{{id}}/list", limits: {{rpm: 2}}}}
  quick: {{get: "/slow/{{id}}"}}
"""
BYTES = bytes(range(256)) * 3
TEXT = base64.b64encode(BYTES).decode()


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with upstream_on(free_port()) as ready:
        yield ready


@pytest.fixture(scope="module")
def own_hub(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    tmp = tmp_path_factory.mktemp("uploads")
    (tmp / "connectors").mkdir()
    (tmp / "connectors/cellar.yaml").write_text(CONNECTOR.format(port=upstream.port))
    allow = f"127.0.0.1:{upstream.port}"
    with Hub(
        tmp / "hub", free_port(), connectors_dir=tmp / "connectors", egress_allow=allow, single_process=True
    ) as hub:
        yield hub


@pytest.fixture
def project(own_hub: Hub) -> Project:
    return own_hub.new_project()


@pytest.fixture
def account(project: Project) -> str:
    return project.link(project.config("cellar", "key"), {"api_key": "key-0815-secret"})


def run(project: Project, account: str, action: str, **body: Any) -> Any:
    return project.http.post("/actions/rpc", json={"action": action, **body}, headers={"x-account-id": account})


def parts(seen: Seen) -> list[tuple[str | None, str | None, str | None, bytes]]:
    """Name, file name, content type and content of each part, read by the standard library."""
    head = f"content-type: {seen.header('content-type')}\r\n\r\n".encode()
    out: list[tuple[str | None, str | None, str | None, bytes]] = []
    for part in message_from_bytes(head + seen.body).get_payload():
        assert not isinstance(part, str)
        name = part.get_param("name", header="content-disposition")
        kind = part.get_content_type() if "content-type" in part else None
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        out.append((str(name), part.get_filename(), kind, content))
    return out


def test_a_form_is_encoded_with_nested_names(project: Project, account: str, upstream: Upstream) -> None:
    body = {"title": "Años & más=", "marks": ["a b", "c"], "size": {"w": 3}}
    ok(run(project, account, "set_title", path={"box": "7/8"}, body=body))
    seen = upstream.seen[-1]
    assert seen.target == "/v1/boxes/7%2F8" and seen.header("content-type") == "application/x-www-form-urlencoded"
    expected = [("title", "Años & más="), ("marks[0]", "a b"), ("marks[1]", "c"), ("size[w]", "3")]
    assert parse_qsl(seen.body.decode("ascii")) == expected


def test_inputs_of_files_are_file_parts(project: Project, account: str, upstream: Upstream) -> None:
    ok(run(project, account, "upload", body={"document": TEXT, "note": "für Ada", "pages": 3}))
    assert parts(upstream.seen[-1]) == [
        ("document", "file", "application/octet-stream", BYTES),
        ("note", None, None, "für Ada".encode()),
        ("pages", None, None, b"3"),
    ]


def test_files_have_names_and_kinds_and_a_list_repeats_its_part(
    project: Project, account: str, upstream: Upstream
) -> None:
    files = [
        {"file": TEXT, "name": 'a"b\r\nX-Evil: 1.pdf', "type": "application/pdf"},
        {"file": f"data:text/plain;base64,{base64.b64encode(b'x').decode()}"},
    ]
    ok(run(project, account, "upload_named", body={"files": files}))
    first, second, meta = parts(upstream.seen[-1])
    assert first[0] == second[0] == "document" and first[2:] == ("application/pdf", BYTES) and second[3] == b"x"
    assert first[1] is not None and "\n" not in first[1] and first[1].endswith(".pdf")
    assert meta == ("meta", None, "application/json", b'{"a":1}')
    wrong = {"file": TEXT, "type": "text/plain\r\nX-Evil: 1"}
    before = len(upstream.seen)
    refused(run(project, account, "upload_named", body={"files": [wrong]}), 422)
    assert len(upstream.seen) == before


def test_the_bytes_of_a_file_are_the_body(project: Project, account: str, upstream: Upstream) -> None:
    ok(run(project, account, "replace_photo", body={"content": TEXT}))
    assert upstream.seen[-1].body == BYTES and upstream.seen[-1].header("content-type") == "image/png"
    ok(run(project, account, "steps", body={"content": TEXT}))
    assert upstream.seen[-1].body == BYTES and upstream.seen[-1].header("content-type") == "text/csv"
    told = refused(run(project, account, "replace_photo", body={"content": "no base64!"}), 422)
    assert "base64" in told["message"] or "base64" in str(told)


def test_an_action_has_rates_of_its_own(project: Project, account: str, upstream: Upstream) -> None:
    ok(run(project, account, "slow", path={"id": "1"}))
    assert project.proxy(account, path="/slow/2/list").status_code == 200  # the provider counts that one too
    answer = run(project, account, "slow", path={"id": "3"})
    refused(answer, 429, "ProviderRateLimitError")
    assert int(answer.headers["retry-after"]) > 30
    before = len(upstream.seen)
    for _ in range(3):
        ok(run(project, account, "quick", path={"id": "1"}))
        assert project.proxy(account, "POST", "/slow/1/list").status_code == 200  # of another method
        assert project.proxy(account, path="/slow/1/list/all").status_code == 200
    assert len(upstream.seen) == before + 9


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("upload: {get: /x, send_as: form}", "GET has no body"),
        ("upload: {post: /x, send_as: file, input: {a: string}}", "one input of the type `file`"),
        ("upload: {post: /x, send_as: xml}", "must be 'json', 'form', 'multipart' or 'file'"),
        ("upload: {limits: {rpm: 1}, steps: [{id: a, get: /x}]}", "pools"),
        ("upload: {get: /x, limits: {concurrency: 1}}", "whole connector"),
        ("upload: {input: {a: file!}, steps: [{post: /x, send_as: file}]}", "of a step needs `body`"),
    ],
)
def test_what_can_not_be_sent_is_a_fault(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "cellar.yaml"
    file.write_text(CONNECTOR.format(port=1).partition("actions:")[0].replace("http://127.0.0.1:1", "https://a.example")
                    + f"actions:\n  {line}\n")  # fmt: skip
    with pytest.raises(ConnectorFileError) as caught:
        load_file(file, builtin=False)
    assert said in str(caught.value)
