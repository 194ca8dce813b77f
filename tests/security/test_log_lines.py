"""Whatever stands in a text that is logged: the line stays one line of JSON, and what looks like a secret is masked (L1)."""

from __future__ import annotations

import json
import subprocess
import sys

HEAD = """
import logging, structlog
from mooring.serve import configure_logging
configure_logging("debug")
log = structlog.get_logger("x")
library = logging.getLogger("some.library")
"""


def lines(code: str) -> list[dict[str, object]]:
    """What a process whose logging is the hub's writes to standard error."""
    done = subprocess.run([sys.executable, "-c", HEAD + code], capture_output=True, text=True, check=True, timeout=60)
    return [json.loads(line) for line in done.stderr.splitlines()]


HOSTILE = 'first\\nsecond\\r\\n{"event":"forged"}\\x1b[31m\\x00 \\u2028 "quoted" %s'


def test_a_line_break_in_a_text_makes_no_second_line() -> None:
    writes = ["log.warning('{}')", "library.warning('{}', 'and more')", "log.info('x', error='{}')"]
    found = lines("\n".join(write.replace("{}", HOSTILE) for write in writes))
    assert len(found) == len(writes)
    assert all("forged" in json.dumps(line) and line["event"] != "forged" for line in found)


def test_a_secret_that_slipped_into_a_text_is_masked() -> None:
    secret, opaque = "hunter2-and-more", "Zx9" * 14
    found = lines(
        f"""
log.warning("call with authorization: Bearer abc{opaque} failed", error="token={secret}", session="{secret}")
log.warning("nested", detail={{"client_secret": "{secret}", "list": ["password={secret}"]}}, reason="{opaque}")
library.warning("GET /callback?code={opaque}&state={secret} %s", "api_key={secret}")
try:
    raise ValueError("the provider said access_token={secret}")
except ValueError as e:
    log.exception("failed")
    library.exception("failed as well")
"""
    )
    assert len(found) == 5
    said = json.dumps(found)
    assert secret not in said and opaque not in said
    assert said.count("Traceback") == 2 and said.count("ValueError: the provider said access_token=[redacted]") == 2


def test_what_tells_an_operator_something_stays() -> None:
    account, request, head = "GnQoASvosYhE5wJcmmAQs", "01a21020-0a35-7170-a783-91e7c186cf44", "ab12" * 16
    (line,) = lines(
        f"log.info('audit log', entries=7, head='{head}', account_id='{account}', request_id='{request}', "
        "url='http://127.0.0.1:8080', error='OperationalError', pid=12, ok=True, ratio=0.5, nothing=None)"
    )
    assert line.pop("timestamp")
    assert line == {
        "event": "audit log", "level": "info", "entries": 7, "head": head, "account_id": account, "request_id": request,
        "url": "http://127.0.0.1:8080", "error": "OperationalError", "pid": 12, "ok": True, "ratio": 0.5, "nothing": None,
    }  # fmt: skip
