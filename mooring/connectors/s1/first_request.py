"""Find the plain HTTP request of an action, as far as the authentication part needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mooring.connectors.yaml_source import Location


@dataclass(frozen=True, slots=True)
class Request:
    """The parameters of a `request` step."""

    method: str
    base_url: str | None  # of the step itself
    path: str
    args: tuple[Mapping[str, Any], ...]
    authorization: str | None  # the type of the step's own authorization
    at: Location

    @property
    def url(self) -> str:
        """Base URL and path, put together as they stand."""
        return (self.base_url or "") + self.path

    @property
    def sends_json(self) -> bool:
        """Whether the step says that its body is JSON."""
        types = [str(a.get("value")) for a in self.args if str(a.get("name")).lower() == "content-type"]
        return any("json" in value for value in types)


def first_request(action: Mapping[str, Any], at: Location) -> Request | None:
    """The first `request` or `paginated_request` of an action."""
    steps = action.get("steps")
    for index, step in enumerate(steps if isinstance(steps, list) else []):
        function = step.get("stepFunction") if isinstance(step, dict) else None
        if not isinstance(function, dict) or function.get("functionName") not in ("request", "paginated_request"):
            continue
        parameters = function.get("parameters")
        if not isinstance(parameters, dict) or not isinstance(parameters.get("url"), str):
            continue
        own = parameters.get("authorization")
        args = parameters.get("args")
        base = parameters.get("baseUrl")
        return Request(
            method=str(parameters.get("method") or "get").lower(),
            base_url=base if isinstance(base, str) else None,
            path=parameters["url"],
            args=tuple(a for a in args if isinstance(a, dict)) if isinstance(args, list) else (),
            authorization=str(own.get("type")) if isinstance(own, dict) else None,
            at=(*at, "steps", index),
        )
    return None
