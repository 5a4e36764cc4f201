"""The cache of Secrets."""

from datetime import timedelta

from controller.access.secret_cache import FRESH_SECONDS, SecretCache
from tests.support.builders import NOON, AClock
from tests.support.fakes.kube import InMemoryKubeClient


async def test_a_clock_that_is_set_back_keeps_no_old_secret() -> None:
    kube, clock = InMemoryKubeClient(), AClock()
    secrets = SecretCache(kube, clock)
    kube.secrets["smtp"] = {"password": b"old"}
    assert await secrets.value("smtp", "password") == b"old"
    kube.secrets["smtp"] = {"password": b"new"}

    clock.set_back(hours=1)
    clock.advance(seconds=FRESH_SECONDS + 1)

    assert clock.now() < NOON - timedelta(minutes=59)
    assert await secrets.value("smtp", "password") == b"new"
