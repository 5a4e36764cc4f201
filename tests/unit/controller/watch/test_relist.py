"""Objects that were deleted while a watch was broken, which no list reports."""

import asyncio

from controller.watch.relist import DeletionDetector
from counterfoil.kube.errors import Unavailable
from counterfoil.resources import Archive, EnvelopeEvent, Organization, Phase, Resource, Sender
from tests.support.builders import a_sender, an_event, an_organization
from tests.support.fakes.reconcile_context import an_archive
from tests.support.scenes.handlers import Scene, turns


class Gap:
    """A namespace of which a controller knows everything, and of which something vanishes unseen."""

    def __init__(self, *resources: Resource) -> None:
        self.scene = Scene(*resources)
        self.scene.observe(*resources)
        self.deletion_detector = DeletionDetector(
            self.scene.kube, self.scene.cache, self.scene.clock, labels="", fields=""
        )

    async def list_started(self, *kinds: type[Resource]) -> None:
        """Let kopf list again after a gap."""
        task = asyncio.create_task(self.deletion_detector.run())
        for kind in kinds:
            self.deletion_detector.list_started(kind.PLURAL)
        await turns()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def begun(self) -> None:
        """Let kopf list for the first time."""
        await self.list_started(EnvelopeEvent)

    def lose(self, *resources: Resource) -> None:
        """Delete objects while nobody watches."""
        for each in resources:
            del self.scene.kube.objects[each.PLURAL, each.name]


async def test_what_vanished_is_forgotten_and_what_is_there_is_not() -> None:
    gone = (an_organization("gone"), a_sender("gone"), an_archive("gone"))
    there = (an_organization(), a_sender(), an_archive())
    gap = Gap(*gone, *there)
    gap.lose(*gone)
    await gap.list_started(Organization, Sender, Archive)
    cache = gap.scene.cache
    for shelf in (cache.organizations, cache.senders, cache.archives):
        assert [each.name for each in shelf] != []
        assert "gone" not in {each.name for each in shelf}


async def test_an_event_that_waited_and_was_deleted_is_forgotten() -> None:
    event = an_event().in_phase(Phase.AWAITING_CONSENT).build()
    gap = Gap(event)
    await gap.begun()
    gap.lose(event)
    await gap.list_started(EnvelopeEvent)
    assert list(gap.scene.cache.events) == []


async def test_what_is_seen_for_the_first_time_meanwhile_is_not_taken_for_gone() -> None:
    gap = Gap(a_sender())
    gap.scene.kube.just_before("page", lambda: gap.scene.observe(a_sender("new")))
    await gap.list_started(Sender)
    assert {each.name for each in gap.scene.cache.senders} == {"anna", "new"}


async def test_what_is_made_anew_meanwhile_is_not_taken_for_gone() -> None:
    gap = Gap(a_sender())
    gap.lose(a_sender())
    gap.scene.kube.just_before("page", lambda: gap.scene.observe(a_sender(version=7)))
    await gap.list_started(Sender)
    assert [each.metadata.resource_version for each in gap.scene.cache.senders] == ["7"]


async def test_the_first_list_of_events_is_no_gap() -> None:
    gap = Gap(an_event().build())
    await gap.begun()
    assert gap.scene.kube.asked == []


async def test_a_list_that_can_not_be_made_is_made_later() -> None:
    gap = Gap(a_sender())
    gap.lose(a_sender())
    gap.scene.kube.fail("page", *[Unavailable(0, "NoAnswer", "away")] * 3)
    await gap.list_started(Sender)
    assert list(gap.scene.cache.senders) == []
    assert len(gap.scene.clock.slept) == 3
