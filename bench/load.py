"""Load with wrk: one run against one target, its numbers, and a run that checks every answer."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.servers.process import require_program


class BadAnswers(RuntimeError):
    """A target answered something else than it should; its numbers mean nothing."""


@dataclass(frozen=True)
class Target:
    """What is called: a URL with headers."""

    name: str
    url: str
    headers: Mapping[str, str]
    body: int = 0  # bytes to send by PUT
    accounts: tuple[str, ...] = ()  # one at random per call, instead of the header's


@dataclass(frozen=True)
class Run:
    """The numbers of one run; times in milliseconds."""

    requests: int
    per_second: float
    p50: float
    p99: float
    cpu_micros: float = 0.0  # processor time of the target per call; 0 when unknown


# wrk has no option for numbers that a program can read; its script can print them at the end, at no cost before.
_SCRIPT = """\
{headers}
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format('\\n{{"requests":%d,"micros":%d,"p50":%d,"p99":%d,"failed":%d,"wrong":%d}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.timeout + e.status, {wrong}))
end
"""
# Looking at every answer costs wrk more than sending, so this is never part of a measured run.
_CHECK = """\
local threads = {}
wrong = 0
setup = function(thread) table.insert(threads, thread) end
response = function(status, headers, body)
  if status ~= 200 or body ~= EXPECTED then wrong = wrong + 1 end
end
local function total()
  local sum = 0
  for _, thread in ipairs(threads) do sum = sum + thread:get("wrong") end
  return sum
end
"""


def run(target: Target, folder: Path, *, connections: int, seconds: float) -> Run:
    """Measure. Raises BadAnswers when any call failed."""
    return _wrk(target, folder, connections, seconds, _script(target, None))


def check(target: Target, folder: Path, expected: str, *, connections: int, seconds: float) -> int:
    """Look at every answer of a short run; return their number. Raises BadAnswers when one is not 200 with the body."""
    return _wrk(target, folder, connections, seconds, _script(target, expected)).requests


def _script(target: Target, expected: str | None) -> str:
    headers = "\n".join(f"wrk.headers[{_lua(k)}] = {_lua(v)}" for k, v in target.headers.items())
    if target.body:
        headers += f'\nwrk.method = "PUT"\nwrk.body = string.rep("x", {target.body})'
    if target.accounts:
        listed = ", ".join(_lua(id) for id in target.accounts)
        headers += (
            f"\nlocal ids = {{{listed}}}\nrequest = function()\n"
            '  wrk.headers["x-account-id"] = ids[math.random(#ids)]\n  return wrk.format()\nend'
        )
    if expected is None:
        return _SCRIPT.format(headers=headers, wrong="0")
    return f"EXPECTED = {_lua(expected)}\n{_CHECK}" + _SCRIPT.format(headers=headers, wrong="total()")


def _lua(text: str) -> str:
    return f" [==[{text}]==] "  # spaces: two brackets in a row would open a text of another kind


def _wrk(target: Target, folder: Path, connections: int, seconds: float, script: str) -> Run:
    path = folder / "wrk.lua"
    path.write_text(script)
    command = [require_program("wrk"), "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(path)]
    done = subprocess.run([*command, target.url], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BadAnswers(f"wrk against {target.name} ended with {done.returncode}: {done.stderr[-500:]}")
    numbers = next((line for line in done.stdout.splitlines() if line.startswith("{")), None)
    if numbers is None:
        raise BadAnswers(f"wrk against {target.name} gave no numbers: {(done.stdout + done.stderr)[-1000:]}")
    found = json.loads(numbers)
    if found["failed"] or found["wrong"] or not found["requests"]:
        raise BadAnswers(f"{target.name}: {found['failed']} failed and {found['wrong']} wrong of {found['requests']}")
    rate = found["requests"] / found["micros"] * 1e6
    return Run(found["requests"], rate, found["p50"] / 1000, found["p99"] / 1000)
