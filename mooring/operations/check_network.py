"""What the doctor looks at around the hub: the egress guard, the public address, the callback URLs."""

from __future__ import annotations

import asyncio
import contextlib

from sqlalchemy import select

from mooring import __version__, errors
from mooring.auth_configs.models import AuthConfig
from mooring.connectors.registry import Registry
from mooring.kit.db import Database
from mooring.kit.egress import DnsFailure, EgressGuard, parse_allow, split_url
from mooring.kit.http import HttpClient, HttpFailure, OutboundRequest
from mooring.kit.shared import is_installed, make_client, probe
from mooring.operations.finding import Finding, fail, ok, warn
from mooring.settings import Settings

PROBES = ("https://169.254.169.254/", "https://10.0.0.1/", "https://[::1]/", "http://example.com/")
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_SECONDS = 3.0


async def egress(settings: Settings) -> list[Finding]:
    """The guard refuses what it must, and what the operator allowed answers."""
    allow = parse_allow(settings.egress_allow)
    guard = EgressGuard(allow)
    open_ = []
    for url in PROBES:
        parts = split_url(url)
        if (parts.host, parts.port) in allow:
            continue
        with contextlib.suppress(errors.EgressBlocked, DnsFailure):
            await guard.check(url)
            open_.append(url)
    why = "An end user's address could make the hub call into your own network (rules P3, P4)."
    if open_:
        found = [fail("egress guard", f"{', '.join(open_)} would be called", why, "Report it as a fault of Mooring.")]
    else:
        found = [ok("egress guard", "private addresses and plain http are refused")]
    entries = sorted(allow)
    answers = await asyncio.gather(*(_connects(host, port) for host, port in entries))
    for (host, port), fault in zip(entries, answers, strict=True):
        name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if fault is None:
            found.append(ok("egress entry", f"{name} is allowed, and answers"))
        else:
            fix = "Start the server, or take the entry out of MOORING_EGRESS_ALLOW."
            found.append(
                warn("egress entry", f"{name} is allowed, but {fault}", "An unused entry is an open door.", fix)
            )
    return found


async def _connects(host: str, port: int) -> str | None:
    try:
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return f"does not answer within {_SECONDS:g} s"
    except OSError as e:
        return f"can't be reached: {(e.strerror or type(e).__name__).lower()}"
    writer.close()
    return None


async def shared_server(settings: Settings) -> list[Finding]:
    """The server by which processes share limits does what it will be asked for."""
    if settings.redis_url is None:
        return []
    why = "Without it the processes of each host keep their own part of every limit; several hosts send too much."
    if not is_installed():
        fix = "Run pip install 'mooring[server,redis]'; until then the hub does not start."
        return [fail("shared server", "MOORING_REDIS_URL is set, but its client is not installed", why, fix)]
    from redis.exceptions import RedisError

    try:
        async with asyncio.timeout(_SECONDS), make_client(settings.redis_url) as client:
            await probe(client)
            version = (await client.info("server")).get("redis_version", "unknown")
    except (RedisError, OSError) as e:
        fix = "Start the server; check host, port, user and password in MOORING_REDIS_URL, and that it allows scripts."
        return [warn("shared server", f"can't be used: {type(e).__name__}", why, fix)]
    return [ok("shared server", f"answers, version {version}; limits are shared")]


async def public_url(settings: Settings) -> Finding:
    """Browsers and providers reach the hub at an address that keeps codes and cookies private."""
    url = settings.public_url
    why = "Callback URLs are built from it, and codes and tokens travel over it."
    if url is None:
        seen = "not set: callback URLs follow the address that `serve` listens on"
        return ok("public URL", seen)
    parts = split_url(url)
    if parts.scheme != "https" and parts.host not in _LOOPBACK:
        fix = "Put a TLS proxy in front of the hub and set MOORING_PUBLIC_URL to its https:// address."
        return fail("public URL", f"{url} is not https", why, fix)
    http = HttpClient(EgressGuard(frozenset({(parts.host, parts.port)})), user_agent=f"Mooring/{__version__}")
    try:
        answer = await http.send(OutboundRequest("GET", f"{url}/livez", [], b""), deadline=_SECONDS)
        fault = None if answer.status == 200 else f"answers {answer.status}"
    except (HttpFailure, errors.MooringError) as e:
        fault = f"can't be reached from here: {e}"
    finally:
        await http.aclose()
    if fault is None:
        return ok("public URL", f"{url} answers")
    return warn("public URL", f"{url} {fault}", why, "Start the hub; check DNS and the proxy in front of it.")


async def callbacks(settings: Settings, db: Database, registry: Registry) -> list[Finding]:
    """The redirect URIs that must be registered at the providers."""
    async with db.read() as tx:
        used = await tx.execute(select(AuthConfig.connector_key, AuthConfig.method_key).distinct())
        pairs = [(row.connector_key, row.method_key) for row in used]
    base = settings.public_url or "http://HOST:PORT"
    lines = set()
    gone = set()
    for key, method_key in pairs:
        connector = registry.get(key)
        method = connector.auth.get(method_key) if connector else None
        if method is None:
            gone.add(key)
        elif method.oauth2 is not None and method.oauth2.authorize_url is not None:
            lines.add(f"{base}/connect/oauth2/{key}/callback")
    found = []
    if gone:
        why = "Accounts of a connector that is not in the catalogue can't be called."
        fix = "Put its file back into MOORING_CONNECTORS_DIR; `mooring connectors check` shows faults."
        found.append(fail("connectors", f"missing: {', '.join(sorted(gone))}", why, fix))
    if lines:
        found.append(ok("callback URLs", "register at the provider: " + ", ".join(sorted(lines))))
    return found
