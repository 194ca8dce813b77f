"""What the database knows: how the queues stand, leases that nobody gave back, and the audit log's end (rules L4, R19)."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from mooring.accounts.leases import LEASE_SECONDS as REFRESH_LEASE
from mooring.accounts.models import Credential
from mooring.identity import audit
from mooring.kit import clock, jobs
from mooring.kit.jobs import LEASE_SECONDS as JOB_LEASE
from mooring.kit.jobs import Job
from mooring.metrics.samples import Samples

FAMILIES: Final = {
    "mooring_database_up": ("Whether the database answered this scrape.", ()),
    "mooring_jobs": ("Jobs in the queue.", ("kind", "state")),
    "mooring_job_age_seconds": ("How long the oldest due job has waited.", ("kind",)),
    "mooring_stuck_leases": ("Leases taken more than three times their length ago and not given back.", ("of",)),
    "mooring_audit_entries": ("Entries of the audit log, as the end of its chain says. It never goes down.", ()),
    "mooring_audit_missing": ("Entries that the end of the chain promises among the last ones, and that are gone.", ()),
}


async def queues(tx: AsyncSession) -> Samples:
    """The queues now."""
    out: Samples = {family: {} for family in FAMILIES}
    for queue in await jobs.state(tx):
        for state, count in (("waiting", queue.waiting), ("running", queue.running), ("dead", queue.dead)):
            out["mooring_jobs"][f"{queue.kind}|{state}"] = count
        out["mooring_job_age_seconds"][queue.kind] = queue.age
    now = clock.now()
    for of, column, lease in (("job", Job.lease_until, JOB_LEASE), ("refresh", Credential.lease_until, REFRESH_LEASE)):
        late = now - timedelta(seconds=2 * lease)  # a lease that ended two lengths ago was taken three ago
        out["mooring_stuck_leases"][of] = await tx.scalar(select(func.count()).where(column < late)) or 0
    entries, missing = await audit.gap(tx)
    out["mooring_audit_entries"][""], out["mooring_audit_missing"][""] = entries, missing
    return out
