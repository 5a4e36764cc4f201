"""The rounds: what is looked at, how often, and that nobody waits for anybody."""

import asyncio
import gc
import itertools
from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch
from weakref import WeakValueDictionary

import pytest
from msgspec.structs import replace

from controller.access.secret_cache import SecretUnreadable
from controller.access.sender_keys import KeyUnusable
from controller.resync.resync import PROBE_SECONDS, SENDERS_OF_A_TURN
from controller.resync.sweep import MissedCallbackFinder, SweepOutcome
from controller.scheduling.retry_policy import INCOMPLETE_SWEEP, RESYNC_SECONDS
from counterfoil.clock import WallClock
from counterfoil.esaw import (
    new_http_client,
)
from counterfoil.esaw.client import EsawClients
from counterfoil.esaw.errors import EsawUnreachable
from counterfoil.kube.errors import Conflict, Forbidden, Unavailable
from counterfoil.kube.secret import SecretUse
from counterfoil.kube.status import MAX_CHANGE_ATTEMPTS
from counterfoil.resources import (
    SENDER_LABEL,
    Archive,
    EnvelopeEvent,
    Organization,
    Phase,
    Sender,
    SweepResult,
    event_name,
    find_condition,
    is_condition_true,
    to_json_dict,
)
from counterfoil.signatures.anchors import Anchors
from tests.support.builders import (
    ENVELOPE,
    KEY,
    NOON,
    ORIGIN,
    a_sender,
    an_event,
    an_organization,
    created_again,
    known_to_work,
    ready,
)
from tests.support.fakes.finding_esaw import key_of
from tests.support.fakes.reconcile_context import an_archive
from tests.support.scenes.resync import AcceptedUser, ResyncScene, settled
from tests.support.signed_pdfs import BETWEEN, ROOT


async def test_everything_is_looked_at_and_found_ready(tmp_path: Path) -> None:
    resync_scene = ResyncScene(tmp_path)
    async with resync_scene.resync_running():
        await resync_scene.next_pass()
    assert is_condition_true(resync_scene.archive().status.conditions, "Ready")
    assert is_condition_true(resync_scene.sender().status.conditions, "Authorized")
    assert is_condition_true(resync_scene.organization().status.conditions, "Ready")


async def test_once_everything_is_determined_nothing_is_written_any_more(tmp_path: Path) -> None:
    resync_scene = ResyncScene(tmp_path)
    async with resync_scene.resync_running():
        # The sweep finds an envelope, which is counted later.
        for _ in range(2):
            resync_scene.scene.clock.advance(seconds=60)
            await resync_scene.next_pass()
        writes = len(resync_scene.scene.kube.patches)
        for _ in range(5):
            await resync_scene.next_pass()
    assert len(resync_scene.scene.kube.patches) == writes


async def checks_of_senders(scene: ResyncScene) -> int:
    """Let one more pass be made; return the number of checks of Senders that it began."""
    loop = asyncio.get_running_loop()
    begun: list[asyncio.Task[Any]] = []

    def new_task(loop: asyncio.AbstractEventLoop, task: Any, /, **options: Any) -> asyncio.Task[Any]:
        begun.append(asyncio.Task(task, loop=loop, **options))
        return begun[-1]

    loop.set_task_factory(new_task)
    try:
        await scene.next_pass()
    finally:
        loop.set_task_factory(None)
    return sum(each.get_name().startswith("looking at Sender/") for each in begun)


async def test_a_pass_begins_no_check_of_a_sender_whose_key_works_and_that_did_not_change(
    tmp_path: Path,
) -> None:
    scene = ResyncScene(tmp_path)
    async with scene.resync_running():
        for _ in range(3):
            await scene.next_pass()
        assert await checks_of_senders(scene) == 0

        scene.put(a_sender(version=10**6))
        assert await checks_of_senders(scene) == 1
        await scene.next_pass()
        # Its next version is in the order of those that the API server writes.
        scene.scene.kube.edit(Organization, "acme", {"metadata": {"generation": 2}})
        scene.scene.observe(scene.organization())
        assert await checks_of_senders(scene) == 1


async def test_a_sender_whose_key_does_not_work_is_checked_in_each_pass(tmp_path: Path) -> None:
    scene = ResyncScene(tmp_path)
    scene.scene.kube.secrets.pop("anna-key")
    async with scene.resync_running():
        for _ in range(3):
            await scene.next_pass()
        assert await checks_of_senders(scene) == 1


async def test_a_pass_over_many_keys_that_do_not_work_leaves_other_work_its_turns(tmp_path: Path) -> None:
    scene, turns, begun = ResyncScene(tmp_path), itertools.count(), list[tuple[int, asyncio.Task[Any]]]()
    for number in range(500):
        scene.put(a_sender(f"sender-{number}", authorized="False"))
    loop, turn = asyncio.get_running_loop(), next(turns)

    def new_task(loop: asyncio.AbstractEventLoop, task: Any, /, **options: Any) -> asyncio.Task[Any]:
        begun.append((turn, asyncio.Task(task, loop=loop, **options)))
        return begun[-1][1]

    def take_turn() -> None:
        nonlocal turn
        turn = next(turns)
        loop.call_soon(take_turn)

    take_turn()
    async with scene.resync_running():
        loop.set_task_factory(new_task)
        try:
            await scene.next_pass()
        finally:
            loop.set_task_factory(None)
    checks = Counter(at for at, task in begun if task.get_name().startswith("looking at Sender/"))
    assert checks.total() == 500
    assert max(checks.values()) <= SENDERS_OF_A_TURN


async def test_a_secret_that_failed_is_read_again_although_no_check_needs_it(tmp_path: Path) -> None:
    scene = ResyncScene(tmp_path)
    secrets, lost = scene.scene.secrets, ("secret", "rarely-read")
    scene.scene.kube.refused[lost] = Unavailable(500, "InternalError", "unable to transform key")
    async with scene.resync_running():
        with pytest.raises(Unavailable):
            await secrets.value(lost[1], "token", SecretUse.TOKEN)
        before = scene.scene.kube.asked.count(lost)
        for _ in range(12):
            scene.scene.clock.advance(seconds=RESYNC_SECONDS)
            await scene.next_pass()
        assert scene.scene.kube.asked.count(lost) > before
        with pytest.raises(SecretUnreadable):
            await secrets.value(lost[1], "token", SecretUse.TOKEN)


async def test_an_esaw_that_hangs_delays_no_other_check(tmp_path: Path) -> None:
    resync_scene = ResyncScene(tmp_path)
    resync_scene.esaw_clients.named("stuck").hangs = True
    resync_scene.put(an_organization("stuck"))
    async with resync_scene.resync_running():
        await resync_scene.next_pass()
        resync_scene.scene.kube.secrets["callback"] = {"token": b"another-token-0123456789"}
        before = resync_scene.organization().status.callback_token_hashes
        await resync_scene.next_pass()
        await resync_scene.next_pass()
    assert resync_scene.organization().status.callback_token_hashes != before


async def test_a_change_during_a_check_is_seen_without_waiting_for_the_next_pass(
    tmp_path: Path,
) -> None:
    resync_scene = ResyncScene(tmp_path)
    resync_scene.scene.observe(a_sender(version=50))
    resync_scene.scene.see_deleted(resync_scene.archive())
    resync_scene.scene.kube.answering.clear()
    async with resync_scene.resync_running():
        assert not is_condition_true(resync_scene.organization().status.conditions, "Ready"), (
            "it has no archive"
        )
        resync_scene.scene.observe(
            ready(an_archive(version=2000, filesystem={"root": str(resync_scene.root)}))
        )
        await settled()
        resync_scene.scene.kube.answering.set()
        await settled()
    assert is_condition_true(resync_scene.organization().status.conditions, "Ready")


async def test_an_organization_that_another_client_changed_during_a_check_is_checked_again(
    tmp_path: Path,
) -> None:
    resync_scene = ResyncScene(tmp_path)

    def somebody_writes() -> None:
        resync_scene.scene.kube.edit(Organization, "acme", {"metadata": {"annotations": {"by": "somebody"}}})
        resync_scene.scene.observe(resync_scene.organization())

    async with resync_scene.resync_running():
        await resync_scene.next_pass()
        before = resync_scene.organization().status.callback_token_hashes
        resync_scene.scene.kube.secrets["callback"] = {"token": b"another-token-0123456789"}
        resync_scene.scene.kube.just_before("patch_status", somebody_writes)
        await resync_scene.next_pass()
    assert resync_scene.organization().status.callback_token_hashes != before


def reads_of(resync_scene: ResyncScene, secret: str) -> int:
    return sum(each == ("secret", secret) for each in resync_scene.scene.kube.asked)


async def test_a_key_that_events_wait_for_is_read_at_every_check(tmp_path: Path) -> None:
    resync_scene = ResyncScene(tmp_path)
    del resync_scene.scene.kube.secrets["anna-key"]
    resync_scene.put(parked(1))
    async with resync_scene.resync_running():
        await resync_scene.next_pass()
        before = reads_of(resync_scene, "anna-key")
        for _ in range(4):
            await resync_scene.next_pass()
        assert reads_of(resync_scene, "anna-key") == before + 4


async def test_a_key_that_does_not_work_and_nothing_waits_for_is_read_at_every_second_check_only(
    tmp_path: Path,
) -> None:
    resync_scene = ResyncScene(tmp_path)
    del resync_scene.scene.kube.secrets["anna-key"]
    async with resync_scene.resync_running():
        await resync_scene.next_pass()
        before = reads_of(resync_scene, "anna-key")
        for _ in range(10):
            await resync_scene.next_pass()
        assert reads_of(resync_scene, "anna-key") == before + 5
        resync_scene.scene.kube.secrets["anna-key"] = {"token": KEY.encode()}
        changed = resync_scene.scene.clock.now()
        while not is_condition_true(resync_scene.sender().status.conditions, "Authorized"):
            await resync_scene.next_pass()
    assert (resync_scene.scene.clock.now() - changed).total_seconds() < 30


@pytest.mark.parametrize(("used", "passes"), [("carl", 1), (None, 28)])
async def test_secrets_that_may_not_be_read_are_read_rarely_until_one_of_them_is(
    tmp_path: Path, used: str | None, passes: int
) -> None:
    """The right is one for all Senders, and thousands can be idle."""
    resync_scene = ResyncScene(tmp_path)
    kube, clock, cache = resync_scene.scene.kube, resync_scene.scene.clock, resync_scene.scene.cache
    names = ["anna", "ben", "carl"]
    secrets = [("secret", f"{name}-key") for name in names]

    async def use(name: str) -> None:
        esaw, sender = resync_scene.esaw_clients.named("acme"), cache.senders.get(name)
        assert sender is not None
        with suppress(KeyUnusable, Unavailable):
            await resync_scene.resync.sender_keys.key(sender, esaw)

    def unread() -> int:
        found = [find_condition(each.status.conditions, "Authorized") for each in cache.senders]
        return sum(each is not None and each.reason == "SecretForbidden" for each in found)

    for name in names[1:]:
        resync_scene.put(known_to_work(a_sender(name), key_of(name)))
        kube.put_secret(f"{name}-key", "token", {"token": key_of(name).encode()})
    async with resync_scene.resync_running():
        await resync_scene.next_pass()
        kube.refused |= dict.fromkeys(secrets, Forbidden(403, "Forbidden", "no"))
        for _ in range(8):
            clock.advance(seconds=10)
            for name in names:
                await use(name)
        await resync_scene.next_pass()
        before = len(kube.asked)
        for _ in range(20):
            await resync_scene.next_pass()
        assert unread() == 3
        reads = [each for each in kube.asked[before:] if each in secrets]
        assert len(reads) <= 8, "those of the cache, which reads one that failed each minute"

        for each in secrets:
            del kube.refused[each]
        if used is not None:
            await use(used)
        for _ in range(passes):
            await resync_scene.next_pass()
        assert unread() == 0


async def test_the_content_of_a_secret_leaves_memory_with_the_next_pass(tmp_path: Path) -> None:
    resync_scene = ResyncScene(tmp_path)
    secrets = resync_scene.resync.sender_keys.secret_cache
    async with resync_scene.resync_running():
        await resync_scene.next_pass()
        assert secrets._cached
        resync_scene.scene.see_deleted(resync_scene.organization())
        resync_scene.scene.see_deleted(resync_scene.archive())
        await resync_scene.next_pass()
        assert not secrets._cached


async def test_a_sender_that_was_changed_has_its_key_tried_at_once(tmp_path: Path) -> None:
    resync_scene = ResyncScene(tmp_path)
    resync_scene.scene.kube.secrets["other-key"] = resync_scene.scene.kube.secrets.pop("anna-key")
    async with resync_scene.resync_running():
        await resync_scene.next_pass()
        other = {"metadata": {"generation": 2}, "spec": {"tokenSecretRef": {"name": "other-key"}}}
        resync_scene.scene.kube.edit(Sender, "anna", other)
        resync_scene.scene.observe(resync_scene.sender())
        await settled()
    assert is_condition_true(resync_scene.sender().status.conditions, "Authorized")


async def test_a_ready_archive_is_probed_in_some_passes_and_one_that_is_not_in_each(tmp_path: Path) -> None:
    resync_scene = ResyncScene(tmp_path)

    def reads() -> float:
        """Times that the marker was read: each probe begins so, and the first one writes it."""
        labels = {"archive": "dms", "operation": "read"}
        return (
            resync_scene.scene.metrics.registry.get_sample_value("counterfoil_archive_seconds_count", labels)
            or 0
        )

    async with resync_scene.resync_running():
        for _ in range(3):
            await resync_scene.next_pass()
        assert reads() == 2
        resync_scene.scene.clock.advance(seconds=PROBE_SECONDS)
        volume = resync_scene.root.rename(resync_scene.root.with_name("unmounted"))
        await resync_scene.next_pass()
        assert reads() == 3
        ready = find_condition(resync_scene.archive().status.conditions, "Ready")
        assert ready is not None
        assert (ready.status, ready.reason) == ("False", "ArchiveRootMissing")
        await resync_scene.next_pass()
        assert reads() == 4
        volume.rename(resync_scene.root)
        await resync_scene.next_pass()
    assert is_condition_true(resync_scene.archive().status.conditions, "Ready")


async def test_an_archive_that_failed_is_probed_with_the_next_pass(tmp_path: Path) -> None:
    resync_scene = ResyncScene(tmp_path)
    async with resync_scene.resync_running():
        await resync_scene.next_pass()
        resync_scene.root.rename(resync_scene.root.with_name("unmounted"))
        await resync_scene.next_pass()
        assert is_condition_true(resync_scene.archive().status.conditions, "Ready"), "it is not due yet"
        resync_scene.resync.probe_soon("dms")
        await resync_scene.next_pass()
    assert not is_condition_true(resync_scene.archive().status.conditions, "Ready")


async def test_an_archive_whose_check_the_api_server_ended_is_checked_in_the_next_pass(
    tmp_path: Path,
) -> None:
    resync_scene = ResyncScene(tmp_path)
    kube = resync_scene.scene.kube
    async with resync_scene.resync_running():
        await resync_scene.next_pass()
        resync_scene.scene.clock.advance(seconds=PROBE_SECONDS)
        resync_scene.root.rename(resync_scene.root.with_name("unmounted"))
        kube.refused["patch_status", "dms"] = Unavailable(500, "InternalError", "no")
        await resync_scene.next_pass()
        del kube.refused["patch_status", "dms"]
        assert is_condition_true(resync_scene.archive().status.conditions, "Ready")
        await resync_scene.next_pass()
    assert not is_condition_true(resync_scene.archive().status.conditions, "Ready")


async def test_a_root_that_a_person_confirms_is_probed_at_once(tmp_path: Path) -> None:
    resync_scene = ResyncScene(tmp_path)
    async with resync_scene.resync_running():
        await resync_scene.next_pass()
        resync_scene.root.rename(resync_scene.root.with_name("unmounted"))
        resync_scene.root.mkdir()
        resync_scene.resync.probe_soon("dms")
        await resync_scene.next_pass()
        ready = find_condition(resync_scene.archive().status.conditions, "Ready")
        assert ready is not None
        assert ready.reason == "ArchiveRootChanged"

        confirmed = {"root": {"location": f"file://{resync_scene.root}/", "markerID": None}}
        resync_scene.scene.kube.edit(Archive, "dms", {"status": confirmed})
        resync_scene.scene.observe(resync_scene.archive())
        await settled()
    assert is_condition_true(resync_scene.archive().status.conditions, "Ready")


def trusted(resync_scene: ResyncScene) -> str | None:
    return resync_scene.archive().status.trust_anchors


def anchored(resync_scene: ResyncScene, *certificates: bytes) -> None:
    resync_scene.scene.kube.secrets["authorities"] = {"ca.pem": b"".join(certificates)}
    resync_scene.put(
        an_archive(filesystem={"root": str(resync_scene.root)}, trustAnchorsSecretRef={"name": "authorities"})
    )


async def test_other_trust_anchors_are_seen_with_the_next_pass_though_the_archive_is_not_due(
    tmp_path: Path,
) -> None:
    resync_scene = ResyncScene(tmp_path)
    anchored(resync_scene, ROOT.pem)
    async with resync_scene.resync_running():
        await resync_scene.next_pass()
        assert trusted(resync_scene) == Anchors.parse({"ca.pem": ROOT.pem}).id
        resync_scene.scene.kube.secrets["authorities"] = {"ca.pem": ROOT.pem, "more.pem": BETWEEN.pem}
        await resync_scene.next_pass()
    assert trusted(resync_scene) == Anchors.parse({"ca.pem": ROOT.pem + BETWEEN.pem}).id
    assert is_condition_true(resync_scene.archive().status.conditions, "Ready")


async def test_trust_anchors_that_can_no_longer_be_read_are_reported_with_the_next_pass(
    tmp_path: Path,
) -> None:
    resync_scene = ResyncScene(tmp_path)
    anchored(resync_scene, ROOT.pem)
    async with resync_scene.resync_running():
        await resync_scene.next_pass()
        resync_scene.scene.kube.secrets["authorities"] = {"ca.pem": b"garbage"}
        await resync_scene.next_pass()
        ready = find_condition(resync_scene.archive().status.conditions, "Ready")
        assert ready is not None
        assert (ready.status, ready.reason) == ("False", "SettingsInvalid")
        resync_scene.scene.kube.secrets["authorities"] = {"ca.pem": ROOT.pem}
        await resync_scene.next_pass()
    assert is_condition_true(resync_scene.archive().status.conditions, "Ready")


async def test_trust_anchors_that_stay_as_they_are_cost_no_probe(tmp_path: Path) -> None:
    resync_scene = ResyncScene(tmp_path)
    anchored(resync_scene, ROOT.pem)
    async with resync_scene.resync_running():
        # The sweep finds an envelope, which is counted later.
        for _ in range(2):
            resync_scene.scene.clock.advance(seconds=60)
            await resync_scene.next_pass()
        before = len(resync_scene.scene.kube.patches)
        await resync_scene.next_pass()
        await resync_scene.next_pass()
    assert len(resync_scene.scene.kube.patches) == before


async def test_a_probe_that_is_asked_for_is_made_at_once_with_the_secrets_of_now(tmp_path: Path) -> None:
    resync_scene = ResyncScene(tmp_path)
    anchored(resync_scene, ROOT.pem)
    async with resync_scene.resync_running():
        await resync_scene.next_pass()
    resync_scene.scene.kube.secrets["authorities"] = {"ca.pem": BETWEEN.pem}
    after = await resync_scene.resync.probe(resync_scene.archive())
    assert after.status.trust_anchors == Anchors.parse({"ca.pem": BETWEEN.pem}).id
    resync_scene.root.rename(resync_scene.root.with_name("unmounted"))
    after = await resync_scene.resync.probe(resync_scene.archive())
    assert not is_condition_true(after.status.conditions, "Ready")
    assert resync_scene.scene.cache.archives.get("dms") == after


async def test_a_probe_beside_other_writers_is_stored_in_the_end_or_said_to_be_impossible(
    tmp_path: Path,
) -> None:
    resync_scene = ResyncScene(tmp_path)
    resync_scene.scene.kube.fail("patch_status", Conflict(409, "Conflict", "somebody was first"))
    after = await resync_scene.resync.probe(resync_scene.archive())
    assert is_condition_true(after.status.conditions, "Ready")
    resync_scene.root.rename(resync_scene.root.with_name("unmounted"))
    conflicts = [Conflict(409, "Conflict", "somebody was first")] * MAX_CHANGE_ATTEMPTS
    resync_scene.scene.kube.fail("patch_status", *conflicts)
    with pytest.raises(Conflict):
        await resync_scene.resync.probe(resync_scene.archive())


def parked(count: int) -> EnvelopeEvent:
    builder = an_event(f"{count:08x}-4b1d-4c58-9a57-6d1f0a3b2c4d").labelled(SENDER_LABEL, "anna")
    return builder.in_phase(Phase.AWAITING_CONSENT, "TokenRejected").build()


async def test_a_sender_shows_how_many_events_wait_for_its_key(tmp_path: Path) -> None:
    resync_scene = ResyncScene(tmp_path)
    resync_scene.scene.cache.has_all_events = True
    del resync_scene.scene.kube.secrets["anna-key"]
    resync_scene.put(*(parked(count) for count in range(3)))
    async with resync_scene.resync_running():
        await resync_scene.next_pass()
        assert resync_scene.sender().status.waiting_events == 3
        writes = len(resync_scene.scene.kube.patches)
        await resync_scene.next_pass()
        assert len(resync_scene.scene.kube.patches) == writes
        for count in range(3):
            resync_scene.scene.see_deleted(parked(count))
        await resync_scene.next_pass()
        await resync_scene.next_pass()
    assert resync_scene.sender().status.waiting_events == 0


async def test_with_several_controllers_the_events_of_all_of_them_are_counted(tmp_path: Path) -> None:
    for shard in range(2):
        resync_scene = ResyncScene(tmp_path, shard=shard, shards=2)
        for count in range(3):
            resync_scene.scene.kube.put(parked(count))
        odd = parked(9)
        resync_scene.scene.kube.put(odd)
        resync_scene.scene.kube.edit(EnvelopeEvent, odd.name, {"spec": {"origin": "Unheard"}})
        async with resync_scene.resync_running():
            await resync_scene.next_pass()
        owns = resync_scene.scene.held.owns("sender", "anna")
        assert resync_scene.sender().status.waiting_events == (3 if owns else 0)


async def test_of_several_controllers_one_looks_at_each_object(tmp_path: Path) -> None:
    writes = []
    for shard in range(3):
        resync_scene = ResyncScene(tmp_path, shard=shard, shards=3)
        async with resync_scene.resync_running():
            await resync_scene.next_pass()
        writes.append({name for name, changes in resync_scene.scene.kube.patches if "conditions" in changes})
    assert sorted(name for each in writes for name in each) == ["acme", "anna", "dms"]


async def test_a_sweep_is_made_at_once_and_then_at_its_interval(tmp_path: Path) -> None:
    resync_scene = ResyncScene(tmp_path)
    resync_scene.put(an_organization(version=2, generation=2, sweep={"interval": "1h"}))
    times = list[datetime | None]()
    async with resync_scene.resync_running():
        for hours in (0, 0, 1, 0):
            resync_scene.scene.clock.advance(hours=hours)
            await resync_scene.next_pass()
            swept = resync_scene.organization().status.sweep
            times.append(swept.completion_time if swept is not None else None)
    assert times[0] is not None
    assert times[1] == times[0]
    assert times[2] == times[3] != times[0]


async def test_a_restart_is_no_reason_to_sweep_before_the_interval_has_passed(tmp_path: Path) -> None:
    resync_scene = ResyncScene(tmp_path)
    swept = an_organization(version=2, generation=2, sweep={"interval": "1h"}).to_dict()
    swept["status"] = {"sweep": {"completionTime": "2026-07-01T11:30:00Z", "found": 0}}
    since = "2026-07-01T11:00:00Z"
    resync_scene.put(Organization.parse(swept), known_to_work(a_sender(version=2, since=since)))
    created = [("create", event_name("acme", ENVELOPE, "envelopeFinished"))]
    async with resync_scene.resync_running():
        await resync_scene.next_pass()
        assert [each for each in resync_scene.scene.kube.asked if each[0] == "create"] == []
        resync_scene.scene.clock.advance(minutes=30)
        await resync_scene.next_pass()
    assert [each for each in resync_scene.scene.kube.asked if each[0] == "create"] == created


async def test_a_sweep_that_the_api_server_cut_off_is_made_again_soon(tmp_path: Path) -> None:
    resync_scene = ResyncScene(tmp_path)
    sweeping = an_organization(version=2, generation=2, sweep={"interval": "24h"})
    resync_scene.put(sweeping, known_to_work(a_sender(version=2)))
    resync_scene.scene.kube.go_away("create", times=1)
    async with resync_scene.resync_running():
        await resync_scene.next_pass()
        before = len(resync_scene.scene.kube.asked)
        await resync_scene.next_pass()
        assert (
            "create",
            event_name("acme", ENVELOPE, "envelopeFinished"),
        ) not in resync_scene.scene.kube.asked[before:]
        resync_scene.scene.clock.advance(seconds=INCOMPLETE_SWEEP.pauses[0])
        await resync_scene.next_pass()
    assert EnvelopeEvent.PLURAL in {plural for plural, _ in resync_scene.scene.kube.objects}


async def test_a_sweep_that_is_asked_for_counts_what_is_new_and_the_next_one_finds_nothing(
    tmp_path: Path,
) -> None:
    resync_scene = ResyncScene(tmp_path)
    resync_scene.put(known_to_work(a_sender(version=2)))
    found = [await resync_scene.resync.sweep(resync_scene.organization()) for _ in range(2)]
    assert found == [SweepOutcome(1), SweepOutcome(0, known=1)]


def swept_completely(scene: ResyncScene) -> bool:
    swept = scene.organization().status.sweep
    return swept is not None and swept.complete


async def test_a_sweep_that_skipped_a_sender_is_repeated_soon_and_then_less_often(tmp_path: Path) -> None:
    resync_scene = ResyncScene(tmp_path)
    resync_scene.put(known_to_work(a_sender(version=2)))
    esaw = resync_scene.esaw_clients.named("acme")
    esaw.search_error = EsawUnreachable("cut")
    searches = []
    async with resync_scene.resync_running():
        for _ in range(8):
            await resync_scene.next_pass()
            searches.append(esaw.failed_searches)
            resync_scene.scene.clock.advance(seconds=INCOMPLETE_SWEEP.pauses[0])
        assert not swept_completely(resync_scene)
        esaw.search_error = None
        resync_scene.scene.clock.advance(seconds=INCOMPLETE_SWEEP.pauses[-1])
        await resync_scene.next_pass()
    # Two windows each.
    assert searches == [2, 4, 4, 6, 6, 6, 6, 8]
    swept = resync_scene.organization().status.sweep
    assert swept is not None
    assert swept.found == 1


async def test_a_sender_whose_key_works_after_the_first_sweep_is_searched_at_once(tmp_path: Path) -> None:
    resync_scene = ResyncScene(tmp_path)
    resync_scene.scene.kube.secrets.pop("anna-key")
    async with resync_scene.resync_running():
        await resync_scene.next_pass()
        first = resync_scene.organization().status.sweep
        resync_scene.scene.clock.advance(hours=1)
        resync_scene.scene.kube.secrets["anna-key"] = {"token": KEY.encode()}
        await resync_scene.next_pass()
        await resync_scene.next_pass()
        second = resync_scene.organization().status.sweep
        resync_scene.scene.clock.advance(hours=4)
        await resync_scene.next_pass()
    assert first is not None
    assert second is not None
    assert (first.found, first.complete) == (0, True)
    assert (second.found, second.complete) == (1, True)
    assert second.completion_time == first.completion_time, "the next sweep of all is not later for it"
    assert resync_scene.organization().status.sweep == second


async def test_the_search_for_a_late_sender_that_fails_is_repeated_alone_and_less_and_less_often(
    tmp_path: Path,
) -> None:
    resync_scene = ResyncScene(tmp_path)
    esaw = resync_scene.esaw_clients.named("acme")
    esaw.search_error = EsawUnreachable("cut")
    searches = []
    async with resync_scene.resync_running():
        for _ in range(8):
            await resync_scene.next_pass()
            assert swept_completely(resync_scene)
            searches.append(esaw.failed_searches)
            resync_scene.scene.clock.advance(seconds=INCOMPLETE_SWEEP.pauses[0])
        esaw.search_error = None
        resync_scene.scene.clock.advance(seconds=INCOMPLETE_SWEEP.pauses[3])
        await resync_scene.next_pass()
    # Two windows each.
    assert searches == [2, 4, 4, 6, 6, 6, 6, 8]
    swept = resync_scene.organization().status.sweep
    assert swept is not None
    assert swept.found == 1


async def test_a_late_search_replaces_no_result_that_is_newer(tmp_path: Path) -> None:
    resync_scene = ResyncScene(tmp_path)
    resync_scene.scene.kube.secrets.pop("anna-key")
    newer = SweepResult(completion_time=NOON + timedelta(seconds=1), found=5, message="newer")
    find = AcceptedUser.find

    async def storing(user: AcceptedUser, **asked: Any) -> Any:
        stored = {"status": {"sweep": to_json_dict(newer)}}
        resync_scene.scene.kube.edit(Organization, "acme", stored)
        resync_scene.scene.observe(resync_scene.organization())
        return await find(user, **asked)

    async with resync_scene.resync_running():
        await resync_scene.next_pass()
        assert swept_completely(resync_scene)
        resync_scene.scene.kube.secrets["anna-key"] = {"token": KEY.encode()}
        with patch.object(AcceptedUser, "find", storing):
            await resync_scene.next_pass()
            await resync_scene.next_pass()
    assert resync_scene.organization().status.sweep == newer


async def test_a_late_sender_that_is_suspended_in_each_search_costs_no_other_sender_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resync_scene = ResyncScene(tmp_path)
    versions, searched = itertools.count(10**6), Counter[str]()
    sweep_sender = MissedCallbackFinder._sweep_sender

    def put_mallory(*, suspend: bool) -> None:
        resync_scene.put(known_to_work(a_sender("mallory", version=next(versions), suspend=suspend)))

    async def suspending(finder: MissedCallbackFinder, sweep: Any, sender: Sender) -> None:
        searched[sender.name] += 1
        await sweep_sender(finder, sweep, sender)
        if sender.name == "mallory":
            put_mallory(suspend=True)
            raise EsawUnreachable("cut")

    monkeypatch.setattr(MissedCallbackFinder, "_sweep_sender", suspending)
    resync_scene.put(known_to_work(a_sender(version=2)))
    put_mallory(suspend=True)
    async with resync_scene.resync_running():
        for _ in range(4 * 60):
            await resync_scene.next_pass()
            put_mallory(suspend=False)
            resync_scene.scene.clock.advance(minutes=1)
    assert searched["anna"] == 1
    assert 5 < searched["mallory"] < 15


async def test_a_key_that_stays_unverified_repeats_no_sweep(tmp_path: Path) -> None:
    resync_scene = ResyncScene(tmp_path)
    resync_scene.put(an_organization("other"), a_sender("late", organization="other", authorized=None))
    resync_scene.scene.kube.secrets["late-key"] = {"token": KEY.encode()}
    times = set()
    with patch.object(AcceptedUser, "whoami", side_effect=EsawUnreachable("connect")):
        async with resync_scene.resync_running():
            for _ in range(24 * 6):
                await resync_scene.next_pass()
                swept = resync_scene.organization("other").status.sweep
                assert swept is not None
                times.add(swept.completion_time)
                resync_scene.scene.clock.advance(seconds=590)
    assert len(times) == 4


async def test_a_sweep_on_request_that_skipped_a_sender_is_repeated_soon(tmp_path: Path) -> None:
    resync_scene = ResyncScene(tmp_path)
    resync_scene.put(known_to_work(a_sender(version=2)))
    esaw = resync_scene.esaw_clients.named("acme")
    esaw.search_error = EsawUnreachable("cut")
    assert (await resync_scene.resync.sweep(resync_scene.organization())).skipped == ("anna",)
    esaw.search_error = None
    async with resync_scene.resync_running():
        await resync_scene.next_pass()
        assert not swept_completely(resync_scene)
        resync_scene.scene.clock.advance(seconds=INCOMPLETE_SWEEP.pauses[0])
        await resync_scene.next_pass()
    assert swept_completely(resync_scene)


async def test_without_settings_an_organization_is_swept_every_six_hours(tmp_path: Path) -> None:
    resync_scene = ResyncScene(tmp_path)
    resync_scene.put(known_to_work(a_sender(version=2)))
    async with resync_scene.resync_running():
        await resync_scene.next_pass()
        first = resync_scene.organization().status.sweep
        resync_scene.scene.clock.advance(hours=5, minutes=59)
        await resync_scene.next_pass()
        assert resync_scene.organization().status.sweep == first
        resync_scene.scene.clock.advance(minutes=1)
        await resync_scene.next_pass()
    second = resync_scene.organization().status.sweep
    assert first is not None
    assert second is not None
    assert (
        timedelta(hours=6) <= second.completion_time - first.completion_time < timedelta(hours=6, minutes=1)
    )


async def test_an_error_of_the_api_server_does_not_end_the_passes(tmp_path: Path) -> None:
    resync_scene = ResyncScene(tmp_path)
    resync_scene.scene.kube.go_away("patch_status", times=3)
    resync_scene.scene.kube.go_away("secret", times=2)
    async with resync_scene.resync_running():
        for _ in range(3):
            await resync_scene.next_pass()
    assert is_condition_true(resync_scene.organization().status.conditions, "Ready")


async def test_a_sender_of_an_unknown_organization_is_reported_once_and_recovers(tmp_path: Path) -> None:
    resync_scene = ResyncScene(tmp_path)
    resync_scene.put(a_sender("late", organization="tomorrow", authorized=None))
    resync_scene.scene.kube.secrets["late-key"] = {"token": KEY.encode()}

    def ready() -> tuple[str, str]:
        late = Sender.parse(resync_scene.scene.kube.objects["senders", "late"])
        found = find_condition(late.status.conditions, "Ready")
        assert found is not None
        return found.status, found.reason

    async with resync_scene.resync_running():
        assert ready() == ("False", "OrganizationMissing")
        await resync_scene.next_pass()
        written = [name for name, _ in resync_scene.scene.kube.patches if name == "late"]
        assert len(written) == 1
        resync_scene.put(an_organization("tomorrow"))
        await resync_scene.next_pass()
    assert ready() == ("True", "KeyAccepted")


async def test_a_sender_with_another_spec_has_it_observed_without_an_event(tmp_path: Path) -> None:
    resync_scene = ResyncScene(tmp_path)
    async with resync_scene.resync_running():
        assert resync_scene.sender().status.observed_generation == 1
        resync_scene.scene.kube.edit(Sender, "anna", {"metadata": {"generation": 2}})
        resync_scene.scene.observe(resync_scene.sender())
        await resync_scene.next_pass()
        assert resync_scene.sender().status.observed_generation == 2


async def test_a_key_that_worked_is_checked_again_when_its_organization_leads_elsewhere(
    tmp_path: Path,
) -> None:
    resync_scene = ResyncScene(tmp_path)

    def reason() -> str:
        found = find_condition(resync_scene.sender().status.conditions, "Authorized")
        return found.reason if found is not None else ""

    async def lead_to(origin: str) -> None:
        resync_scene.esaw_clients.named("acme").origin = origin
        resync_scene.scene.kube.edit(Organization, "acme", {"spec": {"baseURL": origin}})
        resync_scene.scene.observe(resync_scene.organization())
        await resync_scene.next_pass()

    async with resync_scene.resync_running():
        await resync_scene.next_pass()
        assert reason() == "KeyAccepted"
        await lead_to("https://elsewhere.example")
        assert reason() == "OriginChanged"
        await lead_to(ORIGIN)
        assert reason() == "KeyAccepted"


async def test_a_sweep_that_a_clock_ahead_recorded_does_not_delay_the_next_one(tmp_path: Path) -> None:
    resync_scene = ResyncScene(tmp_path)
    swept = SweepResult(completion_time=resync_scene.scene.clock.now() + timedelta(days=30), found=0)
    organization = an_organization(version=2)
    resync_scene.put(replace(organization, status=replace(organization.status, sweep=swept)))
    async with resync_scene.resync_running():
        await resync_scene.next_pass()
    found = resync_scene.organization().status.sweep
    assert found is not None
    assert found.completion_time < swept.completion_time


async def test_the_sweep_of_a_deleted_organization_says_nothing_about_one_that_has_its_name(
    tmp_path: Path,
) -> None:
    resync_scene = ResyncScene(tmp_path)
    resync_scene.put(known_to_work(a_sender(version=2)))
    find, before = AcceptedUser.find, resync_scene.organization()

    async def creating_again(user: AcceptedUser, **asked: Any) -> Any:
        if resync_scene.organization().uid == before.uid:
            resync_scene.put(created_again(before))
        return await find(user, **asked)

    with patch.object(AcceptedUser, "find", creating_again):
        async with resync_scene.resync_running():
            await resync_scene.next_pass()
    swept = resync_scene.organization().status.sweep
    assert swept is not None
    assert (swept.found, swept.known, swept.complete) == (0, 1, True), "that of the new one"


async def test_the_pause_of_a_deleted_organization_is_none_for_one_that_has_its_name(tmp_path: Path) -> None:
    resync_scene = ResyncScene(tmp_path)
    resync_scene.put(known_to_work(a_sender(version=2)))
    esaw = resync_scene.esaw_clients.named("acme")
    esaw.search_error = EsawUnreachable("cut")
    async with resync_scene.resync_running():
        for _ in range(4):
            await resync_scene.next_pass()
        assert not swept_completely(resync_scene)
        esaw.search_error = None
        resync_scene.put(created_again(resync_scene.organization()))
        await resync_scene.next_pass()
        assert swept_completely(resync_scene)


async def test_the_names_of_deleted_objects_do_not_stay_in_memory(tmp_path: Path) -> None:
    resync_scene = ResyncScene(tmp_path)
    cache, resync = resync_scene.scene.cache, resync_scene.resync
    async with resync_scene.resync_running():
        await resync_scene.next_pass()
        for kind, name in ((Organization, "acme"), (Sender, "anna"), (Archive, "dms")):
            cache.delete(kind, name, 1_000_000)
        await resync_scene.next_pass()
    gc.collect()
    kept = [
        f"{type(owner).__name__}.{memory}"
        for owner in (resync, resync.sender_keys, resync.archive_pool, resync.organizations)
        for memory, content in vars(owner).items()
        if isinstance(content, dict | WeakValueDictionary) and {"acme", "anna", "dms"} & set(content)
    ]
    assert kept == []


@pytest.mark.parametrize("kind", [Archive, Organization])
async def test_an_object_that_is_deleted_while_it_is_checked_stays_deleted(
    kind: type[Archive] | type[Organization], tmp_path: Path
) -> None:
    resync_scene = ResyncScene(tmp_path)
    scene, known = resync_scene.scene, resync_scene.scene.cache.store(kind)
    async with resync_scene.resync_running():
        for _ in range(4):
            await resync_scene.next_pass()
        (checked,) = known

        def delete() -> None:
            del scene.kube.objects[kind.PLURAL, checked.name]
            scene.see_deleted(checked)

        def delete_soon() -> None:
            # The checks of this pass have read the cache by then.
            asyncio.get_running_loop().call_soon(delete)

        resync_scene.resync.on_pass = delete_soon
        scene.clock.advance(seconds=PROBE_SECONDS)
        resync_scene.resync.trigger()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        resync_scene.resync.on_pass = lambda: None
        await settled()
        assert checked.name not in known
        await resync_scene.next_pass()
        assert checked.name not in known


def test_the_client_of_a_deleted_organization_is_dropped() -> None:
    clients = EsawClients(new_http_client(), WallClock(), lambda *_: None)
    first = clients.for_organization(an_organization())
    assert clients.for_organization(an_organization()) is first
    clients.forget("acme")
    assert clients.for_organization(an_organization()) is not first
