"""What is known of a failure, and what is concluded from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mooring.diagnosis.cause import Cause
from mooring.diagnosis.table import CAUSES
from mooring.protocol.exchange import Exchange

Phase = Literal[
    "callback",
    "token_exchange",
    "refresh",
    "client_credentials",
    "login",
    "credential_test",
    "proxied_call",
    "preflight",
]
Nonsense = Literal["unavailable", "redirect", "html", "not_json", "no_token", "token_type", "status"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that a rule may look at. `text` is what the provider said, unredacted; it leaves the memory nowhere."""

    phase: Phase
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)  # names in lower case
    text: str = field(default="", repr=False)
    error: str | None = None  # of an OAuth error
    description: str | None = field(default=None, repr=False)
    nonsense: Nonsense | None = None  # why a token answer could not be read
    accepted: bool = False  # the status alone would have been good
    refused: bool = False  # but the connector knows that this body is a refusal
    failure: str | None = None  # kind of an exchange without an answer
    failure_text: str = ""
    typed: Mapping[str, str] = field(default_factory=dict, repr=False)
    examples: Mapping[str, str] = field(default_factory=dict)  # placeholders of the fields
    uncertain: bool = False  # an earlier request with the same token may have been carried out
    declared: str | None = None  # the cause that the connector's own `errors` give
    retry_after: float | None = None
    exchange: Exchange | None = None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A cause with what belongs to this one case: names of fields or permissions, when to retry, the exchange."""

    cause: Cause
    names: tuple[str, ...] = ()
    detail: str | None = None  # the provider's own words, redacted
    retry_after: float | None = None
    exchange: Exchange | None = None

    @property
    def code(self) -> str:
        """The cause's code."""
        return self.cause.code

    @property
    def what_to_do(self) -> str:
        """What the user can do, with the names that matter."""
        text = self.cause.what_to_do
        if self.names:
            text += f" {_NAMED.get(self.code, 'Named')}: {', '.join(self.names)}."
        if self.retry_after and self.retry_after > 90:
            text += f" The provider asks to wait about {round(self.retry_after / 60)} minutes."
        return text

    def for_client(self) -> dict[str, Any]:
        """What the Hub may show to the end user: plain words, no evidence."""
        out: dict[str, Any] = describe(self.cause) | {"what_to_do": self.what_to_do}
        if self.names:
            out["names"] = list(self.names)
        if self.retry_after:
            out["retry_after"] = round(self.retry_after)
        return out

    def evidence(self) -> dict[str, Any] | None:
        """What an operator may see of the exchange."""
        return self.exchange.as_json() if self.exchange is not None else None


_NAMED = {
    "stray_spaces": "Field",
    "placeholder_value": "Field",
    "missing_scope": "Missing",
    "scopes_too_narrow": "Missing",
    "invalid_scope": "Refused",
    "setup_incomplete": "Missing",
}


def diagnosis(
    code: str,
    *,
    names: Sequence[str] = (),
    detail: str | None = None,
    retry_after: float | None = None,
    exchange: Exchange | None = None,
) -> Diagnosis:
    """A diagnosis whose cause is already known. Raises KeyError for a code that the table lacks."""
    return Diagnosis(CAUSES[code], tuple(names), detail, retry_after, exchange)


def describe(cause: Cause) -> dict[str, Any]:
    """The cause in plain words, as the Hub shows it."""
    return {
        "cause": cause.code,
        "title": cause.title,
        "for_user": cause.for_user,
        "what_to_do": cause.what_to_do,
        "fault": cause.fault,
        "retry": cause.retry,
    }
