"""Preflight: try an auth config's OAuth set-up before any end user does. Sends nothing that could change anything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from mooring import errors
from mooring.accounts import diagnosing
from mooring.accounts.context import Context
from mooring.auth_configs.service import OpenConfig
from mooring.connect import preflight_oauth
from mooring.connect.preflight_oauth import Check, failed, passed, skipped, warned
from mooring.connectors.definition import OAuth2
from mooring.diagnosis.table import CAUSES
from mooring.diagnosis.typed import placeholders, stray_spaces
from mooring.kit import clock
from mooring.kit.http import BufferedResponse, HttpFailure, OutboundRequest
from mooring.protocol.template import Template, Unresolved

DEADLINE: Final = 15.0  # seconds for all checks together
EACH: Final = 6.0  # seconds for one request
SKEW: Final = 60.0  # seconds that two clocks may differ
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Flight:
    """One run: what is checked, and with which values."""

    context: Context
    opened: OpenConfig
    scope: Mapping[str, Any]
    callback: str

    @property
    def oauth2(self) -> OAuth2 | None:
        """The OAuth part of the method, if it has one."""
        return self.opened.method.oauth2

    async def send(self, request: OutboundRequest, *, max_bytes: int = 1 << 20) -> BufferedResponse:
        """Send one request through the egress guard. Raises HttpFailure."""
        return await self.context.http.send(request, deadline=EACH, max_bytes=max_bytes)

    def url(self, template: Template | None) -> str | None:
        """The rendered URL, or None where a value is missing that only an account has."""
        if template is None:
            return None
        try:
            return template.render(self.scope)
        except Unresolved:
            return None


async def run(context: Context, opened: OpenConfig, fields: Mapping[str, str]) -> list[Check]:
    """Make every check, side by side, within the total deadline. `fields` are public values of an account to try with."""
    defaults = {f.key: f.default for f in opened.method.fields if f.default is not None}
    callback = context.callback_url(opened.connector.key)
    flight = Flight(context, opened, {**defaults, **fields, **opened.setup}, callback)
    out = [_public_url(context), _callback_url(flight), _setup(opened)]
    names: list[tuple[str, Callable[[Flight], Awaitable[Sequence[Check]]]]] = [
        ("hosts", _hosts),
        ("discovery", preflight_oauth.discovery),
        ("callback_registered", preflight_oauth.callback_registered),
        ("client_authentication", preflight_oauth.client_authentication),
    ]
    tasks = {name: asyncio.create_task(_settled(name, check, flight)) for name, check in names}
    await asyncio.wait(tasks.values(), timeout=DEADLINE)
    for name, task in tasks.items():
        if task.done():
            out += task.result()
        else:
            task.cancel()
            out.append(failed(name, "timeout", f"not finished within {DEADLINE:g} s"))
    await asyncio.gather(*tasks.values(), return_exceptions=True)
    return out


async def _settled(name: str, check: Callable[[Flight], Awaitable[Sequence[Check]]], flight: Flight) -> Sequence[Check]:
    """The check's own result; a refusal of ours, such as a missing value, becomes one too."""
    try:
        return await check(flight)
    except errors.MooringError as e:
        cause = str(e.extra.get("cause", "setup_incomplete"))
        return [failed(name, cause if cause in CAUSES else "setup_incomplete", e.message)]


def _public_url(context: Context) -> Check:
    parts = urlsplit(context.public_url)
    if parts.scheme == "https" or parts.hostname in _LOOPBACK:
        return passed("public_url", context.public_url)
    return replace(
        warned("public_url", "setup_incomplete", f"{context.public_url} is plain http"),
        what_to_do="Set MOORING_PUBLIC_URL to the https address at which browsers reach this hub.",
    )


def _callback_url(flight: Flight) -> Check:
    if flight.oauth2 is None or flight.oauth2.grant != "authorization_code":
        return skipped("callback_url", "this method has no callback")
    return replace(
        passed("callback_url", flight.callback),
        what_to_do="Register exactly this redirect URI at the provider, letter for letter.",
    )


def _setup(opened: OpenConfig) -> Check:
    examples = diagnosing.examples_of(opened.method)
    if names := placeholders(opened.setup, examples):
        return failed("setup", "placeholder_value", f"setup.{', setup.'.join(names)}")
    if names := stray_spaces(opened.setup):
        return failed("setup", "stray_spaces", f"setup.{', setup.'.join(names)}")
    missing = [f.key for f in opened.method.app_fields if f.required and not opened.setup.get(f.key)]
    if missing:
        return failed("setup", "setup_incomplete", f"setup.{', setup.'.join(missing)}")
    return passed("setup", "all values are there")


async def _hosts(flight: Flight) -> Sequence[Check]:
    """DNS, egress guard, TLS and clock of every host that is involved. Any answer at all is a good one."""
    oauth2 = flight.oauth2
    urls: dict[str, str | None] = {"api_host": flight.url(flight.opened.method.base_url)}
    if oauth2 is not None:
        urls["token_host"] = flight.url(oauth2.token_url)
        if oauth2.authorize_url is not None:
            urls["authorize_host"] = flight.url(oauth2.authorize_url)
    found = await asyncio.gather(*(_host(flight, name, url) for name, url in urls.items()))
    checks = [check for check, _ in found]
    skews = [skew for _, skew in found if skew is not None]
    if not skews:
        checks.append(skipped("clock", "no host told its time"))
    elif (worst := max(skews, key=abs)) and abs(worst) > SKEW:
        checks.append(warned("clock", "clock_skew", f"the provider's clock is {worst:+.0f} s from this host's"))
    else:
        checks.append(passed("clock", f"within {max(abs(s) for s in skews):.0f} s of the provider's"))
    return checks


async def _host(flight: Flight, name: str, url: str | None) -> tuple[Check, float | None]:
    if url is None:
        return skipped(name, "the address depends on a value of the account; give it in `fields`"), None
    parts = urlsplit(url)
    request = OutboundRequest("HEAD", f"{parts.scheme}://{parts.netloc}/")
    try:
        response = await flight.send(request)
    except HttpFailure as e:
        if e.kind == "too_large":
            return passed(name, parts.netloc), None
        found = diagnosing.of_failure(e, "preflight", None, {})
        return failed(name, found.code, str(e)), None
    detail = f"{parts.netloc} answers" + (" over TLS" if parts.scheme == "https" else "")
    return passed(name, detail), _skew(response.header("date"))


def _skew(date: str | None) -> float | None:
    if date is None:
        return None
    try:
        told = parsedate_to_datetime(date)
    except ValueError:
        return None
    return (told.replace(tzinfo=told.tzinfo or UTC) - clock.now()).total_seconds()


def overall(checks: Sequence[Check]) -> Literal["ok", "warning", "failed"]:
    """The worst of all checks."""
    seen = {check.status for check in checks}
    return "failed" if "failed" in seen else "warning" if "warning" in seen else "ok"
