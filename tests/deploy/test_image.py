"""What the image would hold, without an engine: the wheel that the Containerfile builds from nothing but the files that it
copies, run as the image runs it: by a user without rights, from a root that is read-only.

`MOORING_TEST_IMAGE=1` also installs the locked dependencies by the Containerfile's own steps, which needs the network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mooring.kit.vault import create_key_file
from tests.deploy.containerfile import DEPLOY, ROOT, read_stages
from tests.hub import BOOTSTRAP_KEY, READY_SECONDS, Hub, Project, ok
from tests.sandbox.harness import start_sandbox, stop_sandbox
from tests.servers.ports import free_port

USER = 10001

# In a mount namespace of its own: the whole tree read-only but for the data folder and /tmp, and a home of root's that lets
# others pass where the interpreter lives in it.
ENTER = r"""
set -eu
data=$1 base=$2 port=$3 code=$4
mount --make-rprivate /
blocked=
part=$base
while [ "$part" != / ]; do
  [ "$(( 0$(stat -c %a "$part") & 1 ))" = 1 ] || blocked=$part
  part=$(dirname "$part")
done
if [ -n "$blocked" ] && [ "$blocked" != "$base" ]; then
  keep=$(mktemp -d)
  mount --bind "$base" "$keep"
  mount -t tmpfs -o mode=755 tmpfs "$blocked"
  mkdir -p "$base"
  mount --bind "$keep" "$base"
fi
mount --bind "$data" "$data"
findmnt -rno TARGET | grep -v '^/proc\|^/sys\|^/dev' | sort -r | while read -r at; do
  [ "$at" = "$data" ] || mount -o remount,bind,ro "$at" 2>/dev/null || true
done
mount -t tmpfs -o mode=1777,size=64m tmpfs /run/mooring-tmp
cd "$data"
exec setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all \
  env TMPDIR=/run/mooring-tmp PYTHONPATH="$code" PYTHONDONTWRITEBYTECODE=1 "$5" -m mooring serve --port "$port"
"""


def run(*command: str, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {(done.stdout + done.stderr)[-2000:]}"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked into a folder of its own."""
    source = tmp_path_factory.mktemp("src")
    for step in read_stages()[0].all("COPY"):
        *names, _ = step.split()
        for name in names:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, source / name)
    build = read_stages()[0].all("RUN")[-1]
    assert "pip wheel --no-deps --no-build-isolation --wheel-dir /tmp/wheel ." in build
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", "wheel", ".", cwd=source)
    (wheel,) = (source / "wheel").glob("*.whl")
    target = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def test_the_wheel_holds_what_the_hub_reads_beside_its_code(installed: Path) -> None:
    for name in (
        "mooring/connectors/catalog/sandbox.yaml",
        "mooring/migrations/versions/0001_initial_schema.py",
        "mooring/dashboard/templates",
        "mooring/connect/web",
        "mooring/docs/api.md",
    ):
        assert (installed / name).exists(), name
    assert not list(installed.rglob("*.keys")) and not (installed / "tests").exists()


@pytest.fixture
def confined(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, str]]:
    """A hub of that wheel, run by user 10001 who can write to nothing but its data and /tmp; and a sandbox."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs root and mount namespaces")
    folder = tmp_path_factory.mktemp("confined")
    data = folder / "volume"
    data.mkdir()
    os.chown(data, USER, USER)
    keys = folder / "master-keys"  # as Kubernetes and systemd hand a secret down: root's, and the group may read it
    create_key_file(keys, data_dir=data)
    os.chown(keys, 0, USER)
    keys.chmod(0o440)
    for part in (folder, *folder.parents):  # pytest's folders are private
        if part.stat().st_uid == os.geteuid() and part != Path("/"):
            part.chmod(part.stat().st_mode | 0o011)
    for part in (installed, *installed.rglob("*")):
        part.chmod(part.stat().st_mode | (0o055 if part.is_dir() else 0o044))
    Path("/run/mooring-tmp").mkdir(exist_ok=True)
    process, sandbox_url = start_sandbox()
    port = free_port()
    hub = Hub(folder, port, egress_allow=sandbox_url.removeprefix("http://"))
    hub.database_url = f"sqlite:///{data / 'data' / 'mooring.db'}"
    env = hub.env | {"MOORING_DATA_DIR": str(data / "data"), "HOME": "/nonexistent"}
    env["MOORING_MASTER_KEY_FILE"] = str(keys)
    command = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        ENTER,
        "sh",
        str(data),
        sys.base_prefix,
        str(port),
        str(installed),
        sys.executable,
    ]
    with (folder / "hub.log").open("wb") as log:
        hub.process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            assert hub.process.poll() is None and time.monotonic() < deadline, hub.log()[-3000:]
            try:
                if httpx.get(f"{hub.url}/readyz", timeout=1).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.05)
        yield hub, sandbox_url
    finally:
        code = hub.stop()
        stop_sandbox(process)
        Path("/run/mooring-tmp").rmdir()
    assert code == 0, hub.log()[-2000:]


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_it_serves_without_rights_from_a_root_that_is_read_only(confined: tuple[Hub, str], installed: Path) -> None:
    hub, sandbox_url = confined
    assert hub.process is not None
    for pid in family(hub.process.pid):
        status = status_of(pid)
        assert set(status["Uid"].split()) == set(status["Gid"].split()) == {str(USER)}
        assert status["NoNewPrivs"] == "1" and int(status["CapBnd"], 16) == int(status["CapEff"], 16) == 0
    writable = [
        line.split()[4]
        for line in Path(f"/proc/{hub.process.pid}/mountinfo").read_text().splitlines()
        if "rw" in line.split()[5].split(",") and not line.split()[4].startswith(("/proc", "/sys", "/dev"))
    ]
    assert set(writable) == {str(hub.folder / "volume"), "/run/mooring-tmp"}, writable
    project = Project(hub, "", BOOTSTRAP_KEY)
    config = project.config(
        "sandbox",
        "oauth2",
        {"sandbox_url": sandbox_url, "client_id": "sandbox-client", "client_secret": "sandbox-secret"},
    )
    assert config["callback_url"].startswith(hub.url)
    keyed = project.config("sandbox", "api_key", {"sandbox_url": sandbox_url})
    account = project.link(keyed, {"api_key": "sandbox-key-acme"})
    assert ok(project.proxy(account, "POST", "/api/echo", content=b"x" * 3_000_000))["body"]["size"] == 3_000_000
    assert ok(httpx.get(f"{hub.url}/docs/openapi.json"))["openapi"]
    served_from = Path(f"/proc/{hub.process.pid}/environ").read_bytes()
    assert str(installed).encode() in served_from
    # MemoryDenyWriteExecute of the systemd unit: nothing is mapped writable and executable.
    for pid in family(hub.process.pid):
        assert not [line for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if " rwxp " in f" {line} "]


def family(pid: int) -> list[int]:
    """A process and its children."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert len(found) == 2  # the web process and the courier
    return [pid, *map(int, found)]


@pytest.mark.skipif(
    not os.environ.get("MOORING_TEST_IMAGE"), reason="takes a minute and the network: MOORING_TEST_IMAGE=1"
)
def test_the_steps_of_the_build_stage_run_as_written(tmp_path: Path) -> None:
    build, runtime = read_stages()[:2]
    source, prefix, scratch = tmp_path / "src", tmp_path / "opt", tmp_path / "scratch"
    source.mkdir()
    scratch.mkdir()
    for word, text in build.steps:
        if word == "COPY":
            *names, _ = text.split()
            for name in names:
                copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
                copy(ROOT / name, source / name)
        elif word == "RUN":
            step = text.replace("/tmp/", f"{scratch}/").replace("/opt/mooring", str(prefix))
            run("sh", "-euc", step.replace("python -m venv", f"{sys.executable} -m venv"), cwd=source)
    mooring = prefix / "bin" / "mooring"
    assert subprocess.run([mooring, "--version"], capture_output=True, text=True, check=True).stdout.startswith(
        "mooring "
    )
    assert not (prefix / "bin" / "pip").exists()
    code = "import redis, asyncpg, uvloop, mooring.serve"
    subprocess.run([prefix / "bin" / "python", "-c", code], check=True)
    assert DEPLOY.is_dir() and runtime.all("COPY") == ["--from=build /opt/mooring /opt/mooring"]
