"""A value for every field of the shipped connectors, as a person would type it."""

from __future__ import annotations

import re

from mooring.connectors.definition import AuthMethod, Field

EXAMPLES = {
    "access_url": "https://api.eu.surveymonkey.com",
    "account_id": ("1234567", "0a1b2c3d-0000-4000-8000-0123456789ab"),
    "account_name": "acme",
    "account_sid": "AC" + 32 * "0",
    "api_domain": ("https://acme.pipedrive.com", "https://www.zohoapis.com.au"),
    "api_url": ("https://us1api.jobadder.com/v2", "https://acme.teamwork.com/"),
    "authorize_url": ("https://go.zelt.app/oauth/authorize", "https://signin.example.com/authorize"),
    "authorization_host": "impl.workday.com",
    "base_url": ("https://redmine.example.com/tracker", "https://ansible.example.com"),
    "client_host": "usr57-services.dayforcehcm.com",
    "client_email": "hub@acme-project.iam.gserviceaccount.com",
    "company_id": "126786",
    "dc": "us6",
    "data_region": "eu01",
    "delegated_user": "admin@acme.com",
    "domain": "acme.my.salesforce.com",
    "enterprise_id": "123456",
    "host": ("eu.docusign.net", "us-12345.api.gong.io", "app-eu.wrike.com"),
    "hostname": ("wd5-services1.myworkday.com", "api-1a2b3c4d.duosecurity.com", "secure4.saashr.com"),
    "identity_host": "signin.ultipro.com",
    "instance_url": "https://acme--dev.sandbox.my.salesforce.com",
    "legal_entity_id": "290180",
    "munchkin_id": "123-abc-456",
    "okta_domain": "acme.okta.com",
    "org_id": ("example-org", "20061234567"),
    "organisation_id": "12345",
    "project": "acme-files",
    "realm_id": "9130347596842384",
    "recruiting_host": "recruiting.ultipro.com",
    "region": ("us", "com.au", "eu-west-1"),
    "region_host": "api.eu.mailgun.net",
    "scim_bridge_host": "scim.example.com",
    "server_host": "securityiq-eu.infosecinstitute.com",
    "server": "acme.fa.us2.oraclecloud.com",
    "service_host": "service5.ultipro.com",
    "storage_account": "acmefiles",
    "subdomain": "acme",
    "api_key": ("example-api_key", "123456789:AAexample-token"),
    "api_server": "api41preview.sapsf.com",
    "crm_region": "crm4",
    "rest_url": "https://rest9.bullhornstaffing.com/rest-services/abc123",
    "tenant": "acme",
    "header_name": "X-Example-Token",
    "tenant_domain": "acme.eu.auth0.com",
    "tenant_host": "acme.mykronos.com",
    "token_url": ("https://acme.brainier.com/oauth/token", "https://signin.example.com/token"),
    "user_id": "4212952002",
}


def fitting(key: str, pattern: str | None) -> str:
    """The example for a field that its pattern takes: one, or one of several where connectors use the same name."""
    known = EXAMPLES.get(key, f"example-{key}")
    found = [e for e in ([known] if isinstance(known, str) else known) if re.fullmatch(pattern or ".*", e)]
    assert found, key
    return found[0]


def example(field: Field) -> str:
    if field.default and not field.options:
        assert field.pattern is None or re.fullmatch(field.pattern, field.default), field.key
        return field.default
    return field.options[0][0] if field.options else fitting(field.key, field.pattern)


def scope_of(method: AuthMethod) -> dict[str, str]:
    scope = {f.key: example(f) for f in (*method.fields, *method.app_fields)}
    if method.oauth2:
        scope |= {"access_token": "example-access-token", "id_token": "example-id-token"}
        then = method.oauth2.then.keep if method.oauth2.then is not None else {}
        for name in (*method.oauth2.keep, *method.oauth2.callback_keep, *then):
            scope[name] = fitting(name, method.oauth2.keep_patterns.get(name))
    return scope
