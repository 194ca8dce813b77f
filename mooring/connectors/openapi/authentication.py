"""Auth methods of a connector from the security schemes of a description. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mooring.connectors.openapi.document import first_sentences


def methods_of(name: str, scheme: Mapping[str, Any], notes: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The auth methods that a security scheme stands for, by key; what its author has to decide is noted."""
    kind = scheme.get("type")
    if kind == "apiKey" and scheme.get("in") in {"header", "query"}:
        place = "header" if scheme["in"] == "header" else "query"
        sent = {"name": str(scheme.get("name")), "value": "${api_key}"}
        yield (
            "api_key",
            {"label": "API key", place: sent, "fields": {"api_key": {"label": "API key", "secret": True}}},
        )
        if str(scheme.get("name")).lower() == "authorization":
            notes.append(f"auth: `{name}` is a whole Authorization header; does its value need a word in front?")
    elif kind == "http" and str(scheme.get("scheme")).lower() == "basic":
        yield (
            "basic",
            {
                "basic": {"username": "${username}", "password": "${password}"},
                "fields": {"username": {"label": "User name"}, "password": {"secret": True}},
            },
        )
    elif kind == "http" and str(scheme.get("scheme")).lower() == "bearer":
        fields = {"token_value": {"label": "Token", "secret": True}}
        yield "bearer", {"label": "Access token", "bearer": "${token_value}", "fields": fields}
    elif kind == "oauth2":
        yield from _oauth2(scheme.get("flows") or {}, notes)
    else:
        notes.append(f"auth: the scheme `{name}` ({kind}) is left out")


def _oauth2(flows: Mapping[str, Any], notes: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for flow, raw in flows.items():
        token_url = str(raw.get("tokenUrl") or "")
        scopes = {str(s): first_sentences(str(text), 120) or None for s, text in (raw.get("scopes") or {}).items()}
        block: dict[str, Any] = {"token_url": token_url}
        if raw.get("refreshUrl"):
            block["refresh_url"] = str(raw["refreshUrl"])
        if flow == "authorizationCode":
            block = {"authorize_url": str(raw.get("authorizationUrl")), **block}
        elif flow == "clientCredentials":
            block = {"grant": "client_credentials", **block}
        else:
            notes.append(f"auth: the flow `{flow}` is left out (RFC 9700 advises against it)")
            continue
        if not all(str(url).startswith("https://") for n, url in block.items() if n.endswith("_url")):
            notes.append(f"auth: the addresses of the flow `{flow}` are not whole https:// addresses; it is left out")
            continue
        if scopes:
            block["scopes"] = scopes
            notes.append(f"auth: all {len(scopes)} scopes are asked for; keep those that the actions need")
        notes.append("auth: does the provider take client_secret_post? It is assumed; `client_auth: basic` otherwise")
        method: dict[str, Any] = {"label": "OAuth 2.0", "oauth2": {**block, "client_auth": "post"}}
        if flow == "clientCredentials":
            method["label"] = "Client credentials"
            method["fields"] = {
                "client_id": {"label": "Client ID"},
                "client_secret": {"label": "Client secret", "secret": True},
            }
        yield ("oauth2" if flow == "authorizationCode" else "client_credentials"), method
