"""Write what the hub has as `hub.yaml`. A secret becomes a reference with a proposed name, never its value."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import yaml
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from mooring.auth_configs import availability
from mooring.auth_configs import service as auth_configs
from mooring.auth_configs.models import AuthConfig
from mooring.connectors.registry import Registry
from mooring.identity import project_settings
from mooring.identity.models import Organization, Project
from mooring.identity.service import ProjectId
from mooring.kit.vault import Vault
from mooring.plan.own_connectors import fingerprint
from mooring.plan.spec import SettingsSpec
from mooring.protocol.redact import redact_url
from mooring.webhooks import secrets
from mooring.webhooks import service as webhooks
from mooring.webhooks.models import WebhookEndpoint

SCHEMA = "docs/hub.schema.json"


class Export:
    """One export: what was proposed as names stays unique in it."""

    def __init__(self, tx: AsyncSession, vault: Vault, registry: Registry) -> None:
        self._tx = tx
        self._vault = vault
        self._registry = registry
        self.names: list[str] = []
        """The environment variables that the file refers to."""
        self.notes: list[str] = []
        """What the file leaves out."""

    async def text(self, public_url: str, project: Project | None = None) -> str:
        """The file, of the whole hub or of one project."""
        data: dict[str, Any] = {"version": 1, "organizations": await self._organizations(project)}
        if project is None and (own := self._connectors()):
            data["connectors"] = own
        body = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110)
        head = [f"# yaml-language-server: $schema={public_url}/{SCHEMA}"]
        head += [f"# {note}" for note in self.notes]
        if self.names:
            head += ["# Give these in the environment, or refer to files instead ({file: path}):"]
            head += [f"#   {name}" for name in self.names]
        return "\n".join(head) + "\n" + body

    async def _organizations(self, only: Project | None) -> list[dict[str, Any]]:
        out = []
        for row in await self._tx.scalars(select(Organization).order_by(Organization.name)):
            if only is not None and row.id != only.organization_id:
                continue
            query = select(Project).where(Project.organization_id == row.id, Project.deleted_at.is_(None))
            rows = (await self._tx.scalars(query.order_by(Project.name, Project.created_at, Project.id))).all()
            twins = Counter(p.name for p in rows)
            chosen = [p for p in rows if only is None or p.id == only.id]
            projects = [await self._project(row.name, p, twins[p.name] > 1) for p in chosen]
            out.append({"name": row.name, "projects": projects})
        return out

    async def _project(self, organization: str, row: Project, twin: bool) -> dict[str, Any]:
        id = ProjectId(row.id)
        found = await project_settings.get(self._tx, id)
        if found.logo_version is not None:
            self.notes.append(f"The logo of {row.id} is not in this file, so it stays as it is.")
        settings = {name: getattr(found, name) for name in SettingsSpec.model_fields if name != "logo"}
        home = f"{organization} {row.name}"
        configs = (await auth_configs.search(self._tx, id))[0]
        endpoints = await webhooks.search(self._tx, id)
        return {
            "name": row.name,
            **({"id": row.id} if twin else {}),
            "log_days": row.log_days,
            "ip_allowlist": list(row.ip_allowlist),
            "settings": {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()},
            "unavailable": await availability.reasons(self._tx, id),
            "auth_configs": await self._auth_configs(home, configs),
            "webhooks": [await self._webhook(home, n, e, endpoints) for n, e in enumerate(endpoints, 1)],
        }

    async def _auth_configs(self, home: str, rows: Sequence[AuthConfig]) -> list[dict[str, Any]]:
        twins = Counter((r.connector_key, r.method_key, r.name) for r in rows)
        out = []
        for row in rows:
            connector = self._registry.of(row)
            method = connector.auth.get(row.method_key) if connector else None
            setup: dict[str, Any] = dict(row.setup)
            scopes = setup.pop("scopes", None) if isinstance(setup.get("scopes"), list) else None
            for key in sorted(await auth_configs.open_secrets(self._tx, self._vault, row)):
                setup[key] = self._reference(f"{home} {row.connector_key} {row.method_key} {key}")
            out.append(
                {
                    "connector": row.connector_key,
                    "method": row.method_key,
                    "name": row.name,
                    **({"id": row.id} if twins[row.connector_key, row.method_key, row.name] > 1 else {}),
                    "environment": row.environment,
                    "pin": row.connector_pinned_version or "latest",
                    "active": row.active,
                    "default": row.is_default,
                    **({"scopes": scopes} if method is None or method.oauth2 is not None else {}),
                    "setup": setup,
                }
            )
        return out

    async def _webhook(
        self, home: str, number: int, row: WebhookEndpoint, rows: Sequence[WebhookEndpoint]
    ) -> dict[str, Any]:
        twin = sum(r.url == row.url for r in rows) > 1
        hidden = redact_url(row.url) != row.url  # a token may stand in it
        active = [s for s in await secrets.search(self._tx, row) if s.active]
        return {
            "url": self._reference(f"{home} webhook {number} url") if hidden else row.url,
            **({"id": row.id} if twin else {}),
            "description": row.description,
            "events": list(row.events),
            "enabled": row.enabled,
            "secrets": [self._reference(f"{home} webhook {number} secret") for _ in active],
        }

    def _connectors(self) -> list[dict[str, Any]]:
        out = []
        for key in self._registry:
            if self._registry.is_shipped(key):
                continue
            for version in self._registry.versions(key):
                found = self._registry.pinned(key, version)
                assert found is not None
                out.append({"key": key, "version": version, "sha256": fingerprint(found)})
        return out

    def _reference(self, words: str) -> dict[str, str]:
        """A name that no other secret of this file has."""
        name = re.sub(r"[^A-Z0-9]+", "_", words.upper()).strip("_")[:180] or "SECRET"
        if name[0].isdigit() or name.startswith("MOORING_"):  # the hub would take it for a setting of its own
            name = f"HUB_{name}"
        unique, count = name, 1
        while unique in self.names:
            count += 1
            unique = f"{name}_{count}"
        self.names.append(unique)
        return {"env": unique}
