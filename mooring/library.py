"""Library mode: Mooring inside an ASGI application of yours, under a prefix and on its database (decision 24)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Mapping, MutableMapping
from dataclasses import fields, replace
from typing import Any, Final

import httpx
import structlog
from sqlalchemy.engine import URL, make_url

from mooring.app import create_app
from mooring.client import AsyncMooring
from mooring.database_url import NAME
from mooring.errors import ConfigurationError
from mooring.kit.server import AsgiApp, Receive, Scope, Send
from mooring.migrations.runner import VERSION_TABLE
from mooring.migrations.tables import METADATA
from mooring.serve import working
from mooring.settings import Settings, load

__all__ = ["MooringApp", "tables"]

log = structlog.get_logger(__name__)

SCHEMA: Final = "mooring"
STARTUP_SECONDS: Final = 60.0  # that an application inside `beside` has to say whether it knows a lifespan
_SECRET_QUERY: Final = re.compile("/(connect|embedded|dashboard)/")
_DRIVER: Final = re.compile(r"^(\w+)\+\w+:")


def tables() -> frozenset[str]:
    """Names of Mooring's tables, for a host's own migrations to leave them alone."""
    return frozenset({*METADATA.tables, VERSION_TABLE})


class MooringApp:
    """Mooring as an ASGI application to mount. It serves while its lifespan is entered.

    `public_url` is the address at which browsers reach it, with the prefix. The other arguments are settings by their
    names in lower case, without `MOORING_`; what is not given comes from the environment. On PostgreSQL the tables lie
    in a schema of their own, `schema`. `workers` processes of the host share what providers allow.

    Raises ConfigurationError.
    """

    def __init__(
        self,
        public_url: str | None = None,
        *,
        database_url: str | URL | None = None,
        schema: str | None = SCHEMA,
        workers: int = 1,
        **settings: object,
    ) -> None:
        given = {**settings, "public_url": public_url, "database_url": _plain(database_url)}
        self.settings = _in_schema(_settings(given, os.environ), schema)
        if self.settings.public_url is None:
            raise ConfigurationError(
                "MOORING_PUBLIC_URL is not set: in library mode it names the prefix too, https://app.example.com/hub"
            )
        self.public_url: str = self.settings.public_url
        self._prefix = httpx.URL(self.public_url).path.rstrip("/")
        self._workers = workers
        self._edge = create_app(self.settings, public_url=self.public_url)
        self._is_running = False
        self._looked = False

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the database, do background work, and serve; at the end, finish what runs. For a lifespan of yours."""
        if self._is_running:
            raise RuntimeError("this MooringApp runs already")
        _log_with_the_host()
        async with self._edge.running(workers=self._workers) as context, working(context):
            self._is_running = True
            try:
                yield
            finally:
                self._is_running = False

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        """The same in the form that `FastAPI(lifespan=…)` and `Starlette(lifespan=…)` take."""
        async with self.running():
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection. Served on its own, without an application around it, it keeps its own lifespan."""
        if scope["type"] == "lifespan":
            await _lifespan(self.running, None, scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        elif self._is_running:
            self._look(scope)
            await self._edge(_discreet(scope), receive, send)
        else:
            await _refuse(send)

    def beside(self, app: AsgiApp) -> AsgiApp:
        """An ASGI application of both: what is below the prefix is Mooring's, the rest is `app`'s.

        For hosts that cannot mount, such as Django. A lifespan that `app` has is kept. What clients look up below
        `/.well-known/` of the whole host for an issuer with a path is Mooring's too.
        """
        prefix = self._prefix
        known = re.compile(rf"(/\.well-known/[a-z-]+){re.escape(prefix)}((?:/.*)?)")  # RFC 8414 §3.1, RFC 9728 §3.1
        if not prefix:
            raise ConfigurationError("MOORING_PUBLIC_URL has no path, so nothing tells Mooring from the application")

        async def both(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                await _lifespan(self.running, app, scope, receive, send)
                return
            path: str = scope["path"]
            if (found := known.fullmatch(path)) is not None and scope["type"] == "http":
                inner = found[1] + found[2]
                await self({**scope, "path": inner, "raw_path": inner.encode(), "root_path": ""}, receive, send)
            elif path == prefix or path.startswith(prefix + "/"):
                await self({**_discreet(scope), "root_path": prefix}, receive, send)
            else:
                await app(scope, receive, send)

        return both

    def client(self, api_key: str, **more: Any) -> AsyncMooring:
        """A client that calls this Mooring inside the process, without a socket. Answers are read whole."""
        transport = httpx.ASGITransport(app=self, root_path=self._prefix)
        return AsyncMooring(self.public_url, api_key, transport=transport, **more)

    def _look(self, scope: Scope) -> None:
        """Tell once when the application mounted us elsewhere than the public URL says: callbacks would not arrive."""
        mounted = scope.get("root_path", "").rstrip("/")
        if self._looked or scope["path"].startswith("/.well-known/"):
            return
        self._looked = True
        if not self._prefix.endswith(mounted) or bool(mounted) != bool(self._prefix):
            log.warning("mounted elsewhere than MOORING_PUBLIC_URL says", mounted=mounted, public_url=self.public_url)


def _discreet(scope: Scope) -> Scope:
    """The request for us; what the server keeps for its access log loses the query where that holds tokens and codes."""
    ours = dict(scope)
    if _SECRET_QUERY.search(scope["path"]):
        scope["query_string"] = b""
    return ours


def _plain(url: str | URL | None) -> str | None:
    """A database URL as settings write it: without a driver. A URL object of SQLAlchemy may come too."""
    if url is None:
        return None
    text = url.render_as_string(hide_password=False) if isinstance(url, URL) else url
    return _DRIVER.sub(r"\1:", text)


def _in_schema(settings: Settings, schema: str | None) -> Settings:
    url = settings.database_url
    if schema is None or url is None or not url.startswith("postgres"):
        return settings
    parsed = make_url(url)
    if "schema" in parsed.query:
        return settings
    if not NAME.fullmatch(schema):
        raise ConfigurationError(f"MooringApp: schema {schema!r} is no plain name such as mooring")
    named = parsed.update_query_dict({"schema": schema}).render_as_string(hide_password=False)
    return replace(settings, database_url=named)


def _settings(given: Mapping[str, object], environ: Mapping[str, str]) -> Settings:
    """Settings from the arguments, else from the environment: the same text, the same checks."""
    known = {f.name: f.metadata["env"] for f in fields(Settings)}
    if unknown := sorted(set(given) - set(known)):
        raise ConfigurationError(f"MooringApp: there is no setting {unknown[0]!r}")
    texts = {known[name]: _text(value) for name, value in given.items() if value is not None}
    kept = {name: value for name, value in environ.items() if name.removesuffix("_FILE") not in texts}
    return load({**kept, **texts})


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(map(str, value))
    return str(value)


def _log_with_the_host() -> None:
    """Hand our lines to the standard library's logging, which the host set up, unless it set structlog up."""
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.filter_by_level,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


async def _refuse(send: Send) -> None:
    from mooring import errors
    from mooring.kit.web import send_error

    problem = "Mooring is not running: the application did not enter its lifespan, or is stopping"
    hint = "Pass MooringApp.lifespan to the application, or enter MooringApp.running() in its own lifespan."
    await send_error(send, errors.Unavailable(problem, hint=hint), None)


async def _lifespan(running: Any, app: AsgiApp | None, scope: Scope, receive: Receive, send: Send) -> None:
    """Keep the lifespan of Mooring, and inside it the one of `app` if it has any."""
    await receive()
    started = False
    try:
        async with running(), _inner(app, scope):
            await send({"type": "lifespan.startup.complete"})
            started = True
            await receive()
    except Exception as e:
        await send({"type": f"lifespan.{'shutdown' if started else 'startup'}.failed", "message": str(e)})
        raise
    await send({"type": "lifespan.shutdown.complete"})


@contextlib.asynccontextmanager
async def _inner(app: AsgiApp | None, scope: Scope) -> AsyncIterator[None]:
    """The lifespan of an application that may know none (ASGI: it then raises, or returns, before it answers)."""
    if app is None:
        yield
        return
    told: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    answers: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    task = asyncio.ensure_future(app(scope, told.get, answers.put))
    if not await _answered(told, "startup", answers, task):
        yield
        return
    try:
        yield
    finally:
        await _answered(told, "shutdown", answers, task)
        await asyncio.gather(task, return_exceptions=True)


async def _answered(
    told: asyncio.Queue[MutableMapping[str, Any]],
    step: str,
    answers: asyncio.Queue[MutableMapping[str, Any]],
    task: asyncio.Future[None],
) -> bool:
    """Tell an application a step of its lifespan; whether it took it. Raises RuntimeError when the step failed."""
    told.put_nowait({"type": f"lifespan.{step}"})
    answer = asyncio.ensure_future(answers.get())
    waiting: list[asyncio.Future[Any]] = [answer, task]
    await asyncio.wait(waiting, timeout=STARTUP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    if not answer.done() and answers.empty():
        answer.cancel()
        if not task.done():
            task.cancel()
            raise RuntimeError(f"the application did not finish its lifespan's {step}")
        task.exception()  # looked at: it says that the application knows no lifespan
        return False
    message = await answer
    if message["type"] == f"lifespan.{step}.failed":
        raise RuntimeError(message.get("message") or f"the application's {step} failed")
    return True
