"""Auth configs over the API (contract §2.5, and our own write API)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from mooring.auth_configs import service
from mooring.auth_configs.models import AuthConfig
from mooring.connectors.registry import Registry
from mooring.identity.api import caller_with
from mooring.identity.service import Caller
from mooring.kit.body import Body, Flag

router = APIRouter(prefix="/auth_configs", tags=["Auth configs"])

Reader = Annotated[Caller, Depends(caller_with("connectors:read"))]
Writer = Annotated[Caller, Depends(caller_with("connectors:write"))]


class AuthConfigOut(BaseModel):
    """An auth config. Secrets of the set-up are write-only: `secrets_set` tells whether any is stored."""

    id: str
    name: str
    connector_key: str
    connector_label: str
    connector_version: str | None
    connector_pinned_version: str | None = None
    connector_owner: str | None
    logo_url: str
    categories: list[str]
    environment: str | None
    authentication_config_key: str | None
    authentication_config_label: str | None
    active: bool
    default: bool
    release_stage: str
    setup: dict[str, Any]
    secrets_set: bool
    callback_url: str | None = Field(description="Register this redirect URI at the provider; null without OAuth.")
    created_at: datetime
    updated_at: datetime


class AuthConfigPage(BaseModel):
    """One page of auth configs."""

    page: int
    page_size: int
    total: int
    data: list[AuthConfigOut]


_Pin = Field(
    None,
    max_length=40,
    json_schema_extra={"pattern": r"^(latest|[0-9]{1,6}\.([0-9]{1,6}|x)\.([0-9]{1,6}|x))$"},
    description="`1.2.0`, `1.2.x`, `1.x.x`, or `latest` for none. A pinned config stays at what fits.",
)


class AuthConfigCreate(Body):
    """A new auth config."""

    model_config = ConfigDict(extra="forbid")

    connector_key: str = Field(min_length=1, max_length=80)
    authentication_config_key: str = Field(min_length=1, max_length=80)
    name: str | None = Field(None, min_length=1, max_length=200)
    environment: str | None = Field(None, min_length=1, max_length=40)
    connector_pinned_version: str | None = _Pin
    setup: dict[str, Any] | None = None
    default: Flag | None = None
    active: Flag | None = None


class AuthConfigPatch(Body):
    """A change of an auth config; what is left out stays. `setup` is merged, null removes an optional key."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(None, min_length=1, max_length=200)
    connector_pinned_version: str | None = _Pin
    setup: dict[str, Any] | None = None
    active: Flag | None = None
    default: Flag | None = None


def render(request: Request, row: AuthConfig) -> AuthConfigOut:
    """The API shape of a row; a connector that left the catalogue is shown by its key."""
    context = request.app.state.context
    registry: Registry = context.registry
    connector = registry.of(row)
    method = connector.auth.get(row.method_key) if connector else None
    oauth = method is not None and method.oauth2 is not None and method.oauth2.grant == "authorization_code"
    return AuthConfigOut(
        id=row.id,
        name=row.name,
        connector_key=row.connector_key,
        connector_label=connector.title if connector else row.connector_key,
        connector_version=connector.version if connector else None,
        connector_pinned_version=row.connector_pinned_version,
        connector_owner="mooring" if connector and connector.builtin else "custom",
        logo_url=f"{context.public_url}/logos/{row.connector_key}.svg",
        categories=list(connector.categories) if connector else [],
        environment=row.environment,
        authentication_config_key=row.method_key,
        authentication_config_label=method.label if method else None,
        active=row.active,
        default=row.is_default,
        release_stage=connector.stage if connector else "deprecated",
        setup=row.setup,
        secrets_set=row.sealed is not None,
        callback_url=context.callback_url(row.connector_key) if oauth else None,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


@router.get("")
async def list_auth_configs(
    request: Request,
    caller: Reader,
    connector_key: str | None = None,
    enabled: bool | None = None,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    page_size: Annotated[int, Query(ge=1, le=1000)] = 25,
) -> AuthConfigPage:
    """List the project's auth configs."""
    async with request.app.state.context.db.read() as tx:
        rows, total = await service.search(
            tx,
            caller.project_id,
            connector_key=connector_key,
            active=enabled,
            offset=(page - 1) * page_size,
            limit=page_size,
        )
    return AuthConfigPage(page=page, page_size=page_size, total=total, data=[render(request, r) for r in rows])


@router.post("", status_code=201)
async def create_auth_config(request: Request, caller: Writer, body: AuthConfigCreate) -> AuthConfigOut:
    """Set up one auth method of a connector. The first one of a connector becomes its default."""
    context = request.app.state.context
    async with context.db.begin() as tx:
        row = await service.create(
            tx,
            context.vault,
            context.registry,
            caller.project_id,
            connector_key=body.connector_key,
            method_key=body.authentication_config_key,
            name=body.name,
            environment=body.environment,
            pin=body.connector_pinned_version,
            setup=body.setup,
            default=body.default,
            active=body.active is not False,
        )
    return render(request, row)


@router.get("/{id}")
async def get_auth_config(request: Request, caller: Reader, id: str) -> AuthConfigOut:
    """One auth config."""
    async with request.app.state.context.db.read() as tx:
        row = await service.get(tx, caller.project_id, id)
    return render(request, row)


@router.patch("/{id}")
async def patch_auth_config(request: Request, caller: Writer, id: str, body: AuthConfigPatch) -> AuthConfigOut:
    """Change, enable or disable an auth config, or make it the default."""
    context = request.app.state.context
    async with context.db.begin() as tx:
        row = await service.change(
            tx,
            context.vault,
            context.registry,
            caller.project_id,
            id,
            name=body.name,
            pin=body.connector_pinned_version,
            setup=body.setup,
            active=body.active,
            default=body.default,
        )
    return render(request, row)


@router.delete("/{id}", status_code=204)
async def delete_auth_config(request: Request, caller: Writer, id: str) -> None:
    """Delete an auth config that has no linked accounts and is the only one of its connector or not the default."""
    async with request.app.state.context.db.begin() as tx:
        await service.remove(tx, caller.project_id, id)
