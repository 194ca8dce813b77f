"""The caller as a dependency of API routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Request

from mooring.identity import audit
from mooring.identity.service import Caller


def caller_with(scope: str) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency that yields the caller, or refuses with 401 or 403."""

    async def dependency(request: Request) -> Caller:
        caller: Caller = await request.app.state.context.authenticate(request.headers.get("authorization"))
        request.scope["mooring.caller"] = caller
        address = request.client.host if request.client else None
        caller.require_address(address)
        audit.act_as(audit.Actor("api_key", caller.key_id, None, address))
        caller.require(scope)
        return caller

    return dependency
