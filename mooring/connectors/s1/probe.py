"""The test request of an auth method, from the file's `testActions`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mooring.connectors.s1.notes import Notes
from mooring.connectors.s1.requests import requests_of
from mooring.connectors.yaml_source import Location

Text = Callable[[Any, Location], str | None]
_VERBS = ("get", "post", "put", "patch", "delete")
_PLACES = {"query": "query", "headers": "headers", "header": "headers", "body": "body"}


def probe(
    raw: Mapping[str, Any], data: Mapping[str, Any], at: Location, text: Text, notes: Notes
) -> dict[str, Any] | None:
    """Write the first test action that needs no input as a native test. None when there is none."""
    key = "testActions" if "testActions" in raw else "testActionsIds"
    given = raw.get(key)
    if not isinstance(given, list) or not given:
        return None
    if key == "testActionsIds":
        notes.lenient((*at, key), "`testActionsIds` is the older name of `testActions`", on_key=True)
    actions = [(a, i) for i, a in enumerate(data["actions"]) if isinstance(a, dict)]
    by_id = {str(a.get("actionId")): (a, i) for a, i in actions}
    for index, item in enumerate(given):
        action: Any = item.get("action") if isinstance(item, dict) else item
        here: Location = (*at, key, index)
        if isinstance(action, str):
            if action not in by_id:
                notes.lenient(here, f"the test action `{action[:80]}` does not exist")
                continue
            action, number = by_id[action]
            here = ("actions", number)
        test = _test(action, here, text, notes) if isinstance(action, dict) else None
        if test is not None:
            return test
    notes.warn((*at, key), "no test action is a plain request without input; credentials are saved untested")
    return None


def _test(action: Mapping[str, Any], at: Location, text: Text, notes: Notes) -> dict[str, Any] | None:
    request = next(requests_of(action, at), None)
    if request is None or request.method not in _VERBS or "inputs" in request.url or "steps." in request.url:
        return None
    path = text(request.url, request.at)
    if path is None or not path:
        return None
    if request.base_url is None and not path.startswith(("/", "?", "https://", "http://", "${")):
        path = "/" + path
    out: dict[str, Any] = {request.method: path}
    for arg in request.args:
        place = _PLACES.get(str(arg.get("in")))
        value = arg.get("value")
        unsent = arg.get("condition") is not None or _reads_input(value)
        if place is None or unsent or not isinstance(arg.get("name"), str):
            continue
        translated = text(value, request.at) if isinstance(value, str | int) else None
        if translated is not None:
            out.setdefault(place, {})[arg["name"]] = translated
    if request.authorization is not None:
        notes.warn(at, "the test request is sent with the method's own authorization, not with the step's")
    return out


def _reads_input(value: Any) -> bool:
    return isinstance(value, str) and ("inputs" in value or "steps." in value)
