"""How tokens are obtained, in the internal form: OAuth 2.0, and logins of a provider's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from mooring.connectors.compile_scope import Checker, Scope
from mooring.connectors.definition import Assertion, LoginStep, OAuth2, Refresh, RequestTemplate
from mooring.connectors.oauth2_spec import AssertionSpec, OAuth2Spec, SessionSpec, ThenSpec
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
        # The issuer is also whom a client's assertion is for.
        issuer = ("iss_required",) if spec.client_auth.endswith("_jwt") else ("issuer",)
        for key in ("authorize_url", "authorize_params", "callback_keep", "par_url", *issuer):
            if getattr(spec, key):
                check.fault((*at, key), f"`{key}` has no meaning without a consent page", on_key=True)
    if (spec.grant in ("jwt_bearer", "saml_bearer")) != (spec.assertion is not None):
        check.fault(at, "`grant: jwt_bearer` or `saml_bearer` and `assertion` belong together", on_key=True)
    if spec.grant == "saml_bearer" and spec.assertion is not None:
        if spec.assertion.algorithm != "RS256":
            check.fault((*at, "assertion", "algorithm"), "a SAML assertion is signed with RS256")
        if spec.assertion.scopes:
            check.fault((*at, "assertion", "scopes"), "a SAML assertion holds no scopes")
    elif spec.assertion is not None and spec.assertion.encoding != "base64url":
        check.fault((*at, "assertion", "encoding"), "`encoding` belongs to `saml_bearer`")
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
        par_url=secret_url("par_url", setup),
        issuer=check.url(spec.issuer, setup, (*at, "issuer"), public=True) if spec.issuer else None,
        iss_required=spec.iss_required,
        scopes=tuple(spec.scopes),
        scope_reasons={scope: reason for scope, reason in spec.scopes.items() if reason},
        scope_separator=spec.scope_separator,
        pkce=spec.pkce,
        client_auth=spec.client_auth,
        token_body=spec.token_body,
        token_format=spec.token_format,
        token_path=tuple(spec.token_path),
        refresh_token_path=tuple(spec.refresh_token_path),
        token_types=tuple(spec.token_types),
        authorize_params=authorize_params,
        token_params=params("token_params", kept),
        token_headers=token_headers,
        keep={name: keep.path for name, keep in spec.keep.items()},
        keep_patterns={name: pattern for name, pattern in spec.kept_patterns.items() if pattern is not None},
        callback_keep={name: keep.param for name, keep in spec.callback_keep.items()},
        default_expires_in=spec.expires_in,
        assertion_algorithm=spec.assertion_algorithm,
        assertion=_assertion(spec.assertion, setup, (*at, "assertion"), check) if spec.assertion else None,
        then=_then(spec.then, kept, (*at, "then"), check) if spec.then else None,
        scope_templates=_scopes(spec, setup, (*at, "scopes"), check),
        refresh=Refresh(
            rotates=spec.refresh.rotates,
            grace_seconds=spec.refresh.grace_seconds,
            revokes_old_access_token=spec.refresh.revokes_old_access_token,
            lifetime_seconds=spec.refresh.lifetime,
            idle_seconds=spec.refresh.idle,
            buffer_seconds=spec.refresh.buffer,
        ),
    )


def _scopes(spec: OAuth2Spec, setup: Scope, at: Location, check: Checker) -> dict[str, Template]:
    """The scopes that hold values of fields, as those of a provider where each customer has a resource of its own."""
    out = {}
    for name in spec.scopes:
        if "${" in name:
            out[name] = check.template(name, setup, at)
            if shown := out[name].names & setup.secret:
                check.fault(at, f"`{min(shown)}` is secret, and scopes are seen in the browser")
    return out


def _then(spec: ThenSpec, kept: Scope, at: Location, check: Checker) -> LoginStep:
    """The login after the token. It sees what people typed, what the token answer left, and the token."""
    known = Scope(
        names=kept.names - set(spec.keep) | {"access_token"},
        secret=kept.secret | {"access_token"},
        free=kept.free - set(spec.keep),
        patterns=kept.patterns,
        operator_secret=kept.operator_secret,
    )
    verb = spec.verb or "get"
    url = check.url(spec.path, known, (*at, verb), carries_app_secret=True)
    query = {name: check.template(value, known, (*at, "query", name)) for name, value in spec.query.items()}
    form = {name: check.template(value, known, (*at, "form", name)) for name, value in spec.form.items()}
    headers = {name: check.template(value, known, (*at, "headers", name)) for name, value in spec.headers.items()}
    check.header_names(headers, (*at, "headers"))
    body = check.tree(spec.body, known, (*at, "body"))
    used = url.names.union(*(t.names for t in (*query.values(), *form.values(), *headers.values())), *tree_names(body))
    if "access_token" not in used:
        check.fault(at, "`then` sends no `${access_token}`, so it proves nothing", on_key=True)
    request = RequestTemplate(verb.upper(), url, query, headers, body, form or None)
    seen = replace(known, names=known.names | {"response"})
    keep = {
        name: check.template(kept.value, seen, (*at, "keep", name, "value"))
        if kept.value is not None
        else kept.path or ""
        for name, kept in spec.keep.items()
    }
    return LoginStep(request, keep)


# What every assertion has anyway (RFC 7523 §3).
_CLAIMED = {"iss", "sub", "aud", "iat", "exp", "jti"}


def _assertion(spec: AssertionSpec, setup: Scope, at: Location, check: Checker) -> Assertion:
    def template(key: str) -> Template | None:
        text: str | None = getattr(spec, key)
        return check.template(text, setup, (*at, key)) if text is not None else None

    for name in spec.claims.keys() & (_CLAIMED | ({"scope"} if spec.scopes else set())):
        check.fault((*at, "claims", name), f"the claim `{name}` is set by the engine", on_key=True)
    claims = {name: check.template(value, setup, (*at, "claims", name)) for name, value in spec.claims.items()}
    for name, value in claims.items():
        if shown := value.names & setup.secret:
            check.fault(
                (*at, "claims", name), f"`{min(shown)}` is secret, and an assertion can be read by whoever has it"
            )
    return Assertion(
        issuer=check.template(spec.issuer, setup, (*at, "issuer")),
        subject=template("subject"),
        audience=template("audience"),
        algorithm=spec.algorithm,
        lifetime_seconds=spec.lifetime,
        claims=claims,
        holds_scopes=spec.scopes,
        encoding=spec.encoding,
    )


def build_session(spec: SessionSpec, setup: Scope, base_url: Template, at: Location, check: Checker) -> OAuth2:
    """Compile a login of the provider's own, to a path under `base_url` or a whole URL. It sees what people typed."""
    verb = spec.verb or "post"
    whole = "://" in spec.path
    where = (*at, verb)
    if whole:
        url = check.url(spec.path, setup, where, carries_app_secret=True)
    else:
        url = check.template(spec.path, setup, where)
        if early := base_url.names - setup.names:
            check.fault(
                where, f"the base URL needs `{min(early)}`, which only the login's answer tells; give the whole URL"
            )
    used = url.names.union(*(check.template(v, setup, (*at, "query", k)).names for k, v in spec.query.items()))
    body = check.tree(spec.body, setup, (*at, "body"))
    form = {name: check.template(value, setup, (*at, "form", name)) for name, value in spec.form.items()}
    headers = {name: check.template(value, setup, (*at, "headers", name)) for name, value in spec.headers.items()}
    check.header_names(headers, (*at, "headers"))
    used = used.union(*(t.names for t in (*headers.values(), *form.values())), *tree_names(body))
    if not used & setup.secret and used <= setup.names:
        check.fault(at, "nothing that this login sends is secret; set `secret: true` on a field", on_key=True)
    return OAuth2(
        grant="session",
        token_url=url if whole else base_url,
        token_path=(spec.token,),
        keep={name: keep.path for name, keep in spec.keep.items()},
        keep_patterns={name: pattern for name, pattern in spec.kept_patterns.items() if pattern is not None},
        default_expires_in=spec.expires_in,
        client_auth="none",
        login=RequestTemplate(
            method=verb.upper(),
            url=url,
            query={name: check.template(value, setup, (*at, "query", name)) for name, value in spec.query.items()},
            headers=headers,
            body=body,
            form=form or None,
        ),
    )


def tree_names(tree: object) -> Iterator[frozenset[str]]:
    """The names in the leaves of a compiled tree."""
    if isinstance(tree, Template):
        yield tree.names
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from tree_names(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from tree_names(value)
