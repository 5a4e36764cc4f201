"""Storing the status of events, while others write, too."""

from datetime import timedelta
from functools import partial

import msgspec
import pytest

from counterfoil.kube.errors import Forbidden, Unavailable
from counterfoil.kube.status import RETRY_PAUSES_SECONDS, StatusWriter, Superseded
from counterfoil.resources import EnvelopeEvent, EnvelopeEventStatus, Origin, Phase, to_json_dict
from tests.support.builders import NOON, an_event
from tests.support.fakes.kube import InMemoryKubeClient


class Pauses:
    """Returns at once and records the requested pauses."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)


def collecting(event: EnvelopeEvent) -> EnvelopeEventStatus:
    return msgspec.structs.replace(event.status, phase=Phase.COLLECTING)


def delivered(kube: InMemoryKubeClient, event: EnvelopeEvent, times: int) -> None:
    """Count deliveries as the receiver does."""
    then = (NOON + timedelta(minutes=times)).isoformat().replace("+00:00", "Z")
    status = {"deliveries": times, "firstDeliveryTime": "2026-07-01T12:00:00Z", "lastDeliveryTime": then}
    kube.edit(EnvelopeEvent, event.name, {"status": status})


async def test_the_new_status_is_stored_and_the_event_comes_back_with_its_new_version() -> None:
    event = an_event().build()
    kube = InMemoryKubeClient(event)
    stored = await StatusWriter(kube).store(event, collecting(event))
    assert stored == kube.stored(event.name)
    assert stored.status.phase is Phase.COLLECTING
    assert stored.metadata.resource_version != event.metadata.resource_version


async def test_the_first_delivery_is_written_along_with_the_first_status() -> None:
    event = an_event().build()
    kube = InMemoryKubeClient(event)
    stored = await StatusWriter(kube).store(event, collecting(event))
    status = stored.status
    assert (status.deliveries, status.first_delivery_time, status.last_delivery_time) == (1, NOON, NOON)
    assert len(kube.patches) == 1


async def test_what_the_sweep_found_was_never_delivered() -> None:
    event = an_event().by(Origin.SWEEP).build()
    stored = await StatusWriter(InMemoryKubeClient(event)).store(event, collecting(event))
    assert (stored.status.deliveries, stored.status.first_delivery_time) == (0, None)


async def test_nothing_is_written_when_nothing_changed() -> None:
    event = an_event().status(deliveries=1).build()
    kube = InMemoryKubeClient(event)
    assert await StatusWriter(kube).store(event, event.status) is event
    assert kube.asked == []


async def test_a_delivery_counted_meanwhile_is_no_reason_to_stop_and_both_survive() -> None:
    event = an_event().build()
    kube = InMemoryKubeClient(event)
    delivered(kube, event, times=3)
    stored = await StatusWriter(kube).store(event, collecting(event))
    assert (stored.status.phase, stored.status.deliveries) == (Phase.COLLECTING, 3)
    assert stored.status.last_delivery_time == NOON + timedelta(minutes=3)


async def test_an_api_server_that_asks_for_a_day_of_patience_gets_no_more_than_others() -> None:
    event = an_event().build()
    kube, pauses = InMemoryKubeClient(event), Pauses()
    kube.fail("patch_status", Unavailable(503, "503", "away", 86_400.0), Unavailable(429, "429", "busy", 2.0))
    stored = await StatusWriter(kube, sleep=pauses.sleep).store(event, collecting(event))
    assert stored.status.phase is Phase.COLLECTING
    assert pauses.seconds == [RETRY_PAUSES_SECONDS[-1], 2.0]


async def test_deliveries_may_come_again_and_again() -> None:
    event = an_event().build()
    kube = InMemoryKubeClient(event)
    for times in range(2, 12):
        kube.just_before("patch_status", partial(delivered, kube, event, times))
    stored = await StatusWriter(kube).store(event, collecting(event))
    assert (stored.status.phase, stored.status.deliveries) == (Phase.COLLECTING, 11)


async def test_a_label_or_a_suspension_set_meanwhile_is_kept_and_seen() -> None:
    event = an_event().build()
    kube = InMemoryKubeClient(event)
    kube.edit(EnvelopeEvent, event.name, {"spec": {"suspend": True}, "metadata": {"labels": {"mine": "yes"}}})
    stored = await StatusWriter(kube).store(event, collecting(event))
    assert stored.spec.suspend
    assert stored.metadata.labels["mine"] == "yes"


async def test_an_event_whose_status_another_client_changed_is_not_written() -> None:
    event = an_event().build()
    kube = InMemoryKubeClient(event)
    kube.edit(EnvelopeEvent, event.name, {"status": {"phase": "Skipped"}})
    with pytest.raises(Superseded, match="changed by another process") as overtaken:
        await StatusWriter(kube).store(event, collecting(event))
    assert kube.patches == []
    assert overtaken.value.newest == kube.stored(event.name), "so that the worker continues from there"


async def test_an_event_that_was_deleted_is_gone_for_this_run() -> None:
    event = an_event().build()
    with pytest.raises(Superseded, match="deleted") as overtaken:
        await StatusWriter(InMemoryKubeClient()).store(event, collecting(event))
    assert overtaken.value.newest is None


async def test_another_event_of_the_same_name_is_not_written_to() -> None:
    event = an_event().build()
    kube = InMemoryKubeClient(event)
    kube.edit(EnvelopeEvent, event.name, {"metadata": {"uid": "another"}})
    with pytest.raises(Superseded):
        await StatusWriter(kube).store(event, collecting(event))


async def test_while_the_api_server_is_down_it_waits_and_then_stores() -> None:
    event = an_event().build()
    kube, pauses = InMemoryKubeClient(event), Pauses()
    kube.go_away("patch_status", times=4)
    stored = await StatusWriter(kube, sleep=pauses.sleep).store(event, collecting(event))
    assert stored.status.phase is Phase.COLLECTING
    assert pauses.seconds == list(RETRY_PAUSES_SECONDS[:4])


async def test_it_waits_as_long_as_the_api_server_says() -> None:
    event = an_event().build()
    kube, pauses = InMemoryKubeClient(event), Pauses()
    kube.fail("patch_status", Unavailable(429, "TooManyRequests", "slow down", retry_after=7.0))
    await StatusWriter(kube, sleep=pauses.sleep).store(event, collecting(event))
    assert pauses.seconds == [7.0]


async def test_an_api_server_that_stays_away_is_given_up_after_about_a_minute() -> None:
    event = an_event().build()
    kube, pauses = InMemoryKubeClient(event), Pauses()
    kube.go_away("patch_status", times=1000)
    with pytest.raises(Unavailable):
        await StatusWriter(kube, sleep=pauses.sleep).store(event, collecting(event))
    assert 50 < sum(pauses.seconds) < 90


async def test_a_write_whose_answer_was_lost_counts_as_done() -> None:
    event = an_event().status(deliveries=1).build()
    kube, pauses = InMemoryKubeClient(event), Pauses()
    wanted = collecting(event)
    kube.just_before(
        "patch_status", lambda: kube.edit(EnvelopeEvent, event.name, {"status": to_json_dict(wanted)})
    )
    kube.go_away("patch_status", times=1)
    stored = await StatusWriter(kube, sleep=pauses.sleep).store(event, wanted)
    assert stored == kube.stored(event.name)


async def test_a_write_that_is_not_allowed_is_not_repeated() -> None:
    event = an_event().build()
    kube, pauses = InMemoryKubeClient(event), Pauses()
    kube.fail("patch_status", Forbidden(403, "Forbidden", "no"))
    with pytest.raises(Forbidden):
        await StatusWriter(kube, sleep=pauses.sleep).store(event, collecting(event))
    assert pauses.seconds == []
