"""
Notices to the webhook as a receiver gets them: real processes, a real API server, a real HTTP receiver.
"""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sandbox.controlplane.control_plane import ControlPlane
from sandbox.environment.local import LocalEnvironment, local_environment
from sandbox.environment.processes import CounterfoilProcess
from sandbox.esaw import DocumentSpec, User
from tests.support.pauses import eventually
from tests.support.servers.scripted_esaw import Received, Script, ScriptedServer, answering, running, silence

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
PATIENCE_SECONDS = 60.0


@dataclass
class Scene:
    """One organization with a webhook, and its controller."""

    local_environment: LocalEnvironment
    controller: CounterfoilProcess
    anna: User

    async def organization(self, url: str | None, **spec: Any) -> None:
        """Create or change the organization."""
        ref = {"name": "hook", "key": "secret"}
        webhook = {} if url is None else {"webhook": {"url": f"{url}/hook?code=1", "signingSecretRef": ref}}
        settings = {"cleanup": {"policy": "Keep"}, **webhook, **spec}
        await self.local_environment.organization("acme", archive="folder", sender="anna", **settings)

    async def seen(self) -> None:
        """Wait until the controller knows the organization as it is."""

        async def is_observed() -> bool:
            found = await self.local_environment.read("organization", "acme")
            generation: int = found["metadata"]["generation"]
            return bool(found.get("status", {}).get("observedGeneration") == generation)

        await eventually(is_observed)

    async def completed(self) -> str:
        """Complete an envelope, about which eSAW calls; return its id."""
        await self.seen()
        envelope = self.local_environment.esaw.add_envelope(
            sender=self.anna, status="Active", documents=[DocumentSpec(name="contract.pdf", size=1000)]
        )
        await self.local_environment.esaw.complete(envelope)
        return str(envelope)

    async def event(self) -> dict[str, Any]:
        """The only event."""
        found = await self.local_environment.events()
        return found[0] if found else {}

    async def until_event(self, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait for a status of the only event."""
        status: dict[str, Any] = {}

        async def reached() -> bool:
            status.clear()
            status.update((await self.event()).get("status", {}))
            return is_so(status)

        try:
            await eventually(reached)
        except AssertionError:
            pytest.fail(f"the event never came to that: {json.dumps(status)[:2000]}")
        return status

    async def until_notice(self, state: str) -> dict[str, Any]:
        """Wait for a state of the notice."""
        return await self.until_event(lambda status: status.get("notice", {}).get("state") == state)


@pytest.fixture
async def scene(plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[Scene]:
    async with local_environment(plane, tmp_path, namespace=namespace) as built:
        anna = built.esaw.add_user(email="anna@acme.example", given_name="Anna", surname="Kofler")
        (tmp_path / "archive").mkdir()
        await built.archive("folder", filesystem={"root": str(tmp_path / "archive")})
        await built.secret("hook", "webhook", secret=SECRET)
        await built.sender("anna", anna, organization="acme")
        made = Scene(built, await built.controller(), anna)
        await made.organization(None)
        await built.ready("archive/folder", "organization/acme")
        receiver = await built.receiver()
        built.esaw.set_default_callbacks(completed=built.callback_url("acme", receiver), status_change=None)
        yield made


def is_signed(request: Received) -> bool:
    """Verify as a receiver does."""
    signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode()
    digest = base64.b64encode(hmac.new(KEY, signed + request.body, hashlib.sha256).digest()).decode()
    return request.headers["webhook-signature"] == f"v1,{digest}"


async def until_received(server: ScriptedServer, count: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(server.received) < count:  # noqa: ASYNC110 - another process sends
            await asyncio.sleep(0.05)


async def test_an_archived_envelope_is_reported_once(scene: Scene) -> None:
    async with running(answering(b"", 500), answering(b"", 200)) as server:
        await scene.organization(server.url)
        envelope = await scene.completed()
        status = await scene.until_notice("Delivered")
        await asyncio.sleep(1)
    assert status["phase"] == "Succeeded"
    assert status["notice"]["attempts"] == 2
    assert len(server.received) == 2
    assert all(map(is_signed, server.received))
    assert len({each.headers["webhook-id"] for each in server.received}) == 1
    assert server.received[0].target == "/hook?code=1"
    body = json.loads(server.received[1].body)
    assert body["type"] == "dev.counterfoil.envelope.archived"
    assert body["subject"] == body["data"]["envelope"]["id"] == envelope
    assert body["id"] == status["notice"]["id"]
    assert body["data"]["manifest"].endswith("counterfoil.json")
    assert {each["kind"] for each in body["data"]["documents"]} >= {"Document", "AuditTrail"}
    assert "anna@acme.example" not in server.received[1].body.decode()


async def test_a_failed_event_is_reported_and_its_retry_again_with_another_id(scene: Scene) -> None:
    async with running(answering(b"", 200)) as server:
        await scene.organization(server.url, retry={"initial": "100ms", "max": "100ms", "deadline": "1s"})
        scene.local_environment.esaw.fault("files", status=500)
        await scene.completed()
        status = await scene.until_notice("Delivered")
        assert status["phase"] == "Failed"
        scene.local_environment.esaw.clear_faults()
        name = (await scene.event())["metadata"]["name"]
        await scene.local_environment.kubectl("label", "ee", name, "counterfoil.dev/request=retry")
        await until_received(server, 2)
        status = await scene.until_event(
            lambda status: status.get("phase") == "Succeeded" and status["notice"]["state"] == "Delivered"
        )
    first, second = (json.loads(each.body) for each in server.received)
    assert first["type"] == "dev.counterfoil.envelope.failed"
    assert second["type"] == "dev.counterfoil.envelope.archived"
    assert first["id"] != second["id"] == status["notice"]["id"]


async def test_a_killed_controller_reports_after_its_restart(scene: Scene) -> None:
    async with running(silence) as hanging:
        await scene.organization(hanging.url)
        await scene.completed()
        await until_received(hanging, 1)
        status = await scene.until_notice("Pending")
        assert status["phase"] == "Succeeded", "the event does not wait for the receiver"
        # Between the final status and the answer.
        scene.controller.kill()
    async with running(answering(b"", 204)) as server:
        await scene.organization(server.url)
        scene.controller = await scene.local_environment.controller()
        status = await scene.until_notice("Delivered")
    assert [each.headers["webhook-id"] for each in server.received] == [status["notice"]["id"]]
    assert hanging.received[0].headers["webhook-id"] == status["notice"]["id"]
    assert hanging.received[0].body == server.received[0].body


async def test_a_controller_killed_as_it_gives_a_notice_up_reports_it_after_its_restart(scene: Scene) -> None:
    async with running(answering(b"", 410)) as server:
        await scene.organization(server.url)
        await scene.completed()
        await scene.until_notice("Failed")
        # Most likely before the problem is in the status of the organization, which is the other write.
        scene.controller.kill()
        scene.controller = await scene.local_environment.controller()
        problems: list[Any] = []
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not problems:
                await asyncio.sleep(0.1)
                organization = await scene.local_environment.read("organization", "acme")
                problems = organization["status"].get("problems", [])
    assert [(each["cause"], each["count"]) for each in problems] == [("webhook/WebhookGone", 1)]
    assert len(server.received) == 1


@pytest.mark.parametrize("script", [silence, answering(b"", 500)], ids=["hanging", "failing"])
async def test_a_bad_receiver_is_in_the_way_of_no_event(scene: Scene, script: Script) -> None:
    async with running(script) as server:
        await scene.organization(server.url)
        for _ in range(8):
            await scene.completed()
        phases: list[str] = []
        async with asyncio.timeout(PATIENCE_SECONDS):
            while phases != ["Succeeded"] * 8:
                await asyncio.sleep(0.2)
                events = await scene.local_environment.events()
                phases = [each.get("status", {}).get("phase", "") for each in events]


async def test_without_a_secret_the_organization_is_not_ready_and_everything_is_reported(
    scene: Scene,
) -> None:
    async with running(answering(b"", 200)) as server:
        await scene.local_environment.kubectl("delete", "secret", "hook")
        await scene.organization(server.url, retry={"initial": "10s", "max": "1h", "deadline": "24h"})
        await scene.completed()
        status = await scene.until_event(lambda status: "lastError" in status.get("notice", {}))
        assert status["phase"] == "Succeeded"
        assert status["notice"]["lastError"]["reason"] == "WebhookSecretMissing"
        async with asyncio.timeout(PATIENCE_SECONDS):
            reason = ""
            while reason != "WebhookSecretMissing":
                await asyncio.sleep(0.2)
                reason = await ready_reason(scene)
        assert server.received == []
        await scene.local_environment.secret("hook", "webhook", secret=SECRET)
        await scene.until_notice("Delivered")
    assert is_signed(server.received[0])


async def test_a_notice_that_was_given_up_is_sent_again_on_request(scene: Scene) -> None:
    async with running(answering(b"", 410), answering(b"", 200)) as server:
        await scene.organization(server.url)
        await scene.completed()
        given_up = await scene.until_notice("Failed")
        assert given_up["notice"]["lastError"]["reason"] == "WebhookGone"
        failed = ["--field-selector", "status.notice.state=Failed"]
        await scene.local_environment.kubectl("label", "ee", *failed, "counterfoil.dev/request=retry")
        status = await scene.until_notice("Delivered")
    assert status["notice"]["id"] == given_up["notice"]["id"]
    assert status["completionTime"] == given_up["completionTime"], "the event itself was not run again"


async def test_without_a_webhook_there_is_no_notice(scene: Scene) -> None:
    await scene.completed()
    status = await scene.until_event(lambda status: status.get("phase") == "Succeeded")
    assert "notice" not in status


async def ready_reason(scene: Scene) -> str:
    status = (await scene.local_environment.read("organization", "acme")).get("status", {})
    return next((str(c["reason"]) for c in status.get("conditions", []) if c["type"] == "Ready"), "")
