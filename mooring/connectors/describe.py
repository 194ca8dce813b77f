"""Describe a connector in plain text, for `mooring connectors show`."""

from __future__ import annotations

from mooring.connectors.definition import AuthMethod, Connector, Field


def describe(connector: Connector) -> str:
    """All that an operator wants to know before choosing a method."""
    lines = [
        f"{connector.title} ({connector.key}) {connector.version}",
        f"  categories: {', '.join(connector.categories)}",
        f"  stage:      {connector.stage}",
        f"  source:     {'shipped' if connector.builtin else connector.source}",
    ]
    if connector.docs:
        lines.append(f"  docs:       {connector.docs}")
    for method in connector.auth.values():
        lines += ["", *_method(method)]
    return "\n".join(lines)


def _method(method: AuthMethod) -> list[str]:
    lines = [f"  {method.key}: {method.label} [{method.kind}]"]
    lines += [f"    operator gives: {_field(f)}" for f in method.app_fields]
    lines += [f"    end user gives: {_field(f)}" for f in method.fields]
    if method.oauth2:
        o = method.oauth2
        lines.append(
            f"    grant: {o.grant}, client authentication: {o.client_auth}, PKCE: {'S256' if o.pkce else 'OFF'}"
        )
        lines += [f"    scope: {s}" + (f" – {o.scope_reasons[s]}" if s in o.scope_reasons else "") for s in o.scopes]
    if method.test:
        lines.append(f"    tested with: {method.test.request.method} {method.test.request.url}")
    lines += [f"    needs: {p}" for p in method.permissions]
    return lines


def _field(field: Field) -> str:
    notes = [n for n, on in (("secret", field.secret), ("optional", not field.required)) if on]
    return f"{field.key} ({field.label})" + (f" [{', '.join(notes)}]" if notes else "")
