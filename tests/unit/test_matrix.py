"""The matrix of versions: what it runs, and how it writes its table."""

import pytest

from sandbox.controlplane.binaries import OTHER_VERSIONS, module_of
from verification.matrix import OF_API_SERVER, OF_HELM, PAGE, ROOT, TABLE, Result, counts, row, with_rows


def test_each_test_file_of_the_matrix_exists() -> None:
    assert [
        each for each in {*OF_API_SERVER, *OF_HELM} if not (ROOT / "tests" / "cluster" / each).is_file()
    ] == []


@pytest.mark.parametrize("name", OTHER_VERSIONS)
def test_a_chosen_version_comes_before_the_usual_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (program,) = OTHER_VERSIONS[name].programs
    usual = module_of(program)
    monkeypatch.setenv("COUNTERFOIL_VERSION", name)
    assert module_of(program) is OTHER_VERSIONS[name]
    assert module_of(program).key() != usual.key()
    assert module_of("etcd").version == "1.35.4"


def test_a_report_without_a_test_is_a_failure() -> None:
    assert counts("<testsuites/>") == (0, 1, 0)
    suite = '<testsuites><testsuite tests="9" failures="2" errors="1" skipped="1"/></testsuites>'
    assert counts(suite) == (5, 3, 1)


def test_a_run_of_one_version_keeps_the_lines_of_the_others() -> None:
    page = f"before {TABLE.begin} {TABLE.end} after"
    first = with_rows(page, [row("kubernetes-1.37", Result("1.37.2", 1, 0, 0, 60.0), "2026-12-02")])
    found = with_rows(first, [row("kubernetes-1.31", Result("1.31.14", 2, 1, 0, 120.0), "2026-12-03")])
    assert "| `kubernetes-1.37` | 1.37.2 | 1 | 0 | 0 | 1 min | 2026-12-02 |" in found
    assert "| `kubernetes-1.31` | 1.31.14 | 2 | 1 | 0 | 2 min | 2026-12-03 |" in found
    assert found.startswith("before ")
    assert found.endswith(" after")


def test_the_page_has_a_line_for_each_version_without_a_failure() -> None:
    lines = [each.split("|") for each in PAGE.read_text("utf-8").splitlines() if each.startswith("| `")]
    results = {each[1].strip(" `"): each[2:6] for each in lines}
    assert {name: results[name][0].strip() for name in OTHER_VERSIONS} == {
        name: module.version for name, module in OTHER_VERSIONS.items()
    }
    assert [name for name in OTHER_VERSIONS if results[name][2].strip() != "0"] == []
