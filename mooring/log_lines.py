"""The last look at a line of the hub's log: one line of JSON whatever it says, and nothing like a secret in it (rule L1).

Nobody means to log a secret, and the callers' code keeps them out. This is for the day when one stands in the text of an
exception all the same.
"""

from __future__ import annotations

import json
import logging
from collections.abc import MutableMapping
from typing import Any, Final

from mooring.protocol.exchange import masked
from mooring.protocol.redact import REDACTED, is_sensitive

_LENGTH: Final = 20_000  # characters of one value; the trace of an exception is the longest
_OWN: Final = frozenset({"timestamp", "level", "head", "seal"})  # written by us alone, and long runs of hex
_DEPTH: Final = 6


def last_look(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask what stands under the name of a secret or looks like one. A processor of structlog."""
    for name, value in event.items():
        if name not in _OWN:
            event[name] = REDACTED if is_sensitive(name) else _clean(value, _DEPTH)
    return event


def _clean(value: Any, depth: int) -> Any:
    if isinstance(value, bool | int | float) or value is None:
        return value
    if isinstance(value, dict | list | tuple) and depth == 0:
        return REDACTED
    if isinstance(value, dict):
        return {
            str(name): REDACTED if is_sensitive(str(name)) else _clean(inner, depth - 1)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_clean(inner, depth - 1) for inner in value]
    return masked(str(value)[:_LENGTH])


class JsonLines(logging.Formatter):
    """Lines of libraries in the form of our own, whatever their message holds."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        line = {
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": masked(record.getMessage()[:_LENGTH]),
        }
        if record.exc_info:
            line["exception"] = masked(self.formatException(record.exc_info)[:_LENGTH])
        return json.dumps(line)
