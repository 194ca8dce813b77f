"""The numbers of one process as samples: family → label values → number. Bounded: no account, owner or path is a label."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from mooring.accounts.context import Context
from mooring.kit.counters import BUCKETS_MS, CallKey

Samples = dict[str, dict[str, float]]
"""Label values are joined by `|`, which none of them holds."""

COUNTERS: Final = {
    "mooring_calls": ("Calls through accounts, refused ones included.", ("connector", "outcome", "status")),
    "mooring_retries": ("Calls sent again by a connector's rule, or refused by the budget.", ("connector", "outcome")),
    "mooring_refreshes": ("Token refreshes.", ("connector", "outcome")),
    "mooring_grants_over": ("Grants that ended while they were renewed.", ("connector", "cause")),
    "mooring_callbacks_refused": ("OAuth callbacks that belong to no live sign-in of their browser.", ("cause",)),
    "mooring_webhook_attempts": ("Attempts to deliver a webhook.", ("outcome",)),
    "mooring_log_rows_written": ("Rows of the request log that were written.", ()),
    "mooring_log_rows_dropped": (
        "Rows of the request log that were lost: too many waited, or the database refused.",
        (),
    ),
    "mooring_log_details_dropped": ("Headers and bodies that were not kept because too many waited.", ()),
    "mooring_limits_unshared": (
        "Calls that a process judged by its own part of a rate limit because the shared server was away.",
        (),
    ),
    "mooring_egress_blocks": ("Outbound requests that the egress guard refused.", ()),
    "mooring_credentials_opened": ("Credentials that were decrypted.", ()),
}
GAUGES: Final = {
    "mooring_log_rows_waiting": ("Rows of the request log that are not written yet.", ()),
    "mooring_cache_entries": ("Entries of the caches.", ("cache",)),
    "mooring_gates": ("Accounts and apps with a rate limit, by what they do now.", ("state",)),
    "mooring_gate_calls_waiting": ("Calls that wait for a place inside a provider's rate limit.", ()),
    "mooring_provider_origins": (
        "Addresses of providers by the state of their circuit breaker.",
        ("connector", "state"),
    ),
    "mooring_provider_in_flight": ("Calls that wait for the head of a provider's answer.", ("connector",)),
    "mooring_shared_server": ("Processes by whether they reach the server that shares rate limits.", ("state",)),
    "mooring_processes": ("Processes that gave their numbers.", ()),
}
TIMING: Final = "mooring_call_seconds"
TIMING_HELP: Final = "Duration of calls: in all (total), and the wait for the provider in it (provider)."
TIMING_SUM: Final = "mooring_call_seconds_sum"  # in samples only

_NO_CONNECTOR: Final = "none"
_UNREACHABLE: Final = frozenset({"ProviderCutError"})


def outcome_of(key: CallKey) -> str:
    """What became of a call, in one of eight words."""
    connector, code, status = key
    if code is None:
        return "ok" if status < 400 else "provider_error"
    if code == "CallerGoneError":
        return "caller_gone"
    if code in _UNREACHABLE or status in {408, 502, 503}:
        return "unreachable"
    if status == 429:
        return "limited"
    if status >= 500:
        return "internal"
    return "account" if connector is not None and status in {401, 412} else "refused"


def counters_of(context: Context) -> Samples:
    """What only grows, with what earlier lives of this process counted."""
    counters = context.counters
    out: Samples = {family: {} for family in COUNTERS}
    out |= {TIMING: {}, TIMING_SUM: {}}
    for key, count in counters.calls.items():
        label = f"{key[0] or _NO_CONNECTOR}|{outcome_of(key)}|{key[2] // 100}xx"
        _add(out, "mooring_calls", label, count)
    for (connector, outcome), count in counters.retries.items():
        _add(out, "mooring_retries", f"{connector}|{outcome}", count)
    for (connector, outcome), count in counters.refreshes.items():
        _add(out, "mooring_refreshes", f"{connector}|{outcome}", count)
    for (connector, cause), count in counters.grants_over.items():
        _add(out, "mooring_grants_over", f"{connector}|{cause}", count)
    for cause, count in counters.callbacks_refused.items():
        _add(out, "mooring_callbacks_refused", cause, count)
    for outcome, count in counters.deliveries.items():
        _add(out, "mooring_webhook_attempts", outcome, count)
    for connector, timing in counters.timings.items():
        for part, slots, spent in (
            ("total", timing.total, timing.total_ms),
            ("provider", timing.provider, timing.provider_ms),
        ):
            for bound, count in zip((*BUCKETS_MS, float("inf")), slots, strict=True):
                _add(out, TIMING, f"{connector}|{part}|{bound}", count)
            _add(out, TIMING_SUM, f"{connector}|{part}", spent / 1000)
    logs = context.logs
    for family, value in (
        ("mooring_log_rows_written", logs.written),
        ("mooring_log_rows_dropped", logs.dropped),
        ("mooring_log_details_dropped", logs.details_dropped),
        ("mooring_egress_blocks", context.http.blocked),
        ("mooring_credentials_opened", context.vault.opened),
    ):
        _add(out, family, "", value)
    if context.shared is not None:
        _add(out, "mooring_limits_unshared", "", context.shared.local)
    return added(out, counters.before)


def gauges_of(context: Context) -> Samples:
    """What goes up and down."""
    out: Samples = {family: {} for family in GAUGES}
    _add(out, "mooring_log_rows_waiting", "", context.logs.waiting)
    for name, cache in (
        ("accounts", context.accounts.cache),
        ("keys", context.authenticate.cache),
        ("projects", context.projects.cache),
    ):
        _add(out, "mooring_cache_entries", name, len(cache))
    waiting = blocked = gates = queued = 0
    now = time.monotonic()
    for gate in context.limits.gates():
        gates += 1
        queued += gate.queued
        waiting += gate.queued > 0
        blocked += gate.blocked_until > now
    for state, value in (("all", gates), ("waiting", waiting), ("blocked", blocked)):
        _add(out, "mooring_gates", state, value)
    _add(out, "mooring_gate_calls_waiting", "", queued)
    for provider in context.limits.providers():
        connector = provider.connector or _NO_CONNECTOR
        _add(out, "mooring_provider_origins", f"{connector}|{provider.state}", 1)
        _add(out, "mooring_provider_in_flight", connector, provider.in_flight)
    if context.shared is not None:
        _add(out, "mooring_shared_server", "up" if context.shared.up else "away", 1)
    _add(out, "mooring_processes", "", 1)
    return out


def _add(out: Samples, family: str, label: str, value: float) -> None:
    samples = out[family]
    samples[label] = samples.get(label, 0) + value


def added(first: Samples, second: Samples) -> Samples:
    """The sum, label by label."""
    out = {family: dict(samples) for family, samples in first.items()}
    for family, label, value in flat(second):
        _add(out, family, label, value) if family in out else out.update({family: {label: value}})
    return out


def flat(samples: Samples) -> Iterator[tuple[str, str, float]]:
    """Every sample."""
    for family, of_family in samples.items():
        for label, value in of_family.items():
            yield family, label, value
