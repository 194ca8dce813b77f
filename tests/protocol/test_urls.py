"""A caller's path never leaves the connector's base URL."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mooring.errors import BadRequest
from mooring.kit.egress import split_url, wire_url
from mooring.protocol.urls import join_path, origin_of, validate_base_url

BASE = "https://api.vendor.com/v1"


@pytest.mark.parametrize(
    ("base", "path", "query", "joined"),
    [
        (BASE, "/users", "", f"{BASE}/users"),
        (BASE, "users", "", f"{BASE}/users"),
        (f"{BASE}/", "/users", "a=1&b=%20", f"{BASE}/users?a=1&b=%20"),
        (BASE, "", "", BASE),
        (f"{BASE}/", "", "", f"{BASE}/"),
        (BASE, "/", "", f"{BASE}/"),
        ("https://api.vendor.com", "", "", "https://api.vendor.com/"),
        ("https://API.vendor.com:443", "/x", "?q", "https://api.vendor.com/x?q"),
        (f"{BASE}?api-version=2", "/x", "a=b", f"{BASE}/x?api-version=2&a=b"),
        (f"{BASE}?api-version=2", "/x", "", f"{BASE}/x?api-version=2"),
        (BASE, "/repos/o/r/contents/a%2Fb", "", f"{BASE}/repos/o/r/contents/a%2Fb"),
        (BASE, "/projects/group%2Fproject", "", f"{BASE}/projects/group%2Fproject"),
        (BASE, "/a%5Cb", "", f"{BASE}/a%5Cb"),
        (BASE, "/a%252Fb/%25", "", f"{BASE}/a%252Fb/%25"),
        (BASE, "/a//b", "", f"{BASE}/a//b"),
        (BASE, "/users:batchGet", "", f"{BASE}/users:batchGet"),
        (BASE, "users:batchGet", "", f"{BASE}/users:batchGet"),
        (BASE, "/@me/a@b", "", f"{BASE}/@me/a@b"),
        (BASE, "/a/b@c", "", f"{BASE}/a/b@c"),
        (BASE, "/...", "", f"{BASE}/..."),
        (BASE, "/file..name/.well-known/a.b", "", f"{BASE}/file..name/.well-known/a.b"),
        (BASE, "/%C3%A9;v=1,2!$&'()*+~|[x]^%zz%", "", f"{BASE}/%C3%A9;v=1,2!$&'()*+~|[x]^%zz%"),
        (BASE, '/"<>`{}', "'\"<>\\`{}", f"{BASE}/%22%3C%3E%60%7B%7D?%27%22%3C%3E%5C`{{}}"),
        (BASE, "/x", "redirect=../../y&u=//evil/?", f"{BASE}/x?redirect=../../y&u=//evil/?"),
    ],
)
def test_joined(base: str, path: str, query: str, joined: str) -> None:
    result = join_path(base, path, query)
    assert result == joined
    assert wire_url(split_url(result)) == result


@pytest.mark.parametrize(
    "path",
    [
        "//evil.com",
        "///evil.com",
        "http://evil.com",
        "https://evil.com/x",
        "HTTP:/evil.com",
        "@evil.com",
        "user:pw@evil.com/",
        "\\\\evil.com",
        "/a\\b",
        "..",
        "/..",
        "/../x",
        "../x",
        "/a/..",
        "/a/../b",
        "/.",
        "/a/./b",
        "/%2e%2e/x",
        "/%2E%2e",
        "/.%2e/x",
        "/%2e./x",
        "/%2e/x",
        "/%252e%252e/x",
        "/%25252e%25252E/x",
        "/%2525252e./x",
        "/..%2fx",
        "/a%2f..%2fx",
        "/a%2f%2e%2e%2fx",
        "/a%252f..%252fx",
        "/..%5cx",
        "/a%5c..%5cx",
        "/..;/x",
        "/..;a=b/x",
        "/%2e%2e;/x",
        "/..%3b/x",
        "/%c0%ae%c0%ae/x",
        "/..%c0%afx",
        "/a?b",
        "/a#b",
        "/a b",
        "/a\tb",
        "/a\nb",
        "/a\rb",
        "/a\x00b",
        "/a\x7fb",
        "/é",
        "/a\u2028b",
        "/．．/x",
        "/a%00b",
        "/a%0d%0aHost:%20evil",
        "/a%250db",
        "/a%7f",
    ],
)
def test_refused(path: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        join_path(BASE, path)
    assert refusal.value.error_code == "InvalidPathError"
    assert refusal.value.message.startswith("The path was refused: ")


@pytest.mark.parametrize("query", ["a b", "a#b", "a\r\nb", "é", "\x00", "a\tb"])
def test_refused_query(query: str) -> None:
    with pytest.raises(BadRequest):
        join_path(BASE, "/x", query)


def remove_dot_segments(path: str) -> str:
    """Resolve dots by the letter of RFC 3986 §5.2.4, written apart from the code under test."""
    output = ""
    while path:
        if path.startswith("../"):
            path = path[3:]
        elif path.startswith(("./", "/./")):
            path = path[2:]
        elif path == "/.":
            path = "/"
        elif path.startswith("/../") or path == "/..":
            path = path[3:] or "/"
            output = output.rpartition("/")[0]
        elif path in {".", ".."}:
            path = ""
        else:
            end = path.find("/", 1)
            end = len(path) if end == -1 else end
            output += path[:end]
            path = path[end:]
    return output


FRAGMENTS = st.sampled_from(
    [
        "a",
        "v1",
        "v2",
        ".",
        "..",
        "...",
        "/",
        "//",
        "%2e",
        "%2E",
        "%252e",
        "%2f",
        "%2F",
        "%5c",
        "%255c",
        "\\",
        ";",
        "?",
        "#",
        "@",
        ":",
        "http:",
        "https://",
        "evil.com",
        "%00",
        "%0d",
        "%0a",
        "%",
        "%c0%ae",
        "é",
        "\t",
        "\n",
        "~",
        "-",
        "_",
        "=",
        "&",
        "'",
        '"',
        "<",
        ">",
        "{",
        "}",
        "[",
        "]",
        "|",
        "^",
        "`",
        "+",
        ",",
        "!",
        "$",
        "*",
        "(",
        ")",
        "%25",
        "%3b",
    ]
)
PATHS = st.one_of(st.lists(FRAGMENTS, max_size=12).map("".join), st.text(max_size=30))
BASES = st.sampled_from(
    [
        BASE,
        f"{BASE}/",
        "https://api.vendor.com",
        "https://api.vendor.com:8443/a/b?k=v",
        "https://[2606:4700::1]/x",
    ]
)


@settings(max_examples=1500, deadline=None)
@given(base=BASES, path=PATHS, query=PATHS)
def test_no_path_leaves_the_base(base: str, path: str, query: str) -> None:
    try:
        result = join_path(base, path, query)
    except BadRequest:
        return
    want, got = urlsplit(base), urlsplit(result)
    assert (got.scheme, got.netloc) == (want.scheme, want.netloc)
    assert got.fragment == ""
    prefix = want.path.rstrip("/")
    seen = got.path
    for _ in range(4):
        for text in (seen, seen.replace("\\", "/")):
            resolved = remove_dot_segments(text)
            assert resolved == prefix or resolved.startswith(f"{prefix}/")
        seen = unquote(seen, encoding="latin-1")
    assert result.isascii()
    assert result.isprintable()
    assert " " not in result
    assert wire_url(split_url(result)) == result


def test_base_urls_are_made_canonical() -> None:
    assert validate_base_url("HTTPS://Acme.Vendor.com:443/api/") == "https://acme.vendor.com/api"
    assert validate_base_url("https://acme.vendor.com") == "https://acme.vendor.com"
    assert validate_base_url("http://127.0.0.1:4300/") == "http://127.0.0.1:4300"
    assert validate_base_url("https://bücher.example/x") == "https://xn--bcher-kva.example/x"
    assert origin_of("https://Acme.vendor.com:443/a?b") == "https://acme.vendor.com"


@pytest.mark.parametrize(
    "url",
    [
        "acme.vendor.com",
        "ftp://acme.vendor.com",
        "https://u:p@acme.vendor.com",
        "https://acme.vendor.com/?q=1",
        "https://acme.vendor.com/?",
        "https://acme.vendor.com/#f",
        "https://acme.vendor.com/a/../b",
        "https://acme.vendor.com/%252e%252e/b",
        "https://acme.vendor.com//b",
        "https://acme.vendor.com/a b",
        "https://acme.vendor.com/\r\n",
        "https://acme.vendor.com\\@evil.com",
        "https://127.1/",
        "https:///x",
        "javascript:alert(1)",
        "",
    ],
)
def test_base_urls_are_refused(url: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        validate_base_url(url)
    assert refusal.value.error_code == "InvalidUrlError"
    assert "u:p" not in refusal.value.message
