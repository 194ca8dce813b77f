"""docs/security/checklist.md names every rule once, and only files and tests that exist."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "security" / "checklist.md"
RULES = {"O": 24, "W": 10, "A": 8, "V": 8, "P": 12, "L": 5, "R": 19}
ROW = re.compile(r"^\| ([A-Z]\d+) \|(.*)\|$", re.MULTILINE)
ROWS = {
    rule: [cell.strip() for cell in rest.split("|")] for rule, rest in ROW.findall(PAGE.read_text(encoding="utf-8"))
}


@lru_cache
def names_in(path: Path) -> frozenset[str]:
    """The tests of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    )


def test_every_rule_has_one_row_and_no_row_has_another_rule() -> None:
    wanted = [f"{letter}{number}" for letter, most in RULES.items() for number in range(1, most + 1)]
    assert [rule for rule, _ in ROW.findall(PAGE.read_text(encoding="utf-8"))] == wanted


@pytest.mark.parametrize("rule", ROWS)
def test_a_row_names_files_and_tests_that_exist(rule: str) -> None:
    what, where, tests, state = ROWS[rule]
    assert what and state
    files = re.findall(r"`([^`]+)`", where)
    assert files and not [file for file in files if not (ROOT / file).exists()]
    assert re.sub(r"`[^`]+`|, ", "", where) == ""
    named = re.findall(r"`([^`]+)`", tests)
    for reference in named:
        file, separator, name = reference.partition("::")
        assert file.startswith("tests/") and (ROOT / file).is_file(), reference
        assert not separator or name in names_in(ROOT / file), reference
    assert re.sub(r"`[^`]+`|, ", "", tests) == ""
    if state == "met":
        assert named, "what is met is proven by a test"
    else:
        assert re.match(r"(partly|not met): \S", state), "what is missing is said"
