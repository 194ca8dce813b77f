"""Signed requests, by the published examples of those who defined them."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime

import pytest

from mooring.protocol.signatures import UNSIGNED, needs_body, signed

FORM = (b"content-type", b"application/x-www-form-urlencoded")
TWITTER = {
    "consumer_key": "xvz1evFS4wEEPTGEFPHBog",
    "consumer_secret": "kAcSOqF21Fu85e7zjz7ZN2U4ZRhfV3WpwPAoE3Z7kBw",
    "token": "370773112-GmHxMAgYyLbNEtIKZeRNFsMKPR9EyMZeS9weJAEb",
    "token_secret": "LswwdoUaIvS8ltyTt5jkRh4J50vUPVVHtR2YPi5kE",
}
S3 = {
    "service": "s3",
    "region": "us-east-1",
    "access_key": "AKIAIOSFODNN7EXAMPLE",
    "secret_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
}
MAY_2013 = datetime(2013, 5, 24, tzinfo=UTC)


def authorization(headers: list[tuple[bytes, bytes]]) -> str:
    return dict(headers)[b"authorization"].decode()


def test_the_example_of_aws_for_iam() -> None:
    values = {
        "service": "iam",
        "region": "us-east-1",
        "access_key": "AKIDEXAMPLE",
        "secret_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    }
    url = "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08"
    headers = [(b"content-type", b"application/x-www-form-urlencoded; charset=utf-8")]
    found = signed("aws4", values, "GET", url, headers, b"", datetime(2015, 8, 30, 12, 36, tzinfo=UTC))
    assert authorization(found) == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, "
        "SignedHeaders=content-type;host;x-amz-date, "
        "Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    )


@pytest.mark.parametrize(
    ("method", "url", "headers", "body", "signature"),
    [
        (
            "GET",
            "https://examplebucket.s3.amazonaws.com/test.txt",
            [(b"range", b"bytes=0-9")],
            b"",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "PUT",
            "https://examplebucket.s3.amazonaws.com/test%24file.text",
            [(b"date", b"Fri, 24 May 2013 00:00:00 GMT"), (b"x-amz-storage-class", b"REDUCED_REDUNDANCY")],
            b"Welcome to Amazon S3.",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            "GET",
            "https://examplebucket.s3.amazonaws.com/?lifecycle",
            [],
            b"",
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            "GET",
            "https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J",
            [],
            b"",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_the_examples_of_amazon_s3(
    method: str, url: str, headers: list[tuple[bytes, bytes]], body: bytes, signature: str
) -> None:
    assert authorization(signed("aws4", S3, method, url, headers, body, MAY_2013)).endswith(f"Signature={signature}")


def test_a_stream_to_s3_is_unsigned_and_a_session_token_is_covered() -> None:
    values = {**S3, "session_token": "a-session-token"}
    url = "https://b.s3.amazonaws.com/k"
    found = dict(signed("aws4", values, "PUT", url, [(b"authorization", b"Bearer theirs")], None, MAY_2013))
    assert found[b"x-amz-content-sha256"] == UNSIGNED.encode() and found[b"x-amz-security-token"] == b"a-session-token"
    assert b"x-amz-security-token" in found[b"authorization"] and b"theirs" not in found[b"authorization"]
    assert not needs_body("aws4", values, [FORM]) and needs_body("aws4", {"service": "sqs"}, [])


def test_other_services_encode_the_path_once_more() -> None:
    values = {**S3, "service": "execute-api"}
    once, twice = (
        authorization(signed("aws4", values, "GET", f"https://h.example/a{part}b", [], b"", MAY_2013))
        for part in ("%20", "%2520")
    )
    assert once != twice


@pytest.mark.parametrize(
    ("version", "signature"), [("1", "tnnArxj06cWHq44gCs1OSKk/jLY="), ("1.1", "hCtSmYh+iHYCEqBWrE7C7hYmtUk=")]
)
def test_the_published_example_of_oauth_1(version: str, signature: str) -> None:
    url = f"https://api.twitter.com/{version}/statuses/update.json?include_entities=true"
    body = b"status=Hello%20Ladies%20%2b%20Gentlemen%2c%20a%20signed%20OAuth%20request%21"
    now = datetime.fromtimestamp(1318622958, UTC)
    nonce = "kYjzVBB8Y0ZFabxSWbWovY3uYSQ2pTgmZeNu2VS4cg"
    found = authorization(signed("oauth1", TWITTER, "POST", url, [FORM], body, now, nonce))
    escaped = signature.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
    assert f'oauth_signature="{escaped}"' in found and found.startswith("OAuth oauth_consumer_key=")
    realm = authorization(signed("oauth1", {**TWITTER, "realm": "123_SB1"}, "POST", url, [FORM], body, now, nonce))
    assert realm.startswith('OAuth realm="123_SB1", ') and f'"{escaped}"' in realm  # the realm is not signed
    other = authorization(signed("oauth1", TWITTER, "POST", url, [], body, now, nonce))
    assert f'"{escaped}"' not in other  # a body that is no form is not signed


def test_basic_with_an_hmac_of_the_request() -> None:
    values = {"username": "DIWJ8X6AEYOR5OMC6TQ1", "secret": "Zh5eGmUq9zpfQnyUIu5OL9iWoMMv5ZNmk3zLJ4Ep"}
    now = datetime(2012, 8, 21, 17, 29, 18, tzinfo=UTC)
    url = "https://api-XXXXXXXX.duosecurity.com/accounts/v1/account/list?realname=First%20Last&username=root"
    found = dict(signed("hmac_basic", values, "GET", url, [], b"", now))
    assert found[b"date"] == b"Tue, 21 Aug 2012 17:29:18 +0000"
    name, _, digest = base64.b64decode(found[b"authorization"].removeprefix(b"Basic ")).decode().partition(":")
    lines = [
        "Tue, 21 Aug 2012 17:29:18 +0000",
        "GET",
        "api-xxxxxxxx.duosecurity.com",
        "/accounts/v1/account/list",
        "realname=First%20Last&username=root",
    ]
    assert name == values["username"]
    assert digest == hmac.digest(values["secret"].encode(), "\n".join(lines).encode(), hashlib.sha1).hex()


JSON = (b"content-type", b"application/json")
BY_THE_PUBLISHED_RUNTIME = [
    (
        "GET", "https://api.example.com/v1/things?b=2&a=1%202&a=0", [], b"", {},
        {"x-signature": "hmac-sha256 be266360e85119689dd9ec35f246af19ef53b394c1a994dbc64d78c038dcc125"},
    ),
    (
        "POST", "https://api.example.com/v1/things", [JSON], '{"name":"Ada é","n":1}'.encode(),
        {"signature_method": "HMAC-SHA512", "header": "X-Sig", "prefix": "acme"},
        {"x-sig": "acme 54f15db8a8b9563dcb8ab7a4aeb8fbd8a6ce1107f6425d688e7d63e1bde73493"
                  "e53a11880383989220df21d9502e4dc37e1d7f2ebe1fe66ee1735257025f5c82"},
    ),
    (
        "POST", "https://api.example.com/v1/things?x=1", [FORM], b"name=Ada%20%26%20B&n=1",
        {"signature_method": "HMAC-SHA1", "date": "rfc2822", "host": "true", "body": "parameters", "username": "DIX"},
        {"authorization": "Basic RElYOjJmMTg5OWNmNzRkNTQwMzY1MmY3NzczZjA5N2ZkOGE5YjAxNjYwY2M=",
         "date": "Fri, 27 Nov 2026 12:34:56 -0000"},
    ),
    (
        "GET", "https://api.example.com/v1/users?offset=0&limit=10&q=a*b'(c)!", [], None, {"host": "true"},
        {"x-signature": "hmac-sha256 caf768876f8238381e71ed68a8dc8c9209204f7edb1d90c29ec145a3f900c547"},
    ),
    (
        "DELETE", "https://api.example.com/", [(b"x-signature", b"old")], b"", {"prefix": ""},
        {"x-signature": "3f79041b9e1089ac894995d4f5fdb40b9140429547effba3331592d995db38bc"},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("method", "url", "headers", "body", "values", "expected"), BY_THE_PUBLISHED_RUNTIME)
def test_hmac_signs_as_the_published_runtime_does(method, url, headers, body, values, expected) -> None:
    """The signatures are those that `@stackone/transport` 2.35.0 made of the same requests at the same moment."""
    now = datetime(2026, 11, 27, 12, 34, 56, 789000, tzinfo=UTC)
    found = signed("hmac", {"secret": "s3cr3t", **values}, method, url, headers, body, now)
    names = [name for name, _value in found]
    assert len(names) == len(set(names))
    told = {name.decode(): value.decode() for name, value in found}
    told.pop("content-type", None)
    if "date" not in expected:
        expected = {**expected, "x-timestamp": "2026-11-27T12:34:56.789Z"}
    assert told == expected


def test_hmac_covers_a_body_unless_it_signs_parameters_alone() -> None:
    assert needs_body("hmac", {}, [])
    assert needs_body("hmac", {"body": "parameters"}, [FORM])
    assert not needs_body("hmac", {"body": "parameters"}, [JSON])
