"""Calls through accounts whose requests are signed: the signature covers what really goes out."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from mooring.protocol.signatures import UNSIGNED, signed
from tests.hub import Project, refused
from tests.proxy.conftest import Linked
from tests.proxy.upstream import Seen, Upstream

SIGNED = frozenset({"content-type", "content-md5", "range", "date"})
MB = 1 << 20


def linked_by(project: Project, method: str) -> Linked:
    key = secrets.token_urlsafe(24)
    return Linked(project, project.link(project.config("signing", method), {"secret_key": key}), key)


@pytest.fixture
def signing(project: Project, upstream: Upstream) -> Linked:
    return linked_by(project, "sqs")


def is_right(seen: Seen, up: Upstream, key: str, service: str, body: bytes | None) -> bool:
    """Whether the signature is the one that the arrived request must have."""
    values = {"service": service, "region": "eu-west-1", "access_key": "AKIAEXAMPLE", "secret_key": key}
    at = datetime.strptime(seen.header("x-amz-date") or "", "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    kept = [(n.encode(), v.encode()) for n, v in seen.headers if n in SIGNED]
    again = dict(signed("aws4", values, seen.line.split()[0], up.url + seen.target, kept, body, at))
    return again[b"authorization"].decode() == seen.header("authorization")


def parts(*chunks: bytes) -> Iterator[bytes]:
    yield from chunks


def test_the_signature_covers_path_query_type_and_body(signing: Linked, upstream: Upstream) -> None:
    answered = signing(
        "POST", "/queue/a%20b?z=1&a=%2F&a=", content=b'{"n": 1}', headers={"content-type": "application/json"}
    )
    assert answered.status_code == 200
    seen = upstream.seen[-1]
    assert seen.target == "/queue/a%20b?z=1&a=%2F&a=" and seen.body == b'{"n": 1}'
    assert is_right(seen, upstream, signing.secret, "sqs", seen.body)
    assert not is_right(seen, upstream, signing.secret, "sqs", b'{"n": 2}')
    assert signing("GET", "/queue").status_code == 200
    assert is_right(upstream.seen[-1], upstream, signing.secret, "sqs", b"")


def test_a_streamed_body_is_read_and_signed_where_the_signature_covers_it(signing: Linked, upstream: Upstream) -> None:
    assert signing("PUT", "/queue", content=parts(b"one", b"two" * MB)).status_code == 200
    seen = upstream.seen[-1]
    assert seen.body == b"one" + b"two" * MB and seen.header("content-length") == str(len(seen.body))
    assert is_right(seen, upstream, signing.secret, "sqs", seen.body)


def test_a_body_that_is_too_large_to_be_signed_is_refused(signing: Linked, upstream: Upstream) -> None:
    before = len(upstream.seen)
    refused(signing("PUT", "/queue", content=parts(*[bytes(MB)] * 17)), 413, "PayloadTooLargeError")
    assert len(upstream.seen) == before


def test_to_s3_a_stream_goes_unsigned_and_is_not_held(project: Project, upstream: Upstream) -> None:
    linked = linked_by(project, "s3")
    assert linked("PUT", "/bucket/key", content=parts(*[b"x" * MB] * 17)).status_code == 200
    seen = upstream.seen[-1]
    assert len(seen.body) == 17 * MB and seen.header("x-amz-content-sha256") == UNSIGNED
    assert is_right(seen, upstream, linked.secret, "s3", None)


def test_what_callers_say_of_the_signature_does_not_count(signing: Linked, upstream: Upstream) -> None:
    forged = {"authorization": "AWS4-HMAC-SHA256 forged", "x-amz-date": "20000101T000000Z"}
    assert signing("GET", "/queue", headers=forged).status_code == 200
    seen = upstream.seen[-1]
    assert [v for n, v in seen.headers if n == "x-amz-date"] != ["20000101T000000Z"]
    assert is_right(seen, upstream, signing.secret, "sqs", b"")
