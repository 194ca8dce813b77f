"""What an application does with a MooringApp in its own process; run by test_library, prints what it saw as JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import sys
from collections.abc import MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Column, Integer, MetaData, Table, create_engine
from sqlalchemy.engine import make_url
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from mooring.client import HubError
from mooring.errors import ConfigurationError
from mooring.library import MooringApp

URL = "https://app.example.com/own/hub"
KEY = "k" * 40
seen: dict[str, Any] = {}
steps: list[str] = []


@asynccontextmanager
async def lifespan(_app: object) -> Any:
    steps.append("application started")
    yield
    steps.append("application stopped")


def refusal(*arguments: Any, **more: Any) -> str:
    try:
        MooringApp(*arguments, **more)
    except ConfigurationError as e:
        return str(e)
    return "taken"


async def serve(app: Any, mooring: MooringApp) -> None:
    """Keep the lifespan as a server does, and ask meanwhile."""
    told: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    answers: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    running = asyncio.create_task(app({"type": "lifespan", "asgi": {"version": "3.0"}}, told.get, answers.put))
    told.put_nowait({"type": "lifespan.startup"})
    steps.append((await answers.get())["type"])
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="https://app.example.com",
        headers={"authorization": f"Bearer {KEY}"},
    ) as http:
        for path in (
            "/page",
            "/own/hub/livez",
            "/own/hub",
            "/own/hubbub",
            "/.well-known/nothing/own/hub",
            "/.well-known/nothing",
        ):
            answer = await http.get(path)
            seen[path] = [answer.status_code, answer.headers.get("location"), "x-request-id" in answer.headers]
            assert "strict-transport-security" not in answer.headers
    async with mooring.client(KEY) as hub:
        session = await hub.connect_sessions.create("acme", "Acme Inc.")
        seen["link"] = session.auth_link_url
        answer = await hub.account("no-such-account").get("/x")
        seen["proxy"] = [answer.status_code, answer.json()["errorCode"]]
    told.put_nowait({"type": "lifespan.shutdown"})
    steps.append((await answers.get())["type"])
    await running


async def main(folder: Path, env_py: str) -> None:
    file = folder / "app.db"
    engine = create_engine(f"sqlite:///{file}")
    own = MetaData()
    Table("app_items", own, Column("id", Integer, primary_key=True))
    own.create_all(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('0001')")

    mooring = MooringApp(
        URL,
        database_url=make_url(f"sqlite+aiosqlite:///{file}"),
        data_dir=folder / "data",
        bootstrap_api_key=KEY,
        egress_allow=["127.0.0.1:1", "127.0.0.1:2"],
        refresh_ahead=False,
    )
    seen["settings"] = [
        mooring.settings.egress_allow,
        mooring.settings.refresh_ahead,
        mooring.settings.log_retention_days,
    ]
    try:
        await mooring.client(KEY, retries=0).connect_sessions.create("acme", "Acme Inc.")
    except HubError as e:
        seen["not running"] = [e.status, e.hint]

    async def page(_request: Any) -> PlainTextResponse:
        return PlainTextResponse("own")

    app = Starlette(routes=[Route("/page", page)], lifespan=lifespan)
    await serve(mooring.beside(app), mooring)
    seen["steps"] = steps
    await serve(mooring.beside(app), mooring)  # again, as reloading servers and tests do

    names: dict[str, Any] = {}
    exec(env_py, names)
    with engine.connect() as connection:
        plain = MigrationContext.configure(connection)
        told = MigrationContext.configure(connection, opts={"include_name": names["include_name"]})
        seen["autogenerate"] = [len(compare_metadata(plain, own)) > 30, compare_metadata(told, own)]
        seen["revision"] = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    engine.dispose()

    other = folder / "other.db"
    with sqlite3.connect(other) as clash:
        clash.execute("CREATE TABLE users (id INTEGER)")
    clash.close()
    try:
        async with MooringApp(URL, database_url=f"sqlite:///{other}", data_dir=folder / "data").running():
            pass
    except ConfigurationError as e:
        seen["clash"] = str(e)
    postgres = "postgresql+asyncpg://u:sekret@db.example/app"
    seen["postgres"] = [
        MooringApp(URL, database_url=postgres).settings.database_url,
        MooringApp(URL, database_url=make_url(postgres), schema="hub").settings.database_url,
        MooringApp(URL, database_url=postgres, schema=None).settings.database_url,
    ]
    seen["refusals"] = [
        refusal(),
        refusal(URL, colour="red"),
        refusal(URL, egress_allow="everything"),
        refusal(URL, database_url=postgres, schema="Not Plain"),
        refusal("https://app.example.com/a/../b"),
    ]


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
    print(json.dumps(seen, default=str))
