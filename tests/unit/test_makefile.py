"""The parts of ``make test-unit`` have all unit tests, each one once."""

import re

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
