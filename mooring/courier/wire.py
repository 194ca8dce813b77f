"""Messages between a process and its courier: length-prefixed JSON over a Unix socket."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from mooring.kit.http import BufferedResponse, ClientIdentity, HttpFailure, OutboundRequest

MAX_MESSAGE = 4 << 20  # bytes; a token answer has at most 1 MiB
SOCKET_LIMIT = 100  # bytes; sockaddr_un holds 108


@dataclass(frozen=True, slots=True)
class Parcel:
    """What a request belongs to. The courier does not interpret it; the database's fence and generation do."""

    account_id: str
    project_id: str
    generation: int
    fence: int
    uncertain: bool = False  # an earlier request for this generation was sent, and its outcome is unknown


@dataclass(frozen=True, slots=True)
class Delivered:
    """An answer that the courier keeps until it is acknowledged."""

    number: int
    parcel: Parcel
    response: BufferedResponse = field(repr=False)
    at: float  # seconds since the epoch


def socket_path(data_dir: Path, tag: str = "courier") -> Path:
    """Where the courier of a data folder listens. A path that is too long for a socket moves to the temporary folder."""
    path = data_dir / f"{tag}.sock"
    if len(str(path).encode()) <= SOCKET_LIMIT:
        return path
    name = hashlib.sha256(str(data_dir).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"mooring-{name}" / f"{tag}.sock"


async def read_message(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """The next message, or None at the end. Raises ValueError or TypeError for a message that is none."""
    try:
        size = int.from_bytes(await reader.readexactly(4), "big")
        if size > MAX_MESSAGE:
            raise ValueError("the message is too large")
        found = orjson.loads(await reader.readexactly(size))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    if not isinstance(found, dict):
        raise TypeError("the message is not an object")
    return found


def pack(message: dict[str, Any]) -> bytes:
    """The bytes of a message."""
    body = orjson.dumps(message)
    return len(body).to_bytes(4, "big") + body


def pack_request(request: OutboundRequest) -> dict[str, Any]:
    """A request as JSON. Only buffered bodies travel."""
    body = request.body if isinstance(request.body, bytes) else b""
    return {
        "method": request.method,
        "url": request.url,
        "headers": [list(h) for h in request.headers],
        "body": base64.b64encode(body).decode(),
        "identity": list(request.identity) if request.identity is not None else None,
    }


def unpack_request(data: dict[str, Any]) -> OutboundRequest:
    """The request of `pack_request`."""
    headers = [(name, value) for name, value in data["headers"]]
    identity = ClientIdentity(*data["identity"]) if data.get("identity") else None
    return OutboundRequest(data["method"], data["url"], headers, base64.b64decode(data["body"]), identity=identity)


def pack_response(response: BufferedResponse) -> dict[str, Any]:
    """An answer as JSON."""
    return {
        "status": response.status,
        "headers": [list(h) for h in response.headers],
        "body": base64.b64encode(response.body).decode(),
        "elapsed_ms": response.elapsed_ms,
    }


def unpack_response(data: dict[str, Any]) -> BufferedResponse:
    """The answer of `pack_response`."""
    headers = [(name, value) for name, value in data["headers"]]
    return BufferedResponse(data["status"], headers, base64.b64decode(data["body"]), data["elapsed_ms"])


def pack_failure(failure: HttpFailure) -> dict[str, Any]:
    """A failed exchange as JSON."""
    return {"kind": failure.kind, "message": str(failure), "sent": failure.sent}


def unpack_failure(data: dict[str, Any]) -> HttpFailure:
    """The failure of `pack_failure`."""
    return HttpFailure(data["kind"], data["message"], sent=data["sent"])


def pack_parcel(parcel: Parcel) -> dict[str, Any]:
    """A parcel as JSON."""
    return asdict(parcel)


def pack_delivered(delivered: Delivered) -> dict[str, Any]:
    """A kept answer as JSON."""
    return {
        "number": delivered.number,
        "parcel": pack_parcel(delivered.parcel),
        "response": pack_response(delivered.response),
        "at": delivered.at,
    }


def unpack_delivered(data: dict[str, Any]) -> Delivered:
    """The kept answer of `pack_delivered`."""
    return Delivered(data["number"], Parcel(**data["parcel"]), unpack_response(data["response"]), data["at"])
