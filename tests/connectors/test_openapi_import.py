"""Connectors written from the description of an API: what is inferred, what is said to the author, and the second import."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from mooring.cli import app
from mooring.connectors.actions import Action
from mooring.connectors.loader import load_file

SPEC: dict[str, Any] = {
    "openapi": "3.0.3",
    "info": {"title": "Pet Depot", "version": "2"},
    "servers": [{"url": "https://{tenant}.depot.example/v2", "variables": {"tenant": {"default": "acme"}}}],
    "components": {
        "securitySchemes": {
            "key": {"type": "apiKey", "in": "header", "name": "X-Key"},
            "oauth": {
                "type": "oauth2",
                "flows": {
                    "authorizationCode": {
                        "authorizationUrl": "https://depot.example/authorize",
                        "tokenUrl": "https://depot.example/token",
                        "scopes": {"pets:read": "Reads pets"},
                    },
                    "implicit": {"authorizationUrl": "https://depot.example/authorize", "scopes": {}},
                },
            },
        },
        "schemas": {
            "Pet": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "id": {"type": "integer", "readOnly": True},
                    "name": {"type": "string"},
                    "kind": {"type": "string", "enum": ["cat", "dog"]},
                    "parent": {"$ref": "#/components/schemas/Pet"},
                },
            },
            "Pets": {
                "type": "object",
                "properties": {
                    "pets": {"type": "array", "items": {"$ref": "#/components/schemas/Pet"}},
                    "meta": {"type": "object", "properties": {"next_cursor": {"type": "string"}}},
                },
            },
        },
    },
    "paths": {
        "/pets": {
            "parameters": [{"name": "shop", "in": "query", "schema": {"type": "string"}}],
            "get": {
                "operationId": "listPets",
                "tags": ["pets"],
                "summary": "List pets.",
                "parameters": [
                    {"name": "cursor", "in": "query", "schema": {"type": "string"}},
                    {"name": "limit", "in": "query", "schema": {"type": "integer"}},
                    {"name": "X-Trace", "in": "header", "schema": {"type": "string"}},
                ],
                "responses": {
                    "200": {
                        "headers": {"X-RateLimit-Remaining": {}},
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pets"}}},
                    }
                },
            },
            "post": {
                "operationId": "pets/create",
                "tags": ["pets"],
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}},
                },
            },
        },
        "/pets/{pet-id}": {
            "get": {"parameters": [{"name": "pet-id", "in": "path", "required": True, "schema": {"type": "integer"}}]},
            "delete": {"operationId": "removePet", "deprecated": True},
        },
        "/pets/{pet-id}/photo": {
            "put": {"operationId": "putPhoto", "requestBody": {"content": {"image/png": {}}}},
        },
        "/pets/{pet-id}/chart": {
            "put": {
                "operationId": "putChart",
                "requestBody": {
                    "content": {
                        "multipart/form-data": {
                            "schema": {
                                "type": "object",
                                "properties": {
                                    "chart": {"type": "string", "format": "binary"},
                                    "note": {"type": "string"},
                                },
                                "required": ["chart"],
                            }
                        }
                    }
                },
            },
            "post": {"operationId": "postChart", "requestBody": {"content": {"text/csv": {}}}},
        },
        "/me": {"get": {"operationId": "getMe", "tags": ["people"]}},
    },
}


def run(tmp_path: Path, *arguments: str, spec: Any = None) -> Any:
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(SPEC if spec is None else spec))
    return CliRunner().invoke(app, ["connectors", "import-openapi", str(file), *arguments])


def test_what_is_written_loads_and_says_what_the_description_says(tmp_path: Path) -> None:
    out = tmp_path / "pet-depot.yaml"
    done = run(tmp_path, "--out", str(out))
    assert done.exit_code == 0, done.output
    connector = load_file(out, builtin=False)
    assert connector.key == "pet-depot" and connector.limits["headers"] == ["X-RateLimit-Remaining"]
    assert list(connector.auth) == ["api_key", "oauth2"]
    assert connector.auth["api_key"].base_url.render({"tenant": "acme"}) == "https://acme.depot.example/v2"
    assert connector.auth["oauth2"].oauth2 is not None and connector.auth["oauth2"].oauth2.scopes == ("pets:read",)
    test = connector.auth["api_key"].test
    assert test is not None and test.request.url.render({}) == "/me"
    actions: dict[str, Action] = dict(connector.actions)
    assert list(actions) == ["list_pets", "pets_create", "get_pets_pet_id", "put_photo", "put_chart", "get_me"]
    photo, chart = actions["put_photo"], actions["put_chart"]
    assert photo.request is not None and photo.request.send_as == "file" and chart.request is not None
    assert photo.request.headers["content-type"].source == "image/png"
    assert (chart.request.send_as, chart.request.files) == ("multipart", ("chart",))
    assert [(i.name, i.required) for i in chart.inputs if i.place == "body"] == [("chart", True), ("note", False)]
    listing = actions["list_pets"].paging
    assert listing is not None and (listing.style, listing.where, listing.param) == (
        "cursor",
        "meta.next_cursor",
        "cursor",
    )
    assert listing.size_param == "limit" and listing.items == "pets"
    assert {i.name: i.place for i in actions["list_pets"].inputs} == {"shop": "query", "X-Trace": "headers"}
    made = {i.name: (i.place, i.required) for i in actions["pets_create"].inputs}
    assert made == {
        "shop": ("query", False),
        "name": ("body", True),
        "kind": ("body", False),
        "parent": ("body", False),
    }
    assert [i.name for i in actions["get_pets_pet_id"].inputs] == ["pet_id"]
    for told in ("1 deprecated operations", "its body is text/csv", "the flow `implicit` is left out"):
        assert told in done.output and told in out.read_text()


def test_operations_are_chosen_by_id_tag_and_path(tmp_path: Path) -> None:
    def names(*arguments: str) -> list[str]:
        done = run(tmp_path, *arguments)
        assert done.exit_code == 0, done.output
        return list(yaml.safe_load(done.stdout)["actions"])

    assert names("--include", "people") == ["get_me"]
    assert names("--include", "pets", "--exclude", "POST *") == ["list_pets"]
    assert names("--include", "GET /pets*") == ["list_pets", "get_pets_pet_id"]
    nothing = run(tmp_path, "--include", "nothing*")
    assert nothing.exit_code != 0 and "no operation is left" in str(nothing.exception or nothing.output)


def test_a_second_import_shows_its_difference_and_writes_when_told_to(tmp_path: Path) -> None:
    out = tmp_path / "pet-depot.yaml"
    run(tmp_path, "--out", str(out))
    before = out.read_text()
    assert "is as the description says" in run(tmp_path, "--out", str(out)).output and out.read_text() == before
    changed = json.loads(json.dumps(SPEC))
    changed["paths"]["/pets"]["get"]["summary"] = "List all pets"
    done = run(tmp_path, "--out", str(out), spec=changed)
    assert done.exit_code == 1 and "+    label: List all pets" in done.output and out.read_text() == before
    assert run(tmp_path, "--out", str(out), "--write", spec=changed).exit_code == 0
    assert "List all pets" in out.read_text()


def test_swagger_2_is_read(tmp_path: Path) -> None:
    spec = {
        "swagger": "2.0", "info": {"title": "Old"}, "host": "old.example", "basePath": "/v1", "schemes": ["https"],
        "securityDefinitions": {"b": {"type": "basic"}},
        "paths": {"/things": {
            "get": {"operationId": "things", "parameters": [
                {"name": "page", "in": "query", "type": "integer"}, {"name": "per_page", "in": "query", "type": "integer"},
            ], "responses": {"200": {"schema": {"type": "array", "items": {"type": "object"}}}}},
            "post": {"operationId": "makeThing", "parameters": [
                {"name": "thing", "in": "body", "schema": {"type": "object", "properties": {"a": {"type": "string"}}}},
            ]},
        }, "/files": {
            "put": {"operationId": "note", "parameters": [{"name": "text", "in": "formData", "type": "string"}]},
            "post": {"operationId": "upload", "parameters": [
                {"name": "data", "in": "formData", "type": "file", "required": True},
            ]},
        }},
    }  # fmt: skip
    out = tmp_path / "old.yaml"
    assert run(tmp_path, "--out", str(out), spec=spec).exit_code == 0
    connector = load_file(out, builtin=False)
    assert list(connector.auth) == ["basic"] and connector.auth["basic"].base_url.source == "https://old.example/v1"
    listing = connector.actions["things"].paging
    assert listing is not None and (listing.style, listing.where, listing.size_param) == ("page", "page", "per_page")
    assert [i.name for i in connector.actions["make_thing"].inputs] == ["a"]
    form, upload = connector.actions["note"].request, connector.actions["upload"].request
    assert form is not None and (form.send_as, form.files) == ("form", ())
    assert upload is not None and (upload.send_as, upload.files) == ("multipart", ("data",))


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ([], "it has no `paths`"),
        ({"paths": {}, "openapi": "4.0"}, "3.0, 3.1 and Swagger 2.0 are read"),
        ({**SPEC, "servers": [{"url": "/v1"}]}, "give --base-url"),
    ],
)
def test_what_is_no_description_is_refused(tmp_path: Path, spec: Any, told: str) -> None:
    done = run(tmp_path, spec=spec)
    assert done.exit_code != 0 and told in str(done.exception or done.output)
