"""The JSON Schema of connector files. Write it anew with `python -m mooring.connectors.schema`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import AliasChoices

from mooring.connectors import action_spec, spec
from mooring.connectors.spec import ConnectorSpec
from mooring.connectors.spec_types import Spec

FILE = Path(__file__).with_name("connector.schema.json")


def json_schema() -> dict[str, Any]:
    """Return the schema, with the aliases that the models accept."""
    schema = ConnectorSpec.model_json_schema(mode="validation")
    _add_aliases(schema, ConnectorSpec)
    for module in (spec, action_spec):
        for name, model in vars(module).items():
            if isinstance(model, type) and issubclass(model, Spec) and name in schema["$defs"]:
                _add_aliases(schema["$defs"][name], model)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Mooring connector"}


def text() -> str:
    """Return the schema as it is stored."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


def _add_aliases(schema: dict[str, Any], model: type[Spec]) -> None:
    for info in model.model_fields.values():
        if not isinstance(info.validation_alias, AliasChoices):
            continue
        first, *others = [choice for choice in info.validation_alias.choices if isinstance(choice, str)]
        for other in others:
            schema["properties"][other] = {**schema["properties"][first], "title": f"Same as {first}"}
        if first in schema.get("required", ()):
            schema["required"].remove(first)
            schema["anyOf"] = [{"required": [name]} for name in (first, *others)]


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
