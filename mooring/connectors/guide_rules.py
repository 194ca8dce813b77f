"""What a connection guide must hold. `mooring connectors check` tells every fault with its line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable

from mooring.connectors.definition import Connector
from mooring.connectors.guides import METHOD_HEADING, PERMISSIONS, SECTIONS, slug
from mooring.connectors.problem import Problem

_HEADING = re.compile(r"^(#{1,6}) +(.*?)\s*$")
_LINK = re.compile(r"\]\(#([^)\s]+)\)")


def guide_problems(connector: Connector, file: str) -> list[Problem]:
    """Every fault of a connector's guide, or the one that there is none."""
    text = connector.guide
    if text is None:
        return [
            Problem(
                file,
                1,
                1,
                f"`{connector.key}` has no guide; write {connector.key}.md beside it, see docs/connectors.md",
            )
        ]
    lines = _without_code(text.splitlines())
    headings = [(n, len(m[1]), m[2]) for n, line in enumerate(lines, 1) if (m := _HEADING.match(line))]
    out: list[Problem] = []

    def fault(line: int, message: str) -> None:
        out.append(Problem(file, line, 1, message))

    if not headings or headings[0][1] != 1:
        fault(1, f"a guide begins with `# {connector.title}`")
    second = {title: n for n, level, title in headings if level == 2}
    for title in SECTIONS:
        if title not in second:
            fault(1, f"the section `## {title}` is missing")
    for title, n in second.items():
        if title not in SECTIONS:
            near = difflib.get_close_matches(title, SECTIONS, 1)
            fault(
                n,
                f"unknown section `{title}`"
                + (f"; did you mean `{near[0]}`?" if near else f"; there are {', '.join(SECTIONS)}"),
            )
    _methods(connector, text, fault)
    for (n, level, title), following in zip(headings, [*headings[1:], None], strict=True):
        end = following[0] - 1 if following else len(lines)
        deeper = following is not None and following[1] > level
        if level > 1 and not deeper and not any(line.strip() for line in lines[n:end]):
            fault(n, f"nothing stands below `{title}`")
    known = {slug(title) for _, _, title in headings} | {slug(m.label) for m in connector.auth.values()}
    for n, line in enumerate(lines, 1):
        for target in _LINK.findall(line):
            if target not in known:
                fault(n, f"`#{target}` leads to no heading")
    if PERMISSIONS not in text:
        fault(
            second.get("Permissions", 1),
            f"Permissions needs `{PERMISSIONS}`, where scopes come from the file",
        )
    return sorted(out)


def _methods(connector: Connector, text: str, fault: Callable[[int, str], None]) -> None:
    told = {found[1]: text.count("\n", 0, found.start()) + 1 for found in METHOD_HEADING.finditer(text)}
    for key, n in told.items():
        if key not in connector.auth:
            fault(n, f"there is no auth method `{key}`; there are {', '.join(connector.auth)}")
    for key in connector.auth:
        if key not in told:
            fault(1, f"the steps of the auth method `{key}` are missing; write `### {{{key}}}` below Steps")


def _without_code(lines: list[str]) -> list[str]:
    out, fenced = [], False
    for line in lines:
        if line.startswith("```"):
            fenced = not fenced
        out.append("" if fenced and line.startswith("#") else line)
    return out
