"""The copy of an event replaces nothing that only a manifest in its place, or another event, has."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from controller.reconcile.phases.replaced_copies import accepted_documents, may_replace_copy
from counterfoil.archives.copies.original import Original
from counterfoil.archives.layout import EnvelopeFacts, FileFacts
from counterfoil.archives.manifest import (
    Manifest,
    ManifestEnvelope,
    ManifestFile,
    ManifestSender,
    ManifestTimes,
)
from counterfoil.archives.proof import FoundManifest, contradiction, documents_digest
from counterfoil.clock import utc_text
from counterfoil.resources import Attempt, EnvelopeEvent, FiledDocument, FileKind, Phase, with_condition
from counterfoil.resources.base import LocalObjectReference
from counterfoil.resources.conditions import ConditionStatus
from counterfoil.resources.envelopeevent import ArchiveLocation, AttemptOutcome, EventCopy
from tests.support.builders import ENVELOPE, an_event

THEN, NOW = datetime(2026, 3, 1, 12, tzinfo=UTC), datetime(2026, 3, 3, 12, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
PLACE = "file:///mirror/acme/counterfoil.json"
FILE = ("file-1", FileKind.DOCUMENT)
TRAIL = ("trail-1", FileKind.AUDIT_TRAIL)
ONE, OTHER = (10, "1" * 64), (10, "2" * 64)
Files = dict[tuple[str, FileKind], tuple[int, str]]
BOTH: Files = {FILE: ONE, TRAIL: ONE}
RENDERED_AGAIN: Files = {FILE: ONE, TRAIL: OTHER}
WITHOUT_TRAIL: Files = {FILE: ONE}


def event_of(files: Files, archived: datetime, *, uid: str = "u", status: str = "Completed") -> EnvelopeEvent:
    """Return an event that archived these files then, and has a proved copy in the place."""
    event = an_event(ENVELOPE).archived().build()
    documents = tuple(
        FiledDocument(file_id=file_id, kind=kind, file_name="", size=size, sha256=sha256, location=file_id)
        for (file_id, kind), (size, sha256) in files.items()
    )
    copy = EventCopy(
        ref=LocalObjectReference(name="mirror"),
        manifest=PLACE,
        verified_time=archived,
        documents=documents_digest(documents),
    )
    conditions = tuple(replace(each, last_transition_time=archived) for each in event.status.conditions)
    assert event.status.envelope is not None
    changed = replace(
        event.status,
        envelope=replace(event.status.envelope, status=status),
        archive=ArchiveLocation(
            ref=LocalObjectReference(name="dms"), manifest="file:///dms/counterfoil.json"
        ),
        documents=documents,
        conditions=conditions,
        copies=(copy,),
    )
    metadata = replace(event.metadata, uid=uid)
    return replace(event, status=changed, metadata=metadata)


def with_status(event: EnvelopeEvent, **fields: Any) -> EnvelopeEvent:
    return replace(event, status=replace(event.status, **fields))


def with_condition_of(
    event: EnvelopeEvent, type_: str, status: ConditionStatus, reason: str, since: datetime = THEN
) -> EnvelopeEvent:
    known = event.status.conditions
    conditions = with_condition(known, type_, status, reason, "", now=since, generation=1)
    return with_status(event, conditions=conditions)


def with_archived_false(event: EnvelopeEvent, since: datetime) -> EnvelopeEvent:
    """Return the event after a later attempt to archive it failed, or after it was skipped."""
    return with_condition_of(event, "Archived", "False", "FilesChanged", since)


ARCHIVED_LATER = Attempt(
    phase=Phase.ARCHIVING,
    start_time=THEN + HOUR,
    duration_seconds=1,
    outcome=AttemptOutcome.DONE,
    reason="FilesVerified",
)


def original_of(files: Files) -> Original:
    return Original(
        envelope=EnvelopeFacts("acme", ENVELOPE, "", "Completed"),
        files=tuple(FileFacts(file_id, kind, "", 1) for file_id, kind in files),
        checksums=files,
        names={},
        manifest="file:///dms/counterfoil.json",
        manifest_sha256="",
        is_believed=True,
    )


def manifest_of(files: Files, *, uid: str = "removed", status: str = "Completed") -> Manifest:
    """Return the manifest of a copy that an event made at the time ``THEN``."""
    return Manifest(
        envelope=ManifestEnvelope(id=ENVELOPE, name="", status=status, organization="acme"),
        sender=ManifestSender(email="", user_id="", name=""),
        times=ManifestTimes(sent="", finished="", archived=utc_text(THEN)),
        files=tuple(
            ManifestFile(
                name=file_id,
                kind=kind,
                file_id=file_id,
                file_name="",
                content_type="",
                size=size,
                sha256=sha256,
                location="",
            )
            for (file_id, kind), (size, sha256) in files.items()
        ),
        extra={"event": {"uid": uid}},
    )


class Case(NamedTuple):
    """A manifest in the place, the files of the event, when it archived them after that, and the result."""

    manifest: Manifest
    files: Files
    later: timedelta
    is_replaced: bool
    is_sealed: bool = True


OF_ITSELF = manifest_of(BOTH, uid="u")
OF_REMOVED = manifest_of(BOTH)
OF_EXPIRED = manifest_of(BOTH, status="Expired")
MANIFESTS = {
    "the same files": Case(OF_REMOVED, BOTH, -DAY, True),
    "a later trail": Case(OF_REMOVED, RENDERED_AGAIN, -DAY, False),
    "an earlier trail": Case(OF_REMOVED, RENDERED_AGAIN, DAY, True),
    "a later trail, by a clock that was ahead": Case(OF_REMOVED, RENDERED_AGAIN, 3 * DAY, False),
    "a trail more": Case(OF_REMOVED, WITHOUT_TRAIL, -DAY, False),
    "a trail more, at an earlier time": Case(OF_REMOVED, WITHOUT_TRAIL, DAY, False),
    "a trail more, before the restart": Case(OF_EXPIRED, WITHOUT_TRAIL, -DAY, True),
    "another trail, before the restart": Case(OF_EXPIRED, RENDERED_AGAIN, -DAY, True),
    "another trail, without our seal": Case(OF_REMOVED, RENDERED_AGAIN, -DAY, True, is_sealed=False),
    "a trail more, without our seal": Case(OF_REMOVED, WITHOUT_TRAIL, DAY, False, is_sealed=False),
    "another trail of the event itself": Case(OF_ITSELF, RENDERED_AGAIN, -DAY, True),
    "a trail more of the event itself": Case(OF_ITSELF, WITHOUT_TRAIL, -DAY, False),
}
"""The manifest of an event that was removed, or of another one."""


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_copy_replaces_no_manifest_with_more_files_or_later_content(case: str) -> None:
    manifest, files, later, is_replaced, is_sealed = MANIFESTS[case]
    found = FoundManifest(
        manifest=manifest if is_sealed else None,
        is_sealed=is_sealed,
        digest="",
        claim=None if is_sealed else manifest,
    )
    event = event_of(files, THEN + later)
    assert may_replace_copy(event, (), original_of(files), PLACE, found, now=NOW) is is_replaced


SIBLINGS = {
    "the same files": (event_of(BOTH, THEN, uid="s"), BOTH, -DAY, True),
    "fewer files": (event_of(WITHOUT_TRAIL, THEN, uid="s"), BOTH, -DAY, True),
    "a later trail": (event_of(BOTH, THEN, uid="s"), RENDERED_AGAIN, -DAY, False),
    "a trail of the same second": (event_of(BOTH, THEN, uid="z"), RENDERED_AGAIN, 0 * DAY, False),
    "an earlier trail": (event_of(BOTH, THEN, uid="s"), RENDERED_AGAIN, DAY, True),
    "a trail more": (event_of(BOTH, THEN, uid="s"), WITHOUT_TRAIL, -DAY, False),
    "a trail more, at an earlier time": (event_of(BOTH, THEN, uid="s"), WITHOUT_TRAIL, DAY, False),
    "a trail more, before the restart": (
        event_of(BOTH, THEN, uid="s", status="Expired"),
        WITHOUT_TRAIL,
        -DAY,
        True,
    ),
}
"""The files that another event has in its copy there."""


@pytest.mark.parametrize("is_proved", [True, False])
@pytest.mark.parametrize("case", SIBLINGS)
def test_a_copy_replaces_no_more_files_and_no_later_content_of_another_event(
    case: str, *, is_proved: bool
) -> None:
    sibling, files, later, is_replaced = SIBLINGS[case]
    if not is_proved:
        sibling = replace(sibling, status=replace(sibling.status, copies=()))
    event = event_of(files, THEN + later)
    found = may_replace_copy(event, (sibling,), original_of(files), PLACE, None, now=NOW)
    assert found is (is_replaced or not is_proved)


@pytest.mark.parametrize(("later", "is_replaced"), [(2 * HOUR, True), (-2 * HOUR, False)])
def test_a_sibling_whose_archiving_failed_again_counts_by_the_time_of_its_copy(
    later: timedelta, *, is_replaced: bool
) -> None:
    sibling, event = event_of(BOTH, THEN, uid="s"), event_of(RENDERED_AGAIN, THEN + later)
    sibling = with_archived_false(sibling, THEN + 3 * HOUR)
    found = may_replace_copy(event, (sibling,), original_of(RENDERED_AGAIN), PLACE, None, now=NOW)
    assert found is is_replaced


def test_an_event_whose_archived_condition_is_false_replaces_no_content_of_another_one() -> None:
    """That condition has the time of a skip, and the other event archived before that."""
    sibling = event_of(BOTH, THEN, uid="s")
    event = with_archived_false(event_of(RENDERED_AGAIN, THEN - DAY), THEN + DAY)
    found = may_replace_copy(event, (sibling,), original_of(RENDERED_AGAIN), PLACE, None, now=NOW)
    assert found is False


def in_doubt(event: EnvelopeEvent) -> EnvelopeEvent:
    return with_condition_of(event, "SignaturesChecked", "False", "SignatureBroken")


DOUBTS = {
    "of an earlier event": (RENDERED_AGAIN, DAY, False),
    "of an expired event": (RENDERED_AGAIN, -DAY, False),
    "with the same content": (BOTH, DAY, True),
}
"""The files that an event in doubt archived, when it did so after the other one, and whether it may replace
the copy."""


@pytest.mark.parametrize("is_removed", [True, False])
@pytest.mark.parametrize("case", DOUBTS)
def test_an_event_in_doubt_replaces_no_other_content_of_another_one(case: str, *, is_removed: bool) -> None:
    files, later, is_replaced = DOUBTS[case]
    status = "Expired" if "expired" in case else "Completed"
    sibling, event = event_of(BOTH, THEN, uid="s", status=status), in_doubt(event_of(files, THEN + later))
    manifest = manifest_of(BOTH, uid="s", status=status)
    found = FoundManifest(manifest=manifest, is_sealed=True, digest="")
    siblings = () if is_removed else (sibling,)
    assert may_replace_copy(event, siblings, original_of(files), PLACE, found, now=NOW) is is_replaced


def test_an_event_in_doubt_replaces_no_manifest_of_another_one_without_our_seal() -> None:
    event = in_doubt(event_of(RENDERED_AGAIN, THEN + DAY))
    found = FoundManifest(manifest=None, is_sealed=False, digest="", claim=OF_REMOVED)
    assert may_replace_copy(event, (), original_of(RENDERED_AGAIN), PLACE, found, now=NOW) is False


def test_an_event_in_doubt_replaces_its_own_copy() -> None:
    event = in_doubt(event_of(RENDERED_AGAIN, THEN + DAY))
    found = FoundManifest(manifest=OF_ITSELF, is_sealed=True, digest="")
    assert may_replace_copy(event, (), original_of(RENDERED_AGAIN), PLACE, found, now=NOW) is True


@pytest.mark.parametrize("is_sealed", [True, False])
def test_a_later_event_in_doubt_is_replaced_by_an_earlier_one_without(*, is_sealed: bool) -> None:
    sibling = in_doubt(event_of(RENDERED_AGAIN, THEN + DAY, uid="s"))
    manifest = manifest_of(RENDERED_AGAIN, uid="s")
    found = FoundManifest(manifest=manifest, is_sealed=True, digest="") if is_sealed else None
    assert may_replace_copy(event_of(BOTH, THEN), (sibling,), original_of(BOTH), PLACE, found, now=NOW)


def test_a_file_more_that_an_event_in_doubt_copied_stays() -> None:
    sibling, event = in_doubt(event_of(BOTH, THEN, uid="s")), event_of(WITHOUT_TRAIL, THEN + DAY)
    assert not may_replace_copy(event, (sibling,), original_of(WITHOUT_TRAIL), PLACE, None, now=NOW)


OTHER_DOCUMENT: Files = {FILE: OTHER, TRAIL: ONE}


@pytest.mark.parametrize("status", ["Completed", "Expired"])
@pytest.mark.parametrize("is_removed", [True, False])
def test_a_document_of_one_final_state_is_replaced_by_no_other_content(
    *, is_removed: bool, status: str
) -> None:
    """An expired envelope may be restarted, and expire again."""
    sibling = event_of(BOTH, THEN, uid="s", status=status)
    event = event_of(OTHER_DOCUMENT, THEN + DAY, status=status)
    found = FoundManifest(manifest=manifest_of(BOTH, uid="s", status=status), is_sealed=True, digest="")
    siblings = () if is_removed else (sibling,)
    is_replaced = may_replace_copy(event, siblings, original_of(OTHER_DOCUMENT), PLACE, found, now=NOW)
    assert is_replaced is (status == "Expired")


class Later(NamedTuple):
    """Another event with a copy in the place, and whether its audit trail counts there."""

    sibling: EnvelopeEvent
    is_accepted: bool


OF_LATER = event_of(RENDERED_AGAIN, THEN + HOUR, uid="s")
LATER_EVENTS = {
    "later": Later(OF_LATER, True),
    "of the same second": Later(event_of(RENDERED_AGAIN, THEN, uid="z"), True),
    "earlier": Later(event_of(RENDERED_AGAIN, THEN - HOUR, uid="s"), False),
    "by a clock that was ahead": Later(event_of(RENDERED_AGAIN, NOW + DAY, uid="s"), False),
    "of the envelope in another state": Later(
        event_of(RENDERED_AGAIN, THEN + HOUR, uid="s", status="Expired"), False
    ),
    "with a copy elsewhere": Later(
        with_status(
            OF_LATER, copies=tuple(replace(each, manifest=f"{PLACE}.") for each in OF_LATER.status.copies)
        ),
        False,
    ),
    "with files that were archived again": Later(
        with_status(OF_LATER, documents=event_of(BOTH, THEN).status.documents), False
    ),
    "with a broken signature": Later(
        with_condition_of(OF_LATER, "SignaturesChecked", "False", "SignatureBroken"), False
    ),
    "skipped, at an unknown time": Later(with_archived_false(OF_LATER, THEN + DAY), False),
    "skipped": Later(
        with_status(with_archived_false(OF_LATER, THEN + DAY), attempt_history=(ARCHIVED_LATER,)), True
    ),
    "without the trail": Later(event_of(WITHOUT_TRAIL, THEN + HOUR, uid="s"), False),
}


@pytest.mark.parametrize("case", LATER_EVENTS)
def test_only_the_audit_trail_of_a_later_event_counts_in_its_copy(case: str) -> None:
    sibling, is_accepted = LATER_EVENTS[case]
    event = event_of(BOTH, THEN)
    lists = list(accepted_documents(event, (sibling,), PLACE, now=NOW))
    accepted = [{(each.file_id, each.kind): (each.size, each.sha256) for each in files} for files in lists]
    assert accepted == ([RENDERED_AGAIN, BOTH] if is_accepted else [BOTH])


def test_another_document_of_a_later_event_does_not_count() -> None:
    later = event_of({FILE: OTHER, TRAIL: OTHER}, THEN + HOUR, uid="s")
    accepted = accepted_documents(event_of(BOTH, THEN), (later,), PLACE, now=NOW)
    documents = [each for files in accepted for each in files if each.kind is FileKind.DOCUMENT]
    assert {(each.size, each.sha256) for each in documents} == {ONE}


@pytest.mark.parametrize(
    ("created", "uid"),
    [((THEN - HOUR, THEN), ("z", "a")), ((THEN, THEN), ("a", "z"))],
    ids=["by their creation", "by their uids"],
)
def test_of_two_events_that_archived_in_the_same_second_one_is_the_later(
    created: tuple[datetime, datetime], uid: tuple[str, str]
) -> None:
    """Stored times have whole seconds."""
    pair = (event_of(BOTH, THEN, uid=uid[0]), event_of(RENDERED_AGAIN, THEN, uid=uid[1]))
    earlier, later = (
        replace(each, metadata=replace(each.metadata, creation_timestamp=time))
        for each, time in zip(pair, created, strict=True)
    )

    assert may_replace_copy(later, [earlier], original_of(RENDERED_AGAIN), PLACE, None, now=NOW)
    assert not may_replace_copy(earlier, [later], original_of(BOTH), PLACE, None, now=NOW)
    assert len(list(accepted_documents(earlier, [later], PLACE, now=NOW))) == 2
    assert len(list(accepted_documents(later, [earlier], PLACE, now=NOW))) == 1


class CountedList(tuple[FiledDocument, ...]):
    """A list of files that counts how often it is read."""

    reads = 0

    def __iter__(self) -> Iterator[FiledDocument]:
        self.reads += 1
        return super().__iter__()


def reads_of(count: int) -> int:
    """Return how often a list is read that ``count`` other events of the envelope share."""
    event = event_of(BOTH, THEN + HOUR)
    shared = CountedList(event.status.documents)
    siblings = [
        with_status(event_of(BOTH, THEN + n * HOUR, uid=f"sibling-{n}"), documents=shared)
        for n in range(count)
    ]
    assert may_replace_copy(event, siblings, original_of(BOTH), PLACE, None, now=NOW)
    assert list(accepted_documents(event, siblings, PLACE, now=NOW)) == [event.status.documents]
    assert contradiction(event, siblings) is None
    return shared.reads


def test_a_list_that_other_events_share_is_compared_once() -> None:
    """A caller chooses the number of events."""
    assert reads_of(20) == reads_of(4)
