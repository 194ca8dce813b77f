"""The preflight: what is wrong with an OAuth set-up, told before any end user tries it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from tests.diagnosis.provider import Answer, Provider
from tests.hub import Hub, Project, ok, refused
from tests.servers.oidc import OidcServer

BASIC_APP = {"client_id": "basic-app", "client_secret": "basic-secret"}


def fly(project: Project, config: dict[str, Any], **body: Any) -> dict[str, dict[str, Any]]:
    """Run the preflight; returns its checks by name, the worst of each name."""
    answer = project.http.post(f"/auth_configs/{config['id']}/preflight", json=body or None)
    seen = ok(answer)
    for secret in ("basic-secret", "canary"):
        assert secret not in answer.text
    order = ["skipped", "ok", "warning", "failed"]
    out: dict[str, dict[str, Any]] = {}
    for check in seen["checks"]:
        assert (check["cause"] is None) == (check["status"] in {"ok", "skipped"}), check
        kept = out.get(check["check"])
        if kept is None or order.index(check["status"]) > order.index(kept["status"]):
            out[check["check"]] = check
    worst = max((c["status"] for c in seen["checks"]), key=order.index)
    assert seen["status"] == worst
    return out


def of(checks: dict[str, dict[str, Any]], name: str) -> tuple[str, str | None]:
    return checks[name]["status"], checks[name]["cause"]


def test_a_good_set_up_passes_every_check(doctor_hub: Hub, oidc: OidcServer) -> None:
    project = doctor_hub.new_project()
    config = project.config("oidc-provider", "code", BASIC_APP)
    checks = fly(project, config)
    assert {name: check["status"] for name, check in checks.items()} == dict.fromkeys(
        [
            "public_url", "callback_url", "setup", "api_host", "token_host", "authorize_host", "clock", "discovery",
            "pkce", "callback_registered", "client_authentication",
        ],
        "ok",
    )  # fmt: skip
    callback = f"{doctor_hub.url}/connect/oauth2/oidc-provider/callback"
    assert checks["callback_url"]["detail"] == callback == config["callback_url"]
    assert oidc.stats()["token_ok"] == 0


BROKEN: dict[str, tuple[str, str, dict[str, str], str, str]] = {
    "a wrong secret": (
        "oidc-provider", "code", {**BASIC_APP, "client_secret": "canary-wrong"},
        "client_authentication", "client_rejected",
    ),
    "an unknown client": (
        "oidc-provider", "code", {"client_id": "nobody", "client_secret": "canary-x"},
        "callback_registered", "client_rejected",
    ),
    "a callback that is not registered": (
        "oidc-other", "code", BASIC_APP, "callback_registered", "redirect_uri_mismatch",
    ),
    "a value with a space": (
        "oidc-provider", "code", {**BASIC_APP, "client_secret": "canary spaced"}, "setup", "stray_spaces",
    ),
    "an example": (
        "oidc-provider", "code", {**BASIC_APP, "client_secret": "<client secret>"}, "setup", "placeholder_value",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_set_up_is_named(doctor_hub: Hub, oidc: OidcServer, name: str) -> None:
    connector, method, setup, check, cause = BROKEN[name]
    project = doctor_hub.new_project()
    checks = fly(project, project.config(connector, method, setup))
    assert of(checks, check) == ("failed", cause), checks[check]
    assert checks[check]["what_to_do"]


# --- a provider that the test plays ----------------------------------------------------------------------------------


def document(upstream: Provider, **changes: Any) -> Answer:
    said = {
        "issuer": upstream.url,
        "authorization_endpoint": f"{upstream.url}/authorize",
        "token_endpoint": f"{upstream.url}/token",
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic"],
        "scopes_supported": ["people.read", "people.write"],
    }
    return Answer(200, {k: v for k, v in {**said, **changes}.items() if v is not None})


def dated(offset: float) -> Answer:
    return Answer(404, {}, {"date": format_datetime(datetime.now(UTC) + timedelta(seconds=offset), usegmt=True)})


Break = Callable[[Provider], None]


def rule(path: str, make: Callable[[Provider], Answer]) -> Break:
    def apply(upstream: Provider) -> None:
        upstream.rules[path] = make(upstream)

    return apply


WELL_KNOWN = "/.well-known/openid-configuration"
PLAYED: dict[str, tuple[Break, str, tuple[str, str | None]]] = {
    "all well": (rule("/", lambda u: dated(0)), "clock", ("ok", None)),
    "a slow clock": (rule("/", lambda u: dated(-400)), "clock", ("warning", "clock_skew")),
    "a fast clock": (rule("/", lambda u: dated(400)), "clock", ("warning", "clock_skew")),
    "no time told": (lambda u: None, "clock", ("skipped", None)),
    "another issuer": (
        rule(WELL_KNOWN, lambda u: document(u, issuer="https://evil.example")),
        "discovery",
        ("failed", "discovery_mismatch"),
    ),
    "another token endpoint": (
        rule(WELL_KNOWN, lambda u: document(u, token_endpoint=f"{u.url}/v2/token")),
        "discovery",
        ("warning", "discovery_mismatch"),
    ),
    "another client authentication": (
        rule(WELL_KNOWN, lambda u: document(u, token_endpoint_auth_methods_supported=["private_key_jwt"])),
        "discovery",
        ("warning", "wrong_client_auth"),
    ),
    "an unknown scope": (
        rule(WELL_KNOWN, lambda u: document(u, scopes_supported=["people.read"])),
        "discovery",
        ("warning", "invalid_scope"),
    ),
    "only plain PKCE": (
        rule(WELL_KNOWN, lambda u: document(u, code_challenge_methods_supported=["plain"])),
        "pkce",
        ("failed", "pkce_refused"),
    ),
    "PKCE not told": (
        rule(WELL_KNOWN, lambda u: document(u, code_challenge_methods_supported=None)),
        "pkce",
        ("skipped", None),
    ),
    "no discovery document": (lambda u: None, "discovery", ("skipped", None)),
    "a client of the code that is fine": (
        rule("/token", lambda u: Answer(400, {"error": "invalid_grant"})),
        "client_authentication",
        ("ok", None),
    ),
    "HTML at the token endpoint": (
        rule("/token", lambda u: Answer(200, b"<html>hello", {"content-type": "text/html"})),
        "client_authentication",
        ("failed", "token_not_json"),
    ),
    "no token endpoint": (
        rule("/token", lambda u: Answer(404, {"message": "no"})),
        "client_authentication",
        ("failed", "token_endpoint_missing"),
    ),
    "a provider in trouble": (
        rule("/token", lambda u: Answer(500, {"message": "no"})),
        "client_authentication",
        ("warning", "provider_error"),
    ),
    "a disabled client": (
        rule("/token", lambda u: Answer(401, {"error": "invalid_client", "error_description": "client is disabled"})),
        "client_authentication",
        ("failed", "client_disabled"),
    ),
    "an error page at the consent page": (
        rule("/authorize", lambda u: Answer(400, b"<html>redirect_uri does not match", {"content-type": "text/html"})),
        "callback_registered",
        ("failed", "redirect_uri_mismatch"),
    ),
    "a redirect to a login": (
        rule("/authorize", lambda u: Answer(302, b"", {"location": f"{u.url}/login"})),
        "callback_registered",
        ("ok", None),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLAYED)
def test_what_a_provider_tells(doctor: Project, upstream: Provider, name: str) -> None:
    breaks, check, expected = PLAYED[name]
    breaks(upstream)
    config = doctor.config("doctor", "code", {"client_id": "doctor-app", "client_secret": "canary-secret"})
    checks = fly(doctor, config)
    assert of(checks, check) == expected, checks[check]


def test_a_redirect_back_with_an_error_is_read(doctor: Project, upstream: Provider) -> None:
    config = doctor.config("doctor", "code", {"client_id": "doctor-app", "client_secret": "canary-secret"})
    upstream.rules["/authorize"] = Answer(302, b"", {"location": f"{config['callback_url']}?error=invalid_scope"})
    assert of(fly(doctor, config), "callback_registered") == ("failed", "invalid_scope")
    upstream.rules["/authorize"] = Answer(302, b"", {"location": f"{config['callback_url']}?error=login_required"})
    assert of(fly(doctor, config), "callback_registered") == ("ok", None)


def by_body_only(request: dict[str, Any]) -> Answer:
    """A token endpoint that takes the client's secret in the body alone."""
    known = "client_secret=" in request["body"] and "authorization" not in request["headers"]
    return Answer(400, {"error": "invalid_grant"}) if known else Answer(401, {"error": "invalid_client"})


def test_the_other_way_to_prove_the_client_is_named(doctor: Project, upstream: Provider) -> None:
    upstream.rules["/token"] = by_body_only
    config = doctor.config("doctor", "code", {"client_id": "doctor-app", "client_secret": "canary-secret"})
    checks = fly(doctor, config)
    assert of(checks, "client_authentication") == ("failed", "wrong_client_auth")
    assert "by post the same client is accepted" in checks["client_authentication"]["detail"]


def test_hosts_that_are_blocked_or_unknown(doctor: Project) -> None:
    config = doctor.config("blocked", "code", {"client_id": "doctor-app", "client_secret": "canary-secret"})
    checks = fly(doctor, config)
    assert of(checks, "token_host") == of(checks, "client_authentication") == ("failed", "egress_blocked")
    assert of(checks, "authorize_host") == ("failed", "host_unknown")


def test_methods_without_oauth_have_little_to_check(doctor: Project) -> None:
    checks = fly(doctor, doctor.config("doctor", "key"))
    assert checks["callback_url"]["status"] == checks["client_authentication"]["status"] == "skipped"
    assert checks["api_host"]["status"] == "ok"


def test_addresses_that_need_a_value_of_the_account(doctor: Project) -> None:
    config = doctor.config("doctor", "anywhere")
    assert of(fly(doctor, config), "api_host") == ("skipped", None)
    checks = fly(doctor, config, fields={"base_url": "https://10.0.0.1"})
    assert of(checks, "api_host") == ("failed", "egress_blocked")
    path = f"/auth_configs/{config['id']}/preflight"
    for fields in ({"api_key": "x"}, {"nosuch": "x"}, {"base_url": "not an address"}):
        refused(doctor.http.post(path, json={"fields": fields}), 400, "ValidationError")


def test_another_project_can_not_fly(doctor: Project, doctor_hub: Hub) -> None:
    config = doctor.config("doctor", "key")
    other = doctor_hub.new_project()
    refused(other.http.post(f"/auth_configs/{config['id']}/preflight"), 404)
    reader = doctor_hub.new_project("reader", ["connectors:read"])
    refused(reader.http.post(f"/auth_configs/{config['id']}/preflight"), 403)
