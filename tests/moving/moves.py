"""What these tests share: the commands, a passphrase, and callers that never stop."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx
from typer.testing import CliRunner

from mooring import errors
from mooring.cli import app
from tests.hub import TLS, Hub, Project

PASSPHRASE = "a passphrase of these tests"


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


@functools.cache
def _connectors(folder: str) -> str:
    """The one connector of the hub's own that these tests use: to read the others costs each command seconds."""
    few = Path(tempfile.mkdtemp(prefix="mooring-moving-"))
    atexit.register(shutil.rmtree, few, ignore_errors=True)
    shutil.copy(Path(folder) / "oidc-provider.yaml", few)
    return str(few)


def settings_of(hub: Hub, passphrase: str = PASSPHRASE) -> dict[str, str]:
    """The environment of a command at a hub."""
    return {
        **hub.env,
        "MOORING_DATABASE_URL": hub.database_url,
        "MOORING_BUNDLE_PASSPHRASE": passphrase,
        "MOORING_CONNECTORS_DIR": _connectors(hub.env["MOORING_CONNECTORS_DIR"]),
    }


def accounts(project: Project, *arguments: str | Path, passphrase: str = PASSPHRASE, check: bool = True) -> Done:
    """Run `mooring accounts …` at the project's hub, in this process: the imports of a new one take seconds."""
    env = settings_of(project.hub, passphrase)
    result = CliRunner().invoke(app, ["accounts", *map(str, arguments), "--project", project.id], env=env)
    if isinstance(result.exception, errors.MooringError):
        done = Done(2, result.stdout, f"{result.stderr}{result.exception.error_code}: {result.exception.message}")
    elif isinstance(result.exception, errors.ConfigurationError):
        done = Done(2, result.stdout, f"{result.stderr}{result.exception}")
    elif result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    else:
        done = Done(result.exit_code, result.stdout, result.stderr)
    assert passphrase not in done.out + done.err
    if check:
        assert done.code == 0, done.err
    return done


class Callers:
    """Threads that call accounts through a hub until they are told to stop, and count what they see."""

    def __init__(self, project: Project, accounts: list[str], *, pause: float = 0.05) -> None:
        self.seen: Counter[str] = Counter()
        self.by_account: dict[str, str] = {}
        self.good = Counter(dict.fromkeys(accounts, 0))
        self._stop = threading.Event()
        self._pause = pause
        self._threads = [threading.Thread(target=self._call, args=(project, id)) for id in accounts]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self, project: Project, account: str) -> None:
        with httpx.Client(
            base_url=project.hub.url, auth=(project.key, ""), timeout=30, trust_env=False, verify=TLS
        ) as http:
            while not self._stop.is_set():
                answer = http.get("/proxy/api/me", headers={"x-account-id": account})
                what = "200" if answer.status_code == 200 else f"{answer.status_code} {answer.json().get('errorCode')}"
                self.seen[what] += 1
                self.by_account[account] = what
                self.good[account] += what == "200"
                time.sleep(self._pause)

    def wait_until_all(self, what: str, seconds: float = 30) -> None:
        """Wait until the last answer of every account is this one."""
        end = time.monotonic() + seconds
        while set(self.by_account.values()) != {what}:
            assert time.monotonic() < end, self.by_account
            time.sleep(0.05)
