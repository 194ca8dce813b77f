"""The events there are, and the JSON that tells of one (contract §7)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import orjson

from mooring.kit import clock

BODY_LIMIT = 20_000  # bytes; Standard Webhooks: under 20 kB
_ENVELOPE_ROOM = 1_500

DISABLED = "webhook_endpoint.disabled"
FEEDBACK = "tool_feedback.created"
TEST = "webhook_endpoint.test"

EVENTS: Final[dict[str, str]] = {
    "account.created": "An end user linked an account.",
    "account.updated": "An account changed: linked again, enabled, suspended, or its data edited.",
    "account.identity_changed": "An account was linked again with the credential of another account at the provider.",
    "account.deleted": "An account was deleted.",
    "account.error": "Calls through an account fail; nobody has to act yet, or the reason says who.",
    "account.expiring": "An account will stop to work soon unless its end user connects it again; the reason says why.",
    "account.expired": "The grant of an account is over; its end user must connect it again.",
    "auth_config.created": "An auth config was created.",
    "auth_config.updated": "An auth config changed.",
    "auth_config.deleted": "An auth config was deleted.",
    "auth_config.enabled": "An auth config was switched on.",
    "auth_config.disabled": "An auth config was switched off; its accounts do not serve.",
    "auth_config.default_changed": "An auth config became the default of its connector.",
    "connection_attempt.started": "An end user began to connect an account.",
    "connection_attempt.authenticated": "A connection attempt ended with a linked account.",
    "connection_attempt.error": "A connection attempt failed.",
    "connection_attempt.cancelled": "An end user gave a connection attempt up.",
    "approval.requested": "A call of an API key waits for a person's approval; `url` is the page to decide on.",
    "approval.approved": "A person approved a call; it is made when its caller repeats it.",
    "approval.rejected": "A person refused a call.",
    "provider_event.received": "A provider sent a webhook of its own; `data` is what it said.",
    FEEDBACK: "Somebody said how a tool did for them.",
    DISABLED: "Mooring switched an endpoint off: it answered 410, or failed for five days.",
    TEST: "A test delivery that somebody asked for; sent whatever the endpoint's filter says.",
}
"""Event → what it tells. The part before the dot is the record type."""

UNIFIED_RECORDS: Final[tuple[str, ...]] = (
    "hris_employees", "hris_employments",
    "ats_assessments", "ats_candidates", "ats_applications", "ats_interviews", "ats_jobs", "ats_job_postings",
    "ats_lists", "ats_users",
    "crm_accounts", "crm_contacts",
    "lms_assignments", "lms_completions", "lms_content", "lms_courses", "lms_users",
    "documents_files", "documents_folders",
)  # fmt: skip
"""Records of the unified events of contract §7. Mooring sends these only when they are raised by hand."""

UNIFIED_EVENTS: Final[frozenset[str]] = frozenset(
    f"{record}.{verb}" for record in UNIFIED_RECORDS for verb in ("created", "updated", "deleted")
)


def is_known(event: str) -> bool:
    """Whether an endpoint may ask for this event."""
    return event in EVENTS or event in UNIFIED_EVENTS


def is_raisable(event: str) -> bool:
    """Whether this event may be raised by hand for an account."""
    return event in UNIFIED_EVENTS or (event in EVENTS and event.startswith("account."))


def record_type(event: str) -> str:
    """The record type of an event name."""
    return event.partition(".")[0]


def account_payload(
    *,
    provider: str,
    origin_owner_id: str | None = None,
    origin_owner_name: str | None = None,
    origin_username: str | None = None,
    setup_information: Mapping[str, Any] | None = None,
    status: str | None = None,
    status_reasons: list[Any] | None = None,
    provider_account: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """What an account event says besides the envelope. None is left out; secrets have no place in here."""
    return _present(
        provider=provider,
        origin_owner_id=origin_owner_id,
        origin_owner_name=origin_owner_name,
        origin_username=origin_username,
        setup_information=dict(setup_information) if setup_information else None,
        status=status,
        status_reasons=status_reasons or None,
        provider_account=dict(provider_account) if provider_account else None,
    )


def auth_config_payload(
    *, provider: str, authentication_config_key: str, name: str, active: bool, default: bool, environment: str | None
) -> dict[str, Any]:
    """What an auth config event says besides the envelope."""
    return _present(
        provider=provider,
        authentication_config_key=authentication_config_key,
        name=name,
        active=active,
        default=default,
        environment=environment,
    )


def attempt_payload(
    *,
    provider: str,
    integration_id: str | None = None,
    origin_owner_id: str | None = None,
    origin_owner_name: str | None = None,
    error_code: str | None = None,
    error_message: str | None = None,
) -> dict[str, Any]:
    """What a connection attempt event says besides the envelope."""
    return _present(
        provider=provider,
        integration_id=integration_id,
        origin_owner_id=origin_owner_id,
        origin_owner_name=origin_owner_name,
        error_code=error_code,
        error_message=error_message,
    )


def fitted(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The payload, small enough to be sent: its largest fields give way, and `truncated` names them.

    Whoever reports a fact must not fail because a field of it is long.
    """
    kept = dict(payload)
    dropped: list[str] = []
    while len(orjson.dumps(kept)) > BODY_LIMIT - _ENVELOPE_ROOM:
        largest = max((k for k in kept if k != "truncated"), key=lambda k: len(orjson.dumps(kept[k])))
        del kept[largest]
        dropped.append(largest[:80])
        kept["truncated"] = dropped[:20]
    return kept


def body(
    *,
    project_id: str,
    event: str,
    event_date: datetime,
    record_type: str,
    record_id: str,
    account_id: str | None,
    payload: Mapping[str, Any],
    sent_at: datetime,
) -> bytes:
    """The body of one attempt: the envelope of contract §7, then the payload."""
    envelope: dict[str, Any] = {
        "project_id": project_id,
        "event": event,
        "event_date": clock.iso(event_date),
        "record_type": record_type,
        "record_id": record_id,
        "sent_at": clock.iso(sent_at),
    }
    if account_id is not None:
        envelope["account_id"] = account_id
    return orjson.dumps({**envelope, **{k: v for k, v in payload.items() if k not in envelope}})


def _present(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
