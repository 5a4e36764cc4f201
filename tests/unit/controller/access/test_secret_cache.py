"""The cache of Secrets."""

from contextlib import suppress
from datetime import timedelta

import pytest

from controller.access.secret_cache import (
    FRESH_SECONDS,
    UNREADABLE_SECONDS,
    SecretCache,
    SecretForbidden,
    SecretMissing,
    SecretNotLabelled,
)
from counterfoil.kube.errors import Forbidden, Unavailable
from counterfoil.kube.secret import SEALED_TOKEN_TYPE, SecretUse
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


async def test_a_secret_that_may_not_be_read_is_not_called_unlabelled() -> None:
    kube = InMemoryKubeClient()
    kube.fail("secret", Forbidden(403, "Forbidden", "no"))
    with pytest.raises(SecretForbidden):
        await SecretCache(kube, AClock()).data("one", SecretUse.TOKEN)


async def test_a_secret_that_can_not_be_read_for_a_minute_is_as_one_that_may_not_be_read() -> None:
    """The API server answers so about one that it can't decrypt."""
    kube, clock = InMemoryKubeClient(), AClock()
    secrets = SecretCache(kube, clock)
    kube.put_secret("one", "archive", {"key": b"value"})
    for _ in range(2):
        for seconds in (0, UNREADABLE_SECONDS - 1):
            clock.advance(seconds=seconds)
            kube.fail("secret", Unavailable(500, "InternalError", "unable to transform key"))
            with pytest.raises(Unavailable):
                await secrets.data("one", SecretUse.ARCHIVE)
        clock.advance(seconds=2)
        kube.fail("secret", Unavailable(500, "InternalError", "unable to transform key"))
        with pytest.raises(SecretForbidden, match=r"Secret/one can't be read: .*unable to transform key"):
            await secrets.data("one", SecretUse.ARCHIVE)

        assert await secrets.data("one", SecretUse.ARCHIVE) == {"key": b"value"}
        clock.advance(seconds=FRESH_SECONDS + 1)


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
    assert len(secrets._cached) < 1_000
    for number in range(3_000):
        with suppress(SecretMissing):
            await secrets.data(f"other-{number}", SecretUse.TOKEN)
    assert len(secrets._cached) <= 2_000
