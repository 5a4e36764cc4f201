"""Imports take a bounded part of the memory, of the quota and of the queue."""

import tracemalloc
from collections.abc import Iterator, Mapping
from typing import Any
from unittest.mock import patch

import msgspec
import pytest

from controller.resync.import_runner import ImportBounds
from counterfoil.kube.errors import ApiError, api_error
from counterfoil.resources import EnvelopeEvent, Phase, Resource, find_condition
from tests.support.builders import an_event
from tests.support.fakes.finding_esaw import numbered
from tests.unit.controller.resync.test_import_runner import NAME, Scene


async def test_counting_a_window_needs_no_memory_for_each_of_its_events() -> None:
    async def peak(events: int) -> int:
        scene = Scene(maxUnfinished=5000)
        scene.finds("anna", *(numbered(each) for each in range(events)))
        await scene.advance()
        files = (f"{number}.pdf" for number in range(100))
        done = an_event().archived(*files).in_phase(Phase.SUCCEEDED).build().to_dict()["status"]
        long = msgspec.json.encode(done)
        scene.finish_all()
        everything = scene.kube.page

        async def one_page(kind: type[Resource], *, limit: int, token: str = "", **selected: str) -> Any:
            raws, more = await everything(kind, limit=limit, token=token, **selected)
            if kind is EnvelopeEvent:
                raws = [{**each, "status": msgspec.json.decode(long)} for each in raws]
            return raws, more

        with patch.object(scene.kube, "page", one_page):
            tracemalloc.start()
            try:
                status = await scene.advance()
                found = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        assert status.archived == events
        return found >> 20

    assert await peak(160) - await peak(60) < 5


def refusal(message: str) -> ApiError:
    """The API server's 403 to a create."""
    status = {"kind": "Status", "reason": "Forbidden", "message": message}
    return api_error(403, msgspec.json.encode(status), None, creating=True)


def message_of(scene: Scene, type_: str) -> str:
    found = find_condition(scene.status_now.conditions, type_)
    assert found is not None
    return found.message


FULL = (
    'envelopeevents.counterfoil.dev "acme-1" is forbidden: exceeded quota: counterfoil, requested: '
    "count/envelopeevents.counterfoil.dev=1, used: 1000, limited: 1000"
)
DENIED = 'admission webhook "validation.gatekeeper.sh" denied the request: [no-cost-centre] label missing'


def refuse(scene: Scene, message: str, *envelopes: str) -> None:
    """Let the API server refuse the events of these envelopes, or all of them."""
    create = scene.kube.create

    async def refusing(kind: type[Resource], body: Mapping[str, Any]) -> Any:
        if kind is EnvelopeEvent and (not envelopes or body["spec"]["envelopeID"] in envelopes):
            raise refusal(message)
        return await create(kind, body)

    patch.object(scene.kube, "create", refusing).start()


@pytest.fixture(autouse=True)
def real_again() -> Iterator[None]:
    yield
    patch.stopall()


@pytest.mark.parametrize(
    ("callbacks", "imported"), [(0, 10), (6, 7), (11, 4), (19, 0)], ids=["none", "few", "half", "full"]
)
async def test_an_import_takes_half_of_the_quota_that_callbacks_leave(callbacks: int, imported: int) -> None:
    scene = Scene(bounds=ImportBounds(quota=20), maxUnfinished=3)
    for number in range(callbacks):
        done = an_event(numbered(1000 + number)).archived().in_phase(Phase.SUCCEEDED)
        scene.kube.put(done.build())
    scene.finds("anna", *(numbered(each) for each in range(30)))
    for _ in range(12):
        await scene.runner.advance(NAME)
        scene.finish_all()
        scene.clock.advance(minutes=2)
    assert len(scene.events()) == callbacks + imported
    assert scene.condition("Ready") == ("False", "ImportCeiling")
    assert scene.condition("Stalled")[0] == "True"


async def test_a_quota_that_is_full_holds_the_import_and_is_named() -> None:
    scene = Scene()
    scene.finds("anna", numbered(1))
    refuse(scene, FULL)
    await scene.advance()
    assert scene.condition("Ready") == ("False", "ImportCeiling")
    assert scene.condition("Stalled")[0] == "True"
    assert "exceeded quota" in message_of(scene, "Ready")
    patch.stopall()
    scene.clock.advance(minutes=2)
    assert (await scene.complete()).archived == 1


async def test_an_event_that_the_cluster_forbids_puts_its_sender_aside_and_no_other() -> None:
    scene = Scene("anna", "bert")
    scene.finds("anna", numbered(1), numbered(2))
    scene.finds("bert", numbered(3))
    refuse(scene, DENIED, numbered(1))
    await scene.advance()
    anna, bert = scene.status_now.senders
    assert (anna.reason, bert.searched) == ("ImportRefused", True)
    assert "no-cost-centre" in (anna.message or "")
    assert scene.condition("Ready") == ("False", "SendersNotSearched")
    assert scene.condition("Stalled")[0] == "True"
    patch.stopall()
    scene.clock.advance(minutes=2)
    assert (await scene.complete()).archived == 3
