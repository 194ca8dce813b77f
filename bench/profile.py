"""`python -m bench.profile`: where the time of a proxied call goes, seen by py-spy while wrk calls through a hub.

Writes the stacks (`stacks.txt`, one per line with its number of samples: what flame graph tools read) and the lists
(`top.txt`) to build/profile/, and prints the lists.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from bench import load
from bench.load import Target
from bench.servers import BOOTSTRAP_KEY, Hub, Upstream
from tests.servers.ports import HOST
from tests.servers.postgres import PostgresServer
from tests.servers.process import Server, ServerError

HERE = Path(__file__).resolve().parent.parent
FOLDER = HERE / "build" / "profile"
RATE = 250  # samples a second
SHOWN = 40  # lines of each list


def main() -> int:
    """Profile and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description="Profile the hot path.")
    parser.add_argument("--seconds", type=int, default=10, help="how long (10)")
    parser.add_argument("--connections", type=int, default=32, help="calls at a time (32)")
    parser.add_argument("--postgres", action="store_true", help="a hub on PostgreSQL instead of SQLite")
    parser.add_argument("--native", action="store_true", help="C functions too, as far as they have names")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    stacks = FOLDER / "stacks.txt"
    try:
        with tempfile.TemporaryDirectory(prefix="mooring-profile-") as folder, ExitStack() as stack:
            upstream = stack.enter_context(Upstream())
            database = stack.enter_context(PostgresServer()).create_database() if options.postgres else None
            hub = Hub(Path(folder) / "hub", HERE, allow=f"{HOST}:{upstream.port}", database_url=database)
            stack.enter_context(hub)
            headers = {"authorization": f"Bearer {BOOTSTRAP_KEY}", "x-account-id": hub.link()}
            target = Target("Mooring", f"{hub.base_url}/proxy/employees?page=1", headers)
            load.run(target, Path(folder), connections=options.connections, seconds=2)  # warm
            spy = _spy(hub, stacks, options.seconds, native=options.native)
            done = load.run(target, Path(folder), connections=options.connections, seconds=options.seconds + 1)
            _, told = spy.communicate(timeout=60)
            if spy.returncode != 0:
                print(f"bench.profile: py-spy failed; it must be allowed to trace (root, or CAP_SYS_PTRACE):\n{told}")
                return 1
    except (ServerError, load.BadAnswers) as e:
        print(f"bench.profile: {e}", file=sys.stderr)
        return 1
    head = f"{done.per_second:,.0f} calls/s at {options.connections} connections while being watched"
    shown = f"{head}\n\n{render(stacks.read_text().splitlines())}"
    (FOLDER / "top.txt").write_text(shown)
    print(shown)
    print(f"Written to {FOLDER.relative_to(HERE)}/.")
    return 0


def _spy(hub: Server, stacks: Path, seconds: int, *, native: bool) -> subprocess.Popen[str]:
    """Watch the web process, which is the largest of the hub's."""
    parent = psutil.Process(hub.pid)
    web = max([parent, *parent.children(recursive=True)], key=lambda p: p.memory_info().rss)
    command = [str(Path(sys.executable).with_name("py-spy")), "record", "--pid", str(web.pid), "--output", str(stacks)]
    command += ["--format", "raw", "--rate", str(RATE), "--duration", str(seconds), "--threads"]
    command += ["--native"] if native else []
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def render(stacks: Iterable[str]) -> str:
    """The lists, of the event loop's thread: functions by their own time, and by that of all they called too."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for line in stacks:
        path, _, count = line.rpartition(" ")
        thread, *frames = path.split(";")
        if "MainThread" not in thread or not frames:
            continue
        # Without the number of the line: what is wanted are functions.
        named = [frame.rpartition(":")[0] + ")" if ":" in frame else frame for frame in frames]
        own[named[-1]] += int(count)
        total.update(dict.fromkeys(named, int(count)))
    samples = own.total() or 1
    parts = []
    for title, counts in (("By their own time", own), ("With all that they called", total)):
        rows = [f"{100 * count / samples:6.1f} %  {name}" for name, count in counts.most_common(SHOWN)]
        parts.append("\n".join([title, *rows]))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.exit(main())
