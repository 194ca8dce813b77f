"""When an account will stop to work if nobody does anything, and why. Pure."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from mooring.accounts.credentials import Secrets, Times
from mooring.connectors.definition import AuthMethod

REASONS: Final[dict[str, str]] = {
    "access_token_ends": "The access token ends and the provider gave no refresh token.",
    "refresh_token_ends": "The refresh token reaches the end of its life, whatever is done.",
    "key_age": "The provider ends keys of this kind after a fixed time.",
    "certificate": "The client certificate ends.",
}
"""Reason → what it means, in plain words."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """The first failure that can be foreseen."""

    at: datetime
    reason: str


def expected_failure(
    method: AuthMethod, secrets: Secrets, times: Times, *, refreshable: bool, typed_at: datetime
) -> Forecast | None:
    """The earliest foreseeable end of a credential, or None. `typed_at` is when a person last entered it."""
    found: list[Forecast] = []
    if method.oauth2 is not None and times.expires_at is not None and not refreshable:
        found.append(Forecast(times.expires_at, "access_token_ends"))
    if times.refresh_expires_at is not None and refreshable:
        found.append(Forecast(times.refresh_expires_at, "refresh_token_ends"))
    found += [
        Forecast(typed_at + timedelta(seconds=spec.lifetime_seconds), "key_age")
        for spec in method.fields
        if spec.lifetime_seconds is not None and secrets.fields.get(spec.key)
    ]
    if (end := _certificate_end(secrets.fields)) is not None:
        found.append(Forecast(end, "certificate"))
    return min(found, key=lambda f: f.at, default=None)


def _certificate_end(fields: Mapping[str, str]) -> datetime | None:
    ends = []
    for value in fields.values():
        if "-----BEGIN CERTIFICATE-----" in value:
            with contextlib.suppress(ValueError):
                from cryptography import x509  # only for connectors with client certificates

                ends += [c.not_valid_after_utc for c in x509.load_pem_x509_certificates(value.encode())]
    return min(ends, default=None)
