"""The HTTP steps of the format: how a request is put together, and what its answer means."""

from __future__ import annotations

import base64
import contextlib
import mimetypes
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final
from urllib.parse import quote, urlencode
from xml.sax.saxutils import escape

import orjson

from mooring import errors
from mooring.actions.bodies import Part, decoded, flat, form, multipart, text
from mooring.actions.s1 import bodies
from mooring.actions.s1.authorization import authorized
from mooring.actions.s1.values import fill, holds, read
from mooring.connectors.apply import Injection
from mooring.connectors.s1.expressions import Placeholder, S1Expression
from mooring.connectors.s1.fields import field_name
from mooring.connectors.s1.program import Arg, HttpStep, Program
from mooring.kit import clock, ids
from mooring.protocol import saml
from mooring.protocol.expression_values import truthy
from mooring.protocol.expressions import UNDEFINED, ExpressionError
from mooring.protocol.headers import raw
from mooring.protocol.urls import origin_of
from mooring.proxy.reading import Whole
from mooring.proxy.service import Late

_XML: Final = re.compile(r"\b(?:application|text)/(?:[\w.+-]*\+)?xml\b", re.IGNORECASE)
_CREDENTIAL: Final = re.compile(r"\s*(?:credentials|context)\b")
_PLATFORM: Final = {
    "accessToken": "access_token",
    "refreshToken": "refresh_token",
    "idToken": "id_token",
    "clientId": "client_id",
    "clientSecret": "client_secret",
}


class Credentials(Mapping[str, Any]):
    """A credential under the names that the file uses."""

    def __init__(self, scope: Mapping[str, Any], *, oauth: bool) -> None:
        self._scope = scope
        self._oauth = oauth

    def __getitem__(self, key: str) -> Any:
        ours = _PLATFORM.get(key, key) if self._oauth else key
        for name in (ours, field_name(key, oauth=self._oauth), key):
            if name in self._scope:
                return self._scope[name]
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._scope)

    def __len__(self) -> int:
        return len(self._scope)


@dataclass(slots=True)
class Page:
    """What a paginated step adds to its request: one parameter."""

    name: str
    place: str
    value: Any


@dataclass(slots=True)
class Output:
    """What a step gives to those after it: `steps.<id>.output`."""

    data: Any = None
    raw: Any = None
    status: int | None = None
    message: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    whole: Whole | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    def scope(self) -> dict[str, Any]:
        """As expressions see it."""
        return {
            "data": self.data,
            "raw": self.raw,
            "statusCode": self.status,
            "message": self.message,
            "headers": dict(self.headers),
            **self.more,
        }


def writer(
    step: HttpStep, program: Program, scope: Mapping[str, Any], oauth: bool, page: Page | None, sent: list[str]
) -> Callable[[Mapping[str, Any], Injection], Late]:
    """The request of a step, written as soon as the credential is open: after a renewal, it is written again.

    Its address is added to `sent`.
    """

    def write(credential: Mapping[str, Any], injection: Injection) -> Late:
        seen = {**scope, "credentials": Credentials(credential, oauth=oauth)}
        try:
            late = _Writer(step, program, seen, injection, page).late()
        except ExpressionError as e:
            raise errors.ProviderError(f"an expression of the action can't be worked out: {e}") from None
        sent.append(late.url)
        return late

    return write


class _Writer:
    def __init__(
        self, step: HttpStep, program: Program, scope: Mapping[str, Any], injection: Injection, page: Page | None
    ) -> None:
        self._step = step
        self._strict = program.strict
        self._scope = scope
        self._injection = injection
        self._page = page
        self._query: bodies.Query = {}
        self._headers: dict[str, tuple[str, str]] = {}  # by lower-case name
        self._body: list[tuple[str, Any]] = []
        self._whole: Any = UNDEFINED  # a body that is given in one piece

    def late(self) -> Late:
        for arg in self._step.args:
            if holds(arg.condition, self._scope, strict=self._strict):
                self._take(arg)
        if self._step.saml is not None:
            self._assert(self._step.saml)
        if self._page is not None and self._page.value is not None:
            self._turn(self._page)
        url = self._url()
        body = self._payload()
        injection = authorized(self._step, self._scope, self._injection)
        address, _, inline = url.partition("?")
        if self._step.raw_query:
            own = "&".join(
                f"{quote(n, safe='[]$')}={quote(v, safe=_QUERY_SAFE)}" for n, v in bodies.pairs_of(self._query)
            )
        else:
            own = urlencode(bodies.pairs_of(self._query), quote_via=quote, safe="")
        injection = self._with_own(injection)
        sent = raw([(name, value) for name, value in self._headers.values()])
        return Late(address, "&".join(filter(None, [inline, own])), sent, body, injection)

    def _with_own(self, injection: Injection) -> Injection:
        """The request with headers of the file that no caller could send. What is the credential stays as it is."""
        taken = {name for name, _ in injection.headers}
        own = []
        for name in ("authorization", "cookie"):
            found = self._headers.pop(name, None)
            if found is not None and name.encode() not in taken and injection.signature is None:
                own += raw([found])
        return replace(injection, headers=[*injection.headers, *own]) if own else injection

    def _assert(self, given: Mapping[str, Any]) -> None:
        """Put a signed assertion into the body. What its definition leaves out is what SAP SuccessFactors wants."""
        values = {name: fill(value, self._scope) for name, value in given.items()}
        told = {name: str(value) for name, value in values.items() if value is not UNDEFINED and value is not None}
        issuer = told.get("issuer") or "www.successfactors.com"
        lifetime = told.get("lifetime", "")
        try:
            signed = saml.assertion(
                issuer=issuer,
                subject=told.get("nameId", ""),
                audience=told.get("audience") or issuer,
                recipient=told.get("tokenEndpoint", ""),
                private_key=pem_of(told.get("key", "")),
                id=f"_{ids.random_uuid()}",
                now=clock.now(),
                lifetime=timedelta(seconds=int(lifetime) if lifetime.isdigit() else 600),
                attributes={"api_key": told["clientId"]} if told.get("clientId") else None,
                name_format=told.get("nameIdentifierFormat") or saml.UNSPECIFIED,
                certificate=told.get("cert"),
            )
        except ValueError as e:
            raise errors.Unprocessable(f"the SAML assertion can't be made: {e}") from None
        self._body.append((told["objectKey"], base64.b64encode(signed).decode()))

    def _take(self, arg: Arg) -> None:
        value = fill(arg.value, self._scope)
        if value is UNDEFINED and arg.place != "body" and self._strict:
            value = "undefined"
        if value is UNDEFINED or (value is None and arg.place != "body" and not self._strict):
            return
        name = fill(arg.name, self._scope)
        name = "" if name is UNDEFINED or name is None else str(name)
        if arg.place == "query":
            bodies.add(self._query, name, value, arg.array_format)
        elif arg.place == "headers":
            self._headers[name.lower()] = (name, text(value))
        elif (arg.inline and isinstance(value, str)) or (arg.spread and isinstance(value, list)):
            self._whole = value
        elif arg.spread:
            self._body += value.items() if isinstance(value, dict) else ()
        else:
            self._body.append((name, value))

    def _turn(self, page: Page) -> None:
        items = page.value.items() if isinstance(page.value, dict) and page.place == "query" else None
        for name, value in (
            [(f"{page.name}[{k}]", v) for k, v in items] if items is not None else [(page.name, page.value)]
        ):
            if page.place == "body":
                self._body = [(n, v) for n, v in self._body if n != name] + [(name, value)]
            else:
                self._query.pop(name, None)
                bodies.add(self._query, name, text(value), None)

    def _url(self) -> str:
        """Base URL and path, put together as they stand; what callers give is percent-encoded whole."""
        path = self._address(self._step.url)
        if self._step.base is None:
            base = self._injection.base_url
            if path.startswith(("https://", "http://")):
                return path
            if path and not path.startswith(("/", "?")) and not base.endswith("/"):
                base += "/"
            return (base.rstrip("/") if path.startswith("/") else base) + path
        base = self._address(self._step.base)
        return (base.rstrip("/") if path.startswith("/") else base) + path

    def _guard_host(self, expression: S1Expression, value: str) -> None:
        """An address that is a caller's or an answer's value stays on the account's own host (rule P1)."""
        names = {root for root, _ in expression.references}
        own = names <= {"credentials", "context"} and bool(names)
        if not own and "://" in value.partition("?")[0] and origin_of(value) != origin_of(self._injection.base_url):
            raise errors.BadRequest(
                "the address that the action was given is on another host than the account's own",
                code="InvalidUrlError",
                hint="The credential of an account is sent to its own host only.",
            )

    def _address(self, expression: S1Expression) -> str:
        if not expression.parts:
            value = expression.safe(self._scope)
            if value is UNDEFINED or value is None:
                raise errors.Unprocessable(f"the address needs a value that is not there: {expression.source[:120]}")
            if not expression.is_constant:
                self._guard_host(expression, str(value))
            return quote(str(value), safe=_ADDRESS_SAFE)
        out = []
        for part in expression.parts:
            if isinstance(part, str):
                out.append(quote(part, safe=_ADDRESS_SAFE))
                continue
            value = part.run(self._scope)
            if value is UNDEFINED or value is None:
                raise errors.Unprocessable(f"the address needs a value that is not there: {part.source[:120]}")
            out.append(text(value) if _is_own(part) else quote(text(value), safe=""))
        return "".join(out)

    def _payload(self) -> bytes | None:
        step = self._step
        if step.soap is not None:
            return self._soap()
        if step.upload is not None:
            return self._upload()
        content = self._whole if self._whole is not UNDEFINED else _merged(self._body)
        if content is None or content in ({}, ""):
            return None
        kind = self._headers.get("content-type", ("", ""))[1].lower()
        if isinstance(content, str):
            return content.encode()
        if "x-www-form-urlencoded" in kind:
            return form(content)
        if kind.startswith("multipart/form-data"):
            body, whole = multipart([Part(name, item.encode()) for name, item in flat(content)])
            self._headers["content-type"] = ("content-type", whole)
            return body
        if _XML.search(kind):
            return bodies.to_xml(content)
        self._headers.setdefault("content-type", ("content-type", "application/json"))
        return orjson.dumps(content)

    def _soap(self) -> bytes:
        soap = self._step.soap
        assert soap is not None
        content = self._whole if self._whole is not UNDEFINED else _merged(self._body)
        given = self._scope["credentials"]
        user, password = (given.get(name) for name in ("username", "password"))
        self._headers.setdefault("content-type", ("content-type", "text/xml; charset=utf-8"))
        action = fill(soap.action, self._scope) if soap.action is not None else None
        if isinstance(action, str):
            self._headers.setdefault("soapaction", ("SOAPAction", action if action.startswith('"') else f'"{action}"'))
        if soap.envelope is not None:
            return self._own_envelope(soap.envelope)
        spaces = tuple((text(prefix), text(uri)) for prefix, uri in fill([*map(list, soap.namespaces)], self._scope))
        return bodies.envelope(replace(soap, namespaces=spaces), content, user, password)

    def _own_envelope(self, own: Any) -> bytes:
        """The envelope that the file writes. Values in its text can't become elements."""
        page = self._page.value if self._page is not None else None
        scope = {**self._scope, "pageIterator": "" if page is None else page}
        if not isinstance(own, S1Expression):
            return bodies.to_xml(fill(own, scope))
        out = []
        for part in own.parts or (own.safe(scope),):
            value = part.run(scope) if isinstance(part, Placeholder) else part
            if value is UNDEFINED or value is None:
                source = part.source if isinstance(part, Placeholder) else own.source
                raise errors.Unprocessable(f"the envelope needs a value that is not there: {source[:120]}")
            out.append(escape(text(value)) if isinstance(part, Placeholder) else str(value))
        whole = "".join(out).strip().encode()
        if bodies.from_xml(whole) is None:
            raise errors.Unprocessable("the envelope that the action writes is no XML")
        return whole

    def _upload(self) -> bytes:
        upload = self._step.upload
        assert upload is not None
        content = decoded(fill(upload.content, self._scope))
        name, filename = (fill(v, self._scope) for v in (upload.field_name, upload.filename))
        kind = self._type(upload.content_type) or (mimetypes.guess_type(str(filename))[0] if filename else None)
        kind = kind or "application/octet-stream"
        if upload.field_name is None:
            self._headers["content-type"] = ("content-type", kind)
            return content
        parts: list[Part] = []
        for key, value, condition, written in upload.more:
            found = fill(value, self._scope)
            if holds(condition, self._scope, strict=self._strict) and found is not UNDEFINED and found is not None:
                own = self._type(written)
                parts.append(Part(str(fill(key, self._scope)), text(found).encode(), None, own))
        parts.append(Part(str(name), content, str(filename) if filename else "file", kind))
        body, whole = multipart(parts)
        self._headers["content-type"] = ("content-type", whole)
        return body

    def _type(self, written: Any) -> str | None:
        found = fill(written, self._scope)
        return re.sub(r"[\r\n]", " ", found) if isinstance(found, str) and found else None


_ADDRESS_SAFE: Final = "!#$%&'()*+,/:;=?@[]~"
_QUERY_SAFE: Final = "!$&'()*+,;:@/?-._~[]"


def pem_of(key: str) -> str:
    """A key as PEM; some files keep its base64 alone."""
    if "-----BEGIN" in key:
        return key
    with contextlib.suppress(ValueError):  # the file that SAP SuccessFactors gives: base64 of `key###more`
        inner, mark, _ = base64.b64decode("".join(key.split()), validate=True).decode("ascii").partition("###")
        key = inner if mark else key
    return f"-----BEGIN PRIVATE KEY-----\n{key.strip()}\n-----END PRIVATE KEY-----\n"


def _is_own(part: Placeholder) -> bool:
    """Whether a placeholder is the account's own value, which may hold a whole host or path."""
    return _CREDENTIAL.match(part.source.removeprefix("$.")) is not None


def _merged(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any] | None:
    """Body arguments in one object: of a name that is repeated, objects are merged and lists put together."""
    out: dict[str, Any] = {}
    for name, value in pairs:
        before = out.get(name)
        if isinstance(before, dict) and isinstance(value, dict):
            out[name] = {**before, **value}
        elif isinstance(before, list):
            out[name] = [*before, *(value if isinstance(value, list) else [value])]
        else:
            out[name] = value
    return out or None


def understood(step: HttpStep, whole: Whole, scope: Mapping[str, Any]) -> Output:
    """The output of an HTTP step whose answer is no refusal. One page of several is not indexed."""
    content, fault = content_of(step, whole)
    data = read(content, step.response.data, scope)
    if step.paging is None:
        data = indexed(step, data)
    elif step.soap is not None and not isinstance(data, list):
        data = [data] if truthy(data) else []  # XML has no lists: one record stands alone
    return Output(data, content, whole.status, fault, whole.headers, whole)


def content_of(step: HttpStep, whole: Whole) -> tuple[Any, str | None]:
    """What an answer holds, read by its type, and the words of a SOAP fault."""
    content = whole.data
    if _XML.search(whole.headers.get("content-type", "")) or step.soap is not None:
        parsed = bodies.from_xml(whole.body)
        content = parsed if parsed is not None else content
    elif isinstance(content, str):
        content = _json_in(content)
    return bodies.unwrapped(content) if step.soap is not None else (content, None)


def indexed(step: HttpStep, data: Any, *, gathered: bool = False) -> Any:
    """Records by their `indexField`: those of a list with `collection` or of several pages, an object alone without."""
    name, collection = step.response.index_field, step.response.collection
    if name is not None and isinstance(data, list) and (collection or gathered):
        return {text(item[name]): item for item in data if isinstance(item, dict) and truthy(item.get(name))}
    if name is not None and isinstance(data, dict) and not collection and truthy(data.get(name)):
        return {text(data[name]): data}
    return data


def _json_in(content: str) -> Any:
    """JSON that was sent under another type, as many servers do."""
    try:
        return orjson.loads(content.lstrip("\ufeff"))
    except orjson.JSONDecodeError:
        return content


def turned(step: HttpStep, whole: Whole, program: Program, scope: Mapping[str, Any]) -> tuple[int, str | None] | None:
    """The status and the words that the step's own error rules give an answer, or None without one that holds."""
    for rule in step.errors:
        if rule.received != whole.status:
            continue
        told = {"data": content_of(step, whole)[0], "status": whole.status, "headers": dict(whole.headers)}
        seen = {**scope, **told, "response": told}
        try:
            if not holds(rule.condition, seen, strict=program.strict):
                continue
        except ExpressionError:
            continue
        words = rule.message.safe(seen) if rule.message is not None else None
        return rule.target, str(words) if words is not UNDEFINED and words is not None else None
    return None


def next_token(step: HttpStep, output: Output, scope: Mapping[str, Any]) -> Any:
    """What the answer says of the page after it; None at the end."""
    rule = step.response
    if rule.next is None:
        return None
    if rule.next_in_headers:
        found: Any = output.headers.get(rule.next.removeprefix("$.").lower())
    else:
        found = read(output.raw, rule.next, scope)
    if found is UNDEFINED or found is None or isinstance(found, bool) or found == "":
        return None
    return found if isinstance(found, str | int | dict) else text(found)
