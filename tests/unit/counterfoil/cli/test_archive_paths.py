"""Which parts of the URLs in a support bundle are replaced: the paths of archived files."""

import pytest

from counterfoil.archives.names import HASHES_NAME, MANIFEST_NAME, SIGNATURE_NAME
from counterfoil.cli.plugin.installation.archive_paths import ArchivePaths

ENVELOPE = "0f000000-0000-4000-8000-000000000001"


def known() -> ArchivePaths:
    paths = ArchivePaths(b"key")
    paths.learn_organization(
        {
            "spec": {
                "baseURL": "https://esaw.example",
                "oauth": {"publicURL": "https://callbacks.example/cf"},
            },
            "status": {"callbackURLs": ["https://callbacks.example/cf/callbacks/acme/TOKEN"]},
        }
    )
    paths.learn_archive({"spec": {"webdav": {"url": "https://dav.example/remote.php/dav/"}}})
    paths.learn_archive(
        {
            "spec": {"s3": {"bucket": "acme", "endpoint": "https://s3.example:9000"}},
            "status": {"root": {"location": "https://s3.example:9000/acme"}},
        }
    )
    return paths


@pytest.mark.parametrize(
    "location",
    [
        f"s3://acme/Kofler/{ENVELOPE}/Kofler.pdf",
        f"gs://acme/Kofler/{ENVELOPE}/a.pdf",
        f"file:///srv/archive/Kofler/{ENVELOPE}/a.pdf",
        f"sftp://dms.example:2222/~/Kofler/{ENVELOPE}/a.pdf",
        f"discarded:Kofler/{ENVELOPE}/a.pdf",
        f"https://dav.example/remote.php/dav/Kofler/{ENVELOPE}/a.pdf",
        f"https://dav.example/other/Kofler/{ENVELOPE}/a.pdf",
        f"https://cmis-of-a-deleted-archive.example/browser/Kofler/{ENVELOPE}/a.pdf",
        f"https://acme.blob.core.windows.net/acme/M%C3%BCller%20Kofler/{ENVELOPE}/a.pdf",
    ],
)
@pytest.mark.parametrize(
    "sentence", ["{}", "{} is there already.", "Look at {}.", '{{"message": "at `{}`"}}', '\\"{}\\"']
)
def test_no_part_of_a_place_in_an_archive_is_readable_but_its_root(location: str, sentence: str) -> None:
    hidden = known().hide(sentence.format(location))
    assert "Kofler" not in hidden
    assert ENVELOPE in hidden
    before, _, after = sentence.format(location).partition(location)
    assert hidden.startswith(before)
    assert hidden.endswith(after)


@pytest.mark.parametrize("name", [MANIFEST_NAME, HASHES_NAME, SIGNATURE_NAME])
def test_the_root_of_an_archive_and_the_names_that_counterfoil_gives_stay(name: str) -> None:
    hidden = known().hide(f"https://dav.example/remote.php/dav/Kofler/{ENVELOPE}/{name}")
    assert hidden.startswith("https://dav.example/remote.php/dav/")
    assert hidden.endswith(f"/{ENVELOPE}/{name}")
    assert known().hide("https://s3.example:9000/acme") == "https://s3.example:9000/acme"


@pytest.mark.parametrize(
    "text",
    [
        "https://esaw.example/Api/v6/envelope/find answered 500",
        "https://callbacks.example/cf/callbacks/acme/TOKEN",
        "eSignAnyWhere at https://esaw.example does not answer",
        "Archive/dms is ready: 3 of 4",
    ],
)
def test_other_texts_stay(text: str) -> None:
    assert known().hide(text) == text


def test_a_server_of_an_organization_that_is_an_archive_too_counts_as_archive() -> None:
    paths = known()
    paths.learn_archive({"spec": {"http": {"url": "https://esaw.example/archive"}}})
    assert "Kofler" not in paths.hide("https://esaw.example/files/Kofler")


def test_equal_places_are_equal_in_one_bundle_and_not_in_another() -> None:
    place = "s3://acme/Kofler/a.pdf"
    assert known().hide(place) == known().hide(place) != known().hide("s3://acme/Gruber/a.pdf")
    assert ArchivePaths(b"other").hide(place) != known().hide(place)
