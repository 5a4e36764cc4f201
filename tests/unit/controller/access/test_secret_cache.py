"""The cache of Secrets."""

import asyncio
from contextlib import suppress
from datetime import timedelta

import pytest

from controller.access.secret_cache import (
    FRESH_SECONDS,
    SecretCache,
    SecretForbidden,
    SecretMissing,
    SecretNotLabelled,
    SecretUnreadable,
)
from controller.scheduling.retry_policy import RESYNC_SECONDS
from counterfoil.kube.errors import ApiError, Forbidden, Unavailable
from counterfoil.kube.secret import SEALED_TOKEN_TYPE, Secret, SecretUse
from counterfoil.untrusted.background_work import is_background, set_background
from tests.support.builders import NOON, AClock, a_sender
from tests.support.fakes.kube import InMemoryKubeClient


async def test_a_clock_that_is_set_back_keeps_no_old_secret() -> None:
    kube, clock = InMemoryKubeClient(), AClock()
    secrets = SecretCache(kube, clock)
    kube.put_secret("smtp", "smtp", {"password": b"old"})
    assert await secrets.value("smtp", "password", SecretUse.SMTP) == b"old"
    kube.secrets["smtp"] = {"password": b"new"}

    clock.set_back(hours=1)
    clock.advance(seconds=FRESH_SECONDS + 1)

    assert clock.now() < NOON - timedelta(minutes=59)
    assert await secrets.value("smtp", "password", SecretUse.SMTP) == b"new"


async def test_the_read_for_an_import_waits_for_no_place_since_callbacks_may_wait_for_it() -> None:
    kube, classes = InMemoryKubeClient(), list[bool]()
    kube.put_secret("one", "archive", {"key": b"value"})
    kube.just_before("secret", lambda: classes.append(is_background()))
    set_background(True)

    assert await SecretCache(kube, AClock()).value("one", "key", SecretUse.ARCHIVE) == b"value"

    assert classes == [False]
    assert is_background()


async def test_a_secret_is_read_for_the_use_that_it_is_labelled_for_and_for_no_other() -> None:
    kube = InMemoryKubeClient()
    kube.put_secret("one", "archive", {"key": b"value"})
    secrets = SecretCache(kube, AClock())

    assert await secrets.data("one", SecretUse.ARCHIVE) == {"key": b"value"}
    for other in set(SecretUse) - {SecretUse.ARCHIVE}:
        with pytest.raises(SecretNotLabelled, match=f"kubectl label secret one counterfoil.dev/use={other}`"):
            await secrets.value("one", "key", other)


async def test_a_label_counts_as_soon_as_the_cache_is_old() -> None:
    kube, clock = InMemoryKubeClient(), AClock()
    secrets = SecretCache(kube, clock)
    kube.secrets["one"] = {"key": b"value"}
    with pytest.raises(SecretNotLabelled):
        await secrets.value("one", "key", SecretUse.TOKEN)

    kube.secret_uses["one"] = "token"
    clock.advance(seconds=FRESH_SECONDS + 1)

    assert await secrets.value("one", "key", SecretUse.TOKEN) == b"value"


async def test_a_missing_key_is_named_and_the_other_keys_are_not() -> None:
    kube = InMemoryKubeClient()
    kube.put_secret("one", "token", {"0-generated": b"value"})
    with pytest.raises(SecretMissing) as raised:
        await SecretCache(kube, AClock()).value("one", "apiKey", SecretUse.TOKEN)
    assert str(raised.value) == "Secret/one has no key 'apiKey'."


UNDECRYPTABLE = Unavailable(500, "InternalError", "unable to transform key (request id 4711)")


class UnreadableScene:
    """Two Secrets, and the API server that reads them."""

    def __init__(self) -> None:
        self.kube, self.clock = InMemoryKubeClient(), AClock()
        self.secrets = SecretCache(self.kube, self.clock)
        for name in ("one", "two"):
            self.kube.put_secret(name, "archive", {"key": b"value"})

    def lose(self, *names: str) -> None:
        for name in names:
            self.kube.refused["secret", name] = UNDECRYPTABLE

    async def look(self, name: str = "one", *, after: float = 10) -> str:
        """Read a Secret after a pause; return what was the answer."""
        self.clock.advance(seconds=after)
        try:
            await self.secrets.data(name, SecretUse.ARCHIVE)
        except (Unavailable, SecretMissing) as problem:
            return "Unavailable" if isinstance(problem, Unavailable) else type(problem).__name__
        return "read"

    async def passes(self, time: timedelta) -> None:
        """Let the resync run for a while, in which nothing else reads a Secret."""
        for _ in range(int(time.total_seconds() / RESYNC_SECONDS)):
            self.clock.advance(seconds=RESYNC_SECONDS)
            await self.secrets.repeat_failed()

    async def looks(self, seconds: float, name: str = "one") -> list[str]:
        """Read a Secret each ten seconds."""
        return [await self.look(name) for _ in range(int(seconds / 10))]


NOT_PERMITTED = Forbidden(403, "Forbidden", "no")


async def test_the_advice_about_a_secret_that_may_not_be_read_is_about_the_role() -> None:
    scene = UnreadableScene()
    scene.kube.refused["secret", "one"] = NOT_PERMITTED
    await scene.looks(70)
    with pytest.raises(SecretForbidden) as forbidden:
        await scene.secrets.data("one", SecretUse.ARCHIVE)
    reason, message = forbidden.value.explain("KeyMissing", "Put the key there.")
    assert reason == "SecretForbidden"
    assert message.startswith("Secret/one may not be read: the controller's ServiceAccount lacks `get` on")
    assert "There is nothing to create or to replace" in message
    assert "Put the key there" not in message


@pytest.mark.parametrize("status", [401, 403])
async def test_an_api_server_that_starts_refuses_secrets_for_a_moment(status: int) -> None:
    scene = UnreadableScene()
    for _ in range(3):
        scene.kube.trouble["secret"] = Forbidden(status, "Forbidden", "not yet ready to handle request")
        assert await scene.looks(50) == ["Unavailable"] * 5
        scene.kube.trouble.clear()
        assert await scene.look() == "read"
        scene.clock.advance(seconds=FRESH_SECONDS)


async def test_two_starts_of_an_api_server_are_no_right_that_is_missing() -> None:
    scene = UnreadableScene()
    away = Unavailable(0, "NoAnswer", "the API server did not answer")
    for _ in range(3):
        scene.kube.trouble = {"secret": NOT_PERMITTED}
        assert await scene.looks(20) == ["Unavailable"] * 2
        scene.kube.trouble = {"secret": away, "page": away}
        assert await scene.looks(150) == ["Unavailable"] * 15


async def test_a_missing_right_is_known_although_the_api_server_fails_sometimes() -> None:
    scene = UnreadableScene()
    away = Unavailable(0, "NoAnswer", "the API server did not answer")
    for number in range(8):
        scene.kube.trouble = {"secret": NOT_PERMITTED}
        if number % 3 == 2:
            scene.kube.trouble = {"secret": away, "page": away}
        found = await scene.look()
    assert found == "SecretForbidden"


async def test_a_role_that_may_get_only_some_secrets_lacks_the_others_after_a_minute() -> None:
    scene = UnreadableScene()
    scene.kube.refused["secret", "one"] = NOT_PERMITTED
    for _ in range(6):
        assert await scene.look("one") == "Unavailable"
        assert await scene.look("two", after=0) == "read"
    assert await scene.look("one") == "SecretForbidden"
    assert await scene.look("two", after=0) == "read"
    del scene.kube.refused["secret", "one"]
    assert await scene.look("one") == "read"


async def test_a_refusal_needs_no_other_request_to_show_that_the_api_server_answers() -> None:
    scene = UnreadableScene()
    scene.kube.refused["secret", "one"] = NOT_PERMITTED
    scene.kube.trouble["page"] = UNDECRYPTABLE
    assert (await scene.looks(70))[-1] == "SecretForbidden"


async def test_a_403_of_a_proxy_is_about_no_role() -> None:
    scene = UnreadableScene()
    scene.kube.refused["secret", "one"] = Unavailable(403, "", "a page of a proxy")
    assert (await scene.looks(70))[-1] == "SecretUnreadable"


async def test_a_secret_that_one_event_reads_after_long_pauses_is_unreadable_with_the_second_read() -> None:
    for problem, reason in ((UNDECRYPTABLE, "SecretUnreadable"), (NOT_PERMITTED, "SecretForbidden")):
        scene = UnreadableScene()
        scene.kube.refused["secret", "one"] = problem
        assert await scene.look("one") == "Unavailable"
        await scene.passes(timedelta(minutes=50))
        assert await scene.look("one") == reason


async def test_a_moment_of_a_secret_that_nothing_else_reads_has_ended_after_some_passes() -> None:
    scene = UnreadableScene()
    scene.lose("one", "two")
    assert await scene.look("one") == "Unavailable"
    assert await scene.look("two") == "Unavailable"
    del scene.kube.refused["secret", "one"]
    await scene.passes(timedelta(minutes=50))
    scene.lose("one")
    assert await scene.look("one") == "Unavailable"
    assert await scene.look("two") == "SecretUnreadable"


async def test_secrets_that_failed_are_repeated_rarely() -> None:
    scene = UnreadableScene()
    scene.lose("one", "two")
    await scene.look("one")
    await scene.look("two")
    scene.kube.asked.clear()
    await scene.passes(timedelta(hours=1))
    assert 90 <= scene.kube.asked.count(("secret", "one")) + scene.kube.asked.count(("secret", "two")) <= 120
    scene.kube.refused.clear()
    await scene.passes(timedelta(minutes=5))
    scene.kube.asked.clear()
    await scene.passes(timedelta(hours=1))
    assert scene.kube.asked == []


async def test_a_secret_that_can_not_be_read_for_a_minute_is_unreadable_until_it_is_read() -> None:
    scene = UnreadableScene()
    assert await scene.look() == "read"
    for _ in range(2):
        scene.lose("one")
        assert await scene.looks(50) == ["Unavailable"] * 5
        assert (await scene.looks(20))[-1] == "SecretUnreadable"
        assert await scene.look(after=0) == "SecretUnreadable"
        scene.kube.refused.clear()
        assert await scene.look(after=0) == "read"
        scene.clock.advance(seconds=FRESH_SECONDS)


async def test_the_message_about_an_unreadable_secret_is_the_same_each_time() -> None:
    scene = UnreadableScene()
    scene.lose("one")
    await scene.looks(70)
    messages = set()
    for number in range(3):
        scene.kube.refused["secret", "one"] = Unavailable(500, "InternalError", f"request id {number}")
        with pytest.raises(SecretUnreadable) as unreadable:
            await scene.secrets.data("one", SecretUse.ARCHIVE)
        messages.add(unreadable.value.explain("SettingsInvalid", "Create it."))
    (reason, message), *others = messages
    assert not others
    assert reason == "SecretUnreadable"
    assert message.startswith("The API server can't read Secret/one (500 InternalError). There is nothing to")


@pytest.mark.parametrize("pause", [240, 3_600, 7 * 86_400])
async def test_requests_that_fail_with_long_pauses_show_no_minute(pause: float) -> None:
    scene = UnreadableScene()
    scene.lose("one")
    assert [await scene.look(after=pause) for _ in range(4)] == ["Unavailable"] * 4


async def test_one_request_that_fails_within_a_bad_minute_of_others_is_repeated() -> None:
    scene = UnreadableScene()
    scene.lose("two")
    await scene.looks(70, "two")
    scene.kube.go_away("secret", times=1)
    assert await scene.look() == "read"


async def test_a_secret_that_was_read_has_its_own_minute_beside_one_that_is_unreadable() -> None:
    scene = UnreadableScene()
    scene.lose("two")
    await scene.looks(70, "two")
    assert await scene.look("one") == "read"
    scene.secrets.forget("one")
    scene.lose("one")
    assert await scene.looks(50, "one") == ["Unavailable"] * 5
    assert await scene.look("one") == "SecretUnreadable"
    assert await scene.look("two") == "SecretUnreadable"


async def test_all_secrets_share_the_minute_in_which_none_could_be_read() -> None:
    scene = UnreadableScene()
    scene.lose("one", "two")
    assert await scene.looks(60, "one") == ["Unavailable"] * 6
    assert await scene.look("two") == "Unavailable"
    assert await scene.look("two") == "SecretUnreadable"


@pytest.mark.parametrize("pause", [0, 9])
async def test_one_moment_beside_an_unreadable_secret_makes_no_other_one_unreadable(pause: float) -> None:
    """Nothing read it in the last minute, as with an Archive that is probed each 300 s."""
    scene = UnreadableScene()
    scene.lose("two")
    await scene.looks(300, "two")
    for _ in range(2):
        scene.lose("one")
        assert await scene.look("one", after=0) == "Unavailable"
        assert await scene.look("one", after=pause) == "Unavailable"
        del scene.kube.refused["secret", "one"]
        assert await scene.look("one") == "read"
        await scene.looks(300, "two")


async def test_a_secret_that_is_read_each_hour_is_unreadable_with_the_second_read_of_a_long_outage() -> None:
    scene = UnreadableScene()
    scene.lose("one", "two")
    assert await scene.look("one") == "Unavailable"
    await scene.looks(3_600, "two")
    assert await scene.look("one") == "SecretUnreadable"


async def test_an_api_server_that_fails_sometimes_keeps_the_minute() -> None:
    """Each sixth of its other answers is an error, too."""
    scene = UnreadableScene()
    scene.lose("one")
    found = []
    for number in range(60):
        if number % 6 == 5:
            scene.kube.trouble["page"] = UNDECRYPTABLE
        found.append(await scene.look())
        scene.kube.trouble.clear()
    assert found[:6] == ["Unavailable"] * 6
    assert found[6:].count("SecretUnreadable") == 45
    assert [found[each] for each in range(11, 60, 6)] == ["Unavailable"] * 9


@pytest.mark.parametrize("minutes", [2, 60, 4 * 24 * 60])
async def test_an_outage_of_the_api_server_is_none_of_its_secrets(minutes: int) -> None:
    scene = UnreadableScene()
    scene.kube.trouble |= {"secret": UNDECRYPTABLE, "page": UNDECRYPTABLE}
    for _ in range(4):
        assert await scene.look(after=minutes * 15) == "Unavailable"
    # It decrypts some seconds later than it answers.
    del scene.kube.trouble["page"]
    assert await scene.looks(60) == ["Unavailable"] * 6
    scene.kube.trouble.clear()
    assert await scene.look() == "read"


async def test_an_api_server_that_refuses_the_other_request_answers() -> None:
    scene = UnreadableScene()
    scene.lose("one")
    scene.kube.trouble["page"] = Forbidden(403, "Forbidden", "organizations is forbidden")
    assert (await scene.looks(70))[-1] == "SecretUnreadable"


class HangingKubeClient(InMemoryKubeClient):
    """Does not answer about Secrets."""

    async def secret(self, name: str) -> Secret:
        await asyncio.Event().wait()
        return await super().secret(name)


async def test_a_secret_that_hangs_is_unreadable_as_one_with_an_error() -> None:
    scene = UnreadableScene()
    scene.secrets = SecretCache(HangingKubeClient(), scene.clock, timeout=0.01)
    async with asyncio.timeout(10):
        assert await scene.looks(60) == ["Unavailable"] * 6
        scene.clock.advance(seconds=10)
        with pytest.raises(SecretUnreadable, match=r"can't read Secret/one \(no answer\)"):
            await scene.secrets.data("one", SecretUse.ARCHIVE)


async def test_a_sealed_key_is_read_for_its_sender_and_for_no_reference_with_any_label() -> None:
    kube, sender = InMemoryKubeClient(), a_sender(tokenSecretRef=None)
    kube.secrets[sender.name] = {"token": b"sealed"}
    kube.secret_types[sender.name] = SEALED_TOKEN_TYPE
    kube.secret_uses[sender.name] = "token"
    secrets = SecretCache(kube, AClock())

    assert await secrets.sealed_token(sender) == b"sealed"
    with pytest.raises(SecretNotLabelled):
        await secrets.value(sender.name, "token", SecretUse.TOKEN)


async def test_a_secret_of_another_type_is_no_sealed_key() -> None:
    kube, sender = InMemoryKubeClient(), a_sender(tokenSecretRef=None)
    kube.put_secret(sender.name, "token", {"token": b"somebody's"})
    with pytest.raises(SecretMissing, match="not of the type"):
        await SecretCache(kube, AClock()).sealed_token(sender)


async def test_names_of_secrets_that_anybody_wrote_do_not_stay_in_memory() -> None:
    kube, clock = InMemoryKubeClient(), AClock()
    secrets = SecretCache(kube, clock)
    for number in range(3_000):
        clock.advance(seconds=0.1)
        with suppress(SecretMissing):
            await secrets.data(f"name-{number}", SecretUse.TOKEN)
    assert len(secrets._cached) < 100
    assert len(secrets._read_at) < 1_000
    for number in range(3_000):
        with suppress(SecretMissing):
            await secrets.data(f"other-{number}", SecretUse.TOKEN)
    assert len(secrets._cached) <= 2_000
    assert len(secrets._read_at) <= 10_000


async def test_names_of_secrets_that_fail_do_not_stay_in_memory() -> None:
    scene = UnreadableScene()
    scene.kube.trouble["secret"] = UNDECRYPTABLE
    for number in range(11_000):
        await scene.look(f"name-{number}", after=0.001)
    assert len(scene.secrets._failed_since) == 10_000
    assert await scene.look("name-10999", after=60) == "SecretUnreadable"
    await scene.look("one", after=200)
    assert list(scene.secrets._failed_since) == ["one"]


async def test_the_content_of_a_secret_stays_in_memory_only_while_it_is_fresh() -> None:
    scene = UnreadableScene()
    await scene.look("one")
    await scene.look("two", after=FRESH_SECONDS + 1)
    assert list(scene.secrets._cached) == ["two"]
    scene.secrets.forget("two")
    assert not scene.secrets._cached


@pytest.mark.parametrize("problem", [NOT_PERMITTED, UNDECRYPTABLE])
async def test_the_content_of_a_secret_does_not_stay_in_memory_while_reads_fail(problem: ApiError) -> None:
    scene = UnreadableScene()
    assert [await scene.look("one"), await scene.look("two", after=0)] == ["read", "read"]
    scene.kube.trouble["secret"] = problem
    await scene.look("one", after=FRESH_SECONDS + 1)
    assert not scene.secrets._cached
