"""Bodies of which only the beginning is at hand."""

from __future__ import annotations

import zlib


def gunzip(body: bytes, limit: int) -> tuple[bytes, bool]:
    """At most `limit` bytes of what a gzip body holds, and whether that is all of it. Raises ValueError for no gzip."""
    unpacking = zlib.decompressobj(wbits=31)
    try:
        return unpacking.decompress(body, limit), unpacking.eof
    except zlib.error as e:
        raise ValueError(str(e)) from None
