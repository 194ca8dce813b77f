"""Gather the evidence of a failed exchange of an account, and let the rules name its cause."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mooring import errors
from mooring.connectors.definition import AuthMethod, Connector, OAuth2
from mooring.connectors.meanings import declared_cause
from mooring.diagnosis import report
from mooring.diagnosis.evidence import Diagnosis, Evidence, Phase
from mooring.diagnosis.rules import diagnose
from mooring.kit.http import BufferedResponse, Headers, HttpFailure, OutboundRequest
from mooring.kit.http_wire import headers_as_text
from mooring.protocol import exchange as exchanges
from mooring.protocol.exchange import Exchange
from mooring.protocol.oauth2 import TokenNonsense, TokenRefused, parse_retry_after

TEXT_READ = 64 * 1024  # characters of an answer that the rules look at


def seen(request: OutboundRequest, response: BufferedResponse, secrets: Iterable[str]) -> Exchange:
    """Record a request and its answer without a secret."""
    return exchanges.answered(
        request.method,
        request.url,
        sent=_sent(request),
        status=response.status,
        headers=response.headers,
        body=response.body,
        elapsed_ms=response.elapsed_ms,
        secrets=secrets,
    )


def unseen(request: OutboundRequest, failure: HttpFailure, secrets: Iterable[str]) -> Exchange:
    """Record a request that got no answer."""
    return exchanges.unanswered(request.method, request.url, sent=_sent(request), failure=str(failure), secrets=secrets)


def _sent(request: OutboundRequest) -> Headers:
    return [*request.headers, *headers_as_text(request.raw_headers)]


def of_failure(failure: HttpFailure, phase: Phase, exchange: Exchange | None, typed: Mapping[str, str]) -> Diagnosis:
    """Diagnose an exchange without an answer."""
    evidence = Evidence(phase, failure=failure.kind, failure_text=str(failure), typed=typed, exchange=exchange)
    return diagnose(evidence)


def of_answer(
    connector: Connector,
    method: AuthMethod,
    response: BufferedResponse,
    *,
    exchange: Exchange,
    typed: Mapping[str, str],
    accepted: bool,
    refused: bool,
) -> Diagnosis:
    """Diagnose the answer to a test request."""
    headers = dict(reversed(response.headers))  # of a repeated header the first one counts
    return diagnose(
        Evidence(
            "credential_test",
            status=response.status,
            headers=headers,
            text=response.body[:TEXT_READ].decode("utf-8", "replace"),
            accepted=accepted,
            refused=refused,
            typed=typed,
            examples=examples_of(method),
            declared=declared_cause(connector, response.status, headers, response.body),
            retry_after=parse_retry_after(headers.get("retry-after")),
            exchange=exchange,
        )
    )


def of_token_error(
    fault: TokenRefused | TokenNonsense,
    connector: Connector,
    phase: Phase,
    *,
    method: AuthMethod | None = None,
    typed: Mapping[str, str] | None = None,
    uncertain: bool = False,
) -> Diagnosis:
    """Diagnose a token answer without a token. Only the redacted exchange is left of the answer, and it is enough."""
    exchange = fault.exchange
    headers = exchange.headers if exchange is not None else {}
    text = exchange.body if exchange is not None else ""
    refused = isinstance(fault, TokenRefused)
    return diagnose(
        Evidence(
            phase,
            status=fault.status,
            headers=headers,
            text=text,
            error=fault.error if isinstance(fault, TokenRefused) else None,
            description=fault.description if isinstance(fault, TokenRefused) else fault.reason,
            nonsense=None if isinstance(fault, TokenRefused) else fault.kind,
            typed=typed or {},
            examples=examples_of(method) if method else {},
            uncertain=uncertain,
            declared=declared_cause(connector, fault.status, headers, text.encode()) if not uncertain else None,
            retry_after=None if refused else fault.retry_after,  # type: ignore[union-attr]
            exchange=exchange,
        )
    )


def machine_phase(oauth2: OAuth2) -> Phase | None:
    """What a token request is where no consent page comes first; None where one does."""
    if not oauth2.machine:
        return None
    return "login" if oauth2.login is not None else "client_credentials"


def examples_of(method: AuthMethod) -> dict[str, str]:
    """The placeholders of an auth method's fields."""
    return {f.key: f.placeholder for f in (*method.fields, *method.app_fields) if f.placeholder and f.secret}


def refusal(connector: Connector, found: Diagnosis) -> errors.CredentialRejected:
    """The refusal of a diagnosis, with the connector's name."""
    return report.refusal(connector.title, found)
