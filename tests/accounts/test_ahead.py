"""Ahead of time: when tokens are renewed, which accounts will fail and when, and how probes keep out of the way."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from mooring.accounts import probes, schedule
from mooring.accounts.credentials import Secrets, Times, times_of
from mooring.accounts.forecast import expected_failure
from mooring.accounts.models import Account
from mooring.auth_configs.models import AuthConfig
from mooring.connectors.definition import AuthMethod, Field, OAuth2, Refresh
from mooring.kit import clock
from mooring.protocol.template import compile_template
from mooring.webhooks.models import Event
from tests.accounts.engine import Engine, answer, engine, in_days
from tests.faults.provider import FaultyProvider
from tests.servers.ports import free_port

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = 86_400
JOB: Any = SimpleNamespace(payload={})  # the periodic handlers look at nothing of it


def oauth(**refresh: Any) -> OAuth2:
    return OAuth2(
        grant="authorization_code", token_url=compile_template("https://x.test/t"), refresh=Refresh(**refresh)
    )


def seconds(moment: datetime | None) -> float:
    assert moment is not None
    return (moment - NOW).total_seconds()


# --- when a token is renewed (R4, R7) ---------------------------------------------------------------------------------


@given(st.integers(1, 400 * DAY))
def test_a_token_is_renewed_ten_to_twenty_percent_ahead_but_five_minutes_at_most(lifetime: int) -> None:
    times = times_of(oauth(), answer(expires_in=lifetime), NOW)
    ahead = seconds(times.expires_at) - seconds(times.refresh_at)
    assert ahead <= min(300, lifetime * 0.2, lifetime / 2) + 0.001
    assert ahead >= min(150, lifetime * 0.1) - 0.001


@given(st.integers(1, 400 * DAY), st.integers(0, 400 * DAY))
def test_a_connectors_buffer_is_never_more_than_half_the_life(lifetime: int, buffer: int) -> None:
    times = times_of(oauth(buffer_seconds=buffer), answer(expires_in=lifetime), NOW)
    assert seconds(times.expires_at) - seconds(times.refresh_at) == pytest.approx(min(buffer, lifetime / 2))


@pytest.mark.parametrize("lifetime", [300, 3600, 8 * 3600, 30 * DAY])
def test_a_hundred_thousand_accounts_linked_at_once_do_not_wake_at_once(lifetime: int) -> None:
    made = answer(expires_in=lifetime)
    config = oauth()
    due = Counter(int(seconds(times_of(config, made, NOW).refresh_at)) for _ in range(100_000))
    window = min(150, lifetime * 0.1)
    assert len(due) >= window - 1
    assert max(due.values()) < 100_000 / window * 1.5  # no second takes more than half again its share


def test_a_grant_that_must_not_lie_idle_is_renewed_half_way_there() -> None:
    """R7: whether or not anybody calls, and although its access token has no known end."""
    due = [seconds(times_of(oauth(idle_seconds=90 * DAY), answer(expires_in=None), NOW).refresh_at) for _ in range(200)]
    assert min(due) >= 36 * DAY and max(due) <= 54 * DAY
    assert max(due) - min(due) > 10 * DAY
    short = times_of(oauth(idle_seconds=90 * DAY), answer(expires_in=3600), NOW)
    assert seconds(short.refresh_at) < 3600  # the access token comes first
    long = times_of(oauth(idle_seconds=10 * DAY), answer(expires_in=60 * DAY), NOW)
    assert seconds(long.refresh_at) <= 6 * DAY


def test_the_life_of_a_refresh_token_starts_again_only_with_a_new_one() -> None:
    rolling = oauth(lifetime_seconds=60 * DAY)
    assert seconds(times_of(rolling, answer(), NOW, renewing=True).refresh_expires_at) == 60 * DAY
    assert times_of(rolling, answer(refresh_token=None), NOW, renewing=True).refresh_expires_at is None
    absolute = oauth(lifetime_seconds=365 * DAY, idle_seconds=90 * DAY)
    assert seconds(times_of(absolute, answer(), NOW).refresh_expires_at) == 365 * DAY
    assert times_of(absolute, answer(), NOW, renewing=True).refresh_expires_at is None  # what is known stands
    told = times_of(absolute, answer(refresh_expires_in=500), NOW, renewing=True)
    assert seconds(told.refresh_expires_at) == 500  # what the provider says counts most


# --- which account will fail, and when --------------------------------------------------------------------------------


def method(*fields: Field, oauth2: OAuth2 | None = None) -> AuthMethod:
    return AuthMethod(
        "m", "M", "oauth2" if oauth2 else "header", compile_template("https://x.test"), fields, oauth2=oauth2
    )


def certificate(days: float) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "client")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = (
        builder.serial_number(1).not_valid_before(NOW - timedelta(days=400)).not_valid_after(NOW + timedelta(days=days))
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


KEY = Field("api_key", "Key", secret=True, lifetime_seconds=90 * DAY)
CERTIFICATE = Field("certificate", "Certificate", secret=True)
PEM_9 = certificate(9)
ENDS = Times(NOW + timedelta(hours=1), NOW + timedelta(minutes=55), NOW + timedelta(days=60))


@pytest.mark.parametrize(
    ("subject", "fields", "times", "refreshable", "expected"),
    [
        (method(KEY), {"api_key": "k"}, Times(), False, (90 * DAY, "key_age")),
        (method(KEY), {}, Times(), False, None),
        (method(CERTIFICATE), {"certificate": certificate(30)}, Times(), False, (30 * DAY, "certificate")),
        (method(CERTIFICATE), {"certificate": certificate(30) + certificate(7)}, Times(), False, (7 * DAY, "certificate")),
        (method(CERTIFICATE), {"certificate": "-----BEGIN CERTIFICATE-----\nrubbish"}, Times(), False, None),
        (method(oauth2=oauth()), {}, ENDS, True, (60 * DAY, "refresh_token_ends")),
        (method(oauth2=oauth()), {}, ENDS, False, (3600, "access_token_ends")),
        (method(oauth2=oauth()), {}, Times(NOW + timedelta(hours=1)), True, None),
        (method(KEY, CERTIFICATE), {"api_key": "k", "certificate": PEM_9}, Times(), False, (9 * DAY, "certificate")),
    ],
)  # fmt: skip
def test_the_first_failure_that_can_be_foreseen(
    subject: AuthMethod, fields: dict[str, str], times: Times, refreshable: bool, expected: tuple[int, str] | None
) -> None:
    found = expected_failure(subject, Secrets(fields=fields), times, refreshable=refreshable, typed_at=NOW)
    assert (found and (seconds(found.at), found.reason)) == expected


# --- probes -----------------------------------------------------------------------------------------------------------


def pauses(outcomes: list[str]) -> list[float]:
    """The pauses in hours after a row of outcomes."""
    out, previous, failures = [], None, 0
    for outcome in outcomes:
        failures = failures + 1 if outcome == "rejected" else 0 if outcome == "worked" else failures
        previous = probes.next_pause(outcome, failures, previous)
        out.append(previous.total_seconds() / 3600)
    return out


def test_probes_of_a_healthy_account_get_rare() -> None:
    seen = pauses(["worked"] * 8)
    assert 5.4 <= seen[0] <= 6.6 and 10 <= seen[1] <= 14.6
    assert all(p <= 48 * 1.1 for p in seen) and seen[-1] > 40


def test_probes_of_a_faulty_account_come_soon_and_then_get_rare() -> None:
    seen = pauses(["rejected"] * 12)
    assert seen[0] < 0.2 and seen[-1] > 10 and max(seen) <= 12 * 1.1


def test_after_a_429_a_probe_waits_a_day() -> None:
    assert probes.next_pause("limited", 0, None) == timedelta(hours=24)


def test_probes_do_not_beat_as_one() -> None:
    assert len({probes.next_pause("worked", 0, None) for _ in range(50)}) > 40


# --- the engine, with a provider --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def provider() -> Iterator[tuple[FaultyProvider, int]]:
    port = free_port()
    running = FaultyProvider({port: None})
    yield running, port
    running.stop()


@pytest.fixture(scope="module")
async def ahead(
    provider: tuple[FaultyProvider, int], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Engine]:
    connectors = [
        ("strict", "refresh: {rotates: true}"),
        ("busy", "refresh: {}"),
        ("idle", "refresh: {idle: 90d, lifetime: 365d}"),
    ]
    async with engine(tmp_path_factory.mktemp("ahead"), port=provider[1], connectors=connectors) as made:
        yield made


async def told(engine: Engine, account: str) -> list[tuple[str, dict[str, Any]]]:
    async with engine.context.db.read() as tx:
        rows = await tx.scalars(select(Event).where(Event.account_id == account).order_by(Event.created_at, Event.id))
        return [(row.event, row.payload) for row in rows]


async def test_an_account_that_will_fail_is_announced_once(ahead: Engine) -> None:
    config = await ahead.config("strict", "key", "http://127.0.0.1:9/unused")
    soon = await ahead.link(config, api_key="k")
    await ahead.alter(soon, expected_failure_at=in_days(13))
    late = await ahead.link(config, api_key="k")
    assert 89 < ((await ahead.row(late)).expected_failure_at - clock.now()).days + 1 <= 91
    for _ in range(3):
        await schedule.announce_failures(ahead.context, JOB)
    events = await told(ahead, soon)
    assert [name for name, _ in events] == ["account.created", "account.expiring"]
    assert events[-1][1]["expected_failure_reason"] == "key_age"
    assert events[-1][1]["expected_failure_at"].endswith("Z")
    assert [name for name, _ in await told(ahead, late)] == ["account.created"]


async def test_a_token_that_ends_without_a_refresh_token_expires_though_nobody_called(ahead: Engine) -> None:
    config = await ahead.config("strict", "code", "http://127.0.0.1:9/unused")
    account = await ahead.link(config, answer(refresh_token=None))
    past = clock.now() - timedelta(minutes=1)
    await ahead.alter(account, expires_at=past, expected_failure_at=past)
    await schedule.announce_failures(ahead.context, JOB)
    seen = await ahead.account(account)
    assert (seen.status, seen.status_reasons[-1]["code"]) == ("expired", "access_token_ends")


async def test_scheduled_refreshes_keep_to_their_budget(ahead: Engine, provider: tuple[FaultyProvider, int]) -> None:
    """Sixty accounts of one connector are due at once: ten are renewed at a time."""
    running, port = provider
    running.delay = 0.1
    accounts = []
    try:
        for n in range(30):
            cell = f"budget-{n}"
            config = await ahead.config("busy", "code", f"http://127.0.0.1:{port}/{cell}")
            made = answer()
            running.cell(cell).refresh_token = made.refresh_token
            accounts.append(await ahead.link(config, made, owner=cell))
        now = clock.now()
        for account in accounts:
            await ahead.alter(account, refresh_at=now - timedelta(seconds=1))
        running.most = 0
        await schedule.refresh_due(ahead.context, JOB)
    finally:
        running.delay = 0.0
    assert [(await ahead.row(a)).last_outcome for a in accounts] == ["refreshed"] * 30
    assert 2 <= running.most <= schedule.PER_CONNECTOR
    assert sum(running.cell(f"budget-{n}").seen["token"] for n in range(30)) == 30
    await schedule.refresh_due(ahead.context, JOB)
    assert sum(running.cell(f"budget-{n}").seen["token"] for n in range(30)) == 30  # nothing is due any more


async def test_an_idle_grant_is_renewed_without_a_call_and_keeps_its_last_day(
    ahead: Engine, provider: tuple[FaultyProvider, int]
) -> None:
    running, port = provider
    config = await ahead.config("idle", "code", f"http://127.0.0.1:{port}/idle")
    made = answer(expires_in=None)
    running.cell("idle").refresh_token = made.refresh_token
    account = await ahead.link(config, made)
    first = await ahead.row(account)
    assert first.refresh_at is not None and first.expires_at is None and first.refresh_expires_at is not None
    assert first.expected_failure_reason == "refresh_token_ends"
    clock.shift(first.refresh_at - clock.now() + timedelta(seconds=1))
    try:
        await schedule.refresh_due(ahead.context, JOB)
    finally:
        clock.shift(timedelta())
    second = await ahead.row(account)
    assert (second.generation, running.cell("idle").seen["token"]) == (2, 1)
    assert second.refresh_expires_at == first.refresh_expires_at  # a year after the consent, whatever is done


async def test_of_thousands_that_are_due_each_connector_gets_its_share(ahead: Engine) -> None:
    now = clock.now()
    for connector, count, start in (("busy", 3000, 9000), ("strict", 1500, 100)):
        config = await ahead.config(connector, "code", "http://127.0.0.1:9/unused")
        one = await ahead.link(config, answer())
        await ahead.copies(
            one, config, count, refresh_at=lambda n, s=start: now - timedelta(seconds=s) + timedelta(milliseconds=n)
        )
    async with ahead.context.db.read() as tx:
        rows = await schedule.find_due(tx, now)
    shares = Counter(row.connector_key for row in rows)
    assert shares == {"busy": schedule.PER_CONNECTOR_BATCH, "strict": schedule.PER_CONNECTOR_BATCH}
    assert len({row.id for row in rows}) == len(rows)
    async with ahead.context.db.begin() as tx:  # what must not be asked for is not found
        configs = select(AuthConfig.id).where(AuthConfig.connector_key == "busy")
        await tx.execute(update(AuthConfig).where(AuthConfig.id.in_(configs)).values(active=False))
        await tx.execute(update(Account).where(Account.connector_key == "strict").values(status="suspended"))
    async with ahead.context.db.read() as tx:
        assert await schedule.find_due(tx, now) == []


async def test_a_probe_renews_a_token_that_was_ended_early(ahead: Engine, provider: tuple[FaultyProvider, int]) -> None:
    """A scheduled probe that meets a 401 does not call the account faulty before a refresh was tried."""
    running, port = provider
    config = await ahead.config("strict", "code", f"http://127.0.0.1:{port}/ended-early")
    cell, made = running.cell("ended-early"), answer()
    cell.refresh_token, cell.strict = made.refresh_token, True
    account = await ahead.link(config, made)
    assert await probes.probe(ahead.context, ahead.project, account) == "worked"
    assert (cell.seen["token"], cell.seen["/me"]) == (1, 2)
    assert (await ahead.account(account)).status == "active"
    cell.strict, cell.api = False, "status_401"
    assert await probes.probe(ahead.context, ahead.project, account, renew=False) == "rejected"
    assert cell.seen["token"] == 1
    assert (await ahead.account(account)).status == "error"


# --- clocks that are wrong (S28) --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "jumps"),
    [
        ("ten minutes ahead", [(0, 600)]),
        ("ten minutes behind", [(0, -600)]),
        ("an hour back", [(0, 0), (20, -3600)]),
        ("an hour back at the end of a token's life", [(0, 0), (54, -3600)]),
        ("two hours forward, over the end", [(0, 0), (20, 7200)]),
        ("forward and back again", [(0, 0), (20, 7200), (40, 0)]),
    ],
)
async def test_a_wrong_clock_costs_one_refresh_and_sends_no_ended_token(
    ahead: Engine, provider: tuple[FaultyProvider, int], name: str, jumps: list[tuple[int, int]]
) -> None:
    """Two hours of true time, a call every minute. The provider counts by the true time, the hub by its wrong clock."""
    running, port = provider
    cell_name = "clock-" + name.replace(" ", "-").replace(",", "").replace("'", "")
    cell, made = running.cell(cell_name), answer()
    cell.refresh_token = made.refresh_token
    true_start = datetime.now(UTC)
    offsets = dict(jumps)

    def go_to(minute: int, offset: int) -> None:
        passed = datetime.now(UTC) - true_start
        clock.shift(timedelta(minutes=minute) - passed + timedelta(seconds=offset))

    offset, issued, needed = offsets[0], 0, 0
    try:
        go_to(0, offset)
        config = await ahead.config("strict", "code", f"http://127.0.0.1:{port}/{cell_name}")
        account = await ahead.link(config, made)
        generation, late = 1, []
        for minute in range(1, 121):
            offset = offsets.get(minute, offset)
            go_to(minute, offset)
            serving = await ahead.context.accounts.get(ahead.project, account)
            serving = await ahead.context.refresher.fresh(serving)
            if serving.generation != generation:
                generation, issued, needed = serving.generation, minute, needed + 1
            if minute - issued >= 60:
                late.append(minute)
    finally:
        clock.shift(timedelta())
    assert late == []  # no ended token was sent
    right = 2  # a token of an hour, renewed a few minutes ahead, over two hours
    assert right <= cell.seen["token"] <= right + 1
    await asyncio.sleep(0)
