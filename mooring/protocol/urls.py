"""Join a caller's path to a connector's base URL so that it cannot leave it (rule P1)."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote

from mooring.errors import BadRequest
from mooring.kit.egress import PATH_ESCAPES, QUERY_ESCAPES, SplitUrl, split_url

# RFC 3986 characters plus the printable ASCII that clients commonly send raw. `#` and `?` have a meaning of
# their own.
_PATH = re.compile(r"[!\"$-.0->@-\[\]-~/]*")
_QUERY = re.compile(r"[!\"$-~]*")
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_NEEDS_JUDGING = re.compile(r"[.%]")
_SEPARATORS = re.compile(r"[/\\]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Overlong UTF-8 for `.`, `/` and `\`, which some old servers still decode.
_OVERLONG = re.compile(r"%c0%(ae|af)|%c1%9c", re.IGNORECASE)


def join_path(base_url: str, path: str, query: str = "") -> str:
    """Return base URL + raw path + raw query, byte for byte but for what no URL may hold.

    `path` and `query` are percent-encoded as the caller sent them. The characters ``"<>`{}`` are encoded, and
    `'` and `\\` in the query, because every URL library does and a signature has to cover what is sent.
    Raises BadRequest (code InvalidPathError) for a path that leaves the base, or whose dots, once decoded,
    could.
    """
    origin, base_path, base_query = _split_base(base_url)
    _check_path(path)
    if not _QUERY.fullmatch(query):
        raise _bad_path("the query contains a space, a control character, `#` or non-ASCII; percent-encode it")
    joined = base_path or "/"
    if path:
        joined = base_path.rstrip("/") + ("" if path.startswith("/") else "/") + path.translate(PATH_ESCAPES)
    query = query.removeprefix("?").translate(QUERY_ESCAPES)
    if base_query:
        query = f"{base_query}&{query}" if query else base_query
    return f"{origin}{joined}?{query}" if query else origin + joined


@lru_cache(maxsize=1024)
def validate_base_url(url: str) -> str:
    """Return an account-supplied base URL in canonical form: lower-case ASCII host, no trailing slash.

    Raises BadRequest (code InvalidUrlError). Whether its address may be called is the egress guard's
    question.
    """
    parts = _split(url)
    if "?" in parts.rest:
        raise _bad_url("it contains a query")
    try:
        _check_path(parts.rest)
    except BadRequest as fault:
        raise _bad_url(fault.message.removeprefix("The path was refused: ").rstrip(".")) from None
    return parts.origin + parts.rest.rstrip("/").translate(PATH_ESCAPES)


def origin_of(url: str) -> str:
    """Return scheme, host and port in canonical form; raise BadRequest (code InvalidUrlError)."""
    return _split(url).origin


@lru_cache(maxsize=1024)
def _split_base(base_url: str) -> tuple[str, str, str]:
    parts = _split(base_url)
    path, _, query = parts.rest.partition("?")
    _check_path(path)
    return parts.origin, path.translate(PATH_ESCAPES), query.translate(QUERY_ESCAPES)


def _split(url: str) -> SplitUrl:
    try:
        return split_url(url)
    except ValueError as fault:
        raise _bad_url(str(fault)) from None


def _check_path(path: str) -> None:
    if not _PATH.fullmatch(path):
        raise _bad_path(_why_unsafe(path))
    if path.startswith("//"):
        raise _bad_path("it starts with `//`, which names another host")
    if not path.startswith("/"):
        if _ABSOLUTE.match(path):
            raise _bad_path("it is an absolute URL; send the part after the base URL only")
        if "@" in path.partition("/")[0]:
            raise _bad_path("its first segment contains `@`; start the path with `/`")
    if _NEEDS_JUDGING.search(path):
        _check_segments(path)


def _check_segments(path: str) -> None:
    """Refuse dot segments in every encoding, the doubly encoded too.

    `%2F` and `%5C` stay allowed as data: many APIs take `group%2Fproject` as one segment. But providers
    differ in when they decode, so the path is judged as if each layer of encoding were undone before the dots
    are resolved. A path that is harmless in all layers cannot leave the base in any of them; nobody needs dot
    segments in encoded form.
    """
    text = path
    while True:
        if _CONTROL.search(text):
            raise _bad_path("it contains an encoded control character")
        for piece in _SEPARATORS.split(text):
            # Servlet containers drop `;parameters` before they resolve dots, Windows servers blanks.
            if piece.partition(";")[0].strip(" ") in {".", ".."}:
                raise _bad_path("it contains `.` or `..` segments, plain or encoded")
        decoded = unquote(_OVERLONG.sub(_short_form, text), encoding="latin-1")
        if decoded == text:
            return
        text = decoded


def _short_form(found: re.Match[str]) -> str:
    return {"ae": ".", "af": "/"}.get((found[1] or "").lower(), "\\")


def _why_unsafe(path: str) -> str:
    if "\\" in path:
        return "it contains a backslash"
    if "?" in path:
        return "it contains `?`; send the query separately, or write %3F"
    if "#" in path:
        return "it contains `#`; write %23"
    return "it contains a space, a control character or non-ASCII; percent-encode it"


def _bad_path(reason: str) -> BadRequest:
    return BadRequest(f"The path was refused: {reason}.", code="InvalidPathError")


def _bad_url(reason: str) -> BadRequest:
    return BadRequest(f"The base URL was refused: {reason}.", code="InvalidUrlError")
