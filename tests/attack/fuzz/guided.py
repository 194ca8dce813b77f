"""Fuzz one target with atheris, guided by coverage: `python -m tests.attack.fuzz.guided NAME SECONDS FOLDER`.

Atheris is no dependency of ours: `run.py` installs it into a folder of its own where it can. FOLDER keeps the corpus and
what crashed. Prints libFuzzer's own figures; ends with another code than 0 when something was found.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

# Atheris 2.3 kills the interpreter in the instrumented form of this one; what it calls still guides.
with atheris.instrument_imports(include=["mooring"], exclude=["mooring.protocol.urls"]):
    from tests.attack.fuzz import targets

from tests.attack.fuzz.seeds import SEEDS


def main() -> None:
    """Run it."""
    name, seconds, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    corpus = folder / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=10", "-rss_limit_mb=1024"]
    options += [f"-artifact_prefix={folder}/{name}-", "-print_final_stats=1", "-verbosity=1"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], targets.TARGETS[name])
    atheris.Fuzz()


main()
