"""
The client and the stand-in eSAW, written apart from each other from the same facts, understand one another.
"""

import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Unpack

import pytest

from counterfoil.clock import WallClock
from counterfoil.esaw import (
    ApiToken,
    CallLimits,
    EnvelopeFile,
    EsawClient,
    EsawError,
    EsawUnreachable,
    EsawUserClient,
    HttpStatusError,
    RateLimited,
    ResponseInvalid,
    TransferBroken,
    UnexpectedRedirect,
    new_http_client,
)
from counterfoil.esaw.delete_with_proof import ProofOfArchive, delete
from counterfoil.esaw.downloads import checked_download
from counterfoil.resources import (
    ArchiveLocation,
    Condition,
    EnvelopeEventStatus,
    EnvelopeStatus,
    EvidenceSpec,
    FiledDocument,
    FileKind,
    LocalObjectReference,
)
from counterfoil.resources.organization import AuditTrailPolicy
from counterfoil.untrusted.transfer_rate import MinimumRate
from sandbox.esaw import AWKWARD_NAMES, DocumentSpec, StandIn, User
from sandbox.esaw.core.faults import FaultOptions, GarbageKind
from sandbox.esaw.core.model import EmptyAs, EnvelopeOptions
from tests.support.servers.scripted_esaw import RecordingObserver, against, answering, whole_file

MIB = 1024 * 1024
NO_AUDIT_TRAIL = EvidenceSpec(audit_trail=AuditTrailPolicy.OPTIONAL)
SOON = CallLimits(silence=0.2, answer=5.0)


@dataclass(frozen=True)
class Scene:
    """A stand-in with one sender, and the client in this sender's name."""

    standin: StandIn
    sender: User
    esaw: EsawClient
    user: EsawUserClient
    observer: RecordingObserver

    def an_envelope(self, **options: Unpack[EnvelopeOptions]) -> str:
        return self.standin.add_envelope(sender=self.sender, **options)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    observer = RecordingObserver()
    async with StandIn(seed=7) as standin, new_http_client() as http:
        sender = standin.add_user(email="sina@example.com", given_name="Sina", surname="Sender")
        esaw = EsawClient(standin.url, http=http, clock=WallClock(), observe=observer, call_limits=SOON)
        yield Scene(standin, sender, esaw, esaw.as_user(ApiToken.parse(sender.token, esaw.origin)), observer)


async def the_files(scene: Scene, envelope: str) -> tuple[EnvelopeFile, ...]:
    return (await scene.user.files(envelope)).files()


def filed(file: EnvelopeFile, content: bytes) -> FiledDocument:
    return FiledDocument(
        file_id=file.file_id,
        kind=file.kind,
        file_name=file.file_name,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        location=f"file:///archive/{file.file_id}",
    )


def a_proof(envelope: str, *documents: FiledDocument) -> ProofOfArchive:
    archived = Condition(
        type="Archived",
        status="True",
        reason="FilesVerified",
        message="All there.",
        last_transition_time=datetime.now(UTC),
    )
    status = EnvelopeEventStatus(
        conditions=(archived,),
        documents=documents,
        archive=ArchiveLocation(
            ref=LocalObjectReference(name="dms"), manifest="file:///archive/counterfoil.json"
        ),
    )
    listed = [
        EnvelopeFile(file_id=each.file_id, kind=each.kind, file_name=each.file_name) for each in documents
    ]
    return ProofOfArchive.from_status(
        envelope,
        status,
        "4711",
        listed=listed,
        verified=documents,
        evidence=NO_AUDIT_TRAIL,
        copies=(),
        verified_copies={},
    )


# The way of one envelope


async def test_an_envelope_goes_all_the_way_and_is_deleted_only_when_every_file_was_fetched(
    scene: Scene,
) -> None:
    envelope = scene.an_envelope(
        name="Lease",
        metadata="<meta><customer>42</customer></meta>",
        documents=[
            DocumentSpec(name="contract.pdf", attachments=(DocumentSpec(name="plan.png"),)),
            DocumentSpec(name="annex.pdf", pages=2),
        ],
        legal_documents=[DocumentSpec(name="CA22D.pdf")],
        audit_trail_per_document=True,
    )
    seen = await scene.user.envelope(envelope)
    assert (seen.status, seen.name) == (EnvelopeStatus.COMPLETED, "Lease")
    assert seen.sender is not None
    assert seen.sender.email == "sina@example.com"
    assert (await scene.user.configuration(envelope)).metadata == "<meta><customer>42</customer></meta>"

    documents = []
    for file in await the_files(scene, envelope):
        content = await whole_file(scene.user, file.file_id)
        documents.append(filed(file, content))
        assert documents[-1].sha256 == scene.standin.expected_sha256(file.file_id)
    await delete(scene.user, a_proof(envelope, *documents))

    assert not scene.standin.exists(envelope)
    (call,) = scene.standin.delete_calls(envelope)
    assert (call.outcome, call.missing) == (200, ())
    assert {code for _, code in scene.observer.codes} == {"200"}


async def test_every_file_that_the_standin_has_is_listed_once_with_its_kind(scene: Scene) -> None:
    attached = DocumentSpec(
        name="a.pdf", attachments=(DocumentSpec(name="b.png"), DocumentSpec(name="c.txt"))
    )
    envelope = scene.an_envelope(
        documents=[attached, DocumentSpec(name="a.pdf")],
        legal_documents=[DocumentSpec(name="legal.pdf")],
        audit_trail_per_document=True,
    )
    listed = [(each.file_id, str(each.kind)) for each in await the_files(scene, envelope)]
    there = [(each.file_id, str(each.kind)) for each in scene.standin.files(envelope)]
    assert sorted(listed) == sorted(there)
    assert len(there) == 2 + 2 + 2 + 2 + 1


@pytest.mark.parametrize("empty_as", ["empty", "null", "absent"])
async def test_parts_without_files_are_read_however_esaw_writes_them(scene: Scene, empty_as: EmptyAs) -> None:
    envelope = scene.an_envelope(empty_as=empty_as, audit_trail=False)
    kinds = [each.kind for each in await the_files(scene, envelope)]
    assert set(kinds) == {FileKind.DOCUMENT}


async def test_awkward_names_arrive_as_they_are(scene: Scene) -> None:
    envelope = scene.an_envelope(
        documents=[DocumentSpec(name=name, content=b"%PDF-") for name in AWKWARD_NAMES]
    )
    names = [each.file_name for each in await the_files(scene, envelope) if each.kind is FileKind.DOCUMENT]
    assert names == list(AWKWARD_NAMES)


async def test_attachments_of_any_type_are_files(scene: Scene) -> None:
    odd = [
        DocumentSpec(name=name, content=b"<p>{}")
        for name in ("page.html", "data.json", "noending", "x.xhtml")
    ]
    envelope = scene.an_envelope(attachments=odd)
    for file in await the_files(scene, envelope):
        if file.kind is FileKind.ATTACHMENT:
            assert await whole_file(scene.user, file.file_id) == b"<p>{}"


async def test_an_error_under_status_200_does_not_count_as_a_deletion(scene: Scene) -> None:
    envelope = scene.an_envelope()
    scene.standin.fault("delete", status=200)
    with pytest.raises(ResponseInvalid, match="it is the error ERR0001"):
        await delete(scene.user, a_proof(envelope, filed((await the_files(scene, envelope))[0], b"...")))
    assert scene.standin.exists(envelope)


async def test_an_error_under_status_200_is_no_configuration_without_metadata(scene: Scene) -> None:
    envelope = scene.an_envelope(metadata="<meta><customer>42</customer></meta>")
    scene.standin.fault("configuration", status=200)
    with pytest.raises(ResponseInvalid, match="it is the error ERR0001"):
        await scene.user.configuration(envelope)


async def test_an_object_of_another_kind_is_no_configuration_without_metadata(scene: Scene) -> None:
    envelope = scene.an_envelope()
    scene.standin.fault("configuration", lacks="MetaData", times=1)
    assert (await scene.user.configuration(envelope)).metadata is None
    async with against(answering({"message": "no healthy upstream"})) as bench:
        with pytest.raises(ResponseInvalid, match="no part of a configuration"):
            await bench.user.configuration(envelope)


@pytest.mark.parametrize("garbage", ["json", "html", "shape", "empty", "text", "xml", "error", "nothing"])
async def test_no_garbage_with_status_200_passes_for_a_document(scene: Scene, garbage: GarbageKind) -> None:
    (file, *_) = await the_files(scene, scene.an_envelope())
    scene.standin.fault("file", garbage=garbage)
    with pytest.raises(ResponseInvalid):
        async with checked_download(scene.user.download(file.file_id), file.kind, file.file_name) as opened:
            assert [chunk async for chunk in opened.chunks] == []


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_file_arrives_with_and_without_a_declared_length(scene: Scene, chunked: bool) -> None:
    big = DocumentSpec(name="plan.pdf", size=20 * MIB + 1, chunked=chunked)
    file = (await the_files(scene, scene.an_envelope(documents=[big])))[0]
    hashed = hashlib.sha256()
    async with scene.user.download(file.file_id) as opened:
        assert opened.size == (None if chunked else 20 * MIB + 1)
        async for chunk in opened.chunks:
            hashed.update(chunk)
    assert hashed.hexdigest() == scene.standin.expected_sha256(file.file_id)


async def test_version_and_whoami(scene: Scene) -> None:
    who = await scene.user.whoami()
    assert await scene.esaw.version() == "25.52.0.100"
    assert (who.user_id, who.email) == (scene.sender.user_id, "sina@example.com")
    assert (who.given_name, who.surname) == ("Sina", "Sender")


async def test_find_gives_the_senders_own_envelopes_of_that_status_and_time(scene: Scene) -> None:
    other = scene.standin.add_user(email="otto@example.com", given_name="Otto", surname="Other")
    mine = scene.an_envelope(metadata="m")
    scene.an_envelope(status="Active")
    scene.standin.add_envelope(sender=other, status="Completed")
    now = datetime.now(UTC)
    hour = timedelta(hours=1)
    found = await scene.user.find(status=EnvelopeStatus.COMPLETED, start=now - hour, end=now + hour)
    assert [(each.id, each.status, each.metadata) for each in found] == [
        (mine, EnvelopeStatus.COMPLETED, "m")
    ]
    assert await scene.user.find(status=EnvelopeStatus.COMPLETED, start=now + hour, end=None) == ()


async def test_an_envelope_shows_when_its_last_signer_finished(scene: Scene) -> None:
    done, active = scene.an_envelope(), scene.an_envelope(status="Active")
    assert (await scene.user.envelope(done)).finished_date is not None
    assert (await scene.user.envelope(active)).finished_date is None


async def test_history_shows_a_deleted_envelope(scene: Scene) -> None:
    envelope = scene.an_envelope()
    assert not (await scene.user.history(envelope)).has_been_deleted
    await scene.standin.delete(envelope)
    assert (await scene.user.history(envelope)).has_been_deleted


# What eSAW refuses


async def refusal(scene: Scene, envelope: str) -> tuple[int, str | None]:
    with pytest.raises(HttpStatusError) as answered:
        await scene.user.envelope(envelope)
    return answered.value.status, answered.value.error_id


async def test_unknown_deleted_and_foreign_envelopes_all_look_the_same(scene: Scene) -> None:
    other = scene.standin.add_user(email="otto@example.com", given_name="Otto", surname="Other")
    foreign = scene.standin.add_envelope(sender=other, status="Completed")
    deleted = scene.an_envelope()
    await scene.standin.delete(deleted)
    for envelope in ("00000000-0000-0000-0000-000000000000", deleted, foreign):
        assert await refusal(scene, envelope) == (404, "ERR0007")


async def test_the_history_of_an_envelope_of_v5_is_read_through_v6(scene: Scene) -> None:
    envelope = scene.an_envelope(api_version="v5")
    assert not (await scene.user.history(envelope)).has_been_deleted


async def test_an_envelope_that_neither_api_has_is_refused_as_by_v6(scene: Scene) -> None:
    envelope = scene.an_envelope(api_version="v5")
    await scene.standin.delete(envelope)
    assert await refusal(scene, envelope) == (404, "ERR0007")


@pytest.mark.parametrize("left", [20, 0])
async def test_a_step_of_esaw_in_an_error_state_is_reported_until_it_is_triggered_again(
    scene: Scene, left: int
) -> None:
    envelope = scene.standin.add_envelope(sender=scene.sender, status=EnvelopeStatus.ACTIVE)
    assert await scene.user.failed_step(envelope) is None
    await scene.standin.stall(envelope, remaining_attempts=left)
    failed = await scene.user.failed_step(envelope)
    assert failed is not None
    assert (failed.name, failed.remaining_attempts) == ("EnvelopeCallback", left)
    await scene.standin.trigger_again(envelope)
    assert await scene.user.failed_step(envelope) is None


async def test_a_history_that_the_user_may_not_see_is_a_403(scene: Scene) -> None:
    shy = scene.standin.add_user(email="s@example.com", given_name="S", surname="S", may_see_history=False)
    envelope = scene.standin.add_envelope(sender=shy, status="Completed")
    with pytest.raises(HttpStatusError) as answered:
        await scene.esaw.as_user(ApiToken.parse(shy.token, scene.esaw.origin)).history(envelope)
    assert answered.value.status == 403


async def test_a_token_that_is_revoked_is_a_401_without_a_body_and_a_new_one_works(scene: Scene) -> None:
    scene.standin.revoke(scene.sender)
    with pytest.raises(HttpStatusError) as answered:
        await scene.user.whoami()
    assert (answered.value.status, answered.value.error_id) == (401, None)
    renewed = scene.esaw.as_user(ApiToken.parse(scene.standin.new_token(scene.sender), scene.esaw.origin))
    assert (await renewed.whoami()).user_id == scene.sender.user_id


async def test_deleting_twice_is_a_404_the_second_time(scene: Scene) -> None:
    envelope = scene.an_envelope()
    file = (await the_files(scene, envelope))[0]
    proof = a_proof(envelope, filed(file, b""))
    await delete(scene.user, proof)
    with pytest.raises(HttpStatusError) as answered:
        await delete(scene.user, proof)
    assert (answered.value.status, answered.value.error_id) == (404, "ERR0007")


async def test_a_delete_whose_answer_is_lost_has_still_happened(scene: Scene) -> None:
    envelope = scene.an_envelope()
    file = (await the_files(scene, envelope))[0]
    scene.standin.fault("delete", lose_answer=True, times=1)
    with pytest.raises(EsawUnreachable):
        await delete(scene.user, a_proof(envelope, filed(file, b"")))
    assert not scene.standin.exists(envelope)


# What goes wrong


@pytest.mark.parametrize(
    ("fault", "kind", "text"),
    [
        ({"drop": True}, EsawUnreachable, "was cut"),
        ({"delay": 1.0}, EsawUnreachable, "in time"),
        ({"garbage": "json"}, ResponseInvalid, "no JSON"),
        ({"garbage": "html"}, ResponseInvalid, "HTML"),
        ({"garbage": "shape"}, ResponseInvalid, "Expected `object`, got `array`"),
        ({"garbage": "empty"}, ResponseInvalid, "empty"),
        ({"cut_after": 10}, TransferBroken, "before the end"),
        ({"declared_length": 100_000}, TransferBroken, "before the end"),
        ({"declared_length": 10}, TransferBroken, "more than the length"),
        ({"redirect": "https://login.example/?back=1"}, UnexpectedRedirect, "https://login.example;"),
        ({"status": 500}, HttpStatusError, "500 ERR0001"),
        ({"status": 403}, HttpStatusError, "403 ERR0001"),
        ({"status": 401}, HttpStatusError, "401."),
        ({"deletes_envelope": True}, HttpStatusError, "404 ERR0007"),
        ({"revokes_token": True}, HttpStatusError, "401."),
    ],
    ids=str,
)
async def test_each_fault_has_its_problem_and_the_next_call_is_not_affected(
    scene: Scene, fault: FaultOptions, kind: type[EsawError], text: str
) -> None:
    envelope = scene.an_envelope()
    await scene.user.whoami()
    once: FaultOptions = {**fault, "times": 1}
    scene.standin.fault("envelope", **once)
    with pytest.raises(kind, match=text):
        await scene.user.envelope(envelope)
    again = scene.esaw.as_user(ApiToken.parse(scene.standin.new_token(scene.sender), scene.esaw.origin))
    assert (await again.whoami()).user_id == scene.sender.user_id


@pytest.mark.parametrize(
    ("fault", "kind", "text"),
    [
        ({"cut_after": 100_000}, TransferBroken, "before the end"),
        ({"cut_after": 0}, TransferBroken, "before the end"),
        ({"declared_length": MIB + 1}, TransferBroken, "before the end"),
        ({"declared_length": MIB - 1}, TransferBroken, "more than the length"),
        ({"declared_length": 0}, TransferBroken, "more than the length"),
        ({"drop": True}, EsawUnreachable, "was cut"),
        ({"status": 503}, HttpStatusError, "503"),
        ({"deletes_envelope": True}, HttpStatusError, "404 ERR0008"),
        ({"redirect": "/login"}, UnexpectedRedirect, "another place"),
        ({"garbage": "html"}, ResponseInvalid, "not a file"),
        ({"garbage": "json"}, ResponseInvalid, "not a file"),
        ({"garbage": "empty"}, ResponseInvalid, "not a file"),
    ],
    ids=str,
)
async def test_each_fault_of_a_download_has_its_problem_and_a_repetition_is_whole(
    scene: Scene, fault: FaultOptions, kind: type[EsawError], text: str
) -> None:
    envelope = scene.an_envelope(documents=[DocumentSpec(name="contract.pdf", size=MIB)])
    file = (await the_files(scene, envelope))[0]
    once: FaultOptions = {**fault, "id": file.file_id, "times": 1}
    scene.standin.fault("file", **once)
    with pytest.raises(kind, match=text):
        await whole_file(scene.user, file.file_id)
    if "deletes_envelope" not in fault:
        assert len(await whole_file(scene.user, file.file_id)) == MIB


async def test_a_chunked_file_that_is_cut_does_not_look_whole(scene: Scene) -> None:
    envelope = scene.an_envelope(documents=[DocumentSpec(name="contract.pdf", size=MIB, chunked=True)])
    file = (await the_files(scene, envelope))[0]
    scene.standin.fault("file", times=1, cut_after=100_000)
    with pytest.raises(TransferBroken):
        await whole_file(scene.user, file.file_id)


async def test_a_file_that_trickles_is_given_up(scene: Scene) -> None:
    async with new_http_client() as http:
        impatient = CallLimits(minimum_rate=MinimumRate(bytes_per_second=MIB, window=0.1))
        esaw = EsawClient(
            scene.standin.url, http=http, clock=WallClock(), observe=scene.observer, call_limits=impatient
        )
        user = esaw.as_user(ApiToken.parse(scene.sender.token, scene.esaw.origin))
        envelope = scene.an_envelope(documents=[DocumentSpec(name="contract.pdf", size=MIB)])
        file = (await the_files(scene, envelope))[0]
        scene.standin.fault("file", trickle=1000.0)
        with pytest.raises(EsawUnreachable) as met:
            await whole_file(user, file.file_id)
    assert met.value.kind == "slow"


async def test_a_429_with_retry_after_silences_the_organization(scene: Scene) -> None:
    scene.standin.fault("whoami", status=429, retry_after=30, times=1)
    with pytest.raises(HttpStatusError) as answered:
        await scene.user.whoami()
    assert answered.value.retry_after == 30
    with pytest.raises(RateLimited):
        await scene.user.envelope(scene.an_envelope())
    assert len(scene.standin.requests()) == 1


async def test_the_token_is_in_no_url_and_belongs_to_the_sender(scene: Scene) -> None:
    envelope = scene.an_envelope()
    for file in await the_files(scene, envelope):
        await whole_file(scene.user, file.file_id)
    with contextlib.suppress(HttpStatusError):
        await scene.user.history("00000000-0000-0000-0000-000000000000")
    requests = scene.standin.requests()
    assert not any(each.token_in_url or scene.sender.token in each.path for each in requests)
    assert {each.user_id for each in requests} == {scene.sender.user_id}
    assert {each.token_sha256 for each in requests} == {
        ApiToken.parse(scene.sender.token, scene.esaw.origin).fingerprint
    }
