"""
The receiver as a process, against the real API server, with just the rights it will have in a cluster.

Guarantees in every case: 200 means that the event is stored, and one callback is one event.
"""

import asyncio
import base64
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from counterfoil.callback_auth import token_hash
from counterfoil.kube.client import KubeClient, connect
from counterfoil.resources import EnvelopeEvent, Organization, Origin, envelope_id
from counterfoil.resources.event_factory import new_event
from sandbox.controlplane.control_plane import ControlPlane, control_plane
from sandbox.environment.processes import CounterfoilProcess
from tests.support.pauses import eventually
from tests.support.scenes.receiver_site import TOKEN, Site, a_guid, a_raw_organization, a_site, answers

OLD_TOKEN = "an-old-token-0123456789"


@pytest.fixture
async def site(plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with AsyncExitStack() as opened:
        yield await a_site(plane, namespace, tmp_path, opened)


@pytest.fixture
async def receiver(site: Site) -> CounterfoilProcess:
    return await site.receiver()


async def deliveries_become(site: Site, expected: int) -> None:
    async def they_are() -> bool:
        return (await site.event()).deliveries >= expected

    await eventually(they_are)
    assert (await site.event()).deliveries == expected


# -- The table of answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_200_and_the_event_is_there(site: Site, receiver: CounterfoilProcess, method: str) -> None:
    envelope = a_guid()
    assert await site.status(receiver, envelope.upper(), method=method) == 200
    event = await site.event()
    assert event.spec.envelope_id == envelope
    assert event.name.startswith(envelope)
    assert event.metadata.labels["counterfoil.dev/envelope"] == envelope
    assert event.status.phase == "Pending"
    assert event.deliveries == 1


async def test_the_parameters_that_an_organization_lists_reach_the_event_without_a_restart(
    site: Site, receiver: CounterfoilProcess
) -> None:
    async def recorded_parameters() -> dict[str, str]:
        envelope = a_guid()
        query = f"envelopeId={envelope}&action=envelopeFinished&orderno=47%2F11&other=x"
        url = f"{receiver.public}/callbacks/acme/{TOKEN}?{query}"
        async with site.session.get(url) as answer:
            assert answer.status == 200
        (event,) = [each for each in await site.events() if each.spec.envelope_id == envelope]
        return event.spec.parameters

    assert await recorded_parameters() == {}
    callback = {"tokenSecretRefs": [{"name": "callback", "key": "token"}], "parameters": ["orderNo"]}
    await site.create(a_raw_organization(callback=callback))

    assert await eventually(recorded_parameters) == {"orderNo": "47/11"}


async def test_parameters_of_a_callback_are_stored_although_the_sweep_made_its_event(
    site: Site, receiver: CounterfoilProcess
) -> None:
    callback = {"tokenSecretRefs": [{"name": "callback", "key": "token"}], "parameters": ["orderNo"]}
    await site.create(a_raw_organization(callback=callback))

    async def called_back() -> EnvelopeEvent | None:
        envelope = envelope_id(a_guid())
        event = new_event(
            organization="acme", envelope=envelope, action="envelopeFinished", origin=Origin.SWEEP
        )
        await site.create(event)
        query = f"envelopeId={envelope}&action=envelopeFinished&orderNo=4711"
        async with site.session.get(f"{receiver.public}/callbacks/acme/{TOKEN}?{query}") as answer:
            assert answer.status == 200
        (stored,) = [each for each in await site.events() if each.spec.envelope_id == envelope]
        return stored if stored.parameters else None

    # Until the receiver has seen the change of the Organization.
    stored = await eventually(called_back)
    assert (stored.status.parameters, stored.deliveries) == ({"orderNo": "4711"}, 1)


async def test_an_action_of_the_maximum_length_is_stored(site: Site, receiver: CounterfoilProcess) -> None:
    action = "a" * 64
    await site.create(a_raw_organization(actions=[{"action": action}]))

    async def noted() -> list[EnvelopeEvent]:
        assert await site.status(receiver, a_guid(), action) == 200
        return await site.events()

    assert {each.spec.action for each in await eventually(noted)} == {action}


async def test_an_action_that_is_ignored_is_in_the_status_of_its_organization(
    site: Site, receiver: CounterfoilProcess
) -> None:
    for _ in range(2):
        assert await site.status(receiver, a_guid(), "workstepOpened") == 200
    assert await receiver.stop() == 0
    async with site.kube() as kube:
        status = Organization.parse(await kube.get(Organization, "acme")).status
    assert [(each.action, each.count) for each in status.unlisted_actions] == [("workstepOpened", 2)]
    assert status.callback_token_hashes == (token_hash(TOKEN, bytes(16)),)


async def test_400_for_an_id_or_action_that_cannot_be(site: Site, receiver: CounterfoilProcess) -> None:
    assert await site.status(receiver, "no-guid") == 400
    assert await site.status(receiver, a_guid(), "%23%23Action%23%23") == 400
    assert await site.status(receiver, a_guid(), "9x") == 400


async def test_401_for_a_wrong_second_lock_and_200_for_the_right_one(
    site: Site, receiver: CounterfoilProcess
) -> None:
    callback = {"tokenSecretRefs": [{"name": "s", "key": "k"}], "basicAuthSecretRef": {"name": "basic"}}
    await site.create(a_raw_organization("locked", callback=callback))
    await site.publish("locked", password="geheim-0123456789")
    path = f"/callbacks/locked/{TOKEN}"
    await answers(site, receiver, 401, path=path)

    header = {"Authorization": "Basic " + base64.b64encode(b"esaw:geheim-0123456789").decode()}
    assert await site.status(receiver, a_guid(), path=path, headers=header) == 200


async def test_404_for_an_unknown_organization_or_token_alike(
    site: Site, receiver: CounterfoilProcess
) -> None:
    nobody = await site.asked(receiver, a_guid(), path=f"/callbacks/nobody/{TOKEN}")
    wrong = await site.asked(receiver, a_guid(), path="/callbacks/acme/wrong-token-0123456789")
    assert (nobody.status, wrong.status) == (404, 404)
    assert set(nobody.headers) == set(wrong.headers)


async def test_404_for_health_and_metrics_on_the_public_port(
    site: Site, receiver: CounterfoilProcess
) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        assert await site.status(receiver, a_guid(), path=path) == 404


async def test_413_for_a_large_body_and_200_for_a_small_one(site: Site, receiver: CounterfoilProcess) -> None:
    assert await site.status(receiver, a_guid(), method="POST", data=b"x" * 100_000) == 413
    assert await site.status(receiver, a_guid(), method="POST", data=b"x" * 1_000) == 200


async def test_429_with_the_time_to_wait_for_more_than_the_rate(site: Site) -> None:
    slow = await site.receiver(callback_rate="0.1", callback_burst="1")
    assert await site.status(slow, a_guid()) == 200
    answer = await site.asked(slow, a_guid())
    assert answer.status == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 10


async def test_503_until_the_controller_has_published_the_tokens(
    site: Site, receiver: CounterfoilProcess
) -> None:
    await site.create(a_raw_organization("young"))
    await answers(site, receiver, 503, path=f"/callbacks/young/{TOKEN}")
    answer = await site.asked(receiver, a_guid(), path=f"/callbacks/young/{TOKEN}")
    assert answer.headers["Retry-After"] == "10"

    await site.publish("young")
    await answers(site, receiver, 200, path=f"/callbacks/young/{TOKEN}")


async def test_503_when_the_namespace_takes_no_more_events(site: Site, receiver: CounterfoilProcess) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "events"},
        "spec": {"hard": {"count/envelopeevents.counterfoil.dev": "0"}},
        # There is no controller-manager that would fill this in.
        "status": {
            "hard": {"count/envelopeevents.counterfoil.dev": "0"},
            "used": {"count/envelopeevents.counterfoil.dev": "0"},
        },
    }
    await site.create(quota)
    await site.kubectl(
        "patch",
        "resourcequota",
        "events",
        "--subresource=status",
        "--type=merge",
        "-p",
        json.dumps({"status": quota["status"]}),
    )

    async def it_is_full() -> bool:
        return await site.status(receiver, a_guid()) == 503

    await eventually(it_is_full)


# -- Organizations come, change and go -----------------------------------------------------------------------


async def test_tokens_are_rotated_without_a_restart(site: Site, receiver: CounterfoilProcess) -> None:
    old = f"/callbacks/acme/{OLD_TOKEN}"
    await site.publish("acme", tokens=(OLD_TOKEN, TOKEN))
    await answers(site, receiver, 200, path=old)
    assert await site.status(receiver, a_guid()) == 200

    await site.publish("acme", tokens=(TOKEN,))
    await answers(site, receiver, 404, path=old)
    assert await site.status(receiver, a_guid()) == 200


async def test_a_deleted_organization_is_unknown(site: Site, receiver: CounterfoilProcess) -> None:
    await site.kubectl("delete", "org", "acme")
    await answers(site, receiver, 404)


# -- One callback, one event ---------------------------------------------------------------------------------


async def test_30_duplicates_at_once_are_one_event_with_30_deliveries(
    site: Site, receiver: CounterfoilProcess
) -> None:
    envelope = a_guid()
    statuses = await asyncio.gather(*(site.status(receiver, envelope) for _ in range(30)))
    assert statuses == [200] * 30
    await deliveries_become(site, 30)
    event = await site.event()
    assert event.status.first_delivery_time == event.metadata.creation_timestamp
    assert event.status.last_delivery_time is not None


async def test_1000_duplicates_through_two_receivers_are_one_event_with_1000_deliveries(site: Site) -> None:
    both = [await site.receiver(), await site.receiver()]
    envelope = a_guid()
    # Not more at once than a machine with much else to do answers within the ten seconds that a write may
    # take.
    at_once = asyncio.Semaphore(100)

    async def status(receiver: CounterfoilProcess) -> int:
        async with at_once:
            return await site.status(receiver, envelope)

    statuses = await asyncio.gather(*(status(both[n % 2]) for n in range(1000)))
    assert statuses == [200] * 1000
    await deliveries_become(site, 1000)


@pytest.mark.parametrize("phase", ["Skipped", "Failed"])
async def test_a_delivery_reopens_a_finished_event(
    site: Site, receiver: CounterfoilProcess, phase: str
) -> None:
    envelope = a_guid()
    await site.status(receiver, envelope)
    name = (await site.event()).name
    async with site.kube() as kube:
        status = {"phase": phase, "reason": "R", "attempts": 7, "completionTime": "2025-01-01T00:00:00Z"}
        await kube.patch_status(EnvelopeEvent, name, status, resource_version=None)

    await site.status(receiver, envelope)
    await deliveries_become(site, 2)
    opened = (await site.event()).status
    assert (opened.phase, opened.reason, opened.attempts, opened.completion_time) == (
        "Pending",
        "Redelivered",
        0,
        None,
    )


async def end(site: Site, phase: str, *, completion_time: datetime) -> None:
    """End the only event, as the controller would."""
    name = (await site.event()).name
    status = {"phase": phase, "reason": "R", "completionTime": completion_time.isoformat()}
    async with site.kube() as kube:
        await kube.patch_status(EnvelopeEvent, name, status, resource_version=None)


@pytest.mark.parametrize("phase", ["Skipped", "Failed"])
@pytest.mark.parametrize("known", [True, False], ids=["to-the-same-receiver", "to-another-receiver"])
async def test_a_reopening_that_was_answered_200_outlives_a_kill(
    site: Site, receiver: CounterfoilProcess, phase: str, known: bool
) -> None:
    envelope = a_guid()
    await site.status(receiver, envelope)
    await end(site, phase, completion_time=datetime.now(UTC))
    called = receiver if known else await site.receiver()

    assert await site.status(called, envelope) == 200
    called.kill()

    event = await site.event()
    assert (event.status.phase, event.status.reason, event.deliveries) == ("Pending", "Redelivered", 2)


async def test_30_deliveries_at_once_reopen_an_event_once_and_all_are_counted(site: Site) -> None:
    both = [await site.receiver(), await site.receiver()]
    envelope = a_guid()
    await site.status(both[0], envelope)
    await end(site, "Failed", completion_time=datetime.now(UTC))

    statuses = await asyncio.gather(*(site.status(both[n % 2], envelope) for n in range(30)))
    assert statuses == [200] * 30
    await deliveries_become(site, 31)
    assert (await site.event()).status.phase == "Pending"


async def test_a_delivery_that_came_before_the_last_attempt_of_an_ended_event_only_counts(
    site: Site, receiver: CounterfoilProcess
) -> None:
    envelope = a_guid()
    await site.status(receiver, envelope)
    # As if the delivery had been in transit for minutes: the last attempt began after it.
    await end(site, "Skipped", completion_time=datetime.now(UTC) + timedelta(minutes=4))

    assert await site.status(receiver, envelope) == 200
    await deliveries_become(site, 2)
    assert (await site.event()).status.phase == "Skipped"


async def test_a_delivery_of_a_succeeded_event_only_counts(site: Site, receiver: CounterfoilProcess) -> None:
    envelope = a_guid()
    await site.status(receiver, envelope)
    async with site.kube() as kube:
        name = (await site.event()).name
        await kube.patch_status(EnvelopeEvent, name, {"phase": "Succeeded"}, resource_version=None)

    await site.status(receiver, envelope)
    await deliveries_become(site, 2)
    assert (await site.event()).status.phase == "Succeeded"


async def test_a_callback_for_a_deleted_event_is_recorded_again(
    site: Site, receiver: CounterfoilProcess
) -> None:
    envelope = a_guid()
    await site.status(receiver, envelope)
    first = await site.event()
    await site.kubectl("delete", "ee", first.name)

    assert await site.status(receiver, envelope) == 200
    second = await site.event()
    assert second.name == first.name
    assert second.uid != first.uid


# -- In every case -------------------------------------------------------------------------------------------


async def test_it_has_no_right_beyond_its_work(site: Site) -> None:
    async with connect(namespace=site.namespace, kubeconfig=site.kubeconfig) as kube:
        assert await _rights(kube) == {
            ("create", "envelopeevents"),
            ("get", "envelopeevents"),
            ("patch", "envelopeevents/status"),
            ("get", "organizations"),
            ("list", "organizations"),
            ("watch", "organizations"),
            ("patch", "organizations/status"),
        }


async def _rights(kube: KubeClient) -> set[tuple[str, str]]:
    verbs = ("get", "list", "watch", "create", "update", "patch", "delete")
    ours = (
        "envelopeevents",
        "envelopeevents/status",
        "organizations",
        "organizations/status",
        "senders",
        "archives",
    )
    found = {(verb, each) for verb in verbs for each in ours if await kube.is_allowed(verb, each)}
    return found | {(verb, "secrets") for verb in verbs if await kube.is_allowed(verb, "secrets", group="")}


async def test_what_was_answered_200_is_there_although_the_receiver_is_killed_at_once(
    site: Site, receiver: CounterfoilProcess
) -> None:
    envelope = a_guid()
    assert await site.status(receiver, envelope) == 200
    receiver.kill()
    assert (await site.event()).spec.envelope_id == envelope


async def called_until_gone(site: Site, receiver: CounterfoilProcess, callers: int) -> list[str]:
    """Call back, many at once, until the receiver is gone; return the envelopes that were answered 200."""
    accepted = list[str]()

    async def call() -> None:
        while True:
            envelope = a_guid()
            try:
                status = await site.status(receiver, envelope)
            except (aiohttp.ClientError, ConnectionError):
                return
            # A fast machine reaches the rate limit.
            assert status in (200, 429, 503)
            if status == 200:
                accepted.append(envelope)

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(call())
    return accepted


@pytest.mark.parametrize("end", ["terminate", "kill"])
async def test_an_end_under_load_loses_nothing_that_was_answered_200(
    site: Site, receiver: CounterfoilProcess, end: str
) -> None:
    calling = asyncio.create_task(called_until_gone(site, receiver, 16))

    async def some_are_in() -> bool:
        return len(await site.events()) > 50

    await eventually(some_are_in)
    if end == "terminate":
        assert await receiver.stop() == 0
    else:
        receiver.kill()
    accepted = await calling

    # Not all of the 50: some were stored, and their responses were still in transit.
    assert len(accepted) > 20
    assert set(accepted) <= {event.spec.envelope_id for event in await site.events()}


async def test_an_end_in_order_counts_every_delivery_first(site: Site, receiver: CounterfoilProcess) -> None:
    envelope = a_guid()
    await asyncio.gather(*(site.status(receiver, envelope) for _ in range(20)))
    assert await receiver.stop() == 0
    assert (await site.event()).deliveries == 20


async def test_while_it_ends_it_is_not_ready_and_still_takes_callbacks(site: Site) -> None:
    receiver = await site.receiver(drain="10m")
    os.kill(receiver.pid, signal.SIGTERM)

    async def not_ready() -> bool:
        async with site.session.get(f"{receiver.private}/readyz") as answer:
            return answer.status == 503 and "process: it is ending" in await answer.text()

    await eventually(not_ready)
    assert await site.status(receiver, a_guid()) == 200


async def test_after_the_time_for_late_callbacks_it_ends(site: Site) -> None:
    receiver = await site.receiver(drain="300ms")
    assert await receiver.stop() == 0


async def test_no_token_gets_into_the_log_or_the_metrics(site: Site, receiver: CounterfoilProcess) -> None:
    wrong = "wrong-token-0123456789abcdef"
    await site.status(receiver, a_guid())
    await site.status(receiver, "no-guid")
    await site.status(receiver, a_guid(), path=f"/callbacks/acme/{wrong}")
    await site.status(receiver, a_guid(), path=f"/callbacks/acme/{TOKEN}/{'x' * 9000}")
    async with site.session.get(f"{receiver.private}/metrics") as answer:
        metrics = await answer.text()
    await receiver.stop()

    told = receiver.log.read_text() + metrics
    assert TOKEN not in told
    assert wrong not in told
    service_account = json.loads(site.kubeconfig.read_text())["users"][0]["user"]["token"]
    assert service_account not in told
    labels = f'namespace="{site.namespace}",organization="acme",outcome="noted"'
    assert f"counterfoil_callbacks_total{{{labels}}} 1.0" in metrics


@pytest.fixture(scope="module")
async def mortal_plane() -> AsyncIterator[ControlPlane]:
    """A control plane that may be taken down, since the other tests need theirs."""
    async with control_plane() as running:
        await running.apply_crds()
        yield running


async def test_without_the_api_server_it_answers_503_and_recovers_automatically(
    mortal_plane: ControlPlane, tmp_path: Path
) -> None:
    plane = mortal_plane
    await plane.namespace("alone")
    async with AsyncExitStack() as opened:
        site = await a_site(plane, "alone", tmp_path, opened)
        receiver = await site.receiver()
        known = a_guid()
        assert await site.status(receiver, known) == 200

        await plane.stop_apiserver()
        for envelope in (known, a_guid(), a_guid()):
            answer = await site.asked(receiver, envelope)
            assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
        async with site.session.get(f"{receiver.private}/readyz") as ready:
            assert ready.status == 503
            assert "kubernetes: " in await ready.text()
        async with site.session.get(f"{receiver.private}/healthz") as alive:
            assert alive.status == 200

        await plane.start_apiserver()
        await receiver.until_ready()

        async def noted_again() -> bool:
            return await site.status(receiver, known) == 200

        await eventually(noted_again)
        await site.create(a_raw_organization("born-later"))
        await site.publish("born-later")
        await answers(site, receiver, 200, path=f"/callbacks/born-later/{TOKEN}")


async def test_an_outage_under_load_loses_nothing_that_was_answered_200(
    mortal_plane: ControlPlane, tmp_path: Path
) -> None:
    plane = mortal_plane
    await plane.namespace("loaded")
    async with AsyncExitStack() as opened:
        site = await a_site(plane, "loaded", tmp_path, opened)
        receiver = await site.receiver()
        calling = asyncio.create_task(called_until_gone(site, receiver, 8))

        async def some_are_in() -> bool:
            return len(await site.events()) > 50

        await eventually(some_are_in)
        await plane.kill_apiserver()
        await plane.start_apiserver()
        await receiver.until_ready()
        before = len(await site.events())

        async def it_goes_on() -> bool:
            return len(await site.events()) > before

        await eventually(it_goes_on)
        assert await receiver.stop() == 0
        accepted = await calling
        assert set(accepted) <= {event.spec.envelope_id for event in await site.events()}
