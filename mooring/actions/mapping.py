"""A record of a provider in the shape that an action's `map` describes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from mooring.protocol.expressions import UNDEFINED
from mooring.protocol.oauth2 import dig
from mooring.protocol.template import Template


def mapped(spec: Any, data: Any) -> Any:
    """Map one record, or each of a list."""
    if isinstance(data, list):
        return [map_record(spec, item) for item in data]
    return map_record(spec, data)


def map_record(spec: Any, record: Any) -> Any:
    """`path`, `=literal`, `${expression}`, `{from, type, enum, default}`, or nested objects and lists of these.

    What the record lacks is null.
    """
    if isinstance(spec, Template):
        value = spec.value(record if isinstance(record, Mapping) else {})
        return None if value is UNDEFINED else value
    if isinstance(spec, str):
        return spec[1:] if spec.startswith("=") else dig(record, spec)
    if isinstance(spec, list):
        return [map_record(item, record) for item in spec]
    if not isinstance(spec, Mapping):
        return spec
    if "from" in spec:
        return _converted(spec, map_record(spec["from"], record))
    return {name: map_record(item, record) for name, item in spec.items()}


def _converted(spec: Mapping[str, Any], value: Any) -> Any:
    choices = spec.get("enum")
    if isinstance(choices, Mapping):
        value = choices.get(str(value), choices.get("_")) if value is not None else None
    if value is None:
        return spec.get("default")
    kind = spec.get("type")
    try:
        match kind:
            case "string":
                return value if isinstance(value, str) else str(value)
            case "integer":
                return int(float(value))
            case "number":
                return float(value)
            case "boolean":
                return value if isinstance(value, bool) else str(value).strip().lower() in {"true", "1", "yes"}
            case "datetime":
                return _moment(value)
    except (TypeError, ValueError):
        return spec.get("default")
    return value


def _moment(value: Any) -> str:
    """ISO 8601 in UTC, of ISO text or of a UNIX time in seconds or milliseconds."""
    if isinstance(value, int | float):
        return _iso(datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC))
    moment = datetime.fromisoformat(str(value))
    return _iso(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
