"""Which addresses may call: single ones, ranges, and networks in CIDR notation (contract §1). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
    summarize_address_range,
)
from typing import Final

from mooring import errors

Network = IPv4Network | IPv6Network
MAX_ENTRIES: Final = 100


def parse_entry(text: str) -> tuple[Network, ...]:
    """The networks of one entry. Raises ValueError with the rest of the sentence."""
    first, dash, last = (part.strip() for part in text.partition("-"))
    try:
        if not dash:
            return (ip_network(first, strict=True),)
        low, high = ip_address(first), ip_address(last)
    except ValueError as e:
        if "host bits" in str(e):
            raise ValueError(f"{text[:60]!r} is no network: its address has bits beyond the prefix") from None
        raise ValueError(f"{text[:60]!r} is no address, range (a-b) or network (a/n)") from None
    if isinstance(low, IPv4Address) and isinstance(high, IPv4Address) and low <= high:
        return tuple(summarize_address_range(low, high))
    if isinstance(low, IPv6Address) and isinstance(high, IPv6Address) and low <= high:
        return tuple(summarize_address_range(low, high))
    raise ValueError(f"{text[:60]!r} is no range: both ends must be of one kind, the lower one first")


def clean(entries: Iterable[str]) -> list[str]:
    """The entries as they are kept. Raises ValidationFailed with every fault."""
    kept = [" ".join(entry.split()) for entry in entries if entry.strip()]
    faults = [] if len(kept) <= MAX_ENTRIES else [f"ip_allowlist: at most {MAX_ENTRIES} entries"]
    for entry in kept:
        try:
            parse_entry(entry)
        except ValueError as e:
            faults.append(f"ip_allowlist: {e}")
    if faults:
        raise errors.ValidationFailed("the list of addresses is not valid", errors=faults)
    return list(dict.fromkeys(kept))


def parse_networks(entries: Sequence[str]) -> tuple[Network, ...]:
    """The networks of entries that `clean` accepted."""
    return _parsed(tuple(entries))


@lru_cache(maxsize=1000)
def _parsed(entries: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(network for entry in entries for network in parse_entry(entry))


def contains(networks: Iterable[Network], address: str | None) -> bool:
    """Whether an address lies in one of the networks. An IPv4 address inside an IPv6 one counts as what it is."""
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in networks)
