"""The estimate of a dry run: sizes by a sample, time by the limits, and who must give a key."""

from datetime import timedelta
from typing import Any

import pytest

from controller.resync.import_runner import ImportBounds
from counterfoil.cli.plugin.search.estimate import (
    STORED_EVENTS,
    SampleMeans,
    ask_lines,
    estimate_lines,
    hours_per_day,
    means_of,
    readable_duration,
    shortest_duration,
)
from counterfoil.resources import EnvelopeEvent, FiledDocument, FileKind, Import, Phase
from counterfoil.resources.imports import ImportHours
from tests.support.builders import EventBuilder, an_organization
from tests.support.scenes.console_parts import a_sender_that, an_organization_that

MIB = 1024**2


def archived(*sizes: int) -> EnvelopeEvent:
    documents = tuple(
        FiledDocument(file_id=str(number), kind=FileKind.DOCUMENT, file_name="a.pdf", size=size)
        for number, size in enumerate(sizes)
    )
    return EventBuilder().in_phase(Phase.SUCCEEDED, "ArchivedAndKept").status(documents=documents).build()


def a_dry_run(found: int = 0, known: int = 0, refused: int = 0, *senders: dict[str, Any]) -> Import:
    return Import.parse(
        {
            "metadata": {"name": "count", "resourceVersion": "1"},
            "spec": {"organizationRef": {"name": "acme"}, "from": "2019-01-01", "dryRun": True},
            "status": {"found": found, "known": known, "refused": refused, "senders": [*senders]},
        }
    )


def test_the_sample_has_only_envelopes_with_files() -> None:
    assert means_of([archived(), archived(MIB), archived(2 * MIB, MIB, 0)]) == SampleMeans(2, 2.0, 2.0 * MIB)
    assert means_of([archived()]) is None


def test_a_dry_run_shows_files_size_and_duration_of_what_has_no_event() -> None:
    organization = an_organization(limits={"requestsPerMinute": 100})

    lines = estimate_lines(a_dry_run(3100, 90, 10), organization, [archived(2 * MIB, MIB)] * 4)

    assert lines == [
        "to import: 3000 envelopes, about 6000 files and 8.8 GiB, by 4 archived envelopes",
        "duration: at least 4 hours, by the limits of the Organization",
    ]


def test_without_an_archived_envelope_the_size_is_unknown() -> None:
    lines = estimate_lines(a_dry_run(3), an_organization(), [])
    assert lines == [
        "to import: 3 envelopes. Their size is unknown until an envelope of the Organization is archived",
        "duration: limited by eSignAnyWhere and the archive; the Organization has no requestsPerMinute",
    ]


def test_nothing_is_estimated_where_each_envelope_has_an_event() -> None:
    assert estimate_lines(a_dry_run(5, 4, 1), an_organization(), [archived(1)]) == []


@pytest.mark.parametrize(
    ("envelopes", "limits", "hours", "duration"),
    [
        (1000, {}, None, timedelta()),
        (1000, {"requestsPerMinute": 80}, None, timedelta(minutes=100)),
        (1000, {"requestsPerMinute": 80}, ("19:00", "07:00"), timedelta(minutes=200)),
        (50_000, {}, None, timedelta()),
        (50_001, {}, None, timedelta(hours=72)),
        (150_000, {}, None, timedelta(hours=144)),
        (100_001, {}, ("19:00", "03:00"), timedelta(hours=144)),
        (150_000, {"requestsPerMinute": 1}, None, timedelta(minutes=1_200_000)),
    ],
)
def test_the_duration_is_the_longest_that_a_limit_causes(
    envelopes: int, limits: dict[str, int], hours: tuple[str, str] | None, duration: timedelta
) -> None:
    means = SampleMeans(1, 2.0, 1.0)
    of_day = None if hours is None else ImportHours(time_zone="UTC", from_=hours[0], to=hours[1])
    organization = an_organization(limits=limits)
    assert shortest_duration(envelopes, organization, means, of_day) == duration


def test_the_number_of_stored_events_is_that_of_the_controller() -> None:
    assert ImportBounds().quota // 2 == STORED_EVENTS


@pytest.mark.parametrize(
    ("begin", "end", "hours"), [("19:00", "06:00", 11.0), ("08:30", "12:00", 3.5), ("00:00", "23:59", 23.98)]
)
def test_hours_can_cross_midnight(begin: str, end: str, hours: float) -> None:
    found = hours_per_day(ImportHours(time_zone="UTC", from_=begin, to=end))
    assert round(found, 2) == hours


def test_all_senders_who_can_be_asked_by_mail_are_in_one_command() -> None:
    lacking: list[dict[str, Any]] = [
        {"name": each, "reason": "ConsentRequired"} for each in ("anna", "ben", "dora")
    ]
    entries = [*lacking, {"name": "carla", "reason": "ConsentRequired", "searched": True}, {"name": "emil"}]
    senders = [a_sender_that(name=each) for each in ("anna", "ben", "carla")]

    assert ask_lines(a_dry_run(0, 0, 0, *entries), an_organization_that(), senders, "contracts") == [
        "ask 2 of 3 Senders for consent by mail:",
        "  kubectl -n contracts label senders anna ben counterfoil.dev/request=ask",
    ]


@pytest.mark.parametrize(
    ("reason", "spec"), [("EsawFailing", {}), ("ConsentRequired", {"notifications": None})]
)
def test_nobody_is_asked_whom_a_mail_does_not_help(reason: str, spec: dict[str, Any]) -> None:
    imported = a_dry_run(0, 0, 0, {"name": "anna", "reason": reason})
    senders = [a_sender_that(name="anna")]
    assert ask_lines(imported, an_organization_that(**spec), senders, "contracts") == []


@pytest.mark.parametrize(
    ("duration", "said"),
    [
        (timedelta(seconds=1), "1 minute"),
        (timedelta(minutes=119), "119 minutes"),
        (timedelta(hours=2, minutes=1), "3 hours"),
        (timedelta(days=2, hours=1), "3 days"),
    ],
)
def test_a_duration_has_a_unit_that_fits(duration: timedelta, said: str) -> None:
    assert readable_duration(duration) == said
