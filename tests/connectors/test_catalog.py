"""The shipped catalogue: every file loads, every method renders, and the promised ones are there."""

from __future__ import annotations

import base64
import json
import re

import pytest

from mooring.connectors.apply import render_tree
from mooring.connectors.definition import AuthMethod, Connector
from mooring.connectors.monogram import monogram_svg
from mooring.connectors.registry import CATALOG, load_registry
from mooring.connectors.url_rules import authority
from mooring.protocol.template import compile_template
from tests.connectors.examples import scope_of

REGISTRY = load_registry()
METHODS = {
    "absorb-lms": ["session"],
    "activecampaign": ["api_key"],
    "acuity": ["api_key", "oauth2"],
    "adp-run": ["client_credentials"],
    "adpworkforcenow": ["client_credentials"],
    "affinity": ["basic"],
    "aircall": ["api_key", "oauth2"],
    "airship": ["basic"],
    "airtable": ["api_key", "oauth2"],
    "ansibletower": ["api_key", "oauth2"],
    "anthropic": ["api_key", "admin_key"],
    "apollo": ["api_key"],
    "articulate": ["api_key"],
    "asana": ["api_key", "oauth2"],
    "ashby": ["api_key"],
    "attio": ["api_key", "oauth2"],
    "auth0": ["client_credentials"],
    "autodesk": ["oauth2", "client_credentials"],
    "aws-s3": ["access_key"],
    "azure-blob-storage": ["oauth2", "client_credentials"],
    "azure-devops": ["api_key", "oauth2"],
    "bamboohr": ["api_key", "oauth2"],
    "basecamp": ["oauth2"],
    "bill": ["session"],
    "bitbucket": ["api_key", "oauth2", "client_credentials"],
    "bitwarden": ["client_credentials"],
    "box": ["oauth2", "client_credentials"],
    "brainier": ["client_credentials"],
    "braze": ["api_key"],
    "breathehr": ["api_key"],
    "breezyhr": ["api_key", "login"],
    "brevo": ["api_key"],
    "brex": ["api_key", "oauth2"],
    "bullhorn": ["oauth2"],
    "bullhorn-salesforce": ["client_credentials"],
    "cal-com": ["api_key", "oauth2"],
    "calendly": ["api_key", "oauth2"],
    "canva": ["oauth2"],
    "canvas-lms": ["oauth2"],
    "capsule-crm": ["api_key", "oauth2"],
    "cascadehr": ["client_credentials"],
    "certn": ["api_key"],
    "cezannehr": ["oauth2"],
    "chargebee": ["api_key"],
    "charliehr": ["api_key"],
    "checkmk": ["api_key"],
    "checkr": ["oauth2"],
    "circleci": ["api_key"],
    "clickup": ["api_key", "oauth2"],
    "close": ["basic", "oauth2"],
    "cloudflare": ["api_key"],
    "cloudways": ["session"],
    "coda": ["api_key"],
    "coderpad": ["api_key"],
    "codility": ["api_key"],
    "cohere": ["api_key"],
    "confluence": ["api_token"],
    "constant-contact": ["oauth2"],
    "contentful": ["api_key", "oauth2"],
    "copper": ["api_key", "oauth2"],
    "cornerstone": ["client_credentials"],
    "coursera": ["client_credentials"],
    "cultureamp": ["client_credentials"],
    "customerio": ["api_key"],
    "databricks": ["api_key", "client_credentials", "oauth2"],
    "datadog": ["api_key", "oauth2"],
    "dayforce": ["session"],
    "deel": ["oauth2"],
    "deepseek": ["api_key"],
    "dialpad": ["oauth2"],
    "digitalocean": ["api_key", "oauth2"],
    "discord": ["api_key", "oauth2"],
    "dixa": ["api_key"],
    "docebo": ["oauth2", "client_credentials"],
    "docusign": ["oauth2"],
    "domo": ["client_credentials"],
    "dropbox": ["oauth2"],
    "dropboxsign": ["basic"],
    "duo": ["admin_api"],
    "dynamics365": ["oauth2", "client_credentials"],
    "egnyte": ["oauth2"],
    "elastic": ["api_key"],
    "employmenthero": ["oauth2"],
    "envoy": ["api_key", "oauth2"],
    "eploy": ["client_credentials"],
    "expensify": ["partner"],
    "factorialhr": ["api_key", "oauth2"],
    "fifteenfive": ["api_key"],
    "figma": ["api_key", "oauth2"],
    "fivetran": ["api_key"],
    "fourth": ["basic"],
    "freeagent": ["oauth2"],
    "freshbooks": ["oauth2"],
    "freshdesk": ["api_key"],
    "freshsales": ["api_key"],
    "freshservice": ["basic"],
    "freshteam": ["api_key"],
    "front": ["api_key", "oauth2"],
    "gem": ["api_key", "partner"],
    "gemini": ["api_key"],
    "github": ["token", "oauth2"],
    "gitlab": ["api_key", "oauth2"],
    "gmail": ["oauth2", "service_account"],
    "go1": ["client_credentials"],
    "gong": ["basic"],
    "google-chat": ["oauth2"],
    "google-cloud-storage": ["oauth2", "service_account"],
    "googlecalendar": ["oauth2", "service_account"],
    "googledrive": ["oauth2"],
    "googleworkspace": ["oauth2", "service_account"],
    "gorgias": ["basic", "oauth2"],
    "grafana": ["api_key"],
    "greenhouse": ["client_credentials", "oauth2"],
    "guru": ["basic"],
    "gusto": ["oauth2"],
    "hackerrank-work": ["api_key", "bearer"],
    "haileyhr": ["api_key"],
    "harvest": ["api_key", "oauth2"],
    "helpscout": ["oauth2", "client_credentials"],
    "hibob": ["service_user", "api_token", "oauth2"],
    "highlevel": ["oauth2", "api_key"],
    "hr-partner": ["api_key"],
    "hrcloud": ["api_key"],
    "hubspot": ["oauth2", "private_app"],
    "huggingface": ["api_key", "oauth2"],
    "humaans": ["api_key"],
    "incident-io": ["api_key"],
    "infosec": ["api_key"],
    "insightly": ["basic"],
    "intercom": ["api_key", "oauth2"],
    "ironclad": ["oauth2", "client_credentials"],
    "iterable": ["api_key"],
    "jazzhr": ["api_key"],
    "jira": ["api_token"],
    "jobadder": ["oauth2"],
    "jobvite": ["api_key"],
    "jumpcloud": ["api_key"],
    "justworks": ["oauth2"],
    "kameleoon": ["client_credentials"],
    "keap": ["oauth2"],
    "klaviyo": ["api_key", "oauth2"],
    "knowbe4": ["api_key"],
    "kustomer": ["api_key"],
    "lacework": ["session"],
    "lastpass": ["provisioning"],
    "lattice": ["api_key", "oauth2"],
    "leapsome": ["session"],
    "learning360": ["client_credentials"],
    "lever": ["oauth2", "api_key"],
    "linear": ["api_key", "oauth2"],
    "linkedin": ["oauth2"],
    "linkedinlearning": ["client_credentials"],
    "logicmelon": ["api_key"],
    "mailchimp": ["basic", "oauth2"],
    "mailerlite": ["api_key"],
    "mailgun": ["basic"],
    "make": ["api_key"],
    "manatal": ["api_key"],
    "marketo": ["client_credentials"],
    "mattermost": ["api_key"],
    "meistertask": ["api_key", "oauth2"],
    "mercury": ["api_key"],
    "microsoft-entra-id": ["oauth2", "client_credentials"],
    "microsoft-teams": ["oauth2", "client_credentials"],
    "miro": ["oauth2"],
    "mistral-ai": ["api_key"],
    "mixpanel": ["service_account"],
    "moengage": ["basic"],
    "monday": ["api_key", "oauth2"],
    "moodle": ["api_key"],
    "namely": ["api_key", "oauth2"],
    "netlify": ["api_key", "oauth2"],
    "netsuite": ["token", "oauth2"],
    "new-relic": ["api_key"],
    "notion": ["api_key", "oauth2"],
    "okta": ["api_key", "oauth2", "client_credentials"],
    "oncehub": ["api_key"],
    "onedrive": ["oauth2"],
    "oneflow": ["api_key"],
    "onelogin": ["client_credentials"],
    "onepassword": ["api_key", "client_credentials"],
    "openai": ["api_key", "admin_key"],
    "openvpn": ["client_credentials"],
    "oraclehcm": ["service_user"],
    "outlook": ["oauth2", "client_credentials"],
    "outreach": ["oauth2"],
    "oysterhr": ["oauth2", "client_credentials"],
    "pagerduty": ["api_key", "oauth2"],
    "pandadoc": ["api_key", "oauth2"],
    "paychex": ["client_credentials"],
    "paycor": ["oauth2"],
    "payfit": ["api_key", "oauth2"],
    "paylocity": ["weblink", "nextgen"],
    "paypal": ["client_credentials"],
    "pendo": ["api_key"],
    "peoplefluent": ["service_user"],
    "perplexity": ["api_key"],
    "personio": ["client_credentials", "v1"],
    "pingone": ["client_credentials"],
    "pinpoint": ["api_key"],
    "pipedrive": ["api_key", "oauth2"],
    "postman": ["api_key"],
    "qlik": ["oauth2", "client_credentials"],
    "quickbooks": ["oauth2"],
    "ramp": ["oauth2", "client_credentials"],
    "recruitcrm": ["api_key"],
    "recruitee": ["api_key"],
    "recruiterflow": ["api_key"],
    "redmine": ["api_key", "password", "basic_key"],
    "remote": ["api_key", "oauth2"],
    "render": ["api_key"],
    "retool": ["api_key"],
    "ringcentral": ["oauth2"],
    "rippling": ["api_key"],
    "rollbar": ["api_key"],
    "sage": ["api_key"],
    "sage-accounting": ["oauth2"],
    "sage-intacct": ["oauth2", "client_credentials"],
    "sagepeople": ["oauth2"],
    "salesforce": ["oauth2", "client_credentials", "jwt"],
    "salesloft": ["api_key", "oauth2"],
    "sandbox": ["api_key", "api_key_query", "basic", "oauth2", "client_credentials", "service_user"],
    "sap-concur": ["client_credentials"],
    "sapsuccessfactors": ["saml"],
    "scaleway": ["api_key"],
    "scoro": ["api_key"],
    "sendgrid": ["api_key"],
    "sentry": ["api_key", "oauth2"],
    "servicenow": ["basic", "oauth2", "client_credentials"],
    "sfmc": ["client_credentials"],
    "sharepoint": ["oauth2", "client_credentials"],
    "shortcut": ["api_key"],
    "simployer": ["api_key"],
    "slack": ["oauth2", "api_key"],
    "smartrecruiters": ["api_key", "client_credentials", "oauth2"],
    "smartsheet": ["api_key", "oauth2"],
    "snowflake": ["oauth2"],
    "snyk": ["api_key"],
    "sonarcloud": ["api_key"],
    "sophos": ["client_credentials"],
    "spendesk": ["oauth2"],
    "spotdraft": ["api_key"],
    "square": ["api_key", "oauth2"],
    "staffologyhr": ["service_user"],
    "stripe": ["api_key"],
    "supabase": ["api_key", "oauth2"],
    "surveymonkey": ["api_key", "oauth2"],
    "tableau": ["session"],
    "talenthr": ["api_key"],
    "talentlms": ["api_key"],
    "teamleader": ["oauth2"],
    "teamtailor": ["api_key", "api_key_partner"],
    "teamviewer": ["oauth2"],
    "teamwork": ["oauth2"],
    "telegram": ["api_key"],
    "terraform": ["api_key"],
    "todoist": ["api_key", "oauth2"],
    "toggl": ["api_key"],
    "trakstar-hire": ["api_key"],
    "trello": ["api_key"],
    "twilio": ["api_key"],
    "typeform": ["api_key", "oauth2"],
    "udemy": ["basic"],
    "ukgpro": ["service_user", "recruiting"],
    "ukgprowfm": ["oauth2"],
    "ukgready": ["client_credentials"],
    "vercel": ["api_key"],
    "veremark": ["api_key"],
    "vincere": ["oauth2"],
    "wave": ["oauth2"],
    "webex": ["oauth2"],
    "webflow": ["api_key", "oauth2"],
    "whatsapp-business": ["api_key"],
    "workable": ["api_key", "oauth2"],
    "workday": ["oauth2", "client_credentials"],
    "workos": ["api_key"],
    "wrike": ["api_key", "oauth2"],
    "xai": ["api_key"],
    "xero": ["custom_connection"],
    "xyleme": ["session"],
    "zelt": ["oauth2"],
    "zendesk": ["api_token", "oauth2"],
    "zendesk-sell": ["oauth2"],
    "zenefits": ["oauth2"],
    "zinc": ["api_key"],
    "zohobooks": ["oauth2"],
    "zohocrm": ["oauth2"],
    "zohodesk": ["oauth2"],
    "zoom": ["oauth2", "client_credentials"],
}
# Systems that people run themselves, whose address nobody else can know; and the sandbox.
SELF_HOSTED = {
    "cezannehr",  # the operator gives the two endpoints, which are published nowhere
    "staffologyhr",  # and the host, likewise

    "canvas-lms", "checkmk", "gitlab", "grafana", "mattermost", "onepassword", "redmine", "retool", "sandbox", "tableau",
    "ansibletower", "moodle",
}  # fmt: skip
EVERY = [(connector, method) for connector in REGISTRY.values() for method in connector.auth.values()]
IDS = [f"{connector.key}-{method.key}" for connector, method in EVERY]


def test_connectors_and_methods():
    assert {key: list(connector.auth) for key, connector in REGISTRY.items()} == METHODS


@pytest.mark.parametrize(("connector", "method"), EVERY, ids=IDS)
def test_every_method_renders(connector: Connector, method: AuthMethod):
    scope = scope_of(method)
    base_url = method.base_url.render(scope)
    assert re.fullmatch(r"https://[a-z0-9.-]+(/[^?#]*)?|http://127\.0\.0\.1:8090", base_url)
    assert not base_url.endswith("/")
    sent = [t.render(scope) for t in (*method.headers.values(), *method.query.values(), *(method.basic or ()))]
    sent += [t.render(scope) for t in (method.signature.values.values() if method.signature else ())]
    sent += [base_url, json.dumps(render_tree(method.body.values, scope)) if method.body else ""]
    login = (
        set(method.oauth2.then.keep) - set(method.oauth2.keep_patterns)
        if method.oauth2 and method.oauth2.then
        else set()
    )
    hidden = method.secret_keys | {"access_token", "id_token"} | login
    secrets = [value for key, value in scope.items() if key in hidden]
    secrets += [base64.b64encode(f"{secret}:".encode()).decode() for secret in secrets]  # a token as Basic user name
    assert any(secret in text for secret in secrets for text in sent)
    for header in connector.headers.values():
        assert header.render(scope)
    if method.test is None:
        assert method.oauth2 is not None and method.oauth2.machine  # proven by its token
    else:
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
            if field.pattern and field.key not in {"tenant", "delegated_user", "test_path"}:  # of these none is a host
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


def test_the_most_used_have_actions_with_a_test_beside_each():
    # The sandbox itself tests its own, over sockets.
    having = {key: connector for key, connector in REGISTRY.items() if connector.actions and key != "sandbox"}
    categories = {category for connector in having.values() for category in connector.categories}
    assert len(having) >= 25 and len(categories) >= 10
    for key, connector in having.items():
        shown = [action for action in connector.actions.values() if not action.internal]
        assert len(shown) >= 8, key
        assert all(action.tests for action in shown), key
        if key != "greenhouse":  # what Harvest v3 writes is not confirmed
            assert {action.reads for action in shown} == {True, False}, f"{key} reads or writes only"


def test_drafts_are_few_and_say_so():
    drafts = [connector for connector in REGISTRY.values() if connector.stage == "draft"]
    assert {"iterable", "moodle", "lastpass"} <= {connector.key for connector in drafts} and len(drafts) == 23
    assert all("This connector is a draft" in (connector.guide or "") for connector in drafts)
