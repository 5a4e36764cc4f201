"""The whole way: from Send through consent and tags into the archive, and on after a key has died."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from counterfoil.resources import consented_sender_name
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.environment.processes import CounterfoilProcess
from sandbox.esaw import Recipient
from sandbox.esaw.browser import Browser
from tests.support.pauses import eventually
from tests.support.scenes.pages import FIELDS, Scene, pages_scene


@pytest.fixture
async def scene(plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[Scene]:
    async with pages_scene(plane, namespace, tmp_path) as built:
        root = tmp_path / "archive"
        root.mkdir()
        await built.local_environment.archive(
            "folder",
            filesystem={"root": str(root)},
            tags={"costCenter": {"xpath": "/tags/costCenter", "required": True}},
        )
        await built.organization(beforeSend={"fields": FIELDS})
        receiver = await built.local_environment.receiver()
        await built.local_environment.controller()
        await built.local_environment.ready("archive/folder", "organization/acme")
        built.esaw.set_default_callbacks(
            completed=built.local_environment.callback_url("acme", receiver), status_change=None
        )
        yield built


async def sends(
    scene: Scene, browser: Browser, cost_center: str = "4711", *, draft: str | None = None
) -> str:
    """Send one envelope, or a draft that is there, by the pages; the id of the (first) envelope."""
    draft = draft or scene.esaw.add_draft(owner=scene.anna)
    await browser.open(scene.link(draft))
    if "Allow" in browser.page.buttons:
        await browser.press("Allow")
    await browser.press("Send envelope", **{"tag.costCenter": cost_center})
    envelope = scene.esaw.envelope_of(draft)
    assert envelope is not None, browser.page.text
    return envelope


async def phases(scene: Scene) -> list[str]:
    return sorted(
        each.get("status", {}).get("phase", "Pending") for each in await scene.local_environment.events()
    )


async def test_what_was_sent_with_consent_and_tags_is_archived_with_them_and_deleted(scene: Scene) -> None:
    envelope = await sends(scene, await scene.sign_in())
    await scene.esaw.complete(envelope)

    async def is_done() -> bool:
        return await phases(scene) == ["Succeeded"]

    await eventually(is_done)

    assert not scene.esaw.exists(envelope)
    manifest = json.loads(
        next((scene.local_environment.folder / "archive").rglob("counterfoil.json")).read_text()
    )
    assert "4711" in json.dumps(manifest)


async def test_each_envelope_of_a_bulk_is_archived_by_the_key_of_its_sender(scene: Scene) -> None:
    browser = await scene.sign_in()
    people = [Recipient(email=f"kim-{number}@people.example") for number in range(4)]
    draft = scene.esaw.add_draft(owner=scene.anna, bulk_recipients=people)
    await sends(scene, browser, draft=draft)

    for envelope in scene.esaw.envelopes_of(draft):
        await scene.esaw.complete(envelope)

    async def are_done() -> bool:
        return await phases(scene) == ["Succeeded"] * 4

    await eventually(are_done)
    assert not any(map(scene.esaw.exists, scene.esaw.envelopes_of(draft)))


async def test_a_new_consent_resumes_everything_that_waited_for_it(scene: Scene) -> None:
    browser = await scene.sign_in()
    envelopes = [await sends(scene, browser) for _ in range(5)]
    scene.esaw.withdraw_consent(scene.anna, scene.app.client_id)
    for envelope in envelopes:
        await scene.esaw.complete(envelope)
    name = consented_sender_name("acme", scene.anna.user_id)

    async def all_wait() -> bool:
        return await phases(scene) == ["AwaitingConsent"] * 5

    await eventually(all_wait)
    sender = await scene.local_environment.read("sender", name)
    assert sender["status"]["conditions"][0]["status"] == "False"

    await browser.open(sender["status"]["consentURL"])
    await browser.press("Allow")
    assert browser.page.title == "Thank you"

    async def all_done() -> bool:
        return await phases(scene) == ["Succeeded"] * 5

    await eventually(all_done)
    after = await scene.local_environment.read("sender", name)
    assert after["status"]["conditions"][0]["status"] == "True"


# -- The advice about a key from a consent is followed -------------------------------------------------------


def controller_of(scene: Scene) -> CounterfoilProcess:
    return next(each for each in scene.local_environment.processes if each.name == "controller")


async def until_waiting(scene: Scene, reason: str) -> None:
    """Wait until the only event waits for a key, for this reason."""

    async def is_so() -> bool:
        (event,) = await scene.local_environment.events() or [{}]
        return bool(event.get("status", {}).get("reason") == reason)

    await eventually(is_so)


async def until_archived(scene: Scene) -> None:
    async def is_so() -> bool:
        return await phases(scene) == ["Succeeded"]

    await eventually(is_so)


async def test_a_sender_who_never_consented_opens_the_link_and_what_waited_is_archived(scene: Scene) -> None:
    name = consented_sender_name("acme", scene.anna.user_id)
    spec = {"organizationRef": {"name": "acme"}, "userID": scene.anna.user_id}
    sender = {"apiVersion": "counterfoil.dev/v1beta1", "kind": "Sender", "metadata": {"name": name}}
    await scene.local_environment.apply({**sender, "spec": spec})
    await scene.local_environment.kubectl(
        "patch",
        "org",
        "acme",
        "--type=merge",
        "-p",
        json.dumps({"spec": {"defaultSenderRef": {"name": name}}}),
    )
    envelope = scene.esaw.add_envelope(
        sender=scene.anna, status="Active", metadata="<tags><costCenter>4711</costCenter></tags>"
    )
    await scene.esaw.complete(envelope)
    await until_waiting(scene, "ConsentRequired")

    browser = await scene.sign_in()
    await browser.open((await scene.local_environment.read("sender", name))["status"]["consentURL"])
    await browser.press("Allow")

    await until_archived(scene)


async def test_a_sender_whose_sealed_key_was_changed_consents_again_and_what_waited_is_archived(
    scene: Scene,
) -> None:
    browser, controller = await scene.sign_in(), controller_of(scene)
    envelope = await sends(scene, browser)
    name = consented_sender_name("acme", scene.anna.user_id)
    await controller.stop()
    sealed = base64.b64decode((await scene.local_environment.read("secret", name))["data"]["token"])
    changed = base64.b64encode(sealed[:-1] + bytes([sealed[-1] ^ 1])).decode()
    patch = json.dumps({"data": {"token": changed}})
    await scene.local_environment.kubectl("patch", "secret", name, "--type=merge", "-p", patch)
    await controller.start()
    await scene.esaw.complete(envelope)
    await until_waiting(scene, "SealBroken")

    await browser.open((await scene.local_environment.read("sender", name))["status"]["consentURL"])
    assert browser.page.title == "Thank you"

    await until_archived(scene)


async def test_a_controller_gets_the_sealing_keys_of_the_pages_and_what_waited_is_archived(
    scene: Scene,
) -> None:
    envelope, controller = await sends(scene, await scene.sign_in()), controller_of(scene)
    folder = controller.environment["COUNTERFOIL_SEALING_KEYS"]
    await controller.stop()
    controller.environment["COUNTERFOIL_SEALING_KEYS"] = ""
    await controller.start()
    await scene.esaw.complete(envelope)
    await until_waiting(scene, "SealingKeysMissing")

    await controller.stop()
    controller.environment["COUNTERFOIL_SEALING_KEYS"] = folder
    await controller.start()

    await until_archived(scene)
