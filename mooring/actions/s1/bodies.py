"""Queries, XML and SOAP as the format knows them. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from xml.parsers.expat import ExpatError

import orjson

from mooring import errors
from mooring.actions.bodies import text
from mooring.connectors.s1.program import Soap
from mooring.protocol.expression_values import to_text

_ENVELOPE: Final = "http://schemas.xmlsoap.org/soap/envelope/"
_SECURITY: Final = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
_PASSWORD: Final = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0#PasswordText"
_NUMBER: Final = re.compile(
    r"[+-]?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d{1,3})?", re.ASCII
)  # no leading zeros: ids have them
_NAME: Final = re.compile(r"[A-Za-z_][\w.-]*(?::[A-Za-z_][\w.-]*)?")


@dataclass(slots=True)
class Parameter:
    """One parameter of a query: a text, or a list of them in a style (`arrayFormat`)."""

    value: str | list[str]
    style: str | None = None


Query = dict[str, Parameter]
_STYLES: Final = (None, "repeat", "brackets", "comma", "stringify")


def add(query: Query, name: str, value: Any, style: str | None) -> None:
    """Add a parameter. One that is given again becomes a list, in the style that was given last."""
    texts: str | list[str] = [text(item) for item in value] if isinstance(value, list) else text(value)
    before = query.get(name)
    if before is not None:
        old, new = (v if isinstance(v, list) else [v] for v in (before.value, texts))
        texts, style = [*old, *new], style or before.style
    query[name] = Parameter(texts, style)


def pairs_of(query: Query) -> list[tuple[str, str]]:
    """The query as it is sent: styles one after the other, as the npm packages `qs` and `@stackone/transport` do."""
    out: list[tuple[str, str]] = []
    for style in _STYLES:
        for name, one in query.items():
            if one.style == style:
                out += _written(name, one.value, style)
    return out


def _written(name: str, value: str | list[str], style: str | None) -> list[tuple[str, str]]:
    if isinstance(value, str):
        if style is None or style == "comma":
            return [(name, value)]
        value = [value]
    if style is None:
        return [(f"{name}[{index}]", item) for index, item in enumerate(value)]
    if style == "stringify":
        return [(name, orjson.dumps(value).decode())]
    if style == "comma":
        return [(name, ",".join(value))] if value else []
    return [(f"{name}[]" if style == "brackets" else name, item) for item in value]


def to_xml(value: Any) -> bytes:
    """An object as XML, without a declaration; `@_name` is an attribute. Raises Unprocessable for what has no root."""
    import xmltodict

    if not isinstance(value, Mapping) or not value:
        raise errors.Unprocessable("a body of XML is an object with its root element")
    _check_names(value)
    return xmltodict.unparse(_texts(value), attr_prefix="@_", full_document=False).encode()


def _texts(value: Any) -> Any:
    """The tree with its leaves as texts; an attribute without a value is none."""
    if isinstance(value, Mapping):
        plain = {k: to_text(v) if str(k).startswith("@_") and isinstance(v, list) else v for k, v in value.items()}
        return {k: _texts(v) for k, v in plain.items() if v is not None or not str(k).startswith("@_")}
    if isinstance(value, list):
        inner = (_texts(item) for item in value)
        return [one for item in inner for one in (item if isinstance(item, list) else [item])]
    return value if value is None or isinstance(value, str) else to_text(value)


def _check_names(value: Any) -> None:
    """A caller's value must not become an element: only names that XML allows are written."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            name = str(key)
            if name != "#text" and not _NAME.fullmatch(name.removeprefix("@_")):
                raise errors.Unprocessable(f"`{name[:60]}` can't be the name of an XML element")
            _check_names(item)
    elif isinstance(value, list):
        for item in value:
            _check_names(item)


def from_xml(raw: bytes) -> Any:
    """XML as objects: attributes begin with `@_`, prefixes stay. None for what is no XML."""
    import xmltodict

    try:
        found: Any = xmltodict.parse(raw, attr_prefix="@_", disable_entities=True)
    except (ValueError, ExpatError):
        return None
    return _typed(found)


def _typed(value: Any) -> Any:
    """The values of elements as the original has them: numbers that lose nothing and booleans; nothing is an empty text."""
    if isinstance(value, Mapping):
        return {key: item if key.startswith("@_") else _typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_typed(item) for item in value]
    if not isinstance(value, str):
        return "" if value is None else value
    if value in ("true", "false"):
        return value == "true"
    return _number(value)


def _number(written: str) -> Any:
    if not _NUMBER.fullmatch(written):
        return written
    try:
        whole = int(written)
    except ValueError:
        found = float(written)
        exact = "e" in written.lower() or (to_text(found) == written.lstrip("+").rstrip("0").rstrip("."))
        return (int(found) if found.is_integer() else found) if exact and math.isfinite(found) else written
    return whole if abs(whole) <= 2**53 else written


def envelope(soap: Soap, body: Any, user: str | None, password: str | None) -> bytes:
    """A SOAP 1.1 envelope around an operation. Unprefixed names get the first namespace."""
    spaces = soap.namespaces or ()
    prefix = spaces[0][0] if spaces else None
    head: dict[str, Any] = {}
    if soap.user_token and user is not None:
        token = {"wsse:Username": user, "wsse:Password": {"@_Type": _PASSWORD, "#text": password or ""}}
        head = {
            "wsse:Security": {"@_soapenv:mustUnderstand": "1", "@_xmlns:wsse": _SECURITY, "wsse:UsernameToken": token}
        }
    content = _prefixed(body if body is not None else {}, prefix)
    operation = soap.operation if ":" in soap.operation or prefix is None else f"{prefix}:{soap.operation}"
    whole: dict[str, Any] = {"@_xmlns:soapenv": _ENVELOPE, **{f"@_xmlns:{name}": uri for name, uri in spaces}}
    whole["soapenv:Header"] = head
    whole["soapenv:Body"] = {operation: content}
    return to_xml({"soapenv:Envelope": whole})


def _prefixed(value: Any, prefix: str | None) -> Any:
    if isinstance(value, list):
        return [_prefixed(item, prefix) for item in value]
    if not isinstance(value, Mapping):
        return value if value is None or isinstance(value, str) else to_text(value)
    out = {}
    for key, item in value.items():
        name = str(key)
        mark = "@_" if name.startswith("@_") else ""
        bare = prefix is not None and ":" not in name and not name.startswith(("@_xmlns", "#"))
        out[f"{mark}{prefix}:{name.removeprefix(mark)}" if bare else name] = _prefixed(item, prefix)
    return out


def unwrapped(data: Any) -> tuple[Any, str | None]:
    """What stands in the Body of a SOAP answer, without prefixes, and the words of a Fault."""
    plain = _unprefixed(data)
    envelope = plain.get("Envelope") if isinstance(plain, Mapping) else None
    body = envelope.get("Body") if isinstance(envelope, Mapping) else None
    if body is None:
        return plain, None
    fault = body.get("Fault") if isinstance(body, Mapping) else None
    if fault is None:
        return body, None
    words = fault.get("faultstring") or fault.get("Reason") if isinstance(fault, Mapping) else None
    return body, words if isinstance(words, str) else "a SOAP fault"


def _unprefixed(value: Any) -> Any:
    if isinstance(value, list):
        return [_unprefixed(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    out = {}
    for key, item in value.items():
        if key.startswith(("@_xmlns:", "@_xmlns")):
            continue
        attribute = key.startswith("@_")
        name = key.removeprefix("@_").rpartition(":")[2]
        out[f"_{name}" if attribute else name] = _unprefixed(item)
    return out
