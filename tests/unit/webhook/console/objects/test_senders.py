"""The list of senders: what is searched for, what comes first, and on which page it is."""

import pytest

from tests.support.scenes.console_parts import a_sender_that
from webhook.console.objects.senders import SenderSearch, page_of, read_search


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
