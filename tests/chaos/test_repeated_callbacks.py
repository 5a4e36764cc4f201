"""
ESAW calls again and again, through several receivers at once, while the controller works: one key, one event
(rule 2).
"""

import random
from functools import partial

from counterfoil.resources import Phase
from tests.support.callers import calling
from tests.support.pauses import eventually
from tests.support.scenes.chaos import Scene


async def test_a_thousand_equal_callbacks_make_one_event_that_is_worked_once_and_counts_them_all(
    scene: Scene,
) -> None:
    await scene.controller()
    envelope = scene.envelope(3000, 40_000)
    # So that the controller is at work while callbacks come, and does not end before the second one.
    scene.standin.fault("file", delay=0.3)

    async with calling(await scene.receivers(2)) as esaw:
        answers = await esaw.call_about([envelope] * 1000, at_once=50)

    assert {each.status for each in answers} == {200}
    (event,) = await scene.events()
    await scene.holds(event.name)
    await eventually(partial(counts, scene, event.name, 1000))
    assert len(scene.standin.delete_calls(envelope)) == 1
    assert (await scene.event(event.name)).status.phase is Phase.SUCCEEDED


async def test_thirty_envelopes_called_about_thirty_times_each_make_thirty_events(scene: Scene) -> None:
    await scene.controller()
    envelopes = [scene.envelope(2000, 3000) for _ in range(30)]
    calls = envelopes * 30
    random.Random(30).shuffle(calls)

    async with calling(await scene.receivers(2)) as esaw:
        answers = await esaw.call_about(calls, at_once=50)

    assert {each.status for each in answers} == {200}
    events = await scene.events()
    assert sorted(each.spec.envelope_id for each in events) == sorted(envelopes)
    for event in events:
        await scene.holds(event.name)
        await eventually(partial(counts, scene, event.name, 30))
    assert [len(scene.standin.delete_calls(each)) for each in envelopes] == [1] * 30


async def counts(scene: Scene, name: str, deliveries: int) -> bool:
    return (await scene.event(name)).status.deliveries == deliveries
