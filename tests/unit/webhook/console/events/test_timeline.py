"""The timeline of an event: what happened, and when."""

from datetime import UTC, datetime

from counterfoil.readiness import with_readiness
from counterfoil.resources import Condition
from tests.support.builders import NOON, an_event
from webhook.console.events.timeline import timeline_entries


def test_the_timeline_has_no_condition_that_only_tools_read() -> None:
    pending = Condition(
        type="Ready",
        status="Unknown",
        reason="Pending",
        message="Nobody has looked at it.",
        last_transition_time=datetime(1970, 1, 1, tzinfo=UTC),
    )
    stalled = with_readiness((), "False", "ArchiveFull", "No room.", now=NOON, generation=1)
    for conditions, shown in (((pending,), []), (stalled, ["Ready"])):
        event = an_event().status(conditions=conditions).build()
        found = [each for each in timeline_entries(event) if each.kind == "condition"]
        assert [each.name for each in found] == shown
