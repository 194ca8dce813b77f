"""`mooring demo` from start to end, in a terminal of 80 and of 120 columns, with taken ports and with Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shlex
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.command import clean_env
from tests.servers.ports import free_port_pair
from tests.test_serve import all_gone, wait_for

METHODS = ("API key", "Basic", "authorization code", "client credentials", "Service user")
ROW = re.compile(r"│ (?P<method>.+?) +│ (?P<account>[0-9A-Za-z]{21}) │ (?P<status>\d{3}) +│ (?P<people>.+?) +│")


def arguments(*more: str) -> list[str]:
    hub = free_port_pair()
    ports = ["--port", str(hub), "--sandbox-port", str(hub + 1), "--site-port", "0"]
    return [sys.executable, "-m", "mooring", "demo", *ports, *more]


def in_terminal(folder: Path, columns: int, command: list[str]) -> tuple[int, str]:
    """Run the command on a terminal of so many columns; return its exit code and what was to be read."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    env = clean_env(folder) | {"TERM": "dumb"}
    del env["COLUMNS"]
    process = subprocess.Popen(command, stdout=terminal, stderr=terminal, env=env, cwd=folder)
    os.close(terminal)
    out = b""
    while True:
        try:
            chunk = os.read(controller, 65536)
        except OSError:  # the last writer closed the terminal
            break
        if not chunk:
            break
        out += chunk
    os.close(controller)
    return process.wait(60), out.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [80, 120])
def test_once_links_by_every_method_and_fits_the_terminal(tmp_path: Path, columns: int) -> None:
    began = time.monotonic()
    code, shown = in_terminal(tmp_path, columns, arguments("--once"))
    assert code == 0, shown
    assert time.monotonic() - began < 15  # the 5 s, and room for a loaded machine
    rows = [match.groupdict() for match in ROW.finditer(shown)]
    assert len(rows) == 5, shown  # ids in one piece
    assert all(method in row["method"] for method, row in zip(METHODS, rows, strict=True))
    assert {row["status"] for row in rows} == {"200"}
    assert len({row["account"] for row in rows}) == 5
    wide = [line for line in shown.splitlines() if len(line) > columns]
    assert all(line.lstrip().startswith(("curl ", "http://")) for line in wide), wide
    assert "Traceback" not in shown and "master key" not in shown
    assert list(tmp_path.iterdir()) == []


def test_taken_ports_are_replaced(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        taken = [str(server.getsockname()[1]) for server in (one, two)]
        command = [sys.executable, "-m", "mooring", "demo", "--once", "--port", taken[0], "--sandbox-port", taken[1]]
        done = subprocess.run(command, env=clean_env(tmp_path), text=True, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(f"Port {port} is taken; using " in done.stdout for port in taken)
    assert len(ROW.findall(done.stdout)) == 5


def test_settings_of_the_shell_do_not_reach_the_demo(tmp_path: Path) -> None:
    env = clean_env(tmp_path, MOORING_DATABASE_URL="postgresql://127.0.0.1:1/x", MOORING_PUBLIC_URL="https://x.example")
    done = subprocess.run(arguments("--once"), env=env, text=True, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_data_folder_that_stays_can_be_used_again(tmp_path: Path) -> None:
    accounts = []
    for _ in range(2):
        command = arguments("--once", "--data-dir", str(tmp_path / "demo"))
        done = subprocess.run(command, env=clean_env(tmp_path), text=True, capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        accounts.append([row[1] for row in ROW.findall(done.stdout)])
    assert accounts[0] == accounts[1]  # the upsert rule: the same owners, the same accounts


@pytest.fixture
def running(tmp_path: Path):
    process = subprocess.Popen(
        arguments(), env=clean_env(tmp_path), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    yield process
    if process.poll() is None:
        process.terminate()
        process.wait(20)
    assert process.stdout is not None
    process.stdout.close()


def read_until(process: subprocess.Popen[str], text: str) -> str:
    shown = ""
    assert process.stdout is not None
    while text not in shown:
        line = process.stdout.readline()
        assert line, shown
        shown += line
    return shown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_runs_on_until_a_signal_and_leaves_no_process(
    running: subprocess.Popen[str], number: signal.Signals
) -> None:
    shown = read_until(running, "Ctrl-C stops everything.")
    curl = next(line for line in shown.splitlines() if line.lstrip().startswith("curl "))
    words = shlex.split(curl)
    key, header, url = words[2].removesuffix(":"), words[4], words[5]
    answer = httpx.get(url, auth=(key, ""), headers=dict([header.split(": ")]), trust_env=False)
    assert answer.status_code == 200 and len(answer.json()["employees"]) == 2
    children = psutil.Process(running.pid).children(recursive=True)
    assert len(children) >= 2
    running.send_signal(number)
    assert running.wait(15) == 0
    wait_for(lambda: all_gone(children), 2)


def test_ctrl_c_during_the_start_leaves_no_process(running: subprocess.Popen[str]) -> None:
    read_until(running, "Making a project")
    children = psutil.Process(running.pid).children(recursive=True)
    running.send_signal(signal.SIGINT)
    assert running.wait(15) == 130
    rest = running.communicate()[0]
    assert "Stopped." in rest and "Traceback" not in rest
    wait_for(lambda: all_gone(children), 2)


def test_the_end_of_the_hub_ends_the_demo_with_a_message(running: subprocess.Popen[str]) -> None:
    read_until(running, "Ctrl-C stops everything.")
    hub = next(p for p in psutil.Process(running.pid).children() if "sandbox" not in p.cmdline())
    hub.kill()
    assert running.wait(15) == 2
    assert "the hub ended by itself" in running.communicate()[0]
