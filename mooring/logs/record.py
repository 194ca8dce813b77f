"""Advanced logs: headers and bodies of one call, gathered while it runs, redacted and cut before they are kept (rule L1)."""

from __future__ import annotations

import codecs
import re
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any, Final
from urllib.parse import unquote_plus

import orjson

from mooring.kit.vault import DataKey
from mooring.protocol.bodies import gunzip
from mooring.protocol.redact import REDACTED, is_sensitive, redact_headers, redact_json, redact_text

LIMIT: Final = 32 << 10  # bytes of a body that are kept
MARGIN: Final = 16 << 10  # gathered beyond it, so that a secret on the edge is whole when it is looked for
SNIPPET: Final = 1000  # characters of a provider's error
FIELD: Final = "request_detail"

_GATHER: Final = LIMIT + MARGIN
_DECODER = codecs.getincrementaldecoder("utf-8")
_PAIR = re.compile(r'("(?:[^"\\]|\\.){1,200}"\s*:\s*)("(?:[^"\\]|\\.)*"?|[^\s,\]}{\["]+)')
_ASSIGNED = re.compile(r"([A-Za-z0-9_.-]{1,100})(\s*=\s*)(\"[^\"]*\"?|'[^']*'?|[^\s&;,<>\"']+)")
_ELEMENT = re.compile(r"(<([A-Za-z0-9_.:-]{1,100})(?:\s[^<>]*)?>)([^<]*)")

RawHeaders = Iterable[tuple[bytes, bytes]]


class Record:
    """One exchange with a provider. A repeated call begins anew: the last attempt is what is kept."""

    __slots__ = ("_key", "_request", "_request_headers", "_response", "_response_headers", "_secrets", "_sizes")

    def __init__(self) -> None:
        self._key: DataKey | None = None
        self._secrets: tuple[str, ...] = ()
        self._request = bytearray()
        self._response = bytearray()
        self._request_headers: RawHeaders = ()
        self._response_headers: RawHeaders = ()
        self._sizes = [0, 0]

    def begin(self, key: DataKey, secrets: Iterable[str], headers: RawHeaders, body: Any) -> None:
        """Note what goes out. `key` is the account's; `secrets` are those that must not be kept."""
        self._key, self._secrets = key, tuple(secrets)
        self._request_headers, self._response_headers = headers, ()
        self._response.clear()
        self._sizes[1] = 0
        if isinstance(body, bytes):
            self._request[:] = body[:_GATHER]
            self._sizes[0] = len(body)

    async def tee(self, body: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """Pass a streamed request body on, and gather its beginning."""
        async for chunk in body:
            self._sizes[0] += len(chunk)
            if len(self._request) < _GATHER:
                self._request += chunk[: _GATHER - len(self._request)]
            yield chunk

    def answered(self, headers: RawHeaders) -> None:
        """Note the head of the answer."""
        self._response_headers = headers

    def take(self, chunk: bytes) -> None:
        """Gather a piece of the answer's body."""
        self._sizes[1] += len(chunk)
        if len(self._response) < _GATHER:
            self._response += chunk[: _GATHER - len(self._response)]

    def sealed(self, status: int, url: str | None) -> bytes | None:
        """The exchange, redacted, cut and sealed; None when nothing was sent."""
        if self._key is None:
            return None
        request = self._side(self._request_headers, bytes(self._request), self._sizes[0])
        response = self._side(self._response_headers, bytes(self._response), self._sizes[1])
        if status >= 400:
            shown = response["body"]
            raw = shown if shown is None or len(shown) <= SNIPPET else shown[:SNIPPET]
            response["provider_errors"] = [{"status": status, "url": url, "raw": raw}]
        return self._key.seal(orjson.dumps({"request": request, "response": response}), name=FIELD)

    def _side(self, headers: RawHeaders, body: bytes, size: int) -> dict[str, Any]:
        text = [(name.decode("latin-1"), value.decode("utf-8", "replace")) for name, value in headers]
        shown: dict[str, str] = {}
        for name, value in redact_headers(text):
            clean = redact_text(value, self._secrets)
            shown[name] = f"{shown[name]}, {clean}" if name in shown else clean
        given = {name.lower(): value for name, value in text}
        kind = given.get("content-type", "").partition(";")[0].strip().lower()
        return {"headers": shown, "body": self._text(body, size, kind, given.get("content-encoding", ""))}

    def _text(self, body: bytes, size: int, kind: str, encoding: str) -> str | None:
        if not size:
            return None
        whole = size <= len(body)
        if encoding.strip().lower() in {"gzip", "x-gzip"}:
            try:
                body, ended = gunzip(body, _GATHER)
            except ValueError:
                return _unshown("gzip", size)
            whole = whole and ended
        elif encoding.strip():
            return _unshown(encoding[:20], size)
        if kind.startswith("multipart/"):
            return _unshown("multipart", size)
        try:
            # A character that the cut has split is no sign of a binary body.
            text = _DECODER().decode(body, final=whole)
        except UnicodeDecodeError:
            return _unshown("binary", size)
        if "\0" in text:
            return _unshown("binary", size)
        text = redact_text(_redacted(text, kind, whole=whole), self._secrets)
        raw = text.encode()
        if len(raw) <= LIMIT:
            return text
        return raw[:LIMIT].decode("utf-8", "ignore") + f"… [{size} bytes in all]"


def _unshown(what: str, size: int) -> str:
    return f"[{what}, {size} bytes, not shown]"


def _redacted(text: str, kind: str, *, whole: bool) -> str:
    """The text without what stands under sensitive names, by what kind of text it is."""
    if kind == "application/x-www-form-urlencoded":
        return "&".join(_parameter(part) for part in text.split("&"))
    if whole and text.lstrip()[:1] in {"{", "["}:
        try:
            return orjson.dumps(redact_json(orjson.loads(text))).decode()
        except (orjson.JSONDecodeError, orjson.JSONEncodeError):
            pass
    # Not whole, or no JSON: the same by the looks of it.
    text = _PAIR.sub(
        lambda m: f'{m[1]}"{REDACTED}"' if is_sensitive(m[1].split(":")[0].strip().strip('"')) else m[0], text
    )
    text = _ELEMENT.sub(lambda m: f"{m[1]}{REDACTED}" if m[3].strip() and is_sensitive(m[2]) else m[0], text)
    return _ASSIGNED.sub(lambda m: f"{m[1]}{m[2]}{REDACTED}" if is_sensitive(m[1]) else m[0], text)


def _parameter(part: str) -> str:
    name, equals, _ = part.partition("=")
    return f"{name}={REDACTED}" if equals and is_sensitive(unquote_plus(name)) else part
