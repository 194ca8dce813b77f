"""What answers is what is described: the routes and the OpenAPI document are one list (rule A7)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mooring.app import create_app
from mooring.settings import load
from tests.hub import Project, client, refused

ROOT = Path(__file__).resolve().parents[2]
DESCRIBED_ELSEWHERE = (
    "/connect/", "/embedded/", "/stackone/", "/guides/", "/docs/", "/llms.txt",  # pages for people
    "/hub.js", "/connect.js", "/assets/", "/logos/", "/project-logos/",  # files that they load
    "/.well-known/", "/oauth/", "/mcp",  # protocols, which describe themselves
    "/external-trigger/",  # called by providers, each in a form of its own
)  # fmt: skip
"""Where routes lie that the document for JSON clients leaves out, and why. Whatever else answers must be in it."""


def routes(among: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Method and path of every route, however deep the framework keeps it."""
    for route in among:
        inside = getattr(route, "original_router", None)
        if inside is not None:
            yield from routes(inside.routes)
            continue
        for method in set(route.methods or {"ANY"}) - {"HEAD"}:
            yield method, route.path


@pytest.fixture(scope="module")
def served() -> set[tuple[str, str]]:
    return set(routes(create_app(load({}), public_url="http://hub.example").api.routes))


@pytest.fixture(scope="module")
def described() -> set[tuple[str, str]]:
    document = json.loads((ROOT / "docs" / "openapi.json").read_text())
    verbs = {"get", "post", "put", "patch", "delete", "head", "options"}
    return {(m.upper(), path) for path, methods in document["paths"].items() for m in methods if m in verbs}


def test_every_route_is_described_or_has_a_reason(
    served: set[tuple[str, str]], described: set[tuple[str, str]]
) -> None:
    assert len(served) > 100
    beside = {(m, p) for m, p in served - described if not p.startswith(DESCRIBED_ELSEWHERE)}
    assert beside == set()


def test_everything_described_is_served(served: set[tuple[str, str]], described: set[tuple[str, str]]) -> None:
    hot = {(m, p) for m, p in described if p.startswith("/proxy/")}  # beside the framework (decision 14)
    assert hot and described - served - hot == set()


@pytest.mark.parametrize(
    "path",
    ["/openapi.json", "/docs", "/redoc", "/docs/oauth2-redirect", "/metrics", "/debug", "/debug/pprof", "/_control/state",
     "/admin", "/server-status", "/.git/config", "/.env", "/docs/../mooring.db", "/docs/%2e%2e/README.md"],
)  # fmt: skip
def test_no_door_is_left_open_beside_it(project: Project, path: str) -> None:
    for http in (client(project.hub.url), project.http):
        refused(http.get(path), 404, "NotFoundError")
