"""The courier's process: takes requests from its own user over a Unix socket, sends them, keeps the answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Any

from mooring import __version__
from mooring.courier.journal import Journal
from mooring.courier.wire import (
    MAX_MESSAGE,
    Delivered,
    Parcel,
    pack,
    pack_delivered,
    pack_failure,
    pack_response,
    read_message,
    socket_path,
    unpack_request,
)
from mooring.kit.egress import EgressGuard, parse_allow
from mooring.kit.http import HttpClient, HttpFailure
from mooring.kit.vault import Vault
from mooring.settings import Settings
from mooring.supervisor import ROLE

DRAIN_SECONDS = 10.0  # a stop waits for requests that are under way: their answers can't be asked for twice


class Courier:
    """Serves the processes of one `mooring serve`."""

    def __init__(self, http: HttpClient, journal: Journal) -> None:
        self._http = http
        self._journal = journal
        self._sending: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection. Requests that it leaves behind run to their end (rule R13)."""
        if not _is_own_user(writer):
            writer.close()
            return
        try:
            while (message := await read_message(reader)) is not None:
                await self._take(message, writer)
        except asyncio.CancelledError:
            return  # the process stops; a stream's task that ends as cancelled prints a traceback (Python 3.11)
        except (ValueError, KeyError, TypeError) as e:
            print(f"mooring courier: bad message: {type(e).__name__}", file=sys.stderr, flush=True)  # noqa: T201
        finally:
            writer.close()

    async def _take(self, message: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        kind = message["kind"]
        if kind == "send":
            task = asyncio.create_task(self._send(message, writer))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        elif kind == "acknowledge":
            self._journal.acknowledge(message["number"])
        elif kind == "waiting":
            found = self._journal.waiting(older_than=message["older_than"], account_id=message["account_id"])
            _reply(writer, message["id"], waiting=[pack_delivered(d) for d in _fitting(found)])
        else:
            raise ValueError("unknown kind")

    async def _send(self, message: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        request = unpack_request(message["request"])
        try:
            response = await self._http.send(request, deadline=message["deadline"], max_bytes=message["max_bytes"])
        except HttpFailure as e:
            _reply(writer, message["id"], failure=pack_failure(e))
            return
        except ValueError as e:  # a header that can't be sent: nothing left this process
            failure = HttpFailure("protocol", str(e), sent=False)
            _reply(writer, message["id"], failure=pack_failure(failure))
            return
        delivered = self._journal.add(Parcel(**message["parcel"]), response)
        _reply(writer, message["id"], number=delivered.number, response=pack_response(response))

    async def drain(self) -> None:
        """Wait for requests that are under way."""
        if self._sending:
            await asyncio.wait(list(self._sending), timeout=DRAIN_SECONDS)


def _fitting(found: list[Delivered]) -> list[Delivered]:
    """As many of the first answers as one message surely holds, and one at least."""
    size = 0
    for n, delivered in enumerate(found):
        size += 1024 + 2 * len(delivered.response.body) + sum(len(k) + len(v) for k, v in delivered.response.headers)
        if size > MAX_MESSAGE and n:
            return found[:n]
    return found


def _reply(writer: asyncio.StreamWriter, id: int, **values: Any) -> None:
    if not writer.is_closing():
        with contextlib.suppress(ConnectionError):
            writer.write(pack({"id": id, **values}))


def _is_own_user(writer: asyncio.StreamWriter) -> bool:
    """Whether the peer is this user: the folder's mode should make sure, the kernel knows."""
    sock: socket.socket = writer.get_extra_info("socket")
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return bool(uid == os.getuid())


async def run(settings: Settings, vault: Vault) -> None:
    """Serve until SIGTERM. A socket that an earlier courier left is replaced."""
    path = socket_path(settings.data_dir)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    journal = Journal(journal_path(settings.data_dir), vault)
    guard = EgressGuard(parse_allow(settings.egress_allow))
    http = HttpClient(guard, user_agent=f"Mooring/{__version__}", proxy=settings.egress_proxy)
    courier = Courier(http, journal)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if os.environ.get(ROLE):
        follow_supervisor(asyncio.get_running_loop(), stop)
    mask = os.umask(0o177)
    server = await asyncio.start_unix_server(courier.serve, path=str(path))
    os.umask(mask)
    async with server:
        await stop.wait()
        await courier.drain()
        server.close()
        path.unlink(missing_ok=True)
    await http.aclose()
    journal.close()


def follow_supervisor(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Stop when the supervisor is gone, even by SIGKILL: its end of our standard input closes with it."""

    def ended() -> None:
        if not os.read(0, 1024):
            loop.remove_reader(0)
            stop.set()

    loop.add_reader(0, ended)


def journal_path(data_dir: Path) -> Path:
    """Where the journal lies."""
    return data_dir / "courier.journal"
