"""What one comparison of the file with the hub works with, and what it found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from mooring.connectors.registry import Registry
from mooring.connectors.yaml_source import Location
from mooring.identity.service import ProjectId
from mooring.kit.egress import EgressGuard
from mooring.kit.vault import Vault
from mooring.plan.changes import Change, Kind, Plan
from mooring.plan.reading import HubFile


@dataclass(frozen=True, slots=True)
class Tools:
    """What the services need beside a transaction."""

    vault: Vault
    registry: Registry
    guard: EgressGuard


@dataclass(slots=True)
class Comparison:
    """One comparison in one transaction, and what it found."""

    tx: AsyncSession
    tools: Tools
    file: HubFile
    prune: bool
    plan: Plan = field(default_factory=Plan)
    organizations: dict[Location, int] = field(default_factory=dict)
    projects: dict[Location, ProjectId] = field(default_factory=dict)

    def gone(self, kind: Kind, at: Location, path: tuple[str, ...], id: str, **want: Any) -> None:
        """Note what is not in a list of the file: deleted with `prune`, else left."""
        to = self.plan.changes if self.prune else self.plan.left
        to.append(Change("delete", kind, at, path, id=id, want=want))
