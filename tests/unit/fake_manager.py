"""A manager over an API server in memory, whose driver does what a test says."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from controller.announce import Announcer
from controller.clerk import Clerk
from controller.doors import Doors
from controller.driver import Driver
from controller.keyring import Keyring
from controller.manager import Manager
from controller.notary import Notary
from controller.office import Office
from controller.organizations import Organizations
from controller.reaper import Reaper
from controller.reception import Reception
from controller.secrets import Secrets
from controller.sweep import Sweeper
from counterfoil.esaw.clients import Esaws
from counterfoil.metrics import Metrics
from counterfoil.resources import EnvelopeEvent, Phase, Resource
from tests.builders import AClock
from tests.unit.fake_cluster import ACluster
from tests.unit.fake_desk import AnExaminer
from tests.unit.test_organizations import AnEsaw, OneEsaw

Drive = Callable[[EnvelopeEvent], EnvelopeEvent]


@dataclass
class Record:
    """Which events were driven, in which order, and what comes of driving one."""

    driven: list[str] = field(default_factory=list)
    answer: Drive = field(default=lambda event: event)


@dataclass(frozen=True)
class ADriver(Driver):
    """Drives by the record."""

    record: Record = field(default_factory=Record)

    async def drive(self, event: EnvelopeEvent) -> EnvelopeEvent:
        self.record.driven.append(event.name)
        return self.record.answer(event)


class Scene:
    """One controller, ``shard`` of ``shards``."""

    def __init__(
        self,
        *resources: Resource,
        shard: int = 0,
        shards: int = 1,
        room: int = 100,
        esaws: Esaws | None = None,
    ) -> None:
        self.clock = AClock()
        self.cluster = ACluster(*resources)
        self.office = Office()
        self.esaw = AnEsaw()
        self.metrics = Metrics(CollectorRegistry(), version="test")
        secrets = Secrets(self.cluster, self.clock)
        esaws = esaws or OneEsaw(self.esaw)
        self.doors = Doors(self.cluster, secrets, self.clock, self.metrics)
        self.keyring = Keyring(self.cluster, secrets, self.clock)
        self.reaper = Reaper(cluster=self.cluster, office=self.office, clock=self.clock)
        self.announcer = Announcer(self.cluster, self.clock)
        self.clerk = Clerk(self.cluster)
        self.driver = ADriver(
            cluster=self.cluster,
            office=self.office,
            reception=Reception(
                cluster=self.cluster,
                office=self.office,
                keyring=self.keyring,
                doors=self.doors,
                esaws=esaws,
                clock=self.clock,
                notary=Notary(AnExaminer(), None),
            ),
            keyring=self.keyring,
            clerk=self.clerk,
            announcer=self.announcer,
            metrics=self.metrics,
            clock=self.clock,
            random=lambda: 1.0,
        )
        self.manager = Manager(
            cluster=self.cluster,
            office=self.office,
            driver=self.driver,
            doors=self.doors,
            keyring=self.keyring,
            organizations=Organizations(
                cluster=self.cluster,
                office=self.office,
                secrets=secrets,
                esaws=esaws,
                clock=self.clock,
                callback_url=None,
            ),
            esaws=esaws,
            sweeper=Sweeper(
                cluster=self.cluster,
                office=self.office,
                keyring=self.keyring,
                esaws=esaws,
                clock=self.clock,
            ),
            reaper=self.reaper,
            clock=self.clock,
            process_room=room,
            shard=shard,
            shards=shards,
        )

    def answers(self, drive: Drive) -> None:
        """Say what comes of driving an event."""
        self.driver.record.answer = drive

    @property
    def driven(self) -> list[str]:
        return self.driver.record.driven

    def see(self, *resources: Resource) -> None:
        """Let the watches tell."""
        tell = {
            "EnvelopeEvent": self.manager.event_seen,
            "Organization": self.manager.organization_seen,
            "Sender": self.manager.sender_seen,
            "Archive": self.manager.archive_seen,
        }
        for each in resources:
            tell[each.KIND]("MODIFIED", each.to_dict())

    def see_deleted(self, resource: Resource, *, version: int = 1000) -> None:
        """Let the watch tell that an object is gone."""
        raw = resource.to_dict()
        raw["metadata"]["resourceVersion"] = str(version)
        tell = {
            "EnvelopeEvent": self.manager.event_seen,
            "Organization": self.manager.organization_seen,
            "Sender": self.manager.sender_seen,
            "Archive": self.manager.archive_seen,
        }
        tell[resource.KIND]("DELETED", raw)

    @asynccontextmanager
    async def running(self, *more: Any) -> AsyncIterator[None]:
        """Let the schedule run, and whatever else."""
        tasks = [asyncio.create_task(each) for each in (self.manager.schedule.run(), *more)]
        try:
            await turns()
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def turns(count: int = 60) -> None:
    """Let everything run that can run."""
    for _ in range(count):
        await asyncio.sleep(0)


def moved(event: EnvelopeEvent, phase: Phase, reason: str | None = None, **status: Any) -> EnvelopeEvent:
    """Return the event as a write left it: one version later."""
    version = int(event.metadata.resource_version or 0) + 1
    return msgspec.structs.replace(
        event,
        metadata=msgspec.structs.replace(event.metadata, resource_version=str(version)),
        status=msgspec.structs.replace(event.status, phase=phase, reason=reason, **status),
    )
