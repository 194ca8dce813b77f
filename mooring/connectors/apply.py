"""Apply an auth method to a call: base URL, headers and query, rendered from one scope. Pure."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, urlencode

import orjson

from mooring import errors
from mooring.connectors.definition import AuthMethod, Connector, RequestTemplate, Signing
from mooring.kit import clock
from mooring.kit.http import ClientIdentity
from mooring.protocol import signatures
from mooring.protocol.expressions import UNDEFINED
from mooring.protocol.headers import Header
from mooring.protocol.template import Template, Unresolved, compile_template
from mooring.protocol.urls import join_path, validate_base_url


@dataclass(slots=True)  # not frozen: one is made for every call
class Injection:
    """What a call through an account carries besides the caller's own request. Header names are lower-case."""

    base_url: str
    headers: list[tuple[bytes, bytes]] = field(repr=False)
    query: list[tuple[str, str]] = field(repr=False)
    signature: Signer | None = field(default=None, repr=False)  # where each request is signed
    body: InBody | None = field(default=None, repr=False)  # where the credential goes into the body
    identity: ClientIdentity | None = field(default=None, repr=False)  # shown in the TLS handshake


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs requests with one account's values."""

    algorithm: Signing
    values: Mapping[str, str] = field(repr=False)

    def needs_body(self, headers: Sequence[Header]) -> bool:
        """Whether a stream has to be read before it can be signed."""
        return signatures.needs_body(self.algorithm, self.values, headers)

    def sign(self, method: str, url: str, headers: Sequence[Header], body: bytes | None) -> list[Header]:
        """The headers of a request with its signature; `body` is None for a stream."""
        return signatures.signed(self.algorithm, self.values, method, url, headers, body, clock.now())


@dataclass(frozen=True, slots=True)
class InBody:
    """Puts one account's values into the bodies of requests."""

    values: Mapping[str, Any] = field(repr=False)
    field: str | None = None

    def goes_into(self, method: str, body: object) -> bool:
        """Whether this request carries the credential: one without a body does not get one for it."""
        return method in _WITH_BODY or body is not None

    def put(self, body: bytes, content_type: str) -> tuple[bytes, str]:
        """The body with the credential, and its type. A value of the caller under one of its names is replaced.

        Raises BadRequest for a body that can't hold it.
        """
        if self.field is None:
            return orjson.dumps(_merged(_object(body), self.values)), "application/json"
        if content_type.partition(";")[0].strip().lower() == "application/x-www-form-urlencoded":
            pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
        else:  # the object alone, as a convenience
            pairs = [(self.field, orjson.dumps(_object(body)).decode())]
        inner = next((value for name, value in pairs if name == self.field), "")
        whole = orjson.dumps(_merged(_object(inner.encode()), self.values)).decode()
        kept = [pair for pair in pairs if pair[0] != self.field]
        return urlencode([(self.field, whole), *kept]).encode(), "application/x-www-form-urlencoded"


_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


def _merged(given: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The caller's object with the credential's values, inside of objects as well."""
    out = dict(given)
    for name, value in own.items():
        before = out.get(name)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        out[name] = _merged(before, value) if both else value  # type: ignore[arg-type]  # both are
    return out


def _object(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise errors.BadRequest(
            "the body must be a JSON object: this provider takes the credential inside it", code="InvalidBodyError"
        )
    return value


@dataclass(frozen=True, slots=True)
class Plan:
    """An auth method that only puts values between fixed texts, which is nearly every one: no expression is evaluated."""

    base_url: str
    headers: tuple[tuple[bytes, str, str, str], ...]  # name, text before, name of the value, text after


def plan_of(connector: Connector, method: AuthMethod, public: Mapping[str, str]) -> Plan | None:
    """The plan of an account's calls, or None where there is more to do than to put texts together."""
    if (
        method.query
        or method.basic is not None
        or connector.headers
        or method.signature is not None
        or method.body is not None
        or method.mtls is not None
    ):
        return None
    headers = []
    for name, template in method.headers.items():
        if "${" in name:
            return None
        texts: list[str] = ["", ""]
        key = None
        for part in template.parts:
            if isinstance(part, str):
                texts[key is not None] += part
            elif key is None and part.source.isidentifier():
                key = part.source
            else:
                return None
        if key is None:
            return None
        headers.append((name.lower().encode(), texts[0], key, texts[1]))
    try:
        base_url = validate_base_url(method.base_url.render(public))
    except (Unresolved, errors.MooringError):
        return None
    return Plan(base_url, tuple(headers))


def inject(method: AuthMethod, scope: Mapping[str, Any]) -> Injection:
    """Render the credential into headers and query. Raises Unprocessable naming what is missing, never a value."""
    try:
        base_url = validate_base_url(method.base_url.render(scope))
        headers = [
            (_raw_name(_named(name, scope)), _header(name, t.render(scope))) for name, t in method.headers.items()
        ]
        query = [(name, t.render(scope)) for name, t in method.query.items()] if method.query else []
        if method.basic is not None:
            user, password = (t.render(scope) for t in method.basic)
            if ":" in user:  # RFC 7617 §2: the user-id can't hold a colon
                raise errors.Unprocessable("the user name of HTTP Basic must not hold a colon")
            headers.append((b"authorization", basic(user, password).encode()))
        signer = None
        if method.signature is not None:
            values = {name: _line(name, t, scope) for name, t in method.signature.values.items()}
            signer = Signer(method.signature.algorithm, values)
        body = InBody(render_tree(method.body.values, scope), method.body.field) if method.body is not None else None
    except Unresolved as e:
        raise errors.Unprocessable(f"the account lacks a value that its connector needs: {e}") from None
    return Injection(base_url, headers, query, signer, body, identity_of(method, scope))


def identity_of(method: AuthMethod, scope: Mapping[str, Any]) -> ClientIdentity | None:
    """The client certificate of an account, where its method has one. Raises Unprocessable for a missing value."""
    if method.mtls is None:
        return None
    try:
        return client_identity(*(template.render(scope) for template in method.mtls))
    except Unresolved as e:
        raise errors.Unprocessable(f"the account lacks a value that its connector needs: {e}") from None


def client_identity(certificate: str, private_key: str) -> ClientIdentity:
    """A client certificate and its key, each as PEM or as the base64 of PEM. What is neither fails when it is used."""
    return ClientIdentity(_pem(certificate), _pem(private_key))


def _pem(text: str) -> str:
    if "-----BEGIN" in text:
        return text
    with contextlib.suppress(ValueError):
        decoded = base64.b64decode("".join(text.split()), validate=True).decode("ascii")
        return decoded if "-----BEGIN" in decoded else text
    return text


def _named(name: str, scope: Mapping[str, Any]) -> str:
    """The name of a header; one that the provider told is looked up."""
    return compile_template(name).render(scope) if "${" in name else name


def _line(name: str, template: Template, scope: Mapping[str, Any]) -> str:
    """A value of a signature; an optional one that is missing is empty."""
    value = template.value(scope)
    text = "" if value is UNDEFINED or value is None else str(value)
    _header(name, text)
    return text


@lru_cache(maxsize=1024)
def _raw_name(name: str) -> bytes:
    return name.lower().encode()


def basic(user: str, password: str) -> str:
    """The Authorization value of HTTP Basic, UTF-8 (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _header(name: str, value: str) -> bytes:
    if "\n" in value or "\r" in value or "\0" in value:
        raise errors.Unprocessable(f"the value for the header {name} holds a line break")
    return value.encode()


def render_map(templates: Mapping[str, Template], scope: Mapping[str, Any]) -> dict[str, str]:
    """Render each value; one that is unresolved is left out."""
    out = {}
    for name, template in templates.items():
        try:
            out[name] = template.render(scope)
        except Unresolved:
            continue
    return out


def render_tree(tree: Any, scope: Mapping[str, Any]) -> Any:
    """Render the string leaves of a YAML tree; values keep their types."""
    if isinstance(tree, Template):
        return tree.value(scope)
    if isinstance(tree, Mapping):
        return {k: render_tree(v, scope) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return [render_tree(v, scope) for v in tree]
    return tree


def default_headers(connector: Connector, scope: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Headers that go with every call unless the caller sets them."""
    return list(render_map(connector.headers, scope).items())


@dataclass(frozen=True, slots=True)
class OwnRequest:
    """A request of a connector's own, as it is sent but for the credential."""

    method: str
    url: str
    headers: list[tuple[str, str]]
    body: bytes | None


def own_request(
    request: RequestTemplate,
    scope: Mapping[str, Any],
    *,
    base_url: str,
    defaults: Sequence[tuple[str, str]] = (),
    query: Sequence[tuple[str, str]] = (),
    into: InBody | None = None,
) -> OwnRequest:
    """Render a connector's own request; a path goes under `base_url`. `defaults` are headers that go with every call.

    `into` puts the credential into its body.

    Raises Unprocessable for a missing value.
    """
    try:
        url = request.url.render(scope)
    except Unresolved as e:
        raise errors.Unprocessable(f"the account lacks a value that its connector needs: {e}") from None
    path, _, own_query = url.partition("?")
    whole_query = "&".join(filter(None, [own_query, urlencode([*render_map(request.query, scope).items(), *query])]))
    if url.startswith(("https://", "http://")):
        target = path + ("?" + whole_query if whole_query else "")
    else:
        target = join_path(base_url, path, whole_query)
    sent = [*defaults, *render_map(request.headers, scope).items()]
    body = render_tree(request.body, scope)
    payload, kind = None, "application/json"
    if request.form is not None:
        payload, kind = urlencode(render_map(request.form, scope)).encode(), "application/x-www-form-urlencoded"
    elif body is not None:
        payload = body.encode() if isinstance(body, str) else orjson.dumps(body)
    if into is not None and into.goes_into(request.method, payload):
        payload, kind = into.put(payload or b"", kind)
    given = {name.lower() for name, _ in sent}
    if payload is not None and "content-type" not in given:
        sent.append(("content-type", kind))
    if "accept" not in given:
        sent.append(("accept", "application/json"))
    return OwnRequest(request.method, target, sent, payload)
