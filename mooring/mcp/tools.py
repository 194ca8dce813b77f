"""Actions as tools: names, schemas in the three styles of parameters, and results that fit. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

import orjson

from mooring import errors
from mooring.actions.listing import description_of, name_of
from mooring.connectors.actions import PLACES, Action
from mooring.connectors.definition import Connector

Style = Literal["nested", "flat_prefixed", "flat_smart"]
Mode = Literal["individual", "search_execute"]
STYLES: Final = get_args(Style)
MODES: Final = get_args(Mode)
MOST_BYTES: Final = 256 * 1024  # of a result; models pay for every one of them
CHOICE: Final = "linked_account"  # the argument that tells several accounts of one connector apart
NAME_LENGTH: Final = 128  # of a tool's name, as clients take it

SEARCH_SCHEMA: Final = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "description": "What you want to do, in plain words."},
        "top_k": {
            "type": "integer",
            "minimum": 1,
            "maximum": 50,
            "description": "How many actions to show; 5 by default.",
        },
    },
    "required": ["query"],
}
EXECUTE_SCHEMA: Final = {
    "type": "object",
    "properties": {
        "action_name": {"type": "string", "description": "The name of an action, as the search shows it."},
        "parameters": {
            "type": "object",
            "description": "Its arguments, in the groups `path`, `query`, `headers` and `body` of its schema.",
        },
    },
    "required": ["action_name"],
}


def schema(action: Action, style: Style) -> dict[str, Any]:
    """The JSON Schema of a tool's arguments."""
    nested = action.schema()
    if style == "nested":
        return nested
    out: dict[str, Any] = {}
    required: list[str] = []
    for place, group in nested["properties"].items():
        for name, one in group["properties"].items():
            shown = flat_name(action, place, name, style)
            out[shown] = one
            if name in group.get("required", ()):
                required.append(shown)
    flat: dict[str, Any] = {"type": "object", "properties": out, "additionalProperties": False}
    return flat | ({"required": required} if required else {})


def flat_name(action: Action, place: str, name: str, style: Style) -> str:
    """The name of an input: with its place before it, or where that is smarter, alone."""
    if style == "flat_smart" and sum(i.name == name for i in action.inputs) <= 1:
        return name
    return f"{place}_{name}"


def grouped(action: Action, arguments: Mapping[str, Any], style: Style) -> dict[str, Any]:
    """The arguments of a tool call in their groups. An unknown one stays where the check of the arguments names it."""
    if style == "nested":
        return {place: arguments.get(place) for place in PLACES} | _strays(arguments)
    names = {
        flat_name(action, place, name, style): (place, name)
        for place, group in action.schema()["properties"].items()
        for name in group["properties"]
    }
    out: dict[str, Any] = {}
    for shown, value in arguments.items():
        place, name = names.get(shown, ("body", shown))
        out.setdefault(place, {})[name] = value
    return out


def _strays(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments beside the groups: models often forget them, and an input's name tells where it belongs."""
    strays = {name: value for name, value in arguments.items() if name not in PLACES}
    body = arguments.get("body")
    return {"body": {**(body if isinstance(body, dict) else {}), **strays}} if strays else {}


def hints(action: Action) -> dict[str, Any]:
    """What a client may tell its user before it calls."""
    method = action.request.method if action.request is not None else "POST"
    return {
        "title": action.label,
        "readOnlyHint": action.reads,
        "destructiveHint": "delete" in action.effects,
        "idempotentHint": action.reads or method in {"PUT", "DELETE"},
        "openWorldHint": True,
    }


def choosing(schema: Mapping[str, Any], choice: Mapping[str, str]) -> dict[str, Any]:
    """The schema with one more argument that says which account is meant; as it is where there is nothing to choose."""
    if not choice:
        return dict(schema)
    known = "; ".join(f"{id}: {label}" for id, label in choice.items())
    which = {"type": "string", "enum": list(choice), "description": f"Which linked account is meant. {known}"}
    return {
        **schema,
        "properties": {CHOICE: which, **schema["properties"]},
        "required": [CHOICE, *schema.get("required", ())],
    }


def tool(connector: Connector, action: Action, style: Style, choice: Mapping[str, str]) -> dict[str, Any]:
    """A tool as the protocol lists it."""
    return {
        "name": name_of(connector, action)[:NAME_LENGTH],
        "title": f"{connector.title}: {action.label}",
        "description": description_of(action),
        "inputSchema": choosing(schema(action, style), choice),
        "annotations": hints(action),
    }


def fitting(data: Any, next: str | None) -> dict[str, Any]:
    """A result that a model can take: a list that is too long is cut, and says how to get the rest.

    Raises ProviderError for one record that is too long by itself.
    """
    out: dict[str, Any] = {"data": data, "next": next}
    size = len(orjson.dumps(out))
    if size <= MOST_BYTES:
        return out
    if not isinstance(data, list):
        raise errors.ProviderError(
            f"the result has {size} bytes; {MOST_BYTES} are the most that a tool answers with",
            code="ResultTooLargeError",
            hint="Ask for less, or run the action with POST /actions/rpc.",
        )
    kept: list[Any] = []
    used = 0
    for record in data:
        used += len(orjson.dumps(record)) + 1
        if used > MOST_BYTES - 1000:
            break
        kept.append(record)
    note = (
        f"Only {len(kept)} of {len(data)} records fit. "
        f"Call again with page_size {max(1, len(kept))} or less to get them all, page by page."
    )
    # The position after the whole page would skip what was cut.
    return {"data": kept, "next": None, "truncated": {"shown": len(kept), "of": len(data), "how_to_get_the_rest": note}}
