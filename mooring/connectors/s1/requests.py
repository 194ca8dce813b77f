"""Find the plain HTTP requests of an action, as far as the authentication part needs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mooring.connectors.yaml_source import Location


@dataclass(frozen=True, slots=True)
class Request:
    """The parameters of a `request` step."""

    step: str
    method: str
    base_url: str | None  # of the step itself
    path: str
    args: tuple[Mapping[str, Any], ...]
    own: Mapping[str, Any] | None  # the step's own authorization
    certificates: tuple[str, str] | None  # the client certificate and its private key
    data_key: str  # of its answer; empty: all of it
    at: Location

    @property
    def url(self) -> str:
        """Base URL and path, put together as they stand."""
        return (self.base_url or "") + self.path

    @property
    def authorization(self) -> str | None:
        """The type of the step's own authorization."""
        return str(self.own.get("type")) if self.own is not None else None

    @property
    def sends_json(self) -> bool:
        """Whether the step says that its body is JSON."""
        types = [str(a.get("value")) for a in self.args if str(a.get("name")).lower() == "content-type"]
        return any("json" in value for value in types)


def requests_of(action: Mapping[str, Any], at: Location) -> Iterator[Request]:
    """Every `request` and `paginated_request` of an action, in order."""
    steps = action.get("steps")
    for index, step in enumerate(steps if isinstance(steps, list) else []):
        function = step.get("stepFunction") if isinstance(step, dict) else None
        if not isinstance(function, dict) or function.get("functionName") not in ("request", "paginated_request"):
            continue
        parameters = function.get("parameters")
        if not isinstance(parameters, dict) or not isinstance(parameters.get("url"), str):
            continue
        own, args, base = (parameters.get(name) for name in ("authorization", "args", "baseUrl"))
        response = parameters.get("response")
        yield Request(
            step=str(step.get("stepId")),
            method=str(parameters.get("method") or "get").lower(),
            base_url=base if isinstance(base, str) else None,
            path=parameters["url"],
            args=tuple(a for a in args if isinstance(a, dict)) if isinstance(args, list) else (),
            own=own if isinstance(own, dict) else None,
            certificates=certificate_pair(parameters.get("certificates")),
            data_key=str(response.get("dataKey") or "") if isinstance(response, dict) else "",
            at=(*at, "steps", index),
        )


def certificate_pair(given: Any) -> tuple[str, str] | None:
    """The texts of the first certificate and of the first key of `certificates`. None when one is missing."""
    lists = [given.get(name) if isinstance(given, dict) else None for name in ("certs", "keys")]
    first = [found[0] for found in lists if isinstance(found, list) and found and isinstance(found[0], str)]
    return (first[0], first[1]) if len(first) == 2 else None
