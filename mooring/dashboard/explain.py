"""Why a call failed and what to do, in plain words: from the log's row and the account as it is now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Explanation:
    """What happened, what to do, and which button of the page does it."""

    what: str
    fix: str
    action: str = ""  # reconnect | config | account | tester | settings | key


_BY_CODE: Final[dict[str, Explanation]] = {
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
    "RequestTimeoutError": Explanation(
        "The provider did not begin to answer in time.",
        "Try again. If it happens often, look at the latency chart and the provider's status page.",
        "tester",
    ),
    "EgressBlockedError": Explanation(
        "The address is private or not https, so the egress guard refused it. Nothing was sent.",
        "If the address is right, list its exact host:port in MOORING_EGRESS_ALLOW on the host.",
    ),
    "ProviderError": Explanation(
        "The provider could not be reached, or its answer made no sense.",
        "Look at the steps below; try again, and check the provider's status page.",
        "tester",
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
_BY_STATUS: Final[dict[int, Explanation]] = {
    400: Explanation(
        "The provider did not understand the request.", "Compare path, query and body with its documentation."
    ),
    401: Explanation(
        "The provider did not accept the credential. If it can be renewed, that was tried once and did not help.",
        "Test the connection. If it fails too, send its owner a reconnect link.",
        "reconnect",
    ),
    403: Explanation(
        "The provider knows the credential but does not permit this: a scope or a permission is missing.",
        "Compare granted and required scopes on the account's page. With more scopes, its owner must connect again.",
        "account",
    ),
    404: Explanation(
        "The provider has nothing at this address.", "Check the path; it goes after the connector's base URL."
    ),
    409: Explanation("The provider says that the request conflicts with what it has.", "Read its answer and decide."),
    422: Explanation(
        "The provider understood the request but can't do it.", "Read its answer; a field is probably wrong."
    ),
    429: Explanation(
        "The provider limits how often it may be called.", "Wait as long as Retry-After says, and call less often."
    ),
}
_SERVER: Final = Explanation(
    "The provider answered with an error of its own.",
    "Try again later; if it stays, ask the provider's support.",
    "tester",
)
_OTHER: Final = Explanation("The call did not succeed.", "Look at the steps below.")


def explain(status: int, error_code: str | None) -> Explanation:
    """The explanation of a failed call. A code means that the hub refused; a bare status came from the provider."""
    if error_code:
        return _BY_CODE.get(error_code, _OTHER)
    return _BY_STATUS.get(status, _SERVER if status >= 500 else _OTHER)
