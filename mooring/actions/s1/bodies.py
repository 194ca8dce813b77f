"""Queries, XML and SOAP as the format knows them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
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
_NAME: Final = re.compile(r"[A-Za-z_][\w.-]*(?::[A-Za-z_][\w.-]*)?")


def query(name: str, value: Any, style: str | None) -> list[tuple[str, str]]:
    """One parameter of a query; a list in the style that is asked for, repeated without one."""
    if not isinstance(value, list):
        return [(name, text(value))]
    if style == "comma":
        return [(name, ",".join(map(text, value)))]
    if style == "stringify":
        return [(name, orjson.dumps(value).decode())]
    return [(f"{name}[]" if style == "brackets" else name, text(item)) for item in value]


def to_xml(value: Any) -> bytes:
    """An object as XML; `@_name` is an attribute. Raises Unprocessable for what has no single root."""
    import xmltodict

    if not isinstance(value, Mapping) or len(value) != 1:
        raise errors.Unprocessable("a body of XML is an object with one key, its root element")
    _check_names(value)
    return xmltodict.unparse(value, attr_prefix="@_", full_document=True).encode()


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
    return found


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
        bare = prefix is not None and ":" not in name and not name.startswith(("@_", "#"))
        out[f"{prefix}:{name}" if bare else name] = _prefixed(item, prefix)
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
