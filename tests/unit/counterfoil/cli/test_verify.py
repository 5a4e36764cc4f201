"""
``python -m counterfoil.cli.verify``: an auditor with a copy of the archive, and nothing else, finds every
change.
"""

import asyncio
import io
import json
import os
import shutil
import sys
from collections.abc import AsyncIterable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from counterfoil.archives.backend import MAX_ENTRIES
from counterfoil.cli import verify
from counterfoil.cli.verify import UNCHECKED, WRONG
from counterfoil.signatures.anchors import NO_ANCHORS, Anchors
from counterfoil.signatures.results import Coverage, Signature, Signatures, State
from counterfoil.signatures.worker_pool import SignatureWorkers
from tests.support.fakes.archives import (
    ENVELOPE_ID,
)
from tests.support.scenes.verify import ExaminerInThisProcess, archived, verified
from tests.support.signed_pdfs import signed, unsigned, with_one_byte_changed
from tests.support.signing_keys import a_signer, key_file, public_pem

INTACT = Signatures(
    state=State.INTACT, found=(Signature(field="First", intact=True, coverage=Coverage.WHOLE_FILE),)
)


SIZE = len(unsigned("One"))


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    return await archived(tmp_path)


@pytest.fixture
async def sealed(tmp_path: Path) -> Path:
    return await archived(tmp_path, signer=a_signer())


@pytest.fixture
def key(tmp_path: Path) -> str:
    return str(key_file(tmp_path, public_pem()))


async def test_every_file_is_reported_with_what_was_checked(folder: Path) -> None:
    status, printed = await verified(folder)
    assert status == verify.INTACT
    assert printed.splitlines() == [
        f"ok          counterfoil.json: describes envelope {ENVELOPE_ID} ('Contract', Completed) of acme at "
        "https://esaw.example.com, archived 2026-03-01T12:00:00Z, with 2 files",
        f"ok          Document/one.pdf: has its {SIZE} bytes and its SHA-256; it has no signature",
        f"ok          Document/two.pdf: has its {SIZE} bytes and its SHA-256; it has no signature",
        "ok          counterfoil.sha256: says what counterfoil.json says",
        "The files are as counterfoil.json says. Not proved: that nobody changed counterfoil.json and the "
        "files together. It has no seal, so only the archive's versions, retention lock or backups can show "
        "that.",
    ]


def with_evidence(folder: Path, *states: str) -> None:
    """Make the manifest name one piece of evidence for each state, all of them audit trails."""
    manifest = json.loads((folder / "counterfoil.json").read_text())
    why = "eSignAnyWhere listed none."
    manifest["evidence"] = [
        {"kind": "AuditTrail", "state": state, "required": True, "why": why, "documentNumber": number}
        for number, state in enumerate(states, start=1)
    ]
    (folder / "counterfoil.json").write_text(json.dumps(manifest))


async def test_absent_evidence_is_named_with_its_cause(folder: Path) -> None:
    with_evidence(folder, *["Absent"] * 5)
    status, printed = await verified(folder)
    assert status == verify.INTACT
    assert (
        "with 2 files, no AuditTrail of document 1 ('eSignAnyWhere listed none.'), "
        "no AuditTrail of document 2 ('eSignAnyWhere listed none.'), "
        "no AuditTrail of document 3 ('eSignAnyWhere listed none.'), 2 more absent\n"
    ) in printed


async def test_the_words_of_a_manifest_are_quoted(folder: Path) -> None:
    manifest = json.loads((folder / "counterfoil.json").read_text())
    claim = "x, and its seal is of the key that was given"
    manifest["envelope"] |= {"id": claim, "status": claim, "organization": claim, "origin": claim}
    manifest["times"]["archived"] = claim
    manifest["evidence"] = [
        {"kind": "AuditTrail", "state": "Absent", "required": True, "why": claim, "documentFileID": claim}
    ]
    signer = {"field": "1", "intact": True, "coverage": "WholeFile", "signer": claim, "trusted": False}
    signatures = {"state": "Unsigned", "anchors": "0", "found": [{**signer, "distrust": claim}]}
    manifest["files"][0]["signatures"] = signatures
    (folder / "counterfoil.json").write_text(json.dumps(manifest))
    printed = (await verified(folder))[1]
    assert printed.count(claim) == printed.count(f"'{claim}'") == 9


async def test_a_manifest_that_calls_evidence_present_without_its_file_is_wrong(folder: Path) -> None:
    with_evidence(folder, "Present")
    status, printed = await verified(folder)
    assert status == WRONG
    assert (
        "WRONG       counterfoil.json: names 1 piece of evidence of the kind AuditTrail as present, and "
        "lists 0 such files\n"
    ) in printed


@pytest.mark.parametrize(
    "form", ["{}", "{}/", "{}/counterfoil.json", "file://{}", "file://{}/counterfoil.json"]
)
async def test_folder_and_manifest_are_found_by_path_and_by_uri(folder: Path, form: str) -> None:
    assert (await verified(form.format(folder)))[0] == verify.INTACT


async def test_a_copy_proves_itself_anywhere(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "a copy with spaces ü"
    shutil.copytree(folder, elsewhere)
    shutil.rmtree(folder)
    assert (await verified(elsewhere))[0] == verify.INTACT
    assert (await verified(elsewhere.as_uri()))[0] == verify.INTACT


async def test_signatures_are_examined_again_and_named_as_what_they_are(tmp_path: Path) -> None:
    folder = await archived(
        tmp_path, contents=(signed(), signed(signed(), field="Second")), claims={"Document-1": INTACT}
    )
    status, printed = await verified(folder, examiner=SignatureWorkers(count=1))
    assert status == verify.INTACT
    assert "Document/one.pdf: has its" in printed
    assert "SHA-256; 1 signature, intact\n" in printed
    assert "SHA-256; 2 signatures, intact\n" in printed


FORGERIES: dict[str, tuple[bytes, Mapping[str, Signatures], str]] = {
    "a changed byte": (
        with_one_byte_changed(signed()),
        {"Document-1": INTACT},
        "the signature 'First' does not fit what was signed; the manifest claims 1 signature, intact",
    ),
    "a changed byte that the manifest does not hide": (
        with_one_byte_changed(signed()),
        {"Document-1": Signatures(state=State.BROKEN, detail="the signature 'First' is broken")},
        "the signature 'First' does not fit what was signed; the manifest claims the same",
    ),
    "a changed byte of which the manifest says nothing": (
        with_one_byte_changed(signed()),
        {},
        "the signature 'First' does not fit what was signed; the manifest claims nothing about signatures",
    ),
    "a removed signature": (
        unsigned(),
        {"Document-1": INTACT},
        "it has no signature; the manifest claims 1 signature, intact",
    ),
    "a removed second signature": (
        signed(),
        {"Document-1": Signatures(state=State.INTACT, found=INTACT.found * 2)},
        "1 signature, intact; the manifest claims 2 signatures, intact",
    ),
    "a document whose manifest has other words": (
        b"not a PDF",
        {"Document-1": Signatures(state=State.BROKEN, detail="nothing. Its seal fits")},
        "it can't be read as a PDF; the manifest claims 'nothing. Its seal fits'",
    ),
    "no document at all": (
        b"not a PDF",
        {"Document-1": INTACT},
        "it can't be read as a PDF; the manifest claims 1 signature, intact",
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_forged_document_is_found_although_manifest_and_hash_file_fit_it(
    tmp_path: Path, forgery: str
) -> None:
    forged, claims, says = FORGERIES[forgery]
    folder = await archived(tmp_path, contents=(forged, unsigned("Two")), claims=claims)
    status, printed = await verified(folder)
    assert status == WRONG
    assert f"WRONG       Document/one.pdf: has its {len(forged)} bytes and its SHA-256, but {says}" in printed
    assert json.loads((await verified(folder, "--json"))[1])["intact"] is False


async def test_a_document_that_was_archived_in_doubt_is_as_it_was_archived_if_the_seal_confirms_it(
    tmp_path: Path, key: str
) -> None:
    broken = with_one_byte_changed(signed())
    claims = {"Document-1": Signatures(state=State.BROKEN, detail="the signature 'First' is broken")}
    folder = await archived(tmp_path, signer=a_signer(), contents=(broken, unsigned("Two")), claims=claims)
    status, printed = await verified(folder, "--public-key", key)
    assert status == verify.INTACT
    assert "the signature 'First' does not fit what was signed, as when it was archived" in printed


class ReplacingExaminer(ExaminerInThisProcess):
    """Lets the archive have other content under a name once the file is read for its signatures."""

    def __init__(self, file: Path, content: bytes) -> None:
        super().__init__()
        self._file = file
        self._content = content

    async def examine(
        self, chunks: AsyncIterable[bytes], size: int, anchors: Anchors = NO_ANCHORS, *, source: str = ""
    ) -> Signatures:
        self._file.write_bytes(self._content)
        return await super().examine(chunks, size, anchors, source=source)


@pytest.mark.parametrize("other", [signed(), unsigned("Eno")])
async def test_no_signatures_of_other_bytes_than_those_of_the_file_are_believed(
    tmp_path: Path, other: bytes
) -> None:
    folder = await archived(tmp_path)

    status, printed = await verified(
        folder, examiner=ReplacingExaminer(folder / "Document" / "one.pdf", other)
    )

    assert status == WRONG
    assert "one.pdf: has its" in printed
    assert "but the archive returned other bytes when its signatures were examined" in printed


async def test_trust_in_signers_is_only_what_the_manifest_says(tmp_path: Path) -> None:
    trusted = Signature(field="First", intact=True, coverage=Coverage.WHOLE_FILE, trusted=True)
    claim = Signatures(state=State.INTACT, found=(trusted,), anchors="ab" * 32)
    folder = await archived(tmp_path, contents=(signed(), unsigned("Two")), claims={"Document-1": claim})
    _, printed = await verified(folder)
    assert "1 signature, intact; the manifest says that all signers were trusted" in printed


async def test_a_key_for_a_manifest_without_a_seal_gets_a_clear_answer(folder: Path, key: str) -> None:
    status, printed = await verified(folder, "--public-key", key)
    assert status == WRONG
    assert "counterfoil.json.sig: is missing, and the manifest does not say that it was sealed" in printed
    assert "the controller had no signing key, or somebody replaced the manifest" in printed
    assert "1 thing is wrong." in printed


async def test_without_a_seal_no_key_is_asked_for(folder: Path) -> None:
    _, printed = await verified(folder)
    assert "--public-key" not in printed
    assert "Not proved: that nobody changed counterfoil.json and the files together" in printed
    assert "It has no seal" in printed


def flipped(path: Path) -> None:
    held = path.read_bytes()
    path.write_bytes(held[:500] + bytes([held[500] ^ 1]) + held[501:])


CHANGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a byte of a file": (
        lambda folder: flipped(folder / "Document/one.pdf"),
        "Document/one.pdf: has other content than was archived",
    ),
    "a longer file": (
        lambda folder: (folder / "Document/one.pdf").write_bytes(unsigned("One") + b"!"),
        f"Document/one.pdf: has more than its {SIZE} bytes",
    ),
    "a missing file": (lambda folder: (folder / "Document/one.pdf").unlink(), "Document/one.pdf: is missing"),
    "an extra file": (
        lambda folder: (folder / "Document/three.pdf").write_bytes(b"new"),
        "Document/three.pdf: is not in counterfoil.json",
    ),
    "the hash file": (
        lambda folder: flipped_text(folder / "counterfoil.sha256"),
        "counterfoil.sha256: does not say what counterfoil.json says",
    ),
    "no hash file": (
        lambda folder: (folder / "counterfoil.sha256").unlink(),
        "counterfoil.sha256: is missing",
    ),
    "no manifest": (lambda folder: (folder / "counterfoil.json").unlink(), "counterfoil.json: is missing"),
    "a manifest that is none": (
        lambda folder: (folder / "counterfoil.json").write_bytes(b"{}"),
        "counterfoil.json: can't be read",
    ),
    "a seal out of nowhere": (
        lambda folder: (folder / "counterfoil.json.sig").write_bytes(b"x" * 64),
        "counterfoil.json.sig: is not in counterfoil.json",
    ),
    "a link in the place of a file": (
        lambda folder: relinked(folder / "Document/one.pdf"),
        "Document/one.pdf",
    ),
}


def flipped_text(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"one", b"two"))


def relinked(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


@pytest.mark.parametrize("change", CHANGES)
async def test_every_change_is_found(folder: Path, change: str) -> None:
    make, says = CHANGES[change]
    make(folder)
    status, printed = await verified(folder)
    assert status == WRONG
    assert any(line.startswith("WRONG") and says in line for line in printed.splitlines()), printed


async def test_a_manifest_that_was_changed_together_with_the_files_is_found_by_the_seal(
    sealed: Path, key: str
) -> None:
    manifest = sealed / "counterfoil.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"ann@acme.example", b"eve@acme.example"))
    assert (await verified(sealed))[0] == verify.INTACT, "without the key nobody can tell"
    status, printed = await verified(sealed, "--public-key", key)
    assert status == WRONG
    assert f"counterfoil.json.sig: does not fit the manifest and the key {a_signer().public.id}" in printed


async def test_the_seal_is_checked_with_the_key_and_only_shown_without(sealed: Path, key: str) -> None:
    assert "not checked counterfoil.json.sig: is there" in (await verified(sealed))[1]
    status, printed = await verified(sealed, "--public-key", key)
    assert status == verify.INTACT
    assert "ok          counterfoil.json.sig: fits the manifest" in printed


@pytest.mark.parametrize("seal", [b"", b"x" * 64, b"x" * 65])
async def test_a_broken_seal_is_found(sealed: Path, key: str, seal: bytes) -> None:
    (sealed / "counterfoil.json.sig").write_bytes(seal)
    assert (await verified(sealed, "--public-key", key))[0] == WRONG


async def test_a_seal_that_was_taken_away_is_found_even_without_the_key(sealed: Path) -> None:
    (sealed / "counterfoil.json.sig").unlink()
    status, printed = await verified(sealed)
    assert status == WRONG
    assert "counterfoil.json.sig: is missing" in printed


async def test_a_seal_of_another_key_is_not_accepted(sealed: Path, tmp_path: Path) -> None:
    other = key_file(tmp_path, public_pem(2))
    status, printed = await verified(sealed, "--public-key", str(other))
    assert status == WRONG
    assert f"is not of the key {a_signer(2).public.id}" in printed


async def test_a_given_key_requires_a_seal(folder: Path, key: str) -> None:
    assert (await verified(folder, "--public-key", key))[0] == WRONG


async def test_a_manifest_that_leads_out_of_its_folder_is_not_followed(folder: Path) -> None:
    manifest = folder / "counterfoil.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"Document/one.pdf"', b'"../../../../etc/passwd"'))
    status, printed = await verified(folder)
    assert status == WRONG
    assert "leads out of the folder" in printed


async def test_a_name_in_a_manifest_can_not_write_to_the_terminal(folder: Path) -> None:
    manifest = folder / "counterfoil.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"Document/one.pdf"', b'"\\u001b[2Jone.pdf"'))
    _, printed = await verified(folder)
    assert "\x1b" not in printed


async def test_a_file_whose_name_is_no_text_is_reported_in_json_too(folder: Path) -> None:
    (folder / os.fsdecode(b"M\xfcller.pdf")).write_bytes(b"x")

    status, printed = await verified(folder, "--json")

    assert status == WRONG
    assert printed.encode("ascii")
    assert [each["name"] for each in json.loads(printed)["checks"] if each["verdict"] == "Wrong"] == [
        "M\udcfcller.pdf"
    ]


async def test_json_has_the_same_for_machines(folder: Path) -> None:
    (folder / "Document/one.pdf").unlink()
    status, printed = await verified(folder, "--json")
    answer = json.loads(printed)
    assert status == WRONG
    assert answer["intact"] is False
    assert answer["checks"][1] == {
        "about": "File",
        "name": "Document/one.pdf",
        "verdict": "Wrong",
        "says": "is missing",
    }


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("/nowhere/at/all", "there is no such folder"),
        ("/", "there is no such folder"),
        ("webdav://host/folder", "webdav locations can't be opened from here"),
        ("s3://bucket", "write bucket and folder"),
        ("s3://b/x", "the bucket can't be a part of a host name."),
        ("s3:///folder", "write bucket and folder"),
    ],
)
async def test_what_can_not_be_looked_at_is_not_called_wrong(
    location: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _ = await verified(location)
    assert status == UNCHECKED
    assert says in capsys.readouterr().err


async def test_an_empty_folder_is_not_an_envelope(tmp_path: Path) -> None:
    assert (await verified(tmp_path))[0] == UNCHECKED


async def test_a_key_that_is_none_checks_nothing_and_is_reported_once(
    sealed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "none.pem")
    assert (await verified(sealed, str(sealed), "--public-key", missing))[0] == UNCHECKED
    assert capsys.readouterr().err.count(missing) == 1


async def test_the_command_needs_nothing_of_kubernetes(folder: Path) -> None:
    """As a process without any environment, which imports neither client."""
    script = (
        "import runpy, sys\n"
        f"sys.argv = ['verify', {str(folder)!r}]\n"
        "try: runpy.run_module('counterfoil.cli.verify', run_name='__main__')\n"
        "finally: assert not {'kubernetes', 'kopf'} & set(sys.modules)\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, env={}, stdout=asyncio.subprocess.DEVNULL, cwd=os.sep
    )
    assert await process.wait() == verify.INTACT


def test_for_a_folder_of_many_envelopes_another_one_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(MAX_ENTRIES + 1):
        (tmp_path / str(number)).touch()
    assert verify.main([str(tmp_path)], {}, io.StringIO()) == UNCHECKED
    said = capsys.readouterr().err
    assert "Name the folder of one envelope, which has its counterfoil.json." in said
    assert "Move them away" not in said


def flipped_pdf(folder: Path) -> None:
    flipped(next(folder.rglob("*.pdf")))


async def test_an_envelope_and_its_copy_are_checked_in_one_call(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "copy"
    shutil.copytree(folder, other)
    status, said = await verified(folder, str(other))
    assert (status, said.count("The files are as counterfoil.json says.")) == (verify.INTACT, 2)

    flipped_pdf(other)
    status, said = await verified(folder, str(other), "--json")
    assert status == WRONG
    assert [each["intact"] for each in json.loads(said)] == [True, False]


async def test_what_can_not_be_looked_at_hides_no_change_elsewhere(folder: Path, tmp_path: Path) -> None:
    flipped_pdf(folder)
    assert (await verified(tmp_path / "none", str(folder)))[0] == WRONG
