"""Actions of `.s1.yaml` files: what really goes over the wire, and what comes back of it."""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree as ET

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwk, jwt

from tests.conftest import Ports
from tests.hub import Project, ok, refused
from tests.protocol.test_saml import verify
from tests.proxy.upstream import Seen, Upstream, answer, upstream_on

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()


def soap_fault(words: str) -> bytes:
    inside = f"<e:Body><e:Fault><faultstring>{words}</faultstring></e:Fault></e:Body>"
    return f'<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/">{inside}</e:Envelope>'.encode()


@dataclass(frozen=True)
class Steps:
    """An account of the sample connector at a provider made of bare sockets."""

    project: Project
    account: str
    up: Upstream
    key: str

    def run(self, action: str, **body: Any) -> Any:
        return ok(self.ask(action, **body))

    def ask(self, action: str, **body: Any) -> Any:
        headers = {"x-account-id": self.account}
        return self.project.http.post("/actions/rpc", json={"action": action, **body}, headers=headers)

    def json(self, path: str, data: Any, *headers: str, status: int = 200) -> None:
        self.up.on(path, answer(status, json.dumps(data).encode(), "content-type: application/json", *headers))

    @property
    def last(self) -> Seen:
        return self.up.seen[-1]


@pytest.fixture
def steps(project: Project, ports: Ports) -> Iterator[Steps]:
    with upstream_on(ports.spare[0]) as up:
        key = secrets.token_urlsafe(24)
        fields = {
            "url": up.url,
            "apiKey": key,
            "tenant": "Ä1",
            "username": "ada",
            "password": "pa$$w$&rd",
            "privateKey": PEM,
        }
        account = project.link(project.config("steps", "key"), fields)
        yield Steps(project, account, up, key)


def body_of(seen: Seen) -> Any:
    return json.loads(seen.body)


def test_arguments_go_where_they_belong(steps: Steps) -> None:
    steps.json("/folders/a%2F..%2Fb/people", {"people": {"list": [{"id": 1}]}, "total": 9})
    given = {"path": {"id": "a/../b"}, "query": {"tags": ["x y", "z"]}}
    refused(steps.ask("find_people", **given), 400, "InvalidPathError")  # no provider's path is left by dots
    steps.json("/folders/a%2Fb/people", {"people": {"list": [{"id": 1}]}, "total": 9})
    found = steps.run("steps_find_people", path={"id": "a/b"}, query={"tags": ["x y", "z"]})
    assert found == {"data": [{"id": 1}], "next": None}
    target = urlsplit(steps.last.target)
    assert target.path == "/folders/a%2Fb/people"
    assert parse_qs(target.query) == {"fixed": ["1"], "tag[]": ["x y", "z"], "csv": ["x y,z"], "$top": ["5"]}
    assert steps.last.header("authorization") == f"Bearer {steps.key}"
    assert steps.last.header("x-key") == f"key {steps.key}"


def test_an_input_that_does_not_fit_is_refused_with_its_name(steps: Steps) -> None:
    said = refused(steps.ask("find_people", query={"style": "c", "nam": "x"}), 400, "ValidationError")
    assert sorted(said["errors"]) == [
        "path.id: is required",
        "query.nam: is not an input of this action; did you mean name?",
        "query.style: must be one of a, b",
    ]
    both = refused(steps.ask("save_person", body={"person": {"name": "A"}, "labels": ["l"], "note": "nn"}), 400)
    assert both["errors"] == ["either labels or a note"]
    inner = refused(steps.ask("save_person", body={"person": {"born": "x"}, "note": "n"}), 400)
    assert (
        set(inner["errors"]) == {"body.person: lacks name", "body.note: must satisfy minLength: 2"} or inner["errors"]
    )


def test_bodies_are_merged_spread_and_without_what_is_absent(steps: Steps) -> None:
    steps.json("/people", {"id": 5})
    assert steps.run("save_person", body={"person": {"name": "Ada"}, "labels": ["b"]})["data"] == {"id": 5}
    assert body_of(steps.last) == {
        "meta": {"source": "mooring", "by": "steps"},
        "name": "Ada",
        "labels": ["first", "b"],
    }
    assert steps.last.header("content-type") == "application/json"
    steps.run("save_person", body={"person": {"name": "Ada"}, "note": "hello"})
    assert body_of(steps.last)["meta"] == {"source": "mooring", "by": "steps", "note": "hello"}


def test_an_error_rule_turns_a_status_only_where_it_holds(steps: Steps) -> None:
    steps.json("/people", {"code": 7, "what": "person"}, status=400)
    said = refused(steps.ask("save_person", body={"person": {"name": "A"}}), 409)
    assert "There is a person already" in said["message"] and said["provider_errors"][0]["status"] == 400
    steps.json("/people", {"code": 8, "message": "no"}, status=400)
    assert "answered 400: no" in refused(steps.ask("save_person", body={"person": {"name": "A"}}), 400)["message"]


def test_forms_are_nested_and_a_step_may_have_its_own_authorization(steps: Steps) -> None:
    steps.json("/form", {"done": True})
    assert steps.run("send_form", body={"a": {"b": "c d", "e": {"f": 1}}})["data"] == {"done": True}
    assert steps.last.body == b"a[b]=c+d&a[e][f]=1&many[0]=1&many[1]=two"
    expected = base64.b64encode(b"ada:pa$$w$&rd").decode()
    assert steps.last.header("authorization") == f"Basic {expected}"


def test_xml_goes_out_and_comes_back(steps: Steps) -> None:
    reply = b'<reply><item id="1"><n:name xmlns:n="urn:x">B</n:name></item></reply>'
    steps.up.on("/xml", answer(200, reply, "content-type: application/xml; charset=utf-8"))
    data = steps.run("send_xml", body={"name": "<A> & B"})["data"]
    assert data["@_id"] == "1" and data["n:name"]["#text"] == "B"
    assert b'<person id="7"><name>&lt;A&gt; &amp; B</name></person>' in steps.last.body
    assert steps.last.header("authorization") is None


def test_entities_of_an_answer_are_not_expanded(steps: Steps) -> None:
    reply = b'<!DOCTYPE r [<!ENTITY a "aaaa">]><reply><item>&a;</item></reply>'
    steps.up.on("/xml", answer(200, reply, "content-type: application/xml"))
    assert "aaaa" not in json.dumps(steps.run("send_xml", body={"name": "x"})["data"])


def test_a_text_is_sent_as_it_is(steps: Steps) -> None:
    steps.json("/raw", {})
    steps.run("send_raw", body={"text": "plain ${inputs.text}"})
    assert steps.last.body == b"plain ${inputs.text}" and steps.last.header("content-type") == "text/plain"


def test_soap_is_wrapped_and_unwrapped(steps: Steps) -> None:
    reply = (
        b'<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body><wd:Get_Workers_Response xmlns:wd="urn:w">'
        b'<wd:Worker wd:type="x"><wd:Name>Ada</wd:Name></wd:Worker></wd:Get_Workers_Response></e:Body></e:Envelope>'
    )
    steps.up.on("/soap", answer(200, reply, "content-type: text/xml"))
    assert steps.run("get_workers", body={"id": "7"})["data"] == {"_type": "x", "Name": "Ada"}
    sent = steps.last.body.decode()
    assert '<wd:Get_Workers><wd:Request wd:version="v1"><wd:Id>7</wd:Id></wd:Request></wd:Get_Workers>' in sent
    assert "<wsse:Username>ada</wsse:Username>" in sent and "pa$$w$&amp;rd</wsse:Password>" in sent
    assert steps.last.header("soapaction") == '"urn:get"'
    fault = soap_fault("No such worker")
    steps.up.on("/soap", answer(200, fault, "content-type: text/xml"))
    assert "No such worker" in refused(steps.ask("get_workers", body={"id": "8"}), 502)["message"]


def test_an_envelope_of_ones_own(steps: Steps) -> None:
    reply = b'<e:Envelope xmlns:e="urn:e"><e:Body><Found><Name>Ada</Name></Found></e:Body></e:Envelope>'
    steps.up.on("/soap", answer(200, reply, "content-type: text/xml"))
    name = "<Name>Eve</Name>&amp;$.x"
    assert steps.run("own_envelope", body={"id": name})["data"] == {"Found": {"Name": "Ada"}}
    root = ET.fromstring(steps.last.body)
    assert [node.text for node in root.iter("Name")] == [name] and [node.text for node in root.iter("Key")] == ["ada"]
    assert steps.last.header("soapaction") == '"urn:own"'
    assert "needs a value" in refused(steps.ask("own_envelope", body={}), 422)["message"]

    steps.run("envelope_of_elements", body={"id": "a<b"})
    assert b"<s:Body><Find><Name>a&lt;b</Name></Find></s:Body>" in steps.last.body
    assert b"UsernameToken" not in steps.last.body


def test_pages_are_gathered_before_they_are_indexed(steps: Steps) -> None:
    def page(_connection: Any, seen: Seen) -> bytes:
        first = "after" not in seen.target
        data = {"items": [{"id": "a"}], "next": "2"} if first else {"items": [{"id": "b"}, {"no": "id"}]}
        return answer(200, json.dumps(data).encode(), "content-type: application/json")

    steps.up.on("/indexed", page)
    assert steps.run("pages_by_id")["data"] == {"a": {"id": "a"}, "b": {"id": "b"}}


def test_a_single_record_over_soap_is_a_page_of_one(steps: Steps) -> None:
    def page(_connection: Any, seen: Seen) -> bytes:
        more = b"" if b"<wd:Page>" in seen.body else b"<Next>2</Next>"
        name = b"Bob" if b"<wd:Page>" in seen.body else b"Ada"
        inner = b"<List_Response><Worker><Name>" + name + b"</Name></Worker>" + more + b"</List_Response>"
        whole = b'<e:Envelope xmlns:e="urn:e"><e:Body>' + inner + b"</e:Body></e:Envelope>"
        return answer(200, whole, "content-type: text/xml")

    steps.up.on("/soap", page)
    assert steps.run("soap_pages")["data"] == [{"Name": "Ada"}, {"Name": "Bob"}]
    assert b'<wd:Filter wd:kind="all">' in steps.last.body and b"<wd:Page>2</wd:Page>" in steps.last.body


def test_the_words_of_a_fault_are_told_whatever_its_status(steps: Steps) -> None:
    fault = soap_fault("Invalid ID value")
    steps.up.on("/soap", answer(500, fault, "content-type: text/xml"))
    assert "Invalid ID value" in refused(steps.ask("get_workers", body={"id": "8"}), 502)["message"]


def test_json_under_another_type_is_json(steps: Steps) -> None:
    steps.up.on("/record", answer(200, b'\xef\xbb\xbf{"id": 7}', "content-type: text/plain"))
    assert steps.run("whole_record")["data"] == {"raw": {"id": 7}, "few": {"a": 7, "c": [7, None]}}


def test_files_go_up_and_come_down(steps: Steps) -> None:
    content = base64.b64encode(b"\x00hello").decode()
    steps.json("/upload", {"id": 1})
    steps.run("upload", body={"content": content, "filename": 'a"b.txt'})
    kind = steps.last.header("content-type") or ""
    boundary = kind.partition("boundary=")[2].encode()
    parts = steps.last.body.split(b"--" + boundary)
    assert b'name="folder"\r\n\r\n\xc3\x841\r\n' in parts[1]
    assert b'name="doc"; filename="a%22b.txt"\r\nContent-Type: text/plain\r\n\r\n\x00hello\r\n' in parts[2]
    steps.run("upload_bytes", body={"content": content})
    assert steps.last.body == b"\x00hello" and steps.last.header("content-type") == "image/png"
    refused(steps.ask("upload_bytes", body={"content": "no base64!"}), 422)
    steps.up.on(
        "/file", answer(200, b"\x89PNG", "content-type: image/png", 'content-disposition: inline; filename="x.png"')
    )
    got = steps.ask("download")
    assert got.content == b"\x89PNG" and got.headers["content-type"] == "image/png"


def test_a_token_is_signed_with_the_accounts_key(steps: Steps) -> None:
    steps.json("/signed", {"ok": True})
    steps.run("sign")
    token = (steps.last.header("authorization") or "").removeprefix("Bearer ")
    claims = jwt.decode(token, jwk.RSAKey.import_key(PEM)).claims
    assert claims["exp"] - claims["iat"] == 1800 and re.fullmatch(r"me\.SHA256:[\w+/]{43}=", claims["iss"])


def test_a_saml_assertion_is_signed_with_the_accounts_key(steps: Steps) -> None:
    steps.json("/token", {"ok": True})
    steps.run("assert")
    sent = parse_qs(steps.last.body.decode())
    assert sent["grant_type"] == ["saml2"]
    document = base64.b64decode(sent["assertion"][0])
    verify(document, KEY)
    text = document.decode()
    for part in (
        ">my-issuer<",
        ">ada<",
        ">their-audience<",
        'Recipient="https://provider.example/token"',
        ">client-1<",
    ):
        assert part in text, part


def test_pages_by_cursor_keep_what_a_page_of_the_provider_has_too_many(steps: Steps) -> None:
    pages = {None: ([1, 2, 3], "p2"), "p2": ([4, 5, 6], "p3"), "p3": ([7], None)}

    def reply(_connection: Any, seen: Seen) -> bytes:
        after = parse_qs(urlsplit(seen.target).query).get("after", [None])[0]
        items, following = pages[after]
        return answer(200, json.dumps({"items": [{"n": n} for n in items], "meta": {"next": following}}).encode())

    steps.up.on("/cursor", reply)
    found, following = [], None
    for _ in range(9):
        page = steps.run("by_cursor", query={"page_size": 2, **({"next": following} if following else {})})
        assert len(page["data"]) <= 2
        found += [item["n"] for item in page["data"]]
        following = page["next"]
        if following is None:
            break
    assert found == [1, 2, 3, 4, 5, 6, 7]
    whole = steps.run("by_cursor")
    assert [item["n"] for item in whole["data"]] == [1, 2, 3, 4, 5, 6, 7] and whole["next"] is None
    refused(steps.ask("by_cursor", query={"next": "bm9uc2Vuc2U"}), 400, "ValidationError")


def test_the_cursor_of_a_page_has_the_published_form(steps: Steps) -> None:
    steps.json("/cursor", {"items": [{"n": n} for n in range(5)], "meta": {"next": "p2"}})
    following = steps.run("by_cursor", query={"page_size": 3})["next"]
    raw = json.loads(base64.urlsafe_b64decode(following + "=="))
    assert raw["v"] == 2 and raw["r"] == {"0": {"n": 0, "c": None, "p": 3}}


def test_pages_by_header_offset_and_number(steps: Steps) -> None:
    def header(_connection: Any, seen: Seen) -> bytes:
        after = body_of(seen).get("after") if seen.body else None
        more = [] if after else ["x-next: two"]
        return answer(200, json.dumps({"items": [{"n": 2 if after else 1}]}).encode(), *more)

    def offset(_connection: Any, seen: Seen) -> bytes:
        start = int(parse_qs(urlsplit(seen.target).query)["start"][0])
        return answer(200, json.dumps({"items": [{"n": n} for n in range(start, min(start + 2, 5))]}).encode())

    def page(_connection: Any, seen: Seen) -> bytes:
        number = int(parse_qs(urlsplit(seen.target).query)["page"][0])
        return answer(200, json.dumps({"items": [{"n": number}], "more": number < 3}).encode())

    steps.up.on("/header", header)
    steps.up.on("/offset", offset)
    steps.up.on("/page", page)
    assert [i["n"] for i in steps.run("by_header")["data"]] == [1, 2]
    assert [i["n"] for i in steps.run("by_offset")["data"]] == [0, 1, 2, 3, 4]
    assert [i["n"] for i in steps.run("by_page")["data"]] == [1, 2, 3]


def test_records_are_mapped_and_cast(steps: Steps) -> None:
    record = {
        "key": 7, "age": "41", "active": "0", "hired": "2024-03-01", "state": "A", "boss": {"id": 3},
        "phones": [{"nr": "1"}, {"nr": "2"}], "tag_one": "x", "shoe": "43", "place": {"city": "Wien"},
        "land": "Austria",
    }  # fmt: skip
    steps.json("/records", {"records": [record, {"key": "8", "state": "?"}]})
    first, second = steps.run("unified_people", query={"asked": "me"})["data"]
    made = first.pop("remote_id")
    assert base64.urlsafe_b64decode(made.removeprefix("c28xIQ") + "==").decode() == "i:7,kind:person"
    assert first == {
        "id": "7", "kind": "person", "age": 41, "active": False, "hired": "2024-03-01T00:00:00.000Z",
        "status": {"value": "active", "source_value": "A"}, "manager": {"id": "3"},
        "phones": [{"number": "1"}, {"number": "2"}], "tags": ["x"], "unified_custom_fields": {"shoe": 43},
        "place": {"city": "Wien"}, "asked": "me", "land": {"value": "AT", "source_value": "Austria"},
    }  # fmt: skip
    assert second["status"] == {"value": "unmapped_value", "source_value": "?"} and "age" not in second


def test_steps_are_grouped_repeated_skipped_and_may_fail(steps: Steps) -> None:
    steps.json("/one", {"items": [{"id": "a", "x": 1}, {"id": "b", "x": 2}]})
    steps.json("/two", {"items": [{"id": "a", "y": 3}]})
    assert steps.run("grouped")["data"] == [
        {"one": {"id": "a", "x": 1}, "two": {"id": "a", "y": 3}},
        {"one": {"id": "b", "x": 2}},
    ]
    steps.json("/failing", {}, status=404)
    steps.json("/items/a%20b", {"n": 1})
    steps.json("/items/c", {"n": 2})
    assert steps.run("each")["data"] == [{"n": 1}, {"n": 2}]
    assert not any(seen.target == "/never" for seen in steps.up.seen)


def test_what_can_not_run_says_why_and_no_caller_chooses_the_host(steps: Steps) -> None:
    assert "drives a browser" in refused(steps.ask("drive"), 501)["message"]
    assert "callers choose" in refused(steps.ask("anywhere"), 501)["message"]
    refused(steps.ask("hidden"), 404, "ActionNotFoundError")
    before = len(steps.up.seen)
    said = refused(steps.ask("elsewhere", query={"address": "http://127.0.0.1:1/steal"}), 400, "InvalidUrlError")
    assert steps.key not in json.dumps(said) and len(steps.up.seen) == before


def test_the_credential_is_in_no_log_and_no_answer(steps: Steps) -> None:
    steps.json("/folders/x/people", {"people": {"list": [{"echo": steps.key}]}})
    assert steps.key not in json.dumps(steps.run("find_people", path={"id": "x"}))
    logs = ok(steps.project.http.get("/requests/logs", params={"page_size": 5}))
    assert steps.key not in json.dumps(logs)


def test_they_are_listed_with_their_schema(steps: Steps) -> None:
    found = ok(steps.project.http.get("/actions", params={"filter[connectors]": "steps", "include": "action_details"}))
    actions = {a["id"]: a for entry in found["data"] for a in entry["actions"]}
    assert "steps_hidden" not in actions and "steps_drive" not in actions
    schema = actions["steps_save_person"]["action_details"]["input_schema"]["properties"]["body"]
    assert schema["required"] == ["person"] and schema["properties"]["labels"]["type"] == "array"
    assert actions["steps_by_cursor"]["action_details"]["paged"] is True
    assert actions["steps_unified_people"]["schema_type"] == "unified"


def test_a_file_inside_of_an_answer(steps: Steps) -> None:
    content = base64.b64encode(b"%PDF").decode()
    steps.json("/wrapped", {"file": {"content": content, "name": 'a"b.pdf', "type": "application/pdf"}})
    got = steps.ask("download_inside")
    assert got.content == b"%PDF" and got.headers["content-type"] == "application/pdf"
    assert got.headers["content-disposition"] == 'attachment; filename="a_b.pdf"'
    steps.json("/wrapped", {"file": {}})
    assert "does not hold the file" in refused(steps.ask("download_inside"), 502)["message"]


def test_redirects_to_a_file_are_followed(steps: Steps, ports: Ports) -> None:
    with upstream_on(ports.spare[1]) as elsewhere:
        elsewhere.on("/signed", answer(200, b"bytes", "content-type: application/pdf"))
        steps.up.on("/file", answer(302, b"", "location: /second?x=1"))
        steps.up.on("/second", answer(307, b"", "location: ../third"))
        steps.up.on("/third", answer(200, b"\x89PNG", "content-type: image/png"))
        assert steps.ask("download").content == b"\x89PNG"
        assert [seen.target for seen in steps.up.seen[-3:]] == ["/file", "/second?x=1", "/third"]
        assert all(steps.key in (seen.header("authorization") or "") for seen in steps.up.seen[-3:])

        steps.up.on("/file", answer(302, b"", f"location: {elsewhere.url}/signed?sig=abc"))
        told = refused(steps.ask("download"), 502)
        assert "without TLS" in told["message"] and not elsewhere.seen

        steps.up.on("/file", answer(302, b"", "location: /file"))
        assert "more redirects" in refused(steps.ask("download"), 502)["message"]
        assert len([seen for seen in steps.up.seen if seen.target == "/file"]) == 8


def test_a_file_at_an_address_in_an_answer(steps: Steps) -> None:
    steps.json("/told", {"link": "/there?token=1", "name": "there.csv"})
    steps.up.on("/there", answer(200, b"a,b", "content-type: text/csv"))
    got = steps.ask("download_behind")
    assert got.content == b"a,b" and 'filename="there.csv"' in got.headers["content-disposition"]
    assert steps.last.target == "/there?token=1" and steps.key in (steps.last.header("authorization") or "")
    steps.json("/told", {})
    assert "does not tell where" in refused(steps.ask("download_behind"), 502)["message"]


def test_headers_that_the_file_writes_are_sent(steps: Steps) -> None:
    steps.json("/own", {})
    steps.run("own_headers")
    assert steps.last.header("authorization") == f"Token {steps.key}" and steps.last.header("cookie") == "session=1"


def test_a_file_has_the_type_of_its_name(steps: Steps) -> None:
    steps.json("/upload", {"id": 1})
    steps.run("upload_by_name", body={"content": "aGk-_w"})
    assert b'filename="a.pdf"\r\nContent-Type: application/pdf\r\n\r\nhi>\xff' in steps.last.body
    assert b'name="meta"\r\nContent-Type: application/json\r\n\r\n{"a":1}' in steps.last.body


def test_a_composite_id_is_taken_apart_by_its_whole_names(steps: Steps) -> None:
    steps.json("/teams/t-1/p:2", {"team": "t-1", "person": "p:2"})
    steps.up.on("/teams/t-1/p%3A2", answer(200, b'{"team": "t-1", "person": "p:2"}', "content-type: application/json"))
    made = "c28xIQ" + base64.urlsafe_b64encode(b"t:t-1,p:p\\:2").decode().rstrip("=")
    assert steps.run("by_alias", path={"id": made})["data"]["id"] == made
