"""The envelopes of one user in windows of the time of sending."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import pytest

from controller.resync.envelope_listing import EnvelopeListing, TooManyListed, Window, windows_back
from controller.resync.envelope_search import EnvelopeSearch
from counterfoil.esaw import EsawUserClient, FoundEnvelope
from counterfoil.resources import EnvelopeStatus
from tests.support.builders import ENVELOPE, NOON

DAY = timedelta(days=1)
SECOND = "11111111-4b1d-4c58-9a57-6d1f0a3b2c4d"


class ListingUser(EsawUserClient):
    """Lists the same ids for every window."""

    def __init__(self, listed: Mapping[EnvelopeStatus, Sequence[str]]) -> None:
        self._listed = listed

    async def find(
        self,
        *,
        status: EnvelopeStatus | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        sender_email: str | None = None,
    ) -> tuple[FoundEnvelope, ...]:
        assert status is not None
        return tuple(FoundEnvelope(id=each) for each in self._listed.get(status, ()))


async def unchecked() -> None:
    """Let the search continue."""


def a_listing(*ids: str, max_hits: int = 100) -> EnvelopeListing:
    listed = {EnvelopeStatus.COMPLETED: ids, EnvelopeStatus.REJECTED: ids}
    return EnvelopeListing(EnvelopeSearch(ListingUser(listed), 100, unchecked), max_hits)


async def listed_by(listing: EnvelopeListing, *windows: Window) -> list[tuple[str | None, str]]:
    statuses = (EnvelopeStatus.COMPLETED, EnvelopeStatus.REJECTED)
    return [(each.id, each.status) for window in windows async for each in listing.listed(statuses, window)]


@pytest.mark.parametrize(
    ("days", "ends"),
    [(2, [0, 1]), (1.5, [0, 1]), (0.5, [0]), (0, [])],
)
def test_the_windows_go_back_from_the_newest_to_the_oldest(days: float, ends: list[int]) -> None:
    oldest = NOON - timedelta(days=days)
    windows = list(windows_back(NOON, oldest, DAY))
    assert [each.end for each in windows] == [NOON - timedelta(days=each) for each in ends]
    assert all(oldest <= each.start < each.end for each in windows)


async def test_an_envelope_in_two_windows_and_two_statuses_is_yielded_once() -> None:
    windows = windows_back(NOON, NOON - 2 * DAY, DAY)
    assert await listed_by(a_listing(ENVELOPE, ENVELOPE.upper()), *windows) == [(ENVELOPE, "Completed")]


async def test_what_is_no_guid_is_yielded_without_an_id() -> None:
    assert await listed_by(a_listing("../etc", SECOND), Window(NOON - DAY, NOON)) == [
        (None, "Completed"),
        (SECOND, "Completed"),
    ]


async def test_a_listing_ends_at_its_maximum_of_envelopes() -> None:
    with pytest.raises(TooManyListed, match="more than 1 envelopes"):
        await listed_by(a_listing(ENVELOPE, SECOND, max_hits=1), Window(NOON - DAY, NOON))
