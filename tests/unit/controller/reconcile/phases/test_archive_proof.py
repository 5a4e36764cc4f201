"""Files that somebody else put into an archive prove nothing about those that eSAW has (rule 13)."""

import json
import re
import tracemalloc
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import Any

import msgspec
import pytest

from controller.reconcile.context import SiblingEvents
from controller.reconcile.outcomes import Done, Fail, Outcome, Pause, Wait
from controller.reconcile.phases.archive import archive
from controller.reconcile.phases.clean import clean
from controller.reconcile.phases.collect import collect
from controller.reconcile.phases.validate import validate
from counterfoil import __version__
from counterfoil.archives.errors import ArchiveRefused, NameTaken, OtherSource
from counterfoil.archives.manifest import Manifest
from counterfoil.durations import Duration
from counterfoil.esaw.models import SenderUserInformation
from counterfoil.resources import EnvelopeEvent, EnvelopeStatus, EnvelopeSummary, EvidenceSpec, Origin
from counterfoil.signatures.results import Coverage, Signature, Signatures, State
from tests.support.builders import ENVELOPE, NOON, ORIGIN, EventBuilder, a_sender, an_event
from tests.support.fakes.archives import MemoryBackend
from tests.support.fakes.reconcile_context import FOLDER, Scene, an_archive, missing
from tests.support.signing_keys import a_signer

DOCUMENT = f"{FOLDER}/Document/file-1.pdf"
TRAIL = f"{FOLDER}/AuditTrail/audit-trail.pdf"
MANIFEST = f"{FOLDER}/counterfoil.json"
HASHES = f"{FOLDER}/counterfoil.sha256"
SEAL = f"{FOLDER}/counterfoil.json.sig"
FORGED = b"%PDF-contract about ten times as much"
GENUINE = b"%PDF-contract"
INTACT = {
    "state": "Intact",
    "detail": "",
    "found": [{"field": "First", "intact": True, "coverage": "WholeFile"}],
    "anchors": None,
}
UNSIGNED = Signatures(state=State.UNSIGNED, detail="it has no signature")


def a_scene(**archive_spec: Any) -> Scene:
    """A scene whose controller has a signing key."""
    scene = Scene()
    scene.signer = a_signer()
    scene.archive = an_archive(**archive_spec)
    return scene


async def collected(scene: Scene, event: EnvelopeEvent | None = None) -> EnvelopeEvent:
    """Return the event with its names claimed, as it is stored then."""
    event = event or an_event().build()
    if event.status.envelope is not None:
        event = validated(scene, event)
    return validated(scene, stored(event, await collect(event, scene.context(event))))


def validated(scene: Scene, event: EnvelopeEvent) -> EnvelopeEvent:
    """Return the event with the status in which eSAW shows the envelope."""
    assert event.status.envelope is not None
    summary = msgspec.structs.replace(event.status.envelope, status=scene.esaw.status)
    status = msgspec.structs.replace(event.status, envelope=summary)
    return msgspec.structs.replace(event, status=status)


async def archived(scene: Scene, event: EnvelopeEvent) -> Outcome:
    """Archive as a new process does that has only the stored event."""
    scene.esaw.asked.clear()
    return await archive(event, scene.context(event))


async def both(scene: Scene, builder: EventBuilder | None = None) -> EnvelopeEvent:
    """Collect and archive; return the event as it is stored then."""
    event = await collected(scene, (builder or an_event()).build())
    outcome = await archived(scene, event)
    assert isinstance(outcome, Done)
    after = stored(event, outcome)
    conditions = an_event().with_condition("Archived").build().status.conditions
    status = msgspec.structs.replace(after.status, conditions=conditions)
    return msgspec.structs.replace(after, status=status)


def stored(event: EnvelopeEvent, outcome: Outcome) -> EnvelopeEvent:
    facts = outcome.facts
    summary = an_event().archived().build().status.envelope
    status = msgspec.structs.replace(
        event.status,
        envelope=summary,
        documents=event.status.documents if facts.documents is None else facts.documents,
        archive=event.status.archive if facts.archive is None else facts.archive,
    )
    return msgspec.structs.replace(event, status=status)


async def a_folder(scene: Scene, *, signer: int | None = None) -> dict[str, bytes]:
    """Return the files of this envelope as another controller archives them, with its own key or none."""
    other = Scene()
    other.organization, other.archive = scene.organization, an_archive()
    other.esaw.contents = dict(scene.esaw.contents)
    other.signer = a_signer(signer) if signer is not None else None
    event = await collected(other)
    assert isinstance(await archived(other, event), Done)
    return other.backend.files


def forged(files: dict[str, bytes]) -> dict[str, bytes]:
    """Replace the document, and adjust manifest and hash file to it; the document is called signed."""
    manifest = json.loads(files[MANIFEST])
    (entry,) = [each for each in manifest["files"] if each["kind"] == "Document"]
    genuine = entry["sha256"]
    entry |= {"size": len(FORGED), "sha256": sha256(FORGED).hexdigest(), "signatures": INTACT}
    changed = files | {DOCUMENT: FORGED, MANIFEST: json.dumps(manifest).encode()}
    changed[HASHES] = files[HASHES].replace(genuine.encode(), entry["sha256"].encode())
    return changed


def manifest_of(scene: Scene) -> Manifest:
    return Manifest.decode(scene.backend.files[MANIFEST])


def downloads(scene: Scene) -> list[str]:
    return [each for each in scene.esaw.asked if each.startswith("download")]


# -- A folder that somebody put into the archive -------------------------------------------------------------


@pytest.mark.parametrize("signer", [None, 2], ids=["without a seal", "with a seal of another key"])
async def test_a_forged_folder_of_the_envelope_is_not_treated_as_its_archive(signer: int | None) -> None:
    scene = a_scene()
    planted = forged(await a_folder(scene, signer=signer))
    scene.backend.files |= planted
    with pytest.raises(NameTaken, match="nothing shows that Counterfoil put it there"):
        await collected(scene)
    assert scene.backend.files == planted


@pytest.mark.parametrize("signer", [None, 2], ids=["without a seal", "with a seal of another key"])
async def test_a_forged_folder_under_claimed_names_is_replaced_by_what_esaw_has(signer: int | None) -> None:
    scene = a_scene()
    scene.examiner.says = UNSIGNED
    event = await collected(scene)
    scene.backend.files |= forged(await a_folder(scene, signer=signer))
    outcome = await archived(scene, event)
    assert isinstance(outcome, Done)
    assert scene.backend.files[DOCUMENT] == GENUINE
    assert manifest_of(scene).files[0].sha256 == sha256(GENUINE).hexdigest()
    assert a_signer().public.verifies(scene.backend.files[SEAL], scene.backend.files[MANIFEST])


@pytest.mark.parametrize("is_sealed", [True, False])
async def test_a_manifest_without_a_seal_that_names_further_files_is_named_and_not_esaw_accused(
    is_sealed: bool,
) -> None:
    scene = a_scene()
    scene.signer = scene.signer if is_sealed else None
    event = await collected(scene)
    manifest = json.loads((await a_folder(scene))[MANIFEST])
    manifest["files"].append({**manifest["files"][0], "fileID": "file-99", "name": "x.pdf"})
    scene.backend.files[MANIFEST] = planted = json.dumps(manifest).encode()
    waits = await archived(scene, event)
    assert isinstance(waits, Pause)
    assert waits.message.startswith("A manifest of this envelope in Archive/")
    assert f"memory:///{MANIFEST}" in waits.message
    assert "file-99" in waits.message
    assert {each.message for each in waits.facts.side_conditions} == {waits.message}
    assert scene.backend.files[MANIFEST] == planted


async def test_a_signature_that_only_a_manifest_without_a_seal_claims_does_not_count() -> None:
    scene = a_scene(signatures="Require")
    scene.examiner.says = UNSIGNED
    event = await collected(scene)
    scene.backend.files |= forged(await a_folder(scene))
    outcome = await archived(scene, event)
    assert isinstance(outcome, Fail)
    assert outcome.reason == "SignatureBroken"
    assert "it has no signature" in outcome.message


async def test_a_manifest_without_a_seal_makes_no_file_replaceable() -> None:
    scene = a_scene()
    planted = await a_folder(scene)
    planted[DOCUMENT] = b"another program's"
    scene.backend.files |= planted
    with pytest.raises(NameTaken):
        await collected(scene)
    assert scene.backend.files == planted


class MeasuredBackend(MemoryBackend):
    """Records the traced memory (bytes) at each upload."""

    def __init__(self) -> None:
        super().__init__()
        self.memory: list[int] = []

    def _begin(self, operation: str) -> None:
        if operation in ("put", "entries"):
            self.memory.append(tracemalloc.get_traced_memory()[0])
        super()._begin(operation)


@pytest.mark.parametrize("is_sealed", [True, False])
async def test_a_run_keeps_no_manifest_without_our_seal_while_it_waits_for_an_answer(is_sealed: bool) -> None:
    scene = Scene()
    scene.signer = a_signer() if is_sealed else None
    scene.backend = backend = MeasuredBackend()
    event = await collected(scene)
    planted = json.loads((await a_folder(scene))[MANIFEST])
    planted["files"][0]["fileName"] = "a" * 3_000_000 + "\U0001f600"
    backend.files[MANIFEST] = json.dumps(planted, ensure_ascii=False).encode()
    del planted
    backend.memory.clear()

    async def list_siblings() -> SiblingEvents:
        backend.memory.append(tracemalloc.get_traced_memory()[0])
        return SiblingEvents(())

    context = replace(scene.context(event), sibling_events=list_siblings)
    tracemalloc.start()
    try:
        assert isinstance(await archive(event, context), Done)
    finally:
        tracemalloc.stop()
    assert len(backend.memory) >= 6
    assert max(backend.memory) < 2_000_000


# -- Files that an earlier run archived, with only their bytes to show it ------------------------------------


async def test_a_run_that_was_killed_after_the_manifest_comes_to_an_end_though_the_trail_differs() -> None:
    scene = a_scene()
    event = await collected(scene)
    assert isinstance(await archived(scene, event), Done)
    scene.esaw.contents["trail-1"] = b"%PDF-trail: and then it was downloaded"
    assert isinstance(await archived(scene, event), Done)
    assert manifest_of(scene).files[1].sha256 == sha256(scene.backend.files[TRAIL]).hexdigest()


@pytest.mark.parametrize("signer", [None, 1, 2], ids=["no seal", "own seal", "seal of an earlier key"])
async def test_an_event_that_was_deleted_and_created_again_comes_to_an_end_though_the_trail_differs(
    signer: int | None,
) -> None:
    scene = a_scene()
    scene.backend.files |= await a_folder(scene, signer=signer)
    scene.esaw.contents["trail-1"] = b"%PDF-trail: and then it was downloaded"
    await both(scene)
    assert scene.backend.files[DOCUMENT] == GENUINE
    assert a_signer().public.verifies(scene.backend.files[SEAL], scene.backend.files[MANIFEST])


async def test_an_event_that_was_deleted_before_its_manifest_comes_to_an_end_though_the_trail_differs() -> (
    None
):
    scene = a_scene()
    files = await a_folder(scene)
    scene.backend.files |= {name: files[name] for name in (DOCUMENT, TRAIL)}
    scene.esaw.contents["trail-1"] = b"%PDF-trail: and then it was downloaded"
    await both(scene)


# -- What the manifest says about its own evidence -----------------------------------------------------------


async def test_the_manifest_names_esaw_times_versions_and_the_evidence_that_is_absent() -> None:
    """And asks eSAW for nothing more than an earlier version did."""
    scene = a_scene()
    scene.esaw.sent_text = "2026-02-28T10:00:00.123+01:00"
    scene.esaw.activities = b'[{"FinishedDate": "2026-03-01T09:30:00Z"}, {"FinishedDate": null}]'
    del scene.esaw.contents["trail-1"]
    scene.organization = msgspec.structs.replace(
        scene.organization,
        spec=msgspec.structs.replace(scene.organization.spec, evidence=EvidenceSpec(wait=Duration(0))),
        status=msgspec.structs.replace(scene.organization.status, version="25.52.0.100"),
    )
    event = await collected(scene)
    assert isinstance(await archived(scene, event), Done)
    assert scene.esaw.asked == ["envelope", "configuration", "files", "download file-1"]
    manifest = json.loads(scene.backend.files[MANIFEST])
    assert manifest["envelope"]["origin"] == ORIGIN
    assert manifest["versions"] == {"counterfoil": __version__, "eSignAnyWhere": "25.52.0.100"}
    times = manifest["times"]
    assert (times["sent"], times["finished"]) == ("2026-02-28T09:00:00Z", "2026-03-01T09:30:00Z")
    every_time = [times["sent"], times["finished"], times["archived"]] + [
        each["time"] for each in times["actions"]
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", each) for each in every_time)
    assert [(each["kind"], each["state"], each["required"]) for each in manifest["evidence"]] == [
        ("Document", "Present", True),
        ("AuditTrail", "Absent", True),
    ]


# -- What a stored status proves -----------------------------------------------------------------------------


async def test_what_the_events_own_status_has_with_its_hash_is_not_downloaded_again() -> None:
    scene = a_scene()
    event = await both(scene)
    outcome = await archived(scene, await collected(scene, event))
    assert isinstance(outcome, Done)
    assert downloads(scene) == []
    assert scene.backend.put_names.count("counterfoil.json") == 1


async def test_what_a_siblings_status_has_with_its_hash_is_not_downloaded_again() -> None:
    scene = a_scene()
    scene.signer = None
    scene.sibling_events = [await both(scene)]
    second = await collected(scene, an_event().for_action("envelopeCompleted").build())
    assert isinstance(await archived(scene, second), Done)
    assert downloads(scene) == []


async def test_a_file_that_is_not_as_the_stored_status_says_is_downloaded_and_replaced() -> None:
    scene = a_scene()
    scene.signer = None
    scene.sibling_events = [await both(scene)]
    scene.backend.files |= forged(scene.backend.files)
    second = await collected(scene, an_event().for_action("envelopeCompleted").build())
    assert isinstance(await archived(scene, second), Done)
    assert scene.backend.files[DOCUMENT] == GENUINE


async def test_a_doubtful_file_is_downloaded_again_with_any_stored_status() -> None:
    scene = a_scene()
    scene.examiner.says = Signatures(
        state=State.BROKEN,
        detail="the signature 'First' does not fit what was signed",
        found=(Signature(field="First", intact=False, coverage=Coverage.WHOLE_FILE),),
    )
    event = await both(scene)
    again = await collected(scene, event)
    scene.esaw.contents["file-1"] = b"%PDF-contract, whole this time"
    scene.examiner.found[b"%PDF-contract, whole this time"] = UNSIGNED
    assert isinstance(await archived(scene, again), Done)
    assert scene.backend.files[DOCUMENT] == b"%PDF-contract, whole this time"


# -- Another's folder ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [{"baseURL": "https://other-esaw.example.com"}, {"name": "globex"}],
    ids=["another eSAW", "another Organization"],
)
async def test_the_folder_of_another_source_with_the_same_envelope_id_is_not_replaced(
    other: dict[str, str],
) -> None:
    scene = a_scene(path="{{envelope.id}}/{{file.kind}}/{{file.name}}")
    event = await collected(scene)
    first = Scene(**other)
    first.archive, first.signer, first.backend = scene.archive, scene.signer, scene.backend
    first.esaw.contents["file-1"] = b"%PDF-contract of the first"
    assert isinstance(await archived(first, await collected(first)), Done)
    before = dict(first.backend.files)
    with pytest.raises(NameTaken, match=r"spec\.path"):
        await archived(scene, event)
    with pytest.raises(NameTaken, match=r"spec\.path"):
        await collected(scene)
    assert scene.backend.files == before


# -- An earlier state of the envelope that was archived completely -------------------------------------------


@pytest.mark.parametrize("phase", ["validate", "collect"])
async def test_a_deleted_envelope_that_was_archived_before_is_not_called_unarchived(phase: str) -> None:
    scene = a_scene()
    event = await both(scene)
    scene.esaw.deleted = True
    outcome = await {"validate": validate, "collect": collect}[phase](event, scene.context(event))
    assert isinstance(outcome, Fail)
    assert outcome.reason == "EnvelopeDeleted"
    assert "has archived nothing" not in outcome.message
    assert f"An earlier state of it is archived with the manifest memory:///{MANIFEST}" in outcome.message


async def test_a_deleted_envelope_with_a_missing_file_names_the_manifest_of_its_earlier_state() -> None:
    scene = a_scene()
    event = await both(scene)
    scene.esaw.contents["legal-1"] = b"%PDF-paper"
    again = await collected(scene, event)
    scene.esaw.but("download legal-1", missing())
    scene.esaw.deleted_for_history = True
    outcome = await archived(scene, again)
    assert isinstance(outcome, Fail)
    assert "without a manifest" not in outcome.message
    assert f"An earlier state of it is archived with the manifest memory:///{MANIFEST}" in outcome.message
    assert "2 of its 3 files" in outcome.message


async def test_a_deleted_envelope_whose_path_was_changed_names_the_manifest_at_the_earlier_place() -> None:
    scene = a_scene()
    event = await both(scene)
    scene.archive = an_archive(path="other/{{envelope.id}}/{{file.name}}")
    again = await collected(scene, event)
    scene.esaw.deleted = True
    outcome = await collect(again, scene.context(again))
    assert isinstance(outcome, Fail)
    assert f"archived with the manifest memory:///{MANIFEST}" in outcome.message
    assert "1 of its 2 files are known to be archived;" in outcome.message


async def test_an_event_that_lists_its_files_again_keeps_its_manifest_and_the_hashes_of_its_files() -> None:
    scene = a_scene()
    event = await both(scene)
    scene.esaw.contents["legal-1"] = b"%PDF-paper"
    again = await collected(scene, event)
    assert again.status.archive == event.status.archive
    assert again.status.documents[:2] == event.status.documents
    assert again.status.documents[2].sha256 is None


async def test_files_of_an_envelope_with_another_status_keep_no_hash() -> None:
    scene = Scene(statuses=["Completed", "Expired"])
    event = await both(scene)
    assert event.status.envelope is not None
    expired = msgspec.structs.replace(event.status.envelope, status=EnvelopeStatus.EXPIRED)
    status = msgspec.structs.replace(event.status, envelope=expired)
    event = msgspec.structs.replace(event, status=status)
    outcome = await validate(event, scene.context(event))
    assert [each.sha256 for each in outcome.facts.documents or ()] == [None, None]


async def archived_again_and_deleted() -> tuple[Scene, EnvelopeEvent, EnvelopeEvent]:
    """Return a scene whose second event archived one more file; eSAW has the envelope no more."""
    scene = a_scene()
    first = await both(scene)
    scene.sibling_events = [first]
    scene.esaw.contents["legal-1"] = b"%PDF-paper"
    second = await both(scene, an_event().for_action("envelopeCompleted"))
    scene.sibling_events, scene.esaw.deleted = [second], True
    scene.clock.advance(hours=1)
    return scene, first, second


async def test_the_first_event_does_not_call_lost_what_the_second_archived_with_one_more_file() -> None:
    scene, first, second = await archived_again_and_deleted()
    outcome = await clean(first, scene.context(first))
    assert outcome == Done(
        "ArchivedAndDeleted",
        f"EnvelopeEvent/{second.name} archived the envelope again, and it is no longer in eSignAnyWhere.",
    )


async def test_what_the_second_event_archived_does_not_prove_that_the_envelope_was_deleted() -> None:
    scene = a_scene()
    first = await both(scene)
    scene.sibling_events = [first]
    scene.esaw.contents["legal-1"] = b"%PDF-paper"
    second = await both(scene, an_event().for_action("envelopeCompleted"))
    scene.sibling_events = [second]
    for each in ("envelope", "files"):
        scene.esaw.but(each, missing())
    outcome = await clean(first, scene.context(first))
    assert outcome.reason == "EnvelopeNotFound"


@pytest.mark.parametrize("lost", [DOCUMENT, f"{FOLDER}/LegalDocument/legal-1.pdf", MANIFEST])
async def test_files_that_the_second_event_archived_and_that_are_gone_are_lost(lost: str) -> None:
    scene, first, _ = await archived_again_and_deleted()
    del scene.backend.files[lost]
    outcome = await clean(first, scene.context(first))
    assert isinstance(outcome, Fail)
    assert outcome.reason == "ArchivedFilesLost"


async def test_files_that_the_second_event_archived_and_that_are_absent_for_a_moment_are_not_lost() -> None:
    scene, first, _ = await archived_again_and_deleted()
    scene.esaw.meanwhile["history"] = scene.backend.files.clear

    async def check_root() -> None:
        if not scene.backend.files:
            raise ArchiveRefused("ArchiveRootChanged", "It has no marker.")

    context = scene.context(first)
    context.destination = replace(context.chosen, check_root=check_root)
    with pytest.raises(ArchiveRefused):
        await clean(first, context)


# -- Callbacks of earlier events -----------------------------------------------------------------------------

PARAMETERS = {"callback": {"tokenSecretRefs": [{"name": "callback", "key": "token"}], "parameters": ["case"]}}


@pytest.mark.parametrize("is_sealed", [True, False])
async def test_the_second_event_keeps_the_first_ones_parameters_and_tags(is_sealed: bool) -> None:
    scene = Scene(**PARAMETERS)
    scene.signer = a_signer() if is_sealed else None
    scene.archive = an_archive(
        tags={"case": {"callback": "case"}},
        path="{{tags.case}}/{{organization}}/{{envelope.id}}/{{file.kind}}/{{file.name}}",
    )
    first = await both(scene, an_event().with_parameters(case="7"))
    scene.sibling_events = [first]
    second = an_event().for_action("envelopeCompleted").created(NOON + timedelta(minutes=1))
    after = await both(scene, second)
    assert after.status.archive == first.status.archive
    manifest = Manifest.decode(scene.backend.files[f"7/{MANIFEST}"])
    assert [(each.action, each.parameters) for each in manifest.times.actions] == [
        ("envelopeFinished", {"case": "7"}),
        ("envelopeCompleted", {}),
    ]
    assert manifest.tags == {"case": "7"}
    assert downloads(scene) == []


async def test_a_sealed_manifest_keeps_the_callbacks_of_an_event_that_is_gone() -> None:
    scene = a_scene()
    await both(scene)
    await both(scene, an_event().for_action("envelopeCompleted").created(NOON + timedelta(minutes=1)))
    assert [each.action for each in manifest_of(scene).times.actions] == [
        "envelopeFinished",
        "envelopeCompleted",
    ]


def created_again(builder: EventBuilder | None = None) -> EventBuilder:
    """An event with the name of the first one, which was removed."""
    return (builder or an_event()).created_again(NOON + timedelta(days=60))


@pytest.mark.parametrize("is_sealed", [True, False])
async def test_an_event_that_is_created_again_replaces_no_manifest_with_more_parameters(
    is_sealed: bool,
) -> None:
    scene = Scene(**PARAMETERS)
    scene.signer = a_signer() if is_sealed else None
    scene.archive = an_archive(tags={"case": {"callback": "case"}})
    await both(scene, an_event().with_parameters(case="7"))
    before = dict(scene.backend.files)
    scene.clock.advance(days=60)
    await both(scene, created_again())
    assert scene.backend.files == before


@pytest.mark.parametrize("is_sealed", [True, False])
async def test_an_audit_trail_that_differs_changes_neither_callbacks_nor_time_of_archiving(
    is_sealed: bool,
) -> None:
    scene = Scene(**PARAMETERS)
    scene.signer = a_signer() if is_sealed else None
    await both(scene, an_event().with_parameters(case="7"))
    before = manifest_of(scene)
    scene.clock.advance(days=60)
    scene.esaw.contents["trail-1"] = b"%PDF-trail: and then it was downloaded"
    await both(scene, created_again())
    after = manifest_of(scene)
    assert after.files != before.files
    assert after.times == before.times


async def test_the_callback_after_a_restart_is_in_the_manifest_also_if_the_first_event_was_removed() -> None:
    scene = Scene(statuses=["Completed", "Expired"])
    scene.signer = a_signer()
    scene.esaw.status = EnvelopeStatus.EXPIRED
    await both(scene)
    scene.clock.advance(days=60)
    scene.esaw.status = EnvelopeStatus.COMPLETED
    scene.esaw.contents["file-1"] = b"%PDF-contract, signed now"
    await both(scene, created_again())
    times = manifest_of(scene).times
    assert [each.time for each in times.actions] == ["2026-07-01T12:00:00Z", "2026-08-30T12:00:00Z"]
    assert times.archived == "2026-08-30T12:00:00Z"


@pytest.mark.parametrize("is_sealed", [True, False])
async def test_a_callback_about_another_status_is_in_the_manifest_also_if_the_documents_are_the_same(
    is_sealed: bool,
) -> None:
    scene = Scene(statuses=["Completed", "Rejected"])
    scene.signer = a_signer() if is_sealed else None
    scene.esaw.status = EnvelopeStatus.REJECTED
    await both(scene)
    scene.esaw.status = EnvelopeStatus.COMPLETED
    await both(scene, created_again())
    assert len(manifest_of(scene).times.actions) == 2


TWO_ACTIONS = [{"action": each, "handling": "Archive"} for each in ("envelopeFinished", "workstepFinished")]


@pytest.mark.parametrize("origin", [Origin.IMPORT, Origin.SWEEP, Origin.CALLBACK])
@pytest.mark.parametrize("is_sealed", [True, False])
async def test_an_event_that_is_created_again_adds_no_callback_beside_that_of_another_action(
    is_sealed: bool, origin: Origin
) -> None:
    scene = Scene(actions=TWO_ACTIONS)
    scene.signer = a_signer() if is_sealed else None
    scene.sibling_events = [await both(scene)]
    await both(scene, an_event().for_action("workstepFinished").created(NOON + timedelta(minutes=1)))
    before = dict(scene.backend.files)
    scene.sibling_events = []
    scene.clock.advance(days=60)
    await both(scene, created_again(an_event().by(origin)))
    assert scene.backend.files == before


async def test_the_callback_of_another_workstep_is_added_though_the_first_event_was_removed() -> None:
    scene = Scene(actions=TWO_ACTIONS)
    scene.signer = a_signer()
    await both(scene, an_event().for_action("workstepFinished").of_workstep("w1"))
    await both(scene, created_again(an_event().for_action("workstepFinished").of_workstep("w2")))
    assert len(manifest_of(scene).times.actions) == 2


@pytest.mark.parametrize("origin", [Origin.IMPORT, Origin.SWEEP, Origin.MANUAL])
async def test_a_manifest_names_no_callback_of_an_event_that_none_created(origin: Origin) -> None:
    scene = a_scene()
    await both(scene, an_event().by(origin))
    assert manifest_of(scene).times.actions == ()


async def test_a_manifest_names_the_first_callback_of_an_event_that_an_import_created() -> None:
    scene = a_scene()
    later = NOON + timedelta(hours=1)
    await both(scene, an_event().by(Origin.IMPORT).status(deliveries=1, first_delivery_time=later))
    (action,) = manifest_of(scene).times.actions
    assert (action.action, action.time) == ("envelopeFinished", "2026-07-01T13:00:00Z")


@pytest.mark.parametrize("is_sealed", [True, False])
async def test_the_key_of_another_sender_does_not_remove_the_id_of_the_sender(is_sealed: bool) -> None:
    scene = Scene()
    scene.signer = a_signer() if is_sealed else None
    scene.sender = a_sender("anna", email="anna@acme.example")
    scene.esaw.sender = SenderUserInformation(email="Anna@acme.example", given_name="Anna", surname="A")
    await both(scene)
    before = dict(scene.backend.files)
    assert manifest_of(scene).sender.user_id
    scene.clock.advance(days=60)
    scene.sender = a_sender("bert", email="bert@acme.example")
    await both(scene, created_again())
    assert scene.backend.files == before


async def test_a_person_is_advised_to_keep_the_files_of_an_earlier_state_without_a_seal() -> None:
    scene = Scene(statuses=["Completed", "Expired"])
    scene.esaw.status = EnvelopeStatus.EXPIRED
    await both(scene)
    before = dict(scene.backend.files)
    scene.esaw.status = EnvelopeStatus.COMPLETED
    scene.esaw.contents["file-1"] = b"%PDF-contract, signed now"
    with pytest.raises(NameTaken, match=r"earlier state of the envelope.* Keep it: move the folder") as taken:
        await both(scene, created_again())
    # It is also the message of a copy, whose event has nothing to retry.
    assert "retry" not in taken.value.message
    assert scene.backend.files == before


@pytest.mark.parametrize(
    ("is_sealed", "end"),
    [(True, "archives it again."), (False, "until this event is removed: there is no signing key.")],
)
async def test_an_expired_envelope_is_said_to_be_archived_again_only_as_long_as_that_is_true(
    is_sealed: bool, end: str
) -> None:
    scene = Scene(statuses=["Completed", "Expired"], cleanup={"policy": "Keep"})
    scene.signer = a_signer() if is_sealed else None
    scene.esaw.status = EnvelopeStatus.EXPIRED
    event = await both(scene)
    summary = EnvelopeSummary(status="Expired")
    event = msgspec.structs.replace(event, status=msgspec.structs.replace(event.status, envelope=summary))
    outcome = await clean(event, scene.context(event))
    assert outcome.reason == "ArchivedAsExpired"
    assert outcome.message.endswith(end)


async def test_a_late_callback_with_another_parameter_is_added_to_the_first_one() -> None:
    scene = Scene(**PARAMETERS)
    await both(scene, an_event().with_parameters(case="7"))
    await both(scene, created_again(an_event().with_parameters(case="8")))
    assert [each.parameters for each in manifest_of(scene).times.actions] == [{"case": "7"}, {"case": "8"}]


async def test_callbacks_of_a_manifest_without_a_seal_are_not_sealed() -> None:
    scene = Scene(**PARAMETERS)
    await both(scene, an_event().with_parameters(case="7"))
    scene.signer = a_signer()
    await both(scene, created_again())
    assert [each.parameters for each in manifest_of(scene).times.actions] == [{}]


@pytest.mark.parametrize("archived", ["", "now", "2999-01-01T00:00:00Z", "2026-03-01T12:00:00Z" * 1000])
async def test_a_time_of_archiving_that_can_not_be_right_is_not_taken_over(archived: str) -> None:
    scene = Scene()
    await both(scene)
    manifest = json.loads(scene.backend.files[MANIFEST])
    manifest["times"]["archived"] = archived
    manifest["files"][0]["fileName"] = "another"
    scene.backend.files[MANIFEST] = json.dumps(manifest).encode()
    await both(scene, created_again())
    assert manifest_of(scene).times.archived == scene.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")


async def test_the_manifest_names_the_sender_that_esaw_names_and_not_the_person_whose_key_reads() -> None:
    scene = a_scene()
    scene.sender = a_sender(email="anna@acme.example")
    scene.esaw.sender = SenderUserInformation(email="ben@acme.example", given_name="Ben", surname="Berg")

    await both(scene)

    sender = manifest_of(scene).sender
    assert (sender.email, sender.user_id, sender.name) == ("ben@acme.example", "", "Ben Berg")


async def test_a_relabelled_event_of_another_envelope_is_no_sibling() -> None:
    scene = a_scene()
    scene.sibling_events = [an_event(envelope="0f9c1c2e-9999-4222-8333-444455556666").archived().build()]
    event = an_event().build()
    assert await scene.context(event).siblings() == ()


# -- Manifests that can't be read, and folders that differ from theirs ---------------------------------------


@pytest.mark.parametrize("content", [b"", b"no JSON", b"[1]", b'{"schema": "counterfoil.dev/manifest/v1"}'])
async def test_a_manifest_that_can_not_be_read_is_another_programs_unless_the_names_are_claimed(
    content: bytes,
) -> None:
    scene = a_scene()
    event = await collected(scene)
    scene.backend.files[MANIFEST] = content
    with pytest.raises(NameTaken, match="no manifest that Counterfoil can read") as taken:
        await collected(scene)
    assert "retry" not in taken.value.message
    assert isinstance(await archived(scene, event), Done)
    assert manifest_of(scene).envelope.id == ENVELOPE


async def test_a_file_that_is_gone_beside_its_sealed_manifest_is_archived_again() -> None:
    scene = a_scene()
    event = await both(scene)
    del scene.backend.files[DOCUMENT]
    assert isinstance(await archived(scene, await collected(scene, event)), Done)
    assert scene.backend.files[DOCUMENT] == GENUINE
    assert downloads(scene) == ["download file-1"]


async def test_a_sealed_manifest_of_another_event_proves_no_file() -> None:
    scene = a_scene()
    await both(scene)
    event = await collected(scene, an_event().for_action("envelopeCompleted").build())
    assert isinstance(await archived(scene, event), Done)
    assert downloads(scene) == ["download file-1", "download trail-1"]


async def test_a_sealed_manifest_of_this_event_proves_the_files_after_a_kill_before_the_status() -> None:
    scene = a_scene()
    event = await collected(scene)
    assert isinstance(await archived(scene, event), Done)
    event = msgspec.structs.replace(event, status=msgspec.structs.replace(event.status, archive=None))
    assert isinstance(await archived(scene, event), Done)
    assert downloads(scene) == []


async def test_a_sealed_manifest_of_before_the_origin_was_named_proves_no_file() -> None:
    scene = a_scene()
    event = await collected(scene)
    assert isinstance(await archived(scene, event), Done)
    manifest = json.loads(scene.backend.files[MANIFEST])
    del manifest["envelope"]["origin"], manifest["envelope"]["namespace"]
    scene.backend.files[MANIFEST] = json.dumps(manifest).encode()
    scene.backend.files[SEAL] = a_signer().sign(scene.backend.files[MANIFEST])
    assert isinstance(await archived(scene, event), Done)
    assert downloads(scene) == ["download file-1", "download trail-1"]
    assert manifest_of(scene).envelope.origin == "https://esaw.example.com"


@pytest.mark.parametrize("changed", [MANIFEST, SEAL])
async def test_an_envelope_whose_sealed_manifest_was_changed_is_archived_again_before_the_delete(
    changed: str,
) -> None:
    scene = a_scene()
    event = await both(scene)
    scene.clock.advance(hours=1)
    content = scene.backend.files[changed]
    scene.backend.files[changed] = (
        content.replace(b"Contract", b"Lease") if changed == MANIFEST else b"x" * 64
    )
    outcome = await clean(event, scene.context(event))
    assert isinstance(outcome, Wait)
    assert outcome.reason == "ArchivedFilesChanged"
    assert scene.esaw.transport.deleted == []
    again = await collected(scene, event)
    assert isinstance(await archived(scene, again), Done)
    assert a_signer().public.verifies(scene.backend.files[SEAL], scene.backend.files[MANIFEST])


def forge_sender(scene: Scene, sealed_by: str | None) -> None:
    """Let somebody who may write in the archive name another sender, without a seal of our key."""
    manifest = json.loads(scene.backend.files[MANIFEST])
    manifest["sender"]["email"] = "mallory@evil.example"
    manifest["sealedBy"] = sealed_by
    scene.backend.files[MANIFEST] = json.dumps(manifest).encode()
    if sealed_by is None:
        del scene.backend.files[SEAL]
    else:
        scene.backend.files[SEAL] = b"x" * 64


@pytest.mark.parametrize("sealed_by", [None, "0" * 16], ids=["no key", "another key"])
async def test_a_manifest_that_somebody_wrote_without_our_seal_is_no_proof_for_the_delete(
    sealed_by: str | None,
) -> None:
    scene = a_scene()
    event = await both(scene)
    sender = manifest_of(scene).sender
    scene.clock.advance(hours=1)
    forge_sender(scene, sealed_by)

    outcome = await clean(event, scene.context(event))

    assert isinstance(outcome, Wait)
    assert (outcome.reason, outcome.facts.mismatches) == ("ManifestUnsealed", 1)
    assert scene.esaw.transport.deleted == []
    again = await collected(scene, event)
    assert isinstance(await archived(scene, again), Done)
    assert manifest_of(scene).sender == sender
    assert a_signer().public.verifies(scene.backend.files[SEAL], scene.backend.files[MANIFEST])
    assert (await clean(again, scene.context(again))).reason == "ArchivedAndDeleted"


OTHER_ENVELOPES = pytest.mark.parametrize(
    "other",
    [{"organization": "globex"}, {"namespace": "other"}, {"id": "ffffffff-1111-4222-8333-444455556666"}],
    ids=["Organization", "namespace", "envelope"],
)


@OTHER_ENVELOPES
async def test_a_sealed_manifest_of_another_envelope_with_the_same_files_is_no_proof_for_the_delete(
    other: dict[str, str],
) -> None:
    """Its Organization has its own eSignAnyWhere, which lists the same file ids. All share a key."""
    scene = a_scene()
    event = await both(scene)
    scene.clock.advance(hours=1)
    manifest = json.loads(scene.backend.files[MANIFEST])
    manifest["envelope"].update(other)
    scene.backend.files[MANIFEST] = json.dumps(manifest).encode()
    scene.backend.files[SEAL] = a_signer().sign(scene.backend.files[MANIFEST])

    outcome = await clean(event, scene.context(event))

    assert isinstance(outcome, Wait)
    assert outcome.reason == "ArchivedFilesChanged"
    assert scene.esaw.transport.deleted == []
    with pytest.raises(OtherSource, match="is the manifest of"):
        await collected(scene, event)


async def test_a_sealed_manifest_of_another_status_is_written_again_before_the_delete() -> None:
    """Somebody puts the one back that was there before the envelope was restarted."""
    scene = a_scene()
    event = await both(scene)
    scene.clock.advance(hours=1)
    manifest = json.loads(scene.backend.files[MANIFEST])
    manifest["envelope"]["status"] = "Expired"
    scene.backend.files[MANIFEST] = json.dumps(manifest).encode()
    scene.backend.files[SEAL] = a_signer().sign(scene.backend.files[MANIFEST])

    outcome = await clean(event, scene.context(event))

    assert isinstance(outcome, Wait)
    assert outcome.reason == "ArchivedFilesChanged"
    assert "says Expired, and the envelope was archived as Completed" in outcome.message
    assert scene.esaw.transport.deleted == []
    again = await collected(scene, event)
    assert isinstance(await archived(scene, again), Done)
    assert manifest_of(scene).envelope.status == "Completed"
    assert (await clean(again, scene.context(again))).reason == "ArchivedAndDeleted"


async def test_a_manifest_of_an_early_version_without_a_namespace_is_written_again_before_the_delete() -> (
    None
):
    scene = a_scene()
    event = await both(scene)
    scene.clock.advance(hours=1)
    manifest = json.loads(scene.backend.files[MANIFEST])
    del manifest["envelope"]["namespace"], manifest["envelope"]["origin"]
    scene.backend.files[MANIFEST] = json.dumps(manifest).encode()
    scene.backend.files[SEAL] = a_signer().sign(scene.backend.files[MANIFEST])

    outcome = await clean(event, scene.context(event))

    assert isinstance(outcome, Wait)
    assert outcome.reason == "ManifestUnsealed"
    again = await collected(scene, event)
    assert isinstance(await archived(scene, again), Done)
    assert (await clean(again, scene.context(again))).reason == "ArchivedAndDeleted"


EARLIER_KEYS = pytest.mark.parametrize("earlier", [None, 1], ids=["no key", "an earlier key"])
"""The signing key with which the envelope was archived. It has another one when the delete is due."""


async def an_envelope_of_an_earlier_key(scene: Scene, earlier: int | None) -> EnvelopeEvent:
    scene.signer = a_signer(earlier) if earlier is not None else None
    event = await both(scene)
    scene.clock.advance(hours=1)
    scene.signer = a_signer(2)
    return event


@EARLIER_KEYS
async def test_an_envelope_of_an_earlier_key_is_sealed_again_without_a_download_and_then_deleted(
    earlier: int | None,
) -> None:
    scene = a_scene()
    event = await an_envelope_of_an_earlier_key(scene, earlier)

    outcome = await clean(event, scene.context(event))

    assert isinstance(outcome, Wait)
    assert ("it names the key" if earlier is not None else "it names no key") in outcome.message
    assert "Either it is older than that key, or somebody replaced it." in outcome.message
    # Nothing is known to be changed.
    assert "as they were archived" not in outcome.message
    again = await collected(scene, event)
    assert isinstance(await archived(scene, again), Done)
    assert downloads(scene) == []
    assert a_signer(2).public.verifies(scene.backend.files[SEAL], scene.backend.files[MANIFEST])
    assert (await clean(again, scene.context(again))).reason == "ArchivedAndDeleted"


@EARLIER_KEYS
async def test_an_envelope_of_an_earlier_key_that_esaw_deleted_has_lost_no_file(earlier: int | None) -> None:
    scene = a_scene()
    event = await an_envelope_of_an_earlier_key(scene, earlier)
    scene.esaw.deleted = True

    outcome = await clean(event, scene.context(event))

    assert isinstance(outcome, Done)
    assert outcome.reason == "ArchivedAndDeleted"
    assert "Either it is older than that key, or somebody replaced it." in outcome.message


@EARLIER_KEYS
async def test_an_earlier_key_hides_no_lost_file(earlier: int | None) -> None:
    scene = a_scene()
    event = await an_envelope_of_an_earlier_key(scene, earlier)
    del scene.backend.files[DOCUMENT]
    scene.esaw.deleted = True

    outcome = await clean(event, scene.context(event))

    assert isinstance(outcome, Fail)
    assert outcome.reason == "ArchivedFilesLost"
    assert "file-1.pdf is missing" in outcome.message
