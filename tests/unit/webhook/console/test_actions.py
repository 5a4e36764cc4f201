"""Actions: what a person does is done once, recorded, and bounded."""

import pytest

from counterfoil.kube.errors import Conflict, Forbidden
from counterfoil.kube.status import MAX_CHANGE_ATTEMPTS
from counterfoil.resources import EnvelopeEvent, Phase
from counterfoil.resources.audit_annotation import audit_entries
from tests.support.builders import NOON, AClock, EventBuilder
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.scenes.console_parts import FULL, VIEW, an_authenticated_user
from webhook.console.actions import Action, ActionRequest, ActionService
from webhook.console.errors import ConsoleErrorKind
from webhook.http_server.errors import PageError

ACTIONS = ActionService(AClock())


def a_failed_event(number: int, reason: str = "NameOccupied") -> EnvelopeEvent:
    name = f"{number:08x}-4b1d-4c58-9a57-6d1f0a3b2c4d-0123456789abcdef"
    return EventBuilder().named(name).in_phase(Phase.FAILED, reason).build()


def asked(kube: InMemoryKubeClient) -> list[str]:
    """Names of the events that have a request on them."""
    return [
        name
        for (plural, name), raw in kube.objects.items()
        if plural == "envelopeevents" and "counterfoil.dev/request" in raw["metadata"].get("labels", {})
    ]


async def test_a_concurrent_writer_loses_nothing_and_hides_nothing() -> None:
    event = a_failed_event(1)
    kube = InMemoryKubeClient(event)
    foreign = {"metadata": {"annotations": {"of": "somebody else"}}}
    kube.just_before("patch", lambda: kube.edit(EnvelopeEvent, event.name, foreign))

    assert await ACTIONS.apply_to_object(
        an_authenticated_user(kube=kube), EnvelopeEvent, event.name, ActionRequest(Action.RETRY)
    )

    annotations = kube.stored(event.name).metadata.annotations
    assert annotations["of"] == "somebody else"
    (act,) = audit_entries(annotations)
    assert (act.who, act.what, act.when) == ("jane@example.com", "retry", NOON)


async def test_an_object_that_is_written_all_the_time_is_given_up_and_the_person_is_notified() -> None:
    event = a_failed_event(1)
    kube = InMemoryKubeClient(event)
    kube.fail("patch", *[Conflict(409, "Conflict", "somebody was first")] * MAX_CHANGE_ATTEMPTS)

    with pytest.raises(Conflict):
        await ACTIONS.apply_to_object(
            an_authenticated_user(kube=kube), EnvelopeEvent, event.name, ActionRequest(Action.RETRY)
        )

    assert asked(kube) == []


async def test_a_user_who_may_not_write_events_can_still_act_and_gets_a_message() -> None:
    for user_may, refusals in ((VIEW, ()), (FULL, (Forbidden(403, "Forbidden", "no"),))):
        event = a_failed_event(1)
        kube = InMemoryKubeClient(event)
        kube.fail("create_event", *refusals)

        assert not await ACTIONS.apply_to_object(
            an_authenticated_user(user_may, kube), EnvelopeEvent, event.name, ActionRequest(Action.RETRY)
        )

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


async def test_a_skip_of_an_event_in_another_state_than_was_shown_changes_nothing() -> None:
    event = a_failed_event(1, "SenderUnknown")
    for expected in ("Failed/NameOccupied", "Processing/SenderUnknown", "", None):
        kube = InMemoryKubeClient(event)
        with pytest.raises(PageError) as refused:
            await ACTIONS.apply_to_object(
                an_authenticated_user(kube=kube),
                EnvelopeEvent,
                event.name,
                ActionRequest(Action.SKIP, "not needed", expected),
            )
        assert refused.value.kind is ConsoleErrorKind.CHANGED_MEANWHILE
        assert asked(kube) == []


async def test_a_skip_compares_the_state_again_after_a_conflict() -> None:
    event = a_failed_event(1)
    kube = InMemoryKubeClient(event)
    kube.just_before(
        "patch", lambda: kube.edit(EnvelopeEvent, event.name, {"status": {"reason": "SenderUnknown"}})
    )
    with pytest.raises(PageError) as refused:
        await ACTIONS.apply_to_object(
            an_authenticated_user(kube=kube),
            EnvelopeEvent,
            event.name,
            ActionRequest(Action.SKIP, "not needed", "Failed/NameOccupied"),
        )
    assert refused.value.kind is ConsoleErrorKind.CHANGED_MEANWHILE
    assert asked(kube) == []


async def test_a_skip_of_what_was_shown_carries_the_state_to_the_controller() -> None:
    event = a_failed_event(1)
    kube = InMemoryKubeClient(event)
    await ACTIONS.apply_to_object(
        an_authenticated_user(kube=kube),
        EnvelopeEvent,
        event.name,
        ActionRequest(Action.SKIP, "not needed", "Failed/NameOccupied"),
    )
    annotations = kube.stored(event.name).metadata.annotations
    assert annotations["counterfoil.dev/request-expected"] == "Failed/NameOccupied"
