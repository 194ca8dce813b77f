"""Bring a list of tokens from elsewhere into this hub: check every row first, report all faults at once, then save.

A row is known again by its owner, its connector and its id in the old system, which is kept in the account's metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.accounts import service
from mooring.accounts.models import Account
from mooring.accounts.service import NewCredential, OwnerInfo
from mooring.accounts.testing import Identity
from mooring.auth_configs import service as auth_configs
from mooring.auth_configs.models import AuthConfig
from mooring.auth_configs.service import OpenConfig
from mooring.identity import audit
from mooring.kit import clock
from mooring.moving import fitting, matching
from mooring.moving.arriving import first_probe
from mooring.moving.place import BATCH, Place, Progress
from mooring.moving.rows import Fault, FaultError, Reading, Row
from mooring.protocol.oauth2 import missing_scopes

ID_KEY: Final = "imported_id"
"""Where an account's metadata keeps the id that it had elsewhere."""

Read = Callable[[], Reading]


@dataclass(frozen=True, slots=True)
class Options:
    """What the operator says about the list."""

    mapped: Mapping[str, str] = field(default_factory=dict)  # what the list calls an auth config, or a provider → here
    renamed: Mapping[str, str] = field(default_factory=dict)  # a value of the list → a field here
    beside: bool = False  # import although the owner has an account of the connector


@dataclass(slots=True)
class Listed:
    """What the rows of a list are, or what became of them."""

    rows: int = 0
    new: int = 0
    present: int = 0
    faults: list[Fault] = field(default_factory=list)
    made: list[tuple[str, str]] = field(default_factory=list)  # id elsewhere (or the line) → account


class _Chooser:
    """Finds the auth config of a row, and opens each only once."""

    def __init__(self, place: Place, options: Options) -> None:
        self._place = place
        self._options = options
        self._configs: Sequence[AuthConfig] = ()
        self._opened: dict[str, OpenConfig] = {}

    async def prepare(self) -> None:
        """Read the auth configs of the project."""
        async with self._place.db.read() as tx:
            self._configs = await matching.configs_of(tx, self._place)

    async def choose(self, row: Row) -> OpenConfig:
        """Raises FaultError."""
        wanted = self._options.mapped.get(row.config or "") or self._options.mapped.get(row.provider)
        if wanted is not None:
            config = matching.named(self._configs, wanted)
            if config is None:
                raise FaultError(f"--map names {wanted!r}, which is no auth config of this project, or several")
            return await self._open(config)
        own = matching.named(self._configs, row.config) if row.config else None
        there = [own] if own else [
            c for c in self._configs if c.active and matching.plain(c.connector_key) == matching.plain(row.provider)
        ]  # fmt: skip
        if not there:
            raise FaultError(f"provider: this project has no active auth config for {row.provider!r}")
        kin = [o for c in there if fitting.fits(row, (o := await self._open(c)).method)]
        whole = kin if len(kin) == 1 else [o for o in kin if _is_whole(row, o, self._options)]
        if len(whole) != 1:
            what = "several fit" if whole else "none takes such a credential"
            name = row.config or row.provider
            raise FaultError(
                f"provider: of the auth configs for {row.provider!r} {what}; say which with --map {name}=ID"
            )
        return whole[0]

    async def _open(self, config: AuthConfig) -> OpenConfig:
        if config.id not in self._opened:
            async with self._place.db.read() as tx:
                try:
                    opened = await auth_configs.open_config(tx, self._place.vault, self._place.registry, config)
                except errors.MooringError as e:
                    raise FaultError(f"provider: {e.message}") from None
            self._opened[config.id] = opened
        return self._opened[config.id]


def _is_whole(row: Row, opened: OpenConfig, options: Options) -> bool:
    try:
        fitting.fit(row, opened, options.renamed, clock.now())
    except FaultError:
        return False
    return True


async def plan(place: Place, read: Read, options: Options) -> Listed:
    """Check every row of a list. Nothing is written."""
    found = Listed()
    chooser = _Chooser(place, options)
    await chooser.prepare()
    seen: dict[tuple[str, str], dict[str | None, int]] = {}
    for group in _groups(read()):
        found.rows += len(group)
        found.faults += [item for item in group if isinstance(item, Fault)]
        async with place.db.read() as tx:
            for row in (item for item in group if isinstance(item, Row)):
                try:
                    opened = await chooser.choose(row)
                    _fit(row, opened, options)
                    _require_once(row, opened, seen)
                    present = await _present(tx, place, row, opened, options)
                except FaultError as e:
                    found.faults.append(Fault(row.line, str(e)))
                    continue
                found.new += not present
                found.present += present
    found.faults.sort(key=lambda fault: fault.line)
    return found


def _require_once(row: Row, opened: OpenConfig, seen: dict[tuple[str, str], dict[str | None, int]]) -> None:
    """Raise FaultError unless the row can be told from those before it: an owner's several ones need ids."""
    others = seen.setdefault((row.owner_id, opened.connector.key), {})
    if row.external_id in others:
        raise FaultError(f"is the same account as line {others[row.external_id]}")
    if others and (row.external_id is None or None in others):
        line = next(iter(others.values()))
        raise FaultError(f"external_id: is needed here and in line {line}, which has the same owner and connector")
    others[row.external_id] = row.line


def _groups(rows: Reading) -> Iterator[list[Row | Fault]]:
    group: list[Row | Fault] = []
    for row in rows:
        group.append(row)
        if len(group) == BATCH:
            yield group
            group = []
    if group:
        yield group


def _fit(row: Row, opened: OpenConfig, options: Options) -> fitting.Fitted:
    if not fitting.fits(row, opened.method):
        raise FaultError(f"the auth config {opened.row.name!r} ({opened.method.key}) takes no such credential")
    return fitting.fit(row, opened, options.renamed, clock.now())


async def _present(tx: AsyncSession, place: Place, row: Row, opened: OpenConfig, options: Options) -> bool:
    """Whether the row was imported before. Raises FaultError for an owner whose account is another one."""
    accounts = await tx.scalars(
        select(Account).where(
            Account.project_id == place.project,
            Account.origin_owner_id == row.owner_id,
            Account.connector_key == opened.connector.key,
            Account.status != "archived",
        )
    )
    others = []
    for account in accounts:
        known = (account.meta or {}).get(ID_KEY)
        if known is not None and known == row.external_id:
            return True
        if known is None or row.external_id is None:
            others.append(account.id)
    if others and options.beside and row.external_id is None:
        raise FaultError("external_id: is needed for an account beside another one")
    if others and not options.beside:
        raise FaultError(
            f"the owner has an account of {opened.connector.key} already: {others[0]}; nothing is overwritten. --beside "
            "makes another one"
        )
    return False


async def run(place: Place, read: Read, options: Options, planned: Listed, progress: Progress) -> Listed:
    """Save the rows that `plan` found no fault with, batch by batch. One that is here already stays as it is."""
    done = Listed()
    chooser = _Chooser(place, options)
    await chooser.prepare()
    for group in _groups(read()):
        async with place.db.begin() as tx:
            for row in (item for item in group if isinstance(item, Row)):
                done.rows += 1
                try:
                    opened = await chooser.choose(row)
                    if await _present(tx, place, row, opened, options):
                        done.present += 1
                        continue
                    made = await _save(tx, place, row, opened, options)
                except (FaultError, errors.MooringError) as e:  # what has changed since the plan
                    done.faults.append(Fault(row.line, str(e)))
                    continue
                done.new += 1
                done.made.append((row.external_id or f"line {row.line}", made))
        progress(done.rows, planned.rows)
    async with place.db.begin() as tx:
        audit.note(
            tx,
            "accounts.imported",
            project_id=place.project,
            target=("project", place.project),
            detail={"new": done.new, "present": done.present},
        )
    return done


async def _save(tx: AsyncSession, place: Place, row: Row, opened: OpenConfig, options: Options) -> str:
    fitted = _fit(row, opened, options)
    scope = {**opened.setup, **fitted.public, **fitted.secrets.scope()}
    metadata = {**(row.metadata or {}), **({ID_KEY: row.external_id} if row.external_id else {})}
    owner = OwnerInfo(row.owner_id, row.owner_name, row.username, row.label, metadata or None)
    new = NewCredential(
        config=opened.row,
        method=opened.method,
        probe_at=first_probe(place, opened.row, opened.method),
        setup=fitted.public,
        secrets=fitted.secrets,
        times=fitted.times,
        refreshable=fitted.refreshable,
        granted_scopes=row.scopes,
        missing_scopes=missing_scopes(opened.scopes_for(scope), row.scopes) if row.scopes else (),
        identity=Identity(None, None),
    )
    found = await service.find_for_owner(tx, place.project, owner, opened.connector.key)
    linked = await service.link(tx, place.vault, place.project, owner, new, account_id=None, multiple=found is not None)
    audit.note(
        tx,
        "account.imported",
        project_id=place.project,
        target=("account", linked.account.id),
        label=row.label or row.owner_name,
        detail={"connector": opened.connector.key},
    )
    return linked.account.id
