"""Envelopes that the API v5 made, in whole runs of the reconciler between the stand-in and a real archive."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from counterfoil.clock import WallClock
from counterfoil.esaw import ApiToken, EsawClient, EsawUserClient, new_http_client
from counterfoil.resources import EnvelopeEvent, FileKind, Phase
from counterfoil.resources.reopening import reopened_status
from sandbox.esaw import Behaviour, DocumentSpec, StandIn
from sandbox.esaw.core.behaviour import FilesOfV5
from sandbox.esaw.core.faults import FaultOptions
from sandbox.esaw.core.model import EnvelopeOptions
from tests.support.builders import an_event
from tests.support.fakes.esaw import FakeEsawClient
from tests.support.scenes.reconciler import ReconcilerScene
from tests.support.servers.scripted_esaw import RecordingObserver
from tests.support.servers.standin_peers import anna

METADATA = "<meta><customer>42</customer></meta>"
FILES = 6
"""Of the envelope below: a document with an attachment, another one, two audit trails, a legal document."""
OPTIONS: EnvelopeOptions = {
    "name": "Lease",
    "metadata": METADATA,
    "documents": [
        DocumentSpec(name="contract.pdf", attachments=(DocumentSpec(name="plan.png"),)),
        DocumentSpec(name="annex.pdf"),
    ],
    "legal_documents": [DocumentSpec(name="CA22D.pdf")],
    "api_version": "v5",
}
"""An envelope with every kind of file."""


class OneUser(FakeEsawClient):
    """A client whose users are all the same one."""

    def __init__(self, user: EsawUserClient) -> None:
        super().__init__()
        self._user = user

    def as_user(self, token: ApiToken) -> EsawUserClient:
        return self._user


@dataclass(frozen=True)
class V5Scene:
    """An envelope of v5 in the stand-in, and its event."""

    standin: StandIn
    envelope: str
    inner: ReconcilerScene

    async def reconcile(self) -> EnvelopeEvent:
        return await self.inner.reconcile()

    def archived(self) -> dict[str, bytes]:
        return {each.name: each.read_bytes() for each in self.inner.root.rglob("*") if each.is_file()}

    def operations(self) -> set[str]:
        return {each.operation for each in self.standin.requests()}


@asynccontextmanager
async def v5_scene(
    folder: Path, behaviour: Behaviour | None = None, status: str = "Completed", **spec: Any
) -> AsyncIterator[V5Scene]:
    async with StandIn(behaviour=behaviour) as standin, new_http_client() as http:
        sender = anna(standin)
        options: EnvelopeOptions = {**OPTIONS, "status": status}
        envelope = standin.add_envelope(sender=sender, **options)
        esaw = EsawClient(standin.url, http=http, clock=WallClock(), observe=RecordingObserver())
        one = OneUser(esaw.as_user(ApiToken.parse(sender.token, esaw.origin)))
        yield V5Scene(standin, envelope, ReconcilerScene(folder, an_event(envelope), esaw=one, **spec))


def result(event: EnvelopeEvent) -> tuple[Phase, str | None]:
    return event.status.phase, event.status.reason


async def test_an_envelope_of_v5_is_archived_and_deleted_if_v6_lists_all_its_files(tmp_path: Path) -> None:
    async with v5_scene(tmp_path) as scene:
        after = await scene.reconcile()
        assert result(after) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
        assert after.status.envelope is not None
        assert (after.status.envelope.name, after.status.envelope.status) == ("Lease", "Completed")
        assert len(after.status.documents) == FILES
        (call,) = scene.standin.delete_calls(scene.envelope)
        assert (call.outcome, call.missing) == (200, ())
        assert b'"status":"Completed"' in scene.archived()["counterfoil.json"].replace(b": ", b":")


@pytest.mark.parametrize("listing", ["refused", "empty", "documents"])
async def test_an_envelope_whose_files_only_v5_lists_is_archived_whole_and_kept(
    tmp_path: Path, listing: FilesOfV5
) -> None:
    async with v5_scene(tmp_path, Behaviour(v5_files=listing)) as scene:
        after = await scene.reconcile()
        assert result(after) == (Phase.FAILED, "V5EnvelopeKept")
        assert "stays in eSignAnyWhere" in (after.status.message or "")
        assert len(after.status.documents) == FILES
        assert {each.kind for each in after.status.documents} == set(FileKind)
        hashes = {each.sha256 for each in after.status.documents}
        listed = scene.standin.files(scene.envelope)
        assert hashes == {scene.standin.expected_sha256(each.file_id) for each in listed}
        assert scene.standin.delete_calls(scene.envelope) == []
        assert scene.standin.exists(scene.envelope)


@pytest.mark.parametrize("listing", ["listed", "refused"])
async def test_an_envelope_of_v5_that_must_be_kept_is_archived_and_not_deleted(
    tmp_path: Path, listing: FilesOfV5
) -> None:
    async with v5_scene(tmp_path, Behaviour(v5_files=listing), cleanup={"policy": "Keep"}) as scene:
        assert result(await scene.reconcile()) == (Phase.SUCCEEDED, "ArchivedAndKept")
        assert scene.standin.exists(scene.envelope)


async def test_a_list_of_v5_without_documents_confirms_no_list_of_v6(tmp_path: Path) -> None:
    async with v5_scene(tmp_path) as scene:
        scene.standin.fault("envelope_v5", replaces={"Bulks": [{}]})
        after = await scene.reconcile()
        assert (after.status.phase, after.status.reason) == (Phase.COLLECTING, "NoFiles")
        assert scene.standin.delete_calls(scene.envelope) == []
        assert scene.standin.exists(scene.envelope)


async def test_an_envelope_that_v6_does_not_delete_is_kept(tmp_path: Path) -> None:
    async with v5_scene(tmp_path, Behaviour(refuses_v5_delete=True)) as scene:
        after = await scene.reconcile()
        assert result(after) == (Phase.FAILED, "V5EnvelopeKept")
        assert "ERR0063" in (after.status.message or "")
        assert scene.standin.exists(scene.envelope)


async def test_a_retry_of_a_kept_envelope_archives_again_what_the_archive_lost(tmp_path: Path) -> None:
    async with v5_scene(tmp_path, Behaviour(v5_files="refused")) as scene:
        assert result(await scene.reconcile()) == (Phase.FAILED, "V5EnvelopeKept")
        shutil.rmtree(scene.inner.root / "acme")
        event = scene.inner.newest()
        now = scene.inner.clock.now()
        retried = reopened_status(event.status, reason="RetryRequested", message="", now=now)
        await scene.inner.status_writer.store(event, retried)
        assert (await scene.reconcile()).status.reason == "ArchivedFilesChanged"
        assert result(await scene.reconcile()) == (Phase.FAILED, "V5EnvelopeKept")
        assert "contract.pdf" in scene.archived()


async def test_completed_with_warnings_is_completed(tmp_path: Path) -> None:
    async with v5_scene(tmp_path) as scene:
        scene.standin.fault("envelope_v5", replaces={"Status": "CompletedWithWarnings"})
        assert result(await scene.reconcile()) == (Phase.SUCCEEDED, "ArchivedAndDeleted")


async def test_an_envelope_that_is_not_finished_is_waited_for(tmp_path: Path) -> None:
    async with v5_scene(tmp_path, status="Active") as scene:
        after = await scene.reconcile()
        assert after.status.reason == "StillActive"


async def test_a_rejected_envelope_is_skipped_as_one_of_v6(tmp_path: Path) -> None:
    async with v5_scene(tmp_path, status="Rejected") as scene:
        assert result(await scene.reconcile()) == (Phase.SKIPPED, "UnexpectedStatus")


async def test_without_the_api_v5_the_reason_names_it(tmp_path: Path) -> None:
    async with v5_scene(tmp_path, Behaviour(has_v5=False)) as scene:
        after = await scene.reconcile()
        assert result(after) == (Phase.VALIDATING, "EsawV5Unavailable")
        scene.standin.set_behaviour(Behaviour())
        assert result(await scene.reconcile()) == (Phase.SUCCEEDED, "ArchivedAndDeleted")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"garbage": "html"}, "HTML"),
        ({"garbage": "empty"}, "empty"),
        ({"garbage": "shape"}, "Expected `object`"),
        ({"garbage": "error"}, "ERR0001"),
        ({"lacks": "Status"}, "`Status`"),
        ({"lacks": "Id"}, "`Id`"),
        ({"replaces": {"Status": None}}, "no plain word"),
        ({"replaces": {"Status": "BulkCompleted"}}, "`BulkCompleted`"),
        ({"replaces": {"Id": "00000000-0000-0000-0000-000000000000"}}, "another envelope"),
        ({"replaces": {"Bulks": []}}, "0 envelopes"),
        ({"replaces": {"Bulks": None}}, "0 envelopes"),
        ({"replaces": {"Bulks": [{}, {}]}}, "2 envelopes"),
        ({"replaces": {"Bulks": [{"FinishedDocuments": "none"}]}}, "Expected `array"),
    ],
    ids=str,
)
async def test_an_answer_of_v5_that_can_not_be_used_has_its_own_reason_and_nothing_is_deleted(
    tmp_path: Path, fault: FaultOptions, words: str
) -> None:
    async with v5_scene(tmp_path) as scene:
        scene.standin.fault("envelope_v5", **fault)
        after = await scene.reconcile()
        assert after.status.reason == "EsawV5AnswerUnreadable"
        assert words in (after.status.message or "")
        assert scene.standin.exists(scene.envelope)


async def test_a_document_of_v5_without_an_id_is_never_left_out(tmp_path: Path) -> None:
    async with v5_scene(tmp_path) as scene:
        document = {"FlowDocumentId": None, "FileName": "contract.pdf", "DocRefNumber": 1}
        scene.standin.fault("envelope_v5", replaces={"Bulks": [{"FinishedDocuments": [document]}]})
        assert (await scene.reconcile()).status.reason == "FileIdMissing"


async def test_a_file_that_only_v5_lists_before_the_delete_keeps_the_envelope(tmp_path: Path) -> None:
    more = [{"FlowDocumentId": f"d{number}", "FileName": "new.pdf"} for number in range(5)]
    async with v5_scene(tmp_path) as scene:
        scene.standin.fault("envelope_v5", replaces={"Bulks": [{"FinishedDocuments": more}]}, after=1)
        after = await scene.reconcile()
        # The files of v6, which are archived, are not in the list of v5.
        assert after.status.reason == "DocumentsPending"
        assert scene.standin.delete_calls(scene.envelope) == []


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"status": 503}, "EsawFailing"),
        ({"status": 429, "retry_after": 5}, "EsawThrottling"),
        ({"drop": True}, "EsawUnreachable"),
    ],
    ids=str,
)
async def test_a_failure_of_v5_is_waited_for_as_one_of_v6(
    tmp_path: Path, fault: FaultOptions, reason: str
) -> None:
    async with v5_scene(tmp_path) as scene:
        scene.standin.fault("envelope_v5", **fault)
        assert (await scene.reconcile()).status.reason == reason


async def test_a_v5_that_accepts_bearer_only_is_understood(tmp_path: Path) -> None:
    behaviour = Behaviour(
        v5_token_headers=("Authorization",), v5_files="refused", token_headers=("ApiToken",)
    )
    async with v5_scene(tmp_path, behaviour, cleanup={"policy": "Keep"}) as scene:
        assert result(await scene.reconcile()) == (Phase.SUCCEEDED, "ArchivedAndKept")


@pytest.mark.parametrize(
    ("policy", "reason"), [("Keep", "ArchivedAndKept"), ("Delete", "ArchivedAndDeleted")]
)
async def test_an_envelope_whose_files_v6_lists_after_v5_did_is_archived_from_the_list_of_v6(
    tmp_path: Path, policy: str, reason: str
) -> None:
    async with v5_scene(tmp_path, Behaviour(v5_files="documents"), cleanup={"policy": policy}) as scene:
        await scene.reconcile()
        scene.standin.set_behaviour(Behaviour())
        event, now = scene.inner.newest(), scene.inner.clock.now()
        status = reopened_status(event.status, reason="RetryRequested", message="", now=now)
        await scene.inner.status_writer.store(event, status)
        assert (await scene.reconcile()).status.reason == "FilesChanged"
        await scene.reconcile()
        scene.inner.clock.advance(minutes=10)
        after = await scene.reconcile()
        assert after.status.reason == reason
        assert not any(each.file_id.startswith("v5:") for each in after.status.documents)
