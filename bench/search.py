"""`python -m bench.search`: how many natural queries find a right action among five. `--misses` shows the others."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from mooring.actions.search import Index
from mooring.connectors.actions import Action
from mooring.connectors.registry import load_registry

QUERIES = Path(__file__).with_name("search.yaml")
TOP = 5


@dataclass(frozen=True)
class Found:
    """One query, what would be right, and what came."""

    query: str
    right: frozenset[str]
    came: tuple[str, ...]

    @property
    def rank(self) -> int | None:
        """Where the first right one stands, from 1; None beyond the first five."""
        return next((n for n, name in enumerate(self.came, 1) if name in self.right), None)


def measure() -> tuple[list[Found], int, float]:
    """Ask everything; also how many actions there are, and the milliseconds of one query."""
    registry = load_registry()
    index = Index.of(list(registry.values()))
    actions = {
        f"{c.key}/{a.key}"
        for c in registry.values()
        for a in c.actions.values()
        if isinstance(a, Action) and not a.internal
    }
    out: list[Found] = []
    began = time.perf_counter()
    for connector, queries in yaml.safe_load(QUERIES.read_text(encoding="utf-8")).items():
        for query, names in queries.items():
            right = frozenset(f"{connector}/{name}" for name in names)
            if not right & actions:
                raise SystemExit(f"{query!r} names no action of {connector}")
            hits = index.search(query, connector=None, top=TOP, least=0.0)
            out.append(Found(query, right, tuple(f"{hit.connector.key}/{hit.action.key}" for hit in hits)))
    return out, len(actions), (time.perf_counter() - began) / len(out) * 1000


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.search", description=__doc__)
    parser.add_argument("--misses", action="store_true")
    options = parser.parse_args()
    found, actions, spent = measure()
    ranks = [f.rank for f in found]
    recall = sum(r is not None for r in ranks) / len(found)
    print(f"{len(found)} queries over {actions} actions of the catalogue, no connector given")
    print(f"recall@5  {recall:.3f}  (line 0.85, {'met' if recall >= 0.85 else 'MISSED'})")
    print(f"recall@1  {sum(r == 1 for r in ranks) / len(found):.3f}")
    print(f"MRR       {sum(1 / r for r in ranks if r) / len(found):.3f}")
    print(f"{spent:.1f} ms for each query")
    if options.misses:
        for one in found:
            if one.rank is None:
                print(f"- {one.query!r} -> {', '.join(one.came)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
