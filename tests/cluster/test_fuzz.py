"""A short run of each fuzz target: its inputs depend on a fixed seed alone. `make fuzz` is the long run."""

from pathlib import Path

import pytest

from verification.fuzz.__main__ import target_names
from verification.fuzz.runner import run_target

INPUTS = 2000
SECONDS = 60.0
"""Maximum time of a target: on a slow machine fewer inputs are run."""


@pytest.mark.parametrize("name", target_names())
def test_no_input_breaks_a_promise(name: str, tmp_path: Path) -> None:
    module = f"verification.fuzz.targets.{name}"
    result = run_target(module, inputs=INPUTS, seconds=SECONDS, seed=1, corpus=tmp_path, is_guided=False)
    assert result.findings == ()
    assert result.inputs > 0


def test_coverage_guides_the_engine_where_it_can_be_installed(tmp_path: Path) -> None:
    result = run_target("verification.fuzz.targets.sealed_blobs", inputs=2000, seed=1, corpus=tmp_path)
    assert result.findings == ()
    assert (result.edges is not None) == any(tmp_path.iterdir())
