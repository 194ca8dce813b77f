"""Fields of the internal form: defaults, implied fields, and the checks of each."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mooring.connectors.compile_scope import Checker
from mooring.connectors.definition import Field
from mooring.connectors.field_spec import FieldSpec
from mooring.connectors.oauth2_spec import OAuth2Spec
from mooring.connectors.yaml_source import Location

_ACRONYMS = {"api": "API", "id": "ID", "url": "URL", "oauth": "OAuth", "uri": "URI", "ip": "IP"}
_CLIENT_ID = Field(key="client_id", label="Client ID")
_CLIENT_SECRET = Field(key="client_secret", label="Client secret", type="password", secret=True)
_PRIVATE_KEY = Field(
    key="private_key",
    label="Private key",
    type="text_area",
    secret=True,
    help="PEM, of the key whose public half is registered with the provider.",
)


def humanise(key: str) -> str:
    """Make a label of a key: `api_key` becomes «API key»."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).split("_")
    text = " ".join(_ACRONYMS.get(word.lower(), word.lower()) for word in words if word)
    return text[:1].upper() + text[1:]


def build_fields(specs: Mapping[str, FieldSpec], at: Location, check: Checker) -> tuple[Field, ...]:
    """Compile fields in the order of the file."""
    return tuple(_field(key, spec, (*at, key), check) for key, spec in specs.items())


def implied_fields(
    oauth2: OAuth2Spec | None, fields: tuple[Field, ...], app_fields: tuple[Field, ...]
) -> tuple[tuple[Field, ...], tuple[Field, ...]]:
    """Add the client's id and secret where the file does not list them.

    Without a consent page the end user's administrator makes them, so they are the account's (contract 000-4).
    """
    if oauth2 is None:
        return fields, app_fields
    signs = oauth2.grant in (
        "jwt_bearer",
        "saml_bearer",
    )  # the assertion names who asks, so a client without a secret has no id either
    implied = [] if signs and oauth2.client_auth == "none" else [_CLIENT_ID]
    if oauth2.client_auth in {"basic", "basic_raw", "post", "client_secret_jwt"}:
        implied.append(_CLIENT_SECRET)
    if signs or oauth2.client_auth == "private_key_jwt":
        implied.append(_PRIVATE_KEY)
    listed = {f.key for f in (*fields, *app_fields)}
    added = tuple(f for f in implied if f.key not in listed)
    if oauth2.grant != "authorization_code" and not {f.key for f in app_fields} & {f.key for f in implied}:
        return (*added, *fields), app_fields
    return fields, (*added, *app_fields)


def _field(key: str, spec: FieldSpec, at: Location, check: Checker) -> Field:
    options = tuple((option.value, option.label or option.value) for option in spec.options)
    kind = spec.type or ("select" if options else "password" if spec.secret else "text")
    if bool(options) != (kind == "select"):
        check.fault(at, "`options` and `type: select` belong together", on_key=True)
    if spec.secret and spec.default is not None:
        check.fault((*at, "default"), "a secret has no default; it would be readable in the file")
    if kind == "password" and not spec.secret:
        check.fault(at, "a field of type password is secret: add `secret: true`", on_key=True)
    if spec.pattern_error is not None and spec.pattern is None:
        check.fault((*at, "pattern_error"), "`pattern_error` needs a `pattern`")
    # A select takes nothing but its options, whatever a caller posts.
    pattern = spec.pattern or ("|".join(re.escape(value) for value, _ in options) or None)
    if spec.default is not None and pattern is not None and not re.fullmatch(pattern, spec.default):
        check.fault((*at, "default"), "the default does not match the field's own pattern or options")
    return Field(
        key=key,
        label=spec.label or humanise(key),
        type=kind,
        required=spec.required,
        secret=spec.secret,
        placeholder=spec.placeholder,
        help=spec.help,
        options=options,
        pattern=pattern,
        pattern_error=spec.pattern_error,
        lifetime_seconds=spec.lifetime,
        default=spec.default,
        read_only=spec.read_only,
    )
