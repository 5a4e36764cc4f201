"""A Counterfoil without a controller in the namespace of each test, as the benches set it up."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from counterfoil.resources import to_json_dict
from sandbox.controlplane.control_plane import ControlPlane
from verification.bench.outage import RETRY
from verification.bench.setup import BenchSetup, bench_setup


@pytest.fixture
def concurrency() -> int:
    """The number of events that the archive takes at once."""
    return 4


@pytest.fixture
async def setup(
    plane: ControlPlane, namespace: str, tmp_path: Path, concurrency: int
) -> AsyncIterator[BenchSetup]:
    """One organization and its archive."""
    async with bench_setup(
        tmp_path, concurrency=concurrency, plane=plane, namespace=namespace, retry=to_json_dict(RETRY)
    ) as built:
        yield built
