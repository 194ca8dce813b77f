"""OAuth messages as bytes: what we send, and what we make of what comes back."""

from __future__ import annotations

import base64
import hashlib
import json
import warnings
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, OKPKey, RSAKey

from mooring.protocol import oauth2
from mooring.protocol.oauth2 import TokenAnswer, TokenNonsense, TokenRefused, parse_token_answer

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
CANARY = "canary-0123456789abcdef"


def read(data: Any, status: int = 200, kind: str = JSON, **more: Any) -> TokenAnswer:
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    return parse_token_answer(status, kind, body, **more)


# --- what we send --------------------------------------------------------------------------------------------------


def test_the_challenge_of_rfc_7636_appendix_b() -> None:
    challenge = oauth2.pkce_challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    assert challenge == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def authorize(endpoint: str = "https://p.example/auth", **changes: Any) -> dict[str, list[str]]:
    values: dict[str, Any] = {
        "client_id": "app",
        "redirect_uri": "https://hub.example/cb",
        "state": "s",
        "scopes": ("a", "b c"),
        "scope_separator": " ",
        "challenge": "x" * 43,
        "extra": {},
        **changes,
    }
    url = oauth2.add_query(endpoint, [*oauth2.authorization_request(**values).items()])
    return parse_qs(urlsplit(url).query, strict_parsing=True)


def test_an_authorization_request() -> None:
    assert authorize() == {
        "response_type": ["code"],
        "client_id": ["app"],
        "redirect_uri": ["https://hub.example/cb"],
        "state": ["s"],
        "scope": ["a b c"],
        "code_challenge": ["x" * 43],
        "code_challenge_method": ["S256"],
    }


def test_extra_parameters_are_added_and_replace_nothing_of_ours() -> None:
    query = authorize(extra={"prompt": "consent", "state": "forged", "redirect_uri": "https://evil.example"})
    assert query["prompt"] == ["consent"]
    assert query["state"] == ["s"] and query["redirect_uri"] == ["https://hub.example/cb"]


def test_the_endpoints_own_query_stays_and_its_fragment_goes() -> None:
    query = authorize("https://p.example/auth?tenant=a%20b#x")
    assert query["tenant"] == ["a b"] and query["state"] == ["s"]


@pytest.mark.parametrize(("separator", "scope"), [(",", "a,b"), ("+", "a+b"), (" ", "a b")])
def test_scope_separators(separator: str, scope: str) -> None:
    assert authorize(scopes=("a", "b"), scope_separator=separator)["scope"] == [scope]


def test_no_scope_and_no_challenge_are_left_out() -> None:
    assert not {"scope", "code_challenge", "code_challenge_method"} & set(authorize(scopes=(), challenge=None))


BASIC_CASES = [
    ("app", "secret", True, "app:secret"),
    ("odd:app%/+ x", "s:e%c r+e/t~", True, "odd%3Aapp%25%2F%2B%20x:s%3Ae%25c%20r%2Be%2Ft~"),
    ("äpp", "ß", True, "%C3%A4pp:%C3%9F"),
    ("odd app", "s/t", False, "odd app:s/t"),
    ("app", "", True, "app:"),
]


@pytest.mark.parametrize(("client", "secret", "encode", "plain"), BASIC_CASES)
def test_basic_form_encodes_both_halves(client: str, secret: str, encode: bool, plain: str) -> None:
    value = oauth2.basic_credentials(client, secret, form_encode=encode)
    assert base64.b64decode(value.removeprefix("Basic ")).decode() == plain


def request(client_auth: str, **changes: Any) -> tuple[dict[str, str], bytes]:
    values: dict[str, Any] = {
        "client_id": "app",
        "client_secret": CANARY,
        "client_auth": client_auth,
        "body_format": "form",
        "headers": {},
        **changes,
    }
    headers, body = oauth2.token_request({"grant_type": "refresh_token", "refresh_token": "r&=+ ü"}, **values)
    assert len(headers) == len(dict(headers))
    return dict(headers), body


@pytest.mark.parametrize("client_auth", ["basic", "basic_raw", "post", "private_key_jwt", "none"])
def test_the_client_proves_itself_in_one_place_only(client_auth: str) -> None:
    headers, body = request(client_auth, assertion="a.b.c")
    form = dict(parse_qsl(body.decode(), strict_parsing=True))
    in_header, in_body = "authorization" in headers, "client_secret" in form or "client_assertion" in form
    assert (in_header, in_body) == {
        "basic": (True, False),
        "basic_raw": (True, False),
        "post": (False, True),
        "private_key_jwt": (False, True),
        "none": (False, False),
    }[client_auth]
    assert ("client_id" in form) == (not in_header)
    assert form["refresh_token"] == "r&=+ ü"
    assert (CANARY in body.decode()) == (client_auth == "post")
    assert headers["content-type"] == FORM and headers["accept"] == JSON


def test_a_json_body_and_headers_of_the_connector() -> None:
    headers, body = request("post", body_format="json", headers={"Notion-Version": "1", "Accept": "text/plain"})
    assert json.loads(body)["client_secret"] == CANARY
    assert (headers["content-type"], headers["notion-version"], headers["accept"]) == (JSON, "1", "text/plain")


KEYS: dict[str, Any] = {
    "ES256": lambda: ECKey.generate_key("P-256"),
    "RS256": lambda: RSAKey.generate_key(2048),
    "PS256": lambda: RSAKey.generate_key(2048),
    "EdDSA": lambda: OKPKey.generate_key("Ed25519"),
}


@pytest.mark.parametrize("form", ["PEM", "JWK"])
@pytest.mark.parametrize("algorithm", KEYS)
def test_a_signed_assertion(algorithm: str, form: str) -> None:
    key = KEYS[algorithm]()
    text = key.as_pem(private=True).decode() if form == "PEM" else json.dumps(key.as_dict(private=True, kid="k1"))
    made = oauth2.client_assertion(
        client_id="app", audience="https://p.example", private_key=text, algorithm=algorithm, jti="j", now=1000
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)  # for the name EdDSA
        token = jwt.decode(made, key, algorithms=[algorithm])
    assert token.claims == {
        "iss": "app",
        "sub": "app",
        "aud": "https://p.example",
        "jti": "j",
        "iat": 1000,
        "exp": 1060,
    }
    assert token.header["alg"] == algorithm
    assert token.header.get("kid") == (None if form == "PEM" else "k1")


def test_the_operators_key_id_counts_more_than_the_keys_own() -> None:
    text = json.dumps(ECKey.generate_key("P-256").as_dict(private=True, kid="k1"))
    made = oauth2.client_assertion(
        client_id="a", audience="b", private_key=text, algorithm="ES256", jti="j", now=1, key_id="k2"
    )
    assert json.loads(base64.urlsafe_b64decode(made.split(".")[0] + "=="))["kid"] == "k2"


BAD_KEYS = {
    "nothing": "",
    "text": CANARY,
    "half a JWK": f'{{"kty": "EC", "d": "{CANARY}"',
    "another type": json.dumps(RSAKey.generate_key(2048).as_dict(private=True)),
    "another curve": json.dumps(ECKey.generate_key("P-521").as_dict(private=True)),
    "public half": json.dumps(ECKey.generate_key("P-256").as_dict(private=False)),
    "broken PEM": f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----",
}


@pytest.mark.parametrize("kind", BAD_KEYS)
def test_a_key_that_cannot_sign_is_refused_without_being_shown(kind: str) -> None:
    with pytest.raises(ValueError, match="private key") as caught:
        oauth2.client_assertion(
            client_id="a", audience="b", private_key=BAD_KEYS[kind], algorithm="ES256", jti="j", now=1
        )
    assert caught.value.__cause__ is None and CANARY not in str(caught.value)


# --- what comes back -----------------------------------------------------------------------------------------------

LIFETIMES: list[tuple[Any, int | None]] = [
    (3600, 3600),
    ("3600", 3600),
    (" 3600 ", 3600),
    (3599.9, 3599),
    ("1e3", 1000),
    (1, 1),
    (0, None),
    ("0", None),
    (-1, None),
    ("-3600", None),
    (0.5, None),
    (10**12, None),
    (1e300, None),
    ("9" * 5000, None),
    ("nan", None),
    ("inf", None),
    ("soon", None),
    ("", None),
    (None, None),
    (True, None),
    ([3600], None),
    ({"seconds": 3600}, None),
]


@pytest.mark.parametrize(("value", "seconds"), LIFETIMES, ids=lambda v: str(v)[:20])
def test_lifetimes(value: Any, seconds: int | None) -> None:
    answer = read({"access_token": "a", "expires_in": value, "refresh_token_expires_in": value})
    assert (answer.expires_in, answer.refresh_expires_in) == (seconds, seconds)


def test_a_missing_lifetime() -> None:
    answer = read({"access_token": "a"})
    assert (answer.expires_in, answer.refresh_expires_in, answer.refresh_token, answer.scope) == (None,) * 4


@pytest.mark.parametrize("kind", ["Bearer", "bearer", "BEARER", "", None, "user", "bot"])
def test_token_types_that_are_sent_as_bearer(kind: str | None) -> None:
    assert read({"access_token": "a", "token_type": kind}).access_token == "a"


@pytest.mark.parametrize("kind", ["mac", "DPoP", "N_A", "Bearer2", "basic"])
def test_other_token_types_are_refused(kind: str) -> None:
    with pytest.raises(TokenNonsense, match="token type"):
        read({"access_token": "a", "token_type": kind})


@pytest.mark.parametrize("token", ["", None, 1, ["a"], "a\nb", "a\x00", "tökén", "a\u2028b"])
def test_a_token_that_no_header_can_hold_is_none(token: Any) -> None:
    with pytest.raises(TokenNonsense, match="no access token"):
        read({"access_token": token})


def test_form_encoded_answers() -> None:
    body = b"access_token=a%2Bb&refresh_token=r&expires_in=60&scope=x+y&token_type=bearer"
    for kind in (FORM, f"{FORM}; charset=utf-8", "text/plain"):
        answer = read(body, kind=kind)
        assert (answer.access_token, answer.refresh_token, answer.expires_in) == ("a+b", "r", 60)
        assert answer.scope == ("x", "y")
    assert read(body, kind="text/html", token_format="form").access_token == "a+b"
    with pytest.raises(TokenNonsense):
        read(body, kind=FORM, token_format="json")
    with pytest.raises(TokenNonsense):
        read(body, kind="text/html")


def test_a_token_further_inside() -> None:
    answer = read({"ok": True, "authed_user": {"access_token": "inner"}}, token_path=["authed_user.access_token"])
    assert answer.access_token == "inner"


REFUSALS: list[tuple[int, Any, str, bool]] = [
    (400, {"error": "invalid_grant"}, "invalid_grant", True),
    (401, {"error": "invalid_client", "error_description": "x"}, "invalid_client", False),
    (400, {"error": "invalid_request"}, "invalid_request", False),
    (400, {"error": "unauthorized_client"}, "unauthorized_client", False),
    (200, {"error": "invalid_grant"}, "invalid_grant", True),
    (200, {"ok": False, "error": "internal_error"}, "internal_error", False),
    (400, {"error": {"code": 190, "type": "OAuthException", "message": "m"}}, "OAuthException", False),
    (403, {"message": "forbidden"}, "error", False),
    (404, {}, "error", False),
    (400, {"error": "invalid_grant "}, "invalid_grant", False),
    (400, {"error": "INVALID_GRANT"}, "INVALID_GRANT", False),
]


@pytest.mark.parametrize(("status", "body", "error", "dead"), REFUSALS, ids=lambda v: str(v)[:40])
def test_refusals(status: int, body: Any, error: str, dead: bool) -> None:
    with pytest.raises(TokenRefused) as caught:
        read(body, status)
    assert (caught.value.error, caught.value.status) == (error, status)
    if body.get("error") == "invalid_grant":
        assert caught.value.dead is dead


@pytest.mark.parametrize("status", [429, 500, 502, 503, 301, 302, 307, 308])
def test_only_an_answer_of_the_endpoint_itself_can_end_a_grant(status: int) -> None:
    with pytest.raises(TokenNonsense) as caught:
        read({"error": "invalid_grant"}, status)
    assert caught.value.status == status
    assert caught.value.transient is (status >= 429)


def test_an_error_beside_a_token_is_no_refusal() -> None:
    assert read({"error": "", "access_token": "a"}).access_token == "a"
    assert read({"error": "none", "access_token": "a"}).access_token == "a"


@pytest.mark.parametrize(
    ("status", "body", "transient"),
    [
        (200, b"<html>maintenance</html>", True),
        (200, b'{"access_token": "at_cut-off', True),
        (200, b"", True),
        (200, b"[]", True),
        (200, b'"text"', True),
        (200, b"[" * 5000, True),
        (200, b"{}", False),
        (204, b"", True),
        (400, b"<html>", False),
        (404, b"not found", False),
    ],
)
def test_nonsense(status: int, body: bytes, transient: bool) -> None:
    with pytest.raises(TokenNonsense) as caught:
        read(body, status)
    assert (caught.value.status, caught.value.transient) == (status, transient)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("5", 5),
        ("0", 0),
        ("-5", 0),
        ("1.5", 1.5),
        ("999999999", 86400),
        ("Wed, 25 Nov 2026 12:00:30 GMT", 30),
        ("Wed, 25 Nov 2026 11:00:00 GMT", 0),
        ("Wed, 25 Nov 2026 12:00:30", 30),
        ("soon", None),
        ("", None),
        ("nan", None),
        ("inf", None),
        (None, None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert oauth2.parse_retry_after(value, datetime(2026, 11, 25, 12, tzinfo=UTC)) == seconds


def test_retry_after_of_an_overloaded_endpoint_is_passed_on() -> None:
    with pytest.raises(TokenNonsense) as caught:
        read({"error": "rate_limited"}, 429, retry_after="7")
    assert caught.value.retry_after == 7


@pytest.mark.parametrize(
    ("answer", "granted", "missing"),
    [
        ("a b", ("a", "b"), ()),
        ("a,b", ("a", "b"), ()),
        (["a"], ("a",), ("b",)),
        ("", (), ("a", "b")),
        (None, None, ()),
        (5, None, ()),
        ([1], None, ()),
        ("b a a more", ("b", "a", "more"), ()),
    ],
)
def test_scopes(answer: Any, granted: tuple[str, ...] | None, missing: tuple[str, ...]) -> None:
    parsed = read({"access_token": "a", "scope": answer}).scope
    assert parsed == granted
    assert oauth2.missing_scopes(("a", "b", "offline_access"), parsed) == missing


def test_secrets_do_not_show_in_an_answers_repr() -> None:
    answer = read({"access_token": CANARY, "refresh_token": CANARY, "id_token": CANARY})
    assert CANARY not in repr(answer)


# --- anything at all -----------------------------------------------------------------------------------------------

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_names = st.sampled_from(
    [
        *("access_token", "refresh_token", "expires_in", "expires", "scope", "token_type"),
        *("error", "error_description", "message", "ok", "data"),
    ]
)
_bodies = st.one_of(
    st.binary(max_size=300),
    _json.map(lambda v: json.dumps(v).encode()),
    st.dictionaries(_names, _json, max_size=8).map(lambda v: json.dumps(v).encode()),
    st.text(max_size=100).map(lambda t: t.encode("utf-8", "surrogatepass")),
)
_statuses = st.one_of(st.sampled_from([200, 201, 302, 307, 400, 401, 403, 429, 500, 503]), st.integers(100, 599))
_kinds = st.one_of(st.none(), st.sampled_from([JSON, FORM, "text/plain", "text/html", ";", ""]), st.text(max_size=20))


@settings(max_examples=600, deadline=None)
@given(
    status=_statuses,
    kind=_kinds,
    body=_bodies,
    form=st.sampled_from(["auto", "json", "form"]),
    path=st.sampled_from(["access_token", "data.access_token", "data.0", "a..b", ""]),
    wait=st.one_of(st.none(), st.text(max_size=40)),
)
def test_any_answer_is_a_token_a_refusal_or_nonsense(
    status: int, kind: str | None, body: bytes, form: str, path: str, wait: str | None
) -> None:
    try:
        answer = parse_token_answer(status, kind, body, token_format=form, token_path=path, retry_after=wait)
    except (TokenRefused, TokenNonsense) as e:
        text = str(e)
        assert len(text) < 500 and text.isprintable()
        return
    assert status < 300
    assert answer.access_token.isascii() and answer.access_token.isprintable()
    assert answer.expires_in is None or 0 < answer.expires_in <= oauth2.MAX_EXPIRES_IN
    assert answer.scope is None or all(isinstance(s, str) for s in answer.scope)


@settings(max_examples=400, deadline=None)
@given(
    status=_statuses,
    extra=st.dictionaries(_names, _json, max_size=6),
    tokens=st.sets(st.sampled_from(["access_token", "refresh_token", "id_token"]), min_size=1),
    cut=st.integers(0, 40),
    encode=st.sampled_from(["json", "form", "cut"]),
)
def test_no_exception_holds_a_token(
    status: int, extra: dict[str, Any], tokens: set[str], cut: int, encode: str
) -> None:
    data = {**extra, **dict.fromkeys(tokens, CANARY)}
    body = json.dumps(data).encode()
    if encode == "cut":
        body = body[: len(body) - cut]
    kind = JSON
    if encode == "form":
        kind, body = FORM, "&".join(f"{name}={CANARY}" for name in tokens).encode()
    try:
        parse_token_answer(status, kind, body)
    except (TokenRefused, TokenNonsense) as e:
        shown = f"{e} {e!r} {e.args} {vars(e)} {e.__cause__}"
        assert CANARY not in shown


def test_the_verifier_is_hashed_and_never_sent_plain() -> None:
    verifier = "v" * 64
    digest = hashlib.sha256(verifier.encode()).digest()
    assert oauth2.pkce_challenge(verifier) == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert verifier not in str(authorize(challenge=oauth2.pkce_challenge(verifier)))
