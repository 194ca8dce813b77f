"""Describe a connector in plain text, for `mooring connectors show`."""

from __future__ import annotations

from mooring.connectors.actions import Action
from mooring.connectors.definition import AuthMethod, Connector, Field, OAuth2, UnrunnableAction


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
    runnable = [a for a in connector.actions.values() if isinstance(a, Action) and not a.internal]
    if runnable:
        lines += ["", f"  actions: {', '.join(a.key for a in runnable)}"]
    unrunnable = [a for a in connector.actions.values() if isinstance(a, UnrunnableAction)]
    if unrunnable:
        lines += ["", *(f"  action {a.key}: can't be run: {a.reason}" for a in unrunnable)]
    return "\n".join(lines)


def _method(method: AuthMethod) -> list[str]:
    lines = [f"  {method.key}: {method.label} [{method.kind}]", f"    base URL: {method.base_url.source}"]
    lines += [f"    operator gives: {_field(f)}" for f in method.app_fields]
    lines += [f"    end user gives: {_field(f)}" for f in method.fields]
    if method.oauth2:
        lines += _oauth2(method.oauth2)
    if method.test:
        lines.append(f"    tested with: {method.test.request.method} {method.test.request.url.source}")
    lines += [f"    needs: {p}" for p in method.permissions]
    return lines


def _oauth2(oauth2: OAuth2) -> list[str]:
    if oauth2.login is not None:
        life = f", for {oauth2.default_expires_in} s" if oauth2.default_expires_in else ""
        where = oauth2.token_path[0] or "the whole answer"
        return [f"    login: {oauth2.login.method} {oauth2.login.url.source}, token: {where}{life}"]
    code = oauth2.grant == "authorization_code"
    pkce = f", PKCE: {'S256' if oauth2.pkce else 'OFF'}" if code else ""
    addresses = (
        ("authorize", oauth2.authorize_url),
        ("token", oauth2.token_url),
        ("refresh", oauth2.refresh_url),
        ("revoke", oauth2.revoke_url),
        ("pushed requests", oauth2.par_url),
        ("issuer", oauth2.issuer),
    )
    reasons = oauth2.scope_reasons
    return [
        f"    grant: {oauth2.grant}, client authentication: {oauth2.client_auth}{pkce}",
        *(f"    {name}: {url.source}" for name, url in addresses if url is not None),
        *(f"    scope: {s}" + (f" – {reasons[s]}" if s in reasons else "") for s in oauth2.scopes),
    ]


def _field(field: Field) -> str:
    notes = [n for n, on in (("secret", field.secret), ("optional", not field.required)) if on]
    return f"{field.key} ({field.label})" + (f" [{', '.join(notes)}]" if notes else "")
