"""
The advice about mails and about notices to a webhook is followed, and what waited is sent.

A real controller, real mail servers, and real receivers of notices.
"""

import base64
import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from counterfoil.kube.secret import Placeholder
from counterfoil.resources import EnvelopeEvent, NoticeState, Organization, Phase, find_condition
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.controlplane.ports import free_port
from sandbox.servers.smtp import PASSWORD, USERNAME, SmtpServer
from tests.support.advice import type_line
from tests.support.scenes.controller import ControllerScene, a_controller_scene
from tests.support.servers.scripted_esaw import Script, answering, running, server_tls

SIGNING_SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@pytest.fixture(scope="module")
async def scene(
    plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControllerScene]:
    async with a_controller_scene(plane, tmp_path_factory.mktemp("advice")) as built:
        yield built


async def patch(scene: ControllerScene, target: str, **changes: Any) -> None:
    await scene.local_environment.kubectl("patch", target, "--type=merge", "-p", json.dumps(changes))


# -- Mails ---------------------------------------------------------------------------------------------------

MAILS: dict[str, tuple[str, dict[str, str | None]]] = {
    "MailServerNotTrusted": ("starttls", {"ca.crt": None}),
    "MailServerLacksTls": ("none", {"tls": "starttls"}),
    "MailLoginRefused": ("starttls", {"password": "of last year"}),
    "MailSettingsInvalid": ("starttls", {"host": None}),
}
"""TLS of the server, and what is wrong in the Secret."""


@pytest.mark.parametrize("reason", MAILS)
async def test_the_secret_of_a_mail_server_is_corrected_and_the_mail_that_waited_is_sent(
    scene: ControllerScene, reason: str
) -> None:
    name, (tls, wrong) = reason.lower(), MAILS[reason]
    async with SmtpServer(tls=tls, login=tls != "none") as server:
        right = server.secret
        values = {key: value for key, value in {**right, **wrong}.items() if value is not None}
        await scene.local_environment.secret(f"{name}-smtp", "smtp", **values)
        notifications = {
            "smtpSecretRef": {"name": f"{name}-smtp"},
            "from": "counterfoil@acme.example",
            "administrators": ["admin@acme.example"],
        }
        user = await scene.organization(name, notifications=notifications)
        await scene.until_condition(Organization, name, "Notified", ("False", reason))
        envelope = scene.envelope(user)
        # Each try is refused: an event that failed before the first answer of eSAW is retried after it.
        scene.esaw.fault("envelope", id=envelope, status=400)
        await scene.reaches(await scene.note(envelope, name), Phase.FAILED, "EsawRefused")
        assert server.mails == []

        await patch(scene, f"secret/{name}-smtp", stringData=right)

        await scene.until_condition(Organization, name, "Notified", ("True", "MailServerAnswers"))
        (mail,) = await server.arrived(1, within=180.0)
        assert "EsawRefused" in mail.subject


COMMAND = re.compile(r"`(kubectl [^`]*)`")


async def typed(scene: ControllerScene, name: str, type_: str, values: dict[Placeholder, str]) -> None:
    """Type the commands in the message of a condition, with values for their placeholders."""
    found = Organization.parse(await scene.kube.get(Organization, name))
    condition = find_condition(found.status.conditions, type_)
    assert condition is not None
    commands = COMMAND.findall(condition.message)
    assert commands, condition.message
    for placeholder, value in values.items():
        commands = [each.replace(placeholder, value) for each in commands]
    for command in commands:
        await type_line(scene.local_environment.kubectl, command)


async def test_the_secret_of_a_mail_server_is_made_by_the_commands_in_the_message(
    scene: ControllerScene,
) -> None:
    async with SmtpServer(tls="implicit") as server:
        notifications = {"smtpSecretRef": {"name": "made-smtp"}, "from": "counterfoil@acme.example"}
        await scene.organization("made", notifications=notifications)
        await scene.until_condition(Organization, "made", "Notified", ("False", "MailSettingsInvalid"))
        values = {
            Placeholder.MAIL_HOST: "127.0.0.1",
            Placeholder.USERNAME: USERNAME,
            Placeholder.PASSWORD: PASSWORD,
        }
        await typed(scene, "made", "Notified", values)
        # The commands are for a server at the usual port whose authority is known.
        rest = {key: server.secret[key] for key in ("port", "tls", "ca.crt")}
        await patch(scene, "secret/made-smtp", stringData=rest)
        await scene.until_condition(Organization, "made", "Notified", ("True", "MailServerAnswers"))


# -- Notices -------------------------------------------------------------------------------------------------


def redirecting(location: str) -> Script:
    return answering(b"", 308, location=location)


async def notified(
    scene: ControllerScene, name: str, url: str, *, secret: str = SIGNING_SECRET
) -> EnvelopeEvent:
    """Let an event succeed whose notice goes to a URL; return the event."""
    await scene.local_environment.secret(f"{name}-hook", "webhook", secret=secret)
    webhook = {"url": url, "signingSecretRef": {"name": f"{name}-hook", "key": "secret"}}
    user = await scene.organization(name, webhook=webhook)
    return await scene.reaches(await scene.noted(name, user), Phase.SUCCEEDED)


async def is_tried(scene: ControllerScene, event: EnvelopeEvent, reason: str) -> None:
    """Wait until the notice of an event waits with a reason."""

    def waits(each: EnvelopeEvent) -> bool:
        notice = each.status.notice
        return notice is not None and notice.last_error is not None and notice.last_error.reason == reason

    await scene.is_so(event.name, waits)


async def is_delivered(scene: ControllerScene, event: EnvelopeEvent) -> None:
    await scene.is_so(
        event.name,
        lambda each: each.status.notice is not None and each.status.notice.state is NoticeState.DELIVERED,
    )


ADDRESSES: dict[str, Callable[[str], str]] = {
    "WebhookUnreachable": lambda _: f"http://127.0.0.1:{free_port()}/hook",
    "WebhookAddressForbidden": lambda _: "https://169.254.169.254/hook",
}


@pytest.mark.parametrize("reason", ADDRESSES)
async def test_the_address_of_the_webhook_is_corrected_and_the_notice_that_waited_is_delivered(
    scene: ControllerScene, reason: str
) -> None:
    name = reason.lower()
    async with running(answering(b"", 200)) as server:
        event = await notified(scene, name, ADDRESSES[reason](server.url))
        await is_tried(scene, event, reason)

        await patch(scene, f"org/{name}", spec={"webhook": {"url": f"{server.url}/hook"}})

        await is_delivered(scene, event)


async def test_the_final_address_is_put_into_the_webhook_and_the_notice_that_waited_is_delivered(
    scene: ControllerScene,
) -> None:
    async with running(answering(b"", 200)) as server, running(redirecting(f"{server.url}/hook")) as former:
        event = await notified(scene, "redirected", f"{former.url}/hook")
        await is_tried(scene, event, "WebhookRedirects")

        await patch(scene, "org/redirected", spec={"webhook": {"url": f"{server.url}/hook"}})

        await is_delivered(scene, event)


@pytest.mark.parametrize(("reason", "status"), [("WebhookRefused", 403), ("WebhookFailing", 500)])
async def test_a_receiver_that_is_right_again_gets_the_notice_that_waited(
    scene: ControllerScene, reason: str, status: int
) -> None:
    async with running(answering(b"", status)) as server:
        event = await notified(scene, reason.lower(), f"{server.url}/hook")
        await is_tried(scene, event, reason)
        server.scripts = [answering(b"", 200)]
        await is_delivered(scene, event)


async def test_a_signing_secret_of_the_form_that_the_reason_names_is_put_there_and_the_notice_is_delivered(
    scene: ControllerScene,
) -> None:
    async with running(answering(b"", 200)) as server:
        event = await notified(scene, "unsigned", f"{server.url}/hook", secret="a password")
        await is_tried(scene, event, "WebhookSecretInvalid")
        await patch(scene, "secret/unsigned-hook", stringData={"secret": SIGNING_SECRET})
        await is_delivered(scene, event)


async def test_the_authority_of_a_receiver_is_named_and_the_notice_that_waited_is_delivered(
    plane: ControlPlane, scene: ControllerScene, tmp_path: Path
) -> None:
    tls, _ = server_tls(tmp_path)
    async with running(answering(b"", 200), tls=tls) as server:
        event = await notified(scene, "distrusted", f"{server.url}/hook")
        await is_tried(scene, event, "WebhookTlsFailed")
        trusted = tmp_path / "trusted.pem"
        trusted.write_bytes(plane.authority.read_bytes() + (tmp_path / "server.pem").read_bytes())
        await scene.controller.stop()
        scene.controller.environment["SSL_CERT_FILE"] = str(trusted)
        await scene.controller.start()
        await is_delivered(scene, event)


async def test_the_signing_secret_is_made_by_the_commands_in_the_message(scene: ControllerScene) -> None:
    async with running(answering(b"", 200)) as server:
        event = await notified(scene, "unmade", f"{server.url}/hook")
        await is_delivered(scene, event)
        await scene.local_environment.kubectl("delete", "secret", "unmade-hook")
        await scene.until_condition(Organization, "unmade", "Ready", ("False", "WebhookSecretMissing"))
        user = scene.user("Unmade2")
        await scene.local_environment.sender("unmade2", user, organization="unmade")
        await patch(scene, "org/unmade", spec={"defaultSenderRef": {"name": "unmade2"}})
        later = await scene.reaches(await scene.noted("unmade", user), Phase.SUCCEEDED)
        await is_tried(scene, later, "WebhookSecretMissing")

        await typed(scene, "unmade", "Ready", {Placeholder.SIGNING_SECRET: SIGNING_SECRET})

        await is_delivered(scene, later)
