"""The summary for tools: Ready, and Stalled if a person has to act."""

import pytest

from counterfoil.i18n.reasons import CATALOGUE, Reason, ReasonContext, ReasonProperty, Responsible
from counterfoil.readiness import is_stalled, with_readiness, with_sender_readiness
from counterfoil.resources import Sender, find_condition
from counterfoil.resources.conditions import ConditionStatus
from tests.support.builders import NOON, a_sender

HELD = {ReasonContext.HELD, ReasonContext.CONSENT, ReasonContext.FAILED}


@pytest.mark.parametrize(
    ("status", "reason", "stalled"),
    [
        ("True", "KeyAccepted", False),
        ("Unknown", "Pending", False),
        ("Unknown", "EsawUnconfirmed", False),
        ("False", "EsawUnreachable", False),
        ("False", "ArchiveUnreachable", False),
        ("False", "ArchiveBucketMissing", True),
        ("False", "ConsentRequired", True),
        ("False", "OrganizationSuspended", True),
        ("False", "OfAnArchiveKindThatOthersMade", True),
    ],
)
def test_stalled_is_what_only_a_person_can_change(
    status: ConditionStatus, reason: str, stalled: bool
) -> None:
    assert is_stalled(status, reason) is stalled


def test_a_reason_that_often_ends_alone_is_one_that_an_administrator_has_to_know() -> None:
    passing = [each for each in CATALOGUE.values() if ReasonProperty.PASSING in each.properties]
    assert {each.responsible for each in passing} == {Responsible.ADMINISTRATOR}


@pytest.mark.parametrize("reason", CATALOGUE.values(), ids=lambda reason: reason.name)
def test_each_reason_that_ends_or_holds_an_event_names_a_person(reason: Reason) -> None:
    assert not HELD & set(reason.contexts) or reason.responsible is not Responsible.NOBODY


def test_a_stalled_object_has_the_same_cause_in_both_conditions() -> None:
    conditions = with_readiness((), "False", "ArchiveFull", "No room.", now=NOON, generation=3)
    found = [(each.type, each.status, each.reason, each.message) for each in conditions]
    assert found == [
        ("Ready", "False", "ArchiveFull", "No room."),
        ("Stalled", "True", "ArchiveFull", "No room."),
    ]
    assert {each.observed_generation for each in conditions} == {3}


@pytest.mark.parametrize(
    ("ready", "reason", "says"),
    [
        ("True", "Probed", "Nobody has to act."),
        ("False", "ArchiveUnreachable", "Counterfoil continues automatically when the cause ends."),
        ("False", "EsawUnreachable", "Counterfoil continues automatically when the cause ends."),
    ],
)
def test_only_an_object_that_works_says_that_nobody_has_to_act(
    ready: ConditionStatus, reason: str, says: str
) -> None:
    conditions = with_readiness((), ready, reason, "No answer.", now=NOON, generation=1)
    stalled = find_condition(conditions, "Stalled")
    assert stalled is not None
    assert (stalled.status, stalled.reason) == ("False", "NotStalled")
    assert stalled.message.startswith(says)


def summary_of(sender: Sender, *, is_organization_missing: bool = False) -> tuple[str, str, str]:
    status = with_sender_readiness(
        sender, sender.status, now=NOON, is_organization_missing=is_organization_missing
    )
    ready, stalled = (find_condition(status.conditions, each) for each in ("Ready", "Stalled"))
    assert ready is not None
    assert stalled is not None
    return ready.status, ready.reason, stalled.status


def test_a_sender_is_as_ready_as_its_key() -> None:
    assert summary_of(a_sender(authorized="True"))[::2] == ("True", "False")


def test_a_suspended_sender_is_not_ready_though_its_key_works() -> None:
    assert summary_of(a_sender(authorized="True", suspend=True)) == ("False", "SenderSuspended", "True")


def test_a_sender_without_its_organization_is_never_ready() -> None:
    sender = a_sender(authorized="True", suspend=True)
    found = summary_of(sender, is_organization_missing=True)
    assert found == ("False", "OrganizationMissing", "True")


def test_of_a_sender_whose_key_nobody_has_checked_nothing_is_said() -> None:
    sender = a_sender(authorized=None)
    assert with_sender_readiness(sender, sender.status, now=NOON) == sender.status
