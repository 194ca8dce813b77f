"""What a connector file says well enough for the machine and not well enough for people. Pure.

Faults that would make a connector wrong or unsafe are refused when its file is read. A finding is about what works and is
doubtful all the same: a permission nobody explains, a field nobody uses, a secret that would be shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from mooring.connectors.actions import Action, Step
from mooring.connectors.definition import AuthMethod, Connector, OAuth2, RequestTemplate
from mooring.connectors.guide_rules import guide_problems
from mooring.connectors.url_rules import authority, has_fixed_domain
from mooring.connectors.yaml_source import Location
from mooring.protocol.template import Template

Level = Literal["warning", "note"]
_IMPLIED: Final = frozenset({"client_id", "client_secret", "private_key", "key_id"})
_SOUNDS_SECRET: Final = re.compile(r"secret|passw|(^|_)token$|api_?key$|private_key$|credential", re.IGNORECASE)
_DOUBTFUL: Final = re.compile(r"\bexample\.(?:com|org|net)\b|\.example\b|\blocalhost\b|127\.0\.0\.1|\bTODO\b|//\.|\.\.")


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """Something to look at. A `note` is for the author to know, a `warning` to put right."""

    at: Location
    message: str
    level: Level = "warning"


def lint(connector: Connector, *, guide_file: str | None = None) -> list[Finding]:
    """Every finding, in the order of the file's parts."""
    out = [*_head(connector)]
    for method in connector.auth.values():
        out += _method(connector, method)
    declared = {scope for m in connector.auth.values() if m.oauth2 for scope in m.oauth2.scopes}
    for action in connector.actions.values():
        if isinstance(action, Action) and action.program is None:
            out += _action(action, declared)
    if connector.guide is None:
        out.append(Finding((), "there is no guide; people see one made of the fields"))
    else:
        out += [Finding((), f"guide, line {p.line}: {p.message}") for p in guide_problems(connector, guide_file or "")]
    return out


def _head(connector: Connector) -> Iterator[Finding]:
    if connector.docs is None and connector.key != "sandbox":
        yield Finding(("connector",), "`docs` is missing: nobody can look up whether this file is right")
    for name in ("docs", "website"):
        url = getattr(connector, name)
        if url is not None and not url.startswith("https://"):
            yield Finding((name,), f"{url} is not https")
    if connector.description is None:
        yield Finding(("connector",), "`description` is missing: one sentence on what there is to reach")


def _method(connector: Connector, method: AuthMethod) -> Iterator[Finding]:
    at: Location = ("auth", method.key)
    yield from _urls(connector, method, at)
    yield from _fields(connector, method, at)
    proven = method.oauth2 is not None and method.oauth2.machine  # by the token that it gives
    if method.test is None and not proven and method.kind != "none":
        yield Finding(at, "no `test`: a wrong credential is noticed by the first call only")
    elif method.test is not None and method.test.request.method not in ("GET", "HEAD", "POST"):
        yield Finding((*at, "test"), f"the test request is a {method.test.request.method}, which changes something")
    for name in method.query:
        yield Finding((*at, "query"), f"the credential is sent in the URL (`{name}`): providers log URLs", "note")
    if method.oauth2 is not None:
        yield from _oauth2(method.oauth2, (*at, "oauth2"))


def _urls(connector: Connector, method: AuthMethod, at: Location) -> Iterator[Finding]:
    typed = {f.key: f.pattern for f in method.fields}
    addresses: list[tuple[str, Template]] = [("base_url", method.base_url)]
    if method.oauth2 is not None:
        names = ("authorize_url", "token_url", "refresh_url", "revoke_url", "par_url")
        addresses += [(n, url) for n in names if (url := getattr(method.oauth2, n)) is not None]
    secret = method.secret_keys | {f.key for f in method.app_fields if f.secret}
    for name, url in addresses:
        where = at if name == "base_url" else (*at, "oauth2", name)
        if shown := sorted(url.names & secret):
            yield Finding(where, f"`{shown[0]}` is secret and stands in {name}: providers log URLs", "note")
        if _DOUBTFUL.search(url.source) and connector.key != "sandbox":
            yield Finding(where, f"{name} looks doubtful: {url.source}")
        found = authority(url)
        free = sorted(n for e in found.expressions for n in e.names if n in typed)
        if free and not has_fixed_domain(found, typed[free[0]]):
            yield Finding(where, f"`{free[0]}` lets an end user choose the host of {name}", "note")


def _fields(connector: Connector, method: AuthMethod, at: Location) -> Iterator[Finding]:
    used = _used(connector, method)
    for group in ("fields", "app_fields"):
        for field in getattr(method, group):
            where = (*at, group, field.key)
            if field.key not in used and field.key not in _IMPLIED:
                # What a provider's events are set up with is asked for as well (`external_trigger`).
                yield Finding(
                    where,
                    f"nothing uses the field `{field.key}`",
                    "note" if method.external_trigger else "warning",
                )
            if _SOUNDS_SECRET.search(field.key) and not field.secret and not field.options:
                yield Finding(where, f"`{field.key}` sounds secret and is not `secret: true`: people will see it")
    if method.fields and method.kind != "none" and not any(f.help for f in method.fields) and connector.guide is None:
        yield Finding((*at, "fields"), "no field says where its value is found (`help`)")


def _used(connector: Connector, method: AuthMethod) -> frozenset[str]:
    templates: list[Any] = [method.base_url, method.headers, method.query, method.basic, connector.headers]
    if method.body is not None:
        templates.append(method.body.values)
    if method.signature is not None:
        templates.append(method.signature.values)
    if method.mtls is not None:
        templates.append(method.mtls)
    if method.test is not None:
        templates.append(method.test.request)
    if method.oauth2 is not None:
        o = method.oauth2
        templates += [o.authorize_url, o.token_url, o.refresh_url, o.revoke_url, o.par_url, o.issuer, o.login]
        templates += [o.authorize_params, o.token_params, o.token_headers, o.scope_templates]
        if o.then is not None:
            templates.append(o.then.request)
        if o.assertion is not None:
            templates += [o.assertion.issuer, o.assertion.subject, o.assertion.audience, o.assertion.claims]
    for action in connector.actions.values():
        if isinstance(action, Action) and action.request is not None:
            templates.append([action.request.path, action.request.query, action.request.headers, action.request.body])
    return frozenset(_names(templates))


def _names(tree: Any) -> Iterator[str]:
    if isinstance(tree, Template):
        yield from tree.names
        for part in tree.parts:
            if not isinstance(part, str):
                yield from re.findall(r"\bauth\.([A-Za-z_]\w*)", part.source)
    elif isinstance(tree, RequestTemplate):
        yield from _names([tree.url, tree.query, tree.headers, tree.body, tree.form])
    elif isinstance(tree, Mapping):
        yield from _names(list(tree.values()))
    elif isinstance(tree, list | tuple):
        for item in tree:
            yield from _names(item)


def _oauth2(oauth2: OAuth2, at: Location) -> Iterator[Finding]:
    for scope in oauth2.scopes:
        if scope not in oauth2.scope_reasons:
            yield Finding((*at, "scopes"), f"the scope `{scope}` has no reason that people could read")
    if oauth2.grant == "authorization_code" and not oauth2.pkce:
        yield Finding((*at, "pkce"), "PKCE is off: only for providers that refuse unknown parameters", "note")


def _action(action: Action, declared: set[str]) -> Iterator[Finding]:
    at: Location = ("actions", action.key)
    if not action.tests and not action.internal:
        yield Finding(at, "no test stands beside this action", "note")
    for scope in action.scopes:
        if declared and scope not in declared:
            yield Finding(
                (*at, "scopes"), f"no auth method asks for the scope `{scope}` unless the operator does", "note"
            )
    pages, shaped = action.paging, action.result is not None or action.mapping is not None
    in_body = pages is not None and pages.style in ("cursor", "link") and pages.where != "header"
    if in_body and pages is not None and (action.items or pages.items) is None and not shaped:
        yield Finding((*at, "page"), "a paged action says where its list is (`items`)")
    yield from _steps(action, at)


def _steps(action: Action, at: Location) -> Iterator[Finding]:
    texts = [_source(step) for step in action.steps] + [_text(action.result)]
    for index, step in enumerate(action.steps[:-1]):
        reads = step.request is not None and step.request.method == "GET"
        later = " ".join(texts[index + 1 :])
        if (reads or step.values is not None) and not re.search(rf"\bsteps\.{re.escape(step.id)}\b", later):
            yield Finding((*at, "steps", index), f"nothing uses what the step `{step.id}` gives")


def _source(step: Step) -> str:
    request = step.request
    parts: list[Any] = [step.when, step.each, step.values, step.arguments]
    if request is not None:
        parts += [request.path, request.query, request.headers, request.body]
    return _text(parts)


def _text(tree: Any) -> str:
    if isinstance(tree, Template):
        return tree.source
    if isinstance(tree, Mapping):
        return " ".join(_text(v) for v in tree.values())
    if isinstance(tree, list | tuple):
        return " ".join(_text(v) for v in tree)
    return ""
