"""What `.s1.yaml` files store beside the tokens: of the callback, of the token answer, and of a request after it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from mooring.connectors.s1.loader import load_s1
from tests.conftest import Ports
from tests.connectors.s1.samples import FILES
from tests.flows.linking import run_flow
from tests.hub import Project, ok
from tests.proxy.upstream import Seen, Upstream, answer, upstream_on

CLIENT = {"client_id": "stored-client", "client_secret": "stored-client-secret"}
SITES = {"values": [{"name": "other", "id": "s-1", "key": "k-1"}, {"name": "acme", "id": "s-2", "key": "k-2"}]}


def consent(location: str) -> str:
    """What the provider's consent page sends the browser to."""
    asked = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
    return asked["redirect_uri"] + "?" + urlencode({"code": "c-1", "state": asked["state"], "realm": "realm-9"})


def sent_json(data: Any, status: int = 200) -> bytes:
    return answer(status, json.dumps(data).encode(), "content-type: application/json")


@pytest.fixture
def up(ports: Ports) -> Iterator[Upstream]:
    with upstream_on(ports.spare[0]) as up:
        number = count(1)

        def token(_connection: Any, _seen: Seen) -> bytes:
            n = next(number)
            data = {"token": f"stored-token-{n}", "renewal": [f"stored-renewal-{n}"], "region": f"eu-{n}"}
            return sent_json({"data": data, "token_type": "custom", "expires_in": 3600})

        up.on("/token", token)
        up.on("/sites", sent_json(SITES))
        yield up


def test_everything_that_is_stored_is_used_and_renewed(project: Project, up: Upstream) -> None:
    config = project.config("stored", "oauth2", CLIENT)
    session = project.session(integration_id=config["id"])
    state = run_flow(session, config, consent, domain="acme")
    assert state["status"] == "authenticated", state
    account = state["account"]["id"]
    sites = [seen for seen in up.seen if seen.target.startswith("/sites")]
    assert [(seen.target, seen.header("authorization")) for seen in sites] == [
        ("/sites?kind=jira", "Bearer stored-token-1")
    ]

    up.on("/ex/s-2/things", sent_json([{"id": 1}]))
    assert things(project, account) == [{"id": 1}]
    assert headers(up.seen[-1]) == ("Bearer stored-token-1", "eu-1", "realm-9", "k-1")

    def once_refused(_connection: Any, seen: Seen) -> bytes:
        old = seen.header("authorization") == "Bearer stored-token-1"
        return sent_json({"error": "old"}, 401) if old else sent_json([{"id": 2}])

    up.on("/ex/s-2/things", once_refused)
    assert things(project, account) == [{"id": 2}]
    renewal = [parse_qs(seen.body.decode()) for seen in up.seen if seen.target == "/token"][-1]
    assert renewal["grant_type"] == ["refresh_token"]
    assert renewal["refresh_token"] == ["stored-renewal-1"]
    assert headers(up.seen[-1]) == ("Bearer stored-token-2", "eu-2", "realm-9", "k-1")
    assert len([seen for seen in up.seen if seen.target.startswith("/sites")]) == 2


def test_a_site_that_the_answer_does_not_have_ends_the_linking(project: Project, up: Upstream) -> None:
    config = project.config("stored", "oauth2", CLIENT)
    state = run_flow(project.session(integration_id=config["id"]), config, consent, domain="nowhere")
    assert state["status"] == "error"
    assert state["error"]["code"] == "token_missing"


def things(project: Project, account: str) -> Any:
    sent = {"action": "stored_list_things"}
    return ok(project.http.post("/actions/rpc", json=sent, headers={"x-account-id": account}))["data"]


def headers(seen: Seen) -> tuple[Any, ...]:
    return tuple(seen.header(name) for name in ("authorization", "x-region", "x-realm", "x-site-key"))


def test_nobody_is_asked_for_what_an_answer_tells(tmp_path: Any) -> None:
    source = FILES / "stored" / "stored.connector.s1.yaml"
    main = tmp_path / source.name
    main.write_text(source.read_text().replace("@SCRIPTED@", "https://api.example.com"))
    loaded = load_s1(main, strict=True)
    method = loaded.connector.auth["oauth2"]
    assert [field.key for field in method.fields] == ["domain"]
    assert [str(w) for w in loaded.warnings] == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("region: $.data.region", "region: '{{data.a + data.b}}'", "this is no path into the token answer"),
        ("accessToken: $.data.token,", "accessToken: '{{a || b}}',", "this is no path into the token answer"),
        ("$.steps.sites.output.data[0].key", "$.steps.nothing.output.data.key", "where `siteKey` comes from"),
        ("authorization: {type: bearer, token: $.credentials.accessToken}", "authorization: {type: basic}", "not sent"),
    ],
)
def test_what_is_not_understood_is_told(tmp_path: Any, old: str, new: str, problem: str) -> None:
    text = (FILES / "stored" / "stored.connector.s1.yaml").read_text().replace("@SCRIPTED@", "https://api.example.com")
    assert old in text
    main = tmp_path / "stored.connector.s1.yaml"
    main.write_text(text.replace(old, new))
    assert any(problem in str(w) for w in load_s1(main).warnings)


def test_a_host_that_comes_with_the_token_is_limited(tmp_path: Any) -> None:
    text = (FILES / "stored" / "stored.connector.s1.yaml").read_text()
    text = text.replace('"@SCRIPTED@/ex/${credentials.siteId}"', '"https://${credentials.region}.example.com"')
    main = tmp_path / "stored.connector.s1.yaml"
    main.write_text(text.replace("@SCRIPTED@", "https://api.example.com"))
    loaded = load_s1(main)
    oauth2 = loaded.connector.auth["oauth2"].oauth2
    assert oauth2 is not None
    assert oauth2.keep_patterns["region"] == "[A-Za-z0-9.-]+"
    assert any("`region` decides a host" in str(w) for w in loaded.warnings)


def test_a_method_has_a_client_certificate(tmp_path: Any) -> None:
    text = (FILES / "stored" / "stored.connector.s1.yaml").read_text().replace("@SCRIPTED@", "https://api.example.com")
    mutual = "certificates: {certs: [$.credentials.cert], keys: [$.credentials.certKey]}"
    text = text.replace("      label: OAuth 2.0\n", f"      label: OAuth 2.0\n      {mutual}\n")
    fields = "{key: cert, label: C, type: text_area}\n        - "
    fields += "{key: certKey, label: K, type: text_area, secret: true}\n        - "
    main = tmp_path / "stored.connector.s1.yaml"
    main.write_text(text.replace("{key: domain,", fields + "{key: domain,"))
    loaded = load_s1(main, strict=True)
    method = loaded.connector.auth["oauth2"]
    assert method.mtls is not None and [template.source for template in method.mtls] == ["${cert}", "${certKey}"]
    assert [str(w) for w in loaded.warnings] == []


@pytest.mark.parametrize(
    ("written", "preset", "expected"),
    [
        ("""'{{($.credentials.scopes ?? "a b") + " offline"}}'""", "", ("a", "b", "offline")),
        ("$.credentials.scopes", "", ()),
        ("$.credentials.scopes", "c d", ("c", "d")),
        ("${credentials.scopes}", "c,d", ("c,d",)),
        ("a b", "", ("a", "b")),
    ],
)
def test_scopes_are_the_auth_configs(tmp_path: Any, written: str, preset: str, expected: tuple[str, ...]) -> None:
    """A field of that name is no field here: the auth config has a list of its own, which replaces the default."""
    text = (FILES / "stored" / "stored.connector.s1.yaml").read_text().replace("@SCRIPTED@", "https://api.example.com")
    field = "{key: scopes, label: Scopes, type: text" + (f", value: '{preset}'" if preset else "") + "}"
    text = text.replace("        - {key: clientSecret", f"        - {field}\n        - {{key: clientSecret")
    params = f"        authorizationParams:\n          scope: {written}\n        tokenUrl:"
    main = tmp_path / "stored.connector.s1.yaml"
    main.write_text(text.replace("        tokenUrl:", params, 1))
    method = load_s1(main, strict=True).connector.auth["oauth2"]
    assert method.oauth2 is not None and method.oauth2.scopes == expected
    assert "scopes" not in {f.key for f in (*method.fields, *method.app_fields)}
