"""The fields of a `.s1.yaml` authentication part, as fields of the native format."""

from __future__ import annotations

import re
from typing import Any, Final

from mooring.connectors.field_spec import RESERVED_FIELDS
from mooring.connectors.s1.notes import Notes
from mooring.connectors.spec_types import browser_expression
from mooring.connectors.yaml_source import Location

# Fields that nothing declares, and that are secrets by their names.
SECRET_NAME: Final = re.compile("secret|token|password|key|session|ticket", re.IGNORECASE)
_CLIENT: Final = {"clientId": "client_id", "clientSecret": "client_secret"}
# Names that the platform gives to credentials of OAuth, with ours.
PLATFORM: Final = {
    "accessToken": "access_token",
    "idToken": "id_token",
    "refreshToken": "refresh_token",
    **_CLIENT,
}
_TYPES: Final = {"text", "password", "number", "select", "text_area"}
_PLAIN_KEYS: Final = {"key", "label", "type", "required", "secret", "readOnly", "placeholder", "description", "tooltip"}
_KEYS: Final = _PLAIN_KEYS | {"options", "validation", "value", "computed", "externalSystemAccountIdentifier"}


def field_name(key: str, *, oauth: bool) -> str:
    """What a field is called here: the client's id and secret as the engine knows them, and no name twice."""
    if oauth and key in _CLIENT:
        return _CLIENT[key]
    name = re.sub(r"\W", "_", key, flags=re.ASCII)
    if not re.match(r"[A-Za-z]", name):
        name = f"field_{name}"
    return f"{name}_value" if name in RESERVED_FIELDS else name


def read_fields(data: Any, at: Location, notes: Notes, *, oauth: bool) -> dict[str, dict[str, Any]]:
    """Read `configFields` or `setupFields` into native fields by the file's own key."""
    if data is None:
        return {}
    if not isinstance(data, list):
        notes.fault(at, "must be a list of fields")
        return {}
    out: dict[str, dict[str, Any]] = {}
    for index, raw in enumerate(data):
        here = (*at, index)
        if not isinstance(raw, dict) or not isinstance(raw.get("key"), str) or not raw["key"]:
            notes.lenient(here, "a field is a mapping with a `key`; this one is left out")
            continue
        key = raw["key"]
        if key in out:
            notes.lenient(here, f"the field `{key}` is given twice; the first one counts")
            continue
        out[key] = _field(raw, here, notes)
        if (name := field_name(key, oauth=oauth)) != key and not (oauth and key in _CLIENT):
            notes.warn((*here, "key"), f"the field `{key}` is called `{name}` here")
    return out


def _field(raw: dict[str, Any], at: Location, notes: Notes) -> dict[str, Any]:
    for unknown in sorted(set(raw) - _KEYS):
        notes.warn((*at, unknown), f"`{unknown}` has no effect here", on_key=True)
    kind = None if raw.get("type") is None else str(raw["type"])
    secret = raw.get("secret") is True or kind == "password"
    options = _options(raw.get("options"))
    out: dict[str, Any] = {"required": raw.get("required") is True, "secret": secret}
    if kind in _TYPES and kind != "select" and not options and not (kind == "password" and not secret):
        out["type"] = kind
    elif kind is not None and kind not in _TYPES:
        notes.lenient((*at, "type"), f"there is no field type `{kind[:80]}`; it is taken for text")
    if options:
        out["options"] = options
    texts = {"label": raw.get("label"), "placeholder": raw.get("placeholder")}
    texts["help"] = raw.get("description") or raw.get("tooltip")
    out |= {name: str(text) for name, text in texts.items() if isinstance(text, str | int) and text != ""}
    if raw.get("readOnly") is True:
        out["read_only"] = True
    default = raw.get("value")
    if isinstance(default, str | int) and not secret:
        out["default"] = str(default)
    return out | _validation(raw.get("validation"), at, notes)


def _options(raw: Any) -> list[dict[str, str]]:
    given = [item for item in raw if isinstance(item, dict) and "value" in item] if isinstance(raw, list) else []
    return [{"value": str(item["value"]), "label": str(item.get("label") or item["value"])} for item in given]


def _validation(raw: Any, at: Location, notes: Notes) -> dict[str, str]:
    pattern = raw.get("pattern") if isinstance(raw, dict) else None
    if not isinstance(pattern, str):
        return {}
    try:
        re.compile(pattern)
        browser_expression(pattern)
    except (re.error, ValueError, RecursionError) as error:
        notes.lenient((*at, "validation"), f"the pattern is not understood and does not count: {error}")
        return {}
    message = raw.get("errorMessage") or raw.get("error")
    return {"pattern": pattern, **({"pattern_error": message} if isinstance(message, str) else {})}
