"""Who calls the sandbox's API: five ways to authenticate, each of which names a company."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request

from mooring.sandbox.data import API_KEYS, BASIC_LOGINS, SERVICE_USERS, Credential
from mooring.sandbox.grants import find_access_token
from mooring.sandbox.state import State

REALM = "Mooring sandbox"


class ApiError(Exception):
    """A refusal of the API: status, stable code, message, headers and further fields of the body."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})


@dataclass(frozen=True)
class Caller:
    """A company, and how it proved itself."""

    company: str
    auth_method: str
    scopes: tuple[str, ...]


def authenticate(state: State, request: Request) -> Caller:
    """Resolve the caller by the first credential found; a wrong one has no second chance. Raise 401."""
    headers, query = request.headers, request.query_params
    if authorization := headers.get("authorization"):
        return _from_authorization(state, authorization)
    if key := headers.get("x-api-key"):
        return _known(API_KEYS.get(key), "api_key_header", "The API key is unknown.")
    if "x-service-user-id" in headers or "x-service-user-token" in headers:
        login = (headers.get("x-service-user-id", ""), headers.get("x-service-user-token", ""))
        return _known(SERVICE_USERS.get(login), "service_user", "The service user id or token is wrong.")
    if key := query.get("api_key"):
        return _known(API_KEYS.get(key), "api_key_query", "The API key is unknown.")
    raise _unauthorized("No credential came with the request.")


def require(caller: Caller, scope: str) -> None:
    """Refuse a caller without the scope (RFC 6750 §3.1). Raise 403."""
    if scope in caller.scopes:
        return
    raise ApiError(
        403,
        "insufficient_scope",
        f"This credential lacks the scope {scope}.",
        headers={"www-authenticate": f'Bearer realm="{REALM}", error="insufficient_scope", scope="{scope}"'},
        extra={"missing_scopes": [scope]},
    )


def _from_authorization(state: State, header: str) -> Caller:
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        token = find_access_token(state, value.strip())
        if token is None:
            raise _unauthorized("The access token is unknown, expired or revoked.", error="invalid_token")
        return Caller(token.grant.company, "oauth2", token.scopes)
    if scheme.lower() == "basic":
        try:
            user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            raise _unauthorized("The Basic credentials are not readable.") from None
        return _known(BASIC_LOGINS.get((user, password)), "basic", "The user name or password is wrong.")
    raise _unauthorized("The Authorization scheme must be Bearer or Basic.")


def _known(credential: Credential | None, method: str, otherwise: str) -> Caller:
    if credential is None:
        raise _unauthorized(otherwise)
    return Caller(credential.company, method, credential.scopes)


def _unauthorized(message: str, error: str | None = None) -> ApiError:
    challenge = f'Bearer realm="{REALM}"'
    challenge += f', error="{error}"' if error else f', Basic realm="{REALM}"'
    return ApiError(401, error or "unauthorized", message, headers={"www-authenticate": challenge})
