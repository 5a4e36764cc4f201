"""
Metadata of objects in Google Cloud Storage.
"""

from counterfoil.archives.backends.gcs import metadata_of


def test_tags_become_metadata_in_ascii() -> None:
    assert metadata_of({"customer": "M\u00fcller & S\u00f6hne", "no": "47/11"}) == {
        "customer": "M_ller & S_hne",
        "no": "47/11",
    }


def test_all_tags_together_have_at_most_8_kib() -> None:
    """More is refused, and the sender of an envelope chooses the values."""
    found = metadata_of({f"tag-{number}": "x" * 1024 for number in range(64)})

    assert len(found) == 64
    assert 7 * 1024 < sum(len(name) + len(value) for name, value in found.items()) <= 8 * 1024


def test_some_long_tags_are_whole() -> None:
    tags = {f"tag-{number}": "x" * 1024 for number in range(7)}
    assert metadata_of(tags) == tags
