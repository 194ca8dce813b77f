"""How much each attack does: little in `make test`, much in `make attack`, which sets MOORING_ATTACK_*."""

from __future__ import annotations

import os


def size(name: str, short: int) -> int:
    """The number behind MOORING_ATTACK_<name>, or the short form's."""
    return int(os.environ.get(f"MOORING_ATTACK_{name}") or short)


def long_form() -> bool:
    """Whether this is `make attack`."""
    sizes = {name for name, value in os.environ.items() if name.startswith("MOORING_ATTACK_") and value}
    return bool(sizes - {"MOORING_ATTACK_REPORT", "MOORING_ATTACK_SEED"})
