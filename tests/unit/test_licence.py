"""The licence is the same wherever a program or a lawyer looks for it."""

import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
LICENCE = "Apache-2.0"


def test_the_text_of_the_licence_is_complete() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_wheel_chart_and_image_name_the_same_licence() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    chart = yaml.safe_load((ROOT / "charts" / "counterfoil" / "Chart.yaml").read_text(encoding="utf-8"))
    assert project["license"] == LICENCE
    assert chart["annotations"]["artifacthub.io/license"] == LICENCE
    assert (
        f'org.opencontainers.image.licenses="{LICENCE}"' in (ROOT / "release" / "Containerfile").read_text()
    )


def test_wheel_and_image_carry_the_licences_of_all_that_they_contain() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {
        "LICENSE",
        "NOTICE",
        *(str(each.relative_to(ROOT)) for each in ROOT.glob("webhook/**/*LICENSE*")),
    }
    assert set(project["license-files"]) == needed
    copied = (ROOT / "release" / "Containerfile").read_text(encoding="utf-8")
    assert "COPY pyproject.toml README.md LICENSE NOTICE ./" in copied
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {"!LICENSE", "!NOTICE"} <= set(ignored)
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    for script in ROOT.glob("webhook/console/static/*.min.js"):
        assert script.name in notice
