"""The lock files have what pyproject.toml requires; `make lock` renews them."""

import re
import tomllib

import pytest

from tests.support.repository import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNTIME = PYPROJECT["project"]["dependencies"]
TRACES = PYPROJECT["project"]["optional-dependencies"]["otel"]
DEVELOPMENT = PYPROJECT["dependency-groups"]["dev"]


def names(requirements: list[str]) -> set[str]:
    """Return the names of the packages."""
    return {re.split(r"[^A-Za-z0-9._-]", each)[0].lower() for each in requirements}


def required_by_the_project(lock: str) -> set[str]:
    """Return the locked packages that are not there for another package only."""
    text = (ROOT / "release" / "locks" / lock).read_text()
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)
    return {each.partition("==")[0] for each in blocks if "counterfoil (pyproject.toml" in each}


@pytest.mark.parametrize(
    ("lock", "requirements"),
    [
        ("runtime.txt", RUNTIME),
        ("traces.txt", TRACES),
        ("dev.txt", RUNTIME + DEVELOPMENT),
    ],
)
def test_each_lock_has_the_requirements_that_it_is_for(lock: str, requirements: list[str]) -> None:
    assert required_by_the_project(lock) == names(requirements)


def test_only_the_exporter_of_traces_is_added_to_an_image_with_traces() -> None:
    assert all(each.startswith("opentelemetry-") for each in names(TRACES))


def test_the_lock_of_traces_has_only_what_the_other_lock_lacks() -> None:
    runtime, traces = (
        re.findall(r"(?m)^([a-z0-9._-]+)==", (ROOT / "release" / "locks" / lock).read_text())
        for lock in ("runtime.txt", "traces.txt")
    )
    assert len(traces) >= len(TRACES)
    assert {*runtime} & {*traces} == set()
