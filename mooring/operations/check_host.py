"""What the doctor looks at on this machine: settings, files, versions, space."""

from __future__ import annotations

import platform
import resource
import shutil
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from sqlalchemy import make_url

from mooring import __version__
from mooring.errors import ConfigurationError
from mooring.kit.vault import Vault
from mooring.operations.finding import Finding, fail, ok, warn
from mooring.operations.keys import open_vault
from mooring.settings import Settings

LOW_SPACE = (200 << 20, 2 << 30)  # bytes: fail below, warn below
FEW_FILES = 1024


def examine(settings: Settings, unknown: Sequence[str]) -> tuple[list[Finding], Vault | None]:
    """All findings of this machine, and the vault when its keys can be read. Makes nothing."""
    found = list(_settings(unknown))
    finding, vault = _keys(settings)
    found += [_data_dir(settings), finding, _space(settings), _files(), _versions()]
    return found, vault


def _settings(unknown: Sequence[str]) -> Iterator[Finding]:
    if not unknown:
        yield ok("settings", "every MOORING_ name is a setting")
        return
    yield warn(
        "settings",
        f"no setting of Mooring: {', '.join(unknown)}",
        "A name with a typing error silently means the default.",
        "Correct or remove it; docs/configuration.md lists all names.",
    )


def _data_dir(settings: Settings) -> Finding:
    paths = [settings.data_dir]
    url = make_url(settings.resolved_database_url)
    if url.get_backend_name() == "sqlite" and url.database:
        paths += [Path(url.database).parent, Path(url.database)]
    there = [path for path in dict.fromkeys(paths) if path.exists()]
    closed_by = [path for path in there if not stat.S_IMODE(path.stat().st_mode) & 0o007]
    for path in there:
        # A file in a folder that others can't enter is as closed as the folder.
        if any(path == folder or path.is_relative_to(folder) for folder in closed_by):
            continue
        return warn(
            "data folder",
            f"{path} is open to other users of this machine (mode {stat.S_IMODE(path.stat().st_mode):04o})",
            "Credentials are sealed, but owners, names and logs are not.",
            f"Run: chmod 700 {path if path.is_dir() else path.parent}",
        )
    return ok(
        "data folder", f"{settings.data_dir}, closed to others" if there else f"{settings.data_dir}, not made yet"
    )


def _keys(settings: Settings) -> tuple[Finding, Vault | None]:
    path = settings.resolved_key_file
    try:
        if not settings.master_keys and not path.exists():
            missing = warn(
                "master keys",
                f"{path} does not exist",
                "The first start makes it; if credentials are sealed already, none of them opens without it.",
                "Start the hub once, or put the key file back.",
            )
            return missing, None
        vault = open_vault(settings)
    except ConfigurationError as e:
        why = "The hub does not start like this (rule V7)."
        return fail(
            "master keys", str(e), why, "Do what the message says; never copy the key into the data folder."
        ), None
    place = "MOORING_MASTER_KEYS" if settings.master_keys else f"{path}, mode 0600, outside the data folder"
    return ok("master keys", f"{len(vault.key_ids)} in {place}; primary {vault.primary_id}"), vault


def _space(settings: Settings) -> Finding:
    path = settings.data_dir
    while not path.exists():
        path = path.parent
    free = shutil.disk_usage(path).free
    seen = f"{free / (1 << 30):.1f} GiB free under {path}"
    why = "A full disk stops every write: no token that was renewed could be stored."
    fix = "Free or add space; `mooring doctor` shows the size of the request log."
    if free < LOW_SPACE[0]:
        return fail("disk space", seen, why, fix)
    return warn("disk space", seen, why, fix) if free < LOW_SPACE[1] else ok("disk space", seen)


def _files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= FEW_FILES:
        return ok("open files", f"limit {soft}")
    return warn(
        "open files",
        f"limit {soft} (may be raised to {hard})",
        "Every proxied call holds two sockets; at the limit new ones are refused.",
        "Run `ulimit -n 65536` before the start, or set LimitNOFILE in the service file.",
    )


def _versions() -> Finding:
    return ok("versions", f"Mooring {__version__}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}")
