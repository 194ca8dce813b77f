"""Webhook signatures, checked with the published verifier and with vectors computed by hand."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from mooring.protocol import signing

# The example of the Standard Webhooks specification.
SPEC_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SPEC_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
SPEC_BODY = b'{"test": 2432232314}'
SPEC_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_example_of_the_specification() -> None:
    assert signing.standard_signature(SPEC_SECRET, SPEC_ID, 1614265330, SPEC_BODY) == SPEC_SIGNATURE


def test_the_contracts_header_is_the_formula_of_the_contract() -> None:
    secret, body = "whsec_c2VjcmV0", b'{"event":"account.created"}'
    expected = base64.urlsafe_b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).rstrip(b"=").decode()
    assert signing.stackone_signature(secret, body) == expected
    # Fixed, so that the key bytes (the secret as shown, prefix included) can't change unnoticed.
    assert expected == "_n6gcxjDjVN3Rtfo48knYQ2y3nvxg-i9XGp4NhpksnY"


def test_a_new_secret_has_32_random_bytes_behind_the_prefix() -> None:
    first, second = signing.new_secret(), signing.new_secret()
    assert first != second
    assert first.startswith("whsec_")
    assert len(base64.b64decode(first.removeprefix("whsec_"), validate=True)) == 32


def test_both_active_secrets_verify_and_no_other() -> None:
    old, new, other = (signing.new_secret() for _ in range(3))
    body = '{"name":"Zoë"}'.encode()
    headers = dict(signing.signature_headers([old, new], "evt_1", int(time.time()), body))
    for secret in (old, new):
        assert Webhook(secret).verify(body, headers) == {"name": "Zoë"}
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify(body, headers)
    assert headers["x-stackone-signature"] == signing.stackone_signature(old, body)


@pytest.mark.parametrize("change", ["id", "timestamp", "body"])
def test_every_signed_part_counts(change: str) -> None:
    secret, now = signing.new_secret(), int(time.time())
    headers = dict(signing.signature_headers([secret], "evt_1", now, b"{}"))
    body = b"[]" if change == "body" else b"{}"
    if change == "id":
        headers["webhook-id"] = "evt_2"
    if change == "timestamp":
        headers["webhook-timestamp"] = str(now + 1)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body, headers)


def test_an_id_with_a_dot_is_refused() -> None:
    with pytest.raises(ValueError, match="dot"):
        signing.standard_signature(SPEC_SECRET, "evt.1", 1, b"{}")


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_***", "c2VjcmV0", "whsec_abc"])
def test_a_secret_of_another_shape_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_ and base64") as refusal:
        signing.standard_signature(secret, "evt_1", 1, b"{}")
    assert len(secret) < 7 or secret not in str(refusal.value)
