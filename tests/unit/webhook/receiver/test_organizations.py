"""The directory of organizations: what a watch tells becomes what a callback is checked against."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from counterfoil.callback_auth import token_hash
from counterfoil.kube.errors import ApiError, Forbidden, Unavailable
from counterfoil.kube.watch import WatchEvent
from counterfoil.metrics import Metrics
from counterfoil.resources import Resource
from tests.support.builders import AClock
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.scenes.receiver_parts import (
    NOON,
    TOKEN,
    added,
    an_organization,
    synced,
    with_basic_auth,
)
from tests.support.virtual_time import VirtualClock, VirtualTimeLoop, run_in_virtual_time
from webhook.http_server.rate_limit import TokenBucket
from webhook.receiver.organizations import OrganizationCache, OrganizationView


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry(), version="0")


@pytest.fixture
def clock() -> AClock:
    return AClock(NOON)


@pytest.fixture
def organization_cache(metrics: Metrics, clock: AClock) -> OrganizationCache:
    return OrganizationCache(metrics, clock=clock, new_bucket=lambda: TokenBucket(rate=1.0, burst=1))


def listed(organization_cache: OrganizationCache, raw: dict[str, Any]) -> OrganizationView:
    organization_cache.update(added(raw))
    found = organization_cache.find(raw["metadata"]["name"])
    assert found is not None
    return found


def test_it_is_complete_only_after_the_first_full_list(organization_cache: OrganizationCache) -> None:
    organization_cache.update(added(an_organization()))
    assert not organization_cache.is_synced

    organization_cache.update(synced("acme"))
    assert organization_cache.is_synced


def test_a_listed_organization_knows_its_tokens_and_no_others(organization_cache: OrganizationCache) -> None:
    acme = listed(organization_cache, an_organization())
    assert acme.is_ready
    assert acme.has_token(TOKEN)
    assert not acme.has_token(TOKEN + "x")


def test_without_hashes_in_its_status_it_cannot_be_judged(organization_cache: OrganizationCache) -> None:
    assert not listed(organization_cache, an_organization(status={"callbackTokenHashes": []})).is_ready


def test_hashes_of_another_version_are_as_none(organization_cache: OrganizationCache) -> None:
    unsalted = hashlib.sha256(TOKEN.encode()).hexdigest()
    assert not listed(
        organization_cache, an_organization(status={"callbackTokenHashes": [unsalted]})
    ).is_ready

    both = [unsalted, token_hash(TOKEN, bytes(16))]
    acme = listed(organization_cache, an_organization(status={"callbackTokenHashes": both}))
    assert acme.is_ready
    assert acme.token_hashes == (both[1],)


def test_with_a_second_lock_whose_hash_is_missing_it_cannot_be_judged(
    organization_cache: OrganizationCache,
) -> None:
    raw = with_basic_auth(an_organization())
    assert listed(organization_cache, raw).is_ready

    for hashes in ({}, {"basicAuthHash": "scrypt$16384$8$1$YQ==$YQ=="}, {"basicAuthHashes": ["another"]}):
        raw = an_organization(spec=raw["spec"], status=hashes)
        assert not listed(organization_cache, raw).is_ready


def test_one_that_does_not_fit_its_kind_is_known_but_cannot_be_judged(
    organization_cache: OrganizationCache,
) -> None:
    assert not listed(organization_cache, an_organization(spec={"baseURL": 7})).is_ready


def test_one_whose_last_sweep_is_of_another_version_is_checked_like_any_other(
    organization_cache: OrganizationCache,
) -> None:
    status = {"sweep": {"time": "2026-06-01T00:00:00Z", "found": 0}}
    assert listed(organization_cache, an_organization(status=status)).is_ready


def test_one_whose_basic_auth_is_of_another_version_cannot_be_judged(
    organization_cache: OrganizationCache,
) -> None:
    raw = with_basic_auth(an_organization())
    raw["status"]["basicAuthHashes"] = [{"hash": "another"}]
    assert not listed(organization_cache, raw).is_ready


def test_a_suspended_one_is_listed_like_any_other(organization_cache: OrganizationCache) -> None:
    assert listed(organization_cache, an_organization(spec={"suspend": True})).is_ready


def test_actions_are_found_in_any_letter_case_and_keep_their_spelling(
    organization_cache: OrganizationCache,
) -> None:
    acme = listed(organization_cache, an_organization(spec={"actions": [{"action": "workstepFinished"}]}))
    assert acme.actions == {"workstepfinished": "workstepFinished"}


def test_recording_counts_as_asked_for_too(organization_cache: OrganizationCache) -> None:
    acme = listed(
        organization_cache,
        an_organization(spec={"actions": [{"action": "envelopeExpired", "handling": "Record"}]}),
    )
    assert "envelopeexpired" in acme.actions


@pytest.mark.parametrize(("sender", "label"), [("api", "api"), ("x" * 63, "x" * 63), ("x" * 64, None)])
def test_the_default_sender_is_known_beforehand_if_it_fits_into_a_label(
    organization_cache: OrganizationCache, sender: str, label: str | None
) -> None:
    acme = listed(organization_cache, an_organization(spec={"defaultSenderRef": {"name": sender}}))
    assert acme.sender == label


def test_a_change_is_followed_and_does_not_refill_the_bucket(organization_cache: OrganizationCache) -> None:
    before = listed(organization_cache, an_organization())
    organization_cache.update(
        WatchEvent(
            "MODIFIED",
            an_organization(
                status={"callbackTokenHashes": [token_hash("another-token-0123456789", bytes(16))]}
            ),
        )
    )

    after = organization_cache.find("acme")
    assert after is not None
    assert not after.has_token(TOKEN)
    assert after.bucket is before.bucket


async def test_the_age_of_events_that_no_count_includes_is_a_metric(
    organization_cache: OrganizationCache, metrics: Metrics, clock: AClock
) -> None:
    def age() -> float | None:
        return metrics.registry.get_sample_value(
            "counterfoil_uncounted_event_seconds", {"organization": "acme"}
        )

    ceiling = listed(organization_cache, an_organization()).ceiling
    assert age() == 0
    assert ceiling.reserve() is not None
    await clock.sleep(400)
    assert age() == 400

    counted = {"load": {"countTime": "2025-01-01T12:06:30Z", "unfinishedEvents": 1}}
    organization_cache.update(WatchEvent("MODIFIED", an_organization(status=counted)))
    assert age() == 0

    organization_cache.update(WatchEvent("DELETED", an_organization()))
    assert age() is None


def test_what_was_deleted_is_gone_with_its_metrics(
    organization_cache: OrganizationCache, metrics: Metrics
) -> None:
    organization_cache.update(added(an_organization()))
    labels = {"organization": "acme", "outcome": "noted"}
    assert metrics.registry.get_sample_value("counterfoil_callbacks_total", labels) == 0

    organization_cache.update(WatchEvent("DELETED", an_organization()))

    assert organization_cache.find("acme") is None
    assert metrics.registry.get_sample_value("counterfoil_callbacks_total", labels) is None


def test_what_vanished_while_nobody_watched_is_gone_after_the_next_list(
    organization_cache: OrganizationCache,
) -> None:
    for name in ("acme", "other"):
        organization_cache.update(added(an_organization(name)))
    organization_cache.update(synced("acme", "other"))

    organization_cache.update(added(an_organization("other")))
    organization_cache.update(synced("other"))

    assert organization_cache.find("acme") is None
    assert organization_cache.find("other") is not None


def test_its_own_parameters_follow_the_spec(organization_cache: OrganizationCache) -> None:
    assert listed(organization_cache, an_organization()).own_parameters == {}
    raw = an_organization(spec={"callback": {"parameters": ["orderNo", "tenant"]}})
    assert listed(organization_cache, raw).own_parameters == {"orderno": "orderNo", "tenant": "tenant"}
    assert listed(organization_cache, an_organization()).own_parameters == {}


class ScriptedKubeClient(InMemoryKubeClient):
    """An API server whose lists and watches end with one error after the other; then it hangs."""

    def __init__(self, *script: ApiError | None) -> None:
        super().__init__()
        self.script = list(script)

    async def list_and_watch(
        self, kind: type[Resource], *, labels: str = "", fields: str = ""
    ) -> AsyncGenerator[WatchEvent, None]:
        """None in the script: a list that is complete, whose watch breaks off."""
        if not self.script:
            await asyncio.Event().wait()
        if problem := self.script.pop(0):
            raise problem
        yield synced()
        raise Unavailable(0, "NoAnswer", "the watch broke off")


def test_each_problem_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    forbidden = Forbidden(403, "Forbidden", "no Role")
    unavailable = Unavailable(500, "InternalError", "etcd is down")
    refused = Unavailable(0, "NoAnswer", "no connection")
    unknown = Unavailable(0, "NoAnswer", "no such host")
    kube = ScriptedKubeClient(
        *[forbidden] * 50, *[unavailable] * 2, forbidden, None, None, *[refused] * 2, *[unknown] * 2
    )

    async def watch() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        clock = VirtualClock(loop)
        organization_cache = OrganizationCache(
            Metrics(CollectorRegistry(), version="0"),
            clock=clock,
            new_bucket=lambda: TokenBucket(rate=1.0, burst=1),
        )
        watching = asyncio.create_task(organization_cache.watch(kube, lambda _: None))
        await clock.sleep(3600)
        watching.cancel()

    with caplog.at_level("INFO"):
        run_in_virtual_time(watch())
    logged = [f"{each.levelname} {each.getMessage().rpartition(': ')[2]}" for each in caplog.records]
    assert logged == [
        "WARNING no Role",
        "WARNING etcd is down",
        "WARNING no Role",
        "WARNING the watch broke off",
        "WARNING the watch broke off",
        "WARNING no connection",
        "WARNING no such host",
    ]
