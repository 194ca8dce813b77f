"""Whose address counts behind proxies: nobody but a trusted one is believed, however the chain was forged."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from mooring.kit.forwarding import client_of

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("127.0.0.1/32"), ip_network("fd00::/8"))

CHAINS = [
    ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # a stranger says what he likes
    ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
    ("10.0.0.1", "198.51.100.1, 10.0.0.7", "198.51.100.1"),  # two proxies of ours
    ("10.0.0.1", "127.0.0.1, 198.51.100.1", "198.51.100.1"),  # forged in front of what the proxy saw
    ("10.0.0.1", "1.1.1.1, 198.51.100.1, 10.0.0.7", "198.51.100.1"),
    ("10.0.0.1", "10.0.0.5", "10.0.0.5"),  # a caller inside the trusted network
    ("10.0.0.1", "unknown", "10.0.0.1"),
    ("10.0.0.1", "198.51.100.1, unknown", "10.0.0.1"),  # what stands before it came from nobody knows where
    ("10.0.0.1", "", "10.0.0.1"),
    ("10.0.0.1", None, "10.0.0.1"),
    ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
    ("10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
    ("10.0.0.1", "2001:DB8::1", "2001:db8::1"),
    ("10.0.0.1", "fe80::1%eth0", "10.0.0.1"),
    ("10.0.0.1", "198.51.100.1\t", "198.51.100.1"),
    ("10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
    ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),  # a socket for both families
    ("fd00::1", "2001:db8::1", "2001:db8::1"),
    ("10.0.0.1", "198.51.100.1\x00", "10.0.0.1"),
]


@pytest.mark.parametrize(("peer", "chain", "caller"), CHAINS)
def test_the_last_address_that_no_trusted_proxy_has(peer: str, chain: str | None, caller: str) -> None:
    headers = [] if chain is None else [(b"x-forwarded-for", chain.encode())]
    assert client_of(peer, [(b"host", b"hub"), *headers], TRUSTED) == caller


def test_lines_of_one_header_are_one_list() -> None:
    headers = [
        (b"x-forwarded-for", b"127.0.0.1"),
        (b"x-forwarded-for", b"198.51.100.1"),
        (b"x-forwarded-for", b"10.1.1.1"),
    ]
    assert client_of("10.0.0.1", headers, TRUSTED) == "198.51.100.1"


def test_no_other_header_is_read() -> None:
    headers = [
        (b"forwarded", b"for=198.51.100.1"),
        (b"x-real-ip", b"198.51.100.1"),
        (b"cf-connecting-ip", b"198.51.100.1"),
        (b"x-client-ip", b"198.51.100.1"),
    ]
    assert client_of("10.0.0.1", headers, TRUSTED) == "10.0.0.1"
