"""Run the program of an action: its steps in order, each with what those before it gave."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mooring import errors
from mooring.actions import outcomes
from mooring.actions.inputs import Arguments
from mooring.actions.s1 import cursor, downloads, http, jwt
from mooring.actions.s1.cursor import Cursor
from mooring.actions.s1.downloads import FileData
from mooring.actions.s1.fields import group, map_data, typecast
from mooring.actions.s1.http import Output, Page
from mooring.actions.s1.values import fill, holds
from mooring.connectors.actions import Action
from mooring.connectors.definition import Connector
from mooring.connectors.s1.program import DEFAULT_PAGE_SIZE, DataStep, HttpStep, Phase, Program
from mooring.protocol.expression_values import truthy
from mooring.protocol.expressions import UNDEFINED, ExpressionError
from mooring.proxy.reading import Whole
from mooring.proxy.service import Call

MOST_ITEMS: Final = 1000  # of an `iterator`
MOST_PAGES: Final = 100  # that one run goes through before it gives what it has
ENVIRONMENT: Final = "production"


@dataclass(frozen=True, slots=True)
class Account:
    """What expressions may know of the account: nothing secret."""

    id: str
    project_id: str
    method: str
    public: Mapping[str, Any]


@dataclass(slots=True)
class Finished:
    """What an action gives."""

    data: Any = None
    next: str | None = None
    file: Whole | None = None


Send = Callable[[Call], Awaitable[Whole]]


class Runner:
    """One run of one action."""

    def __init__(
        self,
        send: Send,
        connector: Connector,
        account: Account,
        action: Action,
        arguments: Arguments,
        wait: float,
        open: Callable[[], Awaitable[Mapping[str, Any]]] | None = None,
    ) -> None:
        assert action.program is not None
        self._send = send
        self._open = open
        self._connector = connector
        self._action = action
        self._program: Program = action.program
        self._arguments = arguments
        self._wait = wait
        self._oauth = account.method in self._program.oauth
        names = {alias: name for one in self._program.ids for name, alias in one.components}
        inputs = {name: cursor.decomposed(value, names) for name, value in arguments.values.items()}
        if arguments.page_size is not None:
            inputs.setdefault("page_size", arguments.page_size)
        if arguments.next is not None:
            inputs.setdefault("next", arguments.next)
        self._scope: dict[str, Any] = {
            "inputs": inputs,
            "steps": {},
            "credentials": http.Credentials(account.public, oauth=self._oauth),
            "context": {
                "authenticationType": self._program.kinds.get(account.method, account.method),
                "environment": ENVIRONMENT,
                "connectorKey": connector.key,
                "accountSecureId": account.id,
                "projectSecureId": account.project_id,
            },
        }
        self._next: str | None = None
        self._last: Output = Output()

    async def run(self) -> Finished:
        """Run every step. Raises the refusal that a provider's answer means."""
        for index, phase in enumerate(self._program.phases):
            try:
                if not holds(phase.condition, self._scope, strict=self._program.strict):
                    continue
            except ExpressionError:
                if phase.stop_on_condition_error:
                    break
                continue
            self._last = await self._phase(index, phase)
            self._scope["steps"][phase.id] = {"output": self._last.scope()}
            self._scope["result"] = self._last.data
        return self._finish()

    def _finish(self) -> Finished:
        result = self._program.result
        scope = {**{n: s["output"]["data"] for n, s in self._scope["steps"].items()}, **self._scope}
        if result is None:
            found: Any = {"data": self._last.data}
        elif isinstance(result, dict):
            found = fill(result, scope)
        else:
            value = fill(result, scope)
            found = value if isinstance(value, dict) and "data" in value else {"data": value}
        data = found.get("data", found)
        data = None if data is UNDEFINED else data
        following = found.get("next", self._next)
        if isinstance(data, FileData):
            return Finished(file=data.whole)
        if self._program.ids:
            data = self._identified(data)
        return Finished(data, following if isinstance(following, str) and following else None)

    def _identified(self, data: Any) -> Any:
        if isinstance(data, list):
            return [self._identified(item) for item in data]
        if not isinstance(data, dict):
            return data
        out = dict(data)
        for one in self._program.ids:
            if (made := cursor.composite(data, one.components)) is not None:
                out[one.target] = made
        return out

    async def _phase(self, index: int, phase: Phase) -> Output:
        if phase.iterator is None:
            return await self._functions(index, phase, self._scope)
        items = phase.iterator.safe(self._scope)
        if not isinstance(items, list):
            return Output(data=[])
        if len(items) > MOST_ITEMS:
            raise errors.Unprocessable(f"the step {phase.id!r} was given {len(items)} items; {MOST_ITEMS} are the most")
        out = []
        for number, item in enumerate(items):
            here = {**self._scope, "iterator": {"item": item, "index": number, "current": item}}
            out.append(await self._functions(index, phase, here))
        return Output(
            data=[one.data for one in out],
            raw=[one.raw for one in out],
            status=out[-1].status if out else None,
        )

    async def _functions(self, index: int, phase: Phase, scope: dict[str, Any]) -> Output:
        output = Output()
        between: list[dict[str, Any]] = []
        try:
            for function in phase.functions:
                seen = {**scope, "intermediateSteps": between, "result": scope.get("result")}
                output = await self._function(index, function, seen)
                between.append({"output": output.scope()})
        except errors.MooringError as e:
            if not phase.ignore_error:
                raise
            return Output(status=e.status, message=e.message)
        if phase.success is not None:
            value = phase.success.safe({**scope, **output.scope(), "output": output.scope()})
            if value is UNDEFINED or not truthy(value):
                raise errors.ProviderError(f"the step {phase.id!r} did not end as the connector asks for")
        return output

    async def _function(self, index: int, function: HttpStep | DataStep, scope: dict[str, Any]) -> Output:
        if isinstance(function, HttpStep):
            if function.paging is not None:
                return await self._pages(index, function, scope)
            return await self._request(function, scope, None)
        kind = function.kind
        if kind in ("map_fields", "typecast"):
            source = function.source.safe(scope) if function.source is not None else scope.get("result")
            if kind == "typecast":
                return Output(data=typecast(function, None if source is UNDEFINED else source))
            strict = self._program.strict
            named = {} if strict else {n: s["output"]["data"] for n, s in self._scope["steps"].items()}
            return Output(data=map_data(function, source, {**named, **scope}, strict=strict))
        if kind == "group_data":
            return Output(data=group(function, self._scope["steps"]))
        given = fill(function.parameters, scope)
        if kind == "static_values":
            return Output(data=given.get("values"))
        if kind == "sign_jwt":
            return await self._signed(function, scope)
        given.pop("event", None)  # emit_event: there is no event router behind a call; the rest is the output
        return Output(data=given, more=given)

    async def _signed(self, function: DataStep, scope: dict[str, Any]) -> Output:
        if self._open is None:
            raise errors.NotSupported("a signed token needs a linked account")
        credentials = http.Credentials(await self._open(), oauth=self._oauth)
        given = fill(function.parameters, {**scope, "credentials": credentials})
        made = jwt.signed(given)
        return Output(data=made, more=made)

    async def _request(self, step: HttpStep, scope: dict[str, Any], page: Page | None) -> Output:
        sent: list[str] = []
        late = http.writer(step, self._program, scope, self._oauth, page, sent)
        whole = await self._send(Call(step.method, "", "", [], None, wait=self._wait, late=late))
        turned = http.turned(step, whole, self._program, scope)
        if turned is None and step.soap is not None and whole.status >= 400:
            fault = http.content_of(step, whole)[1]
            if fault is not None:
                raise outcomes.refusal(self._connector, whole.status, whole, fault)
        if turned is not None and turned[0] >= 400:
            raise outcomes.refusal(self._connector, turned[0], whole, turned[1])
        if turned is None and not outcomes.judge(self._connector, (), whole):
            return Output(status=whole.status, headers=whole.headers)
        if step.download is not None:
            return await self._file(step, scope, whole, sent[-1])
        output = http.understood(step, whole, scope)
        if step.soap is not None and output.message is not None:
            raise outcomes.refusal(self._connector, 500, whole, output.message)
        if turned is not None:
            output.status, output.message = turned
        return output

    async def _file(self, step: HttpStep, scope: dict[str, Any], whole: Whole, at: str) -> Output:
        """A file: behind redirects, inside of an answer, or at an address that an answer tells."""
        whole, at = await self._followed(step, whole, at, with_credential=True)
        told = http.content_of(step, whole)[0]
        address = downloads.address_in(step, whole, scope, at)
        if address is not None:
            forward = (step.download or {}).get("forwardAuth") is True
            whole = await self._fetched(address, with_credential=forward)
            whole, _ = await self._followed(step, whole, address, with_credential=forward)
        return downloads.output_of(step, whole, told, scope)

    async def _followed(self, step: HttpStep, whole: Whole, at: str, *, with_credential: bool) -> tuple[Whole, str]:
        left = downloads.most_redirects(step)
        while (address := downloads.next_address(step, whole, at)) is not None:
            if left <= 0:
                raise errors.ProviderError("the file is behind more redirects than are followed")
            # Whoever is in between must not choose where on the account's own host the credential goes.
            with_credential = with_credential and downloads.is_same_host(at, address)
            whole, at, left = await self._fetched(address, with_credential=with_credential), address, left - 1
        return whole, at

    async def _fetched(self, address: str, *, with_credential: bool) -> Whole:
        late = downloads.fetcher(address, with_credential=with_credential)
        whole = await self._send(Call("GET", "", "", [], None, wait=self._wait, late=late))
        outcomes.judge(self._connector, (), whole)
        return whole

    async def _pages(self, index: int, step: HttpStep, scope: dict[str, Any]) -> Output:
        """Gather as many records as were asked for; what a page of the provider has beyond them comes with the next."""
        rule = step.paging
        assert rule is not None
        given = scope["inputs"].get("page_size")
        wanted = int(given) if isinstance(given, int | float) or (isinstance(given, str) and given.isdigit()) else None
        wanted = max(1, min(wanted or DEFAULT_PAGE_SIZE, 1000))
        at = Cursor()
        if self._arguments.next is not None:
            at = cursor.decode(index, self._arguments.next)
        number = at.number if at.number is not None else (rule.start if rule.mode == "page" else 0)
        token, position = at.token, at.position
        records: list[Any] = []
        output = Output()
        following: Cursor | None = None
        before: Any = None
        for _ in range(min(rule.most, MOST_PAGES)):
            value = token if rule.mode == "cursor" else number
            output = await self._request(step, scope, Page(rule.key, rule.place, value))
            if not isinstance(output.data, list):
                following = None
                break
            if output.data and output.data == before:  # a provider that repeats itself
                following = None
                break
            before = output.data
            fresh = output.data[position:]
            room = wanted - len(records)
            records += fresh[:room]
            if len(fresh) > room:
                following = Cursor(token, number, position + room)
                break
            position = 0
            following = self._after(step, output, scope, token, number)
            if following is None or len(records) >= wanted:
                break
            token, number = following.token, following.number if following.number is not None else number
        if following is not None:
            self._next = cursor.encode(index, following)
        data = http.indexed(step, records, gathered=True)
        return Output(
            data,
            output.raw,
            output.status,
            output.message,
            output.headers,
            output.whole,
            {"next": self._next, "position": following.position if following is not None else 0},
        )

    def _after(self, step: HttpStep, output: Output, scope: dict[str, Any], token: Any, number: int) -> Cursor | None:
        rule = step.paging
        assert rule is not None
        if rule.condition is not None:
            seen = {**scope, **(output.raw if isinstance(output.raw, dict) else {}), "response": output.scope()}
            seen |= {"output": output.scope(), "data": output.raw, "headers": dict(output.headers)}
            try:
                if not holds(rule.condition, seen, strict=self._program.strict):
                    return None
            except ExpressionError:
                return None
        if rule.mode == "cursor":
            found = http.next_token(step, output, scope)
            return None if found is None or found == token else Cursor(found, None, 0)
        if not output.data:
            return None
        return Cursor(None, number + (len(output.data) if rule.mode == "offset" else 1), 0)
