"""Windows and news that the processes of all hosts share, kept by a server that speaks the Redis protocol.

It is for precision only. Nobody waits for it for longer than about `PATIENCE`; while it is away or slow every answer is
None, which means "judge by what you know yourself", and a task looks for it in the background. What it holds may be lost
at any time. No secret goes there: ids, digests and numbers.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog

from mooring.kit import shared_scripts as scripts
from mooring.kit.windows import Window

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.client import PubSub

log = structlog.get_logger(__name__)

PATIENCE: Final = 0.05  # seconds that one round trip may take; a question waits for two of them at most
GRACE: Final = 0.005  # and this, for an answer that came while this process was busy with something else
CONNECT_SECONDS: Final = 1.0
AGAIN_SECONDS: Final = 0.5  # between two tries to find the server again
SILENT_SECONDS: Final = 5.0  # without any news, after which this process tells some to see whether it is heard
BATCH: Final = 50  # questions of one round trip, so that our own share of its time stays small
NEWS: Final = 10_000  # pieces of news that are passed on, or read at the start; beyond it they are dropped
PAUSES: Final = "mooring:pauses"
CHANNEL: Final = "mooring:news"
_PROBE: Final = "mooring:probe"
_MICROS: Final = 1_000_000

NamedWindows = Sequence[tuple[str, Window]]
"""The windows of one gate; a name tells a window from others of the same gate and size."""

_Question = tuple["asyncio.Future[Any] | None", str, list[str], list[Any]]


def is_installed() -> bool:
    """Whether the client library is there (extra `redis`)."""
    return find_spec("redis") is not None


def make_client(url: str) -> Redis:
    """A client with one connection that fails at once instead of trying again, for the doctor too."""
    from redis.asyncio import Redis  # 10 MB that only who uses it pays
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    return Redis.from_url(
        url,
        single_connection_client=True,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=None,
        retry=Retry(NoBackoff(), 0),
        protocol=2,  # the one that all such servers know
        client_name="mooring",
    )


async def probe(client: Redis) -> None:
    """Ask for what will be asked for. Raises RedisError or OSError when it can't be had."""
    keys, arguments = _asked(_PROBE, [("", Window(1, 0.001))])
    await client.eval(scripts.TAKE, len(keys), *keys, *arguments)
    await client.eval(scripts.TELL, 0, CHANNEL, orjson.dumps(["probe", "", 0]))


def digest(text: str) -> str:
    """A name for what may hold a secret, such as a base URL."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class SharedServer:
    """The connection of one process to the server: questions in batches over one connection, news over another."""

    def __init__(self, url: str, *, silent: float = SILENT_SECONDS) -> None:
        self._url = url
        self._silent = silent
        self._questions: deque[_Question] = deque()
        self._asked = asyncio.Event()
        self._found = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._warned = False
        self.up = False
        self.local = 0  # calls that were judged without it; who judges counts
        self._listeners: dict[str, Callable[[str, float], None]] = {}

    def on(self, kind: str, listener: Callable[[str, float], None]) -> None:
        """Be told subject and seconds of all news of a kind, this process's own included."""
        self._listeners[kind] = listener

    async def start(self, patience: float = 0.3) -> None:
        """Begin to look for it, and wait a moment for it; the hub starts without it as well."""
        self._task = asyncio.create_task(self._keep(), name="shared-server")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._found.wait()

    async def stop(self) -> None:
        """Close the connections."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def take(self, key: str, windows: NamedWindows) -> float | None:
        """Count a call in all windows and return 0, or count nothing and return the seconds to wait; None when away."""
        answer = await self._ask(scripts.TAKE, *_asked(key, windows))
        return None if answer is None else int(answer) / _MICROS

    async def used(self, key: str, windows: NamedWindows) -> list[int] | None:
        """How many calls are in each window; None when away."""
        answer = await self._ask(scripts.USED, *_asked(key, windows))
        return None if answer is None else [int(count) for count in answer]

    def pause(self, key: str, seconds: float) -> None:
        """Tell all processes, and those to come, that nothing shall be sent for a while. Lost while it is away."""
        news = orjson.dumps(["pause", key, seconds])
        self._put((None, scripts.PAUSE, [PAUSES], [key, int(seconds * _MICROS), CHANNEL, news]))

    def tell(self, kind: str, subject: str) -> None:
        """Tell all processes. Lost while it is away."""
        self._put((None, scripts.TELL, [], [CHANNEL, orjson.dumps([kind, subject, 0])]))

    # --- questions

    async def _ask(self, script: str, keys: list[str], arguments: list[Any]) -> Any:
        answer = asyncio.get_running_loop().create_future()
        if not self._put((answer, script, keys, arguments)):
            return None
        return await answer

    def _put(self, question: _Question) -> bool:
        if not self.up or (question[0] is None and len(self._questions) >= NEWS):
            return False
        self._questions.append(question)
        self._asked.set()
        return True

    async def _answer(self, client: Redis) -> None:
        """Put questions and hand the answers out. Raises when the server does not answer as it should."""
        batch: list[_Question] = []
        try:
            while True:
                await self._asked.wait()
                self._asked.clear()
                while self._questions:
                    batch = [self._questions.popleft() for _ in range(min(BATCH, len(self._questions)))]
                    answers = await _in_time(_round_trip(client, batch))
                    for (waiting, *_), answer in zip(batch, answers, strict=True):
                        if waiting is not None and not waiting.done():
                            waiting.set_result(answer)
                    batch = []
        except BaseException as e:
            # Now, and not after the connection is closed, which may take its time.
            self._questions.extendleft(reversed(batch))
            self._lost(e if isinstance(e, Exception) else None)
            raise

    async def _hear(self, news: PubSub) -> None:
        silent = 0
        while True:
            # Not `listen`: redis-py (8.1) takes a connection that the kernel timed out for a wait that did, and asks it
            # again for ever without giving the loop a turn.
            message = await news.get_message(timeout=self._silent)
            if message is None:
                silent += 1
                if silent > 1:  # not even our own question came round
                    raise TimeoutError
                self.tell("probe", "")
                continue
            silent = 0
            if message["type"] != "message":
                continue
            try:
                kind, subject, seconds = orjson.loads(message["data"])
                heard = str(kind), str(subject), float(seconds)
            except (ValueError, TypeError):  # whoever else writes to this server
                continue
            self._heard(*heard)

    def _heard(self, kind: str, subject: str, seconds: float) -> None:
        listener = self._listeners.get(kind)
        if listener is not None:
            listener(subject, seconds)

    # --- the connection

    async def _keep(self) -> None:
        while True:
            opened = contextlib.AsyncExitStack()
            try:
                await self._use(opened)
            except Exception as e:  # noqa: BLE001 - whatever is wrong with it: calls must go on, and the search too
                self._lost(e)
            finally:
                self._lost(None)
                with contextlib.suppress(Exception):
                    async with asyncio.timeout(CONNECT_SECONDS):
                        await opened.aclose()
            await asyncio.sleep(AGAIN_SECONDS)

    async def _use(self, opened: contextlib.AsyncExitStack) -> None:
        """Connect, and serve until it fails. What must be closed goes into `opened`."""
        async with asyncio.timeout(CONNECT_SECONDS):
            client = await opened.enter_async_context(make_client(self._url))
            await probe(client)
            news = (await opened.enter_async_context(make_client(self._url))).pubsub()
            await opened.enter_async_context(news)
            await news.subscribe(CHANNEL)
            paused = await client.eval(scripts.PAUSED, 1, PAUSES, NEWS)
        for key, left in zip(paused[::2], paused[1::2], strict=True):
            self._heard("pause", key.decode(), int(left) / _MICROS)
        self.up = True
        self._found.set()
        if self._warned:
            self._warned = False
            log.info("the shared server is back; limits are shared again")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._answer(client))
            tasks.create_task(self._hear(news))

    def _lost(self, fault: BaseException | None) -> None:
        """Let everybody judge for himself."""
        self.up = False
        if fault is not None and not self._warned:
            self._warned = True
            log.warning("the shared server is away; each process keeps its own part of the limits", error=_name(fault))
        while self._questions:
            waiting = self._questions.popleft()[0]
            if waiting is not None and not waiting.done():
                waiting.set_result(None)


def _asked(key: str, windows: NamedWindows) -> tuple[list[str], list[Any]]:
    """The keys and arguments of a script over windows. The braces keep the keys of one gate on one node of a cluster."""
    keys: list[str] = []
    arguments: list[Any] = []
    for name, window in windows:
        place = f"mooring:{{{key}}}:{name}:{window.requests}/{window.seconds:g}"
        keys += (place, place + ":n")
        arguments += (window.slots, int(window.seconds * _MICROS), window.step)
    return keys, arguments


async def _round_trip(client: Redis, batch: Sequence[_Question]) -> list[Any]:
    pipe = client.pipeline(transaction=False)
    for _, script, keys, arguments in batch:
        pipe.eval(script, len(keys), *keys, *arguments)
    answers: list[Any] = await pipe.execute()
    return answers


async def _in_time(trip: Any) -> list[Any]:
    """The answers of a round trip. Raises TimeoutError; not for answers that came while this process was busy."""
    running = asyncio.ensure_future(trip)
    try:
        await asyncio.wait({running}, timeout=PATIENCE)
        if not running.done():
            await asyncio.wait({running}, timeout=GRACE)
        if not running.done():
            raise TimeoutError
        answers: list[Any] = running.result()
        return answers
    finally:
        running.cancel()


def _name(fault: BaseException) -> str:
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    return type(fault).__name__
