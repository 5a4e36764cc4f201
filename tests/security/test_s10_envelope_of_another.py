"""
S10: an Envelope of another organization, or of another sender, names who sent an envelope.

Pages write Envelopes; the controller reads them. The API server is in memory, eSAW is the stand-in.
"""

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controller.reconcile.outcomes import Fail
from counterfoil.esaw import new_http_client
from counterfoil.resources import LISTED_BY_LABEL, Envelope, Phase, Sender
from counterfoil.resources.envelopeevent import Origin
from sandbox.esaw import StandIn, User
from tests.support.builders import ENVELOPE, KEY, AClock, a_sender, an_event, known_to_work
from tests.support.fakes.reconcile_context import missing
from tests.support.scenes.preconditions import PreconditionsScene as ControllerScene
from tests.support.scenes.reconciler import ReconcilerScene
from tests.support.scenes.send_page import SendScene as PagesScene
from tests.support.servers.standin_peers import bruno


@pytest.fixture(name="pages")
async def _pages() -> AsyncIterator[PagesScene]:
    clock = AClock()
    async with StandIn(now=clock.now) as esaw, new_http_client() as http:
        yield PagesScene(esaw, clock, http)


async def claimed(pages: PagesScene, envelope: str) -> bool:
    """Let Anna open the page with an envelope's id in place of a draft's, after an attempt that broke off."""
    lease = await pages.leases.acquire("acme", "anna", envelope)
    assert lease is not None
    return await pages.draft_sender().complete(pages.job(envelope), lease)


def colleague(pages: PagesScene) -> User:
    pages.anna = pages.esaw.add_user(email="mallory@example.com", given_name="M", surname="K", team="sales")
    pages.sender = a_sender(email="mallory@example.com", tokenSecretRef=None)
    return bruno(pages.esaw, team="sales")


async def test_a_user_does_not_claim_the_envelope_of_a_colleague_that_the_user_may_read(
    pages: PagesScene, caplog: pytest.LogCaptureFixture
) -> None:
    envelope = pages.esaw.add_envelope(sender=colleague(pages), share_with_team=True)
    assert await pages.job(envelope).user.envelope(envelope), "the attacker may read it"
    with caplog.at_level(logging.WARNING):
        assert not await claimed(pages, envelope)
    assert pages.envelopes() == {}
    assert "the id of an envelope of another sender" in caplog.text


async def test_an_envelope_whose_sender_esaw_does_not_name_is_claimed_by_nobody(pages: PagesScene) -> None:
    colleague(pages)
    nameless = pages.esaw.add_user(email="", given_name="N", surname="N", team="sales")
    envelope = pages.esaw.add_envelope(sender=nameless, share_with_team=True)
    assert await pages.job(envelope).user.envelope(envelope), "the attacker may read it"
    assert not await claimed(pages, envelope)
    assert pages.envelopes() == {}


async def test_a_user_whose_address_changed_still_records_an_own_envelope(pages: PagesScene) -> None:
    pages.sender = a_sender(email="maiden.name@example.com", tokenSecretRef=None)
    envelope = pages.esaw.add_envelope(sender=pages.anna)
    assert await claimed(pages, envelope)
    assert pages.envelopes()[envelope]["senderRef"] == {"name": "anna"}


@pytest.mark.parametrize(("organization", "sender"), [("other", "anna"), ("acme", "ben")])
async def test_an_envelope_that_another_claimed_first_is_reported(
    pages: PagesScene, caplog: pytest.LogCaptureFixture, organization: str, sender: str
) -> None:
    envelope = pages.esaw.add_envelope(sender=pages.anna)
    pages.kube.put(an_envelope(envelope, organization=organization, sender=sender))
    assert await claimed(pages, envelope)
    assert pages.envelopes()[envelope]["senderRef"] == {"name": sender}
    text = f"Envelope/{envelope} names another sender (Sender/{sender} of Organization/{organization})"
    assert text in caplog.text


async def test_an_own_envelope_that_is_there_already_is_no_problem(
    pages: PagesScene, caplog: pytest.LogCaptureFixture
) -> None:
    envelope = pages.esaw.add_envelope(sender=pages.anna)
    pages.kube.put(an_envelope(envelope, organization="acme", sender="anna"))
    assert await claimed(pages, envelope)
    assert "names another sender" not in caplog.text


async def test_the_controller_uses_no_envelope_of_another_organization_and_says_which_is_in_the_way() -> None:
    controller = ControllerScene()
    controller.organization(defaultSenderRef=None)
    controller.kube.put(an_envelope(ENVELOPE, organization="other", sender="anna"))
    outcome = await controller.sender()
    assert isinstance(outcome, Fail)
    assert outcome.reason == "SenderUnknown"
    assert f"Envelope/{ENVELOPE} belongs to Organization/other" in outcome.message


async def test_the_controller_prefers_the_default_sender_to_an_envelope_of_another_organization() -> None:
    controller = ControllerScene()
    controller.organization(defaultSenderRef={"name": "anna"})
    controller.kube.put(an_envelope(ENVELOPE, organization="other", sender="mallory"))
    sender = await controller.sender()
    assert isinstance(sender, Sender)
    assert sender.name == "anna"


async def test_the_controller_uses_no_sender_of_another_organization() -> None:
    controller = ControllerScene()
    controller.cache.senders.put(a_sender("mallory", organization="other"))
    controller.kube.put(an_envelope(ENVELOPE, organization="acme", sender="mallory"))
    outcome = await controller.sender()
    assert isinstance(outcome, Fail)
    assert outcome.reason == "SenderOfOtherOrganization"


async def test_the_label_of_a_sender_who_does_not_see_the_envelope_deletes_nothing(tmp_path: Path) -> None:
    listed = an_event().by(Origin.SWEEP).labelled(LISTED_BY_LABEL, "ben")
    scene = ReconcilerScene(tmp_path, listed, noted="ben", defaultSenderRef=None)
    scene.observe(known_to_work(a_sender("ben")))
    scene.kube.put_secret("ben-key", "token", {"token": KEY.encode()})
    for each in ("envelope", "files", "configuration", "delete", "history"):
        scene.envelope.but(each, missing())
    for _ in range(5):
        after = await scene.reconcile()
        scene.clock.advance(hours=1)
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "EnvelopeNotFound")
    assert scene.envelope.transport.deleted == []
    assert scene.cache.sender_name(after) == "ben"


def an_envelope(name: str, *, organization: str, sender: str) -> Envelope:
    raw: dict[str, Any] = {
        "apiVersion": Envelope.API_VERSION,
        "kind": Envelope.KIND,
        "metadata": {"name": name, "namespace": "contracts", "uid": f"uid-{name}", "resourceVersion": "1"},
        "spec": {
            "organizationRef": {"name": organization},
            "envelopeID": name,
            "senderRef": {"name": sender},
        },
    }
    return Envelope.parse(raw)
