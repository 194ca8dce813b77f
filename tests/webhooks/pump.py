"""A delivering worker in a process of its own, to be killed; its settings come in the environment."""

from __future__ import annotations

import asyncio
import os

from mooring.kit.db import Database
from mooring.kit.http import HttpClient
from mooring.webhooks.delivery import WebhookDelivery
from tests.webhooks.world import guard_for, run_jobs, vault_of

# Many short attempts: a receiver that fails at random must not use up the schedule by chance.
SCHEDULE = (0.0, *[0.02] * 29)


async def main() -> None:
    """Work until killed."""
    db = Database(os.environ["PUMP_DATABASE_URL"])
    http = HttpClient(guard_for(int(os.environ["PUMP_PORT"])), user_agent="Mooring/test")
    work = WebhookDelivery(db, vault_of(os.environ["PUMP_KEY"]), http, schedule=SCHEDULE, pause=(0.01, 0.02))
    print("ready", flush=True)
    while True:
        await run_jobs(db, work, horizon=-1, seconds=3600)
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(main())
