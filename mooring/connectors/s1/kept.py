"""What a `.s1.yaml` authentication stores beside the two tokens, and where in the answers it finds all of them.

Files say it in four places: `additionalTokenFields` and `tokenResponse` read the token answer, `callbackParams` the
callback, and the refresh action ends with a result whose further keys are credentials too. Such a key may come from a
second request, which the native format calls `then`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mooring.connectors.s1.requests import Request
from mooring.connectors.yaml_source import Location

_TOKENS: Final = {
    "accessToken",
    "refreshToken",
    "idToken",
    "expiresIn",
    "refreshExpiresIn",
    "tokenType",
    "scope",
    "scopes",
}
_STEP: Final = re.compile(r"\bsteps(?:\.([\w-]+)|\[\s*['\"]([^'\"]+)['\"]\s*\])\.output\.(?:data|raw)\b")
_PART: Final = re.compile(r"\.?([A-Za-z_@][\w@-]*)|\[(\d+)\]|\.?\[\s*['\"]([^'\"\].]+)['\"]\s*\]")
_NAME: Final = re.compile(r"[A-Za-z_]\w*")


@dataclass(slots=True)
class Kept:
    """What is stored, by the file's name for it: entries of the native `keep`, `then.keep` and `callback_keep`."""

    of_answer: dict[str, dict[str, Any]] = field(default_factory=dict)
    of_request: dict[str, dict[str, Any]] = field(default_factory=dict)  # `value` is an expression of the file still
    of_callback: dict[str, dict[str, Any]] = field(default_factory=dict)
    request: Request | None = None  # whose answer `of_request` reads
    access_token: str | None = None  # dotted paths in the token answer
    refresh_token: str | None = None
    expires_in: int | None = None
    unread: list[tuple[Location, str]] = field(default_factory=list)  # what was not understood, and where

    @property
    def entries(self) -> dict[str, dict[str, Any]]:
        """Every entry by the file's name."""
        return {**self.of_callback, **self.of_request, **self.of_answer}

    def drop(self, name: str) -> None:
        """Forget an entry."""
        for entries in (self.of_answer, self.of_request, self.of_callback):
            entries.pop(name, None)


def read_kept(given: Mapping[str, Any], at: Location, refresh: Any, requests: list[Request]) -> Kept:
    """Read what an `authorization` of the type `oauth2` and its refresh action store."""
    kept = Kept()
    if isinstance(refresh, dict) and requests:
        _read_result(kept, refresh, requests, (*at[:-1], "refreshAuthentication"))
    more = given.get("additionalTokenFields")
    for name, expression in more.items() if isinstance(more, dict) else ():
        path = plain_path(_bare(expression)) if isinstance(expression, str) else None
        if path and _NAME.fullmatch(str(name)):
            kept.of_answer[str(name)] = {"path": path}
        else:
            kept.unread.append(((*at, "additionalTokenFields", name), "this is no path into the token answer"))
    tokens = given.get("tokenResponse")
    for name in ("accessToken", "refreshToken"):
        expression = tokens.get(name) if isinstance(tokens, dict) else None
        if expression is None:
            continue
        path = plain_path(_bare(expression)) if isinstance(expression, str) else None
        if not path:
            kept.unread.append(((*at, "tokenResponse", name), "this is no path into the token answer"))
        elif name == "accessToken":
            kept.access_token = path
        else:
            kept.refresh_token = path
    params = given.get("callbackParams")
    for param, name in params.items() if isinstance(params, dict) else ():
        if isinstance(name, str) and _NAME.fullmatch(name):
            kept.of_callback[name] = {"param": str(param)}
    return kept


def _read_result(kept: Kept, refresh: Mapping[str, Any], requests: list[Request], at: Location) -> None:
    """Read the result of the refresh action. Its first request is the one for the token."""
    by_step = {request.step: request for request in requests}
    for name, expression in _result(refresh).items():
        if isinstance(expression, int) or (isinstance(expression, str) and expression.strip().isdecimal()):
            if name == "expiresIn" and int(expression) > 0:
                kept.expires_in = int(expression)
            continue
        found = _STEP.findall(expression) if isinstance(expression, str) else []
        steps = {dotted or quoted for dotted, quoted in found}
        request = by_step.get(next(iter(steps))) if len(steps) == 1 else None
        if request is None or not isinstance(expression, str):
            if name not in _TOKENS:
                kept.unread.append((at, f"it is not understood where `{name[:80]}` comes from"))
            continue
        body = _STEP.sub("answer", _bare(expression))
        path = plain_path(body.removeprefix("answer")) if body.startswith("answer") else None
        if path is not None and (start := plain_path(_bare(request.data_key))):
            path = f"{start}.{path}" if path else start
        if request is requests[0]:
            if name == "accessToken" and path and path != "access_token":
                kept.access_token = path
            elif name == "refreshToken" and path and path != "refresh_token":
                kept.refresh_token = path
            elif name not in _TOKENS and path and _NAME.fullmatch(name):
                kept.of_answer[name] = {"path": path}
        elif name not in _TOKENS and _NAME.fullmatch(name) and kept.request in (None, request):
            kept.request = request
            kept.of_request[name] = {"path": path} if path else {"value": body}


def _result(refresh: Mapping[str, Any]) -> dict[str, Any]:
    """What the refresh action returns, by the name of the credential. A step that maps fields is looked through."""
    action = refresh.get("action", refresh)
    if not isinstance(action, dict):
        return {}
    given = action.get("result", refresh.get("result"))
    if isinstance(given, dict) and "data" in given:
        given = given["data"]
    if isinstance(given, dict):
        return {str(name): value for name, value in given.items()}
    found = _STEP.fullmatch(_bare(given)) if isinstance(given, str) else None
    wanted = found[1] or found[2] if found is not None else None
    steps = action.get("steps")
    for step in steps if isinstance(steps, list) else ():
        if not isinstance(step, dict) or wanted is None or step.get("stepId") != wanted:
            continue
        function = step.get("stepFunction")
        parameters = function.get("parameters") if isinstance(function, dict) else None
        if not isinstance(parameters, dict):
            continue
        if isinstance(parameters.get("values"), dict):
            return {str(name): value for name, value in parameters["values"].items()}
        fields = parameters.get("fields", action.get("fieldConfigs"))
        rows = [row for row in fields if isinstance(row, dict)] if isinstance(fields, list) else []
        source = str(parameters.get("dataSource") or "$")
        return {str(row.get("targetFieldKey")): _of_record(row.get("expression"), source) for row in rows}
    return {}


def _of_record(expression: Any, source: str) -> Any:
    """A field's expression with the record that it reads, where that is the answer to a request."""
    if not isinstance(expression, str) or "steps" in expression or not _STEP.fullmatch(_bare(source)):
        return expression
    path = plain_path(_bare(expression))
    return f"$.{_bare(source)}.{path}" if path else expression


def _bare(expression: str) -> str:
    """An expression without what marks it as one."""
    text = expression.strip()
    if text.startswith("{{") and text.endswith("}}"):
        text = text[2:-2].strip()
    elif text.startswith("${") and text.endswith("}") and "}" not in text[:-1]:
        text = text[2:-1].strip()
    return text.replace("$.", "").removeprefix("$")


def plain_path(text: str) -> str | None:
    """`a.b[0]['c']` as `a.b.0.c`. None when it is more than a path."""
    parts, at = [], 0
    while at < len(text):
        found = _PART.match(text, at)
        if found is None:
            return None
        parts.append(found[1] or found[2] or found[3])
        at = found.end()
    return ".".join(parts)
