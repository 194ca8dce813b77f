"""Save one account of a bundle, sealed with this hub's keys."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from mooring.accounts import handover, service
from mooring.accounts.credentials import Secrets, Times
from mooring.accounts.models import Account
from mooring.accounts.service import NewCredential
from mooring.accounts.testing import Identity
from mooring.auth_configs.models import AuthConfig
from mooring.connectors.definition import AuthMethod
from mooring.identity import audit
from mooring.kit import clock
from mooring.kit.db import record_change
from mooring.moving.place import Place

FIRST_PROBE: Final = (60.0, 900.0)
"""Seconds in which a health probe tries what nobody has tried here yet, spread so that no provider is flooded."""


async def place_account(
    tx: AsyncSession,
    place: Place,
    record: Mapping[str, Any],
    account: Account | None,
    config: AuthConfig,
    method: AuthMethod,
    bundle: str,
) -> None:
    """Make the account, or bring the one back that was handed over."""
    now = clock.now()
    created = account is None
    if account is None:
        account = Account(
            id=record["id"],
            project_id=place.project,
            connector_key=config.connector_key,
            owner_slot=await _slot(tx, place, record),
            created_at=now,
        )
        tx.add(account)
    account.auth_config_id = config.id
    account.origin_owner_id = record["origin_owner_id"]
    account.origin_owner_name = record["origin_owner_name"]
    account.origin_username = record["origin_username"]
    account.label = record["label"]
    account.meta = record["metadata"]
    account.type = record["type"]
    account.shared = record["shared"]
    account.status = record["status"] if record["status"] in handover.MOVABLE else "active"
    account.status_reasons = record["status_reasons"]
    account.setup = record["setup"]
    account.granted_scopes = record["granted_scopes"]
    account.missing_scopes = record["missing_scopes"]
    account.identity = record["identity"]
    account.identity_label = record["identity_label"]
    account.updated_at = now
    await tx.flush()
    comes = record["credential"]
    new = NewCredential(
        config=config,
        method=method,
        probe_at=first_probe(place, config, method),
        setup=record["setup"],
        secrets=Secrets(
            fields=comes["fields"],
            access_token=comes["access_token"],
            refresh_token=comes["refresh_token"],
            kept=comes["kept"],
            login=comes["login"],
        ),
        times=Times(_time(comes["expires_at"]), _time(comes["refresh_at"]), _time(comes["refresh_expires_at"])),
        refreshable=comes["refreshable"],
        granted_scopes=record["granted_scopes"],
        missing_scopes=record["missing_scopes"],
        identity=Identity(record["identity"], record["identity_label"]),
    )
    await service.save_credential(
        tx, place.vault, account, new, after=comes["generation"], typed_at=_time(comes["typed_at"])
    )
    record_change(tx, "account", account.id)
    await service.announce(tx, account, "account.created" if created else "account.updated")
    audit.note(
        tx,
        "account.imported",
        project_id=place.project,
        target=("account", account.id),
        label=account.label or account.origin_owner_name,
        detail={"connector": account.connector_key, "bundle": bundle},
    )


async def _slot(tx: AsyncSession, place: Place, record: Mapping[str, Any]) -> str | None:
    """The owner's upsert slot. Where the owner has linked an account here meanwhile, the one that comes stands beside."""
    if record["multiple"]:
        return None
    slot = service.slot_of(place.project, record["origin_owner_id"], record["origin_owner_name"], record["connector"])
    taken = await tx.scalar(select(Account.id).where(Account.owner_slot == slot))
    return None if taken else slot


def first_probe(place: Place, config: AuthConfig, method: AuthMethod) -> datetime | None:
    """When to try an imported credential first; None where the connector has no probes."""
    connector = place.registry.of(config)
    if connector is None or method.test is None or not connector.probe:
        return None
    return clock.now() + timedelta(seconds=random.uniform(*FIRST_PROBE))  # noqa: S311 - jitter


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text is not None else None
