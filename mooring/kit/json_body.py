"""What the text of a JSON body must hold to before anybody reads it: UTF-8, bounded nesting, no key twice (rule A5).

Parsers differ in which of two equal keys counts, so that what one of them checks another one does not obey.
"""

from __future__ import annotations

import json
import re
from collections.abc import MutableMapping
from typing import Any, Final

from mooring import errors
from mooring.kit.server import Receive, Scope

DEPTH: Final = 32
_TOKEN: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)  # a text without an end reaches to the end


class _TwiceError(ValueError):
    """A key that stands twice in one object."""


def is_json(scope: Scope) -> bool:
    """Whether a request says that its body is JSON. The framework reads no other body as JSON."""
    return any(name == b"content-type" and b"json" in value.lower() for name, value in scope["headers"])


def check_json(raw: bytes) -> None:
    """Raise BadRequest for a body that breaks the rules; what is no JSON at all is left to whoever parses it."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:  # RFC 8259 §8.1: a parser that guesses would read UTF-16 here
        raise errors.ValidationFailed("Validation failed", errors=["the body is not JSON in UTF-8"])
    depth = 0
    for found in _TOKEN.finditer(text):
        mark = found[0]
        if mark in "[{":
            depth += 1
            if depth > DEPTH:
                raise errors.BadRequest(f"the body is nested deeper than {DEPTH} levels")
        elif mark in "]}":
            depth -= 1
    try:
        json.loads(text, object_pairs_hook=_once_each)
    except _TwiceError as e:
        raise errors.BadRequest(f"the body has the key {str(e)[:60]!r} twice in one object") from None
    except ValueError:
        return


def _once_each(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _TwiceError(name)
            seen.add(name)


def checked(receive: Receive) -> Receive:
    """A `receive` that takes the body whole, and raises what `check_json` raises. Put a limit on its size in front."""
    done = False

    async def take() -> MutableMapping[str, Any]:
        nonlocal done
        if done:
            return await receive()
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return message
            body += message.get("body", b"")
            more = message.get("more_body", False)
        done = True
        if body:
            check_json(bytes(body))
        return {"type": "http.request", "body": bytes(body), "more_body": False}

    return take
