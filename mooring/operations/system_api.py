"""The state of the installation over the API, for admins of an organization: what the system page shows and does."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel

from mooring import __version__, errors
from mooring.accounts.context import Context
from mooring.identity import audit
from mooring.identity.person import Person, person_with
from mooring.kit import jobs

router = APIRouter(prefix="/system", tags=["System"])

Admin = Annotated[Person, Depends(person_with("owner"))]


class Queue(BaseModel):
    """How a kind of job stands; `age` is how long the oldest due job has waited, in seconds."""

    kind: str
    waiting: int
    running: int
    dead: int
    age: float


class DeadJob(BaseModel):
    """A job that failed for good."""

    id: str
    kind: str
    attempts: int
    last_error: str | None
    created_at: datetime


class MasterKey(BaseModel):
    """A master key: whether it is the primary one, whether this process has it (`known`), and how many rows need it."""

    id: str
    primary: bool
    known: bool
    rows: int


class SystemState(BaseModel):
    """What runs: the process that answers, its database, queues and keys, and what leaves the hub."""

    version: str
    python: str
    process: int
    database: str
    courier: bool
    connectors: int
    own_connectors: int
    egress_allow: list[str]
    log_rows_dropped: int
    queues: list[Queue]
    dead_jobs: list[DeadJob]
    master_keys: list[MasterKey]
    audit_entries: int


class Finding(BaseModel):
    """One thing that was looked at; if it is not well, why it matters and what to do."""

    check: str
    severity: Literal["ok", "warn", "fail"]
    seen: str
    why: str
    fix: str


class Findings(BaseModel):
    """What the doctor's checks of host and database found, the worst first."""

    data: list[Finding]


class AuditVerdict(BaseModel):
    """What a check of the audit log's chain found. `seq` names the first bad entry; `why` says what is wrong with it."""

    entries: int
    head: str
    seq: int | None
    why: str | None


@router.get("")
async def get_system(request: Request, person: Admin) -> SystemState:
    """What runs, and whether it is well. The quick looks only; POST /system/look does the rest."""
    from mooring.operations import keys  # here and below: a process that nobody asks need not hold it in memory

    context: Context = request.app.state.context
    async with context.db.read() as tx:
        queues, dead = await jobs.state(tx), await jobs.dead_jobs(tx, limit=20)
        seq, _ = await audit.head(tx)
    return SystemState(
        version=__version__,
        python=platform.python_version(),
        process=os.getpid(),
        database="SQLite" if context.db.is_sqlite else "PostgreSQL",
        courier=context.courier is not None,
        connectors=len(context.registry),
        own_connectors=context.registry.own,
        egress_allow=[e.strip() for e in context.settings.egress_allow.split(",") if e.strip()],
        log_rows_dropped=context.logs.dropped,
        queues=[Queue.model_validate(asdict(queue)) for queue in queues],
        dead_jobs=[
            DeadJob(
                id=str(job.id),
                kind=job.kind,
                attempts=job.attempts,
                last_error=job.last_error,
                created_at=job.created_at,
            )
            for job in dead
        ],
        master_keys=[
            MasterKey(id=key.id, primary=key.primary, known=key.known, rows=key.rows)
            for key in await keys.status(context.db, context.vault)
        ],
        audit_entries=seq,
    )


@router.post("/look")
async def look(request: Request, person: Admin) -> Findings:
    """Run the doctor's checks of host and database now. It changes nothing."""
    from mooring.operations import check_database, check_host
    from mooring.settings import unknown

    context: Context = request.app.state.context
    found, _ = check_host.examine(context.settings, unknown())
    found += await check_database.examine(context.db, context.vault, lambda _done, _total: None)
    found.sort(key=lambda f: ("fail", "warn", "ok").index(f.severity))
    return Findings(data=[Finding.model_validate(asdict(f)) for f in found])


@router.post("/verify")
async def verify(request: Request, person: Admin) -> AuditVerdict:
    """Follow the audit log's chain now."""
    context: Context = request.app.state.context
    return AuditVerdict.model_validate(asdict(await audit.verify(context.db, context.vault)))


@router.post("/jobs/{id}/revive", status_code=204)
async def revive_job(request: Request, person: Admin, id: str) -> None:
    """Let a dead job run again."""
    context: Context = request.app.state.context
    async with context.db.begin() as tx:
        if not (id.isascii() and id.isdigit() and len(id) < 19) or not await jobs.revive(tx, int(id)):
            raise errors.NotFound("no such dead job")
        audit.note(tx, "job.revived", target=("job", id))
