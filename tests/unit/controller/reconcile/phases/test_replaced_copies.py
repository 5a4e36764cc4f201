"""The copy of an event replaces nothing that only a manifest in its place, or another event, has."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec
import pytest

from controller.reconcile.phases.replaced_copies import may_replace_copy
from counterfoil.archives.copies.original import Original
from counterfoil.archives.layout import EnvelopeFacts, FileFacts
from counterfoil.archives.manifest import (
    Manifest,
    ManifestEnvelope,
    ManifestFile,
    ManifestSender,
    ManifestTimes,
)
from counterfoil.archives.proof import FoundManifest, documents_digest
from counterfoil.clock import utc_text
from counterfoil.resources import EnvelopeEvent, FiledDocument, FileKind, with_condition
from counterfoil.resources.base import LocalObjectReference
from counterfoil.resources.envelopeevent import ArchiveLocation, EventCopy
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
    conditions = tuple(
        msgspec.structs.replace(each, last_transition_time=archived) for each in event.status.conditions
    )
    assert event.status.envelope is not None
    changed = msgspec.structs.replace(
        event.status,
        envelope=msgspec.structs.replace(event.status.envelope, status=status),
        archive=ArchiveLocation(
            ref=LocalObjectReference(name="dms"), manifest="file:///dms/counterfoil.json"
        ),
        documents=documents,
        conditions=conditions,
        copies=(copy,),
    )
    metadata = msgspec.structs.replace(event.metadata, uid=uid)
    return msgspec.structs.replace(event, status=changed, metadata=metadata)


def with_archived_false(event: EnvelopeEvent, since: datetime) -> EnvelopeEvent:
    """Return the event after a later attempt to archive it failed, or after it was skipped."""
    conditions = with_condition(
        event.status.conditions, "Archived", "False", "FilesChanged", "", now=since, generation=1
    )
    return msgspec.structs.replace(event, status=msgspec.structs.replace(event.status, conditions=conditions))


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
    "a trail of the same second": (event_of(BOTH, THEN, uid="s"), RENDERED_AGAIN, 0 * DAY, False),
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
        sibling = msgspec.structs.replace(sibling, status=msgspec.structs.replace(sibling.status, copies=()))
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
