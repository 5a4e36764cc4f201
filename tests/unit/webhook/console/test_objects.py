"""Archives and Senders in the console: targets without secrets, links, and the list of senders."""

import msgspec
import pytest

from counterfoil.i18n.catalogue import LANGUAGES, CatalogueName, load_catalogue
from counterfoil.resources import Archive, ArchiveSpec
from counterfoil.resources.archive_kinds import EXAMPLES, KINDS, TARGET_FIELDS
from counterfoil.resources.base import ObjectMeta
from tests.support.scenes.console_parts import a_sender_that
from webhook.console.objects import (
    MAX_LINK_LENGTH,
    SenderSearch,
    document_link,
    kind_of,
    page_of,
    read_search,
    target_of,
)

# -- Targets ------------------------------------------------------------------------------------------------


def an_archive(kind: str, **more: object) -> Archive:
    spec = msgspec.convert({kind: {**EXAMPLES[kind], **more}}, ArchiveSpec)
    return Archive(metadata=ObjectMeta(name="dms"), spec=spec)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_shows_its_target_in_words(kind: str) -> None:
    target = dict(target_of(an_archive(kind)))
    expected = {name: EXAMPLES[kind][name] for name in TARGET_FIELDS if name in EXAMPLES[kind]}
    assert {name: target.get(name) for name in expected if name != "kind"} == {
        name: value for name, value in expected.items() if name != "kind"
    }
    for language in LANGUAGES:
        words = load_catalogue(CatalogueName.CONSOLE, language)
        assert words.has("archive_kind", kind)
        assert [name for name in target if not words.has("target", name)] == []


def test_a_bucket_shows_its_server_and_prefix_and_not_its_secret() -> None:
    archive = an_archive(
        "s3",
        prefix="esaw/",
        endpoint="https://minio.acme.example:9000",
        credentialsSecretRef={"name": "the-secret"},
    )
    assert target_of(archive) == (
        ("bucket", "contracts"),
        ("prefix", "esaw/"),
        ("endpoint", "https://minio.acme.example:9000"),
    )


def test_the_settings_of_a_third_party_kind_are_not_shown() -> None:
    archive = an_archive("custom", settings={"password": "hunter2", "url": "https://user:hunter2@x"})
    assert "hunter2" not in str(target_of(archive))


def test_an_object_without_a_kind_has_no_target() -> None:
    archive = Archive(metadata=ObjectMeta(name="dms"), spec=ArchiveSpec())
    assert (kind_of(archive), target_of(archive)) == ("", ())


# -- Links --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "location",
    [
        "https://dms.example.com/files/acme/contract%20%231.pdf",
        "https://dms.example.com:8443/remote.php/dav/contract.pdf?version=2",
    ],
)
def test_an_https_address_is_a_link(location: str) -> None:
    assert document_link(location) == location


@pytest.mark.parametrize(
    "location",
    [
        None,
        "",
        "file:///srv/acme/contract.pdf",
        "s3://contracts/acme/contract.pdf",
        "sftp://dms.example.com/contract.pdf",
        "http://dms.example.com/contract.pdf",
        "javascript:alert(1)",
        " javascript:alert(1)",
        "JavaScript://dms.example.com/%0aalert(1)",
        "data:text/html,<script>alert(1)</script>",
        "//evil.example/contract.pdf",
        "https:evil.example",
        "https:///contract.pdf",
        "https://dms.example.com@evil.example/contract.pdf",
        "https://jane:secret@dms.example.com/contract.pdf",
        "https://dms.example.com\\@evil.example/contract.pdf",
        "https://dms.example.com/a b.pdf",
        "https://dms.example.com/a\nb.pdf",
        "https://dms.example.com/\u202efdp.exe",
        "https://[::1/contract.pdf",
        "https://dms.example.com:99999/contract.pdf",
        "https://dms.example.com/" + "a" * MAX_LINK_LENGTH,
    ],
)
def test_everything_else_stays_text(location: str | None) -> None:
    assert document_link(location) is None


# -- The list of senders ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("anna", True),
        ("KOFLER anna", True),
        ("anna@EXAMPLE", True),
        ("an ko", True),
        ("ben", False),
        ("anna ben", False),
    ],
)
def test_a_sender_is_found_by_each_word_of_name_and_address(text: str, matches: bool) -> None:
    raw = a_sender_that().to_dict()
    assert SenderSearch(text=text).matches(raw) is matches


def test_a_sender_of_another_version_is_compared_by_what_it_has() -> None:
    raw = {"metadata": {"name": "x"}, "spec": {"email": 7}}
    assert SenderSearch(text="x").matches(raw)
    assert not SenderSearch(text="7").matches(raw)


def test_problems_come_first_and_those_for_which_most_waits_before_them() -> None:
    senders = (
        a_sender_that("True", "KeyAccepted", name="good", waiting_events=0),
        a_sender_that("Unknown", "Pending", name="new", waiting_events=0),
        a_sender_that(name="idle", waiting_events=0),
        a_sender_that(name="few", waiting_events=1),
        a_sender_that(name="many", waiting_events=9),
    )
    shown = page_of(senders, 1, rows=10)
    assert [each.name for each in shown.senders] == ["many", "few", "idle", "new", "good"]


@pytest.mark.parametrize(("asked", "shown"), [(1, ["a", "b"]), (2, ["c"]), (9, ["c"])])
def test_a_page_holds_its_rows_and_the_last_page_the_rest(asked: int, shown: list[str]) -> None:
    found = page_of([a_sender_that(name=name) for name in "cab"], asked, rows=2)
    assert [each.name for each in found.senders] == shown
    assert (found.count, found.pages) == (3, 2)


def test_without_senders_there_is_one_empty_page() -> None:
    assert page_of([], 3, rows=2).pages == 1


@pytest.mark.parametrize("page", ["", "0", "-1", "x", "²", "9999999"])
def test_a_page_that_is_none_is_the_first(page: str) -> None:
    assert read_search({"page": page}, "").page == 1


def test_a_link_to_a_page_keeps_the_search() -> None:
    search = read_search({"text": " Anna & Co ", "page": "2"}, "acme")
    assert search.query(3) == "organization=acme&text=Anna+%26+Co&page=3"
    assert len(read_search({"text": "x" * 500}, "").text) == 100
