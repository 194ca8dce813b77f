"""`Prefer: heartbeat`: newlines keep a slow call's connection alive until its JSON is there (contract §1)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, Final

import orjson
from starlette.responses import Response, StreamingResponse

from mooring import errors
from mooring.kit.web import Json, unexpected

SECONDS: Final = 5.0  # before the first newline and between two
APPLIED: Final = {"preference-applied": "heartbeat"}


def is_asked_for(prefer: Sequence[str]) -> bool:
    """Whether one of the preferences is `heartbeat` (RFC 7240 §2)."""
    return any(part.partition(";")[0].strip().lower() == "heartbeat" for line in prefer for part in line.split(","))


async def serve(work: Coroutine[Any, Any, Response], request_id: str) -> Response:
    """Answer as ever when the work is done soon, its refusals too; else with status 200 and newlines before the body."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=SECONDS)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if done:
        try:
            response = task.result()
        except errors.MooringError as e:
            e.headers.update(APPLIED)
            raise
        response.headers.update(APPLIED)
        return response
    return StreamingResponse(_beat(task, request_id), media_type="application/json", headers=APPLIED)


async def _beat(task: asyncio.Future[Response], request_id: str) -> AsyncIterator[bytes]:
    try:
        while not task.done():
            yield b"\n"
            await asyncio.wait({task}, timeout=SECONDS)
        try:
            yield _body(task.result())
        except errors.MooringError as e:
            yield orjson.dumps(e.body(request_id=request_id))
        except Exception as e:  # noqa: BLE001 - the status has gone out: the body must say it
            yield orjson.dumps(unexpected(request_id, e).body(request_id=request_id))
    finally:
        task.cancel()


def _body(response: Response) -> bytes:
    if not isinstance(response, Json):  # its type can't be told any more
        raise errors.NotSupported("the answer is a file, which can't follow heartbeats", hint="Leave Prefer out.")
    return bytes(response.body)
