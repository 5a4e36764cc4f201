"""The requests on Organizations, Archives and Senders."""

from pathlib import Path

import pytest

from controller.requests.object_requests import ObjectRequests
from controller.requests.request_table import RequestResult
from counterfoil.resources import Request, RequestOutcome, Sender, SenderStatus
from tests.support.builders import a_sender, an_organization
from tests.support.scenes.notifications import MAILS, an_unauthorized_sender
from tests.unit.controller.reconcile.test_preconditions import known_to_work
from tests.unit.controller.resync.test_resync import ResyncScene


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
    assert (swept.found, swept.time) == (1, scene.scene.clock.now())


async def test_a_probe_says_whether_the_archive_works(tmp_path: Path) -> None:
    scene = ResyncScene(tmp_path)
    works = await requests_of(scene).probe(scene.archive(), Request("probe"))
    assert works.message == "The archive is ready. A probe was written and read back."
    scene.root.rmdir()
    broken = await requests_of(scene).probe(scene.archive(), Request("probe"))
    assert broken.message.startswith("The archive is not ready. ArchiveRootMissing: ")
    assert broken.outcome is RequestOutcome.DONE


async def test_the_mail_that_is_asked_for_is_noted_with_the_second_of_the_request(tmp_path: Path) -> None:
    scene = ResyncScene(tmp_path)
    scene.put(an_organization(version=2, generation=2, notifications=MAILS))
    scene.scene.clock.advance(seconds=0.7)
    result = await ask(scene, an_unauthorized_sender())
    assert result.outcome is RequestOutcome.DONE
    requested = result.change(SenderStatus()).mail_request_time
    assert requested == scene.scene.clock.now().replace(microsecond=0)


@pytest.mark.parametrize(
    ("sender", "outcome", "message"),
    [
        (a_sender(), RequestOutcome.NOTHING_TO_DO, "Nothing was left to do: the key works."),
        (an_unauthorized_sender(email=None), RequestOutcome.REFUSED, "set spec.email"),
        (an_unauthorized_sender(), RequestOutcome.REFUSED, "spec.notifications.smtpSecretRef"),
        (
            an_unauthorized_sender(organizationRef={"name": "gone"}),
            RequestOutcome.REFUSED,
            "Organization/gone",
        ),
    ],
)
async def test_a_mail_that_nobody_can_get_is_refused_with_what_to_do(
    tmp_path: Path, sender: Sender, outcome: RequestOutcome, message: str
) -> None:
    result = await ask(ResyncScene(tmp_path), sender)
    assert result.outcome is outcome
    assert message in result.message
    assert result.change(sender.status) == sender.status
