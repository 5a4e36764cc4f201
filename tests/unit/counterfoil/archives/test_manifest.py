"""
The manifest and the hash file, as an auditor finds them.
"""

import asyncio
import hashlib
import json
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]  # it ships no types
import msgspec
import pytest

from counterfoil.archives.manifest import (
    MANIFEST_LIMIT,
    Manifest,
    ManifestAction,
    ManifestDamaged,
    ManifestFile,
    ManifestTooLarge,
    hash_lines,
    json_schema,
)
from counterfoil.resources.envelopeevent import MAX_DOCUMENTS, FileKind

SCHEMA = Path(__file__).parents[4] / "docs" / "manifest.schema.json"

FILE = {
    "name": "a.pdf",
    "kind": "Document",
    "fileID": "1",
    "fileName": "a.pdf",
    "contentType": "",
    "size": 1,
    "sha256": "",
    "location": "a.pdf",
}
MINIMAL = {
    "schema": "counterfoil.dev/manifest/v1",
    "envelope": {"id": "1", "name": "", "status": "Completed", "organization": "acme"},
    "sender": {"email": "", "userID": "", "name": ""},
    "times": {"sent": "", "archived": "2026-03-01T10:00:00Z"},
    "files": [],
}


def test_the_schema_in_the_docs_is_the_one_of_the_code() -> None:
    assert SCHEMA.read_text() == json_schema(), (
        "run: python -m counterfoil.archives.manifest > docs/manifest.schema.json"
    )


EVIDENCE = {"kind": "AuditTrail", "state": "Absent", "required": True, "why": "It is not there."}
VERSIONS = {"counterfoil": "0.1.0", "eSignAnyWhere": "25.52.0.100"}


@pytest.mark.parametrize("added", [{}, {"evidence": [EVIDENCE]}, {"versions": VERSIONS}])
def test_each_manifest_fits_the_schema_as_it_was_written_then_and_as_it_is_written_now(
    added: dict[str, object],
) -> None:
    schema = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    then = {**MINIMAL, **added}
    schema.validate(then)
    schema.validate(json.loads(Manifest.decode(json.dumps(then).encode()).encode()))
    assert not schema.is_valid({**then, "files": [{"name": "contract.pdf"}]})


def test_a_manifest_comes_back_as_it_was_written() -> None:
    manifest = Manifest.decode(json.dumps(MINIMAL).encode())

    assert Manifest.decode(manifest.encode()) == manifest


def a_manifest(**changes: object) -> Manifest:
    return msgspec.structs.replace(Manifest.decode(json.dumps(MINIMAL).encode()), **changes)


def with_callbacks(count: int, *, letters: int = 256, earlier: Manifest | None = None) -> Manifest:
    actions = tuple(
        ManifestAction(
            action="workstepFinished",
            time=f"2026-03-01T10:{number:04}Z",
            parameters={f"p{each}": "a" * letters for each in range(16)},
        )
        for number in range(count)
    )
    manifest = a_manifest()
    manifest = msgspec.structs.replace(
        manifest, times=msgspec.structs.replace(manifest.times, actions=actions)
    )
    return (manifest if earlier is None else manifest.with_history_of(earlier)).with_first_callbacks()


@pytest.mark.parametrize(("count", "letters"), [(400, 256), (400, 250), (9000, 0), (3000, 1)])
def test_a_manifest_with_the_first_callbacks_is_readable_and_has_the_number_of_the_others(
    count: int, letters: int
) -> None:
    times = Manifest.decode(with_callbacks(count, letters=letters).encode()).times
    assert len(times.actions) + times.actions_left_out == count
    assert times.actions_left_out
    assert [each.time for each in times.actions] == sorted(each.time for each in times.actions)


def test_all_callbacks_are_in_a_manifest_that_has_room_for_them() -> None:
    times = with_callbacks(200).times
    assert (len(times.actions), times.actions_left_out) == (200, 0)


@pytest.mark.parametrize("count", [400, 250, 1])
def test_a_manifest_that_is_written_again_has_the_same_callbacks_also_if_their_events_are_gone(
    count: int,
) -> None:
    first = with_callbacks(400)
    assert with_callbacks(count, earlier=first) == first


def a_file_named(name: str) -> ManifestFile:
    kind = FileKind.DOCUMENT
    return ManifestFile(
        name=name, kind=kind, file_id="1", file_name=name, content_type="", size=1, sha256="", location=name
    )


def test_brackets_and_commas_in_names_make_no_manifest_unreadable() -> None:
    manifest = a_manifest(files=tuple(a_file_named('[{, \\"' * 30 + str(number)) for number in range(400)))
    with pytest.raises(ManifestDamaged):
        Manifest.decode(manifest.encode())
    assert Manifest.decode(manifest.encode_readable()) == manifest


def test_a_manifest_without_many_brackets_is_written_as_a_person_reads_it() -> None:
    manifest = a_manifest(files=(a_file_named("[1], {2}.pdf"),))
    assert manifest.encode_readable() == manifest.encode()
    assert b"[1], {2}.pdf" in manifest.encode()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"extra": {"a": "x" * 70_000}}, "`extra` has more than 64 KiB"),
        ({"tags": {"a": "x" * 600_000}}, "`tags` has more than 512 KiB"),
        ({"files": (a_file_named("x" * 6_000_000),)}, "more than 16 MiB"),
        ({"extra": {"a": [[]] * 70_000}}, "too many values"),
    ],
)
def test_a_manifest_that_nobody_could_read_is_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ManifestTooLarge, match=reason):
        a_manifest(**changes).encode_readable()


@pytest.mark.parametrize("name", ["a" * 5_000_000 + "\U0001f600", "\\ud83d\\ude00" + "a" * 5_000_000])
def test_a_manifest_whose_texts_take_four_times_its_bytes_in_memory_is_refused(name: str) -> None:
    file = json.dumps({**FILE, "fileName": "NAME"}).replace("NAME", name)
    text = json.dumps({**MINIMAL, "files": []}).replace('"files": []', f'"files": [{file}]').encode()
    assert len(text) < MANIFEST_LIMIT / 3
    with pytest.raises(ManifestDamaged, match="its texts are too long"):
        Manifest.decode(text)


def test_a_manifest_with_long_ids_of_files_is_refused() -> None:
    text = json.dumps({**MINIMAL, "files": [{**FILE, "fileID": "a" * 3_000_000}]}).encode()
    with pytest.raises(ManifestDamaged, match="ids of its files are too long"):
        Manifest.decode(text)


def test_a_manifest_of_more_files_than_an_envelope_can_have_is_refused() -> None:
    text = json.dumps({**MINIMAL, "files": [FILE] * (MAX_DOCUMENTS + 1)}).encode()
    with pytest.raises(ManifestDamaged, match="more than 2000 files"):
        Manifest.decode(text)


@pytest.mark.parametrize("value", ["a" * 520_000, "," * 400_000 + "{" * 70_000])
def test_tags_of_an_earlier_manifest_make_no_manifest_too_large(value: str) -> None:
    own = a_manifest(tags={"own": "b" * 10_000})
    both = own.with_history_of(a_manifest(tags={"earlier": value}))
    assert Manifest.decode(both.encode_readable()).tags == own.tags


def test_brackets_in_callbacks_of_an_earlier_manifest_make_no_manifest_too_large() -> None:
    actions = (ManifestAction(action="," * 900_000 + "{" * 70_000, time=""),)
    earlier = a_manifest()
    earlier = msgspec.structs.replace(earlier, times=msgspec.structs.replace(earlier.times, actions=actions))
    both = a_manifest().with_history_of(earlier).with_first_callbacks()
    times = Manifest.decode(both.encode_readable()).times
    assert (len(times.actions), times.actions_left_out) == (0, 1)


def test_fields_of_a_later_version_are_ignored() -> None:
    assert Manifest.decode(json.dumps({**MINIMAL, "approvedBy": "later"}).encode()).envelope.id == "1"


@pytest.mark.parametrize("value", ["a b", "x" * 41, "x' - at `$.schema`. Remove each copy.", "\n"])
def test_a_damaged_manifest_is_not_repeated(value: str) -> None:
    with pytest.raises(ManifestDamaged) as damaged:
        Manifest.decode(json.dumps({**MINIMAL, "schema": value}).encode())
    assert str(damaged.value) == "Invalid enum value (no plain word) - at `$.schema`"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"{}",
        json.dumps({**MINIMAL, "schema": "other/v1"}).encode(),
        b'{"extra": {"nested": ' + b"[" * 5000,
        b'{"later": ' + b"[" * 5000,
    ],
)
def test_what_is_no_manifest_is_called_damaged(text: bytes) -> None:
    with pytest.raises(ManifestDamaged):
        Manifest.decode(text)


@pytest.mark.parametrize(
    "name",
    [
        "plain.pdf",
        "with  spaces.pdf",
        "back\\slash",
        "line\nbreak",
        "carriage\rreturn",
        "\\n",
        "-",
        "*star",
        "ümlaut 📄",
    ],
)
async def test_sha256sum_accepts_the_hash_file_with_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"content")
    (tmp_path / "hashes").write_bytes(hash_lines([(name, hashlib.sha256(b"content").hexdigest())]))

    process = await asyncio.create_subprocess_exec("sha256sum", "--strict", "-c", "hashes", cwd=tmp_path)

    assert await process.wait() == 0
