"""Watch events, and the EnvelopeEvents that continue because of them."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from msgspec import structs

from controller.access.secret_cache import SecretUnreadable
from controller.access.sender_keys import KeyUnusable
from controller.scheduling.event_queue import concurrency_limits
from controller.scheduling.retry_policy import LOST_OUTCOME
from controller.sharding import LeaseLost
from controller.worker import REQUEUE_SECONDS
from counterfoil.esaw import ApiToken
from counterfoil.kube.errors import Unavailable
from counterfoil.kube.status import Superseded
from counterfoil.resources import (
    LISTED_BY_LABEL,
    SENDER_LABEL,
    Archive,
    ArchiveRoot,
    EnvelopeEvent,
    EnvelopeSummary,
    Organization,
    Phase,
    Resource,
    Sender,
    SenderReference,
)
from tests.support.builders import (
    ANNA,
    KEY,
    NOON,
    ORIGIN,
    OTHER_KEY,
    EventBuilder,
    a_sender,
    an_event,
    an_organization,
    known_to_work,
    ready,
)
from tests.support.fakes.esaw import KeyCheckingEsawClient
from tests.support.fakes.leases import held_shards
from tests.support.fakes.reconcile_context import an_archive
from tests.support.scenes.waiting_events import HandlersScene, moved, turns
from tests.support.work import steps_of

LATER = NOON + timedelta(hours=1)

NAMES = [f"{'x' * 200}-{each}" for each in range(100)]
"""Names of files in a list that the cache does not keep."""


def number(count: int) -> EventBuilder:
    """Begin an event of a separate envelope, ``count`` seconds younger than the first."""
    return (
        an_event(f"{count:08x}-4b1d-4c58-9a57-6d1f0a3b2c4d")
        .created(NOON - timedelta(hours=1) + timedelta(seconds=count))
        .labelled(SENDER_LABEL, "anna")
    )


def a_scene(*, process_limit: int = 100) -> HandlersScene:
    scene = HandlersScene(process_limit=process_limit)
    scene.observe(an_organization(), a_sender(), ready(an_archive()))
    return scene


def waiting(reason: str, count: int = 1) -> list[EnvelopeEvent]:
    return [
        number(each).in_phase(Phase.COLLECTING, reason).status(attempts=5, next_attempt_time=LATER).build()
        for each in range(count)
    ]


def finishes(event: EnvelopeEvent) -> EnvelopeEvent:
    return moved(event, Phase.SUCCEEDED, "ArchivedAndDeleted")


# -- Events --------------------------------------------------------------------------------------------------


async def test_an_event_that_is_seen_is_worked_on_and_then_gone() -> None:
    scene = a_scene()
    scene.answers(finishes)
    event = number(1).build()
    async with scene.running():
        scene.observe(event)
        await turns()
        scene.observe(event)
        await turns()
    assert scene.reconciled == [event.name]
    assert len(scene.cache.events) == 0


async def test_after_a_restart_nothing_fires_before_its_time() -> None:
    scene = a_scene()
    async with scene.running():
        scene.observe(*waiting("EsawFailing", 100))
        await turns()
        assert scene.reconciled == []
        scene.clock.advance(hours=1)
        scene.workqueue.wake()
        await turns(400)
    assert len(scene.reconciled) >= 100


async def test_without_changes_nothing_is_repeated() -> None:
    scene = a_scene()
    async with scene.running():
        scene.observe(number(1).build())
        await turns(500)
        assert len(scene.reconciled) == 1, "its run changed nothing, although it is due"
        for number_of_runs in range(2, 14):
            scene.clock.advance(seconds=LOST_OUTCOME.pause(number_of_runs - 2))
            scene.workqueue.wake()
            await turns(500)
            assert len(scene.reconciled) == number_of_runs
        scene.clock.advance(seconds=REQUEUE_SECONDS)
        scene.workqueue.wake()
        await turns(500)
    assert len(scene.reconciled) == 13


async def test_an_event_whose_state_could_not_be_stored_is_retried_less_and_less_often() -> None:
    scene = a_scene()

    def away(event: EnvelopeEvent) -> EnvelopeEvent:
        raise Unavailable(0, "NoAnswer", "away")

    scene.answers(away)
    async with scene.running():
        scene.observe(number(1).build())
        await turns()
        for times in range(1, 4):
            assert len(scene.reconciled) == times
            scene.clock.advance(seconds=LOST_OUTCOME.pause(times - 1))
            scene.workqueue.wake()
            await turns()
        scene.answers(finishes)
        scene.clock.advance(seconds=LOST_OUTCOME.pauses[-1])
        scene.workqueue.wake()
        await turns()
    assert len(scene.cache.events) == 0


async def test_our_own_bug_does_not_leave_an_event_unfinished() -> None:
    scene = a_scene()

    def broken(event: EnvelopeEvent) -> EnvelopeEvent:
        raise RuntimeError("?")

    scene.answers(broken)
    async with scene.running():
        scene.observe(number(1).build())
        await turns()
        scene.answers(finishes)
        scene.clock.advance(seconds=LOST_OUTCOME.pauses[0])
        scene.workqueue.wake()
        await turns()
    assert len(scene.reconciled) == 2


async def test_a_writer_that_was_overtaken_continues_from_what_another_wrote() -> None:
    scene = a_scene()
    event = number(1).build()
    skipped = moved(event, Phase.SKIPPED, "SkippedByRequest")

    def overtaken(event: EnvelopeEvent) -> EnvelopeEvent:
        raise Superseded("somebody else", skipped)

    scene.answers(overtaken)
    async with scene.running():
        scene.observe(event)
        await turns()
        scene.clock.advance(hours=2)
        scene.workqueue.wake()
        await turns()
    assert scene.reconciled == [event.name]


async def test_after_a_restore_of_etcd_the_state_that_a_refused_run_read_replaces_the_newer_one() -> None:
    scene = a_scene()
    event = number(1).at_version(900).build()
    restored = number(1).at_version(500).build()

    def overtaken_once(event: EnvelopeEvent) -> EnvelopeEvent:
        if event.metadata.resource_version == "900":
            raise Superseded("changed by a restore", restored)
        return finishes(event)

    scene.answers(overtaken_once)
    async with scene.running():
        scene.observe(event)
        await turns()
        scene.clock.advance(seconds=REQUEUE_SECONDS)
        scene.workqueue.wake()
        await turns()
    assert scene.reconciled == [event.name, event.name]
    assert len(scene.cache.events) == 0


async def test_an_event_that_was_deleted_while_the_watch_was_broken_is_not_reconciled_indefinitely() -> None:
    scene = a_scene()

    def gone(event: EnvelopeEvent) -> EnvelopeEvent:
        raise Superseded("deleted", None)

    scene.answers(gone)
    event = number(1).build()
    async with scene.running():
        scene.observe(event)
        await turns()
        scene.clock.advance(hours=2)
        scene.workqueue.wake()
        await turns()
    assert scene.reconciled == [event.name]
    assert len(scene.cache.events) == 0


async def test_an_event_that_is_deleted_is_forgotten() -> None:
    scene = a_scene()
    event = waiting("EsawFailing")[0]
    async with scene.running():
        scene.observe(event)
        scene.see_deleted(event)
        scene.clock.advance(hours=2)
        scene.workqueue.wake()
        await turns()
    assert scene.reconciled == []


async def test_an_object_that_cannot_be_read_harms_no_other() -> None:
    scene = a_scene()
    async with scene.running():
        scene.reflector.handle(
            EnvelopeEvent, "ADDED", {"metadata": {"name": "odd", "resourceVersion": "1"}, "spec": {}}
        )
        scene.observe(number(1).build())
        await turns()
    assert len(scene.reconciled) == 1


# -- Solving the cause resumes everything that waited on it --------------------------------------------------


async def test_a_new_key_resumes_all_waiting_events_oldest_first() -> None:
    scene = HandlersScene(process_limit=1)
    scene.observe(an_organization(), a_sender(authorized="False"), ready(an_archive()))
    scene.answers(finishes)
    parked = [number(each).in_phase(Phase.AWAITING_CONSENT, "TokenRejected").build() for each in range(10)]
    for each in parked:
        scene.cache.sender_of[each.name] = "anna"
    async with scene.running():
        scene.observe(*reversed(parked))
        await turns()
        assert scene.reconciled == []
        scene.observe(a_sender(version=2))
        await turns(200)
    assert scene.reconciled == [each.name for each in parked]


@pytest.mark.parametrize("reason", ["SecretUnreadable", "SecretForbidden"])
async def test_a_sender_whose_secret_can_be_read_again_resumes_what_waited_for_it(reason: str) -> None:
    scene = HandlersScene()
    scene.observe(an_organization(), a_sender(authorized="Unknown"), ready(an_archive()))
    scene.answers(finishes)
    mine, other = waiting(reason, 2), waiting("EsawFailing", 3)[2:]
    async with scene.running():
        scene.observe(*mine, *other)
        await turns()
        assert scene.reconciled == []
        scene.observe(a_sender(version=2))
        await turns()
    assert scene.reconciled == [each.name for each in mine]


async def test_a_sender_that_works_as_before_resumes_nothing_that_waits_for_a_secret() -> None:
    """At a start the events are observed before it, and then somebody edits its spec."""
    scene = HandlersScene()
    scene.observe(an_organization(), ready(an_archive()), *waiting("SecretUnreadable", 2))
    async with scene.running():
        scene.observe(a_sender())
        await turns()
        edited = a_sender(version=2)
        scene.observe(structs.replace(edited, metadata=structs.replace(edited.metadata, generation=2)))
        await turns()
    assert scene.reconciled == []


async def test_a_sender_that_works_again_resumes_nothing_that_waits_for_the_secret_of_an_archive() -> None:
    scene = HandlersScene()
    scene.observe(an_organization(), a_sender(authorized="Unknown"), ready(an_archive()))
    message = SecretUnreadable("dms-key", Unavailable(500, "InternalError", "unable to transform key"))
    event = number(0).in_phase(Phase.ARCHIVING, "SecretUnreadable")
    event = event.status(attempts=5, next_attempt_time=LATER, message=f"Archive/dms: {message}")
    async with scene.running():
        scene.observe(event.build())
        await turns()
        scene.observe(a_sender(version=2))
        await turns()
    assert scene.reconciled == []


async def test_the_key_of_each_sender_that_may_read_an_envelope_resumes_its_event() -> None:
    """The default Sender's was looked up; a search listed the envelope with the other one."""
    scene = HandlersScene()
    refused = (a_sender(each, authorized="False") for each in ("anna", "ben", "carla"))
    scene.observe(an_organization(), *refused, ready(an_archive()))
    scene.answers(finishes)
    parked = (
        number(0).in_phase(Phase.AWAITING_CONSENT, "TokenRejected").labelled(LISTED_BY_LABEL, "ben").build()
    )
    scene.cache.sender_of[parked.name] = "anna"
    async with scene.running():
        scene.observe(parked, a_sender("carla", version=2))
        await turns()
        assert scene.reconciled == []
        scene.observe(a_sender("ben", version=2))
        await turns()
    assert scene.reconciled == [parked.name]


async def test_the_key_of_the_default_sender_resumes_an_event_that_a_suspended_one_held() -> None:
    scene = HandlersScene()
    ben = a_sender("ben", authorized="False", suspend=True)
    scene.observe(an_organization(), a_sender(authorized="False"), ben, ready(an_archive()))
    scene.answers(finishes)
    held = (
        number(0).in_phase(Phase.VALIDATING, "SenderSuspended").labelled(LISTED_BY_LABEL, "ben")
    ).labelled(SENDER_LABEL, "ben")
    event = held.build()
    scene.cache.sender_of[event.name] = "ben"
    async with scene.running():
        scene.observe(event)
        await turns()
        assert scene.reconciled == []
        scene.observe(a_sender(version=2))
        await turns()
    assert scene.reconciled == [event.name]


async def test_a_sender_of_another_organization_resumes_nothing() -> None:
    scene = HandlersScene()
    scene.observe(an_organization(), ready(an_archive()))
    async with scene.running():
        scene.observe(*waiting("SenderMissing", 2))
        scene.observe(a_sender("zoe", organization="other"))
        await turns()
    assert scene.reconciled == []


async def test_after_a_restart_the_condition_of_another_sender_shows_a_common_cause() -> None:
    ben = known_to_work(a_sender("ben", authorized="False"), OTHER_KEY).to_dict()
    ben["status"]["conditions"][0]["reason"] = "KeysRejected"
    ben["status"]["key"]["verifiedTime"] = NOON
    anna, scene = known_to_work(a_sender()), HandlersScene(a_sender())
    scene.put_key()
    scene.observe(an_organization(), anna, Sender.parse(ben))
    refusing = KeyCheckingEsawClient()
    refusing.users.clear()

    scene.sender_keys.doubt(anna, ApiToken.parse(KEY, ORIGIN))
    scene.clock.advance(minutes=1)
    with pytest.raises(KeyUnusable) as unusable:
        await scene.sender_keys.key(anna, refusing)

    assert unusable.value.reason == "KeysRejected"


@pytest.mark.parametrize(
    ("changes", "is_examined"),
    [
        pytest.param({"metadata": {"annotations": {"mine": "yes"}}}, False, id="annotation"),
        pytest.param({"status": {"waitingEvents": 7}}, False, id="count of waiting events"),
        pytest.param(
            {"status": {"key": {"fingerprint": "0123abcd", "verifiedTime": LATER}}}, False, id="check"
        ),
        pytest.param({"status": {"key": {"fingerprint": "89abcdef"}}}, True, id="another key"),
        pytest.param({"status": {"conditions": []}}, True, id="unverified"),
        pytest.param({"spec": {"suspend": True}}, True, id="spec"),
        pytest.param({"metadata": {"uid": "of-another"}}, True, id="created again"),
    ],
)
def test_only_a_change_of_a_sender_that_decides_about_events_examines_them(
    changes: dict[str, dict[str, Any]], *, is_examined: bool
) -> None:
    scene = a_scene()
    known = a_sender(version=2).to_dict()
    known["status"]["key"] = {"fingerprint": "0123abcd"}
    scene.observe(Sender.parse(known))
    changed = {part: {**known[part], **changes.get(part, {})} for part in ("metadata", "spec", "status")}
    changed["metadata"]["resourceVersion"] = "3"
    with patch.object(scene.worker.event_queue, "enqueue_all") as examine:
        scene.observe(Sender.parse(changed))
    assert examine.called == is_examined


async def test_an_archive_that_works_again_resumes_what_waited_for_it() -> None:
    scene = HandlersScene()
    scene.observe(an_organization(), a_sender(), ready(an_archive(), "False"))
    scene.answers(finishes)
    mine, other = waiting("ArchiveFull"), waiting("EsawFailing", 2)[1:]
    async with scene.running():
        scene.observe(*mine, *other)
        scene.observe(ready(an_archive(version=2), "False"))
        await turns()
        assert scene.reconciled == []
        scene.observe(ready(an_archive(version=3)))
        await turns()
    assert scene.reconciled == [each.name for each in mine]


OLDER: dict[str, Any] = {"baseURL": "https://other.example.com"}
TWIN: dict[str, Any] = {"archiveRef": {"name": "twin"}}


@pytest.mark.parametrize(
    "change",
    [
        lambda scene: scene.observe(
            an_organization("a-globex", version=3, generation=3, archiveRef=None, **OLDER)
        ),
        lambda scene: scene.see_deleted(an_organization("a-globex")),
        lambda scene: scene.observe(an_archive("twin", version=2, generation=2, path="elsewhere")),
        lambda scene: scene.see_deleted(an_archive("twin")),
    ],
    ids=["its spec", "its end", "the other archive", "the end of the other archive"],
)
async def test_what_waited_for_the_folders_of_an_older_organization_continues_when_it_leaves_them(
    change: Callable[[HandlersScene], None],
) -> None:
    scene = a_scene()
    scene.observe(an_organization("a-globex", **TWIN, **OLDER), an_archive("twin"))
    scene.answers(finishes)
    mine, other = waiting("ArchiveShared"), waiting("EsawFailing", 2)[1:]
    async with scene.running():
        scene.observe(*mine, *other)
        scene.observe(an_organization("a-globex", version=2, generation=2, suspend=True, **TWIN, **OLDER))
        await turns()
        assert scene.reconciled == []
        change(scene)
        await turns()
    assert scene.reconciled == [each.name for each in mine]


@pytest.mark.parametrize(
    "reason", ["TagMissing", "MetadataUnreadable", "SettingsInvalid", "ArchiveRootMissing"]
)
async def test_a_corrected_archive_resumes_what_waited_for_it_without_having_been_unready(
    reason: str,
) -> None:
    scene = a_scene()
    scene.answers(finishes)
    events = waiting(reason, 3)
    async with scene.running():
        scene.observe(*events)
        scene.observe(ready(an_archive(version=2, generation=2)))
        await turns()
    assert sorted(scene.reconciled) == sorted(each.name for each in events)


async def test_an_archive_whose_status_gets_a_root_resumes_what_waited_for_its_probe() -> None:
    scene = a_scene()
    scene.answers(finishes)
    events = waiting("ArchiveNotProbed", 2)
    async with scene.running():
        scene.observe(*events)
        await turns()
        assert scene.reconciled == []
        root = ArchiveRoot(location="file:///archive/", marker_id="1" * 32)
        archive = ready(an_archive(version=2))
        scene.observe(structs.replace(archive, status=structs.replace(archive.status, root=root)))
        await turns()
    assert sorted(scene.reconciled) == sorted(each.name for each in events)


@pytest.mark.parametrize("reason", ["ArchiveNotProbed", "ArchiveProbeOverdue"])
async def test_an_archive_that_a_probe_finds_unusable_wakes_what_waited_for_its_probe_and_nothing_else(
    reason: str,
) -> None:
    scene = HandlersScene()
    scene.observe(an_organization(), a_sender(), ready(an_archive(), "Unknown"))
    async with scene.running():
        first, second = waiting(reason, 2)
        other = structs.replace(second, status=structs.replace(second.status, reason="ArchiveUnreachable"))
        scene.observe(first, other)
        await turns()
        assert scene.reconciled == []
        scene.observe(ready(an_archive(version=2), "False"))
        await turns()
        scene.observe(ready(an_archive(version=3), "False"))
        await turns()
    assert scene.reconciled == [first.name]


def at_a_server(version: int = 1) -> Archive:
    webdav = {"url": "https://dms.acme.example", "credentialsSecretRef": {"name": "dms-key"}}
    return an_archive(version=version, filesystem=None, webdav=webdav)


async def test_an_archive_that_was_fixed_has_its_secrets_read_again() -> None:
    scene = HandlersScene()
    scene.kube.put_secret("dms-key", "archive", {"username": b"a", "password": b"old"})
    scene.observe(ready(at_a_server(), "False"))
    before = await scene.archive_pool.backend(at_a_server())
    scene.kube.secrets["dms-key"] = {"username": b"a", "password": b"new"}
    assert await scene.archive_pool.backend(at_a_server()) is before, "it is remembered"
    scene.observe(ready(at_a_server(version=2)))
    assert await scene.archive_pool.backend(at_a_server()) is not before


def test_an_archive_of_no_kind_at_all_is_seen_like_any_other() -> None:
    scene = HandlersScene()
    scene.observe(an_archive(filesystem=None))
    scene.observe(an_archive(version=2, generation=2, filesystem=None))
    assert len(scene.cache.archives) == 1


async def test_an_event_that_failed_is_reported_with_the_start_of_its_run() -> None:
    scene = a_scene()
    began, event = scene.clock.monotonic(), number(1).build()

    def fails(observed: EnvelopeEvent) -> EnvelopeEvent:
        scene.clock.advance(minutes=5)
        return moved(observed, Phase.FAILED, "SignerUntrusted")

    scene.answers(fails)
    async with scene.running():
        scene.observe(event)
        await turns()
    assert scene.failed == [(event.name, began)]


async def test_what_was_resumed_stays_so_although_a_delivery_is_counted_before_its_turn_comes() -> None:
    scene = a_scene()
    scene.answers(finishes)
    event = waiting("TagMissing")[0]
    scene.observe(event)
    scene.observe(ready(an_archive(version=2, generation=2)))
    scene.observe(moved(event, Phase.COLLECTING, "TagMissing", deliveries=2))
    async with scene.running():
        await turns()
    assert scene.reconciled == [event.name]


async def test_a_resumed_event_that_fails_again_waits_for_its_next_time() -> None:
    scene = a_scene()
    scene.answers(
        lambda event: moved(
            event, Phase.COLLECTING, "TagMissing", next_attempt_time=scene.clock.now() + timedelta(hours=1)
        )
    )
    async with scene.running():
        scene.observe(*waiting("TagMissing"))
        scene.observe(ready(an_archive(version=2, generation=2)))
        await turns(500)
    assert len(scene.reconciled) == 1


def refuse_once(scene: HandlersScene, problem: Exception) -> None:
    """Let one run end without a stored state."""

    def refuses(event: EnvelopeEvent) -> EnvelopeEvent:
        scene.answers(finishes)
        raise problem

    scene.answers(refuses)


AWAY = Unavailable(0, "NoAnswer", "away")


@pytest.mark.parametrize(
    ("is_complete", "lost"),
    [
        pytest.param(True, AWAY, id="not stored"),
        pytest.param(True, RuntimeError("unknown"), id="broke off"),
        pytest.param(True, LeaseLost("a short break"), id="Lease lost"),
        pytest.param(True, "superseded", id="superseded"),
        pytest.param(False, "not read", id="files not read"),
        pytest.param(False, "read newer", id="files of a newer state"),
    ],
)
async def test_what_was_resumed_stays_so_until_a_run_stores_something(
    lost: Exception | str, *, is_complete: bool
) -> None:
    scene = a_scene()
    builder = number(1).in_phase(Phase.COLLECTING, "TagMissing")
    if not is_complete:
        builder = number(1).archived(*NAMES).status(conditions=()).in_phase(Phase.VALIDATING, "TagMissing")
    event = builder.status(attempts=5, next_attempt_time=LATER).build()
    scene.kube.put(event)
    scene.answers(finishes)
    if lost == "not read":
        scene.kube.go_away("get", 1)
    elif isinstance(lost, Exception):
        refuse_once(scene, lost)
    async with scene.running():
        scene.observe(event)
        await turns()
        assert scene.cache.events.is_complete(event.name) is is_complete
        if lost in ("superseded", "read newer"):
            # Another process changed it, and the watch reports that a moment later.
            scene.kube.edit(EnvelopeEvent, event.name, {"spec": {"suspend": True}})
            scene.kube.edit(
                EnvelopeEvent, event.name, {"spec": {"suspend": False}, "status": {"attempts": 6}}
            )
        if lost == "superseded":
            refuse_once(scene, Superseded("changed", scene.kube.stored(event.name)))
        scene.observe(ready(an_archive(version=2, generation=2)))
        await turns()
        assert scene.cache.events.get(event.name) is not None
        scene.clock.advance(seconds=LOST_OUTCOME.pause(0))
        scene.workqueue.wake()
        await turns()
    assert scene.cache.events.get(event.name) is None


async def test_what_was_resumed_stays_so_in_a_run_that_only_corrects_the_label_of_the_sender() -> None:
    """The usual first run of an event whose Sender was missing: its label names the default Sender."""
    scene = a_scene()
    builder = number(1).in_phase(Phase.VALIDATING, "SenderMissing")
    event = builder.status(attempts=9, next_attempt_time=LATER).build()
    scene.kube.put(event)

    def corrects_the_label(before: EnvelopeEvent) -> EnvelopeEvent:
        scene.answers(finishes)
        scene.kube.edit(EnvelopeEvent, before.name, {"metadata": {"labels": {SENDER_LABEL: "dora"}}})
        return scene.kube.stored(before.name)

    scene.answers(corrects_the_label)
    async with scene.running():
        scene.observe(event)
        await turns()
        assert scene.reconciled == []
        scene.observe(known_to_work(a_sender("dora")))
        await turns()
    assert scene.reconciled == [event.name, event.name]
    assert scene.cache.events.get(event.name) is None


@pytest.mark.parametrize("level", ["event", "organization", "sender", "archive"])
async def test_what_was_suspended_continues_when_it_is_resumed(level: str) -> None:
    scene = HandlersScene()
    reason = "Suspended" if level == "event" else f"{level.capitalize()}Suspended"
    builder = number(1).in_phase(Phase.VALIDATING, reason)
    scene.observe(
        an_organization(suspend=level == "organization"),
        a_sender(suspend=level == "sender"),
        an_archive(suspend=level == "archive"),
    )
    event = builder.build()
    scene.cache.sender_of[event.name] = "anna"
    scene.answers(finishes)
    async with scene.running():
        scene.observe((builder.suspended() if level == "event" else builder).build())
        await turns()
        assert scene.reconciled == []
        if level == "event":
            scene.observe(number(1).in_phase(Phase.VALIDATING, reason).at_version(2).build())
        if level == "organization":
            scene.observe(an_organization(version=2, generation=2))
        if level == "sender":
            scene.observe(a_sender(version=2))
        if level == "archive":
            scene.observe(an_archive(version=2, generation=2))
        await turns()
    assert scene.reconciled == [event.name]


@pytest.mark.parametrize(
    ("spec", "is_resumed"),
    [({"ttl": {"succeeded": "9000h"}}, False), ({"defaultSenderRef": {"name": "ben"}}, True)],
)
async def test_an_envelope_that_was_not_found_is_looked_for_at_once_only_if_another_sender_may_see_it(
    spec: dict[str, Any], *, is_resumed: bool
) -> None:
    scene = a_scene()
    scene.answers(finishes)
    events = waiting("EnvelopeNotFound", 2)
    async with scene.running():
        scene.observe(*events)
        scene.observe(an_organization(version=2, generation=2, **spec))
        await turns()
    assert scene.reconciled == ([each.name for each in events] if is_resumed else [])


async def test_an_organization_that_appears_resumes_its_events() -> None:
    scene = HandlersScene()
    scene.observe(a_sender(), an_archive())
    scene.answers(finishes)
    events = waiting("OrganizationMissing", 3)
    async with scene.running():
        scene.observe(*events)
        await turns()
        assert scene.reconciled == []
        scene.observe(an_organization())
        await turns()
    assert len(scene.reconciled) == 3


async def test_a_sender_that_appears_resumes_who_missed_it() -> None:
    scene = HandlersScene()
    scene.observe(an_organization(), an_archive())
    scene.answers(finishes)
    events = waiting("SenderMissing", 2)
    async with scene.running():
        scene.observe(*events)
        scene.observe(a_sender())
        await turns()
    assert len(scene.reconciled) == 2


@pytest.mark.parametrize(
    ("reason", "missing"),
    [
        ("OrganizationMissing", an_organization()),
        ("SenderMissing", a_sender()),
        ("ArchiveMissing", ready(an_archive())),
    ],
    ids=["organization", "sender", "archive"],
)
async def test_an_object_that_appears_while_the_run_that_missed_it_stores_its_state_resumes_the_event(
    reason: str, missing: Resource
) -> None:
    scene = HandlersScene()
    scene.observe(
        *(each for each in (an_organization(), a_sender(), an_archive()) if type(each) is not type(missing))
    )

    def misses(event: EnvelopeEvent) -> EnvelopeEvent:
        scene.answers(finishes)
        scene.observe(missing)
        return moved(event, Phase.VALIDATING, reason, next_attempt_time=LATER)

    scene.answers(misses)
    event = number(1).build()
    async with scene.running():
        scene.observe(event)
        await turns()
    assert scene.reconciled == [event.name, event.name]


async def test_a_change_during_a_run_that_ends_for_another_cause_does_not_hasten_the_next() -> None:
    scene = a_scene()

    def fails(event: EnvelopeEvent) -> EnvelopeEvent:
        scene.observe(ready(an_archive(version=2, generation=2)))
        return moved(event, Phase.COLLECTING, "EsawFailing", next_attempt_time=LATER)

    scene.answers(fails)
    event = number(1).build()
    async with scene.running():
        scene.observe(event)
        await turns()
    assert scene.reconciled == [event.name]


async def test_another_default_sender_frees_what_waits_for_the_key_of_the_old_one() -> None:
    scene = HandlersScene()
    scene.observe(an_organization(), a_sender(authorized="False"), a_sender("ben"), an_archive())
    event = number(1).in_phase(Phase.AWAITING_CONSENT, "TokenRejected").build()
    scene.cache.sender_of[event.name] = "anna"
    async with scene.running():
        scene.observe(event)
        await turns()
        assert scene.reconciled == []
        scene.observe(an_organization(version=2, generation=2, defaultSenderRef={"name": "ben"}))
        await turns()
    assert scene.reconciled == [event.name]
    assert scene.cache.sender_of == {}


@pytest.mark.parametrize("label", [None, "anna", "ben"])
async def test_after_a_change_of_leader_a_consent_resumes_an_event_with_any_label(label: str | None) -> None:
    scene = HandlersScene()
    scene.observe(
        an_organization(), a_sender(authorized="False"), a_sender("ben", authorized="False"), an_archive()
    )
    seen = EnvelopeSummary(status="Completed", sender_ref=SenderReference(name="anna", user_id=ANNA))
    waits = an_event().in_phase(Phase.AWAITING_CONSENT, "TokenRejected").status(envelope=seen)
    event = (waits if label is None else waits.labelled(SENDER_LABEL, label)).build()
    async with scene.running():
        scene.observe(event)
        await turns()
        assert scene.reconciled == []
        scene.observe(a_sender(authorized="True", version=2))
        await turns()
    assert scene.reconciled == [event.name]


async def test_a_held_event_is_not_resumed_by_a_change_that_solves_nothing_for_it() -> None:
    scene = a_scene()
    event = number(1).in_phase(Phase.COLLECTING, "Suspended").suspended().build()
    async with scene.running():
        scene.observe(event)
        scene.observe(ready(an_archive(version=2, generation=2)), an_organization(version=2, generation=2))
        await turns()
    assert scene.reconciled == []


async def test_the_end_of_an_object_that_held_events_is_shown_in_them() -> None:
    for held_by in ("organization", "sender", "archive"):
        scene = HandlersScene()
        organization = an_organization(suspend=held_by == "organization")
        sender = a_sender(suspend=held_by == "sender")
        archive = an_archive(suspend=held_by == "archive")
        scene.observe(organization, sender, archive)
        reason = f"{held_by.capitalize()}Suspended"
        event = number(1).in_phase(Phase.VALIDATING, reason).build()
        scene.cache.sender_of[event.name] = "anna"
        async with scene.running():
            scene.observe(event)
            await turns()
            assert scene.reconciled == []
            scene.see_deleted({"organization": organization, "sender": sender, "archive": archive}[held_by])
            await turns()
        assert scene.reconciled == [event.name]


async def test_a_change_of_status_alone_resumes_nothing_and_asks_for_no_look() -> None:
    scene = a_scene()
    async with scene.running():
        scene.observe(*waiting("TagMissing"), *waiting("OrganizationMissing", 2)[1:])
        scene.observe(an_organization(version=2), a_sender(version=2), ready(an_archive(version=2)))
        await turns()
    assert scene.reconciled == []


# -- Which controller writes the status of which object ------------------------------------------------------


def test_each_shared_object_has_one_controller_that_writes_its_status() -> None:
    controllers = [held_shards(number, of=3) for number in range(3)]
    for kind, name in (("sender", "anna"), ("archive", "dms"), ("walk", "events")):
        assert sum(each.owns(kind, name) for each in controllers) == 1


async def test_everything_is_known_before_the_first_event_comes() -> None:
    scene = HandlersScene(an_organization(), a_sender(), an_archive())
    await scene.reflector.load()
    assert (len(scene.cache.organizations), len(scene.cache.senders), len(scene.cache.archives)) == (
        1,
        1,
        1,
    )


def test_limits_are_those_of_the_objects_as_they_are_now() -> None:
    cache = HandlersScene().cache
    cache.update(an_organization(limits={"concurrency": 3, "perSenderConcurrency": 2}))
    cache.update(an_archive(maxConcurrency=5))
    limits = concurrency_limits(cache, 7)
    assert (
        limits.process,
        limits.organization,
        limits.sender,
        limits.archive,
    ) == (
        7,
        {"acme": 3},
        {"acme": 2},
        {"dms": 5},
    )


def test_a_subscriber_is_called_once_for_each_newer_state() -> None:
    scene = HandlersScene()
    heard: list[object] = []
    for kind in (Organization, Sender, Archive):
        scene.cache.add_handler(kind, lambda before, after: heard.append(after))
    sender = a_sender()
    scene.observe(sender, sender, an_organization(), an_archive())
    scene.cache.update(Sender.parse(sender.to_dict()))
    assert len(heard) == 3


async def test_a_new_key_of_a_sender_costs_little_for_each_event_that_names_another_one() -> None:
    steps = dict[int, int]()
    for events in (10, 110):
        scene = HandlersScene(*(number(each).labelled(SENDER_LABEL, "ben").build() for each in range(events)))
        scene.observe(an_organization(), a_sender("anna", authorized=None), a_sender("ben"))
        for raw in scene.kube.objects.values():
            scene.cache.update(EnvelopeEvent.parse(raw))

        async def change(scene: HandlersScene = scene) -> None:
            scene.cache.update(a_sender("anna", version=9))

        steps[events] = await steps_of(change())
    assert (steps[110] - steps[10]) / 100 < 120
