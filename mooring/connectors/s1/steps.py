"""The step functions of `.s1.yaml` files, each with its parameters compiled."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from mooring.connectors.s1.expressions import S1Expression, compile_s1
from mooring.connectors.s1.notes import Notes
from mooring.connectors.s1.program import (
    COUNTRY_MATCHER,
    PLACE_MATCHERS,
    Arg,
    CustomError,
    DataStep,
    HttpStep,
    MappedField,
    PageRule,
    ResponseRule,
    Soap,
    Upload,
)
from mooring.connectors.s1.requests import certificate_pair
from mooring.connectors.s1.signing import Unsignable, sign_block
from mooring.connectors.yaml_source import Location

UNSUPPORTED: Final[Mapping[str, str]] = {
    "mcp_request": "calls another MCP server, which a linked account has no credential for",
    "code_execution_lambda": "runs code at a cloud vendor; Mooring runs none",
    "browser_use": "drives a browser; Mooring has none",
}
METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"})
_PLACES: Final = {"query": "query", "body": "body", "headers": "headers", "header": "headers"}
_TYPES: Final = frozenset({"string", "number", "boolean", "datetime_string", "enum", "object"})
_INPUT: Final = re.compile(r"\binputs(?:\.|\[['\"]?)([A-Za-z_]\w*)")
# What stands before the path in the text of an address: its host may not be of a caller's choosing.
_AUTHORITY: Final = re.compile(r"\s*(?:https?://)?[^/?#]*")
_CALLERS: Final = re.compile(r"\b(?:inputs|steps|iterator)\b")
_MAX_DEPTH: Final = 30


class CannotRun(Exception):
    """Why an action can't run here."""


class Compiler:
    """Compiles the texts of one action; collects the inputs that they use."""

    def __init__(self, notes: Notes, action: Mapping[str, Any], at: Location) -> None:
        self.notes = notes
        self.action = action
        self.at = at
        self.inputs_used: set[str] = set()

    def expression(self, value: Any, at: Location) -> S1Expression | None:
        """Compile a text; None for what is no text."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            return None
        compiled = compile_s1(value, strict=self.notes.strict)
        if compiled.fault is not None:
            self.notes.warn(at, f"the expression has no value: {compiled.fault}")
        for leniency in compiled.leniencies:
            self.notes.lenient(at, leniency)
        self.inputs_used |= set() if compiled.is_constant else set(_INPUT.findall(value))
        return compiled

    def tree(self, value: Any, at: Location, depth: int = 0) -> Any:
        """Compile every text of a tree; one without an expression stays a text."""
        if depth > _MAX_DEPTH:
            raise CannotRun("a parameter is nested too deep")
        if isinstance(value, Mapping):
            return {str(key): self.tree(item, (*at, key), depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [self.tree(item, (*at, index), depth + 1) for index, item in enumerate(value)]
        if isinstance(value, str) and value:
            compiled = self.expression(value, at)
            return value if compiled is None or compiled.is_constant else compiled
        return value


def _http(compiler: Compiler, name: str, raw: Mapping[str, Any], at: Location) -> HttpStep:
    url = raw.get("url", "")
    if not isinstance(url, str):
        raise CannotRun("a request has no `url`")
    base = raw.get("baseUrl")
    for text in (base, url if base is None else None):
        _check_host(text)
    method = str(raw.get("method") or ("post" if name.startswith(("soap", "upload")) else "get")).upper()
    if method not in METHODS:
        raise CannotRun(f"there is no method `{method[:20]}`")
    paginated = name.endswith("paginated_request")
    return HttpStep(
        method=method,
        url=compile_url(compiler, url, (*at, "url")),
        base=compiler.expression(base, (*at, "baseUrl")) if base is not None else None,
        args=tuple(_args(compiler, raw.get("args"), (*at, "args"))),
        authorization=_authorization(compiler, raw.get("authorization"), (*at, "authorization")),
        certificates=_certificates(compiler, raw.get("certificates"), (*at, "certificates")),
        response=_response(raw.get("response")),
        errors=tuple(_custom_errors(compiler, raw.get("customErrors"), (*at, "customErrors"))),
        raw_query=raw.get("encodeQueryParams") is False,
        paging=_paging(compiler, raw.get("iterator"), (*at, "iterator")) if paginated else None,
        soap=_soap(compiler, raw, at) if name.startswith("soap") else None,
        upload=_upload(compiler, name, raw, at) if name.startswith("upload") else None,
        download=_download(raw) if name == "download_file" else None,
        saml=_saml(compiler, raw.get("saml"), (*at, "saml")),
    )


def _authorization(compiler: Compiler, given: Any, at: Location) -> Mapping[str, Any] | None:
    """What a step has instead of the account's own credential. `signing` becomes an algorithm and its values."""
    if not isinstance(given, dict):
        return None
    try:
        signing = sign_block(given["signing"]) if given.get("signing") else None
    except Unsignable as error:
        raise CannotRun(str(error)) from None
    compiled: dict[str, Any] = compiler.tree({k: v for k, v in given.items() if k != "signing"}, at)
    if signing is not None:
        algorithm, values = signing
        return {**compiled, "signing": {"algorithm": algorithm, "values": compiler.tree(values, (*at, "signing"))}}
    return compiled


def _certificates(compiler: Compiler, given: Any, at: Location) -> tuple[Any, Any] | None:
    """The first certificate and the first key; a chain stands in one text."""
    if given is None:
        return None
    pair = certificate_pair(given)
    if pair is None:
        raise CannotRun("its `certificates` need one of `certs` and one of `keys`")
    return compiler.tree(pair[0], (*at, "certs", 0)), compiler.tree(pair[1], (*at, "keys", 0))


def _saml(compiler: Compiler, given: Any, at: Location) -> Mapping[str, Any] | None:
    """A signed assertion that goes into the body (`saml`)."""
    if given is None:
        return None
    if not isinstance(given, dict) or not isinstance(given.get("key"), str) or not given.get("objectKey"):
        raise CannotRun("its `saml` lacks `key` or `objectKey`")
    compiled: Mapping[str, Any] = compiler.tree(given, at)
    return compiled


def compile_url(compiler: Compiler, url: str, at: Location) -> S1Expression:
    """An address; an empty one stands for the base URL itself."""
    compiled = compiler.expression(url, at) if url.strip() else None
    return compiled or compile_s1("{{ '' }}", strict=False)


def _check_host(text: Any) -> None:
    """Refuse an address whose host a caller or a provider's answer could choose: the credential would follow."""
    if not isinstance(text, str) or not re.match(r"\s*(?:https?:|\$|\{\{)", text):
        return
    if text.lstrip().startswith(("$.", "{{")):
        return  # judged when it is sent: it has to stay on the account's own host
    found = _AUTHORITY.match(text)
    if found is not None and _CALLERS.search(found[0]):
        raise CannotRun("its address begins with a value that callers choose")


def _args(compiler: Compiler, given: Any, at: Location) -> list[Arg]:
    out = []
    for index, raw in enumerate(given if isinstance(given, list) else []):
        here: Location = (*at, index)
        if not isinstance(raw, dict) or ("name" not in raw and not raw.get("inline") and not raw.get("spread")):
            compiler.notes.lenient(here, "an argument has a `name`; this one is left out")
            continue
        place = _PLACES.get(str(raw.get("in") or "query"))
        if place is None:
            compiler.notes.lenient(here, f"`in: {raw.get('in')}` is no place of an argument; it is left out")
            continue
        condition = raw.get("condition")
        style = raw.get("arrayFormat")
        out.append(
            Arg(
                name=compiler.tree(raw.get("name", ""), (*here, "name")),
                value=compiler.tree(raw.get("value"), (*here, "value")),
                place=place,  # type: ignore[arg-type]  # one of the values above
                condition=compiler.expression(condition, (*here, "condition")) if condition not in (None, "") else None,
                spread=raw.get("spread") is True,
                inline=raw.get("inline") is True,
                array_format=style if style in {"repeat", "brackets", "comma", "stringify"} else None,
            )
        )
    return out


def _response(given: Any) -> ResponseRule:
    if not isinstance(given, dict):
        return ResponseRule()

    def text(name: str) -> str | None:
        value = given.get(name)
        return value if isinstance(value, str) and value else None

    return ResponseRule(
        data=text("dataKey"),
        index_field=text("indexField"),
        collection=given.get("collection") in (True, "true"),
        next=text("nextKey"),
        next_in_headers=given.get("nextKeyIn") == "headers",
    )


def _custom_errors(compiler: Compiler, given: Any, at: Location) -> list[CustomError]:
    out = []
    for index, raw in enumerate(given if isinstance(given, list) else []):
        here: Location = (*at, index)
        try:
            received, target = int(raw["receivedStatus"]), int(raw["targetStatus"])
        except (KeyError, TypeError, ValueError):
            compiler.notes.lenient(here, "an error rule has `receivedStatus` and `targetStatus`; this one is left out")
            continue
        message, condition = raw.get("message"), raw.get("condition")
        out.append(
            CustomError(
                received,
                target,
                compiler.expression(message, (*here, "message")) if message is not None else None,
                compiler.expression(condition, (*here, "condition")) if condition is not None else None,
            )
        )
    return out


def _paging(compiler: Compiler, given: Any, at: Location) -> PageRule:
    if not isinstance(given, dict) or not isinstance(given.get("key"), str):
        raise CannotRun("a `paginated_request` has no `iterator` with a `key`")
    mode = given.get("mode") or "cursor"
    if mode not in {"cursor", "offset", "page"}:
        raise CannotRun(f"there is no paging mode `{str(mode)[:40]}`")
    condition = given.get("condition")
    return PageRule(
        key=given["key"],
        place="body" if given.get("in") == "body" else "query",
        mode=mode,  # type: ignore[arg-type]  # one of the values above
        start=int(given.get("startPage", 1)),
        most=min(int(given.get("maxPage", 1000)), 10_000),
        condition=compiler.expression(condition, (*at, "condition")) if condition is not None else None,
    )


def _soap(compiler: Compiler, raw: Mapping[str, Any], at: Location) -> Soap:
    operation, own = raw.get("soapOperation"), raw.get("envelope")
    if own is None and not isinstance(operation, str):
        raise CannotRun("a SOAP request has no `soapOperation`")
    spaces = raw.get("namespaces")
    pairs = [
        (compiler.tree(one["namespaceIdentifier"], at), compiler.tree(one["namespace"], at))
        for one in (spaces if isinstance(spaces, list) else [])
        if isinstance(one, dict) and one.get("namespaceIdentifier") and one.get("namespace")
    ]
    action = raw.get("soapAction")
    here: Location = (*at, "envelope")
    return Soap(
        operation if isinstance(operation, str) else "",
        compiler.tree(action, (*at, "soapAction")) if action is not None else None,
        tuple(pairs),
        user_token=raw.get("useSoapContext") is not False,
        envelope=compiler.expression(own, here) if isinstance(own, str) else compiler.tree(own, here),
    )


def _upload(compiler: Compiler, name: str, raw: Mapping[str, Any], at: Location) -> Upload:
    given = raw.get("file" if name == "upload_file" else "binaryContent")
    if not isinstance(given, dict) or "content" not in given:
        raise CannotRun(f"`{name}` has no content")
    tree = compiler.tree(given, at)
    if name == "upload_binary":
        return Upload(tree["content"], tree.get("contentType"))
    more = []
    for index, one in enumerate(raw.get("additionalFields") or []):
        if isinstance(one, dict) and "name" in one:
            here: Location = (*at, "additionalFields", index)
            condition = one.get("condition")
            compiled = compiler.expression(condition, here) if condition not in (None, "") else None
            kind = compiler.tree(one.get("contentType"), here)
            more.append((compiler.tree(one["name"], here), compiler.tree(one.get("value"), here), compiled, kind))
    return Upload(
        tree["content"], tree.get("contentType"), tree.get("fieldName", "file"), tree.get("filename"), tuple(more)
    )


def _download(raw: Mapping[str, Any]) -> dict[str, Any]:
    given = raw.get("response")
    most = raw.get("maxRedirects")
    own = {
        "encoding": str(raw.get("encoding") or "base64"),
        "followRedirects": raw.get("followRedirects") is not False and most != 0,
        "maxRedirects": most if isinstance(most, int) and not isinstance(most, bool) else None,
    }
    return {**(given if isinstance(given, dict) else {}), **own}


def _mapping(compiler: Compiler, name: str, raw: Mapping[str, Any], at: Location) -> DataStep:
    given = raw.get("fields")
    if given is None:
        given, at = compiler.action.get("fieldConfigs"), compiler.at
    if not isinstance(given, list):
        raise CannotRun(f"`{name}` has no `fields`, and the action no `fieldConfigs`")
    external = raw.get("externalSources")
    return DataStep(
        name,
        fields=tuple(fields(compiler, given, (*at, "fields"), name)),
        source=compiler.expression(raw.get("dataSource"), (*at, "dataSource")),
        external=compiler.tree(external, (*at, "externalSources")) if isinstance(external, dict) else {},
    )


def fields(compiler: Compiler, given: Any, at: Location, function: str, depth: int = 0) -> list[MappedField]:
    """The fields of a mapping, nested ones as well."""
    out: list[MappedField] = []
    if depth > _MAX_DEPTH:
        raise CannotRun("the fields are nested too deep")
    for index, raw in enumerate(given if isinstance(given, list) else []):
        here: Location = (*at, index)
        key = raw.get("targetFieldKey") if isinstance(raw, dict) else None
        if not isinstance(key, str) or not key:
            compiler.notes.lenient(here, "a field has a `targetFieldKey`; this one is left out")
            continue
        kind = str(raw.get("type") or "string")
        if kind not in _TYPES:
            compiler.notes.lenient(here, f"there is no type `{kind[:40]}` of a field; it is taken as it comes")
        inner = raw.get("properties")
        if kind == "object" and inner is None and function == "map_fields":
            compiler.notes.lenient(here, f"the object `{key[:80]}` has no `properties`; its expression is used")
        values = raw.get("values")
        several = values if isinstance(values, list) else [values] if values is not None else None
        out.append(
            MappedField(
                key,
                kind,
                compiler.expression(raw.get("expression"), (*here, "expression")),
                tuple(compiler.tree(v, (*here, "values", n)) for n, v in enumerate(several)) if several else None,
                array=raw.get("array") is True,
                custom=raw.get("custom") is True,
                matcher=_matcher(compiler, raw.get("enumMapper"), (*here, "enumMapper")),
                properties=tuple(fields(compiler, inner, (*here, "properties"), function, depth + 1))
                if isinstance(inner, list)
                else None,
            )
        )
    return out


def _matcher(compiler: Compiler, given: Any, at: Location) -> str | tuple[tuple[S1Expression, Any], ...] | None:
    found = given.get("matcher") if isinstance(given, dict) else None
    if isinstance(found, str):
        if not _is_known(found):
            compiler.notes.warn(at, f"there is no matcher `{found[:80]}` here; its values stay unmapped")
        return found
    out = []
    for index, raw in enumerate(found if isinstance(found, list) else []):
        expression = (
            compiler.expression(raw.get("matchExpression"), (*at, "matcher", index)) if isinstance(raw, dict) else None
        )
        if expression is not None:
            out.append((expression, raw.get("value")))
    return tuple(out) if isinstance(found, list) else None


def _is_known(matcher: str) -> bool:
    known = PLACE_MATCHERS | {"document_file_format_from_extension"}
    return matcher in known or COUNTRY_MATCHER.fullmatch(matcher) is not None


def _group(compiler: Compiler, name: str, raw: Mapping[str, Any], at: Location) -> DataStep:
    ids = raw.get("stepsDataToGroup")
    if not isinstance(ids, list):
        raise CannotRun("`group_data` has no `stepsDataToGroup`")
    return DataStep(
        name, parameters={"steps": [str(i) for i in ids], "single": raw.get("isSingleRecord") in (True, "true")}
    )


def _plain(compiler: Compiler, name: str, raw: Mapping[str, Any], at: Location) -> DataStep:
    return DataStep(name, parameters=compiler.tree(raw, at))


FUNCTIONS: Final[Mapping[str, Callable[[Compiler, str, Mapping[str, Any], Location], HttpStep | DataStep]]] = {
    "request": _http,
    "paginated_request": _http,
    "soap_request": _http,
    "soap_paginated_request": _http,
    "upload_file": _http,
    "upload_binary": _http,
    "download_file": _http,
    "map_fields": _mapping,
    "typecast": _mapping,
    "group_data": _group,
    "static_values": _plain,
    "emit_event": _plain,
    "sign_jwt": _plain,
}
