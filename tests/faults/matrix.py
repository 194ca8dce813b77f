"""Rule S5: what every fault of a provider does to every kind of call. This table is the one in docs/accounts.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CALLS: Final = {
    "exchange": "linking: the code for a token",
    "refresh": "renewing with a refresh token",
    "machine": "renewing with client credentials",
    "proxied": "a call through the proxy",
}

FAULTS: Final = {
    "status_429_seconds": "429, Retry-After in seconds",
    "status_429_date": "429, Retry-After as a date",
    "status_429_absurd": "429, Retry-After of 3,000 years",
    "status_429_missing": "429 without Retry-After",
    "status_500": "500",
    "status_502": "502",
    "status_503": "503",
    "html_200": "200 with HTML",
    "truncated_json": "200 with half of the JSON",
    "redirect_307": "307 to another address",
    "reset_before": "connection reset before the work was done",
    "reset_after_commit": "connection reset after the work was done",
    "silent": "no answer",
    "slow_loris": "one byte in half a second",
    "huge": "an answer of 512 MiB",
    "refused": "connection refused",
    "black_hole": "connection attempts vanish",
    "tls_name": "certificate for another name",
    "tls_expired": "certificate that has ended",
    "dns": "unknown host name",
    "clock_skew": "clock 10 minutes behind",
}

TOKEN_SECONDS: Final = 8.0  # total, of one token request
CONNECT_SECONDS: Final = 5.0
FIRST_BYTE: Final = 3  # seconds; `timeouts` of the connector that these tests use
SLACK: Final = 6.0  # seconds, for a machine that is busy with 80 calls at once


@dataclass(frozen=True)
class End:
    """How a call ends while its fault lasts.

    `answer` is the HTTP status for the caller, None for the browser that finishes a link. `state` is what stays behind:
    of a link the attempt's status, else the account's. `sent` counts the requests that the provider saw.
    """

    answer: int | None
    code: str | None
    state: str
    reason: str | None
    sent: int
    seconds: float

    def describe(self) -> str:
        """The cell of the table for people."""
        if self.answer is None:
            head = "linked" if self.state == "authenticated" else f"not linked, `{self.code}`"
        else:
            head = f"{self.answer}" + (f" `{self.code}`" if self.code else "")
            if self.state != "active":
                head += f"; account `{self.state}`, `{self.reason}`"
        requests = "no request sent" if self.sent == 0 else "1 request" if self.sent == 1 else f"{self.sent} requests"
        return f"{head}; {requests}; {self.seconds:g} s"


def _not_linked(code: str, sent: int = 1, seconds: float = 1.0) -> End:
    return End(None, code, "error", None, sent, seconds)


def _kept(cause: str, sent: int, seconds: float = 1.0) -> End:
    """The token had ended, no new one came; nothing is lost and it is tried again later."""
    return End(502, "TokenRefreshFailedError", "error", cause, sent, seconds)


def _passed(status: int) -> End:
    return End(status, None, "active", None, 1, 1.0)


def _unreached(code: str = "ProviderError", answer: int = 502, sent: int = 1, seconds: float = 1.0) -> End:
    return End(answer, code, "active", None, sent, seconds)


TWICE: Final = 2 * TOKEN_SECONDS + 0.5

MATRIX: Final[dict[str, dict[str, End]]] = {
    **{
        name: {
            "exchange": _not_linked("rate_limited"),
            "refresh": _kept("rate_limited", 1),
            "machine": _kept("rate_limited", 1),
            "proxied": _passed(429),
        }
        for name in ("status_429_seconds", "status_429_date", "status_429_absurd", "status_429_missing")
    },
    **{
        f"status_{status}": {
            "exchange": _not_linked("provider_error"),
            "refresh": _kept("provider_error", 1),
            "machine": _kept("provider_error", 1),
            "proxied": _passed(status),
        }
        for status in (500, 502, 503)
    },
    **{
        name: {
            "exchange": _not_linked("token_not_json"),
            "refresh": _kept("token_not_json", 2, 1.5),
            "machine": _kept("token_not_json", 2, 1.5),
            "proxied": _passed(200),
        }
        for name in ("html_200", "truncated_json")
    },
    "redirect_307": {
        "exchange": _not_linked("token_redirected"),
        "refresh": _kept("token_redirected", 1),
        "machine": _kept("token_redirected", 1),
        "proxied": _passed(307),
    },
    "reset_before": {
        "exchange": _not_linked("reset"),
        "refresh": _kept("reset", 2, 1.5),
        "machine": _kept("reset", 2, 1.5),
        "proxied": _unreached(),
    },
    "reset_after_commit": {
        "exchange": _not_linked("reset"),
        "refresh": End(401, "AccountExpiredCredentialsError", "expired", "uncertain_rotation", 2, 1.5),
        "machine": _kept("reset", 2, 1.5),
        "proxied": _unreached(),
    },
    **{
        name: {
            "exchange": _not_linked("timeout", seconds=TOKEN_SECONDS),
            "refresh": _kept("timeout", 2, TWICE),
            "machine": _kept("timeout", 2, TWICE),
            "proxied": _unreached("RequestTimeoutError", 408, seconds=FIRST_BYTE),
        }
        for name in ("silent", "slow_loris")
    },
    "huge": {
        "exchange": _not_linked("answer_too_large"),
        "refresh": _kept("answer_too_large", 2, 1.5),
        "machine": _kept("answer_too_large", 2, 1.5),
        "proxied": End(200, None, "active", None, 1, 30.0),
    },
    "refused": {
        "exchange": _not_linked("refused", 0),
        "refresh": _kept("refused", 0),
        "machine": _kept("refused", 0),
        "proxied": _unreached(sent=0),
    },
    "black_hole": {
        "exchange": _not_linked("timeout", 0, CONNECT_SECONDS),
        "refresh": _kept("timeout", 0, CONNECT_SECONDS),
        "machine": _kept("timeout", 0, CONNECT_SECONDS),
        "proxied": _unreached("RequestTimeoutError", 408, 0, FIRST_BYTE),
    },
    **{
        name: {
            "exchange": _not_linked(cause, 0),
            "refresh": _kept(cause, 0),
            "machine": _kept(cause, 0),
            "proxied": _unreached(sent=0),
        }
        for name, cause in (("tls_name", "tls_wrong_name"), ("tls_expired", "tls_expired"), ("dns", "host_unknown"))
    },
    "clock_skew": {
        "exchange": End(None, None, "authenticated", None, 1, 1.0),
        "refresh": End(200, None, "active", None, 1, 1.0),
        "machine": End(200, None, "active", None, 1, 1.0),
        "proxied": _passed(200),
    },
}


def table() -> str:
    """The table as Markdown."""
    lines = ["| fault | " + " | ".join(CALLS.values()) + " |", "|---" * (len(CALLS) + 1) + "|"]
    for fault, title in FAULTS.items():
        cells = " | ".join(MATRIX[fault][call].describe() for call in CALLS)
        lines.append(f"| {title} | {cells} |")
    return "\n".join(lines) + "\n"
