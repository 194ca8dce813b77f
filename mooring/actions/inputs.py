"""The arguments of an action: found wherever the caller put them, checked all at once. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import orjson

from mooring import errors
from mooring.connectors.actions import PLACES, Action, Input, Place
from mooring.connectors.s1.program import InputRule

_MISSING: Final = object()
_WHOLE: Final = re.compile(r"-?[0-9]{1,40}")
_FAULTS_SHOWN: Final = 20
_SWITCHES: Final = frozenset({"debug", "next", "page_size"})  # of every call, in `query`


@dataclass(frozen=True, slots=True)
class Arguments:
    """Checked values by name, and what the caller says about pages."""

    values: Mapping[str, Any]
    next: str | None = None
    page_size: int | None = None
    places: Mapping[str, Place] = field(default_factory=dict)

    def of(self, place: Place) -> dict[str, Any]:
        """The values that go to one place of the request."""
        return {name: value for name, value in self.values.items() if self.places[name] == place}


def gather(action: Action, given: Mapping[str, Any], *, next: str | None = None) -> Arguments:
    """Take the arguments out of `path`, `query`, `headers` and `body`.

    An input that stands in another place than its own is taken from there: models mix them up, and the name is what tells.
    Null counts as left out. Raises ValidationFailed with every fault, each with the place and the name.
    """
    faults: list[str] = []
    groups: dict[Place, dict[str, Any]] = {}
    for place in PLACES:
        group = given.get(place)
        if group is not None and not isinstance(group, dict):
            faults.append(f"{place}: must be an object")
        groups[place] = {k: v for k, v in group.items() if v is not None} if isinstance(group, dict) else {}
    values: dict[str, Any] = {}
    for one in action.inputs:
        value = _take(groups, one)
        if value is _MISSING:
            if one.required:
                faults.append(f"{one.place}.{one.name}: is required")
            continue
        value = _coerced(one, value)
        problems = _problems(one, value)
        faults += problems
        if not problems:
            values[one.name] = value
    paging = groups["query"]
    size = paging.get("page_size")
    if isinstance(size, str) and size.isascii() and size.isdigit() and len(size) < 5:
        size = int(size)
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= 1000):
        faults.append("query.page_size: must be a number from 1 to 1000")
    told = next if next is not None else paging.get("next")
    if told is not None and not isinstance(told, str):
        faults.append("query.next: must be the text that a page before has given")
    faults += _unknown(action, groups)
    if action.program is not None:
        faults += [fault for rule in action.program.rules if (fault := _broken(rule, values)) is not None]
    if faults:
        raise errors.ValidationFailed("Validation failed", errors=faults)
    return Arguments(values, told, size, {i.name: i.place for i in action.inputs})


def _broken(rule: InputRule, values: Mapping[str, Any]) -> str | None:
    """What a rule over several inputs has against them."""
    given = [name for name in rule.fields if name in values]
    names = ", ".join(rule.fields)
    if rule.kind == "atLeastOneOf" and not given:
        return rule.message or f"at least one of {names} is required"
    if rule.kind == "mutuallyExclusive" and len(given) > 1:
        return rule.message or f"only one of {names} may be given"
    if rule.kind == "requiredIf" and not given:
        condition = rule.condition
        value = values.get(str(condition.get("field")))
        if "equals" in condition:
            due = value == condition["equals"]
        elif "notEquals" in condition:
            due = value != condition["notEquals"]
        else:
            due = (value is not None) == (condition.get("present", True) is not False)
        if due:
            return rule.message or f"{names} is required here"
    return None


def _take(groups: dict[Place, dict[str, Any]], one: Input) -> Any:
    for place in (one.place, *(p for p in PLACES if p != one.place)):
        if one.name in groups[place]:
            return groups[place].pop(one.name)
    return _MISSING


def _unknown(action: Action, groups: Mapping[Place, Mapping[str, Any]]) -> list[str]:
    names = [i.name for i in action.inputs]
    out: list[str] = []
    for place, group in groups.items():
        for name in group:
            if place == "query" and name in _SWITCHES:
                continue
            if len(out) == _FAULTS_SHOWN:  # each costs a comparison with all names, and somebody may send thousands
                return [*out, "there are more inputs that this action does not have"]
            near = difflib.get_close_matches(name[:200], names, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            out.append(f"{place}.{str(name)[:80]}: is not an input of this action{hint}")
    return out


def _coerced(one: Input, value: Any) -> Any:
    """Path and query are text at the provider anyway: a number as text counts as the number, and the other way round."""
    if one.place not in {"path", "query"}:
        return value
    kind = one.schema.get("type")
    if isinstance(value, str):
        text = value.strip()
        if kind == "integer" and _WHOLE.fullmatch(text):
            return int(text)
        if kind == "boolean" and text.lower() in {"true", "false"}:
            return text.lower() == "true"
    if kind == "string" and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value


def _problems(one: Input, value: Any) -> list[str]:
    found = sorted(
        _validator(orjson.dumps(one.schema)).iter_errors(value), key=lambda e: list(map(str, e.absolute_path))
    )
    out = []
    for fault in found[:20]:
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault.absolute_path)
        out.append(f"{one.place}.{one.name}{where}: {_said(fault)}")
    return out


def _said(fault: Any) -> str:
    """What is wrong, without the value: it may be personal."""
    wanted = fault.validator_value
    match fault.validator:
        case "type":
            return f"must be {' or '.join(wanted) if isinstance(wanted, list) else wanted}"
        case "enum":
            return f"must be one of {', '.join(map(str, wanted[:20]))}"
        case "required":
            return f"lacks {', '.join(name for name in wanted if name not in fault.instance)}"
        case "format":
            return f"must be a {wanted}"
        case _:
            return f"must satisfy {fault.validator}: {str(wanted)[:120]}"


@lru_cache(maxsize=2048)
def _validator(schema: bytes) -> Any:
    from jsonschema import Draft202012Validator  # a process that runs no action need not pay for it

    return Draft202012Validator(orjson.loads(schema), format_checker=Draft202012Validator.FORMAT_CHECKER)
