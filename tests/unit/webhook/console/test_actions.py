"""Actions: what a person does is done once, recorded, and bounded."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from counterfoil.kube.errors import Conflict, Forbidden
from counterfoil.kube.watch import Raw
from counterfoil.resources import EnvelopeEvent, Phase, Resource
from counterfoil.resources.audit_annotation import audit_entries
from tests.support.builders import NOON, AClock, EventBuilder
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.scenes.console_parts import FULL, VIEW, an_authenticated_user, an_organization_that
from webhook.console.actions import MAX_WRITE_ATTEMPTS, Action, ActionRequest, ActionService
from webhook.console.limits import ConsoleLimits
from webhook.http_server.errors import PageError

ACTIONS = ActionService(AClock(), limits=ConsoleLimits(affected_events=5))


def a_failed_event(number: int, reason: str = "NameOccupied") -> EnvelopeEvent:
    name = f"{number:08x}-4b1d-4c58-9a57-6d1f0a3b2c4d-0123456789abcdef"
    return EventBuilder().named(name).in_phase(Phase.FAILED, reason).build()


class YieldingKubeClient(InMemoryKubeClient):
    """Lets other tasks run during each write, as a network does."""

    async def patch(self, kind: type[Resource], name: str, changes: Mapping[str, Any]) -> Raw:
        await asyncio.sleep(0)
        return await super().patch(kind, name, changes)


def asked(kube: InMemoryKubeClient) -> list[str]:
    """Names of the events that have a request on them."""
    return [
        name
        for (plural, name), raw in kube.objects.items()
        if plural == "envelopeevents" and "counterfoil.dev/request" in raw["metadata"].get("labels", {})
    ]


async def test_somebody_who_writes_at_the_same_time_loses_nothing_and_hides_nothing() -> None:
    event = a_failed_event(1)
    kube = InMemoryKubeClient(event)
    foreign = {"metadata": {"annotations": {"of": "somebody else"}}}
    kube.just_before("patch", lambda: kube.edit(EnvelopeEvent, event.name, foreign))

    done = await ACTIONS.apply_to_object(
        an_authenticated_user(kube=kube), EnvelopeEvent, event.name, ActionRequest(Action.RETRY)
    )

    annotations = kube.stored(event.name).metadata.annotations
    assert done.count == 1
    assert annotations["of"] == "somebody else"
    (act,) = audit_entries(annotations)
    assert (act.who, act.what, act.when) == ("jane@example.com", "retry", NOON)


async def test_an_object_that_is_written_all_the_time_is_given_up_and_the_person_is_told() -> None:
    event = a_failed_event(1)
    kube = InMemoryKubeClient(event)
    kube.fail("patch", *[Conflict(409, "Conflict", "somebody was first")] * MAX_WRITE_ATTEMPTS)

    with pytest.raises(Conflict):
        await ACTIONS.apply_to_object(
            an_authenticated_user(kube=kube), EnvelopeEvent, event.name, ActionRequest(Action.RETRY)
        )

    assert asked(kube) == []


async def test_one_click_concerns_no_more_than_its_bound_and_says_that_there_are_more() -> None:
    kube = InMemoryKubeClient(an_organization_that(), *(a_failed_event(number) for number in range(8)))

    done = await ACTIONS.apply_to_failed_events(
        an_authenticated_user(kube=kube), "acme", "NameOccupied", ActionRequest(Action.RETRY)
    )

    assert (done.count, done.is_more) == (5, True)
    assert len(asked(kube)) == 5
    assert len(kube.announced) == 1


async def test_only_what_failed_for_this_reason_is_concerned() -> None:
    other = a_failed_event(9, "SenderUnknown")
    kube = InMemoryKubeClient(an_organization_that(), a_failed_event(1), other)

    await ACTIONS.apply_to_failed_events(
        an_authenticated_user(kube=kube), "acme", "NameOccupied", ActionRequest(Action.RETRY)
    )

    assert other.name not in asked(kube)


async def test_whoever_may_not_write_events_acts_all_the_same_and_is_told() -> None:
    for user_may, refusals in ((VIEW, ()), (FULL, (Forbidden(403, "Forbidden", "no"),))):
        event = a_failed_event(1)
        kube = InMemoryKubeClient(event)
        kube.fail("create_event", *refusals)

        done = await ACTIONS.apply_to_object(
            an_authenticated_user(user_may, kube), EnvelopeEvent, event.name, ActionRequest(Action.RETRY)
        )

        assert not done.is_event_recorded
        assert asked(kube) == [event.name]


async def test_the_reason_of_an_older_request_does_not_stay() -> None:
    event = a_failed_event(1)
    kube = InMemoryKubeClient(event)
    kube.edit(
        EnvelopeEvent, event.name, {"metadata": {"annotations": {"counterfoil.dev/request-reason": "old"}}}
    )

    await ACTIONS.apply_to_object(
        an_authenticated_user(kube=kube), EnvelopeEvent, event.name, ActionRequest(Action.RETRY)
    )

    assert "counterfoil.dev/request-reason" not in kube.stored(event.name).metadata.annotations


@pytest.mark.parametrize("what", [Action.ASK, Action.PROBE, Action.SWEEP])
async def test_what_does_not_belong_to_a_kind_is_refused_before_anything_is_asked(what: Action) -> None:
    kube = InMemoryKubeClient(a_failed_event(1))
    with pytest.raises(PageError):
        await ACTIONS.apply_to_object(
            an_authenticated_user(kube=kube), EnvelopeEvent, "any", ActionRequest(what)
        )
    assert kube.asked == []


async def test_what_failed_because_its_organization_is_gone_can_be_given_up_all_the_same() -> None:
    kube = InMemoryKubeClient(a_failed_event(1, "OrganizationMissing"))

    done = await ACTIONS.apply_to_failed_events(
        an_authenticated_user(kube=kube),
        "acme",
        "OrganizationMissing",
        ActionRequest(Action.SKIP, "it was closed"),
    )

    assert (done.count, done.is_event_recorded) == (1, False)


async def test_an_event_that_went_on_meanwhile_is_left_alone_by_a_click_that_is_about_failures() -> None:
    event = a_failed_event(1)
    kube = InMemoryKubeClient(an_organization_that(), event)
    kube.just_before(
        "patch", lambda: kube.edit(EnvelopeEvent, event.name, {"status": {"phase": "Succeeded"}})
    )

    done = await ACTIONS.apply_to_failed_events(
        an_authenticated_user(kube=kube), "acme", "NameOccupied", ActionRequest(Action.SKIP, "not needed")
    )

    assert done.count == 0
    assert asked(kube) == []


async def test_an_event_that_cannot_be_read_keeps_nobody_from_the_others() -> None:
    junk, good = a_failed_event(1), a_failed_event(2)
    kube = InMemoryKubeClient(an_organization_that(), junk, good)
    kube.edit(EnvelopeEvent, junk.name, {"status": {"conditions": "of another version"}})

    done = await ACTIONS.apply_to_failed_events(
        an_authenticated_user(kube=kube), "acme", "NameOccupied", ActionRequest(Action.RETRY)
    )

    assert (done.count, asked(kube)) == (1, [good.name])


async def test_an_event_that_others_write_all_the_time_keeps_nobody_from_the_others() -> None:
    kube = InMemoryKubeClient(an_organization_that(), a_failed_event(1), a_failed_event(2))
    actions = ActionService(AClock(), limits=ConsoleLimits(writers=1))
    kube.fail("patch", *[Conflict(409, "Conflict", "somebody was first")] * MAX_WRITE_ATTEMPTS)

    done = await actions.apply_to_failed_events(
        an_authenticated_user(kube=kube), "acme", "NameOccupied", ActionRequest(Action.RETRY)
    )

    assert (done.count, done.is_more) == (1, True)


async def test_after_a_refusal_nothing_goes_on_behind_the_back_of_the_person_who_was_told() -> None:
    kube = YieldingKubeClient(an_organization_that(), *(a_failed_event(number) for number in range(5)))
    actions = ActionService(AClock(), limits=ConsoleLimits(writers=1))
    kube.fail("patch", Forbidden(403, "Forbidden", "no"))

    with pytest.raises(Forbidden):
        await actions.apply_to_failed_events(
            an_authenticated_user(kube=kube), "acme", "NameOccupied", ActionRequest(Action.RETRY)
        )
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)

    assert asked(kube) == []


async def test_a_reason_that_hardly_any_event_has_is_looked_for_within_bounds() -> None:
    kube = InMemoryKubeClient(an_organization_that(), *(a_failed_event(number) for number in range(8)))
    actions = ActionService(AClock(), limits=ConsoleLimits(searched=4))

    done = await actions.apply_to_failed_events(
        an_authenticated_user(kube=kube), "acme", "NoSuchReason", ActionRequest(Action.RETRY)
    )

    assert (done.count, done.is_more) == (0, True)


async def test_whoever_may_change_nothing_makes_the_console_look_for_nothing() -> None:
    kube = InMemoryKubeClient(an_organization_that(), a_failed_event(1))

    with pytest.raises(PageError):
        await ACTIONS.apply_to_failed_events(
            an_authenticated_user(VIEW, kube), "acme", "NameOccupied", ActionRequest(Action.RETRY)
        )

    assert kube.asked == []
