"""The Lease of a draft that is being sent."""

import hashlib
from datetime import datetime, timedelta
from typing import Any

import pytest

from counterfoil.kube.errors import Forbidden
from counterfoil.kube.watch import Raw
from counterfoil.resources.lease import Lease, micro_time
from tests.support.builders import NOON, AClock
from tests.support.fakes.kube import InMemoryKubeClient
from webhook.console.sessions import ProcessCookieCipher
from webhook.pages.send_lease import SendLease, SendLeases

SECONDS = 60
AHEAD = NOON + timedelta(days=30)
CIPHER = ProcessCookieCipher()
NAME = "counterfoil-draft-" + hashlib.sha256(b"\0\0").hexdigest()[:32]
"""Name of the Lease of a draft whose names are empty."""


def a_lease(
    renewed: datetime, *, started: datetime = NOON, seconds: int = SECONDS, **metadata: Any
) -> SendLease:
    spec = {
        "acquireTime": micro_time(started),
        "renewTime": micro_time(renewed),
        "leaseDurationSeconds": seconds,
    }
    raw = {"metadata": {"name": NAME, **metadata}, "spec": spec}
    return SendLease.parse(raw, CIPHER, max_seconds=3600)


def managed(*times: datetime) -> list[dict[str, str]]:
    return [{"manager": "pages", "time": each.isoformat()} for each in times]


@pytest.mark.parametrize(
    ("renewed", "metadata", "seconds", "is_expired"),
    [
        (NOON, {}, SECONDS, False),
        (NOON, {}, SECONDS + 1, True),
        (AHEAD, {"creationTimestamp": NOON.isoformat()}, SECONDS, False),
        (AHEAD, {"creationTimestamp": NOON.isoformat()}, SECONDS + 1, True),
        (AHEAD, {"managedFields": managed(NOON, NOON + timedelta(hours=1))}, 3600 + SECONDS, False),
        (AHEAD, {"managedFields": managed(NOON, NOON + timedelta(hours=1))}, 3601 + SECONDS, True),
        (AHEAD, {}, SECONDS + 1, False),
    ],
    ids=[
        "runs",
        "ended",
        "runs, clock ahead",
        "ended, clock ahead",
        "second runs",
        "second ended",
        "unknown",
    ],
)
def test_an_attempt_with_a_start_that_cannot_be_right_ends_by_the_api_servers_time(
    renewed: datetime, metadata: dict[str, Any], seconds: int, *, is_expired: bool
) -> None:
    assert a_lease(renewed, **metadata).is_expired(NOON + timedelta(seconds=seconds)) is is_expired


@pytest.mark.parametrize(
    ("stated", "believed"),
    [
        (timedelta(0), timedelta(0)),
        (timedelta(hours=-1), timedelta(hours=-1)),
        (timedelta(days=-900), timedelta(days=-1)),
        (timedelta(days=900), timedelta(0)),
    ],
)
def test_a_first_attempt_began_at_most_a_day_before_its_lease_was_created_and_not_after(
    stated: timedelta, believed: timedelta
) -> None:
    lease = a_lease(NOON, started=NOON + stated, creationTimestamp=NOON.isoformat())
    assert lease.started == NOON + believed


@pytest.mark.parametrize(("stated", "believed"), [(SECONDS, SECONDS), (10**9, 3600), (-5, 0)])
def test_an_attempt_lasts_no_longer_than_an_hour(stated: int, believed: int) -> None:
    assert a_lease(NOON, seconds=stated).seconds == believed


# -- What others write into a Lease --------------------------------------------------------------------------


class Scene:
    """A draft that is being sent, and another writer of its Lease."""

    def __init__(self) -> None:
        self.kube = InMemoryKubeClient()
        self.leases = SendLeases(self.kube, CIPHER, AClock(), attempt_seconds=SECONDS)

    async def begun(self, draft: str = "d1") -> SendLease:
        lease = await self.leases.acquire("acme", "anna", draft)
        assert lease is not None
        return lease

    async def found(self) -> SendLease:
        lease = await self.leases.find("acme", "anna", "d1")
        assert lease is not None
        return lease

    def annotations(self, lease: SendLease) -> Raw:
        annotations: Raw = self.kube.objects["leases", lease.name]["metadata"]["annotations"]
        return annotations

    async def annotate(self, lease: SendLease, **annotations: str) -> None:
        named = {f"counterfoil.dev/{name.replace('_', '-')}": value for name, value in annotations.items()}
        await self.kube.patch(Lease, lease.name, {"metadata": {"annotations": named}})


async def test_a_lease_in_which_another_client_wrote_that_the_draft_was_sent_does_not_count_as_sent() -> None:
    scene = Scene()
    lease = await scene.begun()

    await scene.annotate(lease, sent_as="e1", envelopes="e1,e2", sent_time=micro_time(NOON), seal="bm8=")

    found = await scene.found()
    assert (found.is_sent, found.is_completed, found.envelopes, found.sent_time) == (False, False, (), None)


async def test_what_the_pages_wrote_into_a_lease_counts_until_somebody_changes_it() -> None:
    scene = Scene()
    lease = await scene.leases.store_envelopes(await scene.begun(), ["e1", "e2"])
    assert (lease.is_sent, lease.envelopes, lease.sent_time) == (True, ("e1", "e2"), NOON)

    await scene.annotate(lease, envelopes="e1,e2,e3")
    assert not (await scene.found()).is_sent

    await scene.leases.complete(lease, "e1")
    assert (await scene.found()).is_completed
    await scene.annotate(lease, sent_as="e2")
    assert not (await scene.found()).is_sent


async def test_a_seal_of_another_lease_counts_for_no_other() -> None:
    scene = Scene()
    lease, other = await scene.begun(), await scene.begun("d2")
    await scene.leases.complete(other, "e1")

    await scene.annotate(lease, sent_as="e1", seal=scene.annotations(other)["counterfoil.dev/seal"])

    assert not (await scene.found()).is_sent


async def test_a_lease_that_an_older_version_completed_is_asked_about_again() -> None:
    scene = Scene()
    lease = await scene.begun()
    await scene.annotate(lease, sent_as="e1")

    assert not (await scene.found()).is_sent


async def test_only_the_name_of_a_lease_says_whose_draft_it_is() -> None:
    scene = Scene()
    lease = await scene.begun()
    await scene.annotate(lease, sender="bruno", draft="d2")

    found = await scene.found()

    assert (found.sender, found.draft) == ("anna", "d1")
    assert [each async for each in scene.leases.list_drafts()] == []


# -- Used states ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["unreadable", "refused"])
async def test_a_lease_of_a_state_that_cannot_be_deleted_costs_itself(fault: str) -> None:
    scene = Scene()
    await scene.leases.use_state("first")
    await scene.leases.use_state("second")
    (_, first), _ = scene.kube.objects
    if fault == "unreadable":
        scene.kube.objects["leases", first]["spec"]["acquireTime"] = "no time"
    else:
        scene.kube.refused["delete", first] = Forbidden(403, "Forbidden", "not this one")

    deleted = await scene.leases.delete_states(older_than=-60)

    assert (deleted, [name for _, name in scene.kube.objects]) == (1, [first])


async def test_a_lease_that_can_not_be_read_is_logged_once_and_costs_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene()
    lease = await scene.begun()
    await scene.begun("d2")
    await scene.kube.patch(Lease, lease.name, {"spec": {"renewTime": None}})

    for _ in range(2):
        assert [each.draft async for each in scene.leases.list_drafts()] == ["d2"]

    (record,) = [each for each in caplog.records if "can't be read" in each.getMessage()]
    assert lease.name in record.getMessage()
