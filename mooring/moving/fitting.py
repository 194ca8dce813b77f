"""Fit one row of a list into an auth method: which value is which field, and when its token is to be renewed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from mooring import errors
from mooring.accounts import credentials
from mooring.accounts.credentials import Secrets, Times
from mooring.auth_configs.service import OpenConfig, field_fault
from mooring.connect.linking import Form, read_form
from mooring.connectors.definition import AuthMethod, OAuth2
from mooring.moving.matching import plain
from mooring.moving.rows import FaultError, Row
from mooring.protocol.oauth2 import TokenAnswer

AHEAD: Final = (150.0, 300.0)  # seconds before its end that a token is renewed, as one that was linked here


@dataclass(frozen=True, slots=True)
class Fitted:
    """A row as a credential of an auth method."""

    public: Mapping[str, str]
    secrets: Secrets = field(repr=False)
    times: Times
    refreshable: bool


def fits(row: Row, method: AuthMethod) -> bool:
    """Whether a row can be a credential of this method at all."""
    if row.method is not None and row.method != method.key:
        return False
    if method.oauth2 is None:
        bearer = row.access_token is not None and row.refresh_token is None
        return row.kind == "fields" or (row.kind is None and (bool(row.secrets) or bearer))
    if method.oauth2.machine:
        return row.kind in {"fields", "machine"} or (row.kind is None and bool(row.secrets))
    return row.kind == "oauth2" or (row.kind is None and (row.access_token or row.refresh_token) is not None)


def fit(row: Row, opened: OpenConfig, renamed: Mapping[str, str], now: datetime) -> Fitted:
    """The credential of a row. Raises FaultError with everything that is wrong; values never appear in it."""
    method, oauth2 = opened.method, opened.method.oauth2
    kept_names = {*oauth2.keep, *oauth2.callback_keep} if oauth2 is not None else set()
    given = {name: value for name, value in row.secrets.items() if name not in kept_names}
    if oauth2 is None and row.access_token is not None:
        given["access_token"] = row.access_token
    form = _form(method, given, row.settings, renamed)
    secrets = Secrets(fields=form.secret)
    if oauth2 is None:
        return Fitted(form.public, secrets, Times(), refreshable=False)
    try:
        answer = TokenAnswer(row.access_token or "", row.refresh_token, None, None, row.scopes, row.raw)
        secrets = credentials.with_token(secrets, oauth2, answer)
    except errors.Unprocessable as e:
        raise FaultError(e.message) from None
    secrets = replace(secrets, access_token=row.access_token, kept={**_named(row, oauth2), **secrets.kept})
    missing = (method.base_url.names & kept_names) - secrets.kept.keys() if oauth2.then is None else frozenset()
    if missing:
        raise FaultError(f"lacks {', '.join(sorted(missing))}, which decides where calls go")
    refreshable = oauth2.machine or secrets.refresh_token is not None
    return Fitted(form.public, secrets, _times(row, oauth2, now, refreshable=refreshable), refreshable)


def _form(
    method: AuthMethod, given: Mapping[str, str], settings: Mapping[str, str], renamed: Mapping[str, str]
) -> Form:
    """Put values into the fields of a form: as told, by name, by their place in HTTP Basic, or the only one that is left."""
    keys = {plain(f.key): f.key for f in method.fields}
    values: dict[str, str] = {}
    left: dict[str, str] = {}
    for name, value in settings.items():
        if (key := renamed.get(name) or keys.get(plain(name))) is not None:
            values[key] = value
    for name, value in given.items():
        key = renamed.get(name) or keys.get(plain(name)) or _basic(method, name)
        if key is not None:
            values[key] = value
        else:
            left[name] = value
    open_fields = [f.key for f in method.fields if f.secret and f.key not in values]
    if len(left) == 1 and len(open_fields) == 1:
        values[open_fields[0]] = left.popitem()[1]
    faults = [
        f"{name}: the form of {method.key} has no such field ({', '.join(keys.values()) or 'it has none'}); "
        f"say which with --field {name}=FIELD"
        for name in left
    ]
    try:
        form = read_form(method, values)
    except errors.Unprocessable as e:
        faults += e.errors
    if faults:
        raise FaultError("; ".join(faults))
    return form


def _basic(method: AuthMethod, name: str) -> str | None:
    """The field that stands where HTTP Basic has the user name or the password."""
    if method.basic is None or name not in {"username", "password"}:
        return None
    names = method.basic[name == "password"].names & {f.key for f in method.fields}
    return next(iter(names)) if len(names) == 1 else None


def _named(row: Row, oauth2: OAuth2) -> dict[str, str]:
    """Values that a token answer or a callback held elsewhere, by the name that they have here."""
    out = {}
    for name, path in {**oauth2.callback_keep, **oauth2.keep}.items():
        value = row.raw.get(name, row.raw.get(path))
        if not isinstance(value, str | int) or isinstance(value, bool):
            continue
        if (pattern := oauth2.keep_patterns.get(name)) and field_fault(pattern, None, str(value)):
            raise FaultError(f"{name}: is not what the connector expects there")
        out[name] = str(value)
    return out


def _times(row: Row, oauth2: OAuth2, now: datetime, *, refreshable: bool) -> Times:
    """Its end as the list says. A token of unknown age is renewed at its first use, and used until that has worked."""
    if not refreshable:
        return Times(expires_at=row.expires_at)
    if row.access_token is None or oauth2.then is not None:
        return Times(expires_at=now, refresh_at=now)
    if row.expires_at is None:
        return Times(refresh_at=now)
    buffer = oauth2.refresh.buffer_seconds
    ahead = float(buffer) if buffer is not None else random.uniform(*AHEAD)  # noqa: S311 - jitter
    due = row.expires_at - timedelta(seconds=ahead)
    if oauth2.refresh.idle_seconds and not oauth2.machine:
        due = min(due, now + timedelta(seconds=oauth2.refresh.idle_seconds / 2))
    return Times(expires_at=row.expires_at, refresh_at=due)
