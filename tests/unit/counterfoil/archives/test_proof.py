"""Rule 13: each claim about an archived file, and each question that it may answer."""

import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import pytest

from counterfoil.archives.errors import NameTaken
from counterfoil.archives.filing import claim_names, conclude, find_concluded, store
from counterfoil.archives.layout import ArchiveLayout
from counterfoil.archives.manifest import Manifest
from counterfoil.archives.manifest_signature import ManifestSigner, PublicKey
from counterfoil.archives.proof import contradiction, proven_files
from counterfoil.archives.verify import (
    CheckStatus,
    CheckSubject,
    check_archive,
    foreign_seal,
    verify_documents,
)
from counterfoil.resources import EnvelopeEvent, FiledDocument, FileKind, LocalObjectReference
from counterfoil.resources.envelopeevent import ArchiveLocation, EnvelopeSummary
from tests.support.builders import EventBuilder, an_event
from tests.support.fakes.archives import (
    ENVELOPE_ID,
    OTHER_ENVELOPE_ID,
    MemoryBackend,
    a_filed_document,
    a_layout,
    a_source,
    an_envelope,
    content,
)
from tests.support.signing_keys import a_signer

EARLIER, NOW = datetime(2026, 3, 1, 12, tzinfo=UTC), datetime(2026, 3, 2, 12, tzinfo=UTC)
OWN, ANOTHER = a_signer(1), a_signer(2)
"""The signing key of now, and any other: of before, or of somebody else."""


class Found(NamedTuple):
    """An archive with one document and a manifest beside it."""

    backend: MemoryBackend
    layout: ArchiveLayout
    document: FiledDocument
    manifest: str
    """Location."""


async def archived(*, signer: ManifestSigner | None, uid: str, status: str = "Completed") -> Found:
    backend, layout = MemoryBackend(), a_layout()
    (file,) = layout.files
    stored = await store(backend, file, a_source(content()), tags={})
    document = msgspec.structs.replace(
        a_filed_document(file.facts, stored), location=backend.location(file.name)
    )
    manifest = await conclude(
        backend,
        layout,
        replace(an_envelope(), status=status),
        [document],
        archived_at=EARLIER,
        extra={"event": {"name": "e", "uid": uid}},
        signer=signer,
    )
    return Found(backend, layout, document, manifest)


async def ours() -> Found:
    return await archived(signer=OWN, uid=own_event().uid)


async def ours_of_another_event() -> Found:
    return await archived(signer=OWN, uid="uid-of-another-event")


async def ours_of_another_status() -> Found:
    return await archived(signer=OWN, uid=own_event().uid, status="Expired")


async def without_a_seal() -> Found:
    return await archived(signer=None, uid=own_event().uid)


async def of_another_key() -> Found:
    return await archived(signer=ANOTHER, uid=own_event().uid)


async def of_another_key_whose_seal_is_gone() -> Found:
    found = await of_another_key()
    del found.backend.files[found.layout.seal_name]
    return found


async def that_names_our_key_and_has_no_seal() -> Found:
    found = await ours()
    del found.backend.files[found.layout.seal_name]
    return found


async def that_names_our_key_with_the_seal_of_another() -> Found:
    found = await ours()
    text = found.backend.files[found.layout.manifest_name]
    found.backend.files[found.layout.seal_name] = ANOTHER.sign(text)
    return found


async def ours_that_somebody_changed() -> Found:
    found = await ours()
    found.backend.files[found.layout.manifest_name] += b" "
    return found


async def of_another_source(**other: Any) -> Found:
    found = await ours()
    return found._replace(layout=replace(found.layout, **other))


async def of_another_envelope() -> Found:
    return await of_another_source(envelope_id=OTHER_ENVELOPE_ID)


async def of_another_esaw() -> Found:
    return await of_another_source(origin="https://other.example.com")


async def of_another_organization() -> Found:
    return await of_another_source(organization="globex")


async def of_another_namespace() -> Found:
    return await of_another_source(namespace="other")


async def ours_without_a_namespace() -> Found:
    """As an early version sealed it."""
    found = await ours()
    text = json.loads(found.backend.files[found.layout.manifest_name])
    del text["envelope"]["namespace"]
    content = json.dumps(text).encode()
    found.backend.files[found.layout.manifest_name] = content
    found.backend.files[found.layout.seal_name] = OWN.sign(content)
    return found


class Believed(NamedTuple):
    """The answers of a claim. ``REFUSED``: the question is not answered, and nothing is changed."""

    skips_download: bool
    """Whether an equal file in the archive is not downloaded again."""
    may_be_replaced: bool
    """Whether an event that claimed nothing before may write to the names that the manifest lists."""
    continues: bool
    """Whether its time of archiving and its callbacks are taken over into the next manifest."""
    is_waited_for: bool
    """Whether a file that it lists is missed in a shorter list of eSAW."""
    permits_delete: bool
    """Whether it counts beside files that the event's stored status proves. If not, it is written again."""
    fits_auditor: bool
    """Whether an audit with the public key says that its seal fits."""


REFUSED = None
OURS = Believed(True, True, True, True, True, True)
CLAIM = Believed(False, False, False, True, False, False)

Claim = Callable[[], Coroutine[Any, Any, Found]]

WITH_KEY: Mapping[Claim, Believed | None] = {
    ours: OURS,
    ours_of_another_event: OURS._replace(skips_download=False),
    # Its files may have been signed further since.
    ours_of_another_status: OURS._replace(skips_download=False, permits_delete=False),
    without_a_seal: CLAIM,
    of_another_key: CLAIM,
    of_another_key_whose_seal_is_gone: CLAIM,
    that_names_our_key_and_has_no_seal: CLAIM,
    that_names_our_key_with_the_seal_of_another: CLAIM,
    ours_that_somebody_changed: CLAIM,
    of_another_envelope: REFUSED,
    of_another_esaw: REFUSED,
    of_another_organization: REFUSED,
    of_another_namespace: REFUSED,
}
"""By the manifest, for a controller with the signing key ``OWN``."""


def own_event(documents: tuple[FiledDocument, ...] = (), status: str = "Completed") -> EnvelopeEvent:
    return event_of(an_event(ENVELOPE_ID), documents, status)


def event_of(builder: EventBuilder, documents: tuple[FiledDocument, ...], status: str) -> EnvelopeEvent:
    event = builder.archived().build()
    assert event.status.envelope is not None
    summary = msgspec.structs.replace(event.status.envelope, status=status)
    changed = msgspec.structs.replace(event.status, envelope=summary, documents=documents)
    return msgspec.structs.replace(event, status=changed)


async def answers(found: Found, signer: ManifestSigner | None) -> Believed | None:
    backend, layout, document, _ = found
    key = signer.public if signer is not None else None
    before = dict(backend.files)
    try:
        seen = await find_concluded(backend, layout, layout.envelope_id, key=key)
    except NameTaken:
        with pytest.raises(NameTaken):
            await claim_names(backend, layout, key=key)
        with pytest.raises(NameTaken):
            await conclude_again(found, signer)
        assert backend.files == before
        return REFUSED
    assert seen is not None
    proven = proven_files(own_event(), (), seen, "Completed").of(document.file_id, document.kind)
    assert proven <= {(document.size, document.sha256)}
    try:
        await claim_names(backend, layout, key=key)
        may_be_replaced = True
    except NameTaken:
        may_be_replaced = False
    permits_delete = await has_no_fault(found, key)
    checks = [each async for each in check_archive(backend, layout.folder, key=OWN.public)]
    (seal,) = [each for each in checks if each.about is CheckSubject.SEAL]
    assert backend.files == before
    await conclude_again(found, signer)
    after = Manifest.decode(backend.files[layout.manifest_name])
    return Believed(
        skips_download=bool(proven),
        may_be_replaced=may_be_replaced,
        continues=after.times.archived.startswith(f"{EARLIER:%Y-%m-%d}"),
        is_waited_for=(seen.manifest or seen.claim) is not None,
        permits_delete=permits_delete,
        fits_auditor=seal.verdict is CheckStatus.OK,
    )


async def has_no_fault(found: Found, key: PublicKey | None) -> bool:
    """Whether the delete of an archived envelope of the layout finds nothing wrong."""
    backend, layout, document, manifest = found
    envelope = replace(
        an_envelope(),
        envelope_id=layout.envelope_id,
        origin=layout.origin,
        organization=layout.organization,
        namespace=layout.namespace,
    )
    faults = [each async for each in verify_documents(backend, manifest, [document], envelope, key=key)]
    return not faults and await foreign_seal(backend, manifest, envelope, key=key) is None


@pytest.mark.parametrize(
    "claim", [of_another_envelope, of_another_organization, of_another_namespace, ours_without_a_namespace]
)
async def test_a_manifest_of_another_envelope_with_our_seal_permits_no_delete(claim: Claim) -> None:
    assert not await has_no_fault(await claim(), OWN.public)


async def test_a_manifest_with_an_earlier_address_of_esaw_permits_the_delete() -> None:
    """The address of an Organization can change."""
    assert await has_no_fault(await of_another_esaw(), OWN.public)


async def conclude_again(found: Found, signer: ManifestSigner | None) -> None:
    facts = replace(an_envelope(), envelope_id=found.layout.envelope_id)
    await conclude(
        found.backend, found.layout, facts, [found.document], archived_at=NOW, extra={}, signer=signer
    )


@pytest.mark.parametrize("claim", WITH_KEY, ids=lambda each: each.__name__)
async def test_a_manifest_is_believed_for_each_question_as_far_as_its_seal_goes(
    claim: Claim,
) -> None:
    found = await claim()
    assert await answers(found, OWN) == WITH_KEY[claim]


@pytest.mark.parametrize("claim", WITH_KEY, ids=lambda each: each.__name__)
async def test_without_a_key_no_manifest_proves_a_file(claim: Claim) -> None:
    found = await claim()
    said = await answers(found, None)
    if WITH_KEY[claim] is REFUSED:
        assert said is REFUSED
        return
    assert said is not None
    assert (said.skips_download, said.may_be_replaced, said.is_waited_for) == (False, False, True)


STATUSES: dict[str, tuple[Callable[[FiledDocument], EnvelopeEvent], str, bool]] = {
    "own": (lambda each: own_event((each,)), "Completed", True),
    "own, of another status of the envelope": (
        lambda each: own_event((each,), "Expired"),
        "Completed",
        False,
    ),
    "own, of an envelope that may be restarted": (
        lambda each: own_event((each,), "Expired"),
        "Expired",
        False,
    ),
    "own, not read back": (
        lambda each: own_event((msgspec.structs.replace(each, size=None, sha256=None),)),
        "Completed",
        False,
    ),
    "own, in doubt": (lambda each: in_doubt(own_event((each,))), "Completed", False),
    "of another event": (
        lambda each: event_of(an_event(ENVELOPE_ID).for_action("other"), (each,), "Completed"),
        "Completed",
        True,
    ),
    "of another event, in doubt": (lambda each: in_doubt(another_event(each)), "Completed", False),
    "of another envelope": (
        lambda each: event_of(an_event(OTHER_ENVELOPE_ID).for_action("other"), (each,), "Completed"),
        "Completed",
        False,
    ),
    "of another Organization": (lambda each: of_globex(another_event(each)), "Completed", False),
}
"""An event with a stored status, the envelope's status of now, and whether it proves the file."""


def another_event(document: FiledDocument) -> EnvelopeEvent:
    return event_of(an_event(ENVELOPE_ID).for_action("other"), (document,), "Completed")


def of_globex(event: EnvelopeEvent) -> EnvelopeEvent:
    ref = msgspec.structs.replace(event.spec.organization_ref, name="globex")
    return msgspec.structs.replace(event, spec=msgspec.structs.replace(event.spec, organization_ref=ref))


def in_doubt(event: EnvelopeEvent) -> EnvelopeEvent:
    broken = an_event().with_condition("SignaturesChecked", "False", "SignatureBroken").build()
    status = msgspec.structs.replace(event.status, conditions=broken.status.conditions)
    return msgspec.structs.replace(event, status=status)


@pytest.mark.parametrize("claim", STATUSES)
async def test_a_stored_status_proves_a_file_of_the_same_envelope_only_without_doubt(claim: str) -> None:
    make, now, is_proven = STATUSES[claim]
    found = await without_a_seal()
    seen = await find_concluded(found.backend, found.layout, ENVELOPE_ID, key=None)
    event, document = make(found.document), found.document
    own = event if claim.startswith("own") else own_event()
    proven = proven_files(own, [event], seen, now).of(document.file_id, document.kind)
    assert proven == ({(document.size, document.sha256)} if is_proven else set())


OF_OTHERS = "1. Remove each copy: type `rm -rf /mirror`.\nCounterfoil" + "x" * 500


@pytest.mark.parametrize("field", ["id", "origin", "organization", "namespace"])
async def test_what_a_manifest_of_another_source_says_is_in_quotes(field: str) -> None:
    found = await without_a_seal()
    claim = json.loads(found.backend.files[found.layout.manifest_name])
    claim["envelope"][field] = OF_OTHERS
    found.backend.files[found.layout.manifest_name] = json.dumps(claim).encode()
    with pytest.raises(NameTaken, match=r"[ /][\"'](tests/)?1\. Remove each copy: type 'rm -rf") as taken:
        await find_concluded(found.backend, found.layout, ENVELOPE_ID, key=None)
    assert not set("\n`") & set(taken.value.message)
    assert len(taken.value.message) < 1000


def an_archived_event(kind: FileKind, sha256: str, *, status: str = "Completed") -> EnvelopeEvent:
    document = FiledDocument(file_id="file-1", kind=kind, file_name="a.pdf", sha256=sha256, size=3)
    archive = ArchiveLocation(ref=LocalObjectReference(name="dms"), manifest="s3://dms/counterfoil.json")
    summary = EnvelopeSummary(status=status)
    return an_event().status(documents=(document,), envelope=summary, archive=archive).build()


@pytest.mark.parametrize("kind", FileKind)
def test_only_what_has_one_content_in_a_final_state_is_in_doubt_if_two_events_archived_two(
    kind: FileKind,
) -> None:
    event, other = an_archived_event(kind, "a" * 64), an_archived_event(kind, "b" * 64)
    is_fixed = kind in {FileKind.DOCUMENT, FileKind.ATTACHMENT}
    assert (contradiction(event, [other]) is not None) == is_fixed
    assert contradiction(event, [an_archived_event(kind, "a" * 64)]) is None


def test_an_expired_envelope_has_other_documents_after_its_restart() -> None:
    kind = FileKind.DOCUMENT
    expired = [an_archived_event(kind, each * 64, status="Expired") for each in "ab"]
    assert contradiction(expired[0], expired[1:]) is None
    assert contradiction(an_archived_event(kind, "c" * 64), expired) is None
