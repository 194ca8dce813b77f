"""Where the credential of an account goes when a step fetches an address that an answer told."""

from __future__ import annotations

import pytest

from mooring import errors
from mooring.actions.s1.authorization import authorized
from mooring.actions.s1.downloads import fetcher, is_same_host, most_redirects
from mooring.connectors.apply import Injection
from mooring.connectors.s1.expressions import compile_s1
from mooring.connectors.s1.program import HttpStep
from mooring.kit.http import ClientIdentity

OWN = Injection("https://api.example.com/v1", [(b"authorization", b"Bearer secret")], [("key", "secret")])


@pytest.mark.parametrize(
    ("url", "with_credential", "sent"),
    [
        ("https://api.example.com/file?x=1", True, True),
        ("https://api.example.com/file", False, False),
        ("https://API.example.com:443/file", True, True),
        ("https://files.example.com/file", True, False),
        ("https://api.example.com.evil.com/file", True, False),
        ("https://api.example.com:8443/file", True, False),
        ("https://api.example.com@evil.com/file", True, None),
        ("http://api.example.com/file", True, None),
        ("http://127.0.0.1/file", True, None),
        ("ftp://api.example.com/file", True, None),
        ("file:///etc/passwd", True, None),
        ("//", True, None),
    ],
)
def test_the_credential_goes_to_the_accounts_own_host_alone(url: str, with_credential: bool, sent: bool | None) -> None:
    """None: the address is not fetched at all."""
    write = fetcher(url, with_credential=with_credential)
    if sent is None:
        with pytest.raises(errors.ProviderError):
            write({}, OWN)
        return
    late = write({}, OWN)
    assert (late.injection.headers, late.injection.query) == ((OWN.headers, OWN.query) if sent else ([], []))
    assert not late.headers and late.body is None


def test_a_step_with_another_credential_shows_the_accounts_certificate() -> None:
    """Mutual TLS is how a provider is reached, whatever a step proves itself with."""
    identity = ClientIdentity("certificate", "key")
    own = Injection("https://api.example.com", [(b"authorization", b"Bearer secret")], [], identity=identity)
    step = HttpStep("GET", compile_s1("/x", strict=False), authorization={"type": "none"})
    found = authorized(step, {}, own)
    assert found.identity == identity and not found.headers


def test_a_redirect_over_another_host_loses_the_credential() -> None:
    assert is_same_host("https://api.example.com/a", "https://API.example.com:443/b?x=1")
    for other in ("https://cdn.example.com/a", "http://api.example.com/a", "https://api.example.com:8443/", "//", ""):
        assert not is_same_host("https://api.example.com/a", other)


@pytest.mark.parametrize(("asked", "followed"), [(None, 5), (0, 0), (1, 1), (-3, 0), (10**9, 20)])
def test_redirects_are_counted(asked: int | None, followed: int) -> None:
    step = HttpStep("GET", compile_s1("/x", strict=False), download={"maxRedirects": asked})
    assert most_redirects(step) == followed
