"""Run the hub, or background work alone, in this process."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import structlog
import uvloop
from sqlalchemy.exc import SQLAlchemyError

from mooring.accounts.context import Context
from mooring.app import create_app
from mooring.courier.client import CourierUnavailableError
from mooring.courier.server import follow_supervisor
from mooring.errors import ConfigurationError
from mooring.kit.process import give_back_memory
from mooring.kit.server import listen
from mooring.log_lines import JsonLines, last_look
from mooring.metrics.exchange import sharing
from mooring.proxy.handler import PREFIX
from mooring.runtime import close_context, open_context
from mooring.settings import Settings
from mooring.supervisor import ROLE
from mooring.worker import Worker

log = structlog.get_logger(__name__)

CALLS_SECONDS = 6.0  # that running calls get to end when the hub stops; refreshes have 8 s more
STOP_SECONDS = 14.0  # rule R18: a graceful stop ends within 15 s, whatever hangs
RECOVER_SECONDS = 1.0  # between looks for answers that nobody stored
RECOVER_AGE = 2.0  # seconds; a live process stores its answers in milliseconds
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - translated, not bound


def public_url_of(settings: Settings, host: str, port: int) -> str:
    """The address of this hub for browsers and providers: the setting, else where we listen."""
    if settings.public_url:
        if urlsplit(settings.public_url).path:
            raise ConfigurationError(
                "MOORING_PUBLIC_URL has a path; only an application that mounts Mooring serves one"
            )
        return settings.public_url
    shown = _ANY.get(host, host)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def configure_logging(level: str) -> None:
    """One line of JSON per event on standard error; lines of libraries pass the same renderer."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            last_look,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    libraries = logging.StreamHandler(sys.stderr)
    libraries.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[libraries])


def serve(settings: Settings, *, host: str, port: int, background: bool = True) -> int:
    """Serve in this process until SIGINT or SIGTERM. Returns the exit code.

    Raises ConfigurationError before anything listens. Under a supervisor, token requests travel through its courier.
    Without `background` other hosts run the jobs.
    """
    configure_logging(settings.log_level)
    uvloop.run(_serve(settings, host, port, supervised=is_supervised(), background=background))
    return 0


def work(settings: Settings) -> int:
    """Run background work alone in this process until SIGINT or SIGTERM."""
    configure_logging(settings.log_level)
    uvloop.run(_work(settings, supervised=is_supervised()))
    return 0


def is_supervised() -> bool:
    """Whether a supervisor started this process."""
    return bool(os.environ.get(ROLE))


async def _serve(settings: Settings, host: str, port: int, *, supervised: bool, background: bool) -> None:
    app = create_app(settings, public_url=public_url_of(settings, host, port))
    stop = _stop_event(supervised=supervised)
    async with app.running(supervised=supervised) as context, working(context, jobs=background):
        # What is there now stays: without it, full collections walk through it all and calls stand still meanwhile.
        gc.collect()
        gc.freeze()
        give_back_memory()
        gc.set_threshold(20_000, 20, 50)
        try:
            listener = await listen(
                app,
                host=host,
                port=port,
                hot_prefix=PREFIX,
                hot=app.call,
                trusted_proxies=settings.trusted_proxies,
            )
        except OSError as e:
            raise ConfigurationError(f"--host/--port: can't listen on {host}:{port}: {e.strerror}") from None
        log.info("serving", url=app.public_url, pid=os.getpid())
        try:
            await stop.wait()
        finally:
            asyncio.get_running_loop().call_later(STOP_SECONDS, _give_up)
            await listener.stop(CALLS_SECONDS)
    log.info("stopped", pid=os.getpid())


async def _work(settings: Settings, *, supervised: bool) -> None:
    stop = _stop_event(supervised=supervised)
    public_url = settings.public_url or "http://127.0.0.1:8080"  # background work redirects nobody
    context = await open_context(settings, public_url=public_url, supervised=supervised)
    try:
        async with working(context):
            log.info("working", pid=os.getpid())
            await stop.wait()
            asyncio.get_running_loop().call_later(STOP_SECONDS, _give_up)
    finally:
        await close_context(context)
    log.info("stopped", pid=os.getpid())


def _stop_event(*, supervised: bool) -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if supervised:
        follow_supervisor(loop, stop)
    return stop


@contextlib.asynccontextmanager
async def working(context: Context, *, jobs: bool = True) -> AsyncIterator[None]:
    """Do what a process does beside serving: jobs, recovery, its numbers, its traces."""
    async with sharing(context), _background(context, jobs=jobs), _exporting(context):
        yield


@contextlib.asynccontextmanager
async def _background(context: Context, *, jobs: bool) -> AsyncIterator[None]:
    """Jobs, and the recovery of answers that a dead process left with this host's courier, which no other host has."""
    worker = Worker(context) if jobs else None
    if worker is not None:
        await worker.start()
    recovery = asyncio.create_task(_recover(context), name="recovery")
    try:
        yield
    finally:
        recovery.cancel()
        await asyncio.gather(recovery, return_exceptions=True)
        if worker is not None:
            await worker.stop()


@contextlib.asynccontextmanager
async def _exporting(context: Context) -> AsyncIterator[None]:
    """Traces and log lines over OTLP, where the environment asks for it."""
    if not any(name.startswith("OTEL_EXPORTER_OTLP_") for name in os.environ):
        yield
        return
    from mooring.metrics.otel import exporting

    with exporting(context):
        yield


async def _recover(context: Context) -> None:
    while True:
        await asyncio.sleep(RECOVER_SECONDS)
        context.vault.reload_if_changed()
        try:
            await context.refresher.recover(older_than=RECOVER_AGE)
        except CourierUnavailableError:
            log.warning("the courier does not answer; its supervisor starts another")
        except (SQLAlchemyError, OSError) as e:
            log.warning("kept answers not stored yet", error=type(e).__name__)


def _give_up() -> None:
    log.error("the stop took too long; what still runs is cut off", pid=os.getpid())
    os._exit(1)
