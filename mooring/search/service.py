"""One search over auth configs, accounts, request logs and webhooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy.ext.asyncio import AsyncSession

from mooring.accounts import listing
from mooring.auth_configs import service as auth_configs
from mooring.connectors.definition import Connector
from mooring.identity.service import ProjectId
from mooring.kit import ids
from mooring.logs import service as logs
from mooring.logs.models import RequestLog
from mooring.logs.service import LogFilter
from mooring.webhooks import service as webhooks

Kind = Literal["auth_config", "account", "request_log", "webhook"]
MIN_LENGTH: Final = 2  # a single letter is in nearly everything


@dataclass(frozen=True, slots=True)
class Hit:
    """One thing that was found: what it is, its id, what people know it by, and a second line."""

    kind: Kind
    id: str
    title: str
    detail: str


async def find(tx: AsyncSession, project: ProjectId, registry: Mapping[str, Connector], words: str) -> list[Hit]:
    """What holds the words, in any case: auth configs, then accounts, the log entry of that id, and webhooks.

    Words of fewer than MIN_LENGTH characters find nothing.
    """
    words = words.strip()
    if len(words) < MIN_LENGTH:
        return []
    lower = words.lower()
    configs, _ = await auth_configs.search(tx, project)
    out: list[Hit] = []
    for config in configs:
        connector = registry.get(config.connector_key)
        title = connector.title if connector else config.connector_key
        if lower in f"{title} {config.name} {config.connector_key} {config.id}".lower():
            out.append(Hit("auth_config", config.id, title, config.name))
    for account in await listing.find(tx, project, words):
        detail = f"{account.connector_key} · {account.origin_owner_id}"
        out.append(Hit("account", account.id, account.label or account.origin_owner_name, detail))
    rows: Sequence[RequestLog] = []
    if ids.time_of(words) is not None:
        rows, _ = await logs.search(tx, project, LogFilter(request_ids=[lower]), category="unified", limit=1)
    out += [Hit("request_log", row.id, f"{row.method} {row.path}", str(row.status)) for row in rows]
    for endpoint in await webhooks.search(tx, project):
        if lower in f"{endpoint.url} {endpoint.id}".lower():
            out.append(Hit("webhook", endpoint.id, endpoint.url, endpoint.description or ""))
    return out
