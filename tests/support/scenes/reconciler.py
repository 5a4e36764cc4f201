"""One event and a reconciler, with an archive on the disk."""

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

from controller.reconcile.preconditions import Preconditions
from controller.reconcile.reconciler import Reconciler
from counterfoil.esaw import ApiToken, EsawUserClient
from counterfoil.kube.status import StatusWriter
from counterfoil.resources import (
    SENDER_LABEL,
    Archive,
    EnvelopeEvent,
    Organization,
    Sender,
)
from tests.support.builders import (
    EventBuilder,
    a_sender,
    an_event,
    an_organization,
    known_to_work,
)
from tests.support.fakes.esaw import FakeEsawClient, FakeEsawClients
from tests.support.fakes.reconcile_context import (
    FakeEsawUserClient,
    a_probed_archive,
)
from tests.support.scenes.controller_parts import ControllerParts
from tests.support.scenes.waiting_events import turns


class EsawOfOne(FakeEsawClient):
    """An eSAW with one envelope."""

    def __init__(self, envelope: FakeEsawUserClient) -> None:
        super().__init__()
        self._envelope = envelope

    def as_user(self, token: ApiToken) -> EsawUserClient:
        return self._envelope


class ReconcilerScene(ControllerParts):
    """An event, and all that the driver needs, with a real archive on the disk."""

    def __init__(
        self,
        folder: Path,
        builder: EventBuilder | None = None,
        *,
        noted: str = "anna",
        esaw: FakeEsawClient | None = None,
        **spec: Any,
    ) -> None:
        self.envelope = FakeEsawUserClient()
        super().__init__(esaw_clients=FakeEsawClients(esaw or EsawOfOne(self.envelope)))
        self.status_writer = StatusWriter(self.kube, sleep=self.clock.sleep)
        self.root = folder
        builder = builder or an_event()
        self.event = (builder.labelled(SENDER_LABEL, noted) if noted else builder).build()
        self.organization = an_organization(**spec)
        for each in (self.organization, known_to_work(a_sender()), a_probed_archive(root=folder)):
            self.observe(each)
        self.kube.put(self.event)
        self.put_key()
        self.reconciler = Reconciler(**self.reconciler_parts())
        self.cache.add_handler(EnvelopeEvent, self.reconciler.event_changed)

    def restarted(self) -> None:
        """Let another process reconcile from now on."""
        self.change_archives(archive_pool=self.new_archive_pool())
        self.reconciler = dataclasses.replace(self.reconciler, _own_versions={})
        self.cache.add_handler(EnvelopeEvent, self.reconciler.event_changed)

    @property
    def preconditions(self) -> Preconditions:
        return self.reconciler.phase_runner.preconditions

    def change_preconditions(self, **fields: Any) -> None:
        """Let the reconciler admit events by preconditions with other parts."""
        preconditions = dataclasses.replace(self.preconditions, **fields)
        runner = dataclasses.replace(self.reconciler.phase_runner, preconditions=preconditions)
        self.reconciler = dataclasses.replace(self.reconciler, phase_runner=runner)

    def change_archives(self, **fields: Any) -> None:
        """Let the reconciler find Archives with other parts."""
        self.change_preconditions(archives=dataclasses.replace(self.preconditions.archives, **fields))

    def observe(self, resource: Organization | Sender | Archive) -> None:
        """Store an object as a person changed it, and let the watch report it."""
        self.kube.put(resource)
        self.cache.update(resource)

    def newest(self) -> EnvelopeEvent:
        return self.kube.stored(self.event.name)

    async def reconcile(self, times: int = 1) -> EnvelopeEvent:
        for _ in range(times):
            await self.reconciler.reconcile(self.newest())
        return self.newest()

    async def recorded(self) -> list[tuple[str, str]]:
        """Type and reason of the Kubernetes Events that were posted."""
        posting = asyncio.create_task(self.event_recorder.run())
        await turns()
        posting.cancel()
        return [(each["type"], each["reason"]) for each in self.kube.announced]

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"counterfoil_{name}", labels)
