"""The JSON Schema of `hub.yaml`, which scripts/make-docs writes to docs/hub.schema.json."""

from __future__ import annotations

import json

from mooring.plan.spec import HubSpec


def text() -> str:
    """The schema as it is published."""
    schema = HubSpec.model_json_schema(mode="validation")
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Mooring hub.yaml"}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"
