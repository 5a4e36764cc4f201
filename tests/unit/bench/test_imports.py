"""Parts of bench (l): the old envelopes, the check of the archive and of the status, and the report."""

import hashlib
import json
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from counterfoil.archives.import_report.content import PreviousPart, ReportOutcome
from counterfoil.archives.layout import REPORTS_FOLDER
from counterfoil.resources import ImportStatus
from counterfoil.resources.imports import ImportGroup, ImportReportParts, ImportWindows
from tests.support.scenes.import_report import a_part, a_row
from verification.bench.__main__ import targets
from verification.bench.imports import (
    LAST_SENT,
    CallbackTimes,
    ImportResult,
    ages,
    check_archive,
    report,
    report_errors,
    status_errors,
)

FIRST, SECOND = "first", "second"


def archive(root: Path, folder: str, envelope: str, *, content: bytes = b"signed") -> Path:
    """Archive an envelope of one file; return the path of the file."""
    path = root / folder / "Document" / "contract.pdf"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    manifest = json.dumps({"envelope": {"id": envelope}})
    (root / folder / "counterfoil.json").write_text(manifest)
    line = f"{hashlib.sha256(b'signed').hexdigest()}  Document/contract.pdf\n"
    (root / folder / "counterfoil.sha256").write_text(line)
    return path


def test_the_old_envelopes_are_evenly_spread_over_weeks_before_the_newest() -> None:
    assert list(ages(2)) == [LAST_SENT, LAST_SENT + timedelta(days=3.5)]
    assert max(ages(2000)) == LAST_SENT + timedelta(weeks=5) - timedelta(weeks=5) / 2000


def test_an_archive_with_each_envelope_once_and_whole_has_nothing_wrong(tmp_path: Path) -> None:
    (tmp_path / ".marker").touch()
    archive(tmp_path, "acme/first", FIRST)
    archive(tmp_path, "acme/other", "of-a-callback")
    checked = check_archive(tmp_path, [FIRST])
    assert (checked.wrong, checked.size) == ([], len(b"signed"))


def test_the_report_is_no_file_too_many_and_has_each_envelope_once(tmp_path: Path) -> None:
    archive(tmp_path, "acme/first", FIRST)
    folder = tmp_path / REPORTS_FOLDER / "acme" / "old 1"
    folder.mkdir(parents=True)
    previous: PreviousPart | None = None
    for number, envelope in enumerate((FIRST, SECOND), start=1):
        part = a_part(a_row(envelope, ReportOutcome.ARCHIVED), number=number, previous=previous)
        path = folder / part.lines_name
        path.write_bytes(part.lines)
        previous = PreviousPart(location=path.as_uri(), sha256=part.sha256)
    assert previous is not None
    parts = ImportReportParts(number=2, location=previous.location, sha256=previous.sha256)
    status = ImportStatus(report_parts=parts)
    assert check_archive(tmp_path, [FIRST]).wrong == []
    assert report_errors(status, [FIRST, SECOND]) == []
    assert report_errors(status, ["third"]) == ["third is in the report 0 times"]
    assert report_errors(ImportStatus(), [FIRST]) == ["first is in the report 0 times"]
    changed = replace(status, report_parts=replace(parts, number=3))
    assert report_errors(changed, [FIRST]) == ["the report has 2 parts"]
    path.write_bytes(b"")
    assert report_errors(status, [FIRST]) == [f"{path} is not the part that the next one names"]


def test_each_envelope_that_is_missing_double_or_damaged_and_each_file_too_many_is_named(
    tmp_path: Path,
) -> None:
    archive(tmp_path, "acme/first", FIRST)
    archive(tmp_path, "acme/again", FIRST)
    damaged = archive(tmp_path, "acme/other", "of-a-callback", content=b"cut")
    left = tmp_path / "acme" / "first" / ".contract.pdf.tmp"
    left.touch()
    assert sorted(check_archive(tmp_path, [FIRST, SECOND]).wrong) == [
        f"{left} belongs to no envelope",
        f"{damaged} is not as its manifest says",
        "first is in the archive 2 times",
        "second is not in the archive",
    ]


def test_each_count_of_the_status_that_is_not_true_is_named() -> None:
    true = ImportStatus(
        found=2,
        archived=2,
        bytes=12,
        groups=(ImportGroup(year=2024, status="Completed", found=2),),
        windows=ImportWindows(done=3, total=3),
    )
    assert status_errors(true, 2, 12) == []
    assert status_errors(replace(true, known=1), 2, 12) == ["known is 1, not 0"]
    assert status_errors(true, 3, 12) == ["found is 2, not 3", "archived is 2, not 3", "groups is 2, not 3"]


def callback_times(
    *, answered: float = 0.01, succeeded: float = 2.0, created: float = 0.005
) -> CallbackTimes:
    return CallbackTimes([answered] * 100, [succeeded] * 100, [0.1] * 100, [created] * 100)


def a_result() -> ImportResult:
    times = callback_times()
    return ImportResult(
        count=100,
        rate=7.0,
        callback_rate=2.0,
        plain_rate=10.0,
        memory_rest=100.0,
        memory_peak=110.0,
        max_unfinished=200,
        most_unfinished=200,
        without=times,
        beside=times,
        kills=10,
        archive_wrong=[],
        status_wrong=[],
        esaw_memory=300.0,
    )


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({}, ""),
        ({"rate": 6.9}, "rate"),
        ({"callback_rate": 1.9}, "rate"),
        ({"memory_peak": 111.0}, "memory"),
        ({"most_unfinished": 201}, "unfinished events"),
        ({"beside": callback_times(succeeded=2.5)}, "to the end of its event"),
        ({"archive_wrong": ["first is not in the archive"]}, "in the archive exactly once after 10 kills"),
        ({"status_wrong": ["known is 1, not 0"]}, "counts of the status"),
    ],
)
def test_each_figure_is_judged_by_its_target(changes: dict[str, object], missed: str) -> None:
    judged = targets(report(replace(a_result(), **changes)))
    assert len(judged) == 8
    assert all(met or missed in target for target, met in judged)
    assert [met for _, met in judged].count(False) == bool(missed)


@pytest.mark.parametrize(
    ("answered", "created", "receiver"),
    [(0.013, 0.005, False), (0.04, 0.02, True), (0.013, 0.0065, True), (0.04, 0.01, False)],
)
def test_a_receiver_is_judged_beside_a_client_that_has_the_same_machine(
    answered: float, created: float, receiver: bool
) -> None:
    beside = callback_times(answered=answered, created=created)
    judged = dict(targets(report(replace(a_result(), beside=beside))))
    (of_callbacks,) = (met for target, met in judged.items() if "to its 200" in target)
    (of_receiver,) = (met for target, met in judged.items() if "what the receiver adds" in target)
    assert (of_callbacks, of_receiver) == (False, receiver)
