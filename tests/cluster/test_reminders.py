"""
A lasting problem causes one reminder a day, and its end causes one mail.

The API server and the mail server are real. The notifier and the garbage collector are the controller's own.
They run in this process with the test's clock.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from controller.cache import Cache
from controller.mails.delivery import NotificationStatusWriter
from controller.mails.policy import NotificationTimings
from controller.mails.problem_tracking import FailureSummary
from controller.mails.smtp import SmtpMailer
from controller.resync.garbage_collector import GarbageCollector
from controller.resync.statistics import EventStatistics
from counterfoil.kube.client import KubeClient, connect
from counterfoil.metrics import Metrics
from counterfoil.resources import EnvelopeEvent, Organization, envelope_id
from counterfoil.resources.event_factory import new_event
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.environment.local import LocalEnvironment, local_environment
from sandbox.servers.smtp import ReceivedMail, SmtpServer
from tests.support.builders import AClock
from tests.support.scenes.notifications import a_notifier

ADMINISTRATOR = "admin@acme.example"
CONSOLE = "https://console.acme.example"
DAY = timedelta(days=1)


@dataclass
class Scene:
    """An organization, its mail server, and a notifier whose clock only the test advances."""

    local_environment: LocalEnvironment
    mail: SmtpServer
    kube: KubeClient
    clock: AClock = field(default_factory=AClock)

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begin like a new process, which has only the stored state."""
        self.cache = Cache()
        self.notifier = a_notifier(
            self.kube,
            self.cache,
            self.clock,
            SmtpMailer(),
            NotificationStatusWriter(self.kube, self.cache),
            metrics=Metrics(CollectorRegistry(), version="test"),
            timings=NotificationTimings(),
        )

    async def watch(self) -> None:
        """Hear of the organization as it is stored."""
        self.cache.update(Organization.parse(await self.kube.get(Organization, "acme")))

    async def fails(self, reason: str, number: int) -> str:
        """Let an event fail, as the driver does; return its name."""
        envelope = envelope_id(f"00000000-0000-4000-8000-{number:012d}")
        raw = await self.kube.create(
            EnvelopeEvent, new_event(organization="acme", envelope=envelope, action="envelopeFinished")
        )
        name: str = raw["metadata"]["name"]
        status = {"phase": "Failed", "reason": reason, "message": "No.", "completionTime": _text(self.clock)}
        after = await self.kube.patch_status(EnvelopeEvent, name, status, resource_version=None)
        self.notifier.event_failed(EnvelopeEvent.parse(after))
        return name

    async def waits_since(self, number: int, first: datetime) -> str:
        """Let an event wait for its sender's consent since its first callback; return its name."""
        envelope = envelope_id(f"00000000-0000-4000-9000-{number:012d}")
        raw = await self.kube.create(
            EnvelopeEvent, new_event(organization="acme", envelope=envelope, action="envelopeFinished")
        )
        name: str = raw["metadata"]["name"]
        called = first.isoformat().replace("+00:00", "Z")
        status = {"phase": "AwaitingConsent", "reason": "ConsentRequired", "firstDeliveryTime": called}
        await self.kube.patch_status(EnvelopeEvent, name, status, resource_version=None)
        return name

    async def succeeds(self, name: str) -> None:
        """Let an event have succeeded after all."""
        status = {"phase": "Succeeded", "reason": "ArchivedAndDeleted", "completionTime": _text(self.clock)}
        await self.kube.patch_status(EnvelopeEvent, name, status, resource_version=None)

    async def run_once(self, *, after: timedelta = timedelta(0)) -> list[ReceivedMail]:
        """Let time pass, let the notifier look, and return the mails that it sent."""
        self.clock.advance(seconds=after.total_seconds())
        known = len(self.mail.mails)
        await self.notifier.run_once()
        return self.mail.mails[known:]

    async def pass_finished(self) -> None:
        """Run one garbage-collection pass."""
        done = asyncio.Event()

        def pass_finished(began: datetime, summaries: Mapping[str, FailureSummary]) -> None:
            self.notifier.pass_finished(began, summaries)
            done.set()

        garbage_collector = GarbageCollector(
            kube=self.kube,
            cache=self.cache,
            clock=self.clock,
            machine_clock=self.clock,
            statistics=EventStatistics(),
            reopeners=(),
            pass_finished=pass_finished,
        )
        task = asyncio.create_task(garbage_collector.run())
        await done.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _text(clock: AClock) -> str:
    return clock.now().isoformat().replace("+00:00", "Z")


@pytest.fixture
async def scene(plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[Scene]:
    async with SmtpServer() as mail, local_environment(plane, tmp_path, namespace=namespace) as built:
        kubeconfig = await plane.kubeconfig_for("controller", namespace)
        settings = await built.mails(mail, ADMINISTRATOR, consoleURL=CONSOLE)
        await built.organization("acme", archive="folder", notifications=settings, retention="2160h")
        async with connect(namespace=namespace, kubeconfig=kubeconfig) as kube:
            made = Scene(built, mail, kube)
            await made.watch()
            yield made


async def test_what_is_still_open_is_reminded_of_once_a_day_in_one_mail(scene: Scene) -> None:
    await scene.fails("NameOccupied", 1)
    await scene.fails("SenderUnknown", 2)
    await scene.run_once()
    told = await scene.run_once(after=timedelta(minutes=1))
    assert {each.subject for each in told} == {
        "[acme] An event failed: NameOccupied",
        "[acme] An event failed: SenderUnknown",
    }
    assert await scene.run_once(after=DAY - timedelta(minutes=2)) == []

    (first,) = await scene.run_once(after=timedelta(minutes=3))
    again = await scene.run_once(after=timedelta(hours=23))
    (second,) = await scene.run_once(after=timedelta(hours=2))

    assert again == []
    for reminder in (first, second):
        assert reminder.to == (ADMINISTRATOR,)
        assert reminder.subject == "[acme] 2 problems are still open"
        assert "An event failed: NameOccupied" in reminder.text
        assert f"{CONSOLE}/attention?organization=acme#failed-acme-SenderUnknown" in reminder.text


async def test_a_restarted_controller_reminds_of_nothing_that_it_reminded_of_today(
    scene: Scene,
) -> None:
    await scene.fails("NameOccupied", 1)
    await scene.run_once()
    await scene.run_once(after=timedelta(minutes=1))
    assert len(await scene.run_once(after=DAY)) == 1

    scene.begin()
    await scene.watch()

    assert await scene.run_once(after=timedelta(hours=23)) == []
    (reminder,) = await scene.run_once(after=timedelta(hours=2))
    assert reminder.subject == "[acme] A problem is still open"


async def test_the_end_is_reported_once_and_nothing_is_reminded_of_after_it(scene: Scene) -> None:
    name = await scene.fails("NameOccupied", 1)
    await scene.run_once()
    (told,) = await scene.run_once(after=timedelta(minutes=1))
    assert len(await scene.run_once(after=DAY)) == 1

    await scene.succeeds(name)
    await scene.pass_finished()
    assert await scene.run_once() == []
    (solved,) = await scene.run_once(after=timedelta(minutes=2))
    later = [await scene.run_once(after=DAY) for _ in range(3)]

    assert solved.to == (ADMINISTRATOR,)
    assert solved.subject == f"Solved: {told.subject}"
    assert later == [[], [], []]
    raw = await scene.kube.get(Organization, "acme")
    assert raw["status"].get("problems", []) == []


async def test_what_esaw_deletes_soon_is_one_mail_for_all_its_events_and_no_mail_when_they_are_archived(
    scene: Scene,
) -> None:
    now = scene.clock.now()
    await scene.waits_since(1, now - 82 * DAY)
    await scene.pass_finished()
    assert await scene.run_once(after=timedelta(minutes=1)) == []

    # Eight days were left.
    scene.clock.advance(seconds=DAY.total_seconds())
    names = [await scene.waits_since(number, now - 85 * DAY) for number in (2, 3)]
    await scene.pass_finished()
    await scene.run_once()
    (told,) = await scene.run_once(after=timedelta(minutes=1))
    assert told.to == (ADMINISTRATOR,)
    # A subject of more than 78 characters begins on its second line.
    assert (
        told.subject.strip()
        == "[acme] 3 envelopes will soon be deleted in eSignAnyWhere and are not safely archived"
    )
    assert "kubectl counterfoil" in told.text
    assert f"{CONSOLE}/attention?organization=acme#retention-acme-RetentionEnding" in told.text
    for name in names:
        assert name in told.text

    await scene.waits_since(4, now - 88 * DAY)
    await scene.pass_finished()
    assert await scene.run_once(after=timedelta(minutes=1)) == []
    (problem,) = (await scene.kube.get(Organization, "acme"))["status"]["problems"]
    assert (problem["cause"], problem["count"]) == ("retention/RetentionEnding", 4)
    assert f"{now + 2 * DAY:%Y-%m-%d %H:%M} UTC" in problem["message"]

    listed = [each async for each in scene.kube.list(EnvelopeEvent)]
    for each in listed:
        await scene.succeeds(each["metadata"]["name"])
    await scene.pass_finished()
    assert [await scene.run_once(after=timedelta(minutes=2)) for _ in range(3)] == [[], [], []]
    assert (await scene.kube.get(Organization, "acme"))["status"].get("problems", []) == []
