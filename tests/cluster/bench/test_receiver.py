"""The bare client of bench (a), which other benches use, too."""

from sandbox.controlplane.control_plane import ControlPlane
from verification.bench.receiver import NAMESPACE, BareClient


async def test_the_bare_client_creates_events_with_the_credentials_of_the_administrator(
    plane: ControlPlane,
) -> None:
    await plane.namespace(NAMESPACE)
    bare = await BareClient.start(plane.kubeconfig, 2)
    done = await bare.create_events(3)
    await bare.end()
    assert len(done.latencies) == 3
