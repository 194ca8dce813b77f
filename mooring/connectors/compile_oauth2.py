"""The OAuth part of the internal form."""

from __future__ import annotations

from mooring.connectors.compile_scope import Checker, Scope
from mooring.connectors.definition import OAuth2, Refresh
from mooring.connectors.spec import OAuth2Spec
from mooring.connectors.yaml_source import Location
from mooring.protocol.template import Template

# What the engine sets itself in an authorization request (RFC 6749 §4.1.1, RFC 7636 §4.3).
_OURS = {
    "response_type",
    "client_id",
    "redirect_uri",
    "state",
    "code_challenge",
    "code_challenge_method",
    "scope",
}


def build_oauth2(spec: OAuth2Spec, setup: Scope, call: Scope, at: Location, check: Checker) -> OAuth2:
    """Compile one OAuth block. `setup` holds what people typed, `call` also the tokens and kept values."""
    kept = setup.with_kept(spec)
    code = spec.grant == "authorization_code"
    if code and spec.authorize_url is None:
        check.fault(at, "`authorize_url` is missing; the authorization code grant begins there", on_key=True)
    if not code:
        for key in ("authorize_url", "authorize_params", "callback_keep", "issuer"):
            if getattr(spec, key):
                check.fault((*at, key), f"`{key}` has no meaning with client credentials", on_key=True)
    if spec.iss_required and spec.issuer is None:
        check.fault((*at, "iss_required"), "`iss_required` needs an `issuer` to compare with (RFC 9207)")

    def secret_url(key: str, scope: Scope) -> Template | None:
        text: str | None = getattr(spec, key)
        return check.url(text, scope, (*at, key), carries_app_secret=True) if text else None

    def params(key: str, scope: Scope) -> dict[str, Template]:
        values: dict[str, str] = getattr(spec, key)
        return {name: check.template(value, scope, (*at, key, name)) for name, value in values.items()}

    authorize_params = params("authorize_params", setup)
    for name, value in authorize_params.items():
        if name in _OURS:
            check.fault((*at, "authorize_params", name), f"`{name}` is set by the engine", on_key=True)
        if shown := value.names & setup.secret:
            problem = f"`{min(shown)}` is secret, and this is seen in the browser"
            check.fault((*at, "authorize_params", name), problem)
    token_headers = params("token_headers", kept)
    check.header_names(token_headers, (*at, "token_headers"))
    authorize = spec.authorize_url
    return OAuth2(
        grant=spec.grant,
        token_url=check.url(spec.token_url, kept, (*at, "token_url"), carries_app_secret=True),
        authorize_url=check.url(authorize, setup, (*at, "authorize_url"), public=True) if authorize else None,
        refresh_url=secret_url("refresh_url", kept),
        revoke_url=secret_url("revoke_url", kept),
        issuer=check.url(spec.issuer, setup, (*at, "issuer"), public=True) if spec.issuer else None,
        iss_required=spec.iss_required,
        scopes=tuple(spec.scopes),
        scope_reasons={scope: reason for scope, reason in spec.scopes.items() if reason},
        scope_separator=spec.scope_separator,
        pkce=spec.pkce,
        client_auth=spec.client_auth,
        token_body=spec.token_body,
        token_format=spec.token_format,
        token_path=spec.token_path,
        authorize_params=authorize_params,
        token_params=params("token_params", kept),
        token_headers=token_headers,
        keep={name: keep.path for name, keep in spec.keep.items()},
        keep_patterns={name: pattern for name, pattern in spec.kept_patterns.items() if pattern is not None},
        callback_keep={name: keep.param for name, keep in spec.callback_keep.items()},
        default_expires_in=spec.expires_in,
        assertion_algorithm=spec.assertion_algorithm,
        refresh=Refresh(
            rotates=spec.refresh.rotates,
            grace_seconds=spec.refresh.grace_seconds,
            revokes_old_access_token=spec.refresh.revokes_old_access_token,
            lifetime_seconds=spec.refresh.lifetime,
            idle_seconds=spec.refresh.idle,
            buffer_seconds=spec.refresh.buffer,
        ),
    )
