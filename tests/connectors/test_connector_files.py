"""Loading connector files: what loads, and the place and words of every kind of fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from mooring.connectors.definition import Connector
from mooring.connectors.loader import load_file
from mooring.connectors.problem import ConnectorFileError

BEARER = """\
connector: acme
title: Acme
category: crm
base_url: https://api.acme.com
auth:
  key:
    bearer: ${api_key}
    fields: {api_key: {secret: true}}
"""
OAUTH = """\
connector: acme
title: Acme
category: crm
base_url: https://api.acme.com
auth:
  o:
    oauth2:
      authorize_url: https://acme.com/authorize
      token_url: https://acme.com/token
"""
MACHINE = OAUTH.replace("authorize_url: https://acme.com/authorize", "grant: client_credentials")
SAMPLE_A = """\
# yaml-language-server: $schema=./connector.schema.json
connector: ashby
title: Ashby
category: ats
docs: https://developers.ashbyhq.com/reference
base_url: https://api.ashbyhq.com
auth:
  api_key:
    basic: {username: "${api_key}"}
    fields:
      api_key: {secret: true, help: Admin > API Keys}
    test: list_candidates
page: {cursor: nextCursor, param: cursor, in: body, size_param: limit, items: results}
actions:
  list_candidates:   {post: /candidate.list, page: true, input: {syncToken: string}}
  get_candidate:     {post: /candidate.info, input: {id: string!}}
  search_candidates: {post: /candidate.search, input: {email: string, name: string}}
  create_candidate:  {post: /candidate.create, input: {name: string!, email: string, phoneNumber: string}}
  add_candidate_tag: {post: /candidate.addTag, input: {candidateId: string!, tagId: string!}}
"""
SAMPLE_B = """\
# yaml-language-server: $schema=./connector.schema.json
connector: hubspot
title: HubSpot
category: crm
docs: https://developers.hubspot.com/docs/api/overview
base_url: https://api.hubapi.com
limits: {rps: 10}
auth:
  oauth:
    oauth2:
      authorize_url: https://app.hubspot.com/oauth/authorize
      token_url: https://api.hubapi.com/oauth/v1/token
      scopes: [crm.objects.contacts.read, crm.objects.contacts.write]
    test: list_contacts
page: {cursor: paging.next.after, param: after, size_param: limit, size: 100, items: results}
actions:
  list_contacts:
    get: /crm/v3/objects/contacts
    page: true
    query: {properties: "firstname,lastname,email,phone"}
    unified: crm/contact
    map:
      id: id
      first_name: properties.firstname
      last_name: properties.lastname
      emails: "${[properties.email]}"
      phones: [{number: properties.phone, type: =primary}]
      updated_at: {from: updatedAt, type: datetime}
  get_contact: {get: "/crm/v3/objects/contacts/{id}", unified: crm/contact, map: list_contacts}
"""


def load(folder: Path, text: str) -> Connector:
    file = folder / "acme.yaml"
    file.write_text(text, encoding="utf-8")
    return load_file(file, True)


def faults(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConnectorFileError) as caught:
        load(folder, text)
    return str(caught.value).splitlines()


def test_sample_a_loads_unmodified(tmp_path):
    connector = load(tmp_path, SAMPLE_A)
    method = connector.auth["api_key"]
    assert (connector.key, connector.version, connector.categories) == ("ashby", "1.0.0", ("ats",))
    assert method.kind == "basic"
    assert method.basic is not None
    assert [part.render({"api_key": "k"}) for part in method.basic] == ["k", ""]
    assert method.secret_keys == {"api_key"}
    assert (method.fields[0].label, method.fields[0].type) == ("API key", "password")
    assert method.test is not None
    assert (method.test.request.method, method.test.request.url.render({})) == ("POST", "/candidate.list")
    assert method.test.request.body == {}
    assert len(connector.actions) == 5
    assert connector.page["in"] == "body"


def test_sample_b_loads_unmodified(tmp_path):
    connector = load(tmp_path, SAMPLE_B)
    method = connector.auth["oauth"]
    assert method.kind == "oauth2"
    assert method.oauth2 is not None
    assert method.oauth2.scopes == ("crm.objects.contacts.read", "crm.objects.contacts.write")
    assert [(f.key, f.secret) for f in method.app_fields] == [("client_id", False), ("client_secret", True)]
    assert method.headers["Authorization"].render({"access_token": "t"}) == "Bearer t"
    assert method.test is not None
    assert method.test.request.query["properties"].render({}) == "firstname,lastname,email,phone"
    assert connector.limits["rps"] == 10


def test_short_forms_and_aliases(tmp_path):
    connector = load(
        tmp_path,
        OAUTH.replace("category: crm", "categories: [crm, other]").replace("authorize_url", "authorization_url")
        + """\
      grant_type: authorization_code
      token_endpoint_auth_method: client_secret_post
      revocation_url: https://acme.com/revoke
      scopes: one two
      keep: {host_id: data.host}
      callback_keep: {realm: realmId}
      expires_in: 1h
      send: {query: token}
      refresh: {lifetime: 90d, idle: 12h, buffer: 60, rotates: false}
    test: {get: /me, ok: 204, fail_when: error}
    permissions: Be an admin
""",
    )
    method = connector.auth["o"]
    oauth2 = method.oauth2
    assert oauth2 is not None
    assert connector.categories == ("crm", "other")
    assert oauth2.authorize_url is not None
    assert oauth2.authorize_url.source == "https://acme.com/authorize"
    assert oauth2.revoke_url is not None
    assert (oauth2.client_auth, oauth2.scopes, oauth2.default_expires_in) == ("post", ("one", "two"), 3600)
    assert (oauth2.keep, oauth2.callback_keep) == ({"host_id": "data.host"}, {"realm": "realmId"})
    assert oauth2.pkce
    assert (oauth2.refresh.lifetime_seconds, oauth2.refresh.idle_seconds) == (90 * 86400, 12 * 3600)
    assert (oauth2.refresh.buffer_seconds, oauth2.refresh.rotates) == (60, False)
    assert method.query["token"].render({"access_token": "t"}) == "t"
    assert method.headers == {}
    assert method.test is not None
    assert (method.test.ok, method.test.fail_when) == ((204,), ("error",))
    assert method.permissions == ("Be an admin",)


def test_client_credentials_are_the_accounts_unless_listed_as_app_fields(tmp_path):
    text = OAUTH.replace("authorize_url: https://acme.com/authorize", "grant: client_credentials")
    method = load(tmp_path, text).auth["o"]
    assert ([f.key for f in method.fields], method.app_fields) == (["client_id", "client_secret"], ())
    method = load(tmp_path, text + "    app_fields: {client_id: }\n").auth["o"]
    assert (method.fields, [f.key for f in method.app_fields]) == ((), ["client_secret", "client_id"])


def test_private_key_jwt_asks_for_a_key_and_a_public_client_for_no_secret(tmp_path):
    method = load(tmp_path, OAUTH + "      client_auth: private_key_jwt\n").auth["o"]
    assert [(f.key, f.secret) for f in method.app_fields] == [("client_id", False), ("private_key", True)]
    method = load(tmp_path, OAUTH + "      client_auth: none\n").auth["o"]
    assert [f.key for f in method.app_fields] == ["client_id"]


def test_a_machine_that_signs_knows_whom_its_assertion_is_for(tmp_path):
    text = (
        MACHINE
        + "      client_auth: private_key_jwt\n      issuer: https://acme.com/${tenant}\n    fields: {tenant: }\n"
    )
    oauth2 = load(tmp_path, text).auth["o"].oauth2
    assert oauth2 is not None and oauth2.issuer is not None
    assert oauth2.issuer.render({"tenant": "t1"}) == "https://acme.com/t1"


def test_service_user_headers_and_extra_headers(tmp_path):
    service = BEARER.replace("bearer: ${api_key}", "headers: {X-Id: 7, X-Key: '${api_key}'}")
    assert {n: t.source for n, t in load(tmp_path, service).auth["key"].headers.items()} == {
        "X-Id": "7",
        "X-Key": "${api_key}",
    }
    extra = BEARER + "    headers: {X-Version: '2'}\n"
    method = load(tmp_path, extra).auth["key"]
    assert method.kind == "bearer"
    assert {n: t.source for n, t in method.headers.items()} == {
        "Authorization": "Bearer ${api_key}",
        "X-Version": "2",
    }


def test_yaml_1_2_words_numbers_and_dates_stay_text(tmp_path):
    text = (
        BEARER + "headers: {A: no, B: on, C: 12:30, D: 2024-01-01, E: 007, F: 1_000, G: 0x10, H: true, I: 20240404}\n"
    )
    headers = load(tmp_path, text).headers
    assert [t.source for t in headers.values()] == [
        *("no", "on", "12:30", "2024-01-01", "007", "1_000", "0x10", "true", "20240404"),
    ]


@pytest.mark.parametrize("pattern", [r"(?:a|b)+", r"(?=x)(?!y)(?<=x)(?<!y)z", r"a*\.+", r"[*]+[+]+[(?P]+", r"\d{2}[+]"])
def test_patterns_that_browsers_know_too(tmp_path, pattern):
    loaded = load(tmp_path, BEARER.replace("secret: true", f"secret: true, pattern: '{pattern}'"))
    assert loaded.auth["key"].fields[0].pattern == pattern


def test_select_options_become_the_pattern(tmp_path):
    text = BEARER.replace("https://api.", "https://${region}.").replace(
        "{api_key:", "{region: {options: [eu, us.west]}, api_key:"
    )
    field = load(tmp_path, text).auth["key"].fields[0]
    assert (field.type, field.options) == ("select", (("eu", "eu"), ("us.west", "us.west")))
    assert field.pattern == r"eu|us\.west"


def test_logo_and_guide_beside_the_file(tmp_path):
    (tmp_path / "acme.svg").write_text("<svg/>")
    (tmp_path / "acme.md").write_text("# How to\n")
    connector = load(tmp_path, BEARER)
    assert connector.logo == str(tmp_path / "acme.svg")
    assert connector.guide == "# How to\n"


FAULTS = [
    # structure
    ("a: [", "2:1: not YAML"),
    ("", "1:1: a connector file is a mapping"),
    ("- a", "1:1: a connector file is a mapping"),
    ("a: !!python/object:os.system x", "1:4: the tag"),
    (BEARER + "title: Again\n", "9:1: the key `title` is given twice; the first stands in line 2"),
    (BEARER.replace("title: Acme\n", ""), "1:1: `title` is missing"),
    (BEARER.replace("title", "tilte"), "2:1: unknown key `tilte`; did you mean `title`?"),
    (BEARER.replace("base_url", "baseUrl"), "4:1: unknown key `baseUrl`; did you mean `base_url`?"),
    (BEARER.replace("secret: true", "secert: true"), "8:24: unknown key `secert`; did you mean `secret`?"),
    (BEARER.replace("secret: true", "secret: yes"), "8:32: must be true or false"),
    (BEARER + "    test: {get: /x, querry: {}}\n", "9:21: unknown key `querry`; did you mean `query`?"),
    (OAUTH + "      refresh: {rotate: true}\n", "10:17: unknown key `rotate`; did you mean `rotates`?"),
    (OAUTH + "      authorization_url: https://a.com\n", "10:7: `authorization_url` says the same as another key"),
    (BEARER + "limits: {rsp: 3}\n", "9:10: unknown key `rsp`; did you mean `rps`?"),
    (BEARER + "version: 1.0\n", "9:10: must be text; put quotes around it"),
    (BEARER + "headers: {A: 1.50}\n", "9:14: put quotes around this number"),
    (BEARER + "openapi: {}\n", "9:1: `openapi` is not supported yet"),
    (BEARER.replace("bearer", "sign"), "7:11: must be a mapping of keys"),
    (BEARER.replace("bearer: ${api_key}", "sign: {oauth1: {consumer_key: a}}"), "7:12: `consumer_secret` is missing"),
    (BEARER.replace("bearer", "python"), "7:5: `python` is not supported yet"),
    # names
    (BEARER.replace("connector: acme", "connector: ac_me"), "1:12: a connector key has no underscore"),
    (BEARER.replace("connector: acme", "connector: Acme"), "1:12: a connector key is made of"),
    (BEARER.replace("crm", "crmm"), "3:11: must be 'ats', "),
    (BEARER.replace("{api_key: {secret: true}}", "{token: {secret: true}}"), "8:14: `token` is taken"),
    (BEARER.replace("{api_key: {secret: true}}", "{a-b: {secret: true}}"), "8:14: a field key is made of"),
    (BEARER + "version: '1'\n", "9:10: "),
    # auth
    (BEARER.replace("    bearer", "    basic: {username: a}\n    bearer"), "7:5: an auth method has exactly one of"),
    (BEARER.replace("    bearer: ${api_key}\n", ""), "7:5: an auth method has exactly one of"),
    (BEARER.replace("base_url: https://api.acme.com\n", ""), "5:3: there is no `base_url`"),
    (BEARER.replace("{secret: true}", ""), "7:13: nothing in this credential is secret; set `secret: true` on"),
    (BEARER + "    headers: {authorization: x}\n", "9:15: the header `authorization` is given twice"),
    (BEARER + "    headers: {Host: x}\n", "9:15: the header `Host` is not a connector's to set"),
    (BEARER + "    headers: {'X Y': x}\n", "9:15: `X Y` is not a header name"),
    (BEARER + "    app_fields: {api_key: }\n", "9:18: `api_key` is already one of the account's `fields`"),
    (BEARER + "    test: lst\nactions: {list: {get: /x}}\n", "9:11: `test` names the action `lst`"),
    (BEARER + "    test: one\nactions: {one: {get: '/x/{id}'}}\n", "9:11: the action `one` needs input"),
    (BEARER + "    test: one\nactions: {one: {get: /x, input: {q: string!}}}\n", "9:11: the action `one` needs input"),
    (BEARER + "    test: {get: me}\n", "9:17: a path begins with one `/`"),
    (BEARER + "    test: {get: //evil.com}\n", "9:17: a path begins with one `/`"),
    (BEARER + "    test: {ok: 200}\n", "9:11: a test has exactly one of"),
    # fields
    (BEARER.replace("secret: true", "secret: true, default: x"), "8:47: a secret has no default"),
    (BEARER.replace("secret: true", "secret: true, pattern: '['"), "8:47: not a regular expression"),
    (BEARER.replace("secret: true", "secret: true, pattern: '(?i)[a-z]+'"), "8:47: browsers do not know `(?`"),
    (BEARER.replace("secret: true", "secret: true, pattern: '(?P<n>a)'"), "8:47: browsers do not know `(?`"),
    (BEARER.replace("secret: true", "secret: true, pattern: 'a\\Z'"), "8:47: browsers do not know `\\Z`"),
    (BEARER.replace("secret: true", "secret: true, pattern: 'a*+b'"), "8:47: browsers do not know `*+`"),
    (BEARER.replace("secret: true", "type: password"), "8:14: a field of type password is secret"),
    (BEARER.replace("secret: true", "secret: true, type: select"), "8:14: `options` and `type: select` belong"),
    (BEARER.replace("{api_key:", "{r: {options: [a], default: b}, api_key:"), "8:41: the default does not match"),
    # references
    (BEARER.replace("${api_key}", "${api_kye}"), "7:13: `${api_kye}` is not known here; did you mean `api_key`?"),
    (BEARER.replace("${api_key}", "${api_key"), "7:13: `${` is not closed (at character 1)"),
    (BEARER.replace("${api_key}", "x${api_key}${account.id}"), "7:13: `${account}` is not known here; the account"),
    (BEARER.replace("${api_key}", "${access_token}"), "7:13: `${access_token}` is not known here; there is an"),
    (BEARER + "    test: {post: /x, body: {a: ['${no}']}}\n", "9:33: `${no}` is not known here"),
    (BEARER + "headers: {X: '${zzz}'}\n", "9:14: `${zzz}` is not known in auth.key"),
    (OAUTH.replace("/token", "/${access_token}"), "9:18: `${access_token}` is not known here"),
    (OAUTH.replace("/authorize", "/${client_secret}"), "8:22: `client_secret` is secret, and this URL is seen"),
    (OAUTH + "      authorize_params: {a: '${client_secret}'}\n", "10:29: `client_secret` is secret"),
    (OAUTH + "      authorize_params: {state: x}\n", "10:26: `state` is set by the engine"),
    (OAUTH + "      keep: {client_id: x}\n", "10:14: `client_id` is already a field"),
    (OAUTH + "      iss_required: true\n", "10:21: `iss_required` needs an `issuer`"),
    (OAUTH.replace("      authorize_url: https://acme.com/authorize\n", ""), "7:5: `authorize_url` is missing"),
    (OAUTH + "      grant: client_credentials\n", "8:7: `authorize_url` has no meaning"),
    (MACHINE + "      issuer: https://acme.com\n", "10:7: `issuer` has no meaning without a consent page"),
    (
        f"{MACHINE}      issuer: https://acme.com\n      client_auth: private_key_jwt\n      iss_required: true\n",
        "12:7: `iss_required` has no meaning without a consent page",
    ),
    (OAUTH + "      expires_in: soon\n", "10:19: a duration is a number of seconds"),
    # actions
    (BEARER + "actions: {a: {get: /x, post: /y}}\n", "9:14: an action has exactly one of"),
    (BEARER + "actions: {a: {get: /x, input: {i: strng}}}\n", "9:35: an input is string, integer"),
    (BEARER + "actions: {a: {get: /x, page: true}}\n", "9:30: `page: true` needs a `page:` at the top"),
    (BEARER + "actions: {a: {get: /x, map: b}}\n", "9:29: `map` names the action `b`"),
    (BEARER + "actions: {a: {get: /x, query: {q: '${foo}'}}}\n", "9:35: `${foo}` is not known in an action"),
    (BEARER + "actions: {a: {get: /x, map: {q: '${foo +}'}}}\n", "9:33: the expression ends too early"),
    (BEARER + "actions: {a: {steps: [{call: b}]}}\n", "9:30: the action `b` does not exist"),
    (BEARER + "page: {cursor: a, link: b}\n", "9:7: one paging style"),
    (BEARER + "errors: {404: notfound}\n", "9:9: must be 'not_found', "),
]  # fmt: skip


JWT = (
    BEARER.replace("bearer: ${api_key}", "oauth2: {grant: jwt_bearer, token_url: 'https://a.example/t', NAME}")
    .replace("NAME", "client_auth: none, assertion: {issuer: me}")
    .replace("fields: {api_key: {secret: true}}", "fields: {api_key: {secret: true}, who: {}}")
)
FAULTS += [
    (
        JWT.replace(", assertion: {issuer: me}", ""),
        "7:5: `grant: jwt_bearer` or `saml_bearer` and `assertion` belong together",
    ),
    (
        JWT.replace("grant: jwt_bearer, ", "grant: client_credentials, "),
        "7:5: `grant: jwt_bearer` or `saml_bearer` and `assertion`",
    ),
    (JWT.replace("{issuer: me}", "{issuer: me, claims: {iss: x}}"), "7:"),
    (JWT.replace("{issuer: me}", "{issuer: me, claims: {a: '${api_key}'}}"), "7:"),
    (JWT.replace("{issuer: me}", "{issuer: me, algorithm: none}"), "7:"),
    (JWT.replace("grant: jwt_bearer", "grant: session"), "7:"),
]
LOGIN = BEARER.replace("bearer: ${api_key}", "session: {post: /login, body: {key: '${api_key}'}}")
FAULTS += [
    (LOGIN.replace("post: /login, ", ""), "7:14: a session has exactly one of"),
    (LOGIN.replace("post: /login", "post: 'https://${api_key}.acme.com/x'"), "7:"),
    (LOGIN.replace("'${api_key}'", "'${access_token}'"), "7:41: `${access_token}` is not known here"),
    (LOGIN.replace("'${api_key}'", "plain"), "7:5: nothing that this login sends is secret"),
    (
        LOGIN.replace("}}\n    fields", "}, form: {a: b}}\n    fields"),
        "7:14: a session sends `body` (JSON) or `form`, not both",
    ),
    (LOGIN.replace("body:", "keep: {site: s}, body:").replace("https://api", "https://${site}"), "4:"),
]


@pytest.mark.parametrize(("text", "expected"), FAULTS)
def test_faults_are_placed_and_explained(tmp_path, text, expected):
    lines = faults(tmp_path, text)
    assert any(line.startswith(f"acme.yaml:{expected}") for line in lines), lines


def test_all_faults_are_listed_in_order(tmp_path):
    lines = faults(tmp_path, BEARER.replace("title", "tilte").replace("secret: true", "secret: yes"))
    assert [line.split(": ")[0] for line in lines] == ["acme.yaml:1:1", "acme.yaml:2:1", "acme.yaml:8:32"]


def test_a_file_that_grows_through_aliases_is_refused(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 7)]
    assert "too large" in faults(tmp_path, "\n".join(lines))[0]


def test_a_missing_or_binary_file_is_one_line(tmp_path):
    with pytest.raises(ConnectorFileError, match="cannot be read"):
        load_file(tmp_path / "none.yaml", True)
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConnectorFileError, match="not UTF-8"):
        load_file(tmp_path / "b.yaml", True)
