"""One thing that the doctor looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was seen, and if it is not well: why it matters and what to do. Never holds a secret."""

    check: str
    severity: Severity
    seen: str
    why: str = ""
    fix: str = ""


def ok(check: str, seen: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", seen)


def warn(check: str, seen: str, why: str, fix: str) -> Finding:
    """It works, but somebody should look."""
    return Finding(check, "warn", seen, why, fix)


def fail(check: str, seen: str, why: str, fix: str) -> Finding:
    """Something is broken, or will be."""
    return Finding(check, "fail", seen, why, fix)
