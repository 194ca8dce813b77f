"""The OAuth 2.0 part of a `.s1.yaml` authentication: its endpoints, and how its refresh action asks for tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from mooring.connectors.s1.first_request import Request, first_request
from mooring.connectors.yaml_source import Location

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
_UNUSED: Final = ("additionalTokenFields", "tokenResponse", "tokenRefreshExpiresIn")


def oauth_block(method: Method, given: Mapping[str, Any], at: Location) -> dict[str, Any] | None:
    """Write the native `oauth2` block. None, with a note, without the endpoints that its grant needs."""
    machine = method.raw.get("grantType") == "client_credentials"
    request = _token_action(method)
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
    if (scopes := _scopes(given)) is not None:
        out["scopes"] = scopes
    separator = given.get("scopeDelimiter")
    if isinstance(separator, str) and 0 < len(separator) <= 3:
        out["scope_separator"] = separator
    seconds = str(given.get("tokenExpiresIn", ""))
    if seconds.isdigit():
        out["expires_in"] = int(seconds)
    if request is not None:
        out["client_auth"] = "basic" if request.authorization == "basic" else "post"
        out["token_body"] = "json" if request.sends_json else "form"
    else:
        out["client_auth"] = "post"
    kept = given.get("callbackParams")
    if not machine and isinstance(kept, dict):
        names = {str(key): str(param) for param, key in kept.items() if re.fullmatch(r"[A-Za-z]\w*", str(key))}
        out["callback_keep"] = {key: {"param": param} for key, param in names.items()}
    if given.get("includeBearer") is False:
        out["send"] = "${access_token}"
    for unused in _UNUSED:
        if given.get(unused):
            method.notes.warn((*at, unused), f"`{unused}` has no effect here", on_key=True)
    return {"oauth2": out}


def _token_action(method: Method) -> Request | None:
    """The request of the refresh action. It is not run: our engine sends the same request by its own rules."""
    refresh = method.raw.get("refreshAuthentication")
    if not isinstance(refresh, dict):
        return None
    action = refresh.get("action", refresh)
    if not isinstance(action, dict):
        return None
    at: Location = (*method.at, "refreshAuthentication")
    request = first_request(action, (*at, "action") if "action" in refresh else at)
    steps = action.get("steps")
    if isinstance(steps, list) and len([s for s in steps if first_request({"steps": [s]}, at)]) > 1:
        method.notes.warn(at, "only the first request of the refresh action is looked at; the others are not sent")
    return request


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


def _scopes(given: Mapping[str, Any]) -> list[str] | None:
    raw = given.get("scopes")
    if not raw and isinstance(given.get("authorizationParams"), dict):
        raw = given["authorizationParams"].get("scope")
    if isinstance(raw, str) and not re.search(r"\$\{|\{\{|^\$", raw):
        separator = given.get("scopeDelimiter")
        raw = raw.split(separator) if isinstance(separator, str) and separator.strip() else raw.split()
    if not isinstance(raw, list):
        return None  # the operator gives them, in the auth config
    return list(dict.fromkeys(s.strip() for s in raw if isinstance(s, str) and s.strip()))
