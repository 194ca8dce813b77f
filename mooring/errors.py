"""Every refusal in one tree: code, status, message, hint.

MooringError
├── BadRequest 400            malformed body, wrong types, unknown parameter values
│   └── ValidationFailed      with `errors`, one line per fault
├── Unauthorized 401          missing, unknown or disabled API key
│   ├── SessionExpired        the connect session's token is unknown, expired or spent
│   ├── AccountInvalidCredentials    the provider refuses the account's credentials
│   └── AccountExpiredCredentials    the grant is over; the end user must reconnect
├── Forbidden 403             the key lacks a scope
│   └── ApprovalRequired      a person has to approve the call first; `approval` says where
├── NotFound 404              unknown, foreign and deleted ids alike
├── MethodNotAllowed 405
├── RequestTooSlow 408        the provider did not answer within the deadline
├── Conflict 409              the state of things forbids it
├── AccountInactive 412       auth config disabled, or account suspended or archived
│   └── AccountHandedOver     the account was handed over to another hub
├── PayloadTooLarge 413
├── Unprocessable 422         well-formed, but it cannot be done
│   └── CredentialRejected    the test before saving failed; `cause` says why
├── RateLimited 429
├── Internal 500
├── NotSupported 501
├── ProviderError 502         the provider could not be reached or answered nonsense
│   └── EgressBlocked         the egress guard refused the address
└── Unavailable 503
ConfigurationError            a wrong setting or file; ends the start with one line
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar


class ConfigurationError(Exception):
    """A setting, key or file is wrong. The message names it and says what to do; it never holds a secret."""


class MooringError(Exception):
    """Base of every refusal that reaches a caller.

    `message` is for people, `code` is stable for programs, `hint` says what to do next. None of them may hold a secret.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "InternalError"
    hint: ClassVar[str | None] = None

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        errors: Sequence[str] | None = None,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
        evidence: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = code or self.code
        self.error_hint = hint or self.hint
        self.errors = list(errors or ())
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})
        self.evidence = evidence  # a redacted exchange for the operator's log; never part of the answer

    def body(self, *, request_id: str | None = None) -> dict[str, Any]:
        """The JSON body of contract §1. `statusCode`, `message` and `timestamp` are always there."""
        out: dict[str, Any] = {
            "statusCode": self.status,
            "message": self.message,
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "errorCode": self.error_code,
        }
        if self.errors:
            out["errors"] = self.errors
        if self.error_hint:
            out["hint"] = self.error_hint
        if request_id:
            out["requestId"] = request_id
        out.update(self.extra)
        return out


class BadRequest(MooringError):
    """The request is malformed."""

    status = 400
    code = "BadRequestError"


class ValidationFailed(BadRequest):
    """The body or a parameter has the wrong shape; `errors` has one line per fault."""

    code = "ValidationError"


class Unauthorized(MooringError):
    """No usable API key came with the request."""

    status = 401
    code = "UnauthorizedError"
    hint = "Send the API key as the user name of HTTP Basic with an empty password, or as a Bearer token."


class SessionExpired(Unauthorized):
    """The connect session's token is unknown, expired or revoked."""

    code = "SessionExpiredError"
    hint = "Create a new connect session."


class AccountInvalidCredentials(Unauthorized):
    """The provider refuses the credentials of this account."""

    code = "AccountInvalidCredentialsError"
    hint = "Reconnect the account: create a connect session with its account_id."


class AccountExpiredCredentials(Unauthorized):
    """The account's grant is over; only its owner can renew it."""

    code = "AccountExpiredCredentialsError"
    hint = "Reconnect the account: create a connect session with its account_id."


class Forbidden(MooringError):
    """The key is good but lacks a scope."""

    status = 403
    code = "ForbiddenError"


class ApprovalRequired(Forbidden):
    """A person has to approve the call first; `approval` in the body says which, and where."""

    code = "ApprovalRequiredError"
    hint = "Repeat the same call when it is approved; until then it answers the same."


class NotFound(MooringError):
    """Unknown, foreign and deleted ids all answer this, with the same body."""

    status = 404
    code = "NotFoundError"


class MethodNotAllowed(MooringError):
    """The path exists, the method does not."""

    status = 405
    code = "MethodNotAllowedError"


class RequestTooSlow(MooringError):
    """The provider did not answer within the deadline."""

    status = 408
    code = "RequestTimeoutError"
    hint = "Try again later; the provider is slow."

    def __init__(self, message: str, **kwargs: Any) -> None:
        kwargs.setdefault("headers", {"retry-after": "60"})
        super().__init__(message, **kwargs)


class Conflict(MooringError):
    """The state of things forbids it."""

    status = 409
    code = "ConflictError"


class AccountInactive(MooringError):
    """The account exists but does not serve: its auth config is disabled, or it is suspended or archived."""

    status = 412
    code = "AccountIntegrationInactiveError"


class AccountHandedOver(AccountInactive):
    """The account was handed over to another hub, which alone may use and renew its credential."""

    code = "AccountHandedOverError"
    hint = "Call it at the hub that took it over, or take it back with `mooring accounts hand-back` if none did."


class PayloadTooLarge(MooringError):
    """The body is larger than this endpoint takes."""

    status = 413
    code = "PayloadTooLargeError"


class Unprocessable(MooringError):
    """Well-formed, but it cannot be done."""

    status = 422
    code = "UnprocessableEntityError"


class CredentialRejected(Unprocessable):
    """The test request before saving failed, and nothing was saved. `cause` is a stable word."""

    code = "CredentialRejectedError"


class RateLimited(MooringError):
    """Too many requests; `Retry-After` says when to try again."""

    status = 429
    code = "RateLimitError"


class Internal(MooringError):
    """Our own fault. The message tells nothing about the inside; the log does, under the request id."""


class NotSupported(MooringError):
    """The connector or this version cannot do it."""

    status = 501
    code = "NotSupportedError"


class ProviderError(MooringError):
    """The provider could not be reached, or answered nonsense."""

    status = 502
    code = "ProviderError"


class EgressBlocked(ProviderError):
    """The egress guard refused the address (rules P3, P4)."""

    code = "EgressBlockedError"
    hint = (
        "Private addresses and plain http are blocked. "
        "An operator may list exact host:port entries in MOORING_EGRESS_ALLOW."
    )


class Unavailable(MooringError):
    """This instance cannot serve right now."""

    status = 503
    code = "UnavailableError"
