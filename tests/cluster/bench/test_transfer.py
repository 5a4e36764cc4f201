"""Bench (c) at a small size: each of its ways moves the document as eSAW has it."""

from pathlib import Path

from verification.bench.machine import MIB
from verification.bench.transfer import TransferMethod, measure_rates

KINDS = ("filesystem", "http")
"""Kinds whose servers start at once."""


async def test_each_way_moves_the_document_that_esaw_has(tmp_path: Path) -> None:
    # A round raises an error if the bytes differ.
    measured = await measure_rates(tmp_path, KINDS, dict.fromkeys(KINDS, MIB), rounds=1)
    counts = {kind: {method: len(rounds) for method, rounds in of.items()} for kind, of in measured.items()}
    assert counts == {kind: dict.fromkeys(TransferMethod, 1) for kind in KINDS}
