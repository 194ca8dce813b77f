"""Rules and queries for auth configs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import orjson
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.auth_configs import availability
from mooring.auth_configs.models import AuthConfig
from mooring.connectors.definition import AuthMethod, Connector
from mooring.connectors.registry import PIN, Registry
from mooring.identity import audit, sealing
from mooring.identity.service import ProjectId, lock_project
from mooring.kit import clock, ids
from mooring.kit.db import record_change
from mooring.kit.vault import Owner, Vault
from mooring.protocol.template import Unresolved
from mooring.webhooks import service as webhooks
from mooring.webhooks.events import auth_config_payload

_SECRETS = "setup"  # the vault's field name
NOT_FOUND = "no such auth config"


@dataclass(frozen=True, slots=True)
class OpenConfig:
    """An auth config with its secrets open, for the moment of a token request or a rendered form."""

    row: AuthConfig
    connector: Connector
    method: AuthMethod
    setup: Mapping[str, str] = field(repr=False)  # app fields, secrets included, defaults filled in

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes to ask for: the operator's, else the connector's, as they are written."""
        chosen = self.row.setup.get("scopes")
        if chosen is not None:
            return tuple(chosen)
        return self.method.oauth2.scopes if self.method.oauth2 else ()

    def scopes_for(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        """The scopes with the values of one account in them. Raises Unprocessable for a value that is missing."""
        templates = self.method.oauth2.scope_templates if self.method.oauth2 else {}
        if not templates:
            return self.scopes
        try:
            return tuple(templates[s].render(values) if s in templates else s for s in self.scopes)
        except Unresolved as e:
            raise errors.Unprocessable(f"a scope needs a value that is missing: {e}") from None


def owner_of(row: AuthConfig) -> Owner:
    """The vault's name for an auth config."""
    return Owner(row.project_id, "auth_config", row.id)


async def get(tx: AsyncSession, project: ProjectId, id: str) -> AuthConfig:
    """One auth config of the project. Raises NotFound, the same for foreign and unknown ids."""
    row = await tx.scalar(select(AuthConfig).where(AuthConfig.id == id, AuthConfig.project_id == project))
    if row is None:
        raise errors.NotFound(NOT_FOUND)
    return row


async def default_for(tx: AsyncSession, project: ProjectId, connector_key: str) -> AuthConfig | None:
    """The project's default auth config of a connector, or None."""
    return await tx.scalar(
        select(AuthConfig).where(
            AuthConfig.project_id == project,
            AuthConfig.connector_key == connector_key,
            AuthConfig.is_default,
        )
    )


async def search(
    tx: AsyncSession,
    project: ProjectId,
    *,
    id: str | None = None,
    connector_key: str | None = None,
    active: bool | None = None,
    only_default: bool = False,
    offset: int = 0,
    limit: int | None = None,
) -> tuple[Sequence[AuthConfig], int]:
    """Auth configs of the project in order of creation, and how many there are in all."""
    query = select(AuthConfig).where(AuthConfig.project_id == project)
    if id is not None:
        query = query.where(AuthConfig.id == id)
    if connector_key is not None:
        query = query.where(AuthConfig.connector_key == connector_key)
    if active is not None:
        query = query.where(AuthConfig.active == active)
    if only_default:
        query = query.where(AuthConfig.is_default)
    total = await tx.scalar(select(func.count()).select_from(query.subquery())) or 0
    rows = await tx.scalars(query.order_by(AuthConfig.created_at, AuthConfig.id).offset(offset).limit(limit))
    return rows.all(), total


async def create(
    tx: AsyncSession,
    vault: Vault,
    registry: Registry,
    project: ProjectId,
    *,
    connector_key: str,
    method_key: str,
    name: str | None = None,
    environment: str | None = None,
    pin: str | None = None,
    setup: Mapping[str, Any] | None = None,
    default: bool | None = None,
    active: bool = True,
) -> AuthConfig:
    """Create an auth config. The first one of a connector becomes its default whatever is asked.

    Raises NotFound for an unknown connector, Unprocessable for an unknown method or a connector that is not available,
    ValidationFailed for a wrong set-up.
    """
    connector = find_version(registry, connector_key, pin)
    method = find_method(connector, method_key)
    public, secret = merge_setup(method, {}, {}, setup or {})
    await lock_project(tx, project)
    await availability.require(tx, project, connector.key)
    has_default = await default_for(tx, project, connector.key) is not None
    now = clock.now()
    row = AuthConfig(
        id=ids.random_uuid(),
        project_id=project,
        connector_key=connector.key,
        connector_pinned_version=_kept(pin),
        method_key=method.key,
        name=name or f"{connector.title} – {method.label}",
        environment=environment or "production",
        active=active,
        is_default=False,
        setup=public,
        sealed=None,
        generation=0,
        created_at=now,
        updated_at=now,
    )
    tx.add(row)
    await tx.flush()
    await _seal_setup(tx, vault, row, secret)
    if default or not has_default:
        await _make_default(tx, row)
    await _announce(tx, row, "auth_config.created")
    return row


async def change(
    tx: AsyncSession,
    vault: Vault,
    registry: Registry,
    project: ProjectId,
    id: str,
    *,
    name: str | None = None,
    pin: str | None = None,
    setup: Mapping[str, Any] | None = None,
    active: bool | None = None,
    default: bool | None = None,
) -> AuthConfig:
    """Change an auth config. A set-up key that is left out keeps its value; null removes an optional one.

    Raises NotFound; Conflict when the only or the default config should stop being the default.
    """
    await lock_project(tx, project)  # the set-up is read, merged and written back: two such changes must not cross
    row = await get(tx, project, id)
    if default is False and row.is_default:
        raise errors.Conflict(
            "a connector with auth configs always has a default one", hint="Make another auth config the default."
        )
    if name is not None:
        row.name = name
    switched = active is not None and active != row.active
    promoted = bool(default) and not row.is_default
    if active is not None:
        row.active = active
    if pin is not None:
        find_method(find_version(registry, row.connector_key, pin), row.method_key)
        row.connector_pinned_version = _kept(pin)
    if setup is not None:
        connector = registry.of(row)
        if connector is None:
            raise gone(registry, row)
        method = find_method(connector, row.method_key)
        row.setup, secret = merge_setup(method, row.setup, await open_secrets(tx, vault, row), setup)
        await _seal_setup(tx, vault, row, secret)
    if default:
        await _make_default(tx, row)
    row.updated_at = clock.now()
    record_change(tx, "auth_config", row.id)
    await tx.flush()
    if switched:
        await _announce(tx, row, "auth_config.enabled" if row.active else "auth_config.disabled")
    if promoted:
        await _announce(tx, row, "auth_config.default_changed")
    if name is not None or setup is not None or pin is not None:
        await _announce(tx, row, "auth_config.updated")
    return row


def _kept(pin: str | None) -> str | None:
    return None if pin == "latest" else pin


async def _announce(tx: AsyncSession, row: AuthConfig, event: str) -> None:
    payload = auth_config_payload(
        provider=row.connector_key,
        authentication_config_key=row.method_key,
        name=row.name,
        active=row.active,
        default=row.is_default,
        environment=row.environment,
    )
    await webhooks.emit(tx, project_id=row.project_id, event=event, record_id=row.id, payload=payload)
    audit.note(
        tx,
        event,
        project_id=row.project_id,
        target=("auth_config", row.id),
        label=row.name,
        detail={"connector": row.connector_key, "method": row.method_key},
    )


async def _make_default(tx: AsyncSession, row: AuthConfig) -> None:
    """Make this the one default of its connector. The old default gives way in the same transaction."""
    if row.is_default:
        return
    await tx.execute(
        update(AuthConfig)
        .where(
            AuthConfig.project_id == row.project_id,
            AuthConfig.connector_key == row.connector_key,
            AuthConfig.is_default,
        )
        .values(is_default=False, updated_at=clock.now())
    )
    row.is_default = True
    await tx.flush()


async def remove(tx: AsyncSession, project: ProjectId, id: str) -> None:
    """Delete an auth config: only without linked accounts, and only the sole one or a non-default one (rows 002-20…22).

    Raises NotFound or Conflict.
    """
    await lock_project(tx, project)
    row = await get(tx, project, id)
    _, configs = await search(tx, project, connector_key=row.connector_key, limit=1)
    if row.is_default and configs > 1:
        raise errors.Conflict(
            "this is the default of several auth configs", hint="Make another one the default, then delete it."
        )
    await sealing.shred_key(tx, owner_of(row))
    await tx.delete(row)
    record_change(tx, "auth_config", row.id)
    try:
        await tx.flush()
    except IntegrityError:  # ON DELETE RESTRICT: the rule lives in the database
        raise errors.Conflict(
            "this auth config has linked accounts", hint="Delete the accounts, or disable the auth config instead."
        ) from None
    await _announce(tx, row, "auth_config.deleted")


async def open_config(tx: AsyncSession, vault: Vault, registry: Registry, row: AuthConfig) -> OpenConfig:
    """Open the secrets of an auth config. Raises Unprocessable when its connector is gone from the catalogue."""
    connector = registry.of(row)
    if connector is None or row.method_key not in connector.auth:
        raise gone(registry, row)
    method = connector.auth[row.method_key]
    setup = {f.key: f.default for f in method.app_fields if f.default is not None}
    setup.update({k: v for k, v in row.setup.items() if isinstance(v, str)})
    setup.update(await open_secrets(tx, vault, row))
    return OpenConfig(row, connector, method, setup)


def gone(registry: Registry, row: AuthConfig) -> errors.Unprocessable:
    """Why an auth config has no connector: it left the catalogue, or the version that it is pinned to did."""
    key, pin = row.connector_key, row.connector_pinned_version
    if pin is not None and (there := registry.versions(key)):
        connector = registry.of(row)
        if connector is None:
            return _no_version(key, pin, there)
    return errors.Unprocessable(f"the connector {key!r} or its method {row.method_key!r} is no longer in the catalogue")


def _no_version(key: str, pin: str, there: list[str]) -> errors.Unprocessable:
    return errors.Unprocessable(
        f"no version of the connector {key!r} fits {pin}",
        code="ConnectorVersionMissingError",
        hint=f"There are: {', '.join(there)}. Put the file of that version back, or pin the auth config to another one.",
    )


def find_version(registry: Registry, key: str, pin: str | None) -> Connector:
    """The version of a connector that a pin chooses. Raises NotFound, Unprocessable for a pin that is none or fits none."""
    connector = find_connector(registry, key)
    if pin is None:
        return connector
    if not PIN.fullmatch(pin):
        raise errors.Unprocessable(
            "connector_pinned_version: must be like 1.2.0, 1.2.x or 1.x.x, or latest", code="ValidationError"
        )
    return registry.pinned(key, pin) or _raise(_no_version(key, pin, registry.versions(key)))


def _raise(error: errors.MooringError) -> NoReturn:
    raise error


def find_connector(registry: Registry, key: str) -> Connector:
    """A connector of the catalogue. Raises NotFound."""
    connector = registry.get(key)
    if connector is None:
        raise errors.NotFound(
            f"no connector {key!r} in the catalogue", hint="`mooring connectors list` shows the keys."
        )
    return connector


def find_method(connector: Connector, key: str) -> AuthMethod:
    """An auth method of a connector. Raises Unprocessable naming the known ones."""
    method = connector.auth.get(key)
    if method is None:
        raise errors.Unprocessable(
            f"the connector {connector.key!r} has no auth method {key!r}",
            hint=f"It has: {', '.join(connector.auth)}.",
        )
    return method


def merge_setup(
    method: AuthMethod, public: Mapping[str, Any], secret: Mapping[str, str], changes: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Public and secret parts of a set-up after the changes; null removes. Raises ValidationFailed with all faults."""
    known = {f.key: f for f in method.app_fields}
    faults: list[str] = []
    public, secret = dict(public), dict(secret)
    for key, value in changes.items():
        if value is None:
            public.pop(key, None)
            secret.pop(key, None)
            continue
        if key == "scopes" and method.oauth2 and key not in known:
            scopes = value.replace(",", " ").split() if isinstance(value, str) else value
            if not isinstance(scopes, list) or not all(isinstance(s, str) and s for s in scopes):
                faults.append("setup.scopes must be a list of strings or one string with spaces")
            else:
                public["scopes"] = list(dict.fromkeys(scopes))
            continue
        spec = known.get(key)
        if spec is None:
            names = [*known, *(["scopes"] if method.oauth2 else [])]
            faults.append(f"setup.{key[:60]} is unknown; this method takes: {', '.join(names) or 'nothing'}")
        elif not isinstance(value, str) or not value.strip():
            faults.append(f"setup.{key} must be a non-empty string")
        elif fault := field_fault(spec.pattern, spec.pattern_error, value.strip()):
            faults.append(f"setup.{key} {fault}")
        else:
            (secret if spec.secret else public)[key] = value.strip()
    for spec in method.app_fields:
        stored = secret if spec.secret else public
        faulty = any(f.startswith(f"setup.{spec.key} ") for f in faults)
        if spec.required and spec.default is None and spec.key not in stored and not faulty:
            faults.append(f"setup.{spec.key} is required by this auth method")
    if faults:
        raise errors.ValidationFailed("the set-up is not valid", errors=faults)
    return public, secret


def field_fault(pattern: str | None, message: str | None, value: str) -> str | None:
    """What is wrong with a field's value, or None. The whole value must match, so a line break can't hide behind `$`."""
    if any(ord(c) < 32 and c not in "\n\r\t" for c in value):
        return "holds control characters"
    if pattern is not None and not re.fullmatch(pattern, value):
        return message or f"does not match {pattern}"
    return None


async def open_secrets(tx: AsyncSession, vault: Vault, row: AuthConfig) -> dict[str, str]:
    """The secret part of an auth config's set-up. Raises NotFound when it was deleted since the row was read."""
    if row.sealed is None:
        return {}
    wrapped = await sealing.find_key(tx, owner_of(row))
    if wrapped is None:  # deleted since the row was read
        raise errors.NotFound(NOT_FOUND)
    key = vault.unwrap(wrapped, owner_of(row))
    opened: dict[str, str] = orjson.loads(key.open(row.sealed, name=_SECRETS, generation=row.generation))
    return opened


async def _seal_setup(tx: AsyncSession, vault: Vault, row: AuthConfig, secret: Mapping[str, str]) -> None:
    if not secret:
        row.sealed = None
        return
    key = await sealing.ensure_key(tx, vault, owner_of(row))
    row.generation += 1
    row.sealed = key.seal(orjson.dumps(dict(secret)), name=_SECRETS, generation=row.generation)
