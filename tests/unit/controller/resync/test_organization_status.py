"""Results of the checks of an Organization, and their conditions in its status."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from msgspec.structs import replace

from controller.access.secret_cache import FRESH_SECONDS
from controller.access.sender_keys import KeyStateUnknown, KeyUnusable
from controller.reopening.fix_rules import find_fix, fixed_at, ready_state
from controller.resync.organization_status import (
    CONFIRMED_SECONDS,
    VERSION_CHECK_SECONDS,
    OrganizationStatusUpdater,
)
from controller.resync.resync import CONFLICT_RETRY_SECONDS
from controller.scheduling.retry_policy import RESYNC_SECONDS
from counterfoil.callback_auth import is_valid_basic_auth, is_valid_token
from counterfoil.esaw import (
    ApiToken,
    EsawError,
    EsawUnreachable,
    HttpStatusError,
    new_http_client,
)
from counterfoil.esaw.client import EsawClient, EsawClients
from counterfoil.esaw.errors import RateLimited
from counterfoil.esaw.rate_limit import RateLimiter
from counterfoil.i18n.commands import commands_in
from counterfoil.i18n.problems import Ending, callback_ending, callback_failure
from counterfoil.kube.errors import ApiError, Forbidden, Unavailable
from counterfoil.origin import ORIGIN_ANNOTATION
from counterfoil.readiness import with_sender_readiness
from counterfoil.resources import (
    Activity,
    Archive,
    EnvelopeAccess,
    EventLoad,
    LastError,
    LocalObjectReference,
    Organization,
    OrganizationStatus,
    Phase,
    Sender,
    SenderKey,
    find_condition,
    is_condition_true,
    with_condition,
)
from counterfoil.sealing import Sealing
from tests.support.builders import (
    KEY,
    NOON,
    ORIGIN,
    WEBHOOK,
    AClock,
    a_sender,
    an_event,
    an_organization,
    known_to_work,
    ready,
)
from tests.support.event_loop import MAX_BLOCK_SECONDS, longest_block, slow_tag_rules
from tests.support.fakes.esaw import FakeEsawClients, KeyCheckingEsawClient
from tests.support.fakes.reconcile_context import an_archive
from tests.support.scenes.controller_parts import ControllerParts
from tests.support.virtual_time import VirtualClock, VirtualTimeLoop, run_in_virtual_time, virtual_time

NOT_PERMITTED = Forbidden(403, "Forbidden", "no")

LOOKS_PER_REQUEST = 3
"""Number of periodic checks in which an eSAW that answers is asked once."""

TOKEN = "callback-token-0123456789"
OTHER = "another-token-0123456789"
BENS_KEY = "bens-key-0123456789"


class Scene(ControllerParts):
    """An Organization with all that it needs."""

    def __init__(
        self,
        *,
        callback_url: str | None = None,
        own_namespace: str = "tests",
        esaw_clients: EsawClients | None = None,
        **spec: Any,
    ) -> None:
        super().__init__(an_organization(**spec), esaw_clients=esaw_clients)
        self.cache.archives.put(ready(an_archive()))
        self.cache.senders.put(known_to_work(a_sender()))
        self.kube.secret_uses |= {"more": "callback", "lock": "callback", "hook": "webhook"}
        self.kube.put_secret("callback", "callback", {"token": TOKEN.encode()})
        self.put_key()
        self.start(callback_url, own_namespace)

    def start(self, callback_url: str | None = None, own_namespace: str = "tests") -> None:
        """Begin without what only a process knows."""
        self.organizations = OrganizationStatusUpdater(
            kube=self.kube,
            cache=self.cache,
            secrets=self.secrets,
            sender_keys=self.sender_keys,
            esaw_clients=self.esaw_clients,
            clock=self.clock,
            callback_url=callback_url,
            own_namespace=own_namespace,
        )

    def newest(self) -> Organization:
        return Organization.parse(self.kube.objects["organizations", "acme"])

    async def look(
        self,
        counts: dict[str, int] | None = None,
        activity: Activity | None = None,
        load: EventLoad | None = None,
    ) -> Organization:
        await self.organizations.update_status(self.newest(), counts, activity, load)
        self.clock.advance(seconds=11)
        return self.newest()

    async def refuse(self, *names: str, problem: ApiError | None = None) -> None:
        """Refuse to read these Secrets, and look until that is no moment of an API server that starts."""
        self.kube.refused |= {("secret", name): problem or NOT_PERMITTED for name in names}
        for _ in range(7 + len(names)):
            with suppress(Unavailable):
                await self.look()
            self.clock.advance(seconds=RESYNC_SECONDS)

    async def condition(self, type_: str = "Ready") -> tuple[str, str, str]:
        found = find_condition((await self.look()).status.conditions, type_)
        assert found is not None
        return found.status, found.reason, found.message


def tokens_of(status: OrganizationStatus) -> tuple[str, ...]:
    """The tokens whose hashes are in the status."""
    return tuple(
        next((token for token in (TOKEN, OTHER) if is_valid_token(token, (each,))), "unknown")
        for each in status.callback_token_hashes
    )


async def test_an_organization_that_has_all_it_needs_is_ready() -> None:
    scene = Scene()
    assert (await scene.condition())[:2] == ("True", "Ready")
    status = scene.newest().status
    assert tokens_of(status) == (TOKEN,)
    assert status.version == "25.52.0.100"
    assert status.observed_generation == 1
    assert (await scene.condition("Reachable"))[:2] == ("True", "EsawAnswers")


LATER_ACTIONS = [{"action": "envelopeFinished"}, {"action": "workstepFinished"}]
RECORDED = {"action": "envelopeRejected", "handling": "Record"}
ONE, BOTH = ("envelopeFinished",), ("envelopeFinished", "workstepFinished")


@pytest.mark.parametrize(
    ("before", "generation", "actions", "expected"),
    [
        ((None, None), 1, LATER_ACTIONS[:1], ONE),
        ((None, None), 3, LATER_ACTIONS, BOTH),
        ((None, 1), 1, LATER_ACTIONS[:1], None),
        ((ONE, 1), 2, LATER_ACTIONS[:1], ONE),
        ((ONE, 1), 2, LATER_ACTIONS, BOTH),
        ((ONE, 1), 2, [{"action": "EnvelopeFinished"}], ("EnvelopeFinished", "envelopeFinished")),
        ((BOTH, 2), 3, LATER_ACTIONS[:1], BOTH),
        ((ONE, 1), 3, LATER_ACTIONS[:1], None),
        ((ONE, 1), 2, [*LATER_ACTIONS[:1], RECORDED], ("*", *ONE)),
        ((("*", *ONE), 2), 3, LATER_ACTIONS[:1], ("*", *ONE)),
    ],
)
async def test_an_organization_keeps_the_actions_whose_events_archived_envelopes(
    before: tuple[tuple[str, ...] | None, int | None],
    generation: int,
    actions: list[dict[str, str]],
    expected: tuple[str, ...] | None,
) -> None:
    scene = Scene(actions=actions)
    status = {"archivedActions": before[0], "observedGeneration": before[1]}
    scene.kube.edit(Organization, "acme", {"metadata": {"generation": generation}, "status": status})
    updated = await scene.organizations.update_status(scene.newest())
    assert updated is not None
    assert updated.status.archived_actions == expected
    several = expected is None or len(expected) > 1
    assert updated.may_have_several_events is (several or len(actions) > 1)


async def test_an_organization_that_is_created_again_does_not_know_the_actions_of_the_one_before() -> None:
    scene = Scene(actions=LATER_ACTIONS[:1])
    scene.kube.put(an_event().build())
    updated = await scene.organizations.update_status(scene.newest())
    assert updated is not None
    assert updated.status.archived_actions is None
    assert updated.may_have_several_events


async def test_looking_again_writes_nothing() -> None:
    scene = Scene()
    for _ in range(20):
        await scene.look()
    assert len(scene.kube.patches) == 1


async def test_an_organization_says_since_when_all_works_with_its_current_configuration() -> None:
    scene = Scene()
    assert (await scene.look()).status.settled_time == NOON
    assert (await scene.look()).status.settled_time == NOON, "nothing changed"

    scene.kube.edit(Organization, "acme", {"metadata": {"generation": 2}})
    assert (await scene.look()).status.settled_time == NOON + timedelta(seconds=22)


async def test_only_another_esaw_or_default_sender_is_another_access_to_envelopes() -> None:
    scene = Scene()
    first = (await scene.look()).status.envelope_access
    scene.kube.edit(
        Organization, "acme", {"metadata": {"generation": 2}, "spec": {"ttl": {"failed": "999h"}}}
    )
    second = (await scene.look()).status
    assert second.spec_observed_time != NOON
    assert second.envelope_access == first
    scene.kube.edit(
        Organization, "acme", {"metadata": {"generation": 3}, "spec": {"defaultSenderRef": {"name": "ben"}}}
    )
    third = (await scene.look()).status
    expected = EnvelopeAccess(
        base_url=scene.newest().spec.base_url,
        default_sender="ben",
        observed_time=third.spec_observed_time,
    )
    assert third.envelope_access == expected
    scene.kube.edit(Organization, "acme", {"metadata": {"generation": 4}, "spec": {"defaultSenderRef": None}})
    fourth = (await scene.look()).status.envelope_access
    assert fourth is not None
    assert fourth.default_sender is None


async def test_an_organization_whose_esaw_can_be_reached_again_is_settled_then() -> None:
    scene = Scene()
    scene.esaw.problem = EsawUnreachable("connect")
    assert (await scene.look()).status.settled_time is None
    scene.esaw.problem = None
    assert (await scene.look()).status.settled_time == NOON + timedelta(seconds=11)


async def test_an_esaw_at_a_forbidden_address_is_reported_with_what_to_correct() -> None:
    scene = Scene()
    scene.esaw.problem = EsawUnreachable("forbidden")
    truth, reason, message = await scene.condition("Reachable")
    assert (truth, reason) == ("False", "EsawAddressForbidden")
    assert "spec.baseURL" in message
    assert "allowLoopback" in message


async def test_an_esaw_that_never_answers_is_not_reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    assert await scene.condition("Reachable") == ("True", "EsawAnswers", "eSignAnyWhere answers.")

    async def hang(token: ApiToken | None = None) -> str:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr("controller.resync.organization_status.REACHABLE_SECONDS", 0.01)
    monkeypatch.setattr(scene.esaw, "version", hang)
    for _ in range(LOOKS_PER_REQUEST):
        truth, reason, _ = await scene.condition("Reachable")
    assert (truth, reason) == ("False", "EsawUnreachable")
    assert (await scene.condition())[:2] == ("False", "EsawUnreachable")


@pytest.mark.parametrize(("seconds", "reason"), [(19.0, "EsawAnswers"), (21.0, "EsawUnreachable")])
def test_the_wait_for_requests_per_minute_says_nothing_about_esaw(
    seconds: float, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look() -> tuple[str, str, str]:
        loop, scene = asyncio.get_running_loop(), Scene()
        assert isinstance(loop, VirtualTimeLoop)
        rate_limiter = RateLimiter(VirtualClock(loop), per_second=1 / 3, max_retry_after=3600)
        runs = [asyncio.create_task(rate_limiter.acquire()) for _ in range(16)]

        async def version(token: ApiToken | None = None) -> str:
            await rate_limiter.acquire()
            await asyncio.sleep(seconds)
            return "25.52.0.100"

        monkeypatch.setattr(scene.esaw, "version", version)
        await asyncio.sleep(0)
        found = await scene.condition("Reachable")
        await asyncio.gather(*runs)
        return found

    assert run_in_virtual_time(look())[1] == reason


def test_a_key_that_others_verify_for_long_says_nothing_about_esaw(monkeypatch: pytest.MonkeyPatch) -> None:
    async def verify(*_: object) -> ApiToken:
        await asyncio.sleep(3600)
        raise AssertionError

    async def look() -> tuple[str, list[ApiToken | None]]:
        scene = Scene()
        monkeypatch.setattr(scene.sender_keys, "key", verify)
        return (await scene.condition("Reachable"))[1], scene.esaw.tokens

    assert run_in_virtual_time(look()) == ("EsawAnswers", [None])


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (None, ("Unknown", "EsawUnconfirmed")),
        ("answer", ("True", "EsawAnswers")),
        ("failure", ("False", "EsawUnreachable")),
        ("edit", ("True", "EsawAnswers")),
        ("other address", ("Unknown", "EsawUnconfirmed")),
    ],
)
def test_a_refusal_without_a_key_that_others_verify_says_nothing_new_about_esaw(
    known: str | None, expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def verify(*_: object) -> ApiToken:
        await asyncio.sleep(3600)
        raise AssertionError

    async def look() -> tuple[str, str]:
        scene = Scene()
        if known is not None:
            scene.esaw.problem = EsawUnreachable("connect") if known == "failure" else None
            await scene.look()
        if known in {"edit", "other address"}:
            spec = {"baseURL": "https://other.example.com"} if known == "other address" else {}
            scene.kube.edit(Organization, "acme", {"metadata": {"generation": 2}, "spec": spec})
        monkeypatch.setattr(scene.sender_keys, "key", verify)
        scene.esaw.problem = HttpStatusError(401)
        scene.organizations.check_esaw_soon("acme")
        await scene.look()
        await asyncio.sleep(60)
        return (await scene.condition("Reachable"))[:2]

    assert run_in_virtual_time(look()) == expected


async def a_turn_each(seconds: float) -> RateLimiter:
    """A rate limit whose next turn is after this time."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    rate_limiter = RateLimiter(VirtualClock(loop), per_second=1 / seconds, max_retry_after=3600)
    await rate_limiter.acquire()
    return rate_limiter


def test_a_status_does_not_wait_for_the_turn_of_a_request_for_the_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def look() -> None:
        scene, rate_limiter = Scene(), await a_turn_each(960)
        await scene.look()
        asked = 0

        async def version(token: ApiToken | None = None) -> str:
            nonlocal asked
            asked += 1
            await rate_limiter.acquire()
            raise EsawUnreachable("connect")

        monkeypatch.setattr(scene.esaw, "version", version)
        scene.kube.secrets["callback"] = {"token": OTHER.encode()}
        scene.kube.edit(Organization, "acme", {"metadata": {"generation": 2}})
        began = virtual_time()
        status = (await scene.look()).status
        assert virtual_time() - began <= 60
        assert (tokens_of(status), status.observed_generation) == ((OTHER,), 2)
        assert (await scene.condition("Reachable"))[:2] == ("True", "EsawAnswers")
        assert virtual_time() - began <= 60, "a request that waits is waited for once"
        await asyncio.sleep(960)
        assert (await scene.condition("Reachable"))[:2] == ("False", "EsawUnreachable")
        assert asked == 1, "each request takes a turn"

    run_in_virtual_time(look())


def test_a_request_that_waits_for_its_turn_ends_with_its_organization_and_its_controller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def look(end: Callable[[OrganizationStatusUpdater], None]) -> None:
        scene, rate_limiter = Scene(), await a_turn_each(960)
        await scene.look()
        is_ended = asyncio.Event()

        async def version(token: ApiToken | None = None) -> str:
            try:
                await rate_limiter.acquire()
            finally:
                is_ended.set()
            raise AssertionError

        monkeypatch.setattr(scene.esaw, "version", version)
        scene.organizations.check_esaw_soon("acme")
        await scene.look()
        end(scene.organizations)
        async with asyncio.timeout(1):
            await is_ended.wait()

    run_in_virtual_time(look(lambda organizations: organizations.forget("acme")))
    run_in_virtual_time(look(OrganizationStatusUpdater.close))


@pytest.mark.parametrize("answers_after", [10.0, 31.0, 44.0])
def test_an_answer_of_esaw_is_stored_although_receivers_write_the_same_status(
    answers_after: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def count_unlisted_actions(scene: Scene, offset: float) -> None:
        await asyncio.sleep(offset)
        for count in range(1, 1000):
            counted = {"action": "envelopeSent", "count": count, "lastTime": "2026-07-01T12:00:00Z"}
            scene.kube.edit(Organization, "acme", {"status": {"unlistedActions": [counted]}})
            await asyncio.sleep(30)

    async def look() -> None:
        scene = Scene()
        await scene.look()

        async def version(token: ApiToken | None = None) -> str:
            await (await a_turn_each(answers_after)).acquire()
            raise EsawUnreachable("connect")

        monkeypatch.setattr(scene.esaw, "version", version)
        scene.kube.secrets["callback"] = {"token": OTHER.encode()}
        scene.kube.edit(Organization, "acme", {"metadata": {"generation": 2}})
        scene.organizations.check_esaw_soon("acme")
        receivers = [asyncio.create_task(count_unlisted_actions(scene, offset)) for offset in (5, 20)]
        ends = virtual_time() + 300
        while virtual_time() < ends:
            stored = await scene.organizations.update_status(scene.newest())
            await asyncio.sleep(CONFLICT_RETRY_SECONDS if stored is None else RESYNC_SECONDS)
        for each in receivers:
            each.cancel()
        status = scene.newest().status
        assert (tokens_of(status), status.observed_generation) == ((OTHER,), 2)
        reachable = find_condition(status.conditions, "Reachable")
        assert reachable is not None
        assert reachable.reason == "EsawUnreachable"

    run_in_virtual_time(look())


def test_the_answer_to_a_deleted_organization_says_nothing_about_one_that_has_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def look() -> None:
        scene, rate_limiter = Scene(), await a_turn_each(960)
        await scene.look()
        is_asked = asyncio.Event()

        async def version(token: ApiToken | None = None) -> str:
            is_asked.set()
            await rate_limiter.acquire()
            return "25.52.0.100"

        monkeypatch.setattr(scene.esaw, "version", version)
        scene.organizations.check_esaw_soon("acme")
        before = scene.newest()
        scene.organizations.forget("acme")
        check = asyncio.create_task(scene.organizations.update_status(before))
        await is_asked.wait()
        scene.kube.edit(Organization, "acme", {"metadata": {"uid": "created-again"}, "status": None})
        await check

        async def refuse(token: ApiToken | None = None) -> str:
            raise EsawUnreachable("connect")

        monkeypatch.setattr(scene.esaw, "version", refuse)
        assert (await scene.condition("Reachable"))[:2] == ("False", "EsawUnreachable")

    run_in_virtual_time(look())


@pytest.mark.parametrize("is_known_to_answer", [True, False])
def test_a_changed_token_takes_effect_within_30_s_although_esaw_does_not_answer(
    is_known_to_answer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look() -> None:
        scene = Scene()
        scene.esaw.problem = None if is_known_to_answer else EsawUnreachable("connect")
        await scene.look()

        rate_limiter = await a_turn_each(960)

        async def version(token: ApiToken | None = None) -> str:
            if is_known_to_answer:
                await rate_limiter.acquire()
            await asyncio.Event().wait()
            raise AssertionError

        async def resync() -> None:
            while True:
                await scene.look()
                await asyncio.sleep(RESYNC_SECONDS)

        monkeypatch.setattr(scene.esaw, "version", version)
        scene.organizations.check_esaw_soon("acme")
        checks = asyncio.create_task(resync())
        await asyncio.sleep(0.5)
        scene.kube.secrets["callback"] = {"token": OTHER.encode()}
        await asyncio.sleep(30)
        assert tokens_of(scene.newest().status) == (OTHER,)
        checks.cancel()

    run_in_virtual_time(look())


def with_senders(number: int) -> tuple[Scene, KeyCheckingEsawClient, list[str]]:
    """A scene without a default Sender, its eSAW, and the keys of this number of Senders, which all work."""
    esaw = KeyCheckingEsawClient()
    scene, keys = Scene(defaultSenderRef=None, esaw_clients=FakeEsawClients(esaw)), [KEY]
    for each in range(1, number):
        name, key = f"sender-{each:02}", f"key-of-sender-{each}-0123456789"
        scene.put_key(name, key)
        sender = a_sender(name, tokenSecretRef={"name": f"{name}-key", "key": "token"})
        scene.cache.senders.put(known_to_work(sender, key))
        esaw.users[key] = name
        keys.append(key)
    return scene, esaw, keys


async def changes_within(scene: Scene, time: timedelta) -> list[tuple[int, str]]:
    """Look for a time; return the minutes at which Reachable changed, and the new values."""
    found, began = list[tuple[int, str]](), scene.clock.now()
    while scene.clock.now() - began < time:
        minute = int((scene.clock.now() - began).total_seconds()) // 60
        truth = (await scene.condition("Reachable"))[0]
        if not found or found[-1][1] != truth:
            found.append((minute, truth))
    return found


def restart(scene: Scene) -> None:
    """Forget what only the process knows."""
    scene.esaw_clients.forget("acme")
    scene.start()


HOURS = timedelta(hours=2)
PAGE = HttpStatusError(401, is_page=True)


async def test_keys_that_are_revoked_one_after_the_other_leave_it_to_another_one_to_ask_esaw() -> None:
    scene, esaw, keys = with_senders(6)
    settled = (await scene.look()).status.settled_time
    del esaw.users[keys[0]]
    assert await changes_within(scene, timedelta(minutes=5)) == [(0, "True")]
    del esaw.users[keys[1]]
    assert await changes_within(scene, HOURS) == [(0, "True")]
    assert scene.newest().status.settled_time == settled
    assert esaw.asked == [], "who uses a key judges it"


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_a_revoked_key_that_a_page_answers_leaves_it_to_another_one_to_ask_esaw(
    *, is_restarted: bool
) -> None:
    scene, esaw, keys = with_senders(3)
    esaw.refusal = PAGE
    await scene.look()
    del esaw.users[keys[0]]
    if is_restarted:
        restart(scene)
    assert await changes_within(scene, HOURS) == [(0, "True")]
    del esaw.users[keys[1]]
    assert await changes_within(scene, HOURS) == [(0, "True")]


async def test_a_page_to_a_revoked_key_that_was_an_outage_ends_with_the_next_key() -> None:
    scene, esaw, keys = with_senders(3)
    esaw.refusal = PAGE
    await scene.look()
    del esaw.users[keys[0]]
    # An earlier version stored this result.
    raw = scene.newest().to_dict()["status"]["conditions"]
    for each in raw:
        if each["type"] == "Reachable":
            each.update(status="False", reason="EsawAnswerUnreadable")
    scene.kube.edit(Organization, "acme", {"status": {"conditions": raw}})
    restart(scene)
    assert await changes_within(scene, HOURS) == [(0, "False"), (10, "True")]


async def test_pages_to_all_keys_are_no_esaw_that_answers_half_an_hour_after_the_last_one() -> None:
    scene, esaw, _ = with_senders(3)
    esaw.refusal = PAGE
    await scene.look()
    users = dict(esaw.users)
    esaw.users.clear()
    assert await changes_within(scene, HOURS) == [(0, "True"), (30, "False")]
    assert (await scene.condition("Reachable"))[1] == "EsawUnconfirmed"
    esaw.users = users
    assert await changes_within(scene, timedelta(minutes=5)) == [(0, "True")]


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_a_key_that_esaw_accepts_for_any_call_leaves_idle_ones_unimportant(
    *, is_restarted: bool
) -> None:
    scene, esaw, keys = with_senders(21)
    await scene.look()
    esaw.users = {keys[-1]: "sender-20"}
    if is_restarted:
        restart(scene)
    assert await changes_within(scene, timedelta(minutes=2)) == [(0, "True")]
    # An event, a sweep or a check of a key makes a call.
    await esaw.as_user(ApiToken.parse(keys[-1], ORIGIN)).whoami()
    assert await changes_within(scene, HOURS) == [(0, "True")]


async def test_what_refuses_all_keys_is_no_esaw_that_answers_half_an_hour_after_the_last_one() -> None:
    scene, esaw, _ = with_senders(3)
    await scene.look()
    esaw.users.clear()
    assert await changes_within(scene, HOURS) == [(0, "True"), (30, "False")]


async def test_a_restart_during_a_refusal_says_nothing_new_about_esaw() -> None:
    scene, esaw, keys = with_senders(3)
    await scene.look()
    users = dict(esaw.users)
    esaw.users.clear()
    restart(scene)
    assert await changes_within(scene, HOURS) == [(0, "True"), (30, "False")]
    restart(scene)
    assert await changes_within(scene, HOURS) == [(0, "False")]
    esaw.users = users
    assert (await scene.condition("Reachable"))[0] == "True"
    assert len(keys) == 3


async def test_one_403_of_an_api_server_that_starts_corrects_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene, _, _ = with_senders(1)
    for _ in range(2 * LOOKS_PER_REQUEST):
        await scene.look()
    settled, read = scene.newest().status.settled_time, scene.kube.secret

    async def forbid(_: str) -> Any:
        raise Forbidden(403, "Forbidden", "not yet ready to handle request")

    monkeypatch.setattr(scene.kube, "secret", forbid)
    scene.clock.advance(seconds=FRESH_SECONDS)
    for _ in range(6):
        with suppress(Unavailable):
            await scene.look()
        scene.clock.advance(seconds=RESYNC_SECONDS)
        assert is_condition_true(scene.newest().status.conditions, "Reachable")
    monkeypatch.setattr(scene.kube, "secret", read)
    assert await changes_within(scene, HOURS) == [(0, "True")]
    assert scene.newest().status.settled_time == settled


@pytest.mark.parametrize("status", [401, 403])
async def test_no_refusal_of_any_server_ends_an_outage_and_the_return_of_esaw_does(status: int) -> None:
    scene = Scene()
    esaw, before = scene.esaw, (await scene.look()).status
    scene.clock.advance(seconds=VERSION_CHECK_SECONDS)
    esaw.problem = HttpStatusError(503)
    assert (await scene.condition("Reachable"))[0] == "False"
    for problem in [HttpStatusError(status), HttpStatusError(503)] * 3:
        esaw.problem = problem
        assert await changes_within(scene, timedelta(minutes=40)) == [(0, "False")]
        assert scene.newest().status.settled_time == before.settled_time
        assert fixed_at(scene.newest(), scene.clock.now()) is None
    esaw.problem = None
    assert await changes_within(scene, timedelta(minutes=10)) == [(0, "True")]
    corrected, last = fixed_at(scene.newest(), scene.clock.now()), before.settled_time
    assert corrected is not None, "its failed events start"
    assert last is not None
    assert corrected >= last + timedelta(hours=4)


async def test_the_return_of_an_esaw_that_refused_all_calls_is_a_correction() -> None:
    scene, esaw, _ = with_senders(2)
    before, users = (await scene.look()).status, dict(esaw.users)
    esaw.users.clear()
    assert await changes_within(scene, HOURS) == [(0, "True"), (30, "False")]
    assert (await scene.condition())[:2] == ("False", "EsawUnconfirmed")
    assert fixed_at(scene.newest(), scene.clock.now()) is None
    esaw.users = users
    await scene.look()
    corrected = fixed_at(scene.newest(), scene.clock.now())
    assert corrected is not None
    assert before.settled_time is not None
    assert corrected >= before.settled_time + HOURS


async def a_known_reachability(known: str, accepted: str) -> tuple[Scene, KeyCheckingEsawClient]:
    """Return a scene whose Reachable has this value. A key was accepted last before or after the trouble that
    made it so, or never by this process."""
    scene, esaw, keys = with_senders(1)
    users, key = dict(esaw.users), ApiToken.parse(keys[0], ORIGIN)
    # The client of this address exists before its first request for the version.
    scene.esaw_clients.for_organization(scene.newest())
    if accepted == "before":
        esaw.key_accepted(key)
        # Else nothing would be unknown.
        scene.clock.advance(seconds=CONFIRMED_SECONDS + 1 if known == "Unknown" else 5)
    match known:
        case "True":
            await scene.look()
        case "False":
            await look_during(scene, esaw, "fails")
        case "Unknown":
            await look_during(scene, esaw, "is refused without a key")
    esaw.users = users
    if accepted == "never":
        esaw.last_accepted = None
    if accepted == "after":
        scene.clock.advance(seconds=5)
        esaw.key_accepted(key)
        scene.clock.advance(seconds=5)
    found = find_condition(scene.newest().status.conditions, "Reachable")
    assert (found.status if found is not None else "") == known
    scene.organizations.check_esaw_soon("acme")
    return scene, esaw


async def look_during(scene: Scene, esaw: KeyCheckingEsawClient, request: str) -> tuple[str, str, str]:
    """Return Reachable after one request for the version that is answered, refused or fails."""
    version, key = esaw.version, scene.sender_keys.key

    async def fail(token: ApiToken | None = None) -> str:
        raise HttpStatusError(503)

    async def refuse(token: ApiToken | None = None) -> str:
        raise HttpStatusError(403)

    async def lack(*_: object) -> ApiToken:
        raise KeyUnusable("KeysRejected", "Give consent again.")

    scene.organizations.check_esaw_soon("acme")
    with pytest.MonkeyPatch.context() as patch:
        if request != "is answered":
            patch.setattr(esaw, "version", fail if request == "fails" else refuse)
        if request == "is refused without a key":
            patch.setattr(scene.sender_keys, "key", lack)
        found = await scene.condition("Reachable")
    assert (esaw.version, scene.sender_keys.key) == (version, key)
    return found


WITH_KEY, WITHOUT_KEY = "is refused with a key", "is refused without a key"
REACHABLE = {
    # By request and known value: the next one, and that after more than half an hour of such requests.
    ("is answered", ""): ("True", "True"),
    ("is answered", "True"): ("True", "True"),
    ("is answered", "False"): ("True", "True"),
    ("is answered", "Unknown"): ("True", "True"),
    ("fails", ""): ("False", "False"),
    ("fails", "True"): ("False", "False"),
    ("fails", "False"): ("False", "False"),
    ("fails", "Unknown"): ("False", "False"),
    (WITH_KEY, ""): ("Unknown", "False"),
    (WITH_KEY, "True"): ("True", "False"),
    (WITH_KEY, "False"): ("False", "False"),
    (WITH_KEY, "Unknown"): ("Unknown", "False"),
    (WITHOUT_KEY, ""): ("Unknown", "Unknown"),
    (WITHOUT_KEY, "True"): ("True", "Unknown"),
    (WITHOUT_KEY, "False"): ("False", "False"),
    (WITHOUT_KEY, "Unknown"): ("Unknown", "Unknown"),
}


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("accepted", ["never", "before", "after"])
@pytest.mark.parametrize(("request_", "known"), REACHABLE)
async def test_who_answers_is_decided_by_one_table(
    request_: str, known: str, accepted: str, *, is_restarted: bool
) -> None:
    scene, esaw = await a_known_reachability(known, accepted)
    if is_restarted:
        restart(scene)
        scene.clock.advance(seconds=5)
    if is_restarted and accepted == "after":
        esaw.key_accepted(ApiToken.parse(KEY, ORIGIN))
        scene.clock.advance(seconds=5)
        # The first request does not know whether that was after the trouble.
        await look_during(scene, esaw, request_)
        esaw.key_accepted(ApiToken.parse(KEY, ORIGIN))
        scene.clock.advance(seconds=5)
    expected, later = REACHABLE[request_, known]
    # The key of a new Organization that was accepted before its first request has seen no trouble.
    is_proved = accepted == "after" or (accepted == "before" and not known and not is_restarted)
    if request_ in (WITH_KEY, WITHOUT_KEY) and is_proved:
        expected, later = "True", REACHABLE[request_, "True"][1]
    truth, reason, message = await look_during(scene, esaw, request_)
    assert truth == expected, (reason, message)
    began = scene.clock.now()
    while scene.clock.now() - began < timedelta(seconds=CONFIRMED_SECONDS + 60):
        scene.clock.advance(minutes=1)
        truth, reason, message = await look_during(scene, esaw, request_)
    assert truth == later, (reason, message)


async def test_accepted_keys_end_an_outage_although_the_version_is_refused() -> None:
    scene, esaw = await a_known_reachability("False", "before")
    for _ in range(20):
        assert (await look_during(scene, esaw, WITH_KEY))[:2] == ("False", "EsawUnconfirmed")
    esaw.key_accepted(ApiToken.parse(KEY, ORIGIN))
    scene.clock.advance(seconds=5)
    assert (await look_during(scene, esaw, WITH_KEY))[:2] == ("True", "EsawAnswers")
    assert fixed_at(scene.newest(), scene.clock.now()) is not None
    assert (await look_during(scene, esaw, "fails"))[:2] == ("False", "EsawUnreachable")
    assert (await look_during(scene, esaw, WITH_KEY))[:2] == ("False", "EsawUnconfirmed"), "a new outage"


async def test_an_outage_continues_although_its_keys_become_unusable() -> None:
    scene, esaw = await a_known_reachability("False", "before")
    await look_during(scene, esaw, WITH_KEY)
    before = scene.newest().status
    for _ in range(20):
        scene.clock.advance(minutes=5)
        assert (await look_during(scene, esaw, WITHOUT_KEY))[:2] == ("False", "EsawUnconfirmed")
    assert scene.newest().status == before


@pytest.mark.parametrize("request_", [WITH_KEY, WITHOUT_KEY])
async def test_what_another_address_refused_says_nothing_about_this_one(request_: str) -> None:
    scene, esaw = await a_known_reachability("True", "before")
    began = scene.clock.now()
    while scene.clock.now() - began < HOURS:
        scene.clock.advance(minutes=5)
        found = await look_during(scene, esaw, WITH_KEY)
    assert found[:2] == ("False", "EsawUnconfirmed")
    spec = {"baseURL": "https://other.example.com"}
    scene.kube.edit(Organization, "acme", {"metadata": {"generation": 2}, "spec": spec})
    assert (await look_during(scene, esaw, request_))[:2] == ("Unknown", "EsawUnconfirmed")


async def test_the_key_that_another_address_refused_last_is_not_the_only_one_that_asks() -> None:
    scene, esaw, keys = with_senders(3)
    await scene.look()
    users, esaw.users = esaw.users, {}
    scene.clock.advance(seconds=VERSION_CHECK_SECONDS)
    await scene.look()
    esaw.users = {keys[-1]: users[keys[-1]]}
    newest = next(each for each in scene.cache.senders if each.name == users[keys[-1]])
    spec = {"baseURL": "https://other.example.com", "defaultSenderRef": {"name": newest.name}}
    scene.kube.edit(Organization, "acme", {"metadata": {"generation": 2}, "spec": spec})
    assert (await scene.condition("Reachable"))[:2] == ("True", "EsawAnswers")


@pytest.mark.parametrize("senders", [0, 1])
async def test_where_no_key_ever_worked_a_refusal_ends_a_known_failure(senders: int) -> None:
    scene = Scene()
    scene.cache.senders.remove("anna")
    if senders:
        scene.cache.senders.put(refused("anna"))
    scene.esaw.problem = EsawUnreachable("connect")
    assert (await scene.condition("Reachable"))[:2] == ("False", "EsawUnreachable")
    scene.esaw.problem = HttpStatusError(401)
    assert await changes_within(scene, HOURS) == [(0, "Unknown")], "no key can show that eSAW is back"


def known_not_to_work(name: str, reason: str, **spec: Any) -> Sender:
    """A Sender whose conditions tell that its key does not work."""
    sender = a_sender(name, authorized=None, version=2, **spec)
    conditions = with_condition((), "Authorized", "False", reason, "No.", now=NOON, generation=1)
    status = with_sender_readiness(sender, replace(sender.status, conditions=conditions), now=NOON)
    return replace(sender, status=status)


def with_key_that_worked(sender: Sender) -> Sender:
    key = SenderKey(fingerprint="12345678", verified_time=NOON)
    return replace(sender, status=replace(sender.status, key=key))


@pytest.mark.parametrize(
    ("sender", "expected"),
    [
        pytest.param(a_sender(version=2, suspend=True), "Unknown", id="suspended"),
        pytest.param(known_not_to_work("anna", "KeyMissing"), "Unknown", id="lost"),
        pytest.param(known_not_to_work("anna", "KeyUnreadable"), "Unknown", id="unreadable"),
        pytest.param(known_not_to_work("anna", "KeysRejected"), "False", id="refused, and asked with again"),
        pytest.param(a_sender(version=2, authorized="Unknown"), "False", id="not verified yet"),
    ],
)
async def test_where_no_key_is_asked_with_any_more_a_refusal_ends_a_known_failure(
    sender: Sender, expected: str
) -> None:
    scene = Scene()
    scene.esaw.problem = EsawUnreachable("connect")
    assert (await scene.condition("Reachable"))[:2] == ("False", "EsawUnreachable")
    scene.cache.senders.put(with_key_that_worked(sender))
    scene.esaw.problem = HttpStatusError(401)
    assert await changes_within(scene, HOURS) == [(0, expected)]


async def test_what_refuses_the_keys_of_a_new_organization_is_no_esaw_after_half_an_hour() -> None:
    scene, esaw, _ = with_senders(2)
    users = dict(esaw.users)
    esaw.users.clear()
    assert await changes_within(scene, HOURS) == [(0, "Unknown"), (30, "False")]
    esaw.users = users
    assert await changes_within(scene, HOURS) == [(0, "True")]


async def test_a_refusal_without_a_key_that_should_work_begins_no_outage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(*_: object) -> ApiToken:
        raise KeyUnusable("TokenRejected", "Give consent again.")

    scene = Scene()
    monkeypatch.setattr(scene.sender_keys, "key", refuse)
    scene.esaw.problem = HttpStatusError(403)
    assert await changes_within(scene, HOURS) == [(0, "Unknown")]
    assert (await scene.condition())[0] == "True"


@pytest.mark.parametrize("fault", ["hangs", "fails"])
def test_a_key_whose_question_hangs_hides_no_other_key(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def look() -> tuple[str, str]:
        scene, _ = a_scene_with_ben()
        key = scene.sender_keys.key

        async def verify(sender: Sender, esaw: EsawClient) -> ApiToken:
            if sender.name == "ben":
                return await key(sender, esaw)
            if fault == "hangs":
                await asyncio.Event().wait()
            raise HttpStatusError(500)

        monkeypatch.setattr(scene.sender_keys, "key", verify)
        began = virtual_time()
        found = (await scene.condition("Reachable"))[:2]
        assert virtual_time() - began < 5
        return found

    assert run_in_virtual_time(look()) == ("True", "EsawAnswers")


async def test_a_key_in_doubt_keeps_no_answer_without_end() -> None:
    scene, esaw = a_scene_with_ben()
    await scene.look()
    anna = scene.cache.senders.get("anna")
    assert anna is not None
    scene.sender_keys.doubt(anna, await scene.sender_keys.key(anna, esaw))
    scene.clock.advance(minutes=2)
    esaw.users.clear()
    esaw.problem = HttpStatusError(403)
    assert (await changes_within(scene, HOURS))[-1] == (28, "False")


@pytest.mark.parametrize("pause", [HttpStatusError(429), RateLimited(429, until=NOON, retry_after=600)])
async def test_a_pause_that_esaw_asks_for_says_nothing_new_about_it(pause: HttpStatusError) -> None:
    scene = Scene()
    await scene.look()
    scene.esaw.problem = pause
    for _ in range(2 * LOOKS_PER_REQUEST):
        assert (await scene.condition("Reachable"))[:2] == ("True", "EsawAnswers")


async def test_a_pause_after_an_outage_is_named() -> None:
    scene = Scene()
    scene.esaw.problem = EsawUnreachable("timeout")
    await scene.look()
    scene.esaw.problem = RateLimited(429, until=NOON, retry_after=600)
    truth, reason, message = await scene.condition("Reachable")
    assert (truth, reason) == ("False", "EsawUnreachable")
    assert "eSAW asked for a pause" in message


@pytest.mark.parametrize("seconds", [0.005, 0.1])
def test_an_esaw_that_hangs_is_not_reachable_although_its_time_ends_during_a_check(
    seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look() -> None:
        scene = Scene()
        await scene.look()

        async def hang(token: ApiToken | None = None) -> str:
            await asyncio.Event().wait()
            raise AssertionError

        monkeypatch.setattr(scene.esaw, "version", hang)
        read = scene.kube.secret

        async def read_slowly(name: str) -> Any:
            await asyncio.sleep(seconds)
            return await read(name)

        monkeypatch.setattr(scene.kube, "secret", read_slowly)
        ends = virtual_time() + 180
        while virtual_time() < ends:
            began = virtual_time()
            await scene.look()
            await asyncio.sleep(max(0.0, RESYNC_SECONDS + 0.001 - (virtual_time() - began)))
        assert (await scene.condition("Reachable"))[:2] == ("False", "EsawUnreachable")

    run_in_virtual_time(look())


async def test_changes_of_other_objects_ask_esaw_no_more_often() -> None:
    scene = Scene()
    for _ in range(20):
        await scene.organizations.update_status(scene.newest())
        scene.clock.advance(seconds=1)
    assert scene.esaw.asked == 1


@pytest.mark.parametrize("doubted", [1, 2, 12])
async def test_keys_in_doubt_say_nothing_new_about_esaw(doubted: int) -> None:
    esaw = KeyCheckingEsawClient()
    scene = Scene(esaw_clients=FakeEsawClients(esaw))
    for number in range(12):
        name, key = f"sender-{number}", f"key-of-sender-{number}-0123456789"
        scene.put_key(name, key)
        esaw.users[key] = name
        sender = a_sender(name, tokenSecretRef={"name": f"{name}-key", "key": "token"})
        scene.cache.senders.put(known_to_work(sender, key))
    assert (await scene.condition("Reachable"))[:2] == ("True", "EsawAnswers")
    for each in list(scene.cache.senders)[:doubted]:
        scene.sender_keys.doubt(each, await scene.sender_keys.key(each, esaw))
    for _ in range(2 * LOOKS_PER_REQUEST - 1):
        assert (await scene.condition("Reachable"))[:2] == ("True", "EsawAnswers")


@pytest.mark.parametrize("is_in_turns", [False, True])
async def test_the_question_for_the_version_shows_few_keys_to_what_refuses_all(
    *, is_in_turns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, esaw, _ = with_senders(40)
    await scene.look()
    users, shown, version = dict(esaw.users), list[str](), esaw.version

    async def count(token: ApiToken | None = None) -> str:
        shown.append(token.reveal() if token is not None else "")
        return await version(token)

    monkeypatch.setattr(esaw, "version", count)
    began = scene.clock.now()
    while scene.clock.now() - began < timedelta(minutes=59):
        esaw.users = {} if not is_in_turns or len(shown) % 2 else users
        await scene.look()
    assert len(set(shown)) in range(5, 7), "one further key each ten minutes"


async def test_another_spelling_of_the_address_shows_no_further_key(monkeypatch: pytest.MonkeyPatch) -> None:
    scene, esaw, _ = with_senders(40)
    await scene.look()
    shown, version = list[str](), esaw.version

    async def count(token: ApiToken | None = None) -> str:
        shown.append(token.reveal() if token is not None else "")
        return await version(token)

    monkeypatch.setattr(esaw, "version", count)
    esaw.users = {}
    names = [each.name for each in scene.cache.senders]
    for number in range(38):
        known = scene.newest()
        address = known.spec.base_url.rstrip("/") + "/" * (number % 2)
        default = LocalObjectReference(name=names[number])
        spec = replace(known.spec, base_url=address, default_sender_ref=default)
        generation = known.metadata.generation + 1
        metadata = replace(known.metadata, generation=generation)
        changed = replace(known, spec=spec, metadata=metadata)
        scene.cache.organizations.put(changed)
        await scene.organizations.update_status(changed)
        scene.clock.advance(seconds=30)
    assert len({*shown} - {""}) in range(1, 4), "one further key each ten minutes"


async def test_a_secret_that_may_not_be_read_keeps_no_answer_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene()
    await scene.look()

    async def forbid(*_: object) -> ApiToken:
        raise KeyStateUnknown("SecretForbidden", "Secret/anna-key may not be read.")

    monkeypatch.setattr(scene.sender_keys, "key", forbid)
    scene.esaw.problem = HttpStatusError(401)
    assert (await changes_within(scene, HOURS)) == [(0, "True"), (30, "Unknown")]


def a_scene_with_ben() -> tuple[Scene, KeyCheckingEsawClient]:
    """A scene with a second Sender."""
    esaw = KeyCheckingEsawClient(**{BENS_KEY: "ben"})
    scene = Scene(esaw_clients=FakeEsawClients(esaw))
    scene.put_key("ben", BENS_KEY)
    ben = a_sender("ben", tokenSecretRef={"name": "ben-key", "key": "token"})
    scene.cache.senders.put(known_to_work(ben, BENS_KEY))
    return scene, esaw


async def test_a_refused_key_beside_one_in_doubt_says_nothing_new_about_esaw() -> None:
    scene, esaw = a_scene_with_ben()
    await scene.look()
    del esaw.users[KEY]
    for _ in range(LOOKS_PER_REQUEST):
        await scene.look()
    ben = scene.cache.senders.get("ben")
    assert ben is not None
    scene.sender_keys.doubt(ben, await scene.sender_keys.key(ben, esaw))
    for _ in range(2 * LOOKS_PER_REQUEST):
        assert (await scene.condition("Reachable"))[:2] == ("True", "EsawAnswers")


async def test_a_key_that_can_not_be_verified_hides_no_other_key() -> None:
    scene, esaw = a_scene_with_ben()
    await scene.look()
    anna = scene.cache.senders.get("anna")
    assert anna is not None
    scene.sender_keys.doubt(anna, await scene.sender_keys.key(anna, esaw))
    scene.clock.advance(minutes=2)
    esaw.problem = HttpStatusError(403)
    for _ in range(2 * LOOKS_PER_REQUEST):
        assert (await scene.condition("Reachable"))[:2] == ("True", "EsawAnswers")


@pytest.mark.parametrize("unreadable", ["anna-key", "more"])
async def test_one_secret_that_can_not_be_read_stops_no_status(
    unreadable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, esaw = a_scene_with_ben()
    refs = [{"name": "more", "key": "token"}, {"name": "callback", "key": "token"}]
    scene.kube.edit(Organization, "acme", {"spec": {"callback": {"tokenSecretRefs": refs}}})
    scene.kube.put_secret("more", "callback", {"token": OTHER.encode()})
    await scene.look()
    read = scene.kube.secret

    async def secret(name: str) -> Any:
        if name == unreadable:
            raise Unavailable(500, "InternalError", "unable to transform key")
        return await read(name)

    async def refuse(token: ApiToken | None = None) -> str:
        raise EsawUnreachable("connect")

    monkeypatch.setattr(scene.kube, "secret", secret)
    monkeypatch.setattr(esaw, "version", refuse)
    scene.kube.edit(Organization, "acme", {"metadata": {"generation": 2}})
    for _ in range(10):
        with suppress(Unavailable):
            await scene.organizations.update_status(scene.newest())
        scene.clock.advance(seconds=RESYNC_SECONDS)
    status = scene.newest().status
    assert status.observed_generation == 2
    assert set(tokens_of(status)) == {TOKEN, OTHER}
    reachable = find_condition(status.conditions, "Reachable")
    assert reachable is not None
    assert reachable.reason == "EsawUnreachable"


async def test_all_secrets_that_can_not_be_read_share_one_minute_and_keep_what_is_published() -> None:
    scene = Scene(
        callback={
            "tokenSecretRefs": [{"name": "callback", "key": "token"}, {"name": "more", "key": "token"}],
            "basicAuthSecretRef": {"name": "lock"},
        },
        webhook=WEBHOOK,
        oauth=OAUTH,
    )
    scene.kube.put_secret("more", "callback", {"token": OTHER.encode()})
    scene.kube.put_secret("lock", "callback", {"username": b"esaw", "password": b"a-password-0123456789"})
    scene.kube.put_secret("hook", "webhook", {"secret": b"whsec_" + b"QUFB" * 8})
    scene.kube.put_secret("another", "oauth", {"secret": b"client-secret"})
    assert (await scene.condition())[0] == "True"
    before = scene.newest().status
    scene.kube.trouble["secret"] = Unavailable(500, "InternalError", "unable to transform key")
    began = scene.clock.monotonic()
    while scene.newest().status == before:
        scene.clock.advance(seconds=RESYNC_SECONDS)
        with suppress(Unavailable):
            await scene.organizations.update_status(scene.newest())
        # Each of the four after the first one has failed for ten seconds, too.
        assert scene.clock.monotonic() - began <= 70 + 4 * 10
    status = scene.newest().status
    assert scene.clock.monotonic() - began > 60
    assert status.callback_token_hashes == before.callback_token_hashes
    assert status.settled_time == before.settled_time
    ready_ = find_condition(status.conditions, "Ready")
    assert ready_ is not None
    assert (ready_.status, ready_.reason) == ("False", "SecretUnreadable")
    for name in ("callback", "lock", "hook", "another"):
        assert f"Secret/{name} " in ready_.message
    assert not is_condition_true(status.conditions, "Stalled")

    scene.kube.trouble.clear()
    assert (await scene.condition())[0] == "True"
    assert scene.newest().status.settled_time == before.settled_time


async def test_no_secret_that_may_not_be_read_is_said_to_be_missing() -> None:
    scene = Scene(
        callback={
            "tokenSecretRefs": [{"name": "callback", "key": "token"}],
            "basicAuthSecretRef": {"name": "lock"},
        },
        webhook=WEBHOOK,
        oauth=OAUTH,
    )
    scene.kube.put_secret("lock", "callback", {"username": b"esaw", "password": b"a-password-0123456789"})
    scene.kube.put_secret("hook", "webhook", {"secret": b"whsec_" + b"QUFB" * 8})
    scene.kube.put_secret("another", "oauth", {"secret": b"client-secret"})
    assert (await scene.condition())[0] == "True"
    before = scene.newest().status
    await scene.refuse("callback", "lock", "hook", "another", "anna-key")
    truth, reason, message = await scene.condition()
    assert (truth, reason) == ("False", "SecretForbidden")
    for name in ("callback", "lock", "hook", "another"):
        assert f"Secret/{name} may not be read" in message
    for advice in ("Put ", "put a new one", "kubectl", "correct spec"):
        assert advice not in message
    assert (await scene.condition("Stalled"))[0] == "False"
    assert scene.newest().status.callback_token_hashes == before.callback_token_hashes

    scene.kube.refused.clear()
    assert (await scene.condition())[0] == "True"


async def test_a_proxy_that_refuses_all_keys_for_a_while_changes_nothing_afterwards() -> None:
    esaw = KeyCheckingEsawClient()
    scene = Scene(esaw_clients=FakeEsawClients(esaw))
    names = [f"sender-{number}" for number in range(12)]
    for name in names:
        key = f"key-of-{name}-0123456789"
        scene.put_key(name, key)
        esaw.users[key] = name
        sender = a_sender(name, tokenSecretRef={"name": f"{name}-key", "key": "token"})
        scene.cache.senders.put(known_to_work(sender, key))
    for each in scene.cache.senders:
        scene.kube.put(each)
    users = dict(esaw.users)
    for _ in range(3):
        assert (await scene.condition("Reachable"))[:2] == ("True", "EsawAnswers")
        esaw.users.clear()
        assert (await changes_within(scene, timedelta(hours=1)))[-1] == (30, "False")
        esaw.users |= users
    # Nothing uses the first keys, which are revoked later.
    for revoked in list(users)[:10]:
        del esaw.users[revoked]
    assert (await changes_within(scene, HOURS))[-1][1] == "True"
    assert len(scene.cache.authorized_senders("acme")) == 13
    assert esaw.asked == []


async def test_an_esaw_that_failed_an_event_is_asked_in_the_next_check() -> None:
    scene = Scene()
    await scene.condition("Reachable")
    scene.esaw.problem = EsawUnreachable("timeout")
    assert (await scene.condition("Reachable"))[0] == "True"
    scene.organizations.check_esaw_soon("acme")
    assert (await scene.condition("Reachable"))[:2] == ("False", "EsawUnreachable")


async def test_an_organization_that_an_older_version_managed_is_not_settled_by_an_upgrade() -> None:
    scene = Scene()
    await scene.look()
    scene.kube.edit(Organization, "acme", {"status": {"settledTime": None}})
    assert (await scene.look()).status.settled_time is None


async def test_a_token_that_was_put_into_the_secret_is_known_with_the_next_check() -> None:
    scene = Scene()
    await scene.look()
    scene.kube.secrets["callback"] = {"token": OTHER.encode() + b"\n"}
    assert tokens_of((await scene.look()).status) == (OTHER,)


async def test_several_tokens_count_at_once_for_rotation() -> None:
    refs = [{"name": "callback", "key": "token"}, {"name": "callback", "key": "next"}]
    scene = Scene(callback={"tokenSecretRefs": refs})
    scene.kube.secrets["callback"]["next"] = OTHER.encode()
    assert tokens_of((await scene.look()).status) == (TOKEN, OTHER)


async def test_one_bad_token_does_not_shut_the_good_one_out() -> None:
    refs = [{"name": "callback", "key": "next"}, {"name": "callback", "key": "token"}]
    scene = Scene(callback={"tokenSecretRefs": refs})
    status = (await scene.look()).status
    assert tokens_of(status) == (TOKEN,)
    assert (await scene.condition())[:2] == ("False", "CallbackTokenMissing")


LOGIN = {"tokenSecretRefs": [{"name": "callback", "key": "token"}], "basicAuthSecretRef": {"name": "gone"}}
GONE = {"name": "gone", "key": "secret"}

MISSING: dict[str, tuple[dict[str, Any], str, str, dict[str, str]]] = {
    "callback token": (
        {"callback": {"tokenSecretRefs": [{"name": "gone", "key": "token"}]}},
        "CallbackTokenMissing",
        "callback",
        {"token": "NEW-TOKEN"},
    ),
    "login of callbacks": (
        {"callback": LOGIN},
        "BasicAuthMissing",
        "callback",
        {"username": "NEW-USERNAME", "password": "NEW-PASSWORD"},
    ),
    "OAuth client": (
        {"oauth": {"clientID": "c", "publicURL": "https://sign.acme.example", "clientSecretRef": GONE}},
        "ClientSecretMissing",
        "oauth",
        {"secret": "NEW-CLIENT-SECRET"},
    ),
    "webhook": (
        {"webhook": {"url": "https://hook.acme.example/in", "signingSecretRef": GONE}},
        "WebhookSecretMissing",
        "webhook",
        {"secret": "NEW-SIGNING-SECRET"},
    ),
}
"""Setting, reason, use of the Secret, and its keys with the placeholders of their values."""


@pytest.mark.parametrize("name", MISSING)
async def test_each_missing_secret_is_made_with_its_label(name: str) -> None:
    spec, reason, use, values = MISSING[name]
    scene = Scene(**spec)
    _, found, message = await scene.condition()
    assert found == reason
    assert [each.line for each in commands_in(message, reason, "tests")] == [
        made("gone", use, **values).replace("kubectl", "kubectl -n tests", 1)
    ]


@pytest.mark.parametrize("name", MISSING)
async def test_a_placeholder_that_is_typed_as_it_is_gets_a_hint_and_is_no_value(name: str) -> None:
    spec, reason, use, values = MISSING[name]
    scene = Scene(**spec)
    scene.kube.put_secret("gone", use, {key: value.encode() for key, value in values.items()})
    _, found, message = await scene.condition()
    key, value = next(iter(values.items()))
    assert found == reason
    assert f"Secret/gone, key '{key}': {value} is the placeholder of a command" in message
    patched = json.dumps({"stringData": {key: value}}, separators=(",", ":"))
    assert [each.line for each in commands_in(message, reason, "tests")] == [
        f"kubectl -n tests patch secret gone -p '{patched}'"
    ]


SEVERAL: dict[str, Any] = {
    "oauth": {"clientID": "c", "publicURL": "https://sign.acme.example", "clientSecretRef": GONE},
    "webhook": {
        "url": "https://hook.acme.example/in",
        "signingSecretRef": {"name": "hook", "key": "secret"},
    },
}


@pytest.mark.parametrize("has_token", [False, True])
async def test_the_commands_of_all_missing_secrets_are_found_in_one_message(*, has_token: bool) -> None:
    scene = Scene(callback={"tokenSecretRefs": [{"name": "another", "key": "token"}]}, **SEVERAL)
    if has_token:
        scene.kube.put_secret("another", "oauth", {"token": b"a-value-that-is-long-enough"})
    _, found, message = await scene.condition()
    labelled = "kubectl label secret another counterfoil.dev/use=callback"
    token = labelled if has_token else made("another", "callback", token="NEW-TOKEN")
    assert found == ("SecretNotLabelled" if has_token else "CallbackTokenMissing")
    assert [each.line.replace(" -n tests", "") for each in commands_in(message, found, "tests")] == [
        token,
        made("hook", "webhook", secret="NEW-SIGNING-SECRET"),
        made("gone", "oauth", secret="NEW-CLIENT-SECRET"),
    ]


async def test_another_problem_chooses_no_command_beside_a_missing_secret() -> None:
    planted = "(`kubectl label secret database counterfoil.dev/use=callback`"
    spec, reason, _, _ = MISSING["callback token"]
    scene = Scene(**spec, **a_route(tags={"area": {"pattern": planted}}))
    scene.cache.archives.put(ready(an_archive("vault", tags={"area": {"xpath": "/area"}})))
    _, found, message = await scene.condition()
    assert found == reason
    assert "secret database" in message
    lines = [each.line for each in commands_in(message, reason, "tests")]
    assert len(lines) == 1
    assert "database" not in lines[0]


BASIC = {"tokenSecretRefs": [{"name": "callback", "key": "token"}], "basicAuthSecretRef": {"name": "lock"}}

OAUTH = {
    "clientID": "counterfoil",
    "clientSecretRef": {"name": "another", "key": "secret"},
    "publicURL": "https://sign.acme.example",
}

TOKEN_ADVICE = (
    "Put the token of the callback URL in eSignAnyWhere there, or correct spec.callback.tokenSecretRefs. If "
    "the token is lost, put a new one there and into the callback URL, then request a sweep."
)


def made(name: str, use: str, **values: str) -> str:
    literals = " ".join(f"--from-literal={key}='{value}'" for key, value in values.items())
    return (
        f"kubectl create secret generic {name} {literals} --dry-run=client -o yaml "
        f"| kubectl label --local -f - counterfoil.dev/use={use} -o yaml | kubectl create -f -"
    )


def made_there(name: str, use: str, **values: str) -> str:
    return f"there (type `{made(name, use, **values)}`),"


def put(name: str, key: str, value: str) -> str:
    patch = json.dumps({"stringData": {key: value}}, separators=(",", ":"))
    return f"there (type `kubectl patch secret {name} -p '{patch}'`),"


TROUBLES: list[tuple[dict[str, Any], dict[str, dict[str, bytes]], str, str]] = [
    (
        {},
        {"callback": {}},
        "CallbackTokenMissing",
        f"Secret/callback has no key 'token'. "
        f"{TOKEN_ADVICE.replace('there,', put('callback', 'token', 'NEW-TOKEN'))}",
    ),
    (
        {"callback": {"tokenSecretRefs": [{"name": "nobody", "key": "token"}]}},
        {},
        "CallbackTokenMissing",
        "Secret/nobody does not exist. "
        f"{TOKEN_ADVICE.replace('there,', made_there('nobody', 'callback', token='NEW-TOKEN'))}",
    ),
    (
        {},
        {"callback": {"token": b"short"}},
        "CallbackTokenRefused",
        "Secret/callback, key 'token': a callback token has 16 to 256 characters, not 5. Put another token "
        "there, and into the URL.",
    ),
    (
        {},
        {"callback": {"token": b"\xff\xfe-0123456789-0123456789"}},
        "CallbackTokenRefused",
        "Secret/callback, key 'token': a callback token may have letters, digits, '-', '.', '_' and '~' "
        "only. Put another token there, and into the URL.",
    ),
    (
        {"callback": BASIC},
        {},
        "BasicAuthMissing",
        "Secret/lock does not exist. Put `username` and `password` "
        f"{made_there('lock', 'callback', username='NEW-USERNAME', password='NEW-PASSWORD')}"
        " or take spec.callback.basicAuthSecretRef out.",
    ),
    (
        {"callback": {"tokenSecretRefs": [{"name": "another", "key": "token"}]}},
        {"another": {"token": b"a-value-that-is-long-enough"}},
        "SecretNotLabelled",
        "Secret/another does not have the label counterfoil.dev/use=callback, so it is not read. If it was "
        "made for this use, type `kubectl label secret another counterfoil.dev/use=callback`.",
    ),
    (
        {"callback": {**BASIC, "basicAuthSecretRef": {"name": "another"}}},
        {"another": {"username": b"esaw", "password": b"secret"}},
        "SecretNotLabelled",
        "Secret/another does not have the label counterfoil.dev/use=callback, so it is not read. If it was "
        "made for this use, type `kubectl label secret another counterfoil.dev/use=callback`.",
    ),
    (
        {"webhook": {**WEBHOOK, "signingSecretRef": {"name": "another", "key": "secret"}}},
        {"another": {"secret": b"whsec_" + b"QUFB" * 8}},
        "SecretNotLabelled",
        "Secret/another does not have the label counterfoil.dev/use=webhook, so it is not read. If it was "
        "made for this use, type `kubectl label secret another counterfoil.dev/use=webhook`.",
    ),
    (
        {"oauth": OAUTH},
        {"another": {"secret": b"the client's"}},
        "SecretNotLabelled",
        "Secret/another does not have the label counterfoil.dev/use=oauth, so it is not read. If it was "
        "made for this use, type `kubectl label secret another counterfoil.dev/use=oauth`.",
    ),
    (
        {"oauth": {**OAUTH, "clientSecretRef": {"name": "nobody", "key": "secret"}}},
        {},
        "ClientSecretMissing",
        "Secret/nobody does not exist. Put the client secret of the OAuth application "
        f"{made_there('nobody', 'oauth', secret='NEW-CLIENT-SECRET')} or correct spec.oauth.clientSecretRef.",
    ),
    (
        {"callback": BASIC},
        {"lock": {"username": b"esaw"}},
        "BasicAuthMissing",
        "Secret/lock has no key 'password'. Put `username` and `password` "
        f"{put('lock', 'password', 'NEW-PASSWORD')} or take spec.callback.basicAuthSecretRef out.",
    ),
    (
        {"callback": BASIC},
        {"lock": {"username": b"esaw", "password": b"\xff\xfe"}},
        "BasicAuthRefused",
        "Secret/lock: username and password have to be UTF-8. "
        "Put `username` and `password` there, or take spec.callback.basicAuthSecretRef out.",
    ),
    (
        {"callback": BASIC},
        {"lock": {"username": b"es:aw", "password": b"secret"}},
        "BasicAuthRefused",
        "Secret/lock: basic auth needs a username without a colon and a password. "
        "Put `username` and `password` there, or take spec.callback.basicAuthSecretRef out.",
    ),
    (
        {"archiveRef": None},
        {},
        "ArchiveMissing",
        "spec.archiveRef is not set. Let it name the Archive to use.",
    ),
    (
        {"archiveRef": {"name": "nowhere"}},
        {},
        "ArchiveMissing",
        "Archive/nowhere does not exist. Create it, or correct spec.archiveRef.",
    ),
    (
        {"routes": [{"name": "hr", "archiveRef": {"name": "nowhere"}, "when": {"senders": ["anna"]}}]},
        {},
        "ArchiveMissing",
        "Archive/nowhere does not exist. Create it, or correct the route `hr` in spec.routes.",
    ),
    (
        {
            "routes": [
                {
                    "name": "hr",
                    "archiveRef": {"name": "dms"},
                    "when": {"tags": {"area": {"values": ["HR"]}}},
                }
            ]
        },
        {},
        "RouteInvalid",
        "The route `hr` looks at `area`, and spec.tags of Archive/dms does not define that. Define it "
        "there, or correct spec.routes.",
    ),
    (
        {"defaultSenderRef": {"name": "nobody"}},
        {},
        "SenderMissing",
        "Sender/nobody does not exist. Create it, or correct spec.defaultSenderRef.",
    ),
    (
        {"webhook": WEBHOOK},
        {},
        "WebhookSecretMissing",
        f"Secret/hook does not exist. Put a signing secret "
        f"{made_there('hook', 'webhook', secret='NEW-SIGNING-SECRET')} or correct "
        "spec.webhook.signingSecretRef.",
    ),
    (
        {"webhook": WEBHOOK},
        {"hook": {"secret": b"hunter2"}},
        "WebhookSecretInvalid",
        "Secret/hook, key 'secret' can't be used as a signing secret: it does not begin with `whsec_`. Put "
        "`whsec_` and the base64 of 24 to 64 random bytes there.",
    ),
]


@pytest.mark.parametrize(("spec", "secrets", "reason", "message"), TROUBLES)
async def test_what_is_missing_is_reported_once_with_what_to_do(
    spec: dict[str, Any], secrets: dict[str, dict[str, bytes]], reason: str, message: str
) -> None:
    scene = Scene(**spec)
    scene.kube.secrets |= secrets
    assert await scene.condition() == ("False", reason, message)
    assert await scene.condition() == ("False", reason, message)
    assert len(scene.kube.patches) == 1


async def test_a_token_in_a_secret_for_another_use_is_not_hashed_until_it_is_labelled() -> None:
    scene = Scene()
    scene.kube.secret_uses["callback"] = "oauth"
    assert tokens_of((await scene.look()).status) == ()

    scene.kube.secret_uses["callback"] = "callback"
    scene.clock.advance(seconds=FRESH_SECONDS + 1)
    assert tokens_of((await scene.look()).status) == (TOKEN,)
    assert (await scene.condition())[0] == "True"


async def test_the_hash_of_a_token_keeps_its_salt_and_a_new_token_gets_another() -> None:
    scene = Scene()
    first = (await scene.look()).status.callback_token_hashes
    assert (await scene.look()).status.callback_token_hashes == first
    scene.kube.secrets["callback"]["next"] = TOKEN.encode()
    refs = [{"name": "callback", "key": "token"}, {"name": "callback", "key": "next"}]
    scene.kube.edit(Organization, "acme", {"spec": {"callback": {"tokenSecretRefs": refs}}})
    assert (await scene.look()).status.callback_token_hashes == first, "one token is one hash"

    scene.kube.secrets["callback"]["next"] = OTHER.encode()
    scene.clock.advance(seconds=FRESH_SECONDS + 1)
    hashes = (await scene.look()).status.callback_token_hashes
    assert hashes[0] == first[0]
    assert hashes[1].split("$")[1] != first[0].split("$")[1]


def refused(name: str = "ben", *, ever_worked: bool = False, **changes: Any) -> Sender:
    """A Sender whose key eSAW refuses."""
    sender = a_sender(name, authorized="False", **changes)
    key = SenderKey(fingerprint="12345678", verified_time=NOON if ever_worked else None)
    return replace(sender, status=replace(sender.status, key=key))


SENDERS: dict[str, tuple[dict[str, Any], list[Sender], bool]] = {
    "no Sender": ({}, [], False),
    "a Sender of another Organization": ({}, [a_sender(organization="other")], False),
    "a Sender whose key never worked": ({}, [refused()], False),
    "several of these": ({}, [refused(each) for each in ("a", "b", "c", "d")], False),
    "a Sender whose key works": ({}, [known_to_work(a_sender())], True),
    "one of several works": ({}, [refused(), known_to_work(a_sender())], True),
    "a Sender whose key worked once": ({}, [refused(ever_worked=True)], True),
    "a Sender that is not checked yet": ({}, [a_sender(authorized=None)], True),
    "a Sender that eSAW could not be asked about": ({}, [a_sender(authorized="Unknown")], True),
    "a default sender": ({"defaultSenderRef": {"name": "ben"}}, [refused()], True),
    "consent": ({"oauth": OAUTH}, [], True),
    "nothing to archive": ({"actions": [{"action": "envelopeExpired", "handling": "Record"}]}, [], True),
}


@pytest.mark.parametrize(("spec", "senders", "is_ready"), SENDERS.values(), ids=list(SENDERS))
async def test_an_organization_whose_events_can_have_no_sender_is_not_ready(
    spec: dict[str, Any], senders: list[Sender], is_ready: bool
) -> None:
    scene = Scene(**{"defaultSenderRef": None, **spec})
    scene.cache.senders.remove("anna")
    scene.kube.put_secret("another", "oauth", {"secret": b"the client's"})
    for sender in senders:
        scene.cache.senders.put(sender)
    wanted = ("True", "Ready") if is_ready else ("False", "NoUsableSender")
    assert (await scene.condition())[:2] == wanted
    assert (await scene.condition("Stalled"))[0] == ("False" if is_ready else "True")


async def test_the_first_sender_is_asked_for_with_what_to_type() -> None:
    scene = Scene(defaultSenderRef=None)
    scene.cache.senders.remove("anna")
    _, _, message = await scene.condition()
    assert message == (
        "No event can have a sender: no Sender names Organization/acme, and neither spec.defaultSenderRef "
        "nor spec.oauth is set. Put a user's API key into a Secret (type `"
        f"{made('NAME', 'token', token='NEW-API-KEY')}`), and "
        "create a Sender that names the Organization and the Secret. Or set spec.oauth, so that senders can "
        "give consent."
    )

    scene.cache.senders.put(a_sender(authorized="True"))
    assert (await scene.condition())[:2] == ("True", "Ready")


async def test_senders_with_unusable_keys_are_named() -> None:
    scene = Scene(defaultSenderRef=None)
    scene.cache.senders.remove("anna")
    for name in ("d", "b", "a", "c"):
        scene.cache.senders.put(refused(name))
    _, _, message = await scene.condition()
    assert "unusable (Sender/a, Sender/b, Sender/c, …), and neither" in message
    assert "`kubectl get senders`" in message


@pytest.mark.parametrize(
    ("changes", "because"), [({}, "TokenRejected"), ({"suspend": True}, "SenderSuspended")]
)
async def test_a_default_sender_that_does_not_work_is_in_the_message(
    changes: dict[str, Any], because: str
) -> None:
    scene = Scene()
    scene.cache.senders.put(known_not_to_work("anna", "TokenRejected", **changes))
    assert await scene.condition() == (
        "True",
        "Ready",
        f"Callbacks are taken. The default Sender/anna is not ready ({because}), so envelopes without "
        "another Sender wait. Its condition Ready says what to do.",
    )


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        (
            "SecretUnreadable",
            "Callbacks are taken. The default Sender/anna is not ready (SecretUnreadable), so envelopes "
            "without another Sender wait. Its condition Ready says what to do.",
        ),
        (
            "SecretForbidden",
            "Callbacks are taken. The default Sender/anna is not ready (SecretForbidden), so envelopes "
            "without another Sender wait. Its condition Ready says what to do.",
        ),
        ("EsawUnreachable", "Callbacks are taken and envelopes are archived."),
    ],
)
async def test_a_default_sender_whose_secret_is_unreadable_is_in_the_message(
    reason: str, message: str
) -> None:
    """A key that is only not verified yet is no reason to do anything."""
    scene = Scene()
    anna, shown = known_to_work(a_sender(version=2)), "The API server can't read Secret/anna-key (500)."
    conditions = with_condition(
        anna.status.conditions, "Authorized", "Unknown", reason, shown, now=NOON, generation=1
    )
    status = with_sender_readiness(anna, replace(anna.status, conditions=conditions), now=NOON)
    scene.cache.senders.put(replace(anna, status=status))
    assert await scene.condition() == ("True", "Ready", message)


async def test_another_sender_that_does_not_work_leaves_the_message() -> None:
    scene = Scene()
    scene.cache.senders.put(known_not_to_work("ben", "TokenRejected"))
    assert (await scene.condition())[2] == "Callbacks are taken and envelopes are archived."


async def test_several_problems_are_all_reported_at_once() -> None:
    scene = Scene(
        archiveRef={"name": "nowhere"},
        defaultSenderRef={"name": "nobody"},
        callback={"tokenSecretRefs": [{"name": "nothing", "key": "token"}]},
        suspend=True,
    )
    truth, reason, message = await scene.condition()
    assert (truth, reason) == ("False", "CallbackTokenMissing")
    told = ("Secret/nothing does not exist.", "Archive/nowhere", "Sender/nobody", "spec.suspend is true")
    assert [each in message for each in told] == [True] * 4
    assert await scene.condition("Stalled") == ("True", reason, message)


async def test_each_change_of_reachability_is_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    with caplog.at_level("INFO"):
        await scene.look()
        await scene.look()
        scene.esaw.problem = EsawUnreachable("connect")
        for _ in range(2 * LOOKS_PER_REQUEST):
            await scene.look()
    said = [each.message for each in caplog.records if each.message.startswith("Reachable is")]
    assert [each.split(":")[0] for each in said] == ["Reachable is True", "Reachable is False"]


async def test_what_only_a_person_can_solve_is_shown_before_temporary_failures() -> None:
    scene = Scene(suspend=True)
    scene.esaw.problem = EsawUnreachable("connect")
    truth, reason, message = await scene.condition()
    assert (truth, reason) == ("False", "OrganizationSuspended")
    assert "No connection to eSAW could be made" in message
    assert (await scene.condition("Stalled"))[:2] == ("True", "OrganizationSuspended")


async def test_a_suspended_organization_is_not_ready_until_it_is_resumed() -> None:
    scene = Scene(suspend=True)
    assert (await scene.condition())[:2] == ("False", "OrganizationSuspended")
    assert (await scene.condition("Stalled"))[0] == "True"
    scene.kube.edit(Organization, "acme", {"spec": {"suspend": False}, "metadata": {"generation": 2}})
    assert (await scene.condition())[:2] == ("True", "Ready")
    assert await scene.condition("Stalled") == ("False", "NotStalled", "Nobody has to act.")


async def test_a_suspended_archive_of_a_required_copy_holds_copies_and_no_archiving() -> None:
    scene = Scene(copies=[{"archiveRef": {"name": "second"}}])
    scene.cache.archives.put(an_archive("second", filesystem={"root": "/srv/second"}, suspend=True))
    assert await scene.condition() == (
        "False",
        "ArchiveSuspended",
        "spec.suspend of Archive/second is true: envelopes are archived, and wait for their copies there.",
    )


async def test_the_organization_of_a_suspended_archive_is_not_ready_until_it_is_resumed() -> None:
    scene = Scene()
    scene.cache.archives.put(an_archive(version=2, suspend=True))
    assert (await scene.condition())[:2] == ("False", "ArchiveSuspended")
    scene.cache.archives.put(ready(an_archive(version=3)))
    assert (await scene.condition())[:2] == ("True", "Ready")


async def test_an_organization_whose_esaw_nobody_could_confirm_yet_is_ready() -> None:
    """Before the first consent no key works; its callbacks and its consent page do."""
    scene = Scene()
    scene.esaw.problem = HttpStatusError(401)
    assert (await scene.condition("Reachable"))[:2] == ("Unknown", "EsawUnconfirmed")
    truth, reason, message = await scene.condition()
    assert (truth, reason) == ("True", "EsawUnconfirmed")
    assert message.startswith("Callbacks are taken. eSAW answered 401. Any server may say that")
    assert "archived" not in message
    assert (await scene.condition("Stalled"))[0] == "False"


@pytest.mark.parametrize("fault", ["suspended", "unreachable", "archive"])
async def test_an_organization_that_archives_nothing_now_never_says_that_it_does(fault: str) -> None:
    scene = Scene(suspend=fault == "suspended")
    if fault == "unreachable":
        scene.esaw.problem = EsawUnreachable("connect")
    if fault == "archive":
        scene.cache.archives.put(an_archive(version=2))
    truth, _, message = await scene.condition()
    assert truth == "False"
    assert "envelopes are archived" not in message


def events_of_envelopes(number: int, *, each: int = 1) -> list[str]:
    """Return the names of events: ``each`` of every one of this number of envelopes."""
    return [
        f"{envelope:08}-5d1b-4f6e-9c55-2f1f0a3b7d10-{event:016x}"
        for envelope in range(number)
        for event in range(each)
    ]


def with_failing_calls(scene: Scene, reason: str = "EsawRefused", **changes: Any) -> None:
    """Store the open problem that the passes over all events find."""
    found = {"count": 3, "examples": events_of_envelopes(3)}
    problem = {"cause": "esaw", "reason": reason, "startTime": NOON.isoformat(), **found, **changes}
    scene.kube.edit(Organization, "acme", {"status": {"problems": [problem]}})


@pytest.mark.parametrize(
    ("reason", "stalled"), [("EsawRefused", "True"), ("EsawNotFound", "True"), ("EsawFailing", "False")]
)
async def test_an_organization_whose_esaw_answers_while_calls_fail_never_says_that_it_archives(
    reason: str, stalled: str
) -> None:
    scene = Scene()
    await scene.look()
    with_failing_calls(scene, reason)
    truth, told, message = await scene.condition()
    assert (truth, told) == ("False", "EsawCallsFailing")
    assert "envelopes are archived" not in message
    assert (await scene.condition("Stalled"))[0] == stalled
    assert (await scene.condition("Reachable"))[:2] == ("True", "EsawAnswers")
    with_failing_calls(scene, reason, solvedTime=NOON.isoformat())
    assert (await scene.condition())[:2] == ("True", "Ready")


async def test_calls_that_fail_for_other_events_each_time_write_the_summary_once() -> None:
    scene = Scene()
    await scene.look()
    with_failing_calls(scene, count=2, message="HTTP 500", examples=events_of_envelopes(2))
    await scene.look()
    written = len(scene.kube.patches)
    for number in (3, 1, 4):
        with_failing_calls(scene, count=number, message=f"HTTP 50{number}", examples=[f"event-{number}"])
        await scene.look()
    assert len(scene.kube.patches) == written


async def test_calls_that_fail_for_one_event_do_not_make_its_organization_unready() -> None:
    scene = Scene()
    await scene.look()
    with_failing_calls(scene, count=1, examples=events_of_envelopes(1))
    assert (await scene.condition())[:2] == ("True", "Ready")


async def test_calls_that_fail_for_two_events_of_one_envelope_do_not_make_its_organization_unready() -> None:
    scene = Scene()
    await scene.look()
    with_failing_calls(scene, count=2, examples=events_of_envelopes(1, each=2))
    assert (await scene.condition())[:2] == ("True", "Ready")


@pytest.mark.parametrize("reason", ["EsawAnswerUnreadable", "EsawV5AnswerUnreadable", "EsawV5Unavailable"])
async def test_some_large_envelopes_of_one_sender_do_not_make_an_organization_unready(reason: str) -> None:
    scene = Scene()
    await scene.look()
    with_failing_calls(scene, reason, count=4, examples=events_of_envelopes(4))
    assert (await scene.condition())[:2] == ("True", "Ready")
    with_failing_calls(scene, reason, count=5, examples=events_of_envelopes(5))
    assert (await scene.condition())[:2] == ("False", "EsawCallsFailing")


async def test_calls_that_fail_for_more_events_than_a_problem_names_make_an_organization_unready() -> None:
    scene = Scene()
    await scene.look()
    with_failing_calls(scene, count=6, examples=events_of_envelopes(1, each=5))
    assert (await scene.condition())[:2] == ("False", "EsawCallsFailing")


async def test_the_end_of_failing_calls_starts_nothing_that_failed_meanwhile() -> None:
    """Other envelopes may have been archived all the time: those that fail always would start each day."""
    scene = Scene()
    settled = (await scene.look()).status.settled_time
    scene.clock.advance(hours=1)
    with_failing_calls(scene, "EsawFailing")
    assert (await scene.look()).status.settled_time == settled
    scene.clock.advance(hours=24)
    error = LastError(reason="EsawFailing", message="HTTP 500", time=scene.clock.now())
    failed = an_event().in_phase(Phase.FAILED, "DeadlineExceeded")
    event = failed.status(completion_time=scene.clock.now(), last_error=error).build()
    scene.clock.advance(hours=24)
    # Another problem, which comes first, hides the calls.
    scene.cache.archives.put(ready(an_archive(version=2), "False"))
    assert (await scene.look()).status.settled_time == settled
    scene.cache.archives.put(ready(an_archive(version=3)))
    await scene.look()
    with_failing_calls(scene, "EsawFailing", solvedTime=NOON.isoformat())
    organization = await scene.look()
    scene.cache.update(organization)
    fix = find_fix(event, scene.cache, scene.clock.now())
    assert (organization.status.settled_time, fix) == (settled, None)


@pytest.mark.parametrize("stalled", ["True", "False"])
async def test_an_organization_is_as_stalled_as_its_archive(stalled: str) -> None:
    scene = Scene()
    raw = ready(an_archive(version=2), "False").to_dict()
    raw["status"]["conditions"].append(
        {**raw["status"]["conditions"][0], "type": "Stalled", "status": stalled}
    )
    scene.cache.archives.put(Archive.parse(raw))
    assert (await scene.condition("Ready"))[:2] == ("False", "ArchiveNotReady")
    assert (await scene.condition("Stalled"))[0] == stalled


async def test_a_webhook_with_a_signing_secret_is_ready() -> None:
    scene = Scene(webhook=WEBHOOK)
    scene.kube.secrets["hook"] = {"secret": b"whsec_" + b"QUFB" * 8 + b"\n"}
    assert (await scene.condition())[:2] == ("True", "Ready")


async def test_an_archive_that_is_not_ready_is_reported_and_recovers() -> None:
    scene = Scene()
    scene.cache.archives.put(ready(an_archive(version=2), "False"))
    assert (await scene.condition())[:2] == ("False", "ArchiveNotReady")
    scene.cache.archives.put(ready(an_archive(version=3)))
    assert (await scene.condition())[:2] == ("True", "Ready")


def a_route(**when: Any) -> dict[str, Any]:
    return {
        "routes": [{"name": "hr", "archiveRef": {"name": "vault"}, "when": {"senders": ["anna"], **when}}]
    }


@pytest.mark.parametrize(
    ("spec", "vault", "reason"),
    [
        (a_route(), None, "ArchiveMissing"),
        (a_route(), ready(an_archive("vault"), "False"), "ArchiveNotReady"),
        (a_route(), an_archive("vault", suspend=True), "ArchiveSuspended"),
        (a_route(tags={"area": {"values": ["HR"]}}), ready(an_archive("vault")), "RouteInvalid"),
        ({"archiveRef": {"name": "vault"}}, an_archive("vault", suspend=True), "ArchiveSuspended"),
    ],
    ids=["missing", "not ready", "suspended", "route", "of all"],
)
async def test_an_archive_that_does_not_work_leaves_what_the_organization_corrects(
    spec: dict[str, Any], vault: Archive | None, reason: str
) -> None:
    scene = Scene()
    before = await scene.look()
    change = {"spec": spec, "metadata": {"generation": 2, "resourceVersion": "7"}}
    scene.kube.edit(Organization, "acme", change)
    if vault is not None:
        scene.cache.archives.put(vault)
    now = scene.clock.now()
    after = await scene.look()
    assert [each.reason for each in after.status.conditions if each.type == "Ready"] == [reason]
    assert ready_state(after) not in (None, ready_state(before))
    assert fixed_at(after, scene.clock.now()) == now
    # Its own recovery corrects nothing of the Organization.
    scene.cache.archives.put(ready(an_archive("vault", version=9, tags={"area": {"xpath": "/a"}})))
    settled = await scene.look()
    assert (ready_state(settled), settled.status.settled_time) == (ready_state(after), now)


async def test_routes_with_rules_that_are_slow_to_check_do_not_hold_the_event_loop() -> None:
    tags = {name: {"jsonPath": each.json_path} for name, each in slow_tag_rules("status").items()}
    names = [*tags]
    (route,) = a_route()["routes"]
    routes = [
        {
            **route,
            "name": f"r{at}",
            "when": {"tags": {name: {"values": ["x"]} for name in names[at : at + 8]}},
        }
        for at in range(0, len(names), 8)
    ]
    scene = Scene(routes=routes)
    scene.cache.archives.put(ready(an_archive("vault", tags=tags)))
    assert await longest_block(scene.look()) < MAX_BLOCK_SECONDS


async def test_what_concerns_callbacks_pages_or_notices_leaves_what_the_organization_corrects() -> None:
    scene = Scene()
    before = await scene.look()
    scene.kube.edit(
        Organization,
        "acme",
        {"spec": {"webhook": WEBHOOK}, "metadata": {"generation": 2, "resourceVersion": "7"}},
    )
    now = scene.clock.now()
    after = await scene.look()
    assert [each.reason for each in after.status.conditions if each.type == "Ready"] == [
        "WebhookSecretMissing"
    ]
    assert ready_state(after) not in (None, ready_state(before))
    assert fixed_at(after, scene.clock.now()) == now
    # The Secret corrects no failure.
    scene.kube.secrets["hook"] = {"secret": b"whsec_" + b"QUFB" * 8 + b"\n"}
    settled = await scene.look()
    assert (ready_state(settled), settled.status.settled_time) == (ready_state(after), now)


async def test_an_organization_with_the_folders_of_an_older_one_of_another_esaw_is_not_ready() -> None:
    scene = Scene()
    scene.cache.archives.put(ready(an_archive(version=2, path="{{envelope.id}}/{{file.name}}")))
    older = an_organization("a-globex", baseURL="https://other-esaw.example.com")
    scene.cache.organizations.put(older)
    status, reason, message = await scene.condition()
    assert (status, reason) == ("False", "ArchiveShared")
    assert "Organization/a-globex" in message


async def test_a_default_sender_of_another_organization_is_reported() -> None:
    scene = Scene()
    scene.cache.senders.put(a_sender(version=2, organization="other"))
    assert (await scene.condition())[:2] == ("False", "SenderOfOtherOrganization")


async def test_an_organization_that_only_records_needs_no_archive() -> None:
    scene = Scene(archiveRef=None, actions=[{"action": "envelopeFinished", "handling": "Record"}])
    assert (await scene.condition())[0] == "True"


async def test_a_secret_that_may_not_be_read_is_reported_as_such() -> None:
    scene = Scene()
    await scene.look()
    await scene.refuse("callback")
    truth, reason, message = await scene.condition()
    assert (truth, reason) == ("False", "SecretForbidden")
    assert message.startswith("Secret/callback may not be read")
    assert (await scene.condition("Stalled"))[0] == "False"


TWO_TOKENS = {"tokenSecretRefs": [{"name": "callback", "key": "token"}, {"name": "more", "key": "token"}]}


async def test_an_unread_token_hides_no_token_that_is_refused() -> None:
    scene = Scene(callback=TWO_TOKENS)
    assert (await scene.condition())[:2] == ("False", "CallbackTokenMissing")
    await scene.refuse("callback")
    truth, reason, message = await scene.condition()
    assert (truth, reason) == ("False", "CallbackTokenMissing")
    assert message.index("Secret/more does not exist") < message.index("Secret/callback may not be read")
    after = scene.newest()
    assert tokens_of(after.status) == (TOKEN,)
    assert callback_failure(after) == find_condition(after.status.conditions, "Ready")
    assert callback_ending(after) is None


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (NOT_PERMITTED, "SecretForbidden"),
        (Unavailable(500, "InternalError", "unable to transform key"), "SecretUnreadable"),
    ],
)
async def test_a_token_without_a_hash_is_refused_until_its_secret_can_be_read(
    problem: ApiError, reason: str
) -> None:
    scene = Scene(callback=TWO_TOKENS, archiveRef={"name": "no-archive"})
    scene.kube.put_secret("more", "callback", {"token": b"short"})
    assert (await scene.condition())[:2] == ("False", "CallbackTokenRefused")
    await scene.refuse("more", problem=problem)
    truth, found, message = await scene.condition()
    # Events wait for the archive, but these callbacks are lost.
    assert (truth, found) == ("False", reason)
    assert "Archive/no-archive does not exist" in message
    assert callback_ending(scene.newest()) is None
    assert callback_failure(scene.newest()) is not None
    assert is_condition_true(scene.newest().status.conditions, "Stalled")

    scene.kube.refused.clear()
    scene.kube.put_secret("more", "callback", {"token": OTHER.encode()})
    assert (await scene.condition())[:2] == ("False", "ArchiveMissing")
    assert (callback_failure(scene.newest()), callback_ending(scene.newest())) == (None, Ending.SOLVED)


async def test_a_new_organization_whose_token_may_not_be_read_refuses_callbacks() -> None:
    scene = Scene()
    await scene.refuse("callback")
    assert (await scene.condition())[:2] == ("False", "SecretForbidden")
    assert callback_failure(scene.newest()) is not None
    assert callback_ending(scene.newest()) is None


async def test_an_unread_secret_whose_hash_is_published_refuses_no_callback() -> None:
    scene = await with_two_tokens()
    await scene.refuse("callback", "more", "lock")
    assert (await scene.condition())[:2] == ("False", "SecretForbidden")
    assert (callback_failure(scene.newest()), callback_ending(scene.newest())) == (None, Ending.SOLVED)
    assert not is_condition_true(scene.newest().status.conditions, "Stalled")


async def test_an_unread_password_without_a_hash_refuses_callbacks() -> None:
    scene = await with_two_tokens()
    await scene.refuse("more")
    scene.kube.secrets["lock"]["password"] = b"another-0123456789"
    assert (await scene.condition())[:2] == ("False", "SecretForbidden")
    assert callback_failure(scene.newest()) is not None
    assert callback_ending(scene.newest()) is None


async def test_one_token_in_two_secrets_is_no_missing_hash() -> None:
    scene = Scene(callback=TWO_TOKENS)
    assert (await scene.condition())[:2] == ("False", "CallbackTokenMissing")
    scene.kube.put_secret("more", "callback", {"token": TOKEN.encode()})
    assert (await scene.condition())[0] == "True"
    assert len(scene.newest().status.callback_token_hashes) == 1
    assert callback_ending(scene.newest()) is Ending.SOLVED


async def test_two_tokens_of_one_secret_have_one_fault() -> None:
    refs = [{"name": "more", "key": "token"}, {"name": "more", "key": "next"}]
    scene = Scene(callback={"tokenSecretRefs": refs})
    await scene.refuse("more")
    assert (await scene.condition())[2].count("Secret/more may not be read") == 1


async def test_an_api_server_that_starts_changes_nothing_about_an_organization() -> None:
    scene = Scene(webhook=WEBHOOK, oauth=OAUTH)
    scene.kube.put_secret("hook", "webhook", {"secret": b"whsec_" + b"QUFB" * 8})
    scene.kube.put_secret("another", "oauth", {"secret": b"client-secret"})
    for _ in range(LOOKS_PER_REQUEST):
        before = (await scene.look()).status
    assert is_condition_true(before.conditions, "Ready")
    for name in ("callback", "hook", "another"):
        scene.kube.refused["secret", name] = Forbidden(403, "Forbidden", "not yet ready to handle request")
        for _ in range(3):
            with pytest.raises(Unavailable):
                await scene.look()
            scene.clock.advance(seconds=RESYNC_SECONDS)
        scene.kube.refused.clear()
        assert (await scene.look()).status == before


async def test_while_the_api_server_is_down_the_known_tokens_stay() -> None:
    scene = Scene()
    await scene.look()
    # The first one is that with the key of a Sender.
    scene.kube.go_away("secret", times=2)
    with pytest.raises(Unavailable):
        await scene.look()
    assert tokens_of(scene.newest().status) == (TOKEN,)


async def test_while_secrets_may_not_be_read_the_known_tokens_stay_and_it_is_reported() -> None:
    scene = Scene()
    await scene.look()
    await scene.refuse("callback")
    truth, reason, _ = await scene.condition()
    assert (truth, reason) == ("False", "SecretForbidden")
    assert tokens_of(scene.newest().status) == (TOKEN,)


async def test_secrets_that_may_be_read_again_are_read_at_once_and_count_alone() -> None:
    scene = Scene()
    await scene.look()
    scene.kube.secrets["callback"] = {"token": OTHER.encode()}
    await scene.refuse("callback")
    scene.kube.refused.clear()
    await scene.organizations.update_status(scene.newest())
    assert tokens_of(scene.newest().status) == (OTHER,)


@pytest.mark.parametrize("is_earlier", [False, True], ids=["this version", "an earlier version"])
async def test_a_token_that_the_spec_no_longer_names_does_not_stay_because_another_may_not_be_read(
    is_earlier: bool,
) -> None:
    refs = [{"name": "callback", "key": "token"}, {"name": "more", "key": "token"}]
    scene = Scene(callback={"tokenSecretRefs": refs})
    scene.kube.secrets["more"] = {"token": OTHER.encode()}
    await scene.look()
    scene.kube.edit(Organization, "acme", {"spec": {"callback": {"tokenSecretRefs": refs[1:]}}})
    if is_earlier:
        # It did not store which hash is whose.
        scene.kube.edit(Organization, "acme", {"status": {"callbackTokens": None}})
    await scene.refuse("more")
    assert tokens_of((await scene.look()).status) == (() if is_earlier else (OTHER,))


def opens(status: OrganizationStatus, password: str, token: str) -> bool:
    """Whether the receiver accepts a call with this password and token."""
    header = "Basic " + base64.b64encode(f"esaw:{password}".encode()).decode()
    return is_valid_basic_auth(header, token, status.basic_auth_hashes)


async def test_the_second_lock_is_hashed_with_salt_and_only_once() -> None:
    scene = Scene(callback=BASIC)
    scene.kube.secrets["lock"] = {"username": b"esaw", "password": "pässwort-0123456789".encode()}
    stored = (await scene.look()).status
    assert opens(stored, "pässwort-0123456789", TOKEN)
    assert (await scene.look()).status.basic_auth_hashes == stored.basic_auth_hashes
    scene.kube.secrets["lock"]["password"] = b"another-0123456789"
    changed = (await scene.look()).status
    assert opens(changed, "another-0123456789", TOKEN)
    assert not opens(changed, "pässwort-0123456789", TOKEN)


async def test_the_second_lock_opens_with_each_token_and_has_one_hash_for_each() -> None:
    refs = [{"name": "callback", "key": "token"}, {"name": "more", "key": "token"}]
    scene = Scene(callback={**BASIC, "tokenSecretRefs": refs})
    scene.kube.secrets["more"] = {"token": OTHER.encode()}
    scene.kube.secrets["lock"] = {"username": b"esaw", "password": b"password-0123456789"}
    both = (await scene.look()).status
    assert opens(both, "password-0123456789", TOKEN)
    assert opens(both, "password-0123456789", OTHER)
    scene.kube.edit(Organization, "acme", {"spec": {"callback": {"tokenSecretRefs": refs[1:]}}})
    assert (await scene.look()).status.basic_auth_hashes == both.basic_auth_hashes[1:]


@pytest.mark.parametrize(
    "names", [("more",), ("callback", "more", "lock")], ids=["the Secret of one token", "all"]
)
async def test_while_a_secret_may_not_be_read_the_second_lock_opens_as_before(names: tuple[str, ...]) -> None:
    refs = [{"name": "callback", "key": "token"}, {"name": "more", "key": "token"}]
    scene = Scene(callback={**BASIC, "tokenSecretRefs": refs})
    scene.kube.secrets["more"] = {"token": OTHER.encode()}
    scene.kube.secrets["lock"] = {"username": b"esaw", "password": b"password-0123456789"}
    before = (await scene.look()).status.basic_auth_hashes
    await scene.refuse(*names)
    assert set((await scene.look()).status.basic_auth_hashes) == set(before)


async def with_two_tokens(**spec: Any) -> Scene:
    """An Organization with two tokens and a password, whose hashes are published."""
    refs = [{"name": "callback", "key": "token"}, {"name": "more", "key": "token"}]
    scene = Scene(callback={**BASIC, "tokenSecretRefs": refs}, **spec)
    scene.kube.secrets["more"] = {"token": OTHER.encode()}
    scene.kube.secrets["lock"] = {"username": b"esaw", "password": b"password-0123456789"}
    await scene.look()
    return scene


async def test_a_changed_password_counts_alone_although_the_secret_of_one_token_may_not_be_read() -> None:
    scene = await with_two_tokens()
    await scene.refuse("more")
    scene.kube.secrets["lock"]["password"] = b"another-0123456789"
    for _ in range(2):
        status = (await scene.look()).status
        assert opens(status, "another-0123456789", TOKEN)
        assert not opens(status, "password-0123456789", TOKEN)
        # Neither the old nor the new password is known to be right: calls are answered 503.
        assert not opens(status, "password-0123456789", OTHER)
        assert tokens_of(status) == (TOKEN, OTHER)
        assert len(status.basic_auth_hashes) < len(status.callback_token_hashes)
    del scene.kube.refused["secret", "more"]
    assert opens((await scene.look()).status, "another-0123456789", OTHER)


@pytest.mark.parametrize("ref", ["callback", "third"], ids=["another value", "another Secret"])
async def test_a_password_that_is_changed_with_a_token_is_not_valid_with_an_unread_token(ref: str) -> None:
    scene = await with_two_tokens()
    await scene.refuse("more")
    scene.kube.secrets["lock"]["password"] = b"another-0123456789"
    scene.kube.put_secret(ref, "callback", {"token": b"a-third-token-0123456789"})
    references = [{"name": each, "key": "token"} for each in (ref, "more")]
    scene.kube.edit(Organization, "acme", {"spec": {"callback": {"tokenSecretRefs": references}}})
    for _ in range(2):
        status = (await scene.look()).status
        assert opens(status, "another-0123456789", "a-third-token-0123456789")
        assert not opens(status, "password-0123456789", OTHER)
        assert tokens_of(status) == ("unknown", OTHER)
        # The receiver answers 503 in place of 401, and eSAW repeats the call.
        assert len(status.basic_auth_hashes) < len(status.callback_token_hashes)
    del scene.kube.refused["secret", "more"]
    assert opens((await scene.look()).status, "another-0123456789", OTHER)


async def test_a_replaced_token_is_not_valid_although_the_secret_of_another_may_not_be_read() -> None:
    scene = await with_two_tokens()
    await scene.refuse("more")
    scene.kube.secrets["callback"]["token"] = b"a-third-token-0123456789"
    for _ in range(2):
        status = (await scene.look()).status
        assert tokens_of(status) == ("unknown", OTHER)
        # Nothing shows that the password is unchanged: calls are answered 503.
        assert len(status.basic_auth_hashes) == 1
    del scene.kube.refused["secret", "more"]
    assert opens((await scene.look()).status, "password-0123456789", OTHER)


async def test_a_token_that_was_read_shows_that_the_password_of_an_unread_one_is_unchanged() -> None:
    scene = await with_two_tokens()
    refs = [{"name": each, "key": "token"} for each in ("callback", "more", "third")]
    scene.kube.put_secret("third", "callback", {"token": b"a-third-token-0123456789"})
    scene.kube.edit(Organization, "acme", {"spec": {"callback": {"tokenSecretRefs": refs}}})
    await scene.look()
    await scene.refuse("more")
    scene.kube.secrets["callback"]["token"] = b"a-fourth-token-0123456789"
    assert opens((await scene.look()).status, "password-0123456789", OTHER)


async def test_a_token_whose_secret_may_not_be_read_stays_after_an_edit_of_something_else() -> None:
    scene = await with_two_tokens()
    await scene.refuse("more")
    scene.kube.edit(Organization, "acme", {"spec": {"suspend": True}})
    status = (await scene.look()).status
    assert tokens_of(status) == (TOKEN, OTHER)
    assert opens(status, "password-0123456789", OTHER)


async def test_hashes_that_an_earlier_version_published_stay_while_one_token_may_not_be_read() -> None:
    scene = await with_two_tokens()
    scene.kube.edit(Organization, "acme", {"status": {"callbackTokens": None}})
    await scene.refuse("more")
    for _ in range(2):
        status = (await scene.look()).status
        assert set(tokens_of(status)) == {TOKEN, OTHER}
        assert opens(status, "password-0123456789", OTHER)


async def test_a_token_that_is_added_while_the_password_is_lost_has_no_password() -> None:
    scene = await with_two_tokens()
    del scene.kube.secrets["lock"]
    scene.kube.secrets["more"]["token"] = b"a-third-token-0123456789"
    status = (await scene.look()).status
    assert opens(status, "password-0123456789", TOKEN)
    assert not opens(status, "password-0123456789", OTHER)


@pytest.mark.parametrize(
    ("refs", "secret"),
    [(["callback", "more"], "more"), (["callback", "third"], "third"), (["third"], "third")],
    ids=["another value", "another Secret", "the old token was removed"],
)
async def test_no_password_of_another_token_counts_for_a_token_that_is_rotated_while_the_password_is_lost(
    refs: list[str], secret: str
) -> None:
    scene = await with_two_tokens()
    del scene.kube.secrets["lock"]
    scene.kube.put_secret(secret, "callback", {"token": b"a-third-token-0123456789"})
    references = [{"name": each, "key": "token"} for each in refs]
    scene.kube.edit(Organization, "acme", {"spec": {"callback": {"tokenSecretRefs": references}}})
    for _ in range(2):
        status = (await scene.look()).status
        # Fewer: the receiver answers 503 in place of 401, and eSAW repeats the call.
        assert len(status.basic_auth_hashes) < len(status.callback_token_hashes) == len(refs)


async def test_a_token_that_moves_to_another_secret_while_the_password_is_lost_keeps_its_password() -> None:
    scene = await with_two_tokens()
    del scene.kube.secrets["lock"]
    scene.kube.put_secret("moved", "callback", scene.kube.secrets.pop("callback"))
    references = [{"name": each, "key": "token"} for each in ("more", "moved")]
    scene.kube.edit(Organization, "acme", {"spec": {"callback": {"tokenSecretRefs": references}}})
    for _ in range(2):
        status = (await scene.look()).status
        assert opens(status, "password-0123456789", TOKEN)
        assert opens(status, "password-0123456789", OTHER)


async def test_values_of_a_token_that_is_replaced_again_and_again_do_not_gather() -> None:
    scene = await with_two_tokens()
    await scene.refuse("more")
    for number in range(10):
        scene.kube.secrets["callback"]["token"] = b"token-%d-0123456789abcdef" % number
        assert len((await scene.look()).status.callback_token_hashes) == 2


async def test_a_lock_whose_key_was_lost_does_not_open_automatically() -> None:
    scene = Scene(callback=BASIC)
    scene.kube.secrets["lock"] = {"username": b"esaw", "password": b"password-0123456789"}
    stored = (await scene.look()).status.basic_auth_hashes
    del scene.kube.secrets["lock"]
    assert len(stored) == 1
    assert (await scene.look()).status.basic_auth_hashes == stored


async def test_a_lock_that_is_taken_out_of_the_spec_is_gone() -> None:
    scene = Scene(callback=BASIC)
    scene.kube.secrets["lock"] = {"username": b"esaw", "password": b"password-0123456789"}
    await scene.look()
    scene.kube.edit(Organization, "acme", {"spec": {"callback": {"basicAuthSecretRef": None}}})
    assert (await scene.look()).status.basic_auth_hashes == ()
    await scene.refuse("callback", "lock")
    assert (await scene.look()).status.basic_auth_hashes == ()


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (EsawUnreachable("connect"), "No connection to eSAW could be made"),
        (HttpStatusError(502), "eSAW answered 502."),
    ],
)
async def test_an_esaw_that_does_not_answer_is_reported_in_its_own_condition(
    problem: EsawError, words: str
) -> None:
    scene = Scene()
    scene.esaw.problem = problem
    truth, reason, message = await scene.condition("Reachable")
    assert (truth, reason) == ("False", "EsawUnreachable")
    assert words in message
    assert await scene.condition() == ("False", "EsawUnreachable", message)
    assert (await scene.condition("Stalled"))[0] == "False", "it may answer again without anybody"
    await scene.look()
    assert len(scene.kube.patches) == 1
    scene.esaw.problem = None
    assert (await scene.condition("Reachable"))[0] == "True"
    assert (await scene.condition())[0] == "True"


@dataclass(frozen=True)
class Answering:
    """One answer of a server to every request, or only below one path and 404 elsewhere."""

    content_type: str
    body: bytes
    status: int = 200
    below: str = "/"
    location: str = ""

    async def answer(self, request: web.Request) -> web.Response:
        if not request.path.startswith(self.below):
            return web.Response(status=404, body=b"<html>Not found</html>", content_type="text/html")
        headers = {"Location": self.location} if self.location else {}
        return web.Response(
            status=self.status, body=self.body, content_type=self.content_type, headers=headers
        )


HTML = b"<!DOCTYPE html><html><title>Sign in</title></html>"


def unreadable(what: str) -> str:
    return (
        "The server at spec.baseURL is no eSignAnyWhere with API v6: eSAW's answer to version can't be used: "
        f"{what}. Correct spec.baseURL, or check for a proxy or a login page at this address."
    )


NO_API_V6 = (
    "eSAW answered 404. No API v6 was found at spec.baseURL, which is the address of eSignAnyWhere without "
    "/Api. If it is correct, perhaps a proxy answers in its place, or this eSignAnyWhere has older versions "
    "of the API only, such as v5, and Counterfoil needs v6."
)

NO_ESAW: list[tuple[str, Answering, str, str]] = [
    (
        "a web page",
        Answering("text/html", HTML),
        "EsawAnswerUnreadable",
        unreadable("it is HTML, not JSON"),
    ),
    (
        "another JSON",
        Answering("application/json", b'{"status": "UP", "groups": ["liveness"]}'),
        "EsawAnswerUnreadable",
        unreadable("no version can be seen in it"),
    ),
    (
        "a health page in plain text",
        Answering("text/plain", b"OK"),
        "EsawAnswerUnreadable",
        unreadable("no version can be seen in it"),
    ),
    (
        "v5 only",
        Answering("application/json", b'{"Success": true, "Version": "23.76"}', below="/Api/v5/"),
        "EsawNotFound",
        NO_API_V6,
    ),
    (
        "eSignAnyWhere below another path",
        Answering("application/json", b'{"Version": "25.52"}', below="/esign/Api/v6/"),
        "EsawNotFound",
        NO_API_V6,
    ),
    (
        "a redirect to a login",
        Answering("text/html", b"", status=302, location="https://login.example.com/?next=/Api"),
        "EsawRedirects",
        "eSAW redirects API calls to https://login.example.com; correct the base URL. Counterfoil follows no "
        "redirect.",
    ),
    (
        "a web page with an error",
        Answering("text/html", HTML, status=503),
        "EsawUnreachable",
        "eSignAnyWhere at spec.baseURL does not answer as it should: eSAW answered 503.",
    ),
    (
        "an object store",
        Answering("application/xml", b"<Error><Code>MissingAuthenticationToken</Code></Error>", status=400),
        "EsawAnswerUnreadable",
        "eSAW answered 400. It has no error id of eSAW, so perhaps another server, a proxy or a firewall "
        "answered. Correct spec.baseURL, or check what is between Counterfoil and this address.",
    ),
    (
        "a proxy that asks for a pause",
        Answering("text/html", HTML, status=429),
        "EsawUnreachable",
        "eSignAnyWhere at spec.baseURL does not answer as it should: eSAW answered 429.",
    ),
    (
        "a proxy without an answer in time",
        Answering("text/html", HTML, status=408),
        "EsawUnreachable",
        "eSignAnyWhere at spec.baseURL does not answer as it should: eSAW answered 408.",
    ),
]


@pytest.mark.parametrize(
    ("server", "reason", "message"), [each[1:] for each in NO_ESAW], ids=[e[0] for e in NO_ESAW]
)
async def test_a_server_that_is_no_esaw_with_api_v6_is_reported_with_what_it_answered(
    server: Answering, reason: str, message: str
) -> None:
    async with answering(server) as url:
        scene = Scene(baseURL=url, esaw_clients=real_clients())
        truth, *found = await scene.condition("Reachable")
    assert (truth, *found) == ("False", reason, message)
    assert (scene.newest().status.version, scene.newest().status.origin) == (None, None)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    ("content_type", "body"), [("text/html", HTML), ("text/plain", HTML), ("text/plain", b" " * 300_000)]
)
async def test_a_web_page_with_401_or_403_may_hide_esaw_and_records_no_origin(
    content_type: str, body: bytes, status: int
) -> None:
    async with answering(Answering(content_type, body, status=status)) as url:
        scene = Scene(baseURL=url, esaw_clients=real_clients())
        scene.cache.senders.remove("anna")
        for _ in range(2):
            assert await scene.condition("Reachable") == (
                "Unknown",
                "EsawUnconfirmed",
                f"eSAW answered {status}. The body is a web page, or could not be read whole: perhaps a "
                "proxy, a firewall or a login page answered. Any server may say that, so it is not known "
                "whether eSignAnyWhere is at spec.baseURL. Counterfoil asks with the key of a Sender as soon "
                "as one works, and with another one each ten minutes.",
            )
            assert (scene.newest().status.version, scene.newest().status.origin) == (None, None)
            restart(scene)


async def test_a_404_where_esaw_answered_before_does_not_say_that_its_api_is_too_old() -> None:
    scene = Scene()
    assert (await scene.condition("Reachable"))[0] == "True"
    for started_anew in (False, True):
        scene.esaw.problem = HttpStatusError(404)
        if started_anew:
            scene.start()
        scene.clock.advance(seconds=VERSION_CHECK_SECONDS)
        truth, reason, message = await scene.condition("Reachable")
        assert (truth, reason) == ("False", "EsawAnswerUnreadable")
        assert "perhaps another server, a proxy or a firewall answered" in message
        assert "v5" not in message


async def test_a_404_at_another_address_may_be_an_esaw_with_older_versions() -> None:
    scene = Scene()
    await scene.look()
    known = scene.newest().status
    assert (known.version, known.origin) == ("25.52.0.100", scene.esaw.origin)
    scene.esaw.problem = HttpStatusError(404)
    scene.esaw.origin = "https://other.example.com"
    scene.kube.edit(Organization, "acme", {"spec": {"baseURL": scene.esaw.origin}})
    for _ in range(2):
        assert (await scene.condition("Reachable"))[1] == "EsawNotFound"
        scene.clock.advance(seconds=VERSION_CHECK_SECONDS)


@pytest.mark.parametrize(
    "server",
    [
        Answering("application/json", b'{"Version": "25.52.0.100"}', below="/Api/v6/"),
        Answering("text/plain", b"25.52.0.100\r\n", below="/Api/v6/"),
    ],
)
async def test_a_server_with_a_version_of_api_v6_can_be_reached(server: Answering) -> None:
    async with answering(server) as url:
        scene = Scene(baseURL=url, esaw_clients=real_clients())
        assert (await scene.condition("Reachable"))[:2] == ("True", "EsawAnswers")
    assert scene.newest().status.version == "25.52.0.100"


@asynccontextmanager
async def answering(server: Answering) -> AsyncIterator[str]:
    """Run a server on a loopback address; yield its URL."""
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", server.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def real_clients() -> EsawClients:
    return EsawClients(new_http_client(), AClock(), lambda *_: None)


@pytest.mark.parametrize("status", [401, 403])
async def test_an_esaw_that_keeps_its_version_to_itself_can_be_reached(status: int) -> None:
    scene = Scene()
    scene.esaw.problem = HttpStatusError(status, "ERR0010")
    assert (await scene.condition("Reachable"))[0] == "True"
    assert scene.newest().status.version is None


@pytest.mark.parametrize("status", [401, 403])
async def test_a_401_or_403_of_any_server_does_not_count_as_esaw(status: int) -> None:
    scene = Scene()
    scene.esaw.problem = HttpStatusError(status)
    truth, reason, message = await scene.condition("Reachable")
    assert (truth, reason) == ("Unknown", "EsawUnconfirmed")
    assert f"eSAW answered {status}." in message


async def test_an_esaw_that_asks_for_a_key_is_confirmed_by_the_key_of_a_sender() -> None:
    esaw = KeyCheckingEsawClient()
    user = esaw.users.pop(KEY)
    scene = Scene(esaw_clients=FakeEsawClients(esaw))
    assert (await scene.condition("Reachable"))[1] == "EsawUnconfirmed"
    esaw.users[KEY] = user
    for _ in range(6):
        found = await scene.condition("Reachable")
    assert found[:2] == ("True", "EsawAnswers")


async def test_the_key_of_the_default_sender_asks_for_the_version() -> None:
    scene = Scene()
    scene.cache.senders.put(known_to_work(a_sender(version=2)))
    scene.cache.senders.put(known_to_work(a_sender("aaron", version=2)))
    await scene.look()
    assert scene.esaw.tokens == [ApiToken.parse(KEY, ORIGIN)]


async def test_without_a_default_sender_the_newest_key_asks_for_the_version_after_a_restart() -> None:
    scene, esaw, keys = with_senders(5)
    for number, each in enumerate(list(scene.cache.senders)):
        assert each.status.key is not None
        is_newest = each.status.key.fingerprint == ApiToken.parse(keys[3], ORIGIN).fingerprint
        verified = NOON if is_newest else NOON - timedelta(days=1 + number)
        status = replace(each.status, key=replace(each.status.key, verified_time=verified))
        metadata = replace(each.metadata, resource_version="2")
        scene.cache.senders.put(replace(each, status=status, metadata=metadata))
    esaw.users = {keys[3]: "sender-03"}
    await scene.look()
    assert esaw.last_accepted is not None


async def test_without_a_default_sender_any_key_that_works_asks_for_the_version() -> None:
    scene = Scene(defaultSenderRef=None)
    scene.cache.senders.put(known_to_work(a_sender(version=2)))
    scene.cache.senders.put(known_to_work(a_sender("other", organization="other", version=2)))
    await scene.look()
    assert scene.esaw.tokens == [ApiToken.parse(KEY, ORIGIN)]


@pytest.mark.parametrize("authorized", ["False", None])
async def test_a_key_that_is_not_known_to_work_is_not_sent_for_a_version(authorized: Any) -> None:
    scene = Scene()
    scene.cache.senders.put(a_sender(authorized=authorized, version=2))
    await scene.look()
    assert scene.esaw.tokens == [None]


async def test_a_reachable_esaw_is_asked_for_its_version_once_a_minute_only() -> None:
    scene = Scene()
    for _ in range(3 * LOOKS_PER_REQUEST):
        await scene.look()
    assert scene.esaw.asked == 3


async def test_another_base_url_is_tried_at_once() -> None:
    scene = Scene()
    await scene.look()
    scene.kube.edit(Organization, "acme", {"spec": {"baseURL": "https://other.example.com"}})
    await scene.look()
    assert scene.esaw.asked == 2


async def test_the_urls_to_paste_have_no_token_in_them() -> None:
    scene = Scene(callback_url="https://callbacks.example.com/")
    urls = (await scene.look()).status.callback_urls
    assert urls is not None
    assert urls.envelope == (
        "https://callbacks.example.com/callbacks/acme/<token>?envelopeId=##EnvelopeId##&action=##Action##"
    )
    assert "action=##EventType##" in urls.workstep
    assert TOKEN not in str(scene.kube.patches)


@pytest.mark.parametrize(
    ("callback_url", "part"),
    [
        ("http://callbacks.example.com", "its scheme is http"),
        ("https://callbacks.example.com:444", "its port is 444"),
        ("https://callbacks.example.com:1024/", "its port is 1024"),
        ("https://callbacks.example.com:80", "its port is 80"),
        ("http://10.0.0.7:8080", "its scheme is http"),
        ("https://callbacks.example.com:99999", "its port is not a number up to 65535"),
    ],
)
async def test_a_public_address_that_esaw_cannot_call_is_reported(callback_url: str, part: str) -> None:
    truth, reason, message = await Scene(callback_url=callback_url).condition()
    assert (truth, reason) == ("False", "CallbackURLUnusable")
    assert part in message
    assert "COUNTERFOIL_CALLBACK_URL" in message


async def test_a_public_url_of_the_organization_that_esaw_cannot_call_is_reported_with_its_field() -> None:
    oauth = {
        "clientID": "c",
        "clientSecretRef": {"name": "o", "key": "s"},
        "publicURL": "https://pages.example.com:81",
    }
    _, reason, message = await Scene(oauth=oauth).condition()
    assert reason == "CallbackURLUnusable"
    assert "spec.oauth.publicURL" in message


@pytest.mark.parametrize(
    "callback_url",
    [
        None,
        "https://callbacks.example.com",
        "https://callbacks.example.com:443",
        "https://callbacks.example.com:1025/counterfoil/",
        "https://callbacks.example.com:65535",
        "http://127.0.0.1:8080",
        "http://localhost:80",
        "http://[::1]:8080",
        "http://receiver",
        "http://receiver.contracts.svc:8080",
        "http://receiver.contracts.svc.cluster.local",
    ],
)
async def test_an_address_that_esaw_can_call_is_ready(callback_url: str | None) -> None:
    assert (await Scene(callback_url=callback_url).condition())[0] == "True"


async def test_without_a_known_address_the_urls_have_a_placeholder() -> None:
    urls = (await Scene().look()).status.callback_urls
    assert urls is not None
    assert urls.status.startswith("https://<your-host>/callbacks/acme/")


async def test_an_action_that_was_listed_since_is_no_longer_among_the_unlisted_ones() -> None:
    scene = Scene(actions=[{"action": "envelopeFinished"}, {"action": "EnvelopeClosed"}])
    counts = [
        {"action": each, "count": 3, "lastTime": "2026-07-01T11:00:00Z"}
        for each in ("envelopeClosed", "workstepOpened")
    ]
    scene.kube.edit(Organization, "acme", {"status": {"unlistedActions": counts}})
    status = (await scene.look()).status
    assert [each.action for each in status.unlisted_actions] == ["workstepOpened"]


async def test_counts_of_events_are_kept_until_there_are_new_ones() -> None:
    scene = Scene()
    assert (await scene.look({"Failed": 2})).status.events == {"Failed": 2}
    assert (await scene.look(None)).status.events == {"Failed": 2}
    assert (await scene.look({"Failed": 1})).status.events == {"Failed": 1}


async def test_the_activity_is_kept_until_it_was_counted_again() -> None:
    scene = Scene()
    seen = Activity(count_time=NOON, archived_within={"1s": 1}, unfinished_for={"1m": 3})
    newer = Activity(count_time=NOON, archived_within={"10s": 2})
    assert (await scene.look(activity=seen)).status.activity == seen
    assert (await scene.look()).status.activity == seen
    assert (await scene.look(activity=newer)).status.activity == newer


async def test_when_another_client_wrote_meanwhile_nothing_is_overwritten() -> None:
    scene = Scene()
    seen = scene.newest()
    scene.kube.edit(Organization, "acme", {"spec": {"suspend": True}})
    assert await scene.organizations.update_status(seen) is None
    assert scene.newest().status.conditions == ()


async def test_a_pattern_of_the_form_that_the_pages_can_not_use_is_reported() -> None:
    fields = [{"name": "ok", "pattern": "[0-9]+"}, {"name": "odd", "pattern": r"(?<=a)b"}]
    truth, reason, message = await Scene(beforeSend={"fields": fields}).condition()
    assert (truth, reason) == ("False", "FieldPatternInvalid")
    assert "`odd`" in message
    assert "`ok`" not in message


async def test_a_form_that_can_be_used_is_ready() -> None:
    fields = [{"name": "ok", "pattern": "[0-9]+"}, {"name": "free"}, {"name": "kind", "options": ["(", "b"]}]
    assert (await Scene(beforeSend={"fields": fields}).condition())[0] == "True"


@pytest.mark.parametrize(
    ("unfinished", "unknown", "reason"),
    [
        (0, 0, "Ready"),
        (89, 89, "Ready"),
        (90, 0, "TooManyUnfinishedEvents"),
        (0, 90, "TooManyUnknownEnvelopes"),
        (500, 500, "TooManyUnknownEnvelopes"),
    ],
)
async def test_near_a_ceiling_the_organization_says_what_to_do(
    unfinished: int, unknown: int, reason: str
) -> None:
    scene = Scene(limits={"unfinishedEvents": 100, "unknownEnvelopes": 100})
    load = EventLoad(count_time=NOON, unfinished_events=unfinished, unknown_envelopes=unknown)

    status = (await scene.look(load=load)).status

    ready = find_condition(status.conditions, "Ready")
    assert ready is not None
    assert ready.reason == reason
    assert (ready.status == "True") is (reason == "Ready")
    assert ("rotate its token" in (ready.message or "")) is (reason != "Ready")
    assert status.load == load
    # It stays published until there is a new count, for example after a restart.
    assert (await scene.look()).status.load == load


async def test_an_organization_whose_ceiling_is_raised_is_ready() -> None:
    scene = Scene(limits={"unfinishedEvents": 100})
    load = EventLoad(count_time=NOON, unfinished_events=95, unknown_envelopes=0)
    ready = find_condition((await scene.look(load=load)).status.conditions, "Ready")
    assert ready is not None
    assert ready.reason == "TooManyUnfinishedEvents"
    scene.kube.edit(Organization, "acme", {"spec": {"limits": {"unfinishedEvents": 1000}}})
    ready = find_condition((await scene.look(load=load)).status.conditions, "Ready")
    assert ready is not None
    assert ready.status == "True"


@pytest.mark.parametrize(
    ("senders", "reason"), [(89, "Ready"), (90, "NearSenderCeiling"), (500, "NearSenderCeiling")]
)
async def test_near_the_ceiling_of_senders_the_organization_says_what_to_do(
    senders: int, reason: str
) -> None:
    status = (
        await Scene(limits={"senders": 100}).look(load=EventLoad(count_time=NOON, senders=senders))
    ).status
    ready = find_condition(status.conditions, "Ready")
    assert ready is not None
    assert ready.reason == reason
    assert ("spec.limits.senders" in (ready.message or "")) is (reason != "Ready")


# -- The first origin ----------------------------------------------------------------------------------------

ELSEWHERE = "https://elsewhere.example"
APP = {"clientID": "c", "clientSecretRef": {"name": "oauth", "key": "secret"}}


async def test_the_first_origin_that_answers_as_esaw_is_recorded_and_stays() -> None:
    scene = Scene()
    scene.esaw.problem = EsawUnreachable("connect")
    assert (await scene.look()).status.origin is None
    scene.esaw.problem = None
    assert (await scene.look()).status.origin == ORIGIN
    scene.esaw.origin = ELSEWHERE
    assert (await scene.look()).status.origin == ORIGIN


@pytest.mark.parametrize(("error_id", "origin"), [("ERR0010", ORIGIN), (None, ORIGIN)])
async def test_a_refusal_confirms_the_origin_before_a_key_works(error_id: str | None, origin: str) -> None:
    scene = Scene()
    scene.esaw.problem = HttpStatusError(401, error_id)
    assert (await scene.look()).status.origin == origin


async def test_no_origin_is_recorded_where_the_namespace_knows_another_esaw() -> None:
    scene = Scene()
    other = an_organization(baseURL=ELSEWHERE)
    scene.cache.organizations.put(replace(other, metadata=replace(other.metadata, name="other")))
    assert (await scene.look()).status.origin is None


async def test_a_client_secret_of_another_esaw_makes_the_organization_unready() -> None:
    scene = Scene(oauth=APP)
    scene.kube.put_secret("oauth", "oauth", {"secret": b"client-secret"})
    await scene.look()
    assert (await scene.condition())[:2] == ("True", "Ready")

    scene.esaw.origin = ELSEWHERE
    change = {"metadata": {"generation": 2}, "spec": {"baseURL": ELSEWHERE}}
    scene.kube.edit(Organization, "acme", change)
    truth, reason, message = await scene.condition()
    assert (truth, reason) == ("False", "OriginChanged")
    assert f"kubectl annotate secret oauth counterfoil.dev/origin={ELSEWHERE} --overwrite" in message
    assert f"belongs to {ORIGIN}" in message

    scene.kube.secret_annotations["oauth"] = {ORIGIN_ANNOTATION: ELSEWHERE}
    assert (await scene.condition())[:2] == ("True", "Ready")


async def test_a_client_secret_of_another_cluster_is_replaced_and_the_address_stays() -> None:
    scene = Scene(oauth=APP)
    scene.kube.put_secret("oauth", "oauth", {"secret": b"client-secret"})
    scene.kube.secret_annotations["oauth"] = {ORIGIN_ANNOTATION: ELSEWHERE}
    await scene.look()
    truth, reason, message = await scene.condition()
    assert (truth, reason) == ("False", "OriginChanged")
    assert "spec.baseURL" not in message
    (command,) = commands_in(message, reason, "tests")
    assert f"annotate secret oauth {ORIGIN_ANNOTATION}={ORIGIN}" in command.line


@pytest.mark.parametrize(
    ("problem", "reachable"),
    [
        (None, "True"),
        (HttpStatusError(401), "Unknown"),
        (HttpStatusError(403), "Unknown"),
        (PAGE, "Unknown"),
    ],
)
async def test_a_client_secret_is_confirmed_for_a_moved_esaw_as_soon_as_it_answers(
    problem: EsawError | None, reachable: str
) -> None:
    scene = Scene(oauth=APP)
    scene.kube.put_secret("oauth", "oauth", {"secret": b"client-secret"})
    await scene.look()
    scene.esaw.origin, scene.esaw.problem = ELSEWHERE, EsawUnreachable("connect")
    change = {"metadata": {"generation": 2}, "spec": {"baseURL": ELSEWHERE}}
    scene.kube.edit(Organization, "acme", change)
    for _ in range(2):
        ready = (await scene.condition())[2]
        assert "`kubectl annotate" not in ready
        assert f"As soon as eSignAnyWhere answers at {ELSEWHERE}, the status has the command" in ready

    scene.esaw.problem = problem
    if problem is not None:
        scene.clock.advance(minutes=5)
    ready = (await scene.condition())[2]

    found = find_condition(scene.newest().status.conditions, "Reachable")
    assert found is not None
    assert found.status == reachable
    assert f"`kubectl annotate secret oauth {ORIGIN_ANNOTATION}={ELSEWHERE} --overwrite`" in ready
    assert (f"It is not known who answers at {ELSEWHERE}." in ready) is (reachable == "Unknown")
    scene.esaw.problem = EsawUnreachable("connect")
    scene.clock.advance(seconds=VERSION_CHECK_SECONDS)
    assert "`kubectl annotate" not in (await scene.condition())[2]


def with_client_secret(**spec: Any) -> Scene:
    """A new Organization whose senders give consent; no key works yet."""
    scene = Scene(oauth=APP, defaultSenderRef=None, **spec)
    scene.cache.senders.remove("anna")
    scene.kube.put_secret("oauth", "oauth", {"secret": b"client-secret"})
    return scene


async def test_a_client_secret_needs_its_annotation_where_only_web_pages_answered() -> None:
    scene = with_client_secret()
    scene.esaw.problem = PAGE
    expected = (
        "False",
        "OriginUnknown",
        "The client secret in Secret/oauth does not say to which eSignAnyWhere it belongs, so it is not sent "
        f"to {ORIGIN}. If spec.baseURL is wrong, correct it. It is not known who answers at {ORIGIN}. If all "
        f"that is in Secret/oauth belongs to {ORIGIN}, type `kubectl annotate secret oauth "
        f"{ORIGIN_ANNOTATION}={ORIGIN} --overwrite`.",
    )
    assert await scene.condition() == expected
    restart(scene)
    assert await scene.condition() == expected
    assert len(commands_in(expected[2], "OriginUnknown", "tests")) == 1

    scene.kube.secret_annotations["oauth"] = {ORIGIN_ANNOTATION: ORIGIN}
    scene.clock.advance(seconds=FRESH_SECONDS + 1)
    assert (await scene.condition())[:2] == ("True", "EsawUnconfirmed")
    assert scene.newest().status.origin is None


@pytest.mark.parametrize("answer", [None, HttpStatusError(401), HttpStatusError(401, "ERR0010")])
async def test_the_first_answer_that_is_no_page_records_the_origin(answer: EsawError | None) -> None:
    scene = with_client_secret()
    scene.esaw.problem = PAGE
    await scene.look()
    scene.esaw.problem = answer
    assert (await scene.condition())[0] == "True"
    assert scene.newest().status.origin == ORIGIN


async def test_nothing_belongs_to_the_address_of_a_web_page_after_it_was_corrected() -> None:
    scene = with_client_secret(baseURL=ELSEWHERE)
    scene.esaw.origin, scene.esaw.problem = ELSEWHERE, PAGE
    await scene.look()
    scene.esaw.origin, scene.esaw.problem = ORIGIN, HttpStatusError(401)
    scene.kube.edit(Organization, "acme", {"metadata": {"generation": 2}, "spec": {"baseURL": ORIGIN}})
    scene.cache.update(scene.newest())
    assert (await scene.condition())[:2] == ("True", "EsawUnconfirmed")
    assert scene.newest().status.origin == ORIGIN


async def test_pages_record_no_origin_for_a_second_organization_of_one_esaw() -> None:
    scene = with_client_secret()
    other = an_organization()
    status = replace(other.status, origin=ORIGIN)
    other = replace(other, metadata=replace(other.metadata, name="other"), status=status)
    scene.cache.organizations.put(other)
    scene.esaw.problem = PAGE
    assert (await scene.condition())[:2] == ("False", "OriginUnknown")
    assert scene.newest().status.origin is None


@pytest.mark.parametrize("problem", [EsawUnreachable("connect"), HttpStatusError(503), HttpStatusError(429)])
async def test_a_new_organization_that_is_not_checked_yet_says_nothing_about_its_client_secret(
    problem: EsawError,
) -> None:
    scene = with_client_secret()
    scene.esaw.problem = problem
    truth, reason, message = await scene.condition()
    assert (truth, reason) == ("False", "EsawUnreachable")
    assert "Secret/oauth" not in message
    scene.esaw.problem = HttpStatusError(401)
    assert (await scene.condition())[:2] == ("True", "EsawUnconfirmed")


async def test_a_new_client_secret_in_a_namespace_of_several_esaws_needs_its_annotation() -> None:
    scene = Scene(oauth=APP)
    scene.kube.put_secret("oauth", "oauth", {"secret": b"client-secret"})
    other = an_organization(baseURL=ELSEWHERE)
    scene.cache.organizations.put(replace(other, metadata=replace(other.metadata, name="other")))
    assert (await scene.condition())[:2] == ("False", "OriginUnknown")


async def test_the_newest_sealing_key_is_reported_with_the_time_since_which_it_is_here(
    tmp_path: Path,
) -> None:
    scene = Scene()
    assert (await scene.look()).status.sealing_key is None
    (tmp_path / "first").write_bytes(base64.b64encode(b"1" * 32))
    scene.organizations.sealing = Sealing(tmp_path)
    first = (await scene.look()).status.sealing_key
    assert first is not None
    assert (first.id, first.hash) == ("first", Sealing(tmp_path).newest_hash)
    assert base64.b64encode(b"1" * 32).decode() not in first.hash
    assert (await scene.look()).status.sealing_key == first

    (tmp_path / "second").write_bytes(base64.b64encode(b"2" * 32))
    second = (await scene.look()).status.sealing_key
    assert second is not None
    assert (second.id, second.observed_time > first.observed_time) == ("second", True)

    (tmp_path / "second").write_bytes(base64.b64encode(b"3" * 32))
    other = (await scene.look()).status.sealing_key
    assert other is not None
    assert (other.id, other.hash != second.hash) == ("second", True)


async def test_a_time_of_a_sealing_key_that_can_not_be_right_is_written_again(tmp_path: Path) -> None:
    scene = Scene()
    (tmp_path / "first").write_bytes(base64.b64encode(b"1" * 32))
    scene.organizations.sealing = Sealing(tmp_path)
    scene.clock.advance(days=30)
    await scene.look()
    scene.clock.advance(days=-30)
    now = scene.clock.now()
    key = (await scene.look()).status.sealing_key
    assert key is not None
    assert key.observed_time == now


async def test_in_the_release_s_own_namespace_the_addresses_name_the_organization_alone() -> None:
    status = (await Scene(callback_url="https://callbacks.example.com").look()).status

    assert status.callback_urls is not None
    assert status.callback_urls.envelope.startswith("https://callbacks.example.com/callbacks/acme/<token>?")
    assert status.address_path is None
    assert status.release_namespace is None


async def test_elsewhere_the_addresses_name_the_namespace_too() -> None:
    organization = await Scene(callback_url="https://callbacks.example.com", own_namespace="release").look()

    urls = organization.status.callback_urls
    assert urls is not None
    assert urls.workstep.startswith("https://callbacks.example.com/callbacks/tests/acme/<token>?")
    assert organization.status.address_path == "tests/acme"
    assert organization.status.release_namespace == "release"
