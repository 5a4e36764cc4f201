"""
Sending a bulk: one Envelope for each of up to 1,000 envelopes, in time, once, and resumable.

eSAW is the stand-in; the API server is in memory, and a test can stop it in the middle.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from counterfoil.esaw import CallLimits, drafts, new_http_client
from counterfoil.esaw.errors import HttpStatusError, ResponseTooLarge
from counterfoil.kube.errors import Rejected
from counterfoil.resources import Envelope
from counterfoil.resources.lease import Lease
from sandbox.esaw import Behaviour, StandIn
from sandbox.esaw.core.faults import GarbageKind
from tests.support.builders import AClock, a_sender
from tests.support.pauses import eventually
from tests.support.scenes.send_page import ATTEMPT, SendScene
from tests.support.servers.standin_peers import bruno
from webhook.http_server.errors import HttpErrorKind, PageError
from webhook.pages.errors import PageErrorKind
from webhook.pages.limits import MAX_ENVELOPE_WRITES, PageLimits
from webhook.pages.send import SendJob

DRAFT = "0f9c1c2e-4b1d-4c58-9a57-6d1f0a3b2c4d"


@pytest.fixture
async def scene() -> AsyncIterator[SendScene]:
    clock = AClock()
    async with StandIn(now=clock.now) as esaw, new_http_client() as http:
        yield SendScene(esaw, clock, http)


# With the answer


async def test_a_bulk_leaves_one_envelope_per_recipient_all_of_the_same_draft(scene: SendScene) -> None:
    draft = scene.a_bulk(3)

    await scene.draft_sender().send(scene.job(draft))

    stored = scene.envelopes()
    assert sorted(stored) == sorted(scene.esaw.envelopes_of(draft))
    for envelope, spec in stored.items():
        assert spec == {
            "organizationRef": {"name": "acme"},
            "envelopeID": envelope,
            "senderRef": {"name": "anna"},
            "draftID": draft,
            "sentTime": "2026-07-01T12:00:00Z",
        }
    lease = await scene.lease()
    assert (lease.is_completed, lease.envelopes) == (True, ())


async def test_no_address_of_a_recipient_is_stored(scene: SendScene) -> None:
    await scene.draft_sender().send(scene.job(scene.a_bulk(3)))
    assert "people.example" not in repr(scene.kube.objects)


async def test_a_thousand_envelopes_cost_one_call_to_esaw_and_a_bounded_number_of_writes_at_once(
    scene: SendScene,
) -> None:
    draft = scene.a_bulk(1000)
    scene.esaw.clear_requests()

    await scene.draft_sender(attempt=60.0).send(scene.job(draft))

    assert len(scene.envelopes()) == 1000
    assert [each.operation for each in scene.esaw.requests()] == ["draft_send"]
    assert scene.kube.most == MAX_ENVELOPE_WRITES
    written = [verb for verb, _ in scene.kube.asked if verb != "get"]
    assert written == ["create", "patch", *["create"] * 1000, "patch"]


async def test_all_drafts_of_a_process_share_the_limit_of_writes(scene: SendScene) -> None:
    sender = scene.draft_sender(attempt=60.0)
    bulks = [scene.a_bulk(40) for _ in range(3)]
    await asyncio.gather(*(sender.send(scene.job(draft)) for draft in bulks))
    assert len(scene.envelopes()) == 120
    assert scene.kube.most == MAX_ENVELOPE_WRITES


async def test_the_ids_are_stored_before_the_first_envelope(scene: SendScene) -> None:
    draft = scene.a_bulk(20)
    seen: list[tuple[str, ...]] = []

    async def watch() -> None:
        await scene.kube.begun.wait()
        seen.append((await scene.lease()).envelopes)

    await asyncio.gather(watch(), scene.draft_sender().send(scene.job(draft)))

    assert seen == [tuple(scene.esaw.envelopes_of(draft))]


@pytest.mark.parametrize("verb", ["create", "patch"])
async def test_a_write_that_fails_is_repeated(scene: SendScene, verb: str) -> None:
    draft = scene.a_bulk(30)
    sender = scene.draft_sender()
    refused = Rejected(403, "Forbidden", "exceeded quota")
    lease_was_made = asyncio.Event()
    scene.kube.just_before("create", lease_was_made.set)

    async def breaks() -> None:
        await lease_was_made.wait()
        scene.kube.fail(verb, refused, refused)

    await asyncio.gather(breaks(), sender.send(scene.job(draft)))

    assert len(scene.envelopes()) == 30
    assert (await scene.lease()).is_completed


async def test_an_envelope_whose_record_is_being_deleted_is_not_recorded(scene: SendScene) -> None:
    draft = scene.esaw.add_draft(owner=scene.anna)
    lease = await scene.lost_answer(draft)
    [envelope] = scene.esaw.envelopes_of(draft)
    sender = scene.draft_sender()
    await sender.record(lease, [envelope])
    scene.kube.edit(Envelope, envelope, {"metadata": {"deletionTimestamp": "2026-07-01T12:00:00Z"}})

    with pytest.raises(Rejected):
        await sender.record(lease, [envelope])


# In time


async def test_the_person_continues_before_all_is_written_and_the_recovery_writes_the_rest(
    scene: SendScene,
) -> None:
    draft = scene.a_bulk(200)
    scene.kube.slow_after = 30
    sender = scene.draft_sender(attempt=5.0)

    async with asyncio.timeout(4.5):
        await sender.send(scene.job(draft))

    assert 30 <= len(scene.envelopes()) < 200
    assert await sender.was_sent("acme", "anna", draft), "a page that is opened again leads to the inbox"
    scene.kube.slow_after = None
    scene.esaw.clear_requests()

    await scene.recovery(sender).run_once()
    assert len(scene.envelopes()) < 200, "not while the attempt may still write"
    scene.clock.advance(seconds=6)
    await scene.recovery(sender).run_once()

    assert sorted(scene.envelopes()) == sorted(scene.esaw.envelopes_of(draft))
    assert {(spec["draftID"], spec["sentTime"]) for spec in scene.envelopes().values()} == {
        (draft, "2026-07-01T12:00:00Z")
    }
    assert (await scene.lease()).is_completed
    assert scene.esaw.requests() == [], "which needs neither eSAW nor the sender's key"


async def test_a_bulk_that_was_sent_is_not_sent_again_by_a_second_click(scene: SendScene) -> None:
    draft = scene.a_bulk(40)
    scene.kube.slow_after = 0
    sender = scene.draft_sender()
    await sender.send(scene.job(draft))
    scene.clock.advance(seconds=ATTEMPT + 1)

    await sender.send(scene.job(draft))

    assert [each.outcome for each in scene.esaw.sends(draft)] == [200]


async def test_of_several_replicas_one_writes_what_is_left(scene: SendScene) -> None:
    draft = scene.a_bulk(40)
    scene.kube.slow_after = 0
    await scene.draft_sender().send(scene.job(draft))
    scene.kube.slow_after = None
    scene.clock.advance(seconds=ATTEMPT + 1)
    before = len(scene.kube.asked)

    await asyncio.gather(*(scene.recovery(scene.draft_sender()).run_once() for _ in range(3)))

    creates = [name for verb, name in scene.kube.asked[before:] if verb == "create"]
    assert sorted(creates) == sorted(scene.esaw.envelopes_of(draft))


async def test_a_refused_bulk_delays_no_other_and_is_given_up_after_many_refusals(
    scene: SendScene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.kube.slow_after = 0
    for draft in (first := scene.a_bulk(2), second := scene.a_bulk(3)):
        await scene.draft_sender().send(scene.job(draft))
    scene.kube.slow_after = None
    scene.clock.advance(seconds=ATTEMPT + 1)
    recovery = scene.recovery(scene.draft_sender())
    [lease, _] = [each async for each in scene.leases.list_drafts()]
    refused = Rejected(403, "Forbidden", "exceeded quota")
    scene.kube.fail("create", *[refused] * len(lease.envelopes))

    await recovery.run_once()
    others = {first, second} - {lease.draft}
    assert {spec["draftID"] for spec in scene.envelopes().values()} == others

    for _ in range(scene.limits.refusals - 1):
        assert [each async for each in scene.leases.list_drafts()]
        scene.clock.advance(hours=2)
        scene.kube.fail("create", *[refused] * len(lease.envelopes))
        await recovery.run_once()
    assert [each async for each in scene.leases.list_drafts()] == []
    assert "given up" in caplog.text


# Without the answer


async def test_a_bulk_whose_answer_was_lost_is_found_with_one_search_and_one_question(
    scene: SendScene,
) -> None:
    draft = scene.a_bulk(200)
    lease = await scene.lost_answer(draft)
    scene.esaw.clear_requests()

    assert await scene.draft_sender().complete(scene.job(draft), lease)

    assert sorted(scene.envelopes()) == sorted(scene.esaw.envelopes_of(draft))
    assert [each.operation for each in scene.esaw.requests()] == ["envelope", "whoami", "find", "envelope"]
    assert scene.kube.most == MAX_ENVELOPE_WRITES
    assert not (await scene.lease()).is_completed, "the search may not show all of them yet"


async def test_a_bulk_whose_parent_is_the_draft_is_certain(scene: SendScene) -> None:
    scene.esaw.set_behaviour(Behaviour(draft_id_becomes_envelope_id=True))
    draft = scene.a_bulk(5)
    lease = await scene.lost_answer(draft)

    for _ in range(2):
        assert await scene.draft_sender().complete(scene.job(draft), lease)

    assert [spec["draftID"] for spec in scene.envelopes().values()] == [draft] * 5
    assert not (await scene.lease()).is_completed, "the search may not show all of them yet"


async def test_a_bulk_that_a_colleague_shares_is_not_the_users_own(scene: SendScene) -> None:
    scene.esaw.set_behaviour(Behaviour())
    draft = scene.a_bulk(5)
    lease = await scene.lost_answer(draft)
    job = scene.job(draft, bruno(scene.esaw))

    assert not await scene.draft_sender().complete(job, lease)
    assert scene.envelopes() == {}


async def test_the_questions_of_one_pass_are_bounded_and_the_next_pass_asks_about_others(
    scene: SendScene,
) -> None:
    scene.limits = PageLimits(confirmations=2)
    draft = scene.esaw.add_draft(owner=scene.anna)
    lease = await scene.lost_answer(draft)
    for _ in range(4):
        await drafts.send(scene.job(draft).user, scene.esaw.add_draft(owner=scene.anna))
    known = []

    for _ in range(4):
        scene.esaw.clear_requests()
        await scene.draft_sender().complete(scene.job(draft), lease)
        known.append((len(scene.envelopes()), len(scene.esaw.requests("envelope"))))

    assert known == [(2, 3), (4, 3), (5, 2), (5, 1)], "and one question whether the draft kept its id"


async def test_an_answer_that_is_too_large_splits_the_search(scene: SendScene) -> None:
    draft = scene.a_bulk(10)
    lease = await scene.lost_answer(draft)
    scene.clock.advance(minutes=10)
    later = scene.a_bulk(10)
    await drafts.send(scene.job(later).user, later)
    scene.call_limits = CallLimits(max_json_bytes=3000)
    scene.esaw.clear_requests()

    assert await scene.draft_sender().complete(scene.job(draft), lease)

    assert len(scene.envelopes()) == 20
    assert 3 <= scene.searches() <= 12


async def test_a_search_that_can_not_be_split_any_more_ends_with_an_error(scene: SendScene) -> None:
    draft = scene.a_bulk(100)
    lease = await scene.lost_answer(draft)
    scene.call_limits = CallLimits(max_json_bytes=3000)

    with pytest.raises(ResponseTooLarge):
        await scene.draft_sender().complete(scene.job(draft), lease)

    assert scene.searches() <= scene.limits.searches


async def test_the_number_of_searches_and_of_hits_is_bounded(scene: SendScene) -> None:
    scene.limits = PageLimits(searches=3, search_hits=7)
    draft = scene.a_bulk(10)
    lease = await scene.lost_answer(draft)
    await scene.draft_sender().complete(scene.job(draft), lease)
    assert len(scene.envelopes()) == 7

    scene.call_limits = CallLimits(max_json_bytes=1000)
    scene.esaw.clear_requests()
    await scene.draft_sender().complete(scene.job(draft), lease)
    assert scene.searches() == 3


async def test_after_something_was_found_the_recovery_searches_at_intervals_that_double(
    scene: SendScene,
) -> None:
    draft = scene.a_bulk(5)
    await scene.lost_answer(draft)
    recovery = scene.recovery(scene.draft_sender(), with_key=True)
    scene.esaw.clear_requests()

    while [each async for each in scene.leases.list_drafts()]:
        await recovery.run_once()
        scene.clock.advance(seconds=scene.limits.recovery_seconds)

    assert len(scene.envelopes()) == 5
    assert 5 <= scene.searches() <= 10, "in the hour for which the Lease is kept"


async def test_a_search_that_found_nothing_yet_is_repeated_in_each_pass(scene: SendScene) -> None:
    draft = scene.a_bulk(5)
    await scene.lost_answer(draft)
    scene.esaw.set_behaviour(Behaviour(most_hits=0))
    recovery = scene.recovery(scene.draft_sender(), with_key=True)
    for _ in range(3):
        await recovery.run_once()
        scene.clock.advance(seconds=scene.limits.recovery_seconds)
    assert scene.searches() == 3

    scene.esaw.set_behaviour(Behaviour())
    await recovery.run_once()

    assert len(scene.envelopes()) == 5


# Giving up


async def test_a_lease_that_can_not_be_recovered_delays_no_other(scene: SendScene) -> None:
    await scene.leases.acquire("acme", "anna", "no GUID")
    bulk = scene.a_bulk(3)
    scene.kube.slow_after = 0
    await scene.draft_sender().send(scene.job(bulk))
    scene.kube.slow_after = None
    await scene.leases.use_state("old")
    scene.clock.advance(seconds=scene.limits.state_kept_seconds + ATTEMPT + 1)

    await scene.recovery(scene.draft_sender(), with_key=True).run_once()

    assert sorted(scene.envelopes()) == sorted(scene.esaw.envelopes_of(bulk))
    assert not [name for kind, name in scene.kube.objects if name.startswith("counterfoil-state-")]


async def test_a_lease_whose_esaw_hangs_delays_no_other(scene: SendScene) -> None:
    await scene.lost_answer(scene.esaw.add_draft(owner=scene.anna))
    bulk = scene.a_bulk(3)
    scene.kube.slow_after = 0
    await scene.draft_sender().send(scene.job(bulk))
    scene.kube.slow_after = None
    scene.clock.advance(seconds=ATTEMPT + 1)
    scene.esaw.fault("draft", delay=60)
    recovery = scene.recovery(scene.draft_sender(), with_key=True)

    async def is_recorded() -> bool:
        return len(scene.envelopes()) == 3

    running = asyncio.create_task(recovery.run())
    async with asyncio.timeout(5):
        await eventually(is_recorded)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_bulk_is_not_given_up_while_nobody_could_try(scene: SendScene) -> None:
    bulk = scene.a_bulk(40)
    scene.kube.slow_after = 0
    await scene.draft_sender().send(scene.job(bulk))
    scene.kube.slow_after = None
    scene.clock.advance(days=3)

    scene.kube.go_away("create", 40)
    await scene.recovery(scene.draft_sender()).run_once()
    scene.kube.recover()
    scene.clock.advance(hours=1)
    await scene.recovery(scene.draft_sender()).run_once()

    assert sorted(scene.envelopes()) == sorted(scene.esaw.envelopes_of(bulk))


@pytest.mark.parametrize("days", [0, 3])
async def test_a_draft_is_given_up_after_an_hour_of_searches_that_were_answered(
    scene: SendScene, days: int
) -> None:
    await scene.lost_answer(scene.esaw.add_draft(owner=scene.anna))
    scene.esaw.set_behaviour(Behaviour(most_hits=0))
    scene.clock.advance(days=days)
    scene.clock.advance(seconds=-ATTEMPT)
    recovery = scene.recovery(scene.draft_sender(), with_key=True)
    scene.esaw.clear_requests()

    for _ in range(3):
        scene.esaw.fault("find", status=503)
        await recovery.run_once()
        scene.clock.advance(hours=2)
    scene.esaw.clear_faults()
    refused = scene.searches()
    while [each async for each in scene.leases.list_drafts()]:
        await recovery.run_once()
        scene.clock.advance(seconds=scene.limits.recovery_seconds)

    expected = scene.limits.given_up_seconds / scene.limits.recovery_seconds
    assert expected <= scene.searches() - refused <= expected + 1


async def test_a_pass_lists_the_drafts_that_are_open_and_not_those_of_a_day(scene: SendScene) -> None:
    for _ in range(3):
        await scene.draft_sender().send(scene.job(scene.esaw.add_draft(owner=scene.anna)))
    assert [each async for each in scene.leases.list_drafts()] == []
    recovery = scene.recovery(scene.draft_sender())
    await recovery.run_once()
    assert len([each async for each in scene.leases.list_sent()]) == 3

    scene.clock.advance(seconds=scene.limits.lease_kept_seconds + 1)
    await recovery.run_once()

    assert [each async for each in scene.leases.list_sent()] == []


async def test_of_the_sent_drafts_of_one_organization_the_newest_stay_recorded(scene: SendScene) -> None:
    scene.limits = PageLimits(sent_drafts=2)
    others = await scene.leases.acquire("globex", "anna", DRAFT)
    assert others is not None
    await scene.leases.complete(others, DRAFT)
    for number in range(4):
        lease = await scene.leases.acquire("acme", "anna", f"{number:08x}{DRAFT[8:]}")
        assert lease is not None
        await scene.leases.complete(lease, DRAFT)
        scene.clock.advance(seconds=1)

    await scene.recovery(scene.draft_sender()).run_once()

    stay = [(each.organization, each.draft[:8]) async for each in scene.leases.list_sent()]
    assert sorted(stay) == [("acme", "00000002"), ("acme", "00000003"), ("globex", DRAFT[:8])]


async def test_an_organization_whose_drafts_stay_open_begins_no_further_one(scene: SendScene) -> None:
    scene.limits = PageLimits(open_drafts=2)
    begun = [scene.esaw.add_draft(owner=scene.anna) for _ in range(3)]
    for draft in begun[:2]:
        assert await scene.leases.acquire("acme", "anna", draft) is not None
    assert await scene.leases.acquire("globex", "anna", DRAFT) is not None
    sender = scene.draft_sender()
    await scene.recovery(sender).run_once()

    with pytest.raises(PageError) as refused:
        await sender.send(scene.job(begun[2]))

    assert refused.value.kind is HttpErrorKind.BUSY
    assert scene.esaw.envelopes_of(begun[2]) == []
    scene.clock.advance(seconds=ATTEMPT + 1)
    assert await sender.send(scene.job(begun[0])), "an attempt that has begun is continued"


# Hits that cannot be read


@pytest.mark.parametrize("fault", [{"status": 404}, {"status": 500}, {"garbage": "json"}])
async def test_a_hit_that_can_not_be_read_delays_no_other(scene: SendScene, fault: dict[str, Any]) -> None:
    other = scene.esaw.add_draft(owner=scene.anna)
    draft = scene.esaw.add_draft(owner=scene.anna)
    lease = await scene.lost_answer(draft)
    await drafts.send(scene.job(other).user, other)
    scene.esaw.fault("envelope", id=scene.esaw.envelope_of(other), **fault)

    assert await scene.draft_sender().complete(scene.job(draft), lease)

    assert list(scene.envelopes()) == [scene.esaw.envelope_of(draft)]


@pytest.mark.parametrize("status", [403, 404])
async def test_a_hit_that_another_program_refuses_may_be_the_users_own(scene: SendScene, status: int) -> None:
    draft = scene.esaw.add_draft(owner=scene.anna)
    lease = await scene.lost_answer(draft)
    envelope = scene.esaw.envelope_of(draft)
    scene.esaw.fault("envelope", id=envelope, status=status, bare=True, garbage="nothing")

    with pytest.raises(HttpStatusError):
        await scene.draft_sender().complete(scene.job(draft), lease)


async def test_the_search_uses_the_address_that_esaw_has_now(scene: SendScene) -> None:
    scene.sender = a_sender(email="before@people.example", tokenSecretRef=None)
    draft = scene.esaw.add_draft(owner=scene.anna)
    lease = await scene.lost_answer(draft)

    assert await scene.draft_sender().complete(scene.job(draft), lease)

    assert list(scene.envelopes()) == [scene.esaw.envelope_of(draft)]


# The answer to the person


async def error_kind(scene: SendScene, draft: str, tags: Mapping[str, str] | None = None) -> PageErrorKind:
    """The kind of the error with which an attempt to send ends."""
    with pytest.raises(PageError) as raised:
        await scene.draft_sender(attempt=0.6).send(replace(scene.job(draft), tags=tags))
    assert isinstance(raised.value.kind, PageErrorKind)
    return raised.value.kind


async def test_an_esaw_that_is_too_slow_before_the_send_leaves_a_draft_that_can_be_sent_at_once(
    scene: SendScene,
) -> None:
    draft = scene.esaw.add_draft(owner=scene.anna)
    scene.esaw.fault("draft_update", delay=5, times=1)

    assert await error_kind(scene, draft, {"kind": "Sale"}) is PageErrorKind.ESAW_DOWN

    assert [each async for each in scene.leases.list_drafts()] == []


@pytest.mark.parametrize("garbage", ["html", "nothing", "oauth"])
@pytest.mark.parametrize("status", [400, 403, 404, 409])
async def test_a_draft_that_was_sent_is_recorded_although_another_program_answered_for_esaw(
    scene: SendScene, status: int, garbage: GarbageKind
) -> None:
    draft = scene.a_bulk(3)
    scene.esaw.fault("draft_send", times=1, lose_answer=True, status=status, bare=True, garbage=garbage)

    await scene.draft_sender().send(scene.job(draft))

    assert sorted(scene.envelopes()) == sorted(scene.esaw.envelopes_of(draft))


async def test_no_page_says_that_esaw_refused_a_draft_when_another_program_answered(scene: SendScene) -> None:
    draft = scene.esaw.add_draft(owner=scene.anna)
    scene.esaw.fault("draft_send", times=1, status=403, bare=True)

    assert await error_kind(scene, draft) is PageErrorKind.UNKNOWN_OUTCOME


async def test_the_result_is_unknown_if_the_api_server_is_down_after_the_send(scene: SendScene) -> None:
    draft = scene.esaw.add_draft(owner=scene.anna)
    scene.esaw.fault("draft_send", times=1, lose_answer=True)
    scene.kube.go_away("get", 9)

    assert await error_kind(scene, draft) is PageErrorKind.UNKNOWN_OUTCOME


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 401}, {"garbage": "html"}, {"delay": 5}])
async def test_the_result_of_an_earlier_attempt_is_unknown_while_esaw_can_not_be_asked(
    scene: SendScene, fault: dict[str, Any]
) -> None:
    draft = scene.esaw.add_draft(owner=scene.anna)
    await scene.lost_answer(draft)
    scene.esaw.fault("draft", **fault)

    assert await error_kind(scene, draft) is PageErrorKind.UNKNOWN_OUTCOME


@pytest.mark.parametrize("verb", ["get", "patch"])
async def test_the_result_is_unknown_to_a_second_click_if_the_api_server_is_down(
    scene: SendScene, verb: str
) -> None:
    draft = scene.esaw.add_draft(owner=scene.anna)
    await scene.lost_answer(draft)
    scene.kube.go_away(verb, 1)

    with pytest.raises(PageError) as raised:
        await scene.draft_sender().send(scene.job(draft))

    assert raised.value.kind is PageErrorKind.UNKNOWN_OUTCOME


# Tags that were corrected after a lost answer


def with_tags(scene: SendScene, draft: str, kind: str) -> SendJob:
    """The job of a form in which a person entered this kind."""
    return replace(scene.job(draft), tags={"kind": kind})


async def lost_answer_with_tags(scene: SendScene, draft: str, *, is_sent: bool = True) -> None:
    """An attempt with the tag ``Sale`` whose process is killed around the call that sends."""
    lease = await scene.leases.acquire("acme", "anna", draft, {"kind": "Sale"})
    assert lease is not None
    if is_sent:
        await drafts.send(scene.job(draft).user, draft)
    scene.clock.advance(seconds=ATTEMPT + 1)


@pytest.mark.parametrize(("kind", "has_tags"), [("Sale", True), ("Lease", False)])
async def test_a_person_who_corrects_the_tags_of_a_sent_draft_reads_that_it_was_sent_before(
    scene: SendScene, kind: str, *, has_tags: bool
) -> None:
    draft = scene.esaw.add_draft(owner=scene.anna)
    await lost_answer_with_tags(scene, draft)

    assert await scene.draft_sender().send(with_tags(scene, draft, kind)) is has_tags
    assert await scene.draft_sender().send(with_tags(scene, draft, kind)) is has_tags


async def test_tags_that_came_after_the_end_of_a_send_are_not_those_of_the_envelope(scene: SendScene) -> None:
    draft = scene.esaw.add_draft(owner=scene.anna)
    assert await scene.draft_sender().send(with_tags(scene, draft, "Sale"))

    assert await scene.draft_sender().send(with_tags(scene, draft, "Sale"))
    assert not await scene.draft_sender().send(with_tags(scene, draft, "Lease"))


async def test_tags_that_were_corrected_before_the_draft_was_sent_are_those_of_the_envelope(
    scene: SendScene,
) -> None:
    draft = scene.esaw.add_draft(owner=scene.anna)
    await lost_answer_with_tags(scene, draft, is_sent=False)

    assert await scene.draft_sender().send(with_tags(scene, draft, "Lease"))


async def test_an_attempt_that_was_killed_after_it_took_over_does_not_hide_which_tags_were_sent(
    scene: SendScene,
) -> None:
    draft = scene.esaw.add_draft(owner=scene.anna)
    await lost_answer_with_tags(scene, draft)
    killed = await scene.leases.take_over(await scene.lease(), {"kind": "Lease"})
    assert killed is not None
    scene.clock.advance(seconds=ATTEMPT + 1)

    assert not await scene.draft_sender().send(with_tags(scene, draft, "Lease"))


async def test_the_recovery_of_a_bulk_does_not_hide_which_tags_were_sent(scene: SendScene) -> None:
    draft = scene.a_bulk(2)
    scene.kube.slow_after = 0
    await scene.draft_sender().send(with_tags(scene, draft, "Sale"))
    scene.kube.slow_after = None
    scene.clock.advance(seconds=ATTEMPT + 1)
    await scene.recovery(scene.draft_sender()).run_once()

    assert await scene.draft_sender().send(with_tags(scene, draft, "Sale"))
    assert not await scene.draft_sender().send(with_tags(scene, draft, "Lease"))


async def test_no_tag_can_be_read_or_written_in_a_lease_by_others(scene: SendScene) -> None:
    draft = scene.esaw.add_draft(owner=scene.anna)
    await lost_answer_with_tags(scene, draft)
    lease = await scene.lease()
    assert "Sale" not in repr(scene.kube.objects["leases", lease.name])
    forged = {"metadata": {"annotations": {"counterfoil.dev/tags": "Lease"}}}
    await scene.kube.patch(Lease, lease.name, forged)

    assert not await scene.draft_sender().send(with_tags(scene, draft, "Lease"))
