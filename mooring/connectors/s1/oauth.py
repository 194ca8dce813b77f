"""The OAuth 2.0 part of a `.s1.yaml` authentication: its endpoints, and how its refresh action asks for tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from mooring.connectors.s1.expressions import compile_s1
from mooring.connectors.s1.fields import SECRET_NAME
from mooring.connectors.s1.kept import Kept
from mooring.connectors.s1.requests import Request, requests_of
from mooring.connectors.yaml_source import Location
from mooring.protocol.expression_lexer import ExpressionError

if TYPE_CHECKING:
    from mooring.connectors.s1.auth import Method

# What our engine sets itself in the two requests.
_AUTHORIZE: Final = {
    "response_type",
    "client_id",
    "redirect_uri",
    "state",
    "scope",
    "code_challenge",
    "code_challenge_method",
}
_TOKEN: Final = {
    "grant_type",
    "code",
    "redirect_uri",
    "client_id",
    "client_secret",
    "code_verifier",
    "refresh_token",
    "scope",
}
_PLAIN: Final = r"[\w.@+:-]+"  # of a value that a further request finds out, and that is no secret


def oauth_block(method: Method, given: Mapping[str, Any], at: Location) -> dict[str, Any] | None:
    """Write the native `oauth2` block. None, with a note, without the endpoints that its grant needs."""
    machine = method.raw.get("grantType") == "client_credentials"
    request = next(iter(method.requests), None)
    texts = {name: method.text(given.get(name), (*at, name)) for name in ("authorizationUrl", "tokenUrl")}
    action_url = method.text(request.url, request.at) if request is not None and request.url else None
    token_url = texts["tokenUrl"] or action_url
    if token_url is None or not (machine or texts["authorizationUrl"]):
        missing = "tokenUrl" if token_url is None else "authorizationUrl"
        method.notes.lenient(at, f"`{missing}` is missing; this method is left out")
        return None
    out: dict[str, Any] = {"grant": "client_credentials" if machine else "authorization_code", "token_url": token_url}
    if not machine:
        out["authorize_url"] = texts["authorizationUrl"]
        out["authorize_params"] = _params(method, given, "authorizationParams", at, _AUTHORIZE)
        if given.get("pkce") is False:
            out["pkce"] = False
    if action_url is not None and action_url != token_url:
        out["refresh_url"] = action_url
    out["token_params"] = _params(method, given, "tokenParams", at, _TOKEN)
    out["token_headers"] = _params(method, given, "customHeaders", at, {"authorization", "content-type"})
    if (scopes := _scopes(given, method.scopes)) is not None:
        out["scopes"] = scopes
    separator = given.get("scopeDelimiter")
    if isinstance(separator, str) and 0 < len(separator) <= 3:
        out["scope_separator"] = separator
    seconds = str(given.get("tokenExpiresIn", ""))
    if seconds.isdigit() or method.kept.expires_in:
        out["expires_in"] = int(seconds) if seconds.isdigit() else method.kept.expires_in
    if request is not None:
        out["client_auth"] = "basic" if request.authorization == "basic" else "post"
        out["token_body"] = "json" if request.sends_json else "form"
    else:
        out["client_auth"] = "post"
    if given.get("includeBearer") is False:
        out["send"] = "${access_token}"
    _answers(method, given, at, out)
    if given.get("tokenRefreshExpiresIn"):
        problem = "`tokenRefreshExpiresIn` has no effect here: a refresh token ends when the provider says so"
        method.notes.warn((*at, "tokenRefreshExpiresIn"), problem, on_key=True)
    return {"oauth2": out}


def _answers(method: Method, given: Mapping[str, Any], at: Location, out: dict[str, Any]) -> None:
    """Write where the tokens are in the answer, and what is stored beside them."""
    kept = method.kept
    for path, name in ((kept.access_token, "access_token"), (kept.refresh_token, "refresh_token")):
        if path is not None:
            out["token_path" if name == "access_token" else "refresh_token_path"] = list(dict.fromkeys((path, name)))
    tokens = given.get("tokenResponse")
    kinds = tokens.get("acceptTokenTypes") if isinstance(tokens, dict) else None
    if isinstance(kinds, list):
        out["token_types"] = [str(kind) for kind in kinds]
    out["keep"] = {method.names[name]: entry for name, entry in kept.of_answer.items()}
    if out["grant"] == "authorization_code":
        out["callback_keep"] = {method.names[name]: entry for name, entry in kept.of_callback.items()}
    if kept.request is not None and (then := _then(method, kept, kept.request, given)) is not None:
        out["then"] = then
    for more in method.requests[1:]:
        if more is not kept.request:
            method.notes.warn(more.at, "this request of the refresh action has no effect here")
    for where, problem in kept.unread:
        method.notes.lenient(where, f"{problem}; it is left out")


def _then(method: Method, kept: Kept, request: Request, given: Mapping[str, Any]) -> dict[str, Any] | None:
    """The request of the refresh action whose answer holds more credentials."""
    own = request.own if request.own is not None else {**given, "type": "oauth2"}
    base = request.base_url if request.base_url is not None else str(method.notes.bundle.data.get("baseUrl") or "")
    url = method.text(base + request.path, request.at)
    if url is None or own.get("type") not in ("bearer", "oauth2"):
        method.notes.lenient(request.at, "this request of the refresh action is not understood; it is not sent")
        for name in list(kept.of_request):
            kept.drop(name)
        return None
    token = method.text(own.get("token"), request.at) or "${access_token}"
    headers = {"Authorization": token if own.get("includeBearer") is False else f"Bearer {token}"}
    out: dict[str, Any] = {request.method: url, "headers": headers, "keep": {}}
    places = {"query": "query", "headers": "headers", "header": "headers"}
    places["body"] = "body" if request.sends_json or request.method != "post" else "form"
    for arg in request.args:
        place, value = places.get(str(arg.get("in"))), method.text(arg.get("value"), request.at)
        if place is not None and value is not None and isinstance(arg.get("name"), str):
            out.setdefault(place, {})[arg["name"]] = value
    for name, entry in kept.of_request.items():
        if "value" in entry:
            key = f".{request.data_key.removeprefix('$').strip('.')}" if request.data_key else ""
            expression = re.sub(r"\banswer\b", f"response.body{key}", entry["value"])
            entry["value"] = method.text("{{" + expression + "}}", request.at, seen="response")
            if entry["value"] is None:
                continue
        if not SECRET_NAME.search(name):
            entry.setdefault("pattern", _PLAIN)
        out["keep"][method.names[name]] = entry
    return out if out["keep"] else None


def token_requests(raw: Mapping[str, Any], at: Location) -> list[Request]:
    """The requests of the refresh action. It is not run: our engine sends the same ones by its own rules."""
    refresh = raw.get("refreshAuthentication")
    action = refresh.get("action", refresh) if isinstance(refresh, dict) else None
    if not isinstance(refresh, dict) or not isinstance(action, dict):
        return []
    here: Location = (*at, "refreshAuthentication")
    return list(requests_of(action, (*here, "action") if "action" in refresh else here))


def _params(method: Method, given: Mapping[str, Any], name: str, at: Location, ours: set[str]) -> dict[str, str]:
    raw = given.get(name)
    out: dict[str, str] = {}
    for key, value in raw.items() if isinstance(raw, dict) else ():
        if str(key).lower() in ours:
            continue
        text = method.text(value, (*at, name, key))
        if text is not None:
            out[str(key)] = text
    return out


def _scopes(given: Mapping[str, Any], preset: str) -> list[str] | None:
    """The scopes that are asked for unless an auth config says else: those that an expression has without credentials."""
    raw = given.get("scopes")
    if not raw and isinstance(given.get("authorizationParams"), dict):
        raw = given["authorizationParams"].get("scope")
    if isinstance(raw, str) and re.search(r"\$\{|\{\{|^\$", raw):
        known = {"credentials": {"scopes": preset} if preset else {}}
        try:
            raw = compile_s1(raw, strict=False).evaluate(known)
        except ExpressionError:
            raw = None
    if not raw or not isinstance(raw, str | list):
        raw = preset
    if isinstance(raw, str):
        separator = given.get("scopeDelimiter")
        raw = raw.split(separator) if isinstance(separator, str) and separator.strip() else raw.split()
    if not raw:
        return None  # the operator gives them, in the auth config
    return list(dict.fromkeys(s.strip() for s in raw if isinstance(s, str) and s.strip()))
