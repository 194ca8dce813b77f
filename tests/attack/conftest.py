"""Figures of the attacks: printed in `make attack`, and kept in the file that MOORING_ATTACK_REPORT names."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Say what was measured."""

    def say(line: str) -> None:
        print(f"\n[{request.node.name}] {line}")
        if name := os.environ.get("MOORING_ATTACK_REPORT"):
            with Path(name).open("a") as file:
                file.write(f"{request.node.name}: {line}\n")

    return say
