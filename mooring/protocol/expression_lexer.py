"""Tokens of the expression language, with their offsets."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Kind = Literal["number", "string", "name", "operator", "end"]

_TOKEN = re.compile(
    r"""(?P<number>\d+(?:\.\d+)?)
      | (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
      | (?P<name>[^\W\d]\w*|\$[\w$]*)
      | (?P<operator>\?\?|&&|\|\||==|!=|>=|<=|//|[.\[\]{}:,()?+\-*/%^<>!])""",
    re.VERBOSE | re.DOTALL,
)
_SPACE = re.compile(r"\s*")


class ExpressionError(ValueError):
    """The text is not a valid expression, or it grew past a bound. `offset` counts characters from 0."""

    def __init__(self, problem: str, offset: int) -> None:
        super().__init__(f"{problem} (at character {offset + 1})")
        self.problem = problem
        self.offset = offset


class Token(NamedTuple):
    """One lexical unit; `text` is as written."""

    kind: Kind
    text: str
    offset: int

    @property
    def shown(self) -> str:
        """What an error message calls it."""
        return "the end" if self.kind == "end" else f"`{self.text}`"


def tokenize(text: str) -> list[Token]:
    """Split `text` into tokens; the last one is always `end`."""
    tokens: list[Token] = []
    at = _end_of_space(text, 0)
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            problem = "the string is not closed" if text[at] in "\"'" else f"unexpected character `{text[at]}`"
            raise ExpressionError(problem, at)
        kind: Kind = match.lastgroup  # type: ignore[assignment]  # the group names are the kinds
        tokens.append(Token(kind, match.group(), at))
        at = _end_of_space(text, match.end())
    tokens.append(Token("end", "", len(text)))
    return tokens


def unquote(literal: str) -> str:
    """Read a string literal. As in JEXL, only the quote itself and the backslash can be escaped."""
    quote = literal[0]
    return literal[1:-1].replace("\\" + quote, quote).replace("\\\\", "\\")


def _end_of_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
