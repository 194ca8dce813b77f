"""The sandbox's control API, for loopback callers: look at counters, turn switches, inject faults."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mooring.sandbox import grants
from mooring.sandbox.state import ControlError, State, merge_settings, parse_fault, reset
from mooring.sandbox.wire import BodyTooLargeError, error_response, json_response, read_body

MAX_JSON_BYTES = 65_536
Action = Callable[[State, Any], object]


def _endpoint(action: Action) -> Callable[[Request], Awaitable[Response]]:
    async def run(request: Request) -> Response:
        if not _is_loopback(request):
            return error_response(
                status=403, code="forbidden", message="The control API answers loopback callers only."
            )
        try:
            body = orjson.loads(await read_body(request.receive, MAX_JSON_BYTES) or b"{}")
            return json_response(action(request.app.state.sandbox, body))
        except (ControlError, BodyTooLargeError, orjson.JSONDecodeError) as error:
            message = str(error) if isinstance(error, ControlError) else "The body is too long or not JSON."
            return error_response(status=400, code="bad_request", message=message)

    return run


def _is_loopback(request: Request) -> bool:
    try:
        return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def _show(state: State, _: object) -> object:
    return {
        "counters": state.counters,
        "settings": state.settings,
        "faults": _faults(state, None),
        "grants": {
            "live": sum(not grant.revoked for grant in state.grants),
            "revoked": sum(grant.revoked for grant in state.grants),
        },
    }


def _reset(state: State, _: object) -> object:
    reset(state)
    return {"reset": True}


def _settings(state: State, _: object) -> object:
    return state.settings


def _merge(state: State, body: object) -> object:
    state.settings = merge_settings(state.settings, body)
    return state.settings


def _faults(state: State, _: object) -> object:
    return state.faults


def _add_fault(state: State, body: object) -> object:
    state.faults.append(parse_fault(body))
    return _faults(state, None)


def _clear_faults(state: State, _: object) -> object:
    state.faults.clear()
    return []


def _expire(state: State, _: object) -> object:
    return {"expired": grants.expire_all(state)}


def _revoke(state: State, _: object) -> object:
    return {"revoked": grants.revoke_all(state)}


ROUTES = [
    Route("/state", _endpoint(_show)),
    Route("/reset", _endpoint(_reset), methods=["POST"]),
    Route("/settings", _endpoint(_settings)),
    Route("/settings", _endpoint(_merge), methods=["POST"]),
    Route("/faults", _endpoint(_faults)),
    Route("/faults", _endpoint(_add_fault), methods=["POST"]),
    Route("/faults", _endpoint(_clear_faults), methods=["DELETE"]),
    Route("/expire", _endpoint(_expire), methods=["POST"]),
    Route("/revoke", _endpoint(_revoke), methods=["POST"]),
]
