"""Read a provider's whole answer, with the credential masked, for callers that want it in one piece."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from mooring import errors
from mooring.diagnosis.answers import BODY_READ
from mooring.kit.http import HttpFailure
from mooring.logs.writer import Entry
from mooring.protocol.headers import inbound
from mooring.protocol.redact import redact_json
from mooring.proxy import refusals, service
from mooring.proxy.service import Answer

MAX_ANSWER: Final = 32 << 20  # bytes; larger answers go through /proxy, which streams
_TEXT_FILES: Final = frozenset({"text/csv", "text/calendar", "text/vcard", "text/tab-separated-values"})


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer: status, headers (repeated ones joined), body as it came and decoded, and the redacted URL."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    data: Any = field(repr=False)
    url: str

    @property
    def is_file(self) -> bool:
        """Whether the body is neither JSON nor text to be read on, by its type; without one, by its bytes."""
        kind = _kind(self.headers.get("content-type", ""))
        if not self.body or kind.endswith(("/json", "+json")):
            return False
        if not kind:
            return not isinstance(self.data, dict | list) and not self.body.isascii()
        return not kind.startswith("text/") or kind in _TEXT_FILES

    def as_error(self) -> dict[str, Any]:
        """An entry of `provider_errors` (contract §1)."""
        shown = redact_json(self.data) if isinstance(self.data, dict | list) else self.data
        return {"status": self.status, "url": self.url, "raw": shown, "headers": dict(self.headers)}


async def read(answer: Answer, entry: Entry | None = None) -> Whole:
    """Read to the end. Raises ProviderError when the answer is too large or breaks off."""
    body = bytearray()
    try:
        async for chunk in answer.response.chunks():
            body += answer.scanner.mask(chunk) if answer.scanner else chunk
            if len(body) > MAX_ANSWER:
                raise errors.ProviderError(
                    f"the answer of {answer.connector.title} is larger than {MAX_ANSWER >> 20} MiB",
                    code="AnswerTooLargeError",
                    hint="Use /proxy/…, which streams.",
                )
    except HttpFailure as e:
        raise service.refusal(answer.connector.title, e) from None
    if answer.scanner:
        body += answer.scanner.flush()
    if entry is not None:
        entry.bytes_down = len(body)
        if (refused := refusals.watch(answer)) is not None:
            refused.take(bytes(body[:BODY_READ]))
            refused.note(entry)
        if entry.record is not None:
            entry.record.take(bytes(body))
    headers: dict[str, str] = {}
    for raw_name, raw_value in inbound(answer.response.raw_headers):
        if answer.scanner:
            raw_value = answer.scanner.mask(raw_value) + answer.scanner.flush()
        name, value = raw_name.decode("latin-1"), raw_value.decode("utf-8", "replace")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Whole(
        answer.response.status, headers, bytes(body), decode(bytes(body), headers.get("content-type", "")), answer.url
    )


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _looks_like_json(raw: bytes, content_type: str) -> bool:
    kind = _kind(content_type)
    return kind.endswith(("/json", "+json")) or raw[:1] in (b"{", b"[")


def decode(raw: bytes, content_type: str) -> Any:
    """A body as data: JSON as JSON, text as text, anything else as base64 text."""
    if not raw:
        return None
    if _looks_like_json(raw, content_type):
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError:
            pass
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return base64.b64encode(raw).decode()
