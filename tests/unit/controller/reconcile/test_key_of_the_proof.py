"""The key to which eSAW showed an envelope is refused, and other keys work that do not see the envelope."""

import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from controller.reader import proved_by
from controller.reconcile import late_files
from controller.reconcile.outcomes import NeedConsent
from controller.scheduling.due import EPOCH, due_time
from counterfoil.esaw import HttpStatusError
from counterfoil.resources import SENDER_LABEL, EnvelopeEvent, Phase, Sender, SenderReference
from tests.support.builders import ANNA, KEY, NOON, a_sender, an_envelope, known_to_work
from tests.support.fakes.reconcile_context import missing
from tests.support.scenes.two_keys import FORBIDDEN, OTHER_KEY, TwoKeysScene


@pytest.fixture
def scene(tmp_path: Path) -> TwoKeysScene:
    return TwoKeysScene(tmp_path)


async def in_phase(scene: TwoKeysScene, operation: str) -> None:
    """Let anna validate, and lose her key at this operation."""
    for each in (operation, "whoami"):
        scene.two.anna.but(each, HttpStatusError(401, "ERR0401"))
    await scene.run()
    scene.refuse()


async def begun(scene: TwoKeysScene, operation: str) -> None:
    """Let anna lose her key at this operation; at the delete, after one of unknown effect."""
    if operation != "delete":
        await in_phase(scene, operation)
        return
    scene.two.anna.but("history", FORBIDDEN).but("delete", HttpStatusError(502))
    await scene.run()
    scene.refuse()


@pytest.mark.parametrize("is_forgotten", [False, True])
@pytest.mark.parametrize("operation", ["files", "download file-1"])
async def test_an_event_waits_for_the_key_that_showed_its_envelope(
    scene: TwoKeysScene, operation: str, is_forgotten: bool
) -> None:
    await in_phase(scene, operation)
    if is_forgotten:
        scene.forget()
    await scene.run(5)
    assert scene.waits_for_anna()
    assert scene.two.dora.asked == []
    scene.consent()
    assert (await scene.run(5)).status.reason == "ArchivedAndDeleted"


async def test_no_deletion_is_assumed_from_what_a_key_does_not_see_that_never_saw_it(
    scene: TwoKeysScene,
) -> None:
    scene.two.anna.but("history", FORBIDDEN).but("delete", HttpStatusError(502))
    scene.two.dora.but("history", FORBIDDEN)
    assert (await scene.run()).status.reason == "DeleteUnanswered"
    scene.refuse()
    await scene.run(6)
    assert scene.waits_for_anna()
    assert scene.two.dora.asked == []


async def test_an_event_with_a_delayed_delete_waits_for_the_key_that_showed_its_envelope(
    tmp_path: Path,
) -> None:
    scene = TwoKeysScene(tmp_path, cleanup={"policy": "Delete", "after": "720h"})
    assert (await scene.run()).status.reason == "CleanupDelayed"
    scene.refuse()
    await scene.run(6)
    assert scene.waits_for_anna()


@pytest.mark.parametrize("operation", ["files", "download file-1", "delete"])
async def test_the_sender_of_a_late_envelope_is_asked_once_if_its_key_does_not_show_it(
    scene: TwoKeysScene, operation: str
) -> None:
    scene.two.dora.but("history", FORBIDDEN)
    await begun(scene, operation)
    scene.kube.put(an_envelope("dora"))
    scene.forget()
    for _ in range(4):
        await scene.reconcile()
        scene.cache.update(scene.newest())
    assert scene.waits_for_anna()
    assert scene.two.dora.asked.count("envelope") <= 1
    assert [each.name for each in scene.newest().status.not_shown_to] == ["dora"]


async def test_a_404_of_a_proxy_does_not_make_a_key_count_as_tried(scene: TwoKeysScene) -> None:
    await in_phase(scene, "files")
    scene.kube.put(an_envelope("dora"))
    scene.forget()
    for operation in ("envelope", "configuration", "files"):
        scene.two.dora.but(operation, HttpStatusError(404))
    for _ in range(4):
        await scene.reconcile()
        scene.cache.update(scene.newest())
    event = scene.newest()
    assert (event.status.reason, event.status.not_shown_to) == ("EsawAnswerUnreadable", ())
    scene.two.dora.problems.clear()
    assert (await scene.run(5)).status.reason == "ArchivedAndDeleted"


async def test_an_answer_to_a_key_without_the_proof_says_what_was_found_in_the_archive(
    scene: TwoKeysScene,
) -> None:
    scene.two.dora.but("history", FORBIDDEN)
    scene.two.anna.but("history", FORBIDDEN).but("delete", HttpStatusError(502))
    await scene.run()
    scene.refuse()
    scene.kube.put(an_envelope("dora"))
    scene.forget()
    said = list[str]()
    for _ in range(3):
        await scene.reconcile()
        scene.cache.update(scene.newest())
        said.append(scene.newest().status.message or "")
    message = next(each for each in said if "to the key of Sender/dora" in each)
    assert "file" in message
    assert "The next attempt is with the key of Sender/anna." in message


async def test_another_failure_after_one_answer_does_not_make_a_key_count_as_tried(
    scene: TwoKeysScene,
) -> None:
    scene.kube.put(an_envelope("anna"))
    scene.two.anna.remembered = False
    scene.two.anna.but("envelope", missing())
    assert (await scene.run()).status.reason == "EnvelopeNotFound"
    scene.two.anna.but("envelope", HttpStatusError(503))
    assert (await scene.run()).status.reason == "EsawFailing"
    scene.two.anna.problems.clear()
    assert (await scene.run(5)).status.reason == "ArchivedAndDeleted"
    assert scene.two.dora.asked == []


async def test_late_files_are_not_asked_for_with_a_key_that_never_showed_the_envelope(tmp_path: Path) -> None:
    scene = TwoKeysScene(tmp_path, cleanup={"policy": "Keep"}, evidence={"wait": "10m"})
    assert (await scene.run()).status.reason == "ArchivedAndKept"
    scene.refuse()
    assert isinstance(await late_files.list_files(scene.preconditions, scene.newest()), NeedConsent)
    assert scene.newest().metadata.labels[SENDER_LABEL] == "anna"


def remove(scene: TwoKeysScene, *, sees: bool) -> None:
    """Delete anna's Sender; ``sees``: eSAW shows the envelope to dora's key, too."""
    scene.cache.delete(Sender, "anna", 10**9)
    if sees:
        scene.two.dora.problems.clear()
        scene.two.dora.remembered = True


@pytest.mark.parametrize("is_recorded", [False, True])
@pytest.mark.parametrize("operation", ["files", "download file-1"])
async def test_the_default_sender_reads_in_place_of_one_with_the_proof_that_does_not_exist_any_more(
    scene: TwoKeysScene, operation: str, is_recorded: bool
) -> None:
    if is_recorded:
        scene.kube.put(an_envelope("anna"))
    await in_phase(scene, operation)
    remove(scene, sees=True)
    event = await scene.run(5)
    assert (event.status.reason, event.metadata.labels[SENDER_LABEL]) == ("ArchivedAndDeleted", "dora")


@pytest.mark.parametrize("operation", ["files", "download file-1", "delete"])
async def test_a_key_that_never_showed_the_envelope_of_a_deleted_sender_says_nothing_about_it(
    scene: TwoKeysScene, operation: str
) -> None:
    scene.two.dora.but("history", FORBIDDEN)
    await begun(scene, operation)
    remove(scene, sees=False)
    event = await scene.run(6)
    assert (event.status.reason, event.status.message) == ("SenderMissing", "Sender/anna does not exist.")
    assert len(scene.two.dora.asked) <= 2
    assert [each.name for each in event.status.not_shown_to] == ["dora"]
    scene.consent()
    assert (await scene.run(5)).status.reason == "ArchivedAndDeleted"


BEN = "0a7c2c11-5f0e-4d3a-9a61-6f2b8e1d4c55"
"""Another user of eSAW."""


def replace_anna(scene: TwoKeysScene, user: str, *, created: datetime = NOON + timedelta(days=1)) -> None:
    """Delete anna's Sender, and create one of its name for a user. eSAW does not show the envelope to it."""
    scene.cache.delete(Sender, "anna", 10**9)
    found = known_to_work(a_sender(version=10**9 + 1, userID=user), KEY)
    metadata = replace(found.metadata, uid="uid-other", creation_timestamp=created)
    scene.two.anna.user_id = user
    scene.stop_showing()
    scene.two.anna.but("history", FORBIDDEN)
    scene.observe(replace(found, metadata=metadata))


def as_before_the_field(scene: TwoKeysScene) -> None:
    """Let the event be as an earlier version stored it."""
    raw = scene.newest().to_dict()
    raw["status"]["envelope"]["senderRef"].pop("userID", None)
    scene.kube.put(event := EnvelopeEvent.parse(raw))
    scene.cache.update(event)


@pytest.mark.parametrize("default", ["anna", "dora"])
async def test_no_deletion_is_assumed_from_what_another_user_of_the_senders_name_does_not_see(
    tmp_path: Path, default: str
) -> None:
    scene = TwoKeysScene(tmp_path, defaultSenderRef={"name": default})
    scene.two.anna.but("history", FORBIDDEN).but("delete", HttpStatusError(502))
    scene.two.dora.but("history", FORBIDDEN)
    assert (await scene.run()).status.reason == "DeleteUnanswered"
    scene.two.anna.asked.clear()
    replace_anna(scene, BEN)
    event = await scene.run(8)
    assert event.status.reason in ("EnvelopeNotFound", "SenderMissing")
    assert "show it any more" not in (event.status.message or "")
    assert "history" not in (*scene.two.anna.asked, *scene.two.dora.asked)


async def test_a_sender_of_another_user_is_no_reader_by_the_proof_of_its_name(scene: TwoKeysScene) -> None:
    scene.two.anna.but("history", FORBIDDEN).but("delete", HttpStatusError(502))
    scene.two.dora.but("history", FORBIDDEN)
    await scene.run()
    scene.two.anna.asked.clear()
    replace_anna(scene, BEN)
    event = await scene.run(4)
    assert event.status.reason == "SenderMissing"
    assert event.status.message == (
        "Sender/anna is another user's by now: the Sender to which eSignAnyWhere showed the envelope does "
        "not exist any more. Create a Sender with another name for the former user, "
        f"spec.userID {ANNA}. Then create an Envelope that names it."
    )
    # Its name is in the list of a search, so its key is tried once.
    assert scene.two.anna.asked == ["envelope"]


async def test_a_sender_with_another_name_takes_the_place_of_one_whose_name_another_user_has(
    tmp_path: Path,
) -> None:
    scene = TwoKeysScene(tmp_path, defaultSenderRef=None)
    await in_phase(scene, "files")
    replace_anna(scene, BEN)
    assert (await scene.run(3)).status.reason == "SenderMissing"
    scene.show_to_dora()
    scene.kube.put(an_envelope("dora"))
    assert (await scene.run(3)).status.reason == "ArchivedAndDeleted"


@pytest.mark.parametrize(("is_deleted", "end"), [(False, "ArchivedAndDeleted"), (True, "DeletionAssumed")])
async def test_a_sender_for_the_former_user_is_created_as_the_message_says_and_ends_the_event(
    tmp_path: Path, end: str, *, is_deleted: bool
) -> None:
    """An earlier request may have deleted the envelope, which only this user's key can tell."""
    scene = TwoKeysScene(tmp_path, defaultSenderRef=None)
    scene.two.anna.but("history", FORBIDDEN).but("delete", HttpStatusError(502))
    assert (await scene.run()).status.reason == "DeleteUnanswered"
    replace_anna(scene, BEN)
    event = await scene.run(3)
    assert event.status.reason == "SenderMissing"

    said = re.search(
        r"spec\.userID (\S+)\. Then create an Envelope that names it\.", event.status.message or ""
    )
    assert said is not None
    if is_deleted:
        scene.two.dora.but("history", FORBIDDEN)
    else:
        scene.show_to_dora()
    scene.two.dora.user_id = said[1]
    scene.put_key("anna-before", OTHER_KEY)
    scene.observe(known_to_work(a_sender("anna-before", userID=said[1]), OTHER_KEY))
    scene.kube.put(an_envelope("anna-before"))

    event = await scene.run(5)
    assert (event.status.reason, event.metadata.labels[SENDER_LABEL]) == (end, "anna-before")


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_an_event_waits_for_a_consent_if_that_is_enough_and_not_for_a_sender_that_is_missing(
    tmp_path: Path, *, is_replaced: bool
) -> None:
    scene = TwoKeysScene(tmp_path, cleanup={"policy": "Delete", "after": "720h"}, defaultSenderRef=None)
    assert (await scene.run()).status.reason == "CleanupDelayed"
    if is_replaced:
        replace_anna(scene, BEN)
    else:
        remove(scene, sees=True)
    scene.kube.put(an_envelope("dora"))
    scene.forget()
    scene.show_to_dora()
    scene.two.dora.but("whoami", HttpStatusError(401, "ERR0401"))
    scene.observe(a_sender("dora", authorized="False", version=60))

    event = await scene.run(6)

    assert (event.status.phase, event.metadata.labels[SENDER_LABEL]) == (Phase.AWAITING_CONSENT, "dora")
    assert "Sender/dora" in (event.status.message or "")
    assert scene.cache.sender_name(event) == "dora"
    assert due_time(event, scene.cache, scene.clock.now()) is None
    scene.two.dora.problems.clear()
    scene.observe(known_to_work(a_sender("dora", version=1000), OTHER_KEY))
    assert due_time(event, scene.cache, scene.clock.now()) == EPOCH
    assert (await scene.run(3)).status.reason == "ArchivedAndDeleted"


async def test_the_default_sender_takes_the_place_of_one_whose_name_another_user_has(
    scene: TwoKeysScene,
) -> None:
    await in_phase(scene, "files")
    replace_anna(scene, BEN)
    scene.show_to_dora()
    event = await scene.run(5)
    assert (event.status.reason, event.metadata.labels[SENDER_LABEL]) == ("ArchivedAndDeleted", "dora")


@pytest.mark.parametrize("operation", ["files", "download file-1", "delete"])
async def test_a_key_with_which_a_run_fails_does_not_get_the_proof_of_a_deleted_sender(
    scene: TwoKeysScene, operation: str
) -> None:
    """Dora's key is shown the envelope, and may not do all; another one may, whose list has it."""
    await in_phase(scene, "files")
    remove(scene, sees=True)
    scene.two.dora.but(operation, HttpStatusError(403, "ERR0010"))
    event = await scene.run(4)
    assert event.status.reason == "SenderMissing"
    assert proved_by(event) == SenderReference(name="anna", user_id=ANNA)
    scene.consent()
    assert (await scene.run(5)).status.reason == "ArchivedAndDeleted"


async def test_the_proof_is_of_a_user_and_not_of_an_object(scene: TwoKeysScene) -> None:
    scene.two.anna.but("history", FORBIDDEN).but("delete", HttpStatusError(502))
    await scene.run()
    replace_anna(scene, ANNA.upper())
    assert (await scene.run(8)).status.reason == "DeletionAssumed"


@pytest.mark.parametrize(
    ("created", "expected"),
    [(NOON - timedelta(days=1), "DeletionAssumed"), (NOON + timedelta(days=1), "EnvelopeNotFound")],
)
async def test_an_event_of_an_earlier_version_was_shown_to_a_sender_that_is_older_than_the_event(
    scene: TwoKeysScene, created: datetime, expected: str
) -> None:
    scene.two.anna.but("history", FORBIDDEN).but("delete", HttpStatusError(502))
    scene.two.dora.but("history", FORBIDDEN)
    await scene.run()
    as_before_the_field(scene)
    replace_anna(scene, ANNA, created=created)
    assert (await scene.run(8)).status.reason == expected


async def test_an_event_of_an_earlier_version_learns_the_user_to_whom_esaw_shows_its_envelope(
    scene: TwoKeysScene,
) -> None:
    scene.two.anna.but("history", FORBIDDEN).but("delete", HttpStatusError(502))
    await scene.run()
    as_before_the_field(scene)
    replace_anna(scene, ANNA)
    scene.two.anna.problems.clear()
    scene.two.anna.remembered = True
    event = await scene.run(3)
    assert event.status.reason == "ArchivedAndDeleted"
    assert event.status.envelope is not None
    assert event.status.envelope.sender_ref is not None
    assert event.status.envelope.sender_ref.user_id == ANNA
