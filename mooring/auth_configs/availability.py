"""Which connectors a project may set up and link: all of the catalogue, but those that an operator switched off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.auth_configs.models import UnavailableConnector
from mooring.connectors.definition import Connector
from mooring.identity import audit
from mooring.identity.service import ProjectId, lock_project
from mooring.kit import clock

MAX_REASON: Final = 500  # characters


async def switched_off(tx: AsyncSession, project: ProjectId) -> Sequence[UnavailableConnector]:
    """The connectors that are not available in the project, by key."""
    query = select(UnavailableConnector).where(UnavailableConnector.project_id == project)
    return (await tx.scalars(query.order_by(UnavailableConnector.connector_key))).all()


async def reasons(tx: AsyncSession, project: ProjectId) -> dict[str, str]:
    """Connector → why it is not available in the project."""
    return {row.connector_key: row.reason for row in await switched_off(tx, project)}


async def require(tx: AsyncSession, project: ProjectId, connector_key: str) -> None:
    """Refuse what would set up or link a connector that is not available. Raises Unprocessable with the reason."""
    row = await tx.get(UnavailableConnector, (project, connector_key))
    if row is not None:
        raise errors.Unprocessable(
            f"the connector {connector_key!r} is not available in this project: {row.reason}",
            code="ConnectorUnavailableError",
            hint="An admin of the project can make it available again. Linked accounts keep working meanwhile.",
        )


async def switch_off(tx: AsyncSession, project: ProjectId, connector: Connector, reason: str) -> UnavailableConnector:
    """Make a connector unavailable in the project, or change the reason. Accounts that are linked keep working.

    Raises ValidationFailed for a reason that says nothing.
    """
    text = " ".join(reason.split())
    if not text or len(text) > MAX_REASON or not text.isprintable():
        raise errors.ValidationFailed(
            "the reason is not valid", errors=[f"reason: needs 1 to {MAX_REASON} printable characters"]
        )
    await lock_project(tx, project)
    row = await tx.get(UnavailableConnector, (project, connector.key))
    if row is None:
        row = UnavailableConnector(project_id=project, connector_key=connector.key, reason=text)
        tx.add(row)
    row.reason, row.changed_at = text, clock.now()
    await tx.flush()
    _note(tx, project, "connector.made_unavailable", connector, {"reason": text})
    return row


async def switch_on(tx: AsyncSession, project: ProjectId, connector: Connector) -> None:
    """Make a connector available again; nothing happens if it is."""
    await lock_project(tx, project)
    row = await tx.get(UnavailableConnector, (project, connector.key))
    if row is not None:
        await tx.delete(row)
        await tx.flush()
        _note(tx, project, "connector.made_available", connector, {})


def _note(tx: AsyncSession, project: ProjectId, action: str, connector: Connector, detail: dict[str, str]) -> None:
    target = ("connector", connector.key)
    audit.note(tx, action, project_id=project, target=target, label=connector.title, detail=detail)
