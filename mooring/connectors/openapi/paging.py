"""How a list goes on, as far as a description tells: by its parameters, its answers, or extensions of tool makers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mooring.connectors.openapi.document import Operation

_CURSORS: Final = (
    "cursor", "page_token", "pageToken", "next_page_token", "after", "starting_after", "next_cursor", "continuation",
    "continuationToken", "nextToken", "page_cursor", "pageCursor", "paging_token",
)  # fmt: skip
_OFFSETS: Final = ("offset", "skip", "start", "startAt", "start_index", "startIndex", "$skip")
_PAGES: Final = ("page", "page_number", "pageNumber", "page_num", "page[number]", "pageIndex")
_SIZES: Final = (
    "limit", "per_page", "perPage", "page_size", "pageSize", "size", "maxResults", "max_results", "count", "$top",
    "page[size]", "top", "take", "page_limit",
)  # fmt: skip
_NEXT: Final = (
    "next_cursor", "nextCursor", "next_page_token", "nextPageToken", "next_token", "nextToken", "next_page", "next",
    "cursor", "after", "continuationToken",
)  # fmt: skip
_LISTS: Final = ("data", "items", "results", "records", "values", "entries", "value", "list", "content", "objects")


def page_of(operation: Operation, answer: Mapping[str, Any]) -> tuple[dict[str, Any] | None, set[str]]:
    """How the list goes on, and the parameters that it takes for that."""
    if operation.verb not in {"get", "post"}:
        return None, set()
    said = _said(operation)
    if said is not None:
        return said
    names = {str(p["name"]) for p in operation.parameters if p["in"] == "query"}
    items = items_of(answer)
    listing = answer.get("type") == "array" or items is not None
    if not listing:
        return None, set()
    size = next((n for n in _SIZES if n in names), None)
    page: dict[str, Any] | None = None
    cursor = next((n for n in _CURSORS if n in names), None)
    where = _next_path(answer)
    number = next((n for n in _PAGES if n in names), None)
    offset = next((n for n in _OFFSETS if n in names), None)
    taken: set[str] = {n for n in (size, cursor, number, offset) if n}
    if cursor and where:
        page = {"cursor": where, "param": cursor}
    elif answer.get("x-link"):
        page = {"link": "header"}
    elif number:
        page = {"page": number}
    elif offset:
        page = {"offset": offset}
    if page is None:
        return None, set()
    if size:
        page["size_param"] = size
    if items:
        page["items"] = items
    return page, taken


def _said(operation: Operation) -> tuple[dict[str, Any], set[str]] | None:
    """What an extension of the description says of its pages."""
    speakeasy = operation.data.get("x-speakeasy-pagination")
    if isinstance(speakeasy, Mapping):
        outputs = speakeasy.get("outputs") or {}
        given = {
            str(i.get("type")): str(i.get("name")) for i in speakeasy.get("inputs") or () if isinstance(i, Mapping)
        }
        page: dict[str, Any] = {}
        if speakeasy.get("type") == "cursor" and outputs.get("nextCursor") and given.get("cursor"):
            page = {"cursor": str(outputs["nextCursor"]).removeprefix("$."), "param": given["cursor"]}
        elif given.get("page"):
            page = {"page": given["page"]}
        elif given.get("offset"):
            page = {"offset": given["offset"]}
        if page:
            if given.get("limit"):
                page["size_param"] = given["limit"]
            if outputs.get("results"):
                page["items"] = str(outputs["results"]).removeprefix("$.")
            return page, set(given.values())
    fern = operation.data.get("x-fern-pagination")
    if isinstance(fern, Mapping):
        own = {n: str(v).rpartition(".")[2] for n, v in fern.items() if n in {"cursor", "offset"}}
        results = str(fern.get("results") or "").removeprefix("$response.")
        if own.get("cursor") and fern.get("next_cursor"):
            where = str(fern["next_cursor"]).removeprefix("$response.")
            return {"cursor": where, "param": own["cursor"], "items": results}, {own["cursor"]}
        if own.get("offset"):
            return {"offset": own["offset"], "items": results}, {own["offset"]}
    return None


def items_of(schema: Mapping[str, Any]) -> str | None:
    """The dotted path of the list in an answer; None where the answer is the list, or holds none."""
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return None
    lists = [n for n, p in properties.items() if p.get("type") == "array"]
    named = next((n for n in _LISTS if n in lists), None)
    if named or len(lists) == 1:
        return named or lists[0]
    for outer in ("data", "result", "response"):
        if inner := items_of(properties.get(outer) or {}):
            return f"{outer}.{inner}"
    return None


def _next_path(schema: Mapping[str, Any], depth: int = 0) -> str | None:
    """The dotted path of the next cursor in an answer."""
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or depth > 2:
        return None
    for name in _NEXT:
        if properties.get(name, {}).get("type") in {"string", "integer"}:
            return name
    for outer in (
        "meta",
        "metadata",
        "paging",
        "pagination",
        "page_info",
        "pageInfo",
        "links",
        "response_metadata",
        "next",
    ):
        if inner := _next_path(properties.get(outer) or {}, depth + 1):
            return f"{outer}.{inner}"
    return None
