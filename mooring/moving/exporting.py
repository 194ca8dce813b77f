"""Write accounts into a bundle, and hand them over so that no refresh token is ever used in two places.

With a hand-over the accounts are frozen first, in short transactions, and written after that: no token is in the file
before this hub has stopped to use it. A run that fails takes them back, because then there is no bundle. One that is
killed leaves them frozen: `export --resume` writes the same bundle again, `hand-back` takes them back.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from mooring import __version__, errors
from mooring.accounts import handover, service
from mooring.accounts.models import Account, Credential
from mooring.auth_configs import service as auth_configs
from mooring.auth_configs.models import AuthConfig
from mooring.connectors.definition import AuthMethod
from mooring.errors import ConfigurationError
from mooring.identity import audit
from mooring.kit import clock, ids
from mooring.moving import bundle, freezing
from mooring.moving.place import Place, Progress


@dataclass(frozen=True, slots=True)
class Choice:
    """Which accounts of a project; nothing named means all."""

    accounts: Sequence[str] = ()
    owners: Sequence[str] = ()
    providers: Sequence[str] = ()

    def query(self, project: str) -> Select[str]:
        """Their ids."""
        query = select(Account.id).where(Account.project_id == project, Account.status.in_(handover.MOVABLE))
        for column, wanted in (
            (Account.id, self.accounts),
            (Account.origin_owner_id, self.owners),
            (Account.connector_key, self.providers),
        ):
            if wanted:
                query = query.where(column.in_(wanted))
        return query


@dataclass(slots=True)
class Exported:
    """How an export ended."""

    bundle: str
    accounts: int = 0
    without_refresh_token: int = 0
    left_out: dict[str, str] = field(default_factory=dict)  # account → why


async def export(
    place: Place,
    choice: Choice,
    dest: Path,
    passphrase: str,
    *,
    hand_over: bool,
    with_configs: bool,
    resume: str | None,
    wait: float,
    progress: Progress,
    say: Callable[[str], None],
) -> Exported:
    """Write one bundle, which appears only when it is complete. Raises ConfigurationError, NotFound, Conflict.

    `resume` is the id of a bundle whose accounts are frozen already; `wait`, in seconds, is for refreshes that are under
    way. What fails takes back what this run has frozen.
    """
    done = Exported(resume or new_id())
    if resume is not None and not await freezing.frozen(place, resume):
        raise errors.NotFound(f"no account is handed over with a bundle {resume}", hint="See `accounts handed-over`.")
    await _require_known(place, choice)
    try:
        with new_file(dest) as file:
            if hand_over and resume is None:
                say(done.bundle)  # a kill leaves nothing but this to go on with
                await freezing.freeze_all(
                    place, choice.query(place.project), done.bundle, done.left_out, wait=wait, progress=progress
                )
            await _write(
                place, choice, file, passphrase, done, frozen=hand_over, with_configs=with_configs, progress=progress
            )
            _require_some(done)
            await _note(place, done, hand_over=hand_over, with_configs=with_configs)
    except BaseException:
        if hand_over and resume is None:
            await freezing.hand_back(place, done.bundle, lambda *_: None)
        raise
    return done


async def _require_known(place: Place, choice: Choice) -> None:
    """Raise NotFound for a named account that is not there: a typing error must not leave one behind."""
    async with place.db.read() as tx:
        there = set(await tx.scalars(choice.query(place.project))) if choice.accounts else set()
    if missing := sorted(set(choice.accounts) - there):
        raise errors.NotFound(f"no such account, or it does not fit the other options: {', '.join(missing[:10])}")


def _require_some(done: Exported) -> None:
    if done.accounts == 0:
        left = f"; {len(done.left_out)} could not be handed over" if done.left_out else ""
        raise errors.NotFound(f"there is no account to export{left}", hint="Nothing was written.")


def new_id() -> str:
    """An id for a bundle."""
    return f"mb_{ids.nanoid(16)}"


@contextlib.contextmanager
def new_file(dest: Path) -> Iterator[BinaryIO]:
    """A file of mode 0600 that takes its name when the block ends well. Raises ConfigurationError.

    What a killed run left beside it is removed; what somebody writes at this moment is not.
    """
    if dest.exists():
        raise ConfigurationError(f"{dest} exists: name a file that does not")
    try:
        for left in dest.parent.glob(f".{dest.name}.*.part"):
            with left.open("rb") as old, contextlib.suppress(BlockingIOError):
                fcntl.flock(old, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()
        fd, name = tempfile.mkstemp(prefix=f".{dest.name}.", suffix=".part", dir=dest.parent)  # mode 0600
    except OSError as e:
        raise ConfigurationError(f"{dest}: can't write here: {e.strerror}") from None
    part = Path(name)
    try:
        with os.fdopen(fd, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
            file.flush()
            os.fsync(file.fileno())
            if dest.exists():
                raise ConfigurationError(f"{dest} appeared meanwhile; nothing was written")
            part.rename(dest)
    except OSError as e:
        raise ConfigurationError(f"{dest}: can't write it: {e.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # the file is there; only a power cut could still lose its name
        folder = os.open(dest.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


async def _write(
    place: Place,
    choice: Choice,
    file: BinaryIO,
    passphrase: str,
    done: Exported,
    *,
    frozen: bool,
    with_configs: bool,
    progress: Progress,
) -> None:
    header = bundle.Header(done.bundle, clock.iso(clock.now()), f"Mooring {__version__}", frozen)
    writer = bundle.Writer(file, header, passphrase)
    query = freezing.frozen_ids(place.project) if frozen else choice.query(place.project)
    writer.write(
        {
            "record": "bundle",
            "id": done.bundle,
            "hand_over": frozen,
            "project": {"id": place.project, "name": place.project_name},
        }
    )
    async with place.db.read() as tx:
        total = await tx.scalar(select(func.count()).select_from(query.subquery())) or 0
    told: set[str] = set()
    async for page in freezing.pages(place, query):
        async with place.db.read() as tx:
            rows = await tx.execute(
                select(Account, AuthConfig, Credential)
                .join(AuthConfig, AuthConfig.id == Account.auth_config_id)
                .join(Credential, Credential.account_id == Account.id)
                .where(Account.id.in_(page))
                .order_by(Account.id)
            )
            for account, config, credential in rows:
                if frozen and handover.bundle_of(account) != done.bundle:
                    continue
                if config.id not in told:
                    told.add(config.id)
                    writer.write(await _config(tx, place, config, with_secrets=with_configs))
                writer.write(await _account(tx, place, account, config, credential, done, frozen=frozen))
                done.accounts += 1
        progress(total * frozen + done.accounts, total * (1 + frozen))
    writer.write({"record": "end", "accounts": done.accounts})
    writer.close()


async def _config(tx: AsyncSession, place: Place, row: AuthConfig, *, with_secrets: bool) -> dict[str, Any]:
    """An auth config by name; the app's secrets only when they were asked for."""
    record: dict[str, Any] = {
        "record": "auth_config",
        "id": row.id,
        "connector": row.connector_key,
        "method": row.method_key,
        "name": row.name,
        "environment": row.environment,
        "pinned_version": row.connector_pinned_version,
        "client_id": row.setup.get("client_id"),
    }
    if with_secrets:
        secret = await auth_configs.open_secrets(tx, place.vault, row)
        record["setup"] = {**row.setup, **secret}
    return record


async def _account(
    tx: AsyncSession,
    place: Place,
    account: Account,
    config: AuthConfig,
    credential: Credential,
    done: Exported,
    *,
    frozen: bool,
) -> dict[str, Any]:
    secrets, generation = await service.open_secrets(tx, place.vault, account)
    connector = place.registry.of(config)
    method = connector.auth.get(config.method_key) if connector is not None else None
    refresh_token, refreshable, refresh_at = secrets.refresh_token, credential.refreshable, credential.refresh_at
    if not frozen and refresh_token is not None and _rotates(method):
        # Two hubs with one rotating token: the second to use it loses the grant for both.
        refresh_token, refreshable, refresh_at = None, False, None
        done.without_refresh_token += 1
    return {
        "record": "account",
        "id": account.id,
        "auth_config": config.id,
        "connector": account.connector_key,
        "origin_owner_id": account.origin_owner_id,
        "origin_owner_name": account.origin_owner_name,
        "origin_username": account.origin_username,
        "multiple": account.owner_slot is None,
        "label": account.label,
        "metadata": account.meta,
        "type": account.type,
        "shared": account.shared,
        "status": handover.status_before(account),
        "status_reasons": [service.told(r) for r in handover.reasons_before(account)],
        "setup": account.setup,
        "granted_scopes": account.granted_scopes,
        "missing_scopes": account.missing_scopes,
        "identity": account.identity,
        "identity_label": account.identity_label,
        "created_at": clock.iso(account.created_at),
        "credential": {
            "generation": generation,
            "fields": dict(secrets.fields),
            "access_token": secrets.access_token,
            "refresh_token": refresh_token,
            "kept": dict(secrets.kept),
            "login": dict(secrets.login),
            "refreshable": refreshable,
            **{
                name: clock.iso(at) if at is not None else None
                for name, at in (
                    ("expires_at", credential.expires_at),
                    ("refresh_at", refresh_at),
                    ("refresh_expires_at", credential.refresh_expires_at),
                    ("typed_at", credential.typed_at),
                )
            },
        },
    }


def _rotates(method: AuthMethod | None) -> bool:
    """Whether a refresh may spend the refresh token. What is not known counts as strict (rule R9)."""
    if method is None or method.oauth2 is None:
        return True
    return not method.oauth2.machine and method.oauth2.refresh.rotates


async def _note(place: Place, done: Exported, *, hand_over: bool, with_configs: bool) -> None:
    """Write the audit entry before the file appears: there is no bundle without one."""
    async with place.db.begin() as tx:
        audit.note(
            tx,
            "accounts.exported",
            project_id=place.project,
            target=("bundle", done.bundle),
            detail={"accounts": done.accounts, "hand_over": hand_over, "auth_config_secrets": with_configs},
        )
