"""
Writes what Artifact Hub shows of the chart into its Chart.yaml:
``python docs/tools/generate_artifacthub.py``.

The kinds and their examples come from ``crds/`` and ``docs/examples/``, the licence from ``pyproject.toml``,
the image from ``values.yaml``, the changes from ``release/changes/`` or, after ``make version``, from the
section of ``CHANGELOG.md``. A unit test compares them. There is no ``signKey``: no key of the project signs
the chart.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
CHART = REPOSITORY / "charts" / "counterfoil"
EXAMPLES = ("archive-s3", "organization", "sender", "envelope", "envelopeevent", "import")
"""Files of ``docs/examples/``, one for each kind."""

LINKS = ({"name": "eSignAnyWhere", "url": "https://www.esignanywhere.net"},)
KINDS = ("added", "changed", "deprecated", "removed", "fixed", "security")
"""Kinds of changes that Artifact Hub knows."""


def annotations() -> dict[str, str]:
    """Return the annotations of the chart."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    # No image is named: each installation has its own registry (image.repository has no default).
    return {
        "artifacthub.io/category": "integration-delivery",
        "artifacthub.io/changes": _dump(changes(project["version"])),
        "artifacthub.io/crds": _dump(_crds()),
        "artifacthub.io/crdsExamples": _dump(_examples()),
        "artifacthub.io/license": project["license"],
        "artifacthub.io/links": _dump(list(LINKS)),
        "artifacthub.io/operator": "true",
    }


def changes(version: str) -> list[dict[str, str]]:
    """Return the changes of a version: its section of the changelog, and what is in no section yet."""
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    section = changelog.partition(f"\n## {version} ")[2].partition("\n## ")[0]
    found = [
        (part.partition("\n")[0].strip().lower(), entry)
        for part in section.split("\n### ")[1:]
        for entry in re.split(r"(?m)^- ", part)[1:]
    ]
    found += [
        (path.name.split(".")[1], path.read_text(encoding="utf-8"))
        for path in sorted((REPOSITORY / "release" / "changes").glob("*.md"))
        if path.name != "README.md"
    ]
    return [{"kind": kind, "description": _plain(text)} for kind, text in sorted(found)]


def _plain(markdown: str) -> str:
    # A link leads nowhere from there.
    return " ".join(re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", markdown).split())


def _crds() -> list[dict[str, str]]:
    found = []
    for path in sorted((REPOSITORY / "crds").glob("*.yaml")):
        crd = yaml.safe_load(path.read_text(encoding="utf-8"))
        kind = crd["spec"]["names"]["kind"]
        for version in crd["spec"]["versions"]:
            description = version["schema"]["openAPIV3Schema"]["description"]
            first = " ".join(description.split()).partition(". ")[0].rstrip(".")
            found.append(
                {
                    "kind": kind,
                    "version": version["name"],
                    "name": crd["metadata"]["name"],
                    "displayName": kind,
                    "description": first,
                }
            )
    return found


def _examples() -> list[Any]:
    folder = REPOSITORY / "docs" / "examples"
    return [
        next(each for each in yaml.safe_load_all((folder / f"{name}.yaml").read_text("utf-8")) if each)
        for name in EXAMPLES
    ]


def _dump(content: Any) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)


def text() -> str:
    """Return Chart.yaml with these annotations at its end."""
    before = (CHART / "Chart.yaml").read_text(encoding="utf-8").partition("annotations:\n")[0]
    lines = ["annotations: # written by docs/tools/generate_artifacthub.py"]
    for name, value in annotations().items():
        if value.endswith("\n"):
            lines += [f"  {name}: |", *(f"    {line}" if line else "" for line in value.splitlines())]
        else:
            lines.append(f"  {name}: {value}" if value not in ("true", "false") else f'  {name}: "{value}"')
    return before.partition("annotations: #")[0] + "\n".join(lines) + "\n"


if __name__ == "__main__":
    (CHART / "Chart.yaml").write_text(text(), encoding="utf-8")
