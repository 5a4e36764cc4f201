"""The trial's image has what its processes import, and Counterfoil's own image beneath."""

import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import yaml

from release.image import build
from sandbox.trial.image import PACKAGES, write_context

OWN = {"controller", "counterfoil", "sandbox", "webhook"}
VALUES = build.ROOT / "charts" / "counterfoil" / "values-trial.yaml"
CHART = VALUES.parent / "Chart.yaml"
IMPORT = """
import json, sys
absent = set(json.loads(sys.argv[1]))
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Absent())
import sandbox.esaw.__main__, sandbox.trial.__main__
"""
"""Imports the trial's processes without the packages that its image does not have."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_its_processes_import_only_packages_of_the_runtime_and_those_that_it_adds() -> None:
    locked = build.lock_of(build.PLAIN)
    runtime = {normal(found) for found in re.findall(r"(?m)^([A-Za-z0-9._-]+)==", locked)}
    absent = [
        name
        for name, distributions in packages_distributions().items()
        if name not in {*OWN, *PACKAGES} and not {normal(each) for each in distributions} & runtime
    ]
    assert "pytest" in absent
    ended = subprocess.run(
        [sys.executable, "-c", IMPORT, json.dumps(absent)],
        capture_output=True,
        text=True,
        check=False,
        cwd=build.ROOT,
    )
    assert ended.returncode == 0, ended.stderr


def test_its_context_has_the_sandbox_the_packages_and_the_s3_server(tmp_path: Path) -> None:
    program = tmp_path / "versitygw"
    program.write_text("program")
    folder = tmp_path / "context"
    containerfile = write_context(folder, "counterfoil:1", program)

    assert containerfile.read_text().startswith("FROM counterfoil:1\n")
    assert (folder / "versitygw").read_text() == "program"
    for name in ("sandbox/trial/__main__.py", "sandbox/esaw/__main__.py", "sandbox/esaw/facts.toml"):
        assert (folder / "srv" / name).is_file()
    for package in PACKAGES:
        assert (folder / "srv" / package / "__init__.py").is_file()
    assert list(folder.rglob("*.so")) == []
    assert list(folder.rglob("go.sum")) == []


def test_each_tool_builds_it_on_counterfoils_image_under_the_name_that_the_values_have() -> None:
    repository = yaml.safe_load(VALUES.read_text("utf-8"))["image"]["repository"]
    # The chart's version is the default tag.
    image = f"{repository}:{yaml.safe_load(CHART.read_text('utf-8'))['appVersion']}"
    for tool in build.TOOLS:
        built, exported = build.trial_commands(tool, Path("context/Containerfile"), Path("trial.tar"))
        assert built[:2] == [tool, "build"]
        assert f"--tag={image}" in built
        assert any(image in each for each in exported)
