"""Effects of the signatures in an envelope's files on the manifest, the event and the envelope."""

from typing import Any

import msgspec
import pytest

from controller.reconcile.context import PartialArchive
from controller.reconcile.outcomes import Done, Fail, Outcome
from controller.reconcile.phases.archive import MAX_FINDINGS_MEMORY, archive
from controller.reconcile.phases.collect import collect
from controller.reconcile.signature_policy import side_condition
from controller.reconcile.state_machine import TransitionInput, next_status
from counterfoil.archives.errors import VerificationFailed
from counterfoil.archives.filing import MAX_BUFFERED_BYTES
from counterfoil.archives.layout import FileLayout
from counterfoil.archives.manifest import Manifest
from counterfoil.resources import EnvelopeEvent, FileKind, Phase, RetrySpec, find_condition
from counterfoil.signatures.anchors import Anchors
from counterfoil.signatures.results import Coverage, Signature, Signatures, State
from counterfoil.untrusted.json_bounds import text_memory
from tests.support.builders import NOON, an_event
from tests.support.fakes.archives import a_file
from tests.support.fakes.reconcile_context import FOLDER, Scene, an_archive
from tests.support.signing_keys import a_signer

INTACT = Signatures(
    state=State.INTACT, found=(Signature(field="First", intact=True, coverage=Coverage.WHOLE_FILE),)
)
BROKEN = Signatures(
    state=State.BROKEN, detail="the signature 'First' does not fit what was signed", found=INTACT.found
)
UNSIGNED = Signatures(state=State.UNSIGNED, detail="it has no signature")
UNREADABLE = Signatures(state=State.UNREADABLE, detail="its check took too long")
NOT_CHECKED = Signatures(state=State.NOT_CHECKED, detail="it is larger than 64 MiB")


def a_scene(policy: str = "Report", says: Signatures = INTACT) -> Scene:
    scene = Scene()
    scene.archive = an_archive(signatures=policy)
    scene.examiner.says = says
    return scene


async def claimed(scene: Scene) -> EnvelopeEvent:
    event = an_event().build()
    outcome = await collect(event, scene.context(event))
    documents = outcome.facts.documents or ()
    return msgspec.structs.replace(event, status=msgspec.structs.replace(event.status, documents=documents))


async def archived(scene: Scene) -> Outcome:
    event = await claimed(scene)
    return await archive(event, scene.context(event))


def manifest_of(scene: Scene) -> Manifest:
    return Manifest.decode(scene.backend.files[f"{FOLDER}/counterfoil.json"])


# -- Report --------------------------------------------------------------------------------------------------


async def test_what_was_found_goes_into_the_manifest_per_file() -> None:
    scene = a_scene()
    scene.examiner.found[b"%PDF-trail"] = UNSIGNED
    assert isinstance(await archived(scene), Done)
    assert [each.signatures for each in manifest_of(scene).files] == [INTACT, UNSIGNED]


def signed(count: int, *, distrusted: int | None = None) -> Signatures:
    found = tuple(
        Signature(
            field=f"{number}\U0001f600" + "x" * 200,
            intact=True,
            coverage=Coverage.WHOLE_FILE,
            trusted=number != distrusted,
        )
        for number in range(count)
    )
    return Signatures(state=State.INTACT, found=found)


async def test_a_manifest_has_findings_within_a_maximum_and_the_number_of_the_others() -> None:
    scene = a_scene()
    many = 20_000
    scene.examiner.found[b"%PDF-contract"] = signed(many)
    outcome = await archived(scene)
    first, second = (each.signatures for each in manifest_of(scene).files)
    assert first is not None
    assert second is not None
    assert text_memory(first.found) <= MAX_FINDINGS_MEMORY
    assert first.count == many
    assert first.left_out > 0
    assert second.count == INTACT.count
    (condition,) = outcome.facts.side_conditions
    assert condition is not None
    assert (condition.reason, condition.message[:8]) == ("SignaturesIntact", "At least")


async def test_a_signer_who_is_not_trusted_is_never_left_out() -> None:
    scene = a_scene()
    scene.examiner.found[b"%PDF-contract"] = signed(20_000, distrusted=19_000)
    outcome = await archived(scene)
    (condition,) = outcome.facts.side_conditions
    assert condition is not None
    assert condition.reason == "SignerUntrusted"
    first = manifest_of(scene).files[0].signatures
    assert first is not None
    assert first.found[-1].field.startswith("19000")


async def test_by_default_signatures_are_reported() -> None:
    scene = Scene()
    await archived(scene)
    assert scene.examiner.asked == [b"%PDF-contract", b"%PDF-trail"]


async def test_a_broken_signature_is_reported_and_stops_nothing() -> None:
    outcome = await archived(a_scene(says=BROKEN))
    assert isinstance(outcome, Done)
    (signatures_condition,) = outcome.facts.side_conditions
    assert signatures_condition is not None
    assert (signatures_condition.type, signatures_condition.status, signatures_condition.reason) == (
        "SignaturesChecked",
        "False",
        "SignatureBroken",
    )


async def test_the_condition_is_in_the_event_with_those_of_the_phases() -> None:
    event = an_event().build()
    outcome = await archived(a_scene())
    circumstances = TransitionInput(now=NOON, generation=1, retry=RetrySpec(), random=lambda: 0.5)
    conditions = next_status(event.status, Phase.ARCHIVING, outcome, circumstances).conditions
    found = find_condition(conditions, "SignaturesChecked")
    assert found is not None
    assert (found.status, found.reason) == ("True", "SignaturesIntact")
    assert found.message == "2 signatures in 2 files are intact."
    assert find_condition(conditions, "Archived") is not None


async def test_a_small_file_is_examined_without_reading_it_from_the_archive_again() -> None:
    scene = a_scene("Ignore")
    await archived(scene)
    reads = scene.backend.reads
    other = a_scene("Report")
    await archived(other)
    assert other.backend.reads == reads


async def test_a_large_file_is_read_from_the_archive_again() -> None:
    scene = a_scene()
    scene.esaw.contents["file-1"] = b"%PDF-" + b"x" * (1024 * 1024 - 4)
    await archived(scene)
    assert len(scene.examiner.asked[0]) == 1024 * 1024 + 1


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize("says", [INTACT, UNSIGNED, NOT_CHECKED])
@pytest.mark.parametrize("policy", ["Report", "Require"])
async def test_no_signatures_of_bytes_that_were_not_compared_are_believed(
    policy: str, says: Signatures, *, is_there: bool
) -> None:
    scene = a_scene(policy, says)
    unsigned = b"%PDF-unsigned" + b"x" * MAX_BUFFERED_BYTES
    scene.esaw.contents["file-1"] = unsigned
    scene.examiner.found[unsigned] = UNSIGNED

    def replace_or_remove() -> None:
        removed = scene.backend.files.pop(f"{FOLDER}/Document/file-1.pdf")
        if is_there:
            scene.backend.files[f"{FOLDER}/Document/file-1.pdf"] = removed.replace(b"unsigned", b"signed__")

    scene.examiner.just_before = replace_or_remove

    with pytest.raises(PartialArchive) as partly:
        await archived(scene)

    cause = partly.value.__cause__
    assert isinstance(cause, VerificationFailed)
    assert cause.message.startswith(f"memory:///{FOLDER}/Document/file-1.pdf ")
    assert f"{FOLDER}/counterfoil.json" not in scene.backend.files


async def test_each_run_examines_the_files_itself_and_the_same_result_leaves_the_manifest() -> None:
    scene = a_scene()
    await archived(scene)
    scene.examiner.asked.clear()
    outcome = await archived(scene)
    assert scene.examiner.asked == [b"%PDF-contract", b"%PDF-trail"]
    assert [each.reason for each in outcome.facts.side_conditions] == ["SignaturesIntact"]
    assert scene.backend.put_names.count("counterfoil.json") == 1


async def test_what_was_archived_without_an_examination_is_examined_when_the_archive_asks_for_it() -> None:
    scene = a_scene("Ignore")
    await archived(scene)
    scene.archive = an_archive(signatures="Report")
    await archived(scene)
    assert [each.signatures for each in manifest_of(scene).files] == [INTACT, INTACT]


# -- Ignore --------------------------------------------------------------------------------------------------


async def test_an_archive_that_ignores_signatures_has_none_examined() -> None:
    scene = a_scene("Ignore", BROKEN)
    outcome = await archived(scene)
    assert isinstance(outcome, Done)
    assert outcome.facts.side_conditions == ()
    assert scene.examiner.asked == []
    assert [each.signatures for each in manifest_of(scene).files] == [None, None]


# -- Require -------------------------------------------------------------------------------------------------


async def test_intact_signatures_are_all_that_is_required() -> None:
    assert isinstance(await archived(a_scene("Require")), Done)


@pytest.mark.parametrize("found", [BROKEN, UNSIGNED, UNREADABLE])
async def test_a_signature_that_is_broken_or_missing_keeps_the_envelope_where_it_is(
    found: Signatures,
) -> None:
    scene = a_scene("Require")
    scene.examiner.found[b"%PDF-contract"] = found
    outcome = await archived(scene)
    assert isinstance(outcome, Fail)
    assert outcome.reason == "SignatureBroken"
    assert outcome.message.startswith("Archive/dms requires intact signatures. ")
    assert f"`file-1.pdf`: {found.detail}." in outcome.message
    assert [each.sha256 is not None for each in outcome.facts.documents or ()] == [True, True]
    assert [(each.type, each.status) for each in outcome.facts.side_conditions] == [
        ("SignaturesChecked", "False")
    ]
    assert f"{FOLDER}/counterfoil.json" not in scene.backend.files
    assert not scene.esaw.deleted


async def test_a_signature_that_could_not_be_checked_is_not_treated_as_intact() -> None:
    scene = a_scene("Require")
    scene.examiner.found[b"%PDF-contract"] = NOT_CHECKED
    outcome = await archived(scene)
    assert isinstance(outcome, Fail)
    assert outcome.reason == "SignaturesUnchecked"


async def test_a_signer_who_is_not_trusted_keeps_the_envelope_where_it_is() -> None:
    distrusted = msgspec.structs.replace(INTACT.found[0], signer="Eve", trusted=False, distrust="no way")
    scene = a_scene("Require", msgspec.structs.replace(INTACT, found=(distrusted,)))
    scene.anchors = Anchors((b"an authority",))
    outcome = await archived(scene)
    assert isinstance(outcome, Fail)
    assert outcome.reason == "SignerUntrusted"
    assert outcome.message.startswith("Archive/dms requires trusted signers. ")
    assert "'Eve', who made the signature 'First', is not trusted: no way" in outcome.message
    assert f"{FOLDER}/counterfoil.json" not in scene.backend.files


async def test_with_other_trust_anchors_an_earlier_run_is_not_relied_on() -> None:
    scene = a_scene()
    await archived(scene)
    scene.examiner.asked.clear()
    scene.anchors = Anchors((b"an authority",))
    await archived(scene)
    assert len(scene.examiner.asked) == 2
    assert {each.signatures.anchors for each in manifest_of(scene).files if each.signatures} == {
        scene.anchors.id
    }


async def test_an_audit_trail_may_be_unsigned_but_not_broken() -> None:
    scene = a_scene("Require")
    scene.examiner.found[b"%PDF-trail"] = UNSIGNED
    assert isinstance(await archived(scene), Done)
    scene = a_scene("Require")
    scene.examiner.found[b"%PDF-trail"] = BROKEN
    assert isinstance(await archived(scene), Fail)


async def test_once_the_archive_no_longer_requires_it_the_same_envelope_is_filed() -> None:
    scene = a_scene("Require", BROKEN)
    assert isinstance(await archived(scene), Fail)
    scene.archive = an_archive(signatures="Report")
    event = msgspec.structs.replace(await claimed_again(scene), metadata=an_event().build().metadata)
    assert isinstance(await archive(event, scene.context(event)), Done)


async def claimed_again(scene: Scene) -> EnvelopeEvent:
    """The event as its failed run left it: its names are claimed, its files are filed."""
    stored, scene.backend.files = scene.backend.files, {}
    event = await claimed(scene)
    scene.backend.files = stored
    return event


# -- All files together --------------------------------------------------------------------------------------


def condition_of(*files: tuple[FileKind, Signatures]) -> Any:
    planned = [
        FileLayout(
            a_file(f"{number}.pdf", kind=kind, number=number), f"folder/{number}.pdf", "application/pdf"
        )
        for number, (kind, _) in enumerate(files, start=1)
    ]
    found = {each.facts.file_id: signatures for each, (_, signatures) in zip(planned, files, strict=True)}
    return side_condition(planned, found)


def test_nobody_answers_for_what_signers_uploaded() -> None:
    assert condition_of((FileKind.ATTACHMENT, BROKEN)) is None
    assert condition_of((FileKind.DOCUMENT, INTACT), (FileKind.ATTACHMENT, BROKEN)).status == "True"


def test_one_broken_document_among_many_decides_the_result() -> None:
    signatures_condition = condition_of(
        (FileKind.DOCUMENT, UNSIGNED), (FileKind.DOCUMENT, NOT_CHECKED), (FileKind.DOCUMENT, BROKEN)
    )
    assert (signatures_condition.status, signatures_condition.reason) == ("False", "SignatureBroken")
    assert signatures_condition.message == "`3.pdf`: the signature 'First' does not fit what was signed."


def test_a_document_that_nobody_checked_leaves_it_unknown() -> None:
    signatures_condition = condition_of((FileKind.DOCUMENT, UNSIGNED), (FileKind.DOCUMENT, NOT_CHECKED))
    assert (signatures_condition.status, signatures_condition.reason) == ("Unknown", "SignaturesUnchecked")


def test_a_document_without_signatures_is_reported() -> None:
    signatures_condition = condition_of((FileKind.DOCUMENT, INTACT), (FileKind.DOCUMENT, UNSIGNED))
    assert (signatures_condition.status, signatures_condition.reason) == ("False", "NoSignatures")


def test_of_many_broken_files_three_are_named() -> None:
    signatures_condition = condition_of(*[(FileKind.DOCUMENT, UNREADABLE)] * 10)
    assert signatures_condition.message.endswith("`3.pdf`: its check took too long; and 7 more files.")


# -- The seal ------------------------------------------------------------------------------------------------


async def test_with_a_key_the_manifest_is_sealed() -> None:
    scene = a_scene()
    scene.signer = a_signer()
    await archived(scene)
    seal = scene.backend.files[f"{FOLDER}/counterfoil.json.sig"]
    assert a_signer().public.verifies(seal, scene.backend.files[f"{FOLDER}/counterfoil.json"])
