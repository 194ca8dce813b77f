"""Rules S23, S24, S25: half-open requests, a neighbour at ten times its limit, bodies that are bombs.

The short forms count: nobody else is refused, nothing is kept. The long ones measure too: the others' p99 has to stay below
twice what it was before. A loaded machine can spoil a measurement; it is taken three times, and the best counts.
"""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import httpx
import psutil
import pytest

from tests.attack.sizes import long_form, size
from tests.conftest import Ports
from tests.hub import Hub, Project, client, ok, refused
from tests.kit.test_server import HOST
from tests.proxy.upstream import Upstream, answer, redmine_user, upstream_on
from tests.servers.ports import free_port

MB = 1 << 20
RATE = size("RATE", 200)  # calls per minute of a key
WARM = 5
BEGUN = b"POST /proxy/x HTTP/1.1\r\n" + HOST
DRIPS = [b"x-slow: ", b"a", b"b", b"\r\nx-more: ", b"c"]


@pytest.fixture(scope="module")
def hub(ports: Ports, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub of its own, whose memory and connections nobody else uses. Keys have a limit that one test alone reaches."""
    env = {"MOORING_KEY_RATE_LIMIT": str(RATE)}
    home = tmp_path_factory.mktemp("strain")
    with Hub(home / "hub", free_port(), egress_allow=ports.egress_allow, single_process=True, env=env) as running:
        yield running


@pytest.fixture
def upstream(ports: Ports) -> Iterator[Upstream]:
    with upstream_on(ports.spare[0]) as up:
        redmine_user(up)
        yield up


def linked(hub: Hub, upstream: Upstream) -> tuple[Project, str]:
    """A tenant with an account."""
    project = hub.new_project()
    config = project.config("redmine", "api_key")
    return project, project.link(config, {"base_url": upstream.url, "api_key": "k" * 30})


def p99(times: list[float]) -> float:
    """In milliseconds."""
    return sorted(times)[int(len(times) * 0.99) - 1] * 1000


def calls(project: Project, account: str, count: int) -> list[float]:
    """How long each of so many calls took, after a few that warm connections and caches; none of them fails."""
    times = []
    for _ in range(WARM + count):
        begun = time.perf_counter()
        answered = project.proxy(account, path="/users/current.json")
        times.append(time.perf_counter() - begun)
        assert answered.status_code == 200, answered.text
    return times[WARM:]


def below_twice(measure: Callable[[], tuple[float, float]]) -> tuple[float, float]:
    """The best of three measurements; in the long form its second figure is below twice the first."""
    best = min((measure() for _ in range(3 if long_form() else 1)), key=lambda pair: pair[1] / pair[0])
    assert not long_form() or best[1] < 2 * best[0], best
    return best


@contextmanager
def half_open(port: int, count: int) -> Iterator[list[socket.socket]]:
    """So many requests that begin and go on by a byte now and then."""
    stop = threading.Event()
    with ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10)) for _ in range(count)]
        for one in held:
            one.sendall(BEGUN)

        def drip() -> None:
            step = 0
            while not stop.wait(1.0):
                for one in held:
                    try:
                        one.sendall(DRIPS[step % len(DRIPS)])
                    except OSError:  # the hub hung up on it, which is right
                        continue
                step += 1

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            yield held
        finally:
            stop.set()
            thread.join()


def is_closed(one: socket.socket) -> bool:
    """Whether the hub has hung up."""
    one.settimeout(0.01)
    try:
        return one.recv(65536) == b"" or is_closed(one)
    except TimeoutError:
        return False
    except OSError:
        return True


def test_half_open_requests_do_not_keep_others_waiting(
    hub: Hub, upstream: Upstream, report: Callable[[str], None]
) -> None:
    count, seconds, each = size("HALF_OPEN", 150), size("HALF_OPEN_SECONDS", 0), size("CALLS", 40)
    assert each < RATE - 10

    def measure() -> tuple[float, float]:
        before = p99(calls(*linked(hub, upstream), each))
        with half_open(hub.port, count) as held:
            begun, during = time.monotonic(), calls(*linked(hub, upstream), each)
            while time.monotonic() - begun < seconds:
                during += calls(*linked(hub, upstream), each)
            if seconds > 25:  # a head has 15 s, and the sweep comes every 5
                assert sum(map(is_closed, held)) == count
        return before, p99(during)

    before, during = below_twice(measure)
    report(
        f"{count} half-open requests: p99 of the others {before:.1f} ms before, {during:.1f} ms meanwhile, 0 refused"
    )


def test_a_neighbour_at_ten_times_its_limit_costs_others_nothing(
    hub: Hub, upstream: Upstream, report: Callable[[str], None]
) -> None:
    noisy, their = linked(hub, upstream)
    quiet = [linked(hub, upstream) for _ in range(size("TENANTS", 2))]
    each = min(size("CALLS", 40), RATE - 10) // 2
    statuses: list[int] = []

    def measure() -> tuple[float, float]:
        fresh = [linked(hub, upstream) for _ in quiet]  # a key has only so many calls a minute
        before = p99([t for project, account in fresh for t in calls(project, account, each)])
        stop = threading.Event()

        def shout() -> None:
            http = client(hub.url, auth=(noisy.key, ""), headers={"x-account-id": their})
            while not stop.is_set():
                statuses.append(http.get("/proxy/users/current.json").status_code)
                time.sleep(60 / (RATE * 10) * 4)

        shouting = [threading.Thread(target=shout) for _ in range(4)]
        for one in shouting:
            one.start()
        try:
            during = [t for project, account in fresh for t in calls(project, account, each)]
        finally:
            stop.set()
            for one in shouting:
                one.join()
        return before, p99(during)

    statuses += [noisy.proxy(their, path="/users/current.json").status_code for _ in range(RATE + 5)]
    before, during = below_twice(measure)
    refusals = statuses.count(429)
    report(f"a key at ten times its {RATE} calls/min: {refusals} of its calls refused, 0 of the others'; p99 of the others "
           f"{before:.1f} ms before, {during:.1f} ms meanwhile")  # fmt: skip
    assert set(statuses) == {200, 429} and refusals >= 5


def memory(hub: Hub) -> int:
    """Of all processes of the hub, in bytes."""
    assert hub.process is not None
    ours = psutil.Process(hub.process.pid)
    return sum(one.memory_info().rss for one in (ours, *ours.children(recursive=True)))


def test_a_compressed_bomb_is_never_unpacked(hub: Hub, upstream: Upstream, report: Callable[[str], None]) -> None:
    """A thousand to one, wherever an answer is read: passed on, unified, logged, diagnosed, as a token, as a receiver's."""
    unpacked = size("BOMB_MB", 128) * MB
    bomb = gzip.compress(b" " * unpacked)
    assert len(bomb) * 900 < unpacked
    project, account = linked(hub, upstream)
    ok(project.http.patch("/project", json={"advanced_logs": "all"}))
    headers = ("content-encoding: gzip", "content-type: application/json")
    for status in (200, 400, 403, 500):
        upstream.on(f"/bomb-{status}", answer(status, bomb, *headers))
    for path in ("/oauth/token", "/hook"):
        upstream.on(path, answer(200, bomb, *headers))
    machine = project.config("sandbox", "client_credentials", {"sandbox_url": upstream.url})
    tokens = project.session("owner-2", integration_id=machine["id"])
    hook = ok(project.http.post("/webhooks", json={"url": f"{upstream.url}/hook"}), 201)["id"]
    calls(project, account, 3)
    before = memory(hub)
    for status in (200, 400, 403, 500):
        request = project.http.build_request("GET", f"/proxy/bomb-{status}", headers={"x-account-id": account})
        answered = project.http.send(request, stream=True)
        assert answered.status_code == status and b"".join(answered.iter_raw()) == bomb
        unified = {"path": f"/bomb-{status}"}
        told = project.http.post("/unified/proxy", json=unified, headers={"x-account-id": account})
        assert told.status_code in {200, 502}, told.text[:500]
    refused(tokens.submit(machine["id"], {"client_id": "machine", "client_secret": "s" * 20}), 422)
    project.http.post(f"/webhooks/{hook}/test")
    for row in ok(project.http.get("/requests/logs"))["data"]:
        ok(project.http.get(f"/requests/logs/{row['id']}?include=advanced_logs"))
    grown = memory(hub) - before
    report(
        f"gzip bombs of {unpacked // MB} MB in {len(bomb) // 1024} KiB on every road: the hub grew by {grown / MB:.1f} MB"
    )
    assert grown < 60 * MB
    assert project.http.get("/livez").status_code == 200


def test_a_body_without_end_is_cut_at_the_limit(hub: Hub, report: Callable[[str], None]) -> None:
    project = hub.new_project()
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        yield b'{"origin_owner_id": "'
        while sent < 1 << 30:
            sent += 65536
            yield b"x" * 65536

    before = memory(hub)
    for path in ("/connect_sessions", "/unified/proxy", "/mcp", "/sessions"):
        sent = 0
        try:
            answered = project.http.post(path, content=endless(), headers={"content-type": "application/json"})
            assert answered.status_code in {400, 401, 413}, (path, answered.text)
        except (httpx.WriteError, httpx.RemoteProtocolError, httpx.ReadError):
            pass  # the hub answered and hung up while we still spoke
        assert sent < 64 * MB, path
    grown = memory(hub) - before
    report(f"endless bodies on four routes: cut, the hub grew by {grown / MB:.1f} MB")
    assert grown < 100 * MB
    assert project.http.get("/livez").status_code == 200


def test_an_announced_body_that_is_too_large_is_refused_unread(hub: Hub) -> None:
    project = hub.new_project()
    ours = httpx.BasicAuth(project.key, "")._auth_header
    head = f"POST /connect_sessions HTTP/1.1\r\nhost: hub\r\nauthorization: {ours}\r\n"
    with socket.create_connection(("127.0.0.1", hub.port), timeout=10) as connection:
        connection.sendall(
            f"{head}content-type: application/json\r\ncontent-length: {1 << 30}\r\n\r\n".encode() + b"x" * (2 * MB)
        )
        given = b""
        while not given.endswith(b"}"):
            given += connection.recv(65536)
    assert given.startswith(b"HTTP/1.1 413 "), given
    assert json.loads(given.partition(b"\r\n\r\n")[2])["errorCode"] == "PayloadTooLargeError"


def test_many_inputs_that_nobody_knows_take_no_time(hub: Hub, upstream: Upstream) -> None:
    """A body of 45,000 names close to a good one: each costs a comparison with all the good ones."""
    project = hub.new_project()
    config = project.config("sandbox", "api_key", {"sandbox_url": upstream.url})
    upstream.on("/api/me", answer(200, b'{"account_id": "a"}', "content-type: application/json"))
    account = project.link(config, {"api_key": "k" * 30})
    body = {"action": "sandbox_list_employees", "query": {f"page_siz{n}": 1 for n in range(45_000)}}
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(project.http.post, "/actions/rpc", json=body, headers={"x-account-id": account})
        begun = time.monotonic()
        while not asked.done():
            assert client(hub.url).get("/livez").status_code == 200
        spent = time.monotonic() - begun
    answered = refused(asked.result(), 400, "ValidationError")
    assert len(answered["errors"]) <= 100 and spent < 10
