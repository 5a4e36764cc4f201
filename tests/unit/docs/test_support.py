"""The table of supported versions says the versions that the tests use, and those that the files require."""

import re
import tomllib
from pathlib import Path

import yaml

from release.plugin import PYTHONS
from sandbox.controlplane.binaries import module_of
from sandbox.node.images import SUITE

ROOT = Path(__file__).parents[3]
ROWS = {
    cells[0]: cells[1:]
    for line in (ROOT / "docs" / "support.md").read_text("utf-8").partition("\n## ")[0].splitlines()
    if line.startswith("| ")
    for cells in [[each.strip() for each in line.strip("|").split("|")]]
}


def test_the_tested_versions_are_those_that_are_built() -> None:
    for row, program in (
        ("Kubernetes API server", "kube-apiserver"),
        ("Kubernetes node", "kubelet"),
        ("kubectl", "kubectl"),
        ("Helm", "helm"),
    ):
        assert module_of(program).version in ROWS[row][1], row


def test_the_required_versions_are_those_of_chart_and_project() -> None:
    chart = yaml.safe_load((ROOT / "charts" / "counterfoil" / "Chart.yaml").read_text("utf-8"))
    (kubernetes,) = re.findall(r"\d+\.\d+", chart["kubeVersion"].removesuffix(".0-0"))
    assert ROWS["Kubernetes API server"][0].startswith(f"{kubernetes} or newer")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    python = project["requires-python"].removeprefix(">=")
    assert ROWS["Python, processes"][0] == f"{python} or newer"
    assert ROWS["Python, plugin as one file"][0].startswith(f"{PYTHONS[0]} to {PYTHONS[-1]} ")


def test_the_base_is_the_suite_of_the_node_test() -> None:
    assert {"bookworm": "Debian 12"}[SUITE] in ROWS["Base of the image"][1]


def test_every_row_names_the_command_that_tests_it_and_what_is_not_tested() -> None:
    rows = {name: cells for name, cells in ROWS.items() if name != "Part"}
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for name, (_, _, by, missing) in rows.items():
        commands = re.findall(r"`make ([a-z0-9-]+)`", by)
        assert commands, name
        assert [each for each in commands if not re.search(rf"(?m)^(.* )?{each}( .*)?:", makefile)] == [], (
            name
        )
        assert missing, name
