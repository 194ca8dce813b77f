"""A JSON body that two parsers could read differently, or that nests without end, is refused unread (rule A5)."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest

from mooring import errors
from mooring.kit.json_body import DEPTH, check_json
from tests.dashboard.people import recruit
from tests.hub import Hub, Project, client, ok, refused

JSON = {"content-type": "application/json"}
OWNER = '"origin_owner_id": "a", "origin_owner_name": "b"'


def nested(levels: int) -> str:
    """A session whose metadata is that deep, counting the body itself."""
    return f'{{{OWNER}, "metadata": {{"a": {"[" * (levels - 2)}{"]" * (levels - 2)}}}}}'


TWICE = {
    "at the top": f'{{{OWNER}, "origin_owner_id": "c"}}',
    "spelled differently": f'{{{OWNER}, "\\u006frigin_owner_id": "c"}}',
    "inside": f'{{{OWNER}, "metadata": {{"a": 1, "a": 1}}}}',
    "in a list": f'{{{OWNER}, "categories": [{{"a": 1, "b": 2, "a": 3}}]}}',
}


@pytest.mark.parametrize("case", TWICE)
@pytest.mark.parametrize("kind", ["application/json", "application/merge-patch+json; charset=utf-8"])
def test_a_key_that_stands_twice_is_refused(project: Project, case: str, kind: str) -> None:
    body = refused(
        project.http.post("/connect_sessions", headers={"content-type": kind}, content=TWICE[case]),
        400,
        "BadRequestError",
    )
    assert "twice in one object" in body["message"]


def test_it_is_refused_with_an_idempotency_key_too_and_leaves_the_key_free(project: Project) -> None:
    headers = {**JSON, "idempotency-key": "the-same"}
    refused(project.http.post("/connect_sessions", headers=headers, content=TWICE["at the top"]), 400)
    ok(project.http.post("/connect_sessions", headers=headers, content=f"{{{OWNER}}}"), 201)


def test_nesting_has_an_end(project: Project) -> None:
    ok(project.http.post("/connect_sessions", headers=JSON, content=nested(DEPTH)), 201)
    body = refused(project.http.post("/connect_sessions", headers=JSON, content=nested(DEPTH + 1)), 400)
    assert body["message"] == "the body is nested deeper than 32 levels"
    brackets = json.dumps({"origin_owner_id": "[" * 40 + '\\"{' * 20, "origin_owner_name": "b"})
    ok(project.http.post("/connect_sessions", headers=JSON, content=brackets), 201)


def test_only_utf_8_is_json(project: Project) -> None:
    for encoding in ("utf-16", "utf-16-le", "utf-32-be"):
        sent = project.http.post("/connect_sessions", headers=JSON, content=f"{{{OWNER}}}".encode(encoding))
        assert refused(sent, 400, "ValidationError")["errors"] == ["the body is not JSON in UTF-8"]
    ok(project.http.post("/connect_sessions", headers=JSON, content=f"{{{OWNER}}}".encode("utf-8-sig")), 201)


def test_every_road_but_the_providers_own_is_guarded(hub: Hub, project: Project) -> None:
    twice, account = '{"jsonrpc": "2.0", "id": 1, "id": 2, "method": "ping"}', {"x-account-id": "none"}
    for method, path in (
        ("POST", "/actions/rpc"),
        ("PATCH", "/project"),
        ("POST", "/webhooks"),
        ("PATCH", "/accounts/x"),
    ):
        sent = project.http.request(method, path, headers={**JSON, **account}, content=twice)
        assert "twice" in refused(sent, 400, "BadRequestError")["message"], path
    for path in ("/sessions", "/set_up", "/hub/connection_attempts"):
        sent = client(hub.url).post(path, headers=JSON, content=twice)
        assert "twice" in refused(sent, 400, "BadRequestError")["message"], path
    person = recruit(hub).owner.http.cookies["mooring-session"]
    sent = client(hub.url).patch("/me", headers={**JSON, "authorization": f"Bearer {person}"}, content=twice)
    assert "twice" in refused(sent, 400, "BadRequestError")["message"]
    # The body of the envelope belongs to the provider: whatever it takes may be in it.
    deep = {"path": "/x", "body": json.loads("[" * 60 + "]" * 60)}
    refused(project.http.post("/unified/proxy", json=deep, headers=account), 404, "NotFoundError")


@pytest.mark.parametrize(
    "raw",
    [b'"' * (1 << 20), b'"\\' * (1 << 19), b"[]" * (1 << 19), b'{"a":' * 30 + b"1" * (1 << 19), b'["' + b"a" * (1 << 20)],
    ids=["quotes", "escapes", "brackets", "digits", "one long text"],
)  # fmt: skip
def test_a_mebibyte_of_nonsense_costs_no_time(raw: bytes) -> None:
    began = time.process_time()
    with contextlib.suppress(errors.MooringError):
        check_json(raw)
    assert time.process_time() - began < 1.5


@pytest.mark.parametrize("value", [{}, [], "a", 1, None, {"a": {"a": [{"a": 1}, {"a": 2}]}, "b": {"a": 1}}])
def test_what_is_in_order_passes(value: Any) -> None:
    check_json(json.dumps(value).encode())
