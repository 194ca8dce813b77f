"""The hand-made `.s1.yaml` connectors of the tests, pointed at a provider."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

FILES = Path(__file__).with_name("files")


def place_samples(folder: Path, base: str, scripted: str = "http://127.0.0.1:8091") -> None:
    """Copy every sample connector into its folder below `folder`. `scripted` is a provider that a test plays itself."""
    for source in FILES.glob("*/*.yaml"):
        target = folder / source.parent.name / source.name
        target.parent.mkdir(exist_ok=True)
        text = source.read_text(encoding="utf-8")
        for mark, value in (("@BASE@", base), ("@HOST@", urlsplit(base).netloc), ("@SCRIPTED@", scripted)):
            text = text.replace(mark, value)
        target.write_text(text, encoding="utf-8")
