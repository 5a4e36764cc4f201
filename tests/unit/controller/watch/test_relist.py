"""Objects that were deleted while a watch was broken, which no list reports."""

import asyncio

from controller.watch.relist import DeletionDetector
from counterfoil.kube.errors import Unavailable
from counterfoil.resources import Archive, EnvelopeEvent, Organization, Phase, Resource, Sender
from tests.support.builders import a_sender, an_event, an_organization
from tests.support.fakes.reconcile_context import an_archive
from tests.support.scenes.waiting_events import HandlersScene, turns


class RelistScene:
    """A namespace of which a controller knows everything, and of which something vanishes unseen."""

    def __init__(self, *resources: Resource) -> None:
        self.scene = HandlersScene(*resources)
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
    relist_scene = RelistScene(*gone, *there)
    relist_scene.lose(*gone)
    await relist_scene.list_started(Organization, Sender, Archive)
    cache = relist_scene.scene.cache
    for store in (cache.organizations, cache.senders, cache.archives):
        assert [each.name for each in store] != []
        assert "gone" not in {each.name for each in store}


async def test_an_event_that_waited_and_was_deleted_is_forgotten() -> None:
    event = an_event().in_phase(Phase.AWAITING_CONSENT).build()
    relist_scene = RelistScene(event)
    await relist_scene.begun()
    relist_scene.lose(event)
    await relist_scene.list_started(EnvelopeEvent)
    assert list(relist_scene.scene.cache.events) == []


async def test_what_is_first_seen_meanwhile_is_not_treated_as_gone() -> None:
    relist_scene = RelistScene(a_sender())
    relist_scene.scene.kube.just_before("page", lambda: relist_scene.scene.observe(a_sender("new")))
    await relist_scene.list_started(Sender)
    assert {each.name for each in relist_scene.scene.cache.senders} == {"anna", "new"}


async def test_what_is_created_again_meanwhile_is_not_treated_as_gone() -> None:
    relist_scene = RelistScene(a_sender())
    relist_scene.lose(a_sender())
    relist_scene.scene.kube.just_before("page", lambda: relist_scene.scene.observe(a_sender(version=7)))
    await relist_scene.list_started(Sender)
    assert [each.metadata.resource_version for each in relist_scene.scene.cache.senders] == ["7"]


async def test_the_first_list_of_events_is_no_gap() -> None:
    relist_scene = RelistScene(an_event().build())
    await relist_scene.begun()
    assert relist_scene.scene.kube.asked == []


async def test_a_list_that_can_not_be_made_is_made_later() -> None:
    relist_scene = RelistScene(a_sender())
    relist_scene.lose(a_sender())
    relist_scene.scene.kube.fail("page", *[Unavailable(0, "NoAnswer", "away")] * 3)
    await relist_scene.list_started(Sender)
    assert list(relist_scene.scene.cache.senders) == []
    assert len(relist_scene.scene.clock.slept) == 3


async def test_after_a_restore_of_etcd_the_listed_state_replaces_the_newer_version() -> None:
    event = an_event().at_version(900).in_phase(Phase.ARCHIVING).build()
    relist_scene = RelistScene(event, a_sender(version=900))
    await relist_scene.begun()
    restored = an_event().at_version(500).in_phase(Phase.COLLECTING).build()
    relist_scene.scene.kube.put(restored)
    relist_scene.scene.kube.put(a_sender(version=500))

    await relist_scene.list_started(EnvelopeEvent, Sender)

    cache = relist_scene.scene.cache
    assert [each.status.phase for each in cache.events] == [Phase.COLLECTING]
    assert [each.metadata.resource_version for each in cache.senders] == ["500"]


async def test_after_a_restore_of_etcd_an_event_that_was_finished_after_the_backup_continues() -> None:
    event = an_event().at_version(800).in_phase(Phase.ARCHIVING).build()
    relist_scene = RelistScene(event)
    await relist_scene.begun()
    relist_scene.scene.observe(an_event().at_version(900).in_phase(Phase.SUCCEEDED).build())
    relist_scene.scene.kube.put(an_event().at_version(500).in_phase(Phase.COLLECTING).build())

    await relist_scene.list_started(EnvelopeEvent)

    assert [each.status.phase for each in relist_scene.scene.cache.events] == [Phase.COLLECTING]
