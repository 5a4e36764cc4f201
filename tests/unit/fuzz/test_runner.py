"""The harness finds each kind of defect, in targets that have it on purpose."""

import pkgutil
from pathlib import Path

import pytest

import verification.fuzz.targets
from tests.unit.fuzz import planted
from verification.fuzz.guides import GUIDES
from verification.fuzz.runner import FuzzError, RunResult, run_target, store_findings

INPUTS = 400


def run(name: str, folder: Path, *, inputs: int = INPUTS, hang_cpu_seconds: float = 30.0) -> RunResult:
    return run_target(
        f"{planted.__name__}.{name}",
        inputs=inputs,
        seed=1,
        corpus=folder,
        hang_cpu_seconds=hang_cpu_seconds,
        is_guided=False,
    )


def test_a_sound_target_has_no_finding(tmp_path: Path) -> None:
    result = run("sound", tmp_path)
    assert (result.name, result.inputs, result.findings) == ("sound", INPUTS, ())


def test_an_exception_that_is_not_documented_is_found(tmp_path: Path) -> None:
    [finding] = run("exception", tmp_path).findings
    assert finding.kind == "exception"
    assert finding.summary.startswith("KeyError")
    assert finding.data.startswith(b"ab")


def test_an_input_that_takes_too_much_cpu_time_is_found(tmp_path: Path) -> None:
    [finding] = run("slow", tmp_path, inputs=2).findings
    assert (finding.kind, finding.data) == ("slow", b"slow")


def test_memory_that_grows_with_each_input_is_found(tmp_path: Path) -> None:
    result = run("leak", tmp_path, inputs=1000)
    assert [each.kind for each in result.findings] == ["memory"]
    assert result.growth_mib > 16


def test_an_exception_that_is_only_logged_is_found(tmp_path: Path) -> None:
    [finding] = run("logged", tmp_path).findings
    assert (finding.kind, finding.summary.partition(":")[0]) == ("logged", "IndexError")


def test_an_input_that_never_ends_is_found(tmp_path: Path) -> None:
    [finding] = run("endless", tmp_path, hang_cpu_seconds=1.0).findings
    assert (finding.kind, finding.data) == ("hang", b"endless")


def test_an_input_that_ends_the_process_is_found(tmp_path: Path) -> None:
    [finding] = run("crash", tmp_path).findings
    assert (finding.kind, finding.data) == ("crash", b"crash")


def test_a_run_ends_after_its_time(tmp_path: Path) -> None:
    module = f"{planted.__name__}.sound"
    result = run_target(module, inputs=10**9, seconds=0.2, seed=1, corpus=tmp_path, is_guided=False)
    assert 0 < result.inputs < 10**9
    assert result.findings == ()


def test_the_inputs_that_are_findings_are_stored(tmp_path: Path) -> None:
    store_findings(run("crash", tmp_path / "corpus"), tmp_path / "findings")
    [file] = (tmp_path / "findings").iterdir()
    assert file.name.startswith("crash-")
    assert file.read_bytes() == b"crash"


def test_a_target_that_cannot_be_imported_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FuzzError, match="No module named"):
        run("missing", tmp_path)


def test_each_target_has_modules_that_guide_the_engine() -> None:
    assert sorted(GUIDES) == sorted(
        each.name for each in pkgutil.iter_modules(verification.fuzz.targets.__path__)
    )
