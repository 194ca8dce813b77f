"""Turn a checked connector file into the internal form, and check what depends on several places of it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from mooring.connectors.action_spec import CallSpec, TestSpec
from mooring.connectors.compile_actions import compile_actions, limits_of, meaning
from mooring.connectors.compile_events import compile_events
from mooring.connectors.compile_fields import build_fields, implied_fields
from mooring.connectors.compile_oauth2 import build_oauth2, build_session, tree_names
from mooring.connectors.compile_scope import Checker, Scope
from mooring.connectors.definition import (
    ID_TOKEN,
    AuthMethod,
    BodyCredential,
    Connector,
    Events,
    RequestTemplate,
    Signature,
    TestRequest,
)
from mooring.connectors.spec import AuthSpec, ConnectorSpec
from mooring.connectors.yaml_source import Fault, Location
from mooring.protocol.template import Template, compile_template


class CompileError(Exception):
    """The file is well-formed but does not fit together; `faults` says where."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(fault.message for fault in faults))
        self.faults = faults


def compile_connector(
    spec: ConnectorSpec,
    *,
    builtin: bool,
    source: str,
    logo: str | None = None,
    guide: str | None = None,
    actions: Mapping[str, Any] | None = None,
) -> Connector:
    """Build the internal form. Raises CompileError with every fault that was found.

    `actions` replaces those of `spec`, for front ends whose actions are not written in the native format.
    """
    check = Checker()
    auth = {key: _method(key, method, spec, check) for key, method in spec.auth.items()}
    compiled = compile_actions(spec, check) if actions is None else actions
    events = compile_events(spec.events, check) if spec.events is not None else None
    if events is None and any(method.external_trigger for method in auth.values()):
        events = Events()  # the token that people copy is all that such a provider sends along
    headers = {name: compile_template(value) for name, value in spec.headers.items()}
    check.header_names(headers, ("headers",))
    if check.faults:
        raise CompileError(check.faults)
    return Connector(
        key=spec.connector,
        version=spec.version,
        title=spec.title,
        categories=tuple(spec.categories),
        auth=auth,
        docs=spec.docs,
        website=spec.website,
        stage=spec.stage,
        description=spec.description,
        headers=headers,
        first_byte_seconds=spec.timeouts.first_byte,
        idle_seconds=spec.timeouts.idle,
        limits=limits_of(spec, compiled),
        page=spec.page.model_dump(by_alias=True, exclude_none=True) if spec.page else {},
        actions=dict(compiled),
        meanings=tuple(meaning(rule) for rule in spec.errors),
        events=events,
        echo_allowed=spec.echo_allowed,
        probe=spec.probe,
        builtin=builtin,
        source=source,
        logo=logo,
        guide=guide,
    )


def _method(key: str, spec: AuthSpec, connector: ConnectorSpec, check: Checker) -> AuthMethod:
    at: Location = ("auth", key)
    fields, app_fields = implied_fields(
        spec.oauth2,
        build_fields(spec.fields, (*at, "fields"), check),
        build_fields(spec.app_fields, (*at, "app_fields"), check),
    )
    for twice in {f.key for f in fields} & {f.key for f in app_fields}:
        check.fault((*at, "app_fields", twice), f"`{twice}` is already one of the account's `fields`", on_key=True)
    setup = Scope.of_fields(fields, app_fields)
    tokens = spec.oauth2 or spec.session
    scope = setup.with_token(tokens) if tokens else setup
    if tokens:
        check.kept_names(tokens, setup, (*at, spec.kind))

    headers, query, basic = _credential(spec, connector, scope, at, check)
    for name, value in spec.headers.items():
        if spec.kind == "header" and spec.header is None:
            break  # these are the credential itself
        if name in headers:
            check.fault((*at, "headers", name), f"the header `{name}` is already the credential", on_key=True)
        headers[name] = check.template(value, scope, (*at, "headers", name))
    check.header_names(headers, (*at, "headers"))
    for name, value in connector.headers.items():
        check.template(value, scope, ("headers", name), of=key)

    base_url = _base_url(spec, connector, scope, at, check)
    for where, text in _own_bases(connector):
        check.url(text.rstrip("/"), scope, where, of=key)
    oauth2 = None
    if spec.oauth2:
        oauth2 = build_oauth2(spec.oauth2, setup, scope, (*at, "oauth2"), check)
    elif spec.session:
        oauth2 = build_session(spec.session, setup, base_url, (*at, "session"), check)
    sent = (*headers.values(), *query.values(), *(basic or ()))
    if oauth2 is not None and any(ID_TOKEN in template.names for template in sent):
        oauth2 = replace(oauth2, keep={**oauth2.keep, ID_TOKEN: ID_TOKEN})
    return AuthMethod(
        key=key,
        label=spec.label or _KIND_LABELS[spec.kind],
        kind=spec.kind,
        base_url=base_url,
        fields=fields,
        app_fields=app_fields,
        headers=headers,
        query=query,
        basic=basic,
        body=_body(spec, scope, at, check),
        mtls=_mtls(spec, setup, at, check),
        oauth2=oauth2,
        signature=_signature(spec, scope, at, check),
        test=_test(spec.test, connector, scope, (*at, "test"), check) if spec.test else None,
        permissions=tuple(spec.permissions),
        notice=spec.notice,
        external_trigger=spec.external_trigger,
    )


def _body(spec: AuthSpec, scope: Scope, at: Location, check: Checker) -> BodyCredential | None:
    if spec.body is None:
        if spec.body_field is not None:
            check.fault((*at, "body_field"), "`body_field` belongs to `body`", on_key=True)
        return None
    return BodyCredential(check.tree(spec.body, scope, (*at, "body")), spec.body_field)


def _mtls(spec: AuthSpec, setup: Scope, at: Location, check: Checker) -> tuple[Template, Template] | None:
    """It is shown with token requests too, so it sees what people typed and no token."""
    if spec.mtls is None:
        return None
    key = check.template(spec.mtls.private_key, setup, (*at, "mtls", "private_key"))
    if not key.names & setup.secret and key.names <= setup.names:
        check.fault((*at, "mtls", "private_key"), "the private key is not secret; set `secret: true`")
    return check.template(spec.mtls.certificate, setup, (*at, "mtls", "certificate")), key


def _signature(spec: AuthSpec, scope: Scope, at: Location, check: Checker) -> Signature | None:
    if spec.sign is None:
        return None
    algorithm = spec.sign.algorithm
    values = {
        name: check.template(text, scope, (*at, "sign", algorithm, name)) for name, text in spec.sign.texts.items()
    }
    return Signature(algorithm, values)


_KIND_LABELS = {
    "none": "No authentication",
    "basic": "User name and password",
    "bearer": "API token",
    "header": "API key",
    "query": "API key",
    "body": "API key",
    "path": "API token",
    "mtls": "Client certificate",
    "oauth2": "OAuth 2.0",
    "session": "User name and password",
    "sign": "Signed requests",
}
_Credential = tuple[dict[str, Template], dict[str, Template], tuple[Template, Template] | None]


def _credential(spec: AuthSpec, connector: ConnectorSpec, scope: Scope, at: Location, check: Checker) -> _Credential:
    """Compile what is sent with every call. A credential in which nothing is secret is a mistake."""
    headers: dict[str, Template] = {}
    query: dict[str, Template] = {}
    basic = None
    if spec.basic:
        basic = (
            check.template(spec.basic.username, scope, (*at, "basic", "username")),
            check.template(spec.basic.password, scope, (*at, "basic", "password")),
        )
    elif spec.bearer:
        headers["Authorization"] = check.template("Bearer " + spec.bearer.token, scope, (*at, "bearer", "token"))
    elif spec.header:
        headers[spec.header.name] = check.template(spec.header.value, scope, (*at, "header", "value"))
    elif spec.query:
        query[spec.query.name] = check.template(spec.query.value, scope, (*at, "query", "value"))
    elif tokens := spec.oauth2 or spec.session:
        sent = check.template(tokens.send.value, scope, (*at, spec.kind, "send", "value"))
        if tokens.send.header:
            check.kept_header(tokens.send.header, scope, (*at, spec.kind, "send", "header"))
        (headers if tokens.send.header else query)[tokens.send.header or tokens.send.query or ""] = sent
    elif spec.kind == "header":
        headers = {name: check.template(value, scope, (*at, "headers", name)) for name, value in spec.headers.items()}
    used = frozenset[str]().union(*(t.names for t in (*headers.values(), *query.values(), *(basic or ()))))
    if spec.sign:
        used |= frozenset[str]().union(*(compile_template(text).names for text in spec.sign.texts.values()))
    if spec.body is not None:
        used |= frozenset[str]().union(*tree_names(check.tree(spec.body, scope, (*at, "body"))))
    if spec.path is not None:
        used |= compile_template(spec.base_url or connector.base_url or "").names
    if spec.kind == "mtls":
        return headers, query, basic  # `_mtls` looks at it
    if spec.kind != "none" and not used & scope.secret and used <= scope.names:
        where = f" on `{min(used)}`" if used else ""
        check.fault((*at, "headers" if spec.kind == "header" and not spec.header else spec.kind), _PLAIN + where)
    return headers, query, basic


_PLAIN = "nothing in this credential is secret; set `secret: true`"


def _own_bases(connector: ConnectorSpec) -> Iterator[tuple[Location, str]]:
    """The base URLs that single calls have: the credential goes there too, so they are held against the same rules."""
    for key, action in connector.actions.items():
        if action.base_url is not None:
            yield ("actions", key, "base_url"), action.base_url
        for index, step in enumerate(action.steps):
            if step.base_url is not None:
                yield ("actions", key, "steps", index, "base_url"), step.base_url


def _base_url(spec: AuthSpec, connector: ConnectorSpec, scope: Scope, at: Location, check: Checker) -> Template:
    text, where = (
        (spec.base_url, (*at, "base_url")) if spec.base_url is not None else (connector.base_url, ("base_url",))
    )
    if text is None:
        check.fault(at, "there is no `base_url`, neither here nor at the top of the file", on_key=True)
        return compile_template("")
    url = check.url(text.rstrip("/"), scope, where, of=at[1] if spec.base_url is None else None)
    if any(isinstance(part, str) and ("?" in part or "#" in part) for part in url.parts):
        check.fault(where, "a base URL has no query and no fragment")
    return url


def _test(spec: TestSpec, connector: ConnectorSpec, scope: Scope, at: Location, check: Checker) -> TestRequest | None:
    if spec.action is None:
        request = _request(spec, spec.query, scope, at, check)
    else:
        action = connector.actions.get(spec.action)
        if action is None:
            near = difflib.get_close_matches(spec.action, connector.actions, 1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            check.fault((*at, "action"), f"`test` names the action `{spec.action}`, which does not exist{hint}")
            return None
        if action.verb is None or "{" in action.path.replace("${", "") or _required(action.input):
            check.fault((*at, "action"), f"the action `{spec.action}` needs input, so it cannot be the test")
            return None
        request = _request(action, _sendable(action.query, scope), scope, ("actions", spec.action), check)
    return TestRequest(
        request=request,
        ok=tuple(spec.ok),
        fail_when=tuple(spec.fail_when),
        identity=spec.identity,
        identity_label=spec.identity_label,
    )


def _request(spec: CallSpec, query: Mapping[str, str], scope: Scope, at: Location, check: Checker) -> RequestTemplate:
    verb = spec.verb or "get"
    if "://" in spec.path:
        url = check.url(spec.path, scope, (*at, verb))
    else:
        url = check.template(spec.path, scope, (*at, verb))
    # A JSON call without inputs still carries a JSON object; several providers refuse an empty body.
    body = {} if spec.body is None and verb in ("post", "put", "patch") else spec.body
    return RequestTemplate(
        method=verb.upper(),
        url=url,
        query={name: check.template(value, scope, (*at, "query", name)) for name, value in query.items()},
        headers={name: check.template(value, scope, (*at, "headers", name)) for name, value in spec.headers.items()},
        body=check.tree(body, scope, (*at, "body")),
    )


def _required(inputs: Mapping[str, Any]) -> bool:
    return any(
        value.get("required") is True or str(value.get("type", "")).endswith("!")
        if isinstance(value, dict)
        else str(value).endswith("!")
        for value in inputs.values()
    )


def _sendable(query: Mapping[str, Any], scope: Scope) -> dict[str, str]:
    """Keep the parameters of an action that have a value without any input."""
    out: dict[str, str] = {}
    for name, value in query.items():
        text = str(value).lower() if isinstance(value, bool) else value
        if isinstance(text, int | str) and compile_template(str(text)).names <= scope.names:
            out[name] = str(text)
    return out
