"""Run an action through an account: its request or its steps, in the account's own credential and limits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlencode, urljoin

import orjson

from mooring import errors
from mooring.accounts.context import Context
from mooring.accounts.serving import Serving
from mooring.actions import bodies, functions, outcomes, paging
from mooring.actions.functions import PythonStep, Sender
from mooring.actions.inputs import Arguments, gather
from mooring.actions.mapping import mapped
from mooring.actions.paging import Position
from mooring.actions.s1.runner import Account, Runner
from mooring.connectors.actions import PATH_INPUT, Action, ActionRequest, Paging, Step
from mooring.connectors.definition import Connector, Meaning
from mooring.logs.writer import Entry
from mooring.protocol.expressions import UNDEFINED, ExpressionError, to_text
from mooring.protocol.headers import raw
from mooring.protocol.oauth2 import dig
from mooring.protocol.template import Template, Unresolved
from mooring.proxy import reading, service
from mooring.proxy.reading import Whole
from mooring.proxy.service import Call

MOST_REQUESTS: Final = 200  # to the provider, of one run
MOST_ITEMS: Final = 1000  # of `each`
DEEPEST: Final = 5  # actions that call each other


@dataclass(frozen=True, slots=True)
class Result:
    """What an action gives: data and the next page, or the provider's own bytes where its answer is a file."""

    data: Any = None
    next: str | None = None
    file: Whole | None = None


Exchange = Callable[[Call], Awaitable[tuple[Whole, str]]]
"""Sends one request and reads its answer; with the base URL that it went to."""


Opener = Callable[[], Awaitable[Mapping[str, Any]]]
"""Opens the credential, for the rare step that signs with it."""


@dataclass(slots=True)
class _Run:
    """One run, and what it may still do."""

    exchange: Exchange
    connector: Connector
    account: Account
    wait: float
    open: Opener | None = None
    modules: Sequence[str] = ()  # whose functions may run
    left: int = MOST_REQUESTS


@dataclass(slots=True)
class _Answered:
    data: Any
    next: Position | None
    whole: Whole
    ignored: bool = field(default=False)


def opener(context: Context, serving: Serving) -> Opener:
    """Opens a linked account's credential, as it is at that moment."""

    async def open() -> Mapping[str, Any]:
        current = await context.accounts.get(serving.project_id, serving.id)
        current.require_serving()
        return current.open(context.vault)[1]

    return open


def account_of(serving: Serving) -> Account:
    """What an action may know of a linked account."""
    return Account(serving.id, serving.project_id, serving.method.key, serving.public)


def through(context: Context, serving: Serving, entry: Entry) -> Exchange:
    """Exchanges through a linked account, on the proxy's road; the entry gets a step for each."""

    async def exchange(ask: Call) -> tuple[Whole, str]:
        answer = await service.call(context, serving.project_id, serving.id, ask, entry)
        try:
            return await reading.read(answer, entry), answer.origin
        finally:
            await answer.aclose()

    return exchange


async def run(
    exchange: Exchange,
    connector: Connector,
    account: Account,
    action: Action,
    arguments: Arguments,
    *,
    wait: float = service.QUEUE_SECONDS,
    open: Opener | None = None,
    modules: Sequence[str] = (),
) -> Result:
    """Run the action, within the contract's minute. Functions run of these `modules` alone.

    Raises what `exchange` raises, the refusals that the provider's answers mean, and RequestTooSlow.
    """
    running = _Run(exchange, connector, account, wait, open, modules)
    try:
        async with asyncio.timeout(service.LIFE_SECONDS):
            if action.program is not None:
                return await _program(running, action, arguments)
            return await _run(running, action, arguments, depth=1)
    except TimeoutError:
        raise errors.RequestTooSlow(f"the action took longer than {service.LIFE_SECONDS:g} s") from None
    except ExpressionError as e:
        raise errors.ProviderError(f"an expression of the action can't be worked out: {e}") from None


async def _program(running: _Run, action: Action, arguments: Arguments) -> Result:
    async def send(ask: Call) -> Whole:
        running.left -= 1
        if running.left < 0:
            raise errors.Unprocessable(f"the action needs more than {MOST_REQUESTS} requests to the provider")
        return (await running.exchange(ask))[0]

    done = await Runner(send, running.connector, running.account, action, arguments, running.wait, running.open).run()
    return Result(done.data, done.next, done.file)


async def _run(running: _Run, action: Action, arguments: Arguments, *, depth: int) -> Result:
    if depth > DEEPEST:
        raise errors.Unprocessable(f"actions call each other more than {DEEPEST} deep")
    scope: dict[str, Any] = {"input": dict(arguments.values), "steps": {}, "auth": dict(running.account.public)}
    if action.request is None:
        return await _steps(running, action, scope, depth)
    position = None
    if arguments.next is not None:
        position = paging.decode(action.key, arguments.next, action.paging)
    answered = await _request(
        running, action.request, scope, action.paging, action.items, action.meanings, arguments, position
    )
    if answered.ignored:
        return Result()
    whole = answered.whole
    shaped = action.items is not None or action.result is not None or action.mapping is not None
    if not shaped and whole.is_file:
        return Result(file=whole)
    data = answered.data
    if action.result is not None:
        data = fill(action.result, {**scope, "response": _response(whole)})
    if action.mapping is not None and data is not None:
        data = mapped(action.mapping, data)
    following = paging.encode(action.key, answered.next) if answered.next is not None else None
    return Result(data, following)


async def _steps(running: _Run, action: Action, scope: dict[str, Any], depth: int) -> Result:
    last: Any = None
    for step in action.steps:
        if step.when is not None and not _truth(step.when, scope):
            scope["steps"][step.id] = None
            continue
        last = scope["steps"][step.id] = await _step(running, step, scope, depth)
    data = last if action.result is None else fill(action.result, scope)
    if action.mapping is not None and data is not None:
        data = mapped(action.mapping, data)
    return Result(data)


async def _step(running: _Run, step: Step, scope: dict[str, Any], depth: int) -> Any:
    if step.each is None:
        return await _once(running, step, scope, depth)
    items = step.each.value(scope)
    if items is UNDEFINED or items is None:
        return []
    if not isinstance(items, list):
        raise errors.Unprocessable(f"the step {step.id!r} goes through a list, and was given something else")
    if len(items) > MOST_ITEMS:
        raise errors.Unprocessable(f"the step {step.id!r} was given {len(items)} items; {MOST_ITEMS} are the most")
    gate = asyncio.Semaphore(step.parallel)

    async def one(index: int, item: Any) -> Any:
        async with gate:
            return await _once(running, step, {**scope, "item": item, "index": index}, depth)

    if step.parallel == 1:  # in order, so that a failure leaves the rest undone
        return [await one(index, item) for index, item in enumerate(items)]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(index, item)) for index, item in enumerate(items)]
    except ExceptionGroup as group_of:
        raise group_of.exceptions[0] from None  # the first refusal speaks for the step; the others were cancelled
    return [task.result() for task in tasks]


async def _once(running: _Run, step: Step, scope: dict[str, Any], depth: int) -> Any:
    if step.values is not None:
        return fill(step.values, scope)
    if step.python is not None:
        return await functions.run(step.python, running.modules, PythonStep(scope, _sender(running)))
    if step.call is not None:
        other = running.connector.actions[step.call]
        given = fill(step.arguments, scope)
        result = await _run(running, other, gather(other, {"body": given}), depth=depth + 1)
        return result.data
    assert step.request is not None
    arguments = Arguments({}) if step.paging is None else Arguments({}, page_size=step.paging.size)
    answered = await _request(running, step.request, scope, step.paging, step.items, step.meanings, arguments, None)
    found = None if answered.ignored else answered.data
    if step.paging is None or not isinstance(found, list):
        return found
    everything = list(found)
    while answered.next is not None and len(everything) < MOST_ITEMS:
        answered = await _request(
            running, step.request, scope, step.paging, step.items, step.meanings, arguments, answered.next
        )
        everything += answered.data if isinstance(answered.data, list) else []
    return everything


def _sender(running: _Run) -> Sender:
    """Sends what a function asks for, counted and judged like every other request of the action."""

    async def send(ask: Call) -> Whole:
        running.left -= 1
        if running.left < 0:
            raise errors.Unprocessable(f"the action needs more than {MOST_REQUESTS} requests to the provider")
        ask.wait = running.wait
        whole, _ = await running.exchange(ask)
        outcomes.judge(running.connector, (), whole)
        return whole

    return send


async def _request(
    running: _Run,
    request: ActionRequest,
    scope: dict[str, Any],
    pages: Paging | None,
    items: str | None,
    meanings: Sequence[Meaning],
    arguments: Arguments,
    position: Position | None,
) -> _Answered:
    turned = paging.turn(pages, position, arguments.page_size) if pages is not None else paging.Turn()
    ask = _call(request, scope, arguments, turned, running)
    running.left -= 1
    if running.left < 0:
        raise errors.Unprocessable(f"the action needs more than {MOST_REQUESTS} requests to the provider")
    whole, base = await running.exchange(ask)
    if not outcomes.judge(running.connector, meanings, whole):
        return _Answered(None, None, whole, ignored=True)
    data = whole.data
    path = items if items is not None else (pages.items if pages is not None else None)
    if path is not None:
        data = dig(data, path)
    following = None
    if pages is not None:
        seen = {**scope, "response": _response(whole)}
        following = paging.following(
            pages,
            position,
            arguments.page_size,
            data=whole.data,
            headers=whole.headers,
            count=len(data) if isinstance(data, list) else 0,
            scope=seen,
        )
        if following is not None and pages.style == "link":
            following = Position(urljoin(_address(base, ask), str(following.value)), following.size)
    return _Answered(data, following, whole)


def _response(whole: Whole) -> dict[str, Any]:
    """An answer as expressions see it."""
    return {"status": whole.status, "headers": dict(whole.headers), "body": whole.data}


def _address(base: str, ask: Call) -> str:
    """The address that a relative link is relative to."""
    return ask.url.partition("?")[0] if ask.url is not None else base.rstrip("/") + ask.path


def _call(
    request: ActionRequest, scope: Mapping[str, Any], arguments: Arguments, turned: paging.Turn, running: _Run
) -> Call:
    headers = {name: str(value) for name, value in arguments.of("headers").items()} if arguments.places else {}
    for name, template in request.headers.items():
        value = template.value(scope)
        if value is not UNDEFINED and value is not None:
            headers[name] = _text(value)
    headers |= {name: _text(value) for name, value in turned.parameters.get("headers", {}).items()}
    names = {name.lower() for name in (*headers, *running.connector.headers)}  # the connector's own are added later
    body, kind = _body(request, scope, arguments, turned)
    if body is not None and ("content-type" not in names or request.send_as == "multipart"):
        headers = {name: value for name, value in headers.items() if name.lower() != "content-type"}
        headers["content-type"] = kind
    if "accept" not in names:
        headers["accept"] = "application/json, */*;q=0.8"
    path, _, inline = _path(request.path, scope).partition("?")
    query = {**fill(request.query, scope), **(arguments.of("query") if arguments.places else {})}
    query |= turned.parameters.get("query", {})
    parts = [inline, urlencode(_pairs(query), quote_via=quote)]
    return Call(
        method=request.method,
        path="" if turned.url is not None else path,
        query="" if turned.url is not None else "&".join(filter(None, parts)),
        headers=raw(list(headers.items())),
        body=body,
        url=turned.url,
        base=request.base_url,
        wait=running.wait,
    )


def _body(
    request: ActionRequest, scope: Mapping[str, Any], arguments: Arguments, turned: paging.Turn
) -> tuple[bytes | None, str]:
    content = fill(request.body, scope) if request.body is not None else None
    if request.body is None and arguments.places:
        content = arguments.of("body") or None
    if extra := turned.parameters.get("body"):
        content = {**(content if isinstance(content, dict) else {}), **extra}
    if content is None and request.method in {"POST", "PUT", "PATCH"}:
        content = {}  # a JSON call without inputs still carries an object; several providers refuse an empty body
    if content is None or content is UNDEFINED:
        return None, ""
    return bodies.encoded(request, content)


def _path(template: Template, scope: Mapping[str, Any]) -> str:
    """The path, with every value percent-encoded whole: no value adds a segment or a query."""
    given = scope["input"]
    out = []
    for part in template.parts:
        if isinstance(part, str):
            if missing := [name for name in PATH_INPUT.findall(part) if name not in given]:
                raise errors.Unprocessable(f"the path needs the input {missing[0]!r}, which was not given")
            out.append(PATH_INPUT.sub(lambda m: quote(_text(given[m[1]]), safe=""), part))
            continue
        value = part.evaluate(scope)
        if value is UNDEFINED or value is None:
            raise errors.Unprocessable(f"the path needs a value that is not there: {Unresolved(part.source)}")
        out.append(quote(_text(value), safe=""))
    return "".join(out)


def _pairs(query: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Query parameters: a list is repeated, an object is JSON."""
    out: list[tuple[str, str]] = []
    for name, value in query.items():
        items = value if isinstance(value, list) else [value]
        out += [(name, _text(item)) for item in items if item is not None and item is not UNDEFINED]
    return out


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return orjson.dumps(value).decode()
    return value if isinstance(value, str) else to_text(value)


def fill(tree: Any, scope: Mapping[str, Any]) -> Any:
    """Evaluate a tree; what has no value is left out of objects and lists."""
    if isinstance(tree, Template):
        return tree.value(scope)
    if isinstance(tree, Mapping):
        filled = {name: fill(value, scope) for name, value in tree.items()}
        return {name: value for name, value in filled.items() if value is not UNDEFINED}
    if isinstance(tree, list | tuple):
        return [value for item in tree if (value := fill(item, scope)) is not UNDEFINED]
    return tree


def _truth(template: Template, scope: Mapping[str, Any]) -> bool:
    value = template.value(scope)
    return value is not UNDEFINED and bool(value)
