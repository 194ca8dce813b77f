"""Faults of connector files, with their places."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from mooring.errors import ConfigurationError


class Problem(NamedTuple):
    """One fault of a file. Line and column count from 1."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


class ConnectorFileError(ConfigurationError):
    """One or more connector files are wrong; the message has one line per fault."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))
