"""The chart's copies equal their sources, every value is described, and the schema allows no other value."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from counterfoil.durations import Duration
from counterfoil.settings import describe_settings
from docs.tools import generate_chart
from docs.tools.generate_chart import CHART, SETTINGS, decided_by_the_chart

SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
GENERATED = generate_chart.files()


@cache
def values() -> Any:
    return yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_what_the_chart_has_from_elsewhere_is_up_to_date(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == GENERATED[path](), "run: make chart"


def test_the_chart_has_no_definition_that_is_not_in_crds() -> None:
    copies = {path.name for path in (CHART / "files" / "crds").iterdir()}
    assert copies == {path.name for path in (generate_chart.REPOSITORY / "crds").glob("*.yaml")}


def test_every_value_is_described() -> None:
    described = {each.path for each in generate_chart.described()}
    assert not [
        path
        for path in leaves(values())
        if not any((path + ".").startswith(f"{each}.") for each in described)
    ]


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_a_value_unless_the_chart_decides_it(name: str) -> None:
    kind = SETTINGS[name]
    known = SCHEMA["$defs"][name]["properties"]
    assert {snake(each) for each in known} == {each.name for each in describe_settings(kind)} - (
        decided_by_the_chart(kind)
    )


def test_the_schema_refuses_everything_unknown() -> None:
    assert not [where for where, part in objects(SCHEMA) if part.get("additionalProperties") is not False]


def test_the_schema_knows_every_value() -> None:
    known = {where for where, _ in properties(SCHEMA)}
    assert set(leaves(values())) - known == set()


def test_the_comparison_names_files_of_the_chart_and_tests_that_exist() -> None:
    root = generate_chart.REPOSITORY
    page = (root / "docs" / "chart-comparison.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")][1:]
    named = [path for row in rows for path in re.findall(r"`([\w/.-]+\.\w+)`", row[-1])]
    assert len(named) > len(rows) * 0.7
    roots = (CHART, CHART / "templates", root)
    missing = [each for each in named if "/" in each and not any((top / each).exists() for top in roots)]
    assert missing == []


def test_the_comparison_has_the_number_of_policies_and_dashboards() -> None:
    page = (generate_chart.REPOSITORY / "docs" / "chart-comparison.md").read_text(encoding="utf-8")
    numbers = {3: "three", 14: "fourteen"}
    policies = (CHART / "templates" / "admission-policies.yaml").read_text(encoding="utf-8")
    number_of_policies = numbers[policies.count("kind: ValidatingAdmissionPolicy\n")]
    assert f"| {number_of_policies}, without a webhook:" in page
    dashboards = [*(CHART / "files" / "dashboards").glob("*.json")]
    assert f"| {numbers[len(dashboards)]}, which lead to each other:" in page


def test_values_and_manual_name_the_same_memory_of_an_event() -> None:
    manual = generate_chart.REPOSITORY / "docs"
    said = [
        re.findall(sentence, " ".join(path.read_text(encoding="utf-8").split()))
        for path, sentence in (
            (CHART / "values.yaml", r"Each concurrent event needs up to (\d+) MiB"),
            (manual / "chart.md", r"each with up to (\d+) MiB of memory"),
            (manual / "archives.md", r"A transfer uses at most (\d+) MiB of memory"),
            (manual / "reference" / "settings.md", r"Each needs up to (\d+) MiB of memory"),
        )
    ]
    assert said == [said[0]] * 4
    assert len(said[0]) == 1


@pytest.mark.parametrize("seconds", [1, 60, 600])
def test_the_pattern_of_a_minimum_refuses_what_the_process_refuses(seconds: int) -> None:
    minimum = Duration(seconds=seconds)
    pattern = re.compile(generate_chart.minimum_pattern(seconds))
    numbers = [
        f"{digits}{zeros}" for digits in (1, 5, 6, 9, 10, 59, 60, 99) for zeros in ("", "0", "00", "000")
    ]
    numbers += ["0", "00", "0.0", "0.9", "007", "59.9", "599.99", "0999.5", "1000.5", "60.01"]
    texts = [f"{number}{unit}" for number in numbers for unit in ("ms", "s", "m", "h")]
    # A fraction of a unit that is larger than the minimum needs a multiplication.
    accepted = {each for each in texts if pattern.match(each) is not None and "0.9" not in each}
    assert accepted == {each for each in texts if Duration.parse(each) >= minimum and "0.9" not in each}
    assert all(pattern.match(each) for each in ("1h30m", "0h10m", "10m0s", "0h0m10m", "10m0.0s"))
    refused = ("0", "", "1", "1d", "-1h", "1h ", "0m0s", "0h0m0s", "0.0h00m0ms")
    assert [each for each in refused if pattern.match(each) is not None] == []


def leaves(values: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Go through the paths of values that are no maps, or maps whose keys are the user's."""
    free = ("annotations", "labels", "requests", "limits", "SecurityContext", "securityContext", "settings")
    for key, value in values.items():
        path = f"{before}{key}"
        if isinstance(value, dict) and value and not key.endswith(free) and key != "resources":
            yield from leaves(value, f"{path}.")
        else:
            yield path


def objects(schema: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Go through the parts of the schema that name properties, but conditions, which only add to others."""
    if isinstance(schema, dict):
        if "properties" in schema and schema.get("type") == "object":
            yield where, schema
        for key, part in schema.items():
            yield from objects(part, f"{where}/{key}")


def properties(schema: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Go through the paths of all values that the schema knows."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    for key, part in schema.get("properties", {}).items():
        yield f"{before}{key}", part
        yield from properties(part, f"{before}{key}.")


def snake(name: str) -> str:
    """Return the name of a setting for the name of a value."""
    return "".join(f"_{each.lower()}" if each.isupper() else each for each in name)
