"""The whole way: from Send through consent and tags into the archive, and on after a key has died."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from counterfoil.resources import consented_sender_name
from sandbox.controlplane.control_plane import ControlPlane
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
