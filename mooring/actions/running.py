"""A run of an action from whoever asks for it, over REST or MCP: found, checked, run and logged as one row."""

from __future__ import annotations

import asyncio
import difflib
import time
from collections.abc import Mapping
from typing import Any

from mooring import errors
from mooring.accounts.context import Context
from mooring.actions import approvals, engine, listing
from mooring.actions.engine import Result
from mooring.actions.inputs import gather
from mooring.connectors.actions import Action
from mooring.connectors.definition import Connector, UnrunnableAction
from mooring.identity.service import Caller
from mooring.kit import ids
from mooring.logs.writer import Entry
from mooring.proxy import service
from mooring.proxy.api import CALLER_GONE


def begun(
    context: Context,
    caller: Caller,
    path: str,
    *,
    id: str | None = None,
    address: str | None = None,
    traceparent: str | None = None,
) -> Entry:
    """The row of the request log for a run that begins now."""
    entry = Entry(
        id=id or ids.time_uuid(),
        category="unified",
        project_id=caller.project_id,
        method="POST",
        path=path,
        service="actions",
        source_id=caller.key_id,
        source_ip=address,
    )
    if caller.advanced_logs != "off":
        entry.keep_details(errors_only=caller.advanced_logs == "errors", days=caller.advanced_logs_days)
    if context.logs.listener is not None:
        entry.traceparent = traceparent
    return entry


async def logged(
    context: Context,
    caller: Caller,
    account_id: str | None,
    name: str,
    given: Mapping[str, Any],
    entry: Entry,
    *,
    next: str | None = None,
    wait: float = service.QUEUE_SECONDS,
) -> Result:
    """Find account and action, check the arguments, run, and log however it ends. Raises what these find."""
    started = time.perf_counter()
    status, code = 500, "InternalError"
    try:
        if not account_id:
            raise errors.BadRequest("the header x-account-id is missing", hint="Send the id of a linked account in it.")
        caller.require_account(account_id)
        serving = await context.accounts.get(caller.project_id, account_id)
        entry.account_id, entry.provider = serving.id, serving.connector.key
        entry.origin_owner_id = serving.origin_owner_id
        action = action_of(serving.connector, name)
        entry.action = listing.name_of(serving.connector, action)
        caller.require_action(entry.action)
        caller.require_effects(reads=action.reads)
        arguments = gather(action, given, next=next)
        if approvals.is_needed(caller, action):
            await approvals.require(context, caller, serving, action, arguments)
        exchange = engine.through(context, serving, entry)
        result = await engine.run(
            exchange,
            serving.connector,
            engine.account_of(serving),
            action,
            arguments,
            wait=wait,
            open=engine.opener(context, serving),
            modules=context.settings.python_modules,
        )
        status, code = 200, ""
        return result
    except errors.MooringError as e:
        status, code = e.status, e.error_code
        raise
    except asyncio.CancelledError:
        status, code = CALLER_GONE, "CallerGoneError"
        raise
    finally:
        spent = (time.perf_counter() - started) * 1000
        context.counters.call(entry.provider, code or None, status, spent, entry.provider_ms)
        context.logs.add(entry.finish(status, spent, error_code=code or None))


def action_of(connector: Connector, name: str) -> Action:
    """The action of a name. Raises NotFound with the nearest name, NotSupported for one that can't be run."""
    found = listing.find(connector, name)
    if found is not None:
        return found
    unrunnable = connector.actions.get(name.removeprefix(f"{connector.key}_"))
    if isinstance(unrunnable, UnrunnableAction):
        raise errors.NotSupported(
            f"the action {unrunnable.key!r} of {connector.title} can't be run: {unrunnable.reason}"
        )
    names = [listing.name_of(connector, action) for action in listing.runnable(connector)]
    near = difflib.get_close_matches(name, names, 1, 0.5)
    hint = f"Did you mean {near[0]!r}?" if near else "GET /actions lists the actions of each connector."
    raise errors.NotFound(f"{connector.title} has no action {name[:120]!r}", code="ActionNotFoundError", hint=hint)


def shaped(data: Any) -> Any:
    """The data of a run as published clients take it: an object, a list of objects, or null (contract §2.7).

    Anything else is wrapped: `{"value": …}`.
    """
    if isinstance(data, list):
        return [item if isinstance(item, dict) else {"value": item} for item in data]
    return data if data is None or isinstance(data, dict) else {"value": data}
