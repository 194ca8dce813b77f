"""Neutral logos: letters of the title on a coloured square. Vendors' own logos are not ours to ship."""

from __future__ import annotations

import colorsys
import re
import zlib
from html import escape
from typing import Final

_TEMPLATE: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64" role="img" aria-label="{title}">'
    '<rect width="64" height="64" rx="14" fill="{colour}"/>'
    '<text x="32" y="33" fill="#fff" font-family="system-ui, -apple-system, sans-serif" font-size="{size}" '
    'font-weight="600" text-anchor="middle" dominant-baseline="central">{letters}</text></svg>\n'
)


def monogram_svg(key: str, title: str) -> str:
    """Draw the monogram. The same key always gives the same colour, dark enough for white letters."""
    red, green, blue = colorsys.hls_to_rgb(zlib.crc32(key.encode()) % 360 / 360, 0.36, 0.55)
    letters = _letters(title)
    return _TEMPLATE.format(
        title=escape(title),
        colour=f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}",
        size=30 if len(letters) == 1 else 26,
        letters=escape(letters),
    )


def _letters(title: str) -> str:
    words: list[str] = re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])|[^\W_]+", title)
    if len(words) > 1:
        return (words[0][0] + words[1][0]).upper()
    return title.strip()[:2].capitalize()
