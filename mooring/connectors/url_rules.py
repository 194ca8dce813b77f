"""Which hosts the values of an account may choose (rules P2 and O5).

A credential goes wherever the connector's URL points. So a value inside the host part must be limited by a
pattern that can't leave the host, and an operator's client secret never goes to a host that an account may
choose freely.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from mooring.protocol.expressions import Expression
from mooring.protocol.template import Template

_LOOPBACK: Final = re.compile(r"http://(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?(?:[/?#].*)?")
# Regular expressions that may only match harmless characters, themselves described by a regular expression:
# literals, escaped `.` and `-`, groups, alternatives, quantifiers, and classes whose ranges stay inside a-z,
# A-Z or 0-9.
_CLASS_ITEM: Final = r"(?:[a-z]-[a-z]|[A-Z]-[A-Z]|[0-9]-[0-9]|[A-Za-z0-9_.](?!-[^\]])|\\[.-](?!-[^\]])|-(?=\]))"
_ATOM: Final = r"[A-Za-z0-9_-]|\\[.-]|\(\?[:!=]|\((?!\?)|\)|\||[*+?]|\{[0-9]*(?:,[0-9]*)?\}"
_HOST_PATTERN: Final = re.compile(rf"\^?(?:{_ATOM}|\[{_CLASS_ITEM}+\])+\$?")
_URL_PATTERN: Final = re.compile(rf"\^?https\??://(?:{_ATOM}|[/:~%]|\[(?:{_CLASS_ITEM}|[~%](?!-[^\]]))+\])+\$?")
_FIXED_TAIL: Final = re.compile(  # \.vendor\.com or \.(vendor|vendor2)\.com, outside any group
    r"\\\.(?:[A-Za-z0-9-]+|\((?:\?:)?[A-Za-z0-9-]+(?:\|[A-Za-z0-9-]+)*\))\\\.[A-Za-z]{2,}\Z"
)
_FIXED_SUFFIX: Final = re.compile(r"(?:\.[A-Za-z0-9-]+)+\.[A-Za-z]{2,}")
_PORT: Final = re.compile(r":[0-9]{1,5}\Z")


class Authority(NamedTuple):
    """The host part of a URL template."""

    expressions: tuple[Expression, ...]
    whole_url: bool  # the first expression holds scheme and host
    suffix: str  # literal text of the host after the last expression
    problem: str | None = None


def authority(url: Template) -> Authority:
    """Find the expressions that decide the host. `problem` says why the URL can't stand."""
    if not url.parts:
        return Authority((), False, "", "the URL is empty")
    first, *rest = url.parts
    if isinstance(first, Expression):
        if rest and not (isinstance(rest[0], str) and rest[0][0] in "/?"):
            return Authority((first,), True, "", f"only `/` may follow ${{{first.source}}}, which holds the host")
        return Authority((first,), True, "")
    scheme, mark, remainder = first.partition("://")
    if not mark or scheme not in ("https", "http"):
        return Authority((), False, "", "a URL begins with https://")
    expressions: list[Expression] = []
    suffix = ""
    for part in (remainder, *rest):
        if isinstance(part, Expression):
            expressions.append(part)
            suffix = ""
            continue
        host = re.split(r"[/?#]", part, maxsplit=1)[0]
        suffix += host
        if len(host) < len(part):
            break
    if any(char in suffix for char in "@\\ "):
        return Authority(tuple(expressions), False, suffix, "a URL holds no user name and no `\\`")
    if scheme == "http" and (expressions or not _LOOPBACK.fullmatch(url.source)):
        return Authority(tuple(expressions), False, suffix, "https:// is required, except for loopback addresses")
    return Authority(tuple(expressions), False, suffix)


def is_host_safe(pattern: str) -> bool:
    """Tell whether the pattern is one that surely matches only letters, digits, `.`, `-` and `_`.

    Sufficient, not necessary: `.`, `\\w`, `\\d`, negated classes and flags are refused, harmless or not.
    """
    return _HOST_PATTERN.fullmatch(pattern) is not None


def is_url_safe(pattern: str) -> bool:
    """Tell whether the pattern matches whole http(s) URLs without user name, query and fragment."""
    return _URL_PATTERN.fullmatch(pattern) is not None


def has_fixed_domain(found: Authority, pattern: str | None) -> bool:
    """Tell whether the host ends in a domain that the connector's author wrote, whatever the account says."""
    if suffix := _PORT.sub("", found.suffix):
        return _FIXED_SUFFIX.fullmatch(suffix) is not None
    if pattern is None:
        return False
    text = pattern.removeprefix("^").removesuffix("$")
    if found.whole_url:
        scheme, mark, text = text.partition("://")
        if scheme != "https" or not mark:
            return False
        text = text.removesuffix("?").removesuffix("/") if text.endswith("/?") else text
    if not is_host_safe(text):
        return False
    return all(_FIXED_TAIL.search(alternative) for alternative in _alternatives(text))


def _alternatives(pattern: str) -> list[str]:
    """Split at the `|` that stand outside groups."""
    out, depth = [""], 0
    for char in pattern:
        depth += (char == "(") - (char == ")")
        if char == "|" and depth == 0:
            out.append("")
        else:
            out[-1] += char
    return out
