"""
Mails as people get them: real processes, a real API server, a real mail server.
"""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sandbox.controlplane.control_plane import ControlPlane
from sandbox.environment.local import LocalEnvironment, local_environment
from sandbox.environment.processes import CounterfoilProcess
from sandbox.esaw import DocumentSpec, User
from sandbox.servers.smtp import PASSWORD, ReceivedMail, SmtpServer
from tests.support.pauses import eventually

ADMINISTRATOR = "admin@acme.example"
PATIENCE_SECONDS = 60.0


@dataclass
class Scene:
    """One organization, one sender who brought a key, and a mail server."""

    local_environment: LocalEnvironment
    mail: SmtpServer
    receiver: CounterfoilProcess
    anna: User

    async def organization(self, *, sender: str | None = "anna", **notifications: Any) -> None:
        """Create or change the organization."""
        settings = await self.local_environment.mails(self.mail, ADMINISTRATOR, **notifications)
        await self.local_environment.organization(
            "acme", archive="folder", sender=sender, notifications=settings
        )

    async def completed(self, number: int = 1) -> None:
        """Complete this number of envelopes, and wait for eSAW's callback about each."""
        for _ in range(number):
            envelope = self.local_environment.esaw.add_envelope(
                sender=self.anna, status="Active", documents=[DocumentSpec(name="contract.pdf", size=1000)]
            )
            await self.local_environment.esaw.complete(envelope)

    async def phases(self) -> dict[str, int]:
        """Number of events in each phase."""
        phases = [
            each.get("status", {}).get("phase", "Pending") for each in await self.local_environment.events()
        ]
        return {phase: phases.count(phase) for phase in phases}

    async def until_phases(self, **wanted: int) -> None:
        """Ask until the events are in just these phases."""
        seen: dict[str, int] = {}

        async def are() -> bool:
            nonlocal seen
            seen = await self.phases()
            return seen == wanted

        try:
            await eventually(are)
        except AssertionError:
            pytest.fail(f"the events never were {wanted}, but {seen}")

    async def notified(self) -> dict[str, Any]:
        """The organization's condition ``Notified``; empty before there is one."""
        status = (await self.local_environment.read("organization", "acme")).get("status", {})
        found: dict[str, Any] = next((c for c in status.get("conditions", []) if c["type"] == "Notified"), {})
        return found

    async def until_notified(self, truth: str) -> dict[str, Any]:
        """Wait until the condition ``Notified`` has this value."""

        async def is_so() -> bool:
            return (await self.notified()).get("status") == truth

        await eventually(is_so)
        return await self.notified()

    async def problems(self) -> dict[str, dict[str, Any]]:
        """The organization's problems by cause."""
        status = (await self.local_environment.read("organization", "acme")).get("status", {})
        return {each["cause"]: each for each in status.get("problems", [])}

    async def has_looked_again(self) -> None:
        """Wait until the notifier has looked at everything again, several times: it records and sends in that
        order."""
        await self.local_environment.organization(
            "canary", archive="folder", notifications=await self.local_environment.mails(self.mail)
        )

        async def is_recorded() -> bool:
            conditions = (
                (await self.local_environment.read("organization", "canary"))
                .get("status", {})
                .get("conditions", [])
            )
            return any(each["type"] == "Notified" for each in conditions)

        await eventually(is_recorded)


@pytest.fixture
async def mail() -> AsyncIterator[SmtpServer]:
    async with SmtpServer() as server:
        yield server


@asynccontextmanager
async def opened(plane: ControlPlane, namespace: str, folder: Path, mail: SmtpServer) -> AsyncIterator[Scene]:
    async with local_environment(plane, folder, namespace=namespace) as built:
        anna = built.esaw.add_user(email="anna@acme.example", given_name="Anna", surname="Kofler")
        (folder / "archive").mkdir()
        await built.archive("folder", filesystem={"root": str(folder / "archive")})
        settings = await built.mails(mail, ADMINISTRATOR)
        await built.organization("acme", archive="folder", sender="anna", notifications=settings)
        await built.record_sweep("acme")
        await built.sender("anna", anna, organization="acme")
        controller = await built.controller()
        await built.ready("archive/folder", "organization/acme")
        receiver = await built.receiver()
        built.esaw.set_default_callbacks(completed=built.callback_url("acme", receiver), status_change=None)
        assert controller.pid
        yield Scene(built, mail, receiver, anna)


@pytest.fixture
async def scene(
    plane: ControlPlane, namespace: str, tmp_path: Path, mail: SmtpServer
) -> AsyncIterator[Scene]:
    async with opened(plane, namespace, tmp_path, mail) as built:
        yield built


def controller_of(scene: Scene) -> CounterfoilProcess:
    return next(each for each in scene.local_environment.processes if each.name == "controller")


def secrets_of(scene: Scene) -> list[str]:
    return [scene.anna.token, PASSWORD, *scene.local_environment.tokens.values()]


def contains_no_secret(scene: Scene, mails: list[ReceivedMail]) -> bool:
    told = "".join(f"{each.raw!r}{each.text}{each.html}" for each in mails)
    return not any(secret in told for secret in secrets_of(scene))


async def test_a_revoked_key_with_ten_envelopes_is_one_mail_and_a_new_key_resumes_all(scene: Scene) -> None:
    await scene.completed()
    await scene.until_phases(Succeeded=1)
    scene.local_environment.esaw.revoke(scene.anna)
    await scene.completed(10)
    await scene.until_phases(Succeeded=1, AwaitingConsent=10)
    (mail,) = await scene.mail.arrived(1)
    assert mail.to == ("anna@acme.example",)
    assert "anna-key" in mail.text
    assert (mail.encrypted, mail.user) == (True, "counterfoil")

    async def all_counted() -> bool:
        status = (await scene.local_environment.read("sender", "anna"))["status"]
        return bool(status.get("waitingEvents") == 10)

    await eventually(all_counted)
    await scene.local_environment.secret(
        "anna-key", "token", token=scene.local_environment.esaw.new_token(scene.anna)
    )
    await scene.until_phases(Succeeded=11)
    await scene.has_looked_again()
    assert len(scene.mail.mails) == 1
    assert contains_no_secret(scene, scene.mail.mails)


async def test_a_killed_controller_does_not_write_again_about_what_was_reported(scene: Scene) -> None:
    scene.local_environment.esaw.revoke(scene.anna)
    await scene.completed(3)
    await scene.mail.arrived(1)

    async def is_marked() -> bool:
        return "notifiedTime" in (await scene.local_environment.read("sender", "anna"))["status"]

    await eventually(is_marked)
    controller = controller_of(scene)
    controller.kill()
    await controller.start()
    await scene.completed(3)
    await scene.until_phases(AwaitingConsent=6)
    await scene.has_looked_again()
    assert len(scene.mail.mails) == 1


async def test_a_controller_that_gets_sigterm_marks_the_mail_that_a_server_is_just_accepting(
    scene: Scene,
) -> None:
    taken = asyncio.Event()
    scene.mail.behaviour.answers = taken.wait
    scene.local_environment.esaw.revoke(scene.anna)
    await scene.completed()
    await scene.mail.arrived(1)
    controller = controller_of(scene)

    os.kill(controller.pid, signal.SIGTERM)

    async def has_begun_to_stop() -> bool:
        return "the controller stops" in controller.log.read_text()

    async def has_ended() -> bool:
        return controller.server.ended

    await eventually(has_begun_to_stop)
    taken.set()
    await eventually(has_ended)
    assert controller.server.exit_code == 0
    assert "notifiedTime" in (await scene.local_environment.read("sender", "anna"))["status"]


async def test_a_silent_sender_is_reported_to_the_administrators_once(scene: Scene) -> None:
    await scene.organization(escalateAfter="3s")
    scene.local_environment.esaw.revoke(scene.anna)
    await scene.completed()
    mails = await scene.mail.arrived(2)
    await scene.has_looked_again()
    assert [each.to for each in mails] == [("anna@acme.example",), (ADMINISTRATOR,)]
    assert "Anna Kofler Sender/anna" in mails[1].text


async def test_envelopes_of_an_unknown_sender_are_one_mail_that_says_how_to_add_one(scene: Scene) -> None:
    await scene.organization(sender=None)

    async def is_without_default() -> bool:
        return "defaultSenderRef" not in (await scene.local_environment.read("organization", "acme"))["spec"]

    await eventually(is_without_default)
    await scene.completed(5)
    await scene.until_phases(Failed=5)
    (mail,) = await scene.mail.arrived(1)
    assert mail.to == (ADMINISTRATOR,)
    assert "spec.defaultSenderRef" in mail.text

    async def all_counted() -> bool:
        return (await scene.problems()).get("failed/SenderUnknown", {}).get("count") == 5

    await eventually(all_counted)
    controller = controller_of(scene)
    controller.kill()
    await controller.start()
    await scene.completed(2)
    await scene.until_phases(Failed=7)
    await scene.has_looked_again()
    assert len(scene.mail.mails) == 1


async def test_failures_without_a_notification_are_found_by_a_controller_that_starts(scene: Scene) -> None:
    controller = controller_of(scene)
    await scene.local_environment.organization("acme", archive="folder", notifications={})
    await scene.local_environment.kubectl(
        "patch", "org", "acme", "--type=merge", "-p", json.dumps({"spec": {"defaultSenderRef": None}})
    )
    await scene.completed(4)
    await scene.until_phases(Failed=4)
    controller.kill()
    await scene.local_environment.kubectl(
        "patch", "org", "acme", "--subresource=status", "--type=merge", "-p", '{"status": {"problems": null}}'
    )
    await scene.organization(sender=None)
    await controller.start()
    (mail,) = await scene.mail.arrived(1)
    assert "4 events failed: SenderUnknown" in mail.subject


async def test_an_unreachable_mail_server_is_seen_and_delays_nothing(scene: Scene) -> None:
    await scene.until_notified("True")
    await scene.mail.stop()
    scene.local_environment.esaw.revoke(scene.anna)
    await scene.completed(2)
    told = await scene.until_notified("False")
    assert told["reason"] == "MailServerUnreachable"
    await scene.local_environment.secret(
        "anna-key", "token", token=scene.local_environment.esaw.new_token(scene.anna)
    )
    await scene.until_phases(Succeeded=2)
    scene.local_environment.esaw.revoke(scene.anna)
    await scene.completed()
    await scene.until_phases(Succeeded=2, AwaitingConsent=1)
    await scene.mail.start()
    await scene.until_notified("True")
    await scene.mail.arrived(1)
    await scene.has_looked_again()
    assert [each.to for each in scene.mail.mails] == [("anna@acme.example",)]


async def test_a_wrong_password_is_seen_before_there_is_a_mail_to_send(scene: Scene) -> None:
    await scene.until_notified("True")
    settings = await scene.local_environment.mails(scene.mail, ADMINISTRATOR, language="de")
    await scene.local_environment.secret("smtp", "smtp", **{**scene.mail.secret, "password": "wrong"})
    await scene.local_environment.organization(
        "acme", archive="folder", sender="anna", notifications=settings
    )
    told = await scene.until_notified("False")
    assert told["reason"] == "MailLoginRefused"


async def test_two_controllers_share_the_work_and_send_one_mail(
    plane: ControlPlane, namespace: str, tmp_path: Path, mail: SmtpServer
) -> None:
    async with opened(plane, namespace, tmp_path, mail) as scene:
        await controller_of(scene).stop()
        names = ("controller-0", "controller-1")
        settings = await scene.local_environment.assign_shards(*names)
        for name in names:
            await scene.local_environment.controller(name, kubeconfig=None, **settings)
        scene.local_environment.esaw.revoke(scene.anna)
        await scene.completed(10)
        await scene.until_phases(AwaitingConsent=10)
        await scene.mail.arrived(1)
        await scene.has_looked_again()
        assert len(scene.mail.mails) == 1
