"""S5: a client that chooses ids tries to make two callbacks share one event."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from counterfoil.resources import EnvelopeEvent, envelope_id
from counterfoil.resources.event_factory import new_event
from sandbox.controlplane.control_plane import ControlPlane
from tests.support.scenes.receiver_site import TOKEN, Site, a_guid, a_raw_organization, a_site, answers
from webhook.receiver.readiness import MAX_CONSECUTIVE_FAILURES


@pytest.fixture
async def site(plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[Site]:
    """A namespace with the organizations ``acme`` and ``other``."""
    async with AsyncExitStack() as opened:
        site = await a_site(plane, namespace, tmp_path, opened)
        await site.create(a_raw_organization("other"))
        await site.publish("other")
        yield site


async def test_no_callback_is_confirmed_with_the_event_of_another_one(site: Site) -> None:
    receiver = await site.receiver()
    envelope = envelope_id(a_guid())
    victim = new_event(organization="acme", envelope=envelope, action="envelopeFinished")
    # What a second preimage of the name would create through the URL of `other`.
    forged = new_event(organization="other", envelope=envelope, action="envelopeFinished")
    forged["metadata"]["name"] = victim["metadata"]["name"]
    async with site.kube() as kube:
        await kube.create(EnvelopeEvent, forged)

    for _ in range(MAX_CONSECUTIVE_FAILURES + 1):
        answer = await site.asked(receiver, envelope)
        assert answer.status == 503
        assert "Retry-After" in answer.headers

    labels = f'namespace="{site.namespace}",organization="acme"'
    mismatches = f"counterfoil_event_mismatches_total{{{labels}}} {MAX_CONSECUTIVE_FAILURES + 1}.0"
    assert mismatches in await receiver.metrics()
    # A client that causes mismatches can't take the receivers out of service.
    async with site.session.get(f"{receiver.private}/readyz") as ready:
        assert ready.status == 200
    await answers(site, receiver, 200, path=f"/callbacks/other/{TOKEN}")


async def test_a_workstep_id_makes_no_further_event_of_an_envelopes_end(site: Site) -> None:
    receiver = await site.receiver()
    envelope = a_guid()
    for number in range(20):
        query = f"envelopeId={envelope}&action=envelopeFinished&workstepId=w{number}"
        async with site.session.get(f"{receiver.public}/callbacks/acme/{TOKEN}?{query}") as answer:
            assert answer.status == 200
    assert (await site.event()).spec.envelope_id == envelope
