"""Rule S19: the forgeries of `test_oauth_forgeries.py` at servers that others wrote. None costs a token request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.connect.test_oauth_forgeries import (
    BROWSERS,
    MEANWHILE,
    PARAMETERS,
    PATHS,
    REPEATED,
    Flow,
    nothing_happened,
)
from tests.flows.linking import Consent, oidc_consent
from tests.flows.test_oidc_provider import BASIC
from tests.flows.test_other_servers import Start, cell_of, start  # noqa: F401 - a fixture
from tests.hub import Hub, Project

SERVERS = ("oidc-provider", "django-oauth", "authlib")
FORGERIES: dict[str, Callable[[Flow, Flow], Any]] = {
    **{k: lambda f, _, k=k: f.with_query(PARAMETERS[k](f)) for k in PARAMETERS},
    **{k: lambda f, _, k=k: _repeated(f, k) for k in REPEATED},
    **{f"callback of {k}": lambda f, _, k=k: _elsewhere(f, k) for k in PATHS},
    **{k: lambda f, other, k=k: f.with_cookies(BROWSERS[k](f, other)) for k in BROWSERS},
    **{k: lambda f, _, k=k: _late(f, k) for k in MEANWHILE},
}


@dataclass
class Counted:
    """What a flow wants to know of its provider: requests with a code. Other accounts may be renewed meanwhile."""

    url: str
    token_requests: Callable[[], int]

    def counters(self) -> dict[str, Any]:
        return {"token_requests": {"all": self.token_requests()}}


@dataclass
class Elsewhere(Flow):
    """A flow at another server than the sandbox."""

    key: str = ""

    def path(self, key: str | None = None) -> str:
        return f"/connect/oauth2/{key or self.key}/callback"


def _repeated(flow: Flow, kind: str) -> Any:
    added = REPEATED[kind](flow)
    query = [(k, v) for k, v in flow.query.items() if k not in dict(added)] + added
    return flow.session.browser.get(f"{flow.path()}?{urlencode(query)}")


def _elsewhere(flow: Flow, key: str) -> Any:
    if key == "oidc-provider" and isinstance(flow, Elsewhere) and flow.key == key:
        key = "sandbox"
    return flow.session.browser.get(f"{flow.path(key.format(config=flow.config['id']))}?{urlencode(flow.query)}")


def _late(flow: Flow, kind: str) -> Any:
    MEANWHILE[kind](flow)
    return flow.session.browser.get(flow.callback)


def begin(project: Project, start: Start, request: pytest.FixtureRequest, name: str, owner: str) -> Flow:  # noqa: F811
    consent: Consent
    if name == "oidc-provider":
        oidc = request.getfixturevalue("oidc")
        config = project.config(name, "code", BASIC)
        consent, provider = oidc_consent(project, oidc), Counted(oidc.base_url, lambda: oidc.stats()["token_code"])
    else:
        server = start(name)
        cell = cell_of(project, server, "secret in Basic")
        config = cell.config()
        consent, provider = cell.consent(), Counted(server.base_url, lambda: server.stats()["token_code"])
    session = project.session(owner, integration_id=config["id"])
    attempt = session.attempt()
    location = session.start_oauth(config["id"], attempt).headers["location"]
    return Elsewhere(project, provider, session, config, attempt, location, consent(location), name)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def hub(hubs: Callable[[str], Hub]) -> Hub:
    """The databases were compared at the sandbox."""
    return hubs("sqlite")


def test_there_are_enough_of_them() -> None:
    assert len(FORGERIES) >= 60


@pytest.mark.parametrize("name", SERVERS)
def test_the_true_callback_links(request: pytest.FixtureRequest, project: Project, start: Start, name: str) -> None:  # noqa: F811
    flow = begin(project, start, request, name, "owner-1")
    assert "status=authenticated" in flow.session.browser.get(flow.callback).headers["location"]
    assert flow.tokens() == 1


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("kind", FORGERIES)
def test_a_forgery_links_nothing(
    request: pytest.FixtureRequest,
    project: Project,
    other_project: Project,
    start: Start,  # noqa: F811
    name: str,
    kind: str,
) -> None:
    other = begin(other_project, start, request, name, "mallory") if kind == "cookie of another flow" else None
    flow = begin(project, start, request, name, "owner-1")
    answer = FORGERIES[kind](flow, other or flow)
    nothing_happened(flow, answer)
