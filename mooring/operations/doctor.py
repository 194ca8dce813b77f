"""Look at everything that can be wrong with an installation; change nothing."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from mooring.connectors.problem import ConnectorFileError
from mooring.connectors.registry import load_registry
from mooring.errors import ConfigurationError
from mooring.kit.db import Database
from mooring.operations import check_database, check_host, check_network
from mooring.operations.check_database import Progress
from mooring.operations.finding import Finding, fail, warn
from mooring.operations.schema import has_file
from mooring.settings import Settings


async def examine(settings: Settings, unknown: Sequence[str], progress: Progress) -> list[Finding]:
    """All findings, in the order in which one would mend them."""
    found, vault = check_host.examine(settings, unknown)
    if not has_file(settings.resolved_database_url):
        url = make_url(settings.resolved_database_url)
        why = "Nothing was ever stored here, or the file was moved away."
        found.append(
            warn("database", f"there is no {url.database}", why, "Start the hub, or `mooring restore` a backup.")
        )
    else:
        db = Database(settings.resolved_database_url)
        try:
            found += await check_database.examine(db, vault, progress)
            found += await _callbacks(settings, db)
        finally:
            await db.close()
    found += await check_network.shared_server(settings)
    found += await check_network.egress(settings)
    found.append(await check_network.public_url(settings))
    return found


async def _callbacks(settings: Settings, db: Database) -> list[Finding]:
    try:
        return await check_network.callbacks(settings, db, load_registry(settings.connectors_dir))
    except (ConnectorFileError, ConfigurationError) as e:
        fix = "Run `mooring connectors check` on the files of MOORING_CONNECTORS_DIR."
        return [
            fail("connectors", str(e).splitlines()[0][:300], "The hub does not start with a faulty connector.", fix)
        ]
    except (SQLAlchemyError, OSError):
        return []  # the database's own findings say it
