"""The database: engine, portable column types, short transactions, and the feed of changes that caches follow.

One SQL subset serves SQLite and PostgreSQL. A transaction never spans a network call.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Engine, Integer, MetaData, String, event, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from mooring.kit import clock

SILENT_SECONDS = 5.0  # after which a database that answers nothing is away


class Timestamp(TypeDecorator[datetime]):
    """An aware UTC time. PostgreSQL keeps the zone; SQLite stores UTC text, which sorts like time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive time must not reach the database")
        value = value.astimezone(UTC)
        return value if dialect.name == "postgresql" else value.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Json = JSON().with_variant(JSONB(), "postgresql")
BigId = BigInteger().with_variant(Integer(), "sqlite")  # SQLite numbers only INTEGER PRIMARY KEY by itself


class Base(DeclarativeBase):
    """Base of all tables; constraint names are fixed so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: Timestamp, dict[str, Any]: Json, list[Any]: Json, list[str]: Json}  # noqa: RUF012


class Change(Base):
    """One row per change that the caches of other processes must notice. Kept for a minute."""

    __tablename__ = "changes"

    seq: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    topic: Mapped[str] = mapped_column(String(40))
    key: Mapped[str] = mapped_column(String(100))
    at: Mapped[datetime] = mapped_column(index=True)


def record_change(tx: AsyncSession, topic: str, key: str) -> None:
    """Tell the caches of all processes, when and only when this transaction commits."""
    tx.add(Change(topic=topic, key=key, at=moment(tx)))
    tx.info.setdefault("changes", []).append((topic, key))


def before_commit(tx: AsyncSession, work: Callable[[AsyncSession], Awaitable[None]]) -> None:
    """Run `work(tx)` as the last thing of this transaction, once, whoever asked for it how often."""
    waiting: list[Any] = tx.info.setdefault("before_commit", [])
    if work not in waiting:
        waiting.append(work)


async def now_of(tx: AsyncSession) -> datetime:
    """The time by which processes on several hosts agree: the database server's. SQLite has one host and its clock."""
    if tx.get_bind().dialect.name == "sqlite":
        return clock.now()
    moment: datetime = (await tx.execute(select(func.clock_timestamp()))).scalar_one()
    return moment.astimezone(UTC)


def moment(tx: AsyncSession, by: timedelta = timedelta()) -> Any:
    """The same time, moved, as a value to write or to compare with: the server fills it in, which costs no question."""
    if tx.get_bind().dialect.name == "sqlite":
        return clock.now() + by
    return func.clock_timestamp() + by if by else func.clock_timestamp()


def _sqlite_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we write BEGIN ourselves: the driver's own is too late and never IMMEDIATE
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",  # R3: a rotated refresh token must survive a power cut
        "busy_timeout=15000",
        "foreign_keys=ON",
        "cache_size=-8000",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _notice_silence(connection: Any, _record: Any) -> None:
    """Let the kernel end a connection whose other side is silent: a cut cable says nothing, and asyncpg waits for long."""
    # Private, for asyncpg has no setting for it. Without it only `command_timeout` ends the wait.
    transport = getattr(connection.driver_connection, "_transport", None)
    found = transport.get_extra_info("socket") if transport is not None else None
    if (
        found is None
        or found.family not in {socket.AF_INET, socket.AF_INET6}
        or not hasattr(socket, "TCP_USER_TIMEOUT")
    ):
        return
    with socket.socket(fileno=os.dup(found.fileno())) as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 2)
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(SILENT_SECONDS * 1000))


def _begin_with(engine: Engine, statement: str) -> None:
    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql(statement)


_ambient: ContextVar[AsyncSession | None] = ContextVar("mooring-ambient-transaction", default=None)


class Database:
    """The engines of one process. `read()` and `begin()` are the only ways in."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        named = parsed.query.get("schema")
        self.schema = named if isinstance(named, str) else None
        """The PostgreSQL schema that all of it lies in, where the URL names one (`?schema=`)."""
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self._on_commit: list[Any] = []
        self.info: dict[str, Any] = {}
        """What every transaction carries in its `info`: parts of the process that rules need and plumbing does not know."""
        if self.is_sqlite:
            self._reader, self._writer = self._sqlite_engines(parsed)
        else:
            self._reader = self._writer = create_async_engine(
                parsed.difference_update_query(["schema"]).set(drivername="postgresql+asyncpg"),
                pool_size=10,
                max_overflow=10,
                pool_timeout=SILENT_SECONDS * 2,
                pool_pre_ping=True,
                pool_recycle=1800,
                hide_parameters=True,  # values of a statement must not reach a log (rule L1)
                connect_args={
                    "timeout": SILENT_SECONDS,
                    "command_timeout": 30,
                    "server_settings": {
                        "application_name": "mooring",
                        # What a host that was cut off has locked, others wait for so long.
                        "idle_in_transaction_session_timeout": "10000",
                        **({"search_path": self.schema} if self.schema else {}),
                    },
                },
            )
            event.listen(self._writer.sync_engine, "connect", _notice_silence)
        self._read = async_sessionmaker(self._reader, expire_on_commit=False, autoflush=False)
        self._write = async_sessionmaker(self._writer, expire_on_commit=False)

    @staticmethod
    def _sqlite_engines(url: URL) -> tuple[AsyncEngine, AsyncEngine]:
        if url.database:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        url = url.set(drivername="sqlite+aiosqlite")
        # One writer per process queues here instead of polling SQLite's lock.
        writer = create_async_engine(url, pool_size=1, max_overflow=0, pool_timeout=30, hide_parameters=True)
        reader = create_async_engine(url, pool_size=3, max_overflow=2, pool_timeout=30, hide_parameters=True)
        for engine, statement in ((writer, "BEGIN IMMEDIATE"), (reader, "BEGIN")):
            event.listen(engine.sync_engine, "connect", _sqlite_connect)
            _begin_with(engine.sync_engine, statement)
        return reader, writer

    @property
    def writer(self) -> AsyncEngine:
        """The engine that migrations run on."""
        return self._writer

    def on_commit(self, listener: Any) -> None:
        """Call `listener(topic, key)` in this process right after a commit that recorded changes."""
        self._on_commit.append(listener)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A consistent view for reading. Nothing is written."""
        async with self._read() as session:
            yield session

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncSession]:
        """A write transaction: commits at the end, rolls back on any exception. Inside `ambient` it is part of that one."""
        outer = _ambient.get()
        if outer is not None:
            yield outer
            await outer.flush()
            return
        async with self._write() as session, session.begin():
            session.info.update(self.info)
            yield session
            for work in session.info.pop("before_commit", ()):
                await work(session)
        for topic, key in session.info.get("changes", ()):
            for listener in self._on_commit:
                listener(topic, key)

    @asynccontextmanager
    async def ambient(self) -> AsyncIterator[AsyncSession]:
        """A write transaction that every `begin` of the same task joins, so that they commit as one."""
        async with self.begin() as session:
            token = _ambient.set(session)
            try:
                yield session
            finally:
                _ambient.reset(token)

    async def close(self) -> None:
        """Close all connections."""
        await self._reader.dispose()
        if self._writer is not self._reader:
            await self._writer.dispose()


_AWAY_STATES = ("08", "53", "57P")  # no connection, no room, going down or coming up (PostgreSQL, appendix A)


def is_away(error: Exception) -> bool:
    """Whether the database could not be asked, as opposed to: it refuses the row or the statement."""
    if isinstance(error, OperationalError) and str(error.orig).startswith(("no such ", "near ", "table ")):
        return False  # what SQLite calls operational though the statement is at fault
    if isinstance(error, OSError | OperationalError | InterfaceError | PoolTimeoutError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    return error.connection_invalidated or str(getattr(error.orig, "sqlstate", "")).startswith(_AWAY_STATES)
