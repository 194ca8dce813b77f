"""Rule S15 over the whole suite: what every hub of it leaves, at DEBUG, is searched for the secrets that tests use."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import text

from mooring.kit.db import Database

# Credentials that tests give to the hub, and what the sandbox and Redmine issue. Escaped forms are what
# `test_canaries.py` is about; here the point is that every test is watched.
KNOWN = (
    "sandbox-key-acme",
    "sandbox-key-globex",
    "sandbox-secret",
    "basic-secret",
    "post-secret",
    "machine-secret",
    "key-0815-secret",
    "bootstrap-key-for-tests-0123456789abcdef",
)
_SECRET = re.compile(
    b"|".join(map(re.escape, map(str.encode, KNOWN)))
    + rb"|(?<![A-Za-z0-9_-])(?:at|rt|code)_[A-Za-z0-9_-]{32}(?![A-Za-z0-9_-])"  # of the sandbox
    + rb"|v1\.local\.[A-Za-z0-9]{16}\.[A-Za-z0-9_-]{43}"  # API keys
)


def found_in(place: str, content: bytes) -> list[str]:
    """Each secret once, with what stands around it."""
    out: dict[bytes, str] = {}
    for hit in _SECRET.finditer(content):
        around = content[max(0, hit.start() - 120) : hit.end() + 60]
        out.setdefault(hit[0], f"{place}: …{around.decode('utf-8', 'replace')}…")
    return list(out.values())


def left_by(folder: Path) -> list[str]:
    """Secrets in the log and the files of a hub. Key files are what they are."""
    out = []
    for path in folder.rglob("*"):
        if path.is_file() and "key" not in path.name:
            out += found_in(str(path.relative_to(folder)), path.read_bytes())
    return out


def rows_of(database_url: str) -> bytes:
    """All rows of all tables as text."""

    async def dump() -> bytes:
        db = Database(database_url)
        out = []
        try:
            async with db.read() as tx:
                names = (
                    "SELECT name FROM sqlite_master WHERE type = 'table'"
                    if db.is_sqlite
                    else "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
                )
                for (table,) in list(await tx.execute(text(names))):
                    for row in await tx.execute(text(f'SELECT * FROM "{table}"')):
                        out += [value if isinstance(value, bytes) else str(value).encode() for value in row]
        finally:
            await db.close()
        return b"\n".join(out)

    with ThreadPoolExecutor(1) as pool:  # the test itself may have a loop
        return pool.submit(lambda: asyncio.run(dump())).result()
