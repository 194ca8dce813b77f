"""A connector as a page of documentation, in Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mooring.connectors.actions import Action, Input
from mooring.connectors.definition import AuthMethod, Connector, Field, UnrunnableAction


def page(connector: Connector) -> str:
    """What a caller and an operator want to know: methods, fields, scopes, limits, and every action with its inputs."""
    return "\n".join(_lines(connector)).rstrip() + "\n"


def _lines(connector: Connector) -> Iterator[str]:
    yield f"# {connector.title}"
    yield ""
    if connector.description:
        yield from (connector.description, "")
    yield f"Key `{connector.key}`, version {connector.version}, {connector.stage}; {', '.join(connector.categories)}."
    if connector.docs:
        yield from ("", f"The provider's own documentation: <{connector.docs}>")
    yield from ("", "## Authentication")
    for method in connector.auth.values():
        yield from _method(method)
    if connector.limits:
        yield from ("", "## Limits", "", _limits(connector))
    actions = [a for a in connector.actions.values() if isinstance(a, Action) and not a.internal]
    if actions:
        yield from ("", "## Actions", "", "| action | | request |", "|---|---|---|")
        for action in actions:
            request = f"`{action.request.method} {action.request.path.source}`" if action.request else "several"
            yield f"| [`{action.key}`](#{action.key}) | {_cell(action.label)} | {request} |"
        for action in actions:
            yield from _action(action)
    if unrunnable := [a for a in connector.actions.values() if isinstance(a, UnrunnableAction)]:
        yield from ("", "## Actions that can't be run", "")
        yield from (f"- `{a.key}`: {a.reason}" for a in unrunnable)


def _method(method: AuthMethod) -> Iterator[str]:
    yield from ("", f"### {method.label} (`{method.key}`)", "", f"Calls go to `{method.base_url.source}`.")
    for group, who in (("app_fields", "The operator gives"), ("fields", "The end user gives")):
        fields: tuple[Field, ...] = getattr(method, group)
        if fields:
            yield from ("", f"{who}:", "", *(_field(f) for f in fields))
    if method.oauth2 is not None and method.oauth2.scopes:
        yield from ("", "Scopes:", "")
        for scope in method.oauth2.scopes:
            reason = method.oauth2.scope_reasons.get(scope)
            yield f"- `{scope}`" + (f": {reason}" if reason else "")
    if method.permissions:
        yield from ("", "Needed:", "", *(f"- {p}" for p in method.permissions))


def _field(field: Field) -> str:
    notes = [n for n, on in (("secret", field.secret), ("optional", not field.required)) if on]
    text = f"- `{field.key}`: {field.label}" + (f" ({', '.join(notes)})" if notes else "")
    return text + (f". {field.help}" if field.help else "")


def _limits(connector: Connector) -> str:
    names = {"rps": "requests in a second", "rpm": "in a minute", "rph": "in an hour", "rpd": "in a day"}
    parts = [f"{connector.limits[k]} {text}" for k, text in names.items() if connector.limits.get(k)]
    if window := connector.limits.get("window"):
        parts.append(f"{window['requests']} in {window['seconds']} seconds")
    if connector.limits.get("concurrency"):
        parts.append(f"{connector.limits['concurrency']} at a time")
    text = ", ".join(parts) + (" for each account" if connector.limits.get("per") != "app" else " for the whole app")
    note = connector.limits.get("note")
    return (text + "." if parts else "") + (f" {note[0].upper()}{note[1:]}." if note else "")


def _action(action: Action) -> Iterator[str]:
    yield from ("", f"### {action.key}", "", action.label + "." + (f" {action.help}" if action.help else ""))
    facts = [f"Effect: {', '.join(action.effects)}"]
    if action.paged:
        facts.append("paged")
    if action.scopes:
        facts.append(f"scopes {', '.join(f'`{s}`' for s in action.scopes)}")
    yield from ("", "; ".join(facts) + ".")
    if action.inputs:
        yield from ("", "| input | in | type | |", "|---|---|---|---|", *(_input(i) for i in action.inputs))


def _input(one: Input) -> str:
    notes = ["required"] if one.required else []
    if enum := one.schema.get("enum"):
        notes.append("one of " + ", ".join(f"`{v}`" for v in enum))
    if text := one.schema.get("description"):
        notes.append(_cell(str(text)))
    return f"| `{one.name}` | {one.place} | {_type(one.schema)} | {'; '.join(notes)} |"


def _type(schema: Any) -> str:
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(kind if not isinstance(kind, list) else " or ".join(map(str, kind)))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
