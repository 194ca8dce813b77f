"""Bodies of requests: forms, multipart forms and the bytes of files. Pure."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus

import orjson

from mooring import errors
from mooring.connectors.actions import ActionRequest
from mooring.protocol.expression_values import to_text
from mooring.protocol.expressions import UNDEFINED

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
BYTES = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart form (RFC 7578); with a file name it is a file."""

    name: str
    content: bytes
    filename: str | None = None
    content_type: str | None = None


def encoded(request: ActionRequest, content: Any) -> tuple[bytes, str]:
    """The body of a request as its `send_as` says, and its content type. Raises Unprocessable for what does not fit."""
    if request.send_as == "file":
        file = content if isinstance(content, Mapping) else {"file": content}
        if request.files and request.files[0] in file:  # of inputs alone
            file = {"file": file[request.files[0]]}
        return decoded(file.get("file")), _line(file.get("type")) or BYTES
    if isinstance(content, str):
        return content.encode(), FORM if request.send_as == "form" else JSON
    if request.send_as == "json":
        return orjson.dumps(content), JSON
    if not isinstance(content, Mapping):
        raise errors.Unprocessable("a form is made of named values, and was given something else")
    if request.send_as == "form":
        return form(content), FORM
    parts: list[Part] = []
    for name, value in content.items():
        for one in value if isinstance(value, list) else [value]:
            if one is None or one is UNDEFINED:
                continue
            parts.append(_part(str(name), one, is_file=name in request.files))
    return multipart(parts)


def _part(name: str, value: Any, *, is_file: bool) -> Part:
    if is_file:
        value = {"file": value}
    if not isinstance(value, Mapping):
        return Part(name, to_text(value).encode())
    if "file" not in value:
        return Part(name, orjson.dumps(value), None, JSON)
    filename = value.get("name")
    return Part(name, decoded(value["file"]), str(filename) if filename else "file", _line(value.get("type")) or BYTES)


def _line(value: Any) -> str | None:
    """A content type. Raises Unprocessable for one with a line break or letters that no header holds."""
    if value is None or value is UNDEFINED:
        return None
    kind = str(value)
    if not kind.isascii() or not kind.isprintable():
        raise errors.Unprocessable("the type of the file is not a content type such as application/pdf")
    return kind


def text(value: Any) -> str:
    """A value as it stands in a query, a header or a form."""
    return orjson.dumps(value).decode() if isinstance(value, dict) else to_text(value)


def form(value: Any) -> bytes:
    """A form with nested names: `a[b]=1&c[0]=2`."""
    return "&".join(f"{quote(name, safe='[]')}={quote_plus(item)}" for name, item in flat(value)).encode()


def flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The fields of a form with their nested names."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from flat(item, f"{name}[{key}]" if name else str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from flat(item, f"{name}[{index}]" if name else str(index))
    elif value is not UNDEFINED and value is not None:
        yield name, to_text(value)


def multipart(parts: Sequence[Part]) -> tuple[bytes, str]:
    """A multipart form, and its content type."""
    boundary = secrets.token_hex(16)
    out = bytearray()
    for part in parts:
        name = f'; filename="{_quoted(part.filename)}"' if part.filename is not None else ""
        out += f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(part.name)}"{name}\r\n'.encode()
        if part.content_type is not None:
            out += f"Content-Type: {part.content_type}\r\n".encode()
        out += b"\r\n" + part.content + b"\r\n"
    out += f"--{boundary}--\r\n".encode()
    return bytes(out), f"multipart/form-data; boundary={boundary}"


def _quoted(value: str) -> str:
    return value.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


_URL_SAFE = str.maketrans("-_", "+/")


def decoded(value: Any) -> bytes:
    """The bytes of a base64 text, of either alphabet, padded or not. Raises Unprocessable."""
    if not isinstance(value, str):
        raise errors.Unprocessable("the content of the file is missing; give it as base64")
    try:
        bare = "".join((value.partition(";base64,")[2] or value).split()).translate(_URL_SAFE).rstrip("=")
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except ValueError:
        raise errors.Unprocessable("the content of the file is not base64") from None
