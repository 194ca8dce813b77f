"""Why a call failed and what an operator does about it: the cause that the connection doctor names, in a few words.

A refusal of the hub's own has its code and no cause: nothing was sent, so there is nothing to diagnose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mooring.diagnosis.cause import Cause
from mooring.diagnosis.evidence import Evidence
from mooring.diagnosis.rules import of_failure, of_status
from mooring.diagnosis.table import CAUSES
from mooring.logs.models import RequestLog
from mooring.logs.service import cause_of


@dataclass(frozen=True, slots=True)
class Explanation:
    """What happened, what to do, and which button of the page does it. `cause` is there when the doctor named one."""

    what: str
    fix: str
    action: str = ""  # reconnect | account | settings | key
    cause: Cause | None = None


_REFUSED: Final[dict[str, Explanation]] = {
    "AccountIntegrationInactiveError": Explanation(
        "The account does not serve: its configuration is disabled, or somebody suspended it. Nothing was sent.",
        "Enable the configuration or resume the account.",
        "account",
    ),
    "AccountInvalidCredentialsError": Explanation(
        "The provider refuses the account's credential. Nothing more is sent until it is replaced.",
        "Send its owner a reconnect link.",
        "reconnect",
    ),
    "AccountExpiredCredentialsError": Explanation(
        "The grant is over and can't be renewed: it was revoked, or reached the end of its life.",
        "Send its owner a reconnect link.",
        "reconnect",
    ),
    "NotFoundError": Explanation(
        "There is no such account in this project. It may have been deleted, or belong to another project.",
        "Check the ID in x-account-id and which project the API key belongs to.",
    ),
    "ForbiddenError": Explanation(
        "The API key lacks the scope for this call.", "Use a key with the scope, or make one.", "key"
    ),
    "AddressNotAllowedError": Explanation(
        "The call came from an address that is not on the project's list.",
        "Add the address under Settings, or call from another one.",
        "settings",
    ),
    "BadRequestError": Explanation(
        "The call was malformed. Nothing was sent.", "Correct the request and send it again."
    ),
    "InvalidUrlError": Explanation(
        "The URL would have left the account's own host. Nothing was sent.", "Leave url out and give only the path."
    ),
    "UnavailableError": Explanation("The hub itself could not serve at that moment.", "Look at the system page."),
    "InternalError": Explanation(
        "Something went wrong inside the hub.", "Look for the request ID in the hub's own log."
    ),
}
_UNANSWERED: Final = {"RequestTimeoutError": "timeout", "EgressBlockedError": "blocked"}
"""Code of a call that got no answer → the kind of failure, for rows whose step says none."""
_ASKED: Final[dict[int, Explanation]] = {
    400: Explanation(
        "The provider did not understand the request.", "Compare path, query and body with its documentation."
    ),
    404: Explanation(
        "The provider has nothing at this address.", "Check the path; it goes after the connector's base URL."
    ),
    409: Explanation("The provider says that the request conflicts with what it has.", "Read its answer and decide."),
    422: Explanation(
        "The provider understood the request but can't do it.", "Read its answer; a field is probably wrong."
    ),
}
"""Statuses that speak of what was asked, not of the connection: no cause explains them."""
_OTHER: Final = Explanation("The call did not succeed.", "Look at the steps below.")

_REPLACE: Final = "Test the connection. If it fails too, send its owner a reconnect link."
_PERMIT: Final = (
    "Compare granted and required scopes on the account's page. With more scopes, its owner must connect again."
)
_BY_FAULT: Final[dict[str, tuple[str, str]]] = {
    "user": ("Look at what is set for the account; its owner may have to enter it again.", "account"),
    "operator": ("Correct it on this hub, or in the auth config.", ""),
    "provider": ("Try again later; if it stays, ask the provider's support.", ""),
    "network": ("Try again; if it stays, look at the network between this hub and the provider.", ""),
    "mooring": ("Look for the request ID in the hub's own log.", ""),
}
_SCOPES: Final = frozenset({"missing_scope", "scopes_too_narrow", "not_an_administrator"})


def explain(row: RequestLog) -> Explanation:
    """The explanation of a failed call: the cause that was stored with it, else the one that its status tells."""
    code = cause_of(row) or _cause_of_failure(row)
    if code is None and row.error_code is not None:
        return _REFUSED.get(row.error_code, _OTHER)
    if code is None and row.status in _ASKED:
        return _ASKED[row.status]
    if code is None:
        code = of_status(Evidence("proxied_call", status=row.status))
    return _of_cause(CAUSES[code])


def _cause_of_failure(row: RequestLog) -> str | None:
    """The cause of a call that got no answer, by what its last step or its code says."""
    kind = (row.steps[-1].get("error") if row.steps else None) or _UNANSWERED.get(row.error_code or "")
    return of_failure(kind, "") if kind else None


def _of_cause(cause: Cause) -> Explanation:
    if cause.code in _SCOPES:
        return Explanation(cause.title, _PERMIT, "account", cause)
    if cause.rejects:
        return Explanation(cause.title, _REPLACE, "reconnect", cause)
    fix, action = _BY_FAULT[cause.fault]
    return Explanation(cause.title, fix, action, cause)


def texts() -> set[str]:
    """Every English text that an explanation may show in the person's language."""
    told = [*_REFUSED.values(), *_ASKED.values(), _OTHER, *(_of_cause(cause) for cause in CAUSES.values())]
    return {text for one in told for text in (one.what, one.fix)}
