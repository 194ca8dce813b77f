"""A diagnosis as a refusal: plain words for the end user, the exchange beside it for the operator's log."""

from __future__ import annotations

from mooring import errors
from mooring.diagnosis.evidence import Diagnosis
from mooring.protocol.redact import clean_line


def refusal(title: str, found: Diagnosis) -> errors.CredentialRejected:
    """The refusal that tells a person what is wrong. `title` names the connector."""
    extra: dict[str, object] = {"cause": found.code, "diagnosis": found.for_client()}
    status = found.exchange.status if found.exchange is not None else None
    if found.detail or status:
        detail = clean_line(found.detail, 300) if found.detail else f"status {status} without a readable word"
        answered: dict[str, object] = {"status": status, "message": detail}
        if found.retry_after is not None:
            answered["retry_after"] = round(found.retry_after)
        extra["provider_response"] = answered
    return errors.CredentialRejected(
        f"{title}: {found.cause.for_user}", hint=found.what_to_do, extra=extra, evidence=found.evidence()
    )


def attempt_text(title: str, found: Diagnosis) -> str:
    """What an OAuth attempt says: the published Hub may show the description alone, so the cause stands in it."""
    words = f"{title}: {found.cause.for_user} {found.what_to_do}"
    if found.detail:
        words += f" (The provider said: {clean_line(found.detail, 200)})"
    return words
