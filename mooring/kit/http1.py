"""Speak HTTP/1.1 over one connection: one request, one answer, then the next. llhttp does the parsing.

Nothing is lenient: what llhttp refuses ends the call. A connection is kept only when nothing is left open on
it and the server sent not one byte beyond the answer.
"""

from __future__ import annotations

import asyncio
import select
from typing import Any, Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from mooring.kit.http1_answer import Answer
from mooring.kit.http_head import Head
from mooring.kit.http_wire import HttpFailure, RawHeaders, closed_early, not_http
from mooring.kit.writes import gathered

HEAD_LIMIT = 64 * 1024
BUFFER_LIMIT = 64 * 1024


class Home(Protocol):
    """Where a connection lives between two requests."""

    def keep(self, connection: Connection) -> None:
        """Take a connection that is ready for another request."""

    def forget(self, connection: Connection) -> None:
        """Let go of a connection that is closed."""


class Connection(asyncio.Protocol):
    """One connection to an origin. It belongs to at most one answer at a time."""

    __slots__ = (
        "_answer",
        "_complete",
        "_head_only",
        "_home",
        "_in_head",
        "_interim",
        "_keep",
        "_parser",
        "_paused",
        "_poll",
        "_raw",
        "_seen",
        "_spoiled",
        "_transport",
        "_until_close",
        "_with_body",
        "_writes",
        "closed",
        "drained",
        "idle_since",
        "reused",
    )

    def __init__(self, home: Home) -> None:
        self._home = home
        self._writes = gathered(asyncio.get_running_loop())
        self._answer: Answer | None = None
        self._parser: Any = None
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._poll: select.poll | None = None
        self._raw: RawHeaders = []
        self._seen = 0
        self._in_head = self._interim = self._complete = self._keep = self._spoiled = self._until_close = False
        self._head_only = self._paused = self._with_body = False
        self.drained: asyncio.Future[None] | None = None
        """Set while the transport takes no more; done when it does again."""
        self.closed = False
        self.reused = False
        self.idle_since = 0.0

    # --- for the pool and the answer ---

    def begin(self, answer: Answer, head: Head) -> None:
        """Write the head, and the body if it is in one piece."""
        if self.closed or self._transport.is_closing():
            answer.fail(closed_early(answer.host, sent=False))
            return
        self._answer = answer
        if self._parser is None:
            self._parser = HttpResponseParser(self)
        self._raw = []
        self._seen = 0
        self._in_head = True
        self._interim = self._complete = self._spoiled = self._until_close = False
        self._head_only = head.method == "HEAD"
        self._with_body = True
        if not head.body:
            self._with_body = head.streamed is not None
            if self._with_body:
                self._transport.write(head.data)
            else:
                self._writes.write(self._transport, head.data)
        elif len(head.body) <= BUFFER_LIMIT:
            self._writes.write(self._transport, head.data + head.body)
        else:
            self._transport.writelines((head.data, head.body))

    def send(self, *pieces: bytes) -> None:
        """Write a part of a streamed body; honour `drained` before the next."""
        self._transport.writelines(pieces)

    def drop(self) -> None:
        """Close at once; the answer, if any, hears nothing more."""
        self._answer = None
        self.closed = True
        self._transport.abort()

    def cut(self) -> None:
        """Close at once; an answer that is on its way fails."""
        if self._answer is not None:
            self._fail(self._answer, closed_early(self._answer.host))
        else:
            self.drop()

    def resume(self) -> None:
        """Read on after the answer was given its room back."""
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    def quiet(self) -> bool:
        """Ask the kernel whether the server closed or sent something since the loop last looked."""
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not self._poll.poll(0)

    @property
    def speaks_http2(self) -> bool:
        """Whether the server chose HTTP/2 in the TLS handshake."""
        tls = self._transport.get_extra_info("ssl_object")
        return tls is not None and tls.selected_alpn_protocol() == "h2"

    # --- called by the transport ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; called once."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Feed the parser and tell the answer what came of it."""
        answer = self._answer
        if answer is None:
            # Nobody asked. It must never become the answer of the next caller.
            self.drop()
            return
        before = answer.size
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            if not self._complete:
                self._fail(answer, not_http(answer.host))
                return
            self._spoiled = True
        if self._complete:
            if self._head_only and not data.endswith(b"\r\n\r\n"):
                self._spoiled = True
            self._finish(answer)
            return
        if answer.size == before:
            # A head that is too long, or trailers and chunk extensions without end.
            self._seen += len(data)
            if self._seen > HEAD_LIMIT:
                self._fail(answer, not_http(answer.host))
            elif not self._in_head:
                answer.wake()
            return
        if answer.size > BUFFER_LIMIT and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        answer.wake()

    def eof_received(self) -> None:
        """Close at once when nothing is under way; else let `connection_lost` judge."""
        if self._answer is None:
            self.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the answer: complete if it was to end like this, else failed."""
        self.closed = True
        self._parser = None  # it holds this object
        self.resume_writing()
        self._home.forget(self)
        answer = self._answer
        if answer is None:
            return
        self._answer = None
        if self._until_close and exc is None:
            answer.finish()
            return
        stale = self.reused and self._in_head and not self._seen
        answer.fail(closed_early(answer.host), stale=stale)

    def pause_writing(self) -> None:
        """Hold an upload back."""
        if self.drained is None:
            self.drained = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """Let an upload go on."""
        if self.drained is not None:
            if not self.drained.done():
                self.drained.set_result(None)
            self.drained = None

    # --- called by the parser ---

    def on_message_begin(self) -> None:
        """Notice a second message behind a complete answer."""
        if self._complete:
            self._spoiled = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Gather a header of the head."""
        if self._in_head:  # trailers are dropped
            self._raw.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Judge the head: status, framing, and whether the connection may stay."""
        if self._complete:
            return
        status = self._parser.get_status_code()
        if status < 200:
            if status < 100 or status == 101:
                raise ValueError("no request of ours can be answered like this")
            self._interim = True
            return
        self._in_head = False
        self._keep = self._parser.should_keep_alive()
        length: int | None = None
        chunked = False
        size = 0
        for name, value in self._raw:
            size += len(name) + len(value) + 4
            if name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                # We offered no transfer coding, and anything but one "chunked" is how framings are confused.
                if chunked or value.strip().lower() != b"chunked":
                    raise ValueError("unknown transfer coding")
                chunked = True
        if size > HEAD_LIMIT:
            raise ValueError("the head is too long")
        if chunked and (self._head_only or self._parser.get_http_version() != "1.1"):
            self._keep = False
        if self._head_only or status in {204, 304}:
            length = 0
            # The parser does not know that this was a HEAD and would wait for a body.
            if self._head_only:
                self._complete = True
        elif length is None and not chunked:
            self._until_close = True
        answer = self._answer
        assert answer is not None
        answer.status = status
        answer.raw_headers = self._raw
        answer.length = length

    def on_body(self, data: bytes) -> None:
        """Hand a piece of the body to the answer."""
        if self._complete or self._interim:
            self._spoiled = True
            return
        answer = self._answer
        assert answer is not None
        answer.parts.append(data)
        answer.size += len(data)

    def on_message_complete(self) -> None:
        """Note the end of the answer, or of an interim one."""
        if self._interim:
            self._interim = False
            self._raw = []
        else:
            self._complete = True

    # --- the end of an exchange ---

    def _finish(self, answer: Answer) -> None:
        self._answer = None
        if self._head_only:
            self._parser = None
        sent = not self._with_body or (answer.uploaded and not self._transport.get_write_buffer_size())
        self.resume()
        if self._keep and not self._spoiled and sent and not self.closed:
            self.reused = True
            self._home.keep(self)
        else:
            self.drop()
        answer.finish()

    def _fail(self, answer: Answer, failure: HttpFailure) -> None:
        self.drop()
        answer.fail(failure)
