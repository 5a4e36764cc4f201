"""The senders' keys: given out only when they are known to work, and remembered when they don't."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from controller.access.secret_cache import FRESH_SECONDS, SecretCache
from controller.access.sender_keys import (
    RECHECK_SECONDS,
    KeyStateUnknown,
    KeyUnusable,
    SenderKeys,
    other_user_advice,
)
from controller.cache import Cache
from counterfoil.esaw import (
    ApiToken,
    EsawError,
    EsawUnreachable,
    HttpStatusError,
)
from counterfoil.i18n.commands import commands_in
from counterfoil.i18n.reasons import CATALOGUE, Responsible
from counterfoil.kube.errors import ApiError, Forbidden, Unavailable
from counterfoil.kube.secret import Placeholder, SecretUse, create_command
from counterfoil.origin import ORIGIN_ANNOTATION
from counterfoil.resources import Resource, Sender, SenderKey, find_condition
from counterfoil.resources.conditions import ConditionStatus
from counterfoil.resources.organization import EnvelopeAccess
from counterfoil.untrusted.background_work import is_background, set_background
from tests.support.builders import (
    ANNA,
    KEY,
    NOON,
    ORIGIN,
    OTHER_KEY,
    OWN_ADDRESS,
    AClock,
    a_sender,
    an_organization,
    reachable,
)
from tests.support.fakes.esaw import KeyCheckingEsawClient
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.servers.scripted_esaw import Script, against, answering
from tests.support.work import steps_of

FORBIDDEN = Forbidden(403, "Forbidden", "secrets is forbidden")


def fingerprint(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:8]


class Scene:
    """A cluster with one sender and its Secret."""

    def __init__(self, sender: Sender | None = None, key: str | bytes = KEY) -> None:
        self.sender = sender or a_sender(authorized=None)
        self.clock = AClock()
        self.kube = InMemoryKubeClient(self.sender)
        self.esaw = KeyCheckingEsawClient()
        self.cache = Cache()
        self.put_key(key)
        self.restart()

    def restart(self) -> None:
        """Lose everything that is only in memory."""
        secrets = SecretCache(self.kube, self.clock)
        self.sender_keys = SenderKeys(self.kube, self.cache, secrets, self.clock, OWN_ADDRESS)

    def put_key(self, key: str | bytes, *, name: str = "token") -> None:
        self.kube.put_secret("anna-key", "token", {name: key.encode() if isinstance(key, str) else key})

    def newest(self) -> Sender:
        return Sender.parse(self.kube.objects["senders", "anna"])

    async def ask(self, sender: Sender | None = None) -> ApiToken:
        return await self.sender_keys.key(sender or self.newest(), self.esaw)

    async def refusal(self, sender: Sender | None = None) -> KeyUnusable:
        with pytest.raises(KeyUnusable) as refused:
            await self.ask(sender)
        return refused.value

    async def confirmed_refusal(self) -> KeyUnusable:
        """Let eSAW refuse the key, and again a minute later."""
        doubt = await self.refusal()
        assert isinstance(doubt, KeyStateUnknown)
        self.clock.advance(seconds=60)
        return await self.refusal()

    def authorized(self) -> tuple[str, str, str]:
        found = find_condition(self.newest().status.conditions, "Authorized")
        assert found is not None
        return found.status, found.reason, found.message


async def test_a_key_that_is_seen_first_is_verified_and_that_is_stored() -> None:
    scene = Scene()
    scene.cache.update(scene.newest())
    assert (await scene.ask()).reveal() == KEY
    assert scene.authorized()[:2] == ("True", "KeyAccepted")
    key = scene.newest().status.key
    assert key is not None
    assert (key.secret_name, key.fingerprint) == ("anna-key", fingerprint(KEY))
    assert key.verified_time is not None
    assert scene.cache.senders.get("anna") == scene.newest()


async def test_a_key_that_is_known_to_work_is_given_out_without_asking_or_writing() -> None:
    scene = Scene()
    await scene.ask()
    scene.clock.advance(days=30)
    await scene.ask()
    assert scene.esaw.asked == [KEY]
    assert len(scene.kube.patches) == 1


async def test_many_events_that_start_at_once_verify_a_key_once() -> None:
    scene = Scene()
    seen = scene.newest()
    tokens = await asyncio.gather(*(scene.ask(seen) for _ in range(50)))
    assert {each.reveal() for each in tokens} == {KEY}
    assert scene.esaw.asked == [KEY]
    assert len(scene.kube.patches) == 1


async def test_a_run_for_an_import_verifies_a_key_as_fast_as_a_callback_that_waits_for_it() -> None:
    scene, classes = Scene(), list[bool]()
    scene.esaw.while_asked = lambda: classes.append(is_background())
    set_background(True)

    await scene.ask()

    assert classes == [False]
    assert is_background()


async def test_many_events_that_start_at_once_have_a_bad_key_refused_once() -> None:
    scene = Scene(key=OTHER_KEY)
    seen = scene.newest()
    doubted = await asyncio.gather(*(scene.ask(seen) for _ in range(50)), return_exceptions=True)
    assert {type(each) for each in doubted} == {KeyStateUnknown}
    assert (scene.esaw.asked, len(scene.kube.patches)) == ([OTHER_KEY], 1)
    scene.clock.advance(minutes=1)
    refused = await asyncio.gather(*(scene.ask(seen) for _ in range(50)), return_exceptions=True)
    assert {type(each) for each in refused} == {KeyUnusable}
    assert scene.esaw.asked == [OTHER_KEY, OTHER_KEY]
    assert len(scene.kube.patches) == 2


async def test_one_401_makes_a_new_key_doubtful_and_not_refused() -> None:
    scene = Scene(key=OTHER_KEY)
    doubt = await scene.refusal()
    assert isinstance(doubt, KeyStateUnknown)
    assert doubt.until == scene.clock.now() + timedelta(minutes=1)
    assert scene.authorized() == ("Unknown", "KeyDoubted", str(doubt))
    scene.clock.advance(seconds=59)
    assert isinstance(await scene.refusal(), KeyStateUnknown)
    assert scene.esaw.asked == [OTHER_KEY], "it is not asked again within the minute"


async def test_a_401_to_a_key_that_worked_changes_nothing_if_the_key_works_a_minute_later() -> None:
    scene = Scene()
    token = await scene.ask()
    scene.sender_keys.doubt(scene.newest(), token)
    assert isinstance(await scene.refusal(), KeyStateUnknown)
    assert scene.authorized()[0] == "True"
    scene.clock.advance(minutes=1)
    assert (await scene.ask()).reveal() == KEY
    assert (await scene.ask()).reveal() == KEY
    assert scene.esaw.asked == [KEY, KEY]
    assert scene.authorized()[0] == "True"


@pytest.mark.parametrize("days", [30, -30])
async def test_a_clock_that_is_corrected_after_a_401_changes_nothing_of_its_confirmation(days: int) -> None:
    scene = Scene()
    token = await scene.ask()
    scene.clock.set_back(days=-days)
    scene.sender_keys.doubt(scene.newest(), token)
    scene.clock.set_back(days=days)
    scene.clock.advance(seconds=59)
    doubt = await scene.refusal()
    assert isinstance(doubt, KeyStateUnknown)
    assert doubt.until == scene.clock.now() + timedelta(seconds=1)
    scene.clock.advance(seconds=1)
    assert (await scene.ask()).reveal() == KEY
    assert scene.esaw.asked == [KEY, KEY]


@pytest.mark.parametrize("problem", [EsawUnreachable("connect"), HttpStatusError(503)])
async def test_an_esaw_that_cannot_be_asked_again_leaves_a_doubted_key_as_it_is(problem: EsawError) -> None:
    scene = Scene()
    scene.sender_keys.doubt(scene.newest(), await scene.ask())
    scene.clock.advance(minutes=1)
    scene.esaw.problem = problem
    with pytest.raises(EsawError):
        await scene.ask()
    assert scene.authorized()[0] == "True"


async def test_a_new_key_is_verified_at_once_though_the_old_one_is_in_doubt() -> None:
    scene = Scene(key=OTHER_KEY)
    await scene.refusal()
    scene.put_key(KEY)
    scene.clock.advance(seconds=FRESH_SECONDS + 1)
    assert (await scene.ask()).reveal() == KEY


async def test_a_401_with_esaws_own_error_id_needs_no_second_question() -> None:
    scene = Scene()
    scene.esaw.problem = HttpStatusError(401, "ERR0010")
    assert (await scene.refusal()).reason == "TokenRejected"


@pytest.mark.parametrize(
    "page",
    [
        answering(b"<html>sign in</html>", 401),
        answering(b"\xef\xbb\xbf<html>sign in</html>", 401, content_type="text/plain"),
        answering(b"\xff\xfe" + "<html>".encode("utf-16-le"), 401, content_type="text/plain"),
        answering(b"<html>" + b" " * 300_000, 401, content_type="text/plain"),
        answering(b"<html>" + b" " * 100_000, 401, content_type="Text/HTML; charset=utf-8"),
    ],
)
async def test_a_web_page_with_401_refuses_no_key_however_often_it_comes(page: Script) -> None:
    scene = Scene()
    async with against(page) as setup:
        for _ in range(3):
            with pytest.raises(HttpStatusError, match="401"):
                await scene.sender_keys.key(scene.newest(), setup.esaw)
            scene.clock.advance(minutes=2)
    assert scene.authorized()[:2] == ("Unknown", "EsawUnreachable")


@pytest.mark.parametrize(
    "refusal", [answering(b"", 401), answering({"message": "Authorization has been denied."}, 401)]
)
async def test_a_401_that_is_no_web_page_refuses_a_key_when_it_comes_again(refusal: Script) -> None:
    scene = Scene()
    async with against(refusal) as setup:
        for reason in ("KeyDoubted", "TokenRejected"):
            with pytest.raises(KeyUnusable) as refused:
                await scene.sender_keys.key(scene.newest(), setup.esaw)
            assert refused.value.reason == reason
            scene.clock.advance(minutes=1)


class Senders(Scene):
    """Several senders of one organization, whose keys worked and are all refused."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        for name in names:
            self.add(a_sender(name, authorized=None))

    def add(self, sender: Sender) -> None:
        key = f"{sender.name}{OTHER_KEY}"
        worked = SenderKey(fingerprint=fingerprint(key), verified_time=NOON)
        self.add_new(replace(sender, status=replace(sender.status, key=worked)))

    def add_new(self, sender: Sender) -> None:
        """Add a sender whose key never worked."""
        self.kube.put(sender)
        self.kube.put_secret(f"{sender.name}-key", "token", {"token": f"{sender.name}{OTHER_KEY}".encode()})
        self.cache.update(sender)

    def restart(self) -> None:
        """Lose everything that is only in memory; read the Senders again."""
        self.cache = Cache()
        super().restart()
        for (kind, _), raw in self.kube.objects.items():
            if kind == "senders":
                self.cache.update(Sender.parse(raw))
                self.sender_keys.observe(Sender.parse(raw))

    async def reason(self, name: str) -> str:
        """Ask for the key of one of them; return why there is none."""
        return (await self.refusal(Sender.parse(self.kube.objects["senders", name]))).reason


async def test_several_keys_that_are_refused_at_once_are_one_problem_of_the_administrator() -> None:
    scene = Senders("ben", "cleo")
    assert [await scene.reason(each) for each in ("ben", "cleo")] == ["KeyDoubted", "KeyDoubted"]
    scene.clock.advance(minutes=1)
    assert [await scene.reason(each) for each in ("ben", "cleo")] == ["KeysRejected", "KeysRejected"]
    assert CATALOGUE["KeysRejected"].responsible is Responsible.ADMINISTRATOR


async def test_once_esaw_accepts_a_key_again_each_of_the_others_is_a_matter_of_its_sender() -> None:
    scene = Senders("ben", "cleo")
    for _ in range(2):
        for each in ("ben", "cleo"):
            await scene.reason(each)
        scene.clock.advance(minutes=1)
    await scene.ask()
    scene.clock.advance(seconds=RECHECK_SECONDS + 1)
    assert [await scene.reason(each) for each in ("ben", "cleo")] == ["TokenRejected", "TokenRejected"]


async def test_keys_that_a_proxy_refused_work_again_without_a_consent() -> None:
    scene = Senders("ben", "cleo")
    for _ in range(2):
        for each in ("ben", "cleo"):
            reason = await scene.reason(each)
        scene.clock.advance(minutes=1)
    assert reason == "KeysRejected"
    scene.esaw.users |= {f"{each}{OTHER_KEY}": ANNA for each in ("ben", "cleo")}
    scene.clock.advance(seconds=RECHECK_SECONDS + 1)
    for each in ("ben", "cleo"):
        assert (await scene.ask(Sender.parse(scene.kube.objects["senders", each]))).reveal()


async def test_keys_that_are_refused_while_esaw_accepts_others_are_matters_of_their_senders() -> None:
    scene = Senders("ben", "cleo")
    for each in ("ben", "cleo"):
        await scene.reason(each)
    scene.clock.advance(seconds=30)
    scene.sender_keys.accepted(scene.newest())
    scene.clock.advance(seconds=30)
    assert [await scene.reason(each) for each in ("ben", "cleo")] == ["TokenRejected", "TokenRejected"]


async def test_refusals_long_after_one_another_have_separate_causes() -> None:
    scene = Senders("ben", "cleo")
    await scene.reason("ben")
    scene.clock.advance(minutes=1)
    assert await scene.reason("ben") == "TokenRejected"
    scene.clock.advance(minutes=11)
    await scene.reason("cleo")
    scene.clock.advance(minutes=1)
    assert await scene.reason("cleo") == "TokenRejected"


async def test_a_key_that_was_refused_long_before_is_no_common_cause_although_it_is_checked_again() -> None:
    scene = Senders("ben", "cleo")
    await scene.reason("ben")
    scene.clock.advance(minutes=1)
    assert await scene.reason("ben") == "TokenRejected"
    for _ in range(5):
        scene.clock.advance(seconds=RECHECK_SECONDS + 1)
        assert await scene.reason("ben") == "TokenRejected"
    await scene.reason("cleo")
    scene.clock.advance(minutes=1)
    assert await scene.reason("cleo") == "TokenRejected"
    scene.clock.advance(seconds=RECHECK_SECONDS + 1)
    assert [await scene.reason(each) for each in ("ben", "cleo")] == ["TokenRejected", "TokenRejected"]


async def test_a_key_that_was_refused_long_before_a_restart_is_no_common_cause() -> None:
    scene = Senders("ben", "cleo")
    await scene.reason("ben")
    scene.clock.advance(minutes=1)
    await scene.reason("ben")
    scene.clock.advance(days=30)
    scene.restart()
    assert await scene.reason("ben") == "TokenRejected"
    await scene.reason("cleo")
    scene.clock.advance(minutes=1)
    assert await scene.reason("cleo") == "TokenRejected"


async def test_witnesses_that_only_their_conditions_name_count_for_ten_minutes_together() -> None:
    gone = [f"gone-{number}" for number in range(6)]
    scene = Senders(*gone, "ben")
    for _ in range(2):
        for name in gone:
            await scene.reason(name)
        scene.clock.advance(minutes=1)
    scene.clock.advance(days=1)
    scene.restart()
    await scene.reason("ben")
    scene.clock.advance(minutes=1)
    assert await scene.reason("ben") == "KeysRejected"
    for _ in range(3):
        scene.clock.advance(seconds=RECHECK_SECONDS + 1)
        reason = await scene.reason("ben")
    assert reason == "TokenRejected"


async def test_about_a_common_cause_the_keys_are_asked_that_were_used_last() -> None:
    dead = ("dead-1", "dead-2", "dead-3")
    scene = Senders("worker", *dead, "ben", "cleo")
    scene.esaw.users |= {f"{name}{OTHER_KEY}": ANNA for name in ("worker", *dead)}
    for name in ("worker", *dead):
        await scene.ask(Sender.parse(scene.kube.objects["senders", name]))
    scene.clock.advance(days=1)
    scene.restart()
    for name in dead:
        del scene.esaw.users[f"{name}{OTHER_KEY}"]
    await scene.sender_keys.set_waiting_events(Sender.parse(scene.kube.objects["senders", "worker"]), 1)

    for name in ("ben", "cleo"):
        await scene.reason(name)
    scene.clock.advance(minutes=1)

    assert [await scene.reason(name) for name in ("ben", "cleo")] == ["TokenRejected", "TokenRejected"]


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_a_key_that_is_refused_later_in_a_common_outage_is_part_of_it(is_restarted: bool) -> None:
    scene = Senders("ben", "cleo", "dora")
    for _ in range(2):
        for each in ("ben", "cleo"):
            await scene.reason(each)
        scene.clock.advance(minutes=1)
    for _ in range(6):
        scene.clock.advance(seconds=RECHECK_SECONDS + 1)
        assert [await scene.reason(each) for each in ("ben", "cleo")] == ["KeysRejected", "KeysRejected"]
    if is_restarted:
        scene.restart()
    for expected in ("KeyDoubted", "KeysRejected"):
        assert [await scene.reason(each) for each in ("ben", "cleo")] == ["KeysRejected", "KeysRejected"]
        assert await scene.reason("dora") == expected
        scene.clock.advance(minutes=1)


@pytest.mark.parametrize("key_before", [None, "a-key-that-worked-0123456789"])
@pytest.mark.parametrize("is_restarted", [False, True])
async def test_a_key_that_never_worked_does_not_make_the_cause_of_a_refusal_common(
    key_before: str | None, *, is_restarted: bool
) -> None:
    scene, cleo = Senders("ben"), a_sender("cleo", authorized=None)
    if key_before is not None:
        worked = SenderKey(fingerprint=fingerprint(key_before), verified_time=NOON)
        cleo = replace(cleo, status=replace(cleo.status, key=worked))
    scene.add_new(cleo)
    for each in ("cleo", "ben"):
        await scene.reason(each)
    scene.clock.advance(minutes=1)
    for _ in range(3):
        assert [await scene.reason(each) for each in ("cleo", "ben")] == ["TokenRejected", "TokenRejected"]
        scene.clock.advance(seconds=RECHECK_SECONDS + 1)
        if is_restarted:
            scene.restart()


async def test_a_key_that_never_worked_is_part_of_a_common_outage_of_others() -> None:
    scene, names = Senders("ben", "dora"), ("cleo", "ben", "dora")
    scene.add_new(a_sender("cleo", authorized=None))
    for _ in range(2):
        found = [await scene.reason(each) for each in names]
        scene.clock.advance(minutes=1)
    assert found == ["KeysRejected", "KeysRejected", "KeysRejected"]


async def test_keys_refused_at_once_are_matters_of_their_senders_if_esaw_accepts_a_colleagues_key() -> None:
    scene = Senders("ben", "cleo")
    await scene.ask()
    scene.restart()
    for each in ("ben", "cleo"):
        await scene.reason(each)
    scene.clock.advance(minutes=1)
    assert [await scene.reason(each) for each in ("ben", "cleo")] == ["TokenRejected", "TokenRejected"]


async def test_keys_refused_at_once_are_one_problem_if_a_colleagues_key_is_refused_too() -> None:
    scene = Senders("ben", "cleo")
    await scene.ask()
    scene.restart()
    scene.esaw.users.clear()
    for each in ("ben", "cleo"):
        await scene.reason(each)
    scene.clock.advance(minutes=1)
    assert [await scene.reason(each) for each in ("ben", "cleo")] == ["KeysRejected", "KeysRejected"]
    assert scene.authorized()[0] == "True", "the question about others changes nothing of the colleague"


async def test_a_key_is_a_matter_of_its_sender_although_another_organization_has_lost_all_keys() -> None:
    """As when the OAuth application of the other Organization was deleted long ago."""
    scene = Senders("bert")
    for organization in ("acme", "old"):
        scene.cache.update(an_organization(organization, baseURL=f"{ORIGIN}/"))
    for name in ("ben", "cleo"):
        scene.add(a_sender(name, authorized=None, organization="old"))
    for _ in range(2):
        lost = [await scene.reason(each) for each in ("ben", "cleo")]
        scene.clock.advance(minutes=1)
    assert lost == ["KeysRejected", "KeysRejected"]

    scene.clock.advance(days=7)
    for _ in range(2):
        scene.clock.advance(seconds=RECHECK_SECONDS)
        for each in ("ben", "cleo"):
            await scene.reason(each)
        scene.sender_keys.accepted(scene.newest())
        found = await scene.reason("bert")

    assert found == "TokenRejected"


class ManySenders(Senders):
    """Senders whose keys do not work, in a state that one pass checks for each of them."""

    def __init__(self, senders: int) -> None:
        super().__init__(*(f"sender-{number}" for number in range(senders)))
        self.names = [f"sender-{number}" for number in range(senders)]
        self.organization = an_organization()
        self.cache.update(self.organization)

    async def check_all(self) -> set[str]:
        """Check the key of each of them; return why there is none."""
        return {await self.reason(each) for each in self.names}

    def record(self, **key: Any) -> None:
        """Change what the statuses of all Senders say about their keys."""
        for each in self.names:
            known = Sender.parse(self.kube.objects["senders", each])
            assert known.status.key is not None
            changed = replace(known, status=replace(known.status, key=replace(known.status.key, **key)))
            self.kube.put(changed)
            self.cache.senders.remove(each)
            self.cache.update(changed)

    async def moved(self) -> None:
        """The Organization leads to another eSAW than its keys belong to."""
        self.record(origin=ELSEWHERE)
        self.cache.organizations.put(
            reachable(replace(self.organization, status=replace(self.organization.status, origin=ELSEWHERE)))
        )

    async def new(self) -> None:
        """No origin is known yet."""
        self.record(verified_time=None)

    async def refused(self) -> None:
        """A proxy refuses all keys."""
        await self.check_all()
        self.clock.advance(minutes=1)
        await self.check_all()
        self.clock.advance(seconds=RECHECK_SECONDS + 1)

    async def refused_while_others_work(self) -> None:
        """ESAW accepts one key, and refuses all others."""
        await self.refused()
        self.sender_keys.accepted(self.newest())

    async def refused_one_after_another(self) -> None:
        """Each key is refused long after the one before."""
        for each in self.names:
            await self.reason(each)
            self.clock.advance(minutes=15)
            await self.reason(each)

    async def never_worked(self) -> None:
        """None of the refused keys worked before."""
        self.record(verified_time=None)
        await self.refused()

    async def refused_before_a_restart(self) -> None:
        """A proxy refuses all keys, and the process starts again."""
        await self.refused()
        self.restart()
        self.cache.update(self.organization)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (ManySenders.moved, "OriginChanged"),
        (ManySenders.new, "KeyDoubted"),
        (ManySenders.refused, "KeysRejected"),
        (ManySenders.refused_while_others_work, "TokenRejected"),
        (ManySenders.refused_one_after_another, "TokenRejected"),
        (ManySenders.never_worked, "TokenRejected"),
        (ManySenders.refused_before_a_restart, "KeysRejected"),
    ],
)
async def test_the_check_of_a_key_costs_the_same_beside_many_other_senders(
    state: Callable[[ManySenders], Awaitable[None]], reason: str
) -> None:
    steps = dict[int, float]()
    for senders in (10, 60):
        scene = ManySenders(senders)
        await state(scene)
        found = list[set[str]]()

        async def check(scene: ManySenders = scene, found: list[set[str]] = found) -> None:
            found.append(await scene.check_all())

        steps[senders] = await steps_of(check()) / senders
        assert found == [{reason}]
    assert steps[60] < 1.1 * steps[10]


async def test_a_call_that_esaw_accepts_costs_the_same_beside_many_refused_keys() -> None:
    steps = dict[int, int]()
    for senders in (10, 60):
        scene = ManySenders(senders)
        await scene.refused()

        async def accept(scene: ManySenders = scene) -> None:
            scene.sender_keys.accepted(scene.newest())

        steps[senders] = await steps_of(accept())
    assert steps[60] == steps[10]


async def test_a_key_that_esaw_refuses_is_unusable_and_the_sender_reports_it() -> None:
    scene = Scene(key=OTHER_KEY)
    refused = await scene.confirmed_refusal()
    assert (refused.reason, str(refused)) == scene.authorized()[1:]
    assert scene.authorized()[:2] == ("False", "TokenRejected")
    key = scene.newest().status.key
    assert key is not None
    assert (key.fingerprint, key.verified_time) == (fingerprint(OTHER_KEY), None), "it was never accepted"


@pytest.mark.parametrize("text", ["AWordThatNobodyKnows", "no reason"])
async def test_a_text_in_place_of_the_reason_of_a_refused_key_is_no_reason_of_an_event(text: str) -> None:
    scene = Scene(key=OTHER_KEY)
    await scene.confirmed_refusal()
    (condition, *others) = scene.newest().status.conditions
    assert condition.type == "Authorized"
    status = replace(scene.newest().status, conditions=(replace(condition, reason=text), *others))

    refused = await scene.refusal(replace(scene.newest(), status=status))

    assert (refused.reason, str(refused)) == ("Unknown", condition.message)
    assert len(scene.esaw.asked) == 2, "the answer of before counts"


async def test_a_refused_key_is_not_asked_about_again_and_again_but_from_time_to_time() -> None:
    scene = Scene(key=OTHER_KEY)
    await scene.confirmed_refusal()
    for _ in range(10):
        await scene.refusal()
    assert len(scene.esaw.asked) == 2
    scene.clock.advance(seconds=RECHECK_SECONDS + 1)
    await scene.refusal()
    assert len(scene.esaw.asked) == 3
    assert len(scene.kube.patches) == 2, "an equal answer is no news"
    scene.esaw.users[OTHER_KEY] = ANNA
    scene.clock.advance(seconds=RECHECK_SECONDS + 1)
    assert (await scene.ask()).reveal() == OTHER_KEY


async def test_another_key_in_the_secret_is_verified_before_it_is_given_out() -> None:
    scene = Scene(key=OTHER_KEY)
    await scene.confirmed_refusal()
    scene.put_key(KEY)
    scene.clock.advance(seconds=11)
    assert (await scene.ask()).reveal() == KEY
    assert scene.authorized()[0] == "True"


async def test_a_key_of_another_user_is_never_used() -> None:
    scene = Scene()
    scene.esaw.users[KEY] = "another-user"
    assert (await scene.refusal()).reason == "WrongUser"
    assert scene.authorized()[:2] == ("False", "WrongUser")


@pytest.mark.parametrize(
    ("user_id", "spec", "is_named"),
    [
        ("another-user", {}, True),
        ("two words", {}, False),
        ("a" * 129, {}, False),
        ("line\nbreak", {}, False),
        ("another-user", {"tokenSecretRef": None}, False),
    ],
)
def test_a_wrong_user_id_can_be_corrected_with_the_message(
    user_id: str, spec: dict[str, Any], is_named: bool
) -> None:
    advice = other_user_advice(a_sender(**spec), user_id)
    assert (f"the key belongs to the user {user_id}." in advice) == is_named
    assert ("delete the Sender and create it again" in advice) == is_named


async def test_user_ids_are_compared_without_regard_to_letter_case() -> None:
    scene = Scene()
    scene.esaw.users[KEY] = ANNA.upper()
    assert (await scene.ask()).reveal() == KEY


@pytest.mark.parametrize("written", [f"{{{ANNA}}}", ANNA.replace("-", ""), f"{{{ANNA.upper()}}}"])
async def test_user_ids_that_are_guids_are_compared_as_guids(written: str) -> None:
    scene = Scene()
    scene.esaw.users[KEY] = written
    assert (await scene.ask()).reveal() == KEY


PROBLEMS = pytest.mark.parametrize(
    "problem", [EsawUnreachable("connect"), HttpStatusError(503), HttpStatusError(403)]
)


@PROBLEMS
async def test_while_esaw_cannot_be_asked_about_a_new_key_that_is_said_once(problem: EsawError) -> None:
    scene = Scene()
    scene.esaw.problem = problem
    for _ in range(3):
        with pytest.raises(EsawError):
            await scene.ask()
    truth, reason, message = scene.authorized()
    assert (truth, reason) == ("Unknown", "EsawUnreachable")
    assert str(problem) in message
    assert len(scene.kube.patches) == 1

    scene.esaw.problem = None
    assert (await scene.ask()).reveal() == KEY
    assert scene.authorized()[0] == "True"


@PROBLEMS
async def test_an_esaw_that_cannot_be_asked_says_nothing_about_a_key_that_it_has_refused(
    problem: EsawError,
) -> None:
    scene = Scene(key=OTHER_KEY)
    await scene.confirmed_refusal()
    refused = scene.authorized()
    scene.esaw.problem = problem
    scene.clock.advance(seconds=RECHECK_SECONDS + 1)
    with pytest.raises(EsawError):
        await scene.ask()
    assert scene.authorized() == refused


async def test_a_new_key_in_place_of_a_refused_one_is_unknown_until_esaw_was_asked() -> None:
    scene = Scene(key=OTHER_KEY)
    await scene.confirmed_refusal()
    scene.put_key(KEY)
    scene.clock.advance(seconds=FRESH_SECONDS + 1)
    scene.esaw.problem = EsawUnreachable("timeout")
    for _ in range(2):
        with pytest.raises(EsawUnreachable):
            await scene.ask()
    assert scene.authorized()[:2] == ("Unknown", "EsawUnreachable")

    scene.esaw.problem = None
    assert (await scene.ask()).reveal() == KEY


UNUSABLE: list[tuple[dict[str, Any], bytes, str, str]] = [
    ({}, b"", "KeyUnreadable", "Secret/anna-key, key 'token': the API token is empty"),
    (
        {},
        b"\xff\xfe\x00",
        "KeyUnreadable",
        "Secret/anna-key, key 'token': an API token has ASCII characters only",
    ),
    ({}, b"two words", "KeyUnreadable", "Secret/anna-key, key 'token': an API token has no spaces"),
    (
        {"tokenSecretRef": {"name": "anna-key", "key": "apiKey"}},
        KEY.encode(),
        "KeyMissing",
        "Secret/anna-key has no key 'apiKey'.",
    ),
    (
        {"tokenSecretRef": {"name": "nobody", "key": "token"}},
        b"",
        "KeyMissing",
        "Secret/nobody does not exist. Put the user's API key there (type `"
        f"{create_command('nobody', {'token': Placeholder.API_KEY}, SecretUse.TOKEN)}`), or",
    ),
    ({"tokenSecretRef": None}, b"", "ConsentRequired", "Sender/anna has not given its consent yet."),
]


@pytest.mark.parametrize(("spec", "content", "reason", "words"), UNUSABLE)
async def test_a_secret_that_holds_no_key_is_reported_in_words_that_lead_to_it(
    spec: dict[str, Any], content: bytes, reason: str, words: str
) -> None:
    scene = Scene(a_sender(authorized=None, **spec), key=content)
    refused = await scene.refusal()
    assert refused.reason == reason
    assert str(refused).startswith(words)
    assert scene.authorized() == ("False", reason, str(refused))
    await scene.refusal()
    assert len(scene.kube.patches) == 1
    assert scene.esaw.asked == []


async def test_the_placeholder_of_a_command_is_no_key_and_is_not_sent() -> None:
    scene = Scene(a_sender(authorized=None), key=b"NEW-API-KEY")
    refused = await scene.refusal()
    assert refused.reason == "KeyUnreadable"
    assert str(refused).startswith(
        "Secret/anna-key, key 'token': NEW-API-KEY is the placeholder of a command"
    )
    assert [each.line for each in commands_in(str(refused), refused.reason, "tests")] == [
        """kubectl -n tests patch secret anna-key -p '{"stringData":{"token":"NEW-API-KEY"}}'"""
    ]
    assert scene.esaw.asked == []


@pytest.mark.parametrize("label", [None, "callback"])
async def test_a_key_in_a_secret_for_another_use_is_sent_to_nobody_until_it_is_labelled(
    label: str | None,
) -> None:
    scene = Scene(a_sender(authorized=None))
    scene.kube.secret_uses = {"anna-key": label} if label is not None else {}
    refused = await scene.refusal()
    assert refused.reason == "SecretNotLabelled"
    assert str(refused).endswith("type `kubectl label secret anna-key counterfoil.dev/use=token`.")
    assert scene.authorized() == ("False", "SecretNotLabelled", str(refused))
    assert scene.esaw.asked == []

    scene.kube.secret_uses["anna-key"] = "token"
    scene.clock.advance(seconds=FRESH_SECONDS + 1)
    assert (await scene.ask()).reveal() == KEY
    assert scene.authorized()[:2] == ("True", "KeyAccepted")


@pytest.mark.parametrize(
    ("problem", "reason", "advice"),
    [
        (
            Unavailable(500, "InternalError", "unable to transform key"),
            "SecretUnreadable",
            "There is nothing to create",
        ),
        (FORBIDDEN, "SecretForbidden", "nothing to create or to replace"),
    ],
    ids=["it can't", "it may not"],
)
async def test_a_key_whose_secret_is_not_read_for_a_minute_is_unknown(
    problem: ApiError, reason: str, advice: str
) -> None:
    scene = Scene()
    await scene.ask()
    verified = scene.newest().status.key
    scene.kube.refused["secret", "anna-key"] = problem
    for _ in range(6):
        scene.clock.advance(seconds=10)
        assert scene.authorized()[:2] == ("True", "KeyAccepted")
        with pytest.raises(Unavailable):
            await scene.ask()
        assert scene.authorized()[:2] == ("True", "KeyAccepted")
    scene.clock.advance(seconds=10)
    unknown = await scene.refusal()
    assert isinstance(unknown, KeyStateUnknown)
    assert scene.authorized() == ("Unknown", reason, str(unknown))
    assert advice in str(unknown)
    assert scene.newest().status.key == verified

    scene.clock.advance(hours=1)
    scene.restart()
    assert (await scene.refusal()).reason == reason, "the status knows it"

    del scene.kube.refused["secret", "anna-key"]
    assert (await scene.ask()).reveal() == KEY
    assert scene.authorized()[:2] == ("True", "KeyAccepted")


async def test_a_key_that_esaw_refused_stays_refused_while_its_secret_can_not_be_read() -> None:
    scene = Scene(key=OTHER_KEY)
    await scene.confirmed_refusal()
    refused = scene.authorized()
    scene.kube.refused["secret", "anna-key"] = Unavailable(500, "InternalError", "unable to transform key")
    for _ in range(8):
        scene.clock.advance(seconds=10)
        with suppress(Unavailable, KeyStateUnknown):
            await scene.ask()
    assert scene.authorized() == refused


async def test_a_secret_that_may_not_be_read_for_a_moment_says_nothing_about_the_key() -> None:
    scene = Scene()
    scene.kube.fail("secret", FORBIDDEN)
    with pytest.raises(Unavailable, match="Secret/anna-key may not be read now"):
        await scene.ask()
    assert find_condition(scene.newest().status.conditions, "Authorized") is None
    assert (await scene.ask()).reveal() == KEY, "it is tried at once, since nothing is remembered"


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (Unavailable(500, "InternalError", "unable to transform key"), "SecretUnreadable"),
        (FORBIDDEN, "SecretForbidden"),
    ],
)
async def test_a_key_that_can_be_read_again_was_accepted_as_long_ago_as_before(
    problem: ApiError, reason: str
) -> None:
    scene = Scene()
    await scene.ask()
    verified = scene.newest().status.key
    scene.kube.refused["secret", "anna-key"] = problem
    for _ in range(8):
        scene.clock.advance(seconds=10)
        with suppress(Unavailable, KeyStateUnknown):
            await scene.ask()
    assert scene.authorized()[:2] == ("Unknown", reason)

    scene.restart()
    del scene.kube.refused["secret", "anna-key"]
    assert (await scene.ask()).reveal() == KEY
    assert scene.authorized()[:2] == ("True", "KeyAccepted")
    assert scene.newest().status.key == verified
    assert scene.esaw.asked == [KEY], "the one question of the beginning"


async def test_another_key_in_a_secret_that_can_be_read_again_is_verified() -> None:
    scene = Scene()
    await scene.ask()
    scene.kube.refused["secret", "anna-key"] = FORBIDDEN
    for _ in range(8):
        scene.clock.advance(seconds=10)
        with suppress(Unavailable, KeyStateUnknown):
            await scene.ask()
    assert scene.authorized()[:2] == ("Unknown", "SecretForbidden")

    del scene.kube.refused["secret", "anna-key"]
    scene.put_key(OTHER_KEY)
    await scene.confirmed_refusal()
    assert scene.authorized()[:2] == ("False", "TokenRejected")
    assert scene.esaw.asked[1:] == [OTHER_KEY, OTHER_KEY]


async def test_a_key_in_doubt_that_can_be_read_again_is_verified() -> None:
    scene = Scene()
    token = await scene.ask()
    scene.sender_keys.doubt(scene.newest(), token)
    scene.kube.refused["secret", "anna-key"] = FORBIDDEN
    for _ in range(8):
        scene.clock.advance(seconds=10)
        with suppress(Unavailable, KeyStateUnknown):
            await scene.ask()
    assert scene.authorized()[:2] == ("Unknown", "SecretForbidden")

    del scene.kube.refused["secret", "anna-key"]
    await scene.ask()
    assert scene.esaw.asked == [KEY, KEY]


@pytest.mark.parametrize("key", [KEY, OTHER_KEY])
async def test_the_state_of_a_key_stays_while_its_secret_may_not_be_read(key: str) -> None:
    """An API server that has just started refuses permitted requests; this must not cause a mail that asks
    for a new key."""
    scene = Scene(key=key)
    for _ in range(2):
        await asyncio.gather(scene.ask(), return_exceptions=True)
        scene.clock.advance(minutes=1)
    before = scene.newest()
    scene.clock.advance(seconds=FRESH_SECONDS + 1)
    scene.kube.fail("secret", FORBIDDEN)
    with pytest.raises(Unavailable):
        await scene.ask()
    assert scene.newest() == before


async def test_a_key_that_is_refused_while_its_secret_may_not_be_read_may_be_an_old_one() -> None:
    scene = Scene()
    token = await scene.ask()
    scene.kube.fail("secret", FORBIDDEN)
    await scene.sender_keys.refused(scene.newest(), token)
    assert scene.authorized()[0] == "True"
    await scene.sender_keys.refused(scene.newest(), token)
    assert scene.authorized()[0] == "False"


async def test_a_key_that_was_refused_in_the_middle_of_work_is_remembered() -> None:
    scene = Scene()
    token = await scene.ask()
    await scene.sender_keys.refused(scene.newest(), token)
    assert scene.authorized()[:2] == ("False", "TokenRejected")
    key = scene.newest().status.key
    assert key is not None
    assert key.verified_time is not None, "when it was accepted last"
    assert (await scene.refusal()).reason == "TokenRejected"
    assert len(scene.esaw.asked) == 1


@pytest.mark.parametrize("is_told_by_a_call", [True, False])
async def test_the_condition_of_a_refused_key_says_how_to_get_another_one(*, is_told_by_a_call: bool) -> None:
    scene = Scene(key=KEY if is_told_by_a_call else OTHER_KEY)
    if is_told_by_a_call:
        await scene.sender_keys.refused(scene.newest(), await scene.ask())
    else:
        await scene.confirmed_refusal()
    proxy = " The answer was 401 without an error id, so check also whether a proxy refuses the calls."
    others = "" if is_told_by_a_call else proxy
    assert scene.authorized() == (
        "False",
        "TokenRejected",
        "eSignAnyWhere does not accept the API key of Sender/anna. Sender/anna brings a key: put a new "
        f"one into Secret/anna-key, key 'token'. There is no consent to give.{others}",
    )


async def test_many_events_whose_key_is_refused_at_once_write_that_down_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene()
    with caplog.at_level("INFO"):
        token = await scene.ask()
        seen = scene.newest()
        await asyncio.gather(*(scene.sender_keys.refused(seen, token) for _ in range(20)))
    assert len(scene.kube.patches) == 2
    assert [each.message for each in caplog.records if "the key of" in each.message] == [
        "the key of Sender/anna works: KeyAccepted",
        "the key of Sender/anna can't be used: TokenRejected",
    ]


async def test_the_refusal_of_an_old_key_does_not_shut_out_the_new_one() -> None:
    scene = Scene(key=OTHER_KEY)
    scene.esaw.users[OTHER_KEY] = ANNA
    old = await scene.ask()
    seen_by_the_worker = scene.newest()
    scene.put_key(KEY)
    scene.clock.advance(seconds=11)
    await scene.ask()
    await scene.sender_keys.refused(seen_by_the_worker, old)
    assert scene.authorized()[0] == "True"
    assert (await scene.ask()).reveal() == KEY


async def test_an_old_key_that_is_refused_after_a_new_one_was_stored_changes_nothing() -> None:
    """A rotation of keys during work must not cause a mail that asks for a new key."""
    scene = Scene()
    scene.esaw.users[OTHER_KEY] = ANNA
    old = await scene.ask()
    scene.put_key(OTHER_KEY)
    await scene.sender_keys.refused(scene.newest(), old)
    assert scene.authorized()[0] == "True"
    assert (await scene.ask()).reveal() == OTHER_KEY


async def test_a_key_that_is_refused_when_its_secret_is_gone_is_remembered() -> None:
    scene = Scene()
    token = await scene.ask()
    scene.kube.secrets.clear()
    await scene.sender_keys.refused(scene.newest(), token)
    assert scene.authorized()[:2] == ("False", "TokenRejected")


async def test_when_another_client_wrote_meanwhile_its_state_stays() -> None:
    scene = Scene()
    seen = scene.newest()
    scene.kube.edit(Sender, "anna", {"spec": {"suspend": True}})
    assert (await scene.ask(seen)).reveal() == KEY
    assert scene.newest().spec.suspend
    assert scene.newest().status.key is None, "the next check verifies and writes it"


async def test_how_many_events_wait_is_written_only_when_it_changed() -> None:
    scene = Scene()
    await scene.sender_keys.set_waiting_events(scene.newest(), 3)
    await scene.sender_keys.set_waiting_events(scene.newest(), 3)
    assert scene.newest().status.waiting_events == 3
    assert len(scene.kube.patches) == 1
    await scene.sender_keys.set_waiting_events(scene.newest(), 0)
    assert scene.newest().status.waiting_events == 0


async def test_no_key_is_in_any_status() -> None:
    scene = Scene()
    await scene.ask()
    scene.put_key(OTHER_KEY)
    scene.clock.advance(seconds=11)
    await scene.refusal()
    assert KEY not in str(scene.kube.patches)
    assert OTHER_KEY not in str(scene.kube.patches)


# -- The summary for tools -----------------------------------------------------------------------------------


def summary(scene: Scene) -> dict[str, tuple[str, str]]:
    conditions = scene.newest().status.conditions
    return {each.type: (each.status, each.reason) for each in conditions if each.type != "Authorized"}


async def test_a_sender_whose_key_works_is_ready_with_the_same_write() -> None:
    scene = Scene()
    await scene.ask()
    assert summary(scene) == {"Ready": ("True", "KeyAccepted"), "Stalled": ("False", "NotStalled")}
    assert len(scene.kube.patches) == 1


async def test_a_sender_whose_key_is_refused_is_stalled_and_while_that_is_doubted_it_is_not() -> None:
    scene = Scene(key=OTHER_KEY)
    await scene.refusal()
    assert summary(scene) == {"Ready": ("Unknown", "KeyDoubted"), "Stalled": ("False", "NotStalled")}
    scene.clock.advance(seconds=60)
    await scene.refusal()
    assert summary(scene) == {"Ready": ("False", "TokenRejected"), "Stalled": ("True", "TokenRejected")}


async def test_a_suspension_is_in_the_summary_once_and_leaves_the_key_alone() -> None:
    scene = Scene()
    await scene.ask()
    scene.kube.edit(Sender, "anna", {"spec": {"suspend": True}})
    for _ in range(3):
        await scene.sender_keys.observe_spec(scene.newest())
        await scene.sender_keys.set_waiting_events(scene.newest(), 0)
    assert summary(scene)["Ready"] == ("False", "SenderSuspended")
    assert scene.authorized()[:2] == ("True", "KeyAccepted")
    assert len(scene.kube.patches) == 2, "the key's, and the suspension's"


async def test_a_new_spec_is_observed_only_when_its_key_was_checked() -> None:
    scene = Scene()
    await scene.ask()
    scene.kube.edit(Sender, "anna", {"metadata": {"generation": 2}})
    await scene.sender_keys.set_waiting_events(scene.newest(), 0)
    assert scene.newest().status.observed_generation == 1
    await scene.ask()
    assert len(scene.kube.patches) == 1, "an event costs no write"
    for _ in range(3):
        await scene.sender_keys.observe_spec(scene.newest())
    assert scene.newest().status.observed_generation == 2
    assert {each.observed_generation for each in scene.newest().status.conditions} == {2}
    assert len(scene.kube.patches) == 2


async def test_a_sender_of_no_organization_reports_it_and_forgets_nothing_about_its_key() -> None:
    scene = Scene()
    for _ in range(3):
        await scene.sender_keys.organization_missing(scene.newest())
    assert scene.authorized()[:2] == ("Unknown", "OrganizationMissing")
    assert summary(scene)["Ready"] == ("False", "OrganizationMissing")
    assert summary(scene)["Stalled"] == ("True", "OrganizationMissing")
    assert len(scene.kube.patches) == 1

    await scene.ask()
    await scene.sender_keys.organization_missing(scene.newest())
    assert scene.authorized()[:2] == ("True", "KeyAccepted")
    assert summary(scene)["Ready"] == ("False", "OrganizationMissing")


async def test_a_sender_that_can_neither_consent_nor_has_a_key_is_no_senders_turn() -> None:
    scene = Scene(a_sender(authorized=None, tokenSecretRef=None))
    scene.cache.update(an_organization())
    refused = await scene.refusal()
    assert refused.reason == "KeyNotConfigured"
    assert str(refused) == (
        "Sender/anna has no spec.tokenSecretRef, and its Organization has no spec.oauth, so nobody can be "
        "asked for consent. Put the user's API key into a Secret (type `"
        f"{create_command('anna-esaw', {'token': Placeholder.API_KEY}, SecretUse.TOKEN)}`) and let "
        "spec.tokenSecretRef name it: `kubectl patch sender anna "
        "--type=merge -p "
        """'{"spec":{"tokenSecretRef":{"name":"anna-esaw","key":"token"}}}'`."""
    )
    assert CATALOGUE[refused.reason].responsible is Responsible.ADMINISTRATOR


# -- The origin of a key ------------------------------------------------------------------------------------

ELSEWHERE = "https://elsewhere.example"


async def test_the_origin_that_accepts_a_key_first_is_recorded() -> None:
    scene = Scene()
    assert (await scene.ask()).origin == ORIGIN
    key = scene.newest().status.key
    assert key is not None
    assert key.origin == ORIGIN


async def test_a_key_is_not_sent_to_another_origin_and_works_again_at_the_old_one() -> None:
    scene = Scene()
    know_organization(scene, None)
    await scene.ask()
    scene.esaw.asked.clear()

    scene.esaw.origin = ELSEWHERE
    scene.cache.update(reachable(an_organization(version=2, baseURL=ELSEWHERE)))
    refused = await scene.refusal()

    assert refused.reason == "OriginChanged"
    assert ORIGIN in str(refused)
    assert ELSEWHERE in str(refused)
    assert scene.authorized()[:2] == ("False", "OriginChanged")
    assert f"counterfoil.dev/origin={ELSEWHERE}" in scene.authorized()[2]
    assert scene.esaw.asked == []

    scene.esaw.origin = ORIGIN
    assert (await scene.ask()).reveal() == KEY
    assert scene.authorized()[:2] == ("True", "KeyAccepted")
    # What answers there sees the key again.
    assert scene.esaw.asked == [KEY]


async def test_a_key_in_memory_is_not_sent_after_the_address_changed() -> None:
    scene = Scene()
    before = scene.newest()
    await scene.ask(before)
    scene.esaw.origin, scene.esaw.asked = ELSEWHERE, []

    # A worker passes the Sender as it was when the worker began.
    assert (await scene.refusal(before)).reason == "OriginChanged"
    assert scene.esaw.asked == []


async def test_a_secret_that_declares_its_origin_is_sent_there_only() -> None:
    scene = Scene()
    scene.kube.secret_annotations["anna-key"] = {ORIGIN_ANNOTATION: f"{ELSEWHERE}:443/"}
    assert (await scene.refusal()).reason == "OriginChanged"
    assert scene.esaw.asked == []

    scene.esaw.origin = ELSEWHERE
    assert (await scene.ask()).origin == ELSEWHERE


async def test_an_annotation_that_is_no_origin_lets_the_key_go_nowhere() -> None:
    scene = Scene()
    scene.kube.secret_annotations["anna-key"] = {ORIGIN_ANNOTATION: "demo"}
    refused = await scene.refusal()
    assert refused.reason == "OriginChanged"
    assert "belongs to demo" in str(refused)
    assert scene.esaw.asked == []


def know(scene: Scene, known: Resource, **status: Any) -> None:
    """Let the controller see an object with this status."""
    scene.cache.update(type(known).parse(known.to_dict() | {"status": status}))


def know_organization(
    scene: Scene, origin: str | None, truth: ConditionStatus | None = "True", reason: str = "EsawAnswers"
) -> None:
    """Let the controller see the Organization with this first origin, after a check with this result."""
    known = an_organization()
    known = replace(known, status=replace(known.status, origin=origin))
    scene.cache.update(reachable(known, truth, reason) if truth is not None else known)


async def advice(scene: Scene) -> str:
    """Ask for a key of elsewhere; return what the condition says to do."""
    await scene.refusal()
    return scene.authorized()[2].partition("The key was not sent there. ")[2]


def put_foreign_key(scene: Scene) -> None:
    """Let a person replace the Secret by the copy of another cluster."""
    scene.put_key(OTHER_KEY)
    scene.kube.secret_annotations["anna-key"] = {ORIGIN_ANNOTATION: ELSEWHERE}
    scene.clock.advance(seconds=11)


def know_a_key_that_works_there(scene: Scene) -> None:
    """Let the controller see another Sender of the Organization whose key works at the present origin."""
    works = a_sender("ben").to_dict()["status"]["conditions"]
    know(scene, a_sender("ben"), conditions=works, key={"origin": ORIGIN})


MOVED = f"kubectl annotate secret anna-key {ORIGIN_ANNOTATION}={ORIGIN} --overwrite"


@pytest.mark.parametrize("evidence", ["the key before", "the Organization", "another Sender"])
async def test_a_secret_of_another_cluster_is_replaced_and_the_address_stays(evidence: str) -> None:
    scene = Scene()
    know_organization(scene, ORIGIN if evidence == "the Organization" else None)
    match evidence:
        case "the key before":
            scene.cache.update(scene.newest())
            await scene.ask()
        case "another Sender":
            know_a_key_that_works_there(scene)
    put_foreign_key(scene)

    reason = (await scene.refusal()).reason

    assert reason == "OriginChanged"
    message = scene.authorized()[2]
    assert message.partition("The key was not sent there. ")[2] == (
        f"If all that is in Secret/anna-key belongs to {ORIGIN}, type `{MOVED}`. Otherwise put what belongs "
        "there into it first."
    )
    # No command declares a whole Secret to be of another origin while it brings one of its keys.
    assert [each.line for each in commands_in(message, reason, "tests")] == [
        MOVED.replace("kubectl", "kubectl -n tests")
    ]


@pytest.mark.parametrize(
    ("recorded", "address"),
    [
        (None, "If spec.baseURL is wrong, correct it."),
        (ELSEWHERE, f"If spec.baseURL was changed by mistake, set it back to {ELSEWHERE}."),
        (
            "https://first.example",
            "If spec.baseURL was changed by mistake, set it back to https://first.example.",
        ),
    ],
)
async def test_an_address_is_set_back_only_to_one_that_it_had(recorded: str | None, address: str) -> None:
    scene = Scene()
    know_organization(scene, recorded)
    put_foreign_key(scene)
    confirmed = f"If all that is in Secret/anna-key belongs to {ORIGIN}, type `{MOVED}`."
    assert await advice(scene) == f"{address} {confirmed}"


@pytest.mark.parametrize("whose", ["a key that moved", "a key of the sender before"])
async def test_no_key_shows_that_a_changed_address_is_right(whose: str) -> None:
    scene = Scene()
    if whose == "a key of the sender before":
        await scene.ask()
    know_organization(scene, ELSEWHERE)
    know_a_key_that_works_there(scene)
    put_foreign_key(scene)

    assert (await advice(scene)).startswith(
        f"If spec.baseURL was changed by mistake, set it back to {ELSEWHERE}. "
    )


async def test_a_new_key_of_an_address_that_another_sender_had_is_no_reason_to_confirm_another_one() -> None:
    scene = Scene()
    know_organization(scene, None)
    know(scene, a_sender("cleo"), key={"origin": ELSEWHERE})
    know_a_key_that_works_there(scene)
    put_foreign_key(scene)
    assert (await advice(scene)).startswith(
        f"If spec.baseURL was changed by mistake, set it back to {ELSEWHERE}. "
    )


async def test_an_organization_that_moved_and_leads_to_its_first_address_is_set_back() -> None:
    scene = Scene()
    scene.cache.update(scene.newest())
    await scene.ask()
    know_organization(scene, ELSEWHERE)
    scene.esaw.origin = ELSEWHERE
    assert f"If spec.baseURL was changed by mistake, set it back to {ORIGIN}." in await advice(scene)


LATER = (
    f"As soon as eSignAnyWhere answers at {ORIGIN}, the status has the command that confirms Secret/anna-key."
)


@pytest.mark.parametrize(
    "reason",
    [
        None,
        "EsawAddressForbidden",
        "EsawAnswerUnreadable",
        "EsawNotFound",
        "EsawRedirects",
        "EsawUnconfirmed",
        "EsawUnreachable",
    ],
)
@pytest.mark.parametrize(
    ("recorded", "has_annotation"), [(ELSEWHERE, False), (ELSEWHERE, True), (ORIGIN, True), (None, True)]
)
async def test_no_key_is_confirmed_for_a_server_that_is_no_esaw(
    reason: str | None, recorded: str | None, *, has_annotation: bool
) -> None:
    scene = Scene()
    know_organization(scene, recorded, "False" if reason is not None else None, reason or "")
    if has_annotation:
        put_foreign_key(scene)
    await scene.refusal()
    _, found, message = scene.authorized()
    assert found == ("OriginChanged" if has_annotation else "OriginUnknown")
    assert commands_in(message, found, "tests") == ()
    assert message.endswith(LATER)


@pytest.mark.parametrize("has_annotation", [True, False])
async def test_a_key_is_confirmed_for_a_server_that_refuses_with_the_warning_that_it_is_unknown(
    *, has_annotation: bool
) -> None:
    scene = Scene()
    know_organization(scene, ELSEWHERE, "Unknown", "EsawUnconfirmed")
    if has_annotation:
        put_foreign_key(scene)
    assert await advice(scene) == (
        f"If spec.baseURL was changed by mistake, set it back to {ELSEWHERE}. It is not known who answers at "
        f"{ORIGIN}. If all that is in Secret/anna-key belongs to {ORIGIN}, type `{MOVED}`."
    )


@pytest.mark.parametrize(("checked", "is_confirmed"), [(ORIGIN, True), (ELSEWHERE, False)])
async def test_a_key_is_confirmed_for_an_address_only_after_a_check_of_this_address(
    checked: str, *, is_confirmed: bool
) -> None:
    scene, before = Scene(), reachable(an_organization(baseURL=checked))
    after = an_organization(generation=2)
    access = EnvelopeAccess(base_url=checked)
    scene.cache.update(replace(after, status=replace(before.status, envelope_access=access)))
    put_foreign_key(scene)
    await scene.refusal()
    _, reason, message = scene.authorized()
    assert (commands_in(message, reason, "tests") != ()) is is_confirmed


async def test_an_event_that_waits_for_a_key_of_elsewhere_has_no_command_that_may_be_old() -> None:
    scene = Scene()
    know_organization(scene, None)
    put_foreign_key(scene)
    refused = await scene.refusal()
    assert str(refused) == (
        f"The API key of Sender/anna belongs to {ELSEWHERE}, but spec.baseURL of Organization/acme leads to "
        f"{ORIGIN}. The key was not sent there. The condition Authorized of Sender/anna says what to do."
    )


async def test_the_annotation_lets_a_key_move_and_the_new_origin_is_recorded() -> None:
    scene = Scene()
    await scene.ask()
    scene.esaw.origin = ELSEWHERE
    await scene.refusal()

    scene.kube.secret_annotations["anna-key"] = {ORIGIN_ANNOTATION: ELSEWHERE}
    scene.clock.advance(seconds=11)

    assert (await scene.ask()).origin == ELSEWHERE
    key = scene.newest().status.key
    assert key is not None
    assert key.origin == ELSEWHERE
    assert scene.authorized()[:2] == ("True", "KeyAccepted")


async def test_a_new_key_without_an_origin_goes_to_the_first_esaw_only() -> None:
    scene = Scene()
    scene.cache.update(reachable(an_organization(baseURL=ELSEWHERE)))
    refused = await scene.refusal()
    assert refused.reason == "OriginUnknown"
    assert commands_in(scene.authorized()[2], "OriginUnknown", "tests") == ()
    assert scene.esaw.asked == []


async def test_no_key_is_confirmed_for_an_address_that_was_corrected_while_its_caller_waited() -> None:
    scene = Scene()
    know_organization(scene, ORIGIN)
    scene.put_key(OTHER_KEY)
    scene.kube.secret_annotations["anna-key"] = {ORIGIN_ANNOTATION: ORIGIN}
    # The caller took its client before the address was set back.
    scene.esaw.origin = ELSEWHERE
    assert (await scene.refusal()).reason == "OriginChanged"
    assert commands_in(scene.authorized()[2], "OriginChanged", "tests") == ()


async def test_a_key_that_was_refused_has_no_origin_yet() -> None:
    scene = Scene(key="unknown-token-0123456789")
    await scene.confirmed_refusal()
    key = scene.newest().status.key
    assert key is not None
    assert key.origin is None


class RushingClock(AClock):
    """A clock on which a cached Secret is old whenever somebody looks."""

    def monotonic(self) -> float:
        self.advance(seconds=FRESH_SECONDS + 1)
        return super().monotonic()


async def test_a_key_never_goes_to_the_origin_of_the_key_that_replaces_it() -> None:
    scene = Scene()
    scene.sender_keys.secret_cache.clock = RushingClock()
    scene.kube.secret_annotations["anna-key"] = {ORIGIN_ANNOTATION: ELSEWHERE}

    def replace_key() -> None:
        scene.put_key(OTHER_KEY)
        scene.kube.secret_annotations["anna-key"] = {ORIGIN_ANNOTATION: scene.esaw.origin}

    scene.kube.just_before("secret", lambda: None)
    scene.kube.just_before("secret", replace_key)

    assert (await scene.refusal()).reason == "OriginChanged"
