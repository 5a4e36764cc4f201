"""The annotations for Artifact Hub are true: they are written from their sources."""

from typing import Any

import yaml

from docs.tools import generate_artifacthub as generator

CHART = yaml.safe_load((generator.CHART / "Chart.yaml").read_text("utf-8"))
ANNOTATIONS: dict[str, str] = CHART["annotations"]


def listed(name: str) -> list[Any]:
    content = yaml.safe_load(ANNOTATIONS[f"artifacthub.io/{name}"])
    assert isinstance(content, list)
    return content


def test_the_annotations_are_those_that_the_generator_writes() -> None:
    assert (generator.CHART / "Chart.yaml").read_text("utf-8") == generator.text(), (
        "python docs/tools/generate_artifacthub.py"
    )
    assert generator.annotations() == ANNOTATIONS


def test_the_generator_can_run_again() -> None:
    assert generator.text().count("annotations: #") == 1


def test_each_kind_is_described_and_has_one_example() -> None:
    kinds = {
        yaml.safe_load(each.read_text("utf-8"))["spec"]["names"]["kind"]
        for each in (generator.REPOSITORY / "crds").glob("*.yaml")
    }
    assert {each["kind"] for each in listed("crds")} == kinds
    assert sorted(each["kind"] for each in listed("crdsExamples")) == sorted(kinds)
    assert [each for each in listed("crds") if not each["description"]] == []


def test_the_changes_are_of_kinds_that_artifact_hub_knows_and_have_no_links() -> None:
    assert listed("changes")
    assert {each["kind"] for each in listed("changes")} <= set(generator.KINDS)
    assert not [each for each in listed("changes") if "](" in each["description"]]


def test_no_image_is_named_because_each_installation_has_its_own_registry() -> None:
    assert yaml.safe_load((generator.CHART / "values.yaml").read_text("utf-8"))["image"]["repository"] == ""
    assert "artifacthub.io/images" not in ANNOTATIONS


def test_no_key_is_named_because_none_signs_the_chart() -> None:
    assert "artifacthub.io/signKey" not in ANNOTATIONS


def test_the_file_of_the_repository_claims_no_id() -> None:
    repository = yaml.safe_load((generator.CHART.parent / "artifacthub-repo.yml").read_text("utf-8"))
    assert repository == {"ignore": []}
