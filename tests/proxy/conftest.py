"""Accounts to call through: one at the sandbox, one at a provider made of bare sockets."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.conftest import Ports
from tests.hub import Project
from tests.proxy.upstream import Upstream, redmine_user, upstream_on
from tests.sandbox.harness import Sandbox


@dataclass(frozen=True)
class Linked:
    """A project and one account in it."""

    project: Project
    account: str
    secret: str

    def __call__(self, method: str = "GET", path: str = "/", **more: object) -> httpx.Response:
        return self.project.proxy(self.account, method, path, **more)

    def unified(self, body: object, **more: object) -> httpx.Response:
        headers = {"x-account-id": self.account}
        return self.project.http.post("/unified/proxy", json=body, headers=headers, **more)


@pytest.fixture
def sandboxed(project: Project, provider: Sandbox) -> Linked:
    """An account at the sandbox by API key in a header."""
    config = project.config("sandbox", "api_key", {"sandbox_url": provider.url})
    key = "sandbox-key-acme"
    return Linked(project, project.link(config, {"api_key": key}), key)


@pytest.fixture
def upstream(ports: Ports) -> Iterator[Upstream]:
    with upstream_on(ports.spare[0]) as up:
        yield up


@pytest.fixture
def linked(project: Project, upstream: Upstream) -> Linked:
    """An account at the bare provider: key in the header X-Api-Key."""
    return link_bare(project, upstream)


def link_bare(project: Project, upstream: Upstream) -> Linked:
    """The same in any project."""
    config = project.config("sandbox", "api_key", {"sandbox_url": upstream.url})
    key = secrets.token_urlsafe(24)
    return Linked(project, project.link(config, {"api_key": key}), key)


@pytest.fixture
def query_linked(project: Project, upstream: Upstream) -> Linked:
    """The same with the key in the query parameter api_key."""
    config = project.config("sandbox", "api_key_query", {"sandbox_url": upstream.url})
    key = secrets.token_urlsafe(24)
    return Linked(project, project.link(config, {"api_key": key}), key)


@pytest.fixture
def based(project: Project, upstream: Upstream) -> Linked:
    """An account whose base URL has a path: /base/v1."""
    redmine_user(upstream, "/base/v1")
    config = project.config("redmine", "api_key")
    key = secrets.token_urlsafe(24)
    form = {"base_url": f"{upstream.url}/base/v1", "api_key": key}
    return Linked(project, project.link(config, form), key)
