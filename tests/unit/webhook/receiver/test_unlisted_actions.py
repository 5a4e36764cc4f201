"""Callbacks whose action the organization does not list: counted by name where people look, within bounds."""

import asyncio
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry

from counterfoil.kube.errors import Forbidden
from counterfoil.metrics import Metrics
from counterfoil.resources import Organization
from tests.support.builders import NOON, AClock, an_organization
from tests.support.fakes.kube import InMemoryKubeClient
from webhook.receiver.unlisted_actions import UnlistedActionCounter


class Scene:
    def __init__(self) -> None:
        self.clock = AClock()
        self.kube = InMemoryKubeClient(an_organization())
        self.metrics = Metrics(CollectorRegistry(), version="test")
        self.counter = self.another_receiver()

    def another_receiver(self) -> UnlistedActionCounter:
        return UnlistedActionCounter(self.kube, self.metrics, clock=self.clock, seconds=30.0)

    def stored(self) -> list[tuple[str, int]]:
        organization = Organization.parse(self.kube.objects["organizations", "acme"])
        return [(each.action, each.count) for each in organization.status.unlisted_actions]

    def counted(self, action: str) -> float | None:
        labels = {"organization": "acme", "action": action}
        return self.metrics.registry.get_sample_value("counterfoil_unlisted_actions_total", labels)


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_an_unlisted_action_is_in_the_status_with_its_count_and_the_time_of_the_last(
    scene: Scene,
) -> None:
    scene.counter.count("acme", "envelopeClosed")
    scene.clock.advance(minutes=5)
    scene.counter.count("acme", "ENVELOPEclosed")
    await scene.counter.flush()
    (told,) = scene.kube.status(Organization, "acme")["unlistedActions"]
    last = (NOON + timedelta(minutes=5)).isoformat().replace("+00:00", "Z")
    assert told == {"action": "envelopeClosed", "count": 2, "lastTime": last}
    assert scene.counted("envelopeClosed") == 2


async def test_a_callback_without_an_action_is_counted_as_none(scene: Scene) -> None:
    scene.counter.count("acme", None)
    await scene.counter.flush()
    assert scene.stored() == [("none", 1)]


async def test_several_receivers_add_to_one_count(scene: Scene) -> None:
    for counter in (scene.counter, scene.another_receiver()):
        counter.count("acme", "envelopeClosed")
        await counter.flush()
    assert scene.stored() == [("envelopeClosed", 2)]


async def test_after_thirty_two_actions_all_others_are_one(scene: Scene) -> None:
    for number in range(40):
        scene.counter.count("acme", f"made{number}up")
    await scene.counter.flush()
    another = scene.another_receiver()
    another.count("acme", "oneMore")
    await another.flush()
    assert scene.stored() == [*((f"made{number}up", 1) for number in range(32)), ("other", 9)]
    assert scene.counted("other") == 8
    assert scene.counted("made33up") is None


async def test_counts_that_cannot_be_written_are_written_later(scene: Scene) -> None:
    scene.counter.count("acme", "envelopeClosed")
    scene.kube.go_away("patch_status", times=1)
    await scene.counter.flush()
    scene.counter.count("acme", "envelopeClosed")
    scene.kube.fail("patch_status", Forbidden(403, "Forbidden", "no"))
    await scene.counter.flush()
    assert scene.stored() == []
    await scene.counter.flush()
    assert scene.stored() == [("envelopeClosed", 2)]


async def test_counts_of_a_deleted_organization_are_dropped(scene: Scene) -> None:
    scene.counter.count("gone", "envelopeClosed")
    await scene.counter.flush()
    scene.kube.asked.clear()
    await scene.counter.flush()
    assert scene.kube.asked == []


async def test_counts_that_are_being_written_at_an_orderly_stop_are_stored() -> None:
    scene = Scene()
    counter = UnlistedActionCounter(scene.kube, scene.metrics, clock=scene.clock, seconds=0.0)
    scene.kube.answering.clear()
    counter.count("acme", "envelopeClosed")
    running = asyncio.create_task(counter.run())
    while not scene.kube.patches:  # noqa: ASYNC110 - the API server in memory has no event
        await asyncio.sleep(0)
    counter.count("acme", "envelopeClosed")
    counter.close()
    scene.kube.answering.set()
    await asyncio.wait_for(running, 10.0)
    assert scene.stored() == [("envelopeClosed", 2)]
