"""What the OAuth servers beside oidc-provider share: counts of what they are asked, and a control for the test.

GET /_control/stats   POST /_control/reset   and what the server itself adds. Environment: PORT, AT_TTL (seconds, 3600).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from threading import Lock
from typing import Any

from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

HOST = "127.0.0.1"
PORT = int(os.environ["PORT"])
ISSUER = f"http://{HOST}:{PORT}"
ACCESS_TTL = int(os.environ.get("AT_TTL", "3600"))

Control = Callable[[dict[str, Any]], Any]


class Counted:
    """A WSGI application, its requests counted by path, with the control in front of it."""

    def __init__(self, app: Any, *, token: str, revoke: str, controls: Mapping[str, Control]) -> None:
        self._app = app
        self._names = {token: "token", revoke: "revoke"}
        self._controls: dict[str, Control] = {
            "stats": lambda _: {**self._counts, "token_err": dict(self._errors)},
            "reset": lambda _: self._reset(),
            **controls,
        }
        self._lock = Lock()
        self._reset()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path.startswith("/_control/"):
            act = self._controls[path.removeprefix("/_control/")]
            asked = Request(environ).get_data()
            answer = json.dumps(act(json.loads(asked) if asked else {}))
            return Response(answer, content_type="application/json")(environ, start_response)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = BytesIO(body)
        response = Response.from_app(self._app, environ, buffered=True)
        with self._lock:
            self._count("api" if path.startswith("/api/") else self._names.get(path), response)
            if self._names.get(path) == "token" and b"grant_type=authorization_code" in body:
                self._counts["token_code"] += 1
        return response(environ, start_response)

    def _count(self, name: str | None, response: Response) -> None:
        if name is None:
            return
        self._counts[name] += 1
        self._counts[f"{name}_{'ok' if response.status_code == 200 else response.status_code}"] += 1
        if name == "token" and response.status_code != 200:
            with contextlib.suppress(ValueError):
                self._errors[json.loads(response.get_data())["error"]] += 1

    def _reset(self) -> None:
        self._counts: Counter[str] = Counter(token=0, token_code=0, token_ok=0, revoke=0, revoke_ok=0, api=0, api_401=0)
        self._errors: Counter[str] = Counter()


def serve(app: Any) -> None:
    """Serve until the process is stopped, a thread for each connection."""
    make_server(HOST, PORT, app, threaded=True).serve_forever()
