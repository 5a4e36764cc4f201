"""``kubectl counterfoil import report``."""

import argparse
import asyncio
import csv
import io
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from counterfoil.archives import open_backend
from counterfoil.archives.backend import ArchiveBackend
from counterfoil.archives.import_report.content import (
    ListOfWindow,
    PreviousPart,
    ReportOutcome,
    ReportPart,
    csv_name,
)
from counterfoil.archives.import_report.storage import write_part
from counterfoil.archives.manifest_signature import ManifestSigner
from counterfoil.cli.plugin import entry_point
from counterfoil.cli.plugin.exit_status import CommandError, ExitStatus
from counterfoil.cli.plugin.search import import_report, imports
from counterfoil.cli.verify import CheckImpossible
from counterfoil.resources import Archive, Import
from counterfoil.resources.imports import ImportReportParts, window_label
from tests.support.builders import ENVELOPE, NOON, an_organization
from tests.support.fakes.archives import a_spec
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.scenes.import_report import a_part, a_row
from tests.support.signing_keys import a_signer, key_file, public_pem

UID = "uid-old-stock"
FOLDER = "counterfoil-imports/acme/old-stock-1"
ODD = '=HYPERLINK("x")'


@dataclass
class WrittenReport:
    """A report on the disk."""

    root: Path
    parts: list[ReportPart]
    locations: list[str]

    def path(self, number: int, name: str = "") -> Path:
        """Path of a part, or of a file beside it."""
        return self.root / FOLDER / (name or self.parts[number - 1].lines_name)

    def status(self, **more: Any) -> dict[str, Any]:
        """The status of the Import."""
        last = ImportReportParts(
            number=len(self.parts), location=self.locations[-1], sha256=self.parts[-1].sha256
        )
        senders = [{"name": "anna", "windowsDone": 4, "searched": True}]
        return {
            "report": f"file://{self.root}/{FOLDER}",
            "reportParts": {"number": last.number, "location": last.location, "sha256": last.sha256},
            "senders": senders,
            "windows": {"done": 4, "total": 4},
            **more,
        }


async def written(
    root: Path, signer: ManifestSigner | None = None, parts: int = 3, list_: ListOfWindow | None = None
) -> WrittenReport:
    """Write a report of some parts, one envelope each."""
    await asyncio.to_thread(root.mkdir, exist_ok=True)
    backend = await open_backend("dms", a_spec(root=str(root)), {})
    report = WrittenReport(root, [], [])
    previous: PreviousPart | None = None
    for number in range(1, parts + 1):
        envelope = ODD if number == 2 else f"{number}{ENVELOPE[1:]}"
        row = a_row(envelope, ReportOutcome.KNOWN)
        sealed_by = signer.public.id if signer else None
        part = a_part(row, number=number, previous=previous, sealed_by=sealed_by, list_=list_)
        location = await write_part(backend, FOLDER, part, signer)
        previous = PreviousPart(location=location, sha256=part.sha256)
        report.parts.append(part)
        report.locations.append(location)
    await backend.close()
    return report


def an_import(status: dict[str, Any], **spec: Any) -> Import:
    return Import.parse(
        {
            "metadata": {"name": "old-stock", "uid": UID, "resourceVersion": "1"},
            "spec": {"organizationRef": {"name": "acme"}, "from": "2019-01-01", **spec},
            "status": status,
        }
    )


async def shown(imported: Import, *words: str) -> tuple[ExitStatus, str]:
    parser, _ = entry_point.parsers()
    args = parser.parse_args(["import", "report", "old-stock", *words])
    args.output = getattr(args, "output", "text")
    out = io.StringIO()
    return await imports.run(args, InMemoryKubeClient(imported), out), out.getvalue()


async def test_it_prints_where_each_part_is_and_checks_its_seal(tmp_path: Path) -> None:
    report = await written(tmp_path / "archive", a_signer())
    key = key_file(tmp_path, public_pem())
    status, said = await shown(an_import(report.status()), "--public-key", str(key))
    assert status is ExitStatus.DONE
    lines = said.splitlines()
    assert lines[0] == f"Import/old-stock: 3 parts in file://{tmp_path}/archive/{FOLDER}"
    for number, (line, location) in enumerate(zip(lines[1:], report.locations, strict=True), start=1):
        assert line.startswith(f"part {number}: Sender/anna, sent from 2019-01-01T00:00:00Z to ")
        assert line.endswith(f"1 envelope, seal checked: {location}")


async def test_without_a_key_it_says_that_no_seal_was_checked(tmp_path: Path) -> None:
    report = await written(tmp_path, a_signer())
    status, said = await shown(an_import(report.status()))
    assert status is ExitStatus.DONE
    assert said.count("seal not checked") == 3
    assert "--public-key" in said.splitlines()[-1]


async def test_it_joins_the_parts_as_csv_without_a_formula(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = await written(tmp_path)
    status, said = await shown(an_import(report.status()), "-o", "csv")
    head, *rows = csv.reader(io.StringIO(said.removeprefix("\ufeff"), newline=""))
    assert (status, head[0], len(rows)) == (ExitStatus.DONE, "envelopeID", 3)
    assert rows[1][0] == f"'{ODD}"
    assert "part 3" in capsys.readouterr().err


async def test_it_joins_the_parts_as_json_lines(tmp_path: Path) -> None:
    report = await written(tmp_path)
    _, said = await shown(an_import(report.status()), "-o", "jsonl")
    found = [json.loads(line)["envelopeID"] for line in said.splitlines()]
    assert found == [f"1{ENVELOPE[1:]}", ODD, f"3{ENVELOPE[1:]}"]


async def test_a_part_that_was_changed_is_wrong_and_gives_no_rows(tmp_path: Path) -> None:
    report = await written(tmp_path)
    report.path(2).write_bytes(report.parts[1].lines.replace(b"Known", b"Archived"))
    status, said = await shown(an_import(report.status()))
    assert status is ExitStatus.NOT_ALL
    assert "part 2: WRONG: it is missing or was changed; it leads to the 1 part before it" in said
    assert "part 1:" not in said
    _, said = await shown(an_import(report.status()), "-o", "jsonl")
    assert len(said.splitlines()) == 1


async def test_a_part_with_another_seal_or_csv_is_wrong_and_the_others_are_joined(tmp_path: Path) -> None:
    report = await written(tmp_path / "archive", a_signer())
    key = key_file(tmp_path, public_pem())
    report.path(1, f"{report.parts[0].lines_name}.sig").write_bytes(a_signer(2).sign(report.parts[0].lines))
    report.path(3, csv_name(report.parts[2].lines_name)).unlink()
    status, said = await shown(an_import(report.status()), "--public-key", str(key), "-o", "json")
    assert status is ExitStatus.NOT_ALL
    assert [bool(each["faults"]) for each in json.loads(said)["parts"]] == [True, False, True]
    _, said = await shown(an_import(report.status()), "--public-key", str(key), "-o", "jsonl")
    assert [json.loads(line)["envelopeID"] for line in said.splitlines()] == [ODD]


async def test_a_part_of_another_import_is_not_believed(tmp_path: Path) -> None:
    report = await written(tmp_path)
    backend = await open_backend("dms", a_spec(root=str(tmp_path)), {})
    other = a_part(a_row(outcome=ReportOutcome.KNOWN), uid="another", number=3)
    location = await write_part(backend, FOLDER, other, None)
    parts = {"number": 3, "location": location, "sha256": other.sha256}
    status, said = await shown(an_import(report.status(reportParts=parts)))
    assert status is ExitStatus.NOT_ALL
    assert "is of another Import" in said


async def test_a_copy_of_the_folder_is_read_if_the_archive_cannot_be(tmp_path: Path) -> None:
    report = await written(tmp_path / "archive")
    shutil.move(tmp_path / "archive" / FOLDER, tmp_path / "copy")
    status, said = await shown(an_import(report.status()))
    assert status is ExitStatus.NOT_ALL
    assert "--at" in said
    status, said = await shown(an_import(report.status()), "--at", str(tmp_path / "copy"))
    assert (status, said.count("WRONG")) == (ExitStatus.DONE, 0)
    last = {**report.status()["reportParts"], "location": f"sftp://dms/x/{report.parts[-1].lines_name}"}
    status, said = await shown(an_import(report.status(report="sftp://dms/x", reportParts=last)))
    assert status is ExitStatus.NOT_ALL
    assert "part 3: WRONG: it can't be read from here: sftp locations can't be opened from here" in said


async def test_it_names_the_windows_without_a_part(tmp_path: Path) -> None:
    report = await written(tmp_path)
    window = {"id": window_label(UID, "anna", 1, NOON), "events": 2}
    senders = [{"name": "anna", "windowsDone": 4, "searched": True}, {"name": "bert", "windowsDone": 1}]
    status, said = await shown(
        an_import(report.status(openWindows=[window], senders=senders, windows={"done": 5, "total": 8}))
    )
    assert status is ExitStatus.NOT_ALL
    assert "no part yet: window 2 of Sender/anna, which has 2 events of the Import\n" in said
    assert "no part yet: 3 windows of Sender/bert, not searched yet\n" in said


@pytest.mark.parametrize(("listed", "is_read", "lacks"), [(5, False, 4), (1, False, 0), (5, True, 0)])
async def test_a_part_that_lacks_envelopes_of_its_list_is_not_complete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], listed: int, is_read: bool, lacks: int
) -> None:
    list_ = ListOfWindow(location="file:///x", sha256="0" * 64, envelopes=listed, is_read=is_read)
    report = await written(tmp_path / "archive", parts=1, list_=list_)
    expected = ExitStatus.NOT_ALL if lacks else ExitStatus.DONE
    line = f"part 1: lacks {lacks} of the {listed} envelopes of its list"
    status, said = await shown(an_import(report.status()))
    assert (status, line in said, ": lacks " in said) == (expected, lacks > 0, lacks > 0)
    status, said = await shown(an_import(report.status()), "-o", "csv")
    assert (status, said.count("\n")) == (expected, 2)
    assert (line in capsys.readouterr().err) == (lacks > 0)
    status, said = await shown(an_import(report.status()), "-o", "json")
    assert (status, len(json.loads(said)["lacking"])) == (expected, 1 if lacks else 0)


async def test_a_part_says_how_many_listed_ids_it_does_not_name(tmp_path: Path) -> None:
    list_ = ListOfWindow(location="file:///x", sha256="0" * 64, envelopes=1, is_read=True, unnamed=2900)
    report = await written(tmp_path, parts=1, list_=list_)
    status, said = await shown(an_import(report.status()))
    assert (status, "1 envelope and 2900 ids that are no GUID" in said) == (ExitStatus.DONE, True)


@pytest.mark.parametrize(("bucket", "endpoint"), [("old", "https://old-dms.example"), ("other", None)])
async def test_a_report_is_read_with_the_settings_of_no_other_archive(
    monkeypatch: pytest.MonkeyPatch, bucket: str, endpoint: str | None
) -> None:
    """The Organization has another Archive by now, of another provider."""
    asked: list[str | None] = []

    async def opened(chosen: argparse.Namespace, _: Mapping[str, str]) -> tuple[ArchiveBackend, str]:
        asked.append(chosen.endpoint)
        raise CheckImpossible("there is no such bucket.")

    monkeypatch.setattr(import_report, "open_location", opened)
    part = {"number": 1, "location": f"s3://{bucket}/part-00001.jsonl", "sha256": "0" * 64}
    imported = an_import({"report": f"s3://{bucket}", "reportParts": part}, archiveRef={"name": "old"})
    archives = (
        a_bucket("old", bucket="old", endpoint="https://old-dms.example"),
        a_bucket("dms", bucket="new", endpoint="https://other-provider.example"),
    )
    kube = InMemoryKubeClient(imported, an_organization(archiveRef={"name": "dms"}), *archives)
    parser, _ = entry_point.parsers()
    args = parser.parse_args(["import", "report", "old-stock"])
    args.output = "text"
    assert await imports.run(args, kube, io.StringIO()) is ExitStatus.NOT_ALL
    assert asked == [endpoint]


def a_bucket(name: str, **s3: str) -> Archive:
    metadata = {"name": name, "uid": name, "resourceVersion": "1"}
    return Archive.parse({"metadata": metadata, "spec": {"path": "{{envelope.id}}", "s3": s3}})


async def test_an_import_without_a_part_has_lines_for_its_windows() -> None:
    status, said = await shown(an_import({}))
    assert (status, said) == (
        ExitStatus.NOT_ALL,
        "Import/old-stock: 0 parts\nno part yet: the search has not begun\n",
    )


async def test_a_dry_run_has_no_report() -> None:
    with pytest.raises(CommandError, match="dry run"):
        await shown(an_import({}, dryRun=True))


async def test_a_file_that_is_no_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no public key"):
        await shown(an_import({}), "--public-key", str(key_file(tmp_path, b"x")))


@pytest.mark.parametrize("flags", [["-o", "csv"], ["--at", "x"], ["--public-key", "x"]])
async def test_the_flags_of_a_report_are_refused_elsewhere(flags: list[str]) -> None:
    parser, _ = entry_point.parsers()
    args = parser.parse_args(["import", "old-stock", *flags])
    args.output = getattr(args, "output", "text")
    with pytest.raises(CommandError, match="of a report"):
        await imports.run(args, InMemoryKubeClient(), io.StringIO())
