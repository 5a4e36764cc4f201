"""Signatures of Standard Webhooks, by the vector of the reference libraries."""

import base64
from datetime import UTC, datetime

import pytest

from counterfoil.standard_webhooks import SigningSecretInvalid, WebhookSignature, decoded_key, signing_keys
from tests.support.builders import AClock

# From the tests of the reference libraries (standard-webhooks, libraries/*/tests).
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIME = datetime.fromtimestamp(1614265330, UTC)
PAYLOAD = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_signature_is_that_of_the_reference_libraries() -> None:
    signed = WebhookSignature(signing_keys(SECRET.encode()), AClock(TIME)).headers(ID, PAYLOAD)
    assert signed == {"webhook-id": ID, "webhook-timestamp": "1614265330", "webhook-signature": SIGNATURE}


def test_during_a_rotation_each_secret_signs() -> None:
    other = "whsec_" + base64.b64encode(bytes(range(32))).decode()
    keys = signing_keys(f"{other}\n{SECRET}\n".encode())
    signatures = WebhookSignature(keys, AClock(TIME)).headers(ID, PAYLOAD)["webhook-signature"].split(" ")
    assert len(signatures) == 2
    assert signatures[1] == SIGNATURE
    assert signatures[0] != SIGNATURE


def test_without_a_key_there_is_no_signature() -> None:
    assert "webhook-signature" not in WebhookSignature((), AClock(TIME)).headers(ID, PAYLOAD)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"", "0 secrets"),
        (b" \n", "0 secrets"),
        (b"top-secret-value", "does not begin with"),
        (b"whsec_top*secret", "is not base64"),
        (b"whsec_dG9vLXNob3J0", "24 to 64 bytes"),
        (b"whsec_" + base64.b64encode(bytes(65)), "24 to 64 bytes"),
        (b"whsec_\xff", "no ASCII"),
        (b"\n".join([SECRET.encode()] * 5), "5 secrets"),
    ],
)
def test_what_is_no_secret_is_refused_without_being_repeated(value: bytes, says: str) -> None:
    with pytest.raises(SigningSecretInvalid, match=says) as invalid:
        signing_keys(value)
    assert "secret-value" not in str(invalid.value)
    assert "dG9v" not in str(invalid.value)


def test_a_key_may_end_with_a_line_end() -> None:
    assert signing_keys(f"{SECRET}\r\n".encode()) == (decoded_key(SECRET),)
