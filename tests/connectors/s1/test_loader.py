"""Reading `.s1.yaml` files: the spellings of `$ref`, what is refused, and that nothing makes the loader fail otherwise."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from mooring.connectors.definition import UnrunnableAction
from mooring.connectors.problem import ConnectorFileError
from mooring.connectors.registry import load_registry
from mooring.connectors.s1.loader import load_s1
from tests.connectors.s1.samples import FILES, place_samples

HEAD = """\
StackOne: 1.0.0
info: {title: Acme, key: acme, version: 1.0.0, description: d}
baseUrl: https://api.acme.com
authentication:
  - key:
      type: custom
      label: Key
      authorization: {type: bearer, token: $.credentials.apiKey}
      configFields: [{key: apiKey, label: Key, type: password, required: true, secret: true}]
"""
ONE = "- actionId: one\n  label: One\n  steps: []\n"
TWO = "- actionId: two\n  label: Two\n  steps: []\n"


def write(folder: Path, tail: str = "", **partials: str) -> Path:
    for name, text in partials.items():
        (folder / f"{name.replace('__', '.')}.s1.partial.yaml").write_text(text, encoding="utf-8")
    main = folder / "acme.connector.s1.yaml"
    main.write_text(HEAD + tail, encoding="utf-8")
    return main


def faults(path: Path, *, strict: bool = False) -> str:
    with pytest.raises(ConnectorFileError) as caught:
        load_s1(path, strict=strict)
    return str(caught.value)


SPELLINGS = {
    "repeated keys": "actions:\n  $ref: a\n  $ref: b.c\n",
    "quoted keys": "actions:\n  '$ref': \"a\"\n  '$ref': 'b.c'  # both\n",
    "a list": "actions:\n  - $ref: a\n  - $ref: b.c\n",
    "a list without indentation": "actions:\n- $ref: a\n- $ref: b.c\n",
    "at the top": "$ref: a\n$ref: b.c\n",
    "inline": "actions:\n" + ONE + TWO,
    "mixed": "actions:\n" + ONE + "- $ref: b.c\n",
}


@pytest.mark.parametrize("tail", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "wrapped"])
def test_every_spelling_of_a_reference(tmp_path, tail, wrapped):
    def partial(text: str) -> str:
        return "actions:\n" + text if wrapped else text

    connector = load_s1(write(tmp_path, tail, a=partial(ONE), b__c=partial(TWO)), strict=True).connector
    assert list(connector.actions) == ["one", "two"]


def test_a_reference_in_a_text_is_text(tmp_path):
    tail = "actions:\n- actionId: one\n  description: |\n    $ref: nothing\n  steps: []\n"
    assert list(load_s1(write(tmp_path, tail), strict=True).connector.actions) == ["one"]


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "..", ".hidden", "a\\b", "''"])
def test_a_reference_stays_in_its_folder(tmp_path, name):
    assert "acme.connector.s1.yaml:11:3: `$ref` names a partial file" in faults(
        write(tmp_path, f"actions:\n  $ref: {name}\n")
    )


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x.yaml").write_text(ONE)
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "a.s1.partial.yaml").symlink_to(tmp_path / "outside" / "x.yaml")
    assert ":10:1: a.s1.partial.yaml is a link that leaves" in faults(write(inner, "$ref: a\n"))


def test_a_cycle_is_refused_with_its_place(tmp_path):
    main = write(tmp_path, "$ref: a\n", a="# first\n$ref: b\n", b="$ref: a\n")
    assert "b.s1.partial.yaml:1:1: `$ref: a` leads back to itself" in faults(main)


def test_a_missing_partial_is_a_warning_or_a_fault(tmp_path):
    main = write(tmp_path, "actions:\n  $ref: a\n")
    loaded = load_s1(main)
    assert [str(w) for w in loaded.warnings] == [f"{main}:11:3: there is no file a.s1.partial.yaml beside this one"]
    assert "there is no file" in faults(main, strict=True)


def test_warnings_have_the_place_in_the_partial(tmp_path):
    text = "# one\n" + ONE + TWO.replace("[]", "[{condition: '{{a.trim()}}'}]")
    loaded = load_s1(write(tmp_path, "$ref: a\n", a=text))
    assert f"{tmp_path / 'a.s1.partial.yaml'}:7:23: methods do not exist; `.trim()` is understood" in [
        str(w) for w in loaded.warnings
    ]


def test_actions_are_marked_with_the_reason_why_they_do_not_run(tmp_path):
    action = load_s1(write(tmp_path, "$ref: a\n", a=ONE)).connector.actions["one"]
    assert isinstance(action, UnrunnableAction)
    assert action.label == "One" and action.reason == "it has no steps"


def test_a_field_that_decides_the_host_is_limited(tmp_path):
    main = write(tmp_path)
    text = main.read_text().replace("https://api.acme.com", "https://${credentials.sub}.acme.com")
    text = text.replace("configFields: [", "configFields: [{key: sub, label: S, type: text, required: true}, ")
    main.write_text(text)
    loaded = load_s1(main)
    field = next(f for f in loaded.connector.auth["key"].fields if f.key == "sub")
    assert field.pattern == "[A-Za-z0-9.-]+"
    assert any("`sub` decides a host" in str(w) for w in loaded.warnings)


def test_a_client_secret_does_not_go_where_an_end_user_says(tmp_path):
    main = tmp_path / "x.connector.s1.yaml"
    main.write_text("""\
info: {title: X, key: x}
baseUrl: https://api.x.com
authentication:
  - oauth2:
      type: oauth2
      authorization:
        type: oauth2
        authorizationUrl: https://x.com/authorize
        tokenUrl: https://${credentials.host}/token
        token: $.credentials.accessToken
      configFields: [{key: host, label: Host, type: text, required: true}]
      setupFields:
        - {key: clientId, label: Client ID, type: text, required: true}
        - {key: clientSecret, label: Secret, type: password, required: true, secret: true}
""")
    loaded = load_s1(main)
    method = loaded.connector.auth["oauth2"]
    assert not method.fields
    assert {f.key for f in method.app_fields} == {"client_id", "client_secret", "host"}
    assert any("the operator is asked for it" in str(w) for w in loaded.warnings)


def test_a_credential_without_a_field_is_asked_for(tmp_path):
    """Connectors whose refresh action finds out such a value name it nowhere else."""
    main = write(tmp_path)
    choice = "{{$.context.authenticationType == 'oauth2' ? 'https://a.com/' + $.credentials.cloud : 'https://b.com'}}"
    main.write_text(
        main.read_text().replace("https://api.acme.com", f'"{choice}"').replace("type: custom", "type: oauth2")
    )
    loaded = load_s1(main)
    method = loaded.connector.auth["key"]
    assert method.base_url.source == "https://a.com/${cloud}"
    assert [f.key for f in method.fields] == ["apiKey", "cloud"]
    assert any(":3:10: `cloud` is no field of this method" in str(w) for w in loaded.warnings)
    main.write_text(main.read_text().replace("type: oauth2", "type: custom"))
    assert load_s1(main, strict=True).connector.auth["key"].base_url.source == "https://b.com"


STRICT = [
    ("authorization: {type: bearer", "authorization: {type: apiKey, key: X-K, value: $.credentials.apiKey", "apiKey"),
    ("baseUrl:", "baseURL: https://x\nbaseUrl:", "there is no key `baseURL`"),
    ("type: password", "type: pin", "no field type `pin`"),
]


@pytest.mark.parametrize(("old", "new", "problem"), STRICT, ids=[row[2] for row in STRICT])
def test_a_leniency_is_a_warning_or_a_fault(tmp_path, old, new, problem):
    main = write(tmp_path)
    main.write_text(main.read_text().replace(old, new))
    assert any(problem in str(w) for w in load_s1(main).warnings)
    assert problem in faults(main, strict=True)


def test_the_folder_names_a_connector_that_a_shipped_key_would_stop(tmp_path):
    (tmp_path / "my-hubspot").mkdir()
    file = tmp_path / "my-hubspot" / "hubspot.connector.s1.yaml"
    file.write_text(HEAD.replace("key: acme", "key: hubspot"))
    registry = load_registry(tmp_path)
    assert not registry["my-hubspot"].builtin
    assert registry["hubspot"].builtin


def test_a_shipped_key_can_not_be_taken(tmp_path):
    (tmp_path / "mine.connector.s1.yaml").write_text(HEAD.replace("key: acme", "key: hubspot"))
    with pytest.raises(ConnectorFileError, match="the key `hubspot` belongs to a shipped connector"):
        load_registry(tmp_path)


def test_no_broken_file_makes_the_loader_fail(tmp_path):
    """Lines are dropped, doubled, shifted and swapped for other values: there is a connector or there are faults."""
    place_samples(tmp_path, "http://127.0.0.1:8090")
    chance = random.Random(7)
    values = ["", "[]", "{}", "null", "5", "true", "{{", "${", "$.", "[{}]", "&a [*a]", "!!python/object:os.system x"]
    for source in FILES.glob("*/*.connector.s1.yaml"):
        main = tmp_path / source.parent.name / source.name
        lines = main.read_text().splitlines()
        for _ in range(250):
            changed = list(lines)
            for _ in range(chance.randint(1, 4)):
                at = chance.randrange(len(changed))
                key, colon, _rest = changed[at].partition(":")
                changed[at] = chance.choice(
                    ["", "  " + changed[at], changed[at] + "\n" + changed[at], f"{key}{colon} {chance.choice(values)}"]
                )
            main.write_text("\n".join(changed))
            for strict in (True, False):
                try:
                    load_s1(main, strict=strict)
                except ConnectorFileError as error:
                    assert all(p.line >= 1 and p.column >= 1 for p in error.problems)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"a: b: c", b"text", b"\x00", b"- - -\n" * 9])
def test_what_is_no_connector_is_a_fault(tmp_path, content):
    main = tmp_path / "x.connector.s1.yaml"
    main.write_bytes(content)
    assert faults(main).startswith(f"{main}:")


def test_signed_requests_take_the_names_of_the_format(tmp_path):
    main = write(tmp_path)
    text = main.read_text().replace(
        "{type: bearer, token: $.credentials.apiKey}",
        "{type: none, signing: {strategy: aws4, service: s3, region: eu-west-1}}",
    )
    keys = "[{key: accessKeyId, label: I, type: text, required: true}, "
    keys += "{key: secretAccessKey, label: S, type: password, secret: true}, "
    main.write_text(text.replace("configFields: [", "configFields: " + keys))
    signature = load_s1(main).connector.auth["key"].signature
    assert signature is not None and signature.algorithm == "aws4"
    scope = {"accessKeyId": "AKIA", "secretAccessKey": "s"}
    assert {name: t.render(scope) for name, t in signature.values.items()} == {
        "service": "s3", "region": "eu-west-1", "access_key": "AKIA", "secret_key": "s",
    }  # fmt: skip
