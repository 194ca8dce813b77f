"""Signed SAML 2.0 bearer assertions, for the grant of RFC 7522. The signature is made by `signxml`, read when needed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

GRANT: Final = "urn:ietf:params:oauth:grant-type:saml2-bearer"
UNSPECIFIED: Final = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"
_SAML: Final = "urn:oasis:names:tc:SAML:2.0:assertion"
_DSIG: Final = "http://www.w3.org/2000/09/xmldsig#"
_XSI: Final = "http://www.w3.org/2001/XMLSchema-instance"
_XS: Final = "http://www.w3.org/2001/XMLSchema"
_BEARER: Final = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
_PASSWORD: Final = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"


def assertion(
    *,
    issuer: str,
    subject: str,
    audience: str,
    recipient: str,
    private_key: str,
    id: str,
    now: datetime,
    lifetime: timedelta,
    attributes: Mapping[str, str] | None = None,
    name_format: str = UNSPECIFIED,
    certificate: str | None = None,
) -> bytes:
    """The assertion as XML, signed with RSA and SHA-256 over its exclusive canonical form (SAML core §5.4).

    `recipient` is the token endpoint, `private_key` and `certificate` are PEM. Raises ValueError for a key that is none, or
    for text that can't stand in XML.
    """
    from lxml import etree  # type: ignore[import-untyped]

    moment, end = _moment(now), _moment(now + lifetime)
    root = etree.Element(f"{{{_SAML}}}Assertion", nsmap={"saml2": _SAML, "xs": _XS, "xsi": _XSI})
    root.attrib.update({"ID": id, "IssueInstant": moment, "Version": "2.0"})

    def add(parent: Any, name: str, text: str | None = None, **values: str) -> Any:
        made = etree.SubElement(parent, f"{{{_SAML}}}{name}", values)
        made.text = text
        return made

    add(root, "Issuer", issuer)
    # Where the signature goes: after the issuer, as the schema has it.
    etree.SubElement(root, f"{{{_DSIG}}}Signature", {"Id": "placeholder"}, nsmap={"ds": _DSIG})
    who = add(root, "Subject")
    add(who, "NameID", subject, Format=name_format)
    confirmed = add(who, "SubjectConfirmation", Method=_BEARER)
    add(confirmed, "SubjectConfirmationData", NotOnOrAfter=end, Recipient=recipient)
    conditions = add(root, "Conditions", NotBefore=_moment(now - timedelta(minutes=1)), NotOnOrAfter=end)
    add(add(conditions, "AudienceRestriction"), "Audience", audience)
    statement = add(root, "AuthnStatement", AuthnInstant=moment, SessionIndex=id)
    add(add(statement, "AuthnContext"), "AuthnContextClassRef", _PASSWORD)
    if attributes:
        listed = add(root, "AttributeStatement")
        for name, value in attributes.items():
            made = add(add(listed, "Attribute", Name=name), "AttributeValue", value)
            made.set(f"{{{_XSI}}}type", "xs:string")
    return bytes(etree.tostring(_signed(root, private_key, certificate, id)))


def _signed(root: Any, private_key: str, certificate: str | None, id: str) -> Any:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureMethod
    from signxml.signer import XMLSigner

    try:
        key = load_pem_private_key(private_key.strip().encode(), password=None)
    except (ValueError, TypeError):
        raise ValueError("the private key is no PEM key, or it has a password") from None
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("the private key has to be an RSA key")  # noqa: TRY004 - a value of the account is wrong
    signer = XMLSigner(
        signature_algorithm=SignatureMethod.RSA_SHA256,
        digest_algorithm=DigestAlgorithm.SHA256,
        c14n_algorithm=CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0,
    )
    return signer.sign(root, key=key, cert=certificate or None, reference_uri=id, id_attribute="ID")


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
