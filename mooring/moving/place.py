"""The hub and the project at which accounts leave or arrive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mooring.connectors.registry import Registry
from mooring.identity.service import ProjectId
from mooring.kit.db import Database
from mooring.kit.vault import Vault

BATCH = 50
"""Accounts per transaction: a running hub must not wait for long."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Place:
    """What a move needs of a hub."""

    db: Database
    vault: Vault
    registry: Registry
    project: ProjectId
    project_name: str
