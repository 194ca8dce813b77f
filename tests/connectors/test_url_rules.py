"""Who may choose the host that a credential goes to (rules P2 and O5)."""

from __future__ import annotations

import re

import pytest

from mooring.connectors.loader import load_file
from mooring.connectors.problem import ConnectorFileError
from mooring.connectors.url_rules import is_host_safe, is_url_safe

HOSTILE = ["evil.com/", "a@evil.com", "a?b", "a#b", "a\\b", "a:80", "a b", "a\n", "a%2f", "[::1]", "\uff41", "\u212a"]


@pytest.mark.parametrize(
    "pattern",
    [
        "[A-Za-z0-9-]+",
        "^[a-z0-9][a-z0-9-]*$",
        r"[a-z0-9-]+(\.[a-z0-9-]+)*\.my\.vendor\.com",
        r"(?:eu|us)\.vendor\.com",
        "eu|us",
        "[a-z0-9.-]{1,63}",
        r"[a-z\.\-]+",
        "(?!internal)[a-z]+",
    ],
)
def test_host_patterns_that_are_safe(pattern):
    assert is_host_safe(pattern)
    assert not [text for text in HOSTILE if re.fullmatch(pattern, text)]


@pytest.mark.parametrize(
    "pattern",
    [
        ".*", "a.b", r"\w+", r"\d+", r"\S+", "[^/]+", "[.-z]+", "[+-z]", "[a-Z]", "[_-z]", "[a-z/]+", "[a-z@]+",
        "[a-z:]+", "(?i)[a-z]+", "(?s).", "[a-z]+#", "[a-z] +", r"[\w]+", r"[a-z\n]", r"a\/b",
        "", "é", "(?P<x>a)", r"(a)\1",
    ],
)  # fmt: skip
def test_host_patterns_that_are_not(pattern):
    assert not is_host_safe(pattern)


@pytest.mark.parametrize(
    "pattern",
    ["https://[a-z0-9.-]+", "^https?://[a-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*$", r"https://[a-z]+\.a\.com"],
)
def test_url_patterns_that_are_safe(pattern):
    assert is_url_safe(pattern)
    for text in ("https://good@evil", "https://a?b", "https://a#b", "https://a\\b", "ftp://a", "https://a\n"):
        assert not re.fullmatch(pattern, text)


@pytest.mark.parametrize(
    "pattern", [".*", "https://.*", "https://[^/]+", "ftp://[a-z]+", "https://[a-z@]+", "[a-z:/]+"]
)
def test_url_patterns_that_are_not(pattern):
    assert not is_url_safe(pattern)


def connector(tmp_path, base_url="https://api.acme.com", token_url="https://acme.com/token", tail="", grant=""):
    file = tmp_path / "acme.yaml"
    file.write_text(f"""\
connector: acme
title: Acme
category: crm
base_url: '{base_url}'
auth:
  o:
    oauth2:
      {grant or "authorize_url: https://acme.com/authorize"}
      token_url: {token_url}
{tail}""")
    return load_file(file, True)


def fields(kind, **patterns):
    listed = "".join(f"      {key}: {{pattern: '{pattern}'}}\n" for key, pattern in patterns.items())
    return f"    {kind}:\n{listed}"


@pytest.mark.parametrize(
    ("base_url", "tail"),
    [
        ("https://${sub}.acme.com", fields("fields", sub="[a-z]+")),
        ("https://${host}/v1", fields("fields", host="[a-z.]+")),
        ("https://${host}:8443/v1", fields("fields", host="[a-z.]+")),
        ("${url}/v1", fields("fields", url="https?://[a-z.]+")),
        ("https://api.acme.com/${any}", "    fields: {any: }\n"),
        ("http://127.0.0.1:4300", ""),
        ("http://localhost/x", ""),
        ("${url}/v1", "      keep: {url: {path: u, pattern: 'https://[a-z]+\\.acme\\.com'}}\n"),
    ],
)
def test_base_urls_that_may_stand(tmp_path, base_url, tail):
    assert connector(tmp_path, base_url=base_url, tail=tail).auth["o"].base_url.source == base_url


@pytest.mark.parametrize(
    ("base_url", "tail", "says"),
    [
        (
            "https://${sub}.acme.com",
            "    fields: {sub: }\n",
            "`sub` decides the host of this URL, so it needs a `pattern`",
        ),
        ("https://${sub}.acme.com", fields("fields", sub=".+"), "must match only letters, digits"),
        ("https://${lower(sub)}.acme.com", fields("fields", sub=".+"), "must match only letters, digits"),
        ("https://a.${x ? sub : sub}.com/v1", fields("fields", sub="a", x=".+"), "the pattern of `x`"),
        ("${url}", "    fields: {url: }\n", "needs a `pattern`"),
        ("${url}", fields("fields", url="[a-z]+"), "must begin with https://"),
        ("${url}.evil.com", fields("fields", url="https://[a-z]+"), "only `/` may follow"),
        ("${url}", "      keep: {url: instance_url}\n", "needs a `pattern`"),
        ("${url}", "      callback_keep: {url: u}\n", "needs a `pattern`"),
        ("http://api.acme.com", "", "https:// is required"),
        ("http://${sub}.acme.com", fields("fields", sub="[a-z]+"), "https:// is required"),
        ("http://127.0.0.1.evil.com", "", "https:// is required"),
        ("ftp://acme.com", "", "begins with https://"),
        ("acme.com", "", "begins with https://"),
        ("https://user@acme.com", "", "no user name"),
        ("https://acme.com/v1?x=1", "", "no query"),
    ],
)
def test_base_urls_that_may_not(tmp_path, base_url, tail, says):
    with pytest.raises(ConnectorFileError, match=r"acme.yaml:4:11: ") as caught:
        connector(tmp_path, base_url=base_url, tail=tail)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("token_url", "tail"),
    [
        ("https://${sub}.acme.com/token", fields("fields", sub="[a-z]+")),
        ("https://${host}/token", fields("fields", host=r"[a-z-]+(\.[a-z-]+)*\.acme\.com")),
        ("https://${host}:8443/token", fields("fields", host=r"[a-z-]+\.(acme|acmegov)\.com")),
        ("https://${host}/token", fields("fields", host=r"eu\.acme\.com|us\.acme\.com")),
        ("${url}/token", fields("fields", url=r"https://[a-z]+\.acme\.com")),
        ("https://${host}/token", fields("app_fields", host="[a-z.]+")),
        ("${url}/token", fields("app_fields", url="https?://[a-z.]+")),
    ],
)
def test_token_urls_that_keep_the_operators_secret(tmp_path, token_url, tail):
    assert connector(tmp_path, token_url=token_url, tail=tail)


@pytest.mark.parametrize(
    ("token_url", "tail"),
    [
        ("https://${host}/token", fields("fields", host="[a-z.]+")),
        ("https://${host}/token", fields("fields", host=r"[a-z]+\.com")),
        ("https://${host}/token", fields("fields", host=r"[a-z.]+|eu\.acme\.com")),
        ("https://${host}/token", fields("fields", host=r"([a-z.]+|eu\.acme\.com)")),
        ("https://${host}/token", fields("fields", host=r"[a-z.]+(\.acme\.com)?")),
        ("https://${host}/token", fields("fields", host=r"[a-z]+\.acme\.[a-z]+")),
        ("https://${host}.com/token", fields("fields", host="[a-z]+")),
        ("https://eu-${host}acme.com/token", fields("fields", host="[a-z.]+")),
        ("${url}/token", fields("fields", url="https://[a-z.]+")),
        ("${url}/token", fields("fields", url=r"https?://[a-z]+\.acme\.com")),
        ("${url}/token", fields("fields", url=r"https://[a-z.]+(/x\.acme\.com)")),
        ("https://${host}/token", "      callback_keep: {host: {param: h, pattern: '[a-z.]+'}}\n"),
    ],
)
def test_token_urls_that_would_give_it_away(tmp_path, token_url, tail):
    with pytest.raises(ConnectorFileError, match=r"acme.yaml:9:18: the operator's client secret is sent"):
        connector(tmp_path, token_url=token_url, tail=tail)


def test_an_accounts_own_client_secret_may_go_where_the_account_says(tmp_path):
    tail = fields("fields", host="[a-z.]+")
    assert connector(tmp_path, token_url="https://${host}/token", tail=tail, grant="grant: client_credentials")
