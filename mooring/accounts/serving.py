"""What a call needs to know of an account, cached per process and dropped as soon as anything of it changes."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from mooring import errors
from mooring.accounts import credentials, lifecycle
from mooring.accounts.credentials import Secrets
from mooring.accounts.models import Account, Credential
from mooring.auth_configs import service as auth_configs
from mooring.auth_configs.models import AuthConfig
from mooring.connectors.apply import Injection, Plan, plan_of
from mooring.connectors.definition import ID_TOKEN, AuthMethod, Connector
from mooring.connectors.registry import Registry
from mooring.identity import sealing
from mooring.identity.service import ProjectId
from mooring.kit.cache import Cache
from mooring.kit.db import Database
from mooring.kit.vault import DataKey, Owner, Vault, WrappedKey

NOT_FOUND = "no such account"
KEY_SECONDS = 60.0  # that an unwrapped data key is kept for the next call; the credential itself is opened per call
_SERVES = frozenset({"active", "error"})


class _Key:
    """A data key that was unwrapped a moment ago (decision 14). Goes with the `Serving` that holds it."""

    __slots__ = ("key", "until")

    def __init__(self) -> None:
        self.key: DataKey | None = None
        self.until = 0.0

    def get(self, vault: Vault, wrapped: WrappedKey, owner: Owner) -> DataKey:
        now = time.monotonic()
        if self.key is None or now > self.until:
            self.key = vault.unwrap(wrapped, owner)
            self.until = now + KEY_SECONDS
        return self.key


@dataclass(frozen=True, slots=True)
class Serving:
    """One account as the proxy sees it. Secrets are in it only sealed."""

    id: str
    project_id: ProjectId
    origin_owner_id: str
    status: lifecycle.Status  # effective
    reason: str | None
    connector: Connector
    method: AuthMethod
    public: Mapping[str, str]  # fields and app fields that are no secrets
    generation: int
    expires_at: datetime | None
    refresh_at: datetime | None
    retry_at: datetime | None
    stored_at: datetime
    refreshable: bool
    sealed: bytes = field(repr=False)
    wrapped: WrappedKey = field(repr=False)
    config_sealed: bytes | None = field(repr=False)  # only where a call's templates use a secret app field
    config_wrapped: WrappedKey | None = field(repr=False)
    config_owner: Owner | None
    config_generation: int
    limit_key: str  # whose budget at the provider its calls use: the account's, or the app's
    plan: Plan | None
    good_until: float  # UNIX time up to which the token needs no look; infinite without a renewal
    _key: _Key = field(default_factory=_Key, repr=False, compare=False)
    _config_key: _Key = field(default_factory=_Key, repr=False, compare=False)

    @property
    def owner(self) -> Owner:
        """The vault's name for the account."""
        return Owner(self.project_id, "account", self.id)

    def open(self, vault: Vault) -> tuple[Secrets, dict[str, Any]]:
        """Open the credential: its secrets, and the scope that templates see."""
        key = self._key.get(vault, self.wrapped, self.owner)
        vault.opened += 1
        secrets = credentials.open_(key, self.sealed, self.generation)
        scope: dict[str, Any] = {**self.public, **secrets.scope()}
        if self.config_sealed is not None and self.config_wrapped and self.config_owner:
            config_key = self._config_key.get(vault, self.config_wrapped, self.config_owner)
            opened = config_key.open(self.config_sealed, name="setup", generation=self.config_generation)
            scope = {**orjson.loads(opened), **scope}
        return secrets, scope

    def key(self, vault: Vault) -> DataKey:
        """The account's data key, open."""
        return self._key.get(vault, self.wrapped, self.owner)

    def planned(self, vault: Vault) -> tuple[Injection, list[str]] | None:
        """Open the credential and put it where it belongs, for a method with a plan; with every secret text of it.

        None where there is no plan, or a value is missing or can't go out: `open` and `inject` find the words for that.
        """
        plan = self.plan
        if plan is None:
            return None
        vault.opened += 1
        opened = credentials.open_raw(self.key(vault), self.sealed, self.generation)
        fields, kept, token = opened["fields"], opened["kept"], opened["access_token"]
        headers = []
        for name, before, wanted, after in plan.headers:
            if wanted == "access_token" and token is not None:
                value = token
            else:
                value = kept.get(wanted)
                if value is None:
                    value = fields.get(wanted)
                    if value is None:
                        value = self.public.get(wanted)
            if type(value) is not str or "\n" in value or "\r" in value or "\0" in value:
                return None
            headers.append((name, (before + value + after).encode()))
        secrets = [value for value in fields.values() if value]
        if token:
            secrets.append(token)
        if opened["refresh_token"]:
            secrets.append(opened["refresh_token"])
        if kept.get(ID_TOKEN):
            secrets.append(kept[ID_TOKEN])
        return Injection(plan.base_url, headers, []), secrets

    def require_serving(self) -> None:
        """Raise unless calls may go out: 412 for an account that does not serve, 401 for one that must be relinked."""
        if self.status in _SERVES:
            return
        if self.status == "expired":
            raise errors.AccountExpiredCredentials(
                f"the account's access to {self.connector.title} is over ({self.reason or 'expired'})",
                extra={"cause": self.reason} if self.reason else None,
            )
        if self.status == "suspended" and self.reason == lifecycle.HANDED_OVER:
            raise errors.AccountHandedOver("the account does not serve: it was handed over to another hub")
        reason = {
            "inactive": "its auth config is disabled",
            "suspended": "it is suspended",
            "archived": "it was deleted",
        }[self.status]
        raise errors.AccountInactive(f"the account does not serve: {reason}")


class ServingAccounts:
    """The cache of `Serving` values of one process."""

    def __init__(self, db: Database, registry: Registry, size: int = 20_000) -> None:
        self._db = db
        self._registry = registry
        self.cache: Cache[tuple[str, str], Serving] = Cache(size)

    async def get(self, project: ProjectId, account_id: str) -> Serving:
        """The account of this project. Raises NotFound, the same for foreign, deleted and unknown ids."""
        key = (project, account_id)
        found = self.cache.get(key)
        if found is not None:
            return found

        async def load() -> tuple[Serving, tuple[str, ...]]:
            async with self._db.read() as tx:
                serving, config_id = await load_serving(tx, self._registry, project, account_id)
            return serving, (f"account:{account_id}", f"auth_config:{config_id}")

        return await self.cache.load(key, load)

    def forget(self, account_id: str) -> None:
        """Drop what is cached of an account, so that the next look reads the database."""
        self.cache.evict(f"account:{account_id}")


async def load_serving(
    tx: AsyncSession, registry: Registry, project: ProjectId, account_id: str
) -> tuple[Serving, str]:
    """Read one account for calls. Raises NotFound."""
    row = (
        await tx.execute(
            select(Account, Credential, AuthConfig)
            .join(Credential, Credential.account_id == Account.id)
            .join(AuthConfig, AuthConfig.id == Account.auth_config_id)
            .where(Account.id == account_id, Account.project_id == project, Account.status != "archived")
        )
    ).first()
    if row is None:
        raise errors.NotFound(NOT_FOUND)
    account, credential, config = row[0], row[1], row[2]
    connector = registry.of(config)
    if connector is None or config.method_key not in connector.auth:
        raise auth_configs.gone(registry, config)
    method = connector.auth[config.method_key]
    wrapped = await sealing.find_key(tx, Owner(account.project_id, "account", account.id))
    if wrapped is None:
        raise errors.NotFound(NOT_FOUND)
    defaults = {f.key: f.default for f in (*method.app_fields, *method.fields) if f.default is not None}
    public = {**defaults, **{k: v for k, v in config.setup.items() if isinstance(v, str)}, **account.setup}
    needs_config = bool(_template_names(connector, method) & {f.key for f in method.app_fields if f.secret})
    config_owner = auth_configs.owner_of(config) if needs_config and config.sealed else None
    serving = Serving(
        id=account.id,
        project_id=project,
        origin_owner_id=account.origin_owner_id,
        status=lifecycle.effective(account.status, config_active=config.active),
        reason=account.status_reasons[-1]["code"] if account.status_reasons else None,
        connector=connector,
        method=method,
        public=public,
        generation=credential.generation,
        expires_at=credential.expires_at,
        refresh_at=credential.refresh_at,
        retry_at=credential.retry_at,
        stored_at=credential.updated_at,
        refreshable=credential.refreshable,
        sealed=credential.sealed,
        wrapped=wrapped,
        config_sealed=config.sealed if config_owner else None,
        config_wrapped=await sealing.find_key(tx, config_owner) if config_owner else None,
        config_owner=config_owner,
        config_generation=config.generation,
        limit_key=config.id if connector.limits.get("per") == "app" else account.id,
        plan=plan_of(connector, method, public) if config_owner is None else None,
        good_until=credential.refresh_at.timestamp() if credential.refresh_at is not None else math.inf,
    )
    return serving, config.id


def _template_names(connector: Connector, method: AuthMethod) -> frozenset[str]:
    templates = [
        method.base_url,
        *method.headers.values(),
        *method.query.values(),
        *(method.basic or ()),
        *connector.headers.values(),
        *(method.signature.values.values() if method.signature is not None else ()),
    ]
    return frozenset().union(*(t.names for t in templates))
