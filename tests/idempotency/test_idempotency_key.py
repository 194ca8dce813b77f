"""Idempotency-Key: one key, one effect, one answer."""

from __future__ import annotations

import concurrent.futures

from tests.hub import Project, ok, refused
from tests.sandbox.harness import Sandbox

BODY = {"origin_owner_id": "o", "origin_owner_name": "Acme"}
KEY = {"idempotency-key": "first-try-1"}


def test_the_same_request_gets_the_same_answer_and_has_one_effect(project: Project) -> None:
    first = project.http.post("/connect_sessions", json=BODY, headers=KEY)
    again = project.http.post("/connect_sessions", json=BODY, headers=KEY)
    assert ok(first, 201) == ok(again, 201)
    assert "idempotency-replayed" not in first.headers and again.headers["idempotency-replayed"] == "true"
    other = ok(project.http.post("/connect_sessions", json=BODY, headers={"idempotency-key": "another"}), 201)
    assert other["id"] != first.json()["id"] and other["token"] != first.json()["token"]


def test_another_request_with_the_same_key_is_refused(project: Project) -> None:
    ok(project.http.post("/connect_sessions", json=BODY, headers=KEY), 201)
    different = {**BODY, "origin_owner_name": "Other"}
    refused(project.http.post("/connect_sessions", json=different, headers=KEY), 422, "IdempotencyKeyReusedError")


def test_a_key_means_nothing_to_another_project(project: Project, other_project: Project) -> None:
    mine = ok(project.http.post("/connect_sessions", json=BODY, headers=KEY), 201)
    theirs = ok(other_project.http.post("/connect_sessions", json=BODY, headers=KEY), 201)
    assert mine["id"] != theirs["id"]


def test_a_refused_request_leaves_its_key_free(project: Project) -> None:
    body = {"connector_key": "sandbox", "authentication_config_key": "nope"}
    refused(project.http.post("/auth_configs", json=body, headers=KEY), 422)
    body["authentication_config_key"] = "api_key"
    ok(project.http.post("/auth_configs", json=body, headers=KEY), 201)
    assert ok(project.http.get("/auth_configs"))["total"] == 1


def test_many_at_once_have_one_effect(project: Project) -> None:
    body = {"connector_key": "sandbox", "authentication_config_key": "api_key"}

    def post(_: int) -> tuple[int, str | None]:
        answer = project.http.post("/auth_configs", json=body, headers=KEY)
        return answer.status_code, answer.json().get("id")

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(post, range(60)))
    created = {id for status, id in answers if status == 201}
    assert len(created) == 1 and {status for status, _ in answers} <= {201, 409}
    assert ok(project.http.get("/auth_configs"))["total"] == 1


def test_linking_twice_with_one_key_makes_one_account(project: Project, provider: Sandbox) -> None:
    config = project.config("sandbox", "api_key", {"sandbox_url": provider.url})
    session = project.session(integration_id=config["id"], multiple=True)
    form = {"integration_id": config["id"], "credentials": {"api_key": "sandbox-key-acme"}}
    first = ok(session.http.post("/hub/accounts", json=form, headers=KEY))
    assert ok(session.http.post("/hub/accounts", json=form, headers=KEY)) == first
    wrong = {**form, "credentials": {"api_key": "wrong"}}
    refused(session.http.post("/hub/accounts", json=wrong, headers={"idempotency-key": "x"}), 422)
    assert len(ok(project.http.get("/accounts"))) == 1


def test_a_key_that_can_be_none_is_refused(project: Project) -> None:
    refused(project.http.post("/connect_sessions", json=BODY, headers={"idempotency-key": "k" * 256}), 400)
