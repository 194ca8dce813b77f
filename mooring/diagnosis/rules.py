"""From evidence to a cause. Pure; the first rule that has something to say decides."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import orjson

from mooring.diagnosis.evidence import Diagnosis, Evidence, diagnosis
from mooring.diagnosis.rules_oauth import of_callback, of_token_answer
from mooring.diagnosis.table import CAUSES
from mooring.diagnosis.typed import placeholders, stray_spaces
from mooring.diagnosis.words import find, login_page

# A value with odd white space, or an example, explains these better than the provider's refusal does.
_MAY_BE_TYPED: Final = frozenset(
    {"wrong_credentials", "client_rejected", "grant_refused", "wrong_host", "host_unknown", "token_request_refused",
     "token_endpoint_missing", "wrong_environment"}
)  # fmt: skip
_TLS: Final = (
    ("expired", "tls_expired"),
    ("another name", "tls_wrong_name"),
    ("trusted", "tls_unknown_ca"),
    ("version", "tls_too_old"),
)
_FAILURES: Final = {
    "blocked": "egress_blocked",
    "dns": "host_unknown",
    "refused": "refused",
    "unreachable": "unreachable",
    "timeout": "timeout",
    "reset": "reset",
    "too_large": "answer_too_large",
    "protocol": "not_http",
}
_SCOPE_KEYS: Final = frozenset(
    {"missing_scopes", "missing_permissions", "required_scopes", "requiredscopes", "missingscopes"}
)
_SCOPE_NAME = re.compile(r"[\w.:/*-]{1,100}")
_LOGIN_PATH = re.compile(r"log-?in|sign-?in|sso|saml|oauth|auth(?!or)|session", re.IGNORECASE)


def diagnose(evidence: Evidence) -> Diagnosis:
    """Name the cause of a failure. Always names one."""
    code = _code(evidence)
    names: list[str] = []
    if code in _MAY_BE_TYPED:
        if examples := placeholders(evidence.typed, evidence.examples):
            code, names = "placeholder_value", examples
        elif spaced := stray_spaces(evidence.typed):
            code, names = "stray_spaces", spaced
    if code == "missing_scope":
        names = scope_names(evidence)
    return diagnosis(
        code,
        names=names,
        detail=_detail(evidence),
        retry_after=evidence.retry_after,
        exchange=evidence.exchange,
    )


def verdict(code: str) -> Literal["rejected", "limited", "unknown"]:
    """What a cause tells of the credential: refused by the provider, a matter of rate, or nothing."""
    if code == "rate_limited":
        return "limited"
    cause = CAUSES.get(code)
    return "rejected" if cause is not None and cause.rejects else "unknown"


def _code(evidence: Evidence) -> str:
    if evidence.failure is not None:
        return of_failure(evidence.failure, evidence.failure_text)
    if evidence.declared in CAUSES:
        return str(evidence.declared)
    if evidence.phase == "callback":
        return of_callback(evidence)
    if evidence.phase == "login" and evidence.error is not None:
        # A login that says no in an answer with 200 has no status that would tell more than its words.
        told = find(f"{evidence.text} {evidence.description or ''}")
        return of_status(evidence) if (evidence.status or 0) >= 400 else told or "wrong_credentials"
    if evidence.error is not None or evidence.nonsense is not None:
        return of_token_answer(evidence, of_status)
    return of_status(evidence)


def of_failure(kind: str, text: str) -> str:
    """The cause of an exchange without an answer."""
    if kind == "tls":
        lower = text.lower()
        return next((code for word, code in _TLS if word in lower), "tls_failed")
    return _FAILURES.get(kind, "unexpected_answer")


def of_status(evidence: Evidence) -> str:
    """The cause of an answer to a test request or a call, by its status and words."""
    status, html = evidence.status or 0, _is_html(evidence)
    told = find(evidence.text) if len(evidence.text) < 20_000 or not evidence.accepted else None
    if evidence.accepted and evidence.refused:
        return told or "wrong_credentials"
    if evidence.accepted:
        if html:
            return "maintenance" if told == "maintenance" else "not_the_api"
        return told if told and told not in {"wrong_credentials", "maintenance"} else "unexpected_answer"
    if status == 429:
        return "rate_limited"
    if status == 407:
        return "proxy_login_required"
    if 300 <= status < 400:
        return "login_redirect" if _leads_to_login(evidence) else "moved"
    if html and status not in {404, 410} and (page := _page(evidence)):
        return page
    if status == 503 and told in {"maintenance", "rate_limited"}:
        return told
    if status >= 500:
        return "maintenance" if told == "maintenance" else "provider_error"
    return _of_refusal(evidence, status, told, html=html)


def _of_refusal(evidence: Evidence, status: int, told: str | None, *, html: bool) -> str:
    challenge = evidence.headers.get("www-authenticate", "").lower()
    if "insufficient_scope" in challenge or scope_names(evidence):
        return "missing_scope"
    if status in {404, 405, 410}:
        return told if told and told in {"account_suspended", "plan_lacks_api"} else "wrong_host"
    if status == 402:
        return told or "account_suspended"
    if html and status not in {401, 403}:
        return "not_the_api"
    if status in {400, 401, 403, 409, 422, 423}:
        return told or ("missing_scope" if status == 403 else "user_locked" if status == 423 else "wrong_credentials")
    return told or "unexpected_answer"


def _page(evidence: Evidence) -> str | None:
    """What an HTML page tells that came with a bad status."""
    told = find(evidence.text)
    if told in {"maintenance", "blocked_by_firewall"}:
        return told
    if evidence.status == 403:
        return "blocked_by_firewall"  # an API says no in JSON; a page comes from something in front of it
    return "not_the_api" if login_page(evidence.text) else None


def _leads_to_login(evidence: Evidence) -> bool:
    parts = urlsplit(evidence.headers.get("location", ""))
    first_label = (parts.hostname or "").partition(".")[0]
    return bool(
        _LOGIN_PATH.search(parts.path) or _LOGIN_PATH.search(first_label) or _LOGIN_PATH.search(parts.query[:40])
    )


def _is_html(evidence: Evidence) -> bool:
    if "html" in evidence.headers.get("content-type", "").lower():
        return True
    return evidence.text.lstrip()[:15].lower().startswith(("<!doctype html", "<html"))


def scope_names(evidence: Evidence) -> list[str]:
    """Permissions that the provider names as missing: in its challenge (RFC 6750 §3), or in the JSON of its answer."""
    found: list[str] = []
    challenge = evidence.headers.get("www-authenticate", "")
    if "insufficient_scope" in challenge and (scope := re.search(r'scope="([^"]{1,500})"', challenge)):
        found += scope[1].split()
    if evidence.text.lstrip()[:1] in {"{", "["}:
        try:
            data = orjson.loads(evidence.text)
        except orjson.JSONDecodeError:
            data = None
        for values in _scope_lists(data, 6):
            found += (
                values.replace(",", " ").split()
                if isinstance(values, str)
                else [v for v in values if isinstance(v, str)]
            )
    return [name for name in dict.fromkeys(found) if _SCOPE_NAME.fullmatch(name)][:20]


def _scope_lists(data: Any, depth: int) -> Iterator[str | list[Any]]:
    if depth == 0:
        return
    if isinstance(data, dict):
        for name, value in data.items():
            if str(name).lower().replace("-", "_") in _SCOPE_KEYS and isinstance(value, str | list):
                yield value
            else:
                yield from _scope_lists(value, depth - 1)
    elif isinstance(data, list):
        for value in data[:20]:
            yield from _scope_lists(value, depth - 1)


def _detail(evidence: Evidence) -> str | None:
    if evidence.exchange is not None:
        return evidence.exchange.body[:300] or evidence.exchange.failure
    return evidence.failure_text or evidence.description
