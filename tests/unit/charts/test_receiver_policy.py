"""Each status that the receiver can write passes the chart's admission policy for the receiver."""

import itertools
import re
from datetime import timedelta
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from counterfoil.resources import EnvelopeEvent, EnvelopeSummary, LastError, Phase, to_json_dict
from counterfoil.resources.envelopeevent import SHORT_LIST_REASONS, EventNotice, NoticeState
from release.helm import CHART
from tests.support.builders import NOON, EventBuilder, an_event
from tests.support.cel import Variables, evaluate
from webhook.receiver.delivery_counter import PendingCount, counted, status_with
from webhook.receiver.later_parameters import with_parameters

LATER = NOON + timedelta(hours=1)


def policy() -> dict[str, Any]:
    """Return the spec of the policy; only its match condition has a value of the chart."""
    template = (CHART / "templates" / "admission-policies.yaml").read_text()
    _, _, after = template.partition('{{- $name = printf "%s-deliveries"')
    text = after[after.index("---") : after.index('{{ include "counterfoil.policyBinding"')]
    found = yaml.safe_load(re.sub(r"\{\{.*?\}\}", "x", re.sub(r"(?m)^ *\{\{.*\}\}$", "", text)))
    spec: dict[str, Any] = found["spec"]
    return spec


POLICY = policy()


def refusals(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return the messages of the rules that refuse this change of a status."""
    scope = {"oldObject": {"status": before}, "object": {"status": after}}
    expressions = {each["name"]: each["expression"] for each in POLICY["variables"]}
    variables = Variables(expressions, scope)
    rules = POLICY["validations"]
    return [
        each["message"]
        for each in rules
        if not evaluate(each["expression"], {**scope, "variables": variables})
    ]


REASONS = (None, "CleanupDelayed", "LateFilesPending", "EsawFailing", "AuditTrailMissing", "Recorded")
FULL = {
    "deliveries": 2,
    "first_delivery_time": NOON,
    "last_delivery_time": NOON,
    "considered_deliveries": 1,
    "parameters": {"costCenter": "7"},
    "attempts": 4,
    "next_attempt_time": NOON,
    "phase_start_time": NOON,
    "mismatches": 1,
    "skipped_time": NOON,
    "completion_time": NOON,
    "notice": EventNotice(id="1", state=NoticeState.DELIVERED),
}


def events_of_earlier_versions(phase: Phase) -> list[EnvelopeEvent]:
    """Return events whose list was short, without the condition about it."""
    begun = [an_event(), an_event().archived()]
    conditions = [each.with_condition("Ready", "False").with_condition("Stalled", "True") for each in begun]
    return [
        replace(
            built,
            status=replace(
                built.status,
                phase=phase,
                reason=reason or cause,
                last_error=LastError(reason=cause, message="The list was short.", time=NOON),
                completion_time=NOON,
            ),
        )
        for built in (each.build() for each in (an_event(), *conditions))
        for reason in ("DeadlineExceeded", None)
        for cause in sorted(SHORT_LIST_REASONS)
    ]


def events(phase: Phase) -> list[EnvelopeEvent]:
    """Return events of this phase: new and old, archived and not, of each kind of envelope."""
    begun: list[EventBuilder] = [
        builder.with_condition("EvidenceComplete", "False", "DocumentsMissing")
        for builder in (an_event(), an_event().archived(), an_event().status(**FULL))
    ]
    conditions = [each.with_condition("Ready", "False").with_condition("Stalled", "False") for each in begun]
    return [
        replace(built, status=replace(built.status, phase=phase, reason=reason, envelope=envelope))
        for built in (each.build() for each in (an_event(), *conditions))
        for reason in REASONS
        for envelope in (None, EnvelopeSummary(status="Expired"), EnvelopeSummary(status="Completed"))
    ]


@pytest.mark.parametrize("phase", [Phase.SKIPPED, Phase.FAILED])
def test_the_policy_accepts_the_reopening_of_an_event_whose_list_an_earlier_version_found_short(
    phase: Phase,
) -> None:
    for event in events_of_earlier_versions(phase):
        status = status_with(event, PendingCount(3, LATER, LATER), now=LATER)
        assert status.phase is Phase.PENDING
        assert refusals(to_json_dict(event.status), to_json_dict(status)) == []


def test_the_policy_accepts_that_a_wrong_time_of_the_last_callback_is_replaced() -> None:
    event = an_event().status(deliveries=2, last_delivery_time=LATER + timedelta(days=365)).build()
    status = counted(event, event.status, PendingCount(1, LATER, LATER), now=LATER)
    assert status.last_delivery_time == LATER
    assert refusals(to_json_dict(event.status), to_json_dict(status)) == []


@pytest.mark.parametrize("phase", Phase)
def test_the_policy_accepts_each_status_that_the_receiver_writes(phase: Phase) -> None:
    added: tuple[dict[str, str], ...] = ({}, {"costCenter": "8", "contract": "A-7"})
    for event, parameters in itertools.product(events(phase), added):
        tally = PendingCount(3, LATER, LATER)
        for status in (status_with(event, tally, now=LATER), counted(event, event.status, tally, now=LATER)):
            written = with_parameters(event, status, parameters, now=LATER)
            assert refusals(to_json_dict(event.status), to_json_dict(written)) == []


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"phase": "Pending"}, "a receiver sets no phase"),
        ({"envelope": {"status": "Completed"}}, "it changes nothing else"),
        ({"consideredDeliveries": 9}, "it changes nothing else"),
        ({"deliveries": 1}, "takes back no delivery"),
        ({"conditions": []}, "removes no condition"),
    ],
)
def test_the_policy_refuses_what_a_receiver_that_was_taken_over_writes(
    change: dict[str, Any], refusal: str
) -> None:
    """So the test above can fail."""
    event = an_event().archived().status(**FULL, reason="CleanupDelayed", phase=Phase.CLEANING).build()
    before = to_json_dict(event.status)
    assert any(refusal in each for each in refusals(before, {**before, **change}))
