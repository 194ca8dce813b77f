"""`map_fields`, `typecast` and `group_data`: records in another shape. Pure."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from mooring.actions.s1.values import fill
from mooring.connectors.s1.expressions import S1Expression
from mooring.connectors.s1.program import DataStep, MappedField
from mooring.protocol.expression_values import to_text, truthy
from mooring.protocol.expressions import UNDEFINED, ExpressionError

UNMAPPED: Final = "unmapped_value"
# What Python itself knows, wherever it runs: not what the machine's own tables add.
_STANDARD: Final = frozenset(mimetypes.MimeTypes(()).types_map[True]) | frozenset(
    mimetypes.MimeTypes(()).types_map[False]
)
_FORMATS: Final = frozenset(
    [
        "7z",
        "aac",
        "ai",
        "avif",
        "bz2",
        "cer",
        "crt",
        "csv",
        "dmg",
        "docm",
        "docx",
        "dotm",
        "dotx",
        "dwg",
        "dxf",
        "emf",
        "emz",
        "eps",
        "epub",
        "exe",
        "flac",
        "gdoc",
        "gif",
        "gsheet",
        "gslides",
        "gz",
        "heic",
        "heif",
        "ics",
        "iso",
        "jar",
        "jpg",
        "key",
        "log",
        "m4a",
        "m4v",
        "md",
        "mkv",
        "mov",
        "mp4",
        "msg",
        "mpp",
        "mpg",
        "numbers",
        "odf",
        "odg",
        "odp",
        "ods",
        "odt",
        "oga",
        "ogg",
        "ogv",
        "otf",
        "ott",
        "p12",
        "pages",
        "parquet",
        "pem",
        "pfx",
        "potx",
        "pps",
        "ppsm",
        "ppsx",
        "pptm",
        "pptx",
        "ps",
        "psd",
        "pub",
        "rar",
        "rtf",
        "svgz",
        "tgz",
        "tsv",
        "ttf",
        "vcf",
        "vsd",
        "vsdx",
        "wav",
        "webm",
        "webp",
        "wma",
        "wmf",
        "wmv",
        "woff",
        "woff2",
        "wpd",
        "wps",
        "xlsb",
        "xlsm",
        "xlsx",
        "xltm",
        "xltx",
        "xmind",
        "xps",
        "yaml",
        "yml",
        "zip",
        "zst",
    ]
)
_AROUND: Final = {"inputs", "steps", "credentials", "context", "iterator", "intermediateSteps", "result", "external"}
# The eight of the original in its order, and three more.
_PATTERNS: Final = (
    *("%Y-%m-%d", "%Y/%m/%d", "%d/%m/%Y", "%d-%m-%Y", "%Y-%d-%m", "%Y/%d/%m", "%m/%d/%Y", "%m-%d-%Y"),
    *("%d.%m.%Y", "%d %b %Y", "%b %d, %Y"),
)


def map_data(step: DataStep, data: Any, scope: Mapping[str, Any], *, strict: bool) -> Any:
    """Map one record, or each of a list; None where there is no data."""
    external = {"external": fill(step.external, scope)}
    if isinstance(data, list):
        return [_fields(step.fields, {**_object_of(item), **external}, scope, strict=strict) for item in data]
    if not truthy(data):
        return None
    return _fields(step.fields, {**_object_of(data), **external}, scope, strict=strict)


def _object_of(record: Any) -> Mapping[str, Any]:
    return record if isinstance(record, Mapping) else {}


def _fields(fields: Sequence[MappedField], record: Any, base: Mapping[str, Any], *, strict: bool) -> dict[str, Any]:
    """The fields of a record. They read the record, and where it has no such name what all of the action knows."""
    seen = {**base, **_object_of(record)}
    out: dict[str, Any] = {}
    custom: dict[str, Any] = {}
    for one in fields:
        try:
            value = (
                _object(one, record, seen, base, strict=strict)
                if one.type == "object"
                else _value(one, record, seen, strict=strict)
            )
        except ExpressionError:
            continue  # as in the original: one field that can't be worked out does not cost the record
        if value is not UNDEFINED:
            (custom if one.custom else out)[one.key] = value
    if custom:
        out["unified_custom_fields"] = custom
    return out


def _value(one: MappedField, record: Any, scope: Mapping[str, Any], *, strict: bool) -> Any:
    if one.values is not None and not strict:
        found: Any = [v for tree in one.values if (v := fill(tree, scope)) is not UNDEFINED and v is not None]
    elif one.expression is not None:
        found = one.expression.evaluate(scope)
        if found is scope:  # `$`: the record, without what stands around it
            found = {key: value for key, value in _object_of(record).items() if key not in _AROUND}
    else:
        found = UNDEFINED
    if one.type == "enum" or (one.matcher is not None and not strict):
        if one.matcher is None and (strict or found is UNDEFINED):
            return UNDEFINED
        if isinstance(found, list) and not isinstance(one.matcher, tuple) and not strict:
            return [_matched(one, scope, item) for item in found]
        return _matched(one, scope, None if found is UNDEFINED else found)
    wrapped = one.array and not strict and found is not UNDEFINED and found is not None
    # A path with one match gives the match alone, so that a list of one would be none.
    return [found] if wrapped and not isinstance(found, list) else found


def _object(one: MappedField, record: Any, seen: Mapping[str, Any], base: Mapping[str, Any], *, strict: bool) -> Any:
    if one.properties is None:
        if strict or one.expression is None:
            return UNDEFINED
        found = one.expression.evaluate(seen)
        return UNDEFINED if found is None else found
    if one.array and one.values is not None:
        items: Any = [fill(tree, seen) for tree in one.values]
    elif one.array and one.expression is not None:
        items = one.expression.evaluate(seen)
        if not isinstance(items, list):
            if not truthy(items):
                return UNDEFINED
            inner = _fields(one.properties, items, base, strict=strict)
            return inner if strict else [inner]
    else:
        inner = _fields(one.properties, record, base, strict=strict)
        given = fill(one.values[0], seen) if one.values else None
        return {**given, **inner} if isinstance(given, dict) else inner
    return [_fields(one.properties, item, base, strict=strict) for item in items if truthy(item)]


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
    return extension if extension in _FORMATS or f".{extension}" in _STANDARD else UNMAPPED


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
    if value is None or one.type == "enum":
        return value
    if one.type == "object":
        if isinstance(value, list):
            return [_cast_record(one.properties or (), item) for item in value]
        return _cast_record(one.properties or (), value)
    if one.array and isinstance(value, list):
        return value  # as in the original, lists of plain values stay as they are
    return _cast_one(one, value)


def _cast_one(one: MappedField, value: Any) -> Any:
    if value == "":
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
    written = to_text(value).strip()
    if written == "":
        return 0  # of an empty list: an empty text has no number
    try:
        found = float(written) if "_" not in written else float("nan")
    except ValueError:
        return None
    if found != found or found in (float("inf"), float("-inf")):  # NaN is not itself
        return None
    return int(found) if found.is_integer() and abs(found) <= 2**53 else found


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
    """Put the data of several steps together: by step for one record, else by the keys of the data and then by step."""
    found = {}
    for name in step.parameters["steps"]:
        output = (steps.get(name) or {}).get("output") or {}
        if truthy(output.get("data")):
            found[name] = output["data"]
    if step.parameters["single"]:
        return {name: _members(data) for name, data in found.items()}
    merged: dict[str, dict[str, Any]] = {}
    for name, data in found.items():
        for key, record in _members(data).items():
            merged.setdefault(key, {})[name] = _members(record)
    return list(merged.values())


def _members(data: Any) -> dict[str, Any]:
    """What an object, or a list by its positions, holds."""
    if isinstance(data, list):
        return {str(index): item for index, item in enumerate(data)}
    return {str(key): value for key, value in data.items()} if isinstance(data, Mapping) else {}
