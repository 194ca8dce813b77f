"""What OAuth at /mcp refuses before it gives a token: programs, addresses, browsers and forms that are not right.

Rules about texts and browsers, which no database changes: on one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.hub import Hub, Project, client, ok, refused
from tests.mcp.oauth import (
    LOOPBACK,
    Program,
    answer_of,
    browser_of,
    challenged,
    decide,
    form_of,
    linked,
    oauth_error,
    offering,
    resource,
    stranger,
)
from tests.sandbox.harness import Sandbox


@pytest.fixture
def hub(hubs: Callable[[str], Hub]) -> Hub:
    return hubs("sqlite")


@pytest.fixture
def account(project: Project, provider: Sandbox) -> str:
    return linked(offering(project), provider)


@pytest.fixture
def program(project: Project, account: str) -> Program:
    return Program(project)


# Metadata and challenges


def test_discovery_describes_resource_and_server(project: Project, program: Program) -> None:
    url = project.hub.url
    for path, audience in ((f"/mcp/p/{project.id}", resource(project)), ("/mcp", f"{url}/mcp"), ("", f"{url}/mcp")):
        answer = program.http.get(f"/.well-known/oauth-protected-resource{path}")
        told = ok(answer)
        assert told["resource"] == audience and told["authorization_servers"] == [url]
        assert answer.headers["access-control-allow-origin"] == "*"
    for name in ("oauth-authorization-server", "openid-configuration"):
        told = ok(program.http.get(f"/.well-known/{name}"))
        assert told["issuer"] == url and told["code_challenge_methods_supported"] == ["S256"]
        assert told["grant_types_supported"] == ["authorization_code", "refresh_token"]
        assert told["authorization_response_iss_parameter_supported"] is True


def test_who_brings_nothing_or_nonsense_is_led_to_the_metadata(project: Project, program: Program) -> None:
    challenged(program.http.post(resource(project), json={}), project)
    challenged(program.call("mcp_at_unknown"), project, "invalid_token")
    challenged(program.http.post("/mcp", json={}), None)
    challenged(program.call("mcp_at_unknown", url="/mcp"), None, "invalid_token")
    challenged(program.call("something-else", url="/mcp"), None, "invalid_token")
    challenged(program.call(project.key), project, "invalid_token")  # API keys have their own address
    wrong = client(project.hub.url, auth=("wrong-key", "")).post("/mcp", json={})
    refused(wrong, 401)
    assert wrong.headers["www-authenticate"] == 'Basic realm="mooring", charset="UTF-8"'
    asked = program.http.options(resource(project))
    assert asked.status_code == 204 and asked.headers["access-control-allow-origin"] == "*"


def test_a_project_that_does_not_offer_it_shows_nothing(project: Project, other_project: Project) -> None:
    offering(project)
    http = client(project.hub.url)
    refused(http.post(f"/mcp/p/{other_project.id}", json={}), 404)
    refused(http.get(f"/.well-known/oauth-protected-resource/mcp/p/{other_project.id}"), 404)
    body = {"origin_owner_id": "o", "origin_owner_name": "O"}
    refused(other_project.http.post("/mcp/links", json=body), 422, "AssistantsOffError")
    program = Program(project)
    browser = browser_of(project, "owner-1")
    page = program.authorize(browser, resource=f"{project.hub.url}/mcp/p/{other_project.id}")
    assert page.status_code == 404 and "location" not in page.headers


# Registration


def test_redirect_uris_that_nobody_may_register(project: Project) -> None:
    http = stranger(offering(project))
    for uri in (
        "http://evil.example/callback",
        "https://user:secret@evil.example/",
        "https://evil.example/#fragment",
        "javascript:alert(1)",
        "data:text/html,x",
        "https://evil.example/ x",
        "//evil.example/",
        "http://127.0.0.1@evil.example/",
        "x" * 2001,
        "",
    ):
        oauth_error(http.post("/oauth/register", json={"redirect_uris": [uri]}), 400, "invalid_redirect_uri")


def test_registration_is_for_public_clients(project: Project) -> None:
    http = stranger(offering(project))
    asked = {
        "redirect_uris": ["cursor://anysphere.cursor-mcp/oauth/callback", "https://app.example.com/cb"],
        "client_name": "A\u202eB <b>Desk</b>",
        "token_endpoint_auth_method": "client_secret_post",
        "grant_types": ["authorization_code", "refresh_token", "password"],
    }
    told = ok(http.post("/oauth/register", json=asked), 201)
    assert told["token_endpoint_auth_method"] == "none" and "client_secret" not in told
    assert told["grant_types"] == ["authorization_code", "refresh_token"] and "\u202e" not in told["client_name"]
    only = {"redirect_uris": [LOOPBACK], "grant_types": ["client_credentials"]}
    oauth_error(http.post("/oauth/register", json=only), 400, "invalid_client_metadata")
    oauth_error(http.post("/oauth/register", content=b"[1]"), 400, "invalid_client_metadata")
    oauth_error(http.post("/oauth/register", content=b"{"), 400, "invalid_client_metadata")
    named = {"redirect_uris": [LOOPBACK], "client_name": "a\0b"}
    oauth_error(http.post("/oauth/register", json=named), 400, "invalid_client_metadata")


def test_one_address_registers_so_often_and_not_more(project: Project) -> None:
    http = stranger(offering(project))
    answers = [http.post("/oauth/register", json={}) for _ in range(61)]
    assert [a.status_code for a in answers] == [400] * 60 + [429]
    oauth_error(answers[-1], 429, "temporarily_unavailable")
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60


# The authorization endpoint


def test_an_unknown_program_or_address_is_never_redirected_to(project: Project, program: Program) -> None:
    browser = browser_of(project, "owner-1")
    for changes in (
        {"client_id": "unknown"},
        {"client_id": ""},
        {"redirect_uri": "https://evil.example/callback"},
        {"redirect_uri": LOOPBACK + "/more"},
        {"redirect_uri": LOOPBACK.replace("127.0.0.1", "localhost")},
        {"redirect_uri": LOOPBACK.replace("http:", "https:")},
        {"redirect_uri": "http://127.0.0.1:1@evil.example/callback"},
        {"redirect_uri": None},
    ):
        page = program.authorize(browser, **changes)
        assert page.status_code == 400 and "location" not in page.headers, changes
        assert "evil.example" not in page.text and page.headers["content-type"].startswith("text/html")
    asked = [*program.asking().items(), ("redirect_uri", "https://evil.example/")]
    assert browser.get("/connect/assistants/authorize", params=asked).status_code == 400
    other_port = program.authorize(browser, redirect_uri=LOOPBACK.replace("39999", "51234"))
    assert other_port.status_code == 302  # RFC 8252 §7.3


def test_a_faulty_request_is_told_to_the_program(project: Project, program: Program) -> None:
    browser = browser_of(project, "owner-1")
    web = Program(project, redirect_uri="https://assistant.example/cb?a=b%20c")
    for changes, error in (
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"resource": None}, "invalid_target"),
        ({"resource": "https://other.example/mcp"}, "invalid_target"),
    ):
        told = answer_of(program.authorize(browser, **changes))
        assert told["error"] == error and told["state"] == "state-1" and told["iss"] == project.hub.url
        page = web.authorize(browser, **changes)  # anybody can register: a person has to click
        assert page.status_code == 400 and "location" not in page.headers
        assert f"https://assistant.example/cb?a=b%20c&amp;error={error}&amp;" in page.text


def test_without_a_link_and_a_page_to_sign_in_nobody_is_asked(project: Project, program: Program) -> None:
    page = program.authorize(browser_of(project))
    assert page.status_code == 401 and "Open the link for assistants" in page.text
    german = browser_of(project)
    german.headers["accept-language"] = "de-AT,de;q=0.9"
    assert "Öffnen Sie in diesem Browser den Link" in program.authorize(german).text


# The consent page


def test_consent_belongs_to_one_browser_and_one_decision(project: Project, program: Program, account: str) -> None:
    browser, other = browser_of(project, "owner-1"), browser_of(project, "owner-2")
    url = program.authorize(browser).headers["location"]
    form = {**form_of(browser.get(url)), "account": account, "access": "read", "decision": "allow"}
    assert other.get(url).status_code == 401 and account not in other.get(url).text
    assert other.post(url, data=form).status_code == 401
    assert browser.post(url, data={**form, "token": "0" * 64}).status_code == 403
    assert browser.post(url, data={k: v for k, v in form.items() if k != "token"}).status_code == 403
    assert browser.post(url, data=form, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    plain = {"sec-fetch-site": "", "origin": "https://evil.example"}
    assert browser.post(url, data=form, headers=plain).status_code == 403
    assert "code" in answer_of(browser.post(url, data=form))
    assert browser.post(url, data=form).status_code == 401 and browser.get(url).status_code == 401


def test_the_page_can_not_be_framed_and_shows_names_as_text(project: Project, account: str) -> None:
    http = stranger(project)
    told = ok(http.post("/oauth/register", json={"redirect_uris": [LOOPBACK], "client_name": "<img src=x>{app}"}), 201)
    browser = browser_of(project, "owner-1")
    page = browser.get(Program(project, client_id=told["client_id"]).authorize(browser).headers["location"])
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "script-src" not in policy
    assert "form-action 'self';" in policy and page.headers["x-frame-options"] == "DENY"
    assert "<img src=x>" not in page.text and "&lt;img src=x&gt;{app}" in page.text
    (cookie,) = [c for c in browser.cookies.jar if c.name == "mooring-assistants"]
    assert cookie.has_nonstandard_attr("HttpOnly") and cookie.get_nonstandard_attr("SameSite") == "lax"


def test_only_own_accounts_can_be_chosen(
    project: Project, program: Program, account: str, provider: Sandbox, other_project: Project
) -> None:
    foreign = linked(project, provider, "owner-2")
    elsewhere = linked(other_project, provider, "owner-1")
    browser = browser_of(project, "owner-1")
    for chosen in ([foreign], [account, foreign], [elsewhere], ["unknown"]):
        url = program.authorize(browser).headers["location"]
        assert foreign not in browser.get(url).text
        assert decide(browser, url, chosen).status_code == 400
    url = program.authorize(browser).headers["location"]
    again = decide(browser, url, [])
    assert again.status_code == 400 and "Choose at least one account" in again.text
    denied = answer_of(decide(browser, url, [account], decision="deny"))
    assert denied["error"] == "access_denied" and "code" not in denied and denied["iss"] == project.hub.url
    assert ok(project.http.get("/mcp/grants"))["data"] == []


def test_who_asks_to_read_can_not_be_given_more(project: Project, program: Program, account: str) -> None:
    browser = browser_of(project, "owner-1")
    url = program.authorize(browser, scope="mcp:read").headers["location"]
    assert "Read and write" not in browser.get(url).text
    code = answer_of(decide(browser, url, [account], "write"))["code"]
    assert ok(program.redeem(code))["scope"] == "mcp:read"


# Signing in at the operator's product


def test_a_request_is_answered_once_and_in_the_browser_that_began(
    project: Project, provider: Sandbox, other_project: Project
) -> None:
    offering(project, assistant_login_url="https://app.example.com/assistants")
    linked(project, provider)
    program, victim = Program(project), browser_of(project)
    owner = {"origin_owner_id": "owner-1", "origin_owner_name": "owner-1 Inc."}

    def begun(browser: Any) -> str:
        return str(program.authorize(browser).headers["location"].partition("?request=")[2])

    request = begun(browser_of(project))
    refused(other_project.http.post(f"/mcp/authorizations/{request}", json=owner), 404)
    refused(client(project.hub.url).post(f"/mcp/authorizations/{request}", json=owner), 401)
    told = ok(project.http.post(f"/mcp/authorizations/{request}", json=owner))
    refused(project.http.post(f"/mcp/authorizations/{request}", json=owner), 404)
    # Somebody sent their own request to the victim, whom the product signed in: it ends here.
    program.authorize(victim)
    assert victim.get(told["continue_url"]).status_code == 401
    attacker = browser_of(project)
    request = begun(attacker)
    told = ok(project.http.post(f"/mcp/authorizations/{request}", json=owner))
    assert client(project.hub.url, headers={"accept": "text/html"}).get(told["continue_url"]).status_code == 401
    assert attacker.get(told["continue_url"]).status_code == 401  # nobody can go on with it any more
    request = begun(victim)
    told = ok(project.http.post(f"/mcp/authorizations/{request}", json=owner))
    entered = victim.get(told["continue_url"])
    assert entered.status_code == 303 and victim.get(told["continue_url"]).status_code == 401
    assert victim.get(entered.headers["location"]).status_code == 200


def test_a_link_is_good_for_one_browser(project: Project, account: str) -> None:
    body = {"origin_owner_id": "owner-1", "origin_owner_name": "owner-1 Inc."}
    url = ok(project.http.post("/mcp/links", json=body), 201)["url"]
    first, second = browser_of(project), browser_of(project)
    assert first.get(url).status_code == 200 and second.get(url).status_code == 200  # looking opens nothing
    cross = first.post(url, headers={"sec-fetch-site": "cross-site"})
    assert cross.status_code == 403
    assert first.post(url).status_code == 303
    assert second.post(url).status_code == 401 and second.get(url).status_code == 401
    assert first.get("/connect/assistants").status_code == 200
    assert second.get("/connect/assistants").status_code == 401
    refused(project.http.post("/mcp/links", json={**body, "expires_in": 0}), 400)
