"""The parts of ``make test-unit`` have all unit tests, each one once, and ``make help`` has each command."""

import re
import subprocess

from tests.support.repository import ROOT


def parts_of(makefile: str) -> list[str]:
    """Return the arguments of each process, as make expands them."""
    (apart,) = re.findall(r"(?m)^UNIT_APART := \$\(addprefix tests/unit/,([a-z_ ]+)\)$", makefile)
    ignored = " ".join(f"--ignore=tests/unit/{each}" for each in apart.split())
    parts = makefile.partition("\nUNIT_PARTS :=")[2].partition("\n\n")[0]
    return re.findall(r"'([^']+)'", parts.replace("$(UNIT_APART:%=--ignore=%)", ignored))


def test_a_folder_that_one_part_leaves_out_is_in_exactly_one_other_part() -> None:
    first, *others = [part.split() for part in parts_of((ROOT / "Makefile").read_text("utf-8"))]
    words = [word for part in (first, *others) for word in part]
    left_out = [each.removeprefix("--ignore=") for each in words if each.startswith("--ignore=")]
    assert first[0] == "tests/unit"
    assert all((ROOT / each).is_dir() for each in left_out)
    assert sorted(left_out) == sorted(word for part in others for word in part if not word.startswith("--"))


def test_help_begins_with_the_demo_and_has_each_command_once() -> None:
    printed = subprocess.run(
        ["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    named = re.findall(r"(?m)^  make ([a-z0-9-]+) +\S", printed)
    assert named[:3] == ["demo", "plugin", "image"]
    described = re.findall(r"(?m)^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text("utf-8"))
    assert sorted(named) == sorted(described)
