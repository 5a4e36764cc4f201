"""Results of each phase, and the actions that follow from them."""

import asyncio
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import msgspec
import pytest

from controller.reconcile.context import PartialArchive, TooManyFiles
from controller.reconcile.error_policy import classify
from controller.reconcile.outcomes import Done, Fail, Outcome, Pause, Skip, Wait
from controller.reconcile.phases import PHASE_FUNCTIONS
from controller.reconcile.phases.archive import archive
from controller.reconcile.phases.clean import clean
from controller.reconcile.phases.collect import collect
from controller.reconcile.phases.validate import validate
from counterfoil.archives.backend import temporary_name
from counterfoil.archives.errors import ArchiveError, ArchiveUnavailable, NameTaken
from counterfoil.archives.manifest import Manifest
from counterfoil.archives.tags import TagMissing
from counterfoil.esaw import EsawUnreachable, HttpStatusError
from counterfoil.esaw.errors import NotProven
from counterfoil.esaw.models import HistoryEvent
from counterfoil.i18n.reasons import Responsible, find_reason
from counterfoil.resources import (
    MAX_DOCUMENTS,
    MAX_TEXT_LENGTH,
    PHASE_CONDITIONS,
    EnvelopeEvent,
    EnvelopeStatus,
    EnvelopeSummary,
    Phase,
)
from counterfoil.resources.envelopeevent import MAX_TAG_LENGTH, UNKNOWN_ENVELOPE_ATTEMPTS
from tests.support.builders import ENVELOPE, NOON, AClock, a_history, an_event
from tests.support.fakes.archives import MemoryBackend
from tests.support.fakes.reconcile_context import FOLDER, Scene, an_archive, missing
from tests.support.signing_keys import a_signer


async def validated(scene: Scene, event: EnvelopeEvent | None = None) -> Outcome:
    event = event or an_event().build()
    return await validate(event, scene.context(event))


def with_facts(event: EnvelopeEvent, outcome: Outcome) -> EnvelopeEvent:
    """Return the event as it is after the status was stored."""
    facts = outcome.facts
    status = msgspec.structs.replace(
        event.status,
        documents=event.status.documents if facts.documents is None else facts.documents,
        archive=event.status.archive if facts.archive is None else facts.archive,
    )
    return msgspec.structs.replace(event, status=status)


async def claimed(scene: Scene) -> EnvelopeEvent:
    """Return an event whose files are listed and claimed."""
    event = an_event().build()
    return with_facts(event, await collect(event, scene.context(event)))


# -- Validating ----------------------------------------------------------------------------------------------


def test_there_is_a_function_for_each_phase_in_order() -> None:
    assert list(PHASE_FUNCTIONS) == list(PHASE_CONDITIONS)


async def test_an_envelope_in_an_expected_status_is_valid_and_its_name_is_recorded() -> None:
    outcome = await validated(Scene())
    assert isinstance(outcome, Done)
    assert outcome.reason == "StatusAccepted"
    seen = outcome.facts.envelope
    assert seen is not None
    assert (seen.name, seen.status, seen.sender_ref and seen.sender_ref.name) == (
        "Contract",
        "Completed",
        "anna",
    )


@pytest.mark.parametrize(("status", "is_known"), [(EnvelopeStatus.COMPLETED, True), ("Expired", False)])
async def test_the_end_of_a_completed_envelope_is_recorded(status: EnvelopeStatus, is_known: bool) -> None:
    scene = Scene(statuses=["Completed", "Expired"])
    scene.esaw.status = EnvelopeStatus(status)
    scene.esaw.activities = b'[{"FinishedDate":"2026-06-30T10:00:00.123Z"}]'
    seen = (await validated(scene)).facts.envelope
    assert seen is not None
    assert seen.finished_time == (NOON.replace(month=6, day=30, hour=10) if is_known else None)


@pytest.mark.parametrize(
    "finished",
    [
        "9999-12-31T23:59:59.9999999Z",
        "9999-12-31T23:59:59-05:00",
        "2099-01-01T00:00:00Z",
        "0001-01-01T00:00:00",
        "0001-01-01T00:00:00+01:00",
        "2026-06-01T10:00:00Z",
    ],
)
async def test_an_end_in_the_future_or_before_the_envelope_was_sent_is_not_believed(finished: str) -> None:
    scene = Scene()
    scene.esaw.sent_text = "2026-06-02T10:00:00Z"
    scene.esaw.activities = f'[{{"FinishedDate":"{finished}"}}]'.encode()
    seen = (await validated(scene)).facts.envelope
    assert seen is not None
    assert seen.finished_time is None


@pytest.mark.parametrize(
    ("step", "sent", "newest"),
    [
        ("2026-06-30T10:00:00.123Z", "2026-06-02T10:00:00Z", NOON.replace(month=6, day=30, hour=10)),
        ("2026-06-01T10:00:00Z", "2026-06-02T10:00:00Z", NOON.replace(month=6, day=2, hour=10)),
        ("2099-01-01T00:00:00Z", "2026-06-02T10:00:00Z", NOON.replace(month=6, day=2, hour=10)),
        (None, "2026-06-02T10:00:00Z", NOON.replace(month=6, day=2, hour=10)),
        (None, "2099-01-01T00:00:00Z", None),
        (None, None, None),
    ],
)
@pytest.mark.parametrize("status", [EnvelopeStatus.COMPLETED, EnvelopeStatus.REJECTED])
async def test_the_newest_time_at_which_an_envelope_had_not_ended_is_recorded(
    status: EnvelopeStatus, step: str | None, sent: str | None, newest: datetime | None
) -> None:
    scene = Scene(statuses=["Completed", "Rejected"])
    scene.esaw.status, scene.esaw.sent_text = status, sent
    if step is not None:
        scene.esaw.activities = f'[{{"FinishedDate":"{step}"}}]'.encode()
    seen = (await validated(scene)).facts.envelope
    assert seen is not None
    assert seen.last_active_time == newest


async def test_an_envelope_that_esaw_has_not_finished_yet_is_waited_for() -> None:
    scene = Scene()
    scene.esaw.status = EnvelopeStatus.ACTIVE
    outcome = await validated(scene)
    assert isinstance(outcome, Wait)
    assert outcome.reason == "StillActive"


def stuck(attempts: int = 1, **failed: Any) -> tuple[Scene, EnvelopeEvent]:
    scene = Scene()
    scene.esaw.status = EnvelopeStatus.ACTIVE
    scene.esaw.failed = HistoryEvent(is_in_error_state=True, **failed)
    return scene, an_event().in_phase(Phase.VALIDATING, "StillActive").status(attempts=attempts).build()


@pytest.mark.parametrize(
    ("failed", "words"),
    [
        ({"type_text": "EnvelopeCallback"}, "a step `EnvelopeCallback` in an error state, with no attempts"),
        ({"type_text": "X", "remaining_attempts": 20}, "a step `X` in an error state, with 20 attempts left"),
        ({"type_text": "\x1b[31m token"}, "a step without a name in an error state, with no attempts left"),
        ({}, "a step without a name in an error state, with no attempts left"),
    ],
)
async def test_an_envelope_that_esaw_itself_can_not_finish_is_waited_for_with_its_own_reason(
    failed: dict[str, Any], words: str
) -> None:
    scene, event = stuck(**failed)
    outcome = await validated(scene, event)
    assert isinstance(outcome, Wait)
    assert outcome.reason == "EsawErrorState"
    assert words in outcome.message


async def test_the_first_attempt_asks_for_no_history_since_callbacks_come_early() -> None:
    scene, event = stuck(attempts=0)
    assert (await validated(scene, event)).reason == "StillActive"
    assert "history" not in scene.esaw.asked


@pytest.mark.parametrize("problem", [HttpStatusError(403, "ERR0030"), missing(), EsawUnreachable("cut")])
async def test_a_history_that_can_not_be_read_changes_nothing_about_the_wait(problem: Exception) -> None:
    scene, event = stuck()
    scene.esaw.but("history", problem)
    assert (await validated(scene, event)).reason == "StillActive"


@pytest.mark.parametrize("status", [EnvelopeStatus.REJECTED, EnvelopeStatus.CANCELED, EnvelopeStatus.EXPIRED])
async def test_an_envelope_in_a_status_that_is_not_archived_is_skipped_and_named_in_the_reason(
    status: EnvelopeStatus,
) -> None:
    scene = Scene()
    scene.esaw.status = status
    outcome = await validated(scene)
    assert isinstance(outcome, Skip)
    assert outcome.reason == "UnexpectedStatus"
    assert outcome.message == f"The envelope is {status}; Organization/acme archives Completed."


async def test_an_organization_may_archive_rejected_envelopes_too() -> None:
    scene = Scene(statuses=["Completed", "Rejected"])
    scene.esaw.status = EnvelopeStatus.REJECTED
    assert isinstance(await validated(scene), Done)


@pytest.mark.parametrize("phase", ["validate", "collect"])
async def test_an_envelope_that_was_deleted_before_it_was_archived_is_a_failure_with_a_notification(
    phase: str,
) -> None:
    scene = Scene()
    scene.esaw.deleted = True
    event = an_event().build()
    outcome = await {"validate": validate, "collect": collect}[phase](event, scene.context(event))
    assert isinstance(outcome, Fail)
    assert outcome.reason == "EnvelopeDeleted"
    assert find_reason("EnvelopeDeleted").responsible is Responsible.ADMINISTRATOR


@pytest.mark.parametrize("phase", ["validate", "collect", "archive"])
async def test_an_envelope_that_another_of_its_events_archived_is_skipped_with_the_name_of_that_event(
    phase: str,
) -> None:
    scene = Scene(evidence={"auditTrail": "Optional"})
    del scene.esaw.contents["trail-1"]
    sibling = an_event().for_action("envelopeCompleted").archived("1").in_phase(Phase.SUCCEEDED).build()
    scene.sibling_events = [an_event().for_action("envelopeRejected").build(), sibling]
    event = await claimed(scene)
    scene.esaw.deleted = scene.esaw.deleted_for_history = True
    context = scene.context(event)
    outcome = await {"validate": validate, "collect": collect, "archive": archive}[phase](event, context)
    assert isinstance(outcome, Skip)
    assert outcome.reason == "ArchivedAlready"
    assert outcome.message == (
        f"EnvelopeEvent/{sibling.name} archived this envelope in Archive/dms, and since then it was deleted "
        "in eSignAnyWhere."
    )


async def test_an_unknown_envelope_is_believed_to_be_unknown_only_at_the_third_time() -> None:
    scene = Scene()
    scene.esaw.but("envelope", missing()).but("history", missing())
    outcomes = [
        await validated(scene, an_event().status(attempts=number, attempt_history=history).build())
        for number in range(UNKNOWN_ENVELOPE_ATTEMPTS)
        for history in [a_history(*["EnvelopeNotFound"] * number)]
    ]
    assert [type(each) for each in outcomes] == [Wait, Wait, Fail]
    assert {each.reason for each in outcomes} == {"EnvelopeNotFound"}
    # The text of the reason promises this.
    assert all(each.message.endswith(" This event has archived no file.") for each in outcomes)
    assert len({each.message for each in outcomes}) == 1


@pytest.mark.parametrize(
    ("number", "reasons"),
    [
        (2, ["EsawUnreachable", "EsawUnreachable"]),
        (3, ["EnvelopeNotFound", "EsawUnreachable", "EnvelopeNotFound"]),
        (0, ["EnvelopeNotFound", "EnvelopeNotFound", "EnvelopeNotFound"]),
    ],
)
async def test_only_answers_in_a_row_since_the_last_retry_make_an_envelope_unknown(
    number: int, reasons: list[str]
) -> None:
    scene = Scene()
    scene.esaw.but("envelope", missing()).but("history", missing())
    event = an_event().status(attempts=number, attempt_history=a_history(*reasons)).build()
    assert isinstance(await validated(scene, event), Wait)


async def test_a_user_who_may_not_see_histories_gets_the_same_answer_as_one_who_sees_none() -> None:
    scene = Scene()
    scene.esaw.but("envelope", missing()).but("history", HttpStatusError(403, "ERR0010"))
    outcome = await validated(scene)
    assert outcome.reason == "EnvelopeNotFound"


async def test_an_envelope_that_history_knows_as_alive_but_this_user_may_not_see_is_not_called_deleted() -> (
    None
):
    scene = Scene()
    scene.esaw.but("envelope", missing())
    assert (await validated(scene)).reason == "EnvelopeNotFound"


async def test_an_envelope_that_esaw_described_before_is_not_said_to_have_never_existed() -> None:
    scene = Scene()
    scene.esaw.but("envelope", missing())
    known = an_event().status(envelope=EnvelopeSummary(name="Contract", status="Completed")).build()
    message = (await validated(scene, known)).message
    assert "never existed" not in message
    assert "any more" in message


async def test_an_unreadable_history_leaves_it_open_whether_the_envelope_was_deleted() -> None:
    scene = Scene()
    scene.esaw.but("envelope", missing()).but("history", HttpStatusError(403, "ERR0010"))
    assert "or it was deleted" in (await validated(scene)).message


@pytest.mark.parametrize(
    "problem", [HttpStatusError(401), HttpStatusError(503), EsawUnreachable("cut"), HttpStatusError(403)]
)
async def test_what_else_goes_wrong_is_left_to_the_table(problem: Exception) -> None:
    scene = Scene()
    scene.esaw.but("envelope", problem)
    with pytest.raises(type(problem)):
        await validated(scene)
    scene.esaw.but("envelope", missing()).but("history", HttpStatusError(503))
    with pytest.raises(HttpStatusError, match="503"):
        await validated(scene)


# -- Collecting ----------------------------------------------------------------------------------------------


async def collected_of(files: int) -> Outcome:
    scene = Scene(evidence={"auditTrail": "Optional"})
    scene.esaw.contents = {f"file-{number}": b"%PDF" for number in range(files)}
    event = an_event().build()
    return await collect(event, scene.context(event))


async def test_an_envelope_with_more_files_than_an_event_takes_fails_and_reports_it() -> None:
    with pytest.raises(TooManyFiles) as too_many:
        await collected_of(MAX_DOCUMENTS + 1)
    assert classify(too_many.value, AClock().now()) == Fail(
        "EnvelopeTooLarge",
        "The envelope has 2001 files, and an event takes 2000 at most. The envelope stays in eSignAnyWhere.",
    )
    assert isinstance(await collected_of(MAX_DOCUMENTS), Done)


async def test_an_envelope_whose_files_have_names_too_long_for_one_event_fails_before_anything_is_filed() -> (
    None
):
    scene = Scene(evidence={"auditTrail": "Optional"})
    scene.esaw.contents = {f"file-{number}-{'x' * 450}": b"%PDF" for number in range(MAX_DOCUMENTS)}
    event = an_event().build()
    outcome = await collect(event, scene.context(event))
    assert isinstance(outcome, Fail)
    assert outcome.reason == "EnvelopeTooLarge"
    assert outcome.message.startswith("The envelope has 2000 files; with their names and places that is more")


async def test_a_name_in_the_archive_that_is_too_long_for_a_status_is_an_error_of_the_archives_path() -> None:
    scene = Scene(evidence={"auditTrail": "Optional"})
    scene.archive = an_archive(path="{{envelope.id}}/" + "{{file.name}}/" * 40 + "{{file.name}}")
    scene.esaw.contents = {f"file-{'x' * 240}": b"%PDF"}
    event = an_event().build()
    with pytest.raises(ArchiveError, match=r"Shorten spec\.path of Archive/dms") as trouble:
        await collect(event, scene.context(event))
    assert trouble.value.reason == "PathTooLong"


async def test_a_name_that_was_cut_when_it_was_claimed_is_cut_when_it_is_found_in_the_manifest() -> None:
    scene = Scene()
    scene.esaw.names = {"file-1": f"{'x' * 5000}.pdf"}
    event = await claimed(scene)
    first = await archive(event, scene.context(event))
    again = await archive(event, scene.context(event))
    for outcome in (first, again):
        assert outcome.facts.documents is not None
        assert outcome.facts.documents[0].file_name == "x" * MAX_TEXT_LENGTH


async def test_every_file_gets_a_name_in_the_archive_before_anything_is_written() -> None:
    scene = Scene()
    event = an_event().build()
    outcome = await collect(event, scene.context(event))
    assert isinstance(outcome, Done)
    assert outcome.facts.documents is not None
    assert [(each.file_id, each.location, each.sha256) for each in outcome.facts.documents] == [
        ("file-1", f"memory:///{FOLDER}/Document/file-1.pdf", None),
        ("trail-1", f"memory:///{FOLDER}/AuditTrail/audit-trail.pdf", None),
    ]
    assert scene.backend.files == {}
    assert not any(each.startswith("download") for each in scene.esaw.asked)


async def test_an_envelope_for_which_no_file_is_listed_yet_is_waited_for() -> None:
    scene = Scene()
    scene.esaw.contents.clear()
    event = an_event().build()
    outcome = await collect(event, scene.context(event))
    assert isinstance(outcome, Wait)
    assert outcome.reason == "NoFiles"


async def test_a_foreign_file_under_our_name_is_not_touched() -> None:
    scene = Scene()
    scene.backend.files[f"{FOLDER}/Document/file-1.pdf"] = b"another program's"
    event = an_event().build()
    with pytest.raises(NameTaken):
        await collect(event, scene.context(event))


async def test_a_file_of_another_program_that_one_list_leaves_out_is_not_replaced() -> None:
    scene = Scene()
    name = f"{FOLDER}/Document/file-1.pdf"
    scene.backend.files[name] = b"another program's"
    scene.backend.unlisted.add(name)
    with pytest.raises(NameTaken):
        await claimed(scene)
    assert scene.backend.files == {name: b"another program's"}


async def test_what_an_earlier_run_claimed_is_ours() -> None:
    scene = Scene()
    event = await claimed(scene)
    scene.backend.files[f"{FOLDER}/Document/file-1.pdf"] = b"half of it"
    assert isinstance(await collect(event, scene.context(event)), Done)


async def test_a_required_tag_that_is_missing_stops_before_anything_is_claimed() -> None:
    scene = Scene()
    scene.archive = an_archive(tags={"customer": {"xpath": "/case/customer", "required": True}})
    event = an_event().build()
    with pytest.raises(TagMissing, match=r"^Archive/dms: The tag `customer` is required"):
        await collect(event, scene.context(event))


async def test_a_rule_that_can_not_work_names_its_archive() -> None:
    scene = Scene()
    scene.archive = an_archive("hr", tags={"customer": {"xpath": "//["}})
    event = an_event().build()
    with pytest.raises(ArchiveError, match=r"^Archive/hr: .*customer"):
        await collect(event, scene.context(event))


async def test_a_404_that_does_not_name_the_envelope_is_left_to_the_table() -> None:
    scene = Scene()
    scene.esaw.but("files", missing("ERR0008"))
    event = an_event().build()
    with pytest.raises(HttpStatusError):
        await collect(event, scene.context(event))


async def broken_off(scene: Scene) -> None:
    """File the first file of the envelope for an event that nobody knows any more."""
    event = await claimed(scene)
    scene.esaw.but("download trail-1", EsawUnreachable("cut"))
    with pytest.raises(PartialArchive):
        await archive(event, scene.context(event))
    del scene.esaw.problems["download trail-1"]


async def test_what_another_event_of_the_envelope_archived_before_its_failure_is_recognised() -> None:
    scene = Scene()
    await broken_off(scene)
    event = await claimed(scene)
    assert isinstance(await archive(event, scene.context(event)), Done)
    assert scene.backend.put_names.count("file-1.pdf") == 1


async def broken_off_for_a_sibling(scene: Scene) -> None:
    """Let another event of the envelope claim its names and file all but the manifest; then eSAW renders the
    trail again."""
    sibling = an_event().for_action("envelopeCompleted").build()
    sibling = with_facts(sibling, await collect(sibling, scene.context(sibling)))
    scene.backend.problems["counterfoil.json"] = ArchiveUnavailable("ArchiveFull", "Archive/dms is full.")
    with pytest.raises(PartialArchive):
        await archive(sibling, scene.context(sibling))
    del scene.backend.problems["counterfoil.json"]
    scene.sibling_events = [sibling]
    scene.esaw.contents["trail-1"] = b"%PDF-trail: and then it was downloaded"


async def test_what_a_siblings_status_names_is_ours_though_the_audit_trail_differs_by_now() -> None:
    scene = Scene()
    await broken_off_for_a_sibling(scene)
    event = await claimed(scene)
    assert isinstance(await archive(event, scene.context(event)), Done)
    stored = scene.backend.files[f"{FOLDER}/AuditTrail/audit-trail.pdf"]
    assert stored == b"%PDF-trail: and then it was downloaded"


async def test_a_half_written_manifest_beside_a_siblings_files_is_ours() -> None:
    scene = Scene()
    await broken_off_for_a_sibling(scene)
    scene.backend.files[f"{FOLDER}/counterfoil.json"] = b'{"half of'
    event = await claimed(scene)
    assert isinstance(await archive(event, scene.context(event)), Done)


async def test_a_sibling_that_filed_elsewhere_makes_no_file_ours() -> None:
    scene = Scene()
    scene.sibling_events = [an_event().for_action("envelopeCompleted").archived("file-1.pdf").build()]
    scene.backend.files[f"{FOLDER}/Document/file-1.pdf"] = b"another program's"
    with pytest.raises(NameTaken, match="nothing shows that Counterfoil put it there"):
        await claimed(scene)


async def test_what_differs_from_esaws_file_stays_foreign() -> None:
    scene = Scene()
    await broken_off(scene)
    scene.backend.files[f"{FOLDER}/Document/file-1.pdf"] = b"%PDF-contract with a note of somebody's"
    with pytest.raises(NameTaken):
        await claimed(scene)


# -- Archiving -----------------------------------------------------------------------------------------------


async def test_all_files_arrive_and_the_manifest_comes_last() -> None:
    scene = Scene()
    event = await claimed(scene)
    outcome = await archive(event, scene.context(event))
    assert isinstance(outcome, Done)
    assert outcome.message == "Archive/dms has 2 files with 23 bytes, all read back."
    assert scene.backend.put_names == [
        "file-1.pdf",
        "audit-trail.pdf",
        "counterfoil.sha256",
        "counterfoil.json",
    ]
    assert outcome.facts.archive is not None
    assert outcome.facts.archive.manifest == f"memory:///{FOLDER}/counterfoil.json"
    assert all(each.sha256 and each.size for each in outcome.facts.documents or ())
    assert scene.counted == [13, 10]


async def test_what_a_killed_run_left_behind_is_removed_before_the_first_file_is_sent() -> None:
    scene = Scene()
    event = await claimed(scene)
    leftover = f"{FOLDER}/Document/{temporary_name()}"
    scene.backend.files[leftover] = b"%PDF-con"
    await archive(event, scene.context(event))
    assert leftover not in scene.backend.files


async def test_parameters_are_not_called_archived_while_a_file_has_its_tags_from_before_them() -> None:
    scene = Scene()
    await broken_off(scene)
    event = await claimed(scene)
    late = an_event().with_condition("ParametersArchived", "False").build().status.conditions
    event = msgspec.structs.replace(event, status=msgspec.structs.replace(event.status, conditions=late))
    outcome = await archive(event, scene.context(event))
    assert scene.backend.put_names.count("file-1.pdf") == 1
    assert "ParametersArchived" not in {each.type for each in outcome.facts.side_conditions}


async def test_the_manifest_names_the_envelope_the_event_and_the_time_of_the_callback() -> None:
    scene = Scene()
    event = await claimed(scene)
    await archive(event, scene.context(event))
    manifest = Manifest.decode(scene.backend.files[f"{FOLDER}/counterfoil.json"])
    assert (manifest.envelope.id, manifest.envelope.status) == (ENVELOPE, "Completed")
    assert manifest.times.archived == "2026-07-01T12:00:00Z"
    assert [(each.action, each.time) for each in manifest.times.actions] == [
        ("envelopeFinished", "2026-07-01T12:00:00Z")
    ]
    assert manifest.extra["event"]["name"] == event.name


async def test_a_searchable_tag_is_in_the_status_cut_to_its_bound_and_no_other_tag_is() -> None:
    scene = Scene()
    scene.archive = an_archive(
        tags={
            "contract": {"value": "n" * (MAX_TAG_LENGTH + 1), "searchable": True},
            "missing": {"callback": "orderNo", "searchable": True},
            "customer": {"value": "Anna"},
        }
    )
    event = await claimed(scene)
    outcome = await archive(event, scene.context(event))
    assert outcome.facts.archive is not None
    assert outcome.facts.archive.tags == {"contract": "n" * MAX_TAG_LENGTH}


async def test_archiving_twice_leaves_everything_as_once_and_counts_its_bytes_once() -> None:
    scene = Scene()
    event = await claimed(scene)
    once = await archive(event, scene.context(event))
    scene.esaw.asked.clear()
    stored, puts = dict(scene.backend.files), list(scene.backend.put_names)
    twice = await archive(event, scene.context(event))
    assert once.facts == twice.facts
    assert (scene.backend.files, scene.backend.put_names) == (stored, puts)
    assert scene.counted == [13, 10]
    assert [each for each in scene.esaw.asked if each.startswith("download")] == [
        "download file-1",
        "download trail-1",
    ]


@pytest.mark.parametrize("at_last", [EnvelopeStatus.COMPLETED, EnvelopeStatus.EXPIRED])
async def test_what_was_archived_before_an_expired_envelope_was_restarted_is_archived_again(
    at_last: EnvelopeStatus,
) -> None:
    scene = Scene(statuses=["Completed", "Expired"])
    scene.esaw.status = EnvelopeStatus.EXPIRED
    event = await claimed(scene)
    await archive(event, scene.context(event))
    scene.esaw.status = at_last
    scene.esaw.contents["file-1"] = b"%PDF-contract, signed by one more"
    assert isinstance(await archive(event, scene.context(event)), Done)
    assert scene.backend.files[f"{FOLDER}/Document/file-1.pdf"] == b"%PDF-contract, signed by one more"
    manifest = Manifest.decode(scene.backend.files[f"{FOLDER}/counterfoil.json"])
    assert manifest.envelope.status == at_last
    assert manifest.files[0].sha256 == sha256(b"%PDF-contract, signed by one more").hexdigest()


class MovedBackend(MemoryBackend):
    """The same files under another address."""

    def location(self, name: str) -> str:
        return f"memory://new-address/{name}"


async def test_when_the_archive_has_another_address_the_manifest_names_it_and_nothing_is_sent_again() -> None:
    scene = Scene()
    event = await claimed(scene)
    await archive(event, scene.context(event))
    scene.backend, before = MovedBackend(), scene.backend
    scene.backend.files = before.files
    event = await claimed(scene)
    outcome = await archive(event, scene.context(event))
    assert isinstance(outcome, Done)
    assert scene.backend.put_names == ["counterfoil.json"]
    places = [each.location or "" for each in outcome.facts.documents or ()]
    assert places == [each.location for each in event.status.documents]
    manifest = Manifest.decode(scene.backend.files[f"{FOLDER}/counterfoil.json"])
    assert [each.location for each in manifest.files] == places
    assert all(each.startswith("memory://new-address/") for each in places)


async def test_an_archive_with_other_names_in_the_same_folder_is_archived_again_under_the_new_ones() -> None:
    scene = Scene()
    event = await claimed(scene)
    event = with_facts(event, await archive(event, scene.context(event)))
    scene.archive = an_archive(path="{{organization}}/{{envelope.id}}/{{file.name}}")
    event = with_facts(event, await collect(event, scene.context(event)))
    outcome = await archive(event, scene.context(event))
    assert isinstance(outcome, Done)
    assert [each.location for each in outcome.facts.documents or ()] == [
        f"memory:///{FOLDER}/file-1.pdf",
        f"memory:///{FOLDER}/audit-trail.pdf",
    ]
    assert f"{FOLDER}/file-1.pdf" in scene.backend.files


async def test_a_run_that_was_killed_in_the_middle_continues_and_sends_nothing_twice() -> None:
    scene = Scene()
    event = await claimed(scene)
    scene.esaw.but("download trail-1", EsawUnreachable("cut"))
    with pytest.raises(PartialArchive) as partly:
        await archive(event, scene.context(event))
    assert [each.sha256 is not None for each in partly.value.documents] == [True, False]
    del scene.esaw.problems["download trail-1"]
    assert isinstance(await archive(event, scene.context(event)), Done)
    assert scene.backend.put_names.count("file-1.pdf") == 1


async def test_when_the_files_are_others_than_were_claimed_they_are_listed_again() -> None:
    scene = Scene()
    event = await claimed(scene)
    scene.esaw.contents["file-2"] = b"%PDF-one more"
    outcome = await archive(event, scene.context(event))
    assert isinstance(outcome, Wait)
    assert (outcome.reason, outcome.restart_from) == ("FilesChanged", Phase.COLLECTING)
    assert scene.backend.files == {}


async def test_when_the_path_of_the_archive_was_changed_the_names_are_claimed_again() -> None:
    scene = Scene()
    event = await claimed(scene)
    scene.archive = an_archive(path="{{envelope.id}}/{{file.name}}")
    outcome = await archive(event, scene.context(event))
    assert isinstance(outcome, Wait)
    assert outcome.reason == "FilesChanged"


async def test_a_failure_of_the_archive_is_raised_with_the_progress() -> None:
    scene = Scene()
    event = await claimed(scene)
    scene.backend.problems["audit-trail.pdf"] = ArchiveUnavailable("ArchiveFull", "Archive/dms is full.")
    with pytest.raises(PartialArchive) as partly:
        await archive(event, scene.context(event))
    assert isinstance(partly.value.__cause__, ArchiveUnavailable)
    assert partly.value.documents[0].sha256 is not None


async def test_an_envelope_that_is_deleted_while_it_is_archived_is_a_failure_that_says_what_arrived() -> None:
    scene = Scene()
    scene.esaw.contents["file-2"] = b"%PDF-appendix"
    event = await claimed(scene)
    scene.esaw.but("download trail-1", missing("ERR0008"))
    scene.esaw.deleted_for_history = True
    outcome = await archive(event, scene.context(event))
    assert isinstance(outcome, Fail)
    assert outcome.reason == "EnvelopeDeleted"
    first = event.status.documents[0].location
    assert f"2 of its 3 files arrived, the first one at `{first}`, without a manifest." in outcome.message
    assert outcome.facts.documents is not None
    assert outcome.facts.documents[0].sha256 is not None
    assert f"{FOLDER}/counterfoil.json" not in scene.backend.files


async def test_a_file_that_esaw_no_longer_has_although_the_envelope_lives_is_left_to_the_table() -> None:
    scene = Scene()
    event = await claimed(scene)
    scene.esaw.but("download trail-1", missing("ERR0008"))
    with pytest.raises(PartialArchive) as partly:
        await archive(event, scene.context(event))
    assert isinstance(partly.value.__cause__, HttpStatusError)


# -- Cleaning ------------------------------------------------------------------------------------------------


async def cleaned(scene: Scene, event: EnvelopeEvent | None = None) -> Outcome:
    event = event or await archived_before(scene)
    scene.esaw.asked.clear()
    return await clean(event, scene.context(event))


async def archived_before(scene: Scene) -> EnvelopeEvent:
    """Archive the scene's envelope in an earlier run; return the event as it then is."""
    event = await claimed(scene)
    outcome = await archive(event, scene.context(event))
    assert isinstance(outcome, Done)
    proven = with_facts(an_event().archived().build(), outcome)
    assert proven.status.envelope is not None
    envelope = msgspec.structs.replace(proven.status.envelope, status=scene.esaw.status)
    status = msgspec.structs.replace(proven.status, envelope=envelope)
    return msgspec.structs.replace(proven, status=status)


async def test_the_archived_envelope_is_deleted_once() -> None:
    scene = Scene()
    outcome = await cleaned(scene)
    assert isinstance(outcome, Done)
    assert outcome.reason == "ArchivedAndDeleted"
    assert scene.esaw.transport.deleted == [ENVELOPE]


async def test_what_was_verified_in_this_run_is_not_read_again() -> None:
    scene = Scene()
    event = await claimed(scene)
    context = scene.context(event)
    outcome = await archive(event, context)
    reads = scene.backend.reads
    archived = with_facts(an_event().archived().build(), outcome)
    assert (await clean(archived, context)).reason == "ArchivedAndDeleted"
    assert scene.backend.reads == reads


async def test_a_seal_that_is_gone_is_made_again_before_the_delete() -> None:
    scene = Scene()
    scene.signer = a_signer()
    event = await archived_before(scene)
    del scene.backend.files[f"{FOLDER}/counterfoil.json.sig"]
    outcome = await cleaned(scene, event)
    assert isinstance(outcome, Wait)
    assert (outcome.reason, outcome.restart_from) == ("ArchivedFilesChanged", Phase.COLLECTING)
    assert "counterfoil.json.sig is missing" in outcome.message
    await archive(event, scene.context(event))
    assert isinstance(await cleaned(scene, event), Done)


async def test_after_a_lost_answer_to_the_delete_it_is_gone_and_that_is_what_was_wanted() -> None:
    scene = Scene()
    event = await archived_before(scene)
    scene.esaw.deleted = True
    outcome = await cleaned(scene, event)
    assert isinstance(outcome, Done)
    assert outcome.reason == "ArchivedAndDeleted"


async def test_an_envelope_that_must_be_kept_is_kept() -> None:
    scene = Scene(cleanup={"policy": "Keep"})
    outcome = await cleaned(scene)
    assert isinstance(outcome, Done)
    assert outcome.reason == "ArchivedAndKept"
    assert scene.esaw.asked == ["envelope", "files"]


async def test_a_delay_after_archiving_is_kept_to() -> None:
    scene = Scene(cleanup={"policy": "Delete", "after": "24h"})
    event = await archived_before(scene)
    outcome = await cleaned(scene, event)
    assert isinstance(outcome, Pause)
    assert outcome.until == NOON + timedelta(hours=24)
    assert scene.esaw.asked == []
    scene.clock.advance(hours=24)
    assert isinstance(await cleaned(scene, event), Done)
    assert scene.esaw.transport.deleted == [ENVELOPE]


UNPROVEN: dict[str, dict[str, Any]] = {
    "without a manifest": {"archive": None},
    "without conditions": {"conditions": ()},
}


@pytest.mark.parametrize("lack", UNPROVEN)
async def test_without_the_whole_proof_nothing_is_deleted(lack: str) -> None:
    scene = Scene()
    event = await archived_before(scene)
    event = msgspec.structs.replace(event, status=msgspec.structs.replace(event.status, **UNPROVEN[lack]))
    with pytest.raises(NotProven):
        await cleaned(scene, event)
    assert scene.esaw.transport.deleted == []


def discarded(event: EnvelopeEvent) -> EnvelopeEvent:
    """Return the event as if its archive had kept no files."""
    documents = tuple(
        msgspec.structs.replace(each, location=f"discarded:{each.file_id}") for each in event.status.documents
    )
    return msgspec.structs.replace(event, status=msgspec.structs.replace(event.status, documents=documents))


async def test_what_another_archive_did_not_keep_is_archived_again_before_the_delete() -> None:
    scene = Scene()
    event = discarded(await archived_before(scene))
    outcome = await cleaned(scene, event)
    assert isinstance(outcome, Wait)
    assert (outcome.reason, outcome.restart_from) == ("ArchivedFilesChanged", Phase.COLLECTING)
    assert scene.esaw.transport.deleted == []


async def test_what_this_run_sent_to_an_archive_that_keeps_no_files_is_not_deleted() -> None:
    scene = Scene()
    event = discarded(await archived_before(scene))
    context = scene.context(event)
    context.verified = event.status.documents
    with pytest.raises(NotProven, match="keeps no files"):
        await clean(event, context)
    assert scene.esaw.transport.deleted == []


async def test_an_event_that_is_not_archived_is_not_cleaned() -> None:
    scene = Scene()
    archived = await archived_before(scene)
    unproven = an_event().with_condition("Archived", "False").build().status.conditions
    status = msgspec.structs.replace(archived.status, conditions=unproven)
    with pytest.raises(NotProven):
        await cleaned(scene, msgspec.structs.replace(archived, status=status))
    assert scene.esaw.transport.deleted == []


async def test_an_event_that_was_never_stored_is_not_cleaned() -> None:
    scene = Scene()
    event = await archived_before(scene)
    unstored = msgspec.structs.replace(
        event, metadata=msgspec.structs.replace(event.metadata, resource_version=None)
    )
    with pytest.raises(NotProven):
        await cleaned(scene, unstored)
    assert scene.esaw.transport.deleted == []


async def test_an_expired_envelope_that_was_restarted_since_is_not_deleted() -> None:
    scene = Scene(statuses=["Expired"])
    event = await archived_as_expired(scene)
    context = scene.context(event)
    await context.envelope()
    scene.esaw.status = EnvelopeStatus.ACTIVE
    outcome = await clean(event, context)
    assert isinstance(outcome, Wait)
    assert (outcome.reason, outcome.restart_from) == ("StillActive", Phase.VALIDATING)
    assert scene.esaw.transport.deleted == []


async def archived_as_expired(scene: Scene) -> EnvelopeEvent:
    """Archive the scene's envelope as it is; return the event as it then is."""
    scene.esaw.status = EnvelopeStatus.EXPIRED
    return await archived_before(scene)


async def test_an_expired_envelope_is_deleted() -> None:
    scene = Scene(statuses=["Expired"])
    event = await archived_as_expired(scene)
    assert (await cleaned(scene, event)).reason == "ArchivedAndDeleted"


async def test_an_expired_envelope_that_was_restarted_signed_and_expired_again_is_archived_again() -> None:
    scene = Scene(statuses=["Expired"])
    event = await archived_as_expired(scene)
    scene.esaw.contents["file-1"] = b"%PDF-contract, signed by one more"
    outcome = await cleaned(scene, event)
    assert isinstance(outcome, Wait)
    assert (outcome.reason, outcome.restart_from) == ("FilesChanged", Phase.COLLECTING)
    assert scene.esaw.transport.deleted == []


async def test_an_audit_trail_that_grew_does_not_keep_an_expired_envelope() -> None:
    scene = Scene(statuses=["Expired"])
    event = await archived_as_expired(scene)
    scene.esaw.contents["trail-1"] = b"%PDF-trail: and then it was downloaded"
    assert (await cleaned(scene, event)).reason == "ArchivedAndDeleted"


async def test_an_expired_envelope_that_others_deleted_is_a_failure() -> None:
    """It may have been restarted and signed before that."""
    scene = Scene(statuses=["Expired"])
    event = await archived_as_expired(scene)
    scene.esaw.deleted = True
    assert (await cleaned(scene, event)).reason == "EnvelopeDeleted"


@pytest.mark.parametrize(
    "problem", [HttpStatusError(401), HttpStatusError(403), HttpStatusError(429), EsawUnreachable("connect")]
)
async def test_a_delete_that_did_not_work_is_left_to_the_table(problem: Exception) -> None:
    scene = Scene()
    scene.esaw.but("delete", problem)
    with pytest.raises(type(problem)):
        await cleaned(scene)


@pytest.mark.parametrize("call", ["delete", "envelope"])
@pytest.mark.parametrize("status", [EnvelopeStatus.COMPLETED, EnvelopeStatus.EXPIRED])
async def test_a_delete_during_which_the_attempt_was_overdue_may_have_deleted_the_envelope(
    status: EnvelopeStatus, call: str
) -> None:
    scene = Scene(statuses=["Completed", "Expired"])
    scene.esaw.status = status
    event = await archived_before(scene)
    scene.esaw.transport.just_before = lambda: scene.esaw.meanwhile.update({call: overdue})
    if call == "delete":
        scene.esaw.meanwhile["delete"] = overdue
    context = scene.context(event)
    with pytest.raises(asyncio.CancelledError):
        await clean(event, context)
    requested = context.side_conditions[-1]
    assert (requested.type, requested.status) == ("DeleteRequested", "True")


def overdue() -> None:
    """End the attempt, as the end of its time does."""
    raise asyncio.CancelledError
