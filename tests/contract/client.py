"""StackOne's official TypeScript client, driven from Python."""

import asyncio
import concurrent.futures
import json
import os
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.servers.process import require_node_modules

NODE_DIR = Path(__file__).parent / "node"


@dataclass(frozen=True)
class Exchange:
    """What went over the wire in a call: the last request's line and its answer (JSON bodies parsed)."""

    method: str
    path: str
    status: int | None
    headers: Mapping[str, str] | None
    body: Any


class SdkError(Exception):
    """An error that the official client raised.

    `name` is the client's error class, `status_code` None when there was no answer, `body` the answer's
    body (parsed when JSON), `data` the typed fields as the class holds them, `details` what did not fit
    its schema.
    """

    def __init__(self, error: Mapping[str, Any], http: Exchange | None) -> None:
        self.name: str = error["name"]
        self.status_code: int | None = error["statusCode"]
        self.message: str = error["message"]
        self.body: Any = error["body"]
        self.data: Any = error["data"]
        self.details: str | None = error["details"]
        self.http = http
        super().__init__(
            f"{self.name} ({self.status_code}): {self.message}" + (f"\n{self.details}" if self.details else "")
        )


@dataclass(frozen=True)
class Answer:
    """A call's result as the client returned it (its own camelCase names), and the exchange behind it."""

    result: dict[str, Any]
    http: Exchange


class NodeClient:
    """Run the client in a Node.js process of its own, for as long as the `with` block; calls may overlap."""

    def __init__(self, base_url: str, api_key: str, *, timeout: float = 40.0) -> None:
        self._timeout = timeout
        self._environment = {**os.environ, "HUB_URL": base_url, "HUB_API_KEY": api_key}
        self._pending: dict[int, concurrent.futures.Future[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._last_id = 0

    def __enter__(self) -> Self:
        require_node_modules(NODE_DIR)
        self._process = subprocess.Popen(
            ["node", "run.mjs"],
            cwd=NODE_DIR,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._reader = threading.Thread(target=self._read_answers, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()  # the program ends with its input
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._process.stdout.close()

    def call(self, name: str, /, options: Mapping[str, Any] | None = None, **args: Any) -> Answer:
        """Call the client's method `name` ("accounts.getAccount") with `args` as its request object.

        `options` are the client's own per-call options (such as `{"timeoutMs": 500}`); `security` among them is the
        argument that some methods want before the request. Raise `SdkError` for
        what the client throws. Blocks: when the server runs in this thread's event loop, use `acall`.
        """
        return _answer(self._send(name, args, options).result(self._timeout))

    async def acall(self, name: str, /, options: Mapping[str, Any] | None = None, **args: Any) -> Answer:
        """Do the same as `call` without blocking the event loop."""
        future = asyncio.wrap_future(self._send(name, args, options))
        return _answer(await asyncio.wait_for(future, self._timeout))

    def _send(
        self, name: str, args: Mapping[str, Any], options: Mapping[str, Any] | None
    ) -> concurrent.futures.Future[dict[str, Any]]:
        assert self._process.stdin is not None
        future: concurrent.futures.Future[dict[str, Any]] = concurrent.futures.Future()
        with self._lock:
            self._last_id += 1
            self._pending[self._last_id] = future
            command = {"id": self._last_id, "call": name, "args": args, "options": dict(options or {})}
            command["security"] = command["options"].pop("security", None)
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        return future

    def _read_answers(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            reply = json.loads(line)
            with self._lock:
                future = self._pending.pop(reply["id"])
            if not future.cancelled():
                future.set_result(reply)
        with self._lock:
            left, self._pending = self._pending, {}
        for future in left.values():
            future.set_exception(RuntimeError("the Node.js client ended before it answered; see its stderr"))


def _answer(reply: Mapping[str, Any]) -> Answer:
    http = Exchange(**reply["http"]) if reply["http"] else None
    if not reply["ok"]:
        raise SdkError(reply["error"], http)
    assert http is not None
    return Answer(reply["result"], http)
