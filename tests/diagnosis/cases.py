"""Which answer has which cause. Every cause of the table stands in one of these tables or in a test by its name."""

from __future__ import annotations

from typing import Any, NamedTuple

from tests.diagnosis.provider import Answer

HTML = {"content-type": "text/html; charset=utf-8"}


class Tested(NamedTuple):
    """What was typed, what the provider answers, and what it is called."""

    cause: str
    answer: Answer
    typed: str = "doc_live_canary_77x"
    names: tuple[str, ...] = ()


def says(status: int, text: str, **headers: str) -> Answer:
    return Answer(status, {"message": text}, headers)


CREDENTIAL_TESTS: dict[str, Tested] = {
    "a space inside": Tested("stray_spaces", says(401, "no"), "doc live", ("api_key",)),
    "the field's example": Tested("placeholder_value", says(401, "no"), "doc_live_0123", ("api_key",)),
    "an example in brackets": Tested("placeholder_value", says(401, "no"), "<your token>", ("api_key",)),
    "an example in words": Tested("placeholder_value", says(401, "no"), "YOUR_API_KEY_HERE", ("api_key",)),
    "a test key": Tested("wrong_environment", says(401, "This is a test mode key; use a live key.")),
    "another region": Tested("wrong_environment", says(401, "The key belongs to another region.")),
    "a JWK with spaces": Tested("wrong_credentials", says(401, "no"), f'{{"kty": "EC", "d": "{"canary77" * 9}"}}'),
    "a wrong key": Tested("wrong_credentials", says(401, "no")),
    "a wrong key with 400": Tested("wrong_credentials", says(400, "bad key")),
    "a refusal with a good status": Tested("wrong_credentials", Answer(200, {"refused": ["nope"]})),
    "a permission with a good status": Tested("missing_scope", Answer(200, {"refused": ["missing_permission"]})),
    "a revoked key": Tested("key_revoked", says(401, "API key was revoked")),
    "a rule by status": Tested("key_revoked", says(418, "teapot")),
    "an expired key": Tested("key_expired", says(401, "Your API key has expired.")),
    "no rights": Tested("missing_scope", says(403, "no")),
    "a challenge with scopes": Tested(
        "missing_scope",
        says(403, "no", **{"www-authenticate": 'Bearer error="insufficient_scope", scope="people.read jobs.read"'}),
        names=("people.read", "jobs.read"),
    ),
    "scopes in the body": Tested(
        "missing_scope", Answer(403, {"errors": [{"requiredScopes": ["crm.read"]}]}), names=("crm.read",)
    ),
    "no administrator": Tested("not_an_administrator", says(403, "You must be an administrator to use this.")),
    "unpaid": Tested("account_suspended", says(402, "no")),
    "suspended": Tested("account_suspended", says(403, "Your account has been suspended.")),
    "a trial that is over": Tested("account_suspended", says(403, "Your trial period has ended")),
    "the API is off": Tested("plan_lacks_api", says(403, "API access is not enabled for this company")),
    "the wrong plan": Tested("plan_lacks_api", says(403, "Your plan does not include this feature.")),
    "a rule by expression": Tested("plan_lacks_api", Answer(403, {"code": "E_SEAT"})),
    "an allowlist": Tested("ip_not_allowed", says(403, "The IP address 203.0.113.9 is not allowed.")),
    "a second factor": Tested("mfa_required", says(401, "Two-factor authentication is required")),
    "single sign-on": Tested("mfa_required", says(401, "Password login is off; use SSO")),
    "a locked user": Tested("user_locked", says(401, "The user account is locked.")),
    "too many tries": Tested("user_locked", says(403, "Too many failed logins")),
    "locked by status": Tested("user_locked", says(423, "no")),
    "nothing there": Tested("wrong_host", says(404, "no")),
    "a page not found": Tested("wrong_host", Answer(404, b"<html>Not found. Sign in?", HTML)),
    "a login page": Tested("not_the_api", Answer(200, b"<html><form>Sign in <input type=password>", HTML)),
    "a redirect to a login": Tested("login_redirect", Answer(302, b"", {"location": "https://id.example/login?x=1"})),
    "a redirect elsewhere": Tested("moved", Answer(301, b"", {"location": "https://www.doctor.example/me"})),
    "an error": Tested("provider_error", says(500, "oops")),
    "a bad gateway": Tested("provider_error", Answer(502, b"<html>Bad gateway", HTML)),
    "a limit": Tested("rate_limited", says(429, "slow down", **{"retry-after": "240"})),
    "a limit by a rule": Tested("rate_limited", says(420, "calm")),
    "maintenance": Tested("maintenance", Answer(503, b"<html><title>Maintenance</title>We are back soon", HTML)),
    "maintenance in JSON": Tested("maintenance", says(503, "down for maintenance")),
    "a firewall": Tested("blocked_by_firewall", Answer(403, b"<html>Attention required! Ray ID", HTML)),
    "a page that says no": Tested("blocked_by_firewall", Answer(403, b"<html>Nope", HTML)),
    "a proxy": Tested("proxy_login_required", says(407, "no")),
    "half a document": Tested("unexpected_answer", Answer(200, b'{"id": "acc')),
    "an error in a good status": Tested("unexpected_answer", Answer(200, {"ok": False, "error": "denied"})),
    "an odd status": Tested("unexpected_answer", says(419, "page gone stale")),
    "a huge answer": Tested("answer_too_large", Answer(200, b"x" * (5 << 20))),
}


def oauth(error: str, description: str = "", status: int = 400) -> Answer:
    return Answer(status, {"error": error, "error_description": description})


TOKEN_ANSWERS: dict[str, tuple[str, Answer]] = {
    "a wrong secret": ("client_rejected", oauth("invalid_client", "Client authentication failed", 401)),
    "the wrong method": (
        "wrong_client_auth",
        oauth("invalid_client", "token_endpoint_auth_method of the client is client_secret_post", 401),
    ),
    "a wrong secret, with all methods named": (
        "client_rejected",
        oauth("invalid_client", "The client cannot authenticate with methods: ('client_secret_basic', 'none')", 401),
    ),
    "a client switched off": ("client_disabled", oauth("invalid_client", "The application is disabled", 401)),
    "a grant not allowed": ("unauthorized_client", oauth("unauthorized_client")),
    "an unknown scope": ("invalid_scope", oauth("invalid_scope", "people.write")),
    "no such grant": ("unsupported_grant_type", oauth("unsupported_grant_type")),
    "a bad request": ("token_request_refused", oauth("invalid_request", "something")),
    "another callback": ("redirect_uri_mismatch", oauth("invalid_grant", "redirect_uri does not match")),
    "consent of an administrator": (
        "admin_consent_required",
        oauth("invalid_grant", "The user or an administrator has not given consent: admin consent needed"),
    ),
    "a rule of the connector": ("admin_consent_required", oauth("consent_required", "DOC90094: nope")),
    "not installed": ("app_not_approved", oauth("invalid_grant", "The app is not installed in this workspace")),
    "interaction": ("login_required", oauth("interaction_required")),
    "an old code": ("code_expired", oauth("invalid_grant", "The authorization code has expired")),
    "a used code": ("code_reused", oauth("invalid_grant", "Code was already redeemed")),
    "a wrong verifier": ("pkce_refused", oauth("invalid_grant", "PKCE verification failed")),
    "no reason": ("grant_refused", oauth("invalid_grant")),
    "HTML": ("token_not_json", Answer(200, b"<html>Welcome", HTML)),
    "half a document": ("token_not_json", Answer(200, b'{"access_token": "at-canary-cut')),
    "no token": ("token_missing", Answer(200, {"hello": "world"})),
    "another kind of token": ("token_type_unsupported", Answer(200, {"access_token": "x", "token_type": "mac"})),
    "a redirect": ("token_redirected", Answer(307, b"", {"location": "https://elsewhere.example/token"})),
    "no endpoint": ("token_endpoint_missing", Answer(404, b"<html>Not found", HTML)),
    "an unexpected region": (
        "unexpected_token_value",
        Answer(200, {"access_token": "at-canary-9", "token_type": "Bearer", "region": "evil.example"}),
    ),
    "a limit": ("rate_limited", Answer(429, {"message": "slow"}, {"retry-after": "9"})),
    "an error": ("provider_error", Answer(503, {"message": "oops"})),
    "a cut": ("reset", Answer(drop=True)),
}

CALLBACKS: dict[str, tuple[str, dict[str, str | None]]] = {
    "denied": ("access_denied", {"code": None, "error": "access_denied", "error_description": "The user said no"}),
    "admin consent": (
        "admin_consent_required",
        {"code": None, "error": "access_denied", "error_description": "Admin approval required"},
    ),
    "a rule of the connector": (
        "admin_consent_required",
        {"code": None, "error": "access_denied", "error_description": "DOC90094 nope"},
    ),
    "not approved": (
        "app_not_approved",
        {"code": None, "error": "access_denied", "error_description": "This app is blocked by your admin policy"},
    ),
    "an unknown scope": ("invalid_scope", {"code": None, "error": "invalid_scope"}),
    "a callback unknown": (
        "redirect_uri_mismatch",
        {"code": None, "error": "invalid_request", "error_description": "redirect_uri is not registered"},
    ),
    "the client": ("unauthorized_client", {"code": None, "error": "unauthorized_client"}),
    "login": ("login_required", {"code": None, "error": "login_required"}),
    "the server": ("provider_error", {"code": None, "error": "server_error"}),
    "something else": ("authorization_failed", {"code": None, "error": "weird_error"}),
    "nothing": ("no_code", {"code": None}),
    "no issuer": ("issuer_missing", {"iss": None}),
    "another issuer": ("issuer_mismatch", {"iss": "https://evil.example"}),
    "an odd tenant": ("bad_callback", {"tenant": "../x"}),
}

REFRESHES: dict[str, tuple[str, str, Answer | list[Answer]]] = {
    "withdrawn": ("refresh_token_revoked", "expired", oauth("invalid_grant", "The grant was revoked")),
    "used twice": ("refresh_token_reused", "expired", oauth("invalid_grant", "Refresh token was already used")),
    "idle": ("refresh_token_expired", "expired", oauth("invalid_grant", "Token expired due to inactivity")),
    "a new password": ("password_changed", "expired", oauth("invalid_grant", "The user's password was changed")),
    "somebody left": ("user_deactivated", "expired", oauth("invalid_grant", "inactive user")),
    "no reason": ("grant_refused", "expired", oauth("invalid_grant")),
    "lost on the way": ("uncertain_rotation", "expired", [Answer(drop=True), oauth("invalid_grant", "already used")]),
    "a new secret": ("client_rejected", "error", oauth("invalid_client", "", 401)),
    "maintenance": ("maintenance", "error", Answer(503, {"message": "We are down for maintenance"})),
}


def causes_of_tables() -> set[str]:
    found: set[Any] = {case.cause for case in CREDENTIAL_TESTS.values()}
    found |= {cause for cause, _ in TOKEN_ANSWERS.values()} | {cause for cause, _ in CALLBACKS.values()}
    return found | {cause for cause, _, _ in REFRESHES.values()}
