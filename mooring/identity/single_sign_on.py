"""Sign-in to the dashboard at an OpenID provider: code flow with PKCE, state, nonce and iss, under the rules O1…O9, O23.

Nobody registers by it: the person must have been invited under the address that the provider has verified.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlencode

import orjson
from sqlalchemy import delete, select

from mooring import errors
from mooring.identity.user_models import SignInState, User
from mooring.kit import clock, ids
from mooring.kit.db import Database
from mooring.kit.http import HttpClient, HttpFailure, OutboundRequest
from mooring.kit.vault import Vault, VaultError
from mooring.protocol.oauth2 import add_query, basic_credentials, pkce_challenge
from mooring.protocol.redact import clean_line

LIFE: Final = timedelta(minutes=10)
DEADLINE: Final = 8.0  # seconds, in total
ALGORITHMS: Final = ("RS256", "PS256", "ES256", "ES384", "EdDSA")  # RFC 8725: an allowlist, and nothing symmetric
LEEWAY: Final = 60  # seconds
_PURPOSE = "sign-in state"


@dataclass(frozen=True, slots=True)
class Provider:
    """Where to sign in, and what of the process that needs."""

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    redirect_uri: str
    http: HttpClient
    db: Database
    vault: Vault


@dataclass(frozen=True, slots=True)
class Started:
    """Where to send the browser, and what its cookie must hold until it comes back."""

    url: str
    browser: str = field(repr=False)


async def start(provider: Provider, then: str) -> Started:
    """Begin a sign-in. Raises ProviderError when the identity provider can't be reached or contradicts itself."""
    meta = await _discover(provider)
    state, browser, verifier, nonce = (ids.secret_token() for _ in range(4))
    kept = {"verifier": verifier, "nonce": nonce, "then": then}
    async with provider.db.begin() as tx:
        tx.add(
            SignInState(
                state_hash=ids.digest(state),
                browser_hash=ids.digest(browser),
                sealed=provider.vault.seal_bytes(orjson.dumps(kept), purpose=_PURPOSE),
                expires_at=clock.now() + LIFE,
            )
        )
    parameters = [
        ("response_type", "code"),
        ("client_id", provider.client_id),
        ("redirect_uri", provider.redirect_uri),
        ("scope", "openid email profile"),
        ("state", state),
        ("nonce", nonce),
        ("code_challenge", pkce_challenge(verifier)),
        ("code_challenge_method", "S256"),
    ]
    return Started(add_query(meta["authorization_endpoint"], parameters), browser)


async def finish(provider: Provider, params: Mapping[str, str], browser: str | None) -> tuple[User, str]:
    """Take the callback; returns the person and where they wanted to go. The state is spent whatever follows.

    Raises BadRequest for a callback that belongs to no sign-in of this browser, Unauthorized for whoever may not come in.
    """
    kept = await _consume(provider, params.get("state", ""), browser)
    meta = await _discover(provider)
    iss = params.get("iss")
    required = meta.get("authorization_response_iss_parameter_supported") is True
    if (iss is not None and iss != provider.issuer) or (iss is None and required):
        raise _refused("the answer does not come from the configured issuer")  # RFC 9207 §2.4
    if "error" in params:
        told = clean_line(params.get("error_description") or params["error"], 200)
        raise errors.Unauthorized(f"the identity provider refused: {told}", hint="Try again, or ask an admin.")
    if not params.get("code"):
        raise _refused("the answer holds no code")
    answer = await _token(provider, meta, params["code"], kept["verifier"])
    claims = await _verified(provider, meta, str(answer.get("id_token") or ""), kept["nonce"])
    if "email" not in claims and meta.get("userinfo_endpoint"):
        claims = {**await _user_info(provider, meta, answer, claims["sub"]), **claims}
    return await _person(provider, claims), str(kept["then"])


def _refused(why: str) -> errors.BadRequest:
    return errors.BadRequest(f"the sign-in was refused: {why}", code="OAuthCallbackError", hint="Begin again.")


async def _consume(provider: Provider, state: str, browser: str | None) -> dict[str, Any]:
    hashed = ids.digest(state)
    async with provider.db.begin() as tx:
        row = await tx.scalar(select(SignInState).where(SignInState.state_hash == hashed).with_for_update())
        if row is not None:
            await tx.execute(delete(SignInState).where(SignInState.state_hash == hashed))
    if row is None or row.expires_at <= clock.now():
        raise _refused("it was not begun here, took too long, or was answered already")
    if not browser or not hmac.compare_digest(row.browser_hash, ids.digest(browser)):
        raise _refused("it was begun in another browser")
    try:
        kept: dict[str, Any] = orjson.loads(provider.vault.open_bytes(row.sealed, purpose=_PURPOSE))
    except VaultError:
        raise _refused("its keys have changed") from None
    return kept


async def _ask(provider: Provider, request: OutboundRequest, what: str) -> dict[str, Any]:
    """One request to the identity provider; redirects are not followed. Raises ProviderError."""
    try:
        answer = await provider.http.send(request, deadline=DEADLINE, max_bytes=1 << 20)
        data = orjson.loads(answer.body)
    except HttpFailure as e:
        raise errors.ProviderError(f"the identity provider's {what} could not be reached: {e}") from None
    except orjson.JSONDecodeError:
        data = None
    if answer.status != 200 or not isinstance(data, dict):
        told = clean_line(str(data.get("error", "")), 100) if isinstance(data, dict) else ""
        raise errors.ProviderError(f"the identity provider's {what} answered {answer.status} {told}".strip())
    return data


async def _discover(provider: Provider) -> dict[str, Any]:
    url = provider.issuer.rstrip("/") + "/.well-known/openid-configuration"
    meta = await _ask(provider, OutboundRequest("GET", url, [("accept", "application/json")]), "configuration")
    if meta.get("issuer") != provider.issuer:
        raise errors.ProviderError("the identity provider's configuration names another issuer")  # RFC 8414 §3.3
    needed = ("authorization_endpoint", "token_endpoint", "jwks_uri")
    if any(not isinstance(meta.get(name), str) for name in needed):
        raise errors.ProviderError(f"the identity provider's configuration lacks one of {', '.join(needed)}")
    return meta


async def _token(provider: Provider, meta: Mapping[str, Any], code: str, verifier: str) -> dict[str, Any]:
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": provider.redirect_uri,
        "code_verifier": verifier,
    }
    headers = [("content-type", "application/x-www-form-urlencoded"), ("accept", "application/json")]
    methods = meta.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
    if "client_secret_basic" in methods:
        basic = basic_credentials(provider.client_id, provider.client_secret, form_encode=True)
        headers.append(("authorization", basic))
    else:
        form |= {"client_id": provider.client_id, "client_secret": provider.client_secret}
    request = OutboundRequest("POST", meta["token_endpoint"], headers, urlencode(form).encode())
    return await _ask(provider, request, "token endpoint")


async def _verified(provider: Provider, meta: Mapping[str, Any], token: str, nonce: str) -> dict[str, Any]:
    """The claims of an ID token whose signature, issuer, audience, life and nonce are right. Raises Unauthorized."""
    from joserfc import jwt
    from joserfc.errors import JoseError
    from joserfc.jwk import KeySet

    keys = await _ask(provider, OutboundRequest("GET", meta["jwks_uri"], [("accept", "application/json")]), "keys")
    try:
        claims: dict[str, Any] = jwt.decode(token, KeySet.import_key_set(keys), algorithms=ALGORITHMS).claims  # type: ignore[arg-type]
    except (JoseError, ValueError, KeyError, TypeError):
        raise errors.Unauthorized("the identity provider's token is not signed with its keys") from None
    fault = _fault(provider, claims, nonce)
    if fault:
        raise errors.Unauthorized(f"the identity provider's token is not valid: {fault}")
    return claims


def _fault(provider: Provider, claims: Mapping[str, Any], nonce: str) -> str | None:
    now = clock.now().timestamp()
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    exp, iat = claims.get("exp"), claims.get("iat")
    if claims.get("iss") != provider.issuer:
        return "another issuer"
    if provider.client_id not in audiences:
        return "another audience"
    if (len(audiences) > 1 or "azp" in claims) and claims.get("azp") != provider.client_id:
        return "another authorized party"
    if not isinstance(exp, int | float) or exp <= now - LEEWAY:
        return "it has expired"
    if not isinstance(iat, int | float) or iat > now + LEEWAY:
        return "it comes from the future"
    if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
        return "another nonce"
    if not isinstance(claims.get("sub"), str) or not claims["sub"]:
        return "it names nobody"
    return None


async def _user_info(
    provider: Provider, meta: Mapping[str, Any], answer: Mapping[str, Any], subject: str
) -> dict[str, Any]:
    headers = [("authorization", f"Bearer {answer.get('access_token', '')}"), ("accept", "application/json")]
    told = await _ask(provider, OutboundRequest("GET", meta["userinfo_endpoint"], headers), "user information")
    if told.get("sub") != subject:  # OpenID Connect Core §5.3.2
        raise errors.Unauthorized("the identity provider's user information is about somebody else")
    return told


async def _person(provider: Provider, claims: Mapping[str, Any]) -> User:
    """The person of these claims: known by issuer and subject, else the invited one with the verified address."""
    subject = f"{provider.issuer} {claims['sub']}"
    hint = "Ask an admin to invite you under the address that you use there."
    if len(subject) > 300:
        raise errors.Unauthorized("the identity provider's name for you is too long")
    async with provider.db.begin() as tx:
        user = await tx.scalar(select(User).where(User.subject == subject))
        if user is None:
            email = str(claims.get("email") or "").strip().lower()
            if not email or claims.get("email_verified") is not True:
                raise errors.Unauthorized("the identity provider has not verified your e-mail address", hint=hint)
            user = await tx.scalar(select(User).where(User.email == email).with_for_update())
            if user is None or user.subject is not None:
                raise errors.Unauthorized("nobody was invited under your e-mail address", hint=hint)
            user.subject = subject
            await tx.flush()
        if not user.enabled:
            raise errors.Unauthorized("nobody was invited under your e-mail address", hint=hint)
    return user
