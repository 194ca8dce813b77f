"""Actions over the API: list, run, search (contract §2.7)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import QueryParams

from mooring import errors
from mooring.accounts import service as account_service
from mooring.accounts.context import Context
from mooring.actions import listing, running
from mooring.actions.indexes import indexes
from mooring.connectors.actions import Action
from mooring.connectors.definition import Connector
from mooring.identity.api import caller_with
from mooring.identity.service import Caller
from mooring.kit.body import WRITTEN, Flag
from mooring.kit.web import Json
from mooring.logs.writer import Entry
from mooring.proxy import heartbeat, service

router = APIRouter(prefix="/actions", tags=["Actions"])

Reader = Annotated[Caller, Depends(caller_with("platform:read"))]
Runner = Annotated[Caller, Depends(caller_with("actions:execute"))]


class ActionList(BaseModel):
    """Connectors with their actions, and where the next page begins."""

    data: list[dict[str, Any]]
    next: str | None = None


class RunRequest(BaseModel):
    """A run of one action. Its arguments stand in `path`, `query`, `headers` and `body`; `next` goes on with a list."""

    model_config = ConfigDict(extra="ignore")

    action: str = Field(min_length=1, max_length=300)
    account_id: str | None = Field(
        None, description="Instead of the header x-account-id, which may stand in `headers` too."
    )
    path: dict[str, Any] | None = None
    query: dict[str, Any] | None = None
    headers: dict[str, Any] | None = None
    body: dict[str, Any] | None = None
    next: str | None = Field(None, max_length=8000)


class SearchRequest(BaseModel):
    """What is looked for, in words."""

    model_config = ConfigDict(extra="ignore")

    query: str = Field(min_length=1, max_length=1000)
    connector: str | None = None
    top_k: Annotated[int, Field(ge=1, le=100), WRITTEN] | None = None
    min_similarity: Annotated[float, Field(ge=0, le=1), WRITTEN] | None = None
    project_id: str | None = None


class Found(BaseModel):
    """One action that was found; both generations of clients find their fields."""

    id: str
    similarity_score: float
    action_name: str
    connector_key: str
    description: str
    label: str
    project_id: str = "global"


class FoundActions(BaseModel):
    """The best actions, best first."""

    results: list[Found]
    total_count: int
    query: str
    connector_filter: str | None = None
    project_filter: str | None = None


class BuildRequest(BaseModel):
    """Which connector's actions are to be indexed anew; all if left out."""

    model_config = ConfigDict(extra="ignore")

    connector_key: str | None = None
    force_refresh: Flag = False


def _words(query: QueryParams, *names: str) -> list[str]:
    """Values of a list parameter: repeated, comma-joined, or as a JSON list."""
    out: list[str] = []
    for value in (v for name in names for v in (*query.getlist(name), *query.getlist(f"{name}[]"))):
        if value.startswith("["):
            try:
                out += [str(item) for item in orjson.loads(value)]
                continue
            except (orjson.JSONDecodeError, TypeError):
                pass
        out += [word for word in value.split(",") if word]
    return out


@router.get("")
async def list_actions(request: Request, caller: Reader) -> ActionList:
    """Actions by connector, filtered by `filter[connectors]`, `filter[account_ids]`, `filter[action_key]` and `search`.

    `include=action_details` adds the input schema of each, `authentication_guides` where the guide is; `exclude=actions`
    leaves the actions out. With accounts, a connector stands once for each of them.
    """
    context: Context = request.app.state.context
    query = request.query_params
    include = _words(query, "include")
    wanted = set(_words(query, "filter[connectors]"))
    keys = set(_words(query, "filter[action_key]", "filter[action_keys]"))
    size = query.get("page_size") or "25"
    if not (size.isascii() and size.isdigit() and len(size) < 4 and 1 <= int(size) <= 500):
        raise errors.ValidationFailed("Validation failed", errors=["page_size: must be from 1 to 500"])
    after = _position(query.get("next"))
    shown = []
    search = (query.get("search") or "").strip().lower()
    for position, connector, account in await _candidates(context, caller, _words(query, "filter[account_ids]")):
        if (wanted and connector.key not in wanted) or (after is not None and position <= after):
            continue
        actions = [a for a in listing.runnable(connector) if _matches(connector, a, keys, search)]
        if actions:
            shown.append((position, connector, actions, account))
    page = shown[: int(size)]
    data = [
        listing.connector_meta(
            connector,
            actions,
            icon=f"{context.public_url}/logos/{connector.key}.svg",
            account=account,
            details=bool({"action_details", "operation_details"} & set(include)),
            guides=f"{context.public_url}/guides/{connector.key}" if "authentication_guides" in include else None,
            without_actions="actions" in _words(query, "exclude"),
        )
        for _, connector, actions, account in page
    ]
    return ActionList(data=data, next=_token(page[-1][0]) if len(shown) > len(page) else None)


def _matches(connector: Connector, action: Action, keys: set[str], search: str) -> bool:
    if keys and not keys & {action.key, listing.name_of(connector, action)}:
        return False
    text = f"{connector.title} {listing.name_of(connector, action)} {action.label} {action.help or ''}".lower()
    return all(word in text for word in search.split())


async def _candidates(
    context: Context, caller: Caller, accounts: Sequence[str]
) -> list[tuple[str, Connector, dict[str, str | None] | None]]:
    """Positions, connectors and accounts in order: of the accounts of a filter, else every connector.

    Accounts that are not the project's are left out, as any filter does.
    """
    if not accounts:
        registry = await context.registry.complete()
        return [(connector.key, connector, None) for connector in registry.values()]
    out = []
    async with context.db.read() as tx:
        rows = await account_service.search(tx, caller.project_id, account_ids=accounts, limit=1000)
    for account, config in rows:
        connector = context.registry.of(config) if config is not None else None
        if connector is not None:
            shown = {"account_id": account.id, "integration_id": account.auth_config_id}
            out.append((f"{connector.key}/{account.id}", connector, shown))
    return sorted(out, key=lambda entry: entry[0])


def _token(position: str) -> str:
    return base64.urlsafe_b64encode(position.encode()).rstrip(b"=").decode()


def _position(token: str | None) -> str | None:
    if not token:
        return None
    try:
        return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise errors.ValidationFailed(
            "Validation failed", errors=["next: is not a cursor that this hub made"]
        ) from None


@router.post("/rpc")
async def run_action(
    request: Request, caller: Runner, body: RunRequest, x_account_id: Annotated[str | None, Header()] = None
) -> Response:
    """Run an action through an account: `{data, next}`, or the provider's own bytes where its answer is a file.

    What the provider refuses is answered with the status that it means, and `provider_errors`. `Prefer: heartbeat` works as
    with the proxy.
    """
    context: Context = request.app.state.context
    entry = running.begun(
        context,
        caller,
        "/actions/rpc",
        id=request.scope.get("mooring.request_id"),
        address=request.client.host if request.client else None,
        traceparent=request.headers.get("traceparent"),
    )
    request.scope["mooring.logged"] = True
    wait = service.preferred_wait(request.headers.get("prefer", ""))
    account_id, body.headers = _account_of(body)
    work = _answered(context, caller, body, x_account_id or account_id, entry, wait)
    if not heartbeat.is_asked_for(request.headers.getlist("prefer")):
        return await work
    return await heartbeat.serve(work, entry.id)


def _account_of(body: RunRequest) -> tuple[str | None, dict[str, Any] | None]:
    """The account that the body names, and its headers without it: published clients put it among them."""
    headers = body.headers or {}
    named = [value for name, value in headers.items() if name.lower() == "x-account-id" and isinstance(value, str)]
    kept = {name: value for name, value in headers.items() if name.lower() != "x-account-id"}
    return body.account_id or (named[0] if named else None), kept or None


async def _answered(
    context: Context, caller: Caller, body: RunRequest, account_id: str | None, entry: Entry, wait: float
) -> Response:
    given = {"path": body.path, "query": body.query, "headers": body.headers, "body": body.body}
    result = await running.logged(context, caller, account_id, body.action, given, entry, next=body.next, wait=wait)
    if result.file is None:
        return Json({"data": running.shaped(result.data), "next": result.next})
    headers = {"x-content-type-options": "nosniff", "content-disposition": "attachment"}
    name = result.file.headers.get("content-disposition", "")
    if name.partition(";")[0].strip().lower() in {"attachment", "inline"}:
        headers["content-disposition"] = "attachment" + name[len(name.partition(";")[0]) :]
    kind = result.file.headers.get("content-type", "application/octet-stream")
    return Response(result.file.body, media_type=kind, headers=headers)


@router.post("/search", response_model_exclude_none=True)
async def search_actions(request: Request, caller: Reader, body: SearchRequest) -> FoundActions:
    """Find actions by what they do, in plain words. The ranking is local: no text leaves the hub."""
    context: Context = request.app.state.context
    index = await indexes.of(context.registry)
    hits = index.search(
        body.query,
        connector=body.connector,
        top=body.top_k or 10,
        least=0.0 if body.min_similarity is None else body.min_similarity,
    )
    results = [
        Found(
            id=listing.index_id(hit.connector, hit.action),
            similarity_score=round(hit.score, 4),
            action_name=listing.name_of(hit.connector, hit.action),
            connector_key=hit.connector.key,
            description=listing.description_of(hit.action),
            label=hit.action.label,
        )
        for hit in hits
    ]
    return FoundActions(results=results, total_count=len(results), query=body.query, connector_filter=body.connector)


@router.post("/build")
async def build_actions(request: Request, caller: Reader, body: BuildRequest) -> dict[str, Any]:
    """Say what is indexed. The index is made from the connectors' files when it is asked for, and is never stale."""
    context: Context = request.app.state.context
    index = await indexes.of(context.registry)
    if body.connector_key is not None and body.connector_key not in context.registry:
        raise errors.NotFound(f"there is no connector {body.connector_key[:80]!r}")
    counted = [d for d in index.documents if body.connector_key in {None, d.connector.key}]
    return {
        "status": "success",
        "actions_indexed": len(counted),
        "connector_filter": body.connector_key,
        "error": None,
        "message": f"{len(counted)} actions are indexed.",
    }
