"""Rule S15: secrets that are in use stand nowhere in the open: database, files, logs, answers, process arguments."""

from __future__ import annotations

import base64
import html
import json
import secrets
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, quote_plus, urlsplit

import httpx
import psutil
import pytest

from tests.conftest import Ports
from tests.hub import BOOTSTRAP_KEY, Hub, Project, Session, ok, refused
from tests.leaks import left_by, rows_of
from tests.proxy.upstream import Seen, Upstream, answer, upstream_on


def canary() -> str:
    """A random secret whose escaped forms all differ from it."""
    return secrets.token_urlsafe(12) + '+/"&<~' + secrets.token_urlsafe(9)


def forms(secret: str) -> dict[str, bytes]:
    """How a secret may look where it must not be."""
    raw = secret.encode()
    found = {
        "raw": raw,
        "first eight": raw[:8],
        "url": quote(secret, safe="").encode(),
        "form": quote_plus(secret).encode(),
        "json": json.dumps(secret)[1:-1].encode(),
        "html": html.escape(secret).encode(),
        "hex": raw.hex().encode(),
        "HEX": raw.hex().upper().encode(),
    }
    for offset in range(3):  # base64 depends on what stands before; the edges are cut off
        core = base64.b64encode(b"\0" * offset + raw)[4:-4]
        found[f"base64+{offset}"] = core
        found[f"base64url+{offset}"] = core.replace(b"+", b"-").replace(b"/", b"_")
        found[f"form in base64+{offset}"] = base64.b64encode(b"\0" * offset + found["form"])[4:-4]  # RFC 6749 §2.3.1
    return found


def hits(places: dict[str, bytes], named: dict[str, str]) -> list[str]:
    """Where which secret stands, in which form."""
    return [
        f"{name} ({form}) in {place}"
        for name, secret in named.items()
        for form, needle in forms(secret).items()
        for place, hay in places.items()
        if needle in hay
    ]


def places_of(hub: Hub) -> dict[str, bytes]:
    """Everything that the hub has left anywhere: files, rows, log, arguments of its processes."""
    assert hub.process is not None
    found = {
        str(path.relative_to(hub.folder)): path.read_bytes()
        for path in hub.folder.rglob("*")
        if path.is_file() and "keys" not in path.name
    }
    assert "hub.log" in found
    found["rows"] = rows_of(hub.database_url)
    ours = psutil.Process(hub.process.pid)
    for process in (ours, *ours.children(recursive=True)):
        found[f"arguments of {process.pid}"] = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    return found


class Provider:
    """A provider that knows canaries only, and repeats whatever it refuses."""

    def __init__(self, up: Upstream, good: dict[str, str], wrong: dict[str, str]) -> None:
        self.good, self.wrong = good, wrong
        up.on("/api/me", self.me)
        up.on("/oauth/token", self.token)
        up.on("/oauth/revoke", answer(200))
        up.on("/echo", self.echo)

    def me(self, _connection: object, seen: Seen) -> bytes:
        everything = str(seen.headers) + seen.target
        if hits({"it": everything.encode()}, self.wrong):
            body = json.dumps({"error": f"I do not know {everything}"}).encode()
            return answer(401, body, "content-type: application/json", "set-cookie: a=b")
        return answer(200, b'{"account_id": "a-1", "company": "Up Inc."}', "content-type: application/json")

    def token(self, _connection: object, seen: Seen) -> bytes:
        form = {name: values[0] for name, values in parse_qs(seen.body.decode()).items()}
        if form.get("code") in self.wrong.values():
            body = {"error": "invalid_grant", "error_description": f"bad code {form['code']} of {seen.headers}"}
            return answer(400, json.dumps(body).encode(), "content-type: application/json")
        body = {
            "access_token": self.good["access token"],
            "token_type": "Bearer",
            "expires_in": 3600,
            "id_token": self.good["unasked token"],
        }
        if form["grant_type"] == "authorization_code":
            body["refresh_token"] = self.good["refresh token"]
        return answer(200, json.dumps(body).encode(), "content-type: application/json")

    def echo(self, _connection: object, seen: Seen) -> bytes:
        body = json.dumps({"headers": seen.headers, "target": seen.target}).encode()
        return answer(200, body, "content-type: application/json", "x-echo: " + (seen.header("x-api-key") or ""))


class Recorder:
    """Keeps every answer that the hub gave, headers and body."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}

    def watch(self, http: httpx.Client) -> None:
        http.event_hooks = {"response": [self._keep]}

    def _keep(self, answered: httpx.Response) -> None:
        head = "".join(f"{name}: {value}\n" for name, value in answered.headers.multi_items())
        name = f"answer {len(self.answers)} to {answered.request.method} {answered.request.url.path}"
        self.answers[name] = head.encode() + answered.read()


FORMS = {
    "api_key": ("api_key",),
    "api_key_query": ("api_key",),
    "basic": ("password",),
    "client_credentials": ("client_secret",),
    "service_user": ("service_user_token",),
}
PUBLIC = {"basic": {"username": "jane"}, "client_credentials": {"client_id": "machine"}}
PUBLIC["service_user"] = {"service_user_id": "SERVICE-1"}


def test_secrets_stand_nowhere_in_the_open(hub: Hub, ports: Ports) -> None:
    project = hub.new_project()
    recorder = Recorder()
    recorder.watch(project.http)
    secret: dict[str, str] = {name: canary() for name in ("access token", "refresh token", "unasked token")}
    wrong: dict[str, str] = {}
    with upstream_on(ports.spare[0]) as up:
        Provider(up, secret, wrong)
        setup = {"sandbox_url": up.url}
        for method, fields in FORMS.items():
            config = project.config("sandbox", method, setup)
            secret |= {f"{method} {name}": canary() for name in fields}
            good = {**PUBLIC.get(method, {}), **{name: secret[f"{method} {name}"] for name in fields}}
            _link_and_use(project, recorder, config["id"], good)
            wrong |= {f"wrong {method} {name}": canary() for name in fields}
            bad = {**good, **{name: wrong[f"wrong {method} {name}"] for name in fields}}
            session = _session(project, recorder, config["id"])
            if method != "client_credentials":  # its own token is what is tested, and that one is good
                refused(session.submit(config["id"], bad), 422, "CredentialRejectedError")
        secret["app secret"], secret["code"], secret["api key"] = canary(), canary(), project.key.rpartition(".")[2]
        wrong["wrong code"] = canary()
        setup |= {"client_id": "app", "client_secret": secret["app secret"]}
        config = project.config("sandbox", "oauth2", setup)
        secret |= _consent(project, recorder, config["id"], up, secret["code"], "authenticated")
        secret |= {f"refused {name}": value for name, value in
                   _consent(project, recorder, config["id"], up, wrong["wrong code"], "error").items()}  # fmt: skip
        for path in ("/auth_configs", "/accounts", "/requests/logs?include=step_logs", "/requests/platform-logs"):
            ok(project.http.get(path))
        assert len(up.seen) > 10
        arrived = "".join(hits({"provider": str(up.seen).encode()}, secret | wrong))
        for name in ("api_key api_key", "access token", "code", "app secret", "basic password", "wrong code"):
            assert f"{name} (" in arrived, f"{name} was never in use"
    places = places_of(hub)
    assert hits(places, secret | wrong) == []
    assert hits(places, {"bootstrap key": BOOTSTRAP_KEY[14:]}) == []
    in_answers = {name: value for name, value in secret.items() if name not in {"state", "refused state"}}
    assert hits(recorder.answers, in_answers | wrong) == []
    assert len(recorder.answers) > 40


def _session(project: Project, recorder: Recorder, config: str, **more: Any) -> Session:
    session = project.session("owner-1", integration_id=config, **more)
    recorder.answers.popitem()  # this answer is where its token belongs
    recorder.watch(session.http)
    recorder.watch(session.browser)
    return session


def _link_and_use(project: Project, recorder: Recorder, config: str, form: dict[str, str]) -> None:
    session = _session(project, recorder, config, multiple=True)
    account = ok(session.submit(config, form))["id"]
    assert project.proxy(account, path="/echo?x=1").status_code == 200
    ok(project.http.post("/unified/proxy", json={"path": "/echo"}, headers={"x-account-id": account}))
    edit = _session(project, recorder, config, account_id=account)
    ok(edit.http.get(f"/hub/accounts/{account}"))
    ok(edit.http.patch(f"/hub/accounts/{account}", json={"integration_id": config, "credentials": form}))
    ok(project.http.get(f"/accounts/{account}"))
    project.http.patch(f"/accounts/{account}", json={"credentials": form})


def _consent(
    project: Project, recorder: Recorder, config: str, up: Upstream, code: str, expected: str
) -> dict[str, str]:
    session = _session(project, recorder, config)
    attempt = session.attempt()
    start = session.start_oauth(config, attempt)
    recorder.answers.popitem()  # the redirect is where the state belongs
    state = parse_qs(urlsplit(start.headers["location"]).query)["state"][0]
    session.browser.get("/connect/oauth2/sandbox/callback", params={"code": code, "state": state, "iss": up.url})
    seen = session.attempt_state(attempt)
    assert seen["status"] == expected, seen
    if expected == "authenticated":
        assert project.proxy(seen["account"]["id"], path="/echo").status_code == 200
    return {"session token": session.token, "state": state}


@pytest.mark.parametrize("form", sorted(forms("x" * 30)))
def test_the_search_finds_what_is_planted(form: str) -> None:
    secret = canary()
    if "base64" in form:
        prefix = "a" * int(form[-1])
        planted = base64.b64encode((prefix + (quote_plus(secret) if "form" in form else secret)).encode())
        planted = planted.replace(b"+", b"-").replace(b"/", b"_") if "url" in form else planted
    else:
        planted = forms(secret)[form]
    found = hits({"here": b"before " + planted + b" after", "there": b"nothing"}, {"it": secret, "other": canary()})
    assert found and all(hit.startswith("it (") and hit.endswith("in here") for hit in found)


def test_the_search_reads_files_and_rows(hub: Hub) -> None:
    planted = canary()
    project = hub.new_project()
    project.session("owner", metadata={"planted": planted})
    found = hits(places_of(hub), {"it": planted})
    assert any(hit.endswith("in rows") for hit in found)
    if hub.database_url.startswith("sqlite"):
        assert any("mooring.db" in hit for hit in found)


def test_a_key_is_kept_as_its_hash_alone(tmp_path: Path, hub: Hub) -> None:
    made = hub.command("api-key", "create", "--project", hub.new_project().id).stdout
    key = next(word for word in made.split() if word.startswith("v1."))
    places = places_of(hub)
    assert hits(places, {"key": key.rpartition(".")[2]}) == []
    if hub.database_url.startswith("sqlite"):
        db = sqlite3.connect(hub.folder / "data" / "mooring.db")
        assert db.execute("SELECT count(*) FROM api_keys").fetchone()[0] > 1
        db.close()


def test_what_every_hub_is_searched_for_is_found(tmp_path: Path) -> None:
    """The search that `Hub` does when it ends."""
    token = "rt_" + secrets.token_urlsafe(24)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mooring.db-wal").write_bytes(b"\0\x17" + token.encode() + b"\0")
    (tmp_path / "hub.log").write_text(
        f'{{"key": "{BOOTSTRAP_KEY}"}}\n{{"id": "at_short", "x": "not_at_{token[3:]}"}}\n'
    )
    (tmp_path / "data.keys").write_text(token)
    found = left_by(tmp_path)
    assert sorted(line.partition(":")[0] for line in found) == ["data/mooring.db-wal", "hub.log"]
