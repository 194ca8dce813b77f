"""The protocol server, made of the official SDK: stateless, for one account or for those of a grant."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import mcp_types as types
import orjson
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server

from mooring import __version__, errors
from mooring.accounts.context import Context
from mooring.accounts.serving import Serving
from mooring.actions import listing, running
from mooring.actions.engine import Result
from mooring.actions.indexes import indexes
from mooring.connectors.actions import Action
from mooring.connectors.definition import Connector
from mooring.identity.service import Caller
from mooring.mcp import tools
from mooring.mcp.tools import Mode, Style

PAGE: Final = 100  # tools of one answer
ASKED: Final = "mooring.mcp"  # where a request's scope holds who asks


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks, for which accounts, and how tools are to look."""

    context: Context
    caller: Caller
    accounts: tuple[Serving, ...]
    labels: Mapping[str, str]
    style: Style
    mode: Mode
    address: str | None
    traceparent: str | None

    def of(self, key: str) -> list[Serving]:
        """The accounts at one connector."""
        return [account for account in self.accounts if account.connector.key == key]

    def connectors(self) -> list[Connector]:
        """The connectors of the accounts, each once."""
        return list({account.connector.key: account.connector for account in self.accounts}.values())

    def may_run(self, connector: Connector, action: Action) -> bool:
        """Whether the caller may run an action."""
        if self.caller.reads_only and not action.reads:
            return False
        return self.caller.may_run(listing.name_of(connector, action))

    def to_choose(self, key: str) -> dict[str, str]:
        """The accounts that a call must choose from, with what people call them; none where there is but one."""
        several = self.of(key)
        return {account.id: self.labels.get(account.id, account.id) for account in several} if len(several) > 1 else {}


def build() -> Server[Any]:
    """The server. It keeps nothing between requests."""
    return Server(
        "mooring",
        version=__version__,
        instructions="Tools of linked accounts. Lists come in pages: pass `next` of an answer back to go on.",
        on_list_tools=_list_tools,
        on_call_tool=_call_tool,
    )


def _asked(ctx: ServerRequestContext[Any]) -> Asked:
    request: Any = ctx.request
    asked: Asked = request.scope[ASKED]
    return asked


async def _list_tools(
    ctx: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
) -> types.ListToolsResult:
    asked = _asked(ctx)
    connectors = asked.connectors()
    if asked.mode == "search_execute":
        shown = [tool for c in connectors for tool in _two_tools(c.key, c.title, asked.to_choose(c.key))]
        return types.ListToolsResult(tools=[types.Tool.model_validate(t) for t in shown])
    actions = [(c, a) for c in connectors for a in listing.runnable(c) if asked.may_run(c, a)]
    first = _position(params.cursor if params is not None else None)
    page = actions[first : first + PAGE]
    following = str(first + PAGE) if len(actions) > first + PAGE else None
    made = [tools.tool(c, action, asked.style, asked.to_choose(c.key)) for c, action in page]
    return types.ListToolsResult(tools=[types.Tool.model_validate(t) for t in made], next_cursor=following)


def _position(cursor: str | None) -> int:
    return int(cursor) if cursor is not None and cursor.isascii() and cursor.isdigit() and len(cursor) < 10 else 0


def _two_tools(key: str, title: str, choice: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "name": f"{key}_search_actions",
            "description": f"Find actions of {title} by what they do. Each comes with the schema of its arguments.",
            "inputSchema": tools.SEARCH_SCHEMA,
            "annotations": {"readOnlyHint": True, "openWorldHint": False},
        },
        {
            "name": f"{key}_execute_action",
            "description": f"Run an action of {title} that the search has shown.",
            "inputSchema": tools.choosing(tools.EXECUTE_SCHEMA, choice),
            "annotations": {"readOnlyHint": False, "destructiveHint": True, "openWorldHint": True},
        },
    ]


async def _call_tool(ctx: ServerRequestContext[Any], params: types.CallToolRequestParams) -> types.CallToolResult:
    asked = _asked(ctx)
    arguments = dict(params.arguments or {})
    try:
        if asked.mode == "search_execute":
            return await _searched_or_run(asked, params.name, arguments)
        account = _chosen(asked, _connector_of(asked, params.name), arguments)
        return _told(await _run(asked, account, params.name, arguments, asked.style))
    except errors.ApprovalRequired as e:
        return _content({"status": "pending_approval", "message": e.message, "hint": e.error_hint, **e.extra})
    except errors.MooringError as e:
        # A refusal is a result that the model can read and act on, not a fault of the protocol.
        return _refused(e)


def _connector_of(asked: Asked, name: str) -> str:
    """The key of the connector whose tool it is. An account that is alone need not be named."""
    keys = [connector.key for connector in asked.connectors()]
    if len(keys) == 1:
        return keys[0]
    found = [key for key in keys if name.startswith(f"{key}_")]
    if not found:
        raise errors.NotFound(f"there is no tool {name[:120]!r}", code="ActionNotFoundError")
    return max(found, key=len)


def _chosen(asked: Asked, key: str, arguments: dict[str, Any]) -> Serving:
    """The account of a call, taken out of its arguments where there are several to choose from."""
    choice = asked.to_choose(key)
    if not choice:
        return asked.of(key)[0]
    wanted = arguments.pop(tools.CHOICE, None)
    if wanted not in choice:
        known = ", ".join(f"{id} ({label})" for id, label in choice.items())
        raise errors.ValidationFailed("Validation failed", errors=[f"{tools.CHOICE}: must be one of {known}"])
    return next(account for account in asked.of(key) if account.id == wanted)


async def _searched_or_run(asked: Asked, name: str, arguments: dict[str, Any]) -> types.CallToolResult:
    for key in (connector.key for connector in asked.connectors()):
        if name == f"{key}_search_actions":
            return await _search(asked, key, arguments)
        if name == f"{key}_execute_action":
            wanted, parameters = arguments.get("action_name") or arguments.get("action_id"), arguments.get("parameters")
            if not isinstance(wanted, str):
                raise errors.ValidationFailed("Validation failed", errors=["action_name: is required"])
            if parameters is not None and not isinstance(parameters, dict):
                raise errors.ValidationFailed("Validation failed", errors=["parameters: must be an object"])
            account = _chosen(asked, key, arguments)
            return _told(await _run(asked, account, wanted, parameters or {}, "nested"))
    raise errors.NotFound(f"there is no tool {name[:120]!r}", code="ActionNotFoundError")


async def _search(asked: Asked, key: str, arguments: dict[str, Any]) -> types.CallToolResult:
    query, top = arguments.get("query"), arguments.get("top_k", 5)
    if not isinstance(query, str) or not query.strip():
        raise errors.ValidationFailed("Validation failed", errors=["query: is required"])
    if not isinstance(top, int) or not 1 <= top <= 50:
        raise errors.ValidationFailed("Validation failed", errors=["top_k: must be from 1 to 50"])
    connector = asked.of(key)[0].connector
    index = await indexes.of(asked.context.registry)
    hits = [
        hit
        for hit in index.search(query, connector=connector.key, top=1000)
        if asked.may_run(hit.connector, hit.action)
    ][:top]
    found = [
        {
            "action_name": listing.name_of(hit.connector, hit.action),
            "description": listing.description_of(hit.action),
            "parameters": tools.schema(hit.action, "nested"),
            "similarity_score": round(hit.score, 4),
        }
        for hit in hits
    ]
    return _content({"actions": found})


async def _run(asked: Asked, account: Serving, name: str, arguments: dict[str, Any], style: Style) -> Result:
    entry = running.begun(asked.context, asked.caller, "/mcp", address=asked.address, traceparent=asked.traceparent)
    action: Action | None = listing.find(account.connector, name)
    given = arguments if action is None else tools.grouped(action, arguments, style)
    return await running.logged(asked.context, asked.caller, account.id, name, given, entry)


def _told(result: Result) -> types.CallToolResult:
    if result.file is None:
        return _content(tools.fitting(running.shaped(result.data), result.next))
    kind = result.file.headers.get("content-type", "application/octet-stream").partition(";")[0]
    if len(result.file.body) > tools.MOST_BYTES:
        raise errors.ProviderError(
            f"the file has {len(result.file.body)} bytes; {tools.MOST_BYTES} are the most that a tool answers with",
            code="ResultTooLargeError",
            hint="Run the action with POST /actions/rpc.",
        )
    blob = base64.b64encode(result.file.body).decode()
    held = types.BlobResourceContents(uri="file:///result", mime_type=kind, blob=blob)
    return types.CallToolResult(content=[types.EmbeddedResource(type="resource", resource=held)])


def _content(value: dict[str, Any]) -> types.CallToolResult:
    text = orjson.dumps(value).decode()
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)], structured_content=value)


def _refused(e: errors.MooringError) -> types.CallToolResult:
    text = orjson.dumps(e.body()).decode()
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=True)
