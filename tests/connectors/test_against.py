"""`mooring connectors against`: the requests of a connector beside a document, each kind of difference for itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mooring.connectors.loader import load_file
from mooring.connectors.openapi.document import Document, read_document
from mooring.connectors.workbench.against import Comparison, against, path_of
from tests.command import mooring

HEAD = """\
connector: harbour
title: Harbour
category: other
base_url: {base}
headers: {{X-Version: "1"}}
auth:
  key:
    header: {{name: X-Api-Key, value: "${{api_key}}"}}
    fields: {{api_key: {{secret: true}}, area: {{pattern: "[a-z]+"}}}}
page: {{page: page, size_param: size, size: 50, items: ships}}
actions:
"""
BASE = "https://api.harbour.dev/v2"
DOCUMENT = """\
openapi: 3.1.0
info: {title: Harbour, version: "2"}
servers: [{url: "https://{region}.harbour.dev/v2", variables: {region: {default: eu}}}]
paths:
  /ships:
    get:
      parameters:
        - {$ref: "#/components/parameters/Size"}
        - {name: page, in: query, schema: {type: integer}}
        - {name: state, in: query, schema: {type: string, enum: [docked, away]}}
        - {name: tags, in: query, explode: false, schema: {type: array, items: {type: string}}}
        - {name: built, in: query, style: deepObject, schema: {type: object}}
        - {name: X-Api-Key, in: header, required: true, schema: {type: string}}
        - {name: X-Version, in: header, required: true, schema: {type: string}}
    post:
      requestBody:
        required: true
        content:
          text/csv: {schema: {type: string}}
          application/json: {schema: {$ref: "#/components/schemas/NewShip"}}
  /ships/{shipId}:
    parameters: [{name: shipId, in: path, required: true, schema: {type: string}}]
    get: {deprecated: true}
    delete:
      parameters: [{name: reason, in: query, required: true, schema: {type: string}}]
  /ships/{shipId}/captain:
    put: {requestBody: {$ref: "#/components/requestBodies/Captain"}}
  /reports:
    post:
      parameters: [{name: from, in: query, schema: {type: string}}]
  /berths:
    get: {parameters: [{name: X-Berth, in: header, required: true, schema: {type: string}}]}
components:
  parameters:
    Size: {name: size, in: query, schema: {$ref: "#/components/schemas/Count"}}
  requestBodies:
    Captain: {content: {application/json: {schema: {oneOf: [{$ref: "#/components/schemas/ById"}, {type: "null"}]}}}}
  schemas:
    Count: {type: [integer, "null"]}
    ById: {type: object, properties: {id: {type: integer}, since: {type: string}}, required: [id]}
    Named: {type: object, properties: {name: {type: string}, id: {type: integer, readOnly: true}}, required: [id, name]}
    NewShip:
      allOf:
        - {$ref: "#/components/schemas/Named"}
        - type: object
          properties:
            length: {type: number}
            flags: {type: object, additionalProperties: true, properties: {main: {type: string}}}
            owner: {$ref: "#/components/schemas/ById"}
            crew: {type: array, items: {$ref: "#/components/schemas/ById"}}
"""


def compared(tmp_path: Path, actions: str, document: str | dict[str, Any] = DOCUMENT, base: str = BASE) -> Comparison:
    """What is found between actions and a document."""
    file = tmp_path / "harbour.yaml"
    file.write_text(HEAD.format(base=base) + actions)
    data = yaml.safe_load(document) if isinstance(document, str) else document
    return against(load_file(file, builtin=False), Document(data))


def said(result: Comparison) -> list[tuple[str, str]]:
    return [(finding.level, finding.message) for finding in result.findings]


FINE = """\
  list_ships:
    get: /ships
    page: true
    input: {state: {type: string, enum: [docked, away]}, "built[from]": string}
  delete_ship: {delete: "/ships/{id}", input: {reason: string!}}
  create_ship:
    post: /ships
    input: {name: string!, length: integer, flag: string, owner: integer!}
    body:
      name: "${input.name}"
      length: "${input.length}"
      flags: {main: a, other: "${input.flag}"}
      owner: {id: "${input.owner}"}
  give_captain:
    steps:
      - {id: all, get: "/ships?size=1"}
      - {put: "/ships/${steps.all[0].id}/captain", body: {id: 7}}
"""


def test_requests_that_fit_give_no_finding(tmp_path: Path) -> None:
    result = compared(tmp_path, FINE)
    assert result == Comparison(actions=4, found=4, programs=0, findings=())


@pytest.mark.parametrize(
    ("action", "level", "message"),
    [
        ("{get: /boats}", "error", "the document has no path /v2/boats"),
        ("{get: '/ships/{id}/captain'}", "error", "the document has no GET /v2/ships/{}/captain, only PUT"),
        ("{get: /ships, input: {stat: string}}", "error", "no query parameter `stat`; did you mean `state`?"),
        ("{get: /ships, query: {colour: red}}", "error", "no query parameter `colour`"),
        ("{get: '/ships?sort=name'}", "error", "no query parameter `sort`"),
        ("{get: /ships, page: {offset: start}}", "error", "no query parameter `start`"),
        ("{get: /ships, input: {'state[x]': string}}", "error", "no query parameter `state[x]`"),
        ("{delete: '/ships/{id}'}", "error", "requires the query parameter `reason`"),
        ("{delete: '/ships/{id}', input: {reason: string}}", "note", "`reason`, which may be left out here"),
        ("{get: /berths}", "error", "requires the header `X-Berth`"),
        (
            "{post: /ships, input: {name: string!, nam: string}}",
            "error",
            "no body property `nam`; did you mean `name`?",
        ),
        ("{post: /ships, input: {length: number}}", "error", "requires `name` in the body"),
        ("{post: /ships}", "error", "requires a body with `name`"),
        ("{post: /ships, input: {name: string}}", "note", "requires `name`, which may be left out here"),
        ("{post: /ships, body: {name: a, owner: {since: b}}}", "error", "requires `owner.id` in the body"),
        ("{post: /ships, body: {name: a, owner: {id: 1, at: b}}}", "error", "no property in `owner` called `at`"),
        ("{post: /ships, body: {name: a, crew: [{id: 1, rank: b}]}}", "error", "no property in `crew` called `rank`"),
        ("{post: /ships, body: {name: a, crew: {id: 1}}}", "note", "`crew` is an object here and an array in the"),
        ("{post: /ships, body: {name: a, id: 4}}", "note", "`id` is read-only in the document"),
        ("{post: /ships, input: {name: integer!}}", "note", "`name` is an integer here and a string in the document"),
        (
            "{post: /reports, input: {from: string}}",
            "error",
            "`from` is sent in a body, and the document has none here",
        ),
        ("{get: /ships, query: {state: lost}}", "note", "`state` may be 'lost' here, which the document does not know"),
        ("{get: /ships, input: {tags: 'string[]'}}", "note", "`tags` is repeated here, and one text with commas"),
        ("{get: /ships, input: {page: boolean}}", "note", "`page` is a boolean here and an integer in the document"),
        ("{get: '/ships/{id}'}", "note", "calls GET /ships/{shipId} deprecated"),
        (
            "{delete: '/ships/{id}', input: {id: integer!, reason: string!}}",
            "note",
            "`id` is a number here and a string",
        ),
    ],
)
def test_each_difference_is_found_once(tmp_path: Path, action: str, level: str, message: str) -> None:
    findings = said(compared(tmp_path, f"  it: {action}\n"))
    assert len(findings) == 1, findings
    assert findings[0][0] == level and message in findings[0][1]


def test_an_action_with_one_request_that_is_not_there_does_not_count(tmp_path: Path) -> None:
    result = compared(
        tmp_path, '  it:\n    steps:\n      - {get: /ships}\n      - {get: "/boats"}\n  of: {get: /ships}\n'
    )
    assert (result.actions, result.found, result.errors) == (2, 1, 1)
    assert result.findings[0].at == ("actions", "it", "steps", 1, "get")


def test_what_stands_in_the_path_goes_before_a_parameter(tmp_path: Path) -> None:
    both: dict[str, Any] = {
        "openapi": "3.0.0",
        "paths": {
            "/ships/{id}": {"get": {}},
            "/ships/mine": {"get": {"parameters": [{"name": "port", "in": "query", "required": True}]}},
            "/files/{name}.{format}": {"get": {}},
        },
    }
    assert said(compared(tmp_path, "  it: {get: /ships/mine}\n", both)) == [
        ("error", "the document requires the query parameter `port`")
    ]
    assert not compared(tmp_path, '  it: {get: "/files/{name}.json"}\n  of: {get: /ships/7}\n', both).findings


@pytest.mark.parametrize(
    ("servers", "path", "base"),
    [
        ([{"url": "https://api.harbour.dev/v2"}], "/ships", BASE),
        ([{"url": "/v2/"}], "/ships", BASE),
        ([{"url": "https://api.harbour.dev"}], "/v2/ships", BASE),
        ([{"url": "https://api.harbour.dev/v2"}], "/v2/ships", BASE),
        ([{"url": "https://a.dev/v1"}, {"url": "https://a.dev/v2"}], "/ships", BASE),
        ([], "/v2/ships", BASE),
        ([], "/ships", BASE),
        ([{"url": "{host}/v2/{area}"}], "/ships", "https://api.harbour.dev/v2/${area}"),
        ([{"url": "https://api.harbour.dev"}], "/v2/{area}/ships", "https://api.harbour.dev/v2/${area}"),
    ],
)
def test_base_paths_stand_where_they_want(tmp_path: Path, servers: list[Any], path: str, base: str) -> None:
    spec = {"openapi": "3.0.0", "servers": servers, "paths": {path: {"get": {}}}}
    result = compared(tmp_path, "  it: {get: /ships}\n", spec, base)
    assert (result.found, said(result)) == (1, [])


def test_another_base_path_is_told_and_compared_all_the_same(tmp_path: Path) -> None:
    spec = {"openapi": "3.0.0", "servers": [{"url": "https://a.dev/v1"}], "paths": {"/ships": {"get": {}}}}
    result = compared(tmp_path, "  it: {get: /ships, input: {x: string}}\n", spec)
    assert said(result) == [
        ("note", "the base path is /v2 here and /v1 in the document"),
        ("error", "the document has no query parameter `x`"),
    ]


def test_a_document_of_swagger_2_is_compared_as_well(tmp_path: Path) -> None:
    spec = {
        "swagger": "2.0",
        "host": "api.harbour.dev",
        "basePath": "/v2",
        "paths": {"/ships": {"post": {"parameters": [{"in": "body", "schema": {"$ref": "#/definitions/Ship"}}]}}},
        "definitions": {"Ship": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
    }
    assert not compared(tmp_path, "  it: {post: /ships, input: {name: string!}}\n", spec).findings
    wrong = compared(tmp_path, "  it: {post: /ships, input: {title: string!}}\n", spec)
    assert [message for _, message in said(wrong)] == [
        "the document has no body property `title`",
        "the document requires `name` in the body",
    ]


@pytest.mark.parametrize(
    ("schema", "errors"),
    [
        ({"anyOf": [{"type": "string"}, {"properties": {"name": {}}}]}, 1),
        ({"anyOf": [{"properties": {"name": {}}}, {"type": "object"}]}, 0),  # anything
        ({"anyOf": [{"properties": {"name": {}}}, {"properties": {"title": {}}}]}, 0),
        ({"properties": {"name": {}}, "anyOf": [{"required": ["name"]}, {"required": ["id"]}]}, 1),
        ({"oneOf": [{"required": ["name", "id"]}, {"required": ["id"]}], "properties": {"title": {}, "id": {}}}, 1),
        ({"properties": {"name": {}}, "additionalProperties": {"type": "string"}}, 0),
        ({"properties": {"name": {}}, "additionalProperties": False}, 1),
        ({"properties": {"$ref": "#/components/schemas/Ship/properties"}}, 0),
        ({"type": "object"}, 0),
    ],
)
def test_choices_and_open_objects(tmp_path: Path, schema: dict[str, Any], errors: int) -> None:
    content = {"application/json": {"schema": schema}}
    spec = {
        "openapi": "3.0.0",
        "paths": {"/ships": {"post": {"requestBody": {"content": content}}}},
        "components": {"schemas": {"Ship": {"properties": {"title": {"type": "string"}}}}},
    }
    assert compared(tmp_path, "  it: {post: /ships, input: {title: string!}}\n", spec).errors == errors


def test_a_schema_that_refers_to_itself_or_nowhere_ends(tmp_path: Path) -> None:
    node = {"type": "object", "properties": {"inner": {"$ref": "#/components/schemas/Node"}}}
    spec: dict[str, Any] = {
        "openapi": "3.0.0",
        "paths": {"/ships": {"post": {"requestBody": {"content": {"application/json": {"schema": {}}}}}}},
        "components": {"schemas": {"Node": {"allOf": [{"$ref": "#/components/schemas/Node"}, node]}}},
    }
    many = [{"$ref": "#/components/schemas/Many"} for _ in range(40)]
    spec["components"]["schemas"] |= {"Many": {"oneOf": many}, "Odd": {"required": True, "oneOf": {}, "enum": "x"}}
    content = spec["paths"]["/ships"]["post"]["requestBody"]["content"]["application/json"]
    names = [f"#/components/schemas/{name}" for name in ("Node", "Many", "Odd", "Gone")]
    for target in (*names, "other.yaml#/Node"):
        content["schema"] = {"$ref": target}
        assert not compared(tmp_path, "  it: {post: /ships, body: {inner: {inner: {inner: {}}}}}\n", spec).errors


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://api.harbour.dev", ""),
        ("https://api.harbour.dev/", ""),
        ("https://{sub}.harbour.dev/api/v1/", "/api/v1"),
        ("{base}/api", "/api"),
        ("/api", "/api"),
        ("//api.harbour.dev/api?x=1", "/api"),
    ],
)
def test_the_path_of_a_server(url: str, path: str) -> None:
    assert path_of(url) == path


# --- the command


def run(tmp_path: Path, actions: str, document: str = DOCUMENT, name: str = "spec.yaml") -> Any:
    (tmp_path / "harbour.yaml").write_text(HEAD.format(base=BASE) + actions)
    (tmp_path / name).write_text(document)
    return mooring(tmp_path, "connectors", "against", "harbour.yaml", name)


def test_the_command_names_the_line_and_fails_for_errors(tmp_path: Path) -> None:
    done = run(tmp_path, FINE + "  list_boats: {get: /boats}\n")
    line = (HEAD + FINE).count("\n") + 1
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"harbour.yaml:{line}:16: the document has no path /v2/boats (error)"]
    assert done.stdout == "4 of 5 actions found in the document, 1 findings\n"


def test_notes_alone_do_not_fail_the_command(tmp_path: Path) -> None:
    done = run(tmp_path, '  get_ship: {get: "/ships/{id}"}\n', json.dumps(yaml.safe_load(DOCUMENT)), "spec.json")
    assert done.returncode == 0 and "deprecated (note)" in done.stderr
    assert done.stdout == "1 of 1 actions found in the document, 1 findings\n"
    assert read_document(tmp_path / "spec.json").data["openapi"] == "3.1.0"


def test_what_is_no_document_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, FINE, "openapi: 3.0.0\n")
    assert done.returncode == 2 and "is no OpenAPI description" in done.stderr
