"""The hand-made `.s1.yaml` connectors of the tests, pointed at a provider."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

FILES = Path(__file__).with_name("files")


def place_samples(folder: Path, base: str) -> None:
    """Copy every sample connector into its folder below `folder`."""
    for source in FILES.glob("*/*.yaml"):
        target = folder / source.parent.name / source.name
        target.parent.mkdir(exist_ok=True)
        text = source.read_text(encoding="utf-8")
        target.write_text(text.replace("@BASE@", base).replace("@HOST@", urlsplit(base).netloc), encoding="utf-8")
