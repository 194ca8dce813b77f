"""Child processes that serve: start, wait until ready, stop by handle."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.ports import HOST

COUNTERPARTS = Path(__file__).parent.parent / "counterparts"
INSTALL_HINT = "run scripts/install-test-deps"


class ServerError(RuntimeError):
    """A server could not be started; the message ends with the last lines that it printed."""


def require_program(name: str, *folders: Path) -> str:
    """Find a program on PATH or in `folders`; say how to install it otherwise."""
    path = os.pathsep.join([*(str(folder) for folder in folders), os.environ.get("PATH", os.defpath)])
    found = shutil.which(name, path=path)
    if found is None:
        raise ServerError(f"{name} is not installed: {INSTALL_HINT}")
    return found


def require_node_modules(folder: Path) -> None:
    """Check that a Node.js program's packages are installed."""
    if not (folder / "node_modules").is_dir():
        raise ServerError(f"no node_modules in {folder.parent.name}/{folder.name}: {INSTALL_HINT} --only node")


def unprivileged_user(*names: str) -> pwd.struct_passwd | None:
    """Pick the first existing account of `names` to run a server as; None when we are not root ourselves."""
    if os.geteuid() != 0:
        return None
    for name in names:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ServerError(f"none of the accounts {', '.join(names)} exists: {INSTALL_HINT}")


class Server:
    """A child process with a folder of its own that is removed with it.

    Subclasses give `command()` and may override the rest. The process leads a group of its own, so that
    stopping it stops what it started.
    """

    name = "server"
    start_timeout = 30.0  # seconds until ready
    stop_timeout = 10.0  # seconds between the polite signal and SIGKILL
    stop_signal = signal.SIGTERM

    def __init__(self, port: int, user: pwd.struct_passwd | None = None) -> None:
        self.port = port
        self.base_url = f"http://{HOST}:{port}"
        self._uid = user.pw_uid if user else None
        self._gid = user.pw_gid if user else None
        self._extra_groups: list[str | int] | None = [] if user else None
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None

    @property
    def folder(self) -> Path:
        """Return the running server's own folder."""
        if self._folder is None:
            raise RuntimeError(f"{self.name} is not running: use it in a with block, or call start()")
        return self._folder

    @property
    def pid(self) -> int:
        """Return the running server's process id."""
        if self._process is None:
            raise RuntimeError(f"{self.name} is not running: use it in a with block, or call start()")
        return self._process.pid

    def command(self) -> Sequence[str]:
        """Return the program and its arguments."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """Return what is added to the environment."""
        return {}

    def prepare(self) -> None:
        """Fill the server's folder before it starts."""

    def is_ready(self) -> bool:
        """Tell whether the server takes requests."""
        try:
            with socket.create_connection((HOST, self.port), timeout=1):
                return True
        except OSError:
            return False

    def ready(self) -> None:
        """Finish the start once the server takes requests."""

    def start(self) -> None:
        """Start the server and return once it takes requests; raise `ServerError` otherwise."""
        self._folder = Path(tempfile.mkdtemp(prefix=f"mooring-{self.name}-"))
        try:
            if self._uid is not None and self._gid is not None:
                os.chown(self._folder, self._uid, self._gid)
            self.prepare()
            with self._log_path().open("ab") as log:
                self._process = self._spawn(self.command(), log.fileno())
            self._wait_until(self.is_ready)
            self.ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server and remove its folder; nothing happens when it is not running."""
        process, self._process = self._process, None
        if process is not None:
            self._end_group(process)
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def reap(self) -> None:
        """Collect a server that somebody killed; its folder stays."""
        process, self._process = self._process, None
        assert process is not None
        process.wait()

    def restart(self) -> None:
        """Start again in the same folder, after `reap`."""
        with self._log_path().open("ab") as log:
            self._process = self._spawn(self.command(), log.fileno())
        self._wait_until(self.is_ready)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def run(self, command: Sequence[str]) -> str:
        """Run a program as the server's user and return its output; raise `ServerError` when it fails."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._full_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            user=self._uid,
            group=self._gid,
            extra_groups=self._extra_groups,
        )
        if done.returncode != 0:
            raise ServerError(f"{Path(command[0]).name} failed ({done.returncode}):\n{done.stdout[-2000:]}")
        return done.stdout

    def log(self) -> str:
        """Return what the server has printed so far."""
        return self._log_path().read_text(errors="replace")

    def _log_path(self) -> Path:
        return self.folder / "server.log"

    def _full_environment(self) -> dict[str, str]:
        return {**os.environ, "HOME": str(self.folder), **self.environment()}

    def _spawn(self, command: Sequence[str], log: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self._full_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            user=self._uid,
            group=self._gid,
            extra_groups=self._extra_groups,
        )

    def _end_group(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is not None:
            return
        process.send_signal(self.stop_signal)
        deadline = time.monotonic() + self.stop_timeout
        # WNOWAIT leaves the ended process unreaped, so its id, which names the group, is not used again yet.
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        while os.waitid(os.P_PID, process.pid, flags) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        assert self._process is not None
        deadline = time.monotonic() + self.start_timeout
        while not condition():
            if self._process.poll() is not None:
                raise ServerError(f"{self.name} ended with {self._process.returncode}:\n{self.log()[-3000:]}")
            if time.monotonic() > deadline:
                raise ServerError(f"{self.name} not ready in {self.start_timeout:.0f} s:\n{self.log()[-3000:]}")
            time.sleep(0.05)
