"""Who calls when a reverse proxy stands in front: `X-Forwarded-For`, believed only from proxies that are trusted. Pure.

Nothing else is read from such headers: never a host and never a scheme, for addresses of this hub come from its
configuration alone (rule O8).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


def client_of(peer: str, headers: Iterable[tuple[bytes, bytes]], trusted: Sequence[Network]) -> str:
    """The address of the caller: the last one in the chain of proxies that no trusted proxy has.

    Each proxy appends the address that it saw, so the list is read from its end, and whatever a caller wrote before
    reaching the first trusted proxy is never looked at. What is no address ends the walk at the hop before.
    """
    nearest = _parse(peer)
    if nearest is None or not _is_trusted(nearest, trusted):
        return peer
    chain = b",".join(value for name, value in headers if name == b"x-forwarded-for")
    if not chain:
        return peer
    for hop in reversed(chain.split(b",")):
        address = _parse(hop.decode("latin-1").strip())
        if address is None:
            break
        nearest = address
        if not _is_trusted(address, trusted):
            break
    return str(nearest)


def _is_trusted(address: Address, trusted: Sequence[Network]) -> bool:
    return any(address in network for network in trusted)


def _parse(text: str) -> Address | None:
    """An address, also `a:port` and `[a]:port` as some proxies write it. IPv4 inside IPv6 counts as what it is."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.scope_id is not None:  # the name of an interface says nothing beyond the host that wrote it
            return None
    return address
