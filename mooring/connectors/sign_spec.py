"""How requests are signed, as it is written in YAML."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from mooring.connectors.definition import Signing
from mooring.connectors.spec_types import PlainText, Spec, Text, exactly_one


class Aws4Spec(Spec):
    """AWS Signature Version 4."""

    service: PlainText
    region: Text
    access_key: Text
    secret_key: Text
    session_token: Text | None = None


class OAuth1Spec(Spec):
    """OAuth 1.0a (RFC 5849) with a token that was made at the provider."""

    consumer_key: Text
    consumer_secret: Text
    token: Text | None = None
    token_secret: Text | None = None
    signature_method: Literal["HMAC-SHA1", "HMAC-SHA256", "HMAC-SHA512"] = "HMAC-SHA1"
    realm: Text | None = None


class HmacBasicSpec(Spec):
    """HTTP Basic whose password is an HMAC of the request."""

    username: Text
    secret: Text
    signature_method: Literal["HMAC-SHA1", "HMAC-SHA256", "HMAC-SHA512"] = "HMAC-SHA1"


class HmacSpec(Spec):
    """A header, or with `username` the password of HTTP Basic, that is an HMAC of the request."""

    secret: Text
    username: Text | None = None
    signature_method: Literal["HMAC-SHA1", "HMAC-SHA256", "HMAC-SHA512"] = "HMAC-SHA256"
    header: PlainText = Field(default="X-Signature", pattern=r"^[A-Za-z0-9-]+$")
    prefix: PlainText | None = None  # hmac-sha256, and so on; before the signature, in the header
    date: Literal["iso8601", "rfc2822"] = "iso8601"
    host: bool = False  # whether the host is signed as well
    body: Literal["hash", "parameters"] = "hash"  # what is signed of it: all, or the parameters of a form


class SignSpec(Spec):
    """How each request is signed; exactly one of them."""

    aws4: Aws4Spec | None = None
    oauth1: OAuth1Spec | None = None
    hmac_basic: HmacBasicSpec | None = None
    hmac: HmacSpec | None = None

    @model_validator(mode="after")
    def _one(self) -> SignSpec:
        _ = self.algorithm
        return self

    @property
    def algorithm(self) -> Signing:
        """The one that is given. Raises ValueError when there is not exactly one."""
        return exactly_one("sign", self.model_fields_set, ("aws4", "oauth1", "hmac_basic", "hmac"))  # type: ignore[return-value]

    @property
    def texts(self) -> dict[str, str]:
        """Its values as they are written."""
        given = getattr(self, self.algorithm)
        values = given.model_dump(exclude_none=True).items()
        return {n: str(v).lower() if isinstance(v, bool) else str(v) for n, v in values}
