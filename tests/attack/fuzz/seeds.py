"""Where fuzzing begins: good inputs and the ones that once went wrong."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CATALOG = ROOT / "mooring" / "connectors" / "catalog"


def _connectors() -> list[bytes]:
    files = [path for path in sorted(CATALOG.rglob("*.yaml")) if path.stat().st_size < 4000][:20]
    files += sorted((ROOT / "tests" / "connectors" / "s1").rglob("*.yaml"))[:10]
    return [path.read_bytes() for path in files]


SEEDS: dict[str, list[bytes]] = {
    "expressions": [
        b"a ? 'y' : list[.id == 2].t ?? o['two words']",
        b"join(split(s, ' '), '-') + encodeBase64(upper(e)) in arr",
        b"a/${o.deep.er}/${!(a >= 1 && b < 2) ? {k: [1, -2.5]} : null}/$${x}",
        b"${replace(s, ' ', 'aaaa')}${9 ^ 9 % 3 // 2}",
        b"${" + b"9" * 320 + b"}",
    ],
    "s1_expressions": [
        b"$.steps.first.output.data[*].id",
        b"a/${inputs.id}/${credentials.api_key}",
        b"{{ $.inputs.id == '7' ? 'a' : $.list[0].t.toUpperCase() }}",
        b"$..data[?(@.id == 1)][(@.length-1)]",
        b"[{'a': $.inputs.id}]",
        b"$.list[0:2:1]['id','t']",
    ],
    "yaml": [
        b"a: &x {b: [1, 2.5, ~, true, 'q']}\nc: *x\n",
        b"- !!int abc\n- !!float x\n- !!bool maybe\n- !!null x\n",
        b"%YAML 1.2\n---\n? [1]\n: |\n  text\n<<: {a: 1}\n",
        b"a: \xed\xa0\x80",
    ],
    "loader": _connectors(),
    "token_answer": [
        b'\x00{"access_token": "x", "token_type": "Bearer", "expires_in": "3600", "scope": "a b"}',
        b'\x03{"error": {"code": "invalid_grant", "message": "no"}}',
        b"\x10access_token=x&expires=1e400&refresh_token=y",
        b"\x06Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        b"\x05<html>no</html>",
    ],
    "headers": [
        b"connection: x-a, close\nx-a: 1\nauthorization: b\ncontent-length: 5\ntransfer-encoding: chunked",
        b"ratelimit: limit=10, remaining=0, reset=5\nretry-after: 7\nx-ratelimit-remaining: 0\nx-ratelimit-reset: 9e9",
        b"x-a: b\r\nx-b: c\rx: \x00",
    ],
    "urls": [
        b"/a/%2e%2e/b?x=1#y",
        b"//evil.example/x",
        b"/a\\..\\b",
        b"https://user@api.example:8443/x?y",
        b"/%c0%ae%c0%ae/%00",
    ],
    "http1": [
        b"\x12HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"\xffHTTP/1.1 103 E\r\n\r\nHTTP/1.1 200 O\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nT: x\r\n\r\n",
        b"\x01HTTP/1.1 304 X\r\nContent-Length: 9\r\n\r\n",
        b"\x30HTTP/1.0 200 OK\r\n\r\nbody until the end",
        b"\x09HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    ],
}
"""Inputs by the name of their target."""
