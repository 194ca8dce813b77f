"""`map_fields`, `typecast` and `group_data`: records in another shape. Pure."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from mooring.actions.s1.values import fill
from mooring.connectors.s1.expressions import S1Expression
from mooring.connectors.s1.program import DataStep, MappedField
from mooring.protocol.expression_values import to_text
from mooring.protocol.expressions import UNDEFINED, ExpressionError

UNMAPPED: Final = "unmapped_value"
_PATTERNS: Final = ("%Y-%m-%d", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%d.%m.%Y", "%Y/%m/%d", "%d %b %Y", "%b %d, %Y")


def map_data(step: DataStep, data: Any, scope: Mapping[str, Any], *, strict: bool) -> Any:
    """Map one record, or each of a list; None where there is no data."""
    external = fill(step.external, scope)
    if isinstance(data, list):
        return [_record(step.fields, item, scope, external, strict=strict) for item in data]
    if data is None or data is UNDEFINED:
        return None
    return _record(step.fields, data, scope, external, strict=strict)


def _record(
    fields: Sequence[MappedField], record: Any, scope: Mapping[str, Any], external: Any, *, strict: bool
) -> dict[str, Any]:
    inside = record if isinstance(record, Mapping) else {}
    seen = {**scope, **inside, "external": external}
    return _fields(fields, seen, strict=strict)


def _fields(fields: Sequence[MappedField], scope: Mapping[str, Any], *, strict: bool) -> dict[str, Any]:
    out: dict[str, Any] = {}
    custom: dict[str, Any] = {}
    for one in fields:
        try:
            value = _value(one, scope, strict=strict)
        except ExpressionError:
            continue  # as in the original: one field that can't be worked out does not cost the record
        if value is not UNDEFINED:
            (custom if one.custom else out)[one.key] = value
    if custom:
        out["unified_custom_fields"] = custom
    return out


def _value(one: MappedField, scope: Mapping[str, Any], *, strict: bool) -> Any:
    if one.type == "object":
        return _object(one, scope, strict=strict)
    if one.values is not None:
        found: Any = [v for tree in one.values if (v := fill(tree, scope)) is not UNDEFINED and v is not None]
    elif one.expression is not None:
        found = one.expression.evaluate(scope)
    else:
        found = UNDEFINED
    if one.type == "enum" or one.matcher is not None:
        if isinstance(found, list):
            return [_matched(one, scope, item) for item in found]
        if found is UNDEFINED and not isinstance(one.matcher, tuple):
            return UNDEFINED
        return _matched(one, scope, None if found is UNDEFINED else found)
    if found is UNDEFINED or found is None:
        return UNDEFINED
    return found if not one.array or isinstance(found, list) else [found]


def _object(one: MappedField, scope: Mapping[str, Any], *, strict: bool) -> Any:
    if one.properties is None:
        if strict or one.expression is None:
            return UNDEFINED
        found = one.expression.evaluate(scope)
        return UNDEFINED if found is None else found
    if not one.array:
        inner = _fields(one.properties, scope, strict=strict)
        if one.values and isinstance(given := fill(one.values[0], scope), dict):
            inner = {**given, **inner}
        return inner or UNDEFINED
    if one.values is not None:
        items: Any = [fill(tree, scope) for tree in one.values]
    elif one.expression is not None:
        items = one.expression.evaluate(scope)
    else:
        return UNDEFINED
    if items is UNDEFINED or items is None:
        return UNDEFINED
    listed = items if isinstance(items, list) else [items]
    return [_record(one.properties, item, scope, scope.get("external"), strict=strict) for item in listed]


def _matched(one: MappedField, scope: Mapping[str, Any], source: Any) -> dict[str, Any]:
    """An enum with what the provider said: `{value, source_value}`."""
    value: Any = UNMAPPED
    if isinstance(one.matcher, tuple):
        for expression, target in one.matcher:
            if _is_true(expression, scope):
                value = target
                break
    elif one.matcher == "document_file_format_from_extension":
        value = _file_format(source)
    elif one.matcher is not None:
        value = _country(one.matcher, source)
    elif source is not None:
        value = source
    return {"value": value, "source_value": source}


def _country(matcher: str, source: Any) -> str | dict[str, str]:
    from mooring.actions.s1 import countries  # only the few files that ask for it need the table

    return countries.matched(matcher, source) or UNMAPPED


def _is_true(expression: S1Expression, scope: Mapping[str, Any]) -> bool:
    try:
        return expression.evaluate(scope) is True
    except ExpressionError:
        return False


def _file_format(source: Any) -> str:
    extension = str(source or "").rpartition(".")[2].lower()
    known = f".{extension}" in mimetypes.types_map or f".{extension}" in mimetypes.common_types
    return extension if known else UNMAPPED


def typecast(step: DataStep, data: Any) -> Any:
    """Give the fields of one record, or of each of a list, the types that they are declared with."""
    if isinstance(data, list):
        return [_cast_record(step.fields, item) for item in data]
    return _cast_record(step.fields, data)


def _cast_record(fields: Sequence[MappedField], record: Any) -> Any:
    if not isinstance(record, Mapping):
        return record
    out = dict(record)
    for one in fields:
        where = out.get("unified_custom_fields") if one.custom else out
        if isinstance(where, dict) and one.key in where:
            where[one.key] = _cast(one, where[one.key])
    return out


def _cast(one: MappedField, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, list) and one.type != "string":
        return [_cast_one(one, item) for item in value]
    if isinstance(value, list) and one.array:
        return value
    return _cast_one(one, value)


def _cast_one(one: MappedField, value: Any) -> Any:
    if one.type == "object":
        return _cast_record(one.properties or (), value)
    if one.type == "enum":
        return value
    if value is None or value == "":
        return None
    if one.type == "string":
        return orjson.dumps(value).decode() if isinstance(value, dict) else to_text(value)
    if one.type == "number":
        return _number(value)
    if one.type == "boolean":
        return value not in (False, 0, "false", "0")
    if one.type == "datetime_string":
        return _moment(value)
    return value


def _number(value: Any) -> int | float | None:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float):
        return value
    try:
        found = float(str(value))
    except ValueError:
        return None
    if found != found or found in (float("inf"), float("-inf")):  # NaN is not itself
        return None
    return int(found) if found.is_integer() and re.fullmatch(r"\s*[+-]?\d+\s*", str(value)) else found


def _moment(value: Any) -> str | None:
    """ISO 8601 in UTC; a date without a time is midnight UTC, wherever the server stands."""
    if not isinstance(value, str):
        return None
    text = value.strip()
    try:
        return _iso(datetime.fromisoformat(text))
    except ValueError:
        pass
    for pattern in _PATTERNS:
        try:
            return _iso(datetime.strptime(text, pattern).replace(tzinfo=UTC))
        except ValueError:
            continue
    return None


def _iso(moment: datetime) -> str:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def group(step: DataStep, steps: Mapping[str, Any]) -> Any:
    """Put the data of several steps together: by step for one record, by the keys of the data for many."""
    found = {}
    for name in step.parameters["steps"]:
        output = (steps.get(name) or {}).get("output") or {}
        found[name] = output.get("data")
    if step.parameters["single"]:
        return found
    merged: dict[str, dict[str, Any]] = {}
    for data in found.values():
        for key, record in data.items() if isinstance(data, Mapping) else ():
            merged.setdefault(str(key), {}).update(record if isinstance(record, Mapping) else {"value": record})
    return list(merged.values())
