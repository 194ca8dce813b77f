"""A TCP link on loopback that can be made faulty: `python toxic.py LISTEN_PORT UPSTREAM_PORT`.

LISTEN_PORT + 1 is the control port: send one JSON object on one line, which replaces the faults in force, and
read one JSON line back (`connections`, `bytes`, `toxics`); the line `null` only reads. Faults, alone or
together, `{}` for a clean link ("answer" is what the upstream sends):
  {"latency": 0.2, "jitter": 0.1}   seconds before each chunk, both ways
  {"rate": 1000}                    bytes per second of the answer
  {"slicer": 1}                     bytes per write of the answer
  {"cut_after": 100}                reset (RST) after that many bytes of a connection's answer
  {"blackhole": true}               take everything, pass nothing on
  {"refuse": true}                  close each new connection at once
"""

import asyncio
import contextlib
import json
import random
import socket
import struct
import sys
from dataclasses import dataclass, field
from typing import Any

HOST = "127.0.0.1"


@dataclass
class Link:
    """Hold the faults in force and what has passed."""

    upstream_port: int
    toxics: dict[str, Any] = field(default_factory=dict)
    connections: int = 0
    bytes: int = 0


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection with RST, as a crashed peer or a middlebox would."""
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def pump(link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool) -> None:
    """Pass bytes one way until either end closes or a fault cuts the link."""
    passed = 0
    with contextlib.suppress(OSError):
        while chunk := await reader.read(65536):
            toxics = link.toxics
            while link.toxics.get("blackhole"):
                await asyncio.sleep(0.05)
            if "latency" in toxics:
                await asyncio.sleep(toxics["latency"] + random.uniform(0, toxics.get("jitter", 0)))
            size = toxics.get("slicer", len(chunk)) if is_answer else len(chunk)
            for start in range(0, len(chunk), size):
                piece = chunk[start : start + size]
                if is_answer and "cut_after" in toxics and passed + len(piece) > toxics["cut_after"]:
                    # What the limit still allows goes out first, so the reader sees a truncated answer.
                    writer.write(piece[: max(0, toxics["cut_after"] - passed)])
                    await writer.drain()
                    await asyncio.sleep(0.02)
                    reset(writer)
                    return
                writer.write(piece)
                await writer.drain()
                passed += len(piece)
                link.bytes += len(piece)
                if is_answer and "rate" in toxics:
                    await asyncio.sleep(len(piece) / toxics["rate"])
    writer.close()


async def serve_connection(link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Join one client to the upstream."""
    link.connections += 1
    if link.toxics.get("refuse"):
        reset(writer)
        return
    try:
        up_reader, up_writer = await asyncio.open_connection(HOST, link.upstream_port)
    except OSError:
        reset(writer)
        return
    await asyncio.gather(pump(link, reader, up_writer, is_answer=False), pump(link, up_reader, writer, is_answer=True))


async def serve_control(link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Replace the faults by the object on the line, unless it is null, and tell what has passed."""
    wanted = json.loads(await reader.readline())
    if wanted is not None:
        link.toxics = wanted
    state = {"connections": link.connections, "bytes": link.bytes, "toxics": link.toxics}
    writer.write(json.dumps(state).encode() + b"\n")
    await writer.drain()
    writer.close()


async def main(listen_port: int, upstream_port: int) -> None:
    """Serve the link and its control port until killed."""
    link = Link(upstream_port)
    control = await asyncio.start_server(lambda r, w: serve_control(link, r, w), HOST, listen_port + 1)
    server = await asyncio.start_server(lambda r, w: serve_connection(link, r, w), HOST, listen_port)
    async with control, server:
        await asyncio.gather(control.serve_forever(), server.serve_forever())


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
