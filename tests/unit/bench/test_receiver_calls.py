"""The work of the receiver for one callback, in counts that do not depend on the speed of the machine."""

from collections.abc import Mapping

import pytest

from verification.bench.receiver_calls import Work, measure

COUNT = 50


@pytest.fixture(scope="module")
def works() -> Mapping[str, Work]:
    return measure(COUNT)


@pytest.mark.parametrize("kind", ["new callback", "known callback"])
def test_a_callback_takes_one_request_to_the_api_server(works: Mapping[str, Work], kind: str) -> None:
    assert works[kind].requests == COUNT


@pytest.mark.parametrize(("kind", "maximum"), [("new callback", 204), ("known callback", 214)])
def test_a_callback_takes_few_calls_of_python_more_than_a_bare_create(
    works: Mapping[str, Work], kind: str, maximum: int
) -> None:
    """The maximum is the count with Python 3.11 and some room: the event loop has a few calls more while the
    machine is busy. Later versions of Python have fewer."""
    bare = works["bare client, creates"].total_calls
    assert works[kind].total_calls - bare <= maximum
