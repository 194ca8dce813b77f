"""Decide whether a URL may be called, and pin the address that was checked (rules P3, P4).

Nothing outside asks DNS or trusts a host: `EgressGuard.check` turns a URL into a `Target`, and only a
`Target` is connected to. Everything is refused that is not plainly public, so a new special range fails
closed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import idna

from mooring.errors import ConfigurationError, EgressBlocked

DNS_DEADLINE = 5.0
CACHE_SECONDS = 30.0
CACHE_ENTRIES = 4096

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# IANA IPv4 special-purpose registry, whole blocks, plus multicast and the reserved top. `ipaddress.is_global`
# is not used: it differs between Python releases and lets relays and multicast through.
_IPV4_CLOSED = tuple(
    ipaddress.IPv4Network(block)
    for block in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host agent, inside a public block
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# Only global unicast is open, so mapped, translated (NAT64), unique local, link-local and multicast fall
# outside.
_IPV6_OPEN = ipaddress.IPv6Network("2000::/3")
_IPV6_CLOSED = tuple(
    ipaddress.IPv6Network(block)
    for block in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarking, anycast
        "2001:db8::/32",
        "2002::/16",  # 6to4 carries an IPv4 address, private ones too
        "2620:4f:8000::/48",
        "3fff::/20",
    )
)

_AUTHORITY_END = re.compile(r"[/?#]")
_UNSAFE = re.compile(r"[\x00-\x20\x7f-\xa0\u1680\u2000-\u200f\u2028-\u202f\u205f-\u2064\u3000\ufeff]")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_QUAD = re.compile(r"(?:(?:0|[1-9][0-9]{0,2})\.){3}(?:0|[1-9][0-9]{0,2})")
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_DOT_SEGMENT = re.compile(r"(?:^|/)(?:\.|%2e){1,2}(?=/|$)", re.IGNORECASE)

# What the URL parser underneath would encode. Doing it here keeps the sent URL known to code that signs
# requests.
PATH_ESCAPES = str.maketrans({char: f"%{ord(char):02X}" for char in '"<>`{}'})
QUERY_ESCAPES = str.maketrans({char: f"%{ord(char):02X}" for char in "\"<>'\\"})

# What stands before the path of URLs that passed all rules.
_origins: dict[str, tuple[str, str, int, str]] = {}


class DnsFailure(Exception):
    """The name has no address, or DNS did not answer in time. The message names the host."""


@dataclass(frozen=True, slots=True)
class Target:
    """A checked origin and the one address to connect to."""

    scheme: str
    host: str
    port: int
    ip: str
    origin: str


class SplitUrl(NamedTuple):
    """A URL whose parts passed the syntax rules; `host` is ASCII, lower-case and without brackets."""

    scheme: str
    host: str
    port: int
    origin: str
    """Scheme, host and port; the scheme's own port is left out."""
    rest: str
    """Path and query exactly as written; empty or starting with `/` or `?`."""


def is_public(ip: str | Address) -> bool:
    """Tell whether an address lies in public unicast space; anything unparsable is not public."""
    if isinstance(ip, str):
        try:
            ip = ipaddress.ip_address(ip)
        except ValueError:
            return False
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in block for block in _IPV4_CLOSED)
    if ip.scope_id is not None:
        return False
    return ip in _IPV6_OPEN and not any(ip in block for block in _IPV6_CLOSED)


def normalise_host(text: str) -> str:
    """Return the host in its one ASCII form; raise ValueError with the reason if it is spelled otherwise.

    libc and URL parsers read `127.1`, `0x7f.1`, `2130706433` and circled digits as addresses, each a little
    differently. Only the canonical dotted quad and bracketed IPv6 are addresses here.
    """
    if text.startswith("["):
        if not text.endswith("]") or "%" in text:
            raise ValueError("the IPv6 address is malformed or has a zone id")
        try:
            return str(ipaddress.IPv6Address(text[1:-1]))
        except ValueError:
            raise ValueError("the IPv6 address is malformed") from None
    host = text.lower() if text.isascii() else _to_ascii(text)
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("the host name is malformed")
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        if not _QUAD.fullmatch(host) or any(int(label) > 255 for label in labels):
            raise ValueError("the IPv4 address is not written as four decimal numbers")
        return host
    for label in labels:
        if label.startswith("xn--"):
            try:
                idna.ulabel(label)
            except idna.IDNAError:
                raise ValueError("the host name is not valid IDNA") from None
    return host


def _to_ascii(text: str) -> str:
    # idna reads these as dots, which would let an address be assembled after the checks on the text.
    if any(dot in text for dot in "\u3002\uff0e\uff61"):
        raise ValueError("the host name contains a character that only looks like a dot")
    try:
        # Strict IDNA 2008: no compatibility mapping, hence no fullwidth or circled digits.
        return idna.encode(text.lower()).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        raise ValueError("the host name is not valid IDNA") from None


def split_url(url: str) -> SplitUrl:
    """Take an absolute http(s) URL apart by strict rules; raise ValueError with the reason."""
    slash = url.find("/", 8)
    known = _origins.get(url[:slash]) if slash > 0 else None
    if known is not None and url.isascii() and url.isprintable() and " " not in url:
        # The part before the path passed all rules before. These look for less than the rules forbid.
        rest = url[slash:]
        path = rest.partition("?")[0]
        if "\\" not in path and "#" not in rest and "/." not in path and "/%2" not in path:
            return SplitUrl(*known, rest)
    return _split_thoroughly(url)


def _split_thoroughly(url: str) -> SplitUrl:
    if _UNSAFE.search(url):
        raise ValueError("the URL contains whitespace or control characters")
    scheme, separator, remainder = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in {"http", "https"}:
        raise ValueError("the URL is not an absolute http or https URL")
    end = _AUTHORITY_END.search(remainder)
    authority, rest = (remainder[: end.start()], remainder[end.start() :]) if end else (remainder, "")
    if "@" in authority:
        raise ValueError("the URL contains a user name or password")
    path = rest.partition("?")[0]
    if "\\" in authority or "\\" in path:
        raise ValueError("the URL contains a backslash")
    if "#" in rest:
        raise ValueError("the URL contains a fragment")
    if _DOT_SEGMENT.search(path):
        raise ValueError("the URL's path contains dot segments")
    host, given = _split_authority(authority)
    standard = 443 if scheme == "https" else 80
    port = given or standard
    shown = f"[{host}]" if ":" in host else host
    origin = f"{scheme}://{shown}" if port == standard else f"{scheme}://{shown}:{port}"
    if rest.startswith("/"):
        if len(_origins) >= CACHE_ENTRIES:
            _origins.clear()
        _origins[url[: len(url) - len(rest)]] = (scheme, host, port, origin)
    return SplitUrl(scheme, host, port, origin, rest)


def wire_url(parts: SplitUrl) -> str:
    """Return the URL byte for byte as it is sent.

    Percent escapes, their case and double escapes stay. Encoded are characters that RFC 3986 does not allow
    and the URL parser would encode anyway (`"<>` and, in a path, `` `{} ``; non-ASCII as UTF-8), plus `'` and
    `\\` in a query.
    """
    return parts.origin + wire_target(parts.rest)


def wire_target(written: str) -> str:
    """Return path and query as `wire_url` spells them."""
    path, mark, query = written.partition("?")
    rest = (path or "/").translate(PATH_ESCAPES) + mark + query.translate(QUERY_ESCAPES)
    if not rest.isascii():
        rest = "".join(char if char.isascii() else "".join(f"%{byte:02X}" for byte in char.encode()) for char in rest)
    return rest


@lru_cache(maxsize=4096)
def _split_authority(authority: str) -> tuple[str, int | None]:
    if authority.startswith("["):
        host, bracket, tail = authority.partition("]")
        host += bracket
    else:
        host, colon, tail = authority.partition(":")
        tail = colon + tail
    if not host:
        raise ValueError("the URL has no host")
    name = normalise_host(host)
    if not tail:
        return name, None
    if not tail.startswith(":") or not _PORT.fullmatch(tail[1:]) or int(tail[1:]) > 65535:
        raise ValueError("the port is not a number from 1 to 65535")
    return name, int(tail[1:])


def parse_allow(value: str) -> frozenset[tuple[str, int]]:
    """Read MOORING_EGRESS_ALLOW: comma separated exact `host:port`, IPv6 in brackets."""
    entries = set()
    for raw in value.split(","):
        entry = raw.strip()
        if not entry:
            continue
        try:
            host, port = _split_authority(entry)
        except ValueError as fault:
            raise ConfigurationError(_bad_entry(entry, str(fault))) from None
        if port is None:
            raise ConfigurationError(_bad_entry(entry, "the port is missing"))
        entries.add((host, port))
    return frozenset(entries)


def _bad_entry(entry: str, reason: str) -> str:
    return (
        f"MOORING_EGRESS_ALLOW has a bad entry {entry[:100]!a}: {reason}. "
        "Write exact host:port entries separated by commas, for example 127.0.0.1:4300,[::1]:4300."
    )


async def system_resolver(host: str, port: int) -> Sequence[str]:
    """Ask the operating system for every address of a name."""
    answers = await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_ADDRCONFIG
    )
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


@dataclass(frozen=True, slots=True)
class _Answer:
    ips: tuple[str, ...]
    expires: float


class EgressGuard:
    """Check URLs against the rules and remember, for at most 30 s, which checked address to use.

    `allow` lists exact (host, port) pairs that may be private and may use plain http.
    """

    def __init__(self, allow: frozenset[tuple[str, int]], resolver: Resolver | None = None) -> None:
        self.allow = allow
        self._resolver = resolver or system_resolver
        self._answers: dict[tuple[str, int], _Answer] = {}
        self._lookups: dict[tuple[str, int], asyncio.Task[tuple[str, ...]]] = {}
        self._targets: dict[str, tuple[Target, float]] = {}

    async def check(self, url: str) -> Target:
        """Return where to connect for this URL; raise EgressBlocked or DnsFailure."""
        return await self.check_parts(self.split(url), url)

    def split(self, url: str) -> SplitUrl:
        """Take the URL apart; raise EgressBlocked if its syntax is refused."""
        try:
            return split_url(url)
        except ValueError as fault:
            raise EgressBlocked(f"The address {_shown_host(url)} was refused: {fault}.") from None

    async def check_parts(self, parts: SplitUrl, url: str) -> Target:
        """Do the part of `check` that follows the syntax rules."""
        target = await self._checked(parts)
        answer = self._answers.get((target.host, target.port))
        until = answer.expires if answer is not None else asyncio.get_running_loop().time() + CACHE_SECONDS
        if len(self._targets) >= CACHE_ENTRIES:
            self._targets.pop(next(iter(self._targets)))
        self._targets[parts.origin] = (target, until)
        return target

    def known(self, parts: SplitUrl, now: float) -> Target | None:
        """Return what `check_parts` answered a moment ago, as long as it would answer the same.

        `now` is the loop's time.
        """
        found = self._targets.get(parts.origin)
        if found is None or found[1] <= now:
            return None
        return found[0]

    async def _checked(self, parts: SplitUrl) -> Target:
        host, port = parts.host, parts.port
        allowed = (host, port) in self.allow
        if parts.scheme == "http" and not allowed:
            raise EgressBlocked(f"The address {host}:{port} was refused: plain http is blocked.")
        # An allow entry means the host as it is written. `127.1` and the like never get here.
        if ":" in host or _QUAD.fullmatch(host):
            if not allowed and not is_public(host):
                raise EgressBlocked(f"The address {host}:{port} was refused: it is not a public address.")
            return Target(parts.scheme, host, port, host, parts.origin)
        ips = await self._resolve(host, port)
        return Target(parts.scheme, host, port, ips[0], parts.origin)

    def demote(self, target: Target) -> None:
        """Move an address that does not accept connections behind the name's other checked addresses."""
        key = (target.host, target.port)
        answer = self._answers.get(key)
        if answer is not None and len(answer.ips) > 1 and answer.ips[0] == target.ip:
            self._answers[key] = _Answer((*answer.ips[1:], target.ip), answer.expires)
            self._targets.pop(target.origin, None)

    async def _resolve(self, host: str, port: int) -> tuple[str, ...]:
        key = (host, port)
        known = self._answers.get(key)
        if known is not None and known.expires > asyncio.get_running_loop().time():
            return known.ips
        lookup = self._lookups.get(key)
        if lookup is None:
            lookup = asyncio.create_task(self._look_up(host, port, known))
            self._lookups[key] = lookup
            lookup.add_done_callback(lambda task: self._lookup_done(key, task))
        # One question for all waiters; a waiter that is cancelled must not take the answer from the others.
        return await asyncio.shield(lookup)

    def _lookup_done(self, key: tuple[str, int], task: asyncio.Task[tuple[str, ...]]) -> None:
        self._lookups.pop(key, None)
        if not task.cancelled():
            task.exception()

    async def _look_up(self, host: str, port: int, before: _Answer | None) -> tuple[str, ...]:
        try:
            async with asyncio.timeout(DNS_DEADLINE):
                found = tuple(await self._resolver(host, port))
        except TimeoutError:
            raise DnsFailure(f"DNS did not answer for {host} within {DNS_DEADLINE:g} s") from None
        except (OSError, UnicodeError):
            raise DnsFailure(f"DNS has no address for {host}") from None
        if not found:
            raise DnsFailure(f"DNS has no address for {host}")
        # One private answer among public ones is an attack or a mistake; both are refused (DNS rebinding).
        if (host, port) not in self.allow and not all(is_public(ip) for ip in found):
            raise EgressBlocked(f"The address {host}:{port} was refused: it resolves to an address that is not public.")
        # Staying on the address in use keeps its open connections.
        if before is not None and before.ips[0] in found:
            found = (before.ips[0], *(ip for ip in found if ip != before.ips[0]))
        self._remember((host, port), found)
        return found

    def _remember(self, key: tuple[str, int], ips: tuple[str, ...]) -> None:
        now = asyncio.get_running_loop().time()
        self._answers.pop(key, None)
        if len(self._answers) >= CACHE_ENTRIES:
            self._answers.pop(next(iter(self._answers)))
        self._answers[key] = _Answer(ips, now + CACHE_SECONDS)


def _shown_host(url: str) -> str:
    """Return the host part of a URL that could not be parsed, fit to be shown, without any user name."""
    authority = _AUTHORITY_END.split(url.partition("://")[2], maxsplit=1)[0].rpartition("@")[2]
    return ascii(authority[:100])[1:-1] or "(none)"
