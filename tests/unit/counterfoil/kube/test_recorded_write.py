"""Requests of persons: written with their record, only to the state that was seen, beside other writers."""

from functools import partial

import pytest

from counterfoil.kube.errors import Conflict
from counterfoil.kube.recorded_write import NoLongerMatches, is_any, write_recorded
from counterfoil.kube.status import MAX_CHANGE_ATTEMPTS
from counterfoil.resources import EnvelopeEvent
from counterfoil.resources.audit_annotation import AuditEntry, audit_entries
from counterfoil.resources.envelopeevent import has_state, state_of
from tests.support.builders import NOON, an_event
from tests.support.fakes.kube import InMemoryKubeClient

ENTRY = AuditEntry(who="jane", what="retry", when=NOON, why="")
CHANGE = {"metadata": {"labels": {"counterfoil.dev/request": "retry"}, "annotations": {"asked": "yes"}}}


async def test_the_record_of_a_person_who_wrote_meanwhile_stays() -> None:
    event = an_event().build()
    kube = InMemoryKubeClient(event)
    other = AuditEntry(who="joe", what="suspend", when=NOON, why="")

    async def first() -> None:
        raw = await kube.get(EnvelopeEvent, event.name)
        await write_recorded(kube, EnvelopeEvent, raw, other, change={}, is_current=is_any)

    raw = await kube.get(EnvelopeEvent, event.name)
    await first()
    after = await write_recorded(kube, EnvelopeEvent, raw, ENTRY, change=CHANGE, is_current=is_any)

    annotations = after["metadata"]["annotations"]
    assert [each.who for each in audit_entries(annotations)] == ["joe", "jane"]
    assert annotations["asked"] == "yes"
    assert after["metadata"]["labels"]["counterfoil.dev/request"] == "retry"


async def test_an_object_that_changed_during_the_write_is_not_changed() -> None:
    event = an_event().build()
    kube = InMemoryKubeClient(event)
    raw = await kube.get(EnvelopeEvent, event.name)
    skipped = {"status": {"phase": "Skipped"}}
    kube.just_before("patch", lambda: kube.edit(EnvelopeEvent, event.name, skipped))

    with pytest.raises(NoLongerMatches) as refused:
        await write_recorded(
            kube,
            EnvelopeEvent,
            raw,
            ENTRY,
            change=CHANGE,
            is_current=partial(has_state, state=state_of(event)),
        )

    assert refused.value.newest["status"]["phase"] == "Skipped"
    assert "asked" not in kube.stored(event.name).metadata.annotations


async def test_an_object_that_others_write_all_the_time_is_given_up() -> None:
    event = an_event().build()
    kube = InMemoryKubeClient(event)
    raw = await kube.get(EnvelopeEvent, event.name)
    kube.fail("patch", *[Conflict(409, "Conflict", "somebody was first")] * MAX_CHANGE_ATTEMPTS)

    with pytest.raises(Conflict, match="is written by others all the time"):
        await write_recorded(kube, EnvelopeEvent, raw, ENTRY, change=CHANGE, is_current=is_any)
