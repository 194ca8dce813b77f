"""Malformed requests from a seed: what two parsers could read differently, and what tries to leave the base path."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

MARK = "x-injected"
"""The name of a header that never stands on a line of its own. Upstream must never see it."""
INNER = "inner-request"
"""In the path of a request that hides in a body."""

DOTS = [
    "..",
    ".",
    "%2e%2e",
    ".%2e",
    "%2E.",
    "%252e%252e",
    "..;",
    "..;x=1",
    "%c0%ae%c0%ae",
    "..%00",
    "..%09",
    "%u002e%u002e",
    "．．",
    "..\\",
    "%2e%2e%2f..",
    "....",
    "..%20",
    "..%0d",
]
SLASHES = [
    "/",
    "//",
    "%2f",
    "%2F",
    "\\",
    "%5c",
    "%255c",
    "%252f",
    "%c0%af",
    "／",
    "/./",
    ";/",
    "/%20/",
    "%2f%2f",
    "?/",
    "#/",
]
LINE_ENDS = ["\r\n", "\n", "\r", "\r\r\n", "\n\r", "\0\r\n", "\x0b\r\n", "\x85", "\u2028", " \r\n", "\t\r\n"]
INJECTIONS = [
    "\n",
    "\r",
    "\0",
    "\x0b",
    "\x0c",
    "\x1c",
    "\x85",
    "%0d%0a",
    "%0a",
    "%0D%0A%20",
    "\r\n ",
    "\r\n\t",
    "嘊嘍",
    "\\r\\n",
]
METHODS = [
    "GET",
    "POST",
    "PUT",
    "DELETE",
    "HEAD",
    "OPTIONS",
    "PATCH",
    "TRACE",
    "CONNECT",
    "TRACK",
    "PRI",
    "get",
    "G ET",
    "GET\t",
    "",
    "A" * 50,
    "PROPFIND",
    "G\0ET",
    "GET\x0b",
    "POST\xa0",
]
VERSIONS = [
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/0.9",
    "HTTP/2.0",
    "HTTP/1.2",
    "HTTP/1.10",
    "http/1.1",
    "HTTP/11",
    "HTTP/1.1 ",
    "",
    "ICY",
    "HTTP/1.1\0",
    "HTTP/-1.1",
    "XHTTP/1.1",
]
LENGTHS = [
    "0",
    "5",
    "+5",
    "-1",
    "0x5",
    "5,5",
    "5, 6",
    "5 5",
    " 5",
    "5\t",
    "05",
    "5.0",
    "1e1",
    "",
    "\v5",
    "99999999999999999999999",
    "٥",
    "5;",
    "5\0",
    "0" * 500 + "5",
    "²",
]
CODINGS = [
    "chunked",
    "Chunked",
    "identity",
    "gzip, chunked",
    "chunked, identity",
    "chunked, chunked",
    "xchunked",
    " chunked",
    "chunked ",
    "\vchunked",
    "chunked\0",
    "chun\tked",
    '"chunked"',
    "chunked;q=1",
    "chunked,",
    ",chunked",
    "",
    "cow",
    "chunKed\x0c",
    "\u212a",
]
CHUNKS = [
    "5\r\nhello\r\n0\r\n\r\n",
    "5 \r\nhello\r\n0\r\n\r\n",
    "5;a=b\r\nhello\r\n0\r\n\r\n",
    "5;\r\nhello\r\n0\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    "+5\r\nhello\r\n0\r\n\r\n",
    "-1\r\nhello\r\n0\r\n\r\n",
    "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "5\nhello\n0\n\n",
    "5\r\nhelloX\r\n0\r\n\r\n",
    "5\r\nhello0\r\n\r\n",
    "zz\r\n",
    "\r\n",
    "5;a=\n\r\nhello\r\n0\r\n\r\n",
    "00000000000000000005\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    "5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n",
    "5\r\nhello\r\n0\r\n" + f"a: b\n{MARK}: 1\r\n\r\n",
    "0\r\n\r\n",
    "5\r\nhello\r\n",
    "5" + ";" + "a" * 70_000 + "\r\nhello",
]


@dataclass(frozen=True)
class Attack:
    """One request as bytes, and what kind it is, for the message of a failed test."""

    kind: str
    raw: bytes
    ambiguous: bool = False
    """Two parsers might see another end of the body: what stands behind must not be served."""


class Generator:
    """Makes attacks that carry a good key and a good account, so that nothing but their shape stops them."""

    def __init__(self, seed: int, ours: str, canary: str) -> None:
        self._random = random.Random(seed)
        self._ours = ours
        self._canary = canary

    def attacks(self, count: int) -> Iterator[Attack]:
        """So many of them, of every kind in turn."""
        kinds = [
            self._path,
            self._authority,
            self._line,
            self._header,
            self._fold,
            self._length,
            self._coding,
            self._both,
            self._chunk,
            self._huge,
            self._noise,
            self._query,
        ]
        for number in range(count):
            kind = kinds[number % len(kinds)]
            made = kind()
            raw, ambiguous = made if isinstance(made, tuple) else (made, False)
            yield Attack(kind.__name__.strip("_"), raw.encode("utf-8", "surrogateescape"), ambiguous)

    def _one(self, words: list[str]) -> str:
        return self._random.choice(words)

    def _request(self, target: str, *lines: str, method: str = "GET", body: str = "", host: str = "hub") -> str:
        head = [f"{method} {target} HTTP/1.1", f"host: {host}", self._ours, "connection: close", *lines]
        return "\r\n".join(head) + "\r\n\r\n" + body

    def _inner(self) -> str:
        return f"GET /proxy/{INNER} HTTP/1.1\r\nhost: hub\r\n{self._ours}\r\nconnection: close\r\n\r\n"

    def _path(self) -> str:
        parts = [self._one(DOTS) + self._one(SLASHES) for _ in range(self._random.randint(1, 5))]
        start = self._one(["/proxy/", "/proxy", "/proxy/a/", "/proxy//", "/proxy/%2f", "/proxy/.;/", "/proxy/a%2f"])
        return self._request(start + "".join(parts) + self._one(["admin", "", "etc/passwd", "%00", "a?b=..%2f"]))

    def _query(self) -> str:
        text = "".join(
            self._one([*INJECTIONS, "a", "=", "&", "?", "#", " ", "%", "%zz", "é", f"{MARK}: 1"]) for _ in range(6)
        )
        return self._request("/proxy/x?" + text)

    def _authority(self) -> str:
        where = self._canary
        target = self._one(
            [
                f"/proxy//{where}/x",
                f"/proxy/\\\\{where}/x",
                f"/proxy/http://{where}/x",
                f"/proxy@{where}/x",
                f"/proxy:80@{where}/",
                f"/proxy#@{where}/",
                f"http://{where}/proxy/x",
                f"http://u:p@{where}/proxy/x",
                f"https://{where}/proxy/../x",
                where,
                f"//{where}/proxy/x",
                f"/proxy/%68ttp:%2f%2f{where}",
                f"http:/{where}/proxy",
                f"http://{where}",
                f"///{where}",
                f"/proxy/\t//{where}",
                f"/proxy?//{where}/",
                f"/proxy/;@{where}/",
                f"HTTP://{where}/proxy/x",
                f"ftp://{where}/proxy/x",
                f"http://[{where}/proxy/x",
                f"http://{where}:99999999/proxy/x",
                "http:///proxy/x",
                "http://",
                "*",
            ]
        )
        return self._request(
            target, method=self._one(["GET", "POST", "CONNECT", "OPTIONS"]), host=self._one([where, "hub", "hub, a"])
        )

    def _line(self) -> str:
        space = self._one([" ", "  ", "\t", "\x0b", "\xa0", "", "\r"])
        line = f"{self._one(METHODS)}{space}/proxy/x{self._one(['', ' y', '#z', chr(127), 'é'])}{space}{self._one(VERSIONS)}"
        return line + self._one(LINE_ENDS) + f"host: hub\r\n{self._ours}\r\nconnection: close\r\n\r\n"

    def _header(self) -> str:
        name = self._one(
            ["x-a", "x a", "x-a ", " x-a", "", "x-a\0", "x\u00e9", "x-a:b", "(x)", "host", "x-account-id", "Host "]
        )
        value = self._one(["1", "", " ", "\x7f", "\xff", "a" * 300]) + self._one(INJECTIONS) + f"{MARK}: 1"
        return self._request("/proxy/x", name + self._one([":", " :", ": ", "\t:", "", "=", "::"]) + value)

    def _fold(self) -> str:
        ends = [end for end in LINE_ENDS if end.strip(" \t") != "\r\n"]  # those are good ends of a line
        return self._request(
            "/proxy/x", f"x-a: 1{self._one([*ends, chr(13) + chr(10) + ' ', chr(13) + chr(10) + chr(9)])}{MARK}: 1"
        )

    def _length(self) -> tuple[str, bool]:
        lines = [f"content-length: {self._one(LENGTHS)}" for _ in range(self._random.randint(1, 2))]
        good = [line.split(": ")[1].strip(" \t") for line in lines]
        plain = len(set(good)) == 1 and good[0].isascii() and good[0].isdigit()
        raw = self._request("/proxy/x", *lines, method=self._one(["POST", "GET", "PUT"]), body="hello" + self._inner())
        return raw, not plain

    def _coding(self) -> tuple[str, bool]:
        coding = self._one(CODINGS)
        name = self._one(
            ["transfer-encoding", "Transfer-Encoding", "transfer-encoding ", " transfer-encoding", "transfer_encoding"]
        )
        line = f"{name}{self._one([':', ': ', ' :', ':' + chr(9)])}{coding}"
        raw = self._request("/proxy/x", line, method="POST", body="0\r\n\r\n" + self._inner())
        return raw, False  # what follows "0\r\n\r\n" of a chunked body is the next request by right

    def _both(self) -> tuple[str, bool]:
        lines = [f"content-length: {self._one(['4', '0', '5', '60'])}", f"transfer-encoding: {self._one(CODINGS)}"]
        self._random.shuffle(lines)
        return self._request("/proxy/x", *lines, method="POST", body="0\r\n\r\n" + self._inner()), True

    def _chunk(self) -> tuple[str, bool]:
        body = self._one(CHUNKS)
        return self._request("/proxy/x", "transfer-encoding: chunked", method="POST", body=body), False

    def _huge(self) -> str:
        size = self._random.choice([33_000, 70_000, 200_000])
        kind = self._random.randrange(5)
        if kind == 0:
            return self._request("/proxy/" + "a" * size)
        if kind == 1:
            return self._request("/proxy/x", *(f"x-{n}: y" for n in range(size // 12)))
        if kind == 2:
            return self._request("/proxy/x", "x-a: " + "b" * size)
        if kind == 3:
            return self._request("/proxy/x", "b" * size + ": 1")
        return "GET " + "/" * size

    def _noise(self) -> str:
        good = list(self._request("/proxy/x", "content-length: 5", method="POST", body="hello"))
        for _ in range(self._random.randint(1, 4)):
            at = self._random.randrange(len(good))
            change = self._random.randrange(3)
            if change == 0:
                good[at] = chr(self._random.randrange(256))
            elif change == 1:
                del good[at]
            else:
                good.insert(at, self._one(["\r", "\n", "\0", " ", ":", "\t", "\x80", "%"]))
        return "".join(good)
