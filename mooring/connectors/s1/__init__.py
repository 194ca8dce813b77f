"""The front end for `.s1.yaml` connector files: read as they are, compiled into the same internal forms as our own."""

from __future__ import annotations

from typing import Final

SUFFIX: Final = ".s1.yaml"
"""How the name of a connector's main file ends."""
PARTIAL: Final = ".s1.partial.yaml"
"""How the name of a file with some of its actions ends."""
