"""
What lasts is reminded of once a day, and its end is told: a real API server and a real mail server, with the days in hand.

The notifier and the walk over all events are the controller's own, in this process, so that their clock is the test's.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from controller.notify.dispatch import Dispatch
from controller.notify.due import Patience
from controller.notify.ledger import Survey
from controller.notify.notes import Notes
from controller.notify.notifier import Notifier
from controller.notify.postman import SmtpPostman
from controller.office import Office
from controller.reaper import Reaper
from controller.secrets import Secrets
from counterfoil.cluster import Cluster, connect
from counterfoil.metrics import Metrics
from counterfoil.resources import EnvelopeEvent, Organization, Sender, envelope_id
from counterfoil.resources.noting import note
from sandbox.controlplane.plane import ControlPlane
from sandbox.mail import Mail, MailServer
from sandbox.stage import Stage, stage
from tests.builders import AClock

ADMINISTRATOR = "admin@acme.example"
CONSOLE = "https://console.acme.example"
DAY = timedelta(days=1)


@dataclass
class Scene:
    """An organization, its mail server, and a notifier whose clock does not go by itself."""

    stage: Stage
    mail: MailServer
    cluster: Cluster
    clock: AClock = field(default_factory=AClock)

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begin as a new process does, which knows nothing but what is stored."""
        self.office = Office()
        notes, patience = Notes(self.cluster, self.office, self._take), Patience()
        self.notifier = Notifier(
            office=self.office,
            notes=notes,
            dispatch=Dispatch(
                notes=notes,
                secrets=Secrets(self.cluster, self.clock),
                postman=SmtpPostman(),
                metrics=Metrics(CollectorRegistry(), version="test"),
                clock=self.clock,
                namespace=self.cluster.namespace,
                patience=patience,
            ),
            clock=self.clock,
            patience=patience,
            sends=True,
            sender_of=lambda event: "",
        )

    async def watch(self) -> None:
        """Hear of the organization as it is stored."""
        self._take(Organization.parse(await self.cluster.get(Organization, "acme")))

    def _take(self, resource: Organization | Sender) -> None:
        assert isinstance(resource, Organization)
        self.office.organizations.put(resource)

    async def fails(self, reason: str, number: int) -> str:
        """Let an event fail, as the driver does; return its name."""
        envelope = envelope_id(f"00000000-0000-4000-8000-{number:012d}")
        raw = await self.cluster.create(
            EnvelopeEvent, note(organization="acme", envelope=envelope, action="envelopeFinished")
        )
        name: str = raw["metadata"]["name"]
        status = {"phase": "Failed", "reason": reason, "message": "No.", "completedAt": _text(self.clock)}
        after = await self.cluster.patch_status(EnvelopeEvent, name, status, resource_version=None)
        self.notifier.failed(EnvelopeEvent.parse(after))
        return name

    async def succeeds(self, name: str) -> None:
        """Let an event have succeeded after all."""
        status = {"phase": "Succeeded", "reason": "ArchivedAndDeleted", "completedAt": _text(self.clock)}
        await self.cluster.patch_status(EnvelopeEvent, name, status, resource_version=None)

    async def look(self, *, after: timedelta = timedelta(0)) -> list[Mail]:
        """Let time pass, let the notifier look, and return the mails that it sent."""
        self.clock.advance(seconds=after.total_seconds())
        known = len(self.mail.mails)
        await self.notifier.look()
        return self.mail.mails[known:]

    async def walk(self) -> None:
        """Let one walk over all events be made."""
        reaper, done = Reaper(cluster=self.cluster, office=self.office, clock=self.clock), asyncio.Event()

        def walked(began: datetime, surveys: Mapping[str, Survey]) -> None:
            self.notifier.walked(began, surveys)
            done.set()

        reaper.walked = walked
        task = asyncio.create_task(reaper.run())
        await done.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _text(clock: AClock) -> str:
    return clock.now().isoformat().replace("+00:00", "Z")


@pytest.fixture
async def scene(plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[Scene]:
    async with MailServer() as mail, stage(plane, tmp_path, namespace=namespace) as built:
        kubeconfig = await plane.kubeconfig_for("controller", namespace)
        settings = await built.mails(mail, ADMINISTRATOR, consoleURL=CONSOLE)
        await built.organization("acme", archive="folder", notifications=settings)
        async with connect(namespace=namespace, kubeconfig=kubeconfig) as cluster:
            made = Scene(built, mail, cluster)
            await made.watch()
            yield made


async def test_what_is_still_open_is_reminded_of_once_a_day_in_one_mail(scene: Scene) -> None:
    await scene.fails("NameOccupied", 1)
    await scene.fails("SenderUnknown", 2)
    await scene.look()
    told = await scene.look(after=timedelta(minutes=1))
    assert {each.subject for each in told} == {
        "[acme] An event failed: NameOccupied",
        "[acme] An event failed: SenderUnknown",
    }
    assert await scene.look(after=DAY - timedelta(minutes=2)) == []

    (first,) = await scene.look(after=timedelta(minutes=3))
    again = await scene.look(after=timedelta(hours=23))
    (second,) = await scene.look(after=timedelta(hours=2))

    assert again == []
    for reminder in (first, second):
        assert reminder.to == (ADMINISTRATOR,)
        assert reminder.subject == "[acme] 2 problems are still open"
        assert "An event failed: NameOccupied" in reminder.text
        assert f"{CONSOLE}/attention?organization=acme#failed-acme-SenderUnknown" in reminder.text


async def test_a_controller_that_starts_anew_reminds_of_nothing_that_it_reminded_of_today(
    scene: Scene,
) -> None:
    await scene.fails("NameOccupied", 1)
    await scene.look()
    await scene.look(after=timedelta(minutes=1))
    assert len(await scene.look(after=DAY)) == 1

    scene.begin()
    await scene.watch()

    assert await scene.look(after=timedelta(hours=23)) == []
    (reminder,) = await scene.look(after=timedelta(hours=2))
    assert reminder.subject == "[acme] A problem is still open"


async def test_the_end_is_told_once_and_nothing_is_reminded_of_after_it(scene: Scene) -> None:
    name = await scene.fails("NameOccupied", 1)
    await scene.look()
    (told,) = await scene.look(after=timedelta(minutes=1))
    assert len(await scene.look(after=DAY)) == 1

    await scene.succeeds(name)
    await scene.walk()
    assert await scene.look() == []
    (solved,) = await scene.look(after=timedelta(minutes=2))
    later = [await scene.look(after=DAY) for _ in range(3)]

    assert solved.to == (ADMINISTRATOR,)
    assert solved.subject == f"Solved: {told.subject}"
    assert later == [[], [], []]
    raw = await scene.cluster.get(Organization, "acme")
    assert raw["status"].get("problems", []) == []
