"""What both clients share: requests, what may be sent again and when, and how answers are read."""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import quote

import httpx

from mooring.client.failures import HubError

LONGEST_WAIT: Final = 60.0  # seconds; a hub that asks for more is not waited for
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_PASSING: Final = frozenset({429, 502, 503, 504})


@dataclass(frozen=True)
class Ask:
    """One request to the hub. `repeat`: it may be sent again after an answer that can pass, or none at all."""

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    content: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeat: bool = True


def ask(method: str, path: str, *, params: Mapping[str, Any] | None = None, json: Any = None) -> Ask:
    """A request of the hub's own API. One that makes or changes something carries a key, so that it counts once."""
    headers = {"idempotency-key": str(uuid.uuid4())} if method == "POST" else {}
    given = {name: value for name, value in (params or {}).items() if value is not None}
    return Ask(method, path, given, json, headers=headers)


def proxied(account: str, method: str, path: str, **more: Any) -> Ask:
    """A call through an account. Only what changes nothing is sent again."""
    headers = {**(more.pop("headers", None) or {}), "x-account-id": account}
    method = method.upper()
    return Ask(
        method, "/proxy" + path if path.startswith("/") else f"/proxy/{path}",
        params=more.pop("params", None) or {}, headers=headers, repeat=method in {"GET", "HEAD"}, **more,
    )  # fmt: skip


def segment(value: str) -> str:
    """A value as one part of a path."""
    return quote(value, safe="")


def settings(base_url: str | None, api_key: str | None) -> tuple[str, str]:
    """Address and key, else from MOORING_URL and MOORING_API_KEY. Raises ValueError when one is missing."""
    url = base_url or os.environ.get("MOORING_URL", "")
    key = api_key or os.environ.get("MOORING_API_KEY", "")
    if not url or not key:
        missing = "base_url (or MOORING_URL)" if not url else "api_key (or MOORING_API_KEY)"
        raise ValueError(f"Mooring: {missing} is not given")
    return url.rstrip("/"), key


def pause(request: Ask, done: int, retries: int, answer: httpx.Response | None) -> float | None:
    """Seconds until the next try, or None when there is none."""
    if done >= retries:
        return None
    if answer is not None and answer.status_code not in _PASSING:
        return None
    # A call that was limited was not made, whatever it is.
    if not request.repeat and not (answer is not None and answer.status_code == 429):
        return None
    if answer is not None and (asked := _retry_after(answer.headers.get("retry-after"))) is not None:
        return asked if asked <= LONGEST_WAIT else None
    return min(8.0, 0.25 * 2.0**done) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter


def _retry_after(value: str | None) -> float | None:
    if not value:
        return None
    if value.isascii() and value.strip().isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def checked(answer: httpx.Response) -> httpx.Response:
    """The answer of the hub's own API. Raises HubError when it is a refusal."""
    if answer.is_success:
        return answer
    try:
        body = answer.json()
    except ValueError:
        body = {}
    raise HubError(answer.status_code, body if isinstance(body, dict) else {})


def arguments_of(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a run. Arguments are found by their names; those of every action go where they belong."""
    query = {key: arguments[key] for key in ("page_size", "next") if arguments.get(key) is not None}
    given = {key: value for key, value in arguments.items() if key not in {"page_size", "next"} and value is not None}
    grouped = {key: given.pop(key) for key in ("path", "headers") if isinstance(given.get(key), dict)}
    if isinstance(given.get("query"), dict):
        query = {**given.pop("query"), **query}
    if isinstance(given.get("body"), dict):
        given = {**given.pop("body"), **given}
    return {"action": name, **grouped, "query": query, "body": given}
