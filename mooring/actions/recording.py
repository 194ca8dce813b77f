"""Turn a run into a test beside its action: the provider's answers, cut down and without secrets, and what came of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import yaml

from mooring import errors
from mooring.actions import trial
from mooring.actions.live import Shown
from mooring.connectors.actions import Action
from mooring.connectors.definition import Connector
from mooring.connectors.file_writing import dumped

_LONGEST: Final = 200  # characters of a text that is kept


async def recorded(
    connector: Connector,
    action: Action,
    given: Mapping[str, Any],
    exchanges: Sequence[Shown],
    *,
    name: str | None = None,
    items: int = 2,
) -> dict[str, Any]:
    """The test of one run, as it stands in a file. Lists of answers keep `items` entries, long texts their beginning.

    What is expected is found by playing the cut answers back, so the test passes as it is written.
    """
    replies = [_reply(exchange, items, alone=len(exchanges) == 1) for exchange in exchanges]
    test: dict[str, Any] = {}
    if name:
        test["name"] = name
    if given:
        test["input"] = dict(given)
    test["replies"] = replies
    seen = await trial.play(connector, action, test)
    expect = {aspect: seen[aspect] for aspect in ("data", "error") if seen[aspect] is not None}
    if action.paged and seen["error"] is None:
        expect["next"] = bool(seen["next"])
    test["expect"] = {**expect, "requests": seen["requests"]}
    return test


def _reply(exchange: Shown, items: int, *, alone: bool) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if not alone:
        out["match"] = f"{exchange.method} {exchange.target.partition('?')[0]}"
    if exchange.status != 200:
        out["status"] = exchange.status
    kept = {n: v for n, v in exchange.answer_headers if n in {"link", "location", "retry-after"}}
    if "next" not in kept.get("link", ""):  # RFC 8288: other links lead to documentation and the like
        kept.pop("link", None)
    if isinstance(exchange.answer, str):
        kept["content-type"] = dict(exchange.answer_headers).get("content-type", "text/plain")
    if kept:
        out["headers"] = kept
    if exchange.answer is not None:
        out["body"] = _cut(exchange.answer, items)
    return out


def _cut(value: Any, items: int) -> Any:
    if isinstance(value, list):
        return [_cut(v, items) for v in value[:items]]
    if isinstance(value, dict):
        return {k: _cut(v, items) for k, v in value.items()}
    if isinstance(value, str) and len(value) > _LONGEST:
        return value[:_LONGEST]
    return value


def as_yaml(test: Mapping[str, Any], indent: int) -> str:
    """The test as one entry of a list, indented."""
    text = dumped([dict(test)])
    return "".join(" " * indent + line if line.strip() else line for line in text.splitlines(keepends=True))


def inserted(text: str, action: str, test: Mapping[str, Any]) -> str:
    """The file's text with the test beside its action; all else stays as it was written.

    Raises Unprocessable where the action is written in one line, or is not in this file.
    """
    node = _find(yaml.compose(text, Loader=yaml.SafeLoader), "actions")
    node = _find(node, action) if node is not None else None
    if not isinstance(node, yaml.MappingNode):
        raise errors.Unprocessable(f"the action {action!r} does not stand in this file under `actions`")
    tests = _find(node, "tests")
    if node.flow_style or (isinstance(tests, yaml.SequenceNode) and tests.flow_style):
        raise errors.Unprocessable(
            f"the action {action!r} or its tests are written in one line (with braces)",
            hint="Put each key on a line of its own, or paste the test by hand.",
        )
    lines = text.splitlines(keepends=True)
    indent = node.start_mark.column
    block = tests if isinstance(tests, yaml.SequenceNode) else node
    end = _last_line(lines, block.end_mark.line)
    if not isinstance(tests, yaml.SequenceNode):
        entry = " " * indent + "tests:\n" + as_yaml(test, indent + 2)
    else:
        entry = as_yaml(test, tests.start_mark.column)
    if end and not lines[end - 1].endswith("\n"):
        lines[end - 1] += "\n"
    return "".join([*lines[:end], entry, *lines[end:]])


def _find(node: yaml.Node | None, key: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if name.value == key:
                return value if isinstance(value, yaml.Node) else None
    return None


def _last_line(lines: Sequence[str], end: int) -> int:
    """The block ends where the next token stands; blank lines and comments between belong to what follows."""
    end = min(end, len(lines))
    while end and re.fullmatch(r"\s*(#.*)?\s*", lines[end - 1]):
        end -= 1
    return end
