"""The connection doctor for a provider's 401 and 403 that pass through: noted in the log, never in the caller's way."""

from __future__ import annotations

from mooring.connectors.meanings import declared_cause
from mooring.diagnosis.answers import BODY_READ, REFUSALS, diagnose_refusal, to_keep
from mooring.logs.writer import Entry
from mooring.protocol.bodies import gunzip
from mooring.protocol.oauth2 import parse_retry_after
from mooring.proxy.service import Answer


class Refused:
    """The beginning of a refusal's body, gathered as it passes; the credential is masked in it already."""

    __slots__ = ("_answer", "_body")

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._body = bytearray()

    def take(self, chunk: bytes) -> None:
        """Gather a piece of the body."""
        if len(self._body) < BODY_READ:
            self._body += chunk[: BODY_READ - len(self._body)]

    def note(self, entry: Entry) -> None:
        """Name the cause, and put it to the request that was refused."""
        response, connector = self._answer.response, self._answer.connector
        headers = self._headers()
        body = _readable(bytes(self._body), headers.get("content-encoding", ""))
        found = diagnose_refusal(
            response.status,
            headers,
            body.decode("utf-8", "replace"),
            declared=declared_cause(connector, response.status, headers, body),
            retry_after=parse_retry_after(headers.get("retry-after")),
        )
        entry.steps[-1]["diagnosis"] = to_keep(found, response.status, headers)

    def _headers(self) -> dict[str, str]:
        """The answer's headers, without an echoed credential; of a repeated one the first counts."""
        headers, scanner = dict(reversed(self._answer.response.headers)), self._answer.scanner
        if scanner is None:
            return headers
        scanner.flush()  # what an answer that was cut short has left in it
        return {
            name: (scanner.mask(value.encode("latin-1")) + scanner.flush()).decode("latin-1")
            for name, value in headers.items()
        }


def watch(answer: Answer) -> Refused | None:
    """Begin to gather an answer that is a refusal; None for any other."""
    return Refused(answer) if answer.response.status in REFUSALS else None


def _readable(body: bytes, encoding: str) -> bytes:
    """The body as text has it; empty in an encoding that is not read here."""
    encoding = encoding.strip().lower()
    if encoding in {"", "identity"}:
        return body
    if encoding not in {"gzip", "x-gzip"}:
        return b""
    try:
        return gunzip(body, BODY_READ)[0]
    except ValueError:
        return b""
