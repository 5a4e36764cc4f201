"""A tiny bench (g): the memory of a controller stays within its bounds."""

from pathlib import Path

from sandbox.controlplane.control_plane import ControlPlane
from verification.bench.big_and_many import VALUES, cases, measure, memory_limit, report
from verification.bench.machine import MIB
from verification.bench.transfer import MAX_MEMORY

SIZE = 96 * MIB
"""Three times the bound, so that a controller that holds the document exceeds it."""


async def test_memory_stays_within_its_bounds(plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    chosen = cases(SIZE, documents=30, envelopes=12, document_size=64 * 1024)
    results = await measure(tmp_path, chosen, plane, namespace)
    assert [each.succeeded for each in results] == [1, 1, 12, 12]
    large, *others = results
    assert large.memory_rise <= MAX_MEMORY
    limit = memory_limit(VALUES.read_text())
    assert all(each.memory_peak < limit for each in others)
    assert "MISSED" not in report(results, limit)
