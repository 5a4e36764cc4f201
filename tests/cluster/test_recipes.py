"""Each recipe of docs/recipes.md is accepted: its values by the chart, its objects by the API server."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from release.helm import Helm, helm
from sandbox.controlplane.kubectl import Kubectl
from tests.support.scenes.chart import render

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"
CRDS = PAGE.parents[1] / "crds"
BLOCK = re.compile(r"^```yaml\n# (?P<kind>[^\n]+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
OF_OTHERS = "velero.io/v1"
"""API whose definitions are not in the test's API server."""


class Recipe(NamedTuple):
    title: str
    kind: str
    text: str


def _recipes() -> list[Recipe]:
    sections = PAGE.read_text("utf-8").split("\n## ")[1:]
    return [
        Recipe(section.partition("\n")[0], block["kind"], block["text"])
        for section in sections
        for block in BLOCK.finditer(section)
    ]


RECIPES = _recipes()


def of(kind: str) -> pytest.MarkDecorator:
    chosen = [each for each in RECIPES if each.kind == kind]
    return pytest.mark.parametrize("recipe", chosen, ids=lambda recipe: recipe.title)


@pytest.fixture(scope="module")
async def program(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return await helm(tmp_path_factory.mktemp("helm"))


def test_every_block_says_what_it_is() -> None:
    text = PAGE.read_text("utf-8")
    assert text.count("```yaml") == len(RECIPES)
    others = {"arguments of oauth2-proxy", "values of kube-state-metrics"}
    assert {each.kind for each in RECIPES} == {"values", "object", *others}


@of("values of kube-state-metrics")
def test_kube_state_metrics_reads_kinds_and_fields_that_exist(recipe: Recipe) -> None:
    values = yaml.safe_load(recipe.text)
    resources = values["customResourceState"]["config"]["spec"]["resources"]
    (rule,) = values["rbac"]["extraRules"]
    plurals = []
    for resource in resources:
        of_kind = resource["groupVersionKind"]
        plurals.append(f"{of_kind['kind'].lower()}s")
        definition = yaml.safe_load((CRDS / f"{plurals[-1]}.yaml").read_text("utf-8"))["spec"]
        assert definition["group"] == of_kind["group"] == rule["apiGroups"][0]
        (version,) = (each for each in definition["versions"] if each["name"] == of_kind["version"])
        schema = version["schema"]["openAPIV3Schema"]["properties"]
        for metric in resource["metrics"]:
            gauge = metric["each"]["gauge"]
            fields = schema[gauge["path"][0]]["properties"][gauge["path"][1]]["items"]["properties"]
            read = [*gauge["labelsFromPath"].values(), gauge["valueFrom"]]
            assert {each[0] for each in read} <= fields.keys()
    assert sorted(rule["resources"]) == sorted(plurals)


@of("values")
async def test_the_chart_renders_the_values_of_a_recipe(program: Helm, recipe: Recipe) -> None:
    values = yaml.safe_load(recipe.text)
    rendered = await render(program, values)
    assert rendered.objects
    for wanted in _strings(values):
        assert wanted in rendered.text, wanted


@of("object")
async def test_the_api_server_accepts_the_objects_of_a_recipe(
    kubectl: Kubectl, namespace: str, recipe: Recipe
) -> None:
    for body in yaml.safe_load_all(recipe.text):
        if body["apiVersion"] == OF_OTHERS:
            assert body["metadata"]["namespace"] == "velero"
        else:
            document = yaml.safe_dump(body)
            said = await kubectl("apply", "-n", namespace, "--dry-run=server", "-f", "-", stdin=document)
            assert "created" in said


def _strings(value: object) -> list[str]:
    """Return the texts among the values; all of them reach the rendering."""
    if isinstance(value, dict):
        return [each for part in value.values() for each in _strings(part)]
    if isinstance(value, list):
        return [each for part in value for each in _strings(part)]
    return [value] if isinstance(value, str) else []
