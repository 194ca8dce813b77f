"""What the sandbox remembers while it runs: switches, counters, faults, tokens, employees.

All of it lives in the memory of one process and one event loop, so code between two awaits is atomic.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields, replace
from types import NoneType
from typing import Any, Literal, cast, get_args

from mooring.sandbox.data import COMPANIES, Employee, people

FaultTarget = Literal["token", "api"]
FaultMode = Literal[
    "status_429",
    "status_500",
    "status_503",
    "html_200",
    "error_200",
    "truncated_json",
    "redirect_307",
    "hang",
    "slow_loris",
    "huge",
    "drop_before",
    "drop_after_commit",
    "delay_after_commit",
    "invalid_grant",
    "invalid_client",
]
TOKEN_ONLY_MODES = frozenset({"invalid_grant", "invalid_client"})
MAX_MS = 600_000
MAX_TIMES = 1_000_000


class ControlError(Exception):
    """A control request is wrong; the message says where."""


@dataclass(frozen=True)
class RateLimit:
    """So many API calls per company in a fixed window; then 429."""

    limit: int
    window_seconds: int


@dataclass(frozen=True)
class Settings:
    """The switches of `POST /_control/settings`; docs/sandbox.md explains each."""

    access_token_ttl: int = 3600
    rotate: bool = True
    grace_seconds: float = 0
    omit_expires_in: bool = False
    expires_in_as_string: bool = False
    omit_refresh_token: bool = False
    form_encoded_tokens: bool = False
    scope_downgrade: bool = False
    revoke_old_access_token: bool = False
    token_delay_ms: int = 0
    api_delay_ms: int = 0
    error_200: bool = False
    rate_limit: RateLimit | None = None
    wrong_iss: bool = False
    omit_iss: bool = False
    token_type: str = "Bearer"


_SETTING_TYPES: dict[str, tuple[type, ...]] = {
    f.name: (int, float) if f.name == "grace_seconds" else (type(f.default),) for f in fields(Settings)
}
_UPPER_BOUNDS = {"token_delay_ms": MAX_MS, "api_delay_ms": MAX_MS}


def merge_settings(current: Settings, patch: object) -> Settings:
    """Apply a JSON object to the settings; names left out keep their value. Raise `ControlError`."""
    if not isinstance(patch, dict):
        raise ControlError("The body must be a JSON object of settings.")
    changes: dict[str, Any] = {}
    for name, value in patch.items():
        if name not in _SETTING_TYPES:
            raise ControlError(f"Unknown setting {name!r}. Known: {', '.join(sorted(_SETTING_TYPES))}.")
        if name == "rate_limit":
            changes[name] = _rate_limit(value)
            continue
        kinds = _SETTING_TYPES[name]
        # bool is an int in Python, but not in JSON
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise ControlError(f"Setting {name!r} must be of type {kinds[-1].__name__}.")
        highest = _UPPER_BOUNDS.get(name, 10**9)
        if isinstance(value, (int, float)) and not 0 <= value <= highest:
            raise ControlError(f"Setting {name!r} must be from 0 to {highest}.")
        changes[name] = value
    return replace(current, **changes)


def _rate_limit(value: object) -> RateLimit | None:
    if isinstance(value, NoneType):
        return None
    if not isinstance(value, dict) or set(value) != {"limit", "window_seconds"}:
        raise ControlError("Setting 'rate_limit' must be null or {limit, window_seconds}.")
    if not all(isinstance(number, int) and number >= 1 for number in value.values()):
        raise ControlError("Both numbers of 'rate_limit' must be whole and at least 1.")
    return RateLimit(value["limit"], value["window_seconds"])


@dataclass
class Fault:
    """A misbehaviour that waits for the next `times` requests; `ms` is its duration where it has one."""

    target: FaultTarget
    mode: FaultMode
    times: int
    ms: int | None


def parse_fault(body: object) -> Fault:
    """Read `{target, mode, times, ms}`. Raise `ControlError`."""
    if not isinstance(body, dict):
        raise ControlError("The body must be a JSON object {target, mode, times, ms}.")
    if unknown := set(body) - {"target", "mode", "times", "ms"}:
        raise ControlError(f"Unknown field {min(unknown)!r}. Known: target, mode, times, ms.")
    target, mode, times, ms = body.get("target"), body.get("mode"), body.get("times", 1), body.get("ms")
    if target not in get_args(FaultTarget):
        raise ControlError(f"'target' must be one of: {', '.join(get_args(FaultTarget))}.")
    if mode not in get_args(FaultMode):
        raise ControlError(f"'mode' must be one of: {', '.join(get_args(FaultMode))}.")
    if mode in TOKEN_ONLY_MODES and target != "token":
        raise ControlError(f"Mode {mode!r} exists only for target 'token'.")
    if type(times) is not int or not 1 <= times <= MAX_TIMES:
        raise ControlError(f"'times' must be a whole number from 1 to {MAX_TIMES}.")
    if ms is not None and (type(ms) is not int or not 0 <= ms <= MAX_MS):
        raise ControlError(f"'ms' must be a whole number from 0 to {MAX_MS}.")
    return Fault(cast("FaultTarget", target), cast("FaultMode", mode), times, ms)


@dataclass
class Counters:
    """What happened since the start or the last reset."""

    token_requests: Counter[str] = field(default_factory=Counter)
    token_ok: int = 0
    token_errors: Counter[str] = field(default_factory=Counter)
    reuse_detections: int = 0
    revocations: int = 0
    in_flight_token_requests: int = 0
    max_in_flight_token_requests: int = 0
    api_calls: int = 0
    api_401s: int = 0
    api_429s: int = 0
    faults_fired: Counter[str] = field(default_factory=Counter)
    redirects_followed: int = 0


@dataclass
class Grant:
    """What one company allowed one client. `refresh_token` is the newest of its chain."""

    client_id: str
    company: str
    scopes: tuple[str, ...]
    revoked: bool = False
    refresh_token: str | None = None


@dataclass
class Code:
    """An authorization code. `used` ones are remembered, so that their reuse is noticed."""

    grant: Grant
    redirect_uri: str
    challenge: str | None
    expires_at: float
    used: bool = False


@dataclass
class RefreshToken:
    """One link of a rotation chain; `replaced_at` is the monotonic time of its use."""

    grant: Grant
    replaced_at: float | None = None


@dataclass
class AccessToken:
    """A Bearer token of the API."""

    grant: Grant
    scopes: tuple[str, ...]
    expires_at: float


@dataclass
class State:
    """Everything one sandbox process knows."""

    issuer: str
    settings: Settings = field(default_factory=Settings)
    counters: Counters = field(default_factory=Counters)
    faults: list[Fault] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)
    codes: dict[str, Code] = field(default_factory=dict)
    refresh_tokens: dict[str, RefreshToken] = field(default_factory=dict)
    access_tokens: dict[str, AccessToken] = field(default_factory=dict)
    rate_windows: dict[str, tuple[float, int]] = field(default_factory=dict)
    employees: dict[str, dict[str, Employee]] = field(
        default_factory=lambda: {key: people(company) for key, company in COMPANIES.items()}
    )
    next_employee: Counter[str] = field(default_factory=Counter)


def reset(state: State) -> None:
    """Bring everything back to how it is at start; token requests in flight stay counted."""
    fresh = State(state.issuer)
    fresh.counters.in_flight_token_requests = state.counters.in_flight_token_requests
    fresh.counters.max_in_flight_token_requests = state.counters.in_flight_token_requests
    for each in fields(State):
        setattr(state, each.name, getattr(fresh, each.name))


def take_fault(state: State, target: FaultTarget) -> Fault | None:
    """Take one use of the oldest fault that waits for this target."""
    for fault in state.faults:
        if fault.target == target:
            fault.times -= 1
            if fault.times == 0:
                state.faults.remove(fault)
            state.counters.faults_fired[f"{target}:{fault.mode}"] += 1
            return fault
    return None
