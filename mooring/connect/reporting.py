"""Tell what went wrong while linking: to the end user in plain words, to the operator with the exchange in the log."""

from __future__ import annotations

from typing import Any

from mooring import errors
from mooring.accounts.context import Context
from mooring.connect.models import ConnectSession
from mooring.diagnosis import report
from mooring.diagnosis.evidence import Diagnosis, diagnosis
from mooring.diagnosis.table import CAUSES
from mooring.logs.writer import Entry


def refused(code: str, title: str, *, detail: str | None = None) -> errors.CredentialRejected:
    """A refusal of the flow itself, whose cause is known without a rule. `detail` holds the provider's words."""
    return report.refusal(title, diagnosis(code, detail=detail))


def diagnosis_of(error: errors.MooringError) -> Diagnosis | None:
    """The diagnosis that a refusal carries, without its exchange."""
    code = str(error.extra.get("cause", ""))
    if code not in CAUSES:
        return None
    told: Any = error.extra.get("diagnosis") or {}
    said: Any = error.extra.get("provider_response") or {}
    return diagnosis(code, names=told.get("names", ()), detail=said.get("message"), retry_after=told.get("retry_after"))


def attempt_words(title: str, error: errors.MooringError, request_id: str | None) -> tuple[str, str]:
    """Code and description of a failed attempt. The description ends with the id that leads to the log."""
    found = diagnosis_of(error)
    if found is None:
        code = error.error_code
        text = f"{error.message} {error.error_hint}" if error.error_hint else error.message
    else:
        code, text = found.code, report.attempt_text(title, found)
        if "diagnosis" not in error.extra:  # a refusal of our own, whose message says more than its cause does
            text += f" ({error.message}.)"
    return code, f"{text[:900]} Reference: {request_id}." if request_id else text[:1000]


def log_failure(
    context: Context,
    session: ConnectSession,
    error: errors.MooringError,
    *,
    request_id: str | None,
    provider: str | None,
    method: str,
    path: str,
) -> None:
    """Write a failed link into the project's log under the request id that the end user sees, with the exchange."""
    if request_id is None:
        return
    cause = str(error.extra.get("cause") or error.error_code)
    exchange = error.evidence
    steps: list[dict[str, Any]] = []
    if exchange is not None:
        step = {name: exchange.get(name) for name in ("method", "url", "status", "duration_ms")}
        steps.append({**step, "error": cause, "exchange": dict(exchange)})
    entry = Entry(
        id=request_id,
        category="platform",
        project_id=session.project_id,
        method=method,
        path=path,
        source_type="HUB",
        account_id=session.account_id,
        origin_owner_id=session.origin_owner_id,
        provider=provider or session.provider,
        service="hub",
        resource="linking",
        url=exchange.get("url") if exchange is not None else None,
        steps=steps,
    )
    context.logs.add(entry.finish(error.status, 0.0, error_code=cause[:80]))
