"""Keep secrets out of logs, errors and answers (rules L1, O9, O12, P8)."""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode
from binascii import b2a_base64
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, quote_plus

REDACTED = "[redacted]"
ELIDED = "…"
MIN_SECRET = 4
_MAX_DEPTH = 64
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]+")

_SENSITIVE_NAME = re.compile(
    r"token|key|secret|passw|pwd|auth|credential|session|signature|cookie|assertion|jwt", re.IGNORECASE
)
# Secret in OAuth messages, though the words are too common to match inside a longer name.
_SENSITIVE_EXACT = frozenset({"code", "state", "code_verifier"})


def is_sensitive(name: str) -> bool:
    """Tell whether a header, field or parameter of this name usually holds a secret."""
    return _SENSITIVE_NAME.search(name) is not None or name.lower() in _SENSITIVE_EXACT


def redact_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the headers with the values under sensitive names replaced."""
    return [(name, REDACTED if is_sensitive(name) else value) for name, value in headers]


def redact_url(url: str) -> str:
    """Return the URL without user name, fragment and query values; the parameters' names stay."""
    head, mark, query = url.partition("#")[0].partition("?")
    if "@" not in head and not query:  # nothing to take out
        return head + mark
    scheme, separator, rest = head.partition("://")
    if separator:
        authority, slash, path = rest.partition("/")
        head = f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
    if not mark:
        return head
    if query.isascii() and "&" not in query and "=" in query:  # one parameter
        return f"{head}?{query[: query.index('=')]}={ELIDED}"
    return f"{head}?{'&'.join(_without_value(part) for part in query.split('&'))}"


def _without_value(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    # Without `=` the whole parameter may be the secret.
    return f"{name}={ELIDED}" if equals else ELIDED if parameter else ""


def redact_text(text: str, secrets: Iterable[str]) -> str:
    """Mask the secrets wherever they stand, also URL-encoded, base64 (Basic), JSON- or HTML-escaped."""
    forms = _all_forms(secrets)
    if not any(form in text for form in forms):
        return text
    return re.sub("|".join(map(re.escape, forms)), REDACTED, text)


def redact_json(value: Any) -> Any:
    """Return a copy of a JSON value with everything under sensitive names replaced."""
    return _redact_json(value, _MAX_DEPTH)


def _redact_json(value: Any, depth: int) -> Any:
    if isinstance(value, (dict, list)) and not depth:
        return REDACTED
    if isinstance(value, dict):
        return {
            name: REDACTED if is_sensitive(str(name)) and inner is not None else _redact_json(inner, depth - 1)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_redact_json(inner, depth - 1) for inner in value]
    return value


def clean_line(text: str, limit: int = 300) -> str:
    """Return text from outside as one harmless line of at most `limit` characters."""
    # Control, bidirectional, invisible and unassigned characters go: they forge log lines or make text look like other
    # text. Cut first: the text may be an answer of a megabyte. Removed characters can make the line a little shorter.
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + ELIDED


class SecretScanner:
    """Mask secrets in a body that passes in chunks, also where one is split over several chunks.

    A secret becomes asterisks of the same length, so Content-Length stays true. Only bytes that may be the
    beginning of a secret are held back for the next call. Bodies have to be uncompressed.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        forms: list[bytes] = []
        for secret in secrets:
            if len(secret) < MIN_SECRET:
                continue
            if _UNRESERVED.fullmatch(secret):  # the usual key or token; this runs on every call
                forms += _plain_forms(secret.encode())
            else:
                forms += [form.encode("utf-8", "surrogatepass") for form in _forms(secret)]
        self._forms = forms
        self._tail = b""

    def finds(self, data: bytes) -> bool:
        """Tell whether whole data, such as a header's value, holds a secret. Bytes held back by `mask` do not count."""
        for form in self._forms:  # noqa: SIM110 - a generator would cost more than the search
            if form in data:
                return True
        return False

    @property
    def _pattern(self) -> re.Pattern[bytes]:
        # Made on a hit only: nearly every answer has none. The longest form first, for it may begin with a shorter one.
        return re.compile(b"|".join(map(re.escape, sorted(self._forms, key=len, reverse=True))))

    def mask(self, chunk: bytes) -> bytes:
        """Return what can be passed on now."""
        if not self._forms:
            return chunk
        data = self._tail + chunk if self._tail else chunk
        self._tail = b""
        hold = self._held_from(data, 0)
        if hold == len(data) and not self.finds(data):
            return data
        out = []
        position = 0
        for found in self._pattern.finditer(data):
            # A secret that began earlier and is not complete yet goes first.
            if found.start() >= hold:
                break
            out += [data[position : found.start()], b"*" * (found.end() - found.start())]
            position = found.end()
            if position > hold:
                hold = self._held_from(data, position)
        self._tail = data[max(hold, position) :]
        out.append(data[position : max(hold, position)])
        return b"".join(out)

    def flush(self) -> bytes:
        """Return what was held back; call it at the end of the body."""
        tail, self._tail = self._tail, b""
        # The tail can hold a whole secret that is also the beginning of a longer one.
        return self._pattern.sub(lambda found: b"*" * len(found[0]), tail) if tail else tail

    def _held_from(self, data: bytes, start: int) -> int:
        """Return where the longest ending of `data` begins that is the beginning of a secret."""
        first = len(data)
        for form in self._forms:
            head = form[:1]
            at = data.find(head, max(start, len(data) - len(form) + 1), first)
            while at != -1:
                if form.startswith(data[at:]):
                    first = at
                    break
                at = data.find(head, at + 1, first)
        return first


def _all_forms(secrets: Iterable[str]) -> list[str]:
    forms: set[str] = set()
    for secret in secrets:
        if len(secret) >= MIN_SECRET:
            forms |= _forms(secret)
    return sorted(forms, key=len, reverse=True)


def _plain_forms(raw: bytes) -> list[bytes]:
    """What `_forms` gives for a secret of unreserved characters, which no encoding of text changes."""
    size = len(raw)
    first = b2a_base64(raw, newline=False)
    second = b2a_base64(b"\0" + raw, newline=False)
    third = b2a_base64(b"\0\0" + raw, newline=False)
    # The characters that also depend on the neighbours are cut off, at both ends.
    cores = (
        first[: size * 4 // 3],
        second[2 : (size + 1) * 4 // 3],
        third[3 : (size + 2) * 4 // 3],
    )
    forms = [raw, raw.hex().encode()]
    for core in cores:
        if len(core) >= MIN_SECRET:
            forms.append(core)
            if b"+" in core or b"/" in core:
                forms += (core.translate(_URL_SAFE), quote(core, safe="").encode())
    return forms


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def _forms(secret: str) -> set[str]:
    raw = secret.encode("utf-8", "surrogatepass")
    if _UNRESERVED.fullmatch(secret):
        return {form.decode() for form in _plain_forms(raw)}
    percent = quote(raw, safe="")
    json_ascii = json.dumps(secret)[1:-1]
    forms = {
        secret,
        percent,
        percent.replace("%7E", "~"),
        re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), percent),
        quote(raw),
        quote_plus(raw),
        json_ascii,
        json_ascii.replace("/", "\\/"),
        json.dumps(secret, ensure_ascii=False)[1:-1],
        html.escape(secret),
        html.escape(secret, quote=False),
        raw.hex(),
    }
    forms |= _base64_forms(raw)
    return {form for form in forms if len(form) >= MIN_SECRET}


def _base64_forms(raw: bytes) -> set[str]:
    # In Basic the secret stands behind `user:`, so its base64 depends on its offset modulo 3. The characters
    # that also depend on the neighbours are cut off.
    forms: set[str] = set()
    for offset in range(3):
        whole = b64encode(b"\0" * offset + raw).decode().rstrip("=")
        lead = (0, 2, 3)[offset]
        core = whole[lead : len(whole) - 1] if (offset + len(raw)) % 3 else whole[lead:]
        if len(core) >= MIN_SECRET:
            forms.add(core)
            if "+" in core or "/" in core:
                forms |= {core.replace("+", "-").replace("/", "_"), quote(core, safe="")}
    return forms
