"""
Every dependency that is locked has a licence on a list: what goes into the image must allow every user to
pass the image on without conditions on Counterfoil's own code.

A licence is read from the installed package. A word that is not SPDX is on the list as the package writes it.
"""

import re
from importlib.metadata import PackageNotFoundError, metadata

import pytest

from release.bill_of_materials import licence_of
from release.image.build import ROOT

PERMISSIVE = {
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MIT",
    "MIT-0",
    "PSF-2.0",
    # Conditions on changed files of the package itself only.
    "EPL-2.0",
    "MPL-2.0",
}
"""May be in the image."""

FOR_DEVELOPERS = PERMISSIVE | {"CC0-1.0", "OFL-1.1", "GPL-2.0-only"}
"""May be used to build and test. Nothing of it is passed on, so the GPL's conditions concern nobody."""

WORDS = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD 2-Clause License": "BSD-2-Clause",
    "BSD License": "BSD-3-Clause",
    "BSD-3-Clause License": "BSD-3-Clause",
    "GNU General Public License (GPL)": "GPL-2.0-only",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT license": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "PSFL": "PSF-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""Words of packages for an SPDX licence."""

IN_ITS_FILES = {"atheris": "Apache-2.0"}
"""Licence of a package whose metadata names none, but whose file LICENSE is this one."""

OTHERS_PLATFORMS = {"colorama", "pywin32", "tzdata"}
"""Locked, but installed on another system than Linux only."""


def locked(name: str) -> list[str]:
    text = (ROOT / "release" / "locks" / name).read_text(encoding="utf-8")
    return re.findall(r"(?m)^([a-z0-9._-]+)==", text)


def complaint(package: str, allowed: set[str]) -> str | None:
    try:
        said = licence_of(metadata(package)) or IN_ITS_FILES.get(package, "")
    except PackageNotFoundError:
        return None if package in OTHERS_PLATFORMS else f"{package} is locked and not installed"
    # One side of an OR is enough. No package has nested terms; one that had would be found.
    choices = [{WORDS.get(each, each) for each in choice.split(" AND ")} for choice in said.split(" OR ")]
    return None if any(choice <= allowed for choice in choices) else f"{package}: {said or 'no licence'}"


@pytest.mark.parametrize("lock", ["runtime.txt", "traces.txt", "build.txt"])
def test_what_is_in_the_image_or_builds_it_has_a_permissive_licence(lock: str) -> None:
    packages = locked(lock)
    assert len(packages) >= 5
    assert [each for each in (complaint(package, PERMISSIVE) for package in packages) if each] == []


def test_what_developers_use_has_a_licence_that_allows_it() -> None:
    found = [complaint(package, FOR_DEVELOPERS) for package in locked("dev.txt")]
    assert [each for each in found if each] == []


def test_a_licence_that_is_not_on_the_list_is_found() -> None:
    assert complaint("codespell", PERMISSIVE) == "codespell: GPL-2.0-only"
    assert complaint("no-such-package", PERMISSIVE) == "no-such-package is locked and not installed"


def test_the_script_that_the_console_serves_has_its_licence_beside_it() -> None:
    static = ROOT / "webhook" / "console" / "static"
    assert [path.name for path in static.glob("htmx-*.js")] == ["htmx-2.0.11.min.js"]
    assert (static / "htmx-LICENSE.txt").read_text(encoding="utf-8").startswith("Zero-Clause BSD\n")
    others = [path.name for path in static.iterdir() if path.suffix == ".js" and ".min." in path.name]
    assert others == ["htmx-2.0.11.min.js"], "another script from elsewhere: check its licence too"
