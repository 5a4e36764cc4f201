"""A field that is declared once is in the CRD, its copy in the chart, the reference and the parser."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
import yaml

from counterfoil.durations import Duration
from counterfoil.resources.base import (
    DURATION_RULE,
    LocalObjectReference,
    Resource,
    ResourcePart,
    ValidationRule,
    schema,
)
from docs.tools import generate_reference
from docs.tools.generate_crds import crd
from tests.support.repository import ROOT

NEEDED = (
    "charts",
    "release",
    "counterfoil",
    "controller",
    "webhook",
    "crds",
    "docs",
    "CHANGELOG.md",
    "pyproject.toml",
)
"""Files and folders that `make chart` reads."""

COLOUR = """\
    colour: Annotated[str, schema("Colour of the seal. Default red.", maxLength=16)] = "red"
"""
LAST_FIELD = "    suspend: Annotated[\n"
"""The last field of a Sender's spec; the new one stands before it."""


class Limits(ResourcePart, frozen=True):
    """Limits of the work."""

    RULES: ClassVar[tuple[ValidationRule, ...]] = (ValidationRule("self.low <= self.high", "low is low"),)

    low: Annotated[int, schema("Minimum. Default 1.", maximum=9)] = 1
    high: Annotated[int, schema("Maximum. Default 5.", maximum=9)] = 5


class Step(ResourcePart, frozen=True):
    """One step."""

    name: Annotated[str, schema("Name of the step.", maxLength=9)]
    wait: Annotated[Duration | None, schema("Time before it.")] = None


class ScratchSpec(ResourcePart, frozen=True):
    """Settings of the scratch kind."""

    archive_ref: Annotated[
        LocalObjectReference, schema("The Archive.", parts={"name": schema("Its name.", maxLength=5)})
    ]
    secret_ref: Annotated[LocalObjectReference | None, schema("A Secret.")] = None
    count: Annotated[int, schema("Number.", minimum=0)] = 0
    steps: Annotated[tuple[Step, ...], schema("Steps.", keys=("name",), maxItems=3)] = (Step(name="a"),)
    words: Annotated[
        tuple[Annotated[str, schema("One.", maxLength=1)], ...], schema("Words.", maxItems=2)
    ] = ()
    limits: Limits = Limits()
    is_on: Annotated[bool, schema("True: on. Default false.")] = False
    is_late: Annotated[bool, schema("True: late.", default=None)] = False
    old: Annotated[str, schema("Required of new objects.", maxLength=3, required=True)] = "old"


class Scratch(Resource, frozen=True):
    """A scratch kind."""

    KIND: ClassVar[str] = "Scratch"
    PLURAL: ClassVar[str] = "scratches"

    spec: ScratchSpec


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    """The schema of the spec of the scratch kind."""
    (version,) = crd(Scratch)["spec"]["versions"]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


def test_a_docstring_is_the_description_of_its_struct(spec: dict[str, Any]) -> None:
    assert spec["description"] == "Settings of the scratch kind."
    assert spec["properties"]["steps"]["items"]["description"] == "One step."
    assert spec["properties"]["steps"]["description"] == "Steps."


def test_a_field_is_required_if_it_has_no_default_or_is_declared_required(spec: dict[str, Any]) -> None:
    assert spec["required"] == ["archiveRef", "old"]
    assert "default" not in spec["properties"]["old"]


def test_a_default_is_stored_unless_it_is_empty_or_the_field_says_otherwise(spec: dict[str, Any]) -> None:
    defaults = {name: each["default"] for name, each in spec["properties"].items() if "default" in each}
    assert defaults == {"steps": [{"name": "a"}], "limits": {"low": 1, "high": 5}, "isOn": False}


def test_a_part_is_declared_differently_in_one_place_only(spec: dict[str, Any]) -> None:
    (name, secret) = (spec["properties"][each]["properties"]["name"] for each in ("archiveRef", "secretRef"))
    assert name == {"type": "string", "description": "Its name.", "maxLength": 5}
    assert secret["description"] == "Name of the Secret."


def test_a_list_says_how_its_elements_are_merged(spec: dict[str, Any]) -> None:
    steps, words = spec["properties"]["steps"], spec["properties"]["words"]
    assert (steps["x-kubernetes-list-type"], steps["x-kubernetes-list-map-keys"]) == ("map", ["name"])
    assert words["x-kubernetes-list-type"] == "set"


def test_a_duration_has_its_rule_and_its_length(spec: dict[str, Any]) -> None:
    wait = spec["properties"]["steps"]["items"]["properties"]["wait"]
    assert wait["x-kubernetes-validations"] == [
        {"rule": DURATION_RULE.rule, "message": DURATION_RULE.message}
    ]
    assert wait["maxLength"] == 16


def test_a_bounded_number_has_32_bits_and_a_count_64(spec: dict[str, Any]) -> None:
    assert spec["properties"]["count"]["format"] == "int64"
    assert spec["properties"]["limits"]["properties"]["low"]["format"] == "int32"


def test_a_field_without_a_declaration_is_refused() -> None:
    class Spec(ResourcePart, frozen=True):
        """Settings."""

        size: int

    class Undeclared(Resource, frozen=True):
        """A kind."""

        KIND: ClassVar[str] = "Undeclared"
        PLURAL: ClassVar[str] = "undeclared"

        spec: Spec

    with pytest.raises(TypeError, match="has no schema"):
        crd(Undeclared)


def test_a_declaration_for_a_field_that_does_not_exist_is_refused() -> None:
    class Spec(ResourcePart, frozen=True):
        """Settings."""

        ref: Annotated[LocalObjectReference, schema("A Secret.", parts={"title": schema("Its name.")})]

    class Misspelt(Resource, frozen=True):
        """A kind."""

        KIND: ClassVar[str] = "Misspelt"
        PLURAL: ClassVar[str] = "misspelts"

        spec: Spec

    with pytest.raises(TypeError, match="LocalObjectReference has no title"):
        crd(Misspelt)


def test_the_reference_is_made_from_the_declarations() -> None:
    chapter = generate_reference.chapter(crd(Scratch)["spec"])
    assert "| `limits.low` | integer | `1` | Minimum. Default 1. |" in chapter
    assert "- `spec.limits`: low is low" in chapter


# -- The checklist for a field, carried out ------------------------------------------------------------------


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with one more field, after the programs of `make chart`."""
    folder = tmp_path_factory.mktemp("copy")
    for name in NEEDED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "_build"))
        else:
            shutil.copy(source, folder / name)
    module = folder / "counterfoil" / "resources" / "sender.py"
    text = module.read_text(encoding="utf-8")
    assert text.count(LAST_FIELD) == 1
    module.write_text(text.replace(LAST_FIELD, COLOUR + LAST_FIELD), encoding="utf-8")
    recipe = re.findall(r"(?m)^chart: .*\n\t@(.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"))
    programs = re.findall(r"docs/tools/\w+\.py", recipe[0])
    assert programs
    for program in programs:
        run(folder, program)
    return folder


def run(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


@pytest.mark.parametrize("path", ["crds/senders.yaml", "charts/counterfoil/files/crds/senders.yaml"])
def test_a_new_field_is_in_the_crd_and_in_the_chart(copy: Path, path: str) -> None:
    (version,) = yaml.safe_load((copy / path).read_text(encoding="utf-8"))["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    # `kubectl explain` shows the description (tests/cluster/test_crd_rules.py).
    assert spec["colour"] == {
        "type": "string",
        "description": "Colour of the seal. Default red.",
        "default": "red",
        "maxLength": 16,
    }


def test_a_new_field_is_in_the_reference(copy: Path) -> None:
    page = (copy / "docs" / "reference" / "resources.md").read_text(encoding="utf-8")
    assert "| `colour` | string | `red` | Colour of the seal. Default red. |" in page


@pytest.mark.parametrize(("stored", "read"), [({}, "red"), ({"colour": "blue"}, "blue")])
def test_a_new_field_is_read_with_its_default(copy: Path, stored: dict[str, str], read: str) -> None:
    raw = {
        "metadata": {"name": "jane"},
        "spec": {"organizationRef": {"name": "acme"}, "userID": "jane", **stored},
    }
    program = f"from counterfoil.resources import Sender; print(Sender.parse({raw!r}).spec.colour)"
    assert run(copy, "-c", program).strip() == read


def test_nothing_else_changes(copy: Path) -> None:
    """`make chart` changes nothing in a tree without a new field."""
    changed = {
        path.relative_to(copy).as_posix()
        for folder in ("crds", "charts", "docs/reference")
        for path in (copy / folder).rglob("*")
        if path.is_file() and path.read_bytes() != (ROOT / path.relative_to(copy)).read_bytes()
    }
    assert changed == {
        "crds/senders.yaml",
        "charts/counterfoil/files/crds/senders.yaml",
        "docs/reference/resources.md",
    }
