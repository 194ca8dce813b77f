"""The authentication part of a `.s1.yaml` file, written as auth methods of the native format.

Everything that guards native files, such as the rules of who may choose a host, then holds for these as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mooring.connectors.compile_fields import humanise
from mooring.connectors.s1.fields import PLATFORM, SECRET_NAME, field_name, read_fields
from mooring.connectors.s1.kept import Kept, read_kept
from mooring.connectors.s1.notes import Notes
from mooring.connectors.s1.oauth import oauth_block, token_requests
from mooring.connectors.s1.probe import probe
from mooring.connectors.s1.requests import Request, certificate_pair, requests_of
from mooring.connectors.s1.signing import Unsignable, sign_block
from mooring.connectors.s1.translate import Untranslatable, credentials_in, translate
from mooring.connectors.url_rules import authority, has_fixed_domain, is_host_safe, is_url_safe
from mooring.connectors.yaml_source import Location
from mooring.protocol.expression_lexer import ExpressionError
from mooring.protocol.template import compile_template

HOST_PATTERN: Final = "[A-Za-z0-9.-]+"
URL_PATTERN: Final = r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*"
_KNOWN: Final = frozenset(
    {
        "type",
        "certificates",
        "label",
        "grantType",
        "support",
        "authorization",
        "configFields",
        "setupFields",
        "configNotices",
        "setupNotices",
        "requiredScopes",
        "refreshAuthentication",
        "environments",
        "testActions",
        "testActionsIds",
    }
)


@dataclass(slots=True)
class Method:
    """One entry of `authentication` while it is read."""

    key: str
    raw: Mapping[str, Any]
    at: Location
    notes: Notes
    oauth: bool
    config: dict[str, dict[str, Any]] = field(default_factory=dict)  # what an end user types, by the file's key
    setup: dict[str, dict[str, Any]] = field(default_factory=dict)  # what the operator types
    requests: list[Request] = field(default_factory=list)  # of the refresh action
    kept: Kept = field(default_factory=Kept)  # what answers of the provider leave
    scopes: str = ""  # the preset of a field of that name

    @property
    def names(self) -> dict[str, str]:
        """What each credential of the file is called here."""
        known = {key: field_name(key, oauth=self.oauth) for key in (*self.config, *self.setup, *self.kept.entries)}
        return {**(PLATFORM if self.oauth else {}), **known}

    def text(self, value: Any, at: Location, *, seen: str = "") -> str | None:
        """Translate a text of the file, that may read `seen` as well; None, with a note, when it can't be."""
        if isinstance(value, bool) or not isinstance(value, str | int):
            return None
        try:
            used = compile_template(self._translated(value, seen)).names
            unknown = used & (credentials_in(str(value), self.names) - set(self.names))
            if self.oauth and "scopes" in unknown:
                self.notes.lenient(at, "the scopes are the auth config's; this is left out")
                return None
            for missing in sorted(unknown):
                self.notes.lenient(at, f"`{missing[:80]}` is no field of this method; the end user is asked for it")
                self.config[missing] = {"label": humanise(missing), "secret": SECRET_NAME.search(missing) is not None}
            return self._translated(value, seen)
        except (Untranslatable, ExpressionError) as error:
            self.notes.lenient(at, f"{error}; it is left out")
            return None

    def _translated(self, value: str | int, seen: str) -> str:
        return translate(str(value), self.names, str(self.raw.get("type") or "custom"), seen=seen)


def auth_method(key: str, raw: Mapping[str, Any], at: Location, notes: Notes, base_url: Any) -> dict[str, Any] | None:
    """Write one method for the native format. None, with a note, when there is no way to."""
    for unknown in sorted(set(raw) - _KNOWN):
        notes.warn((*at, unknown), f"`{unknown}` has no effect here", on_key=True)
    given = raw.get("authorization")
    authorization: Mapping[str, Any] = given if isinstance(given, dict) else {"type": "none"}
    kind = str(authorization.get("type") or "none")
    method = Method(key, raw, at, notes, oauth=kind == "oauth2")
    method.config = read_fields(raw.get("configFields"), (*at, "configFields"), notes, oauth=method.oauth)
    method.setup = read_fields(raw.get("setupFields"), (*at, "setupFields"), notes, oauth=method.oauth)
    for twice in sorted(set(method.config) & set(method.setup)):
        notes.lenient((*at, "setupFields"), f"`{twice}` is in both lists of fields; the operator is asked for it")
        del method.config[twice]
    if method.oauth:
        for fields in (method.setup, method.config):
            own = fields.pop("scopes", {})  # auth configs have a setting of that name anyway
            method.scopes = str(own.get("default") or method.scopes)
        method.requests = token_requests(raw, at)
        method.kept = read_kept(
            authorization, (*at, "authorization"), raw.get("refreshAuthentication"), method.requests
        )
        for name in {*method.config, *method.setup} & set(method.kept.entries):
            notes.warn(at, f"`{name}` is a field of this method, so it is not taken from an answer", on_key=True)
            method.kept.drop(name)
    credential = _credential(method, kind, authorization)
    if credential is None:
        return None
    url = method.text(base_url, ("baseUrl",))
    if url is None:
        notes.lenient(at, "there is no `baseUrl` that this method could use", on_key=True)
        return None
    if (identity := _identity(method)) is not None:
        credential = {**credential, "mtls": identity}
    urls = [url, *_addresses(credential)]
    _guard_secret(method, credential)
    _guard_hosts(method, urls)
    out: dict[str, Any] = {
        "label": str(raw.get("label") or key),
        **credential,
        "base_url": url,
        "fields": {field_name(k, oauth=method.oauth): f for k, f in method.config.items()},
        "app_fields": {field_name(k, oauth=method.oauth): f for k, f in method.setup.items()},
    }
    test = probe(method.raw, notes.bundle.data, at, method.text, notes)
    return {**out, "test": test} if test is not None else out


def _credential(method: Method, kind: str, given: Mapping[str, Any]) -> dict[str, Any] | None:
    at = (*method.at, "authorization")
    notes = method.notes
    signing = given.get("signing")
    if signing:
        return _signed(method, signing, (*at, "signing"))
    if kind == "none":
        headers = _shared_headers(method)
        if headers:
            notes.lenient(at, f"the header `{min(headers)}` of every action is the credential; calls get it as well")
            return {"headers": headers}
        return {"none": True}
    if kind == "basic":
        user = method.text(given.get("username", ""), (*at, "username"))
        password = method.text(given.get("password", ""), (*at, "password"))
        return {"basic": {"username": user or "", "password": password or ""}}
    if kind == "bearer":
        token = method.text(given.get("token"), (*at, "token"))
        if token is None:
            notes.lenient(at, "`bearer` needs a `token`; this method is left out")
            return None
        bare = given.get("includeBearer") is False
        return {"header": {"name": "Authorization", "value": token}} if bare else {"bearer": token}
    if kind in ("apiKey", "apikey", "api_key"):
        return _api_key(method, given, at)
    if kind == "oauth2":
        return oauth_block(method, given, at)
    notes.lenient((*at, "type"), f"there is no authorization of the type `{kind}`; this method is left out")
    return None


def _signed(method: Method, given: Any, at: Location) -> dict[str, Any] | None:
    """A signature, with the names that the format gives to its credentials."""
    try:
        algorithm, values = sign_block(given, {*method.config, *method.setup})
    except Unsignable as error:
        method.notes.lenient(at, f"{error}; this method is left out", on_key=True)
        return None
    block = {name: method.text(value, at) if isinstance(value, str) else value for name, value in values.items()}
    return None if None in block.values() else {"sign": {algorithm: block}}


def _api_key(method: Method, given: Mapping[str, Any], at: Location) -> dict[str, Any] | None:
    method.notes.lenient((*at, "type"), "`apiKey` is documented, but no engine has it; it is understood")
    value = method.text(given.get("value"), (*at, "value"))
    name = given.get("key") or given.get("name")
    if value is None or not isinstance(name, str):
        method.notes.lenient(at, "`apiKey` needs `key` and `value`; this method is left out")
        return None
    return {"query" if given.get("in") == "query" else "header": {"name": name, "value": value}}


def _identity(method: Method) -> dict[str, str] | None:
    """The method's own client certificate, that of the token request, which calls show as well, or that of every action."""
    requests = method.requests or [
        request
        for index, action in enumerate(method.notes.bundle.data.get("actions", []))
        if isinstance(action, dict)
        for request in requests_of(action, ("actions", index))
    ]
    pairs = {request.certificates for request in (requests[:1] if method.requests else requests)}
    own = certificate_pair(method.raw.get("certificates"))
    pair = own or (pairs.pop() if len(pairs) == 1 else None)
    texts = [method.text(text, method.at) for text in pair or ()]
    if len(texts) != 2 or texts[0] is None or texts[1] is None:
        return None
    return {"certificate": texts[0], "private_key": texts[1]}


def _shared_headers(method: Method) -> dict[str, str]:
    """The headers with a credential that every action of the file repeats."""
    shared: dict[str, str] | None = None
    for action in method.notes.bundle.data.get("actions", []):
        steps = action.get("steps") if isinstance(action, dict) else None
        found: dict[str, str] = {}
        for step in steps if isinstance(steps, list) else []:
            function = step.get("stepFunction") if isinstance(step, dict) else None
            parameters = function.get("parameters") if isinstance(function, dict) else None
            args = parameters.get("args") if isinstance(parameters, dict) else None
            for arg in args if isinstance(args, list) else []:
                if (
                    isinstance(arg, dict)
                    and arg.get("in") in ("headers", "header")
                    and isinstance(arg.get("name"), str)
                ):
                    value = arg.get("value")
                    if isinstance(value, str) and "credentials" in value:
                        found[arg["name"]] = value
        if steps:
            shared = found if shared is None else {n: v for n, v in shared.items() if found.get(n) == v}
    out = {}
    for name, value in (shared or {}).items():
        text = method.text(value, method.at)
        if text is not None:
            out[name] = text
    return out


def _addresses(credential: Mapping[str, Any]) -> list[str]:
    oauth2 = credential.get("oauth2") or {}
    return [oauth2[name] for name in ("authorize_url", "token_url", "refresh_url") if name in oauth2]


def _guard_secret(method: Method, credential: Mapping[str, Any]) -> None:
    """Ask the operator for what decides where the operator's client secret goes (rule O5)."""
    oauth2 = credential.get("oauth2")
    if oauth2 is None or oauth2.get("grant") == "client_credentials":
        return
    for url in (oauth2.get("token_url"), oauth2.get("refresh_url")):
        for key, name in _host_names(method, url, method.config):
            found = authority(compile_template(str(url)))
            if not has_fixed_domain(found, method.config[key].get("pattern")):
                problem = f"`{name}` decides where the client secret is sent, so the operator is asked for it"
                method.notes.warn((*method.at, "configFields"), problem)
                method.setup[key] = method.config.pop(key)


def _guard_hosts(method: Method, urls: list[str]) -> None:
    """Limit what may be typed into fields, or come in an answer, that decides a host (rule P2)."""
    kept = method.kept.entries
    for url in urls:
        whole = authority(compile_template(url)).whole_url
        safe, pattern = (is_url_safe, URL_PATTERN) if whole else (is_host_safe, HOST_PATTERN)
        for fields, where in ((method.config, "configFields"), (method.setup, "setupFields"), (kept, "authorization")):
            for key, _name in _host_names(method, url, fields):
                given = fields[key].get("pattern")
                if fields[key].get("options") or (given is not None and safe(given)):
                    continue
                fields[key]["pattern"] = pattern
                if fields is not kept:
                    fields[key].setdefault("pattern_error", f"Only what fits {pattern}")
                method.notes.warn((*method.at, where), f"`{key}` decides a host; it must match {pattern}")


def _host_names(method: Method, url: str | None, fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The fields, with their names here, that decide the host of a URL."""
    if url is None:
        return []
    found = authority(compile_template(url))
    used = frozenset[str]().union(*(e.names for e in found.expressions)) if found.expressions else frozenset()
    return [(k, n) for k in fields if (n := field_name(k, oauth=method.oauth)) in used]


def method_key(key: str) -> str:
    """The key of an auth method as the native format writes it."""
    spaced = re.sub(r"[^a-z0-9_-]", "-", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower())
    return spaced if re.match(r"[a-z]", spaced) else f"method-{spaced}"
