"""
Metadata of objects in Google Cloud Storage.
"""

from typing import Any, cast

from counterfoil.archives.backends._object_store import BucketAddress
from counterfoil.archives.backends.gcs import GcsBackend

NO_STORE = cast("Any", None)
BACKEND = GcsBackend(
    NO_STORE, BucketAddress("Archive/dms", "Google Cloud Storage", "contracts", "the pod's identity")
)


def test_tags_become_metadata_in_ascii() -> None:
    assert BACKEND.attributes({"customer": "M\u00fcller & S\u00f6hne", "no": "47/11"}) == {
        "customer": "M_ller & S_hne",
        "no": "47/11",
    }


def test_all_tags_together_have_at_most_8_kib() -> None:
    """More is refused, and the sender of an envelope chooses the values."""
    found = BACKEND.attributes({f"tag-{number}": "x" * 1024 for number in range(64)})

    assert len(found) == 64
    assert 7 * 1024 < sum(len(name) + len(value) for name, value in found.items()) <= 8 * 1024


def test_some_long_tags_are_whole() -> None:
    tags = {f"tag-{number}": "x" * 1024 for number in range(7)}
    assert BACKEND.attributes(tags) == tags
