"""A process's side of the courier: send a request through it, collect answers that nobody stored, acknowledge."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from pathlib import Path
from typing import Any

import structlog

from mooring.courier.wire import (
    Delivered,
    Parcel,
    pack,
    pack_parcel,
    pack_request,
    read_message,
    unpack_delivered,
    unpack_failure,
    unpack_response,
)
from mooring.kit.http import BufferedResponse, HttpFailure, OutboundRequest

log = structlog.get_logger(__name__)

CONNECT_SECONDS = 5.0  # a courier that died is back within a second


class CourierUnavailableError(Exception):
    """No courier listens; nothing was sent."""


class CourierClient:
    """One connection to the courier, shared by all requests of the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._ids = itertools.count(1)
        self._lock = asyncio.Lock()

    async def send(
        self, parcel: Parcel, request: OutboundRequest, *, deadline: float, max_bytes: int
    ) -> tuple[BufferedResponse, int]:
        """Send a request; returns the answer and the number to acknowledge once it is stored.

        Raises CourierUnavailableError when nothing was sent, HttpFailure when the exchange failed; a courier that dies
        in the middle counts as a reset after sending, because nobody can know.
        """
        message = {
            "kind": "send",
            "parcel": pack_parcel(parcel),
            "request": pack_request(request),
            "deadline": deadline,
            "max_bytes": max_bytes,
        }
        try:
            answer = await self._ask(message, within=deadline + 5)
        except (ConnectionError, TimeoutError):
            raise HttpFailure("reset", "the refresher ended while it waited for the provider", sent=True) from None
        if "failure" in answer:
            raise unpack_failure(answer["failure"])
        return unpack_response(answer["response"]), answer["number"]

    async def waiting(self, *, older_than: float, account_id: str | None = None) -> list[Delivered]:
        """Answers that nobody acknowledged for `older_than` seconds, oldest first, of one account or of all.

        As many as one message holds; the others follow once these are acknowledged. Raises CourierUnavailableError.
        """
        message = {"kind": "waiting", "older_than": older_than, "account_id": account_id}
        for last in (False, True):
            try:
                answer = await self._ask(message, within=5)
            except (ConnectionError, TimeoutError):
                if last:
                    raise CourierUnavailableError from None
                continue  # a courier that was replaced: asking again is harmless
            return [unpack_delivered(d) for d in answer["waiting"]]
        raise AssertionError("unreachable")

    async def acknowledge(self, number: int) -> None:
        """Tell the courier that an answer is stored. A lost message is harmless: storing again has no effect."""
        with contextlib.suppress(ConnectionError, CourierUnavailableError):
            writer = await self._connected()
            writer.write(pack({"kind": "acknowledge", "number": number}))

    async def aclose(self) -> None:
        """Close the connection."""
        if self._reading:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._writer:
            self._writer.close()

    async def _ask(self, message: dict[str, Any], *, within: float) -> dict[str, Any]:
        writer = await self._connected()
        id = next(self._ids)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[id] = future
        try:
            writer.write(pack({**message, "id": id}))
            async with asyncio.timeout(within):
                await writer.drain()
                return await future
        finally:
            self._answers.pop(id, None)

    async def _connected(self) -> asyncio.StreamWriter:
        async with self._lock:
            if self._writer is not None:
                await asyncio.sleep(0)  # let the loop notice that the other end is gone
                if not self._writer.is_closing() and self._reader is not None and not self._reader.at_eof():
                    return self._writer
            deadline = time.monotonic() + CONNECT_SECONDS
            while True:
                try:
                    reader, writer = await asyncio.open_unix_connection(str(self._path))
                except OSError:
                    if time.monotonic() > deadline:
                        raise CourierUnavailableError from None
                    await asyncio.sleep(0.05)
                    continue
                self._reader, self._writer = reader, writer
                self._reading = asyncio.create_task(self._read(reader, writer), name="courier-answers")
                return writer

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (message := await read_message(reader)) is not None:
                future = self._answers.get(message["id"])
                if future is not None and not future.done():
                    future.set_result(message)
        finally:
            writer.close()
            for future in self._answers.values():
                if not future.done():
                    future.set_exception(ConnectionResetError("the courier went away"))
