"""
The pages as a process, against a real API server and the stand-in eSAW, driven by a browser without script.

First what has to work: consent once, tags, sending once, renewing a key, languages, several replicas.
"""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from lxml import etree

from counterfoil.resources import consented_sender_name
from sandbox.controlplane.plane import ControlPlane
from tests.cluster.pages_scene import FIELDS, Scene, pages_scene


@pytest.fixture
async def scene(plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[Scene]:
    async with pages_scene(plane, namespace, tmp_path) as built:
        yield built


async def test_the_first_send_asks_for_consent_and_the_second_asks_nothing(scene: Scene) -> None:
    scene.esaw.set_before_send_redirect(
        f"{scene.pages.public}/before-send/acme?draftId=##EnvelopeId##&userId=##SenderUserId##&organizationId=##OrganizationId##"
    )
    browser = await scene.sign_in()
    await browser.open(f"{scene.esaw.url}/Drafts/New")
    await browser.press("Create draft", name="Lease of Anna")

    await browser.press("NEXT")
    assert browser.page.buttons.count("Allow") == 1
    await browser.press("Allow")

    assert browser.page.url == f"{scene.esaw.url}/Documents"
    assert "Lease of Anna" in browser.page.text
    await browser.open(f"{scene.esaw.url}/Drafts/New")
    await browser.press("Create draft", name="Second")
    await browser.press("NEXT")
    assert browser.page.url == f"{scene.esaw.url}/Documents"
    assert len(await scene.envelopes()) == 2


async def test_sending_leaves_a_sender_with_a_sealed_key_and_an_envelope(scene: Scene) -> None:
    browser = await scene.sign_in()
    draft = scene.esaw.add_draft(owner=scene.anna)

    await browser.open(scene.link(draft))
    await browser.press("Allow")

    name = consented_sender_name("acme", scene.anna.user_id)
    sender = await scene.stage.read("sender", name)
    assert sender["spec"] | {"suspend": False} == {
        "organizationRef": {"name": "acme"},
        "userId": scene.anna.user_id,
        "email": "anna@example.com",
        "givenName": "Anna",
        "surname": "Kofler",
        "suspend": False,
    }
    assert sender["status"]["conditions"][0]["status"] == "True"
    assert sender["status"]["key"]["keyId"] == "first"
    assert sender["status"]["consentURL"] == f"{scene.pages.public}/consent/acme/{name}"
    secret = await scene.stage.read("secret", name)
    assert secret["type"] == "counterfoil.dev/sealed-token"
    assert secret["metadata"]["ownerReferences"][0]["uid"] == sender["metadata"]["uid"]
    token = await scene.token(sender)
    assert token not in str(await scene.stage.kubectl("get", "secret", name, "-o", "yaml"))
    assert token.encode() not in base64.b64decode(secret["data"]["token"])
    envelope = scene.esaw.envelope_of(draft)
    assert envelope is not None
    spec = (await scene.envelopes())[envelope]
    assert spec["senderRef"] == {"name": name}
    assert spec["draftId"] == draft


async def test_tags_are_asked_for_and_put_into_the_metadata_that_was_there(scene: Scene) -> None:
    await scene.organization(beforeSend={"fields": FIELDS})
    browser = await scene.sign_in()
    draft = scene.esaw.add_draft(owner=scene.anna, name="Lease <7>", metadata="<m><old>1</old></m>")
    await browser.open(scene.link(draft))
    await browser.press("Allow")
    assert "Lease <7>" in browser.page.text

    await browser.press("Send envelope", **{"tag.costCenter": "12"})
    assert browser.page.status == 422
    assert scene.esaw.envelope_of(draft) is None
    await browser.press("Send envelope", **{"tag.costCenter": "4711", "tag.kind": "Lease"})

    assert browser.page.url == f"{scene.esaw.url}/Documents"
    envelope = scene.esaw.envelope_of(draft)
    assert envelope is not None
    assert envelope in await scene.envelopes()
    metadata = etree.fromstring(await scene.metadata(envelope))
    assert {each.tag: each.text for each in metadata} == {"old": "1", "costCenter": "4711", "kind": "Lease"}
