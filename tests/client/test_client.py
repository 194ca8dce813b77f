"""The Python client against the running hub, and what it does when a hub is slow, limited or gone."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import mooring
from mooring import AsyncMooring, HubError, HubUnreachable, Mooring, verify_webhook
from mooring.client import BadSignature
from mooring.client.models import Account, AuthConfig, ConnectSession, FoundAction
from tests.hub import Project
from tests.sandbox.harness import Sandbox
from tests.servers.ports import free_port

ROOT = Path(__file__).parents[2]
KEY = {"api_key": "sandbox-key-acme"}


@pytest.fixture
def hub_client(project: Project) -> Iterator[Mooring]:
    with Mooring(project.hub.url, project.key) as client:
        yield client


@pytest.fixture
def account(project: Project, provider: Sandbox) -> str:
    return project.link(project.config("sandbox", "api_key", {"sandbox_url": provider.url}), KEY)


# --- the hub's own API


def test_from_an_auth_config_to_a_session(hub_client: Mooring, project: Project) -> None:
    made = hub_client.auth_configs.create(
        "hubspot", "oauth2", {"client_id": "c", "client_secret": "s-1234"}, name="Ours"
    )
    assert made.name == "Ours" and made.active and made.secrets_set and "s-1234" not in repr(made)
    assert [c.id for c in hub_client.auth_configs.list(connector_key="hubspot")] == [made.id]
    assert hub_client.auth_configs.update(made.id, name="Yours").name == "Yours"
    assert hub_client.auth_configs.get(made.id).name == "Yours"
    session = hub_client.connect_sessions.create("acme", "Acme Inc.", provider="hubspot", metadata={"plan": "gold"})
    assert session.token and session.origin_owner_id == "acme" and session.token not in repr(session)
    hub_client.auth_configs.delete(made.id)
    with pytest.raises(HubError) as caught:
        hub_client.auth_configs.get(made.id)
    assert caught.value.status == 404 and caught.value.code == "NotFoundError" and caught.value.request_id


def test_accounts_are_listed_over_pages_changed_and_deleted(
    hub_client: Mooring, project: Project, provider: Sandbox
) -> None:
    config = project.config("sandbox", "api_key", {"sandbox_url": provider.url})
    ids = {project.link(config, KEY, f"owner-{n}") for n in range(5)}
    assert {a.id for a in hub_client.accounts.list(page_size=2)} == ids
    assert [a.origin_owner_id for a in hub_client.accounts.list(origin_owner_id="owner-3")] == ["owner-3"]
    one = hub_client.accounts.get(min(ids))
    assert one.provider == "sandbox" and one.status == "active" and one.created_at.tzinfo is not None
    assert hub_client.accounts.update(one.id, label="Main").label == "Main"
    hub_client.accounts.delete(one.id)
    assert {a.id for a in hub_client.accounts.list()} == ids - {one.id}


def test_every_fault_of_a_request_is_told(hub_client: Mooring) -> None:
    with pytest.raises(HubError, match=r"ValidationError|422|400") as caught:
        hub_client.connect_sessions.create("", "")
    assert caught.value.status in {400, 422} and caught.value.errors


def test_a_wrong_key_is_told(project: Project) -> None:
    with Mooring(project.hub.url, "mk_wrong") as client, pytest.raises(HubError) as caught:
        list(client.accounts.list())
    assert caught.value.status == 401


# --- through an account


def test_calls_go_to_the_provider(hub_client: Mooring, account: str) -> None:
    linked = hub_client.account(account)
    assert linked.get("/api/employees", params={"page_size": 2}).json()["page_size"] == 2
    echo = linked.post("api/echo", json={"a": 1}, headers={"x-own": "1"}).json()
    assert echo["method"] == "POST" and echo["headers"]["x-own"] == "1"
    assert linked.get("/api/status/404").status_code == 404


def test_a_large_answer_is_streamed(hub_client: Mooring, account: str) -> None:
    with hub_client.account(account).stream("GET", "/api/bytes/3000000") as answer:
        assert answer.status_code == 200
        assert sum(len(part) for part in answer.iter_bytes()) == 3_000_000


def test_actions_are_called_by_name(hub_client: Mooring, account: str) -> None:
    actions = hub_client.account(account).actions
    page = actions.list_employees(page_size=20)
    assert len(list(page)) == 20 and page.next
    assert len(actions.call("sandbox_list_employees", page_size=20, next=page.next).data) == 20
    people = list(actions.iterate("list_employees", page_size=25))
    assert len(people) == 53 and len({p["id"] for p in people}) == 53
    assert actions.get_employee(id=people[0]["id"]).data["id"] == people[0]["id"]
    with pytest.raises(HubError) as caught:
        actions.get_employee(id="nobody")
    assert caught.value.status == 404 and caught.value.provider_errors[0]["status"] == 404
    with pytest.raises(HubError, match="required"):
        actions.get_employee()


def test_tools_are_given_in_three_shapes(hub_client: Mooring, account: str) -> None:
    tools = {tool.name: tool for tool in hub_client.account(account).actions.list()}
    tool = tools["sandbox_get_employee"]
    assert tool.effects == ["read"] and "id" in json.dumps(tool.parameters)
    assert tool.as_openai()["function"]["name"] == tool.name and tool.as_openai()["type"] == "function"
    assert tool.as_anthropic()["input_schema"] == tool.parameters
    assert tool.as_langchain()["args_schema"] == tool.parameters
    # What a model fills in goes as it is.
    given = {"path": {"id": "emp_acme_001"}}
    assert hub_client.account(account).actions.call(tool.name, **given).data["id"] == "emp_acme_001"


def test_actions_are_found_by_what_they_do(hub_client: Mooring) -> None:
    found = hub_client.actions.search("open a bug", connector="github", top_k=3)
    assert found and any("issue" in (hit.action_name or "") for hit in found) and len(found) <= 3


async def test_the_asynchronous_client_does_the_same(project: Project, account: str) -> None:
    async with AsyncMooring(project.hub.url, project.key) as client:
        linked = client.account(account)
        answers = await asyncio.gather(*(linked.get("/api/me") for _ in range(5)))
        assert {a.status_code for a in answers} == {200}
        assert len([p async for p in linked.actions.iterate("list_employees", page_size=25)]) == 53
        assert [a.id async for a in client.accounts.list()] == [account]
        async with linked.stream("GET", "/api/bytes/100000") as answer:
            assert sum([len(part) async for part in answer.aiter_bytes()]) == 100_000
        with pytest.raises(HubError):
            await linked.actions.get_employee(id="nobody")


# --- when the hub is not as it should be


class Answers:
    """A transport that gives these answers in turn, and keeps what was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.left = list(answers)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        found = self.left.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


def client_of(answers: Answers, **more: Any) -> Mooring:
    return Mooring("https://hub.example", "mk_1", transport=httpx.MockTransport(answers), **more)


OK = httpx.Response(200, json=[])


@pytest.mark.parametrize(
    ("first", "pause"),
    [
        (lambda: httpx.Response(429, headers={"retry-after": "1"}), 1.0),
        (lambda: httpx.Response(503), 0.0),
        (lambda: httpx.ConnectError("gone"), 0.0),
        (lambda: httpx.ReadTimeout("slow"), 0.0),
    ],
)
def test_what_can_pass_is_asked_again_after_a_pause(
    first: Callable[[], httpx.Response | Exception], pause: float
) -> None:
    answers = Answers(first(), httpx.Response(200, json=[]))
    began = time.monotonic()
    assert list(client_of(answers).accounts.list()) == []
    assert len(answers.asked) == 2 and time.monotonic() - began >= pause


def test_it_ends_after_the_retries() -> None:
    answers = Answers(*(httpx.Response(503, json={"message": "away"}) for _ in range(3)))
    with pytest.raises(HubError, match="away"):
        list(client_of(answers).accounts.list())
    assert len(answers.asked) == 3


def test_a_hub_that_asks_for_hours_is_not_waited_for() -> None:
    answers = Answers(httpx.Response(429, headers={"retry-after": "7200"}, json={"message": "limited"}))
    with pytest.raises(HubError) as caught:
        list(client_of(answers).accounts.list())
    assert caught.value.status == 429 and len(answers.asked) == 1


def test_a_request_that_makes_something_is_repeated_under_one_key() -> None:
    made = {
        "id": 1,
        "origin_owner_id": "o",
        "origin_owner_name": "O",
        "token": "t",
        "created_at": "2026-01-01T00:00:00Z",
    }
    answers = Answers(httpx.ReadTimeout("slow"), httpx.Response(201, json=made))
    client_of(answers).connect_sessions.create("o", "O")
    keys = {request.headers["idempotency-key"] for request in answers.asked}
    assert len(answers.asked) == 2 and len(keys) == 1


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_call_that_may_have_changed_something_is_not_sent_again(method: str) -> None:
    answers = Answers(httpx.ReadTimeout("slow"), OK)
    with pytest.raises(HubUnreachable):
        client_of(answers).account("a").request(method, "/x")
    assert len(answers.asked) == 1
    answers = Answers(httpx.ReadTimeout("slow"), OK)
    with pytest.raises(HubUnreachable):
        client_of(answers).account("a").actions.create_employee(name="x")
    assert len(answers.asked) == 1


def test_a_hub_that_is_not_there_is_told() -> None:
    address = f"http://127.0.0.1:{free_port()}"
    with Mooring(address, "mk_1", retries=0) as client, pytest.raises(HubUnreachable, match=r"127\.0\.0\.1"):
        list(client.accounts.list())


def test_address_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, project: Project) -> None:
    for name in ("MOORING_URL", "MOORING_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="MOORING_URL"):
        Mooring()
    monkeypatch.setenv("MOORING_URL", project.hub.url + "/")
    with pytest.raises(ValueError, match="MOORING_API_KEY"):
        Mooring()
    monkeypatch.setenv("MOORING_API_KEY", project.key)
    with Mooring() as client:
        assert list(client.accounts.list()) == []


# --- webhooks

SECRET = "whsec_" + base64.b64encode(b"a" * 24).decode()
BODY = b'{"event": "account.created", "n": 1.0}'


def standard(body: bytes, moment: int, secret: str = SECRET) -> dict[str, str]:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = base64.b64encode(hmac.new(key, f"msg_1.{moment}.".encode() + body, hashlib.sha256).digest()).decode()
    return {"Webhook-Id": "msg_1", "Webhook-Timestamp": str(moment), "Webhook-Signature": f"v1,AAAA v1,{mac}"}


def test_both_signatures_are_checked() -> None:
    assert verify_webhook(BODY, standard(BODY, 1000), SECRET, now=1200)["event"] == "account.created"
    mac = base64.urlsafe_b64encode(hmac.new(SECRET.encode(), BODY, hashlib.sha256).digest()).rstrip(b"=").decode()
    assert verify_webhook(BODY, {"X-StackOne-Signature": mac}, SECRET)["n"] == 1.0


@pytest.mark.parametrize(
    ("body", "headers", "now"),
    [
        (BODY + b" ", standard(BODY, 1000), 1000),
        (BODY, standard(BODY, 1000), 1301),
        (BODY, standard(BODY, 1000), 699),
        (BODY, standard(BODY, 1000, "whsec_" + base64.b64encode(b"b" * 24).decode()), 1000),
        (BODY, {}, 1000),
        (BODY, {"x-stackone-signature": "AAAA"}, 1000),
        (BODY, {**standard(BODY, 1000), "Webhook-Signature": "v2,AAAA"}, 1000),
    ],
)
def test_what_is_not_the_hubs_is_refused(body: bytes, headers: dict[str, str], now: float) -> None:
    with pytest.raises(BadSignature):
        verify_webhook(body, headers, SECRET, now=now)


# --- the package


def test_the_synchronous_client_is_current() -> None:
    subprocess.run([sys.executable, ROOT / "scripts" / "make-client", "--check"], check=True)


def test_the_client_needs_nothing_of_the_server() -> None:
    code = (
        "import sys; before = set(sys.modules); from mooring import Mooring, AsyncMooring\n"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))\n"
        "print(*sorted(name for name in sys.modules if name.startswith('mooring')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    packages, ours = (set(line.split()) for line in done.stdout.splitlines())
    server = {"sqlalchemy", "fastapi", "starlette", "uvicorn", "typer", "orjson", "cryptography", "yaml", "structlog"}
    assert not packages & server
    assert all(name == "mooring" or name.startswith("mooring.client") for name in ours)


def test_importing_the_package_reads_no_client() -> None:
    code = "import sys, mooring; print('httpx' in sys.modules, mooring.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split()[0] == "False"
    with pytest.raises(AttributeError):
        mooring.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("model", "schema"),
    [(Account, "LinkedAccount"), (AuthConfig, "AuthConfigOut"), (ConnectSession, "ConnectSessionTokenOut")],
)
def test_the_models_are_what_the_hub_describes(model: Any, schema: str) -> None:
    described = json.loads((ROOT / "docs" / "openapi.json").read_text())["components"]["schemas"]
    properties = described[schema]["properties"]
    unknown = set(model.model_fields) - set(properties)
    assert not unknown, unknown
    required = {name for name, field in model.model_fields.items() if field.is_required()}
    assert required <= set(described[schema]["required"])


def test_a_hit_of_the_search_has_what_the_hub_describes() -> None:
    described = json.loads((ROOT / "docs" / "openapi.json").read_text())["components"]["schemas"]
    found = described[described["FoundActions"]["properties"]["results"]["items"]["$ref"].rpartition("/")[2]]
    assert set(FoundAction.model_fields) <= set(found["properties"])
