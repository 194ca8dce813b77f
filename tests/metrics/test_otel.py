"""Spans and log lines over OTLP/HTTP, to a receiver of the test's (rule L3)."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.conftest import Ports
from tests.hub import Hub
from tests.sandbox.harness import Sandbox
from tests.servers.ports import free_port

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Receiver:
    """A collector that keeps what it gets."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.lines: list[Any] = []
        self.raw = b""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                receiver.raw += body
                if self.path == "/v1/traces":
                    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                        receiver.spans += [span for scope in resource.scope_spans for span in scope.spans]
                else:
                    for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
                        receiver.lines += [line for scope in resource.scope_logs for line in scope.log_records]
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    try:
        yield made
    finally:
        made.close()


def attributes(span: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


def test_a_span_per_call_and_the_lines_of_the_log(
    receiver: Receiver, ports: Ports, provider: Sandbox, tmp_path: Path
) -> None:
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_BLRP_SCHEDULE_DELAY": "200",
    }
    with Hub(tmp_path, free_port(), egress_allow=ports.egress_allow, env=env) as hub:
        project = hub.new_project()
        config = project.config("sandbox", "api_key", {"sandbox_url": provider.url})
        account = project.link(config, {"api_key": "sandbox-key-acme"}, "owner-of-it")
        parent = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
        project.proxy(account, path="/api/me", headers=parent)
        project.proxy(account, "POST", "/api/status/503", content=b"12345")
        project.http.post("/unified/proxy", json={"path": "/api/me"}, headers={"x-account-id": account, **parent})
        project.proxy("nobody", path="/secret-path")
        deadline = time.monotonic() + 20
        while len(receiver.spans) < 4 and time.monotonic() < deadline:
            time.sleep(0.1)
    assert [span.name for span in receiver.spans] == ["call sandbox"] * 3 + ["call none"]
    good, bad, unified, refused = receiver.spans
    for span in (good, unified):
        assert span.trace_id.hex() == TRACE and span.parent_span_id.hex() == "00f067aa0ba902b7"
    assert bad.trace_id.hex() != TRACE and bad.status.code == 2 and good.status.code == 0
    told = attributes(bad)
    assert told["mooring.outcome"] == "provider_error" and told["http.response.status_code"] == 503
    assert told["http.request.body.size"] == 5 and told["mooring.requests"] == 1 and told["mooring.provider_ms"] > 0
    assert 0 < bad.end_time_unix_nano - bad.start_time_unix_nano < 20e9
    assert attributes(refused)["error.type"] == "NotFoundError"
    assert any(line.body.string_value == "stopped" or line.body.string_value for line in receiver.lines)
    for secret in (account, project.id, "owner-of-it", "secret-path", "/api/me", "sandbox-key-acme"):
        assert secret.encode() not in receiver.raw


def test_a_collector_that_is_away_hurts_nobody(ports: Ports, provider: Sandbox, tmp_path: Path) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}", "OTEL_BSP_SCHEDULE_DELAY": "100"}
    with Hub(tmp_path, free_port(), egress_allow=ports.egress_allow, env=env) as hub:
        project = hub.new_project()
        config = project.config("sandbox", "api_key", {"sandbox_url": provider.url})
        account = project.link(config, {"api_key": "sandbox-key-acme"})
        assert {project.proxy(account, path="/api/me").status_code for _ in range(20)} == {200}
        begun = time.monotonic()
    assert time.monotonic() - begun < 15
