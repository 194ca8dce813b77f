"""Open and close the parts of one process: keys, database, catalogue, outbound client, background tasks."""

from __future__ import annotations

import contextlib
import os
import sys

from sqlalchemy.exc import IntegrityError

from mooring import __version__
from mooring.accounts import health
from mooring.accounts.context import Context
from mooring.accounts.refresh import Refresher
from mooring.accounts.serving import ServingAccounts
from mooring.connectors.problem import ConnectorFileError
from mooring.connectors.registry import Registry, load_registry
from mooring.connectors.reloading import Reloader
from mooring.courier.client import CourierClient
from mooring.courier.wire import socket_path
from mooring.errors import ConfigurationError
from mooring.identity import audit, sealing
from mooring.identity import service as identity
from mooring.identity.authenticator import Authenticator
from mooring.identity.project_settings import ProjectReader
from mooring.kit import vault as vaults
from mooring.kit.cache import ChangeFollower
from mooring.kit.counters import Counters
from mooring.kit.db import Database
from mooring.kit.egress import EgressGuard, parse_allow
from mooring.kit.http import HttpClient
from mooring.kit.limits import Limits
from mooring.kit.process import forbid_core_dumps
from mooring.kit.shared import SharedServer, is_installed
from mooring.kit.shared_limits import SharedLimits
from mooring.kit.vault import Vault
from mooring.logs.writer import LogWriter
from mooring.migrations import runner
from mooring.settings import Settings
from mooring.supervisor import WORKERS


def load_vault(settings: Settings, *, may_create: bool) -> Vault:
    """The vault from the environment or the key file. With `may_create`, a missing file is made, with a notice.

    Raises ConfigurationError. There is no plaintext mode.
    """
    if settings.master_keys:
        return Vault(vaults.parse_keys(settings.master_keys, source="MOORING_MASTER_KEYS"))
    path = settings.resolved_key_file
    if not path.exists() and may_create:
        vaults.create_key_file(path, data_dir=settings.data_dir)
        notice = (
            f"mooring: made a master key in {path} (mode 0600). "
            "Back it up apart from the database: without it all credentials are lost."
        )
        print(notice, file=sys.stderr, flush=True)  # noqa: T201 - the one notice that a person must see
    return Vault.from_file(path, data_dir=settings.data_dir)


async def prepare(settings: Settings) -> Database:
    """Open the database, bring its schema up to date, and check that this process can open what is in it."""
    db = Database(settings.resolved_database_url)
    try:
        await runner.upgrade(db)
    except BaseException:
        await db.close()
        raise
    return db


async def open_context(
    settings: Settings, *, public_url: str, supervised: bool = False, workers: int | None = None
) -> Context:
    """Open everything. Raises ConfigurationError with one line that names the setting.

    `supervised` means that a courier runs beside this process, for the token requests of refreshes. `workers` processes
    share what a provider allows; without it, as many as the supervisor says.
    """
    forbid_core_dumps()
    if settings.redis_url and not is_installed():
        raise ConfigurationError(
            "MOORING_REDIS_URL is set, but its client is not installed: pip install 'mooring[server,redis]'"
        )
    registry = _registry(settings)
    guard = EgressGuard(parse_allow(settings.egress_allow))
    db = await prepare(settings)
    try:
        vault = await open_checked_vault(settings, db)
        audit.attach(db, vault)
        await audit.prepare(db)
        await _bootstrap(settings, db)
    except BaseException:
        await db.close()
        raise
    follower = ChangeFollower(db)
    http = HttpClient(guard, user_agent=f"Mooring/{__version__}", proxy=settings.egress_proxy)
    courier = CourierClient(socket_path(settings.data_dir)) if supervised else None
    accounts = ServingAccounts(db, registry)
    counters = Counters()
    workers = workers or int(os.environ.get(WORKERS, "1"))
    shared = SharedServer(settings.redis_url) if settings.redis_url else None
    authenticate = Authenticator(db, per_minute=settings.key_rate_limit, share=1 / workers, shared=shared)
    follower.register(accounts.cache)
    follower.register(authenticate.cache)
    projects = ProjectReader(db)
    follower.register(projects.cache)
    context = Context(
        changes=follower,
        settings=settings,
        public_url=public_url,
        db=db,
        vault=vault,
        registry=registry,
        http=http,
        authenticate=authenticate,
        projects=projects,
        accounts=accounts,
        refresher=Refresher(db, vault, registry, http, accounts, courier, counters),
        counters=counters,
        courier=courier,
        logs=LogWriter(db),
        limits=SharedLimits(shared, workers=workers) if shared else Limits(workers=workers),
        shared=shared,
        reloader=(
            Reloader(registry, settings.connectors_dir, accounts.cache.clear)
            if settings.connectors_reload and settings.connectors_dir is not None
            else None
        ),
    )
    if shared is not None:
        share_changes(shared, follower, db)
        await shared.start()
    await follower.start()
    if context.reloader is not None:
        context.reloader.start()
    context.logs.start()
    authenticate.start()
    return context


def share_changes(shared: SharedServer, follower: ChangeFollower, db: Database) -> None:
    """Let the caches of all processes hear of a change at once; the feed in the database stays the truth."""

    def hear(subject: str, _seconds: float) -> None:
        topic, _, key = subject.partition(":")
        follower.evict(topic, key)

    shared.on("change", hear)
    db.on_commit(lambda topic, key: shared.tell("change", f"{topic}:{key}"))


def _registry(settings: Settings) -> Registry:
    try:
        return load_registry(settings.connectors_dir)
    except ConnectorFileError as e:
        more = f" (and {len(e.problems) - 1} more)" if len(e.problems) > 1 else ""
        raise ConfigurationError(
            f"MOORING_CONNECTORS_DIR: {e.problems[0]}{more}; `mooring connectors check` shows every fault"
        ) from None


async def open_checked_vault(settings: Settings, db: Database) -> Vault:
    """The vault that fits the database, made when nothing is sealed yet. Raises ConfigurationError."""
    async with db.read() as tx:
        sealed_rows = await sealing.any_key(tx)
        # A new key beside old rows would look like success and lose every credential (rule V4).
        if sealed_rows and not settings.master_keys and not settings.resolved_key_file.exists():
            raise ConfigurationError(
                f"MOORING_MASTER_KEY_FILE: {settings.resolved_key_file} does not exist, but the database holds sealed "
                "credentials. Put the key file back, or set MOORING_MASTER_KEYS."
            )
        vault = load_vault(settings, may_create=True)
        missing = await sealing.missing_master_keys(tx, vault)
    if missing:
        source = "MOORING_MASTER_KEYS" if settings.master_keys else "MOORING_MASTER_KEY_FILE"
        raise ConfigurationError(
            f"{source}: lacks the master key {', '.join(missing)} that credentials in the database are sealed with"
        )
    return vault


async def _bootstrap(settings: Settings, db: Database) -> None:
    if settings.bootstrap_api_key is None:
        return
    with contextlib.suppress(IntegrityError):  # another worker was faster
        async with db.begin() as tx:
            await identity.bootstrap(tx, settings.bootstrap_api_key)


async def close_context(context: Context) -> None:
    """Close everything; refreshes that run are finished first, queued log rows are written."""
    await context.refresher.drain()
    await health.drain()
    await context.changes.stop()
    await context.authenticate.stop()
    await context.logs.stop()
    if context.shared is not None:
        await context.shared.stop()
    if context.courier is not None:
        await context.courier.aclose()
    if context.reloader is not None:
        await context.reloader.stop()
    await context.http.aclose()
    await context.db.close()
