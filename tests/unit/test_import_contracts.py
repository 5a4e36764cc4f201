"""
The order of the packages in pyproject.toml: import-linter refuses an import upwards, one between packages of
the same layer, and a package that has no place.

``make lint`` checks the product itself. Here each contract meets a tree of empty modules with planted
imports.
"""

import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.repository import ROOT

CONFIGURATION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
LINT = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command(sys.argv[1:])"


def contract(package: str) -> Mapping[str, Any]:
    """Return the contract for the order in a package."""
    (found,) = (each for each in CONFIGURATION["contracts"] if each.get("containers") == [package])
    return dict(found)


def layers(package: str) -> list[list[str]]:
    """Return the layers from the top to the bottom, each with its packages."""
    return [[name.strip() for name in layer.split("|")] for layer in contract(package)["layers"]]


Imports = Sequence[tuple[str, str]]
"""Pairs of importer and imported module."""


class Answer(NamedTuple):
    """Exit status and output of import-linter."""

    status: int
    text: str


def lint(folder: Path, package: str, names: Sequence[str], imports: Imports) -> Answer:
    """Check a tree of modules, empty except for these imports, by the contract for the package."""
    (folder / package).mkdir()
    (folder / package / "__init__.py").touch()
    for name in names:
        source = "".join(f"import {package}.{to}\n" for by, to in imports if by == name)
        (folder / package / f"{name}.py").write_text(source, encoding="utf-8")
    options = {each: contract(package)[each] for each in ("name", "type", "exhaustive")}
    lines = [
        "[importlinter]",
        f"root_package = {package}",
        "[importlinter:contract:order]",
        *(f"{key} = {value}" for key, value in options.items()),
        f"containers =\n    {package}",
        "layers =",
        *(f"    {layer}" for layer in contract(package)["layers"]),
    ]
    (folder / "contract.ini").write_text("\n".join(lines), encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-c", LINT, "--config", "contract.ini", "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    return Answer(run.returncode, run.stdout + run.stderr)


@pytest.mark.parametrize("package", ["controller", "webhook", "counterfoil"])
def test_imports_downwards_are_allowed(tmp_path: Path, package: str) -> None:
    names = [name for layer in layers(package) for name in layer]
    imports = [(upper[0], lower[0]) for upper, lower in pairwise(layers(package))]
    answer = lint(tmp_path, package, names, imports)
    assert answer.status == 0, answer.text


@pytest.mark.parametrize("package", ["controller", "webhook", "counterfoil"])
def test_each_import_upwards_and_each_between_equals_is_refused(tmp_path: Path, package: str) -> None:
    names = [name for layer in layers(package) for name in layer]
    upwards = [(low, upper[0]) for upper, lower in pairwise(layers(package)) for low in lower]
    imports = [*upwards, *((layer[0], layer[-1]) for layer in layers(package) if len(layer) > 1)]
    answer = lint(tmp_path, package, names, imports)
    assert answer.status == 1
    missing = [
        f"{low} -> {high}"
        for low, high in imports
        if f"{package}.{low} -> {package}.{high} " not in answer.text
    ]
    assert missing == []


@pytest.mark.parametrize("package", ["controller", "webhook", "counterfoil"])
def test_a_package_without_a_layer_is_refused(tmp_path: Path, package: str) -> None:
    names = [*(name for layer in layers(package) for name in layer), "planted"]
    answer = lint(tmp_path, package, names, [])
    assert answer.status == 1
    assert "planted" in answer.text
