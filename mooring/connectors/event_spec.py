"""The part of the native format that says how a provider's own webhooks are verified and read."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from mooring.connectors.spec_types import Seconds, Spec, Text, exactly_one, short


class SignatureSpec(Spec):
    """An HMAC of the request, keyed with the endpoint's secret."""

    header: str
    algorithm: Literal["sha1", "sha256", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""  # of the header's value, such as `sha256=`
    part: str | None = None  # the header is a list such as `t=1,v1=ab`: the name of the signature in it
    timestamp_part: str | None = None  # and that of the time
    timestamp: Text | None = None  # seconds or milliseconds since 1970, or RFC 3339
    tolerance: Annotated[Seconds, Field(ge=1, le=86400)] = 300
    signed: Text = "${body}"
    secret_encoding: Literal["text", "base64", "hex"] = "text"


class TokenSpec(Spec):
    """The endpoint's secret itself, sent along."""

    header: str | None = None
    query: str | None = None
    basic: bool | None = None  # as the password of HTTP Basic

    @model_validator(mode="after")
    def _one(self) -> TokenSpec:
        exactly_one("a token", self.model_fields_set, ("header", "query", "basic"))
        return self


class EventsSpec(Spec):
    """How webhooks of the provider come in. Exactly one of the four ways to verify them."""

    signature: SignatureSpec | None = None
    token: Annotated[TokenSpec, BeforeValidator(short("header"), json_schema_input_type=str | TokenSpec)] | None = None
    standard_webhooks: Literal[True] | None = None
    address: Literal[True] | None = None  # nothing but the secret in the endpoint's address
    id: Text | None = None  # names one delivery, so that a repetition is told from it
    type: Text | None = None
    account: Text | None = None  # the provider's name of the account, where one address serves many
    items: str | None = None  # dotted path of the list, where one delivery holds several events
    challenge: Text | None = None  # what the provider wants to have said back; nothing where it gives nothing

    @model_validator(mode="after")
    def _one(self) -> EventsSpec:
        exactly_one("`events`", self.model_fields_set, ("signature", "token", "standard_webhooks", "address"))
        return self
