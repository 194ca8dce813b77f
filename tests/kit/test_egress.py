"""The egress guard: what is refused, what is allowed, and that a name is asked once and pinned."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from mooring.errors import ConfigurationError, EgressBlocked
from mooring.kit import egress
from mooring.kit.egress import DnsFailure, EgressGuard, is_public, parse_allow, split_url, wire_url

CLOSED = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.255",
    "127.0.0.1",
    "127.8.8.8",
    "127.255.255.255",
    "168.63.129.16",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.9",
    "192.0.0.170",
    "192.0.2.1",
    "192.31.196.1",
    "192.52.193.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.168.255.255",
    "192.175.48.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::8.8.8.8",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:10::1",
    "2001:20::1",
    "2001:2::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "2620:4f:8000::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "4000::1",
    "8000::1",
]
OPEN = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.1",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.1",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "203.0.112.255",
    "223.255.255.255",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2606:4700:4700::1111",
    "2a00:1450:4001::1",
    "2003::1",
]
ODD_HOSTS = [
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f.1",
    "0x7f000001",
    "0x7F.0x0.0x0.0x1",
    "017700000001",
    "0177.0.0.1",
    "127.0.0.01",
    "127.0.0.1.",
    "127.0.0.256",
    "127.0.0.1.5",
    "1.2.3",
    "0",
    "0x",
    "①②⑦.⓪.⓪.①",
    "１２７.０.０.１",
    "127。0。0。1",
    "127．0．0．1",
    "%31%32%37.0.0.1",
    "localhost%00.example.com",
    "example.com.",
    "example..com",
    ".example.com",
    "-example.com",
    "exam\u200bple.com",
    "exam\u00adple.com",
    "ｅxample.com",
    "xn--a.com",
    "a" * 64 + ".com",
    "[::1%25lo]",
    "[fe80::1%eth0]",
    "[::1",
    "::1",
    "[127.0.0.1]",
    "[::g]",
    "",
    "ex_ample!.com",
    "example.com,evil.com",
]
ODD_URLS = [
    "http:/example.com/",
    "https:example.com",
    "//example.com/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "https://user@example.com/",
    "https://user:pass@example.com/",
    "https://example.com@127.0.0.1/",
    "https://example.com\\@127.0.0.1/",
    "https://example.com\\.evil.com/",
    "https://example.com/a\\b",
    "https://example.com/ a",
    "https://example.com/\ta",
    "https://exa\nmple.com/",
    "https://example.com/\r\nHost: evil",
    "https://example.com/\x00",
    " https://example.com/",
    "https://example.com:0/",
    "https://example.com:/",
    "https://example.com:65536/",
    "https://example.com:+443/",
    "https://example.com:４４３/",
    "https://example.com:0443/",
    "https://example.com:44 3/",
    "https://example.com#@127.0.0.1/",
    "https://example.com/#fragment",
    "https://example.com/a/../b",
    "https://example.com/a/%2e%2E/b",
    "https://example.com/a/.%2e",
    "https://example.com/./",
    "https:///path",
    "https://",
    "",
]


class Dns:
    """A resolver that answers from a list, one entry a question, the last one for ever."""

    def __init__(self, *answers: Sequence[str] | Exception, delay: float = 0) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []
        self.delay = delay

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        await asyncio.sleep(self.delay)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def guard(*answers: Sequence[str] | Exception, allow: str = "", delay: float = 0) -> tuple[EgressGuard, Dns]:
    dns = Dns(*answers or (["8.8.8.8"],), delay=delay)
    return EgressGuard(parse_allow(allow), dns), dns


@pytest.mark.parametrize("ip", CLOSED)
async def test_closed_addresses_are_refused_as_literal_and_as_answer(ip: str) -> None:
    assert not is_public(ip)
    closed, _ = guard([ip])
    with pytest.raises(EgressBlocked):
        await closed.check("https://name.example/")
    literal = f"[{ip}]" if ":" in ip else ip
    with pytest.raises(EgressBlocked) as refusal:
        await closed.check(f"https://{literal}/secret-path?token=s3cret")
    assert "s3cret" not in refusal.value.message
    assert "secret-path" not in refusal.value.message


@pytest.mark.parametrize("ip", OPEN)
async def test_public_addresses_pass(ip: str) -> None:
    assert is_public(ip)
    opened, _ = guard([ip])
    assert (await opened.check("https://name.example/")).ip == ip
    literal = f"[{ip}]" if ":" in ip else ip
    assert (await opened.check(f"https://{literal}/")).ip == ip


def test_counts_of_the_bar() -> None:
    assert len(set(CLOSED)) >= 51
    assert len(set(ODD_HOSTS)) >= 29
    assert len(set(OPEN)) >= 11


def test_text_that_is_no_address_is_not_public() -> None:
    assert not any(is_public(text) for text in ("", "127.1", "example.com", "8.8.8.8.8", "1.1.1.1%lo"))


@pytest.mark.parametrize("host", ODD_HOSTS)
async def test_odd_spellings_are_refused_without_a_question(host: str) -> None:
    strict, dns = guard()
    for url in (f"https://{host}/", f"https://{host}:8443/"):
        with pytest.raises(EgressBlocked):
            await strict.check(url)
    assert dns.asked == []


@pytest.mark.parametrize("url", ODD_URLS)
async def test_odd_urls_are_refused_without_a_question(url: str) -> None:
    strict, dns = guard()
    with pytest.raises(EgressBlocked) as refusal:
        await strict.check(url)
    assert dns.asked == []
    assert "pass" not in refusal.value.message.partition("refused")[0]
    assert refusal.value.message.isprintable()


async def test_target_is_canonical() -> None:
    opened, dns = guard()
    target = await opened.check("HTTPS://BÜCHER.Example:8443/Path?Q")
    assert (target.scheme, target.host, target.port) == ("https", "xn--bcher-kva.example", 8443)
    assert target.origin == "https://xn--bcher-kva.example:8443"
    assert dns.asked == [("xn--bcher-kva.example", 8443)]
    assert (await opened.check("https://name.example:443/")).origin == "https://name.example"
    assert (await opened.check("https://my_bucket.s3.example")).host == "my_bucket.s3.example"


async def test_one_private_answer_among_public_ones_refuses_the_name() -> None:
    for answers in (["8.8.8.8", "10.0.0.1"], ["10.0.0.1", "8.8.8.8"], ["8.8.8.8", "1.1.1.1", "::1"]):
        mixed, _ = guard(answers)
        with pytest.raises(EgressBlocked) as refusal:
            await mixed.check("https://mixed.example/")
        assert "10.0.0.1" not in refusal.value.message


async def test_rebinding_meets_the_pinned_address_and_then_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    flipping, dns = guard(["8.8.8.8"], ["127.0.0.1"])
    for _ in range(100):
        assert (await flipping.check("https://flip.example/")).ip == "8.8.8.8"
    assert len(dns.asked) == 1
    loop = asyncio.get_running_loop()
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now + egress.CACHE_SECONDS + 1, raising=False)
    with pytest.raises(EgressBlocked):
        await flipping.check("https://flip.example/")
    monkeypatch.undo()
    assert len(dns.asked) == 2


async def test_waiters_share_one_question_and_survive_a_cancelled_one() -> None:
    shared, dns = guard(["8.8.8.8"], delay=0.05)
    calls = [asyncio.create_task(shared.check("https://name.example/")) for _ in range(50)]
    await asyncio.sleep(0.01)
    calls[0].cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert {getattr(result, "ip", None) for result in results[1:]} == {"8.8.8.8"}
    assert len(dns.asked) == 1


async def test_a_dead_address_gives_way_to_the_next_checked_one() -> None:
    double, dns = guard(["8.8.8.8", "1.1.1.1"])
    first = await double.check("https://name.example/")
    double.demote(first)
    assert (await double.check("https://name.example/")).ip == "1.1.1.1"
    double.demote(first)
    assert (await double.check("https://name.example/")).ip == "1.1.1.1"
    assert len(dns.asked) == 1


async def test_dns_failures_are_told_apart_from_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Sequence[str] | Exception] = [OSError("no such name"), UnicodeError("too long"), []]
    for answer in answers:
        failing, dns = guard(answer)
        with pytest.raises(DnsFailure, match=r"name\.example"):
            await failing.check("https://name.example/")
        with pytest.raises(DnsFailure):
            await failing.check("https://name.example/")
        assert len(dns.asked) == 2
    monkeypatch.setattr(egress, "DNS_DEADLINE", 0.05)
    slow, _ = guard(["8.8.8.8"], delay=5)
    with pytest.raises(DnsFailure, match="within"):
        await slow.check("https://name.example/")


async def test_the_answer_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "CACHE_ENTRIES", 3)
    bounded, dns = guard()
    for number in range(10):
        await bounded.check(f"https://host{number}.example/")
    await bounded.check("https://host9.example/")
    assert len(dns.asked) == 10
    await bounded.check("https://host0.example/")
    assert len(dns.asked) == 11


async def test_system_resolver_answers_and_localhost_is_refused() -> None:
    real = EgressGuard(frozenset())
    with pytest.raises(EgressBlocked):
        await real.check("https://localhost/")
    opened = EgressGuard(parse_allow("localhost:4300"))
    assert (await opened.check("http://localhost:4300/")).ip in {"127.0.0.1", "::1"}


async def test_allow_entries_match_exact_host_and_port() -> None:
    opened, _ = guard(["127.0.0.1"], allow="127.0.0.1:4300, sandbox.local:80,[::1]:4300,")
    assert (await opened.check("http://127.0.0.1:4300/x")).origin == "http://127.0.0.1:4300"
    assert (await opened.check("https://127.0.0.1:4300/x")).scheme == "https"
    assert (await opened.check("http://sandbox.local/x")).ip == "127.0.0.1"
    assert (await opened.check("http://[0:0::1]:4300/")).host == "::1"
    for url in (
        "http://127.0.0.1:4301/",
        "http://127.0.0.1/",
        "http://127.0.0.2:4300/",
        "http://localhost:4300/",
        "http://other.local:4300/",
        "https://sandbox.local/",
        "http://sandbox.local:81/",
        "http://127.1:4300/",
        "http://127.0.0.1.:4300/",
    ):
        with pytest.raises(EgressBlocked):
            await opened.check(url)


async def test_plain_http_is_refused_for_public_hosts() -> None:
    strict, dns = guard()
    with pytest.raises(EgressBlocked, match="plain http"):
        await strict.check("http://name.example/")
    assert dns.asked == []


@pytest.mark.parametrize(
    "entry",
    [
        "127.0.0.1",
        "*:80",
        "*.local:80",
        "http://x:80",
        "x:0",
        "x:65536",
        "x:http",
        "10.0.0.0/8:80",
        "::1:80",
        "a b:1",
        "127.1:80",
        "u@x:80",
    ],
)
def test_bad_allow_entries_are_named(entry: str) -> None:
    with pytest.raises(ConfigurationError) as fault:
        parse_allow(f"good.local:80,{entry}")
    assert entry in str(fault.value)
    assert "MOORING_EGRESS_ALLOW" in str(fault.value)


def test_allow_list_is_read() -> None:
    assert parse_allow("") == frozenset()
    assert parse_allow(" A.local:80 ,[0:0::1]:443") == {("a.local", 80), ("::1", 443)}


def test_wire_url_keeps_escapes_and_encodes_what_no_url_may_hold() -> None:
    same = "https://h.example/a%2Fb/%252e%252e/%C3%A9/[x]|'^;=,@:!$&()*+~?a=%2F&b=[|]^`{}?/"
    assert wire_url(split_url(same)) == same
    assert wire_url(split_url('https://h.example/"<>`{}é?"<>\'\\é')) == (
        "https://h.example/%22%3C%3E%60%7B%7D%C3%A9?%22%3C%3E%27%5C%C3%A9"
    )
    assert wire_url(split_url("https://h.example?q")) == "https://h.example/?q"
    assert wire_url(split_url("https://h.example")) == "https://h.example/"
