"""Actions as the API lists them (contract §2.7)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mooring.connectors.actions import Action
from mooring.connectors.definition import Connector


def runnable(connector: Connector) -> Iterator[Action]:
    """The actions that callers may run, in the order of the file."""
    for action in connector.actions.values():
        if isinstance(action, Action) and not action.internal:
            yield action


def name_of(connector: Connector, action: Action) -> str:
    """The name by which tools are called: `<connector>_<action>`."""
    return f"{connector.key}_{action.key}"


def index_id(connector: Connector, action: Action) -> str:
    """The id of a search result, which AI clients cut the name out of."""
    return f"{connector.key}_{connector.version}_{name_of(connector, action)}_global"


def find(connector: Connector, name: str) -> Action | None:
    """An action by its name alone, with the connector before it, or by the id of a search result."""
    names = [name]
    prefix = f"{connector.key}_{connector.version}_"
    if name.startswith(prefix) and name.endswith("_global"):
        names.append(name.removeprefix(prefix).removesuffix("_global"))
    for each in names:
        for key in (each.removeprefix(f"{connector.key}_"), each):
            found = connector.actions.get(key)
            if isinstance(found, Action) and not found.internal:
                return found
    return None


def description_of(action: Action) -> str:
    """What a model reads: the help, or the label."""
    return action.help or action.label


def action_meta(connector: Connector, action: Action, *, details: bool) -> dict[str, Any]:
    """One entry of `actions`."""
    out: dict[str, Any] = {
        "id": name_of(connector, action),
        "label": action.label,
        "description": description_of(action),
        "schema_type": "unified" if action.unified else "native",
        "tags": list(action.tags),
        "authentication": [{"key": m.key, "label": m.label, "type": m.kind} for m in connector.auth.values()],
        "required_scopes": list(action.scopes),
    }
    if details:
        # Older clients know them by the other name (contract §2.7).
        out["action_details"] = out["operation_details"] = details_of(action)
    return out


def details_of(action: Action) -> dict[str, Any]:
    """Everything that a caller needs to run an action."""
    out: dict[str, Any] = {
        "input_schema": action.schema(),
        "effects": list(action.effects),
        "paged": action.paged,
        "examples": [dict(e) for e in action.examples],
    }
    if action.request is not None:
        out |= {"method": action.request.method, "path": action.request.path.source}
    if action.docs:
        out["docs"] = action.docs
    if action.unified:
        out["unified"] = action.unified
    return out


def connector_meta(
    connector: Connector,
    actions: Sequence[Action],
    *,
    icon: str,
    account: Mapping[str, str | None] | None = None,
    details: bool = False,
    guides: str | None = None,
    without_actions: bool = False,
) -> dict[str, Any]:
    """A connector with its actions. `guides` is where its connection guide is read, when guides are asked for."""
    methods = []
    for method in connector.auth.values():
        scopes = list(method.oauth2.scopes) if method.oauth2 is not None else []
        shown: dict[str, Any] = {
            "key": method.key,
            "label": method.label,
            "type": method.kind,
            "required_scopes": scopes,
        }
        if guides is not None:
            shown["support"] = {"link": guides, "description": f"How to connect {connector.title}", "guides": {}}
        methods.append(shown)
    reasons = {
        scope: method.oauth2.scope_reasons.get(scope)
        for method in connector.auth.values()
        if method.oauth2 is not None
        for scope in method.oauth2.scopes
    }
    out: dict[str, Any] = {
        "key": connector.key,
        "name": connector.title,
        "description": connector.description,
        "icon": icon,
        "version": connector.version,
        "release_stage": connector.stage,
        "account_id": account["account_id"] if account else None,
        "integration_id": account["integration_id"] if account else None,
        "authentication": methods,
        "scope_definitions": [{"name": name, "description": reason or name} for name, reason in reasons.items()],
    }
    if not without_actions:
        out["actions"] = [action_meta(connector, action, details=details) for action in actions]
    return out
