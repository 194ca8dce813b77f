"""What was noticed while a `.s1.yaml` connector was read: faults, and what was understood although it is not written so."""

from __future__ import annotations

from dataclasses import dataclass, field

from mooring.connectors.problem import Problem
from mooring.connectors.s1.bundle import Bundle
from mooring.connectors.yaml_source import Location


@dataclass
class Notes:
    """Collects faults and warnings with their places. In strict mode a leniency is a fault."""

    bundle: Bundle
    strict: bool = False
    faults: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def fault(self, at: Location, message: str, *, on_key: bool = False) -> None:
        """Note what makes the file unusable in either mode."""
        self._add(self.faults, at, message, on_key=on_key)

    def lenient(self, at: Location, message: str, *, on_key: bool = False) -> None:
        """Note what is wrong by the format's rules but understood."""
        self._add(self.faults if self.strict else self.warnings, at, message, on_key=on_key)

    def warn(self, at: Location, message: str, *, on_key: bool = False) -> None:
        """Note what is right by the format's rules and yet works otherwise here, or not at all."""
        self._add(self.warnings, at, message, on_key=on_key)

    def _add(self, to: list[Problem], at: Location, message: str, *, on_key: bool) -> None:
        problem = self.bundle.problem(at, message, on_key=on_key)
        if problem not in to:
            to.append(problem)
