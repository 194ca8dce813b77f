"""The page of one call: the cause that the doctor names, and headers and bodies where the project keeps them."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from mooring.dashboard.explain import explain
from tests.dashboard.people import Crew, done, text
from tests.dashboard.test_pages import project_of
from tests.sandbox.harness import Sandbox

KEY = {"api_key": "sandbox-key-acme"}


def row(status: int, error_code: str | None = None, steps: list[dict[str, Any]] | None = None) -> Any:
    return SimpleNamespace(status=status, error_code=error_code, steps=steps or [])


@pytest.mark.parametrize(
    ("failed", "cause", "action"),
    [
        (row(401), "wrong_credentials", "reconnect"),
        (row(403), "missing_scope", "account"),
        (row(402), "account_suspended", "reconnect"),
        (row(429), "rate_limited", ""),
        (row(503), "provider_error", ""),
        # What was stored with the call says more than its status.
        (row(401, steps=[{"status": 401, "cause": "key_expired"}]), "key_expired", "reconnect"),
        (row(403, steps=[{"status": 403}, {"status": 403, "cause": "ip_not_allowed"}]), "ip_not_allowed", "reconnect"),
        (row(422, "mfa_required"), "mfa_required", "reconnect"),
        (row(401, steps=[{"status": 401, "cause": "a word of a later version"}]), "wrong_credentials", "reconnect"),
        # No answer: the kind of failure.
        (row(408, "RequestTimeoutError"), "timeout", ""),
        (row(502, "ProviderError", [{"error": "refused"}]), "refused", ""),
        (row(502, "EgressBlockedError"), "egress_blocked", ""),
    ],
)
def test_a_failed_call_is_explained_by_its_cause(failed: Any, cause: str, action: str) -> None:
    found = explain(failed)
    assert found.cause is not None
    assert (found.cause.code, found.action) == (cause, action)
    assert found.what == found.cause.title


@pytest.mark.parametrize(
    ("failed", "says"),
    [
        (row(404), "nothing at this address"),
        (row(422), "a field is probably wrong"),
        (row(412, "AccountIntegrationInactiveError"), "Enable the configuration"),
        (row(418, "SomethingElseError"), "did not succeed"),
    ],
)
def test_what_concerns_the_request_or_the_hub_itself_has_no_cause(failed: Any, says: str) -> None:
    found = explain(failed)
    assert found.cause is None and says in f"{found.what} {found.fix}"


def newest(crew: Crew) -> str:
    """The path of the newest call's page."""
    return re.findall(rf'href="({crew.base}/logs/[0-9a-f-]{{36}})"', crew.viewer.get(crew.base + "/logs").text)[0]


def test_headers_and_bodies_are_kept_when_the_project_says_so_and_members_read_them(
    crew: Crew, provider: Sandbox
) -> None:
    project = project_of(crew)
    account = project.link(project.config("sandbox", "api_key", {"sandbox_url": provider.url}), KEY)
    headers = {"x-seen": "by-the-provider"}
    project.proxy(account, path="/api/me", headers=headers)
    assert "They are not kept in this project." in text(crew.member.get(newest(crew)))
    at = crew.base + "/settings"
    assert 'value="off" selected' in crew.viewer.get(at).text
    for wrong in (
        {"advanced_logs": "some", "advanced_logs_days": "7"},
        {"advanced_logs": "all", "advanced_logs_days": "91"},
    ):
        assert crew.admin.post(at + "/advanced-logs", wrong).status_code == 400
    done(crew.admin.post(at + "/advanced-logs", {"advanced_logs": "all", "advanced_logs_days": "3"}), to=at)
    page = crew.viewer.get(at).text
    assert 'value="all" selected' in page and 'value="3"' in page

    def shown(word: str) -> bool:
        project.proxy(account, path="/api/me", headers=headers)
        return word in text(crew.member.get(newest(crew)))

    assert any(shown("Sent to the provider") for _ in range(20))  # workers learn of the switch within a second
    page = crew.member.get(newest(crew)).text
    assert "x-seen" in page and "by-the-provider" in page and "Acme" in page
    assert KEY["api_key"] not in page
    told = crew.viewer.get(newest(crew))
    assert "by-the-provider" not in told.text and "for members of the project" in text(told)
    assert "Headers and bodies are kept for some days." in text(crew.viewer.get(crew.base + "/logs"))


def test_of_failed_calls_only(crew: Crew, provider: Sandbox) -> None:
    project = project_of(crew)
    account = project.link(project.config("sandbox", "api_key", {"sandbox_url": provider.url}), KEY)
    form = {"advanced_logs": "errors", "advanced_logs_days": "1"}
    done(crew.admin.post(crew.base + "/settings/advanced-logs", form))

    def shown(path: str) -> bool:
        project.proxy(account, path=path)
        return "Answered by the provider" in text(crew.member.get(newest(crew)))

    assert any(shown("/api/nothing") for _ in range(20))
    assert not shown("/api/me")
