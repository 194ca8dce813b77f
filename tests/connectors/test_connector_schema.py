"""The published JSON Schema and the documentation agree with the models."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mooring.connectors import action_spec, schema, spec
from mooring.connectors.loader import load_file
from mooring.connectors.spec_types import Spec

DOCS = Path(__file__).parents[2] / "docs" / "connectors.md"
BLOCKS = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
FILES = [block for block in BLOCKS if block.startswith(("connector:", "# yaml-language-server"))]


def test_the_stored_schema_is_current():
    stored = schema.FILE.read_text(encoding="utf-8")
    assert stored == schema.text(), "run `python -m mooring.connectors.schema`"


def test_the_schema_knows_the_aliases_and_refuses_unknown_keys():
    document = json.loads(schema.text())
    assert {"category", "categories"} <= set(document["properties"])
    assert document["additionalProperties"] is False
    assert {"authorization_url", "grant_type"} <= set(document["$defs"]["OAuth2Spec"]["properties"])


def test_the_documentation_has_examples():
    assert len(FILES) >= 4


@pytest.mark.parametrize("block", FILES, ids=lambda block: re.search(r"connector: (\S+)", block)[1])
def test_every_example_of_the_documentation_loads(tmp_path, block):
    key = re.search(r"^connector: (\S+)", block, re.MULTILINE)[1]
    (tmp_path / f"{key}.yaml").write_text(block)
    assert load_file(tmp_path / f"{key}.yaml", True).key == key


def test_every_key_of_the_format_is_documented():
    text = DOCS.read_text(encoding="utf-8")
    models = [m for module in (spec, action_spec) for m in vars(module).values() if isinstance(m, type)]
    keys = {
        (model.__name__, info.alias or name)
        for model in models
        if issubclass(model, Spec)
        for name, info in model.model_fields.items()
    }
    missing = sorted(f"{model}.{key}" for model, key in keys if not re.search(rf"`{re.escape(key)}`", text))
    assert not missing
