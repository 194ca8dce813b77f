"""Rule S13, end to end: no road out of the hub reaches an address that is not allowed, however it is spelled.

The corpus is that of tests/kit/test_egress.py, where the guard is tried by itself: 63 closed addresses, 39 spellings of
hosts, 34 of URLs. Here it goes through every road that takes an address from somebody: the form of an account (proxied
calls), the set-up of an OAuth method (token requests, through the courier), webhooks, and the envelope of /unified/proxy.
Logos and guides are files of the hub; nothing fetches them. Two canaries listen: one on a port that is not allowed, one on a
port that is, which only the exact spelling may reach.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from mooring.errors import EgressBlocked
from mooring.kit import egress
from mooring.kit.egress import EgressGuard, parse_allow
from tests.attack.sizes import long_form
from tests.conftest import Ports
from tests.hub import Hub, ok
from tests.kit.test_egress import CLOSED, ODD_HOSTS, ODD_URLS
from tests.proxy.upstream import answer, redmine_user, upstream_on
from tests.servers.ports import free_port

EVERY = 1 if long_form() else 8


def addresses(closed: int, opened: int) -> list[str]:
    """URLs that none may follow."""
    literal = [f"[{ip}]" if ":" in ip else ip for ip in CLOSED]
    out = [f"{scheme}://{ip}:{closed}" for ip in literal[::EVERY] for scheme in ("http", "https")]
    out += [f"http://{host}:{port}" for host in ODD_HOSTS[::EVERY] for port in (closed, opened)]
    out += [url.replace("example.com", f"127.0.0.1:{closed}") for url in ODD_URLS[::EVERY]]
    names = ("localhost", "LOCALHOST", "localhost.", "127.0.0.2", "[::1]", "[0:0:0:0:0:ffff:7f00:1]", "127.0.0.1%00")
    out += [f"http://{name}:{opened}" for name in names]
    return [url for url in out if url]


def test_no_road_out_reaches_a_closed_address(
    hubs: Callable[[str], Hub], ports: Ports, report: Callable[[str], None]
) -> None:
    hub = hubs("sqlite")
    project = hub.new_project()
    closed, opened = free_port(), ports.spare[5]
    with upstream_on(closed) as shut, upstream_on(opened) as listed, upstream_on(ports.spare[0]) as up:
        redmine_user(up)
        redmine = project.config("redmine", "api_key")
        session = project.session(integration_id=redmine["id"], multiple=True)
        account = ok(session.submit(redmine["id"], {"base_url": up.url, "api_key": "k" * 30}))["id"]
        machine = project.config("sandbox", "client_credentials", {"sandbox_url": up.url})
        tokens = project.session("owner-2", integration_id=machine["id"], multiple=True)
        hook = ok(project.http.post("/webhooks", json={"url": f"{up.url}/hook"}), 201)["id"]
        asked = 0
        for url in addresses(closed, opened):
            headers = {"x-account-id": account}
            taken = [
                session.submit(redmine["id"], {"base_url": url, "api_key": "k" * 30}),
                project.http.post("/unified/proxy", json={"url": url}, headers=headers),
            ]
            set_up = project.http.patch(f"/auth_configs/{machine['id']}", json={"setup": {"sandbox_url": url}})
            if set_up.status_code == 200:
                taken.append(tokens.submit(machine["id"], {"client_id": "machine", "client_secret": "s" * 20}))
            assert all(one.status_code in {400, 422, 502} for one in taken), (url, taken)
            made = project.http.post("/webhooks", json={"url": url})  # told of every attempt from now on, where taken
            changed = project.http.patch(f"/webhooks/{hook}", json={"url": url})
            if changed.status_code == 200:
                project.http.post(f"/webhooks/{hook}/test")
            assert made.status_code in {201, 400} and changed.status_code in {200, 400}, (url, made.text)
            asked += len(taken) + 2
        assert (shut.connections, shut.seen) == (0, [])
        assert (listed.connections, listed.seen) == (0, [])
        # The canaries would have sung: the exact spelling of the listed one is reached.
        session.submit(redmine["id"], {"base_url": listed.url, "api_key": "k" * 30})
        assert listed.connections > 0
    assert asked >= (1000 if long_form() else 150)
    report(f"{asked} tries over four roads, 0 connections at the canaries")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed_by_any_road(hubs: Callable[[str], Hub], ports: Ports, status: int) -> None:
    project = hubs("sqlite").new_project()
    with upstream_on(ports.spare[0]) as up, upstream_on(ports.spare[5]) as canary:
        redmine_user(up)
        away = answer(status, b"", f"location: {canary.url}/stolen")
        for path in ("/moved", "/hook", "/oauth/token"):
            up.on(path, away)
        redmine = project.config("redmine", "api_key")
        session = project.session(integration_id=redmine["id"])
        account = ok(session.submit(redmine["id"], {"base_url": up.url, "api_key": "k" * 30}))["id"]
        assert project.proxy(account, path="/moved").status_code == status
        unified = project.http.post("/unified/proxy", json={"path": "/moved"}, headers={"x-account-id": account})
        assert ok(unified)["status"] == status
        hook = ok(project.http.post("/webhooks", json={"url": f"{up.url}/hook"}), 201)["id"]
        project.http.post(f"/webhooks/{hook}/test")
        machine = project.config("sandbox", "client_credentials", {"sandbox_url": up.url})
        tokens = project.session("owner-2", integration_id=machine["id"])
        refusal = tokens.submit(machine["id"], {"client_id": "machine", "client_secret": "s" * 20})
        assert refusal.status_code == 422, refusal.text
        assert {"/moved", "/hook", "/oauth/token"} <= {seen.target for seen in up.seen}
        assert (canary.connections, canary.seen) == (0, [])


async def test_a_name_that_flips_a_hundred_times_is_never_followed_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each question gets another answer: public, private, both. What is used was checked, and is public."""
    answers = [["8.8.8.8"], ["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::1"], ["fe80::1%lo"], ["2606:4700:4700::1111"]]
    asked = 0

    async def flipping(_host: str, _port: int) -> Sequence[str]:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return answers[asked % len(answers)]

    guard = EgressGuard(parse_allow(""), flipping)
    loop = asyncio.get_running_loop()
    begun, used, refused = loop.time(), [], 0
    for flip in range(100):
        later = begun + flip * (egress.CACHE_SECONDS + 1)
        monkeypatch.setattr(loop, "time", lambda later=later: later, raising=False)
        try:
            used.append((await guard.check("https://flip.example/")).ip)
        except EgressBlocked:
            refused += 1
    monkeypatch.undo()
    assert asked == 100 and set(used) == {"8.8.8.8", "2606:4700:4700::1111"}
    assert refused == 100 - len(used) and refused > 60
