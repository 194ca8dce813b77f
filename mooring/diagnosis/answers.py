"""A provider's 401 or 403 to a caller's own request: its cause, what of it a log may keep, and how that reads again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from mooring.diagnosis.evidence import Diagnosis, Evidence, diagnosis
from mooring.diagnosis.rules import diagnose
from mooring.diagnosis.table import CAUSES

REFUSALS: Final = frozenset({401, 403})
BODY_READ: Final = 2048  # bytes; a refusal is short, a page says early what it is, and the rules cost 2 ms per KiB
_CHALLENGE = re.compile(r'(error|scope)="?([\w.:/*+ -]{1,300})', re.IGNORECASE)
_SCHEME = re.compile(r"[A-Za-z][\w-]{1,20}")
_MEDIA_TYPE = re.compile(r"[\w.+/-]{1,80}")


def diagnose_refusal(
    status: int, headers: Mapping[str, str], body: str, *, declared: str | None = None, retry_after: float | None = None
) -> Diagnosis:
    """Name the cause of a refused call by what is there of its answer: `body` may be its beginning or empty.

    Names of `headers` are in lower case. `declared` is the cause that the connector's own file gives, if it gives one.
    """
    evidence = Evidence(
        "proxied_call", status=status, headers=headers, text=body, declared=declared, retry_after=retry_after
    )
    return diagnose(evidence)


def to_keep(found: Diagnosis, status: int, headers: Mapping[str, str]) -> dict[str, Any]:
    """What the request log keeps of a diagnosis: code, names of permissions, and what the answer's head gives away.

    No word of the body is in it: that is kept only where a project asked for it, sealed (advanced logs).
    """
    evidence: dict[str, Any] = {"status": status}
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if _MEDIA_TYPE.fullmatch(kind):
        evidence["content_type"] = kind
    if challenge := headers.get("www-authenticate", ""):
        told = {name.lower(): value.strip() for name, value in _CHALLENGE.findall(challenge)}
        scheme = _SCHEME.match(challenge)
        evidence["challenge"] = ({"scheme": scheme[0]} if scheme else {}) | told
    out: dict[str, Any] = {"cause": found.code, "evidence": evidence}
    if found.names:
        out["names"] = list(found.names)
    if found.retry_after is not None:
        out["retry_after"] = round(found.retry_after)
    return out


def in_full(kept: Mapping[str, Any]) -> dict[str, Any] | None:
    """What `to_keep` kept, with the words for it: of `for_client` and `for_operator`. None for a cause that is gone."""
    if kept.get("cause") not in CAUSES:
        return None
    found = diagnosis(kept["cause"], names=kept.get("names", ()), retry_after=kept.get("retry_after"))
    return found.for_client() | {"for_operator": found.cause.for_operator, "evidence": kept.get("evidence", {})}
