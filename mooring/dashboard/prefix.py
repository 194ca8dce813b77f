"""Links of a dashboard that an application mounted under a prefix. Inside, every path begins at our own root."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any, Final

from mooring.kit.server import Send

# Values are escaped in our templates: a quote in front of a slash is our own markup, never somebody's text.
_LINK: Final = re.compile(rb'(\s(?:href|src|action|hx-get|hx-post|data-reload-after)=")/(?!/)')
_HEADERS: Final = frozenset({b"location", b"hx-redirect"})


def below(prefix: str, send: Send) -> Send:
    """A `send` that puts the prefix before our own links, in the page and in the headers that lead on."""
    before = prefix.encode()
    held: MutableMapping[str, Any] | None = None

    async def sending(message: MutableMapping[str, Any]) -> None:
        nonlocal held
        if message["type"] == "http.response.start":
            headers = [(name, _led(before, name, value)) for name, value in message["headers"]]
            message = {**message, "headers": headers}
            if any(name == b"content-type" and value.startswith(b"text/html") for name, value in headers):
                held = message
                return
        elif held is not None:  # our pages are one message
            begun, held = held, None
            body = _LINK.sub(rb"\1" + before + b"/", message["body"])
            length = (b"content-length", b"%d" % len(body))
            begun["headers"] = [length if name == b"content-length" else (name, v) for name, v in begun["headers"]]
            await send(begun)
            message = {**message, "body": body}
        await send(message)

    return sending


def _led(before: bytes, name: bytes, value: bytes) -> bytes:
    return before + value if name in _HEADERS and value.startswith(b"/") and not value.startswith(b"//") else value
