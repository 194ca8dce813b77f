"""Fuzzing with hypothesis: the targets of `fuzz.targets`, fed with good inputs that are cut, joined and bent.

`make attack` gives each more examples, and then hands the same targets to atheris (tests/attack/fuzz/run.py).
"""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.attack.fuzz.seeds import SEEDS
from tests.attack.fuzz.targets import TARGETS
from tests.attack.sizes import size

SLOWEST = 5.0  # seconds for one input; on a machine that does much else
SHORT = {"loader": 40, "token_answer": 250, "http1": 300}

WORDS: dict[str, list[bytes]] = {
    "expressions": [
        b"${",
        b"$${",
        b"}",
        b"a",
        b"list",
        b".id",
        b"[",
        b"]",
        b"(",
        b")",
        b"'",
        b'"',
        b" ? ",
        b" : ",
        b" ?? ",
        b" in ",
        b"replace(",
        b"join(",
        b"split(s,",
        b",",
        b"^",
        b"%",
        b"//",
        b"-1",
        b"9" * 320,
        b"1.5",
        b"!",
        b"\xc2\xb2",
        b"\\",
    ],
    "s1_expressions": [
        b"$.",
        b"$..",
        b"[*]",
        b"[?(@.",
        b")]",
        b"[(@.length-1)]",
        b"[0:2]",
        b"{{",
        b"}}",
        b"${",
        b"}",
        b"inputs.id",
        b"steps",
        b"'",
        b"[",
        b"]",
        b",",
        b"|",
        b"||",
        b".toUpperCase()",
        b" == ",
        b"9" * 320,
    ],
    "yaml": [
        b"a: ",
        b"- ",
        b"\n",
        b"  ",
        b"&x ",
        b"*x",
        b"{",
        b"}",
        b"[",
        b"]",
        b"!!int ",
        b"!!float ",
        b"!!bool ",
        b"!t ",
        b"'",
        b'"',
        b"|\n",
        b">-\n",
        b"? ",
        b": ",
        b"---\n",
        b"%YAML 1.1\n",
        b"#",
        b"\t",
        b"\xff",
        b"\x07",
        b"<<: ",
    ],
    "loader": [
        b"connector: x\n",
        b"auth:\n",
        b"actions:\n",
        b"  api_key: {",
        b"header: ",
        b"fields: ",
        b"${",
        b"}\n",
        b"test: {get: /}\n",
        b"oauth2:\n",
        b"info:\n",
        b"StackOne: 1.0.0\n",
        b"authentication:\n",
        b"- ",
        b"steps:\n",
        b"{{ a }}",
        b": ~\n",
    ],
    "token_answer": [
        b'{"access_token":',
        b'"x"',
        b"null",
        b"[",
        b"{",
        b"}",
        b",",
        b'"expires_in":',
        b"1e999",
        b'"-1"',
        b"access_token=",
        b"&",
        b"%00",
        b'"error":',
        b'"invalid_grant"',
        b"\xff",
        b"<html>",
        b'"token_type":"mac"',
        b"\x00",
        b"\x03",
    ],
    "headers": [
        b"connection: ",
        b"x-a",
        b": 1\n",
        b"\n",
        b"\r",
        b"\0",
        b"authorization: x\n",
        b"cookie: y\n",
        b"retry-after: ",
        b"ratelimit: ",
        b"remaining=0",
        b"reset=",
        b"9" * 20,
        b"-1",
        b"transfer-encoding: chunked\n",
        b"\xb2",
        b":",
        b" ",
    ],
    "urls": [
        b"/",
        b"..",
        b"%2e",
        b"%2f",
        b"\\",
        b"?",
        b"#",
        b"@",
        b":",
        b"//",
        b"%00",
        b"%",
        b";",
        b"\x0b",
        b"\xc2\xa0",
        b"evil.example",
        b"[::1]",
    ],
    "http1": [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.0 200\r\n",
        b"HTTP/1.1 103 E\r\n\r\n",
        b"HTTP/1.1 204 N\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 0\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"\r\n",
        b"\n",
        b"hello",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"x: y\r\n",
        b" folded\r\n",
        b"5;" + b"e" * 200 + b"\r\n",
        b"\0",
        b"\x00",
        b"\x30",
    ],
}


def inputs(name: str) -> st.SearchStrategy[bytes]:
    """Words of the language in a row, good inputs with something put in or taken out, and plain noise."""
    words = st.lists(st.sampled_from(WORDS[name]), max_size=14).map(b"".join)
    bent = st.builds(_bend, st.sampled_from(SEEDS[name]), st.integers(0, 4000), st.integers(0, 30), words)
    return words | bent | st.binary(max_size=80)


def _bend(seed: bytes, at: int, taken: int, put: bytes) -> bytes:
    at %= len(seed) + 1
    return seed[:at] + put + seed[at + taken :]


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_nothing_but_the_documented_exceptions(name: str) -> None:
    count = size("FUZZ", SHORT.get(name, 400))

    @settings(
        max_examples=count, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
    )
    @given(inputs(name))
    def attack(data: bytes) -> None:
        begun = time.thread_time()
        TARGETS[name](data)
        assert time.thread_time() - begun < SLOWEST

    attack()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("yaml", b"a: &x [" + b"1," * 2000 + b"]\nb: &y [" + b"*x," * 100 + b"]\nc: [" + b"*y," * 100 + b"]"),
        ("yaml", b"[" * 100_000),
        ("yaml", b"? " * 20_000),
        ("expressions", b"(" * 4000),
        ("expressions", b"a" + b".b" * 2000),
        ("expressions", b"!" * 4000),
        ("expressions", b"a?" * 2000),
        ("expressions", b"join(split('" + b"x" * 2000 + b"',''),'" + b"y" * 1800 + b"')"),
        ("s1_expressions", b"$" + b"..*" * 1000),
        ("s1_expressions", b"${" * 20_000),
        ("s1_expressions", b"{{ " + b"[" * 5000),
        ("s1_expressions", b'{{ "' + b'\\"' * 20_000 + b" }}"),
        ("s1_expressions", b"$[?(" + b'"\\' * 15_000),
        ("s1_expressions", b"inputs." * 9000),
        ("token_answer", b"\0" + b"[" * 200_000),
        ("token_answer", b"\0" + b'{"error":' * 50_000),
        ("headers", b"connection: " + b"a," * 50_000),
        ("urls", b"/%2e" * 20_000),
        ("http1", b"\xffHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 200_000),
    ],
)
def test_what_grows_is_stopped_in_time(name: str, data: bytes) -> None:
    begun = time.thread_time()
    TARGETS[name](data)
    assert time.thread_time() - begun < SLOWEST
