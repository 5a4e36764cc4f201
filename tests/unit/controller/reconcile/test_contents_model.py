"""
Two events of one envelope with downloads that are cut, damaged or break off, lost files and retries, in any
order: once an event has read back the whole document, no envelope is deleted without it.
"""

import hashlib
from pathlib import Path
from random import Random

import pytest

from counterfoil.esaw.errors import EsawUnreachable
from counterfoil.resources import EnvelopeEvent, EnvelopeStatus, Phase
from tests.support.fakes.reconcile_context import a_probed_archive
from tests.support.scenes.copied_events import WORM
from tests.support.scenes.events_of_envelope import (
    BROKEN,
    DELAYED,
    LEGAL,
    OTHER_PATH,
    OneFolder,
    TwoFolders,
    retry_by_a_person,
)
from tests.support.signing_keys import a_signer

WHOLE = b"%PDF-contract, the whole"
DAMAGED = WHOLE + b"\0\0"
"""The signature check finds a fault in it."""
CONTENTS = {"whole": WHOLE, "cut": WHOLE[:-3], "cut elsewhere": WHOLE[:-5], "damaged": DAMAGED}
PATHS = (OTHER_PATH, "{{organization}}/{{envelope.id}}/{{file.name}}")
LIVES = 12
"""Number of lives in one test."""


class Life:
    """One life of an envelope, and what its events have read back so far."""

    def __init__(self, folder: Path, random: Random) -> None:
        self.random = random
        self.scene = scene = random.choice((OneFolder, TwoFolders))(folder)
        scene.sign_with(random.choice((None, a_signer())))
        copies = random.choice(((), (), (WORM,)))
        scene.change(*copies, **DELAYED, **scene.callback, statuses=["Completed", "Rejected"])
        scene.envelope.status = random.choice((EnvelopeStatus.COMPLETED, EnvelopeStatus.REJECTED))
        scene.envelope.contents["file-1"] = random.choice((WHOLE, WHOLE, CONTENTS["cut"]))
        scene.examiner.found[DAMAGED] = BROKEN
        if random.random() < 0.5:
            scene.examiner.found[CONTENTS["cut"]] = BROKEN
        self.names = [scene.first, scene.second]
        self.read_back: set[str] = set()
        self.changes = 0

    async def live(self) -> None:
        if self.random.random() < 0.5:
            await self.scene.kube.delete(EnvelopeEvent, self.names.pop())
        for _ in range(self.random.randint(5, 25)):
            if self.random.random() < 0.5:
                await self.run(self.random.choice(self.names))
            else:
                await self.change()
            if self.scene.deleted:
                return

    async def run(self, name: str) -> None:
        """Reconcile an event, with a random number of its retries."""
        self.scene.clock.advance(hours=self.random.choice((0, 0, 721)))
        event = await self.scene.run(name)
        for _ in range(self.random.choice((0, 0, 1, 2, 40))):
            self.look()
            if event.status.phase.is_final:
                break
            event = await self.scene.retried()
        self.look()

    async def change(self) -> None:
        envelope, self.changes = self.scene.envelope, self.changes + 1
        change = self.random.choice((*CONTENTS, "off", "on", "late", "legal", "lose", "path", "retry"))
        match change:
            case "off":
                envelope.but("download trail-1", EsawUnreachable("connect"))
            case "on":
                envelope.problems.clear()
            case "late":
                envelope.contents["file-2"] = b"%PDF-listed late"
            case "legal":
                envelope.contents["legal-1"] = LEGAL
            case "lose":
                lost = self.random.choice(("file-1.pdf", "audit-trail.pdf", "counterfoil.json"))
                for each in self.scene.folders["dms"].rglob(lost):
                    each.unlink()
            case "path":
                self.change_path(self.random.choice(PATHS))
            case "retry":
                await self.retry(self.random.choice(self.names))
            case content:
                envelope.contents["file-1"] = CONTENTS[content]

    def change_path(self, path: str) -> None:
        if type(self.scene) is OneFolder:
            root, number = self.scene.folders["dms"], 100 + self.changes
            self.scene.observe(
                a_probed_archive("dms", root=root, path=path, version=number, generation=number)
            )

    async def retry(self, name: str) -> None:
        self.scene.event = self.scene.kube.stored(name)
        if self.scene.event.status.phase is Phase.FAILED:
            await retry_by_a_person(self.scene)

    def hashes(self, name: str) -> set[str]:
        documents = self.scene.kube.stored(name).status.documents
        return {each.sha256 for each in documents if each.file_id == "file-1" and each.sha256}

    def look(self) -> None:
        for name in self.names:
            self.read_back |= self.hashes(name)

    def has_lost(self) -> bool:
        """Whether the last event deleted the envelope without the whole document, which one had read back."""
        whole, stored = hashlib.sha256(WHOLE).hexdigest(), self.scene.folders["dms"].rglob("file-1.pdf")
        if not self.scene.deleted or whole not in self.read_back:
            return False
        is_named = whole in self.hashes(self.scene.event.name)
        return not is_named or WHOLE not in {each.read_bytes() for each in stored}


@pytest.mark.parametrize("first", range(0, 8 * LIVES, LIVES))
async def test_no_envelope_is_deleted_without_a_document_that_was_read_back(
    tmp_path_factory: pytest.TempPathFactory, first: int
) -> None:
    deleted = 0
    for seed in range(first, first + LIVES):
        life = Life(tmp_path_factory.mktemp("life"), Random(seed))
        await life.live()
        assert not life.has_lost(), f"life {seed}"
        deleted += len(life.scene.deleted)
    assert deleted > 0
