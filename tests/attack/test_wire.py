"""Rule S22: malformed requests on a raw socket. None leaves the base URL, adds a header line, or harms the hub.

Every attack carries a good key and the id of a good account. A recording upstream sees what gets through, a canary listener
whether anything went elsewhere. MOORING_ATTACK_REQUESTS sets how many, MOORING_ATTACK_SEED which.
"""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote_to_bytes

import httpx
import pytest

from tests.attack.sizes import size
from tests.attack.wire import INNER, MARK, Attack, Generator
from tests.conftest import Ports
from tests.hub import Hub
from tests.proxy.upstream import Seen, Upstream, redmine_user, upstream_on

BASE = b"/base/v1"
CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # all but the tab, which a value may hold (RFC 9110 §5.5)
STATUS = re.compile(rb"HTTP/1\.1 [1-5][0-9][0-9] ")


def exchange(port: int, raw: bytes, wait: float = 1.0) -> bytes:
    """Send the bytes, and take what comes until the hub closes or is silent."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.settimeout(wait)
        given = b""
        try:
            connection.sendall(raw)
            while chunk := connection.recv(65536):
                given += chunk
        except (TimeoutError, ConnectionError):
            pass
        return given


def stays_below_base(target: bytes) -> bool:
    """Whether a path stays below the base for every server: decoded again and again, with `\\` and `;` as some read them."""
    path = target.partition(b"?")[0]
    while True:
        if path != BASE and not path.startswith((BASE + b"/", BASE + b"//")):
            return False
        depth = 0
        for segment in re.split(rb"[/\\]", path[len(BASE) :]):
            word = segment.partition(b";")[0].strip(b" \t\r\n\0")
            depth += -1 if word == b".." else word not in (b"", b".")
            if depth < 0:
                return False
        further = unquote_to_bytes(path)
        if further == path:
            return True
        path = further


@pytest.mark.parametrize(
    "bad", [b"/base/v1/../x", b"/base/v1/%252e%252e/x", b"/base/v1/a/..%5c..%5cx", b"/base/v2", b"/base/v1/..;a/x"]
)
def test_the_check_of_paths_notices(bad: bytes) -> None:
    assert not stays_below_base(bad)


def harmless(seen: Seen) -> bool:
    """Whether what upstream got is one clean request below the base, framed once."""
    names = [name for name, _ in seen.headers]
    framings = names.count("content-length") + names.count("transfer-encoding")
    whole = all(name and not CONTROLS.search(value) for name, value in seen.headers)
    clean = MARK not in names and framings <= 1 and names.count("host") == 1 and whole
    return clean and stays_below_base(seen.target.encode("latin-1"))


def test_no_malformed_request_gets_anywhere(
    hubs: Callable[[str], Hub], ports: Ports, report: Callable[[str], None]
) -> None:
    hub = hubs("sqlite")
    count, seed = size("REQUESTS", 240), size("SEED", 1)
    project = hub.new_project()
    with upstream_on(ports.spare[0]) as up, upstream_on(ports.spare[1]) as canary:
        account = _link(project, up)
        ours = f"authorization: {httpx.BasicAuth(project.key, '')._auth_header}\r\nx-account-id: {account}"
        attacks = list(Generator(seed, ours, f"127.0.0.1:{canary.port}").attacks(count))
        before = len(up.seen)
        with ThreadPoolExecutor(24) as pool:
            answers = list(pool.map(lambda one: _attack(hub.port, one), attacks))
        assert (canary.connections, canary.seen) == (0, [])
        through = up.seen[before:]
    wrong = [seen for seen in through if not harmless(seen)]
    assert not wrong, wrong[:5]
    kinds = Counter(one.kind for one in attacks)
    passed = sum(b"HTTP/1.1 200 " in given for given in answers)
    silent = sum(not given for given in answers)
    report(
        f"{count} malformed requests (seed {seed}) of {len(kinds)} kinds: {passed} harmless ones answered with 200, "
        f"{len(through)} seen upstream, {silent} hung up on, 0 escapes, 0 injected lines"
    )
    assert len(kinds) == 12 and count / 20 < passed < count / 2
    hidden = [
        one for one, given in zip(attacks, answers, strict=True) if one.ambiguous and given.count(b"HTTP/1.1 ") > 1
    ]
    assert not hidden, hidden[:3]
    assert "unexpected error" not in hub.log() and "Traceback" not in hub.log()
    assert project.http.get("/livez").status_code == 200


def test_a_request_in_the_body_of_an_ambiguous_one_is_never_served(hubs: Callable[[str], Hub], ports: Ports) -> None:
    hub = hubs("sqlite")
    project = hub.new_project()
    with upstream_on(ports.spare[0]) as up:
        account = _link(project, up)
        ours = f"authorization: {httpx.BasicAuth(project.key, '')._auth_header}\r\nx-account-id: {account}"
        made = Generator(size("SEED", 1) + 1, ours, "127.0.0.1:9").attacks(size("REQUESTS", 240) // 2)
        ambiguous = [one for one in made if one.ambiguous]
        assert len(ambiguous) > 10
        with ThreadPoolExecutor(24) as pool:
            list(pool.map(lambda one: _attack(hub.port, one), ambiguous))
        assert [seen.target for seen in up.seen if INNER in seen.target] == []


def _link(project: object, up: Upstream) -> str:
    redmine_user(up, "/base/v1")
    config = project.config("redmine", "api_key")  # type: ignore[attr-defined]
    form = {"base_url": f"{up.url}/base/v1", "api_key": "k" * 30}
    return str(project.link(config, form))  # type: ignore[attr-defined]


def _attack(port: int, one: Attack) -> bytes:
    """Attack; then somebody else must still be served."""
    given = exchange(port, one.raw)
    assert not given or STATUS.match(given), (one, given[:200])
    assert f"\n{MARK}:".encode() not in given.partition(b"\r\n\r\n")[0].lower(), (one, given[:500])
    alive = exchange(port, b"GET /livez HTTP/1.1\r\nhost: hub\r\nconnection: close\r\n\r\n", wait=10)
    assert alive.startswith(b"HTTP/1.1 200 "), (one, alive)
    return given
