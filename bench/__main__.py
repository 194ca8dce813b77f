"""`python -m bench`: start everything on loopback, measure, print the table."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from bench import report
from bench.load import BadAnswers
from bench.measures import MEASURES, Plan, measure
from tests.servers.process import ServerError

HERE = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "RESULTS.md"


def main() -> int:
    """Run and return the exit code: 0 when everything was measured, whatever the numbers are."""
    options = _options()
    plan = Plan(
        rounds=options.rounds or (2 if options.quick else 5),
        seconds=options.seconds or (2 if options.quick else 5),
        measures=tuple(options.only or MEASURES),
        postgres=not (options.sqlite or options.quick),
        against=options.against,
    )
    # A terminated run has to stop its servers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begun = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - begun:4.0f} s] {line}", file=sys.stderr, flush=True)

    others = os.getloadavg()[0]
    say(f"load average before the run: {others:.1f}")
    try:
        with tempfile.TemporaryDirectory(prefix="mooring-bench-") as folder:
            results = measure(plan, Path(folder), HERE, say)
    except KeyboardInterrupt:
        say("interrupted; everything is stopped")
        return 130
    except (ServerError, BadAnswers) as e:
        print(f"bench: {e}", file=sys.stderr)
        return 1
    tables = report.render(results, plan)
    print(tables)
    if options.write:
        shown = " ".join(["python -m bench", *(a for a in sys.argv[1:] if a != "--write")])
        RESULTS.write_text(report.document(tables, shown, others))
        say(f"wrote {RESULTS.relative_to(HERE)}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Mooring beside nginx in one run.")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 2 s, SQLite alone")
    parser.add_argument("--only", action="append", choices=MEASURES, metavar="NAME", help=", ".join(MEASURES))
    parser.add_argument("--sqlite", action="store_true", help="leave PostgreSQL out")
    parser.add_argument("--rounds", type=int, help="rounds per measure (5)")
    parser.add_argument("--seconds", type=int, help="seconds per run (5)")
    parser.add_argument("--against", type=Path, metavar="DIR", help="measure another source tree in the same rounds")
    parser.add_argument("--write", action="store_true", help="write bench/RESULTS.md")
    options = parser.parse_args()
    if options.against is not None:
        options.against = options.against.resolve()
        if not (options.against / "mooring").is_dir():
            parser.error("--against: this folder has no mooring/ in it")
    return options


if __name__ == "__main__":
    sys.exit(main())
