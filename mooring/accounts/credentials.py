"""The credential of an account: what it holds, and how it is sealed and opened."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import orjson

from mooring.connectors.definition import ID_TOKEN, OAuth2
from mooring.errors import Unprocessable
from mooring.kit.vault import DataKey
from mooring.protocol.oauth2 import TokenAnswer, dig
from mooring.protocol.redact import clean_line

_NAME = "credential"  # the vault's field name
REDACTED = "__secretvalue:**redacted**"


@dataclass(frozen=True, slots=True)
class Secrets:
    """An open credential. Lives for one request; shows nothing of itself."""

    fields: Mapping[str, str] = field(default_factory=dict, repr=False)  # secret fields that a person typed
    access_token: str | None = field(default=None, repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    kept: Mapping[str, str] = field(default_factory=dict, repr=False)  # from the token answer, by `oauth2.keep`
    login: Mapping[str, str] = field(default_factory=dict, repr=False)  # secret values of the login after it, by `then`

    def __reduce__(self) -> str:
        raise TypeError("an open credential is never serialised")

    def scope(self) -> dict[str, Any]:
        """The names that templates may use."""
        out: dict[str, Any] = {**self.fields, **self.kept, **self.login}
        if self.access_token is not None:
            out["access_token"] = self.access_token
        return out

    def values(self) -> tuple[str, ...]:
        """Every secret text, for redaction."""
        tokens = (self.access_token, self.refresh_token, self.kept.get(ID_TOKEN))
        return tuple(v for v in (*self.fields.values(), *self.login.values(), *tokens) if v)


@dataclass(frozen=True, slots=True)
class Times:
    """When a token ends, and when to renew it."""

    expires_at: datetime | None = None
    refresh_at: datetime | None = None
    refresh_expires_at: datetime | None = None


def seal(key: DataKey, secrets: Secrets, generation: int) -> bytes:
    """Seal a credential as one generation of it."""
    return key.seal(
        orjson.dumps(
            {
                "fields": dict(secrets.fields),
                "access_token": secrets.access_token,
                "refresh_token": secrets.refresh_token,
                "kept": dict(secrets.kept),
                **({"login": dict(secrets.login)} if secrets.login else {}),
            }
        ),
        name=_NAME,
        generation=generation,
    )


def open_(key: DataKey, sealed: bytes, generation: int) -> Secrets:
    """Open a credential. Raises VaultError when it is not this account's or not this generation."""
    return Secrets(**orjson.loads(key.open(sealed, name=_NAME, generation=generation)))


def open_raw(key: DataKey, sealed: bytes, generation: int) -> dict[str, Any]:
    """`open_` without the class around it: what `seal` wrote. For the hot path."""
    opened: dict[str, Any] = orjson.loads(key.open(sealed, name=_NAME, generation=generation))
    return opened


def with_token(secrets: Secrets, oauth2: OAuth2, answer: TokenAnswer) -> Secrets:
    """The credential with a new token. No refresh token in the answer keeps the old one (rule O14).

    Client credentials are their own refresh token: one that a provider sends nevertheless is not kept (rule O16).
    """
    kept = _kept(oauth2, answer.raw, oauth2.keep)
    login: dict[str, str] = {}
    if oauth2.then is not None and answer.login is not None:
        # What has a pattern decides where calls go and is no secret; the rest is what they prove themselves with.
        for name, value in _kept(oauth2, answer.login, {name: name for name in oauth2.then.keep}).items():
            (kept if name in oauth2.keep_patterns else login)[name] = value
    return replace(
        secrets,
        access_token=answer.access_token,
        refresh_token=(answer.refresh_token or secrets.refresh_token) if not oauth2.machine else None,
        kept={**secrets.kept, **kept},
        login={**secrets.login, **login},
    )


def times_of(oauth2: OAuth2, answer: TokenAnswer, now: datetime, *, renewing: bool = False) -> Times:
    """When this token ends, and when to renew it: 10 to 20 % of its life ahead, at most 5 minutes (rule R4).

    A grant that must not lie idle is renewed about half-way to its limit (rule R7). No `refresh_expires_at` while
    `renewing` means that the known one stands.
    """
    refresh_ends = _refresh_lifetime(oauth2, answer, renewing=renewing)
    refresh_expires_at = now + timedelta(seconds=refresh_ends) if refresh_ends else None
    lifetime = answer.expires_in if answer.expires_in is not None else oauth2.default_expires_in
    idle = oauth2.refresh.idle_seconds if not oauth2.machine else None
    due = [idle * random.uniform(0.4, 0.6)] if idle else []  # noqa: S311 - jitter
    if lifetime is not None:
        due.append(lifetime - _ahead(lifetime, oauth2.refresh.buffer_seconds))
    return Times(
        expires_at=now + timedelta(seconds=lifetime) if lifetime is not None else None,
        refresh_at=now + timedelta(seconds=min(due)) if due else None,
        refresh_expires_at=refresh_expires_at,
    )


def _ahead(lifetime: float, wanted: int | None) -> float:
    """How long before its end a token is renewed, never more than half of its life.

    The jitter stays where 5 minutes are the limit: accounts that were linked together must not be renewed together.
    """
    jitter = random.uniform(0.5, 1.0)  # noqa: S311 - not a secret
    ahead = min(300.0, lifetime * 0.2) * jitter if wanted is None else float(wanted)
    return min(ahead, lifetime / 2)


def _refresh_lifetime(oauth2: OAuth2, answer: TokenAnswer, *, renewing: bool) -> float | None:
    """For how long the refresh token works. Beside an idle limit, a connector's `lifetime` counts from the consent."""
    if answer.refresh_expires_in:
        return answer.refresh_expires_in
    if renewing and (answer.refresh_token is None or oauth2.refresh.idle_seconds is not None):
        return None
    return oauth2.refresh.lifetime_seconds


def _kept(oauth2: OAuth2, source: Any, names: Mapping[str, str]) -> dict[str, str]:
    out = {}
    for name, path in names.items():
        value = dig(source, path)
        if value is None or isinstance(value, dict | list):
            continue
        text = str(value)
        pattern = oauth2.keep_patterns.get(name)
        if pattern is not None and not re.fullmatch(pattern, text):
            # A token answer must not be able to send the credential to a host of its choice.
            raise Unprocessable(f"the provider's token answer holds an unexpected {name}: {clean_line(text, 120)}")
        out[name] = text
    return out


def redacted(value: str) -> str:
    """How a stored secret is shown in a form: its last characters at most, and only of a long one."""
    return REDACTED + (value[-4:] if len(value) >= 16 else "")


def is_redacted(value: str) -> bool:
    """Whether a form sent a placeholder back instead of a new secret."""
    return value.startswith(REDACTED)
