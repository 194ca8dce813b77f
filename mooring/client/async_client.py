"""The asynchronous client. `scripts/make-client` writes the synchronous one from this file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import httpx

from mooring.client.failures import HubUnreachable
from mooring.client.models import Account, ActionResult, AuthConfig, ConnectSession, FoundAction, Tool
from mooring.client.transport import Ask, arguments_of, ask, checked, pause, proxied, segment, settings


class AsyncMooring:
    """A hub, by its address and an API key; else they come from MOORING_URL and MOORING_API_KEY.

    `timeout` is in seconds; `retries` says how often an answer that can pass (429, 502, 503, 504), or none at all, is asked
    for again, and `Retry-After` is kept to. Use it as a context manager, or call `aclose`.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 90.0,
        retries: int = 2,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        url, key = settings(base_url, api_key)
        self._retries = retries
        self._http = httpx.AsyncClient(base_url=url, auth=(key, ""), timeout=timeout, transport=transport)
        self.accounts = AsyncAccounts(self)
        self.auth_configs = AsyncAuthConfigs(self)
        self.connect_sessions = AsyncConnectSessions(self)
        self.actions = AsyncActionSearch(self)

    async def __aenter__(self) -> Self:
        """The client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def account(self, id: str) -> AsyncAccount:
        """One linked account, to call through and to run actions. Nothing is sent for that."""
        return AsyncAccount(self, id)

    async def send(self, request: Ask) -> httpx.Response:
        """Send a request, again where it may be; the answer whatever it is. Raises HubUnreachable."""
        done = 0
        while True:
            answer: httpx.Response | None = None
            try:
                answer = await self._http.send(self._built(request))
            except httpx.TransportError as e:
                wait = pause(request, done, self._retries, None)
                if wait is None:
                    raise HubUnreachable(f"no answer from {self._http.base_url}: {e}") from e
            else:
                wait = pause(request, done, self._retries, answer)
                if wait is None:
                    return answer
            await asyncio.sleep(wait)
            done += 1

    async def call(self, request: Ask) -> Any:
        """Send a request of the hub's own API; the JSON of its answer. Raises HubError and HubUnreachable."""
        answer = checked(await self.send(request))
        return answer.json() if answer.content else None

    def _built(self, request: Ask) -> httpx.Request:
        return self._http.build_request(
            request.method,
            request.path,
            params=request.params or None,
            json=request.json,
            content=request.content,
            headers=dict(request.headers),
        )


class AsyncAccounts:
    """`hub.accounts`."""

    def __init__(self, hub: AsyncMooring) -> None:
        self._hub = hub

    async def list(
        self,
        *,
        provider: str | None = None,
        origin_owner_id: str | None = None,
        status: str | None = None,
        page_size: int = 100,
    ) -> AsyncIterator[Account]:
        """Every account that fits, page by page as they are asked for."""
        page = 1
        while True:
            given = {"provider": provider, "origin_owner_id": origin_owner_id, "status": status}
            rows = await self._hub.call(ask("GET", "/accounts", params={**given, "page": page, "page_size": page_size}))
            for row in rows:
                yield Account.model_validate(row)
            if len(rows) < page_size:
                return
            page += 1

    async def get(self, id: str) -> Account:
        """One account. Raises HubError with status 404 for an unknown id."""
        return Account.model_validate(await self._hub.call(ask("GET", f"/accounts/{segment(id)}")))

    async def update(self, id: str, **changes: Any) -> Account:
        """Change `label`, `metadata`, `status` and the like."""
        return Account.model_validate(await self._hub.call(ask("PATCH", f"/accounts/{segment(id)}", json=changes)))

    async def delete(self, id: str) -> Account:
        """Delete an account: its credential is destroyed, and revoked at the provider where that is possible."""
        return Account.model_validate(await self._hub.call(ask("DELETE", f"/accounts/{segment(id)}")))


class AsyncAuthConfigs:
    """`hub.auth_configs`."""

    def __init__(self, hub: AsyncMooring) -> None:
        self._hub = hub

    async def list(self, *, connector_key: str | None = None, page_size: int = 100) -> AsyncIterator[AuthConfig]:
        """Every auth config that fits."""
        page = 1
        while True:
            given = {"connector_key": connector_key, "page": page, "page_size": page_size}
            found = await self._hub.call(ask("GET", "/auth_configs", params=given))
            for row in found["data"]:
                yield AuthConfig.model_validate(row)
            if page * page_size >= found["total"]:
                return
            page += 1

    async def create(
        self, connector_key: str, method: str, setup: Mapping[str, Any] | None = None, **more: Any
    ) -> AuthConfig:
        """Set up an auth method of a connector. `setup` holds what its operator gives, such as client_id, client_secret."""
        body = {"connector_key": connector_key, "authentication_config_key": method, **more}
        if setup is not None:
            body["setup"] = dict(setup)
        return AuthConfig.model_validate(await self._hub.call(ask("POST", "/auth_configs", json=body)))

    async def get(self, id: str) -> AuthConfig:
        """One auth config."""
        return AuthConfig.model_validate(await self._hub.call(ask("GET", f"/auth_configs/{segment(id)}")))

    async def update(self, id: str, **changes: Any) -> AuthConfig:
        """Change `name`, `setup`, `active`, `default` or `connector_pinned_version`."""
        found = await self._hub.call(ask("PATCH", f"/auth_configs/{segment(id)}", json=changes))
        return AuthConfig.model_validate(found)

    async def delete(self, id: str) -> None:
        """Delete one that has no linked accounts."""
        await self._hub.call(ask("DELETE", f"/auth_configs/{segment(id)}"))


class AsyncConnectSessions:
    """`hub.connect_sessions`."""

    def __init__(self, hub: AsyncMooring) -> None:
        self._hub = hub

    async def create(self, origin_owner_id: str, origin_owner_name: str, **more: Any) -> ConnectSession:
        """A session in which this owner may link accounts.

        `more`: provider, integration_id, categories, account_id, label, metadata, multiple, expires_in and the like.
        """
        body = {"origin_owner_id": origin_owner_id, "origin_owner_name": origin_owner_name, **more}
        return ConnectSession.model_validate(await self._hub.call(ask("POST", "/connect_sessions", json=body)))


class AsyncActionSearch:
    """`hub.actions`: find actions of the whole catalogue by what they do."""

    def __init__(self, hub: AsyncMooring) -> None:
        self._hub = hub

    async def search(self, query: str, *, connector: str | None = None, top_k: int = 10) -> Sequence[FoundAction]:
        """The actions that fit best, the best first."""
        body = {"query": query, "top_k": top_k, **({"connector": connector} if connector else {})}
        found = await self._hub.call(ask("POST", "/actions/search", json=body))
        return [FoundAction.model_validate(row) for row in found["results"]]


class AsyncAccount:
    """One linked account: `hub.account(id)`."""

    def __init__(self, hub: AsyncMooring, id: str) -> None:
        self._hub = hub
        self.id = id
        self.actions = AsyncAccountActions(hub, id)

    async def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Call the provider through the account; `more` is params, json, content and headers as httpx has them.

        The answer is the provider's, whatever its status, or the hub's refusal, whose body has an `errorCode`.
        """
        return await self._hub.send(proxied(self.id, method, path, **more))

    async def get(self, path: str, **more: Any) -> httpx.Response:
        """GET through the account."""
        return await self.request("GET", path, **more)

    async def post(self, path: str, **more: Any) -> httpx.Response:
        """POST through the account."""
        return await self.request("POST", path, **more)

    async def put(self, path: str, **more: Any) -> httpx.Response:
        """PUT through the account."""
        return await self.request("PUT", path, **more)

    async def patch(self, path: str, **more: Any) -> httpx.Response:
        """PATCH through the account."""
        return await self.request("PATCH", path, **more)

    async def delete(self, path: str, **more: Any) -> httpx.Response:
        """DELETE through the account."""
        return await self.request("DELETE", path, **more)

    @asynccontextmanager
    async def stream(self, method: str, path: str, **more: Any) -> AsyncIterator[httpx.Response]:
        """The answer while it comes, for large bodies: `async with … as answer: async for part in answer.aiter_bytes()`."""
        built = self._hub._built(proxied(self.id, method, path, **more))  # noqa: SLF001 - of one kind
        try:
            answer = await self._hub._http.send(built, stream=True)  # noqa: SLF001
        except httpx.TransportError as e:
            raise HubUnreachable(f"no answer from {built.url}: {e}") from e
        try:
            yield answer
        finally:
            await answer.aclose()


class AsyncAccountActions:
    """The actions of an account: `account.actions.list_employees(page_size=20)`."""

    def __init__(self, hub: AsyncMooring, account: str) -> None:
        self._hub = hub
        self._account = account

    def __getattr__(self, name: str) -> Callable[..., Awaitable[ActionResult]]:
        """The action of this name."""
        if name.startswith("_"):
            raise AttributeError(name)

        async def run(**arguments: Any) -> ActionResult:
            return await self.call(name, **arguments)

        return run

    async def call(self, name: str, /, **arguments: Any) -> ActionResult:
        """Run an action. Arguments go by their names, with `page_size` and `next` for lists.

        Raises HubError: with `errors` for wrong arguments, with `provider_errors` where the provider refused.
        """
        headers = {"x-account-id": self._account}
        body = arguments_of(name, arguments)
        answer = checked(await self._hub.send(Ask("POST", "/actions/rpc", json=body, headers=headers, repeat=False)))
        if "content-disposition" in answer.headers:
            return ActionResult(content=answer.content, content_type=answer.headers.get("content-type"))
        return ActionResult.model_validate(answer.json())

    async def iterate(self, name: str, /, **arguments: Any) -> AsyncIterator[Any]:
        """Every record of a list, over all its pages."""
        following = arguments.pop("next", None)
        while True:
            page = await self.call(name, **arguments, next=following)
            for record in page:
                yield record
            if page.next is None:
                return
            following = page.next

    async def list(self) -> Sequence[Tool]:
        """The actions that this account has, with the JSON Schemas of their arguments."""
        out: list[Tool] = []
        following: str | None = None
        while True:
            given = {"filter[account_ids]": self._account, "include": "action_details", "next": following}
            found = await self._hub.call(ask("GET", "/actions", params=given))
            for connector in found["data"]:
                for action in connector.get("actions", ()):
                    details = action["action_details"]
                    out.append(
                        Tool(
                            name=action["id"],
                            description=action["description"],
                            parameters=details["input_schema"],
                            effects=details["effects"],
                        )
                    )
            following = found.get("next")
            if not following:
                return out
