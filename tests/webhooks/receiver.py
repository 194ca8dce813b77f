"""A webhook receiver on a loopback port: it keeps what it gets and answers as the test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self

from standardwebhooks import Webhook


@dataclass(frozen=True)
class Message:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def record(self) -> str:
        return str(self.json["record_id"])

    def verify(self, secret: str) -> None:
        """Raise unless the published verifier of Standard Webhooks takes it."""
        Webhook(secret).verify(self.body, self.headers)


@dataclass
class Answer:
    """What to answer. `raw` goes out as it is; `hang` seconds pass before."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"ok"
    hang: float = 0.0
    raw: bytes | None = None


Rule = Callable[[Message], Answer | Awaitable[Answer]]


class Receiver:
    """Listens on 127.0.0.1."""

    def __init__(self) -> None:
        self.seen: list[Message] = []
        self.rule: Rule = lambda _message: Answer()
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def records(self) -> list[str]:
        return [message.record for message in self.seen]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = {n.strip().lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        message = Message(first.split()[1], headers, body)
        self.seen.append(message)
        answer = self.rule(message)
        if not isinstance(answer, Answer):
            answer = await answer
        if answer.hang:
            await asyncio.sleep(answer.hang)
        if answer.raw is not None:
            writer.write(answer.raw)
            await writer.drain()
            return False
        named = {"content-length": str(len(answer.body)), **answer.headers}
        shown = "".join(f"{n}: {v}\r\n" for n, v in named.items())
        writer.write(f"HTTP/1.1 {answer.status} X\r\n{shown}\r\n".encode() + answer.body)
        await writer.drain()
        return True
