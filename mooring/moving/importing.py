"""Bring the accounts of a bundle into this hub: check the whole file first, then save batch by batch.

Accounts keep their ids. A credential's generation counts on across hubs, so that a bundle which is older than what an
account has seen here is told from the one that brings it back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.accounts import handover
from mooring.accounts.lifecycle import HANDED_OVER
from mooring.accounts.models import Account, Credential
from mooring.auth_configs import service as auth_configs
from mooring.auth_configs.models import AuthConfig
from mooring.auth_configs.service import field_fault
from mooring.connectors.definition import AuthMethod
from mooring.identity import audit
from mooring.identity.service import lock_project
from mooring.moving import arriving, matching
from mooring.moving.bundle import Reader
from mooring.moving.place import BATCH, Place, Progress

Record = Mapping[str, Any]
Standing = Literal["new", "back", "present"]
_KINDS: Final = ("bundle", "auth_config", "account", "end")


@dataclass(slots=True)
class Plan:
    """What an import would do, and everything that stands against it."""

    source: Record = field(default_factory=dict)
    counts: dict[Standing, int] = field(default_factory=lambda: {"new": 0, "back": 0, "present": 0})
    seen: int = 0
    configs: dict[str, str] = field(default_factory=dict)  # auth config there → here
    create: dict[str, Record] = field(default_factory=dict)  # auth configs to make
    methods: dict[str, AuthMethod] = field(default_factory=dict)  # by the id there
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Imported:
    """How an import ended."""

    counts: dict[Standing, int] = field(default_factory=lambda: {"new": 0, "back": 0, "present": 0})
    problems: list[str] = field(default_factory=list)


async def plan(place: Place, reader: Reader, mapped: Mapping[str, str]) -> Plan:
    """Read the whole bundle and compare it with what is here. Raises Unprocessable for a damaged one."""
    found, end = Plan(), None
    async with place.db.read() as tx:
        configs = await matching.configs_of(tx, place)
    for group in _groups(reader.records()):
        try:
            for record in group:
                if record["record"] == "bundle":
                    found.source = record
                elif record["record"] == "auth_config":
                    _plan_config(place, record, configs, mapped, found)
                elif record["record"] == "end":
                    end = int(record["accounts"])
            await _plan_accounts(place, [r for r in group if r["record"] == "account"], found)
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise errors.Unprocessable(
                f"a record of the bundle lacks a value or has one of the wrong kind ({type(e).__name__}: {e})",
                code="BundleFormatError",
            ) from None
    if end != found.seen or not found.source:
        raise errors.Unprocessable("the bundle lacks its first or its last record", code="BundleFormatError")
    return found


def _groups(records: Iterator[Record]) -> Iterator[list[Record]]:
    group: list[Record] = []
    for record in records:
        if record.get("record") not in _KINDS:
            continue  # of a later minor version
        group.append(record)
        if len(group) == BATCH:
            yield group
            group = []
    if group:
        yield group


def _plan_config(
    place: Place, record: Record, configs: Sequence[AuthConfig], mapped: Mapping[str, str], found: Plan
) -> None:
    here = matching.match(record, configs, mapped)
    title = f"{record['connector']} ({record['name']})"
    if isinstance(here, str):
        found.problems.append(here)
        return
    if here is None and "setup" not in record:
        found.problems.append(
            f"auth config {title}: this project has none for {record['connector']} by {record['method']}; create it, or "
            "export --with-auth-configs"
        )
        return
    try:
        if here is None:
            connector = auth_configs.find_version(place.registry, record["connector"], record["pinned_version"])
            found.methods[record["id"]] = auth_configs.find_method(connector, record["method"])
            found.create[record["id"]] = record
            return
        there = place.registry.of(here)
        if there is None:
            raise auth_configs.gone(place.registry, here)
        found.methods[record["id"]] = auth_configs.find_method(there, here.method_key)
        found.configs[record["id"]] = here.id
    except errors.MooringError as e:
        found.problems.append(f"auth config {title}: {e.message}")


async def _plan_accounts(place: Place, records: Sequence[Record], found: Plan) -> None:
    if not records:
        return
    async with place.db.read() as tx:
        rows = await _rows(tx, [r["id"] for r in records])
    for record in records:
        found.seen += 1
        method = found.methods.get(record["auth_config"])
        faults = [] if method is None else _faults(record, method)  # without one, its auth config is reported
        standing, why = _standing(place, found.source, record, *rows.get(record["id"], (None, None)))
        if why is not None:
            faults = [why]
        found.problems += [f"account {record['id']}: {fault}" for fault in faults]
        if standing is not None:
            found.counts[standing] += 1


async def _rows(tx: AsyncSession, ids: Sequence[str]) -> dict[str, tuple[Account, Credential | None]]:
    rows = await tx.execute(
        select(Account, Credential)
        .outerjoin(Credential, Credential.account_id == Account.id)
        .where(Account.id.in_(ids))
        .execution_options(populate_existing=True)
    )
    return {row[0].id: (row[0], row[1]) for row in rows}


def _standing(
    place: Place, source: Record, record: Record, account: Account | None, credential: Credential | None
) -> tuple[Standing | None, str | None]:
    """What becomes of an account that may be here already: one of the counts, or why it must not be imported."""
    comes = record["credential"]
    if account is None:
        return "new", None
    if account.project_id != place.project:
        return None, "another project of this hub has it"
    if account.status == "archived" or credential is None:
        return None, "it was deleted here"
    if account.status == HANDED_OVER:
        if source["hand_over"] and comes["generation"] > credential.generation:
            return "back", None
        left = handover.bundle_of(account)
        return None, (
            f"it was handed over from here with {left}, and this bundle holds nothing newer. If {left} was imported "
            f"nowhere: mooring accounts hand-back {left}"
        )
    if source["project"]["id"] == place.project:
        return None, "it is live here, in the project that the bundle was made of"
    if source["hand_over"] and comes["refreshable"] and not credential.refreshable:
        return "back", None  # so far only a copy without its refresh token was here
    return "present", None


def _faults(record: Record, method: AuthMethod) -> list[str]:
    """Values that the connector here would not take: they decide where the credential is sent."""
    known = {f.key: f for f in method.fields}
    given = {**record["setup"], **record["credential"]["fields"]}
    out = [f"the connector here has no field {name!r}" for name in given if name not in known]
    for name, value in given.items():
        spec = known.get(name)
        if spec is not None and (not isinstance(value, str) or field_fault(spec.pattern, None, value)):
            out.append(f"the connector here does not take its {name}")
    patterns = method.oauth2.keep_patterns if method.oauth2 is not None else {}
    for name, value in record["credential"]["kept"].items():
        if name in patterns and field_fault(patterns[name], None, str(value)):
            out.append(f"the connector here does not take its {name}")
    return out


async def run(place: Place, reader: Reader, planned: Plan, progress: Progress) -> Imported:
    """Save what `plan` found no fault with. What is here already stays, so a run that was cut off is just repeated."""
    done = Imported()
    if planned.create:
        async with place.db.begin() as tx:
            for id, record in planned.create.items():
                made = await auth_configs.create(
                    tx,
                    place.vault,
                    place.registry,
                    place.project,
                    connector_key=record["connector"],
                    method_key=record["method"],
                    name=record["name"],
                    environment=record["environment"],
                    pin=record["pinned_version"],
                    setup=record["setup"],
                )
                planned.configs[id] = made.id
    count = 0
    for group in _groups(reader.records()):
        accounts = [r for r in group if r["record"] == "account"]
        async with place.db.begin() as tx:
            await lock_project(tx, place.project)  # accounts are made under it
            there = await _rows(tx, [record["id"] for record in accounts])
            for record in accounts:
                await _save(tx, place, planned, record, done, is_here=record["id"] in there)
        count += len(accounts)
        progress(count, planned.seen)
    async with place.db.begin() as tx:
        audit.note(
            tx,
            "accounts.imported",
            project_id=place.project,
            target=("bundle", str(planned.source["id"])),
            detail=cast("dict[str, Any]", done.counts),
        )
    return done


async def _save(
    tx: AsyncSession, place: Place, planned: Plan, record: Record, done: Imported, *, is_here: bool
) -> None:
    account, credential = None, None
    if is_here:
        # Looked at again, under the lock that refreshes and links take: the plan was made a while ago.
        mine = Credential.account_id == record["id"]
        await tx.execute(select(Credential.account_id).where(mine).with_for_update(of=Credential))
        account, credential = (await _rows(tx, [record["id"]])).get(record["id"], (None, None))
    standing, why = _standing(place, planned.source, record, account, credential)
    if standing is None:
        done.problems.append(f"account {record['id']}: {why}")
        return
    done.counts[standing] += 1
    if standing != "present":
        config = await auth_configs.get(tx, place.project, planned.configs[record["auth_config"]])
        await arriving.place_account(
            tx, place, record, account, config, planned.methods[record["auth_config"]], str(planned.source["id"])
        )
