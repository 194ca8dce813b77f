"""What other programs of the host can see of ours: no secret among the arguments, no core dump, no readable memory (V6)."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import httpx
import psutil
import pytest
from typer.main import get_command

from mooring.accounts.credentials import Secrets
from mooring.cli import app
from mooring.operations.backup import run_postgres
from mooring.protocol.redact import is_sensitive
from tests.command import MASTER_KEYS, clean_env
from tests.hub import BOOTSTRAP_KEY
from tests.servers.ports import free_port
from tests.servers.postgres import PostgresServer

NAMES_ONLY = {
    "mooring accounts export with_auth_configs",  # a flag
    "mooring api-key disable key_id",
    "mooring api-key enable key_id",
    "mooring api-key revoke key_id",
    "mooring connectors import-openapi key",  # of the connector
    "mooring connectors new auth",  # the name of a method
    "mooring connectors new key",
    "mooring connectors record credentials",  # a file, which others must not be able to read
    "mooring connectors run credentials",
    "mooring connectors show key",
    "mooring connectors test keys",  # of connectors
    "mooring restore data_keys",  # a file
}
"""Parameters that are called like a secret: names, public ids, and files that hold one."""


def commands(command: click.Command, path: str = "mooring") -> Iterator[tuple[str, click.Command]]:
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, f"{path} {name}")


def test_no_command_takes_a_secret_as_an_argument() -> None:
    found = dict(commands(get_command(app)))
    assert "mooring serve" in found and "mooring backup" in found
    named = {
        f"{path} {parameter.name}"
        for path, command in found.items()
        for parameter in command.params
        if parameter.name and is_sensitive(parameter.name)
    }
    assert named == NAMES_ONLY, "a secret is read from a file, from the environment or from standard input"


WITHOUT_POWERS = ["setpriv", "--bounding-set=-all"] if os.geteuid() == 0 else []
"""root may look everywhere; without capabilities it is a user like any other."""
SECRETS = {
    "MOORING_BOOTSTRAP_API_KEY": BOOTSTRAP_KEY,
    "MOORING_METRICS_TOKEN": "metrics-token-that-is-secret",
    "MOORING_OIDC_CLIENT_SECRET": "oidc-secret-0123456789",
    "MOORING_MASTER_KEYS": MASTER_KEYS,
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer) -> Iterator[list[psutil.Process]]:
    """Supervisor, web process and courier on PostgreSQL, with a secret in every setting that can hold one."""
    folder, port = tmp_path_factory.mktemp("secretive"), free_port()
    url = postgres_server.create_database()
    env = clean_env(folder, MOORING_DATABASE_URL=url, **SECRETS)
    command = [*WITHOUT_POWERS, sys.executable, "-m", "mooring", "serve", "--port", str(port)]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, env=env, cwd=folder, stderr=log) as hub:
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and hub.poll() is None:
                found = [psutil.Process(hub.pid), *psutil.Process(hub.pid).children(recursive=True)]
                with contextlib.suppress(httpx.TransportError):
                    httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=1)
                    if len(found) == 3 and "mooring.courier" in found[2].cmdline():
                        break
                time.sleep(0.1)
            time.sleep(0.5)  # the courier has begun
            assert len(found) == 3, (folder / "log").read_text()
            yield found
        finally:
            hub.terminate()


def test_no_process_has_a_secret_among_its_arguments(tree: list[psutil.Process]) -> None:
    for process in tree:
        arguments = " ".join(process.cmdline())
        assert "mooring" in arguments
        assert not [name for name, secret in SECRETS.items() if secret in arguments]
        assert "postgresql://" not in arguments and MASTER_KEYS[3:] not in arguments


def test_no_process_of_the_tree_leaves_a_core_dump(tree: list[psutil.Process]) -> None:
    for process in tree:
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE), process.cmdline()


def memory_is_open(pid: int) -> bool:
    """Whether a process of the same user, without special powers, can read what is in this one."""
    look = [*WITHOUT_POWERS, "cat", f"/proc/{pid}/environ"]
    return subprocess.run(look, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no prctl")
def test_the_memory_of_processes_that_open_credentials_is_closed_to_their_own_user(tree: list[psutil.Process]) -> None:
    opening = [p for p in tree if {"mooring.child", "mooring.courier"} & set(p.cmdline())]
    assert len(opening) == 2
    assert [p.cmdline() for p in opening if memory_is_open(p.pid)] == []
    with subprocess.Popen([*WITHOUT_POWERS, "sleep", "60"]) as other:
        try:
            time.sleep(0.1)
            assert memory_is_open(other.pid), "that of any other process can be read"
        finally:
            other.kill()


def test_a_command_leaves_no_core_dump_either(tmp_path: Path) -> None:
    code = (
        "import resource, sys; sys.argv = ['mooring', 'connectors', 'show', 'hibob']\n"
        "from mooring.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "import ctypes; print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean_env(tmp_path), capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "(0, 0) 0"


async def test_the_password_of_postgresql_goes_through_the_environment(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    fake = tmp_path / "pg_dump"
    fake.write_text(f'#!/bin/sh\ntr "\\0" " " < /proc/$$/cmdline > {seen}\nprintf %s "$PGPASSWORD" > {seen}.password\n')
    fake.chmod(0o755)
    await run_postgres([str(fake), "--format=custom"], "postgresql://u:p4ssw0rd-of-the-database@127.0.0.1:1/x")
    assert "p4ssw0rd" not in seen.read_text() and "--format=custom" in seen.read_text()
    assert Path(f"{seen}.password").read_text() == "p4ssw0rd-of-the-database"


def test_an_open_credential_shows_and_serialises_nothing() -> None:
    open_one = Secrets({"api_key": "canary-1"}, "canary-2", "canary-3", {"x": "canary-4"}, {"y": "canary-5"})
    assert "canary" not in f"{open_one!r} {open_one}"
    for way in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            way(open_one)
