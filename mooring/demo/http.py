"""A plain HTTP client, like the backend of a product would use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from pyreqwest.client import SyncClient

from mooring.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer as the demo needs it."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return orjson.loads(self.body)


class DemoError(ConfigurationError):
    """A step of the demo failed; the message names it."""


class Http:
    """A plain client that follows nothing, like the backend of a product would use."""

    def __init__(self, client: SyncClient) -> None:
        self._client = client

    def __call__(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        json: Any = None,
        body: bytes | None = None,
    ) -> Answer:
        request = self._client.request(method, url)
        for name, value in (headers or {}).items():
            request = request.header(name, value)
        if json is not None:
            request = request.header("content-type", "application/json").body_bytes(orjson.dumps(json))
        elif body is not None:
            request = request.body_bytes(body)
        response = request.build().send()
        return Answer(response.status, dict(response.headers.items()), response.bytes().to_bytes())


def need(answer: Answer, status: int, step: str) -> Any:
    """The answer's JSON. Raises DemoError when its status is another one."""
    if answer.status != status:
        raise DemoError(f"demo: {step} answered {answer.status}: {answer.body.decode()[:300]}")
    return answer.json()
