"""Link an account by every method of every shipped connector, call through it, renew it, and try a wrong credential.

`MOORING_WRITE_SNAPSHOT=1 pytest tests/exercise -n 0` writes `requests.yaml` anew; look at the difference before a commit.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mooring.connectors.definition import AuthMethod, Connector, Field
from mooring.connectors.registry import Registry, load_registry
from tests.conftest import free_port
from tests.connectors.examples import example, fitting
from tests.exercise.provider import WRONG, Played, Provider, provider_on
from tests.exercise.rewritten import CATALOG, PREFIX, WHOLE, write_rewritten
from tests.hub import Hub, Project, Session, ok

SNAPSHOT = Path(__file__).with_name("requests.yaml")
WRITE = os.environ.get("MOORING_WRITE_SNAPSHOT") == "1"
EXPECTED: dict[str, list[str]] = yaml.load(SNAPSHOT.read_text(), yaml.CSafeLoader) if SNAPSHOT.exists() else {}
KEYS = sorted(path.stem for path in CATALOG.glob("*.yaml") if path.stem != "sandbox")
CALLED = "/called/by/a/caller"


def _pem(key: Any) -> str:
    kind = serialization.PrivateFormat.PKCS8
    return str(key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption()).decode())


RSA = _pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))
EC = _pem(ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, Provider, Registry]]:
    """A hub of its own, whose connectors lead to the one provider that plays them all."""
    folder = tmp_path_factory.mktemp("exercise")
    connectors = folder / "connectors"
    connectors.mkdir()
    with provider_on(free_port()) as provider:
        assert sorted(write_rewritten(connectors, provider.base)) == KEYS
        allowed = provider.base.removeprefix("http://")
        with Hub(folder, free_port(), egress_allow=allowed, connectors_dir=connectors) as hub:
            made = hub.new_project("exercise")
            yield made, provider, load_registry(connectors)


@pytest.fixture(scope="module")
def written() -> Iterator[dict[str, list[str]]]:
    """What was seen, written down at the end where that is asked for."""
    out: dict[str, list[str]] = {}
    yield out
    if WRITE:
        SNAPSHOT.write_text(yaml.safe_dump(out, sort_keys=True, allow_unicode=True, width=10_000), encoding="utf-8")


@pytest.mark.parametrize("key", KEYS)
def test_it_links_calls_renews_and_refuses(key: str, world: Any, written: dict[str, list[str]]) -> None:
    made, provider, registry = world
    project = Project(made.hub, made.id, made.key)  # its client is of this test
    connector = registry[PREFIX + key]
    for method in connector.auth.values():
        seen = _exercise(project, provider, connector, method)
        written[f"{key}.{method.key}"] = seen
        if not WRITE:
            assert seen == EXPECTED.get(f"{key}.{method.key}"), f"other requests than in {SNAPSHOT.name}"


def _exercise(project: Project, provider: Provider, connector: Connector, method: AuthMethod) -> list[str]:
    values = {f.key: _value(f, method, provider.base) for f in (*method.fields, *method.app_fields)}
    kept = _kept(method, provider.base)
    played = provider.played = Played(connector, method, values, kept)
    setup = {f.key: values[f.key] for f in method.app_fields}
    form = {f.key: values[f.key] for f in method.fields if not f.read_only}
    config = project.config(connector.key, method.key, setup)
    if method.oauth2 is not None and not method.oauth2.machine:
        account, authorize = _consent(project, played, config, form, kept)
    else:
        account, authorize = _form(project, played, method, config, form), None
    called = project.proxy(account, path=CALLED)
    assert called.status_code == 200, called.text
    if method.body is not None:
        assert project.proxy(account, "POST", path=CALLED, json={"of": "the caller"}).status_code == 200
    if method.oauth2 is not None and (not method.oauth2.machine or method.oauth2.grant):
        played.expire_once = True
        assert project.proxy(account, path=CALLED).status_code == 200
        assert played.tokens == 2, "a 401 did not lead to one renewal"
    assert not played.faults, played.faults
    lines = [f"authorize: {authorize}"] if authorize else []
    return [
        _plain(line, provider.base, project) for line in [*lines, *(f"{role}: {text}" for role, text in played.seen)]
    ]


def _form(project: Project, played: Played, method: AuthMethod, config: dict[str, Any], form: dict[str, str]) -> str:
    """Link by the form, after a wrong credential was refused."""
    typed = {
        f.key for f in method.fields if f.secret and "PRIVATE KEY" not in form.get(f.key, "") and f.pattern is None
    }
    if typed:
        wrong = {**form, **{key: f"{WRONG}-{form[key]}" for key in typed}}
        said = _session(project, config).submit(config["id"], wrong)
        assert said.status_code == 422, f"a wrong credential was not refused: {said.status_code} {said.text[:300]}"
        played.seen.clear()
        played.tokens = 0
    return str(ok(_session(project, config).submit(config["id"], form))["id"])


def _consent(
    project: Project, played: Played, config: dict[str, Any], form: dict[str, str], kept: dict[str, str]
) -> tuple[str, str]:
    """Link at the consent page, after a wrong code was refused."""
    oauth2 = played.method.oauth2
    assert oauth2 is not None
    more = {param: kept[name] for name, param in oauth2.callback_keep.items()}
    if oauth2.issuer is not None:
        more["iss"] = oauth2.issuer.render({**played.scope, **kept})
    for code in (f"{WRONG}-code", "a-code"):
        played.seen.clear()
        played.tokens = 0
        session = _session(project, config)
        made = ok(
            session.http.post("/hub/connection_attempts", json={"integration_id": config["id"], "credentials": form})
        )
        start = session.browser.get(made["launch_url"].removeprefix(project.hub.url) + "&go=1")
        assert start.status_code == 302, start.text
        location = start.headers["location"]
        asked = {name: value[0] for name, value in parse_qs(urlsplit(location).query, keep_blank_values=True).items()}
        assert asked["response_type"] == "code"
        played.challenge = asked.get("code_challenge")
        assert (played.challenge is not None) == oauth2.pkce
        back = urlsplit(asked["redirect_uri"])
        session.browser.get(f"{back.path}?{urlencode({'code': code, 'state': asked['state'], **more})}")
        state = session.attempt_state(made["id"])
        if code.startswith(WRONG):
            assert state["status"] not in {"authenticated", "pending"}, state
    assert state["status"] == "authenticated", state
    parts = urlsplit(location)
    return str(state["account"]["id"]), f"GET {parts.path.lstrip('/')} ? {urlencode(sorted(asked.items()))}"


def _session(project: Project, config: dict[str, Any]) -> Session:
    return project.session(integration_id=config["id"])


def _value(field: Field, method: AuthMethod, base: str) -> str:
    if "private_key" in field.key or "PRIVATE KEY" in (field.placeholder or ""):
        signed = method.oauth2 is not None and method.oauth2.client_auth == "private_key_jwt"
        return EC if signed and method.oauth2.assertion_algorithm == "ES256" else RSA
    if field.options:
        return field.options[0][0]
    if field.pattern == WHOLE:
        return f"{base}/address.of.the.account"
    return example(field)


def _kept(method: AuthMethod, base: str) -> dict[str, str]:
    if method.oauth2 is None:
        return {}
    out = {}
    then = method.oauth2.then.keep if method.oauth2.then is not None else {}
    for name in (*method.oauth2.keep, *method.oauth2.callback_keep, *then):
        pattern = method.oauth2.keep_patterns.get(name)
        whole = pattern == WHOLE
        out[name] = f"{base}/kept.of.the.answer" if whole else fitting(name, pattern)
    return out


def _plain(line: str, base: str, project: Project) -> str:
    """A request without what differs from run to run."""
    line = line.replace(base.removeprefix("http://"), "provider").replace(project.hub.url, "http://hub")
    for raw in (base, project.hub.url):
        line = line.replace(urlencode({"": raw})[1:], "http%3A%2F%2F" + ("provider" if raw == base else "hub"))
    line = re.sub(r"\b(state|code_challenge|code_verifier|nonce)=[^&| ]+", r"\1=…", line)
    line = re.sub(r'"code_verifier": ?"[^"]+"', '"code_verifier":"…"', line)
    line = re.sub(r"\bassertion=(PHNhbWwy[\w%-]+)", _assertion, line)
    line = re.sub(r"\beyJ[\w-]+\.(eyJ[\w-]+)\.[\w-]+", _claims, line)
    return line.replace(base, "http://provider").replace(project.hub.url, "http://hub")  # inside of tokens as well


def _assertion(found: re.Match[str]) -> str:
    """A signed SAML assertion without its signature, names and times."""
    text = base64.b64decode(unquote(found[1])).decode()
    text = re.sub(r"<ds:Signature .*</ds:Signature>", "<ds:Signature/>", text)
    return "assertion=" + re.sub(
        r'\b(ID|SessionIndex|IssueInstant|AuthnInstant|NotBefore|NotOnOrAfter)="[^"]+"', r"\1=…", text
    )


def _claims(found: re.Match[str]) -> str:
    """A signed token as its header and claims."""
    parts = [json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in found[0].split(".")[:2]]
    for name in ("iat", "exp", "jti", "nbf"):
        if name in parts[1]:
            parts[1][name] = "…"
    parts[0].pop("kid", None)
    return "JWT" + unquote(json.dumps(parts, sort_keys=True))
