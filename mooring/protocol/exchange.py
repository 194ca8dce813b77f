"""One exchange with a provider as evidence: enough to find a fault by, and no secret in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from mooring.protocol.redact import REDACTED, clean_line, is_sensitive, redact_json, redact_text, redact_url

BODY_SHOWN: Final = 2048  # bytes at most
_BODY_READ: Final = 64 * 1024  # redacted as a whole before it is cut, so that no half of a secret stays
_MARKUP = re.compile(r"<(script|style)\b.*?(</\1\s*>|$)|<!--.*?(-->|$)|<[^<>]*>", re.DOTALL | re.IGNORECASE)
_SHOWN_HEADERS: Final = frozenset(
    {
        "allow", "cf-ray", "content-length", "content-type", "date", "location", "retry-after", "server", "via",
        "www-authenticate", "x-correlation-id", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset",
        "x-request-id",
    }
)  # fmt: skip
# What may be a secret that nobody knows yet, such as a token in an answer that could not be read.
_NAMED = re.compile(r"""(?<![A-Za-z0-9_.-])(["']?)([A-Za-z0-9_.-]{1,200})\1(\s*[=:]\s*["']?)([^"'&\s,;}<]+)""")
_SCHEME = re.compile(
    r"\b(Bearer|Basic|Token|Digest)(\s+)(?!realm\b|error\b|charset\b)[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE
)
_OPAQUE = re.compile(r"(?<![\w/.~+-])[A-Za-z0-9_~+-]{32,}(?:\.[A-Za-z0-9_-]+)*={0,2}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# Harmless in what a server says, although the words look like those of a secret.
_HARMLESS: Final = frozenset({"token_type", "error", "realm", "www-authenticate", "token_endpoint_auth_method"})


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and what came of it. Every text is redacted when it is made; there is no way back."""

    method: str
    url: str
    sent: tuple[str, ...] = ()  # names of the request's headers, with the scheme of an Authorization
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    failure: str | None = None
    elapsed_ms: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The exchange as a JSON value. Only what there is to say is in it."""
        out: dict[str, Any] = {"method": self.method, "url": self.url, "request_headers": list(self.sent)}
        if self.status is not None:
            out |= {"status": self.status, "headers": dict(self.headers), "body": self.body}
        if self.failure is not None:
            out["failure"] = self.failure
        if self.elapsed_ms is not None:
            out["duration_ms"] = self.elapsed_ms
        return out


def answered(
    method: str,
    url: str,
    *,
    sent: Iterable[tuple[str, str]],
    status: int,
    headers: Sequence[tuple[str, str]],
    body: bytes,
    elapsed_ms: int,
    secrets: Iterable[str],
) -> Exchange:
    """Record an exchange that got an answer. `secrets` are all that went out or are known of the account."""
    known = tuple(s for s in secrets if s)
    shown = {}
    for name, value in headers:
        lower = name.lower()
        if lower in _SHOWN_HEADERS and lower not in shown:
            shown[lower] = clean_line(_mask(redact_url(value) if lower == "location" else value, known), 300)
    content_type = shown.get("content-type", "")
    return Exchange(
        method=method,
        url=safe_url(url, known),
        sent=sent_names(sent),
        status=status,
        headers=shown,
        body=excerpt(body, known, content_type),
        elapsed_ms=elapsed_ms,
    )


def unanswered(
    method: str, url: str, *, sent: Iterable[tuple[str, str]], failure: str, secrets: Iterable[str]
) -> Exchange:
    """Record an exchange without an answer."""
    known = tuple(s for s in secrets if s)
    return Exchange(method, safe_url(url, known), sent_names(sent), failure=clean_line(_mask(failure, known), 300))


def safe_url(url: str, secrets: Iterable[str]) -> str:
    """The URL without user name, query values and known secrets."""
    return clean_line(redact_text(redact_url(url), secrets), 500)


def sent_names(sent: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Names of headers; of an Authorization also its scheme, because Basic and Bearer are mixed up often."""
    out = []
    for name, value in sent:
        scheme, _, rest = value.partition(" ")
        told = name.lower() == "authorization" and bool(rest) and scheme.isalpha() and len(scheme) <= 10
        out.append(f"{name.lower()}: {scheme} {REDACTED}" if told else name.lower())
    return tuple(out)


def excerpt(body: bytes, secrets: Iterable[str], content_type: str = "", limit: int = BODY_SHOWN) -> str:
    """A safe beginning of an answer's body: no markup, no known secret, nothing that looks like an unknown one."""
    known = tuple(secrets)
    whole = body[:_BODY_READ].decode("utf-8", "replace")
    try:
        text = orjson.dumps(_shown_json(orjson.loads(body)))[:_BODY_READ].decode("utf-8", "replace")
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        text = whole
        if "html" in content_type.lower() or text.lstrip().startswith("<"):
            text = _MARKUP.sub(" ", redact_text(text, known))
    return cut(clean_line(_mask(text, known), limit), limit)


def cut(text: str, limit: int) -> str:
    """The text, not longer than so many bytes of UTF-8."""
    raw = text.encode()
    return text if len(raw) <= limit else raw[: limit - 3].decode("utf-8", "ignore") + "…"


def _shown_json(value: Any, depth: int = 24) -> Any:
    """The JSON value with everything under sensitive names masked, but for the words of an error."""
    if depth == 0 and isinstance(value, dict | list):
        return REDACTED
    if isinstance(value, dict):
        return {
            name: inner
            if isinstance(inner, str | int) and (name in _HARMLESS or (name == "code" and _is_word(inner)))
            else redact_json({name: inner})[name]
            if is_sensitive(str(name)) and name not in _HARMLESS
            else _shown_json(inner, depth - 1)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_shown_json(inner, depth - 1) for inner in value[:50]]
    return value


def _is_word(value: str | int) -> bool:
    """Whether a `code` is an error code, in words or as a small number, and not an authorization code."""
    if isinstance(value, int):
        return abs(value) < 10_000_000
    return len(value) <= 60 and re.fullmatch(r"[A-Za-z]+([_. -][A-Za-z]+)*", value) is not None


def masked(text: str) -> str:
    """The text without what looks like a secret that nobody knows: named values, Authorization, long opaque runs."""
    return _mask(text, ())


def _mask(text: str, secrets: Iterable[str]) -> str:
    text = redact_text(text, secrets)
    text = _SCHEME.sub(lambda m: f"{m[1]}{m[2]}{REDACTED}", text)
    text = _NAMED.sub(_mask_named, text)
    return _OPAQUE.sub(_mask_opaque, text)


def _mask_opaque(found: re.Match[str]) -> str:
    """Mask a long run of letters and digits; a word of letters alone and a UUID tell nothing that is secret."""
    text = found[0]
    if not any(c.isdigit() for c in text) or not any(c.isalpha() for c in text) or _UUID.fullmatch(text):
        return text
    return REDACTED


def _mask_named(found: re.Match[str]) -> str:
    name, value = found[2], found[4]
    if not is_sensitive(name) or name.lower() in _HARMLESS or value.startswith(("[", "{")):
        return found[0]
    if name.lower() == "code" and _is_word(value):
        return found[0]
    return f"{found[1]}{name}{found[1]}{found[3]}{REDACTED}"
