"""Inputs of the actions of a `.s1.yaml` file as JSON Schema, and the rules over several of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mooring.connectors.actions import PLACES, Input
from mooring.connectors.s1.notes import Notes
from mooring.connectors.s1.program import CompositeId, InputRule
from mooring.connectors.yaml_source import Location

_TYPES: Final[Mapping[str, Mapping[str, Any]]] = {
    "string": {"type": "string"},
    "number": {"type": "number"},
    "integer": {"type": "integer"},
    "boolean": {"type": "boolean"},
    "datetime_string": {"type": "string", "format": "date-time"},
    "object": {"type": "object"},
    "enum": {},
}
_FORMATS: Final = {
    "email": "email",
    "uuid": "uuid",
    "date": "date",
    "datetime": "date-time",
    "url": "uri",
    "uri": "uri",
}
_BOUNDS: Final = {"minLength": "minLength", "maxLength": "maxLength", "min": "minimum", "max": "maximum"}
_RULES: Final = frozenset({"atLeastOneOf", "mutuallyExclusive", "requiredIf"})


def read_inputs(raw: Mapping[str, Any], at: Location, notes: Notes) -> tuple[Input, ...]:
    """The inputs of an action. What can't be read is left out with a note."""
    out: dict[str, Input] = {}
    given = raw.get("inputs")
    for index, one in enumerate(given if isinstance(given, list) else []):
        here: Location = (*at, "inputs", index)
        name = one.get("name") if isinstance(one, dict) else None
        if not isinstance(name, str) or not name:
            notes.lenient(here, "an input has a `name`; this one is left out")
            continue
        said = {"header": "headers"}.get(str(one.get("in")), one.get("in") or "body")
        place = next((p for p in PLACES if p == said), None)
        if place is None:
            notes.lenient(here, f"`in: {str(said)[:40]}` is no place of an input; it is taken as `body`")
            place = "body"
        if name in out:
            notes.lenient(here, f"the input `{name[:80]}` is given twice; the first one counts")
            continue
        out[name] = Input(name, place, required=one.get("required") is True, schema=schema_of(one, here, notes))
    return tuple(out.values())


def schema_of(raw: Mapping[str, Any], at: Location, notes: Notes, depth: int = 0) -> dict[str, Any]:
    """The JSON Schema of an input, nested `properties` as well."""
    kind = str(raw.get("type") or "string")
    if kind not in _TYPES:
        notes.lenient(at, f"there is no type `{kind[:40]}` of an input; every value is accepted")
    out: dict[str, Any] = dict(_TYPES.get(kind, {}))
    inner = raw.get("properties")
    if kind == "object" and isinstance(inner, list) and depth < 20:
        named = [p for p in inner if isinstance(p, dict) and isinstance(p.get("name"), str)]
        out["properties"] = {p["name"]: schema_of(p, (*at, "properties"), notes, depth + 1) for p in named}
        if required := [p["name"] for p in named if p.get("required") is True]:
            out["required"] = required
    choices = raw.get("oneOf")
    values = choices.get("values") if isinstance(choices, dict) else None
    if isinstance(values, list) and values:
        out["enum"] = [v.get("value", v.get("name")) if isinstance(v, dict) else v for v in values]
    rules = raw.get("rules")
    if isinstance(rules, dict):
        out |= {ours: rules[theirs] for theirs, ours in _BOUNDS.items() if isinstance(rules.get(theirs), int | float)}
        if isinstance(rules.get("pattern"), str):
            out["pattern"] = rules["pattern"]
        if rules.get("format") in _FORMATS:
            out["format"] = _FORMATS[rules["format"]]
    about = raw.get("description")
    if raw.get("array") is True:
        out = {"type": "array", "items": out}
    return {**out, "description": str(about)} if about else out


def input_rules(raw: Mapping[str, Any], at: Location, notes: Notes) -> tuple[InputRule, ...]:
    """`validationRules`."""
    out = []
    given = raw.get("validationRules")
    for index, one in enumerate(given if isinstance(given, list) else []):
        kind = one.get("rule") if isinstance(one, dict) else None
        names = (one.get("fields") or [one.get("field")]) if isinstance(one, dict) else []
        if kind not in _RULES or not all(isinstance(n, str) for n in names):
            notes.lenient((*at, "validationRules", index), "this rule is not understood; it is left out")
            continue
        condition = one.get("condition")
        message = one.get("errorMessage")
        out.append(
            InputRule(
                str(kind),
                tuple(names),
                condition if isinstance(condition, dict) else {},
                str(message) if message else None,
            )
        )
    return tuple(out)


def composite_ids(raw: Mapping[str, Any]) -> tuple[CompositeId, ...]:
    """`compositeIdentifiers`, where they are switched on."""
    given = raw.get("compositeIdentifiers")
    if not isinstance(given, dict) or given.get("enabled") is not True:
        return ()
    out = []
    for one in given.get("fields") or []:
        if not isinstance(one, dict) or not isinstance(one.get("targetFieldKey"), str):
            continue
        parts = [p for p in one.get("components") or [] if isinstance(p, dict) and isinstance(p.get("name"), str)]
        pairs = tuple((p["name"], str(p.get("alias") or p["name"])) for p in parts)
        out.append(CompositeId(one["targetFieldKey"], pairs or (("id", "id"),)))
    return tuple(out)
