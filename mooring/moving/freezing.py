"""Freeze accounts before they leave, list the frozen ones, and take them back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence

from sqlalchemy import Select, func, select

from mooring import errors
from mooring.accounts import handover, service
from mooring.accounts.lifecycle import HANDED_OVER
from mooring.accounts.models import Account, Credential
from mooring.identity import audit
from mooring.kit.db import now_of
from mooring.moving.place import BATCH, Place, Progress

_PAUSE = 0.2  # seconds between looks at accounts whose token is being renewed


async def freeze_all(
    place: Place, chosen: Select[str], bundle: str, left_out: dict[str, str], *, wait: float, progress: Progress
) -> None:
    """Freeze the chosen accounts; wait for refreshes that are under way. What can't be frozen is left out."""
    async with place.db.read() as tx:
        total = await tx.scalar(select(func.count()).select_from(chosen.subquery())) or 0
    count = 0
    async for page in pages(place, chosen):
        count += await _freeze(place, page, bundle, left_out)
        progress(count, 2 * total)
    end = time.monotonic() + wait
    while left_out and time.monotonic() < end:
        await asyncio.sleep(_PAUSE)
        again = sorted(left_out)
        for start in range(0, len(again), BATCH):
            await _freeze(place, again[start : start + BATCH], bundle, left_out)


async def _freeze(place: Place, wanted: Sequence[str], bundle: str, left_out: dict[str, str]) -> int:
    """Freeze some accounts, in one transaction and in one order, so that nobody waits in a circle."""
    frozen = 0
    async with place.db.begin() as tx:
        for id in sorted(wanted):
            try:
                account, _ = await service.lock(tx, place.project, id, project_wide=False)
            except errors.NotFound:
                left_out.pop(id, None)
                continue
            credential = await tx.get_one(Credential, id, populate_existing=True)
            why = handover.obstacle(account, credential, await now_of(tx))
            if why is not None:
                left_out[id] = why
                continue
            await handover.freeze(tx, account, bundle)
            left_out.pop(id, None)
            frozen += 1
    return frozen


async def pages(place: Place, query: Select[str]) -> AsyncIterator[Sequence[str]]:
    """Ids of accounts, some at a time and in order, each page read in a transaction of its own."""
    after = ""
    while True:
        async with place.db.read() as tx:
            page = (await tx.scalars(query.where(Account.id > after).order_by(Account.id).limit(BATCH))).all()
        if page:
            yield page
        if len(page) < BATCH:
            return
        after = page[-1]


def frozen_ids(project: str) -> Select[str]:
    """Accounts of a project that are handed over, with whatever bundle."""
    return select(Account.id).where(Account.project_id == project, Account.status == HANDED_OVER)


async def frozen(place: Place, bundle_id: str) -> int:
    """How many accounts are handed over with a bundle."""
    return next((count for id, _, count in await handed_over(place) if id == bundle_id), 0)


async def handed_over(place: Place) -> list[tuple[str, str, int]]:
    """Every bundle that accounts of the project are handed over with: id, since when, how many accounts."""
    found: dict[str, tuple[str, int]] = {}
    async for page in pages(place, frozen_ids(place.project)):
        async with place.db.read() as tx:
            for account in await tx.scalars(select(Account).where(Account.id.in_(page))):
                id = handover.bundle_of(account) or ""
                at, count = found.get(id, (handover.since(account), 0))
                found[id] = (min(at, handover.since(account)), count + 1)
    return sorted(((id, at, count) for id, (at, count) in found.items()), key=lambda b: b[1])


async def hand_back(place: Place, bundle_id: str, progress: Progress) -> int:
    """Take the accounts of a bundle back, as they were. Only right when the bundle was imported nowhere."""
    total, count = await frozen(place, bundle_id), 0
    async for page in pages(place, frozen_ids(place.project)):
        async with place.db.begin() as tx:
            for id in page:
                with contextlib.suppress(errors.NotFound):
                    account, _ = await service.lock(tx, place.project, id, project_wide=False)
                    if handover.bundle_of(account) == bundle_id:
                        await handover.thaw(tx, account)
                        count += 1
        progress(count, total)
    if count:
        async with place.db.begin() as tx:
            audit.note(
                tx,
                "accounts.handed_back",
                project_id=place.project,
                target=("bundle", bundle_id),
                detail={"accounts": count},
            )
    return count
