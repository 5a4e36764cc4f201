"""Two events of one envelope, with copies in one place or without, and downloads that are cut."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from controller.requests.copy_requests import CopyRequests
from controller.requests.event_requests import EventRequests
from counterfoil.archives.manifest import hash_lines
from counterfoil.archives.manifest_signature import ManifestSigner
from counterfoil.esaw.errors import EsawUnreachable
from counterfoil.resources import EnvelopeEvent, Phase
from counterfoil.resources.envelopeevent import Provisional
from counterfoil.resources.request import Request
from counterfoil.resources.routes import stored_copy
from counterfoil.signatures.results import Signatures, State
from tests.support.builders import ENVELOPE, an_event
from tests.support.fakes.reconcile_context import a_probed_archive
from tests.support.scenes.copied_events import MIRROR, WORM, CopiedScene
from tests.support.signing_keys import a_signer

ACTIONS = [{"action": "envelopeFinished"}, {"action": "workstepFinished"}]


OTHER_PATH = "{{organization}}/new/{{envelope.id}}/{{file.name}}"


LATER_TRAIL = b"%PDF-1.7 rendered later"


WITH_OR_WITHOUT_KEY = pytest.mark.parametrize("signer", [None, a_signer()], ids=["no key", "a key"])
"""The signing key of the controller: none, or one."""


class TwoEvents(CopiedScene):
    """Two events of one envelope. ``mirror`` becomes a copy after the first one has ended."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, names=("worm", "mirror"), actions=ACTIONS, evidence={"wait": "10m"})
        self.first = self.event.name
        second = an_event().for_action("workstepFinished").named("second").build()
        self.second = second.name
        self.kube.put(second)
        self.trail = self.envelope.contents["trail-1"]

    def sign_with(self, signer: ManifestSigner | None) -> None:
        """Let the controller have this signing key."""
        checker = dataclasses.replace(self.preconditions.archives.signature_checker, signer=signer)
        self.change_archives(signature_checker=checker)

    async def run(self, name: str) -> EnvelopeEvent:
        """Reconcile an event until it has ended."""
        self.event = self.kube.stored(name)
        self.clock.advance(seconds=5)
        event = await self.reconcile_until_quiet()
        while not event.status.phase.is_final:
            event = await self.retried()
        return event

    async def archive_first(self, *, with_trail: bool) -> None:
        """Archive the first event, which keeps the envelope for want of a trail or of a right."""
        if with_trail:
            self.change(WORM, actions=ACTIONS, cleanup={"policy": "Keep"})
        else:
            del self.envelope.contents["trail-1"]
        first = await self.run(self.first)
        assert first.status.reason == ("ArchivedAndKept" if with_trail else "AuditTrailMissing")

    async def archive_second(self) -> EnvelopeEvent:
        """Archive the second event, with a trail that is rendered later, and delete the envelope."""
        self.envelope.contents["trail-1"] = LATER_TRAIL
        self.change(WORM, MIRROR, actions=ACTIONS)
        second = await self.run(self.second)
        assert second.status.reason == "ArchivedAndDeleted"
        assert stored_copy(second.status, "mirror").verified_time is not None
        return second

    async def copy_first(self) -> EnvelopeEvent:
        """Let a person ask for the copies of the first event."""
        return await self.ask_for_copies(self.first)

    async def ask_for_copies(self, name: str) -> EnvelopeEvent:
        self.event = self.kube.stored(name)
        self.clock.advance(seconds=5)
        result = await CopyRequests(self.cache, self.clock).copy(self.newest(), Request("copy"))
        assert result.change is not None, result.message
        self.store(result.change(self.newest().status))
        return await self.reconcile_until_quiet()

    def change_path(self) -> None:
        self.observe(
            a_probed_archive("dms", root=self.folders["dms"], path=OTHER_PATH, version=50, generation=50)
        )

    def contents(self, name: str = "mirror") -> dict[str, bytes]:
        found = (each for each in self.folders[name].rglob("*") if each.is_file())
        return {each.name: each.read_bytes() for each in found}


DELAYED: dict[str, Any] = {"actions": ACTIONS, "cleanup": {"policy": "Delete", "after": "720h"}}


TAGGED: dict[str, Any] = {
    "path": "{{tags.customer}}/{{envelope.id}}/{{file.name}}",
    "tags": {"customer": {"callback": "customer"}},
}


class TwoFolders(TwoEvents):
    """Two events of one envelope with a required copy. Only the callback of the second one has the parameter
    that the path of the first archive is made of. Both wait for the time of the delete."""

    def __init__(self, folder: Path, *copies: dict[str, Any]) -> None:
        super().__init__(folder)
        self.callback = {"callback": {"parameters": ["customer"]}}
        self.change(*(copies or (WORM,)), **DELAYED, **self.callback)
        self.observe(a_probed_archive("dms", root=self.folders["dms"], version=40, generation=40, **TAGGED))
        builder = an_event().for_action("workstepFinished").named("second")
        self.kube.put(builder.with_parameters(customer="ACME-1").build())

    async def run(self, name: str) -> EnvelopeEvent:
        """Reconcile an event until nothing is due."""
        self.event = self.kube.stored(name)
        self.clock.advance(seconds=5)
        self.cache.update(self.event)
        return await self.reconcile_until_quiet()

    async def archive_both(self) -> None:
        await self.run(self.first)
        self.envelope.contents["trail-1"] = LATER_TRAIL
        await self.run(self.second)
        assert self.contents("worm")["audit-trail.pdf"] == LATER_TRAIL
        assert self.deleted == []

    def protected(self, name: str) -> float:
        """Return how often a file was protected in an Archive."""
        return self.metric("archive_seconds_count", archive=name, operation="retain") or 0.0

    def plant_copy(self, name: str, signer: ManifestSigner | None) -> None:
        """Let somebody put the archived files in the place of a copy, beside a manifest with one more."""
        (original,) = self.folders["dms"].rglob("counterfoil.json")
        folder = self.folders[name] / "acme" / ENVELOPE
        shutil.copytree(original.parent, folder)
        manifest = json.loads(original.read_bytes())
        more = {**manifest["files"][0], "fileID": "file-9", "name": "one-more.pdf"}
        manifest["files"].append(more)
        manifest["sealedBy"] = signer.public.id if signer is not None else None
        content = json.dumps(manifest).encode()
        (folder / "counterfoil.json").write_bytes(content)
        lines = hash_lines((each["name"], each["sha256"]) for each in manifest["files"])
        (folder / "counterfoil.sha256").write_bytes(lines)
        if signer is not None:
            (folder / "counterfoil.json.sig").write_bytes(signer.sign(content))

    async def end(self, name: str) -> EnvelopeEvent:
        """Reconcile an event, with its retries, until it has ended."""
        event = await self.run(name)
        while not event.status.phase.is_final:
            event = await self.retried()
        return event


CUT = b"%PDF-contrac\0"
BROKEN = Signatures(state=State.BROKEN, detail="a signature is broken")
"""The result of the signature check of a file with a fault."""


async def archive_second_in_doubt(scene: TwoFolders) -> EnvelopeEvent:
    """Let a proxy cut both downloads of the second event, and eSignAnyWhere send the whole file after."""
    whole, scene.envelope.contents["file-1"] = scene.envelope.contents["file-1"], CUT
    scene.examiner.found[CUT] = BROKEN
    second = await scene.end(scene.second)
    assert (second.status.phase, second.status.reason) == (Phase.FAILED, "DocumentInDoubt")
    scene.envelope.contents["file-1"] = whole
    return second


OTHER = b"%PDF-contr"


def send_other_document(scene: TwoFolders) -> bytes:
    """Let downloads be cut so that no check finds it; return the whole document."""
    whole, scene.envelope.contents["file-1"] = scene.envelope.contents["file-1"], OTHER
    return whole


class OneFolder(TwoFolders):
    """Two events of one envelope with one folder in the first archive, and no copies. The earlier one
    archives the envelope again at its delete, since its trail is damaged by then, and both end."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.change(**DELAYED)
        self.observe(a_probed_archive("dms", root=self.folders["dms"], version=60, generation=60))

    async def archive_again(self) -> None:
        await self.run(self.first)
        await self.run(self.second)
        self.backup = self.folders["dms"].with_name("backup")
        shutil.copytree(self.folders["dms"], self.backup)
        (trail,) = self.folders["dms"].rglob("audit-trail.pdf")
        trail.write_bytes(b"damaged")
        self.envelope.contents["trail-1"] = LATER_TRAIL
        self.clock.advance(hours=721)
        first, second = await self.end(self.first), await self.end(self.second)
        assert (first.status.reason, second.status.reason) == ("ArchivedAndDeleted", "ArchivedAndDeleted")
        assert trail.read_bytes() == LATER_TRAIL
        self.change(MIRROR, **DELAYED)


async def archive_with_one_event(scene: OneFolder, *, is_copied: bool) -> None:
    """Archive an envelope of which there is one event only. Its delete waits."""
    await scene.kube.delete(EnvelopeEvent, scene.second)
    scene.change(*((WORM,) if is_copied else ()), **DELAYED)
    await scene.run(scene.first)


WITH_OR_WITHOUT_COPY = pytest.mark.parametrize("is_copied", [False, True], ids=["no copy", "a copy"])


def hash_of(event: EnvelopeEvent, file_id: str) -> str | None:
    (document,) = (each for each in event.status.documents if each.file_id == file_id)
    return document.sha256


def remove_file(scene: TwoFolders) -> None:
    (file,) = scene.folders["dms"].rglob("file-1.pdf")
    file.unlink()


async def retry_by_a_person(scene: TwoEvents) -> None:
    request = Request("retry")
    result = await EventRequests(scene.clock).retry(scene.newest(), request)
    last = request.handled(result.outcome, result.message, now=scene.clock.now())
    scene.store(msgspec.structs.replace(result.change(scene.newest().status), last_request=last))


LEGAL = b"%PDF-1.7 the whole terms"


def legal_contents(scene: TwoFolders, archive: str) -> set[bytes]:
    return {each.read_bytes() for each in scene.folders[archive].rglob("legal-1.pdf")}


async def break_off(scene: TwoFolders, broken: str) -> EnvelopeEvent:
    """Let the next attempt break off at this file."""
    scene.envelope.asked.clear()
    scene.envelope.but(f"download {broken}", EsawUnreachable("connect"))
    event = await scene.run(scene.first)
    while f"download {broken}" not in scene.envelope.asked:
        event = await scene.retried()
    scene.envelope.problems.clear()
    return event


def marks(event: EnvelopeEvent) -> dict[str, Provisional | None]:
    return {each.file_id: each.provisional for each in event.status.documents}


WHOLE = b"%PDF-contract, whole and signed by all"
DAMAGED = WHOLE + b"\0\0"
IN_DOUBT = (Phase.FAILED, "DocumentInDoubt")


class OneEvent(OneFolder):
    """One event of an envelope whose one document is whole."""

    @classmethod
    async def of(cls, folder: Path, signer: Any = None, **spec: Any) -> "OneEvent":
        scene = cls(folder)
        scene.sign_with(signer)
        scene.change(**(spec or DELAYED))
        await scene.kube.delete(EnvelopeEvent, scene.second)
        scene.send(WHOLE)
        scene.examiner.found[DAMAGED] = BROKEN
        return scene

    def send(self, content: bytes) -> None:
        self.envelope.contents["file-1"] = content

    def require_signatures(self) -> None:
        """Let the Archive require intact signatures, which only the whole document has."""
        root = self.folders["dms"]
        self.observe(a_probed_archive("dms", root=root, signatures="Require", version=70, generation=70))
        self.examiner.found |= {
            WHOLE: Signatures(state=State.INTACT),
            DAMAGED: Signatures(state=State.UNSIGNED, detail="it has no signature"),
        }

    def lose_trail(self) -> None:
        for each in self.folders["dms"].rglob("audit-trail.pdf"):
            each.unlink()

    async def ended(self, content: bytes) -> tuple[Phase, str | None]:
        """Let eSignAnyWhere send this content from now on, and the event end."""
        self.send(content)
        event = await self.end(self.first)
        return event.status.phase, event.status.reason

    async def ended_after_retry(self, content: bytes) -> tuple[Phase, str | None]:
        """The same after a person's retry."""
        await retry_by_a_person(self)
        return await self.ended(content)

    async def lose_and_fail(self, content: bytes) -> None:
        """Lose the archived document, and let eSignAnyWhere send this one until the event has failed."""
        remove_file(self)
        self.clock.advance(hours=721)
        assert await self.ended(content) == IN_DOUBT

    @property
    def stored(self) -> bytes | None:
        return self.contents("dms").get("file-1.pdf")
