"""Which auth config of this project stands for one of another hub, or for a provider's name elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from mooring.auth_configs.models import AuthConfig
from mooring.moving.place import Place


def plain(name: str) -> str:
    """A name without what different systems spell differently: `google-drive`, `google_drive` and `GoogleDrive`."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


async def configs_of(tx: AsyncSession, place: Place) -> Sequence[AuthConfig]:
    """The auth configs of the project, in order of creation."""
    query = select(AuthConfig).where(AuthConfig.project_id == place.project)
    return (await tx.scalars(query.order_by(AuthConfig.created_at, AuthConfig.id))).all()


def named(configs: Sequence[AuthConfig], wanted: str) -> AuthConfig | None:
    """The auth config with this id, or with this name if only one has it."""
    found = [c for c in configs if c.id == wanted] or [c for c in configs if c.name == wanted]
    return found[0] if len(found) == 1 else None


def match(
    record: Mapping[str, Any], configs: Sequence[AuthConfig], mapped: Mapping[str, str]
) -> AuthConfig | str | None:
    """The auth config for one of a bundle, what stands against it, or None when there is nothing like it here.

    A refresh token works only with the app that it was given to (RFC 6749 §6), so the client id must be the same.
    """
    title = f"{record['connector']} ({record['name']})"
    wanted = mapped.get(record["id"]) or mapped.get(record["name"])
    if wanted is not None:
        found = named(configs, wanted)
        if found is None:
            return f"auth config {title}: --map names {wanted!r}, which is no auth config of this project, or several"
        if (found.connector_key, found.method_key) != (record["connector"], record["method"]):
            return f"auth config {title}: {wanted!r} is for {found.connector_key} by {found.method_key}"
        if (fault := _other_app(record, found)) is not None:
            return f"auth config {title}: {fault}"
        return found
    alike = [c for c in configs if (c.connector_key, c.method_key) == (record["connector"], record["method"])]
    fitting = [c for c in alike if _other_app(record, c) is None]
    exact = [c for c in fitting if c.id == record["id"]] or [c for c in fitting if c.name == record["name"]]
    for group in (exact, fitting):
        if len(group) == 1:
            return group[0]
    if len(fitting) > 1:
        return f"auth config {title}: several here fit; choose one with --map {record['id']}=ID"
    if alike:
        return f"auth config {title}: {_other_app(record, alike[0])}"
    return None


def _other_app(record: Mapping[str, Any], config: AuthConfig) -> str | None:
    here = config.setup.get("client_id")
    if record["client_id"] == here:
        return None
    return (
        f"{config.name!r} here has the client id {here!r}, the tokens belong to {record['client_id']!r}; they are renewed "
        "only with their own app"
    )
