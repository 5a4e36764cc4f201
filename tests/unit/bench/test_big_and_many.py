"""Parts of bench (g): the chart's memory limit, and the report."""

import pytest

from counterfoil.settings import ControllerSettings
from verification.bench.big_and_many import VALUES, BigResult, cases, memory_limit, report
from verification.bench.machine import MIB

USUAL = ControllerSettings(namespace="").concurrency


@pytest.mark.parametrize(("text", "limit"), [("512Mi", 512.0), ("1Gi", 1024.0)])
def test_the_limit_is_read_from_the_values_of_the_chart(text: str, limit: float) -> None:
    assert memory_limit(f"controller: {{resources: {{limits: {{memory: {text}}}}}}}") == limit


def test_a_limit_in_another_unit_is_an_error() -> None:
    with pytest.raises(ValueError, match="another unit"):
        memory_limit("controller: {resources: {limits: {memory: 1000M}}}")


def test_the_chart_has_a_limit() -> None:
    assert memory_limit(VALUES.read_text()) > 0


def test_the_cases_have_the_sizes_and_the_numbers_that_were_asked_for() -> None:
    large, documents, usual, all_at_once = cases(50 * MIB, 5, 200, 1024)
    assert (large.size, len(documents.documents), usual.envelopes) == (50 * MIB, 5, 200)
    assert (usual.concurrency, all_at_once.concurrency) == (USUAL, 200)


def test_the_report_judges_the_large_document_by_its_bound_and_the_others_by_the_limit() -> None:
    peaks = (150.0, 700.0, 1100.0, 1200.0)
    results = [
        BigResult(case, memory_rest=100.0, memory_peak=peak, seconds=1.0, succeeded=1)
        for case, peak in zip(cases(50 * MIB, 5, 200, 1024), peaks, strict=True)
    ]
    rows = [line for line in report(results, 1024.0).splitlines() if line.startswith("| ")][1:]
    assert [row.rstrip(" |").rsplit("| ", 1)[1] for row in rows] == [
        "MISSED",
        "met",
        "MISSED",
        "(more at once than by default)",
    ]
