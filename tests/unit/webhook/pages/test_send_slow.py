"""
Finding what a sent draft became while eSAW answers slowly: each attempt leaves less for the next.

eSAW is in memory and answers after some seconds of virtual time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, cast

import msgspec
import pytest

from counterfoil.esaw import EsawUserClient, models
from counterfoil.esaw.errors import MISSING_DRAFT, MISSING_ENVELOPE, EsawError, HttpStatusError
from counterfoil.esaw.transport import EsawCall
from counterfoil.kube.errors import Rejected
from counterfoil.resources import Envelope, EnvelopeStatus
from tests.support.builders import a_sender, an_organization
from tests.support.scenes.send_page import WatchedKubeClient
from tests.support.virtual_time import VirtualClock, VirtualTimeLoop
from webhook.console.sessions import ProcessCookieCipher
from webhook.http_server.errors import PageError
from webhook.pages.errors import PageErrorKind
from webhook.pages.limits import PageLimits
from webhook.pages.send import DraftSender, SendJob
from webhook.pages.send_lease import SendLease, SendLeases
from webhook.pages.send_recovery import SendRecovery
from webhook.pages.sent_hits import SentHits

ANNA, BRUNO = "anna@example.com", "bruno@example.com"
ATTEMPT = 10.0
AT_ONCE = 4
"""Questions at once about what one draft became."""
SHARED = 8
"""Questions at once of all drafts of an Organization, beyond the first one of each."""
DRAFT = "00000000-0000-4000-8000-00000000d0af"


def an_id(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


class SlowEsaw:
    """An eSAW whose draft was sent. Each answer takes ``seconds``."""

    def __init__(self, hits: Iterable[str], *, seconds: float = 1.0) -> None:
        self.hits = list(hits)
        self.seconds = seconds
        self.senders: dict[str, str] = {}
        """The sender of an envelope, if it is not Anna."""
        self.errors: dict[str, EsawError] = {}
        self.hangs: set[str] = set()
        self.asked: list[str] = []
        """Envelopes that were asked for, in order."""
        self.concurrent = self.most = 0

    async def whoami(self) -> models.WhoAmI:
        await asyncio.sleep(self.seconds)
        return models.WhoAmI(user_id="anna", email=ANNA)

    async def envelope(self, envelope: str) -> models.EnvelopeResponse:
        if envelope == DRAFT:
            await asyncio.sleep(self.seconds)
            raise HttpStatusError(404, MISSING_ENVELOPE)
        self.asked.append(envelope)
        self.concurrent += 1
        self.most = max(self.most, self.concurrent)
        try:
            await asyncio.sleep(20.0 if envelope in self.hangs else self.seconds)
        finally:
            self.concurrent -= 1
        if envelope in self.errors:
            raise self.errors[envelope]
        sender = models.SenderUserInformation(email=self.senders.get(envelope, ANNA))
        return models.EnvelopeResponse(
            id=envelope, status=EnvelopeStatus.COMPLETED, sender=sender, workflow=msgspec.Raw(b"[]")
        )

    async def call(self, call: EsawCall, kind: type[Any]) -> Any:
        await asyncio.sleep(self.seconds)
        if call.operation == "draft":
            raise HttpStatusError(404, MISSING_DRAFT)
        assert call.operation == "find"
        return kind(envelopes=tuple(models.FoundEnvelope(id=each) for each in self.hits))


class SlowScene:
    """A draft that was sent without an answer, in virtual time."""

    def __init__(self, esaw: SlowEsaw, clock: VirtualClock) -> None:
        self.esaw = esaw
        self.clock = clock
        self.kube = WatchedKubeClient()
        self.organization = an_organization(baseURL="https://esaw.example")
        self.kube.put(self.organization)
        self.limits = PageLimits(recovery_seconds=ATTEMPT / 2)
        self.leases = SendLeases(self.kube, ProcessCookieCipher(), clock, attempt_seconds=round(ATTEMPT))
        self.sender = self.a_replica()
        self.job = self.a_job(DRAFT)

    def a_replica(self) -> DraftSender:
        return DraftSender(
            self.kube,
            self.leases,
            self.clock,
            ATTEMPT,
            self.limits,
            sent_hits=SentHits(self.limits),
            monotonic=self.clock.monotonic,
        )

    def a_job(self, draft: str) -> SendJob:
        sender = a_sender(email=ANNA, tokenSecretRef=None)
        return SendJob(self.organization, sender, cast("EsawUserClient", self.esaw), draft)

    @property
    def recorded(self) -> set[str]:
        return {name for kind, name in self.kube.objects if kind == Envelope.PLURAL}

    async def lost_answer(self) -> SendLease:
        """An attempt whose process was killed after eSAW had sent the draft."""
        lease = await self.leases.acquire("acme", "anna", DRAFT)
        assert lease is not None
        await asyncio.sleep(ATTEMPT + 1)
        return lease

    async def is_sent(self) -> bool:
        """Let the person try once, at once; return whether the inbox opens."""
        try:
            await self.sender.send(self.job)
        except PageError:
            return False
        return True

    async def is_sent_within(self, tries: int) -> bool:
        """Let the person try again and again, at once."""
        for _ in range(tries):
            if await self.is_sent():
                return True
        return False

    def recovery(self) -> SendRecovery:
        keys: Any = _Keys()
        clients: Any = _Clients(self.esaw)
        return SendRecovery(
            kube=self.kube,
            send_leases=self.leases,
            draft_sender=self.sender,
            consent_service=keys,
            esaw_clients=clients,
            clock=self.clock,
            limits=self.limits,
        )


class _Keys:
    async def find_sender(self, *_: object) -> Any:
        return a_sender(email=ANNA, tokenSecretRef=None)

    async def get_token(self, *_: object) -> Any:
        return "a key"


class _Clients:
    def __init__(self, esaw: SlowEsaw) -> None:
        self._esaw = esaw

    def for_organization(self, _: object) -> "_Clients":
        return self

    def as_user(self, _: object) -> SlowEsaw:
        return self._esaw


def in_virtual_time(esaw: SlowEsaw, act: Callable[[SlowScene], Awaitable[None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        loop = cast("VirtualTimeLoop", runner.get_loop())
        scene = SlowScene(esaw, VirtualClock(loop))

        async def run() -> None:
            await act(scene)

        runner.run(run())


# A person alone


def test_each_pass_that_its_time_ends_leaves_less_for_the_next() -> None:
    esaw = SlowEsaw(map(an_id, range(40)))

    async def act(scene: SlowScene) -> None:
        lease = await scene.lost_answer()
        known = [-1]
        while len(scene.recorded) < len(esaw.hits):
            known.append(len(scene.recorded))
            assert known[-1] > known[-2]
            with suppress(TimeoutError):
                async with asyncio.timeout(ATTEMPT):
                    await scene.sender.complete(scene.job, lease)
        assert len(known) <= 4

    in_virtual_time(esaw, act)
    assert len(esaw.asked) <= 40 + 3 * AT_ONCE, "no answer that came is asked for again"
    assert 1 < esaw.most <= AT_ONCE


def test_a_draft_ends_after_an_attempt_of_its_person_and_the_recovery_although_esaw_is_slow() -> None:
    esaw = SlowEsaw(map(an_id, range(40)))

    async def act(scene: SlowScene) -> None:
        await scene.lost_answer()
        assert await scene.is_sent()
        await asyncio.sleep(ATTEMPT)
        await scene.recovery().run_once()
        assert scene.recorded == set(esaw.hits)

    in_virtual_time(esaw, act)


@pytest.mark.parametrize("kind", ["another sender's", "not shown", "hanging"])
def test_envelopes_of_which_nothing_is_learned_keep_no_person_waiting(kind: str) -> None:
    esaw = SlowEsaw(map(an_id, range(60)))
    for each in esaw.hits[:30]:
        if kind == "another sender's":
            esaw.senders[each] = BRUNO
        elif kind == "not shown":
            esaw.errors[each] = HttpStatusError(404, MISSING_ENVELOPE)
        else:
            esaw.hangs.add(each)

    async def act(scene: SlowScene) -> None:
        await scene.lost_answer()
        assert await scene.is_sent_within(9)
        for _ in range(21):
            assert await scene.is_sent()
        assert scene.recorded == set(esaw.hits[30:])

    in_virtual_time(esaw, act)


def test_a_person_of_whom_nothing_was_found_in_time_reads_that_it_is_not_certain() -> None:
    esaw = SlowEsaw(map(an_id, range(30)))
    esaw.senders = dict.fromkeys(esaw.hits, BRUNO)

    async def act(scene: SlowScene) -> None:
        await scene.lost_answer()
        with pytest.raises(PageError) as raised:
            await scene.sender.send(scene.job)
        assert raised.value.kind is PageErrorKind.UNKNOWN_OUTCOME

    in_virtual_time(esaw, act)


def test_the_questions_have_the_order_of_the_hits() -> None:
    esaw = SlowEsaw(map(an_id, range(40)))

    async def act(scene: SlowScene) -> None:
        await scene.lost_answer()
        for _ in range(2):
            await scene.is_sent()

    in_virtual_time(esaw, act)
    assert list(dict.fromkeys(esaw.asked)) == esaw.hits[: len(set(esaw.asked))]


# Errors


def a_refusal(status: int) -> HttpStatusError:
    return HttpStatusError(status)


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ({3: 401, 2: 500}, 401),
        ({0: 500, 1: 501, 2: 502, 3: 503, 4: 504, 5: 505, 6: 401}, 500),
        ({4: 503, 9: 500, 0: 404}, None),
    ],
)
def test_concurrent_questions_end_as_those_one_after_the_other(
    errors: dict[int, int], expected: int | None
) -> None:
    esaw = SlowEsaw(map(an_id, range(20)))
    esaw.errors = {an_id(each): a_refusal(status) for each, status in errors.items()}
    if expected == 500:
        esaw.senders = dict.fromkeys(esaw.hits, BRUNO)

    async def act(scene: SlowScene) -> None:
        lease = await scene.lost_answer()
        if expected is None:
            assert await scene.sender.complete(scene.job, lease)
            assert scene.recorded == set(esaw.hits) - esaw.errors.keys()
            return
        with pytest.raises(HttpStatusError) as raised:
            await scene.sender.complete(scene.job, lease)
        assert raised.value.status == expected
        assert len(esaw.asked) <= 6 + AT_ONCE

    in_virtual_time(esaw, act)


def test_what_was_confirmed_before_a_refused_key_is_recorded() -> None:
    esaw = SlowEsaw(map(an_id, range(20)))
    esaw.errors = {an_id(10): a_refusal(401)}

    async def act(scene: SlowScene) -> None:
        lease = await scene.lost_answer()
        with pytest.raises(HttpStatusError):
            await scene.sender.complete(scene.job, lease)
        assert scene.recorded >= set(esaw.hits[:10])

    in_virtual_time(esaw, act)


def test_an_envelope_that_the_api_server_refuses_delays_no_other() -> None:
    esaw = SlowEsaw(map(an_id, range(20)))

    async def act(scene: SlowScene) -> None:
        lease = await scene.lost_answer()
        scene.kube.fail("create", Rejected(403, "Forbidden", "exceeded quota"))
        with pytest.raises(Rejected):
            await scene.sender.complete(scene.job, lease)
        assert len(scene.recorded) == 19

    in_virtual_time(esaw, act)


# Several drafts


def test_the_questions_of_an_organization_are_bounded_and_each_draft_has_one() -> None:
    drafts = [f"00000000-0000-4000-8000-0000000d{each:04d}" for each in range(12)]
    esaw = SlowEsaw(map(an_id, range(400)))

    async def act(scene: SlowScene) -> None:
        leases = [await scene.leases.acquire("acme", "anna", each) for each in drafts]
        esaw.errors = {each: HttpStatusError(404, MISSING_ENVELOPE) for each in drafts}
        async with asyncio.TaskGroup() as tasks:
            for draft, lease in zip(drafts, leases, strict=True):
                assert lease is not None
                tasks.create_task(scene.sender.complete(scene.a_job(draft), lease))

    in_virtual_time(esaw, act)
    assert esaw.most == len(drafts) + SHARED


# A person and the recovery


def test_a_person_who_tries_again_at_once_keeps_no_recovery_away() -> None:
    # Longer than an attempt lasts, so that the person alone learns nothing.
    esaw = SlowEsaw(map(an_id, range(8)), seconds=4.0)

    async def act(scene: SlowScene) -> None:
        await scene.lost_answer()
        recovering = asyncio.create_task(scene.recovery().run())
        for _ in range(12):
            await scene.is_sent()
        recovering.cancel()
        await asyncio.wait([recovering])
        assert scene.recorded == set(esaw.hits)

    in_virtual_time(esaw, act)


def test_a_recovery_beside_a_person_keeps_nothing_from_the_person() -> None:
    esaw = SlowEsaw(map(an_id, range(60)))

    async def act(scene: SlowScene) -> None:
        await scene.lost_answer()
        recovering = asyncio.create_task(scene.recovery().run())
        assert await scene.is_sent_within(2)
        await asyncio.sleep(3 * ATTEMPT)
        recovering.cancel()
        await asyncio.wait([recovering])
        assert scene.recorded == set(esaw.hits)

    in_virtual_time(esaw, act)


def test_the_recovery_gives_up_no_draft_that_a_person_is_sending() -> None:
    async def act(scene: SlowScene) -> None:
        scene.limits = PageLimits(recovery_seconds=1.0, given_up_seconds=2.0)
        lease = await scene.lost_answer()
        await asyncio.sleep(3 * ATTEMPT)
        recovery = scene.recovery()
        held = await scene.leases.take_over(lease)
        assert held is not None

        for _ in range(6):
            await recovery.run_once()
            await asyncio.sleep(1.0)

        assert await scene.leases.find("acme", "anna", DRAFT) == held
        await asyncio.sleep(ATTEMPT)
        for _ in range(4):
            await recovery.run_once()
            await asyncio.sleep(1.0)
        assert await scene.leases.find("acme", "anna", DRAFT) is None

    in_virtual_time(SlowEsaw((), seconds=0.1), act)
