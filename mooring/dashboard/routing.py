"""The table of the dashboard's routes: method, path, who may, and which API call does the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.responses import Response

from mooring.dashboard.view import View
from mooring.identity.roles import Need

Handler = Callable[[View], Awaitable[Response]]
PROJECT = "/dashboard/p/{project}"


@dataclass(frozen=True, slots=True)
class Route:
    """One route. `need` is what the visitor must be; `api` names the call that does the same, for the documentation."""

    method: str
    path: str
    need: Need
    handler: Handler
    api: str
    confirmed: bool = False
    """Whether the person must have proved who they are a short while ago (rule A8)."""

    @property
    def in_project(self) -> bool:
        """Whether the path names a project."""
        return self.path.startswith(PROJECT)


ROUTES: list[Route] = []


def get(path: str, need: Need, *, api: str = "", confirmed: bool = False) -> Callable[[Handler], Handler]:
    """Register a page or a part of one. It changes nothing (rule W7)."""
    return _register("GET", path, need, api, confirmed=confirmed)


def post(path: str, need: Need, *, api: str = "", confirmed: bool = False) -> Callable[[Handler], Handler]:
    """Register what a button does."""
    return _register("POST", path, need, api, confirmed=confirmed)


def _register(method: str, path: str, need: Need, api: str, *, confirmed: bool) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        ROUTES.append(Route(method, path, need, handler, api, confirmed))
        return handler

    return register
