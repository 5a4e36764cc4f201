"""
The pages as a process, against a real API server and the stand-in eSAW, driven by a browser without script.

First what has to work: consent once, tags, sending once, renewing a key, languages, several replicas.
"""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from counterfoil.resources import consented_sender_name
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.esaw import Behaviour, Recipient
from tests.support.pauses import eventually
from tests.support.scenes.pages import ATTEMPT, FIELDS, Scene, a_tab, pages_scene


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

    assert browser.page.url == f"{scene.esaw.url}/Inbox/Index"
    assert "Lease of Anna" in browser.page.text
    await browser.open(f"{scene.esaw.url}/Drafts/New")
    await browser.press("Create draft", name="Second")
    await browser.press("NEXT")
    assert browser.page.url == f"{scene.esaw.url}/Inbox/Index"
    assert len(await scene.envelopes()) == 2


async def test_the_settings_adapt_to_a_token_endpoint_with_basic_and_without_pkce(scene: Scene) -> None:
    scene.esaw.set_behaviour(Behaviour(client_authentications=("Basic",), refuses_pkce=True))
    await scene.organization(oauth={"clientAuthentication": "Basic", "pkce": "Off"})
    await scene.consented()
    assert len(await scene.envelopes()) == 1


async def test_sending_leaves_a_sender_with_a_sealed_key_and_an_envelope(scene: Scene) -> None:
    browser = await scene.sign_in()
    draft = scene.esaw.add_draft(owner=scene.anna)

    await browser.open(scene.link(draft))
    await browser.press("Allow")

    name = consented_sender_name("acme", scene.anna.user_id)
    sender = await scene.local_environment.read("sender", name)
    assert sender["spec"] | {"suspend": False} == {
        "organizationRef": {"name": "acme"},
        "userID": scene.anna.user_id,
        "email": "anna@example.com",
        "givenName": "Anna",
        "surname": "Kofler",
        "suspend": False,
    }
    assert sender["status"]["conditions"][0]["status"] == "True"
    assert sender["status"]["key"]["keyID"] == "first"
    assert sender["status"]["consentURL"] == f"{scene.pages.public}/consent/acme/{name}"
    secret = await scene.local_environment.read("secret", name)
    assert secret["type"] == "counterfoil.dev/sealed-token"
    assert secret["metadata"]["ownerReferences"][0]["uid"] == sender["metadata"]["uid"]
    token = await scene.token(sender)
    assert token not in str(await scene.local_environment.kubectl("get", "secret", name, "-o", "yaml"))
    assert token.encode() not in base64.b64decode(secret["data"]["token"])
    envelope = scene.esaw.envelope_of(draft)
    assert envelope is not None
    spec = (await scene.envelopes())[envelope]
    assert spec["senderRef"] == {"name": name}
    assert spec["draftID"] == draft


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

    assert browser.page.url == f"{scene.esaw.url}/Inbox/Index"
    envelope = scene.esaw.envelope_of(draft)
    assert envelope is not None
    assert envelope in await scene.envelopes()
    metadata = etree.fromstring(await scene.metadata(envelope))
    assert {each.tag: each.text for each in metadata} == {"old": "1", "costCenter": "4711", "kind": "Lease"}


# Once


async def test_two_clicks_at_once_send_once_and_both_end_in_the_inbox(scene: Scene) -> None:
    await scene.organization(beforeSend={"fields": FIELDS})
    browser = await scene.sign_in()
    draft = scene.esaw.add_draft(owner=scene.anna)
    await browser.open(scene.link(draft))
    await browser.press("Allow")
    scene.esaw.fault("draft_send", delay=0.5)

    async with a_tab(scene, browser) as tab:
        form = {
            "form": browser.page.document.xpath("//input[@name='form']/@value")[0],
            "tag.costCenter": "4711",
        }
        answers = await asyncio.gather(*(tab.http.post(browser.page.url, data=form) for _ in range(5)))

    assert [each.status_code for each in answers] == [200] * 5
    assert all(f'content="0; url={scene.esaw.url}/Inbox/Index"' in each.text for each in answers)
    assert len(scene.esaw.sends(draft)) == 1
    assert len(await scene.envelopes()) == 1


async def test_two_tabs_and_two_replicas_send_once(scene: Scene) -> None:
    browser = await scene.consented()
    second = await scene.local_environment.pages("pages-2", attempt=ATTEMPT)
    draft = scene.esaw.add_draft(owner=scene.anna)
    scene.esaw.fault("draft_send", delay=0.5)

    async with a_tab(scene, browser) as one, a_tab(scene, browser) as two:
        ways = [await one.back(scene.link(draft)), await two.back(scene.link(draft))]
        # As a load balancer would do it: the way that began at the first replica ends at the second.
        there = str(ways[1]).replace(scene.pages.public, second.public)
        answers = await asyncio.gather(one.get(str(ways[0])), two.get(there))

    assert [each.headers.get("Location") for each in answers] == [f"{scene.esaw.url}/Inbox/Index"] * 2
    assert len(scene.esaw.sends(draft)) == 1


async def test_back_and_reload_after_sending_lead_to_the_inbox(scene: Scene) -> None:
    await scene.organization(beforeSend={"fields": FIELDS})
    browser = await scene.consented()
    draft = scene.esaw.add_draft(owner=scene.anna)
    await browser.open(scene.link(draft))
    form_url = browser.page.url
    send = browser.request_for("Send envelope", **{"tag.costCenter": "4711"})
    await browser.send(send)
    assert browser.page.url == f"{scene.esaw.url}/Inbox/Index"

    for again in (form_url, scene.link(draft)):
        await browser.open(again)
        assert browser.page.url == f"{scene.esaw.url}/Inbox/Index"
    await browser.send(send)

    assert browser.page.url == f"{scene.esaw.url}/Inbox/Index"
    assert len(scene.esaw.sends(draft)) == 1


async def test_a_person_who_corrects_the_form_of_a_draft_that_was_sent_reads_that_it_came_too_late(
    scene: Scene,
) -> None:
    await scene.organization(beforeSend={"fields": FIELDS})
    browser = await scene.consented()
    draft = scene.esaw.add_draft(owner=scene.anna)
    await browser.open(scene.link(draft))
    sent, corrected, faulty = (
        browser.request_for("Send envelope", **{"tag.costCenter": value}) for value in ("4711", "4712", "no")
    )
    await browser.send(sent)

    for late in (corrected, faulty):
        await browser.send(late)
        assert "The entries that you made now came too late" in browser.page.text
        assert browser.page.url != f"{scene.esaw.url}/Inbox/Index"
    assert len(scene.esaw.sends(draft)) == 1


async def test_a_form_shows_what_the_draft_has_already_and_survives_a_restart(scene: Scene) -> None:
    await scene.organization(beforeSend={"fields": FIELDS})
    browser = await scene.consented()
    draft = scene.esaw.add_draft(
        owner=scene.anna, metadata='{"costCenter": "1234", "kind": "Sale", "n": 1.50}'
    )
    await browser.open(scene.link(draft))
    scene.pages.kill()
    await scene.pages.start()

    await browser.press("Send envelope")

    envelope = scene.esaw.envelope_of(draft)
    assert envelope is not None
    assert await scene.metadata(envelope) == '{"costCenter":"1234","kind":"Sale","n":1.50}'


async def test_a_form_without_a_session_goes_through_esaw_and_comes_back(scene: Scene) -> None:
    await scene.organization(beforeSend={"fields": FIELDS})
    browser = await scene.consented()
    draft = scene.esaw.add_draft(owner=scene.anna)

    await browser.open(scene.link(draft).replace("/acme?", "/acme/tags?"))

    assert browser.page.buttons == ["Send envelope"]


async def test_metadata_that_can_not_be_extended_is_not_changed(scene: Scene) -> None:
    await scene.organization(beforeSend={"fields": FIELDS})
    browser = await scene.consented()
    draft = scene.esaw.add_draft(owner=scene.anna, metadata="just words")

    await browser.open(scene.link(draft))

    assert "name this page: metadata_unreadable" in browser.page.text
    assert scene.esaw.sends(draft) == []


# A bulk


async def test_a_bulk_of_a_thousand_leads_to_the_inbox_in_time_and_all_its_envelopes_follow(
    scene: Scene,
) -> None:
    browser = await scene.consented()
    people = [Recipient(email=f"kim-{number}@people.example") for number in range(1000)]
    draft = scene.esaw.add_draft(owner=scene.anna, bulk_recipients=people)
    scene.esaw.clear_requests()

    async with asyncio.timeout(60):
        await browser.open(scene.link(draft))

    assert browser.page.url == f"{scene.esaw.url}/Inbox/Index", browser.page.text
    children = set(scene.esaw.envelopes_of(draft))

    async def are_known() -> bool:
        return children <= (await scene.envelopes()).keys()

    await eventually(are_known, within=120)
    specs = await scene.envelopes()
    assert {specs[child]["draftID"] for child in children} == {draft}
    assert {specs[child]["senderRef"]["name"] for child in children} == {
        consented_sender_name("acme", scene.anna.user_id)
    }
    assert len({specs[child]["sentTime"] for child in children}) == 1
    assert len(scene.esaw.sends(draft)) == 1
    assert scene.esaw.requests("find") == scene.esaw.requests("envelope") == []
    assert "people.example" not in await scene.left_objects()
    await browser.open(scene.link(draft))
    assert browser.page.url == f"{scene.esaw.url}/Inbox/Index", "and going back sends nothing again"


async def test_the_result_of_a_bulk_whose_answer_is_lost_is_determined(scene: Scene) -> None:
    browser = await scene.consented()
    people = [Recipient(email=f"kim-{number}@people.example") for number in range(50)]
    draft = scene.esaw.add_draft(owner=scene.anna, bulk_recipients=people)
    scene.esaw.fault("draft_send", times=1, lacks="EnvelopeBulk")

    await browser.open(scene.link(draft))

    assert browser.page.url == f"{scene.esaw.url}/Inbox/Index", browser.page.text
    assert set(scene.esaw.envelopes_of(draft)) <= (await scene.envelopes()).keys()


# Errors between consent and Send


@pytest.mark.parametrize(
    "fault",
    [{"lose_answer": True}, {"garbage": "html"}, {"garbage": "empty"}, {"lacks": "Envelope"}],
    ids=str,
)
async def test_the_result_of_an_answer_that_is_lost_after_sending_is_determined(
    scene: Scene, fault: dict[str, Any]
) -> None:
    browser = await scene.consented()
    draft = scene.esaw.add_draft(owner=scene.anna)
    scene.esaw.fault("draft_send", times=1, **fault)

    await browser.open(scene.link(draft))

    assert browser.page.url == f"{scene.esaw.url}/Inbox/Index", browser.page.text
    assert len(scene.esaw.sends(draft)) == 1
    assert scene.esaw.envelope_of(draft) in await scene.envelopes()


async def test_a_draft_that_keeps_its_id_is_found_by_it(scene: Scene) -> None:
    browser = await scene.consented()
    scene.esaw.set_behaviour(Behaviour(draft_id_becomes_envelope_id=True))
    draft = scene.esaw.add_draft(owner=scene.anna)
    scene.esaw.fault("draft_send", times=1, lose_answer=True)

    await browser.open(scene.link(draft))

    assert (await scene.envelopes())[draft]["draftID"] == draft


async def test_when_esaw_does_not_send_it_can_be_tried_again_at_once(scene: Scene) -> None:
    browser = await scene.consented()
    draft = scene.esaw.add_draft(owner=scene.anna)
    scene.esaw.fault("draft_send", times=1, status=400)

    await browser.open(scene.link(draft))
    assert "ERR" in browser.page.text
    await browser.open(scene.link(draft))

    assert browser.page.url == f"{scene.esaw.url}/Inbox/Index"


async def test_when_the_result_is_unknown_the_page_says_to_wait_and_then_it_is_sent(scene: Scene) -> None:
    browser = await scene.consented()
    draft = scene.esaw.add_draft(owner=scene.anna)
    scene.esaw.fault("draft_send", times=1, status=500)

    await browser.open(scene.link(draft))
    assert "name this page: unknown_outcome" in browser.page.text
    await browser.follow("Try again")

    assert browser.page.url == f"{scene.esaw.url}/Inbox/Index", "after the first attempt had grown old"
    assert [each.outcome for each in scene.esaw.sends(draft)].count(200) == 1


async def test_an_esaw_that_is_slow_costs_an_attempt_and_never_a_second_envelope(scene: Scene) -> None:
    browser = await scene.consented()
    draft = scene.esaw.add_draft(owner=scene.anna)
    scene.esaw.fault("draft_send", times=1, delay=3.5)

    await browser.open(scene.link(draft))
    assert "name this page: unknown_outcome" in browser.page.text
    await browser.follow("Try again")

    assert browser.page.url == f"{scene.esaw.url}/Inbox/Index", browser.page.text
    assert [each.outcome for each in scene.esaw.sends(draft)].count(200) <= 1
    assert scene.esaw.envelope_of(draft) in await scene.envelopes()


# A new key


async def test_the_link_in_a_mail_renews_the_key_and_the_sender_reports_it(scene: Scene) -> None:
    browser = await scene.consented()
    name = consented_sender_name("acme", scene.anna.user_id)
    before = await scene.local_environment.read("sender", name)
    scene.esaw.withdraw_consent(scene.anna, scene.app.client_id)

    await browser.open(before["status"]["consentURL"])
    await browser.press("Allow")

    assert browser.page.url.endswith(f"/consent/acme/{name}/done")
    assert browser.page.title == "Thank you"
    after = await scene.local_environment.read("sender", name)
    assert after["status"]["key"]["fingerprint"] != before["status"]["key"]["fingerprint"]
    assert scene.esaw.requests("whoami")[-1].token_sha256 == after["status"]["key"]["fingerprint"]
    await browser.open(browser.page.url)
    assert browser.page.status == 200, "reloading it is harmless"


async def test_no_consent_is_asked_of_a_sender_with_an_own_key(scene: Scene) -> None:
    await scene.local_environment.sender("technical", scene.bruno, organization="acme")
    browser = await scene.sign_in(scene.bruno)

    await browser.open(f"{scene.pages.public}/consent/acme/technical")

    assert "name this page: brings_key" in browser.page.text


async def test_a_foreign_secret_of_that_name_is_not_overwritten(scene: Scene) -> None:
    name = consented_sender_name("acme", scene.anna.user_id)
    await scene.local_environment.secret(name, "token", other="thing")
    browser = await scene.sign_in()
    draft = scene.esaw.add_draft(owner=scene.anna)

    await browser.open(scene.link(draft))
    await browser.press("Allow")

    assert "name this page: not_configured" in browser.page.text
    assert set((await scene.local_environment.read("secret", name))["data"]) == {"other"}
    assert scene.esaw.sends(draft) == []


async def test_a_sender_who_got_another_name_is_followed(scene: Scene) -> None:
    await scene.consented()
    name = consented_sender_name("acme", scene.anna.user_id)
    await scene.local_environment.kubectl(
        "patch",
        "sender",
        name,
        "--type=merge",
        "-p",
        '{"spec":{"surname":"Maiden","email":"old@example.com"}}',
    )

    await scene.consented()

    spec = (await scene.local_environment.read("sender", name))["spec"]
    assert (spec["surname"], spec["email"]) == ("Kofler", "anna@example.com")


# People


@pytest.mark.parametrize(
    ("language", "title"), [("de-AT,de", "Diese Seite gibt"), ("it", "Questa pagina"), ("xx", "This page")]
)
async def test_pages_speak_the_browsers_language(scene: Scene, language: str, title: str) -> None:
    async with a_tab(scene) as tab:
        answer = await tab.get(f"{scene.pages.public}/nowhere", **{"Accept-Language": language})
    assert title in answer.text
    assert f'<html lang="{language[:2] if language != "xx" else "en"}">' in answer.text


async def test_an_organization_without_pages_is_shown_as_such(scene: Scene) -> None:
    await scene.local_environment.organization("plain", archive="folder")
    async with a_tab(scene) as tab:
        answer = await tab.get(
            scene.link(scene.esaw.add_draft(owner=scene.anna)).replace("/acme?", "/plain?")
        )
        assert answer.status_code == 503
        unknown = await tab.get(f"{scene.pages.public}/before-send/nobody?draftId=x")
        assert unknown.status_code == 404


async def test_the_process_ends_in_order_and_finishes_what_it_began(scene: Scene) -> None:
    browser = await scene.consented()
    draft = scene.esaw.add_draft(owner=scene.anna)
    scene.esaw.fault("draft_send", delay=1.0)
    async with a_tab(scene, browser) as tab:
        back = str(await tab.back(scene.link(draft)))
        going = asyncio.create_task(tab.get(back))
        await eventually(lambda: _is_sending(scene, draft))
        await scene.pages.stop()
        assert (await going).status_code == 303
    assert scene.pages.server.exit_code == 0
    assert scene.esaw.envelope_of(draft) in await scene.envelopes()


async def _is_sending(scene: Scene, draft: str) -> bool:
    return bool(scene.esaw.sends(draft))
