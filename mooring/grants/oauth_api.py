"""What an assistant's OAuth client calls: metadata (RFC 9728, RFC 8414), registration, tokens, revocation.

Any page may call these, as no cookie counts here: assistants that live in a browser need that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson
from fastapi import APIRouter, Request, Response
from starlette.types import Send

from mooring import errors
from mooring.accounts.context import Context
from mooring.grants import clients, rules, service, tokens
from mooring.grants.pace import Pace
from mooring.grants.refusals import OAuthRefusal
from mooring.identity import audit
from mooring.kit.web import Json

router = APIRouter(include_in_schema=False)

CORS: Final = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "GET, POST, DELETE, OPTIONS",
    "access-control-allow-headers": "*, Authorization",
    "access-control-expose-headers": "WWW-Authenticate, Mcp-Session-Id, Retry-After",
    "access-control-max-age": "600",
}
WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"
REGISTRATIONS: Final = Pace(60)
TOKENS: Final = Pace(600)  # all users of an assistant that runs elsewhere share its address

Handler = Callable[[Request], Awaitable[Response]]


def _open(path: str, method: str) -> Callable[[Handler], Handler]:
    """A route that any page may call, whose refusals speak OAuth."""

    def decorate(handler: Handler) -> Handler:
        async def served(request: Request) -> Response:
            try:
                response = await handler(request)
            except OAuthRefusal as e:
                response = Json(e.body(), status_code=e.status, headers=e.headers)
            except errors.RateLimited as e:
                told = {"error": "temporarily_unavailable", "error_description": e.message}
                response = Json(told, status_code=e.status, headers=e.headers)
            except errors.BadRequest as e:  # of whatever reads the body
                response = Json({"error": "invalid_request", "error_description": e.message}, status_code=e.status)
            except errors.NotFound as e:
                response = Json(e.body(), status_code=e.status)
            response.headers.update(CORS)
            return response

        served.__name__, served.__doc__ = handler.__name__, handler.__doc__
        router.add_api_route(path, served, methods=[method])
        router.add_api_route(path, _preflight, methods=["OPTIONS"])
        return handler

    return decorate


async def _preflight(request: Request) -> Response:
    """Answer a browser that asks whether a page may call."""
    return Response(status_code=204, headers=CORS)


preflight: Final = Response(status_code=204, headers=CORS)
"""The same for plain ASGI code."""


def send_with(send: Send, headers: Mapping[str, str]) -> Send:
    """A `send` that adds headers to the answer."""
    more = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *more]
        await send(message)

    return sending


async def offered(context: Context, project: str | None) -> bool:
    """Whether end users of the project, or of any, may use assistants."""
    if project is not None:
        try:
            return (await context.projects(project)).assistants
        except errors.NotFound:
            return False
    async with context.db.read() as tx:
        return bool(await service.offering(tx))


def metadata_url(public_url: str, project: str | None) -> str:
    """Where the metadata of a resource is (RFC 9728 §3.1)."""
    return f"{public_url}{WELL_KNOWN}{rules.resource_of('', project)}"


async def _resource_metadata(context: Context, project: str | None) -> Response:
    if not await offered(context, project):
        raise errors.NotFound("no such path")
    name = (await context.projects(project)).name if project else "Mooring"
    return Json(
        {
            "resource": rules.resource_of(context.public_url, project),
            "authorization_servers": [context.public_url],
            "scopes_supported": list(rules.SCOPES),
            "bearer_methods_supported": ["header"],
            "resource_name": name,
        }
    )


@_open(WELL_KNOWN + rules.PROJECT_PATH + "{project}", "GET")
async def project_metadata(request: Request) -> Response:
    """Describe the resource of one project."""
    return await _resource_metadata(request.app.state.context, request.path_params["project"])


@_open(WELL_KNOWN, "GET")
@_open(WELL_KNOWN + rules.PATH, "GET")
async def hub_metadata(request: Request) -> Response:
    """Describe the resource whose project the browser or the hub itself tells."""
    return await _resource_metadata(request.app.state.context, None)


@_open("/.well-known/oauth-authorization-server", "GET")
@_open("/.well-known/openid-configuration", "GET")
async def server_metadata(request: Request) -> Response:
    """Describe the authorization server. Under the other name too, for clients that look there alone."""
    context: Context = request.app.state.context
    if not await offered(context, None):
        raise errors.NotFound("no such path")
    at = context.public_url
    return Json(
        {
            "issuer": at,
            "authorization_endpoint": f"{at}/connect/assistants/authorize",
            "token_endpoint": f"{at}/oauth/token",
            "registration_endpoint": f"{at}/oauth/register",
            "revocation_endpoint": f"{at}/oauth/revoke",
            "scopes_supported": list(rules.SCOPES),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_methods_supported": ["none"],
            "revocation_endpoint_auth_methods_supported": ["none"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
            "client_id_metadata_document_supported": True,
            "ui_locales_supported": ["en", "de"],
        }
    )


@_open("/oauth/register", "POST")
async def register(request: Request) -> Response:
    """Register a public client (RFC 7591). Whatever it asks for, it gets no secret and the two grants that there are."""
    context: Context = request.app.state.context
    REGISTRATIONS.count(_address(request))
    if not await offered(context, None):
        raise errors.NotFound("no such path")
    try:
        data = orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        data = None
    if not isinstance(data, dict):
        raise OAuthRefusal("invalid_client_metadata", "the body must be a JSON object")
    row = await clients.register(context.db, data)
    answer: dict[str, Any] = {
        "client_id": row.id,
        "client_id_issued_at": int(row.created_at.timestamp()),
        "client_name": row.name,
        "redirect_uris": row.redirect_uris,
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "scope": " ".join(rules.SCOPES),
    }
    return Json(answer, status_code=201)


@_open("/oauth/token", "POST")
async def token(request: Request) -> Response:
    """Give tokens for a code or for a refresh token."""
    context: Context = request.app.state.context
    TOKENS.count(_address(request))
    form = await _form(request)
    client_id = _needed(form, "client_id")
    audit.act_as(audit.Actor("assistant", client_id[:80], None, _address(request)))
    resource = _resource(context, form)
    match _needed(form, "grant_type"):
        case "authorization_code":
            pair = await tokens.redeem(
                context.db,
                code=_needed(form, "code"),
                client_id=client_id,
                redirect_uri=_needed(form, "redirect_uri"),
                verifier=_needed(form, "code_verifier"),
                resource=resource,
            )
        case "refresh_token":
            pair = await tokens.renew(
                context.db,
                token=_needed(form, "refresh_token"),
                client_id=client_id,
                resource=resource,
                scope=form.get("scope"),
            )
        case _:
            raise OAuthRefusal("unsupported_grant_type", "authorization_code and refresh_token are supported")
    return Json(
        {
            "access_token": pair.access,
            "token_type": "Bearer",
            "expires_in": pair.seconds,
            "refresh_token": pair.refresh,
            "scope": rules.scope_of(writes=pair.writes),
        }
    )


@_open("/oauth/revoke", "POST")
async def revoke(request: Request) -> Response:
    """Revoke a token, and the grant that it belongs to (RFC 7009)."""
    context: Context = request.app.state.context
    TOKENS.count(_address(request))
    form = await _form(request)
    client_id = _needed(form, "client_id")
    audit.act_as(audit.Actor("assistant", client_id[:80], None, _address(request)))
    await tokens.revoke(context.db, token=_needed(form, "token"), client_id=client_id)
    return Response(status_code=200)


def _address(request: Request) -> str | None:
    return request.client.host if request.client else None


async def _form(request: Request) -> Mapping[str, str]:
    """The form of a request; each field at most once (RFC 6749 §3.2)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise OAuthRefusal("invalid_request", "the body must be application/x-www-form-urlencoded")
    try:
        pairs = parse_qsl((await request.body()).decode(), keep_blank_values=True, max_num_fields=50)
    except (UnicodeDecodeError, ValueError):
        raise OAuthRefusal("invalid_request", "the body is no form") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise OAuthRefusal("invalid_request", "a field stands there twice")
    if "client_secret" in form or "client_assertion" in form:
        raise OAuthRefusal("invalid_client", "clients have no secret here", status=401)
    return form


def _needed(form: Mapping[str, str], name: str) -> str:
    value = form.get(name)
    if not value or "\0" in value:
        raise OAuthRefusal("invalid_request", f"{name} is missing")
    return value


def _resource(context: Context, form: Mapping[str, str]) -> str | None:
    if not form.get("resource"):
        return None
    found = rules.read_resource(context.public_url, form["resource"])
    if found is None:
        raise OAuthRefusal("invalid_target", "resource is none of this server's")
    return found[0]
