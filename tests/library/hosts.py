"""Applications that mount Mooring, as docs/library.md writes them, each in a uvicorn process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx

from tests.hub import BOOTSTRAP_KEY

DOCUMENT = Path(__file__).parents[2] / "docs" / "library.md"
PREFIX = "/integrations"
READY_SECONDS = 60
_WARN = ("-W", "error", "-W", "ignore::ResourceWarning")  # uvicorn leaves the socket of its workers to the interpreter

DJANGO_SETTINGS = """\
from pathlib import Path

SECRET_KEY = "for tests"
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "mysite.urls"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": Path(__file__).parent / "db.sqlite3"}}
"""
DJANGO_URLS = """\
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.urls import path


def home(request):
    return HttpResponse(f"the application's own page, {User.objects.count()} users")


urlpatterns = [path("", home)]
"""


def snippets() -> dict[str, str]:
    """The Python blocks of the document by the file that their first line names."""
    blocks = re.findall(
        r"^```python\n# (\S+)(?:: ([^\n]+))?\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL
    )
    out = {}
    for name, command, code in blocks:
        match = re.search(r"^from (fastapi|starlette\.applications|django)\b", code, re.MULTILINE)
        framework = match[1].partition(".")[0] if match else name
        out[framework] = f"# {name}: {command}\n{code}"
    return out


class Host:
    """One application under uvicorn, started by the command that its first line names."""

    def __init__(
        self, folder: Path, framework: str, port: int, *, database_url: str | None, env: Mapping[str, str]
    ) -> None:
        self.folder = folder
        self.framework = framework
        self.site = f"http://127.0.0.1:{port}"
        self.url = self.site + PREFIX
        self.log_path = folder / "host.log"
        file = "mysite/db.sqlite3" if framework == "django" else "app.db"
        self.database_url = f"{database_url}?schema=mooring" if database_url else f"sqlite:///{folder / file}"
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("MOORING_")}
        self.env |= {
            "PYTHONPATH": str(folder),
            "SITE_URL": self.site,
            "DATABASE_URL": database_url or self.database_url,
            "MOORING_API_KEY": BOOTSTRAP_KEY,
            "MOORING_BOOTSTRAP_API_KEY": BOOTSTRAP_KEY,
            "MOORING_DATA_DIR": str(folder / "data"),
            **env,
        }
        code = snippets()[framework]
        name, command = re.match(r"# (\S+): (.+)\n", code).groups()  # type: ignore[union-attr]
        self.command = [*command.split()[1:], "--port", str(port)]
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
        if framework == "django":
            (path.parent / "__init__.py").touch()
            (path.parent / "settings.py").write_text(DJANGO_SETTINGS)
            (path.parent / "urls.py").write_text(DJANGO_URLS)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until its Mooring answers."""
        if self.framework == "django":
            manage = [sys.executable, "-W", "error", "-m", "django", "migrate", "-v", "0"]
            subprocess.run(manage, env=self.env | {"DJANGO_SETTINGS_MODULE": "mysite.settings"}, check=True, timeout=60)
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *_WARN, "-m", "uvicorn", *self.command],
                env=self.env,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log()[-3000:]
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        self.stop()
        raise AssertionError(f"the host did not get ready: {self.log()[-3000:]}")

    def stop(self) -> int:
        """Ask it to end, as Ctrl-C does; its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)  # its workers too
                self.process.wait()
        return self.process.returncode

    def log(self) -> str:
        """What it wrote."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
