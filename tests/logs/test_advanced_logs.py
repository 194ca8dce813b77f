"""Advanced logs: headers and bodies where a project wants them, redacted, cut, sealed and gone with the account (L1, V5)."""

from __future__ import annotations

import gzip
import json
import secrets
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, update

from mooring.kit import clock
from mooring.kit.db import Database
from mooring.kit.vault import Owner, Vault
from mooring.logs.models import RequestDetail, RequestLog
from mooring.logs.record import LIMIT, Record
from tests.hub import Hub, Project, _run, ok, refused
from tests.proxy.conftest import Linked, linked, upstream  # noqa: F401 - fixtures
from tests.proxy.upstream import Upstream, answer

JSON = "content-type: application/json"


def switch(linked: Linked, how: str, **more: Any) -> None:  # noqa: F811
    ok(linked.project.http.patch("/project", json={"advanced_logs": how, **more}))


def newest(linked: Linked, include: str = "advanced_logs") -> dict[str, Any]:  # noqa: F811
    id = ok(linked.project.http.get("/requests/logs?page_size=1"))["data"][0]["request_id"]
    return ok(linked.project.http.get(f"/requests/logs/{id}?include={include}"))["data"]


def in_database(hub: Hub, statement: Any) -> Any:
    async def ask() -> Any:
        db = Database(hub.database_url)
        try:
            async with db.begin() as tx:
                found = await tx.execute(statement)
                return found.all() if statement.is_select else None
        finally:
            await db.close()

    return _run(ask())


def details(hub: Hub, project: Project) -> list[bytes]:
    rows = in_database(hub, select(RequestDetail.sealed).where(RequestDetail.project_id == project.id))
    return [row[0] for row in rows]


def test_off_by_default_and_sizes_are_always_there(linked: Linked, upstream: Upstream, hub: Hub) -> None:  # noqa: F811
    upstream.on("/x", answer(200, b'{"a": 1}', JSON))
    linked("POST", "/x", content=b"12345")
    row = newest(linked)
    assert "body" not in row["request"] and "headers" not in row["response"]
    assert (row["bytes_up"], row["bytes_down"]) == (5, 8)
    assert 0 < row["provider_duration"] <= row["duration"]
    assert details(hub, linked.project) == []
    settings_now = ok(linked.project.http.get("/project"))
    assert (settings_now["advanced_logs"], settings_now["advanced_logs_days"]) == ("off", 7)


@pytest.mark.parametrize("road", ["proxy", "unified"])
def test_all_shows_both_sides_without_secrets(linked: Linked, upstream: Upstream, hub: Hub, road: str) -> None:  # noqa: F811
    switch(linked, "all")
    sent = {"name": "Ada", "password": "hunter2hunter2", "echo": linked.secret}
    told = {
        "id": 7,
        "access_token": "tok-9876543210",
        "note": f"key {linked.secret} seen",
        "list": [{"api_key": "zzz"}],
    }
    upstream.on("/x", answer(200, json.dumps(told).encode(), JSON, "x-session-id: abcdef", "x-plain: yes"))
    if road == "proxy":
        linked("POST", "/x", json=sent, headers={"x-my-token": "caller-token-123", "x-seen": "1"})
    else:
        headers = {"x-my-token": "caller-token-123", "x-seen": "1"}
        linked.unified({"path": "/x", "method": "post", "body": sent, "headers": headers})
    row = newest(linked)
    request, response = row["request"], row["response"]
    assert json.loads(request["body"]) == {"name": "Ada", "password": "[redacted]", "echo": "[redacted]"}
    assert request["headers"]["x-seen"] == "1" and request["headers"]["x-my-token"] == "[redacted]"
    assert request["headers"]["x-api-key"] == "[redacted]"  # what was injected
    shown = json.loads(response["body"])
    assert shown["id"] == 7 and shown["access_token"] == "[redacted]" and shown["list"] == [{"api_key": "[redacted]"}]
    assert linked.secret not in shown["note"]
    assert response["headers"]["x-plain"] == "yes" and response["headers"]["x-session-id"] == "[redacted]"
    assert response["status_code"] == 200 and "provider_errors" not in response
    everything = json.dumps(row)
    for secret in (linked.secret, "hunter2hunter2", "tok-9876543210", "caller-token-123", "abcdef"):
        assert secret not in everything
    (sealed,) = details(hub, linked.project)
    assert b"Ada" not in sealed
    assert "body" not in newest(linked, "step_logs")["request"]  # only for those who ask


def test_errors_keeps_those_alone_with_a_snippet(linked: Linked, upstream: Upstream) -> None:  # noqa: F811
    switch(linked, "errors")
    upstream.on("/good", answer(200, b"{}", JSON))
    upstream.on("/bad", answer(422, b'{"error": "' + b"e" * 3000 + b'"}', JSON))
    linked(path="/good")
    assert "body" not in newest(linked)["response"]
    linked(path="/bad")
    response = newest(linked)["response"]
    assert response["body"].startswith('{"error":"eee') and response["status_code"] == 422
    (error,) = response["provider_errors"]
    assert error["status"] == 422 and error["url"].endswith("/bad") and len(error["raw"]) == 1000
    switch(linked, "off")
    linked(path="/bad")
    assert "body" not in newest(linked)["response"]


def test_streams_are_cut_and_pass_whole(linked: Linked, upstream: Upstream) -> None:  # noqa: F811
    switch(linked, "all")
    told = b'{"rows": "' + b"y" * 400_000 + b'"}'
    upstream.on("/big", answer(200, told, JSON))
    body = b'{"up": "' + b"x" * 700_000 + b'"}'
    made = linked(
        "POST", "/big", content=iter([body[:300_000], body[300_000:]]), headers={"content-type": "text/plain"}
    )
    assert made.content == told and upstream.calls()[-1].body == body
    row = newest(linked)
    assert (row["bytes_up"], row["bytes_down"]) == (len(body), len(told))
    assert len(row["request"]["body"]) < LIMIT + 100 and row["request"]["body"].endswith(f"[{len(body)} bytes in all]")
    assert len(row["response"]["body"]) < LIMIT + 100 and row["response"]["body"].startswith('{"rows": "yyy')


def test_a_key_that_may_not_call_may_not_read_bodies(linked: Linked, upstream: Upstream, hub: Hub) -> None:  # noqa: F811
    switch(linked, "all")
    linked(path="/x")
    id = newest(linked)["request_id"]
    made = hub.command("api-key", "create", "--project", linked.project.id, "--scopes", "platform:read")
    key = made.stdout.strip()
    with httpx.Client(base_url=hub.url, auth=(key, ""), trust_env=False) as reader:
        assert ok(reader.get(f"/requests/logs/{id}"))["data"]["request_id"] == id
        refused(reader.get(f"/requests/logs/{id}?include=advanced_logs"), 403)


def test_they_go_with_their_account(linked: Linked, upstream: Upstream, hub: Hub) -> None:  # noqa: F811
    switch(linked, "all")
    upstream.on("/x", answer(200, b'{"a": 1}', JSON))
    linked(path="/x")
    assert newest(linked)["response"]["body"] == '{"a":1}'
    ok(linked.project.http.delete(f"/accounts/{linked.account}"))
    row = newest(linked)
    assert row["account_id"] is None or "body" not in row["response"]
    assert "body" not in row["response"]


def test_their_time_is_their_own(linked: Linked, upstream: Upstream, hub: Hub) -> None:  # noqa: F811
    switch(linked, "all", advanced_logs_days=3)
    linked(path="/x")
    newest(linked)
    (kept,) = in_database(hub, select(RequestDetail.expires_at).where(RequestDetail.project_id == linked.project.id))
    assert timedelta(days=2, hours=23) < kept[0] - clock.now() <= timedelta(days=3)
    over = update(RequestDetail).where(RequestDetail.project_id == linked.project.id)
    in_database(hub, over.values(expires_at=clock.now() - timedelta(seconds=1)))
    assert "headers" not in newest(linked)["request"]
    for wrong in ({"advanced_logs": "some"}, {"advanced_logs_days": 0}, {"advanced_logs_days": 91}):
        refused(linked.project.http.patch("/project", json=wrong), 400, "ValidationError")


def test_nothing_of_it_is_in_the_row(linked: Linked, upstream: Upstream, hub: Hub) -> None:  # noqa: F811
    switch(linked, "all")
    upstream.on("/x", answer(500, b'{"word": "quixotic"}', JSON))
    linked("POST", "/x", content=b"quixotic")
    newest(linked)
    for row in in_database(hub, select(RequestLog.__table__).where(RequestLog.project_id == linked.project.id)):
        assert "quixotic" not in str(row)
    assert in_database(hub, select(func.count()).where(RequestDetail.project_id == linked.project.id))[0][0] == 1
    assert "quixotic" not in hub.log()


# --- the record by itself ---


def opened(record: Record, status: int = 200) -> dict[str, Any]:
    vault = Vault(settings_keys())
    key, _ = vault.new_key("k", Owner("p", "account", "a"))
    record._key = key
    sealed = record.sealed(status, "https://x.test/")
    assert sealed is not None
    return dict(json.loads(key.open(sealed, name="request_detail")))


def settings_keys() -> dict[str, bytes]:
    return {"k1": secrets.token_bytes(32)}


def response(body: bytes, kind: str, secrets_: tuple[str, ...] = (), **headers: str) -> str:
    record = Record()
    vault = Vault(settings_keys())
    key, _ = vault.new_key("k", Owner("p", "account", "a"))
    record.begin(key, secrets_, [], None)
    raw = [(b"content-type", kind.encode()), *((k.encode(), v.encode()) for k, v in headers.items())]
    record.answered(raw)
    record.take(body)
    return str(opened(record)["response"]["body"])


def test_a_secret_on_the_edge_of_the_cut_is_not_shown_in_half() -> None:
    secret = "s3cr3t-" + "q" * 60
    for before in range(LIMIT - 80, LIMIT + 10, 7):
        shown = response(b"a" * before + b" " + secret.encode() + b" " + b"z" * 60_000, "text/plain", (secret,))
        assert "s3cr" not in shown and "qqq" not in shown


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"grant=x&client_secret=ZZZ999&code=ZZZ999&q=1", "application/x-www-form-urlencoded"),
        (b'{"a": [1, {"apiKey": "ZZZ999"}]', "application/json"),  # not whole
        (b'{"password":"ZZZ999', "application/json"),
        (b'{"pass\\u0077ord": 1, "token" : 123999123, "x": ZZZ', "application/json; charset=utf-8"),
        (b"<r><Password>ZZZ999</Password><n:authToken a='1'>ZZZ999</n:authToken></r>", "text/xml"),
        (b"password=ZZZ999; token = 'ZZZ999'", "text/plain"),
        (b"\x00\x01ZZZ999", "application/octet-stream"),
        (b"--b\r\ncontent-disposition: form-data; name=password\r\n\r\nZZZ999", "multipart/form-data; boundary=b"),
    ],
)
def test_what_stands_under_a_sensitive_name_is_never_shown(body: bytes, kind: str) -> None:
    shown = response(body, kind)
    assert "ZZZ999" not in shown and "999123" not in shown


def test_compressed_bodies_are_read_within_bounds() -> None:
    assert response(gzip.compress(b'{"a": "b", "token": "x"}'), "application/json", **{"content-encoding": "gzip"}) == (
        '{"a":"b","token":"[redacted]"}'
    )
    bomb = gzip.compress(b"0" * 50_000_000)
    assert len(response(bomb, "text/plain", **{"content-encoding": "gzip"})) < LIMIT + 100
    assert "not shown" in response(b"\x01\x02", "text/plain", **{"content-encoding": "br"})
    assert "not shown" in response(b"no gzip", "text/plain", **{"content-encoding": "gzip"})


def test_a_character_on_the_cut_is_no_binary() -> None:
    shown = response(b"x" * (LIMIT + 16 * 1024 - 1) + "é".encode() * 10, "text/plain")
    assert shown.startswith("xxx")
