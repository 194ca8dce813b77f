"""Rules for what OAuth servers say: in the callback, and at the token endpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mooring.diagnosis.evidence import Evidence
from mooring.diagnosis.words import compile_rules, first

_CALLBACK: Final = {
    "access_denied": "access_denied",
    "unauthorized_client": "unauthorized_client",
    "unsupported_response_type": "unsupported_grant_type",
    "invalid_scope": "invalid_scope",
    "server_error": "provider_error",
    "temporarily_unavailable": "provider_error",
    "login_required": "login_required",
    "interaction_required": "login_required",
    "account_selection_required": "login_required",
    "consent_required": "login_required",
    "invalid_client": "client_rejected",
    "redirect_uri_mismatch": "redirect_uri_mismatch",
    "invalid_redirect_uri": "redirect_uri_mismatch",
    "admin_consent_required": "admin_consent_required",
    "admin_policy_enforced": "app_not_approved",
    "org_internal": "app_not_approved",
    "user_cancelled_login": "access_denied",
    "user_cancelled_authorize": "access_denied",
    "consent_declined": "access_denied",
}
_TOKEN: Final = {
    "invalid_client": "client_rejected",
    "unauthorized_client": "unauthorized_client",
    "invalid_scope": "invalid_scope",
    "unsupported_grant_type": "unsupported_grant_type",
    "access_denied": "access_denied",
    "redirect_uri_mismatch": "redirect_uri_mismatch",
    "invalid_redirect_uri": "redirect_uri_mismatch",
    "interaction_required": "login_required",
    "consent_required": "login_required",
    "login_required": "login_required",
    "temporarily_unavailable": "provider_error",
    "server_error": "provider_error",
    "slow_down": "rate_limited",
    "rate_limited": "rate_limited",
}
_NONSENSE: Final = {
    "redirect": "token_redirected",
    "html": "token_not_json",
    "not_json": "token_not_json",
    "no_token": "token_missing",
    "token_type": "token_type_unsupported",
}


_REDIRECT: Final = (r"redirect[ _-]?ur[il]|callback url|redirection",)
_EVERYWHERE: Final = compile_rules(
    {
        "admin_consent_required": (
            r"admin(?:istrator)?('s)?[ _-](?:consent|approval)|(?:consent|approval)[^.]{0,30}\badmin",
            r"administrator (?:has to|must|needs to) (?:consent|approve|grant)",
        ),
        "app_not_approved": (
            r"(?:app|application|client|integration)[^.]{0,40}not (?:been )?(?:approved|installed|verified|allowed by)",
            r"(?:app|application|client|integration)[^.]{0,40}blocked by (?:your )?(?:admin|organi|policy)",
        ),
        "redirect_uri_mismatch": _REDIRECT,
    }
)
_CLIENT: Final = compile_rules(
    {
        "client_disabled": (
            r"(?:client|app|application)\b[^.]{0,30}\b(?:disabled|suspended|deactivated|inactive|deleted|blocked)",
        ),
        "client_rejected": (r"cannot authenticate with methods",),  # Authlib: these, all that the server takes, failed
        "wrong_client_auth": (
            r"client_secret_(?:basic|post|jwt)|token_endpoint_auth_method|authentication method",
            r"authori[sz]ation header|http basic|basic auth|in the (?:request )?body",
            r"no client authentication|client authentication (?:is )?(?:missing|not included|required)",
        ),
    }
)
_GRANT_OF_CODE: Final = compile_rules(
    {
        "pkce_refused": (r"pkce|code[ _]?(?:verifier|challenge)",),
        "redirect_uri_mismatch": _REDIRECT,
        "code_reused": (r"already (?:been )?(?:used|redeemed|consumed)|used before|(?:only|be used) once|reuse",),
        "code_expired": (r"expired|too old|older than|no longer valid|timed out",),
    }
)
_GRANT_OF_REFRESH: Final = compile_rules(
    {
        "refresh_token_reused": (r"reus|already (?:been )?(?:used|redeemed|rotated|consumed)|used before|used twice",),
        "password_changed": (r"password[^.]{0,30}(?:chang|reset|expired)|credentials? (?:have )?changed",),
        "user_deactivated": (
            r"(?:user|account|employee|resource owner)\b[^.]{0,30}(?:inactive|disabled|deactivated|deleted|suspended)",
            r"(?:user|account|employee|resource owner)\b[^.]{0,30}(?:locked|not found|does not exist|no longer)",
            r"inactive user",
        ),
        "mfa_required": (r"\bmfa\b|multi[- ]?factor|second factor|re-?authenticat",),
        "ip_not_allowed": (r"\bip\b (?:address )?(?:restricted|not allowed)|network policy",),
        "refresh_token_expired": (r"expired|inactivity|\bidle\b|not (?:been )?used (?:for|in)|too old|lifetime",),
        "refresh_token_revoked": (
            r"revoked|withdrawn|uninstalled|removed|deauthori[sz]ed|disconnected|no longer (?:valid|authori)",
        ),
    }
)


def of_callback(evidence: Evidence) -> str:
    """The cause of an error that came back to the callback (RFC 6749 §4.1.2.1, OpenID Connect Core §3.1.2.6)."""
    error, words = evidence.error or "", _words(evidence)
    if told := first(_EVERYWHERE, words):
        return told
    if first(_GRANT_OF_CODE[:1], words):
        return "pkce_refused"
    return _CALLBACK.get(error, "authorization_failed")


def of_token_answer(evidence: Evidence, of_status: Callable[[Evidence], str]) -> str:
    """The cause of a token answer that holds no token (RFC 6749 §5.2)."""
    if evidence.error is None:
        return _of_nonsense(evidence, of_status)
    error, words = evidence.error, _words(evidence)
    if told := first(_EVERYWHERE[:2], words):
        return told
    if error == "invalid_client":
        return first(_CLIENT, words) or "client_rejected"
    if error == "unauthorized_client":
        return first(_CLIENT[:1], words) or "unauthorized_client"
    if error == "invalid_grant":
        return _of_grant(evidence, words)
    known = _TOKEN.get(error)
    if known is not None:
        return known
    if told := first(_GRANT_OF_CODE[:2], words):
        return told
    if "client" in words and ("secret" in words or "credential" in words):
        return "client_rejected"
    if evidence.status in {404, 405, 410}:
        return "token_endpoint_missing"
    return "client_rejected" if evidence.status == 401 else "token_request_refused"


def _of_grant(evidence: Evidence, words: str) -> str:
    if evidence.phase == "refresh":
        if evidence.uncertain:
            return "uncertain_rotation"
        return first(_GRANT_OF_REFRESH, words) or "grant_refused"
    if evidence.phase == "client_credentials":
        return first(_GRANT_OF_REFRESH[1:], words) or "grant_refused"
    return first(_GRANT_OF_CODE, words) or first(_GRANT_OF_REFRESH[1:], words) or "grant_refused"


def _of_nonsense(evidence: Evidence, of_status: Callable[[Evidence], str]) -> str:
    status = evidence.status or 0
    if evidence.nonsense == "unavailable" or status == 429 or status >= 500:
        return of_status(evidence)
    if status in {404, 405, 410}:
        return "token_endpoint_missing"
    if status in {401, 403, 407}:
        return of_status(evidence)
    return _NONSENSE.get(evidence.nonsense or "", "unexpected_answer")


def _words(evidence: Evidence) -> str:
    """Error and description. `access_denied: The user denied access` and the like, in one text."""
    return f"{evidence.error or ''}: {evidence.description or ''}"[:1000].lower()
