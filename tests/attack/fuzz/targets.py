"""What is fuzzed: functions of bytes that fail on anything but the documented exceptions, or on a broken property.

Two drivers use them: hypothesis in `make test` and `make attack`, and atheris, guided by coverage, in `make attack`.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mooring.connectors.loader import load_file
from mooring.connectors.problem import ConnectorFileError
from mooring.connectors.s1.expressions import compile_s1
from mooring.connectors.s1.jsonpath import compile_path
from mooring.connectors.s1.loader import load_s1
from mooring.connectors.yaml_source import MAX_DEPTH, MAX_NODES, read_yaml
from mooring.errors import BadRequest, EgressBlocked
from mooring.kit.egress import split_url, wire_url
from mooring.kit.http1 import Connection
from mooring.kit.http1_answer import Answer
from mooring.kit.http_deadlines import Deadlines
from mooring.kit.http_head import agent_line, host_lines, write_head
from mooring.kit.http_wire import HttpFailure, OutboundRequest
from mooring.protocol import exchange, redact
from mooring.protocol.budgets import pause_of
from mooring.protocol.expression_values import MAX_TEXT
from mooring.protocol.expressions import UNDEFINED, ExpressionError, compile_expression
from mooring.protocol.headers import inbound, outbound
from mooring.protocol.oauth2 import (
    TokenNonsense,
    TokenRefused,
    lifetime,
    missing_scopes,
    parse_retry_after,
    parse_token_answer,
)
from mooring.protocol.template import Unresolved, compile_template
from mooring.protocol.urls import join_path, validate_base_url

SCOPE: dict[str, Any] = {
    "a": 1,
    "b": -2.5,
    "e": "",
    "n": None,
    "s": "x y",
    "yes": True,
    "arr": [1, "2", None, [3]],
    "list": [{"id": 1, "t": "a"}, {"id": 2, "t": "b"}],
    "o": {"k": 1, "two words": 2, "deep": {"er": "v"}},
    "inputs": {"id": "7", "page_size": 5},
    "credentials": {"api_key": "k"},
    "steps": {"first": {"output": {"data": [{"id": 1}]}}},
}


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def expressions(data: bytes) -> None:
    """The native language, and templates of it: ExpressionError and Unresolved alone, plain values, bounded texts."""
    text = _text(data)
    try:
        compiled = compile_expression(text)
    except ExpressionError as error:
        assert 0 <= error.offset <= max(len(text), 1)
    else:
        again = compile_expression(compiled.source)
        assert again == compiled and again.names == compiled.names
        with contextlib.suppress(ExpressionError):
            _plain(compiled.evaluate(SCOPE))
    try:
        template = compile_template(text)
    except ExpressionError:
        return
    try:
        rendered = template.render(SCOPE)
    except (ExpressionError, Unresolved):
        return
    assert isinstance(rendered, str)
    if template.is_constant:
        assert compile_template(rendered.replace("${", "$${")).render({}) == rendered


def _plain(value: Any, depth: int = 0) -> None:
    assert value is UNDEFINED or value is None or isinstance(value, bool | int | float | str | list | dict), type(value)
    assert not isinstance(value, str) or len(value) <= MAX_TEXT
    if depth < 40:
        for item in value if isinstance(value, list) else value.values() if isinstance(value, dict) else ():
            _plain(item, depth + 1)


def s1_expressions(data: bytes) -> None:
    """The three forms of `.s1.yaml` files: compiling never raises, evaluating raises ExpressionError alone."""
    text = _text(data)
    for strict in (True, False):
        compiled = compile_s1(text, strict=strict)
        with contextlib.suppress(ExpressionError):
            _plain(compiled.evaluate(SCOPE))
        compiled.safe(SCOPE)
    try:
        path = compile_path(text if text.startswith("$") else f"$.{text}")
    except ExpressionError:
        return
    with contextlib.suppress(ExpressionError):
        _plain(path(SCOPE))


def yaml(data: bytes) -> None:
    """YAML: faults instead of exceptions, and no more values than are allowed, whatever aliases say."""
    source = read_yaml(data.decode("utf-8", "surrogateescape"))
    if not source.faults:
        assert len(source.values) <= MAX_NODES
        _yaml_value(source.data, 0)
    for place, message in source.faults:
        assert place.line >= 1 and place.column >= 1 and message


def _yaml_value(value: Any, depth: int) -> None:
    assert depth <= MAX_DEPTH + 1
    assert value is None or isinstance(value, bool | int | float | str | list | dict)
    if isinstance(value, dict):
        assert all(isinstance(key, str) for key in value)
    for item in value if isinstance(value, list) else value.values() if isinstance(value, dict) else ():
        _yaml_value(item, depth + 1)


_folder: list[tempfile.TemporaryDirectory[str]] = []


def loader(data: bytes) -> None:
    """Connector files of both formats: ConnectorFileError with places, or a connector."""
    if not _folder:
        _folder.append(tempfile.TemporaryDirectory())
    here = Path(_folder[0].name)
    native = here / "fuzzed.yaml"
    native.write_bytes(data)
    try:
        assert load_file(native, builtin=False).key
    except ConnectorFileError as error:
        assert error.problems and all(p.line >= 1 and p.column >= 1 for p in error.problems)
    other = here / "fuzzed.s1.yaml"
    other.write_bytes(data)
    for strict in (True, False):
        try:
            assert load_s1(other, strict=strict).connector.key
        except ConnectorFileError as error:
            assert error.problems and all(p.line >= 1 and p.column >= 1 for p in error.problems)


NOW = datetime(2026, 1, 1, tzinfo=UTC)
KINDS = (None, "application/json", "application/x-www-form-urlencoded", "text/plain; charset=utf-8", "text/html")
SECRET = "s3cret-Value-0123456789"


def token_answer(data: bytes) -> None:
    """Token answers: a token, TokenRefused or TokenNonsense; what is kept of them never shows a secret."""
    first, body = (data[0], data[1:]) if data else (0, b"")
    status = (200, 200, 200, 400, 401, 302, 429, 503)[first % 8]
    kind = KINDS[first // 8 % len(KINDS)]
    shown = _text(body[:200])
    for form in ("auto", "json", "form"):
        try:
            answer = parse_token_answer(status, kind, body, token_format=form, retry_after=shown)
        except (TokenRefused, TokenNonsense) as refusal:
            assert str(refusal).isprintable()
            continue
        assert answer.access_token and answer.access_token.isprintable()
        assert answer.expires_in is None or answer.expires_in > 0
        missing_scopes(["a", "b"], answer.scope)
    waited = parse_retry_after(shown, NOW)
    assert waited is None or 0 <= waited <= 86400
    assert (found := lifetime(shown)) is None or found > 0
    headers = [("location", shown), ("content-type", kind or ""), ("retry-after", shown), ("www-authenticate", shown)]
    seen = exchange.answered(
        "POST", "https://p.example/token", sent=[("authorization", f"Basic {SECRET}")], status=status,
        headers=headers, body=body + SECRET.encode(), elapsed_ms=1, secrets=[SECRET],
    )  # fmt: skip
    assert SECRET not in str(seen.as_json())
    assert SECRET not in redact.redact_text(shown + SECRET, [SECRET])


def headers(data: bytes) -> None:
    """Header code: nothing that is not ours to pass gets through, and no line is added on the wire."""
    pairs = []
    for line in data.split(b"\n")[:40]:
        name, _, value = line.partition(b":")
        pairs.append((name.lower(), value))
    sent = outbound(pairs, [(b"authorization", b"Bearer x")])
    assert [v for n, v in sent if n == b"authorization"] == [b"Bearer x"]
    assert not {n for n, _ in sent} & {b"host", b"cookie", b"transfer-encoding", b"content-length", b"x-account-id"}
    assert outbound(sent[:-1], [(b"authorization", b"Bearer x")]) == sent
    got = inbound(pairs)
    assert not {n for n, _ in got} & {b"set-cookie", b"transfer-encoding", b"connection", b"alt-svc"}
    assert inbound(got) == got
    pause = pause_of(429 if len(data) % 2 else 200, pairs, lambda: NOW)
    assert pause is None or pause >= 0
    try:
        head = write_head(
            OutboundRequest("GET", "https://p.example/", raw_headers=sent), "/x", host_lines("https://p.example"),
            agent_line("a"),
        )  # fmt: skip
    except ValueError:
        return
    lines = head.data.split(b"\r\n")
    assert lines[-2:] == [b"", b""] and b"" not in lines[:-2]
    assert len(lines) - 2 <= 3 + len(sent)
    assert b"\n" not in b"".join(lines) and b"\r" not in b"".join(lines) and b"\0" not in head.data


def urls(data: bytes) -> None:
    """Paths and URLs of callers: refused, or below the base."""
    text = _text(data)
    path, _, query = text.partition("?")
    try:
        joined = join_path("https://api.example/base/v1", path, query)
    except BadRequest:
        pass
    else:
        assert joined.startswith("https://api.example/base/v1")
        assert joined[len("https://api.example/base/v1") :][:1] in {"", "/", "?"}
        try:
            parts = split_url(joined)
        except EgressBlocked:  # the guard has rules beyond these
            pass
        else:
            assert parts.origin == "https://api.example"
            wire = wire_url(parts)
            assert wire.isascii() and wire.isprintable() and " " not in wire and "/../" not in wire
    with contextlib.suppress(BadRequest):
        validate_base_url(text)
    redact.redact_url(text)
    redact.clean_line(text)


class _Transport:
    def __init__(self) -> None:
        self.closed = False

    def write(self, _data: bytes) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


class _Home:
    def __init__(self) -> None:
        self.kept = 0

    def keep(self, _connection: Connection) -> None:
        self.kept += 1

    def forget(self, _connection: Connection) -> None:
        pass


_loop: list[asyncio.AbstractEventLoop] = []


def http1(data: bytes) -> None:
    """Answers over HTTP/1.1: whole, or an HttpFailure; never kept with something left on the connection."""
    if not _loop:
        _loop.append(asyncio.new_event_loop())
    _loop[0].run_until_complete(_answer(data))


async def _answer(data: bytes) -> None:
    first, rest = (data[0], data[1:]) if data else (0, b"")
    method = ("GET", "HEAD", "POST")[first % 3]
    home, transport = _Home(), _Transport()
    connection = Connection(home)
    connection.connection_made(transport)  # type: ignore[arg-type]
    loop = asyncio.get_running_loop()
    answer = Answer(loop, Deadlines(loop), "p.example", limit=60, idle=60, total=False)
    request = OutboundRequest(method, "https://p.example/")
    answer.begin(connection, write_head(request, "/", host_lines("https://p.example"), agent_line("a")), 1e12)
    step = 1 + first // 3
    cuts = [rest[at : at + step] for at in range(0, len(rest), step)][:400]
    for piece in cuts:
        if transport.closed:
            break
        connection.data_received(piece)
    if not transport.closed:
        connection.connection_lost(None)
    assert answer.complete or isinstance(answer.fault, HttpFailure), answer.fault
    if answer.complete:
        body = answer.taken() or b""
        assert answer.length is None or len(body) == answer.length
        assert 200 <= answer.status <= 999
    answer.settle()
    await answer.aclose()


TARGETS: dict[str, Callable[[bytes], None]] = {
    one.__name__: one for one in (expressions, s1_expressions, yaml, loader, token_answer, headers, urls, http1)
}
