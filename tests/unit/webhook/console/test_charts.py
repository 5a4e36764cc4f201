"""Charts and the timeline: numbers for bars, and moments in order."""

from datetime import timedelta
from typing import Any

from msgspec.structs import replace

from counterfoil.resources import (
    Activity,
    Attempt,
    AttemptOutcome,
    HourlyActivity,
    LastError,
    LastRequest,
    Organization,
    OrganizationStatus,
    Phase,
    RequestOutcome,
)
from counterfoil.resources.audit_annotation import (
    ACTS_ANNOTATION,
    MAX_AUDIT_ENTRIES,
    AuditEntry,
    audit_entries,
    with_audit_entry,
)
from tests.support.builders import NOON, EventBuilder
from tests.support.scenes.console_parts import an_organization_that
from webhook.console import charts
from webhook.console.charts import Chart
from webhook.console.events.timeline import timeline_entries

HOUR = timedelta(hours=1)


def an_organization_with(**activity: Any) -> Organization:
    """One of which the controller counted this."""
    status = OrganizationStatus(activity=Activity(**{"count_time": NOON, **activity}))
    return replace(an_organization_that(), status=status)


def hours(*counts: tuple[int, int, int]) -> tuple[HourlyActivity, ...]:
    """Hours before noon, with the number of recorded and of archived events in each."""
    return tuple(
        HourlyActivity(start_time=NOON - ago * HOUR, noted=noted, archived=archived)
        for ago, noted, archived in counts
    )


def heights(chart: Chart) -> dict[str, tuple[int, float]]:
    return {bar.label: (bar.count, bar.height) for bar in chart.bars if bar.count}


def test_each_hour_has_its_bar_up_to_the_one_in_which_was_counted() -> None:
    found = an_organization_with(hours=hours((23, 1, 0), (2, 1, 1), (0, 4, 2)))

    assert heights(charts.callbacks(found)) == {"13:00": (1, 25.0), "10:00": (1, 25.0), "12:00": (4, 100.0)}
    assert heights(charts.overview([found])[0]) == {"10:00": (1, 50.0), "12:00": (2, 100.0)}
    assert [bar.label for bar in charts.callbacks(found).bars][::23] == ["13:00", "12:00"]


def test_all_organizations_are_one_chart_that_is_as_old_as_the_newest_count() -> None:
    acme = an_organization_with(hours=hours((1, 0, 3)), archived_within={"1s": 1}, unfinished_for={"1h": 2})
    globex = an_organization_with(
        count_time=NOON + HOUR, hours=hours((1, 0, 4)), archived_within={"1s": 1, "longer": 1}
    )

    throughput, time_to_archive, backlog = charts.overview([acme, globex, an_organization_that()])

    assert heights(throughput) == {"11:00": (7, 100.0)}
    assert heights(time_to_archive) == {"<1s": (2, 100.0), ">24h": (1, 50.0)}
    assert heights(backlog) == {"<1h": (2, 100.0)}
    # One that nobody uses keeps the time of its last change.
    assert {each.count_time for each in (throughput, time_to_archive, backlog)} == {NOON + HOUR}


def test_a_chart_of_what_was_not_counted_yet_has_no_heights_and_reports_it() -> None:
    for chart in (charts.callbacks(an_organization_that()), *charts.overview([])):
        assert (chart.peak, chart.count_time) == (0, None)


def test_what_happened_is_in_order_with_the_next_step_last() -> None:
    event = (
        EventBuilder()
        .created(NOON - timedelta(minutes=3))
        .in_phase(Phase.ARCHIVING, "ArchiveFull")
        .with_condition("Validated")
        .status(
            start_time=NOON - timedelta(minutes=2),
            last_error=LastError(
                reason="ArchiveFull", message="It is full.", time=NOON + timedelta(seconds=1)
            ),
            attempts=3,
            attempt_history=(
                Attempt(
                    phase=Phase.ARCHIVING,
                    start_time=NOON,
                    duration_seconds=7,
                    outcome=AttemptOutcome.WAIT,
                    reason="ArchiveFull",
                ),
            ),
            last_request=LastRequest(
                request="retry",
                by="jane",
                outcome=RequestOutcome.DONE,
                handled_time=NOON - timedelta(minutes=1),
            ),
            next_attempt_time=NOON + timedelta(minutes=5),
        )
        .build()
    )
    told = (
        {"eventTime": "2026-07-01T12:00:02Z", "reason": "Waiting", "note": "It waits."},
        {"eventTime": "2026-07-01T12:00:02Z", "reason": "RetryRequested", "note": "", "action": "Act"},
        {"eventTime": None, "reason": "Broken"},
    )

    entries = timeline_entries(event, told, now=NOON)
    assert [each.kind for each in entries] == [
        "noted",
        "started",
        "request",
        "condition",
        "attempt",
        "told",
        "next",
    ]
    request, attempt = entries[2], entries[4]
    assert (request.name, request.reason, request.truth) == ("retry", "jane", "Done")
    assert (attempt.name, attempt.truth, attempt.reason, attempt.count) == (
        "Archiving",
        "Wait",
        "ArchiveFull",
        7,
    )
    assert attempt.text == "It is full."


def test_the_last_ten_acts_stay_on_an_object() -> None:
    annotations: dict[str, str] = {}
    for number in range(15):
        annotations |= with_audit_entry(annotations, AuditEntry(who="jane", what=f"act-{number}", when=NOON))

    acts = audit_entries(annotations)

    assert len(acts) == MAX_AUDIT_ENTRIES
    assert acts[-1].what == "act-14"


def test_a_broken_record_is_started_again() -> None:
    for broken in ("no JSON", "{}", '[{"who": 1}]'):
        annotations = with_audit_entry(
            {ACTS_ANNOTATION: broken}, AuditEntry(who="jane", what="retry", when=NOON)
        )
        assert [act.who for act in audit_entries(annotations)] == ["jane"]
