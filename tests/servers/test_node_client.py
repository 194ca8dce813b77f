"""The driver of the official client passes calls, results and errors through."""

import asyncio
import base64
from typing import Any

import pytest

from tests.contract.client import NodeClient, SdkError
from tests.servers.ports import HOST, free_port
from tests.servers.stub import stub_server

ACCOUNT = {
    "id": "45355976281015164504",
    "provider": "redmine",
    "status": "active",
    "origin_owner_id": "acme",
    "origin_owner_name": "Acme",
    "created_at": "2026-01-02T03:04:05.000Z",
    "updated_at": "2026-01-02T03:04:05.000Z",
}


def error_body(status: int, message: str) -> dict[str, Any]:
    """Build an error as the official client reads it."""
    return {"statusCode": status, "message": message, "timestamp": "2026-01-02T03:04:05.000Z"}


def test_results_are_passed_on() -> None:
    """A result comes in the client's names, and the key goes out as Basic."""
    with (
        stub_server({"GET /accounts?page_size=5": (200, [ACCOUNT])}) as stub,
        NodeClient(stub.base_url, "the-key") as node,
    ):
        answer = node.call("accounts.listLinkedAccounts", pageSize=5)
    assert answer.result["statusCode"] == 200
    assert answer.result["classes"][0]["originOwnerId"] == "acme"
    assert answer.http.body == [ACCOUNT]
    (seen,) = stub.requests
    assert seen.line == "GET /accounts?page_size=5"
    assert seen.headers["authorization"] == "Basic " + base64.b64encode(b"the-key:").decode()


def test_dates_in_filters_are_dates_to_the_client() -> None:
    """The client wants Date objects, which JSON does not have."""
    with (
        stub_server({}) as stub,
        NodeClient(stub.base_url, "the-key") as node,
        pytest.raises(SdkError) as caught,
    ):
        node.call("requestLogs.listLogs", filter={"startDate": "2026-01-02T03:04:05Z"})
    assert caught.value.status_code == 404
    assert "2026-01-02T03%3A04%3A05.000Z" in stub.requests[0].line


def test_errors_are_typed_and_nothing_is_tried_twice() -> None:
    """Each status has its class; a body that does not fit it is a validation error."""
    answers = {
        "GET /accounts/none": (404, error_body(404, "no such account")),
        "GET /accounts/busy": (429, error_body(429, "slow down")),
        "GET /accounts/odd": (404, {"detail": "not the shape the client knows"}),
    }
    with stub_server(answers) as stub, NodeClient(stub.base_url, "the-key") as node:
        for account, name, status in (
            ("none", "NotFoundResponse", 404),
            ("busy", "TooManyRequestsResponse", 429),
            ("odd", "ResponseValidationError", 404),
        ):
            with pytest.raises(SdkError) as caught:
                node.call("accounts.getAccount", id=account)
            error = caught.value
            assert (error.name, error.status_code) == (name, status)
            assert error.body == answers[f"GET /accounts/{account}"][1]
        assert "statusCode" in (error.details or "")
        assert len(stub.requests) == 3


def test_calls_that_never_leave_the_client_fail_too() -> None:
    """An unknown method, arguments it refuses, and nobody listening: no status, each with its own class."""
    with NodeClient(f"http://{HOST}:{free_port()}", "the-key") as node:
        for call, args, name in (
            ("accounts.dance", {}, "TypeError"),
            ("accounts.getAccount", {"id": 7}, "SDKValidationError"),
            ("accounts.getAccount", {"id": "a"}, "ConnectionError"),
        ):
            with pytest.raises(SdkError) as caught:
                node.call(call, **args)
            assert (caught.value.name, caught.value.status_code) == (name, None)


async def test_calls_overlap_and_the_proxied_body_is_kept() -> None:
    """The client itself drops a proxied answer's body; the exchange has it."""
    answers = {"POST /unified/proxy": (200, {"hello": "jane"}), "GET /accounts/a": (200, ACCOUNT)}
    request = {"method": "get", "path": "/users/current.json"}
    with stub_server(answers) as stub, NodeClient(stub.base_url, "the-key") as node:
        proxied, account = await asyncio.gather(
            node.acall("proxy.proxyRequest", xAccountId="a", proxyRequestBody=request),
            node.acall("accounts.getAccount", id="a"),
        )
    assert account.result["linkedAccount"]["provider"] == "redmine"
    assert proxied.http.body == {"hello": "jane"}
    sent = {seen.line: seen for seen in stub.requests}["POST /unified/proxy"]
    assert sent.body == request
    assert sent.headers["x-account-id"] == "a"
