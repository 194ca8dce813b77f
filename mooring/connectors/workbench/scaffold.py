"""The first file of a new connector, with its guide. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from mooring.errors import ConfigurationError

AuthKind = Literal["api_key", "bearer", "basic", "oauth2", "client_credentials"]
_KEY: Final = re.compile(r"[a-z0-9][a-z0-9-]*")
_SCHEMA: Final = "# yaml-language-server: $schema=./connector.schema.json\n"

_AUTH: Final[dict[AuthKind, str]] = {
    "api_key": """\
  api_key:
    label: API key
    header: {name: X-Api-Key, value: "${api_key}"}
    fields:
      api_key: {label: API key, secret: true, help: "In %TITLE%, open Settings, then API keys."}
""",
    "bearer": """\
  api_key:
    label: API token
    bearer: "${api_token}"
    fields:
      api_token: {label: API token, secret: true, help: "In %TITLE%, open Settings, then API tokens."}
""",
    "basic": """\
  basic:
    label: User name and password
    basic: {username: "${username}", password: "${password}"}
    fields:
      username: {label: User name}
      password: {label: Password, secret: true}
""",
    "oauth2": """\
  oauth2:
    label: OAuth 2.0
    oauth2:
      authorize_url: %ORIGIN%/oauth/authorize
      token_url: %ORIGIN%/oauth/token
      scopes:
        read: Reads what the actions of this file need
""",
    "client_credentials": """\
  client_credentials:
    label: Client credentials
    oauth2:
      grant: client_credentials
      token_url: %ORIGIN%/oauth/token
""",
}

_FILE: Final = """\
connector: %KEY%
title: %TITLE%
category: %CATEGORY%
docs: %DOCS%
description: One sentence on what there is to reach.
base_url: %BASE%
auth:
%AUTH%    test: {get: /me}
actions:
  list_items:
    label: List items
    get: /items
    input: {status: string}
    items: items
    tests:
      - input: {status: open}
        replies: [{body: {items: [{id: i1}]}}]
        expect: {data: [{id: i1}], requests: ["GET /items?status=open"]}
"""

_GUIDE: Final = """\
# %TITLE%

## Who can do it

An administrator of %TITLE%.

## Steps

### {%METHOD%}

1. %FIRST%
2. Enter it here, and choose Connect.

## Permissions

{permissions}

## Test

The connection is tested before it is saved, by a request that changes nothing.

## Troubleshooting

{common}
"""

_FIRST: Final[dict[AuthKind, str]] = {
    "api_key": "In %TITLE%, open the settings of the API, and make a key.",
    "bearer": "In %TITLE%, open the settings of the API, and make a token.",
    "basic": "Take a user of %TITLE% that belongs to no person, and its password.",
    "oauth2": "Choose Connect, sign in to %TITLE%, and agree.",
    "client_credentials": "In %TITLE%, register an application, and copy its client ID and its client secret.",
}


@dataclass(frozen=True, slots=True)
class NewConnector:
    """Two files, whole: the definition and the guide for people who link an account."""

    yaml: str
    guide: str


def new_connector(key: str, *, title: str | None, category: str, auth: AuthKind, base_url: str) -> NewConnector:
    """A connector that passes `check`, with one method and one action to go on from.

    Raises ConfigurationError for a key or an address that can't be one.
    """
    if not _KEY.fullmatch(key):
        raise ConfigurationError(
            f"{key!r} is no key of a connector: a-z, 0-9 and `-`, beginning with a letter or digit"
        )
    base = base_url.rstrip("/")
    found = re.match(r"(https?)://[^/?#\s]+", base)
    if found is None:
        raise ConfigurationError(f"--base-url: {base_url!r} is no address such as https://api.acme.com/v1")
    origin = found[0]
    name = title or key.replace("-", " ").title()
    method = "api_key" if auth == "bearer" else auth
    values = {
        "KEY": key,
        "CATEGORY": category,
        "DOCS": origin.replace("http://", "https://") + "/docs",
        "BASE": base,
        "AUTH": _AUTH[auth],
        "METHOD": method,
        "FIRST": _FIRST[auth],
        "ORIGIN": origin,
    }
    return NewConnector(_SCHEMA + _filled(_FILE, values, _quoted(name), name), _filled(_GUIDE, values, name, name))


def _filled(text: str, values: dict[str, str], title: str, plain: str) -> str:
    text = text.replace("title: %TITLE%", f"title: {title}")
    for name, value in values.items():
        text = text.replace(f"%{name}%", value)
    # Inside quotes of YAML a title may not end them.
    return text.replace("%ORIGIN%", values["ORIGIN"]).replace("%TITLE%", plain.replace('"', "'"))


def _quoted(title: str) -> str:
    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9 .&+-]*", title) is not None
    reserved = title.lower() in ("true", "false", "null", "yes", "no")
    return title if plain and not reserved else '"' + title.replace("\\", "\\\\").replace('"', '\\"') + '"'
