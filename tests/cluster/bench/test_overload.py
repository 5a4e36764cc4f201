"""A tiny bench (j): each callback of a burst is recorded, and refused only as the contract says. No times."""

from pathlib import Path

from sandbox.controlplane.control_plane import ControlPlane
from verification.bench.overload import measure_burst, receivers_environment

COUNT = 60


async def test_no_callback_of_a_burst_is_lost_while_the_api_server_answers_429(
    plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with receivers_environment(plane, tmp_path, namespace) as built:
        result = await measure_burst(built, count=COUNT, connections=12, pause=0.05)
    assert (result.answers.recorded, result.events, result.lost) == (COUNT, COUNT, 0)
    assert result.answers.refused > 0
    assert result.answers.wrong == {}
