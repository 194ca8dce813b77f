"""Send one webhook message, and keep what may be kept of the answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import orjson

from mooring.kit import clock
from mooring.kit.http import HttpClient, HttpFailure, OutboundRequest, StreamedResponse
from mooring.protocol import signing
from mooring.protocol.redact import clean_line, redact_headers, redact_json, redact_text, redact_url
from mooring.webhooks import events as catalogue
from mooring.webhooks.models import DeliveryAttempt, Event

TIMEOUT = 20.0  # seconds for the whole exchange
BODY_KEPT = 2048  # bytes of an answer
_BODY_READ = 1 << 16  # a short answer is read to its end, so that the connection can be used again
_HEADERS_KEPT = 50
_SLOW_DOWN = frozenset({429, 502, 504})
_LONGEST_WAIT = 86_400.0


@dataclass(frozen=True, slots=True)
class Answer:
    """How one attempt ended. `status` is None when no answer came."""

    at: datetime
    duration_ms: int
    status: int | None
    error: str | None
    request_headers: list[list[str]]
    response_headers: list[list[str]]
    response_body: str | None
    retry_after: float | None = None

    @property
    def delivered(self) -> bool:
        """Whether the receiver took the message: any 2xx."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def overloaded(self) -> bool:
        """Whether the receiver is down or asked for less: then nothing else is sent to it for a while either."""
        return self.status is None or self.status in _SLOW_DOWN or self.retry_after is not None

    def row(self, endpoint_id: str, event_seq: int) -> DeliveryAttempt:
        """The answer as a row of the delivery log."""
        return DeliveryAttempt(
            endpoint_id=endpoint_id,
            event_seq=event_seq,
            at=self.at,
            duration_ms=self.duration_ms,
            status=self.status,
            error=self.error,
            request_headers=self.request_headers,
            response_headers=self.response_headers,
            response_body=self.response_body,
        )


async def send(http: HttpClient, url: str, secrets: Sequence[str], event: Event, *, timeout: float = TIMEOUT) -> Answer:  # noqa: ASYNC109 - a network deadline, passed on
    """Post an event once, signed for this very moment. Never raises for what the network or the receiver does."""
    at = clock.now()
    body = catalogue.body(
        project_id=event.project_id,
        event=event.event,
        event_date=event.created_at,
        record_type=event.record_type,
        record_id=event.record_id,
        account_id=event.account_id,
        payload=event.payload,
        sent_at=at,
    )
    plain = [("content-type", "application/json"), ("accept", "*/*")]
    signed = signing.signature_headers(secrets, event.id, int(at.timestamp()), body)
    hidden = [*secrets, *(s.removeprefix(signing.PREFIX) for s in secrets)]
    hidden += [*(v for n, v in signed if n == signing.STACKONE_SIGNATURE)]
    hidden += [s.removeprefix("v1,") for n, v in signed if n == signing.SIGNATURE for s in v.split()]
    shown = [[n, v] for n, v in [*plain, *signed] if n not in {signing.SIGNATURE, signing.STACKONE_SIGNATURE}]
    started = time.monotonic()
    status, error, headers, text = None, None, [], None
    retry_after: float | None = None
    try:
        request = OutboundRequest("POST", url, [*plain, *signed], body)
        response = await http.stream(request, first_byte=timeout, idle=timeout)
        status = response.status
        left = max(timeout - (time.monotonic() - started), 0.1)
        raw = await _read(response, left)
        headers = _kept_headers(response, hidden)
        text = _kept_body(raw, hidden)
        retry_after = _retry_after(response, at) if status == 503 or status in _SLOW_DOWN else None
        error = _refusal(status)
    except HttpFailure as e:
        error = clean_line(str(e), 500)
    duration = round((time.monotonic() - started) * 1000)
    return Answer(at, duration, status, error, shown, headers, text, retry_after)


async def _read(response: StreamedResponse, seconds: float) -> bytes:
    """The beginning of the answer's body. The status has decided already, so a body that breaks off changes nothing."""
    out = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in response.chunks():
                out += chunk
                if len(out) > _BODY_READ:
                    break
    except (HttpFailure, TimeoutError):
        pass
    finally:
        await response.aclose()
    return bytes(out)


def _refusal(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return f"the receiver answered {status}; redirects are not followed, so give the final URL"
    if status == 410:
        return "the receiver answered 410: it does not want this endpoint any more"
    return f"the receiver answered {status}"


def _retry_after(response: StreamedResponse, now: datetime) -> float | None:
    """Seconds that the receiver asked for (RFC 9110 §10.2.3), one day at most."""
    text = next((v for n, v in response.headers if n.lower() == "retry-after"), "").strip()
    if not text:
        return None
    if text.isascii() and text.isdecimal():
        return min(float(text[:10]), _LONGEST_WAIT)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # a year, hour or zone that no machine word holds
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max((moment - now).total_seconds(), 0.0), _LONGEST_WAIT)


def _kept_headers(response: StreamedResponse, hidden: Sequence[str]) -> list[list[str]]:
    kept = []
    for name, value in redact_headers(response.headers[:_HEADERS_KEPT]):
        shown = redact_url(value) if name.lower() in {"location", "content-location"} else value
        kept.append([clean_line(name, 100), clean_line(redact_text(shown, hidden), 500)])
    return kept


def _kept_body(raw: bytes, hidden: Sequence[str]) -> str | None:
    if not raw:
        return None
    try:
        text = orjson.dumps(redact_json(orjson.loads(raw))).decode()
    except (ValueError, TypeError):
        text = raw.decode("utf-8", "replace")
    text = redact_text(text, hidden).replace("\x00", "\ufffd")  # PostgreSQL stores no NUL
    return text.encode()[:BODY_KEPT].decode("utf-8", "ignore")
