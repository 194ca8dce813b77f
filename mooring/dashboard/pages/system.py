"""The system page: version, database, queues, keys, egress rules, and what the doctor finds."""

from __future__ import annotations

import os
import platform

from starlette.responses import Response

from mooring import __version__, errors
from mooring.dashboard.render import render
from mooring.dashboard.routing import get, post
from mooring.dashboard.view import View
from mooring.identity import audit
from mooring.kit import jobs
from mooring.operations import check_database, check_host, keys
from mooring.settings import reference, unknown

HERE = "/dashboard/system"


@get(HERE, "owner", api="GET /system, mooring doctor, mooring jobs, mooring keys status")
async def show(view: View) -> Response:
    """What runs, and whether it is well. The quick checks only; `look` does the rest."""
    context = view.context
    async with context.db.read() as tx:
        queues, dead = await jobs.state(tx), await jobs.dead_jobs(tx, limit=20)
        seq, head = await audit.head(tx)
    return render(
        view,
        "system.html",
        version=__version__,
        python=platform.python_version(),
        process=os.getpid(),
        database="SQLite" if context.db.is_sqlite else "PostgreSQL",
        queues=queues,
        dead=dead,
        keys=await keys.status(context.db, context.vault),
        egress=[e.strip() for e in context.settings.egress_allow.split(",") if e.strip()],
        dropped=context.logs.dropped,
        courier=context.courier is not None,
        connectors=len(context.registry),
        own=context.registry.own,
        audit_entries=seq,
        audit_head=head[:16],
        settings=[(name, help) for name, _, help in reference()],
    )


@post(HERE + "/look", "owner", api="POST /system/look, mooring doctor")
async def look(view: View) -> Response:
    """Run the doctor's checks of host and database now. It changes nothing."""
    context = view.context
    found, _ = check_host.examine(context.settings, unknown())
    found += await check_database.examine(context.db, context.vault, lambda _done, _total: None)
    return render(view, "findings.html", findings=sorted(found, key=lambda f: ("fail", "warn", "ok").index(f.severity)))


@post(HERE + "/verify", "owner", api="POST /system/verify, mooring audit verify")
async def verify(view: View) -> Response:
    """Follow the audit log's chain now."""
    verdict = await audit.verify(view.context.db, view.context.vault)
    return render(view, "verdict.html", verdict=verdict)


@post(HERE + "/jobs/{id}/revive", "owner", api="POST /system/jobs/{id}/revive, mooring jobs --revive ID")
async def revive(view: View) -> Response:
    """Let a dead job run again."""
    text = view.path("id")
    async with view.context.db.begin() as tx:
        if not text.isdigit() or not await jobs.revive(tx, int(text)):
            raise errors.NotFound("no such dead job")
        audit.note(tx, "job.revived", target=("job", text))
    return view.go(HERE, "replayed")
