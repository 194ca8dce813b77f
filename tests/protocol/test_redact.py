"""Secrets disappear from everything that is logged, shown or passed on."""

from __future__ import annotations

import base64
import html
import itertools
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mooring.protocol.redact import (
    REDACTED,
    SecretScanner,
    clean_line,
    redact_headers,
    redact_json,
    redact_text,
    redact_url,
)

SECRET = 'p/a+s "s\\w&ö<rd'


def test_headers() -> None:
    secret = "Authorization Cookie Set-Cookie Proxy-Authorization X-Api-Key x-auth X-Vault-Token X-Signature"
    assert {value for _, value in redact_headers((name, "v") for name in secret.split())} == {REDACTED}
    plain = [("content-type", "text/plain"), ("etag", "x"), ("retry-after", "3")]
    assert redact_headers(plain) == plain


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@h.example:8/p/q?token=abc&x=&y#f", "https://h.example:8/p/q?token=…&x=…&…"),
        ("https://h.example/p", "https://h.example/p"),
        ("https://h.example?", "https://h.example?"),
        ("/p?code=1&state=2", "/p?code=…&state=…"),
        ("https://a@b@h.example/x@y", "https://h.example/x@y"),
        ("not a url", "not a url"),
    ],
)
def test_urls(url: str, shown: str) -> None:
    assert redact_url(url) == shown


def encodings(secret: str) -> list[str]:
    raw = secret.encode()
    return [
        secret,
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        json.dumps(secret),
        json.dumps(secret, ensure_ascii=False),
        json.dumps(secret).replace("/", "\\/"),
        html.escape(secret),
        raw.hex(),
        base64.b64encode(raw).decode(),
        base64.urlsafe_b64encode(raw).decode(),
        *(base64.b64encode(f"{'u' * n}:".encode() + raw).decode() for n in range(6)),
        *(base64.b64encode(raw + b":" * n).decode() for n in range(3)),
    ]


@pytest.mark.parametrize("secret", [SECRET, "xoxb-1234567890-abcdef", "0123456789abcdef0123456789abcdef"])
def test_text_in_all_encodings(secret: str) -> None:
    for form in encodings(secret):
        shown = redact_text(f"before {form} after", [secret])
        assert REDACTED in shown, form
        assert form not in shown
        assert shown.startswith("before ")
        assert shown.endswith(" after")


def test_short_secrets_and_clean_text_stay() -> None:
    assert redact_text("the cat sat", ["cat", ""]) == "the cat sat"
    assert redact_text("nothing here", ["s3cret-value"]) == "nothing here"
    assert redact_text("a longer-secret b", ["longer", "longer-secret"]) == f"a {REDACTED} b"


def test_json() -> None:
    value = {
        "access_token": "t",
        "expires_in": 3600,
        "user": {"password": ["a"], "name": "n", "apiKey": 5, "code": "c", "token": None},
        "list": [{"client_secret": "s"}, "x"],
    }
    assert redact_json(value) == {
        "access_token": REDACTED,
        "expires_in": 3600,
        "user": {"password": REDACTED, "name": "n", "apiKey": REDACTED, "code": REDACTED, "token": None},
        "list": [{"client_secret": REDACTED}, "x"],
    }
    assert value["access_token"] == "t"
    deep: object = "leaf"
    for _ in range(5000):
        deep = [deep]
    assert REDACTED in json.dumps(redact_json(deep))


def test_clean_line() -> None:
    assert clean_line("a\r\nb\x1b[31m\tc\u202ed\u2028e\x85\u200bf  g") == "a b [31m c d e f g"
    assert clean_line("x" * 500, 10) == "x" * 9 + "…"
    assert clean_line("x" * 10, 10) == "x" * 10
    assert clean_line("\ud800 ok") == "ok"
    assert clean_line("a\ud7fcb\U000e0fffc\ufffeok") == "a b c ok"  # unassigned
    assert clean_line("") == ""


def scan(secrets: list[str], chunks: list[bytes]) -> bytes:
    scanner = SecretScanner(secrets)
    return b"".join([*(scanner.mask(chunk) for chunk in chunks), scanner.flush()])


def test_scanner_finds_a_secret_split_anywhere() -> None:
    for form in encodings(SECRET):
        body = f"head {form} tail".encode()
        for size in (1, 2, 3, 7, len(body)):
            shown = scan([SECRET], [body[at : at + size] for at in range(0, len(body), size)])
            assert form.encode() not in shown
            assert b"****" in shown
            assert len(shown) == len(body)
            assert shown.startswith(b"head ")
            assert shown.endswith(b" tail")


def test_scanner_holds_back_only_what_may_be_a_secret() -> None:
    scanner = SecretScanner(["s3cret-value"])
    assert scanner.mask(b"data: 1\n\n") == b"data: 1\n\n"
    assert scanner.mask(b"data: s3cr") == b"data: "
    assert scanner.mask(b"et-no") == b"s3cret-no"
    assert scanner.mask(b"s3cret-value") == b"*" * 12
    assert scanner.mask(b"end s3c") == b"end "
    assert scanner.flush() == b"s3c"
    assert scanner.flush() == b""


def test_scanner_prefers_the_secret_that_began_first() -> None:
    assert scan(["abcdefgh", "cdef"], [b"xabcdef", b"ghy"]) == b"x********y"
    assert scan(["abcdefgh", "cdef"], [b"xabcdef", b"zy"]) == b"xab****zy"
    assert scan(["abcd", "abcdefgh"], [b"abcdef"]) == b"****ef"


def test_scanner_without_secrets_passes_everything() -> None:
    chunk = b"any"
    assert SecretScanner([]).mask(chunk) is chunk
    assert SecretScanner(["abc"]).flush() == b""


@settings(max_examples=300, deadline=None)
@given(
    secrets=st.lists(st.text(alphabet="ab", min_size=4, max_size=8), min_size=1, max_size=3),
    body=st.text(alphabet="abc", max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=8),
)
def test_scanner_never_lets_a_whole_secret_out(secrets: list[str], body: str, cuts: list[int]) -> None:
    data = body.encode()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    shown = scan(secrets, [data[a:b] for a, b in itertools.pairwise(edges)])
    assert len(shown) == len(data)
    assert not any(secret.encode() in shown for secret in secrets)
    assert all(before == after or after == ord("*") for before, after in zip(data, shown, strict=True))
