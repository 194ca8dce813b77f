"""The rules of the sandbox's OAuth server: codes, rotation, reuse, expiry. No HTTP in here."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import time
from dataclasses import dataclass

from mooring.sandbox.data import ALL_SCOPES, Client
from mooring.sandbox.state import AccessToken, Code, Grant, RefreshToken, State

CODE_TTL_SECONDS = 60
_VERIFIER = re.compile(r"[A-Za-z0-9\-._~]{43,128}")  # RFC 7636 §4.1


class OAuthError(Exception):
    """An error of RFC 6749 §5.2; `code` is its registered name."""

    def __init__(self, code: str, description: str) -> None:
        super().__init__(description)
        self.code = code
        self.description = description


@dataclass(frozen=True)
class Issued:
    """What a token request earned."""

    access_token: str
    scopes: tuple[str, ...]
    refresh_token: str | None


def parse_scopes(requested: str | None) -> tuple[str, ...]:
    """Read a scope parameter; nothing asked for means everything. Raise invalid_scope."""
    wanted = dict.fromkeys((requested or "").split())
    for scope in wanted:
        if scope not in ALL_SCOPES:
            raise OAuthError("invalid_scope", f"Unknown scope {scope!r}. Known: {' '.join(ALL_SCOPES)}.")
    return tuple(wanted) or ALL_SCOPES


def issue_code(
    state: State,
    client: Client,
    *,
    company: str,
    scopes: tuple[str, ...],
    redirect_uri: str,
    challenge: str | None,
) -> str:
    """Record the consent and make the single-use code that stands for it."""
    grant = Grant(client.id, company, scopes)
    state.grants.append(grant)
    code = "code_" + secrets.token_urlsafe(24)
    state.codes[code] = Code(grant, redirect_uri, challenge, time.monotonic() + CODE_TTL_SECONDS)
    return code


def redeem_code(state: State, client: Client, code: str, redirect_uri: str, verifier: str | None) -> Issued:
    """Trade a code for tokens. The first try uses it up, whether or not it succeeds (RFC 6749 §4.1.2)."""
    known = state.codes.get(code)
    if known is None or known.grant.client_id != client.id:
        raise OAuthError("invalid_grant", "The code is unknown or belongs to another client.")
    if known.used:
        state.counters.reuse_detections += 1
        known.grant.revoked = True
        raise OAuthError("invalid_grant", "The code was used before; its tokens are revoked now.")
    known.used = True
    if known.expires_at <= time.monotonic():
        raise OAuthError("invalid_grant", f"The code is older than {CODE_TTL_SECONDS} seconds.")
    if known.grant.revoked:
        raise OAuthError("invalid_grant", "The grant was revoked.")
    if known.redirect_uri != redirect_uri:
        raise OAuthError("invalid_grant", "redirect_uri differs from the one of the authorization request.")
    _check_verifier(known.challenge, verifier)
    return _issue(state, known.grant, known.grant.scopes, with_refresh=True)


def _check_verifier(challenge: str | None, verifier: str | None) -> None:
    if challenge is None:
        if verifier is not None:  # RFC 9700 §2.1.1: or an attacker could strip the challenge
            raise OAuthError("invalid_grant", "A code_verifier came, but the authorization request had no challenge.")
        return
    if verifier is None or not _VERIFIER.fullmatch(verifier):
        raise OAuthError("invalid_grant", "code_verifier is missing or not 43 to 128 unreserved characters.")
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    if digest != challenge:
        raise OAuthError("invalid_grant", "code_verifier does not match the code_challenge.")


def refresh(state: State, client: Client, token: str, scope: str | None) -> Issued:
    """Trade a refresh token. One that was replaced before the grace window revokes the grant."""
    known = state.refresh_tokens.get(token)
    if known is None or known.grant.client_id != client.id:
        raise OAuthError("invalid_grant", "The refresh token is unknown or belongs to another client.")
    grant = known.grant
    if grant.revoked:
        raise OAuthError("invalid_grant", "The grant was revoked.")
    if known.replaced_at is not None and time.monotonic() - known.replaced_at >= state.settings.grace_seconds:
        state.counters.reuse_detections += 1
        grant.revoked = True
        raise OAuthError("invalid_grant", "The refresh token was used before; the grant is revoked now.")
    scopes = parse_scopes(scope) if scope else grant.scopes
    if not set(scopes) <= set(grant.scopes):
        raise OAuthError("invalid_scope", "A refresh cannot widen the granted scopes.")
    if state.settings.revoke_old_access_token:
        _revoke_access_tokens(state, grant)
    if known.replaced_at is not None:  # within the grace window: the newest token of the chain again
        return _issue(state, grant, scopes, with_refresh=False, echo=grant.refresh_token)
    if not state.settings.rotate or state.settings.omit_refresh_token:
        return _issue(state, grant, scopes, with_refresh=False, echo=token)
    known.replaced_at = time.monotonic()
    return _issue(state, grant, scopes, with_refresh=True)


def client_credentials(state: State, client: Client, scope: str | None) -> Issued:
    """Give a machine client an access token for its company, without a refresh token (RFC 6749 §4.4.3)."""
    scopes = parse_scopes(scope)
    grant = Grant(client.id, client.machine_company, scopes)
    state.grants.append(grant)
    return _issue(state, grant, scopes, with_refresh=False)


def _issue(
    state: State, grant: Grant, scopes: tuple[str, ...], *, with_refresh: bool, echo: str | None = None
) -> Issued:
    settings = state.settings
    if settings.scope_downgrade:
        scopes = scopes[:1]
    access = "at_" + secrets.token_urlsafe(24)
    expires_at = time.monotonic() + settings.access_token_ttl
    state.access_tokens[access] = AccessToken(grant, scopes, expires_at)
    if settings.omit_refresh_token:
        return Issued(access, scopes, None)
    if with_refresh:
        grant.refresh_token = "rt_" + secrets.token_urlsafe(24)
        state.refresh_tokens[grant.refresh_token] = RefreshToken(grant)
        return Issued(access, scopes, grant.refresh_token)
    return Issued(access, scopes, echo)


def revoke(state: State, client: Client, token: str) -> None:
    """Revoke a token (RFC 7009): a refresh token ends its grant, an access token only itself."""
    access, chained = state.access_tokens.get(token), state.refresh_tokens.get(token)
    known = access or chained
    if known is None:
        return
    if known.grant.client_id != client.id:
        raise OAuthError("invalid_grant", "The token belongs to another client.")
    if access is not None:
        del state.access_tokens[token]
    else:
        known.grant.revoked = True
    state.counters.revocations += 1


def revoke_all(state: State) -> int:
    """Revoke every grant, as if each company removed the app. Return how many were live."""
    live = [grant for grant in state.grants if not grant.revoked]
    for grant in live:
        grant.revoked = True
    return len(live)


def expire_all(state: State) -> int:
    """Let every access token expire now. Return how many there were."""
    count = len(state.access_tokens)
    state.access_tokens.clear()
    return count


def _revoke_access_tokens(state: State, grant: Grant) -> None:
    for token in [token for token, known in state.access_tokens.items() if known.grant is grant]:
        del state.access_tokens[token]


def find_access_token(state: State, token: str) -> AccessToken | None:
    """Look a usable access token up."""
    known = state.access_tokens.get(token)
    if known is None or known.grant.revoked or known.expires_at <= time.monotonic():
        return None
    return known
