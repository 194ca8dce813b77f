"""The shipped catalogue: every file loads, every method renders, and the promised ones are there."""

from __future__ import annotations

import re

import pytest

from mooring.connectors.definition import AuthMethod, Connector, Field
from mooring.connectors.monogram import monogram_svg
from mooring.connectors.registry import CATALOG, load_registry
from mooring.connectors.url_rules import authority
from mooring.protocol.template import compile_template

REGISTRY = load_registry()
METHODS = {
    "aircall": ["api_key", "oauth2"],
    "airtable": ["api_key", "oauth2"],
    "anthropic": ["api_key", "admin_key"],
    "ashby": ["api_key"],
    "auth0": ["client_credentials"],
    "autodesk": ["oauth2", "client_credentials"],
    "azure-devops": ["api_key", "oauth2"],
    "bamboohr": ["api_key", "oauth2"],
    "bitbucket": ["api_key", "oauth2", "client_credentials"],
    "bitwarden": ["client_credentials"],
    "canva": ["oauth2"],
    "checkmk": ["api_key"],
    "circleci": ["api_key"],
    "cloudflare": ["api_key"],
    "cohere": ["api_key"],
    "databricks": ["api_key", "client_credentials", "oauth2"],
    "datadog": ["api_key", "oauth2"],
    "deepseek": ["api_key"],
    "dialpad": ["oauth2"],
    "digitalocean": ["api_key", "oauth2"],
    "discord": ["api_key", "oauth2"],
    "dixa": ["api_key"],
    "domo": ["client_credentials"],
    "egnyte": ["oauth2"],
    "elastic": ["api_key"],
    "fivetran": ["api_key"],
    "gemini": ["api_key"],
    "github": ["token", "oauth2"],
    "gitlab": ["api_key", "oauth2"],
    "gmail": ["oauth2"],
    "google-chat": ["oauth2"],
    "googleworkspace": ["oauth2"],
    "grafana": ["api_key"],
    "hibob": ["service_user", "api_token", "oauth2"],
    "hubspot": ["oauth2", "private_app"],
    "huggingface": ["api_key", "oauth2"],
    "ironclad": ["oauth2", "client_credentials"],
    "jumpcloud": ["api_key"],
    "kameleoon": ["client_credentials"],
    "lever": ["oauth2", "api_key"],
    "make": ["api_key"],
    "mattermost": ["api_key"],
    "microsoft-entra-id": ["oauth2", "client_credentials"],
    "microsoft-teams": ["oauth2", "client_credentials"],
    "mistral-ai": ["api_key"],
    "mixpanel": ["service_account"],
    "netlify": ["api_key", "oauth2"],
    "new-relic": ["api_key"],
    "okta": ["api_key", "oauth2", "client_credentials"],
    "oneflow": ["api_key"],
    "onelogin": ["client_credentials"],
    "onepassword": ["api_key", "client_credentials"],
    "openai": ["api_key", "admin_key"],
    "openvpn": ["client_credentials"],
    "outlook": ["oauth2", "client_credentials"],
    "perplexity": ["api_key"],
    "pingone": ["client_credentials"],
    "postman": ["api_key"],
    "qlik": ["oauth2", "client_credentials"],
    "redmine": ["api_key", "password", "basic_key"],
    "render": ["api_key"],
    "retool": ["api_key"],
    "ringcentral": ["oauth2"],
    "rollbar": ["api_key"],
    "salesforce": ["oauth2", "client_credentials"],
    "sandbox": ["api_key", "api_key_query", "basic", "oauth2", "client_credentials", "service_user"],
    "sentry": ["api_key", "oauth2"],
    "slack": ["oauth2", "api_key"],
    "smartsheet": ["api_key", "oauth2"],
    "snowflake": ["oauth2"],
    "snyk": ["api_key"],
    "sonarcloud": ["api_key"],
    "sophos": ["client_credentials"],
    "spotdraft": ["api_key"],
    "supabase": ["api_key", "oauth2"],
    "teamtailor": ["api_key", "api_key_partner"],
    "teamviewer": ["oauth2"],
    "teamwork": ["oauth2"],
    "terraform": ["api_key"],
    "toggl": ["api_key"],
    "twilio": ["api_key"],
    "vercel": ["api_key"],
    "webex": ["oauth2"],
    "whatsapp-business": ["api_key"],
    "workday": ["oauth2", "client_credentials"],
    "workos": ["api_key"],
    "xai": ["api_key"],
    "zoom": ["oauth2", "client_credentials"],
}
EXAMPLES = {
    "subdomain": "acme",
    "hostname": "wd5-services1.myworkday.com",
    "authorization_host": "impl.workday.com",
    "tenant": "acme",
    "domain": "acme.my.salesforce.com",
    "instance_url": "https://acme--dev.sandbox.my.salesforce.com",
    "base_url": "https://redmine.example.com/tracker",
    "account_sid": "AC" + 32 * "0",
    "api_url": "https://acme.teamwork.com/",
    "data_region": "eu01",
    "okta_domain": "acme.okta.com",
    "scim_bridge_host": "scim.example.com",
    "tenant_domain": "acme.eu.auth0.com",
}
# Systems that people run themselves, whose address nobody else can know; and the sandbox.
SELF_HOSTED = {"checkmk", "gitlab", "grafana", "mattermost", "onepassword", "redmine", "retool", "sandbox"}
EVERY = [(connector, method) for connector in REGISTRY.values() for method in connector.auth.values()]
IDS = [f"{connector.key}-{method.key}" for connector, method in EVERY]


def example(field: Field) -> str:
    value = field.default or EXAMPLES.get(field.key, f"example-{field.key}")
    assert field.pattern is None or re.fullmatch(field.pattern, value), field.key
    return value


def scope_of(method: AuthMethod) -> dict[str, str]:
    scope = {f.key: example(f) for f in (*method.fields, *method.app_fields)}
    if method.oauth2:
        scope["access_token"] = "example-access-token"
        for name in (*method.oauth2.keep, *method.oauth2.callback_keep):
            scope[name] = EXAMPLES[name]
            assert re.fullmatch(method.oauth2.keep_patterns[name], scope[name])
    return scope


def test_connectors_and_methods():
    assert {key: list(connector.auth) for key, connector in REGISTRY.items()} == METHODS


@pytest.mark.parametrize(("connector", "method"), EVERY, ids=IDS)
def test_every_method_renders(connector: Connector, method: AuthMethod):
    scope = scope_of(method)
    base_url = method.base_url.render(scope)
    assert re.fullmatch(r"https://[a-z0-9.-]+(/[^?#]*)?|http://127\.0\.0\.1:8090", base_url)
    assert not base_url.endswith("/")
    sent = [t.render(scope) for t in (*method.headers.values(), *method.query.values(), *(method.basic or ()))]
    secrets = [value for key, value in scope.items() if key in method.secret_keys or key == "access_token"]
    assert any(secret in text for secret in secrets for text in sent)
    for header in connector.headers.values():
        assert header.render(scope)
    assert method.test is not None
    assert method.test.request.url.render(scope).startswith("/")
    for value in method.test.request.query.values():
        assert value.render(scope)
    if method.oauth2:
        urls = ("authorize_url", "token_url", "refresh_url", "revoke_url", "issuer")
        for url in filter(None, (getattr(method.oauth2, name) for name in urls)):
            assert authority(compile_template(url.render(scope))).problem is None
        params = (method.oauth2.authorize_params, method.oauth2.token_params, method.oauth2.token_headers)
        for template in (t for group in params for t in group.values()):
            assert template.render(scope)


@pytest.mark.parametrize(("connector", "method"), EVERY, ids=IDS)
def test_every_method_is_explained(connector: Connector, method: AuthMethod):
    assert connector.description
    assert connector.docs or connector.key == "sandbox"
    assert method.permissions or connector.key == "sandbox"
    for field in method.fields:
        assert field.label
        assert field.help or not field.secret or field.key in {"client_secret", "password", "service_user_token"}
    if method.oauth2:
        assert set(method.oauth2.scope_reasons) == set(method.oauth2.scopes)


def test_the_hosts_of_hosted_vendors_stay_theirs():
    hostile = ["evil.com", "evil.com/.my.salesforce.com", "acme.my.salesforce.com.evil.com", "x@evil.com"]
    for connector, method in EVERY:
        if connector.key in SELF_HOSTED:
            continue
        for field in (*method.fields, *method.app_fields):
            if field.pattern and field.key != "tenant":
                assert not [h for h in hostile if re.fullmatch(field.pattern, h)], (connector.key, field.key)
    keep = REGISTRY["salesforce"].auth["oauth2"].oauth2
    assert keep is not None
    for host in hostile:
        assert not re.fullmatch(keep.keep_patterns["instance_url"], f"https://{host}")


def test_what_the_contract_asks_of_single_connectors():
    partner = REGISTRY["teamtailor"].auth["api_key_partner"]
    assert partner.external_trigger
    assert not REGISTRY["teamtailor"].auth["api_key"].external_trigger
    assert next(iter(REGISTRY["hibob"].auth)) == "service_user"
    for key in ("salesforce", "workday"):
        method = REGISTRY[key].auth["client_credentials"]
        assert method.oauth2 is not None
        assert method.oauth2.grant == "client_credentials"
        assert {"client_id", "client_secret"} <= {f.key for f in method.fields}
        assert not method.app_fields
    redmine = REGISTRY["redmine"]
    assert not redmine.echo_allowed
    assert "X-Redmine-API-Key" in redmine.auth["api_key"].headers
    assert redmine.auth["api_key"].test is not None
    assert redmine.auth["api_key"].test.identity == "user.id"
    pattern = redmine.auth["api_key"].fields[0].pattern
    assert pattern is not None
    assert re.fullmatch(pattern, "http://127.0.0.1:4300")
    assert not re.fullmatch(pattern, "https://redmine.example.com/")


def test_every_method_of_the_sandbox_needs_no_address_from_the_end_user():
    for method in REGISTRY["sandbox"].auth.values():
        assert "sandbox_url" not in {f.key for f in method.fields}
        address = next(f for f in method.app_fields if f.key == "sandbox_url")
        assert (address.required, address.default) == (False, "http://127.0.0.1:8090")


@pytest.mark.parametrize("key", METHODS)
def test_logos_are_our_own_monograms(key):
    connector = REGISTRY[key]
    assert connector.logo == str(CATALOG / f"{key}.svg")
    assert (CATALOG / f"{key}.svg").read_text() == monogram_svg(key, connector.title)


def test_a_monogram_escapes_its_title():
    svg = monogram_svg("x", '<script>&"')
    assert "<script" not in svg
    assert monogram_svg("bamboohr", "BambooHR").count(">BH<") == 1
