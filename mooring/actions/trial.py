"""Run the tests that stand beside actions: the real engine, with recorded answers instead of a provider."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import orjson

from mooring import errors
from mooring.actions import engine
from mooring.actions.engine import Exchange
from mooring.actions.inputs import gather
from mooring.actions.s1.runner import Account
from mooring.connectors.actions import Action
from mooring.connectors.definition import Connector
from mooring.proxy.reading import Whole, decode
from mooring.proxy.service import Call

BASE = "https://provider.example"
_NOBODY = Account("recorded", "recorded", "recorded", {})
_ASPECTS = frozenset({"data", "next", "error", "requests"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one test ended; `problem` is None when it passed."""

    connector: str
    action: str
    test: str
    problem: str | None


def _shown(ask: Call) -> str:
    """A body as a test writes it: text as it is, a form part by part, and of files how long they are."""
    if not isinstance(ask.body, bytes):
        return ""
    kind = next((value for name, value in ask.headers if name.lower() == b"content-type"), b"")
    if kind.startswith(b"multipart/"):
        parts = message_from_bytes(b"content-type: " + kind + b"\r\n\r\n" + ask.body).get_payload()
        return "; ".join(_part(part) for part in parts if isinstance(part, Message))
    try:
        return ask.body.decode()
    except UnicodeDecodeError:
        return f"({len(ask.body)} bytes)"


def _part(part: Message) -> str:
    name, filename = part.get_param("name", header="content-disposition"), part.get_filename()
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    if filename is None:
        return f"{name}={content.decode('utf-8', 'replace')}"
    return f'{name}="{filename}" ({part.get_content_type()}, {len(content)} bytes)'


async def try_connector(connector: Connector) -> list[Outcome]:
    """Run every test of a connector's actions."""
    out = []
    for action in connector.actions.values():
        if isinstance(action, Action):
            for number, test in enumerate(action.tests, 1):
                name = str(test.get("name") or f"test {number}")
                out.append(Outcome(connector.key, action.key, name, await _try(connector, action, test)))
    return out


async def _try(connector: Connector, action: Action, test: Mapping[str, Any]) -> str | None:
    return _difference(test.get("expect"), await play(connector, action, test))


async def play(connector: Connector, action: Action, test: Mapping[str, Any]) -> dict[str, Any]:
    """Run an action with the answers of a test. Gives `data`, `next`, `error` with its `message`, and `requests`."""
    asked: list[str] = []
    given = dict(test.get("input", {}))
    seen: dict[str, Any] = {"data": None, "next": None, "error": None}
    try:
        arguments = gather(action, {"body": {k: v for k, v in given.items() if k != "next"}}, next=given.get("next"))
        result = await engine.run(
            _recorded(connector, test.get("replies", []), asked), connector, _NOBODY, action, arguments
        )
        seen |= {"data": result.data if result.file is None else result.file.data, "next": result.next is not None}
    except errors.MooringError as e:
        seen["error"] = e.error_code
        seen["message"] = "; ".join([e.message, *e.errors])
    seen["requests"] = asked
    return seen


def _recorded(connector: Connector, replies: list[Mapping[str, Any]], asked: list[str]) -> Exchange:
    """Answers in the order of the file: each serves once, the last one of its kind for ever."""
    left = list(replies)

    async def exchange(ask: Call) -> tuple[Whole, str]:
        target = (ask.url.removeprefix(BASE) if ask.url else ask.path) + ("?" + ask.query if ask.query else "")
        body = _shown(ask)
        asked.append(f"{ask.method} {target}" + (f" {body}" if body not in {"", "{}"} else ""))
        for reply in left:
            if _matches(reply.get("match"), ask.method, target):
                if sum(_matches(r.get("match"), ask.method, target) for r in left) > 1:
                    left.remove(reply)
                return _answer(connector, reply, target), BASE
        raise errors.ProviderError(f"no reply of the test fits {ask.method} {target}", code="NoReplyError")

    return exchange


def _matches(pattern: str | None, method: str, target: str) -> bool:
    """`GET /path`, `/path` or a pattern with `*`; a query counts only where the pattern has one."""
    if pattern is None:
        return True
    wanted, _, path = pattern.rpartition(" ")
    if wanted and wanted.upper() != method:
        return False
    shown = target if "?" in path else target.partition("?")[0]
    return fnmatch.fnmatchcase(shown, path.replace("[", "[[]"))


def _answer(connector: Connector, reply: Mapping[str, Any], target: str) -> Whole:
    headers = {name.lower(): str(value) for name, value in reply.get("headers", {}).items()}
    content = reply.get("body")
    if reply.get("file"):
        body = (Path(connector.source).parent / str(reply["file"])).read_bytes()
    elif isinstance(content, str):
        body = content.encode()
    else:
        body = b"" if content is None else orjson.dumps(content)
        headers.setdefault("content-type", "application/json")
    return Whole(
        int(reply.get("status", 200)), headers, body, decode(body, headers.get("content-type", "")), BASE + target
    )


def _difference(expect: Any, seen: Mapping[str, Any]) -> str | None:
    """What is not as expected: the data alone, or some of data, next, error and requests."""
    wanted = expect if isinstance(expect, Mapping) and expect and set(expect) <= _ASPECTS else {"data": expect}
    if "error" not in wanted and seen["error"] is not None:
        return f"refused with {seen['error']}: {seen['message']}"
    for aspect, value in wanted.items():
        found = seen[aspect]
        if aspect == "next" and isinstance(value, bool):
            found = bool(found)
        if found != value and not (aspect == "data" and expect is None):
            return f"{aspect}: expected {_short(value)}, got {_short(found)}"
    return None


def _short(value: Any) -> str:
    text = orjson.dumps(value, default=str).decode()
    return text if len(text) <= 600 else text[:600] + "…"


def untested(connector: Connector) -> Iterator[str]:
    """Actions without a test."""
    for action in connector.actions.values():
        if isinstance(action, Action) and not action.tests:
            yield action.key
