"""Headers that protect whoever looks: on every answer, whatever it is (W2, W3, W8)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hub import Hub, Project, client
from tests.servers.ports import free_port

ANSWERS = [
    "/", "/nowhere", "/accounts", "/livez", "/hub/settings", "/hub.js", "/dashboard/sign-in", "/logos/sandbox.svg",
    "/llms.txt", "/guides/hibob", "/embedded/accounts/callback", "/connect/oauth2/sandbox/callback", "/proxy/x",
]  # fmt: skip


@pytest.fixture(scope="module")
def https(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub that browsers reach over https."""
    env = {"MOORING_PUBLIC_URL": "https://hub.example.com"}
    with Hub(tmp_path_factory.mktemp("https"), free_port(), env=env, single_process=True) as hub:
        yield hub


@pytest.mark.parametrize("path", ANSWERS)
def test_behind_https_every_answer_says_so(https: Hub, path: str) -> None:
    answer = client(https.url).get(path, headers={"accept": "text/html"})
    assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["referrer-policy"] == "no-referrer"
    if not path.startswith("/proxy/"):  # JSON for servers, whose own refusals carry no policy for browsers
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        policy = answer.headers["content-security-policy"]
        assert "default-src" in policy and "unsafe-eval" not in policy and "*" not in policy
        assert "frame-ancestors 'none'" in policy or "sandbox" in policy, policy


def test_without_https_no_browser_is_told_to_use_it(project: Project) -> None:
    assert "strict-transport-security" not in client(project.hub.url).get("/livez").headers


@pytest.mark.parametrize("key", ["sandbox", "hibob"])
def test_a_logo_that_is_opened_by_itself_runs_nothing(project: Project, key: str) -> None:
    answer = client(project.hub.url).get(f"/logos/{key}.svg")
    assert answer.headers["content-type"].startswith("image/svg+xml")
    policy = answer.headers["content-security-policy"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    assert "<script" not in answer.text
