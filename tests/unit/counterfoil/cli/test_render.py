"""``python -m counterfoil.cli.render``: an Archive is tried on paper before it is applied."""

import asyncio
import io
from pathlib import Path

import pytest

from counterfoil.cli.render import INPUT_INVALID, PROBLEMS, RENDERED, main

LEAST = """
apiVersion: counterfoil.dev/v1beta1
kind: Archive
metadata: {name: dms}
spec:
  filesystem: {root: /archive}
"""
TAGGED = (
    LEAST
    + """
  path: '{{tags.costCenter}}/{{envelope.id}}/{{file.kind}}/{{file.name}}'
  tags:
    costCenter: {xpath: /tags/costCenter, required: true}
    colour: {xpath: /tags/colour}
    source: {value: 'eSAW, {{sender.email}}'}
"""
)
XML = "<tags><costCenter>47/11</costCenter></tags>"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "least.yaml").write_text(LEAST)
    (tmp_path / "tagged.yaml").write_text(TAGGED)
    (tmp_path / "metadata.xml").write_text(XML)
    return tmp_path


async def rendered(*flags: str) -> tuple[int, list[str]]:
    out = io.StringIO()
    status = await asyncio.to_thread(main, flags, {}, out)
    return status, out.getvalue().splitlines()


async def test_path_and_tags_of_a_made_up_envelope_are_shown(files: Path) -> None:
    status, lines = await rendered(
        *("--archive", f"{files}/tagged.yaml", "--metadata", f"{files}/metadata.xml"),
        *("--envelope", '{"id": "0f9c", "senderEmail": "ben@acme.example"}'),
        *("--files", "contract.pdf,contract.pdf,Attachment:id.png,AuditTrail:"),
    )
    assert status == RENDERED
    assert lines == [
        "folder    47_11/0f9c",
        "tag       colour is not found, and not required",
        "tag       costCenter = 47/11",
        "tag       source = eSAW, ben@acme.example",
        "file      Document/contract.pdf  (Document, application/pdf)",
        "file      Document/contract (2).pdf  (Document, application/pdf)",
        "file      Attachment/id.png  (Attachment, image/png)",
        "file      AuditTrail/audit-trail-1.pdf  (AuditTrail, application/pdf)",
        "manifest  counterfoil.json",
    ]


async def test_without_more_than_an_archive_something_typical_is_shown(files: Path) -> None:
    status, lines = await rendered("--archive", f"{files}/least.yaml")
    assert status == RENDERED
    assert lines[0] == "folder    acme/00000000-0000-4000-8000-000000000000"


async def test_the_namespace_has_the_short_flag_of_kubectl(files: Path) -> None:
    status, _ = await rendered("--archive", f"{files}/least.yaml", "-n", "contracts")
    assert status == RENDERED


async def test_a_required_tag_that_is_not_found_is_reported_with_its_rule(files: Path) -> None:
    status, lines = await rendered("--archive", f"{files}/tagged.yaml")
    assert status == PROBLEMS
    assert "The tag `costCenter` is required, but the xpath `/tags/costCenter` finds nothing" in lines[0]
    assert lines[0].endswith("No metadata was given; do so with --metadata FILE.")


async def test_metadata_that_can_not_be_read_is_reported(files: Path) -> None:
    (files / "metadata.xml").write_text("<tags>")
    status, lines = await rendered("--archive", f"{files}/tagged.yaml", "--metadata", f"{files}/metadata.xml")
    assert status == PROBLEMS
    assert "not well-formed XML" in lines[0]


async def test_everything_that_can_not_work_is_reported_at_once(files: Path) -> None:
    (files / "bad.yaml").write_text(
        LEAST.replace("filesystem: {root: /archive}", "path: '{{envelope.id}}/{{file.nme}}'")
        + "  tags:\n    one: {xpath: '//['}\n    two: {jsonPath: '$['}\n    three: {value: '{{nothing}}'}\n"
    )
    status, lines = await rendered("--archive", f"{files}/bad.yaml")
    assert status == PROBLEMS
    assert len(lines) == 5
    assert all(line.startswith("problem   spec") and line.endswith(".") for line in lines)


async def test_a_name_with_a_colon_is_a_document(files: Path) -> None:
    _, lines = await rendered("--archive", f"{files}/least.yaml", "--files", "offer: final.pdf")
    assert "file      Document/offer_ final.pdf  (Document, application/pdf)" in lines


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ([], "give --archive FILE, or --event NAME"),
        (["--archive", "nowhere.yaml"], "nowhere.yaml can't be read"),
        (["--archive", "{}/least.yaml", "--envelope", "{{"], "--envelope is no JSON"),
        (["--archive", "{}/least.yaml", "--envelope", "[]"], "must be a JSON object"),
        (["--archive", "{}/least.yaml", "--envelope", '{{"id": 3}}'], "must be a JSON object of texts"),
        (["--archive", "{}/least.yaml", "--envelope", '{{"colour": "red"}}'], "can't have colour; there are"),
        (["--archive", "{}/none.yaml"], "must have one Archive; it has none"),
        (["--archive", "{}/two.yaml"], "must have one Archive; it has 2"),
        (["--archive", "{}/broken.yaml"], "is no YAML"),
        (["--archive", "{}/wrong.yaml"], "Archive/dms: "),
    ],
)
async def test_input_that_can_not_be_used_is_reported(
    files: Path, flags: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "none.yaml").write_text("kind: Secret\n")
    (files / "two.yaml").write_text(f"{LEAST}---{LEAST}")
    (files / "broken.yaml").write_text("a: [")
    (files / "wrong.yaml").write_text(LEAST.replace("/archive}", "7}"))
    status, _ = await rendered(*(flag.format(files) for flag in flags))
    assert status == INPUT_INVALID
    assert says in capsys.readouterr().err


CALLBACK_TAG = LEAST + "  tags:\n    order: {callback: orderNo, required: true}\n"


async def test_a_tag_of_the_callback_needs_its_parameter(tmp_path: Path) -> None:
    archive = tmp_path / "callback.yaml"
    archive.write_text(CALLBACK_TAG)

    status, lines = await rendered("--archive", str(archive), "--parameter", "ORDERNO=47=11")
    assert (status, lines[1]) == (RENDERED, "tag       order = 47=11")

    status, lines = await rendered("--archive", str(archive))
    assert status == PROBLEMS
    assert "the callback `orderNo` finds nothing" in lines[0]
    assert "--parameter orderNo=VALUE" in lines[0]


@pytest.mark.parametrize("parameter", ["orderNo", "=4711"])
async def test_a_parameter_without_name_or_value_is_no_input(
    files: Path, parameter: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _ = await rendered("--archive", f"{files}/least.yaml", "--parameter", parameter)
    assert status == INPUT_INVALID
    assert "must be NAME=VALUE" in capsys.readouterr().err
