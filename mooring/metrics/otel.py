"""Traces of calls and the hub's own log lines over OTLP, where OTEL_EXPORTER_OTLP_ENDPOINT is set (extra `otel`).

A span is made of the row of the request log when that is written, so a call itself pays nothing for it. Attributes are those
of the row that are bounded; no account, owner, path or header (rule L3).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import Any, Final

import structlog

from mooring import __version__
from mooring.accounts.context import Context
from mooring.errors import ConfigurationError
from mooring.logs.writer import Entry
from mooring.metrics.samples import outcome_of

SWITCHES: Final = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
)
_PARENT: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")  # W3C Trace Context §3.2
_LEVELS: Final = {"debug": 5, "info": 9, "warning": 13, "error": 17, "critical": 21}


def is_on(environ: Mapping[str, str] | None = None) -> bool:
    """Whether the standard variables ask for an export."""
    env = os.environ if environ is None else environ
    return any(env.get(name) for name in SWITCHES) and env.get("OTEL_SDK_DISABLED", "").lower() != "true"


@contextlib.contextmanager
def exporting(context: Context) -> Iterator[None]:
    """Export until the block ends. Raises ConfigurationError when the extra is not installed."""
    if not is_on():
        yield
        return
    try:
        export = _Export()
    except ImportError:
        raise ConfigurationError(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed: pip install 'mooring[server,otel]'"
        ) from None
    context.logs.listener = export.calls
    processors = structlog.get_config()["processors"]  # changed in place: loggers that were used already hold this list
    processors.insert(len(processors) - 1, export.line)
    try:
        yield
    finally:
        processors.remove(export.line)
        context.logs.listener = None
        export.close()


class _Export:
    """The SDK's providers, which send from a thread of their own."""

    def __init__(self) -> None:
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "mooring")})
        self._traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._traces.get_tracer("mooring", __version__)
        self._logs = LoggerProvider(resource=resource, shutdown_on_exit=False)
        self._logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
        self._logger = self._logs.get_logger("mooring", __version__)

    def calls(self, batch: Sequence[Entry]) -> None:
        """Make a span of every call through an account."""
        from opentelemetry.trace import SpanKind, Status, StatusCode

        for entry in batch:
            if entry.category != "unified":
                continue
            start = int(entry.started_at * 1e9)
            outcome = outcome_of((entry.provider, entry.error_code, entry.status))
            attributes: dict[str, str | int | float] = {
                "mooring.connector": entry.provider or "none",
                "mooring.outcome": outcome,
                "mooring.provider_ms": entry.provider_ms,
                "mooring.requests": len(entry.steps),
                "http.request.method": entry.method[:20],
                "http.response.status_code": entry.status,
                "http.request.body.size": entry.bytes_up,
                "http.response.body.size": entry.bytes_down,
            }
            if entry.error_code:
                attributes["error.type"] = entry.error_code
            span = self._tracer.start_span(
                f"call {entry.provider or 'none'}",
                context=_parent(entry.traceparent),
                kind=SpanKind.SERVER,
                attributes=attributes,
                start_time=start,
            )
            if outcome in {"internal", "unreachable", "provider_error"} and entry.status >= 500:
                span.set_status(Status(StatusCode.ERROR))
            span.end(start + int(entry.duration_ms * 1e6))

    def line(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Send a line of the hub's log as well."""
        from opentelemetry._logs import LogRecord, SeverityNumber

        level = str(event.get("level", "info"))
        rest = {k: v if isinstance(v, str | int | float | bool) else str(v) for k, v in event.items()}
        body = rest.pop("event", "")
        for name in ("level", "timestamp"):
            rest.pop(name, None)
        number = SeverityNumber(_LEVELS.get(level, 9))
        self._logger.emit(LogRecord(severity_number=number, severity_text=level, body=str(body), attributes=rest))
        return event

    def close(self) -> None:
        """Send what waits, then stop."""
        self._traces.shutdown()
        self._logs.shutdown()


def _parent(traceparent: str | None) -> Any:
    """The caller's span as the context of ours, or None."""
    found = _PARENT.fullmatch(traceparent or "")
    if found is None:
        return None
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    parent = SpanContext(
        int(found[1], 16), int(found[2], 16), is_remote=True, trace_flags=TraceFlags(int(found[3], 16))
    )
    return set_span_in_context(NonRecordingSpan(parent)) if parent.is_valid else None
