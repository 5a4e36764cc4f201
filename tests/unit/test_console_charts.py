"""Charts and the timeline: numbers for bars, and moments in order."""

from datetime import timedelta

from counterfoil.resources import EnvelopeEvent, LastError, Phase
from counterfoil.resources.acting import ACTS_ANNOTATION, MOST_ACTS, Act, acts_of, asked_at, recorded
from tests.builders import NOON, EventBuilder
from webhook.console import charts
from webhook.console.charts import Chart
from webhook.console.timeline import moments


def an_archived_event(created: timedelta, took: timedelta) -> EnvelopeEvent:
    begun = NOON - created
    return (
        EventBuilder()
        .created(begun)
        .in_phase(Phase.SUCCEEDED, "ArchivedAndDeleted")
        .status(completed_at=begun + took)
        .build()
    )


def heights(chart: Chart) -> dict[str, tuple[int, float]]:
    return {bar.label: (bar.count, bar.height) for bar in chart.bars if bar.count}


def test_each_hour_has_the_events_that_ended_in_it() -> None:
    hours = (0.5, 0.6, 2.5, 30)
    events = [an_archived_event(timedelta(hours=each), timedelta(0)) for each in hours]

    assert heights(charts.throughput(events, NOON, total=4)) == {"-0h": (2, 100.0), "-2h": (1, 50.0)}


def test_the_time_to_the_archive_is_told_in_steps() -> None:
    took = (0.5, 5, 5, 100_000)
    events = [an_archived_event(timedelta(days=3), timedelta(seconds=each)) for each in took]

    chart = charts.time_to_archive(events, total=4)

    assert heights(chart) == {"<1s": (1, 50.0), "<10s": (2, 100.0), ">24h": (1, 50.0)}
    assert chart.peak == 2


def test_only_what_is_unfinished_is_backlog() -> None:
    waiting = EventBuilder().created(NOON - timedelta(minutes=5)).in_phase(Phase.AWAITING_CONSENT).build()
    events = [waiting, an_archived_event(timedelta(hours=1), timedelta(seconds=1))]

    assert heights(charts.backlog(events, NOON, total=2)) == {"<10m": (1, 100.0)}


def test_a_chart_of_nothing_has_bars_without_height() -> None:
    chart = charts.throughput([], NOON, total=0)
    assert len(chart.bars) == 24
    assert chart.peak == 0
    assert chart.is_whole


def test_a_sample_says_that_it_is_one() -> None:
    events = [an_archived_event(timedelta(hours=1), timedelta(seconds=1))]
    assert not charts.throughput(events, NOON, total=100).is_whole


def test_what_happened_stands_in_order_with_what_is_to_come_last() -> None:
    event = (
        EventBuilder()
        .created(NOON - timedelta(minutes=3))
        .in_phase(Phase.ARCHIVING, "ArchiveFull")
        .with_condition("Validated")
        .status(
            started_at=NOON - timedelta(minutes=2),
            last_error=LastError(
                reason="ArchiveFull", message="It is full.", time=NOON + timedelta(seconds=1)
            ),
            attempts=3,
            next_attempt_time=NOON + timedelta(minutes=5),
        )
        .build()
    )
    told = (
        {"eventTime": "2026-07-01T12:00:02Z", "reason": "Waiting", "note": "It waits."},
        {"eventTime": "2026-07-01T12:00:02Z", "reason": "RetryAsked", "note": "", "action": "Act"},
        {"eventTime": None, "reason": "Broken"},
    )

    assert [each.kind for each in moments(event, told)] == [
        "noted",
        "started",
        "condition",
        "attempt",
        "told",
        "next",
    ]


def test_the_last_ten_acts_stay_on_an_object() -> None:
    annotations: dict[str, str] = {}
    for number in range(15):
        annotations |= recorded(annotations, Act(who="jane", what=f"act-{number}", when=NOON))

    acts = acts_of(annotations)

    assert len(acts) == MOST_ACTS
    assert acts[-1].what == "act-14"


def test_a_record_that_somebody_broke_is_begun_anew() -> None:
    for broken in ("no JSON", "{}", '[{"who": 1}]'):
        annotations = recorded({ACTS_ANNOTATION: broken}, Act(who="jane", what="retry", when=NOON))
        assert [act.who for act in acts_of(annotations)] == ["jane"]


def test_a_wish_has_a_time_with_a_zone_or_is_none() -> None:
    assert asked_at({"a": NOON.isoformat()}, "a") == NOON
    assert asked_at({"a": "2026-07-01T12:00:00"}, "a") is None
    assert asked_at({"a": "soon"}, "a") is None
    assert asked_at({}, "a") is None
