"""
Signatures for S3, held against the examples in Amazon's own documentation.
"""

import hashlib
from datetime import UTC, datetime

from counterfoil.archives.backends._object_store.object_lock import ObjectLockState
from counterfoil.archives.backends._object_store.sigv4 import SigningCredentials, signed
from counterfoil.archives.backends.s3 import address_of
from counterfoil.resources.archive import S3

# From "Examples: Signature Calculations in AWS Signature Version 4".
KEY = SigningCredentials(
    "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", None, "us-east-1"
)
NOW = datetime(2013, 5, 24, tzinfo=UTC)
HOST = "https://examplebucket.s3.amazonaws.com"


def signature(
    method: str,
    url: str,
    *,
    key: SigningCredentials = KEY,
    headers: dict[str, str] | None = None,
    content: bytes = b"",
) -> str:
    payload = hashlib.sha256(content).hexdigest()
    sent = signed(key, method, url, headers=headers or {}, payload=payload, now=NOW)
    return sent["Authorization"].rpartition("Signature=")[2]


def test_an_object_is_asked_for_as_in_the_documentation() -> None:
    wanted = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    assert signature("GET", f"{HOST}/test.txt", headers={"range": "bytes=0-9"}) == wanted


def test_an_object_is_put_as_in_the_documentation() -> None:
    headers = {"date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"}
    wanted = "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
    assert (
        signature("PUT", f"{HOST}/test%24file.text", headers=headers, content=b"Welcome to Amazon S3.")
        == wanted
    )


def test_a_subresource_is_asked_for_as_in_the_documentation() -> None:
    wanted = "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
    assert signature("GET", f"{HOST}/?lifecycle=") == wanted


def test_parameters_are_sorted_as_in_the_documentation() -> None:
    wanted = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
    assert signature("GET", f"{HOST}/?prefix=J&max-keys=2") == wanted


def test_a_session_token_is_sent_and_signed() -> None:
    key = SigningCredentials("A", "s", "token", "us-east-1")
    sent = signed(key, "GET", HOST, headers={}, payload=hashlib.sha256().hexdigest(), now=NOW)

    assert sent["x-amz-security-token"] == "token"
    assert "x-amz-security-token" in sent["Authorization"]
    assert "token" not in repr(key)


def test_the_address_of_a_bucket_is_the_one_that_files_go_to() -> None:
    made = [
        address_of(S3(bucket="contracts", region="eu-central-1")),
        address_of(S3(bucket="contracts", region="eu-central-1", force_path_style=True)),
        address_of(S3(bucket="contracts", region="x", endpoint="https://s3.acme.example:9000/")),
        address_of(S3(bucket="contracts", region="x", endpoint="http://127.0.0.1:9000")),
    ]
    assert made == [
        "https://contracts.s3.eu-central-1.amazonaws.com",
        "https://s3.eu-central-1.amazonaws.com/contracts",
        "https://contracts.s3.acme.example:9000",
        "http://127.0.0.1:9000/contracts",
    ]


def test_a_lock_is_read_as_it_is_written() -> None:
    lock = ObjectLockState("COMPLIANCE", datetime(2036, 1, 2, 3, 4, 5, tzinfo=UTC))

    assert ObjectLockState.read(lock.as_xml()) == lock
    assert ObjectLockState.read(b"<Retention/>") is None
    assert (
        ObjectLockState.read(
            b"<Mode>COMPLIANCE</Mode><RetainUntilDate>2036-99-99T00:00:00Z</RetainUntilDate>"
        )
        is None
    )
