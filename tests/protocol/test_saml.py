"""SAML 2.0 bearer assertions: what they say, and a signature that is checked here without the library that made it."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from lxml import etree

from mooring.protocol.saml import assertion

NS = {"s": "urn:oasis:names:tc:SAML:2.0:assertion", "d": "http://www.w3.org/2000/09/xmldsig#"}
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)


def pem(key: Any, password: bytes | None = None) -> str:
    sealed = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return str(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed).decode())


def made(**values: Any) -> bytes:
    given: dict[str, Any] = {
        "issuer": "www.issuer.example",
        "subject": "jane",
        "audience": "https://provider.example",
        "recipient": "https://provider.example/oauth/token",
        "private_key": pem(KEY),
        "id": "_4711",
        "now": NOW,
        "lifetime": timedelta(minutes=5),
        "attributes": {"api_key": "k-1"},
    }
    return assertion(**(given | values))


def verify(document: bytes, key: rsa.RSAPrivateKey = KEY) -> None:
    """Check digest and signature as XML-Signature §3.2 has it. Raises InvalidSignature."""
    root = etree.fromstring(document)
    signature = root.find("d:Signature", NS)
    info = signature.find("d:SignedInfo", NS)
    assert info.find("d:Reference", NS).get("URI") == "#" + root.get("ID")
    signed = etree.tostring(info, method="c14n", exclusive=True)
    value = base64.b64decode(signature.findtext("d:SignatureValue", namespaces=NS))
    key.public_key().verify(value, signed, padding.PKCS1v15(), hashes.SHA256())
    root.remove(signature)
    digest = hashlib.sha256(etree.tostring(root, method="c14n", exclusive=True)).digest()
    if base64.b64decode(info.findtext("d:Reference/d:DigestValue", namespaces=NS)) != digest:
        raise InvalidSignature


def test_it_says_what_rfc_7522_asks_for() -> None:
    root = etree.fromstring(made())
    assert root.get("Version") == "2.0" and root.get("IssueInstant") == "2026-11-26T12:00:00Z"
    assert [etree.QName(child).localname for child in root][:3] == ["Issuer", "Signature", "Subject"]
    assert root.findtext("s:Issuer", namespaces=NS) == "www.issuer.example"
    assert root.findtext("s:Subject/s:NameID", namespaces=NS) == "jane"
    confirmation = root.find("s:Subject/s:SubjectConfirmation", NS)
    assert confirmation.get("Method") == "urn:oasis:names:tc:SAML:2.0:cm:bearer"
    data = confirmation.find("s:SubjectConfirmationData", NS)
    assert data.get("Recipient") == "https://provider.example/oauth/token"
    assert data.get("NotOnOrAfter") == "2026-11-26T12:05:00Z"
    conditions = root.find("s:Conditions", NS)
    assert (conditions.get("NotBefore"), conditions.get("NotOnOrAfter")) == (
        "2026-11-26T11:59:00Z",
        "2026-11-26T12:05:00Z",
    )
    assert conditions.findtext("s:AudienceRestriction/s:Audience", namespaces=NS) == "https://provider.example"
    attribute = root.find("s:AttributeStatement/s:Attribute", NS)
    assert attribute.get("Name") == "api_key" and attribute.findtext("s:AttributeValue", namespaces=NS) == "k-1"


@pytest.mark.parametrize("subject", ["jane", "jane & <john>", 'ł "quoted" ✓', "a\nb"])
def test_the_signature_is_right_whatever_the_text(subject: str) -> None:
    document = made(subject=subject)
    verify(document)
    assert etree.fromstring(document).findtext("s:Subject/s:NameID", namespaces=NS) == subject


@pytest.mark.parametrize("old", [b"jane", b"k-1", b"12:05:00Z", b"www.issuer.example"])
def test_a_changed_assertion_is_not_signed(old: bytes) -> None:
    with pytest.raises(InvalidSignature):
        verify(made().replace(old, b"x" * len(old)))


@pytest.mark.parametrize(
    "key",
    ["", "no key", pem(KEY, b"password"), pem(ec.generate_private_key(ec.SECP256R1()))],
    ids=["none", "text", "encrypted", "another kind"],
)
def test_a_key_that_is_none_is_refused_in_words(key: str) -> None:
    with pytest.raises(ValueError, match="the private key"):
        made(private_key=key)


def test_text_that_xml_can_not_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="XML"):
        made(subject="a\x00b")
