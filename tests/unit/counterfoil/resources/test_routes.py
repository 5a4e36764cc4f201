"""The choice of an event counts, until it is void."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from counterfoil.resources import (
    IMPORT_ARCHIVE_LABEL,
    IMPORT_LABEL,
    ArchiveLocation,
    Attempt,
    AttemptOutcome,
    EnvelopeEvent,
    EnvelopeEventStatus,
    FiledDocument,
    FileKind,
    LocalObjectReference,
    Organization,
    Phase,
    with_condition,
)
from counterfoil.resources.routes import (
    Choice,
    KeptChoice,
    archive_names,
    has_places,
    import_choice,
    kept_choices,
    known_choice,
    possible_archives,
    stored_choice,
    way_elsewhere,
)
from tests.support.builders import NOON, an_event, an_organization

ROUTE = {"name": "hr", "archiveRef": {"name": "vault"}, "when": {"senders": ["anna"]}}
PLAIN, ROUTED = an_organization(), an_organization(routes=[ROUTE])
PLACE = FiledDocument(file_id="1", kind=FileKind.DOCUMENT, file_name="a", location="file:///x")
(CLAIMED,) = with_condition(
    (), "Collected", "True", "FilesListed", "", now=datetime(2026, 7, 1, tzinfo=UTC), generation=1
)
NO_PLACE = FiledDocument(file_id="1", kind=FileKind.DOCUMENT, file_name="a")


def chosen(archive: str, route: str | None = None, **fields: Any) -> EnvelopeEventStatus:
    """The status of an event that runs; with documents, it has claimed their places."""
    manifest = fields.pop("manifest", None)
    if "documents" in fields:
        fields.setdefault("conditions", (CLAIMED,))
    fields.setdefault("phase", Phase.COLLECTING)
    where = ArchiveLocation(ref=LocalObjectReference(name=archive), route=route, manifest=manifest)
    return EnvelopeEventStatus(archive=where, **fields)


def event_with(status: EnvelopeEventStatus, archive: str = "") -> EnvelopeEvent:
    """Return an event; ``archive`` is the one that its Import names."""
    builder = an_event()
    if archive:
        builder = builder.labelled(IMPORT_LABEL, "old-stock").labelled(IMPORT_ARCHIVE_LABEL, archive)
    return replace(builder.build(), status=status)


NEW = EnvelopeEventStatus()
KNOWN: list[tuple[EnvelopeEventStatus, Organization, Choice | None]] = [
    (NEW, PLAIN, Choice("dms", None)),
    (NEW, an_organization(archiveRef=None), None),
    (NEW, ROUTED, None),
    (chosen("vault", "hr"), ROUTED, Choice("vault", "hr")),
    (chosen("dms"), ROUTED, Choice("dms", None)),
    # The routes do not have it any more, and nothing is there.
    (chosen("vault", "hr"), PLAIN, Choice("dms", None)),
    (chosen("old", "hr"), ROUTED, None),
    (chosen("vault", "other"), ROUTED, None),
    (chosen("old"), ROUTED, None),
    (chosen("old"), PLAIN, Choice("dms", None)),
    (chosen("old", documents=(NO_PLACE,)), PLAIN, Choice("dms", None)),
    # Files have places there.
    (chosen("vault", "hr", documents=(PLACE,)), PLAIN, Choice("vault", "hr")),
    (chosen("old", "hr", documents=(PLACE,)), ROUTED, Choice("old", "hr")),
    (chosen("old", documents=(PLACE,)), ROUTED, Choice("old", None)),
    (chosen("old", manifest="file:///x"), PLAIN, Choice("old", None)),
    # The event started again.
    (chosen("vault", "hr", phase=Phase.PENDING), ROUTED, None),
    (chosen("vault", "hr", documents=(PLACE,), phase=Phase.PENDING), ROUTED, None),
    (chosen("vault", "hr", documents=(PLACE,), conditions=()), ROUTED, None),
    (chosen("old", documents=(PLACE,), conditions=()), PLAIN, Choice("dms", None)),
    (chosen("old", manifest="file:///x", phase=Phase.PENDING), PLAIN, Choice("old", None)),
]


@pytest.mark.parametrize(("status", "organization", "choice"), KNOWN)
def test_a_choice_counts_while_files_have_places_there_or_the_routes_have_it(
    status: EnvelopeEventStatus, organization: Organization, choice: Choice | None
) -> None:
    assert known_choice(event_with(status), organization.spec) == choice


def test_an_event_that_has_not_chosen_may_use_each_archive_of_its_organization() -> None:
    assert archive_names(ROUTED.spec) == ("dms", "vault")
    assert possible_archives(event_with(NEW), ROUTED.spec) == {"dms", "vault"}
    assert possible_archives(event_with(chosen("vault", "hr")), ROUTED.spec) == {"vault"}
    assert possible_archives(event_with(NEW), an_organization(archiveRef=None).spec) == set()


OF_IMPORT = Choice("old", None, "old-stock")
STORED_OF_IMPORT = EnvelopeEventStatus(archive=OF_IMPORT.location, phase=Phase.COLLECTING)
OF_IMPORTS: list[tuple[EnvelopeEventStatus, Organization, Choice | None]] = [
    # eSAW and the archives are asked first.
    (NEW, PLAIN, None),
    (NEW, ROUTED, None),
    # Nothing is there yet, but an Import never changes.
    (STORED_OF_IMPORT, PLAIN, OF_IMPORT),
    (STORED_OF_IMPORT, ROUTED, OF_IMPORT),
    # It was archived there before the Import.
    (chosen("dms"), PLAIN, Choice("dms", None)),
    (chosen("vault", "hr", manifest="file:///x"), PLAIN, Choice("vault", "hr")),
]


@pytest.mark.parametrize(("status", "organization", "choice"), OF_IMPORTS)
def test_the_archive_of_an_import_counts_once_it_is_chosen(
    status: EnvelopeEventStatus, organization: Organization, choice: Choice | None
) -> None:
    event = event_with(status, "old")
    assert import_choice(event) == OF_IMPORT
    assert known_choice(event, organization.spec) == choice
    waits_for = {choice.archive} if choice is not None else {"old", *archive_names(organization.spec)}
    assert possible_archives(event, organization.spec) == waits_for


def test_a_further_event_of_the_envelope_follows_the_one_that_has_files() -> None:
    def named(name: str, status: EnvelopeEventStatus) -> EnvelopeEvent:
        return replace(an_event().named(name).build(), status=status)

    running = named("one", chosen("running", documents=(PLACE,)))
    ended = named("two", chosen("ended", documents=(PLACE,), phase=Phase.FAILED))
    archived = named("three", chosen("archived", manifest="file:///x", phase=Phase.SUCCEEDED))
    assert kept_choices([named("new", NEW), named("four", chosen("vault", "hr")), ended]) == ()
    assert [(each.choice, each.event) for each in kept_choices([ended, running])] == [
        (Choice("running", None), "one")
    ]
    assert [each.event for each in kept_choices([running, archived])] == ["three", "one"]


def test_an_archive_that_was_created_after_the_files_is_another_one_of_this_name() -> None:
    listed = datetime(2026, 11, 1, tzinfo=UTC)
    kept = KeptChoice(Choice("vault", None), "one", listed)
    assert kept.may_be_in(listed)
    assert not kept.may_be_in(listed + timedelta(seconds=1))


def test_without_the_time_of_its_list_the_files_of_an_event_are_as_old_as_the_event() -> None:
    status = chosen("vault", manifest="file:///x", phase=Phase.PENDING)
    (kept,) = kept_choices([replace(an_event().build(), status=status)])
    assert kept.may_be_in(NOON)
    assert not kept.may_be_in(NOON + timedelta(seconds=1))


def listed_at(*starts: datetime) -> EnvelopeEvent:
    """Return an event that listed its files at these times, and then archived them."""

    def attempt(phase: Phase, start: datetime, outcome: AttemptOutcome) -> Attempt:
        return Attempt(phase=phase, start_time=start, duration_seconds=1, outcome=outcome, reason="X")

    history = [
        each
        for start in starts
        for each in (
            attempt(Phase.COLLECTING, start, AttemptOutcome.DONE),
            attempt(Phase.ARCHIVING, start + timedelta(minutes=1), AttemptOutcome.DONE),
            attempt(Phase.COLLECTING, start + timedelta(minutes=2), AttemptOutcome.WAIT),
        )
    ]
    status = chosen("vault", manifest="file:///x", phase=Phase.PENDING)
    return replace(an_event().build(), status=replace(status, attempt_history=tuple(history)))


@pytest.mark.parametrize(
    ("hours", "since"),
    [((1,), 1), ((1, 2), 2), ((-24,), 0)],
    ids=["one list", "the last list counts", "after a restore, the event is younger than its attempts"],
)
def test_without_the_condition_the_last_attempt_that_listed_the_files_counts(
    hours: tuple[int, ...], since: int
) -> None:
    (kept,) = kept_choices([listed_at(*(NOON + timedelta(hours=each) for each in hours))])
    assert kept.may_be_in(NOON + timedelta(hours=since))
    assert not kept.may_be_in(NOON + timedelta(hours=since, seconds=1))


@pytest.mark.parametrize("names", ["vault", "dms"])
def test_an_event_that_follows_another_one_can_go_elsewhere_once_that_archive_is_deleted(names: str) -> None:
    status = replace(NEW, awaited_archive=replace(Choice("vault", None).awaited, event="first"))
    way = way_elsewhere(
        replace(an_event().build(), status=replace(status, phase=Phase.COLLECTING)),
        an_organization(archiveRef={"name": names}).spec,
    )
    assert (way is None) is (names == "vault")


def test_what_is_stored_is_read_again() -> None:
    assert stored_choice(NEW) is None
    assert stored_choice(EnvelopeEventStatus(archive=Choice("vault", "hr").location)) == Choice("vault", "hr")
    assert not has_places(chosen("vault", "hr"))


def test_a_choice_and_the_conditions_of_a_route_are_said_in_words() -> None:
    assert str(Choice("vault", "hr")) == "Archive/vault by the route `hr`"
    assert str(Choice("dms", None)) == "Archive/dms by spec.archiveRef"
    assert str(OF_IMPORT) == "Archive/old by spec.archiveRef of Import/old-stock"
    when = {
        "tags": {"area": {"values": ["HR", "IT"]}, "no": {"pattern": "4.*"}},
        "senders": ["anna"],
        "actions": ["envelopeFinished"],
        "statuses": ["Completed", "Rejected", "Expired"],
    }
    (route,) = an_organization(routes=[{**ROUTE, "when": when}]).spec.routes
    assert str(route.when) == (
        "the tag `area` is HR or IT, and the tag `no` matches `4.*`, and the Sender is Sender/anna, and "
        "the action is envelopeFinished, and the status is Completed, Rejected or Expired"
    )
