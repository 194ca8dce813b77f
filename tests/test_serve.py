"""`mooring serve`: wrong settings, first start, bootstrap, stop, and several workers."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from tests.command import MASTER_KEYS, clean_env, mooring
from tests.conftest import Ports
from tests.hub import BOOTSTRAP_KEY, Hub, Project
from tests.sandbox.harness import Sandbox
from tests.servers.ports import free_port

SHORT_KEY = "k1:" + base64.b64encode(b"sekret").decode()


def key_file_open_to_all(folder: Path) -> dict[str, str]:
    path = folder / "keys"
    path.write_text(MASTER_KEYS)
    path.chmod(0o644)
    return {"MOORING_MASTER_KEY_FILE": str(path)}


def key_file_in_the_data_folder(folder: Path) -> dict[str, str]:
    return {"MOORING_MASTER_KEY_FILE": str(folder / "data" / "keys")}


def faulty_connector(folder: Path) -> dict[str, str]:
    (folder / "connectors").mkdir()
    (folder / "connectors" / "inventory.yaml").write_text("connector: inventory\ntitel: Inventory\n")
    return {"MOORING_CONNECTORS_DIR": str(folder / "connectors")}


def data_folder_is_a_file(folder: Path) -> dict[str, str]:
    (folder / "file").write_text("")
    return {"MOORING_DATA_DIR": str(folder / "file" / "data")}


def not_a_database(folder: Path) -> dict[str, str]:
    (folder / "x.db").write_text("x" * 5000)
    return {"MOORING_DATABASE_URL": f"sqlite:///{folder}/x.db"}


WRONG: list[tuple[str, str, dict[str, str] | Callable[[Path], dict[str, str]]]] = [
    ("database scheme", "MOORING_DATABASE_URL", {"MOORING_DATABASE_URL": "mysql://u:sekret@h/x"}),
    ("database option", "MOORING_DATABASE_URL", {"MOORING_DATABASE_URL": "postgresql://u:sekret@h/x?nosuch=1"}),
    ("PostgreSQL is down", "MOORING_DATABASE_URL", {"MOORING_DATABASE_URL": "postgresql://u:sekret@127.0.0.1:1/x"}),
    ("not a database", "MOORING_DATABASE_URL", not_a_database),
    ("data folder", "MOORING_DATA_DIR", data_folder_is_a_file),
    ("key file mode", "MOORING_MASTER_KEY_FILE", key_file_open_to_all),
    ("key file place", "MOORING_MASTER_KEY_FILE", key_file_in_the_data_folder),
    ("key file is a folder", "MOORING_MASTER_KEY_FILE", {"MOORING_MASTER_KEY_FILE": "/"}),
    ("key base64", "MOORING_MASTER_KEYS", {"MOORING_MASTER_KEYS": "k1:sekret!"}),
    ("key length", "MOORING_MASTER_KEYS", {"MOORING_MASTER_KEYS": SHORT_KEY}),
    ("key twice", "MOORING_MASTER_KEYS", {"MOORING_MASTER_KEYS": f"{MASTER_KEYS},{MASTER_KEYS}"}),
    ("bootstrap key short", "MOORING_BOOTSTRAP_API_KEY", {"MOORING_BOOTSTRAP_API_KEY": "sekret"}),
    ("bootstrap key colon", "MOORING_BOOTSTRAP_API_KEY", {"MOORING_BOOTSTRAP_API_KEY": "sekret:" + "k" * 32}),
    ("egress network", "MOORING_EGRESS_ALLOW", {"MOORING_EGRESS_ALLOW": "10.0.0.0/8"}),
    ("egress host", "MOORING_EGRESS_ALLOW", {"MOORING_EGRESS_ALLOW": "a b:80"}),
    ("origin", "MOORING_ALLOWED_ORIGINS", {"MOORING_ALLOWED_ORIGINS": "app.example.com"}),
    ("public URL", "MOORING_PUBLIC_URL", {"MOORING_PUBLIC_URL": "hub.example.com"}),
    ("connectors folder", "MOORING_CONNECTORS_DIR", {"MOORING_CONNECTORS_DIR": "/nowhere/connectors"}),
    ("connector file", "MOORING_CONNECTORS_DIR", faulty_connector),
    ("log level", "MOORING_LOG_LEVEL", {"MOORING_LOG_LEVEL": "loud"}),
]


@pytest.mark.parametrize(("name", "wrong"), [(n, w) for _, n, w in WRONG], ids=[case for case, _, _ in WRONG])
def test_a_wrong_setting_stops_the_start_with_one_line_that_names_it(
    name: str, wrong: dict[str, str] | Callable[[Path], dict[str, str]], tmp_path: Path
) -> None:
    values = wrong(tmp_path) if callable(wrong) else wrong
    keys = {} if "MASTER_KEY" in name else {"MOORING_MASTER_KEYS": MASTER_KEYS}
    done = mooring(tmp_path, "serve", "--port", str(free_port()), **keys, **values)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith(f"mooring: {name}"), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "sekret" not in done.stderr


def test_a_connector_fault_is_named_with_file_and_line(tmp_path: Path) -> None:
    done = mooring(tmp_path, "serve", MOORING_MASTER_KEYS=MASTER_KEYS, **faulty_connector(tmp_path))
    assert f"{tmp_path}/connectors/inventory.yaml:1:1: " in done.stderr
    assert "`mooring connectors check` shows every fault" in done.stderr


def test_a_wrong_setting_stops_a_start_with_workers_the_same_way(tmp_path: Path) -> None:
    done = mooring(tmp_path, "serve", "--port", str(free_port()), "--workers", "2", MOORING_MASTER_KEYS=SHORT_KEY)
    assert done.returncode == 2
    assert done.stderr.startswith("mooring: MOORING_MASTER_KEYS") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_taken_port_is_refused(tmp_path: Path, workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = mooring(tmp_path, "serve", "--port", str(port), "--workers", workers)
    assert done.returncode == 2
    assert done.stderr == f"mooring: --host/--port: can't listen on 127.0.0.1:{port}: Address already in use\n"
    assert not (tmp_path / "data.keys").exists()


def test_a_second_hub_does_not_share_the_port_of_a_first_one(tmp_path: Path) -> None:
    with Hub(tmp_path / "hub", free_port()) as hub:
        done = mooring(tmp_path, "serve", "--port", str(hub.port))
        assert done.returncode == 2 and f"127.0.0.1:{hub.port}" in done.stderr


def test_a_missing_key_beside_sealed_rows_is_refused(tmp_path: Path, provider: Sandbox, ports: Ports) -> None:
    hub = Hub(tmp_path, free_port(), egress_allow=ports.egress_allow)
    with hub:
        project = Project(hub, "", BOOTSTRAP_KEY)
        config = project.config("sandbox", "api_key", {"sandbox_url": provider.url})
        project.link(config, {"api_key": "sandbox-key-acme"})
    (tmp_path / "data.keys").rename(tmp_path / "elsewhere")
    done = mooring(tmp_path, "serve", "--port", str(hub.port))
    assert done.returncode == 2
    assert done.stderr.startswith("mooring: MOORING_MASTER_KEY_FILE: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "data.keys").exists()
    other = mooring(tmp_path, "serve", "--port", str(hub.port), MOORING_MASTER_KEYS=MASTER_KEYS)
    assert other.returncode == 2
    assert other.stderr.startswith("mooring: MOORING_MASTER_KEYS: lacks the master key")
    with Hub(tmp_path, hub.port, env={"MOORING_MASTER_KEY_FILE": str(tmp_path / "elsewhere")}):
        pass  # the same key under another name serves again


def test_the_first_start_makes_a_key_file_with_a_notice_and_the_second_is_silent(tmp_path: Path) -> None:
    hub = Hub(tmp_path, free_port(), env={"MOORING_LOG_LEVEL": "error"})
    path = tmp_path / "data.keys"
    with hub:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        notice = hub.log()
        assert str(path) in notice and "Back it up" in notice and notice.count("made a master key") == 1
        assert path.read_text().strip().partition(":")[2] not in notice
    key = path.read_text()
    with hub:
        assert hub.log().count("made a master key") == 1
    assert path.read_text() == key


def test_the_bootstrap_key_counts_only_for_an_empty_database(tmp_path: Path) -> None:
    first, second = "first-" + "k" * 32, "second-" + "k" * 32
    port = free_port()
    for key, meant in ((first, first), (second, first)):
        with Hub(tmp_path, port, env={"MOORING_BOOTSTRAP_API_KEY": key}) as hub:
            for tried in (first, second):
                answer = httpx.get(f"{hub.url}/accounts", auth=(tried, ""))
                assert answer.status_code == (200 if tried == meant else 401)
    listed = mooring(tmp_path, "api-key", "list").stdout.splitlines()
    assert len(listed) == 1 and "\tbootstrap\t" in listed[0]
    projects = mooring(tmp_path, "project", "list").stdout.splitlines()
    assert [line.split("\t")[1:] for line in projects] == [["default", "default"]]


def test_an_unknown_name_only_warns(tmp_path: Path) -> None:
    with Hub(tmp_path, free_port(), env={"MOORING_PUBLIC_ULR": "https://hub.example.com"}, workers=2) as hub:
        assert hub.log().count("mooring: warning: MOORING_PUBLIC_ULR is no setting of Mooring\n") == 1


def test_a_start_takes_seconds_not_minutes(tmp_path: Path) -> None:
    began = time.monotonic()
    with Hub(tmp_path, free_port()):
        assert time.monotonic() - began < 15  # what it takes is in bench/; here others may be at work


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_hub_with_exit_code_0(tmp_path: Path, number: signal.Signals) -> None:
    with Hub(tmp_path, free_port()) as hub:
        assert hub.process is not None
        began = time.monotonic()
        hub.process.send_signal(number)
        assert hub.process.wait(15) == 0
        assert time.monotonic() - began < 15  # what it takes is in bench/; here others may be at work
    assert "Traceback" not in hub.log()


def test_a_stop_lets_a_call_end_and_cuts_one_that_hangs(tmp_path: Path, provider: Sandbox, ports: Ports) -> None:
    with Hub(tmp_path, free_port(), egress_allow=ports.egress_allow) as hub:
        project = Project(hub, "", BOOTSTRAP_KEY)
        config = project.config("sandbox", "api_key", {"sandbox_url": provider.url})
        account = project.link(config, {"api_key": "sandbox-key-acme"})
        ended: dict[int, int | str] = {}

        def call(milliseconds: int) -> None:
            try:
                ended[milliseconds] = project.proxy(account, path=f"/api/slow?ms={milliseconds}").status_code
            except httpx.TransportError as e:
                ended[milliseconds] = type(e).__name__

        callers = [threading.Thread(target=call, args=(ms,)) for ms in (2000, 30000)]
        for caller in callers:
            caller.start()
        time.sleep(0.7)
        assert hub.process is not None
        began = time.monotonic()
        hub.process.terminate()
        assert hub.process.wait(20) == 0
        assert time.monotonic() - began < 15
        for caller in callers:
            caller.join(20)
    assert ended[2000] == 200
    assert ended[30000] != 200
    assert "Traceback" not in hub.log()


def workers_of(hub: Hub) -> list[psutil.Process]:
    assert hub.process is not None
    found = []
    for child in psutil.Process(hub.process.pid).children():
        with contextlib.suppress(psutil.Error):  # one that just died
            if "serve" in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
    return found


def listening(process: psutil.Process, port: int) -> bool:
    return any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in process.net_connections("tcp"))


def wait_for(condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def two_serve(hub: Hub) -> bool:
    try:
        return sum(listening(worker, hub.port) for worker in workers_of(hub)) == 2
    except psutil.NoSuchProcess:
        return False


def all_gone(processes: list[psutil.Process]) -> bool:
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


@pytest.fixture
def crew(tmp_path: Path) -> Hub:
    return Hub(tmp_path, free_port(), workers=2)


def test_two_workers_serve_and_a_killed_one_is_replaced(crew: Hub) -> None:
    with crew as hub:
        wait_for(lambda: two_serve(hub))
        before = workers_of(hub)
        os.kill(before[0].pid, signal.SIGKILL)
        wait_for(lambda: two_serve(hub) and before[0].pid not in [w.pid for w in workers_of(hub)])
        assert before[1].is_running()
        assert {httpx.get(f"{hub.url}/readyz").status_code for _ in range(20)} == {200}
        after = workers_of(hub)
        began = time.monotonic()
        assert hub.stop() == 0
        assert time.monotonic() - began < 15
        assert all_gone(after)
    assert hub.log().count("ended; starting another") == 1


def test_workers_do_not_outlive_a_killed_supervisor(crew: Hub) -> None:
    with crew as hub:
        wait_for(lambda: two_serve(hub))
        orphans = workers_of(hub)
        hub.kill()
        wait_for(lambda: all_gone(orphans))


def test_a_revoked_key_stops_in_both_workers(crew: Hub) -> None:
    with crew as hub:
        wait_for(lambda: two_serve(hub))
        project = hub.new_project()
        ask = lambda: {httpx.get(f"{hub.url}/accounts", auth=(project.key, "")).status_code for _ in range(12)}  # noqa: E731
        assert ask() == {200}
        hub.command("api-key", "revoke", project.key.split(".")[2])
        time.sleep(1)
        assert ask() == {401}


def test_background_work_can_be_left_to_other_processes(tmp_path: Path) -> None:
    hub = Hub(tmp_path, free_port())
    database = tmp_path / "data" / "mooring.db"

    def claims() -> int:
        with contextlib.closing(sqlite3.connect(database)) as there:
            return int(there.execute("SELECT coalesce(sum(fence), -1) FROM jobs").fetchone()[0])

    hub.spawn = lambda log: subprocess.Popen(  # type: ignore[method-assign]
        [sys.executable, "-m", "mooring", "serve", "--port", str(hub.port), "--no-background"],
        env=hub.env,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    with hub:
        time.sleep(1)
        assert claims() == -1  # not even made: nothing here would run one
        command = [sys.executable, "-m", "mooring", "worker"]
        with subprocess.Popen(command, env={**hub.env, "MOORING_DATA_DIR": str(tmp_path / "other")} | {
            "MOORING_DATABASE_URL": hub.database_url, "MOORING_MASTER_KEY_FILE": str(next(tmp_path.glob("*.keys")))
        }) as worker:  # fmt: skip
            try:
                wait_for(lambda: claims() > 0)
            finally:
                worker.terminate()
        assert worker.returncode == 0


def test_the_supervisor_passes_ctrl_c_on_once(crew: Hub) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "mooring", "serve", "--port", str(crew.port), "--workers", "2"],
        env=clean_env(crew.folder),
        stderr=subprocess.PIPE,
        text=True,
    )
    crew.process = process  # type: ignore[assignment]
    try:
        wait_for(lambda: two_serve(crew))
        workers = workers_of(crew)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=15)
        assert process.returncode == 0 and "Traceback" not in err and "ended" not in err
        assert all_gone(workers)
    finally:
        process.kill()
