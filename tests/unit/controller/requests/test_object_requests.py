"""The requests on Organizations, Archives and Senders."""

from pathlib import Path
from typing import Any

import pytest

from controller.requests.object_requests import ObjectRequests
from controller.requests.request_table import RequestResult
from counterfoil.esaw.errors import EsawUnreachable
from counterfoil.resources import (
    OrganizationStatus,
    Request,
    RequestOutcome,
    Sender,
    SenderStatus,
    SweepResult,
)
from tests.support.builders import NOON, a_sender, an_organization, known_to_work
from tests.support.scenes.notifications import MAILS, PUBLIC, an_unauthorized_sender
from tests.support.scenes.resync import ResyncScene


def requests_of(scene: ResyncScene) -> ObjectRequests:
    return ObjectRequests(scene.scene.cache, scene.resync, scene.scene.clock)


async def ask(scene: ResyncScene, sender: Sender) -> RequestResult:
    return await requests_of(scene).ask(sender, Request("ask"))


async def test_a_sweep_says_how_many_envelopes_it_found(tmp_path: Path) -> None:
    scene = ResyncScene(tmp_path)
    scene.put(known_to_work(a_sender(version=2)))
    result = await requests_of(scene).sweep(scene.organization(), Request("sweep"))
    assert result.message == "Finished envelopes without an event: 1. Each of them has one now."
    swept = result.change(scene.organization().status).sweep
    assert (swept.found, swept.completion_time) == (1, scene.scene.clock.now())


async def test_a_sweep_names_the_senders_that_it_skipped_and_does_not_count_as_done(tmp_path: Path) -> None:
    scene = ResyncScene(tmp_path)
    for number in range(5):
        scene.put(known_to_work(a_sender(f"sender-{number}", version=2)))
    scene.put(known_to_work(a_sender(version=2)))
    scene.esaw_clients.named("acme").search_error = EsawUnreachable("cut")
    result = await requests_of(scene).sweep(scene.organization(), Request("sweep"))
    assert result.outcome is RequestOutcome.DONE
    assert result.message.startswith(
        "Finished envelopes without an event: 0. Not searched, since eSignAnyWhere or the key failed: "
        "Sender/anna. The search is repeated automatically. Not searched, and a person has to act: "
        "Sender/sender-0 (KeyMissing: Secret/sender-0-key does not exist. "
    )
    assert result.message.endswith(" and 2 more.")
    swept = OrganizationStatus(sweep=SweepResult(completion_time=NOON, found=1))
    assert not result.change(swept).sweep.complete


async def test_a_probe_says_whether_the_archive_works(tmp_path: Path) -> None:
    scene = ResyncScene(tmp_path)
    works = await requests_of(scene).probe(scene.archive(), Request("probe"))
    assert works.message == "The archive is ready. A probe was written and read back."
    scene.root.rename(scene.root.with_name("unmounted"))
    broken = await requests_of(scene).probe(scene.archive(), Request("probe"))
    assert broken.message.startswith("The archive is not ready. ArchiveRootMissing: ")
    assert broken.outcome is RequestOutcome.DONE


async def test_the_mail_that_is_asked_for_is_recorded_with_the_second_of_the_request(tmp_path: Path) -> None:
    scene = ResyncScene(tmp_path)
    scene.put(an_organization(version=2, generation=2, notifications=MAILS, oauth=PUBLIC))
    scene.scene.clock.advance(seconds=0.7)
    result = await ask(scene, an_unauthorized_sender())
    assert result.outcome is RequestOutcome.DONE
    requested = result.change(SenderStatus()).mail_request_time
    assert requested == scene.scene.clock.now().replace(microsecond=0)


OWN_KEY = {"name": "anna-token", "key": "token"}

NO_MAIL: dict[str, tuple[Sender, dict[str, Any], str]] = {
    "no address": (an_unauthorized_sender(email=None), {"oauth": PUBLIC}, "set spec.email"),
    "no mail server": (an_unauthorized_sender(), {"oauth": PUBLIC}, "spec.notifications.smtpSecretRef"),
    "no consent page": (an_unauthorized_sender(), {}, "set spec.oauth with publicURL"),
    "a key from a Secret": (
        an_unauthorized_sender(tokenSecretRef=OWN_KEY),
        {"oauth": PUBLIC, "notifications": MAILS},
        "Put a new key into Secret/anna-token.",
    ),
    "an unknown organization": (
        an_unauthorized_sender(organizationRef={"name": "gone"}),
        {},
        "Organization/gone does not exist",
    ),
}


@pytest.mark.parametrize(("sender", "spec", "message"), NO_MAIL.values(), ids=list(NO_MAIL))
async def test_a_mail_that_nobody_can_get_is_refused_with_what_to_do(
    tmp_path: Path, sender: Sender, spec: dict[str, Any], message: str
) -> None:
    scene = ResyncScene(tmp_path)
    scene.put(an_organization(version=2, generation=2, **spec))
    result = await ask(scene, sender)
    assert result.outcome is RequestOutcome.REFUSED
    assert message in result.message
    assert result.change(sender.status) == sender.status


async def test_no_mail_is_sent_about_a_key_that_works(tmp_path: Path) -> None:
    result = await ask(ResyncScene(tmp_path), a_sender())
    assert result.outcome is RequestOutcome.NOTHING_TO_DO
    assert result.message == "Nothing was left to do: the key works."


def test_each_request_has_its_reason_in_a_kubernetes_event(tmp_path: Path) -> None:
    requests = requests_of(ResyncScene(tmp_path))
    tables = (requests.organization_types, requests.archive_types, requests.sender_types)
    assert {name: row.event_reason for table in tables for name, row in table.items()} == {
        "sweep": "SweepRequested",
        "probe": "ProbeRequested",
        "ask": "ConsentMailRequested",
    }


UNHELPFUL: dict[str, tuple[Sender, str]] = {
    "a missing sealing key": (an_unauthorized_sender(reason="SealKeyUnknown"), "SealKeyUnknown"),
    "another origin": (an_unauthorized_sender(reason="OriginChanged"), "OriginChanged"),
    "a common cause": (an_unauthorized_sender(reason="KeysRejected"), "KeysRejected"),
    "a suspended sender": (an_unauthorized_sender(suspend=True), "set spec.suspend to false"),
    "an unknown key": (
        a_sender(authorized=None, email="anna@acme.example", tokenSecretRef=None),
        "not checked",
    ),
}


@pytest.mark.parametrize(("sender", "message"), UNHELPFUL.values(), ids=list(UNHELPFUL))
async def test_a_mail_that_would_not_be_sent_is_refused_with_the_reason(
    tmp_path: Path, sender: Sender, message: str
) -> None:
    scene = ResyncScene(tmp_path)
    scene.put(an_organization(version=2, generation=2, notifications=MAILS, oauth=PUBLIC))
    result = await ask(scene, sender)
    assert result.outcome is RequestOutcome.REFUSED
    assert message in result.message
    assert result.change(sender.status) == sender.status
