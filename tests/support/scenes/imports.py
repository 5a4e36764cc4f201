"""Support for the tests of Imports: an Import, and a runner over an API server and an eSAW in memory."""

import asyncio
from collections.abc import AsyncIterable, Collection, Mapping
from typing import Any

from controller.resync.event_starter import EventStarter
from controller.resync.import_report_writer import ImportReportWriter
from controller.resync.import_runner import POLL_SECONDS, ImportBounds, ImportRunner
from counterfoil.archives.backend import ArchiveBackend
from counterfoil.archives.errors import ArchiveRefused
from counterfoil.archives.import_report.content import MAX_PART
from counterfoil.archives.manifest_signature import ManifestSigner
from counterfoil.resources import (
    Archive,
    EnvelopeEvent,
    EnvelopeStatus,
    Import,
    ImportStatus,
    Phase,
    find_condition,
)
from tests.support.builders import NOON, a_sender, an_event, an_organization, known_to_work, ready
from tests.support.fakes.archives import MemoryBackend
from tests.support.fakes.esaw import FakeEsawClients
from tests.support.fakes.finding_esaw import FindingEsawClient, key_of
from tests.support.fakes.reconcile_context import an_archive
from tests.support.scenes.controller_parts import ControllerParts

NAME = "old-stock"
"""Name of the Import."""


def an_import(*, uid: str = "uid-old-stock", **spec: Any) -> Import:
    """Build the Import."""
    return Import.parse(
        {
            "metadata": {
                "name": NAME,
                "uid": uid,
                "resourceVersion": "1",
                "generation": 1,
                "creationTimestamp": NOON.isoformat(),
            },
            "spec": {"organizationRef": {"name": "acme"}, "from": "2026-06-01", **spec},
        }
    )


class RefusingReports(MemoryBackend):
    """An archive that takes files of envelopes only."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        raise ArchiveRefused(self.reason, "Archive/dms: 403: no right")


class NoCopies:
    """The work on Imports with ``copiesOnly``, of which there is none."""

    async def advance(self, imported: Import) -> None:
        raise AssertionError(f"Import/{imported.name} does not only copy")

    def forget_others(self, uids: Collection[str]) -> None:
        return


class ImportScene(ControllerParts):
    """An Import of one Organization, and a process that works on it."""

    def __init__(
        self,
        *senders: str,
        bounds: ImportBounds | None = None,
        organization: dict[str, Any] | None = None,
        **spec: Any,
    ) -> None:
        self.finding = FindingEsawClient()
        super().__init__(esaw_clients=FakeEsawClients(self.finding))
        self.bounds = bounds or ImportBounds()
        self.backend = MemoryBackend()
        self.opened: ArchiveBackend | None = None
        """The archive of the Organization, by default the one in memory."""
        self.others = dict[str, ArchiveBackend]()
        """Further archives, by the names of their Archives."""
        self.signer: ManifestSigner | None = None
        self.part_size = MAX_PART
        self.cache.organizations.put(an_organization(**(organization or {})))
        self.cache.archives.put(ready(an_archive()))
        for name in senders or ("anna",):
            self.put_sender(name)
        self.kube.put(an_import(**spec))
        self.runner = self.new_runner()

    def new_runner(self) -> ImportRunner:
        """The runner of one more process."""
        return ImportRunner(
            kube=self.kube,
            cache=self.cache,
            sender_keys=self.sender_keys,
            esaw_clients=self.esaw_clients,
            event_starter=EventStarter(
                self.kube, self.clock, self.metrics, lambda _: None, self.cache.senders.get
            ),
            report_writer=ImportReportWriter(
                self.cache, "tests", self.open_archive, self.signer, self.part_size
            ),
            clock=self.clock,
            metrics=self.metrics,
            copies=NoCopies(),
            bounds=self.bounds,
        )

    async def open_archive(self, archive: Archive) -> ArchiveBackend:
        """Return the archive of the Organization, or another one."""
        return self.others.get(archive.name) or self.opened or self.backend

    def put_sender(self, name: str, **changes: Any) -> None:
        """Let there be a Sender whose key works."""
        sender = known_to_work(a_sender(name, **changes), key_of(name))
        self.cache.senders.put(sender)
        self.kube.put(sender)
        self.kube.put_secret(f"{name}-key", "token", {"token": key_of(name).encode()})

    def finds(self, sender: str, *envelopes: str, status: EnvelopeStatus = EnvelopeStatus.COMPLETED) -> None:
        """Let eSAW list these envelopes for the key of a Sender."""
        self.finding.finds.setdefault(key_of(sender), {})[status] = list(envelopes)

    async def advance(self) -> ImportStatus:
        """Work on the Import until it has to wait."""
        await self.runner.advance(NAME)
        return self.status_now

    async def run_for(self, polls: int, runner: ImportRunner | None = None) -> None:
        """Let a process, by default a new one, read all Imports this number of times."""
        begun = self.clock.monotonic()
        task = asyncio.create_task((runner or self.new_runner()).run())
        for _ in range(1000):
            await asyncio.sleep(0)
            if self.clock.monotonic() >= begun + (polls - 0.5) * POLL_SECONDS:
                break
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def complete(self) -> ImportStatus:
        """Import, let all events succeed, and import again."""
        await self.advance()
        self.finish_all()
        return await self.advance()

    @property
    def status_now(self) -> ImportStatus:
        """The stored status."""
        return Import.parse(self.kube.objects[Import.PLURAL, NAME]).status

    def condition(self, type_: str) -> tuple[str, str]:
        """Status and reason of a condition."""
        found = find_condition(self.status_now.conditions, type_)
        assert found is not None
        return found.status, found.reason

    def message(self, type_: str) -> str:
        """Message of a condition."""
        found = find_condition(self.status_now.conditions, type_)
        assert found is not None
        return found.message

    def events(self) -> list[EnvelopeEvent]:
        """All events."""
        return [
            EnvelopeEvent.parse(raw)
            for (plural, _), raw in self.kube.objects.items()
            if plural == EnvelopeEvent.PLURAL
        ]

    def unfinished(self) -> list[EnvelopeEvent]:
        """The unfinished events."""
        return [each for each in self.events() if not each.status.phase.is_final]

    def wait_for_a_person(self, phase: Phase, reason: str) -> None:
        """Let each unfinished event wait with this reason."""
        for event in self.unfinished():
            self.kube.edit(EnvelopeEvent, event.name, {"status": {"phase": phase.value, "reason": reason}})

    def finish_all(self, phase: Phase = Phase.SUCCEEDED) -> None:
        """Let each unfinished event end in this phase."""
        status = {"phase": phase.value}
        if phase is Phase.SUCCEEDED:
            done = an_event().archived("a.pdf", "b.pdf").in_phase(phase).build()
            status = done.to_dict()["status"]
        for event in self.unfinished():
            self.kube.edit(EnvelopeEvent, event.name, {"status": status})
